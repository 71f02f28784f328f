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
    """A tensor that is known only at run time: the key that gives it.

    `lifted`: the batch does not stand in front in PyTorch; the node has one more axis, of size 1, before the others.
    """

    key: str
    lifted: bool = False


@dataclass(frozen=True)
class Call:
    """An operator to be translated; tensors among its arguments are computed, or known already.

    `names` has the names of parameters and buffers, `constants` the keys of tensors that are nodes already, both by the
    identity of the tensor. `broadcasts`: all that reads the result repeats axes of size 1 by itself. `lifted`: see
    `Computed`; axes and sizes among the arguments are those of the nodes.
    """

    draft: Draft
    key: str
    arguments: Mapping[str, Any]
    names: Mapping[int, str]
    constants: dict[int, str]
    broadcasts: bool = False
    lifted: bool = False

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

    def axes(self, name: str = "dim") -> list[int]:
        """A list of axes of `self`, none below 0; all axes where there is none."""
        rank = len(self.shape("self"))
        given = self.arguments.get(name)
        return [axis % rank for axis in self.ints(name)] if given not in (None, []) else list(range(rank))


def as_array(value: torch.Tensor) -> NDArray[np.float32]:
    """A tensor as float32, on this machine's memory."""
    return value.detach().to("cpu", torch.float32).numpy()
