"""Tensors of a file as tensors of a graph: which axis lies where, and the nodes that bring axes into another order."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.graph.ops import Reshape
from chipfit.nets import draft as to
from chipfit.nets.draft import Draft, Unrepresentable
from chipfit.nets.quantisation import Quantisation
from chipfit.nets.tflite.reader import Damaged

Array = NDArray[Any]

IMAGE = (0, 2, 3, 1)
"""Where the axes of the file's images (batch, height, width, channels) lie in the graph's."""


@dataclass(frozen=True, slots=True)
class View:
    """A tensor of the file that the graph has under `key`.

    `order` has for each axis of the file the axis of the graph that it is. Where axis 0 of the graph is not among
    them, the graph has a batch of 1 in front that the file leaves out.
    """

    key: str
    order: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Flattened:
    """A tensor as a row of all its numbers, in the order of the file, which is not that of the graph.

    A linear layer can read them in the order of the graph; nodes come once it is known what reads the row.
    """

    name: str
    source: View


@dataclass(frozen=True)
class Known:
    """A tensor whose numbers are known before run time; `real` numbers where they are quantised."""

    name: str
    array: Array
    quantisation: Quantisation | None = None


Operand = View | Flattened | Known


class Views:
    """Views of the tensors of a draft. What was brought into an order once is there for all who ask again."""

    def __init__(self, draft: Draft) -> None:
        self.draft = draft
        self.known: dict[tuple[str, tuple[int, ...]], str] = {}
        # Keys of paddings with the least number that there is, which change no maximum.
        self.lowest: set[str] = set()
        self.rows: dict[tuple[str, bool], View] = {}

    def batched(self, view: View) -> bool:
        """Whether the file has the graph's batch too."""
        return len(view.order) == len(self.draft.shapes[view.key])

    def shape(self, view: View) -> tuple[int, ...]:
        """Shape in the file."""
        shape = self.draft.shapes[view.key]
        return tuple(shape[axis] for axis in view.order)

    def arranged(self, view: View, order: Sequence[int]) -> View:
        """The same tensor, with its axes in the graph as `order` says. Raises `Unrepresentable` if the batch moves."""
        if tuple(order) == view.order:
            return view
        wanted = [0] * len(self.draft.shapes[view.key])
        for here, there in zip(view.order, order, strict=True):
            wanted[there] = here
        return View(self._moved(view.key, tuple(wanted)), tuple(order))

    def _moved(self, key: str, axes: tuple[int, ...]) -> str:
        if (key, axes) not in self.known:
            shape = self.draft.shapes[key]
            wide = [axis for axis in axes if shape[axis] != 1]
            if axes[0] == 0 and wide == sorted(wide):
                result = self._reshaped(f"{key}.reshape", key, [shape[axis] for axis in axes])
            else:
                result = to.transpose(self.draft, f"{key}.transpose", key, axes)
            self.known[key, axes] = result
        return self.known[key, axes]

    def _reshaped(self, name: str, key: str, shape: Sequence[int]) -> str:
        """Another shape of the graph; a reshape of a reshape is one."""
        node = self.draft.nodes.get(key)
        if node is not None and isinstance(node.op, Reshape):
            key = node.inputs[0]
        given = self.draft.shapes[key]
        if given == tuple(shape):
            return key
        # Channels that stay where they are may change their number.
        kept = min(len(given), len(shape)) > 2 and given[:2] == tuple(shape[:2])
        return to.reshape(self.draft, name, key, [shape[0], -1, *shape[2:]] if kept else shape)

    def plain(self, view: View) -> View:
        """The tensor with its axes in the order of the file."""
        first = 0 if self.batched(view) else 1
        return self.arranged(view, range(first, first + len(view.order)))

    def image(self, view: View) -> View:
        """The tensor as the graph has images. Raises `Unrepresentable` for what is none."""
        if len(view.order) != 4 or not self.batched(view):
            raise Unrepresentable("no image of one batch")
        return self.arranged(view, IMAGE)

    def channels_first(self, view: View, channels: int = -1) -> View:
        """The tensor with this axis of the file, which is not its batch, right after the batch of the graph."""
        rank, first = len(view.order), 0 if self.batched(view) else 1
        order = [*range(first, rank + first)]
        place = order.pop(channels % rank)
        order = [axis + (1 <= axis < place) for axis in order]
        order.insert(channels % rank, 1)
        return self.arranged(view, order)

    def row(self, item: Flattened, of_file: bool) -> View:
        """A row of all numbers: in the order of the file, or as they lie in the graph."""
        if (item.name, of_file) not in self.rows:
            source = self.plain(item.source) if of_file else item.source
            sizes = [1, math.prod(self.shape(source))]
            self.rows[item.name, of_file] = View(self._reshaped(item.name, source.key, sizes), (0, 1))
        return self.rows[item.name, of_file]

    def reshaped(self, name: str, view: View, target: Sequence[int], batched: bool | None = None) -> View | Flattened:
        """Another shape in the file. `batched`: whether its first axis is the graph's batch, else told by its size.

        Axes that are split, merged, added or dropped stay where they are in the graph if they can.
        """
        shape, target = self.shape(view), tuple(target)
        if math.prod(shape) != math.prod(target) or min(target, default=1) < 1:
            raise Damaged(f"the shape {shape} cannot become {target}")
        if self.draft.shapes[view.key][:1] != (1,):
            raise Unrepresentable("more than one batch")
        batched = target[:1] == (1,) if batched is None else batched
        groups = _groups(shape, target)
        places = [[view.order[axis] for axis in given] for given, _ in groups]
        here = [axis for _, axes in sorted(zip(places, groups, strict=True)) for axis in axes[1]]
        plain = _order(range(len(target)), target, batched)
        choices = [IMAGE] * (batched and len(target) == 4) + [plain, _order(here, target, batched)]
        fitting = [(order, found) for order in choices if (found := _sequence(groups, order)) is not None]
        still = [pair for pair in fitting if _rises([place for group in pair[1] for place in places[group]])]
        if not still and batched and len(target) == 2:
            return Flattened(name, view)
        order, sequence = (still or fitting)[0]
        if not still:
            wide = [axis for group in sequence for axis in groups[group][0]]
            view = self.arranged(view, _order(wide, shape, self.batched(view)))
        sizes = [1] * (max(order, default=0) + 1)
        for axis, place in enumerate(order):
            sizes[place] = target[axis]
        return View(self._reshaped(name, view.key, sizes), order)

    def unbatched(self, name: str, view: View) -> View:
        """The tensor with a batch of its own in front, for operators that move the file's first axis."""
        if not self.batched(view):
            return view
        found = self.reshaped(name, view, self.shape(view), batched=False)
        assert isinstance(found, View)
        return found


def _groups(shape: Sequence[int], target: Sequence[int]) -> list[tuple[list[int], list[int]]]:
    """Which axes become which where a shape becomes another: the least sets that do. Without ones."""
    given = [axis for axis, size in enumerate(shape) if size != 1]
    wanted = [axis for axis, size in enumerate(target) if size != 1]
    groups: list[tuple[list[int], list[int]]] = []
    while given:
        sources, results = [given.pop(0)], [wanted.pop(0)]
        while (have := math.prod(shape[axis] for axis in sources)) != (
            want := math.prod(target[axis] for axis in results)
        ):
            (sources if have < want else results).append((given if have < want else wanted).pop(0))
        groups.append((sources, results))
    return groups


def _order(sequence: Sequence[int], shape: Sequence[int], batched: bool) -> tuple[int, ...]:
    """Where each axis of a shape lies in the graph when those in `sequence` come first, after the batch."""
    front = [0] if batched else []
    middle = [axis for axis in sequence if axis not in front]
    placed = [*front, *middle, *(axis for axis in range(len(shape)) if axis not in (*front, *middle))]
    return tuple(placed.index(axis) + (0 if batched else 1) for axis in range(len(shape)))


def _sequence(groups: Sequence[tuple[list[int], list[int]]], order: Sequence[int]) -> list[int] | None:
    """The groups as they lie in the graph; None where what one of them becomes does not lie there together in order."""
    sequence = sorted(range(len(groups)), key=lambda group: order[groups[group][1][0]])
    places = [order[axis] for group in sequence for axis in groups[group][1]]
    return sequence if _rises(places) else None


def _rises(places: Sequence[int]) -> bool:
    return list(places) == sorted(places)


def placed(array: Array, rank: int, order: Sequence[int], batched: bool) -> Array:
    """Known numbers as a tensor of the graph beside one with this `order`."""
    if tuple(order) == tuple(range(1 - batched, rank + 1 - batched)):
        return array
    full = array.reshape((1,) * (rank - array.ndim) + array.shape)
    whole = np.argsort(order if batched else (0, *order))
    return np.transpose(full if batched else full[None], whole)
