"""The four scores of AZ-NAS: expressivity, progressivity, trainability, complexity.

Lee and Ham 2024, "AZ-NAS: assembling zero-cost proxies for network architecture search". Blocks are those of `blocks`;
the paper names them by hand for each of its spaces. Ranks of the four together: `ensemble`.
"""

from __future__ import annotations

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

from chipfit.accuracy.zero_shot.blocks import block_ends
from chipfit.accuracy.zero_shot.counts import flops
from chipfit.accuracy.zero_shot.features import as_variables, eigenvalues, gram, spectral_entropy
from chipfit.accuracy.zero_shot.trace import finite, needed, traced, untouched


def expressivity(module: nn.Module, batch: Tensor) -> float:
    """Sum over blocks of the entropy of the principal components of their features (equation 3)."""
    return finite("expressivity", sum(_entropies(module, batch, "expressivity")))


def progressivity(module: nn.Module, batch: Tensor) -> float:
    """The smallest growth of that entropy from a block to the next (equation 4)."""
    found = _entropies(module, batch, "progressivity")
    needed("progressivity", found[1:], "more than one block")
    return finite("progressivity", min(after - before for before, after in pairwise(found)))


def trainability(module: nn.Module, batch: Tensor, *, signs: int = 0) -> float:
    """Mean over blocks of 2 - σ - 1/σ, σ the spectral norm of the Jacobian from a block to the next (equations 5, 6).

    It is 0 where gradients neither grow nor vanish, less elsewhere. The Jacobian between channels is estimated with
    random signs, drawn from the seed, at the end of the later block.
    """
    generator = torch.Generator().manual_seed(signs)
    inputs = batch.detach().clone().requires_grad_()
    values: list[float] = []
    with untouched(module, batch):
        ends = block_ends(traced(module, inputs), inputs)
        needed("trainability", ends[1:], "more than one block")
        for before, after in pairwise(ends):
            sign = torch.randint(2, after.shape, generator=generator).to(after) * 2 - 1
            (back,) = torch.autograd.grad(after, [before], sign, retain_graph=True)
            norm = _channel_norm(sign, back)
            values.append(2 - norm - 1 / norm if norm > 0 else float("-inf"))
    return finite("trainability", sum(values) / len(values))


def complexity(module: nn.Module, batch: Tensor) -> float:
    """Multiply-accumulates (section 3.2): the score `flops`."""
    return flops(module, batch)


def _entropies(module: nn.Module, batch: Tensor, name: str) -> list[float]:
    inputs = batch.detach().clone().requires_grad_()
    with untouched(module, batch):
        ends = block_ends(traced(module, inputs), inputs)
    needed(name, ends, "blocks")
    return [spectral_entropy(as_variables(end)) for end in ends]


def _channel_norm(sign: Tensor, back: Tensor) -> float:
    """Largest singular value of the Jacobian between channels, from signs at its output and what comes back of them.

    The finer of the two maps is averaged down to the coarser one's positions, gradients are summed.
    """
    while back.shape[2:] != sign.shape[2:]:
        factor = back.shape[2] // sign.shape[2]
        back = nn.functional.avg_pool2d(back, factor) * factor**2
    rows = sign.movedim(1, 0).flatten(1).float()
    columns = back.movedim(1, 0).flatten(1).float()
    jacobian = columns @ rows.T / rows.shape[1]
    return math.sqrt(max(0.0, float(eigenvalues(gram(jacobian))[-1])))
