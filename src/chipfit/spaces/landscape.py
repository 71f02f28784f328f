"""The landscape of a cost: along one or two decisions, the others as in the network as given; and how rocky it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]

FLAT = 0.01
"""Steps of a cost by less than this share of its range count as flat."""


class Priced(Protocol):
    """What `landscape` reads of the costs of codes: (n,) arrays."""

    @property
    def latency_s(self) -> Floats: ...
    @property
    def macs(self) -> NDArray[np.int64]: ...


class Prices(Protocol):
    """The costs of a space, as `estimate.estimator.SpaceCosts` gives them."""

    def at(self, codes: Codes) -> Priced:
        """Costs of codes (n, d)."""
        ...


@dataclass(frozen=True, slots=True)
class Terrain:
    """How a cost goes along options in the order of what they give.

    `roughness` is its total variation by its range, less 1: 0 where it never turns back, or never changes. `falling` is
    the share of steps that go down although the network becomes larger, `flat` that of steps by less than `FLAT` of the
    range. `concordance` is the share of pairs of options in which the larger one costs more (Kendall's tau counts the
    same pairs).
    """

    roughness: float
    falling: float
    flat: float
    concordance: float


@dataclass(frozen=True, eq=False)
class Landscape:
    """Costs over the options of one or two decisions.

    `decisions` are indices in the space. `options` are for each of them the indices of its options, the one that gives
    least first; `latency_s` and `macs` have one axis for each.
    """

    space: Graph
    decisions: tuple[int, ...]
    options: tuple[tuple[int, ...], ...]
    latency_s: Floats
    macs: Floats

    @property
    def given(self) -> tuple[int, ...]:
        """The place of the network as given on each axis."""
        return tuple(options.index(0) for options in self.options)

    def labels(self, axis: int) -> list[int | float | str]:
        """The options of an axis as people read them, in its order."""
        offered = self.space.decisions[self.decisions[axis]].options
        return [offered[index] for index in self.options[axis]]

    def line(self, axis: int) -> tuple[Floats, Floats]:
        """Latency and MACs (n,) along one axis, the other decision as given."""
        at = tuple(slice(None) if other == axis else place for other, place in enumerate(self.given))
        return self.latency_s[at], self.macs[at]


def landscape(space: Graph, prices: Prices, names: Sequence[str]) -> Landscape:
    """The landscape along one or two decisions by name, all others as in the network as given.

    Raises `InvalidInput` for unknown decisions, for one named twice, and for none or more than two.
    """
    known = [decision.name for decision in space.decisions]
    if unknown := [name for name in names if name not in known]:
        raise InvalidInput(f"there is no decision {unknown[0]!r}; the space has {', '.join(known) or 'none'}")
    if not 1 <= len(set(names)) == len(names) <= 2:
        raise InvalidInput(f"a landscape has one or two different decisions, got {', '.join(names) or 'none'}")
    decisions = tuple(known.index(name) for name in names)
    options = tuple(_ascending(space, prices, decision) for decision in decisions)
    grid = np.stack([each.ravel() for each in np.meshgrid(*options, indexing="ij")], axis=1)
    codes = np.zeros((len(grid), len(known)), dtype=np.int64)
    codes[:, list(decisions)] = grid
    costs, shape = prices.at(codes), tuple(map(len, options))
    macs = np.asarray(costs.macs, dtype=np.float64).reshape(shape)
    return Landscape(space, decisions, options, np.asarray(costs.latency_s).reshape(shape), macs)


def _ascending(space: Graph, prices: Prices, decision: int) -> tuple[int, ...]:
    """Options by MACs; of those with the same MACs numbers by size, others in their own order."""
    offered = space.decisions[decision].options
    codes = np.zeros((len(offered), len(space.decisions)), dtype=np.int64)
    codes[:, decision] = np.arange(len(offered))
    macs = np.asarray(prices.at(codes).macs).tolist()
    sizes = [0.0 if isinstance(option, str) else float(option) for option in offered]
    return tuple(sorted(range(len(offered)), key=lambda index: (macs[index], sizes[index], index)))


def widest(space: Graph, prices: Prices) -> str:
    """The name of the decision that changes latency most by itself. Raises `InvalidInput` where none is open."""
    lengths = space.cardinalities
    if not lengths:
        raise InvalidInput("no decision is open in this space")
    codes = np.zeros((sum(lengths), len(lengths)), dtype=np.int64)
    ends = np.cumsum(lengths)
    for decision, (end, length) in enumerate(zip(ends, lengths, strict=True)):
        codes[end - length : end, decision] = np.arange(length)
    parts = np.split(np.asarray(prices.at(codes).latency_s), ends[:-1])
    return space.decisions[int(np.argmax([np.ptp(part) for part in parts]))].name


def terrain(cost: Sequence[float] | Floats, capacity: Sequence[float] | Floats) -> Terrain:
    """How a cost (n,) goes along options whose capacity (n,) does not fall. Raises `InvalidInput` where it does."""
    values, sizes = np.asarray(cost, dtype=np.float64), np.asarray(capacity, dtype=np.float64)
    if values.shape != sizes.shape or values.ndim != 1 or (np.diff(sizes) < 0).any():
        raise InvalidInput("a terrain needs one cost and one capacity per option, in the order of capacity")
    steps, extent = np.diff(values), float(np.ptp(values)) if len(values) else 0.0
    larger = sizes[:, None] > sizes[None, :]
    pairs = int(larger.sum())
    # Of a cost that is the same everywhere nothing is left but the rounding of its sum.
    real = extent > 1e-12 * float(np.abs(values).max(initial=0.0))
    count = max(len(steps), 1)
    return Terrain(
        max(0.0, float(np.abs(steps).sum()) / extent - 1) if real else 0.0,
        float((steps < -1e-12 * np.abs(values[1:])).sum()) / count if real else 0.0,
        float((np.abs(steps) < FLAT * extent).sum()) / count if real else 1.0,
        float((larger & (values[:, None] > values[None, :])).sum()) / pairs if pairs and real else 0.0,
    )
