"""Weights in another form: a window as a column and a row is the closest pair of its width, or the window itself."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from chipfit.graph.graph import Graph, Input, Node, Origin
from chipfit.graph.ops import Conv2d
from chipfit.nets.network import Network
from chipfit.nets.recipes import Source, source_of


def one_convolution(weight: NDArray[np.float32]) -> Network:
    out, channels, *kernel = weight.shape
    node = Node("conv", Conv2d(out, (kernel[0], kernel[1])), ("x",))
    graph = Graph((Input("x", (1, channels, 16, 16)),), (node,), ("conv",))
    return Network("given", graph, {"conv.weight": weight, "conv.bias": np.arange(out, dtype=np.float32)})


def halves(network: Network) -> tuple[Source, Source]:
    op = network.graph.by_key["conv"].op
    column = source_of(network, Node("column", op, ("x",), Origin("column", ("conv",))))
    row = source_of(network, Node("row", op, ("column",), Origin("row", ("conv",))))
    assert column is not None
    assert row is not None
    return column, row


def composed(column: Source, row: Source) -> NDArray[np.float64]:
    """The one window that the two compute together."""
    return np.einsum("ciy,ocx->oiyx", column.weights["weight"][..., 0], row.weights["weight"][:, :, 0])


def random_filters(seed: int, out: int, channels: int, kernel: int) -> NDArray[np.float32]:
    return np.random.default_rng(seed).normal(size=(out, channels, kernel, kernel)).astype(np.float32)


def separable(seed: int, out: int, channels: int, kernel: int) -> NDArray[np.float32]:
    """Filters that a column and a row with `out` channels between compute."""
    generator = np.random.default_rng(seed)
    column, row = generator.normal(size=(out, channels, kernel)), generator.normal(size=(out, out, kernel))
    return np.einsum("ciy,ocx->oiyx", column, row).astype(np.float32)


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6), st.integers(2, 7))
@settings(max_examples=30)
def test_filters_that_are_separable_come_back(seed: int, out: int, channels: int, kernel: int) -> None:
    weight = separable(seed, out, channels, kernel)
    np.testing.assert_allclose(composed(*halves(one_convolution(weight))), weight, rtol=1e-3, atol=1e-4)


@given(st.integers(0, 1000), st.integers(1, 6), st.integers(1, 6), st.integers(2, 7))
@settings(max_examples=30)
def test_what_is_lost_are_the_smallest_singular_values(seed: int, out: int, channels: int, kernel: int) -> None:
    """Eckart and Young: no other pair of this width loses less; squares of singular values are the reference."""
    weight = random_filters(seed, out, channels, kernel)
    column, row = halves(one_convolution(weight))
    matrix = weight.astype(np.float64).transpose(1, 2, 3, 0).reshape(channels * kernel, kernel * out)
    squares = np.sort(np.linalg.eigvalsh(matrix @ matrix.T))[::-1]
    lost = ((composed(column, row) - weight) ** 2).sum()
    np.testing.assert_allclose(lost, squares[out:].sum(), rtol=1e-6, atol=1e-9 * squares.sum())
    assert column.why == row.why
    assert f"keep {100 * squares[:out].sum() / squares.sum():.4g} %" in str(row.why)


def test_gradients_find_no_closer_pair() -> None:
    weight = random_filters(3, 4, 5, 5)
    pair = [torch.tensor(source.weights["weight"]).requires_grad_() for source in halves(one_convolution(weight))]
    error = (torch.einsum("ciy,ocx->oiyx", pair[0][..., 0], pair[1][:, :, 0]) - torch.tensor(weight)).square().sum()
    error.backward()
    for part in pair:
        assert part.grad is not None
        assert part.grad.abs().max() < 1e-10


def test_channels_between_are_in_the_order_of_what_they_carry() -> None:
    column, row = halves(one_convolution(random_filters(1, 6, 4, 5)))
    norms = np.sqrt((column.weights["weight"] ** 2).sum((1, 2, 3)))
    assert (np.diff(norms) < 0).all()
    np.testing.assert_allclose(np.sqrt((row.weights["weight"] ** 2).sum((0, 2, 3))), norms)


def test_the_bias_is_the_rows() -> None:
    column, row = halves(one_convolution(random_filters(2, 3, 2, 3)))
    assert set(column.weights) == {"weight"}
    assert row.weights["bias"].tolist() == [0, 1, 2]
    assert (column.reads, row.stands_for) == (("x",), "conv")


def test_filters_of_zeros_stay_zeros() -> None:
    column, row = halves(one_convolution(np.zeros((3, 2, 5, 5), np.float32)))
    assert not composed(column, row).any()
    assert "keep 100 %" in str(row.why)


@pytest.mark.parametrize("recipe", ["column", "row"])
def test_no_source_without_a_convolution_of_that_name(recipe: str) -> None:
    network = one_convolution(random_filters(0, 2, 2, 3))
    node = network.graph.by_key["conv"]
    assert source_of(network, Node("new", node.op, ("x",), Origin(recipe, ("nobody",)))) is None
    assert source_of(network, Node("new", node.op, ("x",), Origin("new", ()))) is None
