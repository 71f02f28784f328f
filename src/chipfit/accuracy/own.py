"""A user's own training: one function that gets a PyTorch module and a budget, and returns metrics."""

from __future__ import annotations

import math
import sys
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

    `stage` is "baseline", "search" or "final".
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
