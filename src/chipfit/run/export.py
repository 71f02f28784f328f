"""Handing a result over: a plain model on disk, read back and checked against what was promised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import numpy as np

from chipfit.errors import InvalidInput, LimitImpossible
from chipfit.graph.graph import Graph
from chipfit.nets.inherit import inherit
from chipfit.nets.load import load
from chipfit.nets.network import Network, load_weights
from chipfit.nets.written import Format, written
from chipfit.run.delivered import Integers
from chipfit.run.integers import export_integers
from chipfit.run.journal import Journal, Trial
from chipfit.run.problem import COLUMNS, ROUNDING, Problem, amount, reopen
from chipfit.run.summary import Summary
from chipfit.run.tabular import ACCURACY

FORMATS = get_args(Format)


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written, and what the written file costs when it is read back and estimated anew (SI units).

    `integers` says of an int8 file how it does beside the network that it was made from.
    """

    path: Path
    costs: Mapping[str, float]
    promised: Mapping[str, float]
    integers: Integers | None = None


def network_of(problem: Problem, summary: Summary, trial: Trial) -> Network:
    """The trained network of a trial. Raises `InvalidInput` when it has no weights."""
    if trial.status == "failed":
        raise InvalidInput(f"trial {trial.number} failed ({trial.why}); choose another")
    if (summary.study.accuracy or "").startswith(ACCURACY):
        raise InvalidInput(f"trial {trial.number} was looked up in a table and has no weights; train its network first")
    path = summary.directory / "weights" / Journal.weights_name(trial.number)
    return Network(f"{summary.study.name}-{trial.number}", problem.space.close(trial.code), load_weights(path))


def inherited(problem: Problem, summary: Summary, trial: Trial) -> Mapping[str, int]:
    """How many operators of a trial started with weights of the baseline, by label: exact, approximate, reinitialised.

    Empty where the baseline's weights are not there.
    """
    numbers = summary.members["baseline"]["baseline"]
    path = summary.directory / "weights" / Journal.weights_name(numbers[0]) if numbers else None
    if path is None or not path.is_file():
        return {}
    baseline = problem.space.close((0,) * len(problem.space.decisions))
    given = Network(summary.study.model, baseline, load_weights(path))
    found = inherit(given, problem.space, trial.code, np.random.default_rng(0))
    weighted = {name.rpartition(".")[0] for name in found.weights}
    return dict(Counter(label for key, label in found.labels.items() if key in weighted))


def export(summary: Summary, name: str, format: str, path: Path) -> Exported:
    """Writes a trial (a number, "baseline" or a variant) as an ONNX file, an int8 TFLite file or plain PyTorch code.

    int8 is calibrated on training images of the study's task. What was written is read back, cut and estimated anew,
    and the limits of the study are checked on it; an int8 file is also run on the test split. Raises `InvalidInput` for
    an unknown format or trial, and for int8 in a study whose images chipfit does not know, `LimitImpossible` when the
    written model breaks a limit that the result had promised to hold.
    """
    if format not in FORMATS:
        raise InvalidInput(f"format {format!r}: known are {', '.join(FORMATS)}")
    trial = summary.named(name)
    problem = reopen(summary)
    model, integers = _written(network_of(problem, summary, trial), problem, format, path)  # type: ignore[arg-type]
    costs = _costs(problem, model)
    for cost, limit in problem.limits.items():
        if costs[cost] > limit * (1 + ROUNDING) and trial.costs[cost] <= limit * (1 + ROUNDING):
            raise LimitImpossible(
                f"{path}: the written model has {cost} {amount(cost, costs[cost])}, above the limit "
                f"{amount(cost, limit)} that trial {trial.number} holds; please report this"
            )
    return Exported(path, costs, trial.costs, integers)


def _written(network: Network, problem: Problem, format: Format, path: Path) -> tuple[Graph, Integers | None]:
    """Writes a network and reads it back; TFLite in int8."""
    if format == "tflite":
        integers = export_integers(network, problem.study, path)
        return load(path).graph, integers
    return written(network, path, format).graph, None


def _costs(problem: Problem, graph: Graph) -> dict[str, float]:
    found = problem.estimator.costs(graph)
    return {name: float(getattr(found, column)[0]) for name, column in COLUMNS.items()}
