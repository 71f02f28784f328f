"""The analytic simulator: equal to the naive formula, monotone, and rocky where real accelerators are."""

from dataclasses import replace
from fractions import Fraction
from math import ceil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    GlobalPool,
    Linear,
    MatMul,
    Op,
    Pool2d,
    Reshape,
    Resize,
    Softmax,
)
from chipfit.graph.subgraphs import WORKLOAD_KINDS, Workload, cut
from chipfit.graph.values import Decision, choose
from chipfit.measure import simulate, simulate_columns, simulator, workload_columns
from chipfit.targets import Target, load_target, shipped_targets, variant

TARGETS = shipped_targets()
ENGINE = load_target("neural-engine")
EVERY_TARGET = st.sampled_from(TARGETS)


def conv(channels: int, out: int, size: int = 28, kernel: int = 3, stride: int = 1, groups: int = 1) -> Workload:
    pad = kernel // 2
    op = Conv2d(out, (kernel, kernel), (stride, stride), (pad, pad, pad, pad), groups=groups, bias=False)
    graph = Graph((Input("x", (1, channels, size, size)),), (Node("y", op, ("x",)),), ("y",))
    return cut(graph)[0].workload


def cycles(workloads: list[Workload], target: Target = ENGINE, precision: str | None = None) -> list[int]:
    return simulate_columns(target, workload_columns(workloads), precision).cycles.tolist()


@st.composite
def workloads(draw: st.DrawFn) -> Workload:
    """Any workload that a target can be asked for, with numbers that need not belong together."""
    small, size = st.integers(1, 5), st.integers(1, 130)
    groups = draw(st.sampled_from((1, 1, 2, 8)))
    in_channels = groups * draw(st.integers(1, 70))
    kind = draw(st.sampled_from([kind for kind in WORKLOAD_KINDS if kind != "opaque"]))
    return Workload(
        kind, draw(size), draw(size), in_channels, draw(size), draw(size), groups * draw(st.integers(1, 70)),
        draw(small), draw(small), draw(small), draw(small), draw(small), draw(small),
        draw(st.sampled_from((groups, in_channels))) if kind in ("conv", "depthwise") else groups,
        draw(st.integers(0, 2)), draw(st.integers(0, 1)), draw(st.integers(0, 10**8)),
        draw(st.integers(0, 10**6)), draw(st.integers(0, 1000)), draw(st.integers(1, 10**6)), draw(st.integers(1, 10**6)),
    ).__class__(**{}) if False else _fitted(draw, kind, groups, in_channels)  # fmt: skip
