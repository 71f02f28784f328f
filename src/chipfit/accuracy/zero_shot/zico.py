"""ZiCo: gradients that are large and agree over batches."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chipfit.accuracy.zero_shot.gradients import LABELS, gradients, learned, random_loss
from chipfit.accuracy.zero_shot.trace import finite, traced, untouched
from chipfit.errors import InvalidInput, ScoreFailed


def zico(module: nn.Module, batch: Tensor, *, labels: int = LABELS) -> float:
    """Sum over layers of log Σ mean |gradient| / its deviation, over two batches: the halves of the one given.

    Li et al. 2023, "ZiCo: zero-shot NAS via inverse coefficient of variation on gradients", equation 15. Labels are
    drawn from the seed. Raises `ScoreFailed` where no weight's gradient varies, `InvalidInput` for under 4 samples.
    """
    if len(batch) < 4:
        raise InvalidInput(f"the score zico compares two halves of a batch; it needs 4 samples, got {len(batch)}")
    with untouched(module, batch):
        weights = learned(module)
        halves = [gradients(random_loss(traced(module, half), labels), weights) for half in batch.chunk(2)]
    total, layers = 0.0, 0
    for one, other in zip(*halves, strict=True):
        mean = (one.abs() + other.abs()) / 2
        deviation = (one - other).abs() / 2
        varies = deviation > 0
        if bool(varies.any()):
            total += float((mean[varies] / deviation[varies]).sum().log())
            layers += 1
    if not layers:
        raise ScoreFailed("the score zico is not defined: no gradient of the network varies over batches")
    return finite("zico", torch.tensor(total))
