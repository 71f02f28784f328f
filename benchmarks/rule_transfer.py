"""Do rules that searches on one data set found spare the search on another?

python benchmarks/rule_transfer.py [FOLDER] [--small] [--data NPZ]   (about 25 minutes on one idle core; --small: 7)

A random search on images of rooms (chipfit renders them) around ibn_classifier-48 is mined, and the rules are applied,
with no search and no training to choose anything, to ibn_classifier-1.5-32 for CIFAR-10: other images, classes, size
and widths. Beside it a full search there, with the same decisions. What both find is trained alike, from the same
weights, for as many epochs as the finalists; accuracies are of a test part that nothing was chosen on. The random
search offers all options alike on any chip, so its networks are trained once, their latencies taken for each chip, and
each chip mined by itself; the best are the fastest quarter of those that hold its limit on accuracy. NPZ is
cifar10_jpeg_train.npz, by default in $CHIPFIT_TEST_DATA/cifar10. FOLDER keeps the runs (default: runs/rule_transfer);
the same command goes on. Seeds are those of the studies, 0. An accuracy is known to about a point
and a half (1,000 test images). With --small so little is trained that accuracies say next to nothing, and few patterns
stand out beyond chance.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from chipfit.estimate.store import default_estimator
from chipfit.expert.matching import matches
from chipfit.expert.mined_rules import rule_pack
from chipfit.expert.patterns import Searched, mine
from chipfit.expert.ruled import advise_by_rules
from chipfit.expert.rules import RulePack, load_pack, write_pack
from chipfit.report.findings import winner
from chipfit.run.jobs import Job, Outcome, Setting
from chipfit.run.launch import launch
from chipfit.run.problem import Problem, reopen
from chipfit.run.searches import searches
from chipfit.run.study import make_study
from chipfit.run.summary import Summary, summarise
from chipfit.run.workers import work
from chipfit.targets import load_target

TARGETS = ("neural-engine", "ethos-u55-256")
SPACE: Mapping[str, Any] = {"fuse": True, "depth_multiplier": [1.0, 0.9, 0.75, 0.6, 0.5]}
FUSION, BOTH = {"fusion": ["fuse"]}, {"both": ["fuse", "depth_multiplier"]}
COMMON: Mapping[str, Any] = {"workers": 1, "device": "cpu", "space": SPACE}


@dataclass(frozen=True)
class Budget:
    """Images for training and networks per variant on rooms; images, networks and finalists on CIFAR-10."""

    rooms_images: int
    rooms_trials: int
    images: int
    trials: int
    finalists: int


FULL = Budget(2400, 56, 4000, 16, 2)
SMALL = Budget(1200, 28, 1200, 10, 1)


def rooms_study(budget: Budget) -> Mapping[str, Any]:
    """The random search on rooms."""
    return {
        **COMMON,
        "model": "ibn_classifier-48",
        "variants": FUSION | BOTH,
        "task": {"data": "rooms", "size": 48, "train": budget.rooms_images, "validation": 400, "test": 50},
        "training": {"baseline_epochs": 14, "final_epochs": 0, "batch_size": 32, "learning_rate": 0.05},
        "search": {
            "algorithm": "random", "objectives": ["latency", "accuracy"], "trials": budget.rooms_trials, "batch": 7,
            "epochs": 1, "finalists": 1, "slack": 0.04,
        },
        "limits": {"accuracy_drop": 0.03},
    }  # fmt: skip


def cifar_study(budget: Budget, data: Path) -> Mapping[str, Any]:
    """The full search on CIFAR-10."""
    return {
        **COMMON,
        "model": "ibn_classifier-1.5-32",
        "classes": 10,
        "variants": BOTH,
        "task": {"data": f"npz:{data.resolve()}", "train": budget.images, "validation": 500, "test": 1000},
        "training": {"baseline_epochs": 10, "final_epochs": 4, "batch_size": 32, "learning_rate": 0.05},
        "search": {
            "trials": budget.trials, "batch": 5, "epochs": 1, "finalists": budget.finalists, "slack": 0.05,
        },
        "limits": {"accuracy_drop": 0.03},
    }  # fmt: skip


@dataclass(frozen=True)
class Found:
    """A network of the comparison: its latency as a share of the baseline's less 1, and its accuracies."""

    name: str
    latency: float
    validation: float | None
    test: float | None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", nargs="?", type=Path, default=Path("runs") / "rule_transfer")
    parser.add_argument("--small", action="store_true", help="a budget that only shows that all works")
    parser.add_argument("--data", type=Path, help="cifar10_jpeg_train.npz")
    options = parser.parse_args()
    data = options.data or Path(os.environ.get("CHIPFIT_TEST_DATA", "")) / "cifar10" / "cifar10_jpeg_train.npz"
    if not data.is_file():
        print(f"no CIFAR-10 at {data}: give --data, or CHIPFIT_TEST_DATA with cifar10/cifar10_jpeg_train.npz in it")
        return
    folder: Path = options.folder
    budget = SMALL if options.small else FULL
    rooms = searches(run(folder, "rooms", TARGETS[0], rooms_study(budget)))
    for target in TARGETS:
        pack = mined_rules(folder, target, rooms)
        summary = run(folder, "cifar10", target, cifar_study(budget, data))
        show(target, summary, compared(summary, pack))


def mined_rules(folder: Path, target: str, rooms: Sequence[Searched]) -> RulePack:
    """The rules that the search on rooms gives for a chip, written beside the runs."""
    mined = mine([on_chip(search, target) for search in rooms])
    pack = rule_pack(mined, f"rooms-{target}")
    write_pack(folder / f"rooms-{target}.toml", pack)
    print(f"\n{target}: {mined.candidates} best of {mined.trials} candidates on rooms give these rules")
    for rule in pack.rule:
        known = rule.evidence
        print(
            f"  {rule.name}: {known.best:.0%} in {known.candidates} best, offered {known.offered:.0%}, "
            f"interval {known.interval}"
        )
    return pack


def run(folder: Path, data: str, target: str, study: Mapping[str, Any]) -> Summary:
    """A study on one chip, run to its end, or as it was run before."""
    place = folder / f"{data}-{target}"
    made = make_study({"name": f"{data}-{target}", "target": target, **study})
    for _ in launch(made, place):
        pass
    return summarise(place)


def on_chip(search: Searched, target: str) -> Searched:
    """A search as one for the lowest latency on a chip."""
    latency_s = default_estimator(load_target(target)).prepare(search.space).latency_s(search.codes)
    return replace(search, target=target, objectives=latency_s[:, None])


def compared(summary: Summary, pack: RulePack) -> list[Found]:
    """The baseline, what the rules make of it, and what the search found, all trained alike."""
    problem = reopen(summary)
    base = problem.baseline["latency"]
    judge = summary.trial(summary.members["baseline"]["final"][0])
    rows = [Found("baseline", 0.0, judge.metrics["accuracy"], judge.metrics["test_accuracy"])]
    ruled = advise_by_rules(problem.network, problem.estimator, pack)
    code = code_in(problem, [item.change.name for item in ruled.advice.advised])
    metrics = trained(summary, problem, code)
    rows.append(Found("rules, no search", ruled.advice.together.latency, metrics["accuracy"], metrics["test_accuracy"]))
    best = winner(summary)
    chosen = best.trial if best is not None and best.trial is not None else None
    if chosen is None:
        rows.append(Found("full search: nothing that holds the limits", 0.0, None, None))
    else:
        costs, found = chosen.costs["latency"] / base - 1, chosen.metrics
        rows.append(Found("full search", costs, found["accuracy"], found["test_accuracy"]))
    hand = advise_by_rules(problem.network, problem.estimator, load_pack("accelerators"))
    rows.append(Found("rules by hand, not trained", hand.advice.together.latency, None, None))
    asked = matches(pack, problem.network.graph, problem.estimator.target)
    print(f"{problem.study.target}: the rules ask for {', '.join(change.name for change in asked.changes.known)}")
    print(f"  made of these: {', '.join(item.change.name for item in ruled.advice.advised)}")
    return rows


def code_in(problem: Problem, names: list[str]) -> tuple[int, ...]:
    """Changes as a code of the study's own space."""
    wanted = dict(name.rpartition("=")[::2] for name in names)
    return tuple(
        [str(option) for option in decision.options].index(wanted[decision.name]) if decision.name in wanted else 0
        for decision in problem.space.decisions
    )


def trained(summary: Summary, problem: Problem, code: tuple[int, ...]) -> Mapping[str, float]:
    """Metrics of one more network, trained as the finalists of the run were."""
    study, number = summary.study, summary.members["baseline"]["baseline"][0]
    start = summary.directory / "weights" / f"trial{number:04d}.safetensors"
    setting = Setting(study, problem.space, summary.directory / "given.safetensors")
    with tempfile.TemporaryDirectory() as place:
        files = [Path(place) / name for name in ("weights.safetensors", "checkpoint.safetensors")]
        recipe = study.training.recipe(study.training.final_epochs)
        job = Job(number, "final", code, recipe, study.seed, start, files[0], files[1], test=True)
        outcomes = [event for event in work(setting, job) if isinstance(event, Outcome)]
    if outcomes[-1].status != "done":
        raise SystemExit(f"the network of the rules could not be trained: {outcomes[-1].why}")
    return outcomes[-1].metrics


def show(target: str, summary: Summary, rows: list[Found]) -> None:
    """One table."""
    trials = len(summary.members["both"]["search"])
    print(f"\n{target}: CIFAR-10, {summary.study.model}; the search trained {trials} candidates")
    print(f"{'':44}{'latency':>9}{'validation':>12}{'test':>8}")
    for row in rows:
        figures = [f"{value:.1%}" if value is not None else "-" for value in (row.validation, row.test)]
        print(f"{row.name:44}{row.latency:>+9.1%}{figures[0]:>12}{figures[1]:>8}")


if __name__ == "__main__":
    main()
