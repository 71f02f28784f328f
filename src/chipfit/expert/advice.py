"""Advice: which changes pay on a chip, what each brings alone and together, and what is better left as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.accumulate import Costs
from chipfit.estimate.estimator import Estimator, LayerCost, SpaceCosts
from chipfit.expert.changes import Change, Changes, possible_changes
from chipfit.graph.graph import Graph
from chipfit.nets.network import Network
from chipfit.search.exact import Table, minimum

PRICE = 0.002
"""Share of the latency that a change must save among all others that are made, or it is left out."""

WORSE = 0.05
"""Share of the latency above which a change that costs more is named as one to leave alone."""

ROUNDS = 3
"""Walks over all decisions where a space has no tables to find the best set of changes in."""

Codes = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Gain:
    """What changes, as shares of the network as given, below 0 for less; `spread` is one standard deviation of the
    latency's, of errors that the two networks do not share."""

    latency: float
    spread: float
    energy: float
    weights: float
    peak: float
    parameters: float


@dataclass(frozen=True, slots=True)
class Advised:
    """A change with what it brings by itself, and what the set of all advised changes loses without it."""

    id: str
    change: Change
    alone: Gain
    within: float
    why: str


@dataclass(frozen=True, eq=False)
class Advice:
    """What to change in a network on one chip.

    `advised` are the changes of the fastest set, those that bring most first; `left` would cost more; `free` make a
    layer larger at no cost; `sacrifices` are there for limits that the others do not meet. `together` is what the set
    brings, `fastest` whether it is the fastest of all sets of these changes (exact), or the best that was found.
    """

    network: Network
    estimator: Estimator
    changes: Changes
    prepared: SpaceCosts
    given: Costs
    advised: tuple[Advised, ...]
    left: tuple[Advised, ...]
    free: tuple[Advised, ...]
    sacrifices: tuple[Advised, ...]
    code: tuple[int, ...]
    fastest: bool

    @cached_property
    def together(self) -> Gain:
        """What all advised changes bring at once."""
        return self.gain(self.code)

    def gain(self, code: Sequence[int]) -> Gain:
        """What a set of changes brings."""
        return _gains(self.prepared, self.given, np.array([code], np.int64))[0]

    def listed(self) -> tuple[Advised, ...]:
        """Everything with an id, in the order in which it is shown."""
        return (*self.advised, *self.free, *self.sacrifices, *self.left)

    def code_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """The code of some changes, by their ids or names. Raises `InvalidInput` for unknown ones and for two at once
        of one decision."""
        ids = {item.id: item.change for item in self.listed()}
        return code_of(self.changes, [ids[name] if name in ids else self.changes.named(name) for name in names])


def code_of(changes: Changes, chosen: Sequence[Change]) -> tuple[int, ...]:
    """The code of some changes. Raises `InvalidInput` for two of one decision."""
    from chipfit.errors import InvalidInput

    code = [0] * len(changes.space.decisions)
    for change in chosen:
        if code[change.decision] not in (0, change.option):
            name = changes.space.decisions[change.decision].name
            raise InvalidInput(f"{change.name} and another option of {name} at once: choose one of them")
        code[change.decision] = change.option
    return tuple(code)


def advise(network: Network, estimator: Estimator) -> Advice:
    """What to change in a closed network on the estimator's chip.

    Raises `InvalidInput` where nothing can be changed, `InvalidGraph` for an open network.
    """
    graph = network.graph
    crowded = [name for name, _ in estimator.peak(network).held]
    changes = possible_changes(graph, crowded)
    prepared = estimator.prepare(changes.space)
    count = len(changes.space.decisions)
    given = prepared.at(np.zeros((1, count), np.int64))
    single = np.zeros((len(changes.known), count), np.int64)
    for row, change in enumerate(changes.known):
        single[row, change.decision] = change.option
    alone = _gains(prepared, given, single)
    offered = [not change.sacrifice for change in changes.known]
    code, fastest = _fastest(prepared, changes, offered, float(given.latency_s[0]))
    layers = estimator.by_layer(network)
    return Advice(
        network,
        estimator,
        changes,
        prepared,
        given,
        *_sorted(prepared, given, changes, alone, code, layers),
        tuple(int(option) for option in code),
        fastest,
    )


def _sorted(
    prepared: SpaceCosts,
    given: Costs,
    changes: Changes,
    alone: Sequence[Gain],
    code: Codes,
    layers: Sequence[LayerCost],
) -> tuple[tuple[Advised, ...], tuple[Advised, ...], tuple[Advised, ...], tuple[Advised, ...]]:
    """Changes of the set, to leave alone, for free and to sacrifice."""
    without = np.repeat(code[None], len(code), axis=0)
    np.fill_diagonal(without, 0)
    base = float(given.latency_s[0])
    whole = float(prepared.latency_s(code[None])[0])
    lost = (prepared.latency_s(without) - whole) / base
    groups: dict[str, list[tuple[float, Change, Gain, float]]] = {name: [] for name in ("A", "K", "F", "S")}
    for change, gain in zip(changes.known, alone, strict=True):
        within = float(lost[change.decision])
        if code[change.decision] == change.option:
            groups["A"].append((-within, change, gain, -within))
        elif change.sacrifice:
            if gain.latency < -max(PRICE, gain.spread) or gain.peak < -WORSE:
                groups["S"].append((gain.latency, change, gain, gain.latency))
        elif change.kind == "width" and gain.parameters > 0 and gain.latency <= gain.spread and gain.latency < PRICE:
            groups["F"].append((-gain.parameters, change, gain, gain.latency))
        elif gain.latency > max(WORSE, gain.spread) and change.kind != "width" and code[change.decision] == 0:
            groups["K"].append((-gain.latency, change, gain, gain.latency))
    found: list[tuple[Advised, ...]] = []
    for letter in ("A", "K", "F", "S"):
        ranked = sorted(groups[letter], key=lambda item: (item[0], item[1].name))
        if letter in "FS":
            ranked = _best_of_each(ranked)
        found.append(
            tuple(
                Advised(f"{letter}{place}", change, gain, within, _why(change, layers))
                for place, (_, change, gain, within) in enumerate(ranked, 1)
            )
        )
    return found[0], found[1], found[2], found[3]


def _best_of_each(ranked: Sequence[tuple[float, Change, Gain, float]]) -> list[tuple[float, Change, Gain, float]]:
    """The first change of every decision."""
    seen: set[int] = set()
    return [item for item in ranked if not (item[1].decision in seen or seen.add(item[1].decision))]


def _fastest(prepared: SpaceCosts, changes: Changes, offered: Sequence[bool], latency_s: float) -> tuple[Codes, bool]:
    """The set of offered changes with the lowest latency, where every change has to pay its price."""
    decisions = changes.space.decisions
    options = [[0] for _ in decisions]
    for change, wanted in zip(changes.known, offered, strict=True):
        if wanted:
            options[change.decision].append(change.option)
    prices = [np.array([0.0] + [PRICE * latency_s] * (len(kept) - 1)) for kept in options]
    if prepared.tables is None:
        return _walked(prepared, options, prices), False
    tables = [Table((place,), price) for place, price in enumerate(prices)]
    for axes, values in prepared.tables.tables("latency_s"):
        kept = values[np.ix_(*(options[axis] for axis in axes))] if axes else values
        tables.append(Table(axes, kept))
    found = minimum(tables, [len(kept) for kept in options])
    return np.array([options[place][option] for place, option in enumerate(found.code)], np.int64), found.exact


def _walked(prepared: SpaceCosts, options: Sequence[Sequence[int]], prices: Sequence[NDArray[np.float64]]) -> Codes:
    """A set that no single change improves, or what is found in a few rounds, for spaces without tables."""
    code = np.zeros(len(options), np.int64)
    for _ in range(ROUNDS):
        before = code.copy()
        for place, kept in enumerate(options):
            tried = np.repeat(code[None], len(kept), axis=0)
            tried[:, place] = kept
            code[place] = kept[int((prepared.latency_s(tried) + prices[place]).argmin())]
        if (code == before).all():
            break
    return code


def _gains(prepared: SpaceCosts, given: Costs, codes: Codes) -> list[Gain]:
    costs = prepared.at(codes)
    base = float(given.latency_s[0])
    spread = _apart(prepared, codes) / base

    def change(after: NDArray[np.generic], before: NDArray[np.generic]) -> NDArray[np.float64]:
        return after.astype(np.float64) / np.maximum(before.astype(np.float64), 1e-30) - 1

    columns = [
        change(costs.latency_s, given.latency_s),
        spread,
        change(costs.energy_j, given.energy_j),
        change(costs.weight_bytes, given.weight_bytes),
        change(costs.peak_bytes, given.peak_bytes),
        change(costs.parameters, given.parameters),
    ]
    return [Gain(*row) for row in np.stack(columns, axis=1).tolist()]


def _apart(prepared: SpaceCosts, codes: Codes) -> NDArray[np.float64]:
    """One standard deviation (n,) of the difference in latency to the network as given, from what the codes change.

    Errors of subgraphs that both have cancel; an error that all subgraphs share changes no share. Without tables, all
    count.
    """
    zero = np.zeros((1, codes.shape[1]), np.int64)
    if prepared.tables is None:
        return np.sqrt(prepared.at(codes).spread_s ** 2 + prepared.at(zero).spread_s ** 2)
    variance = np.zeros(len(codes))
    for axes, values in prepared.tables.predicted.tables(0):
        if axes:
            chosen = codes[:, list(axes)]
            here = values[tuple(chosen.T)]
            before = values[(0,) * len(axes)]
            variance += np.where((chosen != 0).any(axis=1), here + before, 0)
    return np.sqrt(np.maximum(variance, 0))


def _why(change: Change, layers: Sequence[LayerCost]) -> str:
    """What bounds the layers of a change now, in the chip's terms."""
    found = [layer for layer in layers if any(_inside(layer.name, site) for site in change.where)]
    if not found:
        return ""
    slowest = max(found, key=lambda layer: layer.latency_s)
    share = sum(layer.share for layer in found)
    bound = {"compute": "the array", "overhead": "setting up"}.get(slowest.bound_by, f"moving {slowest.bound_by}")
    return f"{share:.1%} of the time; {slowest.kind} at {slowest.utilisation:.0%} of the array, bound by {bound}"


def _inside(name: str, site: str) -> bool:
    return name == site or name.startswith((f"{site}.", f"{site}/"))


def closed(advice: Advice, code: Sequence[int]) -> Graph:
    """The network that some changes make."""
    return advice.changes.space.close(code)
