"""MeCo: how little the channels of feature maps depend on one another."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from chipfit.accuracy.zero_shot.features import as_variables, least_correlation
from chipfit.accuracy.zero_shot.trace import finite, needed, traced, untouched


def meco(module: nn.Module, batch: Tensor) -> float:
    """Sum over products of the smallest eigenvalue of the correlations between the channels that they give.

    Jiang et al. 2023, "MeCo: zero-shot NAS with one data and single forward pass via minimum eigenvalue of
    correlation", equation 9; over the whole batch instead of one image, as the last layers have more channels than an
    image has positions.
    """
    with untouched(module, batch), torch.no_grad():
        products = traced(module, batch).products
    needed("meco", products, "convolutions and linear layers")
    return finite("meco", sum(least_correlation(as_variables(product.gave)) for product in products))
