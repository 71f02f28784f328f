"""One operator of an ONNX file, with what is known about its inputs, and short ways to ask for it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.nets.draft import Draft, Unrepresentable

Array = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Computed:
    """A tensor that is known only at run time: the key that gives it."""

    key: str


@dataclass(frozen=True)
class Call:
    """An operator to be translated.

    `inputs` are computed tensors, arrays that are known already, or None where left out; `names` are their names in
    the file. `outputs` are the names of the results, "" where left out. `alone` says of each input whether nothing else
    reads it; `constants` has the keys of arrays that are nodes already, by their name in the file.
    """

    draft: Draft
    operator: str
    key: str
    attributes: dict[str, Any]
    inputs: tuple[Computed | Array | None, ...]
    names: tuple[str, ...]
    outputs: tuple[str, ...]
    alone: tuple[bool, ...]
    constants: dict[str, str]

    def tensor(self, index: int = 0) -> str:
        """Key of an input; an array that is known becomes a constant."""
        value = self._input(index)
        if isinstance(value, Computed):
            return value.key
        if value is None or value.dtype.kind not in "fiub":
            raise Unrepresentable(f"input {index} is missing or not numeric")
        name = self.names[index]
        if name not in self.constants:
            self.constants[name] = self.draft.constant(name.removesuffix(".value"), value)
        return self.constants[name]

    def array(self, index: int) -> Array:
        """An input that is known. Raises `Unrepresentable` for one that is computed at run time or left out."""
        value = self._input(index)
        if value is None or isinstance(value, Computed):
            raise Unrepresentable(f"input {index} is not known before run time")
        return value

    def optional(self, index: int) -> Array | None:
        """An input that is known, or None where it is left out."""
        return None if self._input(index) is None else self.array(index)

    def shape(self, index: int = 0) -> tuple[int, ...]:
        """Shape of an input."""
        value = self._input(index)
        if value is None:
            raise Unrepresentable(f"input {index} is missing")
        return self.draft.shapes[value.key] if isinstance(value, Computed) else value.shape

    def ints(self, name: str, default: Sequence[int] = ()) -> list[int]:
        """An attribute that is a list of integers."""
        return [int(value) for value in self.attributes.get(name, default)]

    def listed(self, name: str, index: int) -> list[int] | None:
        """A list of integers that is an attribute in older versions of the operator and an input in newer ones."""
        if name in self.attributes:
            return self.ints(name)
        value = self.optional(index)
        return None if value is None else [int(entry) for entry in value.reshape(-1)]

    def number(self, name: str, default: float) -> float:
        """An attribute that is a number; files hold 32 bits, of which the shortest decimal is meant."""
        return float(str(np.float32(self.attributes.get(name, default))))

    def scalar(self, index: int) -> float | None:
        """An input that is one known number, or None where it is left out."""
        value = self.optional(index)
        if value is None:
            return None
        if value.size != 1:
            raise Unrepresentable(f"input {index} is not one number")
        return shortest(value.item())

    def flag(self, name: str, default: int = 0) -> bool:
        """An attribute that is true or false."""
        return bool(self.attributes.get(name, default))

    def text(self, name: str, default: str) -> str:
        """An attribute that is a string."""
        value = self.attributes.get(name, default)
        return value.decode(errors="replace") if isinstance(value, bytes) else str(value)

    def only(self, **allowed: object) -> None:
        """Raises `Unrepresentable` unless each attribute named has that value or is left out."""
        for name, value in allowed.items():
            given = self.attributes.get(name, value)
            given = given.decode(errors="replace") if isinstance(given, bytes) else given
            if given != value:
                raise Unrepresentable(f"{name}={given}")

    def _input(self, index: int) -> Computed | Array | None:
        return self.inputs[index] if index < len(self.inputs) else None


def shortest(value: float) -> float:
    """The shortest decimal that is the same number in 32 bits."""
    return float(str(np.float32(value)))


def resolved_padding(
    call: Call, sizes: Sequence[int], kernel: Sequence[int], stride: Sequence[int], dilation: Sequence[int]
) -> list[int]:
    """Padding of a window operator, begins then ends, with `auto_pad` worked out for these input sizes."""
    mode = call.text("auto_pad", "NOTSET")
    if mode in ("NOTSET", ""):
        pads = call.ints("pads", [0] * 2 * len(sizes))
        if len(pads) != 2 * len(sizes) or min(pads) < 0:
            raise Unrepresentable(f"pads={pads}")
        return pads
    if mode == "VALID":
        return [0] * 2 * len(sizes)
    totals = [
        max((-(-size // step) - 1) * step + (window - 1) * spread + 1 - size, 0)
        for size, window, step, spread in zip(sizes, kernel, stride, dilation, strict=True)
    ]
    if mode == "SAME_UPPER":
        return [total // 2 for total in totals] + [total - total // 2 for total in totals]
    if mode == "SAME_LOWER":
        return [total - total // 2 for total in totals] + [total // 2 for total in totals]
    raise Unrepresentable(f"auto_pad={mode}")
