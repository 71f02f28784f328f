"""A study with an estimator of the user's own: it predicts, is named beside the figures, and belongs to the run."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.conftest import Run

from chipfit.errors import InvalidInput, JournalMismatch
from chipfit.estimate.calibrate import calibrate
from chipfit.estimate.fit import fit_measured, measure_samples
from chipfit.estimate.random_networks import random_networks
from chipfit.estimate.store import default_estimator, estimator_digest, estimator_for, load_estimator, save_estimator
from chipfit.measure.measurement import Source
from chipfit.measure.simulator import simulated
from chipfit.run.launch import launch
from chipfit.run.problem import prepare
from chipfit.run.summary import summarise
from chipfit.targets import load_target

DESK = Source("measured", "stopwatch on desk", "1.0", "2026-11-25")

STUDY = """
name = "own"
model = "tiny_problem:model"
target = "neural-engine"
accuracy = "tiny_problem:by_size"
workers = 1
device = "cpu"
estimator = "board.json"
[space]
fuse = true
depth_multiplier = [1.0, 0.5]
[search]
trials = 3
batch = 2
epochs = 1
finalists = 1
[training]
baseline_epochs = 1
final_epochs = 1
[limits]
accuracy_drop = 0.2
"""


@pytest.fixture(scope="module")
def fitted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An estimator from few subgraphs of the simulated chip, calibrated as if a board took twice as long."""
    chip = load_target("neural-engine")
    estimator = fit_measured(chip, measure_samples(chip, simulated(chip), 150))
    graphs = random_networks(8, np.random.default_rng(1))
    taken = np.array([2 * float(estimator.costs(graph).latency_s[0]) for graph in graphs])
    path = tmp_path_factory.mktemp("estimators") / "board.json"
    save_estimator(path, calibrate(estimator, graphs, taken, DESK))
    return path


@pytest.fixture
def study(tmp_path: Path, fitted: Path) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(STUDY)
    shutil.copy(fitted, tmp_path / "board.json")
    return path


def test_search_resume_report_and_export_use_the_file(chipfit: Run, study: Path, fitted: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    status, first, err = chipfit("search", study, "--out", out, "--json")
    assert status == 0, err
    found = json.loads(first)
    problem = prepare(summarise(out).study)
    own = load_estimator(fitted)
    for trial in found["trials"]:
        latency = trial["costs"]["latency"]
        graph = problem.space.close(tuple(trial["code"]))
        assert latency["value"] == pytest.approx(float(own.costs(graph).latency_s[0]), rel=1e-9)
        assert "stopwatch on desk 1.0 on 2026-11-25" in latency["detail"]
    assert chipfit("search", study, "--out", out, "--json")[1] == first
    status, text, _ = chipfit("report", out)
    assert (status, "calibrated on 8 whole networks measured with stopwatch on desk" in " ".join(text.split())) == (
        0,
        True,
    )
    status, exported, _ = chipfit("export", out, "--trial", "baseline", "--json")
    assert status == 0
    latency = json.loads(exported)["costs"]["latency"]
    assert latency["value"] == found["trials"][0]["costs"]["latency"]["value"]
    assert "stopwatch on desk" in latency["detail"]


def test_the_option_is_the_key_and_space_takes_it_too(chipfit: Run, study: Path, fitted: Path) -> None:
    by_key = json.loads(chipfit("space", study, "--json")[1])
    study.write_text(STUDY.replace('estimator = "board.json"\n', ""))
    without = json.loads(chipfit("space", study, "--json")[1])
    by_option = json.loads(chipfit("space", study, "--estimator", fitted, "--json")[1])
    assert by_option["costs"] == by_key["costs"] != without["costs"]
    of_model = ("space", "ds_cnn", "--target", "neural-engine", "--json")
    usual, own = (json.loads(chipfit(*of_model, *more)[1]) for more in ((), ("--estimator", fitted)))
    assert own["costs"]["latency"]["baseline"] != usual["costs"]["latency"]["baseline"]
    assert own["costs"]["macs"] == usual["costs"]["macs"]
    assert "stopwatch on desk" in own["estimator"]


def test_another_estimator_does_not_take_up_a_run(study: Path, tmp_path: Path, chipfit: Run) -> None:
    status, _, err = chipfit("search", study, "--out", tmp_path / "run", "--json")
    assert status == 0, err
    other = load_estimator(tmp_path / "board.json")
    assert other.calibration is not None
    save_estimator(tmp_path / "board.json", default_estimator(other.target))
    for command in (("search", study, "--out"), ("report",), ("export", "--trial", "baseline")):
        status, out, err = chipfit(*command, tmp_path / "run")
        assert (status, out, len(err.strip().splitlines()[-1:])) == (2, "", 1)
        assert "estimator" in err.splitlines()[-1]


def test_a_run_without_a_file_is_not_taken_up_with_one(tiny: Any, fitted: Path, tmp_path: Path) -> None:
    list(launch(tiny(), tmp_path / "run"))
    with pytest.raises(JournalMismatch, match="estimator"):
        list(launch(tiny(estimator=str(fitted)), tmp_path / "run"))


@pytest.mark.parametrize(
    ("target", "precision", "message"),
    [("neural-engine-small", None, "fitted for neural-engine, not for"), ("neural-engine", "int16", "predicts int8")],
)
def test_a_file_of_another_chip_is_refused(fitted: Path, target: str, precision: str | None, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        estimator_for(load_target(target), precision, fitted)


def test_a_file_that_is_not_there_is_one_line(chipfit: Run, study: Path, tmp_path: Path) -> None:
    (tmp_path / "board.json").unlink()
    status, out, err = chipfit("search", study, "--out", tmp_path / "run")
    assert (status, out) == (2, "")
    assert "board.json: cannot be read" in err.splitlines()[-1]
    assert not (tmp_path / "run").exists()


def test_a_digest_is_the_same_after_saving_and_another_for_what_predicts_otherwise(
    fitted: Path, tmp_path: Path
) -> None:
    own = load_estimator(fitted)
    save_estimator(tmp_path / "again.json", own)
    assert estimator_digest(load_estimator(tmp_path / "again.json")) == estimator_digest(own)
    assert estimator_digest(default_estimator(own.target)) != estimator_digest(own)
