"""Tables of measurements: what is written is read again, and what cannot be is named with its line and column."""

import csv
from pathlib import Path

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.estimate.sampling import sample
from chipfit.graph.workload import Workload
from chipfit.measure.measurement import Measurement, Source
from chipfit.measure.table import COLUMNS, Table, Whole, joined, read_table, write_table

BOARD = Source("measured", "board", "2", "2026-11-01")


def loads(kind: str, count: int, seed: int = 0) -> tuple[Workload, ...]:
    return tuple(item.workload() for item in sample(kind, count, np.random.default_rng(seed)))


def costs(count: int) -> tuple[Measurement, ...]:
    return tuple(Measurement((place + 1) / 3e6, BOARD, spread_s=1e-7) for place in range(count))


@pytest.fixture
def table() -> Table:
    """Subgraphs alone, one network with times of its parts, and two of which only the totals are known."""
    wholes = tuple(
        Whole(Measurement(0.1 + number, BOARD, spread_s=0.01), loads("pool", 4, number)) for number in (1, 2)
    )
    return Table((*loads("conv", 5), *loads("matmul", 3)), costs(8), (None,) * 5 + (4, 4, 4), wholes)


def same(left: Table, right: Table) -> bool:
    fields = ("workloads", "measurements", "networks", "wholes")
    return all(getattr(left, name) == getattr(right, name) for name in fields)


def test_what_is_written_is_read_again(table: Table, tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", table)
    found = read_table(tmp_path / "t.csv")
    assert same(found, table)
    write_table(tmp_path / "again.csv", found)
    assert (tmp_path / "again.csv").read_bytes() == (tmp_path / "t.csv").read_bytes()


def test_shares_of_stored_weights_stay_what_they_are(tmp_path: Path) -> None:
    load = loads("conv", 1)[0]._replace(stored_share=0.7310001)
    write_table(tmp_path / "t.csv", Table((load,), costs(1), (None,)))
    assert read_table(tmp_path / "t.csv").workloads[0].stored_share == 0.7310001


def test_networks_of_which_only_the_total_is_known_are_no_subgraphs(table: Table, tmp_path: Path) -> None:
    write_table(tmp_path / "t.csv", table)
    with (tmp_path / "t.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8 + 2 * (1 + 4)
    assert [row["kind"] for row in rows if row["network"] == "5"] == ["network", *["pool"] * 4]
    assert all(bool(row["latency_s"]) == (row["kind"] != "pool") for row in rows)
    assert len(read_table(tmp_path / "t.csv")) == 8


def test_joined_tables_hold_all(table: Table) -> None:
    both = joined([table, table])
    assert len(both) == 16
    assert both.wholes == table.wholes * 2


def test_a_network_without_subgraphs_is_refused() -> None:
    with pytest.raises(InvalidInput, match="needs the workloads"):
        Whole(Measurement(1, BOARD), ())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"line": 2, "latency_s": ""}, "line 2: latency_s is empty: a subgraph on its own"),
        ({"line": 2, "latency_s": "0"}, "line 2: latency_s = '0': must be above 0"),
        ({"line": 2, "latency_s": "fast"}, "line 2: latency_s = 'fast'"),
        ({"line": 2, "kind": "con"}, "line 2: kind 'con' is not one of"),
        ({"line": 2, "out_channels": "3.5"}, "line 2: out_channels = '3.5': must be a whole number"),
        ({"line": 2, "network": "5"}, "line 2: network 5 has a total"),
        ({"line": 10, "latency_s": ""}, "line 10: the total of a network needs its number and latency_s"),
        ({"line": 10, "network": ""}, "line 10: the total of a network needs its number"),
        ({"line": 10, "network": "77"}, "line 11: latency_s is empty, and network 5 has no row with its total"),
        ({"line": 11, "latency_s": "1", "source": "measured", "tool": "x", "version": "1"}, "line 11: network 5 has"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_named(table: Table, tmp_path: Path, change: dict[str, object], message: str) -> None:
    path = tmp_path / "t.csv"
    write_table(path, table)
    with path.open() as file:
        rows = list(csv.DictReader(file))
    rows[change.pop("line") - 2] |= change  # type: ignore[operator]
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(InvalidInput) as caught:
        read_table(path)
    assert str(caught.value).startswith(f"{path}, {message}")
