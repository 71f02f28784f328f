"""A user's own training in a study: accuracy = "own_training:train".

The function gets the PyTorch module of a candidate, with the weights that it inherits, and a budget; it trains the
module in place and returns metrics. Whatever it raises is recorded on that candidate, and the search goes on.
"""

import torch
from torch import nn

from chipfit.accuracy.own import Budget


def train(module: nn.Module, budget: Budget) -> dict[str, float]:
    """Learns which half of an image is brighter; stands for the training loop that you have."""
    generator = torch.Generator().manual_seed(budget.seed)
    images = torch.rand(512, 3, 32, 32, generator=generator)
    images[:256, :, :, :16] += 0.25
    images[256:, :, :, 16:] += 0.25
    labels = torch.arange(512) // 256
    order = torch.randperm(512, generator=generator)
    train_part, validation_part = order[:384], order[384:]
    optimizer = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    module.train()
    for _ in range(budget.epochs):
        for batch in train_part.split(64):
            loss = nn.functional.cross_entropy(module(images[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    module.eval()
    with torch.inference_mode():
        correct = module(images[validation_part]).argmax(1) == labels[validation_part]
    return {"accuracy": correct.float().mean().item()}
