"""Jacobian covariance: how differently a network's output follows each sample."""

from __future__ import annotations

from torch import Tensor, nn

from chipfit.accuracy.zero_shot.features import eigenvalues, gram
from chipfit.accuracy.zero_shot.gradients import gradients
from chipfit.accuracy.zero_shot.trace import finite, traced, untouched
from chipfit.errors import ScoreFailed

_SMALL = 1e-5


def jacobian_covariance(module: nn.Module, batch: Tensor) -> float:
    """Minus the sum of log(v + k) + 1 / (v + k), v the eigenvalues of the correlations between samples' Jacobians.

    Mellor et al. 2020, "Neural architecture search without training" (first version), equation 3, k = 1e-5. Raises
    `ScoreFailed` where the output does not depend on a sample.
    """
    inputs = batch.detach().clone().requires_grad_()
    with untouched(module, batch):
        (found,) = gradients(traced(module, inputs).output.float().sum(), [inputs])
    rows = found.flatten(1).double()
    rows = rows - rows.mean(1, keepdim=True)
    lengths = rows.norm(dim=1, keepdim=True)
    if float(lengths.min()) <= 0:
        raise ScoreFailed("the score jacobian_covariance is not defined: the output does not depend on the input")
    values = eigenvalues(gram(rows / lengths)).clamp_min(0) + _SMALL
    return finite("jacobian_covariance", -(values.log() + 1 / values).sum())
