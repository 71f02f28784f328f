"""The ledger of runs of the tiny problem: all sessions count, before and after stand side by side."""

import json
import math
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from chipfit.errors import InvalidInput
from chipfit.run.journal import Journal, Trial
from chipfit.run.launch import launch
from chipfit.run.ledger import Book, Ledger, Plan, Session, ledger, plan, read_plan
from chipfit.run.power import Draw, Meter, Place, draw
from chipfit.run.problem import prepare
from chipfit.run.settings import LedgerSettings
from chipfit.run.summary import summarise

WORLD = Place("somewhere", 500.0, "made up")
SESSIONS = (Session(10.0, 2, 1000.0, "measured", "RAPL"), Session(5.0, 1, 800.0, "modelled", "TDP"))


def trial(energy: float) -> Trial:
    return Trial(0, "k", "final", (0,), "done", {}, {"energy": energy})


def test_sessions_add_up_and_only_all_measured_is_measured() -> None:
    found = Ledger({}, SESSIONS, None, WORLD)
    assert (found.seconds, found.spent and found.spent.energy_j) == (15.0, 1800.0)
    assert found.spent is not None
    assert found.spent.source == "modelled"
    assert found.spent.detail == "RAPL; TDP"
    assert Ledger({}, SESSIONS[:1], None, WORLD).spent == replace(
        found.spent, energy_j=1000.0, source="measured", detail="RAPL"
    )
    assert Ledger({}, (), None, None).spent is None


def test_what_a_network_saves_by_hand() -> None:
    found = Ledger({}, SESSIONS, None, WORLD, LedgerSettings(inferences_per_user_and_day=10))
    saving = found.saving(trial(3e-3), trial(1e-3))
    assert saving is not None
    assert saving.energy_j == pytest.approx(2e-3 * 10 * 365 * 1e6)
    assert saving.co2e_g == pytest.approx(saving.energy_j / 3.6e6 * 500)
    assert saving.break_even == pytest.approx(1800 / 2e-3)
    worse = found.saving(trial(1e-3), trial(1e-3))
    assert worse is not None
    assert worse.break_even is None
    assert Ledger({}, (), None, WORLD).saving(trial(3e-3), trial(1e-3)) is None


def test_a_run_counts_every_session_and_what_was_expected(trained: Any, tmp_path: Path) -> None:
    study = trained(search={"trials": 2}, space={"fuse": True, "depth_multiplier": [1.0, 0.5]})
    events = launch(study, tmp_path)
    for _ in zip(range(4), events, strict=False):
        pass
    events.close()  # type: ignore[attr-defined]
    first = ledger(summarise(tmp_path))
    assert len(first.sessions) == 1
    list(launch(study, tmp_path))
    found = ledger(summarise(tmp_path))
    assert len(found.sessions) == 2
    assert found.sessions[0] == first.sessions[0]
    assert found.seconds > sum(found.stages.values()) > 0
    assert found.plan == first.plan is not None
    assert found.plan is not None
    least, most = found.plan.trainings
    assert found.plan.networks == 2**3 * 2
    assert found.plan.expected is not None
    assert least <= len(summarise(tmp_path).trials) <= most
    finals = [trial.seconds for trial in summarise(tmp_path).trials if trial.stage == "final"]
    assert found.every_s == pytest.approx(16 * sum(finals) / len(finals))


def test_a_finished_run_that_is_asked_for_again_costs_nothing_more(tiny: Any, tmp_path: Path) -> None:
    list(launch(tiny(), tmp_path))
    before = ledger(summarise(tmp_path))
    list(launch(tiny(), tmp_path))
    assert ledger(summarise(tmp_path)) == before


def test_counting_takes_next_to_no_time(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        meter = Meter(draw(), 1)
        book = Book(journal, 1, meter)
        for _ in range(1000):
            book.keep()
        (only,) = json.loads(journal.about("sessions") or "")
    assert only["seconds"] < 1.0  # noted once, when the session began


def test_how_costs_are_counted_changes_no_result(tiny: Any, tmp_path: Path) -> None:
    assert tiny().digest == tiny(ledger={"country": "DEU", "inferences_per_user_and_day": 5}).digest
    list(launch(tiny(), tmp_path))
    list(launch(tiny(ledger={"country": "DEU"}), tmp_path))
    assert ledger(summarise(tmp_path)).place is not None
    assert ledger(summarise(tmp_path)).place.name == "Germany"  # type: ignore[union-attr]
    with pytest.raises(InvalidInput, match="country"):
        list(launch(tiny(ledger={"country": "nowhere"}), tmp_path / "other"))
    assert not (tmp_path / "other").exists()


def test_a_training_of_the_users_own_is_not_timed_and_says_so(tiny: Any) -> None:
    found = plan(prepare(tiny()), draw())
    assert found.expected is None
    assert "tiny_problem:by_size" in found.why
    assert found.trainings == (1 + 1 + 2 + 6 + 1, 1 + 1 + 2 + 6 + 1 + 2 + 2)


def test_more_to_do_is_expected_to_take_longer(trained: Any) -> None:
    machine = Draw("p", 4, 40.0, 10.0, "made up")
    short, long = (plan(prepare(trained(search={"epochs": epochs})), machine).expected for epochs in (1, 40))
    assert short is not None
    assert long is not None
    assert long.energy_j > short.energy_j > 0
    assert 0 < long.seconds_spread < long.seconds


def test_a_plan_is_read_as_it_was_kept() -> None:
    for found in (Plan(10**30, (1, 2), None, "why"), Plan(3, (1, 1), None)):
        assert read_plan(json.loads(json.dumps(asdict(found)))) == found


def test_a_run_of_before_there_was_a_ledger_has_none(tiny: Any, tmp_path: Path) -> None:
    study = tiny()
    with Journal(tmp_path) as journal:
        journal.claim(study.identity, study.digest)
    found = ledger(summarise(tmp_path))
    assert (found.spent, found.plan, found.every_s) == (None, None, None)
    assert math.isclose(found.seconds, 0)
