"""Times of whole networks as a user has them: a CSV file of models and latencies, read, checked, and made networks.

Nothing is repaired in silence: what cannot be right is named by file, line and column with what to do about it.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from chipfit.errors import ChipfitError, InvalidInput
from chipfit.estimate.calibrate import LEAST_NETWORKS
from chipfit.estimate.estimator import Errors, Estimator
from chipfit.estimate.fit import errors
from chipfit.estimate.rows import Floats
from chipfit.measure.board_results import CONFIRMED, ODD_DEVIATIONS, ODD_FACTOR, UNIT_FACTOR, UNITS, csv_lines, stop
from chipfit.measure.measurement import Source
from chipfit.measure.table import number
from chipfit.nets.load import load
from chipfit.nets.network import Network

FORM = "write columns model and latency_ms, and family where networks are alike"


@dataclass(frozen=True, slots=True, eq=False)
class NetworkTimes:
    """n networks and the time of each on a board: `latency_s` (n,) in s. `families` says which are alike, None where
    the file has no such column. `remarks` are what a user should know, one line each."""

    models: tuple[Network, ...]
    latency_s: Floats
    families: tuple[str, ...] | None
    source: Source
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the file: `model` as written, `same` equal for lines of one model, `confirmed` by a second time."""

    where: str
    model: str
    same: str
    latency_s: float
    family: str
    source: Source
    confirmed: bool = False


def network_times(path: Path, estimator: Estimator, input_shape: Any = None) -> NetworkTimes:
    """The networks in a CSV file with the columns `model` and one of `board_results.UNITS`, one line for each time.

    `model` is what `nets.load` takes; paths may be relative to the file. The columns `family`, `runtime`, `version`,
    `device` and `date` may stand beside. Of several times of a model the fastest counts; `estimator` says which are
    unlike all others. Raises `InvalidInput` with one line for every problem: files, columns, units, values, models.
    """
    problems: list[str] = []
    remarks: list[str] = []
    lines = _best(_read(path, problems), problems, remarks)
    models = _loaded(lines, path.parent, input_shape, estimator, problems)
    stop(problems)
    if len(lines) < LEAST_NETWORKS:
        raise InvalidInput(f"{path}: {len(lines)} networks are too few; time at least {LEAST_NETWORKS}")
    latency_s = np.array([line.latency_s for line in lines])
    stop(_implausible(path, lines, latency_s, models, estimator))
    source = max((line.source for line in lines), key=lambda source: source.date or "")
    families = tuple(line.family or line.same for line in lines) if any(line.family for line in lines) else None
    return NetworkTimes(tuple(models), latency_s, families, source, tuple(remarks))


def _read(path: Path, problems: list[str]) -> list[_Line]:
    rows = csv_lines(path, ["model"], FORM)
    columns = [name for name in UNITS if rows and name in rows[0][1]]
    if len(columns) != 1:
        known = [name for name in (rows[0][1] if rows else ()) if name.startswith(("latency", "time"))]
        named = f"it has {', '.join(known)}" if known else "it has none" if rows else "it has no line"
        raise InvalidInput(f"{path}: needs one column of times that says its unit, {', '.join(UNITS)}; {named}")
    found: list[_Line] = []
    for where, row in rows:
        try:
            found.append(_line(where, row, columns[0], path.parent))
        except InvalidInput as error:
            problems.append(str(error))
    if len(tools := Counter((line.source.tool, line.source.version) for line in found)) > 1:
        parts = ", ".join(f"{' '.join(tool)} ({count} lines)" for tool, count in tools.items())
        problems.append(f"{path}: columns runtime, version, device: times of several tools: {parts}; keep one")
    return found


def _line(where: str, row: Mapping[str, str], column: str, folder: Path) -> _Line:
    model = row["model"].strip()
    if not model:
        raise InvalidInput(f"{where}: model is empty: name the file that was timed")
    value = number(where, column, row)
    if not value:
        raise InvalidInput(f"{where}: {column} = {row[column]!r}: must be above 0; time {model} again")
    tool = row.get("runtime") or "board"
    if row.get("device"):
        tool = f"{tool} on {row['device']}"
    source = Source("measured", tool, row.get("version") or "unknown", row.get("date") or None)
    file = _place(model, folder)
    same = hashlib.sha256(file.read_bytes()).hexdigest() if file.is_file() else model
    return _Line(where, model, same, value * UNITS[column], row.get("family", "").strip(), source)


def _place(model: str, folder: Path) -> Path:
    """Where a model lies: beside the file that names it, or as it is written."""
    beside = folder / model
    return beside if beside.exists() else Path(model)


def _best(lines: Sequence[_Line], problems: list[str], remarks: list[str]) -> list[_Line]:
    """One line for each model, the fastest; times of one model that contradict each other are a problem."""
    found: dict[str, list[_Line]] = {}
    for line in lines:
        found.setdefault(line.same, []).append(line)
    best: list[_Line] = []
    for own in found.values():
        first, *rest = sorted(own, key=lambda line: line.latency_s)
        slow = [line for line in rest if line.latency_s > CONFIRMED * first.latency_s]
        if slow:
            problems.append(
                f"{slow[0].where}: {slow[0].model} took {slow[0].latency_s / first.latency_s:.3g} times what "
                f"{first.where.rpartition(', ')[2]} says of the same model: time it again, or remove the wrong line"
            )
        elif len({line.family for line in own}) > 1:
            problems.append(f"{rest[0].where}: {rest[0].model} has another family in another line: give it one")
        best.append(
            _Line(first.where, first.model, first.same, first.latency_s, first.family, first.source, bool(rest))
        )
    if twice := [line.model for line in best if line.confirmed]:
        more = f" and {len(twice) - 3} more" if len(twice) > 3 else ""
        remarks.append(f"{len(twice)} models have several lines; the fastest counts: {', '.join(twice[:3])}{more}")
    return best


def _loaded(
    lines: Sequence[_Line], folder: Path, input_shape: Any, estimator: Estimator, problems: list[str]
) -> list[Network]:
    found: list[Network] = []
    for line in lines:
        file = _place(line.model, folder)
        try:
            network = load(str(file) if file.is_file() else line.model, input_shape=input_shape)
            gaps = estimator.unsupported(network.graph)
        except ChipfitError as error:
            problems.append(f"{line.where}: {error}")
            continue
        if gaps:
            problems.append(
                f"{line.where}: {line.model}: {estimator.target.name} cannot run {gaps[0].operator} ({gaps[0].node}), "
                "so its time is not the sum of what is estimated; remove the line"
            )
        found.append(network)
    return found


def _implausible(
    path: Path, lines: Sequence[_Line], latency_s: Floats, models: Sequence[Network], estimator: Estimator
) -> list[str]:
    """Times in the wrong unit, and times that are unlike what the others make of the estimates."""
    estimated = np.array([float(estimator.costs(model).latency_s[0]) for model in models])
    off = np.log(latency_s / estimated)
    ratio = float(np.exp(np.median(off)))
    if not 1 / UNIT_FACTOR < ratio < UNIT_FACTOR:
        return [
            f"{path}: the median time is {ratio:.2g} times what {estimator.target.name} is estimated to take: is the "
            "unit the one in the column's name? Rename the column, or take the estimator of a chip that is more alike"
        ]
    apart = np.abs(off - np.median(off))
    odd = apart > np.maximum(np.log(ODD_FACTOR), ODD_DEVIATIONS * 1.4826 * np.median(apart))
    return [
        f"{line.where}: {line.model} took {np.exp(own - np.median(off)):.2g} times what the other networks make of it; "
        "time it again, and give both lines (two times that agree are believed)"
        for line, own, far in zip(lines, off, odd, strict=True)
        if far and not line.confirmed
    ]


def errors_of(estimator: Estimator, timed: NetworkTimes) -> Errors:
    """How far an estimator that has seen none of these networks is from their times."""
    costs = [estimator.costs(model) for model in timed.models]
    predicted, spread = (
        np.array([float(getattr(each, name)[0]) for each in costs]) for name in ("latency_s", "spread_s")
    )
    return errors(predicted, timed.latency_s, spread)
