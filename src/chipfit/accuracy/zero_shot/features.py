"""Numbers of feature maps that several scores are made of: channels as variables, samples and positions as draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from chipfit.errors import ScoreFailed


def as_variables(features: Tensor, most: int | None = None) -> Tensor:
    """(channels, draws), centred, of (batch, channels), (batch, tokens, channels) or (batch, channels, *space).

    With `most` only the first samples count, as many as that many draws take.
    """
    axis = 2 if features.ndim == 3 else 1
    if most is not None:
        features = features[: max(1, most * features.shape[axis] * len(features) // features.numel())]
    # Channels last, as they lie in memory where a batch is given so: then nothing is copied.
    draws = features.detach().movedim(axis, -1).flatten(0, -2).float()
    return (draws - draws.mean(0)).T


def gram(rows: Tensor) -> Tensor:
    """The smaller of rows · rowsᵀ and rowsᵀ · rows: both have the same eigenvalues above 0."""
    return rows @ rows.T if rows.shape[0] <= rows.shape[1] else rows.T @ rows


def eigenvalues(matrices: Tensor) -> Tensor:
    """Eigenvalues (…, n) of symmetric matrices (…, n, n) in rising order.

    Raises `ScoreFailed` where they are not finite.
    """
    if not bool(torch.isfinite(matrices).all()):
        raise ScoreFailed("features of the network are not finite; look at its weights and activations")
    return torch.linalg.eigvalsh(matrices)


@dataclass(frozen=True, slots=True)
class Directions:
    """How rows (channels, draws) vary together: their `gram`, `known` where they have more draws than channels."""

    products: Tensor
    known: bool


def directions(rows: Tensor) -> Directions:
    """The directions of centred rows (channels, draws)."""
    return Directions(gram(rows), rows.shape[0] < rows.shape[1])


def spectral_entropy(rows: Tensor) -> float:
    """Entropy, in nats, of the eigenvalues of the covariance as shares of their sum; 0 where nothing varies.

    Its exponential is the effective rank (Roy and Vetterli 2007).
    """
    return spectral_entropies([directions(rows)])[0]


def spectral_entropies(several: Sequence[Directions]) -> list[float]:
    """`spectral_entropy` of each, those of one size together."""

    def entropies(products: Tensor) -> Tensor:
        values = eigenvalues(products).double().clamp_min(0)
        total = values.sum(1, keepdim=True)
        return torch.special.entr(values / total.where(total > 0, 1.0)).sum(1)

    return _together(entropies, [each.products for each in several])


def least_correlation(rows: Tensor) -> float:
    """The smallest eigenvalue of the Pearson correlations between channels; 0 where a channel is constant."""
    return least_correlations([directions(rows)])[0]


def least_correlations(several: Sequence[Directions]) -> list[float]:
    """`least_correlation` of each, those of one size together."""

    def least(products: Tensor) -> Tensor:
        lengths = products.diagonal(dim1=1, dim2=2).sqrt()
        constant = (lengths == 0).any(1)
        lengths = lengths.where(lengths != 0, 1.0)
        correlations = products / lengths[:, :, None] / lengths[:, None, :]
        return eigenvalues(correlations)[:, 0].clamp_min(0).masked_fill(constant, 0.0)

    known = iter(_together(least, [each.products for each in several if each.known]))
    return [next(known) if each.known else 0.0 for each in several]


def _together(values_of: Callable[[Tensor], Tensor], matrices: Sequence[Tensor]) -> list[float]:
    """Values (n,) of matrices (n, m, m), for matrices of any sizes, in their order."""
    found = [0.0] * len(matrices)
    sizes = [len(matrix) for matrix in matrices]
    for size in set(sizes):
        places = [place for place, other in enumerate(sizes) if other == size]
        values = values_of(torch.stack([matrices[place] for place in places]))
        for place, value in zip(places, values.tolist(), strict=True):
            found[place] = value
    return found
