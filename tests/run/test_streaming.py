"""On a stream: a step costs no less than its share of the whole, and waiting follows from how far a network looks."""

from html import escape
from pathlib import Path
from typing import Any

import pytest
import tiny_tasks

from chipfit.cli.runs import as_json
from chipfit.estimate.store import default_estimator
from chipfit.graph.graph import Graph
from chipfit.nets.streaming import stream_of
from chipfit.nets.zoo import conv_ctc, ibn_classifier
from chipfit.report.page import page
from chipfit.report.streams import stream_lines, stream_table
from chipfit.report.tables import text
from chipfit.run.delivered import Streamed
from chipfit.run.launch import launch
from chipfit.run.problem import reopen
from chipfit.run.streaming import streamed
from chipfit.run.summary import Summary, summarise
from chipfit.targets import load_target


def recogniser(frames: int = 512) -> Graph:
    return conv_ctc(frames=frames, width=0.5)


def test_a_step_costs_no_less_than_its_share_and_less_than_the_whole_window() -> None:
    estimator = default_estimator(load_target("neural-engine"))
    graph = recogniser()
    found, stream = streamed(graph, estimator, hop_s=0.010, window_s=0.025), stream_of(graph)
    assert found is not None
    assert stream is not None
    outputs = int(graph.shapes[graph.outputs[0]][2])  # type: ignore[arg-type]
    whole = float(estimator.costs(graph).latency_s[0])
    assert whole / outputs < found.compute_s < found.anew_s < whole
    assert found.step_s == pytest.approx(0.010 * stream.step)
    assert found.wait_s == pytest.approx(0.010 * stream.ahead + 0.025)
    assert found.end_to_end_s == found.wait_s + found.compute_s
    assert found.load == found.compute_s / found.step_s
    # How long the sounds are on which it was trained makes no difference.
    assert streamed(recogniser(128), estimator, 0.010, 0.025) == found
    assert streamed(ibn_classifier(), estimator, 0.010, 0.025) is None


@pytest.fixture(scope="module")
def done(tiny: Any, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    directory = tmp_path_factory.mktemp("run")
    study = tiny(
        model="tiny_tasks:recogniser", task={"data": "tiny_tasks:speech"}, accuracy=None,
        limits={"accuracy_drop": 1.0}, variants={"V": ["depth_multiplier"]},
        search={"trials": 1, "batch": 1, "finalists": 1, "slack": 1.0},
        training={"baseline_epochs": 0, "final_epochs": 0, "batch_size": 4},
    )  # fmt: skip
    list(launch(study, directory))
    return summarise(directory)


def test_every_row_of_speech_is_told_on_a_stream(done: Summary) -> None:
    problem, features = reopen(done), tiny_tasks.FEATURES
    lines = stream_lines(done)
    assert [line.name for line in lines] == ["baseline", "V"]
    shown = text(stream_table(done))  # type: ignore[arg-type]
    content = page(done, problem)
    assert "On a stream: an output every 40 ms of sound" in shown
    assert "On a stream: an output every 40 ms of sound" in content
    for row, line, told in zip(done.rows, lines, as_json(done)["rows"], strict=True):
        assert row.trial is not None
        graph = problem.space.close(row.trial.code)
        wanted = streamed(graph, problem.estimator, features.hop_s, features.window_s)
        assert done.streamed[row.trial.number] == wanted
        assert wanted is not None
        assert told["streaming"]["compute_s"] == {"value": wanted.compute_s, "source": "predicted"}
        assert all(escape(cell) in content and cell in shown for cell in line.cells)


def test_other_tasks_have_no_stream(trained: Any, tmp_path: Path) -> None:
    list(launch(trained(search={"trials": 1}, variants={"V": ["fuse"]}, training={"baseline_epochs": 0}), tmp_path))
    summary = summarise(tmp_path)
    assert summary.streamed == {}
    assert stream_table(summary) is None
    assert all("streaming" not in row for row in as_json(summary)["rows"])


def test_more_time_than_there_is_shows() -> None:
    assert Streamed(step_s=0.04, compute_s=0.05, anew_s=1.0, wait_s=0.3).load == pytest.approx(1.25)
