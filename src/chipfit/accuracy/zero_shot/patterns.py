"""Scores of activation patterns: which sample switches which unit on."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from chipfit.accuracy.zero_shot.trace import finite, needed, traced, untouched
from chipfit.errors import ScoreFailed

SAMPLES = 16
"""Samples of the batch of which a pattern is made, at most: 2^16 patterns can be told apart."""


def naswot(module: nn.Module, batch: Tensor) -> float:
    """log |K|, K counting for each pair of samples the units that both switch alike.

    Mellor et al. 2021, "Neural architecture search without training", equation 2. Raises `ScoreFailed` where two
    samples switch all units alike.
    """
    with untouched(module, batch), torch.no_grad():
        bent = traced(module, batch).bent
    needed("naswot", bent, "non-linearities")
    kernel = torch.zeros(len(batch), len(batch), dtype=torch.float64)
    for tensor in bent:
        on = (tensor.reshape(len(batch), -1) > 0).float()
        kernel += (on @ on.T + (1 - on) @ (1 - on).T).double().cpu()
    sign, value = torch.linalg.slogdet(kernel)
    if float(sign) <= 0:
        raise ScoreFailed("the score naswot is not defined: the network does not tell all samples of the batch apart")
    return finite("naswot", value)


def swap(module: nn.Module, batch: Tensor) -> float:
    """How many different patterns of samples the units of all non-linearities show, for the first `SAMPLES` samples.

    Peng et al. 2024, "SWAP-NAS: sample-wise activation patterns for ultra-fast NAS", definition 3.2.
    """
    with untouched(module, batch), torch.no_grad():
        bent = traced(module, batch[:SAMPLES]).bent
    needed("swap", bent, "non-linearities")
    return finite("swap", count_patterns(bent))


def count_patterns(bent: Sequence[Tensor]) -> int:
    """Different patterns of samples over the units of tensors (samples, ...), for up to `SAMPLES` samples."""
    seen = torch.zeros(2**SAMPLES, dtype=torch.bool)
    for tensor in bent:
        # The order of units does not count; with channels last nothing is copied.
        units = tensor.detach()[:SAMPLES].movedim(1, -1).flatten(1).float()
        on = torch.gt(units, 0, out=torch.empty_like(units))  # as numbers at once: a quarter of the time by way of bool
        # A sum of powers of two below 2^24 is exact in float32.
        numbers = (2.0 ** torch.arange(len(on), device=on.device)) @ on
        seen[numbers.long().cpu()] = True
    return int(seen.sum())
