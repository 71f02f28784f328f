"""The landscape of a cost as a picture for a slide: smooth in MACs, rocky on the chip, with the options worth offering.

One decision gives two lines and, under them, what a search tried; two decisions give a map with the search's path.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.report.drawing import Cells, Dot, Drawing, Line, Mark, Place, Words
from chipfit.report.pictures import ticks
from chipfit.spaces.landscape import Landscape

Floats = NDArray[np.float64]

WIDTH, HEIGHT = 960, 540
INK, FAINT, GRID = "#22303c", "#6b7885", "#e3e7eb"
CHIP, SMOOTH, OFFERED, GIVEN, PATH = "#1f5fa8", "#8a96a3", "#e0701a", "#22303c", "#1a9b76"
SHADES = np.array([[250, 246, 226], [247, 205, 116], [230, 125, 77], [173, 54, 92], [84, 23, 92], [20, 11, 52]])
"""From cheap to dear, darker all the way, so that it also reads in grey."""
APART = 34
"""Pixels between two options that are both named in the picture, at least."""


@dataclass(frozen=True, slots=True)
class Step:
    """A network that a search tried: its option of every decision; `better` says that nothing before was as good."""

    code: tuple[int, ...]
    better: bool


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where data goes: ranges and edges in pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    left: float
    right: float
    top: float
    bottom: float

    def at(self, x: float, y: float) -> Place:
        across = (x - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - self.left)
        return self.left + across, self.bottom - (y - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - self.top)


def picture(
    found: Landscape, kept: Sequence[Sequence[int]], path: Sequence[Step], title: str, subtitle: str
) -> Drawing:
    """The drawing of a landscape. `kept` are the options worth offering of each of its decisions, by index in the
    space; `path` is what a search tried, in order, empty where none is shown."""
    marks: list[Mark] = [Words((40, 38), title, 22, INK, bold=True), Words((40, 60), subtitle, 13, FAINT)]
    marks += _lines(found, kept[0], path) if len(found.decisions) == 1 else _map(found, kept, path)
    return Drawing(WIDTH, HEIGHT, f"{title}. {subtitle}", marks)


def _lines(found: Landscape, kept: Sequence[int], path: Sequence[Step]) -> list[Mark]:
    latency, macs = found.line(0)
    places = _positions(found.labels(0))
    x = _padded(float(places[0]), float(places[-1]))
    floor = 400.0 if path else 490.0
    upper = _Frame(x, _padded(float(macs.min()) / 1e6, float(macs.max()) / 1e6), 90, 930, 108, 184)
    lower = _Frame(x, _padded(float(latency.min()) * 1e3, float(latency.max()) * 1e3), 90, 930, 210, floor)
    marks = _axes(upper, found, "million MACs", 3, named=False) + _axes(lower, found, "latency in ms", 6, not path)
    marks.append(Line(tuple(upper.at(p, value / 1e6) for p, value in zip(places, macs, strict=True)), SMOOTH, 2.5))
    marks.append(Line(tuple(lower.at(p, value * 1e3) for p, value in zip(places, latency, strict=True)), CHIP, 2.5))
    named: list[float] = []
    for index in kept:
        place = found.options[0].index(index)
        spot = lower.at(places[place], latency[place] * 1e3)
        marks.append(Dot(spot, 6, OFFERED))
        if all(abs(spot[0] - other) > APART for other in named):
            marks.append(Words((spot[0] + 7, spot[1] + 18), str(found.labels(0)[place]), 13, OFFERED))
            named.append(spot[0])
    (given,) = found.given
    marks.append(Dot(lower.at(places[given], latency[given] * 1e3), 4, GIVEN))
    entries = [("MACs", SMOOTH), ("the chip", CHIP), ("worth offering", OFFERED), ("as given", GIVEN)]
    if path:
        marks += _tried(found, places, path, _Frame(x, (len(path) + 0.5, 0.5), 90, 930, floor + 18, 490))
        entries.append(("what the search tried, top to bottom", PATH))
    return marks + _legend(entries if kept else [entry for entry in entries if entry[1] != OFFERED])


def _tried(found: Landscape, places: Floats, path: Sequence[Step], frame: _Frame) -> list[Mark]:
    """One dot for each network that was tried, the first at the top; a line through those that were better."""
    spots = [
        frame.at(float(places[found.options[0].index(step.code[found.decisions[0]])]), number)
        for number, step in enumerate(path, start=1)
    ]
    return [
        *_axes(frame, found, "trial", 0, True),
        *_trail(spots, path),
    ]


def _trail(spots: Sequence[Place], path: Sequence[Step]) -> list[Mark]:
    better = [spot for spot, step in zip(spots, path, strict=True) if step.better]
    marks: list[Mark] = [Dot(spot, 3, PATH) for spot, step in zip(spots, path, strict=True) if not step.better]
    if len(better) > 1:
        marks += [Line(tuple(better), "#ffffff", 4.5), Line(tuple(better), PATH, 2.5)]
    return marks + [Dot(spot, 5.5, PATH) for spot in better]


def _map(found: Landscape, kept: Sequence[Sequence[int]], path: Sequence[Step]) -> list[Mark]:
    rows, columns = found.latency_s.shape[1], found.latency_s.shape[0]
    frame = _Frame((-0.5, columns - 0.5), (-0.5, rows - 0.5), 90, 760, 112, 480)
    low, high = float(found.latency_s.min()), float(found.latency_s.max())
    level = (found.latency_s.T[::-1] - low) / ((high - low) or 1.0)
    marks: list[Mark] = [Cells((frame.left, frame.top), (frame.right, frame.bottom), _shaded(level))]
    marks += _map_axes(frame, found)
    spots = [
        frame.at(found.options[0].index(first), found.options[1].index(second))
        for first in kept[0]
        for second in kept[1]
    ]
    marks += [Dot(spot, 3.5, OFFERED, 1.5) for spot in spots]
    taken = [tuple(found.options[axis].index(step.code[d]) for axis, d in enumerate(found.decisions)) for step in path]
    marks += _trail([frame.at(*place) for place in taken], path)
    marks.append(Dot(frame.at(*found.given), 6, GIVEN, 2))
    marks += _scale(low * 1e3, high * 1e3, frame)
    entries = [("worth offering", OFFERED), ("as given", GIVEN), ("path of the search", PATH)]
    shown = {OFFERED: bool(spots), GIVEN: True, PATH: bool(path)}
    return marks + _legend([entry for entry in entries if shown[entry[1]]])


def _shaded(level: Floats) -> NDArray[np.uint8]:
    """Colours (…, 3) of levels from 0 to 1."""
    at = np.linspace(0, 1, len(SHADES))
    return np.stack([np.interp(level, at, SHADES[:, channel]) for channel in range(3)], axis=-1).astype(np.uint8)


def _scale(low: float, high: float, frame: _Frame) -> list[Mark]:
    """What the colours of a map stand for."""
    bar = _Frame((0, 1), (low, high) if high > low else (low - 1, low + 1), 820, 840, frame.top, frame.bottom)
    marks: list[Mark] = [Cells((bar.left, bar.top), (bar.right, bar.bottom), _shaded(np.linspace(1, 0, 256)[:, None]))]
    for value in ticks(*bar.y, 6):
        marks.append(Words((bar.right + 8, bar.at(0, value)[1] + 4), f"{value:.4g}", 12, FAINT))
    middle = (bar.top + bar.bottom) / 2
    return [*marks, Words((bar.left - 12, middle), "latency in ms", 13, INK, "middle", turned=True)]


def _map_axes(frame: _Frame, found: Landscape) -> list[Mark]:
    marks: list[Mark] = []
    for axis in (0, 1):
        labels = found.labels(axis)
        for place in _spread(len(labels), 10):
            if axis == 0:
                spot = frame.at(place, 0)[0], frame.bottom + 18
            else:
                spot = frame.left - 8, frame.at(0, place)[1] + 4
            marks.append(Words(spot, str(labels[place]), 12, FAINT, "middle" if axis == 0 else "end"))
    first, second = (found.space.decisions[index].name for index in found.decisions)
    across, down = (frame.left + frame.right) / 2, (frame.top + frame.bottom) / 2
    marks.append(Words((across, frame.bottom + 42), first, 13, INK, "middle"))
    return [*marks, Words((34, down), second, 13, INK, "middle", turned=True)]


def _axes(frame: _Frame, found: Landscape, title: str, lines: int, named: bool) -> list[Mark]:
    """Grid and ticks of a panel; the options stand under it where it is `named`."""
    marks: list[Mark] = []
    for value in ticks(*frame.y, lines) if lines else []:
        left, right = frame.at(frame.x[0], value), frame.at(frame.x[1], value)
        marks += [Line((left, right), GRID), Words((left[0] - 8, left[1] + 4), f"{value:.4g}", 12, FAINT, "end")]
    labels = found.labels(0)
    places = _positions(labels)
    numbers = not any(isinstance(label, str) for label in labels)
    across = (
        [(value, f"{value:.4g}") for value in ticks(*frame.x, 14)]
        if numbers
        else [(float(places[at]), str(labels[at])) for at in _spread(len(labels), 10)]
    )
    for value, text in across:
        x = frame.at(value, frame.y[0])[0]
        marks.append(Line(((x, frame.top), (x, frame.bottom)), GRID))
        marks += [Words((x, frame.bottom + 18), text, 12, FAINT, "middle")] if named else []
    if named:
        name = found.space.decisions[found.decisions[0]].name
        marks.append(Words(((frame.left + frame.right) / 2, frame.bottom + 38), name, 13, INK, "middle"))
    middle = (frame.top + frame.bottom) / 2
    return [*marks, Words((38, middle), title, 13, INK, "middle", turned=True)]


def _legend(entries: Sequence[tuple[str, str]]) -> list[Mark]:
    marks: list[Mark] = []
    x = 90.0
    for text, colour in entries:
        marks += [Dot((x, 82), 5, colour, 0), Words((x + 10, 87), text, 13, INK)]
        x += 34 + 7.0 * len(text)
    return marks


def _positions(labels: Sequence[int | float | str]) -> Floats:
    """Where options stand: numbers that rise at their values, others one after the other."""
    if all(isinstance(label, (int, float)) for label in labels):
        values = np.array(labels, dtype=np.float64)
        if (np.diff(values) > 0).all():
            return values
    return np.arange(len(labels), dtype=np.float64)


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def _spread(count: int, most: int) -> list[int]:
    """At most so many places among `count`, evenly spaced, both ends among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most)).tolist()})
