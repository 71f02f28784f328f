"""The report of a run: one HTML file that needs nothing else, for a screen, a phone or paper."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from chipfit.files import write_whole
from chipfit.graph.subgraphs import cut
from chipfit.report import stages
from chipfit.report.architecture import Row, block_rows, changes, decision_rows, kind_of, latency_rows, shape_rows
from chipfit.report.costs import cost_lines
from chipfit.report.examples import gallery
from chipfit.report.findings import (
    COST_TITLES,
    accuracy_of,
    asked,
    comparison,
    example,
    headline,
    latency_of,
    removals,
    sources,
    stage_counts,
    trained_on,
    winner,
)
from chipfit.report.pictures import front, front_points
from chipfit.report.streams import NOTE, TITLES, stream_heading, stream_lines
from chipfit.report.words import amount, count, duration, listed, plain, small_share
from chipfit.run.export import inherited
from chipfit.run.worth import worths

if TYPE_CHECKING:
    from chipfit.run.journal import Trial
    from chipfit.run.problem import Problem
    from chipfit.run.summary import Summary

SMALL_SHARE = 0.01
"""Subgraphs below this share of the latency of every network are folded away."""

WIDE, NARROW = (760, 420), (360, 340)
"""Sizes of the front for a screen or paper, and for a phone."""


@dataclass(frozen=True, slots=True)
class Contribution:
    """What a stage of the run did: `percent` is its part of the training time of the longest."""

    name: str
    counts: str
    time: str
    percent: float
    result: str


@dataclass(frozen=True, slots=True)
class Listed:
    """A trial in the list of all."""

    number: int
    stage: str
    status: str
    latency: str
    accuracy: str
    changed: str
    why: str


def write_page(summary: Summary, problem: Problem, path: Path) -> None:
    """Writes the report of a run as it stands, finished or not; equal runs give equal files.

    Raises `StorageFull` or `InvalidInput` where `path` cannot be written.
    """
    write_whole(path, page(summary, problem).encode())


def page(summary: Summary, problem: Problem) -> str:
    """The report as HTML."""
    environment = Environment(
        loader=PackageLoader("chipfit.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: value if isinstance(value, Markup) else plain(value),
    )
    points = front_points(summary, problem.space.decisions)
    return environment.get_template("page.html.j2").render(
        study=summary.study,
        finished=summary.finished,
        headline=headline(summary),
        limits=asked(summary),
        columns={name: COST_TITLES[name] for name in ("latency", "parameters", "weights", "peak_memory", "energy")},
        judged={"int8": "int8", "float": "accuracy", "file": "file"} if summary.int8 else {"accuracy": "accuracy"},
        lines=comparison(summary),
        sources=sources(summary, problem.estimator),
        fronts=[front(points, *WIDE), front(points, *NARROW)] if points else [],
        **_networks(summary, problem),
        gallery=gallery(summary),
        streams=stream_lines(summary),
        stream_titles=TITLES,
        stream_notes=(stream_heading(summary), NOTE),
        contributions=contributions(summary),
        trials=[_listed(summary, problem, trial) for trial in summary.trials],
        failures=[_listed(summary, problem, trial) for trial in summary.trials if trial.status == "failed"],
        stopped=[trial.number for trial in summary.trials if trial.status == "stopped"],
        curated=curated(problem),
        costs=cost_lines(summary),
        provenance=provenance(summary, problem),
        estimator=problem.estimator.provenance,
        share=small_share,
        settings=json.dumps(summary.study.identity, indent=2, ensure_ascii=False).split("\n"),
    )


def _networks(summary: Summary, problem: Problem) -> dict[str, Any]:
    """The baseline and what was found, subgraph by subgraph and decision by decision."""
    zero = (0,) * len(problem.space.decisions)
    names = ["baseline"]
    codes: list[tuple[int, ...]] = [zero]
    for row in summary.rows:
        if row.trial is not None and row.name != "baseline":
            names.append(row.name if row.holds else f"{row.name} ✗")
            codes.append(row.trial.code)
    graphs = [problem.space.close(code) for code in codes]
    layers = [{layer.name: layer for layer in problem.estimator.by_layer(graph)} for graph in graphs]
    loads = [
        {subgraph.name: subgraph.workload for subgraph in cut(graph, problem.estimator.target.fuses)}
        for graph in graphs
    ]
    kinds = {name: kind_of(load) for network in reversed(loads) for name, load in network.items()}
    bars = latency_rows(layers, kinds, SMALL_SHARE)
    shown = _shown(summary, codes)
    return {
        "names": names,
        "totals": [amount("latency", sum(layer.latency_s for layer in network.values())) for network in layers],
        "blocks": block_rows(layers),
        "bars": [row for row in bars if not row.small],
        "small_bars": [row for row in bars if row.small],
        "shapes": shape_rows(loads[0], loads[shown]),
        "shown": names[shown],
        "decisions": decision_rows(problem.space.decisions, codes) if len(codes) > 1 else list[Row](),
        "undecided": len(problem.space.decisions) - sum(any(code[i] for code in codes) for i in range(len(zero))),
        "unsupported": problem.estimator.unsupported(graphs[0]),
        "inherited": _inherited(summary, problem),
    }


def _inherited(summary: Summary, problem: Problem) -> list[str]:
    """What the weights of each network that was found started from, a sentence each."""
    sentences: list[str] = []
    for row in summary.rows:
        if row.trial is None or row.name == "baseline":
            continue
        if counts := inherited(problem, summary, row.trial):
            parts = [f"{number} {label}" for label, number in sorted(counts.items())]
            sentences.append(f"{row.name} started from the baseline's weights: {', '.join(parts)}.")
    return sentences


def _shown(summary: Summary, codes: Sequence[tuple[int, ...]]) -> int:
    """Which network is drawn beside the baseline: the best that holds all limits, else the last that there is."""
    best = winner(summary)
    return codes.index(best.trial.code) if best is not None and best.trial is not None else len(codes) - 1


def contributions(summary: Summary) -> list[Contribution]:
    """What each stage cost and gave; a network that two variants asked for counts for the first of them."""
    by_number = {trial.number: trial for trial in summary.trials}
    parts: list[tuple[str, list[Trial], str]] = [
        ("baseline", [trial for trial in summary.trials if trial.stage == "baseline"], "the network to beat")
    ]
    taken: set[int] = set()
    for variant, members in summary.members.items():
        numbers = [number for number in members.get("search", ()) if number in by_number]
        own = [by_number[number] for number in numbers if number not in taken]
        if variant == "baseline" or not numbers:
            continue
        name = "converging search" if summary.study.search.converges else "search"
        for rung in sorted({by_number[number].rung for number in numbers}):
            here = [number for number in numbers if by_number[number].rung == rung]
            fresh = [trial for trial in own if trial.rung == rung]
            title = f"{name} {variant}" + (f", up to epoch {rung}" if rung else "")
            parts.append((title, fresh, _searched(by_number, here, len(here) - len(fresh))))
        taken.update(numbers)
    rest = [trial for trial in summary.trials if trial.stage in ("search", "reference") and trial.number not in taken]
    if rest:
        name = "baseline as in the search" if summary.finished else "search going on"
        parts.append((name, rest, "what a search's training gives the baseline" if summary.finished else ""))
    if shared := [trial for trial in summary.trials if trial.stage == "supernet"]:
        parts.insert(1, ("supernet", shared, "the weights of all networks of the space, trained at once"))
    held = [row.name for row in summary.rows if row.holds and row.trial is not None and row.name != "baseline"]
    result = f"within all limits: {listed(held)}" if held else "none within all limits"
    finals = [trial for trial in summary.trials if trial.stage == "final"]
    parts.append(("full training", finals, result if summary.finished else "not finished"))
    judged = [(stages.title(each), stages.counts(each), each.seconds, stages.result(each)) for each in worths(summary)]
    rows = judged + [
        (name, stage_counts(trials), sum(trial.seconds for trial in trials), result) for name, trials, result in parts
    ]
    longest = max(seconds for _, _, seconds, _ in rows) or 1.0
    return [
        Contribution(name, count, duration(seconds), 100 * seconds / longest, result)
        for name, count, seconds, result in rows
    ]


def curated(problem: Problem) -> tuple[str, list[str]] | None:
    """How many networks the search was offered, and what was left out and why; None where that is nothing."""
    if problem.curated is None:
        return None
    given, left = count(math.prod(problem.space.cardinalities)), count(problem.curated.size)
    return f"Curated before the search: {left} of {given} networks were offered.", removals(
        problem.curated, sys.maxsize
    )


def _searched(trials: Mapping[int, Trial], numbers: Sequence[int], shared: int) -> str:
    costs = [trials[number].costs["latency"] for number in numbers if trials[number].status == "done"]
    fastest = f"latencies from {amount('latency', min(costs))} to {amount('latency', max(costs))}" if costs else ""
    fastest = f"latency {amount('latency', costs[0])}" if len(costs) == 1 else fastest
    again = f"{shared} more known from before" if shared else ""
    return "; ".join(part for part in (fastest, again) if part)


def _listed(summary: Summary, problem: Problem, trial: Trial) -> Listed:
    accuracy = accuracy_of(trial)
    asked_by = [name for name, stages in summary.members.items() if trial.number in stages.get(trial.stage, ())]
    split = f" ({accuracy.split})" if accuracy is not None and summary.study.accuracy is None else ""
    return Listed(
        trial.number,
        f"{trial.kind}: {', '.join(asked_by)}" if asked_by and trial.stage != "baseline" else trial.kind,
        {"done": "trained", "stopped": "stopped early"}.get(trial.status, trial.status),
        latency_of(trial) if trial.costs else "–",
        f"{accuracy}{split}" if accuracy is not None else "–",
        "; ".join(str(change) for change in changes(problem.space.decisions, trial.code)) or "as given",
        trial.why,
    )


def provenance(summary: Summary, problem: Problem) -> list[tuple[str, str]]:
    """What the figures rest on, as titled lines."""
    known, study = summary.provenance, summary.study
    data: Mapping[str, Any] = known.get("data", {})
    machine: Mapping[str, Any] = known.get("machine", {})
    packages: Mapping[str, str] = known.get("packages", {})
    sizes = ", ".join(f"{name} {count:,}" for name, count in data.get("sizes", {}).items())
    origin = known.get("target_source", problem.estimator.target.source)
    described = "a description of a design, not measured on silicon" if origin == "description" else origin
    lines = [
        ("chipfit", " ".join([str(known.get("chipfit", "")), *(f"· {name} {v}" for name, v in packages.items())])),
        ("command", known.get("command", "")),
        ("run directory", summary.directory.name),
        ("model", study.model),
        ("seeds", f"study {study.seed}, data and splits {study.task.seed}"),
        ("data", data.get("source", "")),
        ("splits", f"{sizes} {example(summary)}s; the search saw train and validation only" if sizes else ""),
        ("data fingerprint", str(data.get("fingerprint", ""))[:16]),
        ("machine", ", ".join(str(value) for value in _machine(machine))),
        ("training", f"{duration(summary.seconds)} on {study.device}, summed over {study.workers} workers"),
        ("chip", f"{problem.estimator.target.name} at {problem.estimator.precision_name}; figures from: {described}"),
        ("estimator", f"fitted {problem.estimator.provenance.fitted}; {trained_on(problem.estimator)}"),
    ]
    return [(title, text.strip()) for title, text in lines if text.strip()]


def _machine(machine: Mapping[str, Any]) -> list[str]:
    titles = {"platform": "{}", "processors": "{} processors", "python": "Python {}"}
    return [titles.get(name, f"{name} {{}}").format(value) for name, value in machine.items()]
