"""docs/your-own-board.md is followed from start to end, with a small plan."""

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
    assert len(PAGE.splitlines()) <= 120
    assert [shlex.split(line)[1] for line in "".join(blocks("console")).splitlines()] == [
        "profile", "jobs/runner.py", "profile", "fit", "estimate",
    ]  # fmt: skip


@pytest.mark.slow
def test_every_command_of_the_page_runs_in_order(tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    (tmp_path / "my-board.toml").write_text(blocks("toml")[0])
    for line in "".join(blocks("console")).splitlines():
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
