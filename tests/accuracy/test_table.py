"""Tables of trained networks: what is in them is found, what is not is said, with the line."""

import gzip
from collections.abc import Mapping
from pathlib import Path

import pytest

from chipfit.accuracy.table import read_table
from chipfit.errors import InvalidInput, TrainingFailed

TABLE = """net,full,short,note
0 0,91.5,60,
0 1,,55,never trained
1 0,nan,50,diverged
1 1,88,40,
"""


def code_of(row: Mapping[str, str]) -> tuple[int, ...]:
    if not row["net"]:
        raise InvalidInput("names no network")
    return tuple(int(number) for number in row["net"].split())


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "nets.csv").write_text(TABLE)
    return tmp_path / "nets.csv"


def test_accuracies_are_looked_up_by_code(path: Path) -> None:
    table = read_table(path, ("full", "short"), code_of, percent=True)
    assert table.accuracy((0, 0), "full") == pytest.approx(0.915)
    assert table.accuracy((0, 1), "short") == pytest.approx(0.55)


def test_a_packed_table_is_the_same_table(path: Path) -> None:
    packed = path.with_name("nets.csv.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    first, second = (read_table(file, ("full",), code_of, percent=True) for file in (path, packed))
    assert (first.lines, first.columns, first.digest) == (second.lines, second.columns, second.digest)


@pytest.mark.parametrize(("code", "line"), [((0, 1), 3), ((1, 0), 4)])
def test_a_missing_accuracy_is_a_failure_with_its_line(path: Path, code: tuple[int, int], line: int) -> None:
    table = read_table(path, ("full",), code_of, percent=True)
    with pytest.raises(TrainingFailed, match=rf"nets\.csv, line {line}: 'full' is empty"):
        table.accuracy(code, "full")


def test_a_network_that_is_not_listed_is_a_failure(path: Path) -> None:
    with pytest.raises(TrainingFailed, match=r"no row for the network \[7, 7\]"):
        read_table(path, ("full",), code_of, percent=True).accuracy((7, 7), "full")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("net,short\n0 0,1\n", "there is no column 'full'; there are net, short"),
        ("net,full\n", "has no rows"),
        ("", "there is no column"),
        ("net,full\n0 0,good\n", "line 2: full = 'good' is no number"),
        ("net,full\n0 0,91.5\n", r"full = 91.5 is no fraction of 1; for percent, set table.percent = true"),
        ("net,full\n,0.5\n", "line 2: names no network"),
        ("net,full\n0 0\n0 1,0.5\n", None),
    ],
)
def test_what_cannot_be_used_is_refused(tmp_path: Path, text: str, message: str | None) -> None:
    path = tmp_path / "odd.csv"
    path.write_text(text)
    if message is None:
        with pytest.raises(TrainingFailed, match="is empty"):
            read_table(path, ("full",), code_of).accuracy((0, 0), "full")
        return
    with pytest.raises(InvalidInput, match=message):
        read_table(path, ("full",), code_of)


def test_a_network_trained_twice_has_the_mean(tmp_path: Path) -> None:
    path = tmp_path / "twice.csv"
    path.write_text("net,full\n0 0,0.5\n0 1,0.9\n0 0,0.6\n0 0,\n")
    table = read_table(path, ("full",), code_of)
    assert table.accuracy((0, 0), "full") == pytest.approx(0.55)
    assert table.lines == {(0, 0): 2, (0, 1): 3}


def test_files_that_are_no_tables_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        read_table(tmp_path / "none.csv", ("full",), code_of)
    (tmp_path / "broken.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(InvalidInput, match="not a readable table"):
        read_table(tmp_path / "broken.csv.gz", ("full",), code_of)
    path = tmp_path / "far.csv"
    path.write_text("net,full\n0 0,101\n")
    with pytest.raises(InvalidInput, match="0 to 100"):
        read_table(path, ("full",), code_of, percent=True)
