"""Times from a board of the user's own: joined with the plan, checked, and made a table that an estimator learns from.

Nothing is repaired in silence: what cannot be right is named by file, line and column with what to do about it.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from chipfit.errors import InvalidInput
from chipfit.graph.workload import Workload
from chipfit.measure.board import CALL, MANIFEST, MANIFEST_COLUMNS
from chipfit.measure.board_runner import Timing
from chipfit.measure.measurement import Measurement, Source
from chipfit.measure.runtimes import CHAINS, Fixed, fixed_cost
from chipfit.measure.simulator import simulate_columns, workload_columns
from chipfit.measure.table import NETWORK, Table, Whole, number, workload_of
from chipfit.targets.target import Board, Target

UNITS: Mapping[str, float] = {"latency_s": 1.0, "latency_ms": 1e-3, "latency_us": 1e-6, "latency_ns": 1e-9}
"""Seconds of the units that a latency column may have."""
UNIT_FACTOR = 300.0
"""How far the median of all times may lie from the description before the unit is doubted: units lie 1,000 apart."""
FASTEST = 0.5
"""Share of the time that the multipliers need at least, below which a time cannot be."""
NEIGHBOURS = 8
ODD_FACTOR, ODD_DEVIATIONS = 8.0, 8.0
"""A time is odd that differs by this factor from what its neighbours make of it, and by so many of their deviations."""
CONFIRMED = 2.0
"""Factor up to which two times of a model confirm each other: far less than what makes a time odd."""
SHOWN = 20


@dataclass(frozen=True, slots=True)
class Imported:
    """The table of a board's times, and what a user should know about it, one line each."""

    table: Table
    remarks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Model:
    """What a plan says of one file."""

    model: str
    digest: str
    network: int | None
    kind: str
    workload: Workload | None


@dataclass(slots=True)
class _Plan:
    files: dict[str, _Model] = field(default_factory=dict[str, _Model])
    parts: dict[int, list[Workload]] = field(default_factory=dict[int, list[Workload]])


@dataclass(frozen=True, slots=True)
class _Time:
    """One line of results: the times in seconds, 0 where the model failed."""

    where: str
    file: str
    latency_s: float
    spread_s: float
    source: Source
    confirmed: bool = False


def imported(results: Path, folder: Path, target: Target, *, partial: bool = False) -> Imported:
    """The times in `results` of the models planned in `folder` as a table; fixed costs of a call are taken off.

    Models that were timed several times count with their fastest time. `partial`: models without a line are left out.
    Raises `InvalidInput` with one line for every problem: files, columns, units, values and models that do not fit.
    """
    plan = _plan(folder / MANIFEST)
    problems: list[str] = []
    remarks: list[str] = []
    seen: set[str] = set()
    times = _best(_times(results, plan, target, problems, seen), remarks)
    planned = dict.fromkeys(item.model for item in plan.files.values())
    if missing := [name for name in planned if name not in seen]:
        some = f"{len(missing)} of {len(planned)} planned models have no line: {_listed(missing)}"
        if partial:
            remarks.append(f"{results}: {some}; they are left out")
        else:
            problems.append(
                f"{results}: {some}; run runner.py again, it goes on there, or take what is there: --partial"
            )
    stop(problems)
    failed = [time.file for time in times.values() if not time.latency_s]
    if failed:
        remarks.append(f"{results}: {len(failed)} models failed on the board and are left out: {_listed(failed)}")
    good = {name: time for name, time in times.items() if time.latency_s}
    fixed = _fixed(results, plan, good)
    stop(_too_short(plan, good, fixed))
    stop(_implausible(results, plan, good, target, fixed))
    return Imported(_table(plan, good, fixed), tuple(remarks))


def stop(problems: Sequence[str]) -> None:
    """Raises `InvalidInput` with one line for each problem, if there is one."""
    if problems:
        more = [f"and {len(problems) - SHOWN} more of the kind"] if len(problems) > SHOWN else []
        raise InvalidInput("\n".join([*problems[:SHOWN], *more]))


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more


def csv_lines(path: Path, needed: Sequence[str], remedy: str) -> list[tuple[str, dict[str, str]]]:
    """The lines of a CSV file, each with where it is. Raises `InvalidInput` for a file that is none."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; {remedy}") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{path}: not a text file; {remedy}") from None
    reader = csv.DictReader(io.StringIO(text))
    for name in needed:
        if name not in (reader.fieldnames or ()):
            raise InvalidInput(f"{path}: column {name!r} is missing; {remedy}")
    return [
        (f"{path}, line {line}", {key: value or "" for key, value in row.items() if key is not None})
        for line, row in enumerate(reader, start=2)
    ]


def _plan(path: Path) -> _Plan:
    plan = _Plan()
    for where, row in csv_lines(path, MANIFEST_COLUMNS, "give the folder that --plan wrote"):
        load = None if row["kind"] in (CALL, NETWORK) else workload_of(where, row)
        network = int(number(where, "network", row) or 0) if row["network"] else None
        if row["file"]:
            plan.files[row["file"]] = _Model(row["model"], row["sha256"], network, row["kind"], load)
        elif load is not None and network is not None:
            plan.parts.setdefault(network, []).append(load)
        else:
            raise InvalidInput(f"{where}: neither a file nor a subgraph of a network; plan again")
    return plan


def _times(results: Path, plan: _Plan, target: Target, problems: list[str], seen: set[str]) -> list[_Time]:
    """The lines of a file of results that can be used; what is wrong with the others goes into `problems`.

    Models that have a line at all go into `seen`.
    """
    lines = csv_lines(results, ["file"], "give what runner.py wrote, or columns file and latency_us")
    columns = [name for name in UNITS if lines and name in lines[0][1]]
    if len(columns) != 1:
        raise InvalidInput(f"{results}: needs one column of times, {', '.join(UNITS)}; it has {columns or 'none'}")
    found: list[_Time] = []
    for where, row in lines:
        name = _planned_name(row["file"], plan)
        if name is None:
            problems.append(f"{where}: file {row['file']!r} is not in the plan; remove the line or give its own plan")
            continue
        seen.add(plan.files[name].model)
        if row.get("sha256") and row["sha256"] != plan.files[name].digest:
            problems.append(f"{where}: sha256 of {name} is not that of the plan: copy the folder again, time it again")
        else:
            try:
                found.append(_time(where, name, columns[0], row, target))
            except InvalidInput as error:
                problems.append(str(error))
    if len(tools := Counter((time.source.tool, time.source.version) for time in found)) > 1:
        parts = ", ".join(f"{' '.join(tool)} ({count} lines)" for tool, count in tools.items())
        problems.append(f"{results}: columns runtime, version, device: times of several tools: {parts}; keep one")
    return found


def _planned_name(file: str, plan: _Plan) -> str | None:
    """The planned file that a line means, with or without its folder."""
    return next((name for name in (file, f"models/{Path(file).name}") if name in plan.files), None)


def _time(where: str, name: str, column: str, row: Mapping[str, str], target: Target) -> _Time:
    unit = UNITS[column]
    tool = row.get("runtime") or (target.tool.runtime if isinstance(target.tool, Board) else "board")
    if row.get("device"):
        tool = f"{tool} on {row['device']}"
    source = Source("measured", tool, row.get("version") or "unknown", row.get("date") or None)
    if row.get("error"):
        return _Time(where, name, 0.0, 0.0, source)
    value = number(where, column, row)
    if not value:
        raise InvalidInput(f"{where}: {column} = {row[column]!r}: must be above 0; time {name} again")
    spread = column.replace("latency", "spread")
    return _Time(
        where, name, value * unit, (number(where, spread, row) or 0.0) * unit if spread in row else 0.0, source
    )


def _best(times: Sequence[_Time], remarks: list[str]) -> dict[str, _Time]:
    """One time for each file, the fastest; two that agree confirm each other."""
    found: dict[str, list[_Time]] = {}
    for time in times:
        found.setdefault(time.file, []).append(time)
    if twice := [name for name, own in found.items() if len(own) > 1]:
        remarks.append(f"{len(twice)} models have several lines; the fastest counts: {_listed(twice)}")
    best: dict[str, _Time] = {}
    for name, own in found.items():
        first, *rest = sorted(own, key=lambda time: time.latency_s or np.inf)
        agree = any(time.latency_s and time.latency_s <= first.latency_s * CONFIRMED for time in rest)
        best[name] = replace(first, confirmed=agree)
    return best


def _fixed(results: Path, plan: _Plan, times: Mapping[str, _Time]) -> Fixed:
    """What a call costs, by the models planned for that."""
    found = {plan.files[name].model: time for name, time in times.items() if plan.files[name].kind == CALL}
    names = [f"call{layers}" for layers in CHAINS]
    if gone := [name for name in names if name not in found]:
        raise InvalidInput(f"{results}: no time of {gone[0]}, which tells what an empty call costs; time it again")
    short, long = (Timing(found[name].latency_s, found[name].latency_s, found[name].spread_s, 1) for name in names)
    return fixed_cost(short, long)


def _too_short(plan: _Plan, times: Mapping[str, _Time], fixed: Fixed) -> list[str]:
    """Times of which nothing is left without the cost of a call, and no spread or layer says how little it may be."""
    return [
        f"{time.where}: {time.file} took no longer than a call that computes next to nothing ({fixed.call_s:.3g} s): "
        "time all models with a finer clock, or remove the line and import with --partial"
        for name, time in times.items()
        if plan.files[name].kind != CALL and fixed.taken_off(time.latency_s, time.spread_s, time.source).latency_s == 0
    ]


def _implausible(results: Path, plan: _Plan, times: Mapping[str, _Time], target: Target, fixed: Fixed) -> list[str]:
    """Times that the board's description rules out, in the wrong unit, or unlike those of their neighbours."""
    own = [(time, load) for name, time in times.items() if (load := plan.files[name].workload) is not None]
    own = [(time, load) for time, load in own if target.runs(load)]
    if not own:
        return [f"{results}: none of the subgraphs ran; nothing can be learnt"]
    columns = workload_columns([load for _, load in own])
    latency_s = np.array([fixed.taken_off(time.latency_s, time.spread_s, time.source).latency_s for time, _ in own])
    rough_s = simulate_columns(target, columns).latency_s
    ratio = float(np.median(latency_s / rough_s))
    if not 1 / UNIT_FACTOR < ratio < UNIT_FACTOR:
        return [
            f"{results}: the median time is {ratio:.2g} times what {target.name} is described to take: is the unit the "
            "one in the column's name? Rename the column, or correct clock_hz and lanes of the target"
        ]
    least_s = FASTEST * columns["macs"] / target.peak_macs_per_second
    problems = [
        f"{time.where}: {time.file} took {taken:.3g} s, but {target.name} needs {least / FASTEST:.3g} s for its MACs "
        "alone: time it again, or correct clock_hz and lanes of the target"
        for (time, _), taken, least in zip(own, latency_s, least_s, strict=True)
        if taken < least
    ]
    if problems:
        return problems
    alike = np.unique([columns[name] for name in ("function", "activation", "adds")], axis=1, return_inverse=True)[1]
    groups = np.char.add(columns["kind"], alike.astype(np.str_))
    factors = _factors(groups, np.log(latency_s / rough_s), _places(columns))
    return [
        f"{time.where}: {time.file} took {factor:.2g} times what similar subgraphs take; time it again with "
        f"runner.py --again {time.file} (two times that agree are believed)"
        for (time, _), factor, taken in zip(own, factors, latency_s.tolist(), strict=True)
        # Less than what a call costs is no matter in a network.
        if abs(taken - taken / factor) > fixed.call_s and not time.confirmed
    ]


def _places(columns: Mapping[str, np.ndarray]) -> np.ndarray:
    """Where subgraphs lie (n, 5): neighbours have about the same shape and work."""
    names = ("macs", "in_elements", "out_elements", "parameters", "groups")
    return np.log1p(np.stack([columns[name] for name in names], axis=1).astype(np.float64))


def _factors(groups: np.ndarray, residual: np.ndarray, places: np.ndarray) -> list[float]:
    """By which factor each time is odd among its neighbours of the same group, 1 where it is not."""
    factors = np.ones(len(residual))
    for group in np.unique(groups):
        own = np.flatnonzero(groups == group)
        if len(own) <= NEIGHBOURS:
            continue
        apart = ((places[own][:, None] - places[own][None]) ** 2).sum(axis=2)
        near = np.argsort(apart, axis=1)[:, 1 : NEIGHBOURS + 1]
        around = residual[own][near]
        middle = np.median(around, axis=1)
        deviation = 1.4826 * np.median(np.abs(around - middle[:, None]), axis=1)
        off = residual[own] - middle
        odd = np.abs(off) > np.maximum(np.log(ODD_FACTOR), ODD_DEVIATIONS * deviation)
        factors[own[odd]] = np.exp(off[odd])
    return factors.tolist()


def _table(plan: _Plan, times: Mapping[str, _Time], fixed: Fixed) -> Table:
    workloads: list[Workload] = []
    measurements: list[Measurement] = []
    wholes: list[Whole] = []
    for name, time in times.items():
        item = plan.files[name]
        found = fixed.taken_off(time.latency_s, time.spread_s, time.source)
        if item.workload is not None:
            workloads.append(item.workload)
            measurements.append(found)
        elif item.network is not None:
            wholes.append(Whole(found, tuple(plan.parts.get(item.network, ()))))
    return Table(tuple(workloads), tuple(measurements), (None,) * len(workloads), tuple(wholes))
