"""What tests of several rooms share."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from chipfit.cli.main import main

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def chipfit(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs a command line in this process; its exit status, standard output and standard error."""

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["chipfit", *map(str, arguments)])
        status: object = 0
        try:
            main()
        except SystemExit as stop:
            status = stop.code
        shown = capsys.readouterr()
        return int(str(status or 0)), shown.out, shown.err

    return run


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that is no part of the project; a test that asks for it is skipped where there is none."""
    path = Path(os.environ.get("CHIPFIT_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set CHIPFIT_TEST_DATA to a directory that holds it")
    return path
