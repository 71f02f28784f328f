"""Runs that were drawn at random and never trained: all networks are as accurate, so that latency alone decides."""

from pathlib import Path

import numpy as np

from chipfit.run.journal import Journal, Trial
from chipfit.run.problem import prepare
from chipfit.run.study import make_study


def drawn_run(directory: Path, count: int, target: str = "neural-engine") -> Path:
    """Writes the journal of a finished search that offered fusion in `count` draws."""
    study = make_study({"name": "drawn", "model": "ibn_classifier-32", "target": target, "space": {"fuse": True}})
    problem = prepare(study)
    codes = np.random.default_rng(count).integers(0, 2, (count, len(problem.space.decisions)))
    codes = np.unique(np.concatenate([codes[:1] * 0, codes]), axis=0)
    codes = np.concatenate([codes[:1], codes])  # the network as given: before and during the search
    costs = problem.costs(codes)
    with Journal(directory) as journal:
        journal.claim(study.identity, study.digest)
        for number, code in enumerate(codes.tolist()):
            stage, found = "search" if number else "baseline", {key: float(costs[key][number]) for key in costs}
            journal.add(Trial(number, f"{number}", stage, tuple(code), "done", {"accuracy": 0.9}, found))
        journal.belong("baseline", "baseline", [0])
        journal.belong("found", "search", list(range(1, len(codes))))
        journal.note("finished", "yes")
    return directory
