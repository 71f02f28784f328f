"""Scores that only count: parameters and multiply-accumulates."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from chipfit.accuracy.zero_shot.trace import finite, traced, untouched


def parameters(module: nn.Module, batch: Tensor) -> float:
    """Learned numbers of the module; `batch` is not looked at."""
    return float(sum(parameter.numel() for parameter in module.parameters()))


def flops(module: nn.Module, batch: Tensor) -> float:
    """Multiply-accumulates of convolutions, linear layers and matrix products for one sample, as PyTorch counts."""
    counter = FlopCounterMode(display=False)
    with untouched(module, batch, training=False), torch.no_grad(), counter:
        traced(module, batch)
    return finite("flops", counter.get_total_flops() / 2 / len(batch))
