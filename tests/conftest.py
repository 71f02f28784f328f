"""What tests of several rooms share."""

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real data that is no part of the project; a test that asks for it is skipped where there is none."""
    path = Path(os.environ.get("CHIPFIT_TEST_DATA") or Path(__file__).parents[2] / "shared" / "data")
    if not path.is_dir():
        pytest.skip(f"no real data at {path}; set CHIPFIT_TEST_DATA to a directory that holds it")
    return path
