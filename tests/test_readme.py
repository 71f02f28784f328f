"""What the README shows is run, with a small study in place of the main job where that trains."""

import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from chipfit.nets.onnx.exporter import export_onnx
from chipfit.nets.zoo import from_zoo

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")

SMALL = """
name = "detection"
model = "ibn_detector-0.35-64"
classes = 1
target = "neural-engine"
task = {data = "rooms-boxes", size = 64, train = 64, validation = 32, test = 32}
space = {fuse = true, depth_multiplier = [1.0, 0.75, 0.5]}
search = {trials = 2, epochs = 1}
limits = {accuracy_drop = 0.5}
training = {baseline_epochs = 1, final_epochs = 1, batch_size = 16}
[variants]
"V1 depth multiplier" = ["depth_multiplier"]
"V2 fusion" = ["fuse"]
"V3 both" = ["depth_multiplier", "fuse"]
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def commands() -> list[str]:
    return [line for block in blocks("console") for line in block.splitlines() if line.startswith("chipfit ")]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the files that the README speaks of."""
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    (tmp_path / "examples" / "detection.toml").write_text(SMALL)
    export_onnx(from_zoo("resnet8"), tmp_path / "your_model.onnx")
    chip = (ROOT / "src" / "chipfit" / "targets" / "neural-engine.toml").read_text()
    (tmp_path / "your_chip.toml").write_text(chip)
    return tmp_path


def run(place: Path, arguments: list[str]) -> None:
    done = subprocess.run(arguments, cwd=place, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, f"{arguments}: {done.stderr[-2000:]}"


def test_the_first_python_example_runs(place: Path) -> None:
    run(place, [sys.executable, "-c", blocks("python")[0]])


def test_make_targets_of_the_readme_exist() -> None:
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    for name in re.findall(r"make (\w+)", README):
        assert re.search(rf"^{name}:", makefile, flags=re.MULTILINE), name


def test_files_that_the_readme_links_exist() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert (ROOT / target).exists(), target


@pytest.mark.slow
def test_every_command_line_runs(place: Path) -> None:
    assert len(commands()) >= 9
    for line in commands():
        run(place, [sys.executable, "-m", "chipfit.cli.main", *shlex.split(line)[1:]])
    assert (place / "runs" / "detection" / "report.html").exists()


@pytest.mark.slow
def test_the_study_example_runs(place: Path) -> None:
    script = place / "example.py"
    body = blocks("python")[1].replace("\n", "\n    ")
    script.write_text(f"import chipfit\n\nif __name__ == '__main__':\n    {body}\n")
    run(place, [sys.executable, str(script)])
    assert (place / "faster.onnx").exists()


@pytest.mark.slow
def test_the_example_of_an_own_training_runs(place: Path) -> None:
    own = [sys.executable, "-m", "chipfit.cli.main", "search", "own_training.toml", "--json"]
    run(place / "examples", own)
