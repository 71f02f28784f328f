"""A user's own training: one function that gets a PyTorch module and a budget, and returns metrics."""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from chipfit.errors import InvalidInput, TrainingFailed
from chipfit.files import named


@dataclass(frozen=True, slots=True)
class Budget:
    """What a training may spend: `epochs` over at most `images` images each (None: all), with this seed and device.

    `stage` is "baseline", "reference", "search" or "final".
    """

    stage: str
    epochs: int
    images: int | None
    seed: int
    device: str


def call_own(spec: str, module: torch.nn.Module, budget: Budget) -> dict[str, float]:
    """The metrics that the function named `spec` ("module:function") returns for a module.

    It may return a number (taken as "accuracy") or a mapping that has "accuracy"; it trains `module` in place.
    Raises `TrainingFailed` with what it raised and where, or when what it returned is no such thing.
    """
    function = named(spec, "accuracy")
    if not callable(function):
        raise InvalidInput(f"accuracy {spec!r} is not a function; name one that takes (module, budget)")
    try:
        returned = function(module, budget)
    except Exception as error:  # the user's code may raise anything, and one candidate must not end a search
        last = traceback.extract_tb(error.__traceback__)[-1]
        place = f"{last.filename}:{last.lineno}"
        raise TrainingFailed(f"{spec} raised {type(error).__name__}: {error} ({place})") from None
    metrics: Mapping[Any, Any] = returned if isinstance(returned, Mapping) else {"accuracy": returned}
    try:
        numbers = {str(name): float(value) for name, value in metrics.items()}
    except (TypeError, ValueError):
        raise TrainingFailed(f"{spec} returned {returned!r}; return a number or a mapping of numbers") from None
    if not math.isfinite(numbers.get("accuracy", math.nan)):
        raise TrainingFailed(f"{spec} returned no finite 'accuracy' ({returned!r})")
    return numbers
