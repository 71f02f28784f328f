"""Tables for the terminal. Every function gives something for rich to print; `text` gives the same as plain lines."""

from __future__ import annotations

import io
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from chipfit.estimate.check import other_version
from chipfit.estimate.parallelism import granularities
from chipfit.graph.subgraphs import Subgraph, cut
from chipfit.measure.subgraphs import graph_of
from chipfit.nets.network import Network
from chipfit.nets.streaming import stream_of, with_frames
from chipfit.report.architecture import kind_of
from chipfit.report.findings import COST_TITLES, Line, removals, sources, trained_on
from chipfit.report.findings import comparison as compared
from chipfit.report.words import amount, change, count, latency, listed, plain, plural, share, small_share
from chipfit.spaces.curate import curate

if TYPE_CHECKING:
    from chipfit.estimate.check import Check
    from chipfit.estimate.estimator import Errors, Estimator, LayerCost, Unsupported
    from chipfit.graph.graph import Graph
    from chipfit.run.problem import Problem
    from chipfit.run.summary import Summary
    from chipfit.spaces.preflight import Preflight
    from chipfit.targets.target import Target

WIDTH = 100
"""Columns that every table fits into."""

MATTERS = 3
"""Decisions that are named for each cost."""

TOP = 12
"""Subgraphs that are shown where not all are asked for."""

_MARKS = {"best": "", "holds": "", "fails": "✗ ", "open": "… "}
_BOUND = {"compute": "compute", "weights": "weights", "activations": "activations", "overhead": "set-up"}


def text(renderable: RenderableType, width: int = WIDTH) -> str:
    """What rich would print, as plain text without colours; no line is longer than `width`."""
    file = io.StringIO()
    Console(file=file, width=width, color_system=None, force_terminal=False, legacy_windows=False).print(renderable)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def grid(*columns: str, left: Iterable[int] = (0,)) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for position, title in enumerate(columns):
        kept = position in left
        table.add_column(title, justify="left" if kept else "right", overflow="fold", no_wrap=not kept)
    return table


def remark(lines: Iterable[str], style: str = "dim") -> Text:
    return Text("\n".join(plain(line) for line in lines), style=style)


def comparison(summary: Summary, estimator: Estimator | None = None) -> Group:
    """Baseline and the best of each variant, what is wrong with a row, and where every figure is from.

    `estimator` adds what its predictions rest on. A row that does not hold all limits is marked with ✗.
    """
    lines = compared(summary)
    # With int8 files there is no room for parameters, which weights say as well.
    names = ("weights", "peak_memory", "energy") if summary.int8 else ("parameters", "weights", "peak_memory", "energy")
    judged = ("int8", "float") if summary.int8 else ("accuracy",)
    table = grid("", "latency", "", *judged, *(COST_TITLES[name] for name in names))
    for line in lines:
        time, *found = [line.figures.get(name) for name in ("latency", *names)]
        texts = [figure.text if figure else "–" for figure in found]
        accuracy = (line.int8, line.brief) if summary.int8 else (line.accuracy,)
        style = {"best": "bold green", "fails": "yellow"}.get(line.state, "")
        name, latest, changed = (
            _MARKS[line.state] + plain(line.name),
            *((time.text, time.change) if time else ("–", "")),
        )
        table.add_row(Text(name), latest, changed, *accuracy, *texts, style=style)
    parts: list[RenderableType] = [table]
    if files := [f"{plain(line.name)} {line.file}" for line in lines if line.file != "–"]:
        parts.append(remark([f"int8 files, in {summary.directory / 'int8'}: {', '.join(files)}"]))
    if times := [f"{plain(line.name)} {line.compiled.text} {line.compiled.change}" for line in lines if line.compiled]:
        parts.append(remark([f"compiled: {', '.join(map(str.rstrip, times))}"], ""))
    if notes := [note for line in lines for note in _notes(line)]:
        parts.append(remark(notes, "yellow"))
    return Group(*parts, remark(sources(summary, estimator)))


def _notes(line: Line) -> list[str]:
    return [f"{_MARKS[line.state]}{line.name}: {'; '.join(line.notes)}"] if line.notes else []


def comparison_text(summary: Summary, estimator: Estimator | None = None) -> str:
    """`comparison` as plain text."""
    return text(comparison(summary, estimator))


def estimate(name: str, model: Graph | Network, estimator: Estimator, per_layer: bool = False) -> Group:
    """What a closed network costs: totals with their sources, then where the time goes, the slowest subgraphs first.

    `per_layer` gives every subgraph, in execution order. Raises `InvalidGraph` for an open graph.
    """
    graph = graph_of(model)
    layers = estimator.by_layer(model)
    subgraphs = {subgraph.name: subgraph for subgraph in cut(graph, estimator.target.fuses)}
    shown = layers if per_layer else sorted(layers, key=lambda layer: -layer.latency_s)[:TOP]
    parts: list[RenderableType] = [
        Text(f"{plain(name)} on {_chip(estimator.target, estimator.precision_name)}", style="bold"),
        _totals(model, estimator),
    ]
    if (warning := other_version(estimator)) is not None:
        parts.append(remark([warning], "yellow"))
    if unsupported := estimator.unsupported(graph):
        parts.append(_unsupported(unsupported, estimator.target.name))
    if shown:
        parts += [Text(), _layers(shown, subgraphs)]
    if len(shown) < len(layers):
        rest = 1 - sum(layer.share for layer in shown)
        others = plural(len(layers) - len(shown), "other")
        parts.append(remark([f"{others}: {share(rest)} of the time (all {len(layers)}: --per-layer)"]))
    if outside := [layer.name for layer in layers if not layer.in_range]:
        parts.append(
            remark(
                [f"† outside the shapes that the estimator was trained on, so less certain: {listed(outside)}"],
                "yellow",
            )
        )
    return Group(*parts)


def checked(found: Check) -> Text:
    """How far an estimate is from what the target's own tool says of the same network."""
    source = found.measured.source
    lines = [
        f"  checked with {source.tool} {source.version}: latency {amount('latency', found.measured.latency_s)} "
        f"({source.kind}); the estimate is {change(found.predicted_s, found.measured.latency_s)} off"
    ]
    if found.measured.peak_bytes:
        lines.append(
            f"  peak on-chip memory {amount('peak_memory', found.measured.peak_bytes)}; the count is "
            f"{change(found.predicted_bytes, found.measured.peak_bytes)} off"
        )
    if found.elsewhere:
        lines.append(f"  not run by {found.target}: {listed([plain(name) for name in found.elsewhere])}")
    return remark(lines)


def parallelism(target: Target, estimator: Estimator) -> Group:
    """What a chip's measurements reveal of how many channels it works on at once."""
    table = grid("operator", "axis", "at once", "rises just above multiples")
    for item in granularities(estimator):
        at_once = str(item.channels) if item.channels > 1 else "no steps"
        table.add_row(item.operator + ("" if item.measured else " †"), item.axis, at_once, share(item.share, 0))
    title = Text(f"{_chip(target, estimator.precision_name)}", style="bold")
    return Group(title, Text(target.description), Text(), table, remark([f"from {trained_on(estimator)}"]))


def estimator(fitted: Estimator) -> Group:
    """How far an estimator is off on what it was not trained on, by kind of subgraph and on whole networks."""
    table = grid("held out", "count", "median", "99 % below", "largest", "rank correlation", "within spread")
    found = [*fitted.provenance.subgraph_errors.items()]
    if fitted.provenance.network_errors is not None:
        found.append(("whole networks", fitted.provenance.network_errors))
    for kind, errors in found:
        table.add_row(
            plain(kind), str(errors.count), small_share(errors.median), small_share(errors.p99),
            small_share(errors.largest), f"{errors.spearman:.5f}", share(errors.coverage, 0),
        )  # fmt: skip
    title = Text(f"Estimator of {_chip(fitted.target, fitted.precision_name)}", style="bold")
    return Group(title, table, remark([f"trained on {trained_on(fitted)}"]))


def calibration(fitted: Estimator, before: Errors) -> Group:
    """How far a calibrated estimator is off on networks whose family was left out, beside the one it was made from."""
    found = fitted.calibration
    assert found is not None
    table = grid("whole networks", "count", "median", "largest", "rank correlation")
    after = (found.networks, found.median_error, found.largest_error, found.spearman)
    for name, (number, median, largest, rank) in (
        ("as it was", (before.count, before.median, before.largest, before.spearman)),
        (f"calibrated, left out in turn in {found.families} groups", after),
    ):
        table.add_row(name, str(number), small_share(median), small_share(largest), f"{rank:.5f}")
    title = Text(f"Estimator of {_chip(fitted.target, fitted.precision_name)}", style="bold")
    return Group(title, table, remark([f"from {trained_on(fitted)}"]))


def _chip(target: Target, precision: str) -> str:
    on_chip = amount("peak_memory", target.memory.on_chip_bytes)
    return (
        f"{target.name} ({target.clock_hz / 1e6:.0f} MHz, {target.lanes.macs_per_cycle} MAC/cycle, "
        f"{on_chip} on chip, {precision})"
    )


def _totals(model: Graph | Network, estimator: Estimator) -> Table:
    costs = estimator.costs(model)
    tensors = [plain(name) for name, _ in estimator.peak(model).held]
    layout = estimator.target.layout
    own = isinstance(model, Network)
    compressed = "" if layout.stored_share == 1 else f", compressed ({'these' if own else 'normal'} weights)"
    table = Table(box=None, show_header=False, padding=(0, 3, 0, 0), pad_edge=False)
    for _ in range(2):
        table.add_column(no_wrap=True)
    table.add_column(overflow="fold", style="dim")
    found = latency(float(costs.latency_s[0]), float(costs.spread_s[0]))
    for name, value, source in (
        ("latency", found, f"predicted (estimator: {trained_on(estimator)})"),
        ("energy", amount("energy", float(costs.energy_j[0])), "predicted (modelled), per image"),
        ("weights", amount("weights", float(costs.weight_bytes[0])), f"counted{compressed}"),
        (
            "memory" if layout.weights_on_chip else "activations",
            amount("peak_memory", float(costs.peak_bytes[0])),
            f"counted{_beyond(estimator.target, int(costs.peak_bytes[0]))}"
            f"{', weights included' if layout.weights_on_chip else ''}, at the peak: {listed(tensors)}"
            f"{_in_another_order(estimator, model)}",
        ),
        ("MACs", amount("macs", float(costs.macs[0])), "counted, per image"),
        ("parameters", amount("parameters", float(costs.parameters[0])), "counted, batch normalisation folded"),
        *_on_a_stream(graph_of(model), estimator),
    ):
        table.add_row(f"  {name}", value, Text(source))
    return table


def _on_a_stream(graph: Graph, estimator: Estimator) -> list[tuple[str, str, str]]:
    """What an output takes where frames keep coming; nothing for networks that are not over frames."""
    stream = stream_of(graph)
    if stream is None:
        return []
    costs = estimator.costs(with_frames(graph, stream.step))
    source = f"predicted, per output on a stream: every {plural(stream.step, 'frame')}, looking {stream.ahead} ahead"
    return [("a step", amount("latency", float(costs.latency_s[0])), source)]


def _beyond(target: Target, peak_bytes: int) -> str:
    """What it means that a peak is more than the memory on chip, empty where it is not."""
    on_chip = target.memory.on_chip_bytes
    if peak_bytes <= on_chip:
        return ""
    return f", more than the {amount('peak_memory', on_chip)} on chip (the rest lies outside)"


def _in_another_order(estimator: Estimator, model: Graph | Network) -> str:
    found = estimator.reordered(model)
    if found is None:
        return ""
    return f"; {amount('peak_memory', found.size)} in another order of execution (--json has it)"


def _unsupported(found: Sequence[Unsupported], target: str) -> Text:
    lines = [f"{plural(len(found), 'operator')} cannot run on {target}; latency and energy are without them:"]
    lines += [f"  {plain(item.operator)} ({plain(item.node)}): {item.why}; {item.remedy}" for item in found]
    return Text("\n".join(lines), style="yellow")


def _layers(layers: Sequence[LayerCost], subgraphs: dict[str, Subgraph]) -> Table:
    table = grid("Where the time goes", "latency", "share", "MACs", "busy", "moved", "bound by", left=(0, 6))
    for layer in layers:
        kind = kind_of(subgraphs[layer.name].workload)
        mark = "" if layer.in_range else " †"
        table.add_row(
            Text(f"{plain(layer.name)} ({kind}){mark}"),
            latency(layer.latency_s, layer.spread_s),
            share(layer.share),
            amount("macs", layer.macs),
            share(layer.utilisation, 0),
            amount("peak_memory", layer.moved_bytes),
            Text(_BOUND[layer.bound_by]),
        )
    return table


def preflight(problem: Problem, found: Preflight) -> Group:
    """What a space holds before any search: its decisions, what its networks cost, and which limits can be met."""
    decisions = problem.space.decisions
    edits = {index: edit for edit, members in problem.members.items() for index in members}
    opened = grid("decision", "opened by", "options (the first is the network as given)", left=(0, 1, 2))
    for index, decision in enumerate(decisions):
        offered = problem.offered[index]
        options = ", ".join(plain(decision.options[option]) for option in offered)
        left_out = f" ({len(offered)} of {len(decision)})" if len(offered) < len(decision) else ""
        opened.add_row(Text(plain(decision.name)), Text(plain(edits.get(index, ""))), Text(options + left_out))
    sampled = "all evaluated" if found.sampled >= found.size else f"ranges from a sample of {found.sampled:,}"
    curated = f"; curated to {count(found.size)}" if problem.curated is not None else ""
    given = count(math.prod(problem.space.cardinalities))
    size = f"{plural(len(decisions), 'decision')}, {given} networks{curated} ({sampled})"
    parts = [opened, Text(size, style="bold"), _curated(problem), Text(), _ranges(found), _influence(problem, found)]
    return Group(*parts, _satisfiable(problem, found))


def _influence(problem: Problem, found: Preflight) -> Text:
    """Which decisions matter most for each cost, by the share of its variance that they explain."""
    lines = ["what matters: share of the variance that a decision explains by itself"]
    for name in ("latency", "energy", "weights", "peak_memory"):
        shares = found.influence[name]
        order = sorted(range(len(shares)), key=lambda index: -shares[index])[:MATTERS]
        top = [f"{plain(problem.space.decisions[i].name)} {share(shares[i], 0)}" for i in order if shares[i] >= 0.01]
        rest = sum(shares) - sum(shares[index] for index in order)
        others = f"; all others {share(rest, 0)}" if rest >= 0.01 else ""
        jointly = f"; jointly {share(1 - sum(shares), 0)}" if top and sum(shares) < 0.99 else ""
        mark = "" if name in found.known else " (sampled)"
        lines.append(f"  {COST_TITLES[name]}{mark}: {', '.join(top) or 'no decision by itself'}{others}{jointly}")
    return Text("\n".join(lines), style="dim")


def _curated(problem: Problem) -> Text:
    """What curation has left of a space and why, or would leave."""
    if problem.curated is not None:
        return remark(removals(problem.curated))
    if problem.prepared.tables is None:
        return Text("not curated: the tables of this space are too large", style="dim")
    left = curate(problem.space, problem.prepared.tables)
    if left.size == math.prod(problem.space.cardinalities):
        return Text("curation would leave all of them", style="dim")
    return Text(f"curation would leave {count(left.size)} (in a study: curate = true under [space])", style="dim")


def _ranges(found: Preflight) -> Table:
    table = grid("cost", "as given", "minimum", "median", "maximum", "")
    for name, each in found.ranges.items():
        if name not in COST_TITLES:
            continue
        figures = (each.baseline, each.minimum, each.median, each.maximum)
        mark = "" if each.exact else "sampled"
        table.add_row(COST_TITLES[name], *(amount(name, figure) for figure in figures), mark)
    return table


def _satisfiable(problem: Problem, found: Preflight) -> Text:
    lines: list[str] = []
    for name, limit in problem.limits.items():
        wanted = f"{COST_TITLES[name]} ≤ {amount(name, limit)}"
        if name in found.excess:
            lines.append(f"✗ {wanted}: the nearest network is {share(found.excess[name])} above")
        else:
            held = found.shares[name]
            lines.append(f"✓ {wanted}: {_share_of(held)} hold it")
    if not lines:
        return Text("no limit on costs is asked for", style="dim")
    if found.feasible is None:
        lines.append("✗ no network was found that meets all limits at once")
    else:
        lines.append(f"✓ all limits at once: satisfiable ({_share_of(found.share)})")
    return Text("\n".join(lines), style="yellow" if found.feasible is None else "green")


def _share_of(fraction: float) -> str:
    """A share of networks; a sample that met none is no proof that there is none."""
    return f"{share(fraction)} of networks" if fraction >= 1e-3 else "under 0.1 % of networks"


def targets(found: Sequence[Target]) -> Group:
    """The chips that are known, and where their figures are from."""
    table = grid("target", "peak", "clock", "on chip", "what it is", left=(0, 4))
    for target, following in zip(found, [*found[1:], None], strict=True):
        table.add_row(
            Text(plain(target.name)),
            f"{target.peak_macs_per_second / 1e9:.4g} GMAC/s",
            f"{target.clock_hz / 1e6:.0f} MHz",
            amount("peak_memory", target.memory.on_chip_bytes),
            Text(plain(target.description) + _precisions(target)),
            end_section=following is not None and _family(target.name) != _family(following.name),
        )
    table.columns[0].min_width = min(32, max((len(target.name) for target in found), default=0))
    origins: dict[str, list[str]] = {}
    for target in found:
        origins.setdefault(target.source, []).append(target.name)
    lines = [f"figures of {_together(names, found)}: {_origin(source)}" for source, names in origins.items()]
    return Group(table, remark(lines))


def _precisions(target: Target) -> str:
    return f"; {', '.join(sorted(target.precisions))}" if len(target.precisions) > 1 else ""


def _family(name: str) -> str:
    """What targets that follow each other have in common: the first two words of the name."""
    return "-".join(name.split("-")[:2])


def _together(names: Sequence[str], found: Sequence[Target]) -> str:
    """Names, as one pattern where they are just those of a family."""
    family = _family(names[0])
    whole = [target.name for target in found if target.name.startswith(family)] == list(names)
    return f"{family}*" if whole and len(names) > 2 else ", ".join(names)


def _origin(source: str) -> str:
    return "a description of a design, not measured on silicon" if source == "description" else source
