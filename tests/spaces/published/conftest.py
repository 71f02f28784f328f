import csv
import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

Rows = list[dict[str, str]]


@pytest.fixture(scope="session")
def rows(shared_data: Path) -> Callable[[str], Rows]:
    """Rows of a public table by its name."""

    def read(name: str) -> Rows:
        with gzip.open(shared_data / "nas" / f"{name}.csv.gz", "rt") as file:
            return list(csv.DictReader(file))

    return read
