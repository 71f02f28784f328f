"""The landscape of a cost as a picture for a slide: smooth in MACs, rocky on the chip, with the options worth offering.

One decision gives two lines and, under them, what a search tried; two decisions give a map with the search's path.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, MaxNLocator
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.files import write_whole
from chipfit.report.words import plain
from chipfit.search.pareto import front_mask
from chipfit.spaces.landscape import Landscape

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.typing import RcKeyType

    from chipfit.run.summary import Summary

Floats = NDArray[np.float64]

ENDINGS = (".svg", ".png")
INCHES, DOTS = (9.6, 5.4), 200
"""A slide of 16 by 9, in 1920 by 1080 pixels."""
INK, FAINT, CHIP, SMOOTH, OFFERED, PATH = "#22303c", "#6b7885", "#1f5fa8", "#8a96a3", "#e0701a", "#1a9b76"
STYLE: dict[RcKeyType, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": "#c9d0d6",
    "axes.labelcolor": INK,
    "axes.grid": True,
    "grid.color": "#e3e7eb",
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "svg.fonttype": "none",
    "svg.hashsalt": "chipfit",
}
"""Quiet axes; texts of an SVG stay texts, and the same picture is the same file."""
SHADES = "magma_r"
"""From cheap to dear, darker all the way, so that it also reads in grey."""
TICKS = 12
"""Options that are named along an axis, at most."""
APART = 0.04
"""Share of the axis between two options worth offering that are both named, at least."""


@dataclass(frozen=True, slots=True)
class Step:
    """A network that a search tried: its option of every decision; `better` says that nothing before was as good."""

    code: tuple[int, ...]
    better: bool


def path_of(summary: Summary) -> list[Step]:
    """What the searches of a run tried, in order, and which of it nothing before was as good as."""
    tried = [trial for trial in summary.trials if trial.stage != "final" and "latency" in trial.costs]
    values = np.array(
        [[trial.costs["latency"], -trial.metrics.get("accuracy", np.nan)] for trial in tried], dtype=np.float64
    ).reshape(-1, 2)
    return [Step(trial.code, bool(front_mask(values[: i + 1])[i])) for i, trial in enumerate(tried)]


def check_ending(path: Path) -> None:
    """Raises `InvalidInput` where a picture cannot be written under this name."""
    if path.suffix.lower() not in ENDINGS:
        raise InvalidInput(f"{path}: pictures are written as {' or '.join(ENDINGS)}; give a name that ends so")


def write_picture(
    found: Landscape, kept: Sequence[Sequence[int]], path: Sequence[Step], title: str, subtitle: str, file: Path
) -> None:
    """Writes the picture of a landscape as .svg or .png.

    `kept` are the options worth offering of each of its decisions, by index in the space; `path` is what a search
    tried, in order, empty where none is shown. Raises `InvalidInput` for another ending, and what `write_whole` raises.
    """
    check_ending(file)
    kind, content = file.suffix.lower().removeprefix("."), io.BytesIO()
    with rc_context(STYLE):
        figure = Figure(INCHES, layout="constrained")
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=14, fontweight="bold")
        (_lines if len(found.decisions) == 1 else _map)(figure, found, kept, path, plain(subtitle))
        figure.savefig(content, format=kind, dpi=DOTS, metadata={"Date": None} if kind == "svg" else None)
    write_whole(file, content.getvalue())


def _lines(
    figure: Figure, found: Landscape, kept: Sequence[Sequence[int]], path: Sequence[Step], subtitle: str
) -> None:
    """MACs over latency along one decision, and the trials of a search from top to bottom under them."""
    ratios = [1, 2.6, 1] if path else [1, 2.6]
    panels = figure.subplots(len(ratios), 1, sharex=True, gridspec_kw={"height_ratios": ratios})
    latency, macs = found.line(0)
    labels, options = found.labels(0), found.options[0]
    places = _positions(labels)
    panels[0].plot(places, macs / 1e6, color=SMOOTH, linewidth=2, label="MACs")
    panels[0].set_ylabel("million MACs")
    panels[0].set_title(subtitle, loc="left", fontsize=8, color=FAINT)
    panels[1].plot(places, latency * 1e3, color=CHIP, linewidth=2, label="the chip")
    panels[1].set_ylabel("latency in ms")
    offered = [options.index(index) for index in kept[0]]
    if offered:
        panels[1].plot(
            places[offered], latency[offered] * 1e3, "o", color=OFFERED, markeredgecolor="white", label="worth offering"
        )
    last = -np.inf
    for place in sorted(offered):
        if places[place] - last > APART * float(np.ptp(places)):
            last = places[place]
            spot = (last, latency[place] * 1e3)
            panels[1].annotate(str(labels[place]), spot, (5, -11), textcoords="offset points", color=OFFERED)
    given = found.given[0]
    panels[1].plot(places[given], latency[given] * 1e3, "o", color=INK, markersize=4, label="as given")
    if path:
        spots = [(places[options.index(step.code[found.decisions[0]])], n) for n, step in enumerate(path, start=1)]
        _trail(panels[2], spots, path)
        panels[2].set_ylabel("trial")
        panels[2].invert_yaxis()
        panels[2].yaxis.set_major_locator(MaxNLocator(4, integer=True))
    _name_options(panels[-1], labels, places)
    panels[-1].set_xlabel(plain(found.space.decisions[found.decisions[0]].name))
    figure.legend(loc="outside lower left", ncols=6, frameon=False)


def _map(figure: Figure, found: Landscape, kept: Sequence[Sequence[int]], path: Sequence[Step], subtitle: str) -> None:
    """Latency over two decisions, with the path of a search."""
    axes = figure.subplots()
    axes.grid(visible=False)
    axes.set_title(subtitle, loc="left", fontsize=8, color=FAINT)
    shown = axes.imshow(found.latency_s.T * 1e3, origin="lower", aspect="auto", cmap=SHADES, interpolation="nearest")
    figure.colorbar(shown, ax=axes, label="latency in ms", pad=0.02)
    places = [[found.options[axis].index(index) for index in kept[axis]] for axis in (0, 1)]
    if all(places):
        across, up = np.meshgrid(*places)
        axes.plot(across.ravel(), up.ravel(), "o", color=OFFERED, markeredgecolor="white", label="worth offering")
    if path:
        (first, second), (across, up) = found.decisions, found.options
        _trail(axes, [(across.index(step.code[first]), up.index(step.code[second])) for step in path], path)
    axes.plot(*found.given, "o", color=INK, markeredgecolor="white", label="as given")
    for axis, name in ((0, axes.set_xlabel), (1, axes.set_ylabel)):
        name(plain(found.space.decisions[found.decisions[axis]].name))
    count = np.arange(len(found.options[0])), np.arange(len(found.options[1]))
    _name_options(axes, found.labels(0), count[0].astype(np.float64))
    chosen = _spread(len(count[1]))
    axes.set_yticks(chosen, [str(found.labels(1)[place]) for place in chosen])
    figure.legend(loc="outside lower left", ncols=4, frameon=False)


def _trail(axes: Axes, spots: Sequence[tuple[float, float]], path: Sequence[Step]) -> None:
    """A dot for everything that was tried, and a line through what was better than all before."""
    places = np.array(spots, dtype=np.float64)
    better = np.array([step.better for step in path])
    axes.plot(*places[~better].T, "o", color=PATH, markersize=3, alpha=0.6)
    axes.plot(*places[better].T, "o-", color=PATH, markeredgecolor="white", linewidth=2, label="path of the search")


def _name_options(axes: Axes, labels: Sequence[int | float | str], places: Floats) -> None:
    """Names along the lower edge: round numbers where options stand at their values, else some of the options."""
    if (places == np.arange(len(labels))).all():
        chosen = _spread(len(labels))
        axes.xaxis.set_major_locator(FixedLocator(places[chosen].tolist()))
        axes.set_xticklabels([str(labels[place]) for place in chosen])
    else:
        axes.xaxis.set_major_locator(MaxNLocator(TICKS))


def _positions(labels: Sequence[int | float | str]) -> Floats:
    """Where options stand: numbers that rise at their values, others one after the other."""
    if all(isinstance(label, (int, float)) for label in labels):
        values = np.array(labels, dtype=np.float64)
        if (np.diff(values) > 0).all():
            return values
    return np.arange(len(labels), dtype=np.float64)


def _spread(count: int) -> list[int]:
    """At most `TICKS` places among `count`, evenly spaced, both ends among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, TICKS)).tolist()})
