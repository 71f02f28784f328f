"""Times of whole networks as users write them down: read with their units, every fault named where it stands."""

import re
from pathlib import Path

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.estimate.estimator import Estimator
from chipfit.estimate.network_times import errors_of, network_times
from chipfit.measure.board_results import UNITS
from chipfit.nets.load import load
from chipfit.nets.onnx.exporter import export_onnx

MODELS = ("resnet8", "ds_cnn", "ibn_classifier-32", "ibn_classifier-0.5-32", "mobilenet_v1-0.25-64", "resnet8-48")


@pytest.fixture(scope="module")
def taken_s(estimator: Estimator) -> dict[str, float]:
    return {name: 3 * float(estimator.costs(load(name)).latency_s[0]) for name in MODELS}


@pytest.fixture
def lines(taken_s: dict[str, float]) -> list[str]:
    return ["model,latency_ms", *(f"{name},{seconds * 1e3!r}" for name, seconds in taken_s.items())]


def read(lines: list[str], folder: Path, estimator: Estimator, *more: str):
    path = folder / "times.csv"
    path.write_text("\n".join([*lines, *more]) + "\n")
    return network_times(path, estimator)


@pytest.mark.parametrize(("column", "unit"), UNITS.items())
def test_every_unit_gives_the_same_seconds(column, unit, taken_s, tmp_path, estimator) -> None:
    found = read([f"model,{column}", *(f"{name},{s / unit!r}" for name, s in taken_s.items())], tmp_path, estimator)
    np.testing.assert_allclose(found.latency_s, list(taken_s.values()), rtol=1e-12)
    assert [model.name for model in found.models] == list(MODELS)
    assert (found.families, found.remarks) == (None, ())
    assert (found.source.kind, found.source.tool) == ("measured", "board")


def test_a_model_lies_beside_the_file_and_columns_say_where_times_are_from(
    taken_s, tmp_path, estimator, monkeypatch
) -> None:
    export_onnx(load("resnet8"), tmp_path / "mine.onnx")
    rows = [f"{name},{s},small,LiteRT,desk,2.1,2026-11-2{place}" for place, (name, s) in enumerate(taken_s.items())]
    rows[0] = rows[0].replace("resnet8", "mine.onnx").replace("small", "")
    monkeypatch.chdir("/")
    found = read(["model,latency_s,family,runtime,device,version,date", *rows], tmp_path, estimator)
    assert found.models[0].graph.digest == load(tmp_path / "mine.onnx").graph.digest
    assert found.families is not None
    assert found.families[1:] == ("small",) * 5
    assert found.families[0] not in ("", "small")
    assert (found.source.tool, found.source.version, found.source.date) == ("LiteRT on desk", "2.1", "2026-11-25")


def test_of_two_times_that_agree_the_fastest_counts(lines, taken_s, tmp_path, estimator) -> None:
    found = read(lines, tmp_path, estimator, f"resnet8,{taken_s['resnet8'] * 1.5e3}")
    np.testing.assert_allclose(found.latency_s, list(taken_s.values()), rtol=1e-12)
    assert "1 models have several lines; the fastest counts: resnet8" in found.remarks[0]


def test_a_time_unlike_all_others_is_believed_when_it_is_given_twice(lines, taken_s, tmp_path, estimator) -> None:
    odd = [line if "resnet8," not in line else f"resnet8,{taken_s['resnet8'] * 20e3}" for line in lines]
    with pytest.raises(InvalidInput, match=r"line 2: resnet8 took 20 times what the other networks make of it"):
        read(odd, tmp_path, estimator)
    found = read(odd, tmp_path, estimator, f"resnet8,{taken_s['resnet8'] * 21e3}")
    assert found.latency_s[0] == pytest.approx(20 * taken_s["resnet8"])


def replaced(old: str, new: str):
    return lambda lines: [line.replace(old, new) for line in lines]


FAULTS = {
    "a model that is not there": (lambda lines: [*lines, "gone.onnx,3"], r"line 8: .*gone.onnx: there is no such file"),
    "a model that is none": (lambda lines: [*lines, "times.csv,3"], r"line 8: .*times.csv: not a form"),
    "a damaged model": (lambda lines: [*lines, "bad.tflite,3"], r"line 8: .*bad.tflite"),
    "too few": (lambda lines: lines[:5], r"4 networks are too few; time at least 5"),
    "none": (lambda lines: lines[:1], r"needs one column of times"),
    "no unit": (replaced("latency_ms", "latency"), r"says its unit, latency_s, latency_ms.*; it has latency$"),
    "no model column": (replaced("model,", "name,"), r"column 'model' is missing; write columns model and latency_ms"),
    "no time": (lambda lines: [*lines[:-1], "resnet8-48,"], r"line 7: latency_ms = '': must be above 0"),
    "zero": (lambda lines: [*lines[:-1], "resnet8-48,0"], r"line 7: latency_ms = '0': must be above 0; time"),
    "negative": (lambda lines: [*lines[:-1], "resnet8-48,-2"], r"line 7: latency_ms = '-2': must be a number"),
    "a word": (lambda lines: [*lines[:-1], "resnet8-48,soon"], r"line 7: latency_ms = 'soon': must be a number"),
    "contradiction": (
        lambda lines: [*lines, "resnet8,9999"],
        r"line 8: resnet8 took [\d.e+]+ times what line 2 says of the same model: time it again",
    ),
    "microseconds called milliseconds": (
        lambda lines: [lines[0], *(f"{name},{float(t) * 1e3}" for name, t in (x.split(",") for x in lines[1:]))],
        r"the median time is 3e\+03 times what neural-engine is estimated to take: is the unit",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_what_cannot_be_right_is_one_line(fault, lines, tmp_path, estimator) -> None:
    (tmp_path / "bad.tflite").write_bytes(b"\x00" * 40)
    change, message = FAULTS[fault]
    with pytest.raises(InvalidInput) as raised:
        read(change(lines), tmp_path, estimator)
    assert len(str(raised.value).splitlines()) == 1
    assert re.search(message, str(raised.value)), str(raised.value)
    assert "times.csv" in str(raised.value)


def test_every_fault_is_told_at_once(lines, tmp_path, estimator) -> None:
    with pytest.raises(InvalidInput) as raised:
        read(lines, tmp_path, estimator, "resnet8,0", "ds_cnn,-1", "resnet8,99999", "gone.onnx,1")
    places = [re.findall(r"line (\d+)", line)[0] for line in str(raised.value).splitlines()]
    assert places == ["8", "9", "10", "11"]


def test_a_file_that_is_not_there_says_what_it_should_hold(tmp_path, estimator) -> None:
    with pytest.raises(InvalidInput, match=r"times.csv: No such file or directory; write columns model"):
        network_times(tmp_path / "times.csv", estimator)


def test_times_of_two_tools_are_refused(taken_s, tmp_path, estimator) -> None:
    rows = [f"{name},{s},{'a' if name < 'n' else 'b'}" for name, s in taken_s.items()]
    with pytest.raises(InvalidInput, match="times of several tools"):
        read(["model,latency_s,runtime", *rows], tmp_path, estimator)


def test_the_error_before_is_that_of_the_estimator(lines, tmp_path, estimator) -> None:
    found = errors_of(estimator, read(lines, tmp_path, estimator))
    assert (found.count, found.median, found.largest) == (6, pytest.approx(2 / 3), pytest.approx(2 / 3))
