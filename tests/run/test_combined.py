"""Combined searches of the tiny problem: what is screened, ranked and trained, and taken up again in every stage."""

import hashlib
import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import tiny_problem

from chipfit.errors import InvalidInput
from chipfit.run.journal import Journal
from chipfit.run.launch import launch
from chipfit.run.problem import prepare
from chipfit.run.schedule import Pace, schedule
from chipfit.run.stages import Event, Stage
from chipfit.run.summary import summarise

SEARCH = {
    "algorithm": "combined",
    "trials": 3,
    "combined": {"screen": 8, "score": "parameters", "supernet": 0, "rank": 4, "control": 0.3},
}


@pytest.fixture(autouse=True)
def calls() -> list[tuple[str, str]]:
    tiny_problem.CALLS.clear()
    return tiny_problem.CALLS


def contents(directory: Path) -> dict[str, Any]:
    """All that a run found, without how long it took."""
    summary = summarise(directory)
    weights = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("weights/*")}
    with Journal(directory) as journal:
        scores = {
            stage: {code: (each.value, each.why) for code, each in journal.scores(stage).items()}
            for stage in ("screen", "rank")
        }
        combined = json.loads(journal.about("combined") or "{}")
    trials = [replace(trial, seconds=0.0) for trial in summary.trials]
    return {"trials": trials, "members": summary.members, "weights": weights, "scores": scores, "combined": combined}


def with_supernet(trained: Any) -> Any:
    stages = SEARCH["combined"] | {"supernet": 1}  # type: ignore[operator]
    return trained(search=SEARCH | {"combined": stages}, variants={})


def test_networks_are_screened_before_some_are_trained(tiny: Any, tmp_path: Path) -> None:
    events: list[Event] = list(launch(tiny(search=SEARCH), tmp_path / "run"))
    stages = [(event.name, event.variant) for event in events if isinstance(event, Stage)]
    assert stages == [
        ("baseline", ""), ("search", "baseline"), ("screen", "baseline"), ("screen", "V1 depth"),
        ("search", "V1 depth"), ("screen", "V2 both"), ("search", "V2 both"), ("final", ""),
    ]  # fmt: skip
    found = contents(tmp_path / "run")
    both = found["combined"]["V2 both"]["screen"]
    assert both["looked_at"] == 8
    assert len(both["kept"]) + len(both["random"]) == 3
    assert len(both["random"]) == 1
    searched = [trial for trial in found["trials"] if trial.stage == "search" and any(trial.code)]
    assert 3 <= len(searched) <= 6
    assert found["scores"]["rank"] == {}


def test_screened_networks_hold_the_limits(tiny: Any, tmp_path: Path) -> None:
    study = tiny(search=SEARCH, limits={"latency": "80 %", "accuracy_drop": 0.5})
    list(launch(study, tmp_path / "run"))
    problem = prepare(study)
    for code in contents(tmp_path / "run")["scores"]["screen"]:
        if any(code):
            costs = problem.estimator.costs(problem.space.close(code))
            assert costs.latency_s[0] <= problem.limits["latency"] * (1 + 1e-9)


def test_a_supernet_ranks_what_screening_kept_and_random_ones(trained: Any, tmp_path: Path) -> None:
    events = list(launch(with_supernet(trained), tmp_path / "run"))
    names = [event.name for event in events if isinstance(event, Stage)]
    assert names == ["baseline", "search", "screen", "supernet", "screen", "search", "final", "int8"]
    found = contents(tmp_path / "run")
    kept = found["combined"]["found"]["screen"]
    assert len(kept["random"]) == 1
    ranked = {tuple(code) for code in (*kept["kept"], *kept["random"])}
    assert set(found["scores"]["rank"]) == ranked
    assert all(0 <= value <= 1 for value, _ in found["scores"]["rank"].values())
    (shared,) = [trial for trial in found["trials"] if trial.stage == "supernet"]
    assert shared.status == "done"


@pytest.mark.slow
def test_a_run_broken_off_after_every_event_ends_as_if_never_broken(trained: Any, tmp_path: Path) -> None:
    study = with_supernet(trained)
    count = len(list(launch(study, tmp_path / "whole")))
    for kept in range(1, count):
        events = launch(study, tmp_path / "broken")
        for _, _ in zip(range(kept), events, strict=False):
            pass
        events.close()  # type: ignore[attr-defined]
    list(launch(study, tmp_path / "broken"))
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_networks_that_cannot_be_scored_are_recorded_with_the_reason(tiny: Any, tmp_path: Path) -> None:
    stages = SEARCH["combined"] | {"score": "tiny_problem:fails_on_fused"}  # type: ignore[operator]
    list(launch(tiny(search=SEARCH | {"combined": stages}, variants={}), tmp_path / "run"))
    found = contents(tmp_path / "run")
    reasons = {why for value, why in found["scores"]["screen"].values() if value is None}
    assert reasons == {"fused is not my taste"}
    assert found["combined"]["found"]["screen"]["failed"] > 0
    for code in found["combined"]["found"]["screen"]["kept"]:
        assert found["scores"]["screen"][tuple(code)][0] is not None


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ({"algorithm": "nsga2", "budget": "3 min"}, "budget plans the stages"),
        ({"algorithm": "combined", "budget": "soon"}, "is no time"),
        ({"algorithm": "combined", "combined": {"score": "magic"}}, "there is no score 'magic'"),
        ({"algorithm": "combined", "combined": {"supernet": 3}}, "set it to 0"),
        ({"algorithm": "combined", "budget": "1 s"}, "is too small"),
    ],
)
def test_what_cannot_be_is_refused(tiny: Any, tmp_path: Path, search: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        list(launch(tiny(search=search, accuracy="tiny_problem:slowly"), tmp_path / "run"))


@pytest.mark.parametrize("budget", ["5 min", "20 min", "2 h", "20 h"])
def test_a_schedule_fits_its_budget(trained: Any, budget: str) -> None:
    study = trained(search=SEARCH | {"budget": budget}, workers=2)
    planned = schedule(study, Pace(epoch_s=6.0, score_s=0.1), spent_s=30.0)
    assert planned.expected_s is not None
    assert 30.0 + sum(planned.expected_s.values()) <= study.search.budget * 1.001
    assert planned.trials >= 1
    assert (planned.supernet == 0) == (planned.expected_s["supernet"] == 0)


def test_more_time_is_never_less_of_a_stage(trained: Any) -> None:
    planned = [
        schedule(trained(search=SEARCH | {"budget": f"{minutes} min"}), Pace(3.0, 0.1), 30.0)
        for minutes in (40, 80, 160, 320)
    ]
    for before, after in pairwise(planned):
        for name in ("screen", "supernet", "rank", "trials"):
            assert getattr(after, name) >= getattr(before, name)
