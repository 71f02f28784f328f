"""PyTorch modules as graphs of operators, through torch.export."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Generator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch._ops import OperatorBase
from torch.export import ExportedProgram
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from chipfit.errors import InvalidInput
from chipfit.files import USER_ERRORS

TAKEN_APART = (
    "einsum", "addcmul", "addcdiv", "baddbmm", "glu", "selu", "cosine_similarity",
    "pairwise_distance", "channel_shuffle", "pixel_unshuffle", "tile", "repeat_interleave", "stack", "clip", "type_as",
    "norm", "tensordot",
)  # fmt: skip
"""Operators that PyTorch itself takes apart into those that a graph has words for."""

LONGEST_MESSAGE = 200
"""Characters of a message of PyTorch that are told."""

OpOverload = torch._ops.OpOverload  # pyright: ignore[reportPrivateUsage]


def traced(module: nn.Module, inputs: tuple[Tensor, ...]) -> ExportedProgram:
    """What a module in evaluation mode does with inputs, as operators that change nothing in place.

    Raises `InvalidInput` where the module does not run on these inputs, or torch.export cannot follow it.
    """
    shapes = ", ".join(str(tuple(tensor.shape)) for tensor in inputs)
    try:
        # A plain run first: what fails already here fails with what the module itself says.
        module(*inputs)
    except USER_ERRORS as error:
        raise InvalidInput(
            f"{type(module).__name__} does not run on inputs of shapes {shapes}: {_line(error)}; "
            "check the shapes, one for each input"
        ) from None
    try:
        # Without decompositions operators stay what they are, and what was done in place no longer is.
        with _silence():
            return torch.export.export(module, inputs, strict=False).run_decompositions(_taken_apart())
    except USER_ERRORS as error:
        raise InvalidInput(
            f"{type(module).__name__} runs, but torch.export cannot trace it: {_line(error)}; "
            "say its forward in operators on tensors, without numpy and without control flow on their values"
        ) from None


def _line(error: BaseException) -> str:
    """A message of PyTorch in one line; what follows its first paragraph is about PyTorch itself."""
    text = str(error)
    if isinstance(error, GuardOnDataDependentSymNode):
        text = f"it depends on the value of a tensor\n\n{text}"
    place = re.search(r'raised this error:\s+File "([^"]*)", line (\d+), in \S+\s+(.*)', text)
    first = " ".join(text.partition("\n\n")[0].split())
    short = first if len(first) <= LONGEST_MESSAGE else f"{first[:LONGEST_MESSAGE]}…"
    where = f" ({Path(place[1]).name}, line {place[2]}: {place[3].strip()})" if place else ""
    return f"{type(error).__name__}: {short}{where}" if short else type(error).__name__


@contextmanager
def evaluating(module: nn.Module) -> Generator[None]:
    """Evaluation mode for a while."""
    before = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in before.items():
            part.training = training


@contextmanager
def _silence() -> Generator[None]:
    """Keeps to itself what the tracer prints and logs of a failure: its message is told in one line."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            yield
    finally:
        logging.disable(before)


def _taken_apart() -> dict[OperatorBase, Callable[..., Any]]:
    """PyTorch's own ways to say operators in simpler ones, for those that a graph has no word for."""
    table = torch.export.default_decompositions()
    return {target: table[target] for name in TAKEN_APART for target in _overloads(name) if target in table}


def _overloads(name: str) -> list[OpOverload]:
    packet = getattr(torch.ops.aten, name)
    return [getattr(packet, overload) for overload in packet.overloads()]
