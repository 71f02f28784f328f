"""Networks as PyTorch source code with a weight file: a plain module that needs nothing of chipfit."""

from __future__ import annotations

import keyword
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy
from numpy.typing import NDArray
from torch import nn

import chipfit
from chipfit.errors import InvalidInput, UnsupportedOperator
from chipfit.files import write_whole
from chipfit.graph.graph import Node
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
    Pad,
    Pool2d,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
)
from chipfit.nets.fixed import without_batch
from chipfit.nets.network import Network

SOURCE_FILE = "model.py"
WEIGHT_FILE = "model.safetensors"

FUNCTIONS = {
    "relu": "F.relu({})",
    "relu6": "F.relu6({})",
    "hard_swish": "F.hardswish({})",
    "hard_sigmoid": "F.hardsigmoid({})",
    "silu": "F.silu({})",
    "gelu": "F.gelu({})",
    "gelu_tanh": 'F.gelu({}, approximate="tanh")',
    "sigmoid": "torch.sigmoid({})",
    "tanh": "torch.tanh({})",
    "exp": "torch.exp({})",
    "sqrt": "torch.sqrt({})",
    "abs": "torch.abs({})",
    "neg": "-{}",
}
PAIRS = {
    "add": "{} + {}",
    "sub": "{} - {}",
    "mul": "{} * {}",
    "div": "{} / {}",
    "max": "torch.maximum({}, {})",
    "min": "torch.minimum({}, {})",
}

TEMPLATE = '''"""{title}, exported by chipfit {version}. Needs torch and safetensors."""

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn


class Model(nn.Module):
    """{inputs}; {outputs}."""

    def __init__(self) -> None:
        super().__init__()
{layers}

    def forward(self, {parameters}) -> {result}:
{steps}


def load(weights: Path = Path(__file__).with_name("{weight_file}")) -> Model:
    """The network with its weights, in evaluation mode."""
    model = Model()
    model.load_state_dict(load_file(weights))
    return model.eval()
'''


def export_torch(network: Network, directory: Path) -> Path:
    """Writes model.py and model.safetensors into `directory`; gives the path of model.py.

    model.py has a class `Model` with one layer per node that has weights, named after its key, and `load()`, which
    reads the weights beside it. Raises `UnsupportedOperator` for an opaque node, `InvalidInput` for an open graph,
    `StorageFull` where the disk is full.
    """
    if network.graph.decisions:
        raise InvalidInput(f"{network.name}: {len(network.graph.decisions)} decisions are open; close it with a code")
    writer = _Writer(network)
    source = writer.source()
    directory = Path(directory)
    write_whole(directory / WEIGHT_FILE, safetensors.numpy.save(writer.state))
    write_whole(directory / SOURCE_FILE, source.encode())
    return directory / SOURCE_FILE


class _Writer:
    def __init__(self, network: Network) -> None:
        self.network, self.graph = network, network.graph
        self.fixed = without_batch(self.graph)
        self.state: dict[str, NDArray[Any]] = {}
        self.layers: list[str] = []
        self.names = _identifiers([*self.graph.shapes])

    def source(self) -> str:
        steps = [f"{self.names[node.key]} = {self.expression(node)}" for node in self.graph.nodes]
        results = [self.names[key] for key in self.graph.outputs]
        steps.append(f"return {', '.join(results)}")
        inputs = [item.key for item in self.graph.inputs]
        title = re.sub(r"[^\w .:/+-]", "_", self.network.name) or "A network"
        return TEMPLATE.format(
            title=title,
            version=chipfit.__version__,
            inputs=self.described("Input", inputs),
            outputs=self.described("output", self.graph.outputs),
            layers="\n".join(f"        {line}" for line in self.layers) or "        pass",
            parameters=", ".join(f"{self.names[key]}: Tensor" for key in inputs),
            result="Tensor" if len(results) == 1 else "tuple[Tensor, ...]",
            steps="\n".join(f"        {line}" for line in steps),
            weight_file=WEIGHT_FILE,
        )

    def described(self, what: str, keys: Sequence[str]) -> str:
        shapes = [f"{self.names[key]} (batch, {', '.join(map(str, self.graph.shapes[key][1:]))})" for key in keys]
        return f"{what}{'s' if len(keys) > 1 else ''} {', '.join(shapes)}"

    def layer(self, node: Node, module: str) -> str:
        """Declares a layer and keeps its weights; gives what calls it."""
        name = self.names[node.key]
        self.layers.append(f"self.{name} = {module}")
        for weight in node.op.weights(self.graph.input_shapes(node)):
            self.state[f"{name}.{weight}"] = np.ascontiguousarray(self.network.weights[f"{node.key}.{weight}"])
        return f"self.{name}"

    def expression(self, node: Node) -> str:
        op, args = node.op, [self.names[name] for name in node.inputs]
        shapes = self.graph.input_shapes(node)
        match op:
            case Conv2d() | ConvTranspose2d():
                return self.convolution(node, op)
            case Linear():
                layer = self.layer(node, f"nn.Linear({shapes[0][-1]}, {op.out}, bias={op.bias})")
                return f"{layer}({args[0]})"
            case BatchNorm():
                kind = {4: "BatchNorm2d", 5: "BatchNorm3d"}.get(len(shapes[0]), "BatchNorm1d")
                layer = self.layer(node, f"nn.{kind}({shapes[0][1]}, eps={op.eps!r})")
                self.state[f"{self.names[node.key]}.num_batches_tracked"] = np.zeros((), np.int64)
                return f"{layer}({args[0]})"
            case LayerNorm():
                layer = self.layer(node, f"nn.LayerNorm({shapes[0][-op.axes :]}, eps={op.eps!r})")
                return f"{layer}({args[0]})"
            case Activation(function="prelu"):
                return f"{self.layer(node, f'nn.PReLU({shapes[0][1]})')}({args[0]})"
            case Activation(function="leaky_relu"):
                return f"F.leaky_relu({args[0]}, {op.slope!r})"
            case Activation():
                return FUNCTIONS[op.function].format(*args)
            case Elementwise():
                return PAIRS[op.function].format(*args)
            case MatMul():
                return f"{args[0]} @ {args[1]}"
            case Softmax():
                return f"F.softmax({args[0]}, dim={op.axis})"
            case Constant():
                name = self.names[node.key]
                self.layers.append(f"self.{name} = nn.Parameter(torch.zeros({_tuple(op.size)}))")
                self.state[name] = np.array(self.network.weights[f"{node.key}.value"], order="C")
                return f"self.{name}"
            case Pool2d():
                return self.pool(node, op)
            case _:
                return self.layout(node)

    def layout(self, node: Node) -> str:
        op, args = node.op, [self.names[name] for name in node.inputs]
        match op:
            case GlobalPool():
                function = "mean" if op.function == "average" else "amax"
                return f"{args[0]}.{function}((2, 3), keepdim=True)"
            case Resize():
                where = f"size={_tuple(op.size)}" if op.size is not None else f"scale_factor={op.scale}"
                corners = f", align_corners={op.align_corners}" if op.mode == "bilinear" else ""
                return f'F.interpolate({args[0]}, {where}, mode="{op.mode}"{corners})'
            case Concat():
                return f"torch.cat([{', '.join(self.with_batch(node))}], dim={op.axis})"
            case Slice():
                rank = len(self.graph.input_shapes(node)[0])
                step = "" if op.step == 1 else f":{op.step}"
                return f"{args[0]}[{':, ' * (op.axis % rank)}{op.start}:{op.stop}{step}]"
            case Pad():
                return _padded(args[0], op.padding, _number(op.value))
            case Reshape():
                return f"{args[0]}.reshape({', '.join(map(str, (f'{args[0]}.shape[0]', *op.sizes)))})"
            case Transpose():
                return f"{args[0]}.permute({', '.join(map(str, op.order))})"
            case _:
                what = getattr(op, "operator", type(op).__name__)
                raise UnsupportedOperator(
                    f"{self.network.name}: node {node.key!r} is the operator {what!r}, which chipfit cannot export; "
                    "replace it with operators that chipfit knows, or cut the network before it"
                )

    def with_batch(self, node: Node) -> list[str]:
        """Inputs of a concatenation; constants among them repeated for every image of the batch."""
        moving = [self.names[name] for name in node.inputs if name not in self.fixed]
        args: list[str] = []
        for name in node.inputs:
            rest = ", -1" * (len(self.graph.shapes[name]) - 1)
            expanded = f"{self.names[name]}.expand({moving[0]}.shape[0]{rest})" if moving else self.names[name]
            args.append(expanded if name in self.fixed else self.names[name])
        return args

    def convolution(self, node: Node, op: Conv2d | ConvTranspose2d) -> str:
        source, channels = self.names[node.inputs[0]], self.graph.input_shapes(node)[0][1]
        top, left, bottom, right = op.padding
        symmetric = (top, left) == (bottom, right)
        settings = [str(channels), str(op.out), _tuple(op.kernel)]
        for name, value, default in (
            ("stride", op.stride, (1, 1)),
            ("padding", (top, left) if symmetric else (0, 0), (0, 0)),
            ("output_padding", getattr(op, "output_padding", (0, 0)), (0, 0)),
            ("dilation", op.dilation, (1, 1)),
        ):
            if tuple(value) != default:
                settings.append(f"{name}={_tuple(value)}")
        settings += [f"groups={op.groups}"] * (op.groups != 1) + ["bias=False"] * (not op.bias)
        layer = self.layer(node, f"nn.{type(op).__name__}({', '.join(settings)})")
        if symmetric:
            return f"{layer}({source})"
        if isinstance(op, Conv2d):
            return f"{layer}({_padded(source, op.padding)})"
        return _padded(f"{layer}({source})", (-top, -left, -bottom, -right))

    def pool(self, node: Node, op: Pool2d) -> str:
        source, shapes = self.names[node.inputs[0]], self.graph.input_shapes(node)
        top, left, bottom, right = (int(size) for size in op.padding)  # type: ignore[reportArgumentType]
        (rows, columns), (down, across) = op.kernel, op.stride
        function = "avg_pool2d" if op.function == "average" else "max_pool2d"
        settings = f"{_tuple(op.kernel)}, {_tuple(op.stride)}"
        # PyTorch pads both sides alike, by half a window at most.
        if (top, left) == (bottom, right) and 2 * top <= rows and 2 * left <= columns:
            more = "".join(
                [f", padding={_tuple((top, left))}"] * bool(top or left)
                + [", ceil_mode=True"] * op.ceil_mode
                + [", count_include_pad=False"] * (op.function == "average" and not op.count_include_pad)
            )
            return f"F.{function}({source}, {settings}{more})"
        axes = (top, bottom, rows, down), (left, right, columns, across)
        counts: list[list[int]] = []
        behind: list[int] = []
        for size, count, axis in zip(shapes[0][2:], op.shape(shapes)[2:], axes, strict=True):
            before, after, window, step = (int(number) for number in axis)  # type: ignore[reportArgumentType]
            first, last = (-before, int(size) + after) if op.count_include_pad else (0, int(size))  # type: ignore[reportArgumentType]
            starts = [position * step - before for position in range(int(count))]  # type: ignore[reportArgumentType]
            counts.append([min(start + window, last) - max(start, first) for start in starts])
            behind.append(starts[-1] + window - int(size))  # type: ignore[reportArgumentType]
        fill = 0.0 if op.function == "average" else -math.inf
        padded = _padded(source, (top, left, behind[0], behind[1]), _number(fill))
        if op.function == "max":
            return f"F.max_pool2d({padded}, {settings})"
        name = self.names[node.key]
        sizes = f"torch.tensor({counts[0]}).outer(torch.tensor({counts[1]}))"
        self.layers.append(f'self.register_buffer("{name}", {sizes}, persistent=False)')
        return f"F.avg_pool2d({padded}, {settings}, divisor_override=1) / self.{name}"


def _identifiers(keys: Sequence[str]) -> dict[str, str]:
    """A Python name for every key, none of them with a meaning to Python or to a module."""
    taken = {*dir(nn.Module()), *keyword.kwlist, *keyword.softkwlist, "self", "torch", "nn", "F", "Tensor"}
    names: dict[str, str] = {}
    for key in keys:
        wanted = re.sub(r"\W", "_", key, flags=re.ASCII)
        wanted = wanted if re.match(r"[A-Za-z]", wanted) else f"layer_{wanted.lstrip('_')}"
        name, number = wanted, 0
        while name in taken:
            number += 1
            name = f"{wanted}_{number}"
        taken.add(name)
        names[key] = name
    return names


def _tuple(values: Sequence[Any]) -> str:
    listed = ", ".join(str(int(value)) for value in values)
    return f"({listed},)" if len(values) == 1 else f"({listed})"


def _number(value: float) -> str:
    return repr(float(value)) if math.isfinite(value) else f'float("{value}")'


def _padded(source: str, padding: Sequence[Any], value: str = "0.0") -> str:
    top, left, bottom, right = padding
    fill = "" if value == "0.0" else f", value={value}"
    return f"F.pad({source}, ({left}, {right}, {top}, {bottom}){fill})"
