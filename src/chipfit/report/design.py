"""Designs compared in the terminal: the table, what matters, which networks change places; words for the page too."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich import box
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from chipfit.estimate.design import Area, Designs, main_effects, rank_changes, within
from chipfit.report.words import amount, listed, plain, plural, share

if TYPE_CHECKING:
    from numpy.typing import NDArray

LINES = 36
"""Lines of the table of designs; where all would be more, only designs on a front are shown."""

EACH = 3
"""Networks that get lines of their own; of more there are the mean and the worst."""

COLUMNS = 2
"""Parameters that get columns of their own; more stand together in one."""

PAIRS = 4
"""Pairs of networks that change places and are named, those first that do so on most designs."""

SIMULATED = "latency, energy and utilisation are simulated from the description: no chip was measured, nothing fitted"


def setting(key: str, value: Any) -> str:
    """The value of a key as people read it: "512 KiB", "500 MHz", "4 GB/s", "16"."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return plain(value)
    if key.endswith("_bytes"):
        return amount("weights", value)
    if key.endswith("_hz"):
        return f"{value / 1e9:.4g} GHz" if value >= 1e9 else f"{value / 1e6:.4g} MHz"
    if key.endswith("_bytes_per_s"):
        return f"{value / 1e9:.4g} GB/s"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def _values(found: Designs, design: int) -> list[str]:
    return [
        setting(item.keys[0], item.values[index])
        for item, index in zip(found.parameters, found.choices[design], strict=True)
    ]


def settings(found: Designs, design: int) -> str:
    """What one design is, in a line: "lanes.output_channels 16, clock_hz 500 MHz"."""
    pairs = zip(found.parameters, _values(found, design), strict=True)
    return ", ".join(f"{plain(item.name)} {value}" for item, value in pairs) or "as described"


def brief(found: Designs, design: int) -> str:
    """`settings`, or the values alone in the order of the legend where they are many: "16 · 4 · 512 KiB"."""
    if len(found.parameters) <= COLUMNS:
        return settings(found, design)
    return " · ".join(_values(found, design))


def assumption(area: Area) -> str:
    """What the area rests on, in a line."""
    own = "assumed, 45 nm" if area == Area() else "as given"
    return (
        f"area is a proxy: {area.mac_um2:g} µm² per lane and {area.on_chip_byte_um2:g} µm² per on-chip byte ({own}); "
        "control, vector unit, registers and wires are left out"
    )


def designs(found: Designs, limits: Mapping[str, float] | None = None) -> Group:
    """The designs, which of them are on a front, what matters and which networks change places; at most 100 columns."""
    held = within(found, limits) if limits else None
    rows, left_out = shown(found, held)
    networks = plural(len(found.networks), "network")
    title = f"{plural(len(found), 'design')} around {plain(found.target.name)}, {networks}"
    parts: list[RenderableType] = [Text(title, style="bold"), _lines([headline(found)]), Text()]
    parts += [_table(found, rows, held), _lines(legend(found, left_out, held), "dim")]
    if len(found) > 1:
        parts += [Text(), _importance(found)]
    if lines := rankings(found):
        parts += [Text(), Text("Which network is faster", style="bold"), _lines(lines)]
    if lines := gaps(found):
        parts += [Text(), _lines(lines, "yellow")]
    return Group(*parts, Text(), _lines(notes(found), "dim"))


def notes(found: Designs) -> list[str]:
    """What the figures rest on."""
    lines = [SIMULATED, assumption(found.area)]
    if found.target.tool is not None:
        lines.append(f"{found.target.name} has a tool of its own ({found.target.tool.kind}), which was not asked")
    return lines


def headline(found: Designs) -> str:
    """The sentence that matters: what latency and energy depend on most."""
    parts: list[str] = []
    for title, effects, factor in importance(found)[:2]:
        cost = title.removesuffix(" (mean)")
        if np.isfinite(effects).all() and effects.any():
            most = int(np.argmax(effects))
            cause = f"{found.parameters[most].name} ({share(float(effects[most]))} of its variance)"
            parts.append(f"{cost} differs by a factor of {factor:.3g}, most with {cause}")
    text = "; ".join(parts) or "no cost differs over all designs"
    return f"{text[0].upper()}{text[1:]}."


def _lines(lines: Iterable[str], style: str = "") -> Padding:
    return Padding(Text("\n".join(plain(line) for line in lines), style=style), (0, 0, 0, 2))


def shown(found: Designs, held: NDArray[np.bool_] | None) -> tuple[list[int], int]:
    """Which designs a table shows, the smaller first, and how many it leaves out."""
    networks = len(found.networks) if len(found.networks) <= EACH else 1
    most = LINES // max(networks, 2 if len(found.parameters) > COLUMNS else 1)
    order = np.argsort(found.area_mm2, kind="stable")
    if len(found) > most:
        best = found.front("latency_s") | found.front("energy_j")
        order = order[best[order]]
    if len(order) > most and held is not None and held[order].any():
        order = order[held[order]]
    if len(order) > most:
        order = order[np.linspace(0, len(order) - 1, most).round().astype(np.int64)]
    return order.tolist(), len(found) - len(order)


def _table(found: Designs, rows: Sequence[int], held: NDArray[np.bool_] | None) -> Table:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("", no_wrap=True)
    apart = len(found.parameters) <= COLUMNS
    for title in [_title(item.keys) for item in found.parameters] if apart else ["design"]:
        table.add_column(title, justify="right" if apart else "left", overflow="fold")
    table.add_column("area\nmm²", justify="right", no_wrap=True)
    for position, title in enumerate(titles(found)):
        table.add_column(title, justify="left" if position == 0 else "right", no_wrap=True)
    fast, frugal = found.front("latency_s"), found.front("energy_j")
    for design in rows:
        mark = "" if held is None else ("✓ " if held[design] else "✗ ")
        mark += ("L" if fast[design] else " ") + ("E" if frugal[design] else " ")
        style = "green" if fast[design] or frugal[design] else ""
        stacked = ["\n".join(column) for column in zip(*cells(found, design), strict=True)]
        area = f"{found.area_mm2[design]:.3g}"
        table.add_row(mark, *(_values(found, design) if apart else [brief(found, design)]), area, *stacked, style=style)
    return table


def _title(keys: Sequence[str]) -> str:
    """A key as the head of a column, one word a line; a unit that its values carry is left out."""
    *tables, last = keys[0].split(".")
    words = last.removesuffix("_bytes_per_s").removesuffix("_bytes").removesuffix("_hz").split("_")
    more = ["and more"] if len(keys) > 1 else []
    return "\n".join(plain(word) for word in [*(tables if len(words) == 1 else []), *words, *more])


def titles(found: Designs) -> list[str]:
    """Heads of the columns that `cells` fills."""
    if len(found.networks) <= EACH:
        return ["network", "latency", "energy", "busy", "peak RAM"]
    return ["worst network", "latency", "energy", "busy", "peak RAM"]


def cells(found: Designs, design: int) -> list[list[str]]:
    """What one design costs: a line for each network, or one with the means and the worst network for many."""
    quantities = ("latency_s", "energy_j", "utilisation")
    if len(found.networks) > EACH:
        worst, factor = worst_network(found, design)
        spilling = int((~found.fits[design]).sum())
        named = f"{short(worst)} ×{factor:.2f}" if worst else "–"
        means = [float(found.mean(name)[design]) for name in quantities]
        return [[named, *_costs(means), f"{spilling} spill" if spilling else "fits"]]
    lines: list[list[str]] = []
    for network, name in enumerate(found.networks):
        over = int(found.peak_bytes[design, network] - found.room_bytes[design])
        memory = f"+{amount('peak_memory', over)}" if over > 0 else "fits"
        costs = [float(getattr(found, name)[design, network]) for name in quantities]
        lines.append([short(name), *_costs(costs), memory])
    return lines


def _costs(values: Sequence[float]) -> list[str]:
    if not math.isfinite(values[0]):
        return ["cannot run", "–", "–"]
    return [amount("latency", values[0]), amount("energy", values[1]), share(values[2], 0)]


def worst_network(found: Designs, design: int) -> tuple[str, float]:
    """The network that is furthest above its own lowest latency over all designs, and by what factor.

    ("", NaN) for a design that runs none.
    """
    lowest = np.nanmin(np.where(found.runnable, found.latency_s, np.inf), axis=0)
    factors = found.latency_s[design] / lowest
    if not np.isfinite(factors).any():
        return "", math.nan
    network = int(np.nanargmax(factors))
    return found.networks[network], float(factors[network])


def legend(found: Designs, left_out: int, held: NDArray[np.bool_] | None) -> list[str]:
    """What the table's signs and words mean."""
    lines: list[str] = []
    if len(found.parameters) > COLUMNS:
        lines.append(f"design: {' · '.join(item.name for item in found.parameters)}")
    mean = ", of the geometric mean over the networks" if len(found.networks) > 1 else ""
    lines.append(f"L, E: on the front of area against latency, against energy{mean}; busy: share of the lanes' MACs")
    if len(found.networks) > EACH:
        lines.append("the worst network is the one furthest above its own lowest latency over these designs")
    lines.append("peak RAM: the exact peak of activations against on-chip memory without the weight buffer")
    if left_out:
        lines.append(f"{plural(left_out, 'other design')}: --json lists all")
    if held is not None:
        lines.append(f"✓ holds the limits for every network: {int(held.sum()):,} of {plural(len(found), 'design')}")
    return lines


def importance(found: Designs) -> list[tuple[str, NDArray[np.float64], float]]:
    """What latency and energy depend on, and then the latency of each network where there are several.

    A title, the main effects (p,) of the parameters, and the factor between the lowest and the highest cost.
    """
    several = len(found.networks) > 1
    costs: list[tuple[str, str, int | None]] = [
        ("latency (mean)" if several else "latency", "latency_s", None),
        ("energy (mean)" if several else "energy", "energy_j", None),
    ]
    if several:
        costs += [(name, "latency_s", network) for network, name in enumerate(found.networks)]
    effects: list[tuple[str, NDArray[np.float64], float]] = []
    for title, quantity, network in costs:
        values = found.mean(quantity) if network is None else getattr(found, quantity)[:, network]
        known = values[np.isfinite(values)]
        factor = float(known.max() / known.min()) if len(known) else math.nan
        effects.append((title, main_effects(found, quantity, network), factor))
    return effects


def _importance(found: Designs) -> Group:
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("What matters", overflow="fold")
    effects = importance(found)[: 2 + EACH]
    for title, _, _ in effects:
        table.add_column(short(title).replace(" (", "\n("), justify="right", no_wrap=True)
    for row in effect_rows(found, effects):
        table.add_row(*row)
    return Group(table, _lines(["shares of the variance of the logarithm of a cost over all designs"], "dim"))


def effect_rows(found: Designs, effects: Sequence[tuple[str, NDArray[np.float64], float]]) -> list[list[str]]:
    """One row for each parameter, the most important for latency first, for what they do together, and for the factor
    between the lowest and the highest cost."""
    first = np.nan_to_num(effects[0][1])
    order = np.argsort(-first, kind="stable").tolist()
    rows = [[plain(found.parameters[i].name), *(_effect(float(shares[i])) for _, shares, _ in effects)] for i in order]
    together = [_effect(1 - float(shares.sum()) if shares.any() else 0.0) for _, shares, _ in effects]
    factors = [f"×{factor:.3g}" if math.isfinite(factor) else "–" for _, _, factor in effects]
    return [*rows, ["several together", *together], ["highest by lowest", *factors]]


def _effect(value: float) -> str:
    return share(max(0.0, value)) if math.isfinite(value) else "not all run"


def rankings(found: Designs) -> list[str]:
    """Which networks are faster than others on some designs and slower on others; nothing for a single network."""
    if len(found.networks) == 1:
        return []
    lines: list[str] = []
    changes = sorted(rank_changes(found), key=lambda change: -min(change.first_faster, change.second_faster))
    for change in changes[:PAIRS]:
        for name, other, count, design in (
            (change.first, change.second, change.first_faster, change.best_for_first),
            (change.second, change.first, change.second_faster, change.best_for_second),
        ):
            own, others = (found.latency_s[design, found.networks.index(each)] for each in (name, other))
            lines.append(
                f"{name} is faster than {other} on {plural(count, 'design')}, "
                f"most at {brief(found, design)} (−{share(1 - own / others)})"
            )
    if len(changes) > PAIRS:
        lines.append(f"{plural(len(changes) - PAIRS, 'other pair')} that also change places: --json lists all")
    return lines or ["the order of the networks is the same on every design"]


def gaps(found: Designs) -> list[str]:
    """What some designs cannot run, network by network."""
    lines: list[str] = []
    for name in found.networks:
        items = [item for item in found.missing if item.network == name]
        if items:
            named = listed([f"{item.operator} ({item.node}, {item.kind})" for item in items])
            most = max(item.designs for item in items)
            which = "no design runs" if most == len(found) else f"{most:,} of {len(found):,} designs cannot run"
            lines.append(f"{which} {name}: {named}; replace it, or run it on the host. No figure counts it as zero")
    return lines


def short(name: str, most: int = 18) -> str:
    """A name for a column: the end of a path, cut where it is long."""
    last = plain(Path(name).name or name)
    return last if len(last) <= most else f"{last[: most - 1]}…"
