"""The interpreter: what PyTorch computes is what the graph says, for every operator, batch and network."""

import copy
import itertools
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from chipfit.errors import InvalidGraph, InvalidInput, UnsupportedOperator
from chipfit.graph.build import Builder, conv_bn_act, fused_inverted_bottleneck, inverted_bottleneck, residual_block
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import (
    ACTIVATIONS,
    ELEMENTWISE,
    KINDS,
    Activation,
    BatchNorm,
    Concat,
    Constant,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    GlobalPool,
    LayerNorm,
    Linear,
    MatMul,
    Op,
    Opaque,
    Pad,
    Pool2d,
    Reshape,
    Resize,
    Select,
    Slice,
    Softmax,
    Transpose,
)
from chipfit.graph.values import choose
from chipfit.nets.lowering import LOWERINGS
from chipfit.nets.module import GraphModule, parameter_name, weight_name
from chipfit.nets.network import Weights, initialise

IMAGE = (1, 6, 11, 13)
CASES: list[tuple[Op, list[tuple[int, ...]]]] = [
    (Conv2d(8, (3, 5), (2, 1), (0, 1, 2, 3)), [IMAGE]),
    (Conv2d(9, (3, 3), (2, 2), (2, 2, 2, 2), (2, 1), groups=3, bias=False), [IMAGE]),
    (Conv2d(12, (4, 4), (3, 2), (1, 2, 1, 2), groups=6), [IMAGE]),
    (Conv2d(4, (3, 2), dilation=(3, 5)), [IMAGE]),
    (ConvTranspose2d(8, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)), [IMAGE]),
    (ConvTranspose2d(4, (4, 3), (3, 2), (0, 1, 2, 0), (2, 1), groups=2, bias=False), [IMAGE]),
    (ConvTranspose2d(6, (3, 3), (1, 2), (2, 3, 2, 3), (1, 0), (2, 3), groups=6), [IMAGE]),
    (Linear(7), [(1, 10)]),
    (Linear(7, bias=False), [(1, 4, 5, 10)]),
    (MatMul(), [(1, 3, 4, 5), (1, 3, 5, 2)]),
    (MatMul(), [(1, 3, 4, 5), (1, 1, 5, 2)]),
    (BatchNorm(1e-3), [IMAGE]),
    (BatchNorm(), [(1, 6)]),
    (LayerNorm(), [(1, 5, 8)]),
    (LayerNorm(3, 1e-6), [IMAGE]),
    *[(Activation(function, 0.2), [IMAGE]) for function in ACTIVATIONS],
    (Activation("prelu"), [(1, 6)]),
    (Softmax(1), [IMAGE]),
    (Softmax(), [(1, 10)]),
    *[(Elementwise(function), [IMAGE, IMAGE]) for function in ELEMENTWISE],
    (Elementwise("mul"), [IMAGE, (1, 6, 1, 1)]),
    (Elementwise("add"), [(1, 6, 1, 13), (1, 6, 11, 1)]),
    (Concat(), [IMAGE, (1, 2, 11, 13), IMAGE]),
    (Concat(-1), [IMAGE, (1, 6, 11, 4)]),
    (Slice(1, 1, 5, 2), [IMAGE]),
    (Slice(-1, 0, 13, 5), [IMAGE]),
    (Slice(2, 3, 4), [IMAGE]),
    (Pool2d("max", (3, 3), (2, 2), (1, 1, 1, 1)), [IMAGE]),
    (Pool2d("max", (2, 2), (2, 2), ceil_mode=True), [IMAGE]),
    (Pool2d("max", (3, 2), (2, 3), (0, 0, 1, 1), ceil_mode=True), [IMAGE]),
    (Pool2d("max", (2, 2), (3, 3), (1, 1, 1, 1), ceil_mode=True), [IMAGE]),
    (Pool2d("average", (3, 3), (2, 2), (0, 0, 1, 1)), [IMAGE]),
    (Pool2d("average", (3, 3), (2, 2), (1, 1, 1, 1), ceil_mode=True, count_include_pad=False), [IMAGE]),
    (Pool2d("average", (4, 4), (3, 3), (1, 0, 2, 1), ceil_mode=True, count_include_pad=False), [IMAGE]),
    (GlobalPool(), [IMAGE]),
    (GlobalPool("max"), [IMAGE]),
    (Resize("nearest", (2.0, 1.5)), [IMAGE]),
    (Resize("bilinear", (1.7, 0.6)), [IMAGE]),
    (Resize("bilinear", size=(7, 20), align_corners=True), [IMAGE]),
    (Resize("nearest", size=(5, 30)), [IMAGE]),
    (Pad((1, 2, 3, 4), -1.5), [IMAGE]),
    (Reshape((3, -1, 13)), [IMAGE]),
    (Reshape((858,)), [IMAGE]),
    (Transpose((0, 2, 3, 1)), [IMAGE]),
    (Constant((1, 4, 2)), []),
]


def names_of(value: object) -> str | None:
    return f"{type(value).__name__}" if isinstance(value, Op) else None


def single(op: Op, shapes: Sequence[tuple[int, ...]]) -> Graph:
    inputs = tuple(Input(f"in{i}", shape) for i, shape in enumerate(shapes))
    return Graph(inputs, (Node("a.node", op, tuple(item.key for item in inputs)),), ("a.node",))


def module_of(graph: Graph, seed: int = 0) -> GraphModule:
    return GraphModule(graph, initialise(graph, np.random.default_rng(seed))).eval()


def images(graph: Graph, batch: int = 1, seed: int = 0) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shapes = [[int(size) for size in item.shape[1:]] for item in graph.inputs]  # type: ignore[arg-type]
    return [torch.rand(batch, *shape, generator=generator) + 0.1 for shape in shapes]


def counted_macs(module: GraphModule, inputs: list[Tensor]) -> float:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(*inputs)
    return counter.get_total_flops() / 2


def stated_macs(graph: Graph) -> float:
    return sum(float(graph.macs(node)) for node in graph.nodes)  # type: ignore[arg-type]


def every_tensor(graph: Graph) -> Graph:
    return Graph(graph.inputs, graph.nodes, tuple(graph.shapes))


def test_every_kind_has_a_lowering_and_a_case_here() -> None:
    runnable = set(KINDS) - {Opaque, Select}
    assert set(LOWERINGS) == runnable
    assert {type(op) for op, _ in CASES} == runnable


@pytest.mark.parametrize(("op", "shapes"), CASES, ids=names_of)
def test_an_operator_gives_the_shape_and_macs_that_the_graph_states(op: Op, shapes: list[tuple[int, ...]]) -> None:
    graph = single(op, shapes)
    module = module_of(graph)
    assert tuple(module(*images(graph)).shape) == graph.shapes["a.node"]
    assert counted_macs(module, images(graph)) == stated_macs(graph)


@pytest.mark.parametrize(("op", "shapes"), [case for case in CASES if case[1]], ids=names_of)
def test_a_batch_gives_what_its_images_give_alone(op: Op, shapes: list[tuple[int, ...]]) -> None:
    graph = single(op, shapes)
    module = module_of(graph)
    batch = images(graph, 3)
    alone = [module(*[tensor[i : i + 1] for tensor in batch]) for i in range(3)]
    torch.testing.assert_close(module(*batch), torch.cat(alone), rtol=1e-5, atol=1e-6)


def naive_pool(op: Pool2d, image: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float64]:
    """The definition: padding is counted by an average on request, what lies beyond the padding never."""
    top, left, bottom, right = (int(side) for side in op.padding)  # type: ignore[arg-type]
    height, width = image.shape
    result = np.zeros(shape[2:])
    for row, column in np.ndindex(*shape[2:]):
        y, x = row * int(op.stride[0]) - top, column * int(op.stride[1]) - left  # type: ignore[arg-type]
        ys = [v for v in range(y, y + int(op.kernel[0])) if -top <= v < height + bottom]  # type: ignore[arg-type]
        xs = [v for v in range(x, x + int(op.kernel[1])) if -left <= v < width + right]  # type: ignore[arg-type]
        values = [image[v, w] for v, w in itertools.product(ys, xs) if 0 <= v < height and 0 <= w < width]
        count = len(ys) * len(xs) if op.count_include_pad else len(values)
        result[row, column] = max(values) if op.function == "max" else sum(values) / count
    return result


@given(
    function=st.sampled_from(["max", "average"]),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    ceil_mode=st.booleans(),
    count_include_pad=st.booleans(),
)
def test_pooling_is_its_definition(
    function: str,
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    ceil_mode: bool,
    count_include_pad: bool,
) -> None:
    # Every window must hold a pixel: the maximum of nothing is not defined.
    assume(all(side < kernel[i % 2] for i, side in enumerate(padding)))
    op = Pool2d(function, kernel, stride, padding, ceil_mode, count_include_pad)
    graph = single(op, [(1, 1, 7, 5)])
    image = images(graph)[0] - 0.7
    shape = tuple(int(size) for size in graph.shapes["a.node"])  # type: ignore[arg-type]
    expected = naive_pool(op, image[0, 0].numpy(), shape)
    np.testing.assert_allclose(module_of(graph)(image)[0, 0].numpy(), expected, rtol=1e-5, atol=1e-6)


@given(
    kernel=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    stride=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    padding=st.tuples(*[st.integers(0, 2)] * 4),
    dilation=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    groups=st.sampled_from([1, 2]),
    seed=st.integers(0, 100),
)
def test_a_transposed_convolution_is_the_adjoint_of_the_convolution(
    kernel: tuple[int, int],
    stride: tuple[int, int],
    padding: tuple[int, int, int, int],
    dilation: tuple[int, int],
    groups: int,
    seed: int,
) -> None:
    forward = single(Conv2d(4, kernel, stride, padding, dilation, groups, bias=False), [(1, 6, 8, 9)])
    small = tuple(int(size) for size in forward.shapes["a.node"])  # type: ignore[arg-type]
    # What the strides of the convolution skip at the end is what output_padding brings back.
    reached = [(small[2 + i] - 1) * stride[i] + dilation[i] * (kernel[i] - 1) + 1 for i in (0, 1)]
    skipped = tuple(size + padding[i] + padding[i + 2] - reached[i] for i, size in enumerate((8, 9)))
    assume(all(skipped[i] < max(stride[i], dilation[i]) for i in (0, 1)))
    op = ConvTranspose2d(6, kernel, stride, padding, (skipped[0], skipped[1]), dilation, groups, bias=False)
    back = single(op, [small])
    weights = initialise(forward, np.random.default_rng(seed))
    (x,), (y,) = images(forward, seed=seed), images(back, seed=seed + 1)
    ahead = (GraphModule(forward, weights)(x).double() * y.double()).sum()
    behind = (x.double() * GraphModule(back, weights)(y).double()).sum()
    torch.testing.assert_close(ahead, behind, rtol=1e-4, atol=1e-4)


@st.composite
def random_graphs(draw: st.DrawFn) -> Graph:
    b = Builder()
    x = b.input("x", (1, draw(st.integers(1, 4)), draw(st.integers(6, 12)), draw(st.integers(6, 12))))
    for number in range(draw(st.integers(1, 4))):
        key, out, stride = f"n{number}", draw(st.sampled_from([4, 6, 8])), draw(st.integers(1, 2))
        match draw(st.integers(0, 5)):
            case 0:
                x = conv_bn_act(b, x, out, kernel=3, stride=stride, padding=(0, 1, 1, 2), key=key)
            case 1:
                x = inverted_bottleneck(b, x, out, expansion=2, stride=stride, activation="hard_swish", key=key)
            case 2:
                x = fused_inverted_bottleneck(b, x, out, expansion=2, stride=stride, key=key)
            case 3:
                x = residual_block(b, x, out, stride=stride, key=key)
            case 4:
                x = b.conv_transpose(x, out, kernel=3, stride=2, padding=1, output_padding=1, key=key)
            case _:
                gate = b.conv(b.global_pool(x, key=f"{key}.pool"), b.channels(x), bias=True, key=f"{key}.gate")
                x = b.elementwise(x, gate, "mul", key=key)
    x = b.reshape(x, (b.channels(x), -1), key="tokens")
    x = b.add(MatMul(), x, b.add(Transpose((0, 2, 1)), x, key="transposed"), key="gram")
    return b.graph(b.linear(b.softmax(x, key="softmax"), 3, key="last"))


@given(random_graphs(), st.integers(0, 1000))
def test_a_network_has_the_shapes_and_macs_that_the_graph_states(graph: Graph, seed: int) -> None:
    module = module_of(graph, seed)
    assert counted_macs(module, images(graph)) == stated_macs(graph)
    tensors = GraphModule(every_tensor(graph), module.export_weights()).eval()(*images(graph))
    assert [tuple(tensor.shape) for tensor in tensors] == list(graph.shapes.values())
    torch.testing.assert_close(tensors[-1], module(*images(graph)), rtol=0, atol=0)


@given(st.text("a./~10é", min_size=1))
def test_parameter_names_are_reversible_and_have_no_dot(name: str) -> None:
    assert weight_name(parameter_name(name)) == name
    assert "." not in parameter_name(name)


def trained() -> tuple[GraphModule, Weights]:
    b = Builder()
    x = inverted_bottleneck(b, b.input("x", (1, 4, 8, 8)), 4, expansion=2, key="block")
    x = b.elementwise(x, b.constant((1, 4, 1, 1), key="a/b~c.offset"), "add", key="sum")
    graph = b.graph(b.linear(b.reshape(b.global_pool(x, key="pool"), (-1,), key="flat"), 2, key="last"))
    weights = initialise(graph, np.random.default_rng(0))
    module = GraphModule(graph, weights).train()
    optimiser = torch.optim.SGD(module.parameters(), lr=0.1)
    module(*images(graph, 8)).square().sum().backward()
    optimiser.step()
    return module, weights


def test_training_changes_every_weight_and_export_gives_them_back() -> None:
    module, before = trained()
    after = module.export_weights()
    assert set(after) == set(before)
    unchanged = {name for name in before if (before[name] == after[name]).all()}
    # The shift of the projection reaches the loss; shifts before another normalisation do as well, through ReLU6.
    assert unchanged == set()
    inputs = images(module.graph, 2)
    again = GraphModule(module.graph, after).eval()
    torch.testing.assert_close(module.eval()(*inputs), again(*inputs), rtol=0, atol=0)
    assert {name: array.tolist() for name, array in again.export_weights().items()} == {
        name: array.tolist() for name, array in after.items()
    }


def test_exported_and_given_weights_share_no_memory_with_the_module() -> None:
    module, _ = trained()
    exported = module.export_weights()
    kept = {name: array.copy() for name, array in exported.items()}
    with torch.no_grad():
        for tensor in module.state_dict().values():
            tensor.zero_()
    assert all((exported[name] == kept[name]).all() for name in kept)
    again = GraphModule(module.graph, exported)
    exported["last.weight"][:] = 0
    assert (again.export_weights()["last.weight"] == kept["last.weight"]).all()


def test_state_copies_and_replaced_weights_reach_the_computation() -> None:
    module, weights = trained()
    module.eval()
    inputs = images(module.graph, 2)
    other = GraphModule(module.graph, weights).eval()
    before = other(*inputs)
    assert not torch.equal(before, module(*inputs))
    duplicate = copy.deepcopy(other)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(*inputs), module(*inputs))
    assert torch.equal(duplicate(*inputs), before)
    called = torch.func.functional_call(duplicate, dict(module.state_dict()), tuple(inputs))
    assert torch.equal(called, module(*inputs))
    assert torch.equal(duplicate.double()(*[x.double() for x in inputs]).float().isfinite(), before.isfinite())


def test_running_statistics_follow_torch() -> None:
    graph = single(BatchNorm(1e-3), [IMAGE])
    module = GraphModule(graph, initialise(graph, np.random.default_rng(0)), momentum=0.3).train()
    reference = torch.nn.BatchNorm2d(6, eps=1e-3, momentum=0.3)
    for seed in range(3):
        (x,) = images(graph, 4, seed)
        torch.testing.assert_close(module(x), reference(x))
    exported = module.export_weights()
    np.testing.assert_allclose(exported["a.node.running_mean"], reference.running_mean.numpy(), rtol=1e-6)  # type: ignore[union-attr]
    np.testing.assert_allclose(exported["a.node.running_var"], reference.running_var.numpy(), rtol=1e-6)  # type: ignore[union-attr]
    (x,) = images(graph, 4)
    torch.testing.assert_close(module.eval()(x), reference.eval()(x))


def test_constants_are_learned_and_stand_beside_any_batch() -> None:
    b = Builder()
    x = b.input("x", (1, 5, 4))
    x = b.concat((b.constant((1, 1, 4), key="token"), x), axis=1, key="tokens")
    graph = b.graph(b.elementwise(x, b.constant((6, 4), key="position"), "add", key="sum"))
    module = module_of(graph)
    (x,) = images(graph, 3)
    assert set(dict(module.named_parameters())) == {"token/value", "position/value"}
    result = module(x)
    token, position = (torch.tensor(module.export_weights()[f"{key}.value"]) for key in ("token", "position"))
    torch.testing.assert_close(result, torch.cat([token.expand(3, 1, 4), x], 1) + position)


def test_inputs_by_position_or_name_and_outputs_in_order() -> None:
    b = Builder()
    first, second = b.input("first", (1, 2)), b.input("second", (1, 2))
    difference = b.elementwise(first, second, "sub", key="difference")
    module = module_of(b.graph((difference, first)))
    x, y = torch.ones(3, 2), torch.full((3, 2), 5.0)
    for outputs in (module(x, y), module({"second": y, "first": x})):
        assert isinstance(outputs, tuple)
        assert torch.equal(outputs[0], x - y)
        assert torch.equal(outputs[1], x)
    with pytest.raises(InvalidInput, match=r"2 inputs \['first', 'second'\], got 1"):
        module(x)
    with pytest.raises(InvalidInput, match=r"got \['first'\]"):
        module({"first": x})


def test_a_closed_space_runs_with_the_shapes_that_the_space_states() -> None:
    b = Builder()
    width = choose(b.decide("width", (4, 8)), (4, 8))
    fused = choose(b.decide("fuse", ("no", "yes")), (0, 1))
    x = conv_bn_act(b, b.input("x", (1, 3, 8, 8)), width, key="stem")
    plain = inverted_bottleneck(b, x, width, expansion=4, key="plain")
    paths = (plain, fused_inverted_bottleneck(b, x, width, expansion=4, key="fused"))
    space = b.graph(b.global_pool(b.select(fused, paths, key="taken"), key="pool"))
    for code in itertools.product((0, 1), repeat=2):
        graph = space.close(code)
        module = module_of(graph)
        assert tuple(module(*images(graph)).shape) == (1, (4, 8)[code[0]], 1, 1)
        assert counted_macs(module, images(graph)) == stated_macs(graph)
        assert any(key.startswith("fused.") for key in graph.by_key) == bool(code[1])
    with pytest.raises(InvalidInput, match="2 open decisions"):
        GraphModule(space, {})


def test_what_cannot_run_is_refused_before_it_runs() -> None:
    with pytest.raises(UnsupportedOperator, match=r"'a\.node' is the operator 'NonMaxSuppression'"):
        module_of(single(Opaque("NonMaxSuppression", (1, 5)), [IMAGE]))
    with pytest.raises(InvalidInput, match=r"a\.node\.weight is missing"):
        GraphModule(single(Linear(3), [(1, 4)]), {})
    with pytest.raises(InvalidGraph, match="pooling 'avg' is not one of average, max"):
        GlobalPool("avg")


def test_tensors_are_let_go_after_their_last_use() -> None:
    b = Builder()
    x = b.input("x", (1, 1, 4, 4))
    for number in range(6):
        x = b.activation(x, "exp", key=f"n{number}")
    module = module_of(b.graph(x))
    freed = [slot for *_, drop in module._program.steps for slot in drop]
    assert sorted(freed) == list(range(6))


def test_channels_last_stays_and_changes_no_result() -> None:
    b = Builder()
    x = residual_block(b, b.input("x", (1, 3, 16, 16)), 8, stride=2, key="block")
    graph = b.graph(x)
    module = module_of(graph)
    (x,) = images(graph, 2)
    expected = module(x)
    result = module.to(memory_format=torch.channels_last)(x.to(memory_format=torch.channels_last))
    assert result.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(result, expected)
    assert all(array.flags.c_contiguous for array in module.export_weights().values())
