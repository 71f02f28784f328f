"""The default score: trainability from operators, non-linearities and topology."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from chipfit.accuracy.zero_shot.features import as_variables, directions, least_correlations, spectral_entropies
from chipfit.accuracy.zero_shot.patterns import SAMPLES, count_patterns
from chipfit.accuracy.zero_shot.reach import reached, varies
from chipfit.accuracy.zero_shot.trace import Trace, finite, needed, traced, untouched
from chipfit.errors import ScoreFailed

UNREACHED = -100.0
"""The score of a network whose output does not depend on its input: far below that of every other."""

_NOISE = 271_828
"""Seed of the noise that the network sees."""

DRAWS = 4096
"""Draws (samples and positions) of a feature map that its spectrum is taken from, at most."""


@dataclass(frozen=True, slots=True)
class Parts:
    """What the default score is the sum of, each a number of directions or patterns as its logarithm (nats)."""

    operators: float
    non_linearity: float
    topology: float
    output: float

    @property
    def total(self) -> float:
        return self.operators + self.non_linearity + self.topology + self.output


def default(module: nn.Module, batch: Tensor) -> float:
    """The sum of `parts`, or `UNREACHED`. Larger is better; no accuracy was used to compose it.

    Raises `ScoreFailed` where the network does not run, or has no layers with weights or no non-linearities.
    """
    found = parts(module, batch)
    return UNREACHED if found is None else finite("default", found.total)


def parts(module: nn.Module, batch: Tensor) -> Parts | None:
    """What the default score of a network consists of; None where its output does not depend on its input.

    Only what lies on a way from the input to the output counts.

    operators: log Σ λ, λ the smallest eigenvalue of the correlations between channels of what a convolution or an
    addition of two tensors (neither all zeros) gives: a bound on how fast gradient descent converges (Jiang et al.
    2023, MeCo, theorem 1).
    non_linearity: log of the different patterns in which samples switch units (Peng et al. 2024, SWAP).
    topology: log Σ H, H the spectral entropy (nats) of what a non-linearity reads: how much is bent on all ways
    together (Lee and Ham 2024, AZ-NAS, equation 3, for blocks). output: H of what the last one reads, the logarithm of
    the directions that are left for the classifier (effective rank, Roy and Vetterli 2007).

    Of `batch` only the shape counts: the network sees Gaussian noise from a fixed seed, `SAMPLES` samples of it, so
    that the score does not hang on which samples a caller has at hand.
    """
    noise = torch.randn((SAMPLES, *batch.shape[1:]), generator=torch.Generator().manual_seed(_NOISE)).to(batch.device)
    if noise.ndim == 4:
        noise = noise.contiguous(memory_format=torch.channels_last)
    with untouched(module, noise):
        trace = traced(module, noise)
    if not bool(torch.isfinite(trace.output).all()):
        raise ScoreFailed("the output of the network is not finite; look at its weights and activations")
    if not bool((trace.output != trace.output[:1]).any()):
        return None
    needed("default", trace.products, "convolutions and linear layers")
    needed("default", trace.bent, "non-linearities")
    counts = iter(reached(module, noise, trace, lambda each: [*_given(each), *each.bent_to]))
    with torch.no_grad():
        given = [tensor for tensor in _given(trace) if next(counts)]
        bent = [tensor for tensor in trace.bent if next(counts)]
        # What is added is often what is bent, and what is bent is often bent for several readers: once is enough.
        maps = {id(tensor): tensor for tensor in (*given, *bent)}
        vary = {name: directions(as_variables(tensor, DRAWS)) for name, tensor in maps.items()}
        least = sum(least_correlations([vary[id(tensor)] for tensor in given]))
        entropies = spectral_entropies([vary[id(tensor)] for tensor in bent])
        different = count_patterns(list({id(tensor): tensor for tensor in bent}.values()))
    if least <= 0 or sum(entropies) <= 0:
        raise ScoreFailed("the score default is not defined: channels of every layer repeat one another")
    return Parts(math.log(least), math.log(different), math.log(sum(entropies)), entropies[-1])


def _given(trace: Trace) -> list[Tensor]:
    """Feature maps that convolutions gave and additions of two tensors, neither of them all zeros."""
    given = [product.gave for product in trace.products if product.gave.ndim > 2]
    return given + [total.gave for total in trace.sums if len(total.read) == 2 and all(map(varies, total.read))]
