"""Advice on a network, for the terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Group, RenderableType
from rich.text import Text

from chipfit.report.tables import estimate, grid, remark
from chipfit.report.words import amount, listed, plain, plural, share, small_share

if TYPE_CHECKING:
    from chipfit.expert.advice import Advice, Advised, Gain
    from chipfit.expert.apply import Applied
    from chipfit.expert.even import Even
    from chipfit.expert.limits import Chosen
    from chipfit.expert.unchanged import Tried, Unchanged

SHOWN = 5
"""Changes that are shown of those that are not advised, and slow layers without one; --json has all."""

TRIED = 3
"""Changes that are shown of those that were tried on a layer."""

_COSTS = {"latency": "latency", "energy": "energy", "weights": "weights", "memory": "peak_memory"}


def advice(name: str, found: Advice) -> Group:
    """What the network costs, where its time goes, what to change, what all of it brings, and what to leave alone."""
    parts: list[RenderableType] = [estimate(name, found.network, found.estimator), Text()]
    if found.advised:
        parts.append(_table("What to change", found.advised))
        parts.append(_together(found))
    else:
        parts.append(Text("Nothing to change: no change that keeps detail and width pays on this chip.", style="bold"))
    if found.even:
        parts += [Text(), _even(found.even)]
    for title, items in (
        ("For what falls to the host", found.host),
        ("Wider at no cost", found.free),
        ("If that is not enough", found.sacrifices),
        ("Better left alone", found.left),
    ):
        if items:
            parts += [Text(), _table(title, items[:SHOWN])]
            if len(items) > SHOWN:
                parts.append(remark([f"{plural(len(items) - SHOWN, 'other')} like these: --json has all"]))
    if found.unchanged:
        parts += [Text(), _unchanged(found.unchanged[:SHOWN])]
        if len(found.unchanged) > SHOWN:
            parts.append(remark([f"{plural(len(found.unchanged) - SHOWN, 'other')} like these: --json has all"]))
    if found.advised:
        ids = f"{found.advised[0].id}" if len(found.advised) == 1 else "all"
        parts.append(
            remark(["", f"next: chipfit advise {name} --target {found.estimator.target.name} --apply {ids} --out FILE"])
        )
    return Group(*parts)


def _table(title: str, items: Sequence[Advised]) -> RenderableType:
    shown = grid(title, "latency", "energy", "weights", "peak RAM", "accuracy", left=(0, 5))
    for item in items:
        gain = item.alone
        site = plain(item.change.name.rpartition("=")[0].rpartition(".")[0] or item.change.where[0])
        text = f"{item.id} {site}: {item.change.what}"
        if item.why and item.id.startswith("A"):
            text += f" ({item.why})"
        shown.add_row(
            Text(text), signed(gain), percent(gain.energy), percent(gain.weights), percent(gain.peak),
            Text(item.change.risk),
        )  # fmt: skip
    return shown


def _even(items: Sequence[Even]) -> RenderableType:
    shown = grid("Even channels, all at once", "latency", "energy", "weights", "peak RAM", left=(0,))
    for item in items:
        text = f"{item.id} {plural(len(item.changes), 'width')} to multiples of {item.step}"
        text += f" ({plural(len(item.odd), 'other')} too far from one)" if item.odd else ""
        gain = item.gain
        shown.add_row(Text(text), signed(gain), percent(gain.energy), percent(gain.weights), percent(gain.peak))
    return shown


def _unchanged(items: Sequence[Unchanged]) -> RenderableType:
    shown = grid("Slow layers without a change that pays", "share", "busy", "why nothing pays", left=(0, 3))
    for item in items:
        why = [f"{_named(each, item)}: {signed(each.gain)}, {each.why_not}" for each in item.tried[:TRIED]]
        if len(item.tried) > TRIED:
            why.append(f"{plural(len(item.tried) - TRIED, 'other')} tried: no better")
        lines = [*why, *item.held] or ["nothing that chipfit knows changes such a layer"]
        shown.add_row(
            Text(plain(item.layer.name)), share(item.layer.share), share(item.layer.utilisation, 0),
            Text("\n".join(plain(line) for line in lines)),
        )  # fmt: skip
    return shown


def _named(tried: Tried, item: Unchanged) -> str:
    """What was tried, and where if that is another layer."""
    elsewhere = item.layer.name not in tried.change.where and tried.change.kind == "width"
    return f"{tried.change.where[0]}: {tried.change.what}" if elsewhere else tried.change.what


def _together(found: Advice) -> RenderableType:
    gain = found.together
    line = f"all of them at once: latency {signed(gain)}, energy {percent(gain.energy)}, "
    line += f"weights {percent(gain.weights)}, peak {percent(gain.peak)}"
    alone = sum(item.alone.latency for item in found.advised)
    if abs(alone - gain.latency) > 0.005:
        line += f" (they overlap: alone they add up to {percent(alone)})"
    lines = [line]
    if (most := found.gains.of(found.fastest).latency) < gain.latency - 0.0005:
        lines.append(f"the fastest of all sets of such changes: {percent(most)}; what it has more is uncertain")
    return remark(lines, "bold")


def chosen(found: Advice, picked: Chosen) -> Group:
    """The set of changes that meets limits, or what comes closest."""
    names = [item for item in found.changes.known if picked.code[item.decision] == item.option]
    gain = found.gains.of(picked.code)
    lines = [f"{plain(item.name)}: {item.what} ({item.risk})" for item in names] or ["nothing: the network meets them"]
    head = "The limits cannot be met; closest is" if picked.broken else "The limits are met by"
    state = "bold yellow" if picked.broken else "bold green"
    tail = f"latency {signed(gain)}, weights {percent(gain.weights)}, peak {percent(gain.peak)}"
    tail += "" if picked.complete else "; not all sets were looked at"
    over = [f"{name} is still {small_share(value)} above its limit" for name, value in picked.broken.items()]
    return Group(Text(head, style=state), remark([f"  {line}" for line in [*lines, tail, *over]], ""))


def question(found: Advice, code: Sequence[int], item: Advised) -> Group:
    """A change as it is asked about, behind the running total of what was accepted."""
    after = list(code)
    after[item.change.decision] = item.change.option
    gain = found.gains.of(after)
    lines = [
        f"{item.id} {plain(item.change.name)}: {item.change.what}; {item.change.risk}",
        f"   {item.why}" if item.why else "",
        f"   so far {percent(found.gains.of(code).latency)} latency; with it {signed(gain)}, "
        f"weights {percent(gain.weights)}, peak {percent(gain.peak)}",
    ]
    return Group(remark([line for line in lines if line], ""))


def total(found: Advice, code: Sequence[int]) -> Text:
    """What all accepted changes bring."""
    gain, count = found.gains.of(code), sum(option > 0 for option in code)
    return remark(
        [
            f"{plural(count, 'change')} accepted: latency {signed(gain)}, energy {percent(gain.energy)}, "
            f"weights {percent(gain.weights)}, peak {percent(gain.peak)} (predicted)"
        ],
        "bold",
    )


def applied(found: Applied) -> Group:
    """What was written, what it costs read back, and what became of the weights."""
    lines = [f"{found.path}: {plural(len(found.changes), 'change')} made; read back and estimated anew:"]
    for cost, value in found.costs.items():
        lines.append(f"  {cost} {amount(_COSTS[cost], value)} (promised {amount(_COSTS[cost], found.promised[cost])})")
    kinds = [f"{number} {label}" for label, number in sorted(found.labels.items())]
    lines.append(f"weights carried over: {listed(kinds)}; how to train: {found.recipe}")
    if not found.kept_promise:
        lines.append("the written file costs something else than was promised; please report this")
    return Group(remark(lines, "" if found.kept_promise else "yellow"))


def gain_line(gain: Gain) -> str:
    """All that a set of changes brings, in one line."""
    return (
        f"latency {signed(gain)}, energy {percent(gain.energy)}, weights {percent(gain.weights)}, "
        f"peak {percent(gain.peak)}"
    )


def signed(gain: Gain) -> str:
    """The change of the latency with its spread: "−12.4 % ± 0.3"."""
    return f"{percent(gain.latency)} ± {gain.spread * 100:.1f}"


def percent(share: float) -> str:
    """A change as people read it: "−12.4 %", "0 %"."""
    text = f"{share * 100:+.1f}"
    return "0 %" if float(text) == 0 else f"{text} %".replace("-", "−")
