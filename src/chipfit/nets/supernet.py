"""A supernet: every network of a space as a window into shared weights, run by the one interpreter."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.totals import macs
from chipfit.graph.values import Choice, TableTooLarge
from chipfit.nets.inherit import inherit
from chipfit.nets.module import STATISTICS, Program, parameter_name
from chipfit.nets.network import Network, Weights, initialise
from chipfit.nets.windows import Window, largest, windows

Code = tuple[int, ...]
Cut = tuple[tuple[int, int] | Tensor | None, ...]
"""For each axis of a weight: a start and a length, the places of its entries, or None for all of it."""

KEPT = 64
"""Networks of which the program is kept, so that one that comes again need not be lowered again."""


@dataclass(frozen=True, slots=True, eq=False)
class _Subnet:
    graph: Graph
    program: Program
    cuts: Mapping[str, Cut]


class Supernet(nn.Module):
    """All networks of an open graph over one set of weights, each as large as the largest that any of them needs.

    A network takes the first channels of each layer, the input channels that are left and the centre of each window;
    alternatives are nodes of their own and share nothing (Yu et al. 2020, BigNAS; Cai et al. 2020). Weights start
    as `initialise` draws them, from `seed`; with a `given` network, from which the edits of `space` were made, the
    zero code has its weights exactly. Statistics of batch normalisation are those of no network: measure them for each
    (`accuracy.supernet.calibrated`). Raises `UnsupportedOperator` for an opaque node.
    """

    def __init__(self, space: Graph, seed: int, *, given: Network | None = None) -> None:
        super().__init__()
        self.space = space
        self.seed = seed
        self.whole = largest(space)
        self.largest_code, self.smallest_code = _extreme(space, 1), _extreme(space, -1)
        self._known: dict[Code, _Subnet] = {}
        generator = np.random.default_rng(seed)
        for node in space.nodes:
            for name, array in self._fresh(node, generator).items():
                if name.rpartition(".")[2] in STATISTICS:
                    self.register_buffer(parameter_name(name), torch.from_numpy(array))
                else:
                    self.register_parameter(parameter_name(name), nn.Parameter(torch.from_numpy(array)))
        if given is not None:
            # The widest first: what the network that was given has itself comes last, and stays.
            for code in dict.fromkeys((self.largest_code, (0,) * len(space.decisions))):
                self.load(code, inherit(given, space, code, np.random.default_rng(seed)).weights)

    def forward(self, code: Sequence[int], *inputs: Tensor) -> Tensor | tuple[Tensor, ...]:
        """Outputs of the network of a code; in training mode normalised by the batch, no statistics are kept."""
        subnet = self._subnet(code)
        own = {**self._parameters, **self._buffers}
        weights = {name: _cut(own[name], cut) for name, cut in subnet.cuts.items()}  # type: ignore[arg-type]
        return subnet.program.run(inputs, weights, 0.0 if self.training else None)

    def network(self, code: Sequence[int]) -> Network:
        """The network of a code by itself: a closed graph with copies of the weights that it takes."""
        subnet = self._subnet(code)
        own = {**self._parameters, **self._buffers}
        weights: dict[str, NDArray[np.float32]] = {}
        for name, _ in subnet.graph.weights():
            parameter = parameter_name(name)
            tensor = _cut(own[parameter], subnet.cuts[parameter])  # type: ignore[arg-type]
            weights[name] = np.array(tensor.detach().cpu().numpy(), np.float32, order="C")
        options = "-".join(str(option) for option in _as_code(code)) or "whole"
        return Network(f"supernet {options}", subnet.graph, weights)

    def load(self, code: Sequence[int], weights: Weights) -> None:
        """Writes the weights of the network of a code where it takes them from."""
        subnet = self._subnet(code)
        own = {**self._parameters, **self._buffers}
        for name, _ in subnet.graph.weights():
            parameter = parameter_name(name)
            tensor = own[parameter]
            assert tensor is not None
            places = np.ix_(
                *(_places(cut, size) for cut, size in zip(subnet.cuts[parameter], tensor.shape, strict=True))
            )
            with torch.no_grad():
                tensor[places] = torch.from_numpy(np.asarray(weights[name])).to(tensor.device)

    def size(self, code: Sequence[int]) -> tuple[int, int] | None:
        """Height and width of the images that the network of a code takes, None where its input is none."""
        return image_size(self._subnet(code).graph)

    @property
    def sizes(self) -> tuple[tuple[int, int] | None, ...]:
        """All sizes of images that networks of the space take: height and width, or None for other inputs."""
        shape = self.space.inputs[0].shape
        if len(shape) != 4:
            return (None,)
        # Height and width as one number, so that only pairs that occur together are found.
        pair = shape[2] * (1 << 20) + shape[3]
        pairs = np.unique(pair.values) if isinstance(pair, Choice) else np.array([pair])
        return tuple((int(each) >> 20, int(each) & ((1 << 20) - 1)) for each in pairs)

    def _subnet(self, code: Sequence[int]) -> _Subnet:
        key = _as_code(code)
        found = self._known.pop(key, None)
        if found is None:
            graph = self.space.close(key)
            places = windows(self.whole, graph)
            cuts = {parameter_name(name): _as_cut(place, self.whole.weights[name]) for name, place in places.items()}
            found = _Subnet(graph, Program(graph), cuts)
        self._known[key] = found
        while len(self._known) > KEPT:
            self._known.pop(next(iter(self._known)))
        return found

    def _fresh(self, node: Node, generator: np.random.Generator) -> dict[str, NDArray[np.float32]]:
        """First weights of one node at its largest: those of a network of this node alone."""
        op = self.whole.ops[node.key]
        if not op.weights([self.whole.tensors[name] for name in node.inputs]):
            return {}
        inputs = tuple(Input(f"input {place}", self.whole.tensors[name]) for place, name in enumerate(node.inputs))
        alone = Node(node.key, op, tuple(item.key for item in inputs))
        return initialise(Graph(inputs, (alone,), (node.key,)), generator)


def _as_code(code: Sequence[int]) -> Code:
    return tuple(int(option) for option in code)


def image_size(graph: Graph) -> tuple[int, int] | None:
    """Height and width of the images that a closed graph takes, None where its first input is no image."""
    shape = graph.inputs[0].shape
    return (int(shape[2]), int(shape[3])) if len(shape) == 4 else None  # type: ignore[arg-type]


def _as_cut(window: Window, sizes: Sequence[int]) -> Cut:
    cut: list[tuple[int, int] | Tensor | None] = []
    for places, size in zip(window, sizes, strict=True):
        if len(places) and places[-1] >= size:
            raise InvalidInput(f"entry {places[-1]} of an axis of {size}: the space's own sizes do not fit together")
        if (places == places[0] + np.arange(len(places))).all():
            cut.append(None if len(places) == size else (int(places[0]), len(places)))
        else:
            cut.append(torch.from_numpy(places))
    return tuple(cut)


def _cut(tensor: Tensor, cut: Cut) -> Tensor:
    for axis, part in enumerate(cut):
        if isinstance(part, tuple):
            tensor = tensor.narrow(axis, *part)
        elif part is not None:
            tensor = tensor.index_select(axis, part.to(tensor.device))
    return tensor


def _places(part: tuple[int, int] | Tensor | None, size: int) -> NDArray[np.int64]:
    if part is None:
        return np.arange(size)
    return part[0] + np.arange(part[1]) if isinstance(part, tuple) else part.numpy()


def _extreme(space: Graph, sign: int) -> Code:
    """The code of most (sign 1) or fewest (-1) multiply-accumulates that changing one decision after another finds."""
    code = np.zeros(len(space.decisions), np.int64)
    count = _macs_of(space)
    changed = bool(len(code))
    while changed:
        changed = False
        for axis, options in enumerate(space.cardinalities):
            codes = np.repeat(code[None], options, axis=0)
            codes[:, axis] = np.arange(options)
            found = sign * count(codes)
            if found.max() > found[code[axis]]:
                code[axis], changed = int(found.argmax()), True
    return tuple(code.tolist())


def _macs_of(space: Graph) -> Callable[[NDArray[np.int64]], NDArray[np.float64]]:
    try:
        total = macs(space)
    except TableTooLarge:
        return lambda codes: macs(space.along(codes)).at(np.arange(len(codes))[:, None])[:, 0]
    return lambda codes: total.at(codes)[:, 0]
