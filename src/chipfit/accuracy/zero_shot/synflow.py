"""SynFlow: what flows through a network of absolute weights, without data."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.func import functional_call

from chipfit.accuracy.zero_shot.gradients import gradients
from chipfit.accuracy.zero_shot.trace import finite, traced, untouched
from chipfit.errors import ScoreFailed


def synflow(module: nn.Module, batch: Tensor) -> float:
    """Sum over parameters of parameter · gradient of the summed output, for an input of ones.

    Tanaka et al. 2020, "Pruning neural networks without any data by iteratively conserving synaptic flow", equation
    2, summed as in Abdelfattah et al. 2021, equation 1. In float64, with absolute weights and without normalisation;
    of `batch` only the shape counts. Raises `ScoreFailed` beyond what float64 holds.
    """
    ones = torch.ones((2, *batch.shape[1:]), dtype=torch.float64, device=batch.device)
    with untouched(module, batch, training=False):
        values = {name: value.detach().double().abs() for name, value in module.named_parameters()}
        values = {name: value.requires_grad_() for name, value in values.items()}
        buffers = {
            name: value.double() if value.is_floating_point() else value for name, value in module.named_buffers()
        }
        total = traced(_With(module, {**values, **buffers}), ones, linear=True).output[:1].sum()
        if not bool(torch.isfinite(total)):
            raise ScoreFailed("the score synflow of the network is beyond float64: it is too deep or too wide for it")
        found = gradients(total, list(values.values()))
        flow = sum(float((value.detach() * each).sum()) for value, each in zip(values.values(), found, strict=True))
    return finite("synflow", flow)


class _With(nn.Module):
    """A module with other parameters and buffers."""

    def __init__(self, module: nn.Module, values: dict[str, Tensor]) -> None:
        super().__init__()
        self.run = lambda batch: functional_call(module, values, (batch,))  # type: ignore[reportUnknownLambdaType]

    def forward(self, batch: Tensor) -> Tensor:
        return self.run(batch)
