"""Designs compared on one page: area against latency as a picture, the table, what matters. It needs nothing else."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from chipfit.estimate.design import Designs, within
from chipfit.files import write_whole
from chipfit.report.design import (
    cells,
    effect_rows,
    gaps,
    headline,
    importance,
    legend,
    notes,
    rankings,
    settings,
    shown,
    titles,
)
from chipfit.report.pictures import ticks
from chipfit.report.words import amount, plain
from chipfit.search.pareto import front_mask

if TYPE_CHECKING:
    from numpy.typing import NDArray

SERIES = 6
"""Networks that the picture tells apart; of more it draws the mean."""

FAINT = 1500
"""Designs off the front that are drawn in each series."""

WIDE, NARROW = (760, 440), (360, 380)

SHAPES = (
    "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0Z", "M-4.5 -4.5h9v9h-9Z", "M0 -6l6 6l-6 6l-6 -6Z", "M0 -6l6 10.5h-12Z",
    "M0 6l6 -10.5h-12Z", "M-2 -6h4v4h4v4h-4v4h-4v-4h-4v-4h4Z",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Mark:
    """One design in the picture: its place in pixels and what stands under the pointer."""

    x: float
    y: float
    title: Markup


@dataclass(frozen=True, slots=True)
class Series:
    """One network: its designs on the front, the others, and the front as an SVG path; `letter` names its colour."""

    name: str
    letter: str
    shape: str
    best: tuple[Mark, ...]
    beaten: tuple[Mark, ...]
    path: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Area against latency on logarithmic axes: size and plot edges in pixels, ticks as (pixel, text)."""

    width: int
    height: int
    left: float
    right: float
    top: float
    bottom: float
    across: tuple[tuple[float, str], ...]
    down: tuple[tuple[float, str], ...]
    series: tuple[Series, ...]


def picture(found: Designs, width: int, height: int) -> Picture:
    """Area against latency, one series for each network, the front of each drawn through."""
    columns = _series(found)
    areas = found.area_mm2
    values = np.concatenate([latency[np.isfinite(latency)] for _, latency in columns]) * 1e3
    left, right, top, bottom = 58.0, width - 14.0, 12.0, height - 44.0
    x, y = _range(areas), _range(values)

    def across(value: float) -> float:
        return round(left + (math.log(value) - x[0]) / (x[1] - x[0]) * (right - left), 1)

    def down(value: float) -> float:
        return round(bottom - (math.log(value) - y[0]) / (y[1] - y[0]) * (bottom - top), 1)

    drawn: list[Series] = []
    for index, (name, latency) in enumerate(columns):
        best = front_mask(np.stack([areas, latency], axis=1))
        order = np.lexsort((latency, areas))
        marks = {
            int(i): Mark(across(areas[i]), down(latency[i] * 1e3), _title(found, int(i), name, latency[i]))
            for i in _drawn(order, best, latency)
        }
        front = tuple(mark for i, mark in marks.items() if best[i])
        path = f"M{front[0].x} {front[0].y}" + "".join(f"H{m.x}V{m.y}" for m in front[1:]) + f"H{right}"
        beaten = tuple(mark for i, mark in marks.items() if not best[i])
        drawn.append(Series(plain(name), "abcdef"[index], SHAPES[index], front, beaten, path))
    wide = width > 500
    return Picture(
        width, height, left, right, top, bottom,
        tuple((across(v), f"{v:.4g}") for v in log_ticks(*x, 8 if wide else 4)),
        tuple((down(v), f"{v:.4g}") for v in log_ticks(*y, 7)),
        tuple(drawn),
    )  # fmt: skip


def _series(found: Designs) -> list[tuple[str, NDArray[np.float64]]]:
    run = [i for i in range(len(found.networks)) if found.runnable[i]]
    mean = found.mean("latency_s")
    if len(run) > SERIES and np.isfinite(mean).any():
        return [(f"geometric mean of {len(run)} networks", mean)]
    return [(found.networks[i], found.latency_s[:, i]) for i in run[:SERIES]]


def _drawn(order: NDArray[np.int64], best: NDArray[np.bool_], latency: NDArray[np.float64]) -> list[int]:
    """The designs of a series that are drawn: its front, and evenly chosen others where they are very many."""
    others = [int(i) for i in order if np.isfinite(latency[i]) and not best[i]]
    step = max(1, math.ceil(len(others) / FAINT))
    kept = {*others[::step]}
    return [int(i) for i in order if best[i] or int(i) in kept]


def _title(found: Designs, design: int, name: str, latency_s: float) -> Markup:
    first = f"{plain(name)}: {amount('latency', latency_s)}, {found.area_mm2[design]:.3g} mm²"
    return Markup("\n").join([first, settings(found, design)])


def _range(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = math.log(values.min()), math.log(values.max())
    margin = 0.05 * (high - low) or 0.1
    return low - margin, high + margin


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """Round numbers between exp(low) and exp(high): 1, 2, 5 times powers of ten, or powers alone, or even steps."""
    least, greatest = math.exp(low), math.exp(high)
    exponents = range(math.floor(math.log10(least)), math.ceil(math.log10(greatest)) + 1)
    for factors in ((1, 2, 5), (1,)):
        found = [f * 10.0**e for e in exponents for f in factors if least <= f * 10.0**e <= greatest]
        if 3 <= len(found) <= most:
            return found
    return ticks(least, greatest, most) if greatest / least < 100 else found[:: math.ceil(len(found) / most)]


def write_page(found: Designs, path: Path, limits: Mapping[str, float] | None = None) -> None:
    """Writes the comparison as one HTML file that needs nothing else; equal comparisons give equal files.

    Raises `StorageFull` or `InvalidInput` where `path` cannot be written.
    """
    write_whole(path, page(found, limits).encode())


def page(found: Designs, limits: Mapping[str, float] | None = None) -> str:
    """The comparison as HTML."""
    environment = Environment(
        loader=PackageLoader("chipfit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else plain(value),
    )
    held = within(found, limits) if limits else None
    rows, left_out = shown(found, held)
    effects = importance(found)
    fast, frugal = found.front("latency_s"), found.front("energy_j")
    return environment.get_template("design.html.j2").render(
        found=found,
        pictures=[picture(found, *WIDE), picture(found, *NARROW)],
        headline=headline(found),
        titles=titles(found),
        rows=[
            {
                "setting": settings(found, i),
                "front": " ".join(n for n, on in (("latency", fast[i]), ("energy", frugal[i])) if on) or "–",
                "area": f"{found.area_mm2[i]:.3g} mm²",
                "networks": cells(found, i),
                "state": "" if held is None else "holds" if held[i] else "fails",
            }
            for i in rows
        ],
        legend=legend(found, left_out, held),
        causes=[title for title, _, _ in effects],
        effects=effect_rows(found, effects),
        rankings=rankings(found),
        gaps=gaps(found),
        notes=notes(found),
    )
