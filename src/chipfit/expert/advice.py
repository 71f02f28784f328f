"""Advice: which changes pay on a chip, what each brings alone and together, and what is better left as it is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from chipfit.errors import InvalidInput
from chipfit.estimate.accumulate import Costs
from chipfit.estimate.estimator import Estimator, LayerCost, SpaceCosts
from chipfit.expert.changes import Change, Changes, possible_changes
from chipfit.expert.even import Even, even_channels
from chipfit.expert.gains import Gain, Gains
from chipfit.expert.sets import Sets
from chipfit.expert.unchanged import Unadvised, Unchanged, touches, unchanged
from chipfit.graph.graph import Graph
from chipfit.nets.network import Network

PRICE = 0.002
"""Share of the latency that a change must save at least among all others that are made, or it is left out."""

CERTAIN = 2.0
"""Spreads that a gain has to be away from nothing: of a change among all others, and of all that is advised."""

WORSE = 0.05
"""Share of the latency above which a change that costs more is named as one to leave alone."""


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

    `advised` are the changes of the set `code`, those that bring most first: the fastest set in which every change
    saves more than twice its spread (exact where the space has tables), as does the set. `left` would cost more; `free`
    make a layer larger at no cost; `sacrifices` are there for limits that the others do not meet. `host` let the chip
    run what now falls to the host processor, whose time is in none of the figures. `even` are sets of their own.
    `unchanged` are slow layers that no advised change touches. `fastest` is the fastest set of all, whatever its
    changes save.
    """

    network: Network
    estimator: Estimator
    changes: Changes
    gains: Gains
    advised: tuple[Advised, ...]
    left: tuple[Advised, ...]
    free: tuple[Advised, ...]
    sacrifices: tuple[Advised, ...]
    host: tuple[Advised, ...]
    even: tuple[Even, ...]
    unchanged: tuple[Unchanged, ...]
    code: tuple[int, ...]
    fastest: tuple[int, ...]

    @property
    def prepared(self) -> SpaceCosts:
        """Costs of all sets of changes."""
        return self.gains.prepared

    @property
    def given(self) -> Costs:
        """Costs of the network as given."""
        return self.gains.given

    @cached_property
    def together(self) -> Gain:
        """What all advised changes bring at once."""
        return self.gains.of(self.code)

    def listed(self) -> tuple[Advised, ...]:
        """Everything with an id, in the order in which it is shown."""
        return (*self.advised, *self.host, *self.free, *self.sacrifices, *self.left)

    def code_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """The code of some changes, by their ids or names, or by the id of a set of them. Raises `InvalidInput` for
        unknown ones and for two at once of one decision."""
        ids = {item.id: (item.change,) for item in self.listed()} | {item.id: item.changes for item in self.even}
        chosen = [ids[name] if name in ids else (self.changes.named(name),) for name in names]
        return code_of(self.changes, [change for changes in chosen for change in changes])


def code_of(changes: Changes, chosen: Sequence[Change]) -> tuple[int, ...]:
    """The code of some changes. Raises `InvalidInput` for two of one decision."""
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
    crowded = [name for name, _ in estimator.peak(network).held]
    changes = possible_changes(network.graph, crowded)
    prepared = estimator.prepare(changes.space)
    given = prepared.at(np.zeros((1, len(changes.space.decisions)), np.int64))
    layers = estimator.by_layer(network.graph)
    gains = Gains(changes.space, prepared, given, layers)
    alone = gains.of_each([code_of(changes, [change]) for change in changes.known])
    sets = Sets(estimator, changes, prepared)
    code, prices = _certain(sets, gains, alone)
    fastest = sets.fastest([0.0] * len(prices))
    found = _sorted(gains, changes, alone, code, _fitting(network.graph, estimator, changes))
    kept = unchanged(network.graph, estimator.by_layer(network), Unadvised(changes, alone, prices, code))
    return Advice(
        network=network,
        estimator=estimator,
        changes=changes,
        gains=gains,
        advised=found["A"],
        left=found["K"],
        free=found["F"],
        sacrifices=found["S"],
        host=found["H"],
        even=even_channels(changes, gains),
        unchanged=kept,
        code=code,
        fastest=fastest,
    )


def _certain(sets: Sets, gains: Gains, alone: Sequence[Gain]) -> tuple[tuple[int, ...], list[float]]:
    """The fastest set in which every change saves its price, and the prices, as shares of the latency: as many spreads
    of each as it takes for the set as a whole to save more than it is uncertain."""
    latency_s, spreads = float(gains.given.latency_s[0]), CERTAIN
    while True:
        prices = [max(PRICE, spreads * gain.spread) for gain in alone]
        code = sets.fastest([price * latency_s for price in prices])
        gain = gains.of(code)
        if not any(code) or gain.latency < -CERTAIN * gain.spread:
            return code, prices
        spreads *= 2


def _fitting(graph: Graph, estimator: Estimator, changes: Changes) -> set[str]:
    """Names of the changes that let the chip run more nodes of a network as given."""
    gaps = {item.node for item in estimator.unsupported(graph)}
    found: set[str] = set()
    for change in changes.known if gaps else ():
        if not gaps.isdisjoint(change.where):
            made = changes.space.close(code_of(changes, [change]))
            found |= {change.name} if len(estimator.unsupported(made)) < len(gaps) else set()
    return found


def _sorted(
    gains: Gains, changes: Changes, alone: Sequence[Gain], advised: Sequence[int], fitting: Collection[str]
) -> dict[str, tuple[Advised, ...]]:
    """By the first letter of their ids: of the set, to leave alone, for free, to sacrifice, and those of `fitting`."""
    code = np.array(advised, np.int64)
    without = np.repeat(code[None], len(code), axis=0)
    np.fill_diagonal(without, 0)
    whole, rest = gains.prepared.latency_s(code[None]), gains.prepared.latency_s(without)
    lost = (rest - whole) / float(gains.given.latency_s[0])
    groups: dict[str, list[tuple[float, Change, Gain, float]]] = {name: [] for name in "AKFSH"}
    for change, gain in zip(changes.known, alone, strict=True):
        within = float(lost[change.decision])
        if code[change.decision] == change.option:
            groups["A"].append((-within, change, gain, -within))
        elif change.name in fitting:
            groups["H"].append((gain.latency, change, gain, gain.latency))
        elif change.sacrifice:
            if gain.latency < -max(PRICE, CERTAIN * gain.spread) or gain.peak < -WORSE:
                groups["S"].append((gain.latency, change, gain, gain.latency))
        elif change.kind == "width" and gain.parameters > 0 and gain.latency <= gain.spread and gain.latency < PRICE:
            groups["F"].append((-gain.parameters, change, gain, gain.latency))
        elif gain.latency > max(WORSE, gain.spread) and change.kind != "width" and code[change.decision] == 0:
            groups["K"].append((-gain.latency, change, gain, gain.latency))
    found: dict[str, tuple[Advised, ...]] = {}
    for letter, items in groups.items():
        ranked = sorted(items, key=lambda item: (item[0], item[1].name))
        if letter in "FS":
            ranked = _best_of_each(ranked)
        found[letter] = tuple(
            Advised(f"{letter}{place}", change, gain, within, _why(change, gains.layers))
            for place, (_, change, gain, within) in enumerate(ranked, 1)
        )
    return found


def _best_of_each(ranked: Sequence[tuple[float, Change, Gain, float]]) -> list[tuple[float, Change, Gain, float]]:
    """The first change of every decision."""
    seen: set[int] = set()
    return [item for item in ranked if not (item[1].decision in seen or seen.add(item[1].decision))]


def _why(change: Change, layers: Sequence[LayerCost]) -> str:
    """What bounds the layers of a change now, in the chip's terms."""
    found = [layer for layer in layers if touches(change, layer)]
    if not found:
        return ""
    slowest = max(found, key=lambda layer: layer.latency_s)
    share = sum(layer.share for layer in found)
    bound = {"compute": "the array", "overhead": "setting up"}.get(slowest.bound_by, f"moving {slowest.bound_by}")
    return f"{share:.1%} of the time; {slowest.kind} at {slowest.utilisation:.0%} of the array, bound by {bound}"
