"""Starting a study, or taking it up again: one call for the command line, Python and tests."""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, cast

import chipfit
from chipfit.errors import InvalidInput, JournalMismatch
from chipfit.files import named
from chipfit.run.journal import Journal
from chipfit.run.problem import Problem, prepare
from chipfit.run.stages import AlgorithmMaker, Event, check_fits, run
from chipfit.run.study import Study
from chipfit.run.workers import task_of
from chipfit.search.algorithm import Algorithm, Domain
from chipfit.search.evolution import NSGA2, RegularizedEvolution
from chipfit.search.simple import RandomSearch
from chipfit.tasks.cache import digest
from chipfit.tasks.task import Task


def _nsga2(domain: Domain, seed: int, trials: int) -> Algorithm:
    return NSGA2(domain, seed, population=_population(trials))


def _aging(domain: Domain, seed: int, trials: int) -> Algorithm:
    return RegularizedEvolution(domain, seed, population=_population(trials), sample=max(2, _population(trials) // 4))


def _random(domain: Domain, seed: int, trials: int) -> Algorithm:
    return RandomSearch(domain, seed)


def _population(trials: int) -> int:
    """A population that a budget of so many trials renews a few times."""
    return max(4, min(64, trials // 4))


ALGORITHMS: Mapping[str, AlgorithmMaker] = {"nsga2": _nsga2, "aging": _aging, "random": _random}
"""Short names of search algorithms; anything else is module:NAME."""


def launch(study: Study, directory: Path, progress: Callable[..., Any] | None = None) -> Iterator[Event]:
    """Runs a study in a run directory, from where it was left. Yields events; done when exhausted.

    `progress` wraps iterables that may take long before the first event. Everything that can be refused is refused
    before anything is written: raises `InvalidInput`, `LimitImpossible`, `JournalMismatch`.
    """
    make = algorithm_maker(study.search.algorithm)
    problem = prepare(study, progress)
    problem.require_satisfiable()
    task = None
    if study.accuracy is None:
        task = task_of(study.task, progress)
        check_fits(problem, task)
    else:
        named(study.accuracy, "accuracy")
    with Journal(directory) as journal:
        journal.claim(study.identity, study.digest)
        _note_provenance(journal, problem, task)
        yield from run(problem, journal, make, study.workers)
        journal.note("finished", "yes")


def algorithm_maker(name: str) -> AlgorithmMaker:
    """What builds the algorithm of this name. Raises `InvalidInput` for a name that is not known."""
    if name in ALGORITHMS:
        return ALGORITHMS[name]
    if ":" not in name:
        raise InvalidInput(f"search.algorithm = {name!r}: known are {', '.join(ALGORITHMS)}, or module:NAME")
    return cast(AlgorithmMaker, named(name, "search.algorithm"))


def _note_provenance(journal: Journal, problem: Problem, task: Task | None) -> None:
    """Keeps what the figures of a run rest on; raises `JournalMismatch` when it is not what it was before."""
    data: dict[str, Any] = {"source": f"the user's own ({problem.study.accuracy})"}
    if task is not None:
        data = {"source": task.source, "sizes": task.sizes, "fingerprint": task.fingerprint, "metric": task.metric}
    model = f"{problem.space.digest} {digest(problem.network.weights)}"
    rests_on = {"data": data, "model": model, "estimator": problem.predicts, "baseline": problem.baseline}
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
        journal.note("provenance", json.dumps(provenance))
        return
    names = {"data": "the data", "model": "the model", "estimator": "the estimator", "baseline": "the target"}
    for key, name in names.items():
        if before.get(key) != rests_on[key]:
            raise JournalMismatch(f"{journal.directory}: {name} changed since the run began; give another --out")
