"""Networks side by side: which decisions were taken, what each subgraph became, and what it takes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from chipfit.graph.values import Decision
from chipfit.graph.workload import Workload
from chipfit.report.words import amount

if TYPE_CHECKING:
    from chipfit.estimate.estimator import LayerCost

CHANGED = 5e-3
"""Relative difference of latencies from which a subgraph counts as slower or faster."""


@dataclass(frozen=True, slots=True)
class Change:
    """A decision that was taken otherwise than in the network as given."""

    name: str
    given: str
    chosen: str

    def __str__(self) -> str:
        return f"{self.name}: {self.given} → {self.chosen}"


def changes(decisions: Sequence[Decision], code: Sequence[int]) -> list[Change]:
    """What a code changes, in the order of the decisions."""
    return [
        Change(decision.name, str(decision.options[0]), str(decision.options[option]))
        for decision, option in zip(decisions, code, strict=True)
        if option
    ]


@dataclass(frozen=True, slots=True)
class Cell:
    """What stands for one network in a row; `percent` is the length of its bar on the scale that all cells share.

    `state` compares with the first network: "same", "changed", "faster", "slower", "new" or "gone".
    """

    text: str
    percent: float
    state: str


@dataclass(frozen=True, slots=True)
class Row:
    """One subgraph (or decision) in several networks; `begins` says that a new block begins, by the name."""

    name: str
    kind: str
    cells: tuple[Cell, ...]
    begins: bool
    small: bool = False


def kind_of(load: Workload) -> str:
    """A closed workload's kind as people say it: "3×3", "depthwise 3×3", "pool"."""
    kernel = f"{load.kernel_height}×{load.kernel_width}"
    if load.kind == "conv":
        return kernel if load.groups == 1 else f"{kernel} in {load.groups} groups"
    return f"{load.kind} {kernel}" if load.kind == "depthwise" else load.kind.replace("_", " ")


def shape_of(load: Workload) -> str:
    """Kind, channels and size of a closed workload: "3×3 · 16→24 ch · 48×48 · stride 2"."""
    narrow = load.in_channels if load.in_channels == load.out_channels else f"{load.in_channels}→{load.out_channels}"
    parts = [kind_of(load), f"{narrow} ch", f"{load.out_height}×{load.out_width}"]
    if (load.stride_height, load.stride_width) != (1, 1) and load.kind in ("conv", "depthwise", "transposed_conv"):
        parts.append(f"stride {load.stride_height}")
    return " · ".join(parts)


def merged(orders: Sequence[Sequence[str]]) -> list[str]:
    """All names once; each after the one that it follows in its own order."""
    result: list[str] = []
    for order in orders:
        place = 0
        for name in order:
            if name in result:
                place = result.index(name) + 1
            else:
                result.insert(place, name)
                place += 1
    return result


def block_of(name: str) -> str:
    """The block that a subgraph belongs to, by its name."""
    return name.rpartition(".")[0] or name


def block_rows(networks: Sequence[Mapping[str, LayerCost]]) -> list[Row]:
    """The same as `latency_rows` for blocks: what was fused stands beside what it was made from."""
    blocks = list(dict.fromkeys(block_of(name) for name in merged([list(network) for network in networks])))
    sums: list[dict[str, float]] = []
    for network in networks:
        found: dict[str, float] = {}
        for name, layer in network.items():
            found[block_of(name)] = found.get(block_of(name), 0.0) + layer.latency_s
        sums.append(found)
    longest = max((latency for found in sums for latency in found.values()), default=0.0)
    return [
        Row(block, "", tuple(_time(found.get(block), sums[0].get(block), longest) for found in sums), False)
        for block in blocks
    ]


def latency_rows(networks: Sequence[Mapping[str, LayerCost]], kinds: Mapping[str, str], least: float) -> list[Row]:
    """A row per subgraph with its latency in every network, bars on one scale; the first network is the baseline.

    `kinds` names the kind of each subgraph. Rows below the share `least` of every network are marked small.
    """
    names = merged([list(network) for network in networks])
    longest = max((layer.latency_s for network in networks for layer in network.values()), default=0.0)
    rows: list[Row] = []
    for position, name in enumerate(names):
        layers = [network.get(name) for network in networks]
        times = [None if layer is None else layer.latency_s for layer in layers]
        cells = tuple(_time(time, times[0], longest) for time in times)
        small = all(layer is None or layer.share < least for layer in layers)
        rows.append(Row(name, kinds.get(name, ""), cells, _begins(names, position), small))
    return rows


def _time(latency_s: float | None, given_s: float | None, longest: float) -> Cell:
    if latency_s is None:
        return Cell("–", 0.0, "same" if given_s is None else "gone")
    state = "new" if given_s is None else "same"
    if given_s is not None and abs(latency_s - given_s) > CHANGED * given_s:
        state = "faster" if latency_s < given_s else "slower"
    return Cell(amount("latency", latency_s), 100 * latency_s / longest if longest else 0.0, state)


def shape_rows(given: Mapping[str, Workload], found: Mapping[str, Workload]) -> list[Row]:
    """A row per subgraph with its shape in the baseline and in another network."""
    names = merged([list(given), list(found)])
    rows: list[Row] = []
    for position, name in enumerate(names):
        texts = [shape_of(side[name]) if name in side else "–" for side in (given, found)]
        state = (
            "same" if texts[0] == texts[1] else "new" if texts[0] == "–" else "gone" if texts[1] == "–" else "changed"
        )
        cells = (Cell(texts[0], 0.0, "gone" if state == "gone" else "same"), Cell(texts[1], 0.0, state))
        rows.append(Row(name, "", cells, _begins(names, position)))
    return rows


def decision_rows(decisions: Sequence[Decision], codes: Sequence[Sequence[int]]) -> list[Row]:
    """A row per decision that any of the codes takes otherwise than given, with its option in each."""
    names = [decision.name for decision in decisions]
    return [
        Row(
            decision.name,
            ", ".join(str(option) for option in decision.options),
            tuple(
                Cell(str(decision.options[code[index]]), 0.0, "changed" if code[index] else "same") for code in codes
            ),
            _begins(names, index),
        )
        for index, decision in enumerate(decisions)
        if any(code[index] for code in codes)
    ]


def _begins(names: Sequence[str], position: int) -> bool:
    return position == 0 or block_of(names[position]) != block_of(names[position - 1])
