"""chipfit calibrate: from times of whole networks to an estimator, with what it was off before and is now."""

import json
from pathlib import Path

import pytest
from tests.conftest import Run

from chipfit.estimate.store import default_estimator, load_estimator
from chipfit.nets.load import load
from chipfit.targets import load_target

MODELS = (
    "resnet8", "resnet8-48", "ds_cnn", "ibn_classifier-32", "ibn_classifier-64", "mobilenet_v1-0.25-64",
    "mobilenet_v1-0.25-96", "mobilenet_v2-0.35-96",
)  # fmt: skip


@pytest.fixture(scope="module")
def times(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A board that takes four times as long as the neural engine is estimated to,."""
    estimator = default_estimator(load_target("neural-engine"))
    path = tmp_path_factory.mktemp("times") / "times.csv"
    taken_ms = {name: 4e3 * float(estimator.costs(load(name)).latency_s[0]) for name in MODELS}
    rows = [f"{name},{ms!r},{name.split('-')[0]},LiteRT,desk,2.1,2026-11-25" for name, ms in taken_ms.items()]
    path.write_text("\n".join(["model,latency_ms,family,runtime,device,version,date", *rows]) + "\n")
    return path


def test_times_make_an_estimator_that_estimate_uses(chipfit: Run, times: Path, tmp_path: Path) -> None:
    out = tmp_path / "board.json"
    status, text, err = chipfit("calibrate", times, "--target", "neural-engine", "--out", out)
    assert status == 0, err
    flat = " ".join(text.split())
    assert "as it was 8 75.0 % 75.0 %" in flat
    assert "calibrated, left out in turn in 5 groups 8" in flat
    assert max(map(len, text.splitlines())) <= 100
    usual, own = (
        json.loads(chipfit("estimate", "resnet8", "--target", "neural-engine", "--json", *more)[1])["latency_s"]
        for more in ((), ("--estimator", out))
    )
    assert own["value"] == pytest.approx(4 * usual["value"], rel=0.02)
    assert "calibrated with whole networks (measured with LiteRT on desk 2.1 on 2026-11-25)" in own["detail"]
    table = chipfit("estimate", "resnet8", "--target", "neural-engine", "--estimator", out)[1]
    assert "calibrated on 8 whole networks measured with LiteRT on desk 2.1 on 2026-11-25" in " ".join(table.split())


def test_json_has_the_error_before_beside_the_one_on_families_left_out(
    chipfit: Run, times: Path, tmp_path: Path
) -> None:
    out = tmp_path / "board.json"
    status, text, _ = chipfit("calibrate", times, "-t", "neural-engine", "--out", out, "--json")
    found = json.loads(text)
    assert status == 0
    assert found["before"]["median"] == pytest.approx(0.75)
    assert (found["calibration"]["networks"], found["calibration"]["families"]) == (8, 5)
    assert found["calibration"]["median_error"] < 0.01
    calibration = load_estimator(out).calibration
    assert calibration is not None
    assert found["calibration"]["factors"] == list(calibration.factors)


def test_an_estimator_is_calibrated_once(chipfit: Run, times: Path, tmp_path: Path) -> None:
    out = tmp_path / "board.json"
    arguments = ("calibrate", times, "-t", "neural-engine", "--out")
    assert chipfit(*arguments, out)[0] == 0
    status, shown, err = chipfit(*arguments, tmp_path / "twice.json", "--estimator", out)
    assert (status, shown, len(err.splitlines())) == (2, "", 1)
    assert "calibrated already" in err
    assert not (tmp_path / "twice.json").exists()


def test_a_fault_writes_nothing(chipfit: Run, times: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.csv"
    bad.write_text(times.read_text().replace("latency_ms", "latency"))
    status, out, err = chipfit("calibrate", bad, "-t", "neural-engine", "--out", tmp_path / "board.json")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert "bad.csv: needs one column of times that says its unit" in err
    assert not (tmp_path / "board.json").exists()
