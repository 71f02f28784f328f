"""Writing networks: a builder that appends operators under stable keys, and the usual blocks as functions on it."""

from __future__ import annotations

from collections.abc import Sequence

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
    Linear,
    Op,
    Pool2d,
    Reshape,
    Resize,
    Select,
    Softmax,
)
from chipfit.graph.values import Decision, Shape, Value, always, equal

Pair = Value | tuple[Value, Value]
"""One value for height and width, or one for each."""

Padding = Value | tuple[Value, Value] | tuple[Value, Value, Value, Value]
"""All four sides; height and width; or top, left, bottom, right."""


class Builder:
    """Appends operators to a network. Every method takes and gives tensor names; a node's key names its output.

    Shapes are checked as nodes arrive, so an `InvalidGraph` points at the line that wrote the fault.
    """

    def __init__(self) -> None:
        self._inputs: list[Input] = []
        self._nodes: list[Node] = []
        self._decisions: list[Decision] = []
        self._shapes: dict[str, Shape] = {}

    def input(self, key: str, shape: Shape) -> str:
        """An input tensor; `shape` has batch 1 first."""
        self._inputs.append(Input(key, shape))
        return self._tensor(key, shape)

    def add(self, op: Op, *inputs: str, key: str) -> str:
        """Any operator. Raises `InvalidGraph` naming the node where a key repeats or the inputs do not fit."""
        if missing := [name for name in inputs if name not in self._shapes]:
            raise InvalidGraph(f"node {key!r} reads {missing[0]!r}, which nothing before it gives")
        try:
            shape = op.shape([self._shapes[name] for name in inputs])
        except InvalidGraph as error:
            raise InvalidGraph(f"node {key!r}: {error}") from None
        name = self._tensor(key, shape)
        self._nodes.append(Node(key, op, inputs))
        return name

    def shape(self, name: str) -> Shape:
        """Shape of a tensor."""
        if name not in self._shapes:
            raise InvalidGraph(f"no tensor is named {name!r}")
        return self._shapes[name]

    def channels(self, name: str) -> Value:
        """Size of axis 1 of a tensor."""
        return self.shape(name)[1]

    def decide(self, name: str, options: tuple[int | float | str, ...]) -> Decision:
        """A new open decision, from which `values.choose` makes values; option 0 is the network as it was given."""
        decision = Decision(name, options)
        self._decisions.append(decision)
        return decision

    def graph(self, outputs: str | Sequence[str]) -> Graph:
        """The network written so far, with these outputs."""
        names = (outputs,) if isinstance(outputs, str) else tuple(outputs)
        return Graph(tuple(self._inputs), tuple(self._nodes), names, tuple(self._decisions))

    def conv(
        self,
        x: str,
        out: Value,
        *,
        kernel: Pair = 1,
        stride: Pair = 1,
        padding: Padding | None = None,
        dilation: Pair = 1,
        groups: Value = 1,
        bias: bool = False,
        key: str,
    ) -> str:
        """2-D convolution; without `padding` it is padded by `same`."""
        pads = same(kernel, dilation) if padding is None else sides(padding)
        op = Conv2d(out, pair(kernel), pair(stride), pads, pair(dilation), groups, bias)
        return self.add(op, x, key=key)

    def depthwise(
        self,
        x: str,
        *,
        kernel: Pair = 3,
        stride: Pair = 1,
        padding: Padding | None = None,
        bias: bool = False,
        key: str,
    ) -> str:
        """Depthwise convolution: one filter per channel."""
        channels = self.channels(x)
        return self.conv(
            x, channels, kernel=kernel, stride=stride, padding=padding, groups=channels, bias=bias, key=key
        )

    def conv_transpose(
        self,
        x: str,
        out: Value,
        *,
        kernel: Pair,
        stride: Pair = 1,
        padding: Padding = 0,
        output_padding: Pair = 0,
        bias: bool = True,
        key: str,
    ) -> str:
        """2-D transposed convolution; `padding` is cut off the output."""
        op = ConvTranspose2d(out, pair(kernel), pair(stride), sides(padding), pair(output_padding), bias=bias)
        return self.add(op, x, key=key)

    def linear(self, x: str, out: Value, *, bias: bool = True, key: str) -> str:
        """Fully connected layer over the last axis."""
        return self.add(Linear(out, bias), x, key=key)

    def batch_norm(self, x: str, *, eps: float = 1e-5, key: str) -> str:
        """Batch normalisation over axis 1."""
        return self.add(BatchNorm(eps), x, key=key)

    def activation(self, x: str, function: str, *, key: str) -> str:
        """An activation from `ops.ACTIVATIONS`."""
        return self.add(Activation(function), x, key=key)

    def elementwise(self, a: str, b: str, function: str, *, key: str) -> str:
        """Two tensors element by element; `function` is one of `ops.ELEMENTWISE`."""
        return self.add(Elementwise(function), a, b, key=key)

    def concat(self, names: Sequence[str], *, axis: int = 1, key: str) -> str:
        """Tensors side by side."""
        return self.add(Concat(axis), *names, key=key)

    def pool(
        self, x: str, function: str, *, kernel: Pair, stride: Pair | None = None, padding: Padding = 0, key: str
    ) -> str:
        """Pooling; without `stride` the windows lie side by side."""
        step = pair(kernel if stride is None else stride)
        return self.add(Pool2d(function, pair(kernel), step, sides(padding)), x, key=key)

    def global_pool(self, x: str, function: str = "average", *, key: str) -> str:
        """Pooling over all of height and width."""
        return self.add(GlobalPool(function), x, key=key)

    def resize(self, x: str, scale: float, *, mode: str = "nearest", key: str) -> str:
        """Height and width times a factor."""
        return self.add(Resize(mode, (scale, scale)), x, key=key)

    def reshape(self, x: str, sizes: tuple[Value, ...], *, key: str) -> str:
        """The same numbers with other axes after the batch; one size may be -1."""
        return self.add(Reshape(sizes), x, key=key)

    def softmax(self, x: str, *, axis: int = -1, key: str) -> str:
        """Softmax along one axis."""
        return self.add(Softmax(axis), x, key=key)

    def constant(self, size: Shape, *, key: str) -> str:
        """A learned tensor; batch 1 first where it meets images."""
        return self.add(Constant(size), key=key)

    def select(self, index: Value, alternatives: Sequence[str], *, key: str) -> str:
        """The alternative at `index` survives."""
        return self.add(Select(index), *alternatives, key=key)

    def _tensor(self, key: str, shape: Shape) -> str:
        if key in self._shapes:
            raise InvalidGraph(f"two tensors are named {key!r}")
        self._shapes[key] = shape
        return key


def pair(value: Pair) -> tuple[Value, Value]:
    """Height and width."""
    return value if isinstance(value, tuple) else (value, value)


def sides(padding: Padding) -> tuple[Value, Value, Value, Value]:
    """Top, left, bottom, right."""
    if isinstance(padding, tuple) and len(padding) == 4:
        return padding
    height, width = pair(padding)
    return height, width, height, width


def same(kernel: Pair, dilation: Pair = 1) -> tuple[Value, Value, Value, Value]:
    """Symmetric padding with which an odd kernel at stride 1 keeps height and width: (k - 1) // 2 each side."""
    (height, width), (dilation_height, dilation_width) = pair(kernel), pair(dilation)
    return sides((dilation_height * (height - 1) // 2, dilation_width * (width - 1) // 2))


def conv_bn_act(
    b: Builder,
    x: str,
    out: Value,
    *,
    kernel: Pair = 3,
    stride: Pair = 1,
    padding: Padding | None = None,
    groups: Value = 1,
    activation: str | None = "relu6",
    key: str,
) -> str:
    """Convolution `key`, batch normalisation `key.bn` and, unless None, activation `key.act`."""
    x = b.conv(x, out, kernel=kernel, stride=stride, padding=padding, groups=groups, key=key)
    x = b.batch_norm(x, key=f"{key}.bn")
    return x if activation is None else b.activation(x, activation, key=f"{key}.act")


def inverted_bottleneck(
    b: Builder,
    x: str,
    out: Value,
    *,
    expansion: Value,
    kernel: Pair = 3,
    stride: Pair = 1,
    activation: str = "relu6",
    key: str,
) -> str:
    """Expansion 1x1, depthwise, projection 1x1, and the input added where the shape stays (Sandler et al. 2018, 3.3).

    An expansion of 1 has no first convolution. Keys: `key` + .expand, .depthwise, .project (each with .bn, .act but for
    the projection's activation), .add.
    """
    hidden = x
    if not always(equal(expansion, 1)):
        width = b.channels(x) * expansion
        hidden = conv_bn_act(b, x, width, kernel=1, activation=activation, key=f"{key}.expand")
    width = b.channels(hidden)
    hidden = conv_bn_act(
        b, hidden, width, kernel=kernel, stride=stride, groups=width, activation=activation, key=f"{key}.depthwise"
    )
    hidden = conv_bn_act(b, hidden, out, kernel=1, activation=None, key=f"{key}.project")
    return _add_input(b, x, hidden, key=f"{key}.add")


def fused_inverted_bottleneck(
    b: Builder,
    x: str,
    out: Value,
    *,
    expansion: Value,
    kernel: Pair = 3,
    stride: Pair = 1,
    activation: str = "relu6",
    key: str,
) -> str:
    """An inverted bottleneck whose expansion and depthwise convolution are one full convolution (Gupta and Tan 2019).

    Keys: `key` + .fused (.bn, .act), .project (.bn), .add.
    """
    width = b.channels(x) * expansion
    hidden = conv_bn_act(b, x, width, kernel=kernel, stride=stride, activation=activation, key=f"{key}.fused")
    hidden = conv_bn_act(b, hidden, out, kernel=1, activation=None, key=f"{key}.project")
    return _add_input(b, x, hidden, key=f"{key}.add")


def depthwise_separable(
    b: Builder,
    x: str,
    out: Value,
    *,
    kernel: Pair = 3,
    stride: Pair = 1,
    activation: str = "relu6",
    key: str,
) -> str:
    """Depthwise then pointwise convolution (Howard et al. 2017, 3.1): `key` + .depthwise, .pointwise (.bn, .act)."""
    width = b.channels(x)
    x = conv_bn_act(
        b, x, width, kernel=kernel, stride=stride, groups=width, activation=activation, key=f"{key}.depthwise"
    )
    return conv_bn_act(b, x, out, kernel=1, activation=activation, key=f"{key}.pointwise")


def residual_block(b: Builder, x: str, out: Value, *, stride: Pair = 1, activation: str = "relu", key: str) -> str:
    """Two 3x3 convolutions and a shortcut (He et al. 2016, 3.1), a 1x1 convolution with bias where the shape changes.

    Keys: `key` + .conv1 (.bn, .act), .conv2 (.bn), .shortcut, .add, .act.
    """
    main = conv_bn_act(b, x, out, stride=stride, activation=activation, key=f"{key}.conv1")
    main = conv_bn_act(b, main, out, activation=None, key=f"{key}.conv2")
    if not _same_shape(b, x, main):
        x = b.conv(x, out, stride=stride, bias=True, key=f"{key}.shortcut")
    x = b.elementwise(x, main, "add", key=f"{key}.add")
    return b.activation(x, activation, key=f"{key}.act")


def _same_shape(b: Builder, x: str, y: str) -> bool:
    return all(always(equal(a, c)) for a, c in zip(b.shape(x), b.shape(y), strict=True))


def _add_input(b: Builder, x: str, y: str, *, key: str) -> str:
    return b.elementwise(x, y, "add", key=key) if _same_shape(b, x, y) else y
