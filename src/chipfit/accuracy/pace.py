"""How long a network takes to train, from a few steps."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import numpy as np
import torch

from chipfit.accuracy.recipe import Recipe
from chipfit.accuracy.train import resolve_device
from chipfit.errors import InvalidInput
from chipfit.nets.module import GraphModule
from chipfit.tasks.task import Task

BATCH = 16
"""Images of a step, so that one step of a large network is short as well."""

SHARE = 5e-4
"""Steps are taken until this share of the training that they stand for has passed."""

STEP = 1e-6
"""How far each step goes: nowhere, but it takes its time."""

LEAST, MOST = 2, 64
"""Steps that are timed, after one that warms up."""


def seconds_per_image(
    module: GraphModule,
    recipe: Recipe,
    images: float,
    *,
    task: Task | None = None,
    device: str = "auto",
    threads: int = 1,
) -> float:
    """Seconds of a forward and a backward pass and an update, for each image; weights of `module` are changed.

    With a `task` on its images, which are made ready as in a training, else on noise. `images` is how many the training
    will see: the more, the longer is timed. Raises `InvalidInput` for what cannot be
    trained on this device.
    """
    where, before = resolve_device(device), torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        return _timed(module, recipe, images, task, where)
    except RuntimeError as error:
        raise InvalidInput(f"a training step fails on {where} ({str(error).splitlines()[0]})") from None
    finally:
        torch.set_num_threads(before)


def _timed(module: GraphModule, recipe: Recipe, images: float, task: Task | None, where: torch.device) -> float:
    module.to(where).to(memory_format=torch.channels_last).train()  # type: ignore[call-overload]  # as `train` does
    batch = min(BATCH, recipe.batch_size)
    batches = _batches(module, batch, task)
    begin, pace = 0.0, math.inf
    for step in range(MOST + 1):
        inputs = next(batches)
        output = module(inputs.to(where, memory_format=torch.channels_last) if inputs.ndim == 4 else inputs.to(where))
        first = output if isinstance(output, torch.Tensor) else output[0]
        module.zero_grad(set_to_none=True)
        first.float().square().mean().backward()  # type: ignore[no-untyped-call]
        with (
            torch.no_grad()
        ):  # by hand: PyTorch takes two seconds to load its optimisers, which workers do for themselves
            for parameter in module.parameters():
                if parameter.grad is not None:
                    parameter.sub_(parameter.grad, alpha=STEP)
        if where.type == "cuda":
            torch.cuda.synchronize(where)
        if step == 0:
            begin = time.perf_counter()
            continue
        passed = time.perf_counter() - begin
        pace = passed / (step * batch)
        if step >= LEAST and passed > SHARE * images * pace:
            break
    return pace


def _batches(module: GraphModule, batch: int, task: Task | None) -> Iterator[torch.Tensor]:
    """Training images as `train` makes them ready, or noise, without end."""
    shape = [int(size) for size in module.graph.inputs[0].shape[1:]]  # type: ignore[arg-type]
    noise = torch.randn((batch, *shape), generator=torch.Generator().manual_seed(0))
    while True:
        if task is None or len(shape) != 3:
            yield noise
            continue
        for inputs, _ in task.batches("train", batch, (shape[1], shape[2]), np.random.default_rng(0)):
            if len(inputs) == min(batch, task.sizes["train"]):
                yield inputs
