"""What takes several nodes computes what PyTorch does in one operator."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from chipfit.graph.graph import Input
from chipfit.graph.ops import Concat, Pool2d, Reshape, Slice, Transpose
from chipfit.nets import composed
from chipfit.nets.draft import Draft, Unrepresentable
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network

SHAPE = (1, 6, 5, 4)


def built(build: Callable[[Draft], str], shape: tuple[int, ...] = SHAPE) -> Network:
    draft = Draft([Input("x", shape)])
    return draft.finish("net", [build(draft)])


def positive(shape: tuple[int, ...] = SHAPE, batch: int = 2) -> Tensor:
    return torch.rand(batch, *shape[1:], generator=torch.Generator().manual_seed(0)) + 0.1


def assert_computes(build: Callable[[Draft], str], wanted: Callable[[Tensor], Tensor], x: Tensor) -> Network:
    net = built(build, (1, *x.shape[1:]))
    with torch.no_grad():
        torch.testing.assert_close(GraphModule(net.graph, net.weights)(x), wanted(x), rtol=2e-5, atol=1e-6)
    return net


@given(quarters=st.integers(-32, 32).filter(bool))
def test_powers_in_quarters(quarters: int) -> None:
    assert_computes(
        lambda draft: composed.power(draft, "y", "x", quarters / 4), lambda x: x ** (quarters / 4), positive()
    )


@pytest.mark.parametrize("exponent", [0.0, 0.3, 8.25, -9.0])
def test_other_powers_are_refused(exponent: float) -> None:
    with pytest.raises(Unrepresentable, match="power"):
        built(lambda draft: composed.power(draft, "y", "x", exponent))


@given(size=st.tuples(st.integers(1, 12), st.integers(1, 12)), target=st.tuples(st.integers(1, 7), st.integers(1, 7)))
@pytest.mark.parametrize("function", ["average", "max"])
def test_adaptive_pooling_to_any_size(function: str, size: tuple[int, int], target: tuple[int, int]) -> None:
    pool = F.adaptive_avg_pool2d if function == "average" else F.adaptive_max_pool2d
    x = positive((1, 3, *size))
    assert_computes(
        lambda draft: composed.adaptive_pool(draft, "y", "x", function, target), lambda x: pool(x, target), x
    )


def test_windows_that_are_alike_take_one_node() -> None:
    net = built(lambda draft: composed.adaptive_pool(draft, "y", "x", "average", (4, 2)))
    assert [node.op for node in net.graph.nodes] == [Pool2d("average", (2, 2), (1, 2))]


@given(order=st.lists(st.integers(-6, 5), min_size=1, max_size=12))
def test_gather_in_any_order(order: list[int]) -> None:
    assert_computes(lambda draft: composed.gather(draft, "y", "x", 1, order), lambda x: x[:, order], positive())


def test_gather_takes_a_slice_for_entries_that_are_evenly_apart() -> None:
    assert [node.op for node in built(lambda draft: composed.gather(draft, "y", "x", 1, [1, 3, 5])).graph.nodes] == [
        Slice(1, 1, 6, 2)
    ]
    assert built(lambda draft: composed.gather(draft, "y", "x", 1, range(6))).graph.outputs == ("x",)
    with pytest.raises(Unrepresentable, match="33 pieces"):
        built(lambda draft: composed.gather(draft, "y", "x", 1, [0] * 33))


@given(pads=st.lists(st.integers(-1, 2), min_size=6, max_size=6))
def test_padding_and_cutting_along_all_axes_but_the_batch(pads: list[int]) -> None:
    # PyTorch lists pairs from the last axis on.
    before, after = [0, *pads[4::-2]], [0, *pads[5::-2]]
    assert_computes(
        lambda draft: composed.pad(draft, "y", "x", before, after, 0.5), lambda x: F.pad(x, pads, value=0.5), positive()
    )


@given(pads=st.lists(st.integers(0, 3), min_size=4, max_size=4))
@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
def test_mirrored_padding(mode: str, pads: list[int]) -> None:
    before, after = [0, 0, pads[2], pads[0]], [0, 0, pads[3], pads[1]]
    assert_computes(
        lambda draft: composed.mirror(draft, "y", "x", before, after, mode),
        lambda x: F.pad(x, pads, mode=mode),
        positive(),
    )


@given(times=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3)))
@pytest.mark.parametrize("shape", [(1, 6, 5, 4), (1, 3, 1, 1), (1, 1, 2, 3)])
def test_repetition(shape: tuple[int, ...], times: tuple[int, int, int]) -> None:
    assert_computes(
        lambda draft: composed.repeat(draft, "y", "x", (1, *times)), lambda x: x.repeat(1, *times), positive(shape)
    )


@pytest.mark.parametrize("times", [(2, 1, 1, 1), (1, 2, 1), (1, 33, 1, 1)])
def test_repetition_of_the_batch_or_without_end_is_refused(times: tuple[int, ...]) -> None:
    with pytest.raises(Unrepresentable, match="repetition"):
        built(lambda draft: composed.repeat(draft, "y", "x", times))


@given(axes=st.sets(st.integers(1, 3), min_size=1), keep=st.booleans(), correction=st.integers(0, 2))
def test_statistics_over_any_axes(axes: set[int], keep: bool, correction: int) -> None:
    over = sorted(axes)
    pairs: list[tuple[Callable[[Draft], str], Callable[[Tensor], Tensor]]] = [
        (lambda draft: composed.total(draft, "y", "x", over, keep), lambda x: x.sum(over, keep)),
        (lambda draft: composed.least(draft, "y", "x", over, keep), lambda x: x.amin(over, keep)),
        (lambda draft: composed.length(draft, "y", "x", over, keep, 2), lambda x: x.norm(2, over, keep)),
        (lambda draft: composed.length(draft, "y", "x", over, keep, 1), lambda x: x.norm(1, over, keep)),
        (
            lambda draft: composed.variance(draft, "y", "x", over, keep, correction),
            lambda x: x.var(over, correction=correction, keepdim=keep),
        ),
    ]
    for build, wanted in pairs:
        assert_computes(build, wanted, positive() - 0.6)


@pytest.mark.parametrize("groups", [1, 2, 3, 6])
@pytest.mark.parametrize("affine", [False, True])
def test_normalisation_by_groups(groups: int, affine: bool) -> None:
    weight, bias = (torch.rand(6), torch.rand(6)) if affine else (None, None)
    arrays = (None, None) if weight is None or bias is None else (weight.numpy(), bias.numpy())
    net = assert_computes(
        lambda draft: composed.group_norm(draft, "norm", "x", groups, *arrays, 1e-3),
        lambda x: F.group_norm(x, groups, weight, bias, 1e-3),
        positive() - 0.6,
    )
    if affine:
        assert net.graph.outputs == ("norm",)


@pytest.mark.parametrize(
    ("build", "wanted"),
    [
        (lambda draft: composed.mish(draft, "y", "x"), F.mish),
        (lambda draft: composed.elu(draft, "y", "x", 0.7, 1.0, 1.0), lambda x: F.elu(x, 0.7)),
        (lambda draft: composed.elu(draft, "y", "x", 0.7, 1.0, 1 / 0.7), lambda x: F.celu(x, 0.7)),
        (
            lambda draft: composed.elu(draft, "y", "x", 1.6732632423543772, 1.0507009873554805, 1.0),
            F.selu,
        ),
        (lambda draft: composed.rms_norm(draft, "y", "x", 2, None, 1e-3), lambda x: F.rms_norm(x, (6, 5), eps=1e-3)),
    ],
)
def test_curves_over_all_numbers(build: Callable[[Draft], str], wanted: Callable[[Tensor], Tensor]) -> None:
    assert_computes(build, wanted, torch.linspace(-100, 100, 2 * 3 * 6 * 5).reshape(2, 3, 6, 5))


def test_axes_of_size_1_move_for_nothing() -> None:
    net = built(lambda draft: composed.transpose_without_ones(draft, "y", "x", (0, 3, 1, 2)), (1, 1, 4, 1))
    assert not [node for node in net.graph.nodes if isinstance(node.op, Transpose)]
    net = assert_computes(
        lambda draft: composed.transpose_without_ones(draft, "y", "x", (0, 3, 2, 1)),
        lambda x: x.permute(0, 3, 2, 1),
        positive((1, 3, 1, 4)),
    )
    assert [type(node.op) for node in net.graph.nodes] == [Reshape, Transpose, Reshape]


def test_of_shapes_in_a_row_the_last_one_stays() -> None:
    draft = Draft([Input("x", SHAPE)])
    first = draft.add("first", Reshape((30, 4)), ["x"])
    second = draft.add("second", Reshape((120,)), [first])
    back = draft.add("back", Reshape((6, 5, 4)), [second])
    end = draft.add("end", Concat(1), [back, draft.add("again", Reshape((6, 5, 4)), [second])])
    net = draft.finish("net", [end, second], merge=True)
    assert [(node.key, node.inputs) for node in net.graph.nodes] == [("second", ("x",)), ("end", ("x", "x"))]
    x = positive()
    given, flat = GraphModule(net.graph, net.weights)(x)
    assert torch.equal(given, torch.cat([x, x], 1))
    assert torch.equal(flat, x.flatten(1))
