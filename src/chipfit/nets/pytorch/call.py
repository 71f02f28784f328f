"""One operator of a traced PyTorch module, with what is known about its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.nets.draft import Draft, Unrepresentable


@dataclass(frozen=True, slots=True)
class Computed:
    """A tensor that is known only at run time: the key that gives it."""

    key: str


@dataclass(frozen=True)
class Call:
    """An operator to be translated; tensors among its arguments are computed, or known already.

    `names` has the names of parameters and buffers, `constants` the keys of tensors that are nodes already, both by the
    identity of the tensor.
    """

    draft: Draft
    key: str
    arguments: Mapping[str, Any]
    names: Mapping[int, str]
    constants: dict[int, str]

    def tensor(self, name: str) -> str:
        """Key of a tensor; a known tensor or a number becomes a constant."""
        return self.key_of(self.arguments[name], name)

    def key_of(self, value: Any, name: str) -> str:
        """Key of a tensor that is an entry of the argument `name`."""
        if isinstance(value, Computed):
            return value.key
        if not isinstance(value, (torch.Tensor, int, float)):
            raise Unrepresentable(f"{name}={value}")
        if not isinstance(value, torch.Tensor):
            return self.draft.constant(f"{self.key}.{name}", np.array(value, np.float32))
        if id(value) not in self.constants:
            wanted = self.names.get(id(value), f"{self.key}.{name}")
            self.constants[id(value)] = self.draft.constant(wanted, as_array(value))
        return self.constants[id(value)]

    def array(self, name: str) -> NDArray[np.float32]:
        """A tensor that is known. Raises `Unrepresentable` for one that is computed at run time."""
        value = self.arguments[name]
        if not isinstance(value, torch.Tensor):
            raise Unrepresentable(f"{name} is not known before run time")
        return as_array(value)

    def optional(self, name: str) -> NDArray[np.float32] | None:
        """A tensor that is known, or None where it is left out."""
        return None if self.arguments[name] is None else self.array(name)

    def shape(self, name: str) -> tuple[int, ...]:
        """Shape of a tensor that is computed."""
        value = self.arguments[name]
        return self.draft.shapes[value.key] if isinstance(value, Computed) else tuple(value.shape)

    def ints(self, name: str, length: int = 0) -> list[int]:
        """A list of whole numbers; a single one is repeated to `length`."""
        value = self.arguments[name]
        listed = [int(entry) for entry in (value if isinstance(value, Sequence) else [value])]
        return listed * length if len(listed) == 1 and length else listed


def as_array(value: torch.Tensor) -> NDArray[np.float32]:
    """A tensor as float32, on this machine's memory."""
    return value.detach().to("cpu", torch.float32).numpy()
