"""Whole runs of the tiny problem: what is asked, kept, refused, taken up again and chosen."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tiny_problem

from chipfit.errors import InvalidInput, JournalMismatch, LimitImpossible, StorageFull, TrainingFailed
from chipfit.run.choosing import meets_limits
from chipfit.run.jobs import Progress
from chipfit.run.journal import Journal, Trial
from chipfit.run.launch import launch
from chipfit.run.problem import Problem, prepare
from chipfit.run.stages import Event, Stage
from chipfit.run.summary import Summary, summarise


@pytest.fixture(autouse=True)
def calls() -> list[tuple[str, str]]:
    tiny_problem.CALLS.clear()
    return tiny_problem.CALLS


def finish(study: Any, directory: Path) -> list[Event]:
    return list(launch(study, directory))


def contents(directory: Path) -> dict[str, Any]:
    """All that a run found, without how long it took."""
    summary = summarise(directory)
    weights = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in directory.glob("weights/*")}
    return {
        "trials": [replace(trial, seconds=0.0) for trial in summary.trials],
        "members": summary.members,
        "weights": weights,
        "finished": summary.finished,
    }


def chosen(summary: Summary, name: str) -> Trial | None:
    return next(row.trial for row in summary.rows if row.name == name and row.holds)


def test_a_study_with_two_variants_runs(tiny: Any, tmp_path: Path, calls: list[tuple[str, str]]) -> None:
    study = tiny()
    events = finish(study, tmp_path / "run")
    stages = [(event.name, event.variant) for event in events if isinstance(event, Stage)]
    assert stages == [
        ("baseline", ""), ("search", "baseline"), ("search", "V1 depth"), ("search", "V2 both"), ("final", ""),
    ]  # fmt: skip
    summary = summarise(tmp_path / "run")
    assert summary.finished
    assert [row.name for row in summary.rows] == ["baseline", "V1 depth", "V2 both"]
    assert [trial.number for trial in summary.trials] == list(range(len(summary.trials)))
    assert summary.provenance["target"] == "neural-engine"
    assert summary.trials[0].stage == "baseline"
    for trial in summary.trials:
        assert trial.status == "done"
        assert (tmp_path / "run" / "weights" / Journal.weights_name(trial.number)).is_file()
        assert trial.costs["parameters"] > 0
        assert trial.costs["latency_spread"] > 0
    assert not list((tmp_path / "run" / "checkpoints").iterdir())
    both = chosen(summary, "V2 both")
    assert both is not None
    assert both.costs["latency"] < summary.trials[0].costs["latency"]
    assert {event.number for event in events if isinstance(event, Trial)} == {trial.number for trial in summary.trials}


def test_nothing_is_trained_twice_and_a_finished_run_trains_nothing(
    tiny: Any, tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    study = tiny(search={"trials": 30, "objectives": ["latency", "accuracy"]}, limits={"accuracy_drop": 1.0})
    finish(study, tmp_path / "run")
    assert len(set(calls)) == len(calls)
    problem = prepare(study)
    assert len({digest for stage, digest in calls if stage == "search"}) > 12
    before, count = contents(tmp_path / "run"), len(calls)
    events = finish(study, tmp_path / "run")
    assert len(calls) == count
    assert {event.number for event in events if isinstance(event, Trial)} == set(range(count))
    assert contents(tmp_path / "run") == before
    for trial in before["trials"]:
        costs = problem.estimator.costs(problem.space.close(trial.code))
        assert trial.costs["latency"] == costs.latency_s[0]


def test_a_run_broken_off_after_every_event_ends_as_if_never_broken(trained: Any, tmp_path: Path) -> None:
    study = trained(search={"trials": 2}, space={"fuse": True, "depth_multiplier": [1.0, 0.5]})
    count = len(finish(study, tmp_path / "whole"))
    for kept in range(1, count, 2):
        events = launch(study, tmp_path / "broken")
        for _, _ in zip(range(kept), events, strict=False):
            pass
        events.close()  # type: ignore[attr-defined]
    finish(study, tmp_path / "broken")
    assert contents(tmp_path / "broken") == contents(tmp_path / "whole")


def test_progress_comes_before_its_trial_and_best_history_is_kept(trained: Any, tmp_path: Path) -> None:
    events = finish(trained(search={"trials": 2, "epochs": 3}), tmp_path / "run")
    seen: dict[int, list[Progress]] = {}
    for event in events:
        if isinstance(event, Progress):
            seen.setdefault(event.number, []).append(event)
        elif isinstance(event, Trial) and event.stage == "search":
            assert [news.done for news in seen[event.number]] == [1, 2, 3]
            assert {news.total for news in seen[event.number]} == {3}
            assert tuple(news.metric for news in seen[event.number]) == event.history
            assert event.metrics["accuracy"] == max(event.history)
            assert "test_accuracy" not in event.metrics
        elif isinstance(event, Trial) and event.stage == "final":
            assert 0 <= event.metrics["test_accuracy"] <= 1


def test_what_is_far_behind_is_stopped_early(trained: Any, tmp_path: Path) -> None:
    study = trained(
        search={"trials": 12, "epochs": 3, "stop_below": 0.9, "objectives": ["latency", "accuracy"]}, variants={}
    )
    finish(study, tmp_path / "run")
    search = [trial for trial in summarise(tmp_path / "run").trials if trial.stage == "search"]
    stopped = [trial for trial in search if trial.status == "stopped"]
    assert stopped
    assert all(len(trial.history) <= 3 and "far behind" in trial.why for trial in stopped)
    assert all(len(trial.history) == 3 for trial in search if trial.status == "done")
    assert {trial.status for trial in search[:5]} == {"done"}


@pytest.mark.parametrize(
    ("limits", "algorithm"),
    [
        ({"latency": "80 %"}, "nsga2"),
        ({"weights": "85 %"}, "aging"),
        ({"latency": "75 %", "energy": "90 %", "peak_memory": "90 %"}, "random"),
    ],
)
def test_limits_on_costs_hold_for_everything_asked(
    tiny: Any, tmp_path: Path, limits: dict[str, str], algorithm: str
) -> None:
    study = tiny(limits=limits | {"accuracy_drop": 0.2}, search={"algorithm": algorithm})
    finish(study, tmp_path / "run")
    problem, summary = prepare(study), summarise(tmp_path / "run")
    searched = [trial for trial in summary.trials if any(trial.code)]
    assert searched
    for trial in searched:
        for name, limit in problem.limits.items():
            assert trial.costs[name] <= limit * (1 + 1e-9)
    assert chosen(summary, "V2 both") is not None


def test_an_impossible_limit_is_refused_before_anything_is_written(
    tiny: Any, tmp_path: Path, calls: list[tuple[str, str]]
) -> None:
    with pytest.raises(LimitImpossible) as caught:
        finish(tiny(limits={"latency": "0.1 us", "weights": "50 %"}), tmp_path / "run")
    message = str(caught.value)
    assert "latency ≤ 0.1 µs, weights ≤ 2.9" in message
    best = prepare(tiny()).preflight().ranges["latency"].minimum
    assert f"% over; alone it can reach {best * 1e6:.3g} µs)" in message
    assert "\n" not in message
    assert not (tmp_path / "run").exists()
    assert calls == []


def test_a_variant_that_cannot_meet_the_limits_trains_nothing(tiny: Any, tmp_path: Path) -> None:
    study = tiny(limits={"latency": "65 %", "accuracy_drop": 0.1})
    finish(study, tmp_path / "run")
    summary = summarise(tmp_path / "run")
    assert len(summary.members["V1 depth"]["search"]) == 1
    row = next(row for row in summary.rows if row.name == "V1 depth")
    assert row.trial is None
    assert "limits on costs" in row.note
    assert chosen(summary, "V2 both") is not None


@pytest.mark.parametrize("drop", [0.0, 0.01, 0.03, 0.3])
def test_the_chosen_hold_the_limit_on_accuracy(tiny: Any, tmp_path: Path, drop: float) -> None:
    study = tiny(limits={"accuracy_drop": drop}, search={"trials": 24, "finalists": 3})
    finish(study, tmp_path / "run")
    problem, summary = prepare(study), summarise(tmp_path / "run")
    judge = summary.trials[summary.members["baseline"]["final"][0]]
    finals = [trial for trial in summary.trials if trial.stage == "final" and any(trial.code)]
    for row in summary.rows[1:]:
        own = [trial for trial in finals if trial.number in summary.members[row.name]["final"]]
        good = [trial for trial in own if trial.metrics["accuracy"] >= judge.metrics["accuracy"] - drop]
        assert [trial for trial in own if meets_limits(problem, trial, judge)] == good
        assert row.holds == bool(good)
        if good:
            assert row.trial == min(good, key=lambda trial: trial.costs["latency"])
    best = min(
        (problem.costs(problem.embed(_all(problem), (0, 1, 2, 3)))["latency"][index], index)
        for index in range(24)
        if _accuracy(problem, index) >= judge.metrics["accuracy"] - drop
    )
    both = chosen(summary, "V2 both")
    assert both is not None
    assert both.costs["latency"] == pytest.approx(best[0])


def _all(problem: Problem) -> Any:
    import numpy as np

    return np.indices(problem.space.cardinalities).reshape(4, -1).T


def _accuracy(problem: Problem, index: int) -> float:
    parameters = problem.estimator.costs(problem.space.close(_all(problem)[index])).parameters[0]
    return float(0.9 - 800 / parameters + 0.02)


def test_an_accuracy_that_nobody_reaches_leaves_rows_without_a_choice(tiny: Any, tmp_path: Path) -> None:
    finish(tiny(limits={"accuracy": 0.99, "accuracy_drop": 1.0}), tmp_path / "run")
    for row in summarise(tmp_path / "run").rows[1:]:
        assert not row.holds
        assert "accuracy" in row.note


def test_pareto_objectives_train_finalists_along_the_front(tiny: Any, tmp_path: Path) -> None:
    study = tiny(
        search={"objectives": ["latency", "accuracy"], "trials": 24, "finalists": 4}, limits={"accuracy_drop": 0.3}
    )
    finish(study, tmp_path / "run")
    summary = summarise(tmp_path / "run")
    finals = [summary.trial(number) for number in summary.members["V2 both"]["final"]]
    assert len(finals) >= 2
    latencies = [trial.costs["latency"] for trial in finals]
    accuracies = [trial.metrics["accuracy"] for trial in finals]
    assert latencies == sorted(latencies)
    assert accuracies == sorted(accuracies)
    assert chosen(summary, "V2 both") == finals[0]


def test_a_training_that_fails_for_some_is_recorded_and_the_search_goes_on(tiny: Any, tmp_path: Path) -> None:
    finish(tiny(accuracy="tiny_problem:fails_when_fused"), tmp_path / "run")
    summary = summarise(tmp_path / "run")
    failed = [trial for trial in summary.trials if trial.status == "failed"]
    assert failed
    assert all(any(trial.code[:3]) for trial in failed)
    for trial in failed:
        assert "raised ArithmeticError: fused is not my taste" in trial.why
        assert f"({Path(tiny_problem.__file__)}:" in trial.why
    assert all(not any(trial.code[:3]) for trial in summary.trials if trial.status == "done")
    assert chosen(summary, "V1 depth") is not None


@pytest.mark.parametrize("stage", ["baseline", "search", "final"])
def test_a_baseline_that_fails_ends_the_run_and_can_be_mended(
    tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, stage: str
) -> None:
    study = tiny(accuracy="tiny_problem:fails_while_told")
    monkeypatch.setenv("TINY_FAIL", stage)
    with pytest.raises(TrainingFailed, match=rf"the baseline could not be trained \({stage}\): .*ValueError: told to"):
        finish(study, tmp_path / "run")
    monkeypatch.delenv("TINY_FAIL")
    finish(study, tmp_path / "run")
    assert {trial.status for trial in summarise(tmp_path / "run").trials} == {"done"}


def test_a_full_disk_ends_the_run_and_it_goes_on_once_there_is_space(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = trained(search={"trials": 2})
    finish(study, tmp_path / "whole")
    original, room = tiny_problem.os.fsync, iter(range(9))

    def full(handle: int) -> None:
        if next(room, None) is None:
            raise OSError(28, "No space left on device")
        original(handle)

    monkeypatch.setattr("chipfit.files.os.fsync", full)
    with pytest.raises(StorageFull, match="no space left"):
        finish(study, tmp_path / "run")
    monkeypatch.undo()
    assert summarise(tmp_path / "run").trials
    finish(study, tmp_path / "run")
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_another_study_other_data_and_another_model_are_refused(
    trained: Any, tiny: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = trained(search={"trials": 1})
    finish(study, tmp_path / "run")
    with pytest.raises(JournalMismatch, match=r"search\.trials 1 -> 2"):
        finish(trained(search={"trials": 2}), tmp_path / "run")
    monkeypatch.setattr("chipfit.run.jobs._tasks", {})
    monkeypatch.setenv("TINY_DATA", "1")
    with pytest.raises(JournalMismatch, match="the data changed since the run began; give another --out"):
        finish(study, tmp_path / "run")
    monkeypatch.delenv("TINY_DATA")
    monkeypatch.setattr("chipfit.run.jobs._tasks", {})
    monkeypatch.setenv("TINY_MODEL", "1")
    with pytest.raises(JournalMismatch, match="the model changed since the run began"):
        finish(study, tmp_path / "run")
    monkeypatch.delenv("TINY_MODEL")
    finish(study, tmp_path / "run")


def test_a_journal_whose_trials_came_in_another_order_is_refused(tiny: Any, tmp_path: Path) -> None:
    study = tiny(search={"trials": 2})
    finish(study, tmp_path / "run")
    with Journal(tmp_path / "run") as journal, journal._transaction():  # pyright: ignore[reportPrivateUsage]
        journal._database.execute("UPDATE trials SET number = -1 WHERE number = 2")  # pyright: ignore[reportPrivateUsage]
        journal._database.execute("UPDATE trials SET number = 2 WHERE number = 3")  # pyright: ignore[reportPrivateUsage]
    with pytest.raises(JournalMismatch, match="trial 2 was another network before"):
        finish(study, tmp_path / "run")


def test_what_does_not_fit_the_task_is_refused(trained: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"resnet8 gives an output of shape \(1, 10\), the task needs \(1, 2\)"):
        finish(trained(model="resnet8", space={"depth_multiplier": True}, variants={}), tmp_path / "run")
    assert not (tmp_path / "run").exists()
    with pytest.raises(InvalidInput, match="takes 1 channels, the data of the task have 3"):
        finish(trained(model="ds_cnn", classes=2, space={"depth_multiplier": True}, variants={}), tmp_path / "run")


def test_an_algorithm_may_be_the_users_own(tiny: Any, tmp_path: Path) -> None:
    finish(tiny(search={"algorithm": "tiny_problem:random_search"}), tmp_path / "own")
    finish(tiny(search={"algorithm": "random"}), tmp_path / "known")
    codes = [[trial.code for trial in summarise(tmp_path / name).trials] for name in ("own", "known")]
    assert codes[0] == codes[1]
    with pytest.raises(InvalidInput, match=r"search\.algorithm = 'best': known are nsga2, aging, random"):
        finish(tiny(search={"algorithm": "best"}), tmp_path / "none")


def test_an_edit_that_opens_nothing_is_refused(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"no inverted bottleneck found: .*leave this edit out"):
        finish(tiny(model="resnet8"), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_ten_kills_change_nothing(environment: dict[str, str], tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    study.write_text(
        'name = "tiny"\nmodel = "tiny_problem:model"\ntarget = "neural-engine"\ndevice = "cpu"\nworkers = 2\n'
        'task = {data = "tiny_problem:task"}\nspace = {fuse = true, depth_multiplier = [1.0, 0.5]}\n'
        'search = {objectives = ["latency", "accuracy"], trials = 6, epochs = 3, batch = 3}\n'
        "limits = {accuracy_drop = 0.5}\n"
        "training = {baseline_epochs = 3, final_epochs = 3, batch_size = 8}\n"
    )
    script = Path(__file__).parents[2] / "benchmarks" / "kill_and_resume.py"
    command = [sys.executable, str(script), str(study), "--out", str(tmp_path / "runs"), "--kills", "10"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "EQUAL: 10 kills" in done.stdout


def test_the_journal_says_what_the_run_rests_on(trained: Any, tmp_path: Path) -> None:
    finish(trained(search={"trials": 1}), tmp_path / "run")
    with Journal(tmp_path / "run") as journal:
        provenance = json.loads(journal.about("provenance") or "")
    assert provenance["data"]["source"] == "drawn"
    assert provenance["data"]["sizes"] == {"train": 24, "validation": 20, "test": 12}
    assert provenance["machine"]["processors"] > 0
    assert "torch" in provenance["packages"]
