"""What a finished run tried, as values that patterns are mined from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from chipfit.errors import InvalidInput
from chipfit.expert.patterns import Searched
from chipfit.nets.load import load
from chipfit.run.choosing import accuracy_of, longest_trained, wanted_accuracy
from chipfit.run.journal import Trial
from chipfit.run.problem import ROUNDING, opened
from chipfit.run.study import Study
from chipfit.run.summary import Summary


def searches(summary: Summary) -> tuple[Searched, ...]:
    """The search of every variant of a finished run, without the network as given.

    Of a search by halving it is what was trained for longest. A network that several variants asked for counts for the
    first of them, which is the one whose decisions were offered then. Raises `InvalidInput` for a run that is not
    finished, and what loading its model raises.
    """
    if not summary.finished:
        raise InvalidInput(f"{summary.directory} is not finished; run the same chipfit search again, then mine it")
    study = summary.study
    network = load(study.model, input_shape=study.input_shape, seed=study.seed, classes=study.classes)
    space, members = opened(network.graph, study.space)
    trials = {trial.number: trial for trial in summary.trials}
    baseline = trials[summary.members["baseline"]["baseline"][0]]
    limits = _limits(study, baseline)
    references = {trial.rung: trial for trial in summary.trials if trial.stage == "search" and not any(trial.code)}
    wanted = {rung: wanted_accuracy(study, baseline, reference) for rung, reference in references.items()}
    found: list[Searched] = []
    seen: set[int] = set()
    for variant, edits in study.rows.items():
        own = [trials[number] for number in summary.members[variant]["search"] if number not in seen]
        seen.update(trial.number for trial in own)
        own = longest_trained([trial for trial in own if any(trial.code)])
        objectives = [[_objective(trial, name) for name in study.search.objectives] for trial in own]
        holds = [_holds(trial, wanted[trial.rung], limits) for trial in own]
        found.append(
            Searched(
                str(summary.directory), _data(study), study.target, network.graph, space,
                tuple(sorted(index for edit in edits for index in members[edit])),
                np.array([trial.code for trial in own], np.int64).reshape(len(own), len(space.decisions)),
                np.array(objectives, np.float64).reshape(len(own), len(study.search.objectives)),
                np.array(holds, np.bool_),
            )
        )  # fmt: skip
    return tuple(found)


def _data(study: Study) -> str:
    """A name of the data, without the folder that it lies in."""
    if study.accuracy is not None:
        return study.accuracy
    kind, colon, rest = study.task.data.partition(":")
    return Path(rest).stem if colon and kind in ("folder", "npz") else study.task.data


def _objective(trial: Trial, name: str) -> float:
    return -accuracy_of(trial) if name == "accuracy" else trial.costs[name]


def _limits(study: Study, baseline: Trial) -> dict[str, float]:
    return {
        name: bound.value * (baseline.costs[name] if bound.relative else 1.0)
        for name, bound in study.limits.costs.items()
    }


def _holds(trial: Trial, wanted: float, limits: Mapping[str, float]) -> bool:
    within = all(trial.costs[name] <= limit * (1 + ROUNDING) for name, limit in limits.items())
    return trial.status == "done" and accuracy_of(trial) >= wanted and within
