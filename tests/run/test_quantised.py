"""Every fully trained network ends as an int8 file that is run on the test split once, within the limits."""

import json
import sys
from collections.abc import Callable, Generator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, cast

import pytest
import torch

from chipfit.cli.runs import as_json
from chipfit.errors import StorageFull, UnsupportedOperator
from chipfit.nets.load import load
from chipfit.nets.tflite.runtime import run_tflite
from chipfit.report.findings import comparison, headline, int8_accuracy
from chipfit.report.page import page
from chipfit.report.tables import comparison_text
from chipfit.run.delivered import INT8, Quantised, read
from chipfit.run.export import export
from chipfit.run.jobs import task_of
from chipfit.run.journal import Journal
from chipfit.run.launch import launch
from chipfit.run.problem import COLUMNS, reopen
from chipfit.run.quantised import delivers_int8, int8_file
from chipfit.run.stages import Event, Stage
from chipfit.run.study import Study
from chipfit.run.summary import Summary, summarise

SMALL = {
    "search": {"trials": 2},
    "limits": {"accuracy_drop": 1.0, "weights": "100 %"},
    "variants": {"V": ["depth_multiplier"]},
}


@pytest.fixture(scope="module")
def done(trained: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory) -> Summary:
    directory = tmp_path_factory.mktemp("run")
    list(launch(trained(**SMALL), directory))
    return summarise(directory)


def with_note(summary: Summary, number: int, **changes: Any) -> Summary:
    """The run as it is when something else was found of one int8 file."""
    with Journal(summary.directory) as journal:
        before = journal.about(INT8) or ""
        noted = json.loads(before)
        noted[str(number)] |= changes
        journal.note(INT8, json.dumps(noted))
    try:
        return summarise(summary.directory)
    finally:
        with Journal(summary.directory) as journal:
            journal.note(INT8, before)


def test_what_is_exported_later_is_the_file_that_was_judged(done: Summary, tmp_path: Path) -> None:
    number = max(done.int8)
    export(done, str(number), "tflite", tmp_path / "model.tflite")
    assert (tmp_path / "model.tflite").read_bytes() == int8_file(done.directory, number).read_bytes()


def test_what_is_told_of_a_file_is_what_the_file_gives(done: Summary) -> None:
    task, problem = task_of(done.study.task), reopen(done)
    ((images, labels),) = task.batches("test", 64)
    finals = [trial for trial in done.trials if trial.stage == "final"]
    assert finals
    assert set(done.int8) == {trial.number for trial in finals}
    for trial in finals:
        found, file = done.int8[trial.number], int8_file(done.directory, trial.number)
        assert found.found is not None
        (given,) = run_tflite(file, images.numpy())
        assert found.found.integer == task.metrics(torch.from_numpy(given), labels)
        assert found.found.real["accuracy"] == trial.metrics["test_accuracy"]
        assert found.file_bytes == file.stat().st_size
        costs = problem.estimator.costs(load(file))
        assert found.costs == {name: float(getattr(costs, column)[0]) for name, column in COLUMNS.items()}
        assert found.broken == ()


def test_a_run_that_was_left_before_its_files_ends_alike(done: Summary, trained: Any, tmp_path: Path) -> None:
    events = cast(Generator[Event], launch(trained(**SMALL), tmp_path))
    next(event for event in events if isinstance(event, Stage) and event.name == "int8")
    next(events)  # the first file is there
    events.close()
    assert len(summarise(tmp_path).int8) == 1
    assert not summarise(tmp_path).finished
    list(launch(trained(**SMALL), tmp_path))
    assert summarise(tmp_path).int8 == done.int8
    # What is known is not done again.
    first = int8_file(tmp_path, min(done.int8))
    first.unlink()
    list(launch(trained(**SMALL), tmp_path))
    assert not first.exists()


def test_processes_of_their_own_find_the_same(
    done: Summary, trained: Any, tmp_path: Path, environment: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", environment["PYTHONPATH"])
    list(launch(trained(**SMALL, workers=2), tmp_path))
    assert summarise(tmp_path).int8 == done.int8


def test_a_network_that_cannot_be_written_says_why_on_its_row(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise UnsupportedOperator("'warp' cannot be said in TFLite; replace it")

    with monkeypatch.context() as patched:
        patched.setattr("chipfit.nets.tflite.exporter.export_tflite", refuse)
        list(launch(trained(**SMALL), tmp_path))
    summary = summarise(tmp_path)
    assert summary.finished
    for line in comparison(summary):
        assert line.notes == ("no int8 file: 'warp' cannot be said in TFLite; replace it",)
        assert (line.int8, line.file) == ("–", "–")
    assert as_json(summary)["rows"][0]["int8"] == {"why": "'warp' cannot be said in TFLite; replace it"}
    # The same command tries again what had failed.
    list(launch(trained(**SMALL), tmp_path))
    assert all(each.ran for each in summarise(tmp_path).int8.values())


def test_a_full_disk_is_no_fault_of_a_network(trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise StorageFull("no space left")

    monkeypatch.setattr("chipfit.nets.tflite.exporter.export_tflite", full)
    with pytest.raises(StorageFull):
        list(launch(trained(**SMALL), tmp_path))
    assert summarise(tmp_path).int8 == {}


def test_files_that_could_not_be_run_are_run_once_litert_is_there(
    trained: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setitem(sys.modules, "ai_edge_litert.interpreter", None)
        list(launch(trained(**SMALL), tmp_path))
    summary = summarise(tmp_path)
    for line in comparison(summary):
        assert any("int8 file not run: running a TFLite file needs LiteRT" in note for note in line.notes)
        assert (line.int8, line.file != "–") == ("–", True)
    assert all(trial is None or int8_accuracy(summary, trial) is None for trial in summary.trials)
    list(launch(trained(**SMALL), tmp_path))
    assert all(each.ran for each in summarise(tmp_path).int8.values())


def test_only_what_runs_in_8_bits_and_chipfit_trained_is_written(tiny: Any, done: Summary, tmp_path: Path) -> None:
    problem = reopen(done)
    assert delivers_int8(problem)
    assert not delivers_int8(replace(problem, estimator=replace(problem.estimator, precision_name="int16x8")))
    list(launch(tiny(**SMALL), tmp_path))
    summary = summarise(tmp_path)
    assert summary.int8 == {}
    assert not int8_file(tmp_path, 0).parent.exists()
    assert "int8" not in comparison_text(summary)
    assert all("int8" not in row for row in as_json(summary)["rows"])


def test_a_file_that_breaks_a_limit_fails_its_row(done: Summary) -> None:
    row = done.rows[1]
    assert row.holds
    assert row.trial is not None
    known = done.int8[row.trial.number]
    costs = {**known.costs, "weights": 2.0 * done.int8[min(done.int8)].costs["weights"]}
    summary = with_note(done, row.trial.number, costs=costs, broken=["weights"])
    (line,) = comparison(summary)[1:]
    assert line.state == "fails"
    assert line.notes[0] == "the network holds all limits, its int8 file does not"
    assert "above the limit" in line.notes[1]
    assert line.notes[1].startswith(f"weights {line.figures['weights'].text} is ")
    assert "No network was found that holds all limits" in headline(summary)


def test_the_accuracy_of_the_file_stands_before_that_of_the_network(done: Summary) -> None:
    baseline, row = (row.trial for row in done.rows)
    assert baseline is not None
    assert row is not None
    found = done.int8[row.number].found
    assert found is not None
    summary = with_note(done, row.number, found=asdict(replace(found, integer={**found.integer, "accuracy": 0.125})))
    line = comparison(summary)[1]
    assert line.int8.startswith("12.5 ± ")
    assert line.brief == f"{100 * row.metrics['test_accuracy']:.1f} %"
    assert line.accuracy.startswith(line.brief.removesuffix(" %"))
    text = " ".join(comparison_text(summary).split())
    assert f"{line.int8} {line.brief}" in text
    assert f"{line.name} {line.file}" in text
    assert "as int8 files, 12.5 ± " in headline(summary)
    shown = page(summary, reopen(summary))
    for title, value in (("int8", line.int8), ("float", line.accuracy), ("file", line.file)):
        assert f'<td data-title="{title}"><span class="figure">{value}</span></td>' in shown
    told = as_json(summary)["rows"][1]["int8"]
    assert told["metrics"]["accuracy"] == {"value": 0.125, "source": "measured"}
    assert told["costs"]["peak_memory"] == {"value": done.int8[row.number].costs["peak_memory"], "source": "counted"}
    assert Path(told["path"]).stat().st_size == told["file_bytes"]["value"]


def test_a_file_far_behind_the_baselines_file_is_remarked(done: Summary) -> None:
    row = done.rows[1].trial
    assert row is not None
    found = done.int8[row.number].found
    assert found is not None
    behind = asdict(replace(found, integer={**found.integer, "accuracy": -0.5}))
    assert not any("below the baseline's" in note for note in comparison(done)[1].notes)
    strict = done.study.model_copy(update={"limits": done.study.limits.model_copy(update={"accuracy_drop": 0.1})})
    summary = replace(with_note(done, row.number, found=behind), study=strict)
    assert any("points below the baseline's on the test split" in note for note in comparison(summary)[1].notes)


def test_notes_are_read_as_they_were_written(done: Summary) -> None:
    noted = {str(number): asdict(each) for number, each in done.int8.items()}
    assert read(json.loads(json.dumps(noted))) == done.int8
    assert read({"3": asdict(Quantised(3, why="because"))}) == {3: Quantised(3, why="because")}
