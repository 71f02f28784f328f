"""What happens inside a network in one forward pass, of any module, by watching the calls of PyTorch's functions."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from chipfit.errors import InvalidInput, ScoreFailed

Call = Callable[..., Any]

CONVOLUTIONS: tuple[Call, ...] = (F.conv1d, F.conv2d, F.conv3d, F.conv_transpose2d, F.linear)
NORMALISATIONS: tuple[Call, ...] = (F.batch_norm, F.layer_norm, F.group_norm, F.instance_norm)
ADDITIONS: tuple[Call, ...] = (torch.add, Tensor.add, Tensor.__add__, Tensor.__iadd__, Tensor.add_)
DROPOUTS: tuple[Call, ...] = (F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout)
NON_LINEARITIES: tuple[Call, ...] = (
    F.relu, F.relu6, F.leaky_relu, F.prelu, F.elu, F.selu, F.celu, F.gelu, F.silu, F.mish, F.hardswish, F.hardtanh,
    F.softplus, torch.relu, torch.prelu, torch.tanh, Tensor.relu, Tensor.tanh,
)  # fmt: skip
"""What bends. Gates (sigmoid, hard sigmoid) are not among them: what they give multiplies other tensors."""


@dataclass(frozen=True)
class Product:
    """A convolution or linear layer: its weight, what it read and what it gave."""

    weight: Tensor
    read: Tensor
    gave: Tensor


@dataclass(frozen=True)
class Sum:
    """An addition: the tensors that it read, numbers left out, and what it gave."""

    read: tuple[Tensor, ...]
    gave: Tensor


@dataclass(frozen=True)
class Trace:
    """One forward pass: what the network gave, its products, what its non-linearities read, what else it gave.

    `bent_to` is what the non-linearities gave for `bent`; `normalised` are (input, output) of normalisations. All in
    the order of execution.
    """

    output: Tensor
    products: list[Product] = field(default_factory=list[Product])
    bent: list[Tensor] = field(default_factory=list[Tensor])
    bent_to: list[Tensor] = field(default_factory=list[Tensor])
    normalised: list[tuple[Tensor, Tensor]] = field(default_factory=list[tuple[Tensor, Tensor]])
    sums: list[Sum] = field(default_factory=list[Sum])


class Watch(TorchFunctionMode):
    """Records the calls of a forward pass; what would overwrite its input writes elsewhere, so that it can be seen.

    Dropout is left out: a score is of the whole network. With `linear`, so are normalisations: they hand on what they
    read.
    """

    def __init__(self, linear: bool = False) -> None:
        super().__init__()
        self.linear = linear
        self.trace = Trace(torch.empty(0))

    def __torch_function__(
        self, func: Call, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        named = kwargs or {}
        if func in NON_LINEARITIES:
            args, named = _apart(args, named)
            self.trace.bent.append(args[0] if args else named["input"])
            self.trace.bent_to.append(gave := func(*args, **named))
            return gave
        if func in DROPOUTS:
            return args[0] if args else named["input"]
        if func in NORMALISATIONS:
            read = args[0] if args else named["input"]
            gave = read if self.linear else func(*args, **named)
            self.trace.normalised.append((read, gave))
            return gave
        gave = func(*args, **named)
        if func in CONVOLUTIONS:
            read, weight = (*args, *(named[name] for name in ("input", "weight") if name in named))[:2]
            self.trace.products.append(Product(weight, read, gave))
        elif func in ADDITIONS and isinstance(gave, Tensor) and gave.ndim > 1:
            self.trace.sums.append(Sum(tuple(part for part in args if isinstance(part, Tensor)), gave))
        return gave


def _apart(args: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The arguments of a non-linearity that does not overwrite what it reads."""
    return tuple(False if value is True else value for value in args), {
        name: False if name == "inplace" else value for name, value in named.items()
    }


def traced(module: nn.Module, batch: Tensor, *, linear: bool = False) -> Trace:
    """Runs a module on a batch and tells what happened. Raises `ScoreFailed` where it does not run on it."""
    watch = Watch(linear)
    try:
        with watch:
            output = module(batch)
    except (RuntimeError, ValueError) as error:  # what PyTorch raises for shapes that do not fit
        reason = " ".join(str(error).split())[:200]
        raise ScoreFailed(f"the network does not run on a batch of shape {tuple(batch.shape)}: {reason}") from None
    seen = watch.trace
    return replace(seen, output=first_tensor(output))


def first_tensor(output: object) -> Tensor:
    """The tensor that a module gave, or the first of several. Raises `ScoreFailed` where it gave none."""
    while isinstance(output, (tuple, list)) and output:
        output = output[0]  # type: ignore[reportUnknownVariableType]
    if isinstance(output, Tensor):
        return output
    raise ScoreFailed(f"the network gives {type(output).__name__}, not a tensor; scores need one")


@contextmanager
def untouched(module: nn.Module, batch: Tensor, *, training: bool = True, seed: int = 0) -> Generator[None, None, None]:
    """A module in training (or evaluation) mode that is left as it was: weights, statistics, mode and gradients.

    What is random inside it, such as dropout, is drawn from `seed`; the generator of the process is left alone too.
    Raises `InvalidInput` for a batch of fewer than two samples.
    """
    if batch.ndim < 2 or len(batch) < 2:
        raise InvalidInput(f"a score needs a batch of 2 samples or more, got a tensor of shape {tuple(batch.shape)}")
    modes = {part: part.training for part in module.modules()}
    needs = {parameter: parameter.requires_grad for parameter in module.parameters()}
    buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        with torch.random.fork_rng(devices=[]), torch.enable_grad():
            torch.manual_seed(seed)  # the generator is forked: the process's own is not touched
            module.train(training)
            module.requires_grad_(True)
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode
        for parameter, need in needs.items():
            parameter.requires_grad_(need)
        with torch.no_grad():
            for buffer, value in buffers:
                buffer.copy_(value)


def finite(name: str, value: Tensor | float) -> float:
    """A score as a number. Raises `ScoreFailed` where it is none."""
    number = float(value)
    if number - number != 0:
        raise ScoreFailed(f"the score {name} of the network is {number}; the network cannot be ranked by it")
    return number


def needed(name: str, found: Sequence[Any], what: str) -> None:
    """Raises `ScoreFailed` unless the network has what a score is about."""
    if not found:
        raise ScoreFailed(f"the score {name} is about {what}, and the network has none")
