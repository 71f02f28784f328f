"""The command line: one JSON object for programs, one clear line and the right exit status for what goes wrong."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from tests.conftest import Run

import chipfit as chipfit_package
from chipfit.measure.vela import installed
from chipfit.nets.onnx.exporter import export_onnx
from chipfit.nets.zoo import from_zoo

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def resnet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "resnet.onnx"
    export_onnx(from_zoo("resnet8"), path)
    return path


def test_help_names_every_command(chipfit: Run) -> None:
    status, out, _ = chipfit("--help")
    assert status == 0
    for command in ("targets", "estimate", "space", "search", "report", "export", "profile", "fit"):
        assert f" {command} " in out


def test_targets_as_json_are_the_descriptions(chipfit: Run) -> None:
    status, out, _ = chipfit("targets", "--json")
    names = {target["name"]: target for target in json.loads(out)["targets"]}
    assert status == 0
    assert len(names) >= 4
    assert names["neural-engine"]["clock_hz"] > 0


def test_every_figure_of_an_estimate_says_where_it_is_from(chipfit: Run, resnet: Path) -> None:
    status, out, _ = chipfit("estimate", resnet, "--target", "neural-engine", "--json")
    found = json.loads(out)
    assert status == 0
    for name in ("latency_s", "energy_j", "macs", "parameters", "weight_bytes", "peak_activation_bytes"):
        assert found[name]["value"] > 0
        assert found[name]["source"] in ("predicted", "modelled", "counted")
    assert "simulator" in found["latency_s"]["detail"]
    peak = found["peak_activation_bytes"]
    assert peak["fits_on_chip"] == (peak["value"] <= peak["on_chip_bytes"])
    assert peak["tensors"]
    layers = found["subgraphs"]
    assert sum(layer["latency_s"]["value"] for layer in layers) == pytest.approx(found["latency_s"]["value"])
    assert sum(layer["share"] for layer in layers) == pytest.approx(1.0)


def test_a_model_and_its_onnx_file_cost_the_same(chipfit: Run, resnet: Path) -> None:
    figures = [
        json.loads(chipfit("estimate", model, "--target", "neural-engine", "--json")[1])
        for model in ("resnet8", resnet)
    ]
    for name in ("latency_s", "energy_j", "macs", "weight_bytes", "peak_activation_bytes"):
        assert figures[0][name]["value"] == figures[1][name]["value"]


def test_tables_fit_a_hundred_columns(chipfit: Run) -> None:
    for arguments in (
        ("targets",),
        ("estimate", "mobilenet_v2-0.35-96", "--target", "neural-engine", "--per-layer"),
        ("space", EXAMPLES / "presence.toml"),
    ):
        status, out, _ = chipfit(*arguments)
        assert status == 0
        assert max(len(line) for line in out.splitlines()) <= 100


def test_an_estimate_for_a_real_chip_needs_no_compiler(
    chipfit: Run, resnet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chipfit.measure.vela.installed", lambda: None)
    status, out, _ = chipfit("estimate", resnet, "--target", "ethos-u55-256", "--json")
    assert status == 0
    found = json.loads(out)
    assert "ethos-u-vela 5.2.0" in found["latency_s"]["detail"]
    assert found["latency_s"]["spread"] > 0
    status, _, err = chipfit("estimate", resnet, "--target", "ethos-u55-256", "--check")
    assert status == 2
    assert "pip install 'chipfit[ethos-u]'" in " ".join(err.split())


def test_another_version_of_the_compiler_is_told_beside_every_figure(
    chipfit: Run, resnet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chipfit.estimate.check.installed", lambda: "9.9.0")
    found = json.loads(chipfit("estimate", resnet, "--target", "ethos-u55-256", "--json")[1])
    assert all("installed is 9.9.0" in found[name]["detail"] for name in ("latency_s", "energy_j", "cycles"))
    assert "installed is 9.9.0" in " ".join(chipfit("estimate", resnet, "--target", "ethos-u55-256")[1].split())
    assert "9.9.0" not in chipfit("estimate", resnet, "--target", "neural-engine", "--json")[1]


@pytest.mark.skipif(installed() is None, reason="ethos-u-vela is not installed")
def test_a_check_stands_beside_the_estimate_and_agrees(chipfit: Run, resnet: Path) -> None:
    status, out, _ = chipfit("estimate", resnet, "--target", "ethos-u55-256", "--check", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["check"]["latency_s"]["source"] == "simulated"
    assert found["latency_s"]["value"] == pytest.approx(found["check"]["latency_s"]["value"], rel=0.1)
    assert found["check"]["elsewhere"] == []


def test_weights_count_as_they_are_where_a_chip_compresses_them(chipfit: Run, tmp_path: Path) -> None:
    network = from_zoo("resnet8")
    zeros = {
        name: weight * (np.arange(weight.size).reshape(weight.shape) % 5 == 0)
        for name, weight in network.weights.items()
    }
    sizes: list[float] = []
    for name, weights in (("full", network.weights), ("sparse", zeros)):
        export_onnx(type(network)(name, network.graph, weights), tmp_path / f"{name}.onnx")
        _, out, _ = chipfit("estimate", tmp_path / f"{name}.onnx", "--target", "ethos-u55-256", "--json")
        sizes.append(json.loads(out)["weight_bytes"]["value"])
    assert sizes[1] < 0.7 * sizes[0]


def test_targets_show_says_what_measurements_reveal(chipfit: Run) -> None:
    status, out, _ = chipfit("targets", "show", "ethos-u55-256", "--json")
    assert status == 0
    found = {(item["operator"], item["axis"]): item["channels"] for item in json.loads(out)["parallelism"]}
    assert found["3x3 convolution", "output channels"] == 8
    assert found["addition", "channels"] == 16
    assert all(len(line) <= 100 for line in chipfit("targets", "show", "neural-engine")[1].splitlines())
    assert chipfit("targets", "tell", "neural-engine")[0] == 2


def test_space_says_what_can_be_met(chipfit: Run) -> None:
    status, out, _ = chipfit("space", EXAMPLES / "presence.toml", "--limit", "latency=80%", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["feasible"]
    assert 0 < found["limits"]["latency"]["share"] < 1
    ranges = found["costs"]["latency"]
    assert ranges["minimum"] <= ranges["median"] <= ranges["maximum"]


def test_space_says_what_matters_and_what_the_search_will_take(chipfit: Run) -> None:
    study = EXAMPLES / "presence.toml"
    status, out, _ = chipfit("space", study, "--json")
    found = json.loads(out)
    assert status == 0
    names = [item["name"] for item in found["decisions"]]
    for cost, influence in found["influence"].items():
        assert influence["source"] == "exact"  # 2,560 networks are all evaluated
        assert list(influence["of"]) == names
        assert 0.5 < sum(influence["of"].values()) <= 1 + 1e-9, cost
    assert max(found["influence"]["latency"]["of"], key=found["influence"]["latency"]["of"].get) == "depth_multiplier"
    assert found["search"]["energy_j"]["value"] > found["search"]["energy_j"]["spread"] > 0
    assert found["search"]["energy_j"]["source"] == "modelled"
    text = chipfit("space", study)[1]
    assert "what matters" in text
    assert "planned search: 15 to 24 trainings" in text


def test_space_of_a_curated_study_has_its_size_before_and_after(chipfit: Run, tmp_path: Path) -> None:
    study = tmp_path / "study.toml"
    text = (EXAMPLES / "presence.toml").read_text()
    widths = "width = {factors = [1.0, 0.95, 0.9, 0.85, 0.8, 0.7, 0.6, 0.5], divisor = 1}\ncurate = true"
    study.write_text(text.replace("fuse = true", f"fuse = true\n{widths}"))
    status, out, _ = chipfit("space", study, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["offered"] < found["networks"] / 1e3
    assert found["curation"]
    assert all(set(item["offered"]) <= set(item["options"]) for item in found["decisions"])
    lines = chipfit("space", study)[1].splitlines()
    assert any("decisions" in line and "networks; curated to" in line for line in lines)
    assert max(map(len, lines)) <= 100


def test_a_limit_that_cannot_be_met_is_exit_one_with_the_nearest_point(chipfit: Run, tmp_path: Path) -> None:
    study = EXAMPLES / "presence.toml"
    for arguments in (("space", study), ("search", study, "--out", tmp_path / "r")):
        status, _, err = chipfit(*arguments, "--limit", "latency=1us")
        assert status == 1
        assert "no network in this space meets latency ≤ 1 µs" in err
        assert "nearest" in err
    assert not (tmp_path / "r").exists()


def _bad_lines(tmp_path: Path) -> dict[str, tuple[tuple[object, ...], str]]:
    garbage, empty = tmp_path / "garbage.onnx", tmp_path / "empty"
    garbage.write_bytes(b"\x08\x07\x12not an onnx file")
    empty.mkdir()
    chip = tmp_path / "chip.toml"
    shipped = (Path(chipfit_package.__file__).parent / "targets" / "neural-engine.toml").read_text()
    chip.write_text(re.sub("clock_hz = .*", "clock_hz = -1", shipped))
    study = (EXAMPLES / "presence.toml").read_text()
    (tmp_path / "unknown.toml").write_text(study.replace("[search]", "[search]\ntrails = 3"))
    (tmp_path / "broken.toml").write_text("name = [")
    target = ("--target", "neural-engine")
    return {
        "missing file": (("estimate", tmp_path / "none.onnx", *target), "no such file"),
        "damaged file": (("estimate", garbage, *target), "not a readable ONNX file"),
        "unknown zoo name": (("estimate", "mobilnet_v2", *target), "mobilenet_v2"),
        "unknown target": (("estimate", "resnet8", "--target", "neural"), "neural-engine"),
        "bad target": (("estimate", "resnet8", "--target", chip), "clock_hz"),
        "unknown key": (("space", tmp_path / "unknown.toml"), "trails"),
        "not TOML": (("search", tmp_path / "broken.toml"), "TOML"),
        "missing study": (("search", tmp_path / "none.toml"), "none.toml"),
        "bad limit": (("space", EXAMPLES / "presence.toml", "--limit", "latency"), "COST=BOUND"),
        "bad unit": (("space", EXAMPLES / "presence.toml", "--limit", "latency=3kg"), "3kg"),
        "empty folder": (
            ("search", EXAMPLES / "presence.toml", "--data", f"folder:{empty}", "--out", tmp_path / "r"),
            "empty",
        ),
        "no run": (("report", empty), "not a run directory"),
        "no table": (("fit", tmp_path / "none.csv", *target, "--out", tmp_path / "e.json"), "none.csv"),
        "bad shape": (("estimate", "resnet8", *target, "--shape", "1,x"), "1,x"),
    }


@pytest.mark.parametrize(
    "case",
    [
        "missing file", "damaged file", "unknown zoo name", "unknown target", "bad target", "unknown key", "not TOML",
        "missing study", "bad limit", "bad unit", "empty folder", "no run", "no table", "bad shape",
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_exit_two(chipfit: Run, tmp_path: Path, case: str) -> None:
    arguments, named = _bad_lines(tmp_path)[case]
    status, out, err = chipfit(*arguments)
    assert status == 2
    assert out == ""
    lines = [line for line in err.splitlines() if line.startswith("chipfit: ")]
    assert len(lines) == 1
    assert named in lines[0]
    assert "Traceback" not in err
    assert not (tmp_path / "r" / "journal.sqlite").exists()


def test_profile_and_fit_make_an_estimator_that_estimate_uses(chipfit: Run, tmp_path: Path) -> None:
    table, estimator = tmp_path / "table.csv", tmp_path / "estimator.json"
    assert chipfit("profile", "neural-engine", "--out", table, "--count", 1500)[0] == 0
    status, out, _ = chipfit("fit", table, "--target", "neural-engine", "--out", estimator, "--json")
    assert status == 0
    assert json.loads(out)["target"] == "neural-engine"
    values = []
    for more in ((), ("--estimator", estimator)):
        status, out, _ = chipfit("estimate", "resnet8", "--target", "neural-engine", "--json", *more)
        assert status == 0
        values.append(json.loads(out)["latency_s"]["value"])
    assert values[0] != values[1]
    assert np.isclose(values[0], values[1], rtol=0.05)
    status, _, err = chipfit("estimate", "resnet8", "--target", "neural-engine-small", "--estimator", estimator)
    assert status == 2
    assert "neural-engine-small" in err
