"""Zen-score: how strongly the last feature map follows a small change of the input."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from chipfit.accuracy.zero_shot.trace import Trace, finite, needed, traced, untouched
from chipfit.errors import ScoreFailed

_STEP = 0.01
_NOISE = 112_358
"""Seed of the change. A caller's batch may be drawn from a small seed: the same numbers would only scale the batch."""


def zen(module: nn.Module, batch: Tensor, *, noise: int = _NOISE) -> float:
    """log of the mean change of the last feature map for a small random change of the input, scales given back.

    Lin et al. 2021, "Zen-NAS: a zero-shot NAS for high-performance image recognition", algorithm 1: the logarithm of
    each batch normalisation's root mean variance is added. The feature map is what the last non-linearity reads; the
    change is drawn from the seed `noise`. Raises `ScoreFailed` where nothing changes.
    """
    generator = torch.Generator().manual_seed(noise)
    change = torch.randn(batch.shape, generator=generator).to(batch) * _STEP
    with untouched(module, batch), torch.no_grad():
        before = traced(module, batch)
        needed("zen", before.bent, "non-linearities")
        changed = float((before.bent[-1] - traced(module, batch + change).bent[-1]).abs().flatten(1).sum(1).mean())
    if changed <= 0:
        raise ScoreFailed("the score zen is not defined: the last feature map does not depend on the input")
    return finite("zen", math.log(changed) + _scales(before))


def _scales(trace: Trace) -> float:
    """What normalisation divided by, in nats; a normalisation of a constant divides by nothing that counts."""
    axes = [[0, *range(2, read.ndim)] for read, _ in trace.normalised]
    variances = [
        float(read.var(axis, correction=0).mean()) for (read, _), axis in zip(trace.normalised, axes, strict=True)
    ]
    return sum(0.5 * math.log(variance) for variance in variances if variance > 0)
