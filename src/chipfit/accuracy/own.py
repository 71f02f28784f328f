"""A user's own training: one function that gets a PyTorch module and a budget, and returns metrics."""

from __future__ import annotations

import math
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import torch

from chipfit.errors import InvalidInput, TrainingFailed
from chipfit.files import named


@dataclass(frozen=True, slots=True)
class Budget:
    """What a training may spend: `epochs` over at most `images` images each (None: all), with this seed and device.

    `stage` is "baseline", "search" or "final". In a search by halving `epochs` are those that are added to what the
    module has been trained before.
    """

    stage: str
    epochs: int
    images: int | None
    seed: int
    device: str


class _Watched(Budget):
    """A budget that knows whether its epochs were read."""

    __slots__ = ("read",)

    def __getattribute__(self, name: str) -> Any:
        if name == "epochs":
            object.__setattr__(self, "read", True)
        return super().__getattribute__(name)


def call_own(spec: str, module: torch.nn.Module, budget: Budget, *, adds_up: bool = False) -> dict[str, float]:
    """The metrics that the function named `spec` ("module:function") returns for a module.

    It may return a number (taken as "accuracy") or a mapping that has "accuracy"; it trains `module` in place. Where
    one training `adds_up` with the next it must do that for `budget.epochs`. Raises `TrainingFailed` with what it
    raised and where, when what it returned is no such thing, or when it does not train so.
    """
    if adds_up:
        return _adding_up(spec, module, _Watched(**asdict(budget)))
    return _called(spec, module, budget)


def _adding_up(spec: str, module: torch.nn.Module, budget: _Watched) -> dict[str, float]:
    before = {name: tensor.detach().clone() for name, tensor in module.state_dict().items()}
    numbers = _called(spec, module, budget)
    remedy = "which a search by halving needs; train the module in place for so many epochs, or choose another search"
    if not hasattr(budget, "read"):
        raise TrainingFailed(f"{spec} never reads budget.epochs, {remedy}")
    if all(torch.equal(tensor.cpu(), before[name].cpu()) for name, tensor in module.state_dict().items()):
        raise TrainingFailed(f"{spec} leaves the module as it was and cannot go on from there, {remedy}")
    return numbers


def _called(spec: str, module: torch.nn.Module, budget: Budget) -> dict[str, float]:
    function = named(spec, "accuracy")
    if not callable(function):
        raise InvalidInput(f"accuracy {spec!r} is not a function; name one that takes (module, budget)")
    try:
        returned = function(module, budget)
    except (Exception, SystemExit) as error:  # the user's code may raise anything; one candidate must not end a search
        reason = one_line(f"{type(error).__name__}: {error}")
        raise TrainingFailed(f"{spec} raised {reason} ({_place(spec, error)})") from None
    metrics: Mapping[Any, Any] = returned if isinstance(returned, Mapping) else {"accuracy": returned}
    try:
        numbers = {str(name): float(value) for name, value in metrics.items()}
    except (TypeError, ValueError, RuntimeError):  # torch raises RuntimeError for a tensor of many numbers
        shown = one_line(repr(returned))
        raise TrainingFailed(f"{spec} returned {shown}; return a number or a mapping of numbers") from None
    if not math.isfinite(numbers.get("accuracy", math.nan)):
        shown = one_line(repr(returned))
        raise TrainingFailed(f"{spec} returned no finite 'accuracy' ({shown}); return it as a fraction of 1")
    return numbers


def one_line(text: str, longest: int = 300) -> str:
    """A text as one line of a message, shortened where it is long."""
    text = " ".join(text.split())
    return text if len(text) <= longest else f"{text[:longest]}…"


def _place(spec: str, error: BaseException) -> str:
    """File and line of what was raised: the last line in the user's own file, else wherever it was."""
    frames = traceback.extract_tb(error.__traceback__)
    file = getattr(sys.modules.get(spec.partition(":")[0]), "__file__", None)
    place = next((frame for frame in reversed(frames) if frame.filename == file), frames[-1])
    return f"{place.filename}:{place.lineno}"
