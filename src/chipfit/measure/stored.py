"""What weights take in memory as the chip stores them.

A chip that compresses weights codes them in the order in which its array takes them, and fills up with zeros what does
not make up whole steps of the array. Filled-up zeros are not free: they are coded as short symbols, or as the lengths
of runs between the weights where there are many.
"""

from __future__ import annotations

from collections.abc import Iterable

from chipfit.graph.subgraphs import Subgraph
from chipfit.graph.values import Value, ceil_div, minimum, never, where
from chipfit.graph.workload import Workload
from chipfit.targets.target import Precision, Target, Tiles

CODED = ("conv", "depthwise", "transposed_conv", "linear")
"""Workload kinds whose weights are compressed."""

STREAM_CHANNELS = 8
"""Channels that the array takes at a time, for multiples of which weights are filled up."""

SHORT_BITS = 1.5
"""What a zero takes less than the average weight; measured with ethos-u-vela 5.2.0."""

MANY_ZEROS = 0.05
"""The share of filled-up zeros above which the compiler codes the lengths of their runs."""


def coded_share(target: Target, precision: Precision, load: Workload, own: float) -> Value:
    """What the weights of an operator take, as a share of their plain size, if they alone take `own` of theirs."""
    if target.tiles is None or load.kind not in CODED:
        return own
    return _coded_bits(target.tiles, precision.weight_bits * own, load) / precision.weight_bits


def stored_of(precision: Precision, subgraphs: Iterable[Subgraph]) -> dict[str, Value]:
    """`stored_bytes` of every subgraph by its name."""
    return {part.name: stored_bytes(precision, part.workload) for part in subgraphs}


def stored_bytes(precision: Precision, load: Workload) -> Value:
    """Bytes of the weights and biases of one subgraph, rounded up to whole bytes each."""
    bits = ceil_div(load.parameters * load.stored_share * precision.weight_bits, 1)
    return ceil_div(bits, 8) + ceil_div(load.biases * precision.bias_bits, 8)


def _coded_bits(tiles: Tiles, own: Value, load: Workload) -> Value:
    """Bits for every weight that takes `own` itself, with its part of the zeros that fill up steps of the array."""
    filled = _filled(tiles, load)
    zeros = filled - 1
    plain = own + zeros * (own - SHORT_BITS)
    many = zeros > MANY_ZEROS * filled
    if load.kind == "depthwise" or never(many):
        return plain
    return where(many, own + _run_bits(zeros), plain)


def _filled(tiles: Tiles, load: Workload) -> Value:
    """How many numbers are coded for every weight: taps side by side or deep channels, whichever needs fewer."""
    taps = load.kernel_height * load.kernel_width
    inputs, outputs = load.in_channels // load.groups, load.out_channels // load.groups
    if load.kind == "depthwise":
        inputs, outputs = 1, load.out_channels
    side_by_side = _up(taps, 4)
    if load.kind != "depthwise":
        side_by_side = minimum(side_by_side * _up(inputs, STREAM_CHANNELS), taps * _up(inputs, tiles.deep_channels))
    return _up(outputs, STREAM_CHANNELS) * side_by_side / (taps * inputs * outputs)


def _run_bits(mean: Value) -> Value:
    """Bits of the length of a run of zeros, `mean` long on average: the best of four Golomb-Rice codes."""
    again = mean / (1 + mean)
    best: Value = 1 + mean
    for divisor in (1, 2, 3):
        whole = again ** (1 << divisor)
        best = minimum(best, 1 + divisor + whole / (1 - whole))
    return best


def _up(value: Value, step: int) -> Value:
    return ceil_div(value, step) * step
