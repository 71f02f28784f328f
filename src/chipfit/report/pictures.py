"""Pictures of a run as inline SVG.

Drawn here and not by a plotting library: inline SVG takes its colours, light or dark, from the page's stylesheet, needs
no script, prints sharply, and keeps the page at some 100 KB instead of 5 MB. What is under the pointer is a <title>.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING
from xml.etree import ElementTree

import numpy as np
from markupsafe import Markup

from chipfit.report.architecture import changes
from chipfit.report.findings import accuracy_of, latency_of
from chipfit.report.words import plain
from chipfit.search.pareto import front_mask, ties

if TYPE_CHECKING:
    from chipfit.graph.values import Decision
    from chipfit.run.journal import Trial
    from chipfit.run.summary import Summary

EDGE_BELOW = 3.0
"""Searched networks further below the best than this many times the median's distance are drawn at the lower edge."""


LONGEST_LABEL = 28
LETTER_WIDTH = 7.5
"""Pixels that a letter of a label takes, about."""


@dataclass(frozen=True, slots=True)
class Point:
    """A trained network in the picture: `role` is "search", "final" or "baseline", `label` stands beside the point."""

    role: str
    label: str
    title: str
    latency_s: float
    spread_s: float
    accuracy: float
    standard_error: float


@dataclass(frozen=True, slots=True)
class _Frame:
    """Where data goes: ranges of latency in ms and accuracy in %, and the plot's edges in pixels."""

    x: tuple[float, float]
    y: tuple[float, float]
    left: float
    right: float
    top: float
    bottom: float

    def across(self, value: float) -> float:
        return self.left + (value - self.x[0]) / (self.x[1] - self.x[0]) * (self.right - self.left)

    def down(self, value: float) -> float:
        return self.bottom - (value - self.y[0]) / (self.y[1] - self.y[0]) * (self.bottom - self.top)


def front_points(summary: Summary, decisions: Sequence[Decision]) -> list[Point]:
    """Every network with an accuracy: searched ones (validation), fully trained ones (test where there is one)."""
    names: dict[int, list[str]] = {}
    for row in summary.rows:
        if row.trial is not None:
            names.setdefault(row.trial.number, []).append(row.name if row.holds else f"{row.name} ✗")
    points: list[Point] = []
    lasting = [trial for trial in summary.trials if trial.rung and trial.status != "failed"]
    highest = {trial.code: trial.rung for trial in sorted(lasting, key=lambda trial: trial.rung)}
    for trial in summary.trials:
        if trial.rung and trial.rung < highest.get(trial.code, 0):
            continue  # it was trained on
        found = accuracy_of(trial)
        labels = names.get(trial.number, [])
        if found is None or trial.status == "failed" or (trial.stage in ("baseline", "supernet") and not labels):
            continue
        role = "baseline" if "baseline" in labels else "final" if trial.stage == "final" else "search"
        points.append(
            Point(
                role, ", ".join(labels) if role != "search" else "", _title(trial, labels, decisions),
                trial.costs["latency"], trial.costs.get("latency_spread", 0.0),
                found.value, found.standard_error if math.isfinite(found.standard_error) else 0.0,
            )
        )  # fmt: skip
    return points


def _title(trial: Trial, labels: Sequence[str], decisions: Sequence[Decision]) -> str:
    found = accuracy_of(trial)
    split = f" ({found.split})" if found else ""
    first = f"{', '.join(labels) or f'trial {trial.number}'}: {latency_of(trial)}, accuracy {found}{split}"
    changed = [plain(change) for change in changes(decisions, trial.code)] or ["the network as given"]
    return "\n".join([plain(first), *changed])


def front(points: Sequence[Point], width: int, height: int) -> Markup:
    """Latency against accuracy: searched networks faint, fully trained ones with error bars, the front as a line.

    Networks that cannot be told apart within their spreads are joined. `points` must not be empty.
    """
    frame = _frame(points, width, height)
    figure = _element(None, "svg", viewBox=f"0 0 {width} {height}", role="img", width=width, height=height)
    _text(figure, "title", "Latency against accuracy of all trained networks")
    _axes(figure, frame)
    for point in points:
        if point.role == "search":
            _searched(figure, frame, point)
    finals = sorted((point for point in points if point.role != "search"), key=lambda point: point.latency_s)
    values = np.array([[point.latency_s, -point.accuracy] for point in finals]).reshape(-1, 2)
    spreads = np.array([[point.spread_s, point.standard_error] for point in finals]).reshape(-1, 2)
    best, tied = front_mask(values), ties(values, spreads)
    _ties(figure, frame, finals, tied)
    _front_line(figure, frame, [point for point, on in zip(finals, best, strict=True) if on])
    for index, point in enumerate(finals):
        _final(figure, frame, point, bool(best[index] or (tied[index] & best).any()))
    _labels(figure, frame, finals)
    return Markup(ElementTree.tostring(figure, encoding="unicode"))  # ElementTree has escaped all texts


def _frame(points: Sequence[Point], width: int, height: int) -> _Frame:
    shown = [point.accuracy for point in points if point.role == "search"]
    finals = [point for point in points if point.role != "search"]
    lows = [point.accuracy - point.standard_error for point in finals]
    highs = [point.accuracy + point.standard_error for point in finals] + shown
    if shown:
        best, median = max(shown), float(np.median(shown))
        lows.append(max(min(shown), best - EDGE_BELOW * max(best - median, 0.01)))
    left = [point.latency_s - point.spread_s for point in points]
    right = [point.latency_s + point.spread_s for point in points]
    return _Frame(
        _padded(min(left) * 1e3, max(right) * 1e3),
        _padded(min(lows) * 100, max(highs) * 100),
        46.0, width - 12.0, 10.0, height - 40.0,
    )  # fmt: skip


def _padded(low: float, high: float) -> tuple[float, float]:
    margin = 0.06 * (high - low) or 0.05 * abs(high) or 1.0
    return low - margin, high + margin


def ticks(low: float, high: float, most: int) -> list[float]:
    """At most `most` round numbers from `low` to `high`, at steps of 1, 2 or 5 times a power of ten."""
    exponent = math.floor(math.log10((high - low) / most))
    for step in (10.0**exponent * factor for factor in (1, 2, 5, 10, 20, 50)):
        found = [step * index for index in range(math.ceil(low / step), math.floor(high / step) + 1)]
        if len(found) <= most:
            return found
    return []


def _axes(figure: ElementTree.Element, frame: _Frame) -> None:
    wide = frame.right - frame.left > 400
    for value in ticks(*frame.x, 8 if wide else 4):
        across = frame.across(value)
        _element(figure, "line", "grid", x1=across, x2=across, y1=frame.top, y2=frame.bottom)
        _text(figure, "text", f"{value:.4g}", "tick", x=across, y=frame.bottom + 16, **{"text-anchor": "middle"})
    for value in ticks(*frame.y, 6):
        down = frame.down(value)
        _element(figure, "line", "grid", x1=frame.left, x2=frame.right, y1=down, y2=down)
        _text(figure, "text", f"{value:.4g}", "tick", x=frame.left - 6, y=down + 4, **{"text-anchor": "end"})
    middle = (frame.left + frame.right) / 2
    _text(figure, "text", "predicted latency in ms", "axis", x=middle, y=frame.bottom + 34, **{"text-anchor": "middle"})
    place = f"translate(13 {(frame.top + frame.bottom) / 2:.1f}) rotate(-90)"
    _text(figure, "text", "accuracy in %", "axis", transform=place, **{"text-anchor": "middle"})


def _searched(figure: ElementTree.Element, frame: _Frame, point: Point) -> None:
    x, y = frame.across(point.latency_s * 1e3), frame.down(point.accuracy * 100)
    if y > frame.bottom:
        edge = frame.bottom - 5
        shape = _element(figure, "path", "searched", d=f"M{x - 4:.1f} {edge - 3:.1f}h8l-4 7z")
    else:
        shape = _element(figure, "circle", "searched", cx=x, cy=y, r=3.5)
    _text(shape, "title", point.title)


def _ties(figure: ElementTree.Element, frame: _Frame, points: Sequence[Point], tied: np.ndarray) -> None:
    for i, j in zip(*np.nonzero(np.triu(tied)), strict=True):
        ends = [(frame.across(p.latency_s * 1e3), frame.down(p.accuracy * 100)) for p in (points[i], points[j])]
        band = _element(figure, "line", "tie", x1=ends[0][0], y1=ends[0][1], x2=ends[1][0], y2=ends[1][1])
        names = " and ".join(point.label or "another network" for point in (points[i], points[j]))
        _text(band, "title", f"{names} cannot be told apart within their spread")


def _front_line(figure: ElementTree.Element, frame: _Frame, points: Sequence[Point]) -> None:
    """Steps, not slopes: between two networks there is none."""
    if not points:
        return
    places = [(frame.across(point.latency_s * 1e3), frame.down(point.accuracy * 100)) for point in points]
    path = f"M{places[0][0]:.1f} {frame.bottom:.1f}V{places[0][1]:.1f}"
    path += "".join(f"H{x:.1f}V{y:.1f}" for x, y in places[1:]) + f"H{frame.right:.1f}"
    _element(figure, "path", "front", d=path)


def _final(figure: ElementTree.Element, frame: _Frame, point: Point, prominent: bool) -> None:
    x, y = frame.across(point.latency_s * 1e3), frame.down(point.accuracy * 100)
    kind = "given" if point.role == "baseline" else "best" if prominent else "beaten"
    group = _element(figure, "g", f"final {kind}")
    _text(group, "title", point.title)
    reach = [frame.across((point.latency_s + sign * point.spread_s) * 1e3) for sign in (-1, 1)]
    spread = [frame.down((point.accuracy + sign * point.standard_error) * 100) for sign in (-1, 1)]
    _element(group, "line", "error", x1=reach[0], x2=reach[1], y1=y, y2=y)
    _element(group, "line", "error", x1=x, x2=x, y1=spread[0], y2=spread[1])
    if kind == "given":
        _element(group, "path", "dot", d=f"M{x:.1f} {y - 7:.1f}l7 7l-7 7l-7 -7z")
    else:
        _element(group, "circle", "dot", cx=x, cy=y, r=6)


def _labels(figure: ElementTree.Element, frame: _Frame, points: Sequence[Point]) -> None:
    """Names beside the points, each where it hides no other point or name, if there is such a place."""
    places = [(frame.across(point.latency_s * 1e3), frame.down(point.accuracy * 100)) for point in points]
    taken = [(x - 8, y - 8, x + 8, y + 8) for x, y in places]
    for point, (x, y) in zip(points, places, strict=True):
        label = plain(point.label)
        label = label if len(label) <= LONGEST_LABEL else f"{label[: LONGEST_LABEL - 1]}…"
        if not label:
            continue
        wide = LETTER_WIDTH * len(label)
        spots = [(side, line) for line in (-11, 20, -27, 36, -43, 52) for side in (10, -10)]
        boxes = {spot: _box(x + spot[0], y + spot[1], wide if spot[0] > 0 else -wide) for spot in spots}
        inside = [
            spot
            for spot, box in boxes.items()
            if box[0] >= 0 and box[2] <= frame.right + 10 and box[1] >= frame.top - 8
        ]
        side, line = min(inside or spots, key=lambda spot: sum(_overlap(boxes[spot], other) for other in taken))
        taken.append(boxes[side, line])
        anchor = {"text-anchor": "start" if side > 0 else "end"}
        _text(figure, "text", label, "label", x=x + side, y=y + line, **anchor)


def _box(x: float, y: float, wide: float) -> tuple[float, float, float, float]:
    return min(x, x + wide), y - 11, max(x, x + wide), y + 3


def _overlap(a: tuple[float, float, float, float], b: tuple[float, float, float, float]) -> float:
    across, down = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    return max(across, 0.0) * max(down, 0.0)


def _element(
    parent: ElementTree.Element | None, tag: str, style: str = "", **attributes: str | float
) -> ElementTree.Element:
    texts = {
        name: value if isinstance(value, str) else f"{value:.1f}".removesuffix(".0")
        for name, value in attributes.items()
    }
    texts |= {"class": style} if style else {}
    if parent is None:
        return ElementTree.Element(tag, texts)
    return ElementTree.SubElement(parent, tag, texts)


def _text(parent: ElementTree.Element, tag: str, text: str, style: str = "", **attributes: str | float) -> None:
    _element(parent, tag, style, **attributes).text = "\n".join(plain(line) for line in text.split("\n"))
