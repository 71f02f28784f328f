"""chipfit landscape: the JSON that programs rely on, pictures that others can open, the path of a run."""

import io
import json
from pathlib import Path
from xml.etree import ElementTree

import pytest
from PIL import Image
from tests.conftest import Run

from chipfit.run.launch import launch
from chipfit.run.study import Study

STUDY = """
name = "tiny"
model = "resnet8"
target = "neural-engine"
accuracy = "tests.cli.test_landscape:by_name"
[space]
depth_multiplier = [1.0, 0.75, 0.5, 0.25]
"""


def test_the_json_of_a_model_has_its_slowest_layer_with_every_channel_count(chipfit: Run) -> None:
    status, out, err = chipfit("landscape", "resnet8", "--target", "neural-engine", "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert set(found) == {"model", "target", "decisions", "path"}
    (decision,) = found["decisions"]
    assert decision["options"] == list(range(1, decision["options"][-1] + 1))
    assert set(decision["kept"]) < set(decision["options"])
    assert decision["given"] == decision["kept"][0]
    assert decision["latency_s"]["source"] == "predicted"
    assert len(decision["latency_s"]["values"]) == len(decision["macs"]["values"]) == len(decision["options"])
    assert decision["terrain"]["macs"]["concordance"] == 1.0
    assert decision["terrain"]["latency"]["flat"] > 0.5
    assert found["path"] == []


def test_two_decisions_give_a_map_whose_lines_are_theirs(chipfit: Run) -> None:
    names = ("block1.conv1", "block2.conv1")
    options = [part for name in names for part in ("--decision", name)]
    status, out, _ = chipfit("landscape", "resnet8", "-t", "neural-engine", *options, "--json")
    found = json.loads(out)
    assert status == 0
    first, second = found["decisions"]
    values = found["latency_s"]["values"]
    column = second["options"].index(second["given"])
    assert [row[column] for row in values] == first["latency_s"]["values"]
    assert values[first["options"].index(first["given"])] == second["latency_s"]["values"]


@pytest.mark.parametrize("names", [("block1.conv1",), ("block1.conv1", "block2.conv1.width")])
def test_pictures_are_files_that_others_can_open(chipfit: Run, tmp_path: Path, names: tuple[str, ...]) -> None:
    options = [part for name in names for part in ("--decision", name)]
    for ending in ("svg", "png"):
        file = tmp_path / f"picture.{ending}"
        status, out, _ = chipfit("landscape", "resnet8", "-t", "neural-engine", *options, "--out", file)
        assert status == 0
        assert "worth offering: " in out
        assert "picture: " in out
    texts = {element.text for element in ElementTree.parse(tmp_path / "picture.svg").iter() if element.text}
    assert {"latency in ms", "worth offering", "as given", "block1.conv1.width"} <= texts
    with Image.open(io.BytesIO((tmp_path / "picture.png").read_bytes())) as image:
        assert image.size == (1920, 1080)
        assert len(image.convert("RGB").getcolors(1 << 24) or ()) > 50


def test_the_path_of_a_run_is_what_its_trials_took(chipfit: Run, tmp_path: Path) -> None:
    file, run = tmp_path / "study.toml", tmp_path / "run"
    file.write_text(STUDY)
    from chipfit.run.study import load_study

    _run(load_study(file, {}), run)
    status, out, _ = chipfit("landscape", file, "--run", run, "--json", "--out", tmp_path / "path.svg")
    found = json.loads(out)
    assert status == 0
    assert [decision["name"] for decision in found["decisions"]] == ["depth_multiplier"]
    taken = [step["options"]["depth_multiplier"] for step in found["path"]]
    assert taken[0] == 1.0
    assert set(taken) == {1.0, 0.75, 0.5, 0.25}
    assert found["path"][0]["better"]
    texts = {element.text for element in ElementTree.parse(tmp_path / "path.svg").iter()}
    assert "trial" in texts
    file.write_text(STUDY.replace("0.75, ", ""))
    status, _, err = chipfit("landscape", file, "--run", run)
    assert status == 2
    assert "is a run of another study than" in err


def by_name(module: object, budget: object) -> float:
    """Trains nothing; as many weights, as accurate."""
    weights = sum(parameter.numel() for parameter in module.parameters())  # type: ignore[attr-defined]
    return 0.9 - 1000 / weights


def _run(study: Study, directory: Path) -> None:
    for _ in launch(study, directory):
        pass


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("resnet8",), "landscape of a model needs --target"),
        (("resnet8", "-t", "neural-engine", "--decision", "nowhere"), "resnet8 has no width 'nowhere'"),
        (("resnet8", "-t", "neural-engine", "--out", "picture.jpg"), "pictures are written as .svg or .png"),
        (("resnet8", "-t", "neural-engine", "--run", "somewhere"), "give that study (.toml) instead of a model"),
    ],
)
def test_what_cannot_be_used_is_one_line(chipfit: Run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = chipfit("landscape", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1
