"""Advice: which changes pay on a chip, what each brings alone and together, and what is better left as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.estimate.accumulate import Costs
from chipfit.estimate.estimator import Estimator, LayerCost, SpaceCosts
from chipfit.expert.changes import Change, Changes, possible_changes
from chipfit.graph.graph import Graph
from chipfit.graph.rewrite import restrict
from chipfit.nets.network import Network
from chipfit.search.exact import Table, minimum

PRICE = 0.002
"""Share of the latency that a change must save at least among all others that are made, or it is left out."""

SMALLEST = 1e-30

WORSE = 0.05
"""Share of the latency above which a change that costs more is named as one to leave alone."""

ROUNDING = 1e-9
"""Share of a latency that is no difference."""

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


@dataclass(frozen=True, eq=False)
class Gains:
    """What sets of changes bring to a network whose subgraphs cost `layers`."""

    space: Graph
    prepared: SpaceCosts
    given: Costs
    layers: Sequence[LayerCost]

    def of(self, code: Sequence[int]) -> Gain:
        """What one set of changes brings."""
        return self.of_each([code])[0]

    def of_each(self, codes: Sequence[Sequence[int]]) -> list[Gain]:
        """What each of some sets of changes brings."""
        costs = self.prepared.at(np.array(codes, np.int64))

        def change(name: str) -> NDArray[np.float64]:
            before = max(float(getattr(self.given, name)[0]), SMALLEST)
            return np.asarray(getattr(costs, name), np.float64) / before - 1

        spread = np.array([self._spread_s(code) for code in codes]) / float(self.given.latency_s[0])
        shares = [change(name) for name in ("latency_s", "energy_j", "weight_bytes", "peak_bytes", "parameters")]
        return [Gain(*row) for row in np.stack([shares[0], spread, *shares[1:]], axis=1).tolist()]

    def _spread_s(self, code: Sequence[int]) -> float:
        """One standard deviation of the difference in latency: errors of subgraphs that both networks have cancel, and
        an error that all subgraphs share changes no share."""
        before = {layer.name: (layer.latency_s, layer.spread_s) for layer in self.layers}
        made = self.prepared.estimator.by_layer(self.space.close(list(code)))
        after = {layer.name: (layer.latency_s, layer.spread_s) for layer in made}
        changed = [
            each.get(name, (0.0, 0.0))[1]
            for name in before.keys() | after.keys()
            if before.get(name) != after.get(name)
            for each in (before, after)
        ]
        return float(np.sqrt(np.sum(np.square(changed))))


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
    saves more than it is uncertain (exact where the space has tables). `left` would cost more; `free` make a layer
    larger at no cost; `sacrifices` are there for limits that the others do not meet. `fastest` is the fastest set of
    all, whatever its changes save.
    """

    network: Network
    estimator: Estimator
    changes: Changes
    gains: Gains
    advised: tuple[Advised, ...]
    left: tuple[Advised, ...]
    free: tuple[Advised, ...]
    sacrifices: tuple[Advised, ...]
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
        return (*self.advised, *self.free, *self.sacrifices, *self.left)

    def code_of(self, names: Sequence[str]) -> tuple[int, ...]:
        """The code of some changes, by their ids or names. Raises `InvalidInput` for unknown ones and for two at once
        of one decision."""
        ids = {item.id: item.change for item in self.listed()}
        return code_of(self.changes, [ids[name] if name in ids else self.changes.named(name) for name in names])


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
    prices = [max(PRICE, gain.spread) for gain in alone]
    code = _best(estimator, changes, prices, float(given.latency_s[0]))
    fastest = _best(estimator, changes, [0.0] * len(prices), float(given.latency_s[0]))
    sets = _sorted(gains, changes, alone, code)
    return Advice(network, estimator, changes, gains, *sets, _plain(code), _plain(fastest))


def _plain(code: Codes) -> tuple[int, ...]:
    return tuple(int(option) for option in code)


def _sorted(
    gains: Gains, changes: Changes, alone: Sequence[Gain], code: Codes
) -> tuple[tuple[Advised, ...], tuple[Advised, ...], tuple[Advised, ...], tuple[Advised, ...]]:
    """Changes of the set, to leave alone, for free and to sacrifice."""
    without = np.repeat(code[None], len(code), axis=0)
    np.fill_diagonal(without, 0)
    whole, rest = gains.prepared.latency_s(code[None]), gains.prepared.latency_s(without)
    lost = (rest - whole) / float(gains.given.latency_s[0])
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
                Advised(f"{letter}{place}", change, gain, within, _why(change, gains.layers))
                for place, (_, change, gain, within) in enumerate(ranked, 1)
            )
        )
    return found[0], found[1], found[2], found[3]


def _best_of_each(ranked: Sequence[tuple[float, Change, Gain, float]]) -> list[tuple[float, Change, Gain, float]]:
    """The first change of every decision."""
    seen: set[int] = set()
    return [item for item in ranked if not (item[1].decision in seen or seen.add(item[1].decision))]


def _best(estimator: Estimator, changes: Changes, prices: Sequence[float], latency_s: float) -> Codes:
    """The set of changes, no sacrifices, with the lowest latency, where each has to pay its price (a share of it)."""
    options = [[0] for _ in changes.space.decisions]
    costs = [[0.0] for _ in options]
    for change, price in zip(changes.known, prices, strict=True):
        if not change.sacrifice:
            options[change.decision].append(change.option)
            costs[change.decision].append(price * latency_s)
    paid = [np.array(each) for each in costs]
    # Without sacrifices tables are small enough on more chips.
    prepared = estimator.prepare(restricted(changes, options))
    if prepared.tables is None:
        code = _walked(prepared, paid)
    else:
        tables = [Table((place,), price) for place, price in enumerate(paid)]
        tables += [Table(axes, values) for axes, values in prepared.tables.tables("latency_s")]
        code = minimum(tables, [len(kept) for kept in options]).code
    return np.array([kept[option] for kept, option in zip(options, code, strict=True)], np.int64)


def restricted(changes: Changes, options: Sequence[Sequence[int]]) -> Graph:
    """The space of changes with some options of every decision, given by index, 0 first."""
    names = (decision.name for decision in changes.space.decisions)
    return restrict(changes.space, dict(zip(names, options, strict=True)))


def _walked(prepared: SpaceCosts, prices: Sequence[NDArray[np.float64]]) -> Codes:
    """A set that no single change improves, for spaces without tables, where many sets at a time cost little more.

    All single changes are tried; then those that improve are made together, as many of them, the best first, as pay.
    """

    def cost(codes: Codes) -> NDArray[np.float64]:
        paid = [price[codes[:, place]] for place, price in enumerate(prices)]
        return prepared.latency_s(codes) + np.sum(paid, axis=0)

    code = np.zeros(len(prices), np.int64)
    lowest = float(cost(code[None])[0])
    while True:
        moves = [(place, o) for place, price in enumerate(prices) for o in range(len(price)) if o != code[place]]
        tried = np.repeat(code[None], len(moves), axis=0)
        for row, (place, option) in zip(tried, moves, strict=True):
            row[place] = option
        found = cost(tried) if moves else np.zeros(0)
        best: dict[int, int] = {}
        for index in np.argsort(found, kind="stable"):
            if found[index] < lowest * (1 - ROUNDING):
                best.setdefault(*moves[index])
        if not best:
            return code
        together = np.repeat(code[None], len(best), axis=0)
        for row, (place, option) in enumerate(best.items()):
            together[row:, place] = option
        sums = cost(together)
        code, lowest = together[int(sums.argmin())], float(sums.min())


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
