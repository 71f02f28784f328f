"""The open graph itself as one differentiable network: every option of every decision at once, as far as it is open."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chipfit.errors import InvalidInput
from chipfit.graph.channels import is_depthwise
from chipfit.graph.graph import Graph, Node
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    GlobalPool,
    Linear,
    Op,
    Pad,
    Pool2d,
    Reshape,
    Resize,
    Select,
)
from chipfit.graph.values import Choice, Shape, Value, choices_in
from chipfit.nets.lowering import Run, lower
from chipfit.nets.module import parameter_name
from chipfit.nets.supernet import Supernet
from chipfit.nets.windows import flattens, keeps_channels

Gates = Mapping[str, Tensor]
"""By decision, one number per option, which add up to 1."""

Presence = Callable[[Gates], Tensor]

READERS = (Conv2d, ConvTranspose2d, Linear)
"""Operators that mix channels: what they read of a channel counts as much as the channel is there."""

CHANNELWISE = (BatchNorm, Activation, Pool2d, GlobalPool, Resize, Pad)


@dataclass(frozen=True, slots=True)
class _Step:
    node: Node
    run: Run | None
    names: tuple[str, ...]
    window: Presence | None


class Relaxed:
    """Runs all options of a supernet together, each weighed by its gate.

    Alternatives are added up by their gates (Wu et al. 2019, FBNet, eq. 6), channels and rims of windows count as much
    as the options that hold them do (Wan et al. 2020, FBNetV2, section 3.1): differentiable in the gates. Where all
    gates are 0 or 1, outputs in training mode are those of the network that they choose. Raises `InvalidInput` for
    decisions that change more than widths, windows and alternatives, such as the size of the input: use a policy then.
    """

    def __init__(self, supernet: Supernet) -> None:
        self.supernet = supernet
        whole, space = supernet.whole, supernet.space
        _check(space)
        self._masks: dict[str, Presence | None] = {item.key: None for item in space.inputs}
        self._steps: list[_Step] = []
        for node in space.nodes:
            self._masks[node.key] = _mask(supernet, node, [self._masks[name] for name in node.inputs])
            if isinstance(node.op, Select):
                self._steps.append(_Step(node, None, (), None))
                continue
            shapes = [whole.tensors[name] for name in node.inputs]
            op = _runnable(space, node, whole.ops[node.key], shapes[0] if shapes else ())
            names = tuple(parameter_name(f"{node.key}.{name}") for name in op.weights(shapes))
            self._steps.append(_Step(node, lower(replace(node, op=op), shapes), names, _window(node.op)))

    def __call__(self, gates: Gates, inputs: Tensor) -> Tensor:
        """The output (n, ...) for images (n, ...), normalised by the batch. Networks of one input and one output."""
        space = self.supernet.space
        own = {**dict(self.supernet.named_parameters()), **dict(self.supernet.named_buffers())}
        masks = {key: None if mask is None else mask(gates) for key, mask in self._masks.items()}
        values: dict[str, Tensor] = {space.inputs[0].key: inputs}
        for step in self._steps:
            values[step.node.key] = self._value(step, values, masks, own, gates)
        return _weighed(values[space.outputs[0]], masks[space.outputs[0]])

    def _value(
        self,
        step: _Step,
        values: Mapping[str, Tensor],
        masks: Mapping[str, Tensor | None],
        own: Mapping[str, Tensor],
        gates: Gates,
    ) -> Tensor:
        node = step.node
        tensors = [values[name] for name in node.inputs]
        if isinstance(node.op, (Select, Elementwise)):
            width = self.supernet.whole.tensors[node.key][1]
            tensors = [_grown(tensor, width) for tensor in tensors]
        if step.run is None:
            assert isinstance(node.op, Select)
            return _mixed(node.op.index, tensors, gates)
        if isinstance(node.op, READERS):
            tensors = [_weighed(tensors[0], masks[node.inputs[0]])]
        weights = [own[name] for name in step.names]
        if step.window is not None:
            weights[0] = weights[0] * step.window(gates)
        return step.run(tensors, weights, 0.0)


def contracted(values: Tensor, factors: Sequence[Tensor]) -> Tensor:
    """A table with one axis per factor in front, summed over them with these weights."""
    for factor in factors:
        values = torch.tensordot(factor, values, dims=1)
    return values


def _check(space: Graph) -> None:
    if len(space.inputs) != 1 or len(space.outputs) != 1:
        raise InvalidInput("options are relaxed in networks of one input and one output; use the policy method")
    for key, shape in space.shapes.items():
        for size in (*shape[:1], *shape[2:]):
            if isinstance(size, Choice):
                _refuse(key, size)
    for node in space.nodes:
        for choice in choices_in(_unrelaxed(space, node)):
            _refuse(node.key, choice)


def _unrelaxed(space: Graph, node: Node) -> object:
    """What no decision may change: all but widths, alternatives, and windows that grow around one centre."""
    op = node.op
    match op:
        case Conv2d():
            sizes = zip((*op.kernel, *op.kernel), op.padding, (*op.dilation, *op.dilation), strict=True)
            centres = tuple(pad - step * (size // 2) for size, pad, step in sizes)
            groups = 1 if is_depthwise(op, space.input_shapes(node)[0][1]) else op.groups
            return centres, op.stride, op.dilation, groups
        case ConvTranspose2d():
            return replace(op, out=1)
        case Linear() | Select() | Reshape():
            return ()
        case _:
            return op


def _refuse(key: str, value: Choice) -> None:
    raise InvalidInput(
        f"{', '.join(value.decisions)}: what it changes at {key!r} is no width, window or alternative, and has no "
        "gradient; use the policy method, or leave the decision out"
    )


def _mask(supernet: Supernet, node: Node, masks: Sequence[Presence | None]) -> Presence | None:
    """How much each channel of a node's output is there; None where all always are."""
    space, op, whole = supernet.space, node.op, supernet.whole
    shape: Shape = space.input_shapes(node)[0] if node.inputs else ()
    match op:
        case Conv2d() if is_depthwise(op, space.shapes[node.inputs[0]][1]):
            return _repeated(masks[0], whole.tensors[node.key][1] // whole.tensors[node.inputs[0]][1])
        case Conv2d() | ConvTranspose2d() | Linear():
            if isinstance(op, Linear) and len(shape) != 2 and (masks[0] is not None or isinstance(op.out, Choice)):
                raise _mixes(node)
            return _width(op.out, whole.tensors[node.key][-1 if isinstance(op, Linear) else 1])
        case Elementwise():
            known = next((mask for mask in masks if mask is not None), None)
            return None if known is None else _padded(known, whole.tensors[node.key][1])
        case Concat(axis=1):
            return _beside(masks, [whole.tensors[name][1] for name in node.inputs])
        case Select():
            return _chosen(op.index, masks, whole.tensors[node.key][1])
        case Reshape():
            if masks[0] is None or keeps_channels(shape, space.shapes[node.key]):
                return masks[0]
            if flattens(shape, space.shapes[node.key]):
                return _repeated(masks[0], int(np.prod(whole.tensors[node.inputs[0]][2:])))
            raise _mixes(node)
        case _:
            if all(mask is None for mask in masks):
                return None
            if isinstance(op, CHANNELWISE):
                return masks[0]
            raise _mixes(node)


def _mixes(node: Node) -> InvalidInput:
    return InvalidInput(
        f"{node.key!r} ({type(node.op).__name__}) computes across channels of an open width; use the policy method"
    )


def _width(width: Value, most: int) -> Presence | None:
    if not isinstance(width, Choice):
        return None
    held = torch.from_numpy((np.arange(most) < width.values[..., None]).astype(np.float32))
    return lambda gates: contracted(_like(held, gates), [gates[name] for name in width.decisions])


def _window(op: Op) -> Presence | None:
    """How much each place of a convolution's window is there, (height, width); None where all always are."""
    if not isinstance(op, Conv2d) or not choices_in(op.kernel):
        return None
    rows, columns = (_centred(size) for size in op.kernel)
    if op.kernel[0] == op.kernel[1]:
        names, held = rows
        square = held[..., :, None] * held[..., None, :]
        return lambda gates: contracted(_like(square, gates), [gates[name] for name in names])

    def window(gates: Gates) -> Tensor:
        tall, wide = (contracted(_like(t, gates), [gates[name] for name in names]) for names, t in (rows, columns))
        return tall[:, None] * wide[None, :]

    return window


def _centred(size: Value) -> tuple[tuple[str, ...], Tensor]:
    names, values = (size.decisions, size.values) if isinstance(size, Choice) else ((), np.array(size))
    most = int(values.max())
    before = (most - values[..., None]) // 2
    places = np.arange(most)
    return names, torch.from_numpy(((places >= before) & (places < before + values[..., None])).astype(np.float32))


def _repeated(mask: Presence | None, times: int) -> Presence | None:
    return None if mask is None else lambda gates: mask(gates).repeat_interleave(times)


def _beside(masks: Sequence[Presence | None], sizes: Sequence[int]) -> Presence | None:
    if all(mask is None for mask in masks):
        return None
    return lambda gates: torch.cat(
        [
            _like(torch.ones(size), gates) if mask is None else mask(gates)
            for mask, size in zip(masks, sizes, strict=True)
        ]
    )


def _padded(mask: Presence, width: int) -> Presence:
    def padded(gates: Gates) -> Tensor:
        found = mask(gates)
        return F.pad(found, (0, width - len(found)))

    return padded


def _chosen(index: Value, masks: Sequence[Presence | None], width: int) -> Presence | None:
    if all(mask is None for mask in masks):
        return None

    def chosen(gates: Gates) -> Tensor:
        found = [_like(torch.ones(width), gates) if mask is None else mask(gates) for mask in masks]
        return _mixed(index, [F.pad(each, (0, width - len(each))) for each in found], gates)

    return chosen


def _mixed(index: Value, tensors: Sequence[Tensor], gates: Gates) -> Tensor:
    """The alternatives added up, each as much as it is chosen."""
    if not isinstance(index, Choice):
        return tensors[int(index)]
    factors = [gates[name] for name in index.decisions]
    total: Tensor | None = None
    for option, tensor in enumerate(tensors):
        held = torch.from_numpy((index.values == option).astype(np.float32))
        part = contracted(_like(held, gates), factors) * tensor
        total = part if total is None else total + part
    assert total is not None
    return total


def _like(tensor: Tensor, gates: Gates) -> Tensor:
    return tensor.to(next(iter(gates.values())).device)


def _weighed(tensor: Tensor, mask: Tensor | None) -> Tensor:
    return tensor if mask is None else tensor * mask.reshape(1, -1, *[1] * (tensor.ndim - 2))


def _grown(tensor: Tensor, width: int) -> Tensor:
    """With channels of zeros up to a width; one channel that is spread over all stays."""
    missing = width - tensor.shape[1] if tensor.shape[1] != 1 else 0
    return tensor if missing == 0 else F.pad(tensor, (*[0] * (2 * (tensor.ndim - 2)), 0, missing))


def _runnable(space: Graph, node: Node, op: Op, shape: Sequence[int]) -> Op:
    """A reshape whose sizes follow its largest input."""
    if not isinstance(op, Reshape):
        return op
    before, made = space.input_shapes(node)[0], space.shapes[node.key]
    if flattens(before, made):
        return Reshape((-1,))
    return Reshape((shape[1], *op.sizes[1:])) if keeps_channels(before, made) else op
