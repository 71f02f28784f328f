"""Converging searches of the tiny problem: they land under the limit, are trained in full, and are taken up again."""

from pathlib import Path
from typing import Any

import pytest
import tiny_problem
from tests.run.test_combined import contents

from chipfit.errors import ChipfitError, InvalidInput, LimitImpossible
from chipfit.report.page import contributions
from chipfit.run.converging import aim_of
from chipfit.run.export import network_of
from chipfit.run.journal import Journal, Trial
from chipfit.run.launch import launch
from chipfit.run.problem import prepare, reopen
from chipfit.run.stages import Event, Stage
from chipfit.run.study import Study
from chipfit.run.summary import summarise

CONVERGE = {"algorithm": "converge", "converge": {"epochs": 5}}
LIMITS = {"latency": "75 %", "accuracy_drop": 1.0}


@pytest.fixture
def converging(trained: Any) -> Any:
    def make(**changes: Any) -> Study:
        search = CONVERGE | changes.pop("search", {})
        variants = {"V1 all": ["fuse", "depth_multiplier"]}
        return trained(**{"search": search, "limits": LIMITS, "variants": variants} | changes)

    return make


def landed(directory: Path) -> list[Trial]:
    return [trial for trial in summarise(directory).trials if trial.stage == "converge"]


@pytest.mark.parametrize("method", ["policy", "gradient"])
def test_it_lands_under_the_limit_and_is_trained_in_full(converging: Any, tmp_path: Path, method: str) -> None:
    study = converging(search={"converge": {"epochs": 5, "method": method}})
    events: list[Event] = list(launch(study, tmp_path / "run"))
    names = [(event.name, event.variant) for event in events if isinstance(event, Stage)]
    assert names == [("baseline", ""), ("search", "baseline"), ("converge", "V1 all"), ("final", ""), ("int8", "")]
    (found,) = landed(tmp_path / "run")
    problem = prepare(study)
    assert 0.6 * problem.limits["latency"] < found.costs["latency"] <= problem.limits["latency"] * (1 + 1e-9)
    assert len(found.history) == 5
    summary = summarise(tmp_path / "run")
    row = next(row for row in summary.rows if row.name == "V1 all")
    assert row.holds
    assert row.trial is not None
    assert (row.trial.stage, row.trial.code) == ("final", found.code)
    assert network_of(reopen(summary), summary, found).graph == problem.space.close(found.code)
    assert any(part.name == "converging search V1 all" for part in contributions(summary))


def test_each_variant_changes_its_own_decisions_only(converging: Any, tmp_path: Path) -> None:
    study = converging(variants={"V1 depth": ["depth_multiplier"], "V2 fuse": ["fuse", "depth_multiplier"]})
    list(launch(study, tmp_path / "run"))
    problem = prepare(study)
    first, _ = landed(tmp_path / "run")
    fused = problem.members["fuse"]
    assert not any(first.code[index] for index in fused)
    kept = aim_of(problem, problem.members["depth_multiplier"]).kept
    assert all(kept[index] == (0,) for index in fused)


def test_what_curation_removed_is_not_chosen(converging: Any, tmp_path: Path) -> None:
    study = converging(space={"fuse": True, "depth_multiplier": [1.0, 0.75, 0.5], "curate": {"most": 2}})
    list(launch(study, tmp_path / "run"))
    offered = prepare(study).offered
    for trial in landed(tmp_path / "run"):
        assert all(option in kept for option, kept in zip(trial.code, offered, strict=True))


def test_a_training_broken_off_in_the_middle_lands_where_it_would_have(converging: Any, tmp_path: Path) -> None:
    study = converging()
    list(launch(study, tmp_path / "whole"))
    events = launch(study, tmp_path / "broken")
    for event in events:
        if isinstance(event, Stage) and event.name == "converge":
            break
    for _ in range(2):  # epochs of the converging training
        next(events)
    events.close()  # type: ignore[attr-defined]
    with Journal(tmp_path / "broken") as journal:
        assert [path.name for path in journal.checkpoints.iterdir()] == ["trial0002.safetensors"]
        assert len(journal.trials()) == 2
    again = list(launch(study, tmp_path / "broken"))
    assert sum(isinstance(event, Trial) and event.stage == "converge" for event in again) == 1
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_processes_give_what_one_alone_gives(converging: Any, tmp_path: Path) -> None:
    for workers in (1, 2):
        list(launch(converging(workers=workers), tmp_path / str(workers)))
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limits": {"accuracy_drop": 0.5}}, "set limits.latency"),
        ({"limits": LIMITS | {"weights": "50 %"}}, "limits.weights: .* latency only"),
        ({"search": {"converge": {"epochs": 1}}}, "search.converge.epochs = 1: .* give more epochs"),
        ({"search": {"converge": {"epochs": 5, "method": "chance"}}}, "search.converge.method = 'chance'"),
        ({"search": {"budget": "5 min"}}, "budget plans"),
        (
            {
                "space": {"fuse": True, "depth_multiplier": [1.0, 0.75], "curate": {"tolerance": 10.0}},
                "variants": {"V": ["depth_multiplier"]},
                "limits": {"latency": "200 %"},
            },
            "variants.V: .* nothing is left to choose; .* all options",
        ),
    ],
)
def test_what_cannot_be_is_refused_in_one_line(
    converging: Any, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message) as refused:
        list(launch(converging(**changes), tmp_path / "run"))
    assert "\n" not in str(refused.value)
    assert not (tmp_path / "run").exists()


def test_a_training_of_the_users_own_trains_one_network_at_a_time(tiny: Any) -> None:
    with pytest.raises(InvalidInput, match=r"accuracy = 'tiny_problem:by_size': .* chipfit's own training"):
        tiny(search=CONVERGE, limits=LIMITS)


@pytest.mark.parametrize(("latency", "message"), [("1 %", "no network"), ("10 s", "no network of the space takes")])
def test_a_limit_that_no_network_is_near_is_refused(
    converging: Any, tmp_path: Path, latency: str, message: str
) -> None:
    with pytest.raises(LimitImpossible, match=message):
        list(launch(converging(limits=LIMITS | {"latency": latency}), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_training_that_fails_says_so_and_is_not_kept(converging: Any, tmp_path: Path) -> None:
    study = converging(search={"epochs": 0}, training={"baseline_epochs": 0, "learning_rate": 1e12})
    with pytest.raises(ChipfitError, match=r"converging search failed: .*lower the learning rate"):
        list(launch(study, tmp_path / "run"))
    assert not landed(tmp_path / "run")


def test_the_plan_counts_it(converging: Any, tmp_path: Path) -> None:
    tiny_problem.CALLS.clear()
    list(launch(converging(), tmp_path / "run"))
    plan = summarise(tmp_path / "run").notes["plan"]
    assert plan["trainings"] == [4, 5]  # the baseline three times, the converging one, its network if it holds
    assert plan["expected"] is not None
    assert tiny_problem.CALLS == []
