"""Which feature maps of a network its output hangs on."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from chipfit.accuracy.zero_shot.blocks import Step, steps_behind
from chipfit.accuracy.zero_shot.trace import Trace, traced, untouched
from chipfit.errors import ScoreFailed

_SIGNS = 271_828
"""Seed of the signs that gradients start from."""

_FEW = 2
"""Samples that gradients are taken of."""

Maps = Callable[[Trace], list[Tensor]]
"""Some feature maps of a trace, the same ones of every trace of a module."""


def varies(tensor: Tensor) -> bool:
    """Whether any number of a tensor is not 0; the first row is looked at before all."""
    return bool((tensor[:1] if tensor.ndim else tensor).any()) or bool(tensor.any())


def reached(module: nn.Module, batch: Tensor, trace: Trace, maps: Maps) -> list[bool]:
    """Whether the output hangs on each of the `maps` of a trace of `batch` that was made with gradients.

    That is read off the graph which PyTorch keeps of the pass, where each step in it hands on what comes back to it.
    Else, as for a product with zeros, gradients of a few samples tell.
    """
    behind = steps_behind(trace.output.grad_fn)
    if behind and all(_hands_on(step) for step in behind):
        numbers = {id(step) for step in behind}
        return [tensor.grad_fn is not None and id(tensor.grad_fn) in numbers for tensor in maps(trace)]
    return _by_gradients(module, batch[:_FEW], trace, maps)


def _by_gradients(module: nn.Module, few: Tensor, trace: Trace, maps: Maps) -> list[bool]:
    inputs = few.clone().requires_grad_()
    with untouched(module, inputs):
        again = traced(module, inputs)
        found, output = maps(again), again.output.float()
        signs = torch.randint(2, output.shape, generator=torch.Generator().manual_seed(_SIGNS)).to(output) * 2 - 1
        gradients = torch.autograd.grad(output, found, signs, materialize_grads=True)
    if len(found) != len(maps(trace)):
        raise ScoreFailed("the network does other steps for other batches, so its layers cannot be told apart")
    return [bool(each.any()) for each in gradients]


def _hands_on(step: Step) -> bool:
    """Whether a gradient that comes to a step goes on to all that it read, by its kind and what it multiplies with."""
    check = _CHECKS.get(step.name())
    return check is not None and check(step)


def _weighs(step: Step) -> bool:
    return step._saved_weight is None or varies(step._saved_weight)


def _multiplies(step: Step) -> bool:
    return all(factor is None or varies(factor) for factor in (step._saved_self, step._saved_other))


def _between(least: float, most: float) -> Callable[[Step], bool]:
    return lambda step: varies((step._saved_self > least) & (step._saved_self < most))


_CHECKS: Mapping[str, Callable[[Step], bool]] = {
    "ConvolutionBackward0": _weighs,
    "NativeBatchNormBackward0": _weighs,
    "AddmmBackward0": lambda step: varies(step._saved_mat2),
    "ReluBackward0": lambda step: varies(step._saved_result),
    "HardtanhBackward0": lambda step: _between(step._saved_min_val, step._saved_max_val)(step),
    "HardswishBackward0": _between(-3, math.inf),
    "HardsigmoidBackward0": _between(-3, 3),
    "SigmoidBackward0": lambda step: varies(step._saved_result * (1 - step._saved_result)),
    "MulBackward0": _multiplies,
} | dict.fromkeys(
    (
        "torch::autograd::AccumulateGrad", "AddBackward0", "AvgPool2DBackward0", "MeanBackward1", "TBackward0",
        "ViewBackward0",
    ),
    lambda step: True,
)  # fmt: skip
