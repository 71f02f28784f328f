"""Scores of the gradient of a loss at random labels: gradient norm, SNIP, GraSP, Fisher."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from chipfit.accuracy.zero_shot.trace import Trace, finite, needed, traced, untouched
from chipfit.errors import ScoreFailed

LABELS = 0
"""Seed of the labels, where a call gives no other: classes drawn evenly, one for each sample in its place."""


def gradient_norm(module: nn.Module, batch: Tensor, *, labels: int = LABELS) -> float:
    """Sum over weights of the Euclidean norm of the loss's gradient.

    Abdelfattah et al. 2021, "Zero-cost proxies for lightweight NAS", section 3.2. Labels are drawn from the seed.
    """
    with untouched(module, batch):
        weights = learned(module)
        found = gradients(random_loss(traced(module, batch), labels), weights)
    return finite("gradient_norm", sum(float(each.norm()) for each in found))


def snip(module: nn.Module, batch: Tensor, *, labels: int = LABELS) -> float:
    """Sum over weights of |weight · gradient|: how much the loss depends on each.

    Lee et al. 2019, "SNIP: single-shot network pruning", equation 5, summed as in Abdelfattah et al. 2021, equation 1.
    """
    with untouched(module, batch):
        weights = learned(module)
        found = gradients(random_loss(traced(module, batch), labels), weights)
        total = sum(float((weight.detach() * each).abs().sum()) for weight, each in zip(weights, found, strict=True))
    return finite("snip", total)


def grasp(module: nn.Module, batch: Tensor, *, labels: int = LABELS) -> float:
    """Minus the sum over weights of weight · (Hessian · gradient): what removing weights does to the gradient's flow.

    Wang et al. 2020, "Picking winning tickets before training by preserving gradient flow", equation 8.
    """
    with untouched(module, batch):
        weights = learned(module)
        loss = random_loss(traced(module, batch), labels)
        first = gradients(loss, weights, again=True)
        inner = torch.stack([(each * each.detach()).sum() for each in first if each.requires_grad]).sum()
        second = gradients(inner, weights)
        total = -sum(float((weight.detach() * each).sum()) for weight, each in zip(weights, second, strict=True))
    return finite("grasp", total)


def fisher(module: nn.Module, batch: Tensor, *, labels: int = LABELS) -> float:
    """Sum over the channels that convolutions and linear layers give of the squared (value · gradient), halved.

    Turner et al. 2020, "BlockSwap: Fisher-guided block substitution", equation 3. Each sample counts on its own.
    """
    with untouched(module, batch):
        trace = traced(module, batch)
        given = [product.gave for product in trace.products]
        needed("fisher", given, "convolutions and linear layers")
        found = gradients(random_loss(trace, labels), given)
        total = 0.0
        for value, each in zip(given, found, strict=True):
            of_channels = (value.detach() * each).flatten(2).sum(2) if value.ndim > 2 else value.detach() * each
            total += float(of_channels.pow(2).mean(0).sum()) / 2
    return finite("fisher", total)


def learned(module: nn.Module) -> list[nn.Parameter]:
    """Weights of convolutions and linear layers: parameters of two axes or more. Raises `ScoreFailed` without any."""
    weights = [parameter for parameter in module.parameters() if parameter.ndim > 1]
    if not weights:
        raise ScoreFailed("scores of gradients are about weights of layers, and the network has none")
    return weights


def gradients(value: Tensor, wanted: Sequence[Tensor], *, again: bool = False) -> list[Tensor]:
    """Gradients of a number, zeros for what it does not depend on. Raises `ScoreFailed` where it depends on nothing."""
    if not value.requires_grad:
        raise ScoreFailed("the output of the network does not depend on its weights")
    return list(torch.autograd.grad(value, list(wanted), create_graph=again, materialize_grads=True))


def random_loss(trace: Trace, labels: int) -> Tensor:
    """Cross-entropy of the output, as (samples, classes), at labels drawn from the seed `labels`."""
    output = trace.output.flatten(2).mean(2) if trace.output.ndim > 2 else trace.output
    generator = torch.Generator().manual_seed(labels)
    classes = torch.randint(output.shape[1], (len(output),), generator=generator)
    return F.cross_entropy(output.float(), classes.to(output.device))
