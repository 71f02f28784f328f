"""Shape rules are PyTorch's, and every rule works on tables as on numbers."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from chipfit.errors import InvalidGraph
from chipfit.graph.ops import (
    KINDS,
    Activation,
    Concat,
    Constant,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    LayerNorm,
    Linear,
    MatMul,
    Op,
    Pad,
    Pool2d,
    Reshape,
    Resize,
    Select,
    Slice,
    Transpose,
)
from chipfit.graph.values import Decision, bind, choose, map_choices

small = st.integers(1, 3)
pairs = st.tuples(small, small)


def empty(*shape: int) -> torch.Tensor:
    return torch.empty(shape, device="meta")


def weight(op: Op, *inputs: tuple[int, ...]) -> torch.Tensor:
    return empty(*op.weights(inputs)["weight"])


@settings(max_examples=60)
@given(
    st.tuples(small, small), st.tuples(small, small), st.tuples(small, small), st.tuples(small, small), st.booleans()
)
def test_convolution_is_torchs(kernel, stride, padding, dilation, grouped) -> None:
    sides = (padding[0], padding[1], padding[0], padding[1])
    op = Conv2d(8, kernel, stride, sides, dilation, groups=4 if grouped else 1)
    x = (1, 4, 9, 11)
    made = functional.conv2d(empty(*x), weight(op, x), empty(8), stride, padding, dilation, op.groups)
    assert op.shape([x]) == tuple(made.shape)
    assert op.macs([x]) == made.numel() * weight(op, x)[0].numel()


@settings(max_examples=60)
@given(pairs, st.integers(2, 3), st.integers(0, 1), st.integers(0, 1), small, st.booleans())
def test_transposed_convolution_is_torchs(kernel, stride, padding, more, dilation, grouped) -> None:
    op = ConvTranspose2d(
        8, kernel, (stride,) * 2, (padding,) * 4, (more,) * 2, (dilation,) * 2, groups=2 if grouped else 1
    )
    x = (1, 4, 5, 6)
    made = functional.conv_transpose2d(empty(*x), weight(op, x), None, stride, padding, more, op.groups, dilation)
    assert op.shape([x]) == tuple(made.shape)
    assert op.macs([x]) == 4 * 5 * 6 * weight(op, x)[0].numel()


@settings(max_examples=100)
@given(st.integers(2, 4), small, st.integers(0, 1), st.integers(4, 12), st.booleans())
def test_pooling_is_torchs(kernel, stride, padding, size, ceil_mode) -> None:
    op = Pool2d("max", (kernel,) * 2, (stride,) * 2, (padding,) * 4, ceil_mode)
    x = (1, 4, size, size + 1)
    made = functional.max_pool2d(empty(*x), kernel, stride, padding, ceil_mode=ceil_mode)
    assert op.shape([x]) == tuple(made.shape)


def test_matrices_and_layers_are_torchs() -> None:
    x = (1, 6, 16)
    assert Linear(4).shape([x]) == tuple(functional.linear(empty(*x), weight(Linear(4), x)).shape)
    for a, b in (((2, 3, 4), (2, 4, 5)), ((1, 3, 4), (2, 4, 5)), ((3, 4), (4, 5))):
        assert MatMul().shape([a, b]) == tuple((empty(*a) @ empty(*b)).shape)
    assert LayerNorm(2).weights([x]) == {"weight": (6, 16), "bias": (6, 16)}
    assert Transpose((0, 2, 1)).shape([x]) == (1, 16, 6)
    assert Slice(2, 1, 8, 3).shape([x]) == tuple(empty(*x)[:, :, 1:8:3].shape)
    assert Reshape((-1, 8)).shape([x]) == (1, 12, 8)
    assert Concat(-1).shape([x, (1, 6, 3)]) == (1, 6, 19)


@settings(max_examples=60)
@given(st.data())
def test_broadcasting_is_torchs(data) -> None:
    sizes = st.lists(st.sampled_from([1, 1, 2, 3]), min_size=1, max_size=4)
    a, b = tuple(data.draw(sizes)), tuple(data.draw(sizes))
    try:
        expected = tuple(torch.broadcast_shapes(a, b))
    except RuntimeError:
        with pytest.raises(InvalidGraph):
            Elementwise("add").shape([a, b])
    else:
        assert Elementwise("add").shape([a, b]) == expected


@settings(max_examples=40)
@given(st.data())
def test_rules_on_tables_are_rules_on_numbers(data) -> None:
    decisions = [Decision(name, (0, 1, 2)) for name in "abc"]

    def open_number(*options: int):
        picked = data.draw(st.lists(st.sampled_from(options), min_size=3, max_size=3))
        return choose(data.draw(st.sampled_from(decisions)), tuple(picked))

    kernel, stride, size = open_number(1, 3), open_number(1, 2), open_number(8, 9, 12)
    channels, out = open_number(4, 8), open_number(4, 8, 16)
    pads = (open_number(0, 1),) * 4
    x = (1, channels, size, size)
    ops = [
        Conv2d(out, (kernel, 1), (stride, stride), pads, groups=open_number(1, 2, 4)),
        ConvTranspose2d(out, (kernel, 3), (stride, 2)),
        Pool2d("max", (kernel, kernel), (stride, 3), pads, ceil_mode=True),
        Linear(out),
        Pad((open_number(0, 2), 0, 1, 0)),
        Resize("nearest", scale=(1.5, 2.0)),
        Reshape((-1, 2)),
    ]
    for op in ops:
        shape, macs, weights = op.shape([x]), op.macs([x]), op.weights([x])
        for code in ({"a": i, "b": j, "c": k} for i in range(3) for j in range(3) for k in range(3)):
            closed, at = bound(op, code), [tuple(bind(side, code) for side in x)]
            assert tuple(bind(side, code) for side in shape) == closed.shape(at)
            assert bind(macs, code) == closed.macs(at)
            assert {name: tuple(bind(side, code) for side in sides) for name, sides in weights.items()} == (
                closed.weights(at)
            )


def bound(op: Op, code: dict[str, int]) -> Op:
    return map_choices(op, lambda choice: bind(choice, code))


@pytest.mark.parametrize(
    ("op", "inputs"),
    [
        (Conv2d(8, (3, 3)), [(1, 4, 2, 8)]),
        (Conv2d(8, (1, 1), groups=3), [(1, 4, 8, 8)]),
        (Conv2d(8, (1, 1)), [(1, 4, 8)]),
        (Linear(4), [(1, 4), (1, 4)]),
        (MatMul(), [(1, 3, 4), (1, 3, 4)]),
        (Concat(1), [(1, 4, 8, 8), (1, 4, 8, 9)]),
        (Concat(1), [(1, 4, 8, 8), (1, 4, 8)]),
        (Slice(1, 0, 5), [(1, 4, 8)]),
        (Reshape((3, -1)), [(1, 4, 4)]),
        (Transpose((1, 0, 2)), [(1, 4, 8)]),
        (Select(0), [(1, 4), (1, 4, 1)]),
    ],
)
def test_inputs_that_do_not_fit_are_refused(op: Op, inputs: list[tuple[int, ...]]) -> None:
    with pytest.raises(InvalidGraph):
        op.shape(inputs)


def test_unknown_functions_are_refused_and_prelu_has_a_weight() -> None:
    with pytest.raises(InvalidGraph, match="'swoosh'"):
        Activation("swoosh")
    with pytest.raises(InvalidGraph, match="'pow'"):
        Elementwise("pow")
    with pytest.raises(InvalidGraph, match="scale or a size"):
        Resize("nearest")
    assert Activation("prelu").weights([(1, 4, 2, 2)]) == {"weight": (4,)}
    assert Constant((1, 5)).weights([]) == {"value": (1, 5)}
    assert len(set(KINDS)) == len(KINDS)
