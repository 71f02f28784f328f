"""Weights that wait in the memory of activations: where they come from flash or DRAM, in time for the operator that
needs them.

A compiler fetches the weights of an operator while the one before runs: all of them where that takes long enough, else
a first slice of the output channels, and the rest slice by slice into two buffers, one of which is read while the other
is filled. Weights that are read once, faster than they could be fetched before, are not buffered at all. The rules
follow the choices of ethos-u-vela 5.2.0, whose log names every buffer.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from chipfit.estimate.pieces.tiles import Pieces
from chipfit.estimate.rows import Floats, Rows
from chipfit.graph.subgraphs import Subgraph
from chipfit.graph.values import Value, apply, both, maximum, negate, never, where
from chipfit.targets.target import Target

BUFFERED = ("conv", "depthwise", "transposed_conv")
"""Workload kinds whose weights are buffered; those of linear layers are read once."""

SLICE_CHANNELS = 16
"""Output channels of which a slice has a multiple."""

START_CYCLES = 1000
"""Cycles of waiting that are taken for nothing where an operator computes longer than its weights take."""


FILL_CYCLES = 960
"""Cycles until the array has its first inputs, a quarter of the work at most: what ethos-u-vela 5.2.0 adds to the work
of the array, in the median of convolutions from 3,000 to 100,000 cycles."""


class Pace(NamedTuple):
    """How an operator runs: cycles of its work, how often its weights are read, and the channels of a piece."""

    cycles: Value
    reads: Value
    channels: Value


class Buffers(NamedTuple):
    """Bytes on chip for the weights of one operator.

    `first` is there while the operator before runs, `first` and `second` while its own does, and at the end only
    `last`, the one with the last slice.
    """

    first: Value
    second: Value
    last: Value


def paces(target: Target, rows: Rows) -> Floats:
    """Columns of `Pace` for n rows (n, 3) from the description alone; no loop over rows."""
    found = Pieces.of(target, rows)
    vector = target.vector
    lookup = rows["out_elements"] / vector.table_elements_per_cycle
    moved = (rows["in_elements"] + rows["out_elements"]) / vector.elements_per_cycle
    work = np.where(rows["activation"] >= 2, np.maximum(lookup, moved), moved)
    cycles = found.cycles + np.minimum(found.cycles / 4, FILL_CYCLES)
    return np.stack([np.where(found.known, cycles, work), found.pixel_pieces, found.channels], axis=1)


def buffers(
    target: Target,
    weights: Floats,
    depth: Floats,
    cycles: Floats,
    reads: Floats,
    granule: Floats,
    slack: Floats,
    first: Floats,
) -> tuple[Floats, Floats, Floats, Floats]:
    """The fields of `Buffers`, and the cycles of the last slice, under which the next operator's weights are fetched.

    Arrays that broadcast: `weights` in bytes for `depth` output channels, `cycles`, `reads` and `granule` as in `Pace`,
    `slack` cycles that the operator before gives for fetching, `first` whether there is none before.
    """
    cycles, reads, granule = np.maximum(cycles, 1), np.maximum(reads, 1), np.maximum(granule, 1)
    begins = first > 0
    fetch = weights / target.dram_bytes_per_cycle
    far, near = fetch * reads, weights / target.memory.on_chip_bytes_per_cycle * reads
    computes_longer = cycles > far
    cut = _Slices.of(fetch, depth, cycles, granule, slack, computes_longer)
    # At the start of a network there is nothing to fetch under, so that it must be worth the wait.
    least = fetch * np.minimum(SLICE_CHANNELS / depth, 1)
    begin = begins & (reads > 1) & ((least < far / 10) | (least <= START_CYCLES))
    tried = begin | (near + np.maximum(fetch - slack, 0) < far) | (depth / granule > 2)
    tried = tried | (~begins & (reads > 1) & (least < slack))
    waiting = cut.waiting(fetch, cycles, depth, np.where(begin, START_CYCLES, slack))
    before, after = np.maximum(cycles, far), np.maximum(cycles + waiting, near)
    after = after - np.where(computes_longer & (waiting / cut.number < START_CYCLES), waiting, 0)
    kept = tried & (before >= after) & ((reads > 1) | (fetch + near <= before))
    even, odd = (np.where(kept, np.ceil(channels * weights / depth), 0) for channels in cut.largest)
    ending = np.where(kept & (cut.number > 1), cycles * cut.tail / depth, cycles)
    return even, odd, np.where(cut.number % 2 == 1, even, odd), ending


class _Slices(NamedTuple):
    """How output channels are cut: channels of the first slice, of those between, of the last, and their number."""

    head: Floats
    step: Floats
    tail: Floats
    number: Floats

    @classmethod
    def of(
        cls,
        fetch: Floats,
        depth: Floats,
        cycles: Floats,
        granule: Floats,
        slack: Floats,
        computes_longer: NDArray[np.bool_],
    ) -> _Slices:
        """The first slice is what can be fetched before, the others what can be fetched under a slice."""
        split = np.minimum(SLICE_CHANNELS / depth, 1)
        share = np.minimum(slack / fetch, 1)
        # No last slice of a few channels.
        share = np.where(1 - np.floor(share / split) * split < split / 2, 1, share)
        half = np.clip(_up(np.floor(depth / 2), SLICE_CHANNELS) / depth, 0.5, 1)
        share = np.where(computes_longer & (share > 0.5) & (share < 1), half, share)
        share = np.maximum(share, split)
        head = np.maximum(np.floor(depth * share / SLICE_CHANNELS) * SLICE_CHANNELS, SLICE_CHANNELS)
        head = np.where(share < 1, np.minimum(head, depth), depth)
        step = _up(np.maximum(np.floor(cycles * head / fetch), SLICE_CHANNELS), granule)
        rest = depth - head
        between = np.maximum(np.ceil(rest / step) - 1, 0)
        tail = np.where(rest > 0, rest - between * step, depth)
        return cls(head, step, tail, np.where(rest > 0, between + 2, 1))

    @property
    def largest(self) -> tuple[Floats, Floats]:
        """Channels of the largest of the first, third, … slice, and of the second, fourth, …; 0 for none."""
        third = np.where(self.number > 3, self.step, self.tail)
        even = np.where(self.number > 2, np.maximum(self.head, third), self.head)
        return even, np.where(self.number > 2, self.step, np.where(self.number > 1, self.tail, 0))

    def waiting(self, fetch: Floats, cycles: Floats, depth: Floats, slack: Floats) -> Floats:
        """Cycles for which fetching a slice takes longer than computing the one before it."""
        whole, work = fetch / depth, cycles / depth
        second = np.where(self.number > 2, self.step, self.tail)
        total = np.maximum(whole * self.head - slack, 0)
        total = total + np.where(self.number > 1, np.maximum(whole * second - work * self.head, 0), 0)
        total = total + np.maximum(whole - work, 0) * self.step * np.maximum(self.number - 3, 0)
        return total + np.where(self.number > 2, np.maximum(whole * self.tail - work * self.step, 0), 0)


def _up(value: Floats, step: Floats | int) -> Floats:
    return np.ceil(value / step) * step


class Prefetch(NamedTuple):
    """Buffers of `subgraph`, empty under the codes where it does not run directly after `before` (None: at the start
    of the network)."""

    before: str | None
    subgraph: str
    buffers: Buffers


def prefetches(
    target: Target, subgraphs: Sequence[Subgraph], stored: Mapping[str, Value], pace_of: Mapping[str, Pace]
) -> list[Prefetch]:
    """The weight buffers of a network, for every pair of subgraphs that may run one after the other.

    `subgraphs` come from `cut`, in execution order; `stored` are the bytes of their weights, `pace_of` has those that
    the target runs. How long the last slice of the operator before takes follows from all the cycles of the one before
    that, and from nothing further back, so that a table over open decisions stays small.
    """
    pairs = {part.name: list(_before(subgraphs, number)) for number, part in enumerate(subgraphs)}
    weights = {
        part.name: maximum(stored[part.name], 1)
        for part in subgraphs
        if part.workload.kind in BUFFERED and part.name in pace_of
    }
    of = {part.name: part for part in subgraphs}

    def job(name: str, slack: Value, first: bool) -> tuple[Value, ...]:
        """What `buffers` is told of an operator."""
        return (weights[name], of[name].workload.out_channels, *pace_of[name], slack, first)

    ending = {name: pace.cycles for name, pace in pace_of.items()}
    jobs: list[tuple[Value, ...]] = []
    for name in weights:
        slack: Value = 0
        for earlier, condition in pairs[name]:
            if earlier is not None and earlier in pace_of:
                slack = where(condition, pace_of[earlier].cycles, slack)
        jobs.append(job(name, slack, pairs[name][0][0] is None))
    buffered = partial(buffers, target)
    ending |= {name: last for name, (*_, last) in zip(weights, apply(buffered, jobs), strict=True)}
    links = [(earlier, name, condition) for name in weights for earlier, condition in pairs[name]]
    jobs = [job(name, ending.get(earlier or "", 0), earlier is None) for earlier, name, _ in links]
    found: list[Prefetch] = []
    for (earlier, name, condition), (first, second, last, _) in zip(links, apply(buffered, jobs), strict=True):
        here = both(of[name].presence, condition)
        sizes = Buffers(where(here, first, 0), where(here, second, 0), where(here, last, 0))
        found.append(Prefetch(earlier, name, sizes))
    return found


def _before(subgraphs: Sequence[Subgraph], number: int) -> Iterator[tuple[str | None, Value]]:
    """The subgraphs that may run directly before one, None for none, with the codes under which they do."""
    left: Value = subgraphs[number].presence
    for earlier in reversed(subgraphs[:number]):
        condition = both(left, earlier.presence)
        if not never(condition):
            yield earlier.name, condition
        left = both(left, negate(earlier.presence))
        if never(left):
            return
    yield None, left
