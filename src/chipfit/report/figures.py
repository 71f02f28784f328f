"""Pictures of a run as files, for a paper or a slide: the front, and where the time went and goes."""

from __future__ import annotations

import base64
import io
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from PIL import Image

from chipfit.errors import InvalidInput
from chipfit.files import write_whole
from chipfit.report.architecture import merged
from chipfit.report.examples import Gallery, gallery
from chipfit.report.findings import winner
from chipfit.report.landscape import CHIP, DOTS, FAINT, INCHES, SMOOTH, STYLE, path_of, write_picture
from chipfit.report.pictures import front, front_points
from chipfit.report.words import plain
from chipfit.spaces.curate import curate
from chipfit.spaces.landscape import landscape, widest

if TYPE_CHECKING:
    from chipfit.estimate.estimator import LayerCost
    from chipfit.run.journal import Trial
    from chipfit.run.problem import Problem
    from chipfit.run.summary import Summary

FRONT = (760, 420)
LAYERS = 18
"""Layers with a bar of their own, those that take longest; the others share one."""


def write_figures(summary: Summary, problem: Problem, directory: Path) -> tuple[Path, ...]:
    """Writes pictures of a run into a directory and gives their paths; equal runs give equal files.

    front.svg; layers.svg, where something was found, of the baseline and the best network that holds all limits;
    landscape.svg, along one decision, with the path of the searches; examples.png, where the task has images. Raises
    `InvalidInput` for a run without a trained network, and what `write_whole` raises.
    """
    points = front_points(summary, problem.space.decisions)
    if not points:
        raise InvalidInput(f"{summary.directory} has no trained network yet, so there is nothing to draw")
    written = [directory / "front.svg"]
    write_whole(written[0], _standing_alone(str(front(points, *FRONT))).encode())
    best = winner(summary)
    if best is not None and best.trial is not None:
        written.append(directory / "layers.svg")
        write_whole(written[1], _layers(summary, problem, best.name, best.trial))
    written.append(directory / "landscape.svg")
    _landscape(summary, problem, written[-1])
    seen = gallery(summary)
    if seen is not None and all(panel.picture for _, panels in seen.rows for panel in panels):
        written.append(directory / "examples.png")
        write_whole(written[-1], _examples(seen))
    return tuple(written)


def _standing_alone(picture: str) -> str:
    """The picture of the page as a file: with the page's light colours, and where it stands."""
    style = files("chipfit.report").joinpath("templates/page.css").read_text(encoding="utf-8")
    colours = re.search(r":root \{.*?\}", style, re.DOTALL)
    wanted = re.compile(r"svg \{|\.(grid|tick|label|searched|tie|front|error|best|given|beaten)\b")
    rules = [line for line in map(str.strip, style.splitlines()) if wanted.match(line)]
    sheet = "\n".join([colours[0] if colours else "", "svg { background: #fff; }", *rules])
    return picture.replace("<svg ", '<svg xmlns="http://www.w3.org/2000/svg" ', 1).replace(
        "</title>", f"</title><style>{sheet}</style>", 1
    )


def _layers(summary: Summary, problem: Problem, name: str, trial: Trial) -> bytes:
    """Bars of the slowest layers, before and after, in the order of the network."""
    networks = [problem.space.close((0,) * len(problem.space.decisions)), problem.space.close(trial.code)]
    layers = [{layer.name: layer for layer in problem.estimator.by_layer(graph)} for graph in networks]
    names = merged([list(network) for network in layers])
    longest = sorted(names, key=lambda each: -max(_us(network.get(each)) for network in layers))[:LAYERS]
    shown = [each for each in names if each in longest]
    others = [each for each in names if each not in longest]
    rows = np.array([[_us(network.get(each)) for network in layers] for each in shown])
    if others:
        rest = [sum(_us(network.get(each)) for each in others) for network in layers]
        rows, shown = np.concatenate([rows, [rest]]), [*shown, f"{len(others)} others"]
    totals = [sum(map(_us, network.values())) for network in layers]
    content = io.BytesIO()
    with rc_context(STYLE):
        figure = Figure((INCHES[0], 1.4 + 0.3 * len(shown)), layout="constrained")
        title = (
            f"{summary.study.name} on {problem.estimator.target.name}: {totals[0]:.0f} µs before, {totals[1]:.0f} after"
        )
        figure.suptitle(plain(title), x=0.01, ha="left", fontsize=13, fontweight="bold")
        axes = figure.subplots()
        places = np.arange(len(shown))
        axes.barh(places - 0.2, rows[:, 0], 0.38, color=SMOOTH, label="baseline")
        axes.barh(places + 0.2, rows[:, 1], 0.38, color=CHIP, label=plain(name))
        axes.set_yticks(places, [plain(each) for each in shown])
        axes.tick_params(axis="y", length=0)
        axes.grid(visible=False, axis="y")
        axes.invert_yaxis()
        axes.set_xlabel("latency in µs, predicted")
        axes.set_title(
            "the slowest layers; a layer without a bar is not in that network", loc="left", fontsize=8, color=FAINT
        )
        axes.spines[["top", "right"]].set_visible(False)
        figure.legend(loc="outside lower left", ncols=2, frameon=False)
        figure.savefig(content, format="svg", dpi=DOTS, metadata={"Date": None})
    return content.getvalue()


def _landscape(summary: Summary, problem: Problem, file: Path) -> None:
    """Latency along the decision that matters most, with what the searches tried."""
    found = landscape(problem.space, problem.prepared, [widest(problem.space, problem.prepared)])
    curated = problem.curated
    if curated is None and problem.prepared.tables is not None:
        curated = curate(problem.space, problem.prepared.tables)
    kept = [curated.kept[index] for index in found.decisions] if curated is not None else [()]
    title = f"{summary.study.name} on {problem.estimator.target.name}"
    write_picture(found, kept, path_of(summary), title, "all other decisions as given", file)


def _examples(seen: Gallery) -> bytes:
    """A column for each example, a row for the truth and each network."""
    content = io.BytesIO()
    with rc_context(STYLE):
        figure = Figure((1.7 * len(seen.rows), 0.5 + 1.7 * len(seen.columns)), layout="constrained")
        grid = figure.subplots(len(seen.columns), len(seen.rows), squeeze=False)
        for column, (_, panels) in enumerate(seen.rows):
            for row, panel in enumerate(panels):
                axes = grid[row, column]
                axes.imshow(Image.open(io.BytesIO(base64.b64decode(panel.picture.partition(",")[2]))))
                axes.set_axis_off()
                if column == 0:
                    axes.set_title(plain(seen.columns[row]), loc="left", fontweight="bold")
        if seen.keys:
            patches = [Patch(color=colour, label=plain(name)) for colour, name in seen.keys]
            figure.legend(handles=patches, loc="outside lower left", ncols=6, frameon=False)
        figure.savefig(content, format="png", dpi=DOTS // 2, metadata={"Software": None})
    return content.getvalue()


def _us(layer: LayerCost | None) -> float:
    return 0.0 if layer is None else layer.latency_s * 1e6
