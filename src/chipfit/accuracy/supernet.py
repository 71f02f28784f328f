"""One training for all networks of a space: single-shot search, and what each network inherits from it."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

import torch

from chipfit.accuracy.recipe import Recipe
from chipfit.accuracy.sandwich import (
    Diverged,
    Sandwich,
    Step,
    Training,
    batches_of,
    fair_code,
    sandwich_step,
    steps_of,
)
from chipfit.accuracy.train import Epoch, evaluate, placed, resolve_device, set_rate
from chipfit.errors import InvalidInput, TrainingFailed
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network
from chipfit.nets.supernet import Code, Supernet, image_size
from chipfit.tasks.task import Task

__all__ = ["Sandwich", "Supernet", "calibrated", "recalibrate", "supernet_metrics", "train_supernet"]

CALIBRATION = 512
"""Training images on which the statistics of one network are measured."""

WATCHED = 1000
"""Validation images on which the largest and the smallest network are judged after an epoch."""

BATCH = 128


def train_supernet(
    supernet: Supernet,
    task: Task,
    recipe: Recipe,
    *,
    seed: int,
    device: str = "auto",
    checkpoint: Path | None = None,
    sandwich: Sandwich | None = None,
) -> Iterator[Epoch]:
    """Trains all networks of a supernet in place, yielding after every epoch.

    Every step adds up the gradients of the networks that `sandwich` names; options are drawn fairly. The loss is that
    of the largest network; metrics are the largest one's, and the smallest one's with "smallest_" before their names,
    on some validation images. Images, order and networks depend on `seed` and the epoch only, so that a training that
    finds its `checkpoint` goes on to the same result as without a break. Raises `TrainingFailed` when a loss or a
    gradient is not a number, within that step and with the weights of the last epoch kept, and `InvalidInput` for a
    checkpoint of another training.
    """
    where, plan = resolve_device(device), sandwich or Sandwich()
    supernet.to(where)
    training = Training(supernet, recipe, f"supernet, {plan}, seed {seed}")
    if checkpoint is not None and checkpoint.exists():
        training.load(checkpoint, where)
        yield from (Epoch(**epoch) for epoch in training.history)
    for number in range(len(training.history) + 1, recipe.epochs + 1):
        begin = time.monotonic()
        loss = _epoch(training, task, recipe, plan, seed, number, where)
        metrics = _watched(supernet, task, seed, device)
        epoch = Epoch(number, loss, metrics, time.monotonic() - begin)
        training.keep()
        training.history.append(asdict(epoch))
        if checkpoint is not None:
            training.save(checkpoint)
        yield epoch


def _epoch(
    training: Training, task: Task, recipe: Recipe, plan: Sandwich, seed: int, number: int, where: torch.device
) -> float:
    supernet, steps = training.supernet, steps_of(recipe, task)
    supernet.train()
    losses: list[float] = []
    step = Step(0, {})
    try:
        for step in batches_of(task, "train", recipe.images, recipe.batch_size, supernet.sizes, [seed, number]):
            total = (number - 1) * steps + step.number
            done = total / (recipe.epochs * steps)
            set_rate(training.optimizer, recipe, done)
            others = [] if done < plan.alone else _others(supernet, plan, seed, total)
            codes = list(dict.fromkeys((supernet.largest_code, *others)))
            losses.append(sandwich_step(supernet, task, step, codes, plan.distil, where))
            training.advance()
    except Diverged as what:
        raise training.failed(what, step) from None
    if not losses:
        raise TrainingFailed(f"task {task.name} has one training image; training needs at least 2")
    return sum(losses) / len(losses)


def _others(supernet: Supernet, plan: Sandwich, seed: int, total: int) -> list[Code]:
    """The smallest network, and those that are drawn fairly in step `total`."""
    draws = range(total * plan.random, (total + 1) * plan.random)
    return [supernet.smallest_code, *(fair_code(supernet.space.cardinalities, seed, draw) for draw in draws)]


def _watched(supernet: Supernet, task: Task, seed: int, device: str) -> dict[str, float]:
    metrics = supernet_metrics(supernet, supernet.largest_code, task, images=WATCHED, seed=seed, device=device)
    smallest = supernet_metrics(supernet, supernet.smallest_code, task, images=WATCHED, seed=seed, device=device)
    return metrics | {f"smallest_{name}": value for name, value in smallest.items()}


def supernet_metrics(
    supernet: Supernet,
    code: Sequence[int],
    task: Task,
    *,
    images: int | None = None,
    seed: int = 0,
    device: str = "auto",
    calibration: int = CALIBRATION,
) -> dict[str, float]:
    """The task's metrics of the network of a code with inherited weights, on the first `images` for validation.

    Its statistics are measured first, on `calibration` training images that `seed` draws (Yu and Huang 2019, section
    3.3). None takes all validation images.
    """
    if images is not None and images < 1:
        raise InvalidInput(f"metrics on {images} validation images mean nothing; give 1 or more")
    module = _measured(supernet.network(code), task, seed, device, calibration)
    return evaluate(module, task, "validation", device=device, batch_size=BATCH, images=images)


def calibrated(
    supernet: Supernet,
    code: Sequence[int],
    task: Task,
    *,
    seed: int = 0,
    device: str = "auto",
    calibration: int = CALIBRATION,
) -> Network:
    """The network of a code with inherited weights and its own statistics: what `supernet_metrics` judges."""
    network = supernet.network(code)
    module = _measured(network, task, seed, device, calibration)
    return Network(network.name, network.graph, module.export_weights())


def _measured(network: Network, task: Task, seed: int, device: str, calibration: int) -> GraphModule:
    where = resolve_device(device)
    module = GraphModule(network.graph, network.weights)
    module.to(where).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    size = image_size(network.graph)
    found = batches_of(task, "train", calibration, BATCH, [size], [seed])
    recalibrate(module, [placed(step.at(size)[0], where) for step in found])
    return module


def recalibrate(module: GraphModule, batches: Sequence[torch.Tensor]) -> None:
    """Statistics of batch normalisation become the mean over these batches (n, ...); the module is in evaluation after.

    Raises `InvalidInput` without batches: a network would then be judged by statistics that are not its own.
    """
    if not batches:
        raise InvalidInput("statistics need at least 2 training images; give more")
    momentum = module.momentum
    module.train()
    with torch.no_grad():
        for number, inputs in enumerate(batches, start=1):
            module.momentum = 1 / number
            module(inputs)
    module.momentum = momentum
    module.eval()
