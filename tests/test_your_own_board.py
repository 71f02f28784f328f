"""docs/your-own-board.md is followed from start to end, with a small plan."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[1] / "docs" / "your-own-board.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_page_is_short_and_complete() -> None:
    assert len(PAGE.splitlines()) <= 200
    assert [shlex.split(line)[1] for line in "".join(blocks("console")).splitlines()] == [
        "profile", "jobs/runner.py", "profile", "fit", "estimate", "calibrate", "estimate",
    ]  # fmt: skip


def whole_networks() -> list[list[str]]:
    """The commands of the part on whole networks, without the program."""
    lines = "".join(blocks("console")).splitlines()
    first = next(place for place, line in enumerate(lines) if line.startswith("chipfit calibrate"))
    return [shlex.split(line)[1:] for line in lines[first:]]


@pytest.mark.slow
def test_times_of_whole_networks_are_enough(tmp_path: Path) -> None:
    (tmp_path / "my-sketch.toml").write_text(blocks("toml")[1])
    (tmp_path / "times.csv").write_text(blocks("csv")[0])
    shown: list[str] = []
    for arguments in whole_networks():
        command = [sys.executable, "-m", "chipfit.cli.main", *arguments, "--json"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, f"{arguments}: {done.stderr[-2000:]}"
        shown.append(done.stdout)
    calibrated, estimate = map(json.loads, shown)
    assert calibrated["calibration"]["families"] == 6
    assert calibrated["calibration"]["median_error"] < calibrated["before"]["median"] / 2
    assert estimate["latency_s"]["value"] == pytest.approx(0.3175e-3, rel=0.4)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("latency_ms", "latency", 0),
        ("resnet8-64,0.3224", "resnet8-64,0", 1),
        ("END", "ibn_classifier-64,1.57,ibn_classifier", 2),
    ],
)
def test_the_faults_of_the_page_are_told_as_it_says(tmp_path: Path, old: str, new: str, told: int) -> None:
    text = f"{blocks('csv')[0]}END"
    (tmp_path / "times.csv").write_text(text.replace(old, new).replace("END", ""))
    command = ["calibrate", "times.csv", "--target", "neural-engine", "--out", "board.json"]
    done = subprocess.run(
        [sys.executable, "-m", "chipfit.cli.main", *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    page = " ".join(PAGE.split())
    faults = re.findall(r"chipfit: times\.csv.*?(?= chipfit: | ```)", page)
    assert (done.returncode, done.stdout) == (2, "")
    assert " ".join(done.stderr.split()) == faults[told]


@pytest.mark.slow
def test_every_command_of_the_page_runs_in_order(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "my-board.toml").write_text(blocks("toml")[0])
    lines = "".join(blocks("console")).splitlines()
    for line in lines[: len(lines) - len(whole_networks())]:
        program, *arguments = shlex.split(line)
        if "--import" in arguments:
            confirm(tmp_path, arguments)
        elif "--plan" in arguments:
            arguments += ["--count", "120"]
        command = [sys.executable, *(["-m", "chipfit.cli.main"] if program == "chipfit" else []), *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=600, check=False)
        assert done.returncode == 0, f"{line}: {done.stderr[-2000:]}"
    assert (tmp_path / "my-board.json").is_file()


def confirm(place: Path, arguments: list[str]) -> None:
    """As the page says: what is called odd is timed once more, and then believed."""
    command = [sys.executable, "-m", "chipfit.cli.main", *arguments]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=600, check=False)
    if odd := re.findall(r"--again (\S+)", done.stderr):
        again = [sys.executable, "jobs/runner.py", "--device", "desk", "--again", *odd]
        subprocess.run(again, cwd=place, capture_output=True, timeout=600, check=True)
