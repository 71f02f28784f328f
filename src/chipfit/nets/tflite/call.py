"""One operator of a TFLite file, with what is known about its inputs, and short ways to ask for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from chipfit.graph.ops import Activation, Elementwise, Op
from chipfit.nets.draft import Draft, Unrepresentable
from chipfit.nets.quantisation import Quantisation
from chipfit.nets.tflite.reader import Array, Damaged, StoredOperator
from chipfit.nets.tflite.views import IMAGE, Flattened, Known, Operand, View, Views, placed

FUSED = ("", "relu", "relu_n1_to_1", "relu6", "tanh", "sign_bit")
"""The activations that other operators can contain, by their numbers in the file."""

LARGEST_DECIMAL = 1e38

SAME = 0
"""The number of the padding that keeps the size, but for strides; the other one is none."""


@dataclass(frozen=True)
class Dilation:
    """What the pair of operators around a convolution says that older files write a dilation with.

    `block` is the dilation; `padding` and `crops` are top, left, bottom, right, before and after the convolution.
    """

    block: tuple[int, int]
    padding: tuple[int, int, int, int]
    crops: tuple[int, int, int, int]


@dataclass
class Call:
    """An operator to be translated.

    `key` is the name of what it gives. `shapes` are the shapes that the file says its outputs have. `quantisation`
    takes what is known of nodes and weights. `dilation` is set for a convolution that has one of the older form.
    """

    stored: StoredOperator
    key: str
    inputs: tuple[Operand | None, ...]
    shapes: tuple[tuple[int, ...], ...]
    views: Views
    quantisation: dict[str, Quantisation]
    constants: dict[tuple[str, tuple[int, ...]], str]
    dilation: Dilation | None = None

    @property
    def draft(self) -> Draft:
        """The network so far."""
        return self.views.draft

    def given(self, index: int) -> Operand:
        """An input. Raises `Unrepresentable` where it is left out."""
        if not self.has(index):
            raise Unrepresentable(f"input {index} is left out")
        item = self.inputs[index]
        assert item is not None
        return item

    def has(self, index: int) -> bool:
        """Whether there is such an input."""
        return index < len(self.inputs) and self.inputs[index] is not None

    def view(self, index: int = 0) -> View:
        """An input as a tensor of the graph; numbers that are known become a constant."""
        item = self.given(index)
        if isinstance(item, Flattened):
            return self.views.row(item, of_file=True)
        if isinstance(item, Known):
            array = item.array
            batched = array.ndim > 0 and array.shape[0] == 1
            order = IMAGE if array.ndim == 4 and batched else tuple(range(1 - batched, array.ndim + 1 - batched))
            return View(self.constant(item, array.ndim, order, batched), order)
        return item

    def image(self, index: int = 0) -> str:
        """Key of an input as the graph has images."""
        return self.views.image(self.view(index)).key

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """Shape of an input in the file."""
        item = self.given(index)
        if isinstance(item, Known):
            return item.array.shape
        if isinstance(item, Flattened):
            return 1, math.prod(self.views.shape(item.source))
        return self.views.shape(item)

    def known(self, index: int) -> Array:
        """An input's numbers as they are stored. Raises `Unrepresentable` for one that is computed at run time."""
        item = self.given(index)
        if not isinstance(item, Known):
            raise Unrepresentable(f"input {index} is not known before run time")
        return item.array

    def weight(self, index: int, rank: int | None = None) -> Array:
        """The real numbers that a layer multiplies by or adds, where they are known."""
        array = self.numbers(index)
        if rank is not None and array.ndim != rank:
            raise Damaged(f"weights of shape {array.shape}")
        if array.dtype.kind != "f":
            raise Damaged(f"input {index} has integers without a scale")
        return array

    def bias(self, index: int, size: int) -> Array | None:
        """One number for each of the outputs, or None where it is left out."""
        if not self.has(index):
            return None
        array = self.weight(index).reshape(-1)
        if array.size != size:
            raise Damaged(f"a bias of {array.size} numbers for {size} outputs")
        return array

    def numbers(self, index: int) -> Array:
        """An input's numbers, real ones where they are quantised."""
        return real(self.known(index), f"input {index}")

    def integers(self, index: int) -> list[int]:
        """An input that is a list of known integers."""
        return [int(value) for value in self.known(index).reshape(-1)]

    def scalar(self, index: int) -> float:
        """An input that is one known number; the shortest decimal is meant."""
        array = self.numbers(index)
        if array.size != 1:
            raise Unrepresentable(f"input {index} is not one number")
        value = float(array.item())
        # The largest numbers become larger than 32 bits hold as decimals.
        return value if abs(value) > LARGEST_DECIMAL else float(str(np.float32(value)))

    def option(self, name: str, default: Any = 0) -> Any:
        """An option by the name of its field in the schema."""
        return default if self.stored.options is None else getattr(self.stored.options, name)()

    def listed(self, name: str) -> list[int]:
        """An option that is a list of integers."""
        length = self.option(f"{name}Length")
        if not 0 <= length <= 64:
            raise Damaged(f"{length} numbers in {name}")
        return [int(value) for value in getattr(self.stored.options, f"{name}AsNumpy")()] if length else []

    def axis(self, view: View, axis: int) -> int:
        """The axis of the graph that is this axis of the file, which may count from the end."""
        rank = len(view.order)
        if not -rank <= axis < rank:
            raise Damaged(f"axis {axis} of {rank}")
        return view.order[axis]

    @property
    def fused(self) -> str:
        """Name of the activation that the operator contains, or nothing."""
        number = (
            self.option("FusedActivationFunction") if hasattr(self.stored.options, "FusedActivationFunction") else 0
        )
        if not 0 <= number < len(FUSED):
            raise Damaged(f"fused activation {number}")
        return FUSED[number]

    def inner(self, kind: str, weight: int | None = None) -> str:
        """Key of the node that computes: the operator's own, unless the activation in it needs that.

        Then what the name of its `weight` says it belongs to, as exports of chipfit and PyTorch write it.
        """
        if not self.fused:
            return self.key
        item = self.inputs[weight] if weight is not None else None
        owner, dot, last = item.name.rpartition(".") if isinstance(item, Known) else ("", "", "")
        return owner if dot and owner and last == "weight" else f"{self.key}.{kind}"

    def activated(self, view: View) -> View:
        """The result with the activation that the operator contains."""
        return activate(self, view, self.fused) if self.fused else view

    def add(self, op: Op, *views: View, suffix: str = "") -> str:
        """A node under the operator's key."""
        return self.draft.add(self.key + suffix, op, [view.key for view in views])

    def note(self, weight: str, index: int) -> None:
        """Keeps the quantisation that an input has as that of a node or weight."""
        item = self.given(index)
        if isinstance(item, Known) and item.quantisation is not None:
            self.quantisation.setdefault(weight, item.quantisation)

    def constant(self, item: Known, rank: int, order: Sequence[int], batched: bool) -> str:
        """Key of known numbers as a tensor beside one of this rank and order."""
        if (item.name, tuple(order)) not in self.constants:
            array = real(item.array, item.name)
            if array.size != 1 or array.ndim > rank:
                array = placed(array, rank, order, batched)
            key = self.draft.constant(item.name or f"{self.key}.constant", array)
            self.constants[item.name, tuple(order)] = key
            if item.quantisation is not None and len(item.quantisation.scales) == 1:
                self.quantisation.setdefault(key, item.quantisation)
        return self.constants[item.name, tuple(order)]

    def aligned(self, indices: Sequence[int]) -> list[View]:
        """Inputs with the same number of axes, which all lie in the graph alike."""
        rank = max(len(self.shape(index)) for index in indices)
        items = [self.given(index) for index in indices]
        full = [
            self.view(index)
            for index, item in zip(indices, items, strict=True)
            if not isinstance(item, Known) and len(self.shape(index)) == rank
        ]
        batched = all(self.views.batched(view) for view in full)
        first = 0 if batched else 1
        orders = [view.order for view in full if self.views.batched(view) == batched]
        order = IMAGE if IMAGE in orders else orders[0] if orders else tuple(range(first, first + rank))
        results: list[View] = []
        for index, item in zip(indices, items, strict=True):
            if isinstance(item, Known):
                results.append(View(self.constant(item, rank, order, batched), order))
                continue
            view, shape = self.view(index), self.shape(index)
            if len(shape) != rank or self.views.batched(view) != batched:
                raised = (*[1] * (rank - len(shape)), *shape)
                found = self.views.reshaped(f"{view.key}.axes", view, raised, batched)
                assert isinstance(found, View)
                view = found
            results.append(self.views.arranged(view, order))
        return results


def real(array: Array, name: str) -> Array:
    """Known numbers. Raises `Unrepresentable` for what are none."""
    if array.dtype.kind not in "fiub":
        raise Unrepresentable(f"{name} is not numeric")
    return array


def activate(call: Call, view: View, function: str) -> View:
    """An activation by its name in the file, under the operator's key."""
    limits = {"relu_n1_to_1": (-1.0, 1.0), "relu_0_to_1": (0.0, 1.0)}.get(function)
    if limits is None:
        if function == "sign_bit":
            raise Unrepresentable("the sign as an activation")
        return View(call.add(Activation(function), view), view.order)
    low = call.draft.constant(f"{call.key}.lower", np.array(limits[0], np.float32))
    high = call.draft.constant(f"{call.key}.upper", np.array(limits[1], np.float32))
    above = call.draft.add(f"{call.key}.max", Elementwise("max"), [view.key, low])
    return View(call.draft.add(call.key, Elementwise("min"), [above, high]), view.order)
