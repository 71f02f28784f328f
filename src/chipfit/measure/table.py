"""Tables of measurements: one CSV row per subgraph, readable by people and by any other program."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
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


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """Measured subgraphs in order: what was run, what it cost, and the network it is part of (None: on its own)."""

    workloads: tuple[Workload, ...]
    measurements: tuple[Measurement, ...]
    networks: tuple[int | None, ...]

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
        figures = (getattr(found, name) for name in _FIGURES)
        source = (found.source.kind, found.source.tool, found.source.version, found.source.date)
        row = (network, load.kind, *(getattr(load, name) + 0 for name in WORKLOAD_FIELDS), *figures, *source)
        writer.writerow("" if value is None else value for value in row)
    write_whole(path, text.getvalue().encode())


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
    rows = [_row(path, line, row) for line, row in enumerate(reader, start=2)]
    if not rows:
        raise InvalidInput(f"{path}: the table has no rows; measure something first")
    workloads, measurements, networks = zip(*rows, strict=True)
    return Table(workloads, measurements, networks)


Row = tuple[Workload, Measurement, int | None]


def _row(path: Path, line: int, row: dict[str, str | None]) -> Row:
    where = f"{path}, line {line}"
    if any(row[name] is None for name in COLUMNS):
        raise InvalidInput(f"{where}: the line ends too early; was the file cut off?")
    texts = {name: row[name] or "" for name in COLUMNS}
    if texts["kind"] not in WORKLOAD_KINDS:
        raise InvalidInput(f"{where}: kind {texts['kind']!r} is not one of {', '.join(WORKLOAD_KINDS)}")
    sizes = {name: _size(where, name, texts) for name in WORKLOAD_FIELDS}
    latency_s, spread_s = _number(where, "latency_s", texts), _number(where, "spread_s", texts) or 0.0
    if not latency_s:
        raise InvalidInput(f"{where}: latency_s = {texts['latency_s']!r}: must be above 0 seconds")
    peak = texts["peak_bytes"]
    measurement = Measurement(
        latency_s,
        Source(texts["source"], texts["tool"], texts["version"], texts["date"] or None),  # type: ignore[arg-type]
        peak_bytes=_whole(where, "peak_bytes", peak) if peak else None,
        energy_j=_number(where, "energy_j", texts),
        spread_s=spread_s,
    )
    network = _whole(where, "network", texts["network"]) if texts["network"] else None
    return Workload(texts["kind"], **sizes), measurement, network


def _whole(where: str, name: str, text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        raise InvalidInput(f"{where}: {name} = {text!r}: must be a whole number") from None
    if value < 0:
        raise InvalidInput(f"{where}: {name} = {value}: must not be negative")
    return value


def _size(where: str, name: str, texts: dict[str, str]) -> float:
    return _whole(where, name, texts[name]) if name != "stored_share" else _number(where, name, texts) or 1.0


def _number(where: str, name: str, texts: dict[str, str]) -> float | None:
    """A figure that is not negative, None where the field is empty."""
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
    )
