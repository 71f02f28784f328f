"""Small networks for the tests of scores."""

import numpy as np
import torch
from torch import Tensor, nn

from chipfit.accuracy.zero_shot import fresh
from chipfit.graph.build import Builder, conv_bn_act, residual_block
from chipfit.graph.graph import Graph

SIZE = 8


def images(samples: int = 8, seed: int = 0, size: int = SIZE) -> Tensor:
    return torch.randn(samples, 3, size, size, generator=torch.Generator().manual_seed(seed))


def residual_graph(blocks: int = 2) -> Graph:
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, SIZE, SIZE)), 4, activation=None, key="stem")
    for number in range(blocks):
        x = residual_block(b, x, 4, key=f"block{number}")
    return b.graph(b.linear(b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten"), 3, key="classifier"))


def residual(blocks: int = 2) -> nn.Module:
    return fresh(residual_graph(blocks))


def layers(seed: int = 0, *, bias: bool = True) -> nn.Sequential:
    """Two linear layers with a ReLU between, weights from the seed."""
    module = nn.Sequential(
        nn.Flatten(), nn.Linear(3 * SIZE * SIZE, 6, bias=bias), nn.ReLU(), nn.Linear(6, 3, bias=bias)
    )
    generator = np.random.default_rng(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.from_numpy(generator.standard_normal(tuple(parameter.shape)) / 8))
    return module
