"""Tables of measurements: one CSV row per subgraph, readable by people and by any other program.

A network of which only the total was measured is a row of kind "network" with that total, before the rows of its
subgraphs, whose latency is empty.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from chipfit.errors import InvalidInput
from chipfit.files import write_whole
from chipfit.graph.workload import WORKLOAD_FIELDS, WORKLOAD_KINDS, Workload
from chipfit.measure.measurement import Measurement, Source

_FIGURES = ("latency_s", "energy_j", "peak_bytes", "spread_s")
_SOURCE = ("source", "tool", "version", "date")
COLUMNS = ("network", "kind", *WORKLOAD_FIELDS, *_FIGURES, *_SOURCE)
"""The columns of a table; `network` numbers the whole network that a subgraph is part of, empty for one on its own."""


NETWORK = "network"
"""Kind of the rows that hold the total of a network."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A network of which only the total is known: what it cost, and the workloads of its subgraphs."""

    measurement: Measurement
    workloads: tuple[Workload, ...]

    def __post_init__(self) -> None:
        if not self.workloads:
            raise InvalidInput("a measured network needs the workloads of its subgraphs")


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Measured subgraphs in order: what was run, what it cost, and the network it is part of (None: on its own).

    `wholes` are networks of which only the totals were measured; none of their subgraphs is among the others.
    """

    workloads: tuple[Workload, ...]
    measurements: tuple[Measurement, ...]
    networks: tuple[int | None, ...]
    wholes: tuple[Whole, ...] = ()

    def __post_init__(self) -> None:
        if not len(self.workloads) == len(self.measurements) == len(self.networks):
            raise InvalidInput("a table needs one measurement and one network number for every subgraph")

    def __len__(self) -> int:
        return len(self.workloads)


def write_table(path: Path, table: Table) -> None:
    """Writes a table, whole or not at all. Raises `StorageFull` or `InvalidInput`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for load, found, network in zip(table.workloads, table.measurements, table.networks, strict=True):
        writer.writerow(_written(network, load.kind, sizes(load), found))
    first = 1 + max((number for number in table.networks if number is not None), default=-1)
    for number, whole in enumerate(table.wholes, start=first):
        writer.writerow(_written(number, NETWORK, [""] * len(WORKLOAD_FIELDS), whole.measurement))
        writer.writerows(_written(number, load.kind, sizes(load), None) for load in whole.workloads)
    write_whole(path, text.getvalue().encode())


def sizes(load: Workload) -> list[object]:
    """The numbers of a closed workload in the order of columns; truth values as 0 and 1."""
    return [getattr(load, name) + 0 for name in WORKLOAD_FIELDS]


def _written(network: int | None, kind: str, numbers: Sequence[object], found: Measurement | None) -> list[object]:
    figures: list[object] = [""] * (len(_FIGURES) + len(_SOURCE))
    if found is not None:
        figures = [getattr(found, name) for name in _FIGURES]
        figures += [found.source.kind, found.source.tool, found.source.version, found.source.date]
    return ["" if value is None else value for value in (network, kind, *numbers, *figures)]


def read_table(path: Path) -> Table:
    """Reads a table. Raises `InvalidInput` naming file, line and column of what is missing or impossible."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; give a table as chipfit profile writes it") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: not a text file; give a table as chipfit profile writes it") from None
    reader = csv.DictReader(io.StringIO(text))
    if missing := [name for name in COLUMNS if name not in (reader.fieldnames or ())]:
        raise InvalidInput(f"{path}: column {missing[0]!r} is missing; give a table as chipfit profile writes it")
    rows = [_row(f"{path}, line {line}", row) for line, row in enumerate(reader, start=2)]
    if not rows:
        raise InvalidInput(f"{path}: the table has no rows; measure something first")
    return _table(rows)


@dataclass(frozen=True, slots=True)
class _Row:
    """One line: the total of a network has no workload, a subgraph of such a network no measurement."""

    where: str
    network: int | None
    workload: Workload | None
    measurement: Measurement | None


def _row(where: str, row: dict[str, str | None]) -> _Row:
    if any(row[name] is None for name in COLUMNS):
        raise InvalidInput(f"{where}: the line ends too early; was the file cut off?")
    texts = {name: row[name] or "" for name in COLUMNS}
    network = _whole(where, "network", texts["network"]) if texts["network"] else None
    measurement = _measurement(where, texts) if texts["latency_s"] else None
    if texts["kind"] == NETWORK:
        if network is None or measurement is None:
            raise InvalidInput(f"{where}: the total of a network needs its number and latency_s")
        return _Row(where, network, None, measurement)
    if measurement is None and network is None:
        raise InvalidInput(f"{where}: latency_s is empty: a subgraph on its own needs one above 0 seconds")
    return _Row(where, network, workload_of(where, texts), measurement)


def workload_of(where: str, texts: Mapping[str, str]) -> Workload:
    """The workload of a line by its columns. Raises `InvalidInput` with `where` in front."""
    if texts["kind"] not in WORKLOAD_KINDS:
        raise InvalidInput(f"{where}: kind {texts['kind']!r} is not one of {', '.join(WORKLOAD_KINDS)}")
    return Workload(texts["kind"], **{name: _size(where, name, texts) for name in WORKLOAD_FIELDS})


def _measurement(where: str, texts: Mapping[str, str]) -> Measurement:
    latency_s, spread_s = number(where, "latency_s", texts), number(where, "spread_s", texts) or 0.0
    if not latency_s:
        raise InvalidInput(f"{where}: latency_s = {texts['latency_s']!r}: must be above 0 seconds")
    peak = texts["peak_bytes"]
    return Measurement(
        latency_s,
        Source(texts["source"], texts["tool"], texts["version"], texts["date"] or None),  # type: ignore[arg-type]
        peak_bytes=_whole(where, "peak_bytes", peak) if peak else None,
        energy_j=number(where, "energy_j", texts),
        spread_s=spread_s,
    )


def _table(rows: Sequence[_Row]) -> Table:
    """Lines as a table. Raises `InvalidInput` for a network whose total or whose subgraphs are missing."""
    totals = {row.network: row for row in rows if row.workload is None}
    parts: dict[int | None, list[Workload]] = {network: [] for network in totals}
    measured: list[tuple[Workload, Measurement, int | None]] = []
    for row in rows:
        if row.workload is None:
            continue
        if row.measurement is None:
            if row.network not in totals:
                raise InvalidInput(
                    f"{row.where}: latency_s is empty, and network {row.network} has no row with its total"
                )
            parts[row.network].append(row.workload)
        elif row.network in totals:
            raise InvalidInput(f"{row.where}: network {row.network} has a total, so its subgraphs have no latency_s")
        else:
            measured.append((row.workload, row.measurement, row.network))
    wholes: list[Whole] = []
    for network, row in totals.items():
        if not parts[network]:
            raise InvalidInput(f"{row.where}: no row says what subgraphs network {network} has")
        wholes.append(Whole(row.measurement, tuple(parts[network])))  # type: ignore[arg-type]
    workloads, measurements, networks = zip(*measured, strict=True) if measured else ((), (), ())
    return Table(tuple(workloads), tuple(measurements), tuple(networks), tuple(wholes))


def _whole(where: str, name: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise InvalidInput(f"{where}: {name} = {text!r}: must be a whole number") from None
    if value < 0:
        raise InvalidInput(f"{where}: {name} = {value}: must not be negative")
    return value


def _size(where: str, name: str, texts: Mapping[str, str]) -> float:
    return _whole(where, name, texts[name]) if name != "stored_share" else number(where, name, texts) or 1.0


def number(where: str, name: str, texts: Mapping[str, str]) -> float | None:
    """A figure that is not negative, None where the field is empty. Raises `InvalidInput` with `where` in front."""
    if not (text := texts[name]):
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or value < 0:
        raise InvalidInput(f"{where}: {name} = {text!r}: must be a number that is not negative")
    return value


def joined(tables: Sequence[Table]) -> Table:
    """Several tables as one."""
    return Table(
        tuple(load for table in tables for load in table.workloads),
        tuple(found for table in tables for found in table.measurements),
        tuple(number for table in tables for number in table.networks),
        tuple(whole for table in tables for whole in table.wholes),
    )
