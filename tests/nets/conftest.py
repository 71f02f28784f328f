"""Graphs for the tests of what reads and writes networks."""

from collections.abc import Callable

import pytest
from hypothesis import strategies as st

from chipfit.errors import InvalidGraph
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import (
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
    Pad,
    Pool2d,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
)

LARGEST = 4000

# Those that keep the numbers small enough for 32 bits to be compared.
SAFE = ("relu", "relu6", "leaky_relu", "prelu", "hard_swish", "hard_sigmoid", "silu", "gelu", "gelu_tanh")
SAFE += ("sigmoid", "tanh", "abs", "neg")


class _Sketch:
    """A graph in the making, that leaves out what does not fit."""

    def __init__(self, draw: Callable[..., object], shape: tuple[int, ...]) -> None:
        self.draw, self.nodes = draw, []
        self.shapes: dict[str, tuple[int, ...]] = {"input": shape}

    def add(self, op: Op, *inputs: str) -> str:
        shape = op.shape([self.shapes[name] for name in inputs])
        total = 1
        for size in shape:
            total *= size
        if total > LARGEST or min(shape, default=1) < 1:
            raise InvalidGraph("too large or empty")
        prefix = self.draw(st.sampled_from(["", "stage.", "a b/", "x::"]))
        key = f"{prefix}{type(op).__name__.lower()}{len(self.nodes)}"
        self.nodes.append(Node(key, op, inputs))
        self.shapes[key] = shape
        return key

    def graph(self, last: str) -> Graph:
        read = {name for node in self.nodes for name in node.inputs}
        outputs = [node.key for node in self.nodes if node.key not in read and node.key != last]
        return Graph((Input("input", self.shapes["input"]),), tuple(self.nodes), (last, *outputs))


def _pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    return st.tuples(st.integers(low, high), st.integers(low, high))


def _padding(most: int) -> st.SearchStrategy[tuple[int, int, int, int]]:
    side = st.integers(0, most)
    return st.tuples(side, side, side, side)


def _image_step(sketch: _Sketch, last: str) -> str:
    draw = sketch.draw
    channels = sketch.shapes[last][1]
    divisors = [group for group in range(1, channels + 1) if channels % group == 0]
    groups = draw(st.sampled_from(divisors))
    out = groups * draw(st.integers(1, 3))
    kind = draw(st.integers(0, 15))
    match kind:
        case 0 | 1:
            kernel, stride, dilation = draw(_pairs(1, 3)), draw(_pairs(1, 2)), draw(_pairs(1, 2))
            op = Conv2d(out, kernel, stride, draw(_padding(2)), dilation, groups, draw(st.booleans()))
            return sketch.add(op, last)
        case 2:
            kernel, stride, extra = draw(_pairs(2, 3)), draw(_pairs(2, 3)), draw(_pairs(0, 1))
            op = ConvTranspose2d(out, kernel, stride, draw(_padding(1)), extra, (1, 1), groups, draw(st.booleans()))
            return sketch.add(op, last)
        case 3:
            return sketch.add(BatchNorm(draw(st.sampled_from([1e-5, 1e-3]))), last)
        case 4 | 5:
            slope = draw(st.sampled_from([0.01, 0.1]))
            function = draw(st.sampled_from(SAFE))
            return sketch.add(Activation(function, slope if function == "leaky_relu" else 0.01), last)
        case 6:
            bounded = sketch.add(Activation("sigmoid"), last)
            return sketch.add(Activation(draw(st.sampled_from(["exp", "sqrt"]))), bounded)
        case 7:
            function = draw(st.sampled_from(["max", "average"]))
            kernel, stride = draw(_pairs(2, 3)), draw(_pairs(1, 3))
            counted = function == "max" or draw(st.booleans())
            symmetric = draw(st.booleans())
            pads = (1, 1, 1, 1) if symmetric else draw(_padding(1))
            op = Pool2d(function, kernel, stride, pads, symmetric and draw(st.booleans()), counted)
            return sketch.add(op, last)
        case 8:
            mode, corners = draw(st.sampled_from([("nearest", False), ("bilinear", False), ("bilinear", True)]))
            if draw(st.booleans()):
                return sketch.add(Resize(mode, size=draw(_pairs(1, 9)), align_corners=corners), last)
            return sketch.add(Resize(mode, scale=draw(st.sampled_from([(2.0, 2.0), (1.5, 0.5)]))), last)
        case 9:
            return sketch.add(Pad(draw(_padding(2)), draw(st.sampled_from([0.0, -1.5]))), last)
        case 10:
            start = draw(st.integers(0, 1))
            return sketch.add(Slice(draw(st.sampled_from([1, 2, -1])), start, start + 2, draw(st.integers(1, 2))), last)
        case 11:
            constant = sketch.add(Constant(draw(st.sampled_from([(1, channels, 1, 1), (channels, 1, 1), (1,), ()]))))
            return sketch.add(Elementwise(draw(st.sampled_from(["add", "sub", "mul", "max", "min"]))), last, constant)
        case 12:
            gate = sketch.add(Activation("exp"), sketch.add(Activation("tanh"), last))
            return sketch.add(Elementwise("div"), last, gate)
        case 13:
            # A product with its own sigmoid would come back under its name, SiLU.
            others = [key for key, shape in sketch.shapes.items() if shape == sketch.shapes[last] and key != last]
            function = draw(st.sampled_from(["add", "sub", "max", "min"]))
            return sketch.add(Elementwise(function), last, draw(st.sampled_from([last, *others])))
        case 14:
            return sketch.add(Concat(draw(st.sampled_from([1, -3]))), last, last)
        case _:
            shape = sketch.shapes[last]
            parted = sketch.add(Reshape((shape[2], -1, channels)), last)
            return sketch.add(Transpose((0, 3, 1, 2)), parted)


def _end(sketch: _Sketch, last: str) -> str:
    draw = sketch.draw
    kind = draw(st.integers(0, 2))
    if kind == 0:
        pooled = sketch.add(GlobalPool(draw(st.sampled_from(["average", "max"]))), last)
        flat = sketch.add(Reshape((-1,)), pooled)
        return sketch.add(Linear(3, draw(st.booleans())), flat)
    if kind == 1:
        channels = sketch.shapes[last][1]
        rows = sketch.add(Transpose((0, 2, 1)), sketch.add(Reshape((channels, -1)), last))
        token = sketch.add(Constant((1, 1, channels)))
        x = sketch.add(LayerNorm(draw(st.integers(1, 2)), 1e-6), sketch.add(Concat(1), token, rows))
        x = sketch.add(Linear(3, draw(st.booleans())), x)
        if draw(st.booleans()):
            x = sketch.add(Elementwise("add"), x, sketch.add(Constant((3,))))
        scores = sketch.add(MatMul(), x, sketch.add(Transpose((0, 2, 1)), x))
        return sketch.add(MatMul(), sketch.add(Softmax(draw(st.sampled_from([-1, 2]))), scores), x)
    return last


@st.composite
def _small_graphs(draw: Callable[..., object]) -> Graph:
    shape = (1, draw(st.sampled_from([1, 2, 3, 4, 6])), draw(st.integers(3, 7)), draw(st.integers(3, 7)))
    sketch = _Sketch(draw, shape)
    last = sketch.add(Conv2d(draw(st.integers(1, 4)), (1, 1)), "input")
    for step in [_image_step] * draw(st.integers(1, 6)) + [_end]:
        before = list(sketch.nodes)
        try:
            last = step(sketch, last)
        except InvalidGraph:
            for node in sketch.nodes[len(before) :]:
                del sketch.shapes[node.key]
            sketch.nodes = before
    return sketch.graph(last)


@pytest.fixture(scope="session")
def small_graphs() -> st.SearchStrategy[Graph]:
    """Random small networks of every kind of operator that can run."""
    return _small_graphs()
