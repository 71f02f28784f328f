"""Candidates trained in processes of their own: the same results, and whatever happens to one happens to one only."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chipfit.accuracy.recipe import Recipe
from chipfit.errors import InvalidInput, StorageFull
from chipfit.nets.network import load_weights, save_weights
from chipfit.run.jobs import Job, Outcome, Progress, Setting
from chipfit.run.problem import prepare
from chipfit.run.study import Study
from chipfit.run.workers import Workers

RECIPE = Recipe(epochs=3, batch_size=8)
CODES = ((0, 0, 0, 0), (1, 0, 0, 1), (0, 0, 1, 2))


def setting_of(study: Study, directory: Path) -> Setting:
    problem = prepare(study)
    given = directory / "given.safetensors"
    save_weights(given, problem.network.weights)
    return Setting(study, problem.space, given)


def jobs_of(setting: Setting, directory: Path, codes: Sequence[tuple[int, ...]] = CODES) -> list[Job]:
    return [
        Job(
            number, "search", code, RECIPE, number, setting.given, directory / f"weights{number}",
            directory / f"checkpoint{number}", test=number == 1,
        )
        for number, code in enumerate(codes)
    ]  # fmt: skip


def run(setting: Setting, jobs: list[Job], count: int) -> tuple[dict[int, Outcome], list[Progress]]:
    with Workers(setting, count) as workers:
        events = list(workers.run(jobs))
    outcomes = [event for event in events if isinstance(event, Outcome)]
    assert len(outcomes) == len({outcome.number for outcome in outcomes}) == len(jobs)
    return {outcome.number: outcome for outcome in outcomes}, [event for event in events if isinstance(event, Progress)]


def results(outcomes: dict[int, Outcome]) -> dict[int, Any]:
    return {number: (o.status, dict(o.metrics), o.history, o.why) for number, o in outcomes.items()}


def test_jobs_in_this_process(trained: Any, tmp_path: Path) -> None:
    setting = setting_of(trained(), tmp_path)
    jobs = jobs_of(setting, tmp_path)
    outcomes, progress = run(setting, jobs, 1)
    assert [(news.number, news.done, news.total) for news in progress] == [
        (n, e, 3) for n in range(3) for e in (1, 2, 3)
    ]
    for job in jobs:
        outcome = outcomes[job.number]
        assert outcome.status == "done"
        assert outcome.history == tuple(news.metric for news in progress if news.number == job.number)
        assert ("test_accuracy" in outcome.metrics) == job.test
        assert outcome.seconds > 0
        assert set(load_weights(job.weights)) == {name for name, _ in setting.space.close(job.code).weights()}
        assert not job.checkpoint.exists()


def test_a_job_far_behind_its_floors_is_stopped(trained: Any, tmp_path: Path) -> None:
    setting = setting_of(trained(), tmp_path)
    (job, *_) = jobs_of(setting, tmp_path)
    for floors, status, epochs in (((0.0, 1.1), "stopped", 2), ((1.1,), "stopped", 1), ((0.0, 0.0, 0.0), "done", 3)):
        stopped = replace(job, floors=floors)
        outcome = run(setting, [stopped], 1)[0][0]
        assert (outcome.status, len(outcome.history)) == (status, epochs)
        assert ("far behind" in outcome.why) == (status == "stopped")


def test_a_file_that_cannot_be_read_or_written_is_no_fault_of_the_candidate(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    setting = setting_of(trained(), tmp_path)
    jobs = jobs_of(setting, tmp_path)[:1]
    monkeypatch.setattr("chipfit.files.os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "full")))
    with pytest.raises(StorageFull):
        run(setting, jobs, 1)
    monkeypatch.undo()
    setting.given.unlink()
    with pytest.raises(InvalidInput, match="cannot read weights"):
        run(setting, jobs, 1)


def test_weights_are_inherited_from_the_start(trained: Any, tmp_path: Path) -> None:
    setting = setting_of(trained(), tmp_path)
    job = jobs_of(setting, tmp_path)[0]
    kept = replace(job, recipe=Recipe(epochs=0))
    fresh = replace(kept, start=None)
    given = load_weights(setting.given)
    run(setting, [kept], 1)
    assert all(np.array_equal(array, given[name]) for name, array in load_weights(job.weights).items())
    run(setting, [fresh], 1)
    assert not all(np.array_equal(array, given[name]) for name, array in load_weights(job.weights).items())


@pytest.mark.slow
def test_two_processes_give_the_same_as_this_one(trained: Any, tmp_path: Path) -> None:
    setting = setting_of(trained(), tmp_path)
    for count in (1, 2):
        (tmp_path / str(count)).mkdir()
    alone, _ = run(setting, jobs_of(setting, tmp_path / "1"), 1)
    shared, progress = run(setting, jobs_of(setting, tmp_path / "2"), 2)
    assert results(shared) == results(alone)
    assert {news.number for news in progress} == {0, 1, 2}
    for name in ("weights0", "weights1", "weights2"):
        assert (tmp_path / "1" / name).read_bytes() == (tmp_path / "2" / name).read_bytes()


@pytest.mark.slow
def test_a_candidate_that_kills_its_process_fails_alone(tiny: Any, tmp_path: Path) -> None:
    setting = setting_of(tiny(accuracy="tiny_problem:dies_when_fused"), tmp_path)
    codes = ((0, 0, 0, 0), (0, 0, 0, 1), (1, 0, 0, 0), (0, 0, 0, 2), (0, 1, 0, 1))
    outcomes, _ = run(setting, jobs_of(setting, tmp_path, codes), 2)
    assert {number: outcome.status for number, outcome in outcomes.items()} == {
        0: "done", 1: "done", 2: "failed", 3: "done", 4: "failed",
    }  # fmt: skip
    assert "its process died" in outcomes[2].why


@pytest.mark.slow
def test_workers_that_died_while_idle_are_replaced(tiny: Any, tmp_path: Path) -> None:
    setting = setting_of(tiny(), tmp_path)
    jobs = jobs_of(setting, tmp_path)
    with Workers(setting, 2) as workers:
        first = list(workers.run(jobs[:2]))
        pool = workers._pool  # pyright: ignore[reportPrivateUsage]
        assert pool is not None
        for process in list(pool._processes.values()):  # pyright: ignore[reportPrivateUsage]
            os.kill(process.pid or 0, signal.SIGKILL)
            process.join()
        time.sleep(0.5)
        second = list(workers.run(jobs[2:]))
    assert [outcome.status for outcome in [*first, *second] if isinstance(outcome, Outcome)] == ["done"] * 3


WAIT = """
import sys
from pathlib import Path
from chipfit.run.launch import launch
from chipfit.run.study import load_study
if __name__ == "__main__":
    for event in launch(load_study(Path(sys.argv[1])), Path(sys.argv[2])):
        pass
"""


@pytest.mark.slow
def test_no_worker_outlives_a_killed_search(environment: dict[str, str], tmp_path: Path) -> None:
    marks = tmp_path / "marks"
    marks.mkdir()
    study, script = tmp_path / "study.toml", tmp_path / "search.py"
    study.write_text(
        'name = "waits"\nmodel = "tiny_problem:model"\ntarget = "neural-engine"\n'
        'accuracy = "tiny_problem:leaves_a_mark_and_waits"\nspace = {fuse = true}\nworkers = 2\n'
    )
    script.write_text(WAIT)
    process = subprocess.Popen(
        [sys.executable, str(script), str(study), str(tmp_path / "run")], env={**environment, "TINY_MARKS": str(marks)}
    )
    while not (seen := list(marks.iterdir())):
        assert process.poll() is None
        time.sleep(0.05)
    process.kill()
    process.wait()
    deadline = time.monotonic() + 10
    while any(running(int(mark.name)) for mark in seen):
        assert time.monotonic() < deadline
        time.sleep(0.1)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
