from collections.abc import Callable

import numpy as np
import pytest
import torch

from chipfit.errors import InvalidGraph, InvalidInput
from chipfit.graph.totals import count_macs, count_parameters, macs, parameters
from chipfit.nets.module import GraphModule
from chipfit.nets.network import initialise
from chipfit.spaces.published.nas_bench_201 import (
    CONV1,
    CONV3,
    EDGES,
    NONE,
    OPERATIONS,
    POOL,
    SKIP,
    code_of,
    is_connected,
    network,
    space,
)

Rows = list[dict[str, str]]

# Per image, what the tables count beside multiply-accumulates: normalisation and ReLU of a convolution's edge, the
# nine taps of a pooling edge, and the same of stem, reductions and end.
FIXED, OF_A_CONVOLUTION, OF_A_POOLING = 160_832, 430_080, 1_290_240


def test_counts_are_those_of_the_table_for_every_network(rows: Callable[[str], Rows]) -> None:
    table = rows("nb201_accuracy")
    codes = np.array([code_of(row["net"]) for row in table])
    assert len(np.unique(codes, axis=0)) == len(codes) == 15_625
    graph = space(idle=True)
    wanted = np.array([float(row["cifar10_mparams"]) for row in table]) * 1e6
    np.testing.assert_allclose(parameters(graph).at(codes)[:, 0], wanted, atol=0.6)
    flops = np.array([float(row["cifar10_mflops"]) for row in table]) * 1e6
    convolutions = ((codes == CONV3) | (codes == CONV1)).sum(axis=1)
    beside = FIXED + OF_A_CONVOLUTION * convolutions + OF_A_POOLING * (codes == POOL).sum(axis=1)
    np.testing.assert_allclose(macs(graph).at(codes)[:, 0] + beside, flops, atol=0.6)


def test_both_columns_of_the_table_name_the_same_code(rows: Callable[[str], Rows]) -> None:
    assert all(code_of(row["net"]) == code_of(row["arch_str"]) for row in rows("nb201_accuracy"))


def test_what_the_output_does_not_need_is_not_counted() -> None:
    codes = np.indices((5,) * 6).reshape(6, -1).T
    lean, idle = parameters(space()).at(codes)[:, 0], parameters(space(idle=True)).at(codes)[:, 0]
    assert (lean <= idle).all()
    no_none = (codes != NONE).all(axis=1)
    np.testing.assert_array_equal(lean[no_none], idle[no_none])
    connected = np.array([is_connected(code) for code in codes])
    assert connected.sum() == 15_284
    assert set(lean[~connected]) == {lean.min()}


@pytest.mark.parametrize("idle", [False, True])
def test_a_closed_network_costs_what_the_space_says(idle: bool) -> None:
    codes = np.random.default_rng(0).integers(0, len(OPERATIONS), (30, len(EDGES)))
    closed = [network(code, idle=idle) for code in codes]
    assert macs(space(idle=idle)).at(codes)[:, 0].tolist() == [count_macs(graph) for graph in closed]
    assert parameters(space(idle=idle)).at(codes)[:, 0].tolist() == [count_parameters(graph) for graph in closed]


@pytest.mark.parametrize(
    "code",
    [
        (CONV3, CONV1, POOL, SKIP, NONE, CONV3),
        (NONE, CONV1, SKIP, CONV3, CONV3, POOL),
        (CONV3, NONE, CONV1, NONE, NONE, CONV3),
        (NONE, NONE, NONE, CONV3, CONV3, CONV1),
        (CONV3, NONE, NONE, CONV1, NONE, NONE),
    ],
)
def test_none_is_worth_zeros(code: tuple[int, ...]) -> None:
    lean, idle = (space(idle=idle, resolution=8).close(code) for idle in (False, True))
    weights = initialise(idle, np.random.default_rng(0))
    needed = {name: weights[name] for name, _ in lean.weights()}
    images = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    outputs = GraphModule(lean, needed).eval()(images)
    torch.testing.assert_close(outputs, GraphModule(idle, weights).eval()(images))
    assert torch.equal(outputs[0], outputs[1]) is not is_connected(code)


@pytest.mark.parametrize(
    "text",
    ["", "(0, 1, 2)", "(0, 1, 2, 3, 4, 5)", "|none~0|+|none~0|none~1|", "|swish~0|+|none~0|none~1|+|none~0|none~1|"],
)
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="NAS-Bench-201"):
        code_of(text)


def test_a_code_of_another_space_is_refused() -> None:
    with pytest.raises(InvalidGraph):
        network((0, 1, 2))
