"""Searches by halving of the tiny problem: rungs, what goes on, what is charged, and runs that are taken up again."""

import hashlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.run.test_combined import contents

from chipfit.errors import InvalidInput, TrainingFailed
from chipfit.nets.network import load_weights
from chipfit.report.page import contributions
from chipfit.report.pictures import front_points
from chipfit.run.choosing import longest_trained
from chipfit.run.jobs import Job, Outcome, Setting
from chipfit.run.journal import Journal, Trial
from chipfit.run.launch import launch
from chipfit.run.ledger import plan
from chipfit.run.power import Draw
from chipfit.run.problem import prepare
from chipfit.run.searches import searches
from chipfit.run.stages import Event, Stage
from chipfit.run.study import Study
from chipfit.run.summary import Summary, summarise
from chipfit.run.workers import work

HALVING = {"algorithm": "halving", "trials": 3, "epochs": 9}


@pytest.fixture
def halving(tiny: Any) -> Any:
    """A study whose own training learns what the epochs that it is given add up to."""

    def make(**changes: Any) -> Study:
        search = HALVING | changes.pop("search", {})
        return tiny(**{"accuracy": "tiny_problem:learns", "search": search} | changes)

    return make


@pytest.fixture
def taught(trained: Any) -> Any:
    def make(**changes: Any) -> Study:
        search = HALVING | {"trials": 2, "epochs": 3} | changes.pop("search", {})
        return trained(**{"search": search, "space": {"fuse": True, "depth_multiplier": [1.0, 0.5]}} | changes)

    return make


def finish(study: Study, directory: Path) -> Summary:
    list(launch(study, directory))
    return summarise(directory)


def searched(summary: Summary, variant: str) -> list[Trial]:
    return [summary.trial(number) for number in summary.members[variant]["search"]]


@pytest.mark.parametrize("batch", [1, 2, 32])
def test_a_third_of_each_rung_goes_on_and_the_epochs_are_never_exceeded(
    halving: Any, tmp_path: Path, batch: int
) -> None:
    study = halving(
        search={"batch": batch, "objectives": ["latency", "accuracy"]}, variants={}, limits={"accuracy_drop": 1.0}
    )
    summary = finish(study, tmp_path)
    trials = searched(summary, "found")
    rungs = Counter(trial.rung for trial in trials)
    assert set(rungs) == {1, 3, 9}
    assert rungs[1] <= study.search.starters == 11
    assert rungs[1] + 2 * rungs[3] + 6 * rungs[9] <= 3 * 9
    networks = {rung: {trial.code for trial in trials if trial.rung == rung} for rung in rungs}
    assert networks[9] <= networks[3] <= networks[1]
    for trial in trials:
        assert any(trial.code)
        assert trial.metrics["trained"] == trial.rung
    if batch == 32:
        assert (rungs[1], rungs[3], rungs[9]) == (11, 3, 1)
    finals = [summary.trial(number) for number in summary.members["found"]["final"]]
    assert finals
    assert {trial.code for trial in finals} <= networks[9]


def test_a_rung_starts_from_the_weights_of_the_rung_below(taught: Any, tmp_path: Path) -> None:
    """Trained again by hand, from the weights that the rung below left, it is the same to the bit."""
    study = taught()
    summary = finish(study, tmp_path)
    problem = prepare(study)
    setting = Setting(study, problem.space, tmp_path / "given.safetensors")
    with Journal(tmp_path) as journal:
        upper = [trial for trial in summary.trials if trial.rung == 3]
        assert upper
        for trial in upper:
            (lower,) = [other for other in summary.trials if other.rung == 1 and other.code == trial.code]
            assert len(lower.history) == 1
            assert len(trial.history) == 2
            seed = int.from_bytes(hashlib.sha256(f"{study.seed}:{trial.key}".encode()).digest()[:4], "big")
            again = Job(
                0, "search", trial.code, study.training.recipe(2), seed, journal.weights_file(lower.number),
                tmp_path / "again", tmp_path / "checkpoint", goes_on=True,
            )  # fmt: skip
            outcome = list(work(setting, again))[-1]
            assert isinstance(outcome, Outcome)
            assert outcome.history == trial.history
            kept, found = (load_weights(path) for path in (journal.weights_file(trial.number), again.weights))
            assert all(np.array_equal(kept[name], found[name]) for name in kept)


def test_a_run_broken_off_after_every_event_ends_as_if_never_broken(taught: Any, tmp_path: Path) -> None:
    study = taught(search={"objectives": ["latency", "accuracy"], "finalists": 1}, variants={})
    count = len(list(launch(study, tmp_path / "whole")))
    assert {trial.rung for trial in summarise(tmp_path / "whole").trials} == {0, 1, 3}
    for kept in range(1, count, 2):
        events = launch(study, tmp_path / "broken")
        for _, _ in zip(range(kept), events, strict=False):
            pass
        events.close()  # type: ignore[attr-defined]
    finish(study, tmp_path / "broken")
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_processes_give_what_one_alone_gives(taught: Any, tmp_path: Path) -> None:
    for workers in (1, 2):
        finish(taught(workers=workers, variants={}), tmp_path / str(workers))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_the_baseline_climbs_all_rungs_first_and_each_is_judged_by_its_own(halving: Any, tmp_path: Path) -> None:
    study = halving(search={"batch": 32}, variants={}, limits={"accuracy_drop": 0.03})
    events: list[Event] = list(launch(study, tmp_path))
    stages = [(event.name, event.variant) for event in events if isinstance(event, Stage)]
    assert stages == [("baseline", ""), ("search", "baseline"), ("search", "found"), ("final", "")]
    references = [event for event in events if isinstance(event, Trial) and event.stage == "search"][:3]
    assert [(trial.rung, any(trial.code)) for trial in references] == [(1, False), (3, False), (9, False)]
    trials = searched(summarise(tmp_path), "found")
    start = [trial for trial in trials if trial.rung == 1]
    near = [trial for trial in start if trial.metrics["accuracy"] >= references[0].metrics["accuracy"] - 0.03 - 0.02]
    assert 3 < len(near) < len(start)
    fastest = sorted(near, key=lambda trial: trial.costs["latency"])[: len(start) // 3]
    # By what nine epochs give, these would break the limit, and larger ones go on.
    assert all(trial.metrics["accuracy"] < references[2].metrics["accuracy"] - 0.03 - 0.02 for trial in fastest)
    assert {trial.code for trial in fastest} <= {trial.code for trial in trials if trial.rung == 3}


def test_what_another_variant_trained_is_not_trained_again(halving: Any, tmp_path: Path) -> None:
    summary = finish(halving(search={"trials": 6}), tmp_path)
    keys = [trial.key for trial in summary.trials]
    assert len(set(keys)) == len(keys)
    first, second = (set(summary.members[name]["search"]) for name in ("V1 depth", "V2 both"))
    assert first <= second  # V2 has all decisions of V1, and was told of its trials


def test_where_few_networks_are_left_the_best_of_them_still_reach_the_last_rung(halving: Any, tmp_path: Path) -> None:
    """Two networks besides the baseline: of two a third is none."""
    summary = finish(halving(variants={"V1 depth": ["depth_multiplier"]}, limits={"accuracy_drop": 0.5}), tmp_path)
    assert {trial.rung for trial in searched(summary, "V1 depth")} == {1, 3, 9}
    assert summary.members["V1 depth"]["final"]


def test_networks_that_fail_do_not_go_on(halving: Any, tmp_path: Path) -> None:
    summary = finish(halving(accuracy="tiny_problem:learns_unless_fused", limits={"accuracy_drop": 0.5}), tmp_path)
    failed = {trial.code for trial in summary.trials if trial.status == "failed"}
    assert failed
    assert all(trial.rung == 1 for trial in summary.trials if trial.code in failed)
    assert any(trial.rung == 9 for trial in searched(summary, "V2 both"))


def test_limits_on_costs_hold_for_all_that_is_trained(halving: Any, tmp_path: Path) -> None:
    study = halving(limits={"latency": "80 %", "accuracy_drop": 0.5})
    summary, problem = finish(study, tmp_path), prepare(study)
    trials = [trial for trial in summary.trials if any(trial.code)]
    assert {trial.rung for trial in trials} > {0, 1}
    assert all(trial.costs["latency"] <= problem.limits["latency"] * (1 + 1e-9) for trial in trials)


@pytest.mark.parametrize("changes", [{}, {"search": {"batch": 32, "trials": 8}}, {"variants": {}}])
def test_the_plan_counts_the_rungs(taught: Any, tmp_path: Path, changes: dict[str, Any]) -> None:
    summary = finish(taught(**changes), tmp_path)
    least, most = summary.notes["plan"]["trainings"]
    assert least < most
    assert len(summary.trials) <= most
    assert summary.notes["plan"]["expected"] is not None


def test_epochs_are_planned_and_not_trainings(trained: Any) -> None:
    machine = Draw("p", 4, 40.0, 10.0, "made up")
    space = {"width": True, "fuse": True}
    halved, alike = (
        plan(prepare(trained(search={"algorithm": name, "trials": 12, "epochs": 9}, space=space, variants={})), machine)
        for name in ("halving", "nsga2")
    )
    assert halved.trainings[0] > 2 * alike.trainings[1]
    assert halved.expected is not None
    assert alike.expected is not None
    assert halved.expected.seconds < 2 * alike.expected.seconds


def test_the_report_has_a_row_for_each_rung(halving: Any, tmp_path: Path) -> None:
    study = halving()
    summary = finish(study, tmp_path)
    names = [part.name for part in contributions(summary)]
    assert [name for name in names if "V2 both" in name] == [
        f"search V2 both, up to epoch {rung}" for rung in (1, 3, 9)
    ]
    points = front_points(summary, prepare(study).space.decisions)
    networks = {trial.code for trial in summary.trials if trial.rung}
    assert sum(point.role == "search" for point in points) == len(networks)


def test_patterns_are_mined_from_the_last_rung(halving: Any, tmp_path: Path) -> None:
    summary = finish(halving(variants={}, search={"trials": 9}), tmp_path)
    (found,) = searches(summary)
    last = longest_trained(searched(summary, "found"))
    assert found.codes.tolist() == [list(trial.code) for trial in last]
    assert len(found.codes) < len(searched(summary, "found"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"search": {"epochs": 2}}, "epochs = 2: .* give 3 or more"),
        ({"search": {"trials": 2}}, r"trials = 2: .* through all rungs \(1, 3, 9 epochs\); give 3 or more"),
        ({"search": {"stop_below": 0.5}}, "stop_below = 0.5: .* leave it out"),
        ({"search": {"budget": "5 min"}}, "budget plans"),
        (
            {"model": "published:nas-bench-201", "accuracy": "table:cells.csv", "space": {"given": True}},
            "accuracy = 'table:cells.csv': .* choose another search.algorithm",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(halving: Any, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        halving(**{"variants": {}} | changes)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("training", "message"),
    [("never_asks", "never_asks never reads budget.epochs"), ("stays", "stays leaves the module as it was")],
)
def test_a_training_that_cannot_go_on_is_refused_once_it_was_seen(
    halving: Any, tmp_path: Path, training: str, message: str
) -> None:
    study = halving(accuracy=f"tiny_problem:{training}")
    with pytest.raises(TrainingFailed, match=rf"\(search\): .*{message}.* choose another search") as refused:
        finish(study, tmp_path)
    assert "\n" not in str(refused.value)
    assert [trial.stage for trial in summarise(tmp_path).trials] == ["baseline"]


def test_quick_is_a_study_too(halving: Any) -> None:
    for search in ({}, {"epochs": 60, "trials": 3}, {"epochs": 3, "trials": 2}):
        quick = halving(search=search).quick
        assert quick.search.rungs[-1] <= max(3, halving(search=search).search.epochs // 6)
