"""Numbers of feature maps that several scores are made of: channels as variables, samples and positions as draws."""

from __future__ import annotations

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


def eigenvalues(matrix: Tensor) -> Tensor:
    """Eigenvalues of a symmetric matrix in rising order. Raises `ScoreFailed` where it is not finite."""
    if not bool(torch.isfinite(matrix).all()):
        raise ScoreFailed("features of the network are not finite; look at its weights and activations")
    return torch.linalg.eigvalsh(matrix)


def spectral_entropy(rows: Tensor) -> float:
    """Entropy, in nats, of the eigenvalues of the covariance as shares of their sum; 0 where nothing varies.

    Its exponential is the effective rank (Roy and Vetterli 2007).
    """
    values = eigenvalues(gram(rows)).double().clamp_min(0)
    total = float(values.sum())
    if total <= 0:
        return 0.0
    shares = values / total
    shares = shares[shares > 1e-12]
    return float(-(shares * shares.log()).sum())


def least_correlation(rows: Tensor) -> float:
    """The smallest eigenvalue of the Pearson correlations between channels; 0 where a channel is constant."""
    if rows.shape[0] >= rows.shape[1]:
        return 0.0
    products = gram(rows)
    lengths = products.diagonal().sqrt()
    if not float(lengths.min()) > 0 and bool(torch.isfinite(lengths).all()):
        return 0.0
    return max(0.0, float(eigenvalues(products / lengths / lengths[:, None])[0]))
