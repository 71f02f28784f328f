"""What networks make of test examples is kept with the run: the first that hold something, as the task reads them."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_problem
import torch

from chipfit.nets.module import GraphModule
from chipfit.nets.network import load_weights
from chipfit.nets.tflite.runtime import run_tflite
from chipfit.run.examples import FILE, keep_examples, read_examples
from chipfit.run.jobs import task_of
from chipfit.run.journal import Journal
from chipfit.run.launch import launch
from chipfit.run.problem import reopen
from chipfit.run.quantised import int8_file
from chipfit.run.summary import Summary, summarise

SMALL = {"search": {"trials": 1}, "limits": {"accuracy_drop": 1.0}, "variants": {"V": ["depth_multiplier"]}}


@pytest.fixture(scope="module")
def done(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    directory = tmp_path_factory.mktemp("run")
    list(launch(trained(**SMALL), directory))
    return summarise(directory)


def test_what_is_kept_is_what_the_files_give(done: Summary) -> None:
    found, task = read_examples(done.directory), tiny_problem.task()
    assert found is not None
    finals = [trial for trial in done.trials if trial.stage == "final"]
    assert found.int8 == tuple(trial.number for trial in finals)
    assert [each.index for each in found.examples] == list(range(6))
    ((images, labels),) = task.batches("test", 64)
    for trial in finals:
        (scores,) = run_tflite(int8_file(done.directory, trial.number), images.numpy())
        for each in found.examples:
            assert each.found[trial.number].text == task.classes[scores[each.index].argmax()]
            assert each.truth.text == task.classes[labels[each.index]]
            assert each.image is not None
            np.testing.assert_array_equal(each.image, task.images["test"][each.index])


def test_where_no_file_runs_the_networks_are_asked(
    done: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    problem, finals = reopen(done), [trial for trial in done.trials if trial.stage == "final"]
    monkeypatch.setattr("chipfit.run.examples.known_files", lambda _: {})
    before = (done.directory / FILE).read_bytes()
    with Journal(done.directory) as journal:
        keep_examples(problem, journal, task_of(done.study.task), finals)
        found = read_examples(done.directory)
    (done.directory / FILE).write_bytes(before)
    assert found is not None
    assert found.int8 == ()
    task = task_of(done.study.task)
    ((images, _),) = task.batches("test", 64)
    for trial in finals:
        weights = load_weights(done.directory / "weights" / Journal.weights_name(trial.number))
        with torch.no_grad():
            scores = GraphModule(problem.space.close(trial.code), weights).eval()(images)
        for each in found.examples:
            assert each.found[trial.number].text == task.classes[scores[each.index].argmax()]


def test_a_run_taken_up_again_keeps_the_same(done: Summary, trained: Any) -> None:
    before = (done.directory / FILE).read_bytes()
    list(launch(trained(**SMALL), done.directory))
    assert (done.directory / FILE).read_bytes() == before
    (done.directory / FILE).unlink()
    list(launch(trained(**SMALL), done.directory))
    assert (done.directory / FILE).read_bytes() == before


def test_a_training_of_the_users_own_shows_nothing(tiny: Any, tmp_path: Path) -> None:
    list(launch(tiny(**SMALL), tmp_path))
    assert read_examples(tmp_path) is None
