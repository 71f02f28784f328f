"""Comparing accelerators that do not exist yet: networks simulated on every design of a grid around one description.

Nothing is fitted: the analytic simulator runs the subgraphs of all networks at once, design by design.
"""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidGraph, InvalidInput
from chipfit.graph.graph import Graph
from chipfit.graph.memory import peak
from chipfit.graph.ops import Opaque
from chipfit.graph.subgraphs import cut
from chipfit.graph.workload import Workload
from chipfit.measure.simulator import simulate_columns, workload_columns
from chipfit.search.pareto import front_mask
from chipfit.targets.read import variant
from chipfit.targets.target import Target

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

MOST_DESIGNS = 100_000
LIMITS = ("latency", "energy")
TIE = 1e-9
"""Latencies that differ by a smaller fraction are equal: they differ by the order of a sum only."""


@dataclass(frozen=True, slots=True)
class Area:
    """A proxy for silicon area: lanes and on-chip memory, in µm² each; nothing else of a chip is counted.

    The defaults are assumptions for 45 nm. A lane is an 8-bit multiplier (282 µm²) and a 32-bit adder (137 µm²), areas
    of synthesised arithmetic that go with Horowitz 2014 ("Computing's energy problem", ISSCC). A byte is eight cells of
    0.346 µm² (Mistry et al. 2007, IEDM) in a memory of which cells take half, which is a guess.
    """

    mac_um2: float = 419.0
    on_chip_byte_um2: float = 5.5

    def __post_init__(self) -> None:
        for name, value in (("mac_um2", self.mac_um2), ("on_chip_byte_um2", self.on_chip_byte_um2)):
            if not 0 < value < math.inf:
                raise InvalidInput(f"area: {name} = {value}: must be above 0 and finite, in µm²")

    def of(self, target: Target) -> float:
        """The proxy of one design in mm²."""
        lanes = target.lanes.macs_per_cycle * self.mac_um2
        return (lanes + target.memory.on_chip_bytes * self.on_chip_byte_um2) / 1e6


@dataclass(frozen=True, slots=True)
class Parameter:
    """What is varied: `keys` of the target that take the same value, and the values."""

    name: str
    keys: tuple[str, ...]
    values: tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class Missing:
    """A node of a network that `designs` of the designs cannot run."""

    network: str
    node: str
    operator: str
    kind: str
    designs: int


@dataclass(frozen=True, slots=True)
class RankChange:
    """Two networks of which now one, now the other is the faster: on how many designs each, and where by most."""

    first: str
    second: str
    first_faster: int
    second_faster: int
    best_for_first: int
    best_for_second: int


@dataclass(frozen=True, slots=True)
class Nearest:
    """The design that comes nearest to limits that none meets: which network, cost and value are furthest above."""

    design: int
    network: str
    cost: str
    value: float
    excess: float


@dataclass(frozen=True, slots=True, eq=False)
class Designs:
    """n designs, p varied parameters, m networks; every cost is simulated.

    `choices` (n, p) are positions in the parameters' values, the last parameter changing fastest. `latency_s`,
    `energy_j` (per image) and `utilisation` (share of the lanes' MACs) are (n, m), NaN where a design cannot run the
    network. `peak_bytes` (n, m) is the exact peak of activations, `room_bytes` (n,) the on-chip memory for them,
    `area_mm2` (n,) a proxy; `macs` (m,) per image.
    """

    target: Target
    parameters: tuple[Parameter, ...]
    networks: tuple[str, ...]
    variants: tuple[Target, ...]
    choices: NDArray[np.int64]
    latency_s: Floats
    energy_j: Floats
    utilisation: Floats
    peak_bytes: NDArray[np.int64]
    room_bytes: NDArray[np.int64]
    area_mm2: Floats
    macs: NDArray[np.int64]
    missing: tuple[Missing, ...]
    area: Area

    def __len__(self) -> int:
        return len(self.variants)

    def setting(self, design: int) -> dict[str, Any]:
        """The value of each parameter of one design, by the parameter's name."""
        return {
            item.name: item.values[index] for item, index in zip(self.parameters, self.choices[design], strict=True)
        }

    @property
    def runnable(self) -> Bools:
        """Networks (m,) that some design runs: the others are in no mean."""
        return np.asarray(np.isfinite(self.latency_s).any(axis=0))

    @property
    def fits(self) -> Bools:
        """Where (n, m) the peak of activations fits on chip."""
        return self.peak_bytes <= self.room_bytes[:, None]

    def mean(self, quantity: str) -> Floats:
        """Geometric mean (n,) of "latency_s", "energy_j" or "utilisation" over the networks that some design runs.

        NaN for a design that does not run all of them.
        """
        with np.errstate(divide="ignore"):  # a network without MACs keeps no lane busy
            return np.exp(np.log(getattr(self, quantity)[:, self.runnable]).mean(axis=1))

    def front(self, quantity: str) -> Bools:
        """Designs (n,) for which no other is smaller in area and mean `quantity`, and better in one of them."""
        return front_mask(np.stack([self.area_mm2, self.mean(quantity)], axis=1))


@dataclass(frozen=True, slots=True, eq=False)
class _Loads:
    """The workloads of all networks, each distinct one once: `columns` (u,), and how often each network has it.

    `counts` is (m, u), `nodes` says per network which node is which row, `peaks` has the elements of each tensor that
    is alive at the peak.
    """

    rows: tuple[Workload, ...]
    columns: dict[str, NDArray[Any]]
    counts: NDArray[np.int64]
    nodes: tuple[tuple[tuple[str, str, int], ...], ...]
    peaks: tuple[tuple[int, ...], ...]


def compare_designs(
    target: Target, networks: Mapping[str, Graph], vary: Mapping[str, Sequence[Any]], area: Area | None = None
) -> Designs:
    """Simulates closed networks on every combination of the varied values, at the default precision of each design.

    `vary` goes from dotted keys of the target ("lanes.output_channels") to values; keys joined by "+" take the same
    value. Raises `InvalidInput` for a key or value that the target refuses, for values that occur twice, too many
    designs, and where no design can run any network; `InvalidGraph` for an open network.
    """
    if not networks:
        raise InvalidInput("no network to compare designs with: give at least one")
    for name, graph in networks.items():
        if graph.decisions:
            raise InvalidGraph(f"{name} has {len(graph.decisions)} open decisions: close it with graph.close(code)")
    parameters = _parameters(vary)
    variants = _variants(target, parameters)
    chosen = area or Area()
    cuts: dict[tuple[object, ...], _Loads] = {}
    loads: list[_Loads] = []
    for design in variants:
        fused = tuple(sorted((kind, tuple(sorted(names))) for kind, names in design.fuses.items()))
        if fused not in cuts:
            cuts[fused] = _loads(design, networks)
        loads.append(cuts[fused])
    costs = [_costs(design, each) for design, each in zip(variants, loads, strict=True)]
    latency_s, energy_j, utilisation, peak_bytes = (np.stack(column) for column in zip(*costs, strict=True))
    found = Designs(
        target, parameters, tuple(networks), variants,
        np.array(list(itertools.product(*(range(len(item.values)) for item in parameters))), dtype=np.int64),
        latency_s, energy_j, utilisation, peak_bytes.astype(np.int64),
        np.array([design.memory.activation_bytes for design in variants]),
        np.array([chosen.of(design) for design in variants]),
        loads[0].counts @ loads[0].columns["macs"],
        _missing(variants, networks, loads), chosen,
    )  # fmt: skip
    if not found.runnable.any():
        named = "; ".join(f"{item.network}: {item.operator} ({item.node})" for item in found.missing[:3])
        raise InvalidInput(f"no design can run any of the networks; what is missing first: {named}")
    return found


def _parameters(vary: Mapping[str, Sequence[Any]]) -> tuple[Parameter, ...]:
    parameters: list[Parameter] = []
    for name, given in vary.items():
        # Numbers of NumPy are no numbers to the validation of a target.
        values = tuple(value.item() if isinstance(value, np.generic) else value for value in given)
        keys = tuple(key.strip() for key in name.split("+"))
        taken = [key for item in parameters for key in item.keys]
        if twice := [key for index, key in enumerate(keys) if not key or key in taken or key in keys[:index]]:
            raise InvalidInput(f"vary {name!r}: key {twice[0]!r} is empty or varied twice; name each key once")
        if not values:
            raise InvalidInput(f"vary {name!r}: no values; give some, such as {name}=8,16")
        for index, value in enumerate(values):
            if value in values[:index]:
                raise InvalidInput(f"vary {name!r}: value {value!r} is given twice; give each once")
        parameters.append(Parameter(name, keys, values))
    count = math.prod(len(item.values) for item in parameters)
    if count > MOST_DESIGNS:
        raise InvalidInput(f"{count:,} designs are more than {MOST_DESIGNS:,}: vary fewer keys or values")
    return tuple(parameters)


def _variants(target: Target, parameters: Sequence[Parameter]) -> tuple[Target, ...]:
    return tuple(
        variant(target, {key: value for item, value in zip(parameters, values, strict=True) for key in item.keys})
        for values in itertools.product(*(item.values for item in parameters))
    )


def _loads(target: Target, networks: Mapping[str, Graph]) -> _Loads:
    rows: dict[Workload, int] = {}
    nodes: list[tuple[tuple[str, str, int], ...]] = []
    peaks: list[tuple[int, ...]] = []
    for name, graph in networks.items():
        subgraphs = cut(graph, target.fuses)
        if not subgraphs:
            raise InvalidInput(f"{name}: nothing in it takes time; give a network with at least one operator")
        named: list[tuple[str, str, int]] = []
        for subgraph in subgraphs:
            op = graph.by_key[subgraph.name].op
            operator = op.operator if isinstance(op, Opaque) else type(op).__name__
            named.append((subgraph.name, operator, rows.setdefault(subgraph.workload, len(rows))))
        nodes.append(tuple(named))
        peaks.append(tuple(elements for _, elements in peak(graph, subgraphs).tensors))
    counts = np.zeros((len(nodes), len(rows)), dtype=np.int64)
    for network, members in enumerate(nodes):
        for _, _, row in members:
            counts[network, row] += 1
    return _Loads(tuple(rows), workload_columns(list(rows)), counts, tuple(nodes), tuple(peaks))


def _costs(target: Target, loads: _Loads) -> tuple[Floats, ...]:
    """Latency, energy, utilisation and peak bytes of every network (m,) on one design."""
    can = np.array([target.runs(load) for load in loads.rows], dtype=np.bool_)
    whole = (loads.counts @ ~can) == 0
    simulation = simulate_columns(target, {name: column[can] for name, column in loads.columns.items()})
    counts = loads.counts[:, can]
    latency_s = np.where(whole, counts @ simulation.latency_s, np.nan)
    energy_j = np.where(whole, counts @ simulation.energy_j, np.nan)
    macs = loads.counts @ loads.columns["macs"]
    utilisation = macs / (latency_s * target.peak_macs_per_second)
    bits = target.precision().activation_bits
    peak_bytes = np.array([sum(-(-elements * bits // 8) for elements in tensors) for tensors in loads.peaks])
    return latency_s, energy_j, utilisation, peak_bytes


def _missing(variants: Sequence[Target], networks: Mapping[str, Graph], loads: Sequence[_Loads]) -> tuple[Missing, ...]:
    """Every node that some design cannot run; what is a subgraph of its own depends on what a design fuses."""
    lacking: Counter[tuple[str, str, str, str]] = Counter()
    for design, each in zip(variants, loads, strict=True):
        kinds = each.columns["kind"].tolist()
        unable = {row for row, load in enumerate(each.rows) if not design.runs(load)}
        for network, named in zip(networks, each.nodes if unable else (), strict=False):
            lacking.update((network, node, operator, kinds[row]) for node, operator, row in named if row in unable)
    return tuple(Missing(*names, designs) for names, designs in lacking.items())


def main_effects(designs: Designs, quantity: str = "latency_s", network: int | None = None) -> Floats:
    """Share (p,) of the variance of the logarithm of a cost over all designs that each parameter explains by itself.

    Of the geometric mean over networks, or of one network. What is left to 1 is their interaction. All NaN where a
    design cannot run the network; zero where the cost is the same everywhere. Source: the main effects of a full
    factorial design (Box, Hunter and Hunter 2005, "Statistics for Experimenters", chapter 5).
    """
    costs = designs.mean(quantity) if network is None else getattr(designs, quantity)[:, network]
    values = np.log(costs).reshape([len(item.values) for item in designs.parameters])
    total = values.var()
    if not np.isfinite(total):
        return np.full(values.ndim, np.nan)
    # Rounding leaves a variance of some 1e-33 where all values are equal.
    if total < TIE**2:
        return np.zeros(values.ndim)
    axes = range(values.ndim)
    return np.array([values.mean(axis=tuple(b for b in axes if b != a)).var() / total for a in axes])


def rank_changes(designs: Designs) -> tuple[RankChange, ...]:
    """Pairs of networks that are not in the same order of latency on all designs that run both."""
    found: list[RankChange] = []
    for a, b in itertools.combinations(range(len(designs.networks)), 2):
        gap = np.log(designs.latency_s[:, a]) - np.log(designs.latency_s[:, b])
        first, second = int((gap < -TIE).sum()), int((gap > TIE).sum())
        if first and second:
            names = designs.networks[a], designs.networks[b]
            found.append(RankChange(*names, first, second, int(np.nanargmin(gap)), int(np.nanargmax(gap))))
    return tuple(found)


def within(designs: Designs, limits: Mapping[str, float]) -> Bools:
    """Designs (n,) that run every network and hold all limits on each. At least one of "latency" (s), "energy" (J)."""
    return _excess(designs, limits).max(axis=(1, 2)) <= 0


def nearest(designs: Designs, limits: Mapping[str, float]) -> Nearest | None:
    """Which design comes nearest to the limits, and how far above it is; None where no design runs every network."""
    excess = _excess(designs, limits)
    worst = excess.max(axis=(1, 2))
    design = int(worst.argmin())
    if not np.isfinite(worst[design]):
        return None
    network, cost = np.unravel_index(int(excess[design].argmax()), excess.shape[1:])
    name = list(limits)[cost]
    value = (designs.latency_s if name == "latency" else designs.energy_j)[design, network]
    return Nearest(design, designs.networks[network], name, float(value), float(worst[design]))


def _excess(designs: Designs, limits: Mapping[str, float]) -> Floats:
    """How far above (n, m, limits), as a fraction of the limit; infinite where a design cannot run the network."""
    for name in limits:
        if name not in LIMITS:
            raise InvalidInput(f"limit {name!r}: designs are held to {' and '.join(LIMITS)}")
    costs = {"latency": designs.latency_s, "energy": designs.energy_j}
    over = np.stack([costs[name] / bound - 1 for name, bound in limits.items()], axis=2)
    return np.where(np.isnan(over), np.inf, over)
