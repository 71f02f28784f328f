"""Starting a study, or taking it up again: one call for the command line, Python and tests."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import chipfit
from chipfit.accuracy.surrogate import fit
from chipfit.errors import InvalidInput, JournalMismatch, UnsupportedOperator
from chipfit.files import named
from chipfit.graph.ops import Opaque
from chipfit.run.converging import check_converging
from chipfit.run.jobs import task_of
from chipfit.run.journal import Journal
from chipfit.run.ledger import Book, counted, note_place, plan
from chipfit.run.power import Meter, draw, place
from chipfit.run.problem import Problem, prepare
from chipfit.run.settings import COMBINED, CONVERGE, HALVING
from chipfit.run.stages import AlgorithmMaker, Event, run
from chipfit.run.study import Study
from chipfit.run.tabular import ACCURACY, table_of
from chipfit.search.algorithm import Algorithm, Domain
from chipfit.search.evolution import NSGA2, RegularizedEvolution
from chipfit.search.guided import Guided
from chipfit.search.local import LocalSearch
from chipfit.search.reinforce import Reinforce
from chipfit.search.simple import RandomSearch
from chipfit.tasks.cache import digest
from chipfit.tasks.task import Task


def _nsga2(domain: Domain, seed: int, trials: int) -> Algorithm:
    return NSGA2(domain, seed, population=_population(trials))


def _aging(domain: Domain, seed: int, trials: int) -> Algorithm:
    return RegularizedEvolution(domain, seed, population=_population(trials), sample=max(2, _population(trials) // 4))


def _random(domain: Domain, seed: int, trials: int) -> Algorithm:
    return RandomSearch(domain, seed)


def _guided(domain: Domain, seed: int, trials: int) -> Algorithm:
    return Guided(domain, seed, fit, domain.hints)


def _reinforce(domain: Domain, seed: int, trials: int) -> Algorithm:
    return Reinforce(domain, seed, start=_population(trials))


def _local(domain: Domain, seed: int, trials: int) -> Algorithm:
    return LocalSearch(domain, seed, start=max(1, min(10, trials // 4)))


def _population(trials: int) -> int:
    """A population that a budget of so many trials renews a few times."""
    return max(4, min(64, trials // 4))


ALGORITHMS: Mapping[str, AlgorithmMaker] = {
    "nsga2": _nsga2,
    "aging": _aging,
    "random": _random,
    "reinforce": _reinforce,
    "local": _local,
    "guided": _guided,
}
"""Short names of search algorithms; anything else is module:NAME."""


def launch(study: Study, directory: Path, progress: Callable[..., Any] | None = None) -> Iterator[Event]:
    """Runs a study in a run directory, from where it was left. Yields events; done when exhausted.

    `progress` wraps iterables that may take long before the first event. Everything that can be refused is refused
    before anything is written: raises `InvalidInput`, `LimitImpossible`, `JournalMismatch`.
    """
    named_here = study.search.combines or study.search.converges
    make = None if named_here else algorithm_maker("nsga2" if study.search.halves else study.search.algorithm)
    problem = prepare(study, progress, _curation_before(study, directory))
    problem.require_satisfiable()
    task = None
    tabular = (study.accuracy or "").startswith(ACCURACY)
    if tabular:
        table_of(study)
    elif study.accuracy is None:
        task = task_of(study.task, progress)
        check_fits(problem, task)
        if study.search.converges:
            check_converging(problem, task)
    else:
        named(study.accuracy, "accuracy")
    if study.search.combines:
        _check_combined(study)
    ruled = {name: list(problem.ruled(pack)) for name, pack in study.rules.items()}
    machine, where = draw(), place(study.ledger.country)
    with Journal(directory) as journal:
        journal.claim(study.identity, study.digest)
        _note_provenance(journal, problem, task, ruled)
        note_place(journal, study, where)
        # What is looked up is there at once: processes would take longer to start.
        workers = 1 if tabular else study.workers
        events = run(problem, journal, make, workers)
        if journal.about("finished") == "yes":
            yield from events
            return
        meter = Meter(machine, workers * study.threads, _gpu(study))
        if journal.about("plan") is None:
            journal.note("plan", json.dumps(asdict(plan(problem, machine, task))))
        yield from counted(events, Book(journal, workers, meter))
        journal.note("finished", "yes")


def check_fits(problem: Problem, task: Task) -> None:
    """Raises `InvalidInput` when a model does not fit a task, by its outputs or its input."""
    graph, model = problem.space, problem.study.model
    for node in graph.nodes:
        if isinstance(node.op, Opaque):
            raise UnsupportedOperator(
                f"{model}: node {node.key!r} ({node.op.operator}) is unknown to chipfit and cannot be "
                "trained; replace it in the model (chipfit estimate works with it, and leaves it out)"
            )
    given = graph.close((0,) * len(graph.decisions))
    shapes = [tuple(int(size) for size in given.shapes[key]) for key in given.outputs]  # type: ignore[arg-type]
    if wanted := task.misfit(shapes):
        of = f"an output of shape {shapes[0]}" if len(shapes) == 1 else f"outputs of shapes {shapes}"
        raise InvalidInput(
            f"{model} gives {of}, the task needs {wanted}; "
            f"for a model of the zoo set classes = {task.outputs}, else adapt its last layer"
        )
    takes = tuple(int(size) for size in given.inputs[0].shape)  # type: ignore[arg-type]
    channels = task.input_shape[0]
    if len(takes) != 4:
        raise InvalidInput(f"{model} takes an input of shape {takes}, the task gives (1, {channels}, height, width)")
    if takes[1] != channels:
        raise InvalidInput(f"{model} takes {takes[1]} channels, the data of the task have {channels}")
    next(iter(task.batches("validation", 1, (takes[2], takes[3]))))


def _check_combined(study: Study) -> None:
    """Refuses stages that cannot be. A supernet needs chipfit's own training."""
    from chipfit.accuracy.zero_shot import score_of

    score_of(study.search.combined.score)
    if study.accuracy is not None and study.search.combined.supernet and study.search.budget is None:
        raise InvalidInput(
            f"search.combined.supernet = {study.search.combined.supernet}: {study.accuracy} trains one network at a "
            "time; set it to 0, or use chipfit's own training"
        )


def _gpu(study: Study) -> int | None:
    """The GPU that a study's networks are trained on, None where none is; a training of the user's own may use one."""
    from chipfit.accuracy.train import resolve_device

    device = resolve_device(study.device)
    return (device.index or 0) if device.type == "cuda" else None


def _curation_before(study: Study, directory: Path) -> dict[str, Any] | None:
    """What the journal keeps of this study's curation, None where its run begins now or is offered all."""
    if study.curation is None or not (directory / "journal.sqlite").is_file():
        return None
    with Journal(directory) as journal:
        same = journal.about("digest") == study.digest
        return json.loads(journal.about("curation") or "null") if same else None


def algorithm_maker(name: str) -> AlgorithmMaker:
    """What builds the algorithm of this name. Raises `InvalidInput` for a name that is not known."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if ":" not in name:
        known = ", ".join((*ALGORITHMS, COMBINED, CONVERGE, HALVING))
        raise InvalidInput(f"search.algorithm = {name!r}: known are {known}, or module:NAME")
    return cast(AlgorithmMaker, named(name, "search.algorithm"))


def _note_provenance(journal: Journal, problem: Problem, task: Task | None, ruled: Mapping[str, Sequence[int]]) -> None:
    """Keeps what the figures of a run rest on; raises `JournalMismatch` when it is not what it was before."""
    data: dict[str, Any] = {"source": f"the user's own ({problem.study.accuracy})"}
    if (problem.study.accuracy or "").startswith(ACCURACY):
        data = {"source": problem.study.accuracy, "fingerprint": table_of(problem.study).digest}
    if task is not None:
        data = {"source": task.source, "sizes": task.sizes, "fingerprint": task.fingerprint, "metric": task.metric}
    model = f"{problem.space.digest} {digest(problem.network.weights)}"
    rests_on = {
        "data": data,
        "model": model,
        "estimator": problem.predicts,
        "baseline": problem.baseline,
        "rules": dict(ruled),
    }
    before = json.loads(journal.about("provenance") or "null")
    if before is None:
        machine = {"platform": platform.platform(), "processors": os.cpu_count(), "python": platform.python_version()}
        provenance = {
            "chipfit": chipfit.__version__,
            "command": " ".join(["chipfit", *sys.argv[1:]]),
            **rests_on,
            "machine": machine,
            "packages": {name: version(name) for name in ("torch", "numpy", "lightgbm")},
            "target": problem.estimator.target.name,
            "target_source": problem.estimator.target.source,
        }
        if problem.curated is not None:
            journal.note("curation", json.dumps(problem.curated.as_json()))
        journal.note("provenance", json.dumps(provenance))
        return
    names = {
        "data": "the data",
        "model": "the model",
        "estimator": "the estimator",
        "baseline": "the target",
        "rules": "a rule pack",
    }
    for key, name in names.items():
        if before.get(key) != rests_on[key]:
            raise JournalMismatch(f"{journal.directory}: {name} changed since the run began; give another --out")
