"""Runs as a search leaves them behind, written with the real journal; only the accuracies are made up."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from chipfit.estimate.store import default_estimator
from chipfit.nets.load import load
from chipfit.run.journal import Journal, Trial
from chipfit.run.problem import Problem, opened
from chipfit.run.study import Study, make_study
from chipfit.run.summary import Summary, summarise
from chipfit.targets import load_target

STUDY = {
    "name": "hall camera",
    "model": "ibn_classifier-0.5-48",
    "target": "neural-engine",
    "limits": {"latency": "90 %", "accuracy_drop": 0.01},
    "search": {"trials": 8},
    "space": {"fuse": True, "depth_multiplier": True},
    "variants": {"V1 multiplier": ["depth_multiplier"], "V2 fusion": ["fuse"], "V3 both": ["fuse", "depth_multiplier"]},
}
PROVENANCE = {
    "chipfit": "0.1.0",
    "command": "chipfit search hall.toml --out runs/hall",
    "data": {
        "source": "rooms, drawn by chipfit",
        "sizes": {"train": 3000, "validation": 500, "test": 1000},
        "fingerprint": "0123456789abcdef0123456789abcdef",
        "metric": "accuracy",
    },
    "machine": {"platform": "Linux", "processors": 2, "python": "3.11"},
    "packages": {"torch": "2.13"},
    "target": "neural-engine",
    "target_source": "description",
}


def problem_of(study: Study) -> Problem:
    """A study made ready."""
    network = load(study.model)
    space, members = opened(network.graph, study.space)
    estimator = default_estimator(load_target(study.target))
    return Problem(study, network, space, members, estimator, estimator.prepare(space))


@pytest.fixture(scope="session")
def problem() -> Problem:
    return problem_of(make_study(STUDY))


class Run:
    """A run directory in the making."""

    def __init__(self, directory: Path, problem: Problem, provenance: object = PROVENANCE) -> None:
        self.directory = directory
        self.problem = problem
        self.count = 0
        with Journal(directory) as journal:
            journal.claim(problem.study.identity, problem.study.digest)
            journal.note("provenance", json.dumps(provenance))

    def code(self, **options: int) -> tuple[int, ...]:
        """A code with "multiplier" and the first `fused` blocks fused."""
        code = [0] * len(self.problem.space.decisions)
        for index in self.problem.members["fuse"][: options.get("fused", 0)]:
            code[index] = 1
        for index in self.problem.members["depth_multiplier"]:
            code[index] = options.get("multiplier", 0)
        return tuple(code)

    def train(self, stage: str, code: Sequence[int], accuracy: float, status: str = "done", why: str = "") -> int:
        """Adds a trial; those of stage "final" get test metrics as well."""
        costs = {name: float(values[0]) for name, values in self.problem.costs(np.array([code])).items()}
        costs["latency_spread"] = 0.02 * costs["latency"]
        metrics = {"accuracy": accuracy, "accuracy_standard_error": 0.008} if status != "failed" else {}
        if stage == "final" and metrics:
            metrics |= {"test_accuracy": accuracy - 0.004, "test_accuracy_standard_error": 0.005}
        number = self.count
        self.count += 1
        with Journal(self.directory) as journal:
            journal.add(Trial(number, f"{stage}:{number}", stage, tuple(code), status, metrics, costs, (), 30.0, why))
        return number

    def belong(self, variant: str, stage: str, numbers: list[int]) -> None:
        with Journal(self.directory) as journal:
            journal.belong(variant, stage, numbers)

    def finish(self) -> Summary:
        with Journal(self.directory) as journal:
            journal.note("finished", "yes")
        return summarise(self.directory)


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory, problem: Problem) -> Summary:
    return summarise(Run(tmp_path_factory.mktemp("empty"), problem).directory)


@pytest.fixture(scope="session")
def unfinished(tmp_path_factory: pytest.TempPathFactory, problem: Problem) -> Summary:
    run = Run(tmp_path_factory.mktemp("unfinished"), problem)
    run.belong("baseline", "baseline", [run.train("baseline", run.code(), 0.93)])
    run.train("search", run.code(), 0.932)
    run.train("search", run.code(fused=2), 0.925)
    run.train("search", run.code(fused=3), 0.5, "failed", "its process was killed (out of memory?)")
    return summarise(run.directory)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory, problem: Problem) -> Summary:
    return finished_run(Run(tmp_path_factory.mktemp("finished"), problem))


@pytest.fixture
def finished_as(tmp_path: Path) -> Callable[[Problem], Summary]:
    """A finished run of another problem."""
    return lambda problem: finished_run(Run(tmp_path / "other", problem))


def finished_run(run: Run) -> Summary:
    """V3 holds all limits and ties with V2; V1 is trained in full but too inaccurate."""
    names = list(run.problem.study.rows)
    run.belong("baseline", "baseline", [run.train("baseline", run.code(), 0.95)])
    run.belong("baseline", "search", [run.train("search", run.code(), 0.952)])
    searched: dict[str, list[int]] = {name: [] for name in names}
    for multiplier in (1, 2, 3):
        searched[names[0]].append(run.train("search", run.code(multiplier=multiplier), 0.95 - 0.02 * multiplier))
    for fused in (1, 2, 4, 6):
        searched[names[1]].append(run.train("search", run.code(fused=fused), 0.951 - 0.001 * fused))
        both = run.code(fused=fused, multiplier=1 + fused % 3)
        searched[names[2]].append(run.train("search", both, 0.947 - 0.003 * fused))
    searched[names[2]].append(run.train("search", run.code(fused=9, multiplier=3), 0.6, "stopped", "far behind"))
    searched[names[2]].append(run.train("search", run.code(fused=8), 0.0, "failed", "loss is not a number <b>"))
    for name, numbers in searched.items():
        run.belong(name, "search", numbers)
    run.belong("baseline", "final", [run.train("final", run.code(), 0.972)])
    finals = [
        (names[0], run.code(multiplier=3), 0.940, False),
        (names[1], run.code(fused=2), 0.971, True),
        (names[2], run.code(fused=2, multiplier=1), 0.969, True),
    ]
    for name, code, accuracy, chosen in finals:
        number = run.train("final", code, accuracy)
        run.belong(name, "final", [number])
        run.belong(name, "chosen", [number] if chosen else [])
    return run.finish()
