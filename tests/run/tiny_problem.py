"""A network, images and trainings so small that a study takes a second; studies name them as tiny_problem:NAME."""

import os
import signal
import time
from pathlib import Path

import numpy as np
import torch

from chipfit.accuracy.own import Budget
from chipfit.errors import ScoreFailed
from chipfit.graph.build import Builder, conv_bn_act, inverted_bottleneck
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network, initialise
from chipfit.search.algorithm import Domain
from chipfit.search.simple import RandomSearch
from chipfit.tasks.augment import Augmentation
from chipfit.tasks.vision import ImageClassification

CALLS: list[tuple[str, str]] = []
"""Stage and digest of the graph of every call of `by_size`."""


def model() -> Network:
    b = Builder()
    x = b.input("input", (1, 3, 16, 16))
    x = conv_bn_act(b, x, 8, stride=2, key="stem")
    x = inverted_bottleneck(b, x, 8, expansion=4, key="block1")
    x = inverted_bottleneck(b, x, 16, expansion=4, stride=2, key="block2")
    x = inverted_bottleneck(b, x, 16, expansion=4, key="block3")
    x = b.global_pool(x, key="pool")
    x = b.reshape(x, (-1,), key="flatten")
    graph = b.graph(b.linear(x, 2, key="classifier"))
    return Network("tiny", graph, initialise(graph, np.random.default_rng(int(os.environ.get("TINY_MODEL", "0")))))


def task() -> ImageClassification:
    """Is the upper or the lower half brighter."""
    generator = np.random.default_rng(int(os.environ.get("TINY_DATA", "0")))
    labels = {
        split: generator.integers(0, 2, count) for split, count in (("train", 24), ("validation", 20), ("test", 12))
    }
    images = {}
    for split, wanted in labels.items():
        pixels = generator.integers(0, 180, (len(wanted), 16, 16, 3))
        pixels[wanted == 0, :8] += 50
        pixels[wanted == 1, 8:] += 50
        images[split] = pixels.astype(np.uint8)
    return ImageClassification(
        "halves", ("upper", "lower"), images, labels, "drawn", augmentation=Augmentation(shift=0.0)
    )


def parameters(module: GraphModule) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def fused(module: GraphModule) -> bool:
    return any("fused" in node.key for node in module.graph.nodes)


def by_size(module: GraphModule, budget: Budget) -> dict[str, float]:
    """Trains nothing: the more parameters, the more accurate, and a little more with more epochs."""
    CALLS.append((budget.stage, module.graph.digest))
    with torch.no_grad():
        next(module.parameters()).add_(budget.seed % 1000)
    return {"accuracy": 0.9 - 800 / parameters(module) + 0.01 * budget.epochs, "parameters": parameters(module)}


def fails_when_fused(module: GraphModule, budget: Budget) -> float:
    if fused(module):
        raise ArithmeticError("fused is not my taste")
    return by_size(module, budget)["accuracy"]


def dies_when_fused(module: GraphModule, budget: Budget) -> float:
    if fused(module):
        os.kill(os.getpid(), signal.SIGKILL)
    return by_size(module, budget)["accuracy"]


def leaves_a_mark_and_waits(module: GraphModule, budget: Budget) -> float:
    """Says which process it runs in, then never returns."""
    Path(os.environ["TINY_MARKS"], str(os.getpid())).touch()
    while True:
        signal.pause()


def fails_while_told(module: GraphModule, budget: Budget) -> float:
    if os.environ.get("TINY_FAIL") == budget.stage:
        raise ValueError("told to")
    return by_size(module, budget)["accuracy"]


def random_search(domain: Domain, seed: int, trials: int) -> RandomSearch:
    return RandomSearch(domain, seed)


def slowly(module: GraphModule, budget: Budget) -> dict[str, float]:
    """Takes longer than a second, whatever is trained."""
    time.sleep(1.1)
    return by_size(module, budget)


def fails_on_fused(module: torch.nn.Module, batch: torch.Tensor) -> float:
    """A score that has no value for some networks."""
    assert isinstance(module, GraphModule)
    if fused(module):
        raise ScoreFailed("fused is not my taste")
    return float(parameters(module))


def fewer_is_better(module: torch.nn.Module, batch: torch.Tensor) -> float:
    """A score that is wrong about every pair of networks."""
    assert isinstance(module, GraphModule)
    return -float(parameters(module))


def learns(module: GraphModule, budget: Budget) -> dict[str, float]:
    """Keeps in a weight how many epochs it was trained for in the search; approaches what its size allows."""
    CALLS.append((budget.stage, module.graph.digest))
    weight = next(module.parameters()).reshape(-1)
    with torch.no_grad():
        if budget.stage == "baseline":
            weight[0] = 0.0
        trained = float(weight[0]) + budget.epochs * (budget.stage == "search")
        weight[0] = trained
    return {"accuracy": 0.9 - 800 / parameters(module) - 0.2 / (1 + trained), "trained": trained}


def learns_unless_fused(module: GraphModule, budget: Budget) -> dict[str, float]:
    if fused(module):
        raise ArithmeticError("fused is not my taste")
    return learns(module, budget)


def never_asks(module: GraphModule, budget: Budget) -> float:
    with torch.no_grad():
        next(module.parameters()).add_(1.0)
    return 0.5


def stays(module: GraphModule, budget: Budget) -> float:
    return 0.5 + 0.01 * budget.epochs
