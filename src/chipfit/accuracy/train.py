"""Training a network on a task, epoch by epoch, so that it can be watched, stopped early and taken up again."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import numpy as np
import torch

from chipfit.accuracy.checkpoint import optimizer_of, read_checkpoint, write_checkpoint
from chipfit.accuracy.recipe import Recipe
from chipfit.errors import InvalidInput, TrainingFailed
from chipfit.nets.module import GraphModule
from chipfit.tasks.task import Outputs, Task

Batch = tuple[torch.Tensor, torch.Tensor]


@dataclass(frozen=True, slots=True)
class Epoch:
    """What is known after an epoch: metrics are those of the validation split."""

    number: int
    loss: float
    metrics: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def resolve_device(device: str) -> torch.device:
    """ "auto" is the GPU where there is one, else the CPU. Raises `InvalidInput` for a device that is not there."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        resolved = torch.device(device)
    except RuntimeError as error:
        raise InvalidInput(f"device {device!r}: {error}") from None
    if resolved.type == "cuda" and not torch.cuda.is_available():
        raise InvalidInput(f"device {device!r}: no GPU is available here; use 'auto' or 'cpu'")
    return resolved


def train(
    module: GraphModule,
    task: Task,
    recipe: Recipe,
    *,
    seed: int,
    device: str = "auto",
    checkpoint: Path | None = None,
) -> Iterator[Epoch]:
    """Trains in place, yielding after every epoch; once exhausted, the module holds its best weights by validation.

    The order and augmentation of images in an epoch depend on `seed` and the epoch only. With a `checkpoint` the state
    is written after every epoch, and a training that finds it goes on from there, with the same result as without a
    break. Raises `TrainingFailed` when the loss is not finite, `InvalidInput` for a checkpoint of another training.
    """
    where = resolve_device(device)
    module.to(where).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    state = _State(module, recipe, seed)
    if checkpoint is not None and checkpoint.exists():
        state.load(checkpoint, where)
        yield from state.history
    for number in range(len(state.history) + 1, recipe.epochs + 1):
        begin = time.monotonic()
        loss = _epoch(module, task, state, number, where)
        metrics = evaluate(module, task, "validation", device=device, batch_size=recipe.batch_size)
        epoch = Epoch(number, loss, metrics, time.monotonic() - begin)
        state.add(epoch, metrics[task.metric])
        if checkpoint is not None:
            state.save(checkpoint)
        yield epoch
    state.restore_best()


def evaluate(
    module: torch.nn.Module,
    task: Task,
    split: str,
    *,
    device: str = "auto",
    batch_size: int = 128,
    images: int | None = None,
) -> dict[str, float]:
    """The task's metrics of a module on one split or its first `images`, in evaluation mode."""
    where = resolve_device(device)
    module.to(where).to(memory_format=torch.channels_last).eval()  # type: ignore[call-overload]
    predictions: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    with torch.inference_mode():
        for inputs, wanted in first(task.batches(split, batch_size, _size(module)), images):
            predictions.append(task.read(_real(module(placed(inputs, where)))))
            targets.append(wanted)
    return task.metrics(torch.cat(predictions), torch.cat(targets))


def _real(outputs: Outputs) -> Outputs:
    """Outputs as float32 on the CPU."""
    if isinstance(outputs, tuple):
        return tuple(output.float().cpu() for output in outputs)
    return outputs.float().cpu()


def first(batches: Iterator[Batch], images: int | None) -> Iterator[Batch]:
    """Batches up to a number of images, the last one cut; all of them for None."""
    left = math.inf if images is None else images
    for inputs, wanted in batches:
        count = int(min(left, len(inputs)))
        yield inputs[:count], wanted[:count]
        left -= count
        if left <= 0:
            return


def placed(inputs: torch.Tensor, where: torch.device) -> torch.Tensor:
    """A batch on the device, images with their channels last: depthwise convolutions run twice as fast so."""
    return inputs.to(where, memory_format=torch.channels_last) if inputs.ndim == 4 else inputs.to(where)


def _size(module: torch.nn.Module) -> tuple[int, int] | None:
    """Height and width that a network takes; images of another size are resized to it."""
    if not isinstance(module, GraphModule):
        return None
    shape = module.graph.inputs[0].shape
    return (int(shape[2]), int(shape[3])) if len(shape) == 4 else None  # type: ignore[arg-type]


def _epoch(module: GraphModule, task: Task, state: _State, number: int, where: torch.device) -> float:
    """One pass over the training images; the mean loss."""
    recipe = state.recipe
    images = min(task.sizes["train"], recipe.images or task.sizes["train"])
    steps = math.ceil(images / recipe.batch_size)
    module.train()
    torch.manual_seed(state.seed * 1_000_003 + number)
    batches = task.batches("train", recipe.batch_size, _size(module), np.random.default_rng([state.seed, number]))
    losses: list[float] = []
    for step, (inputs, targets) in enumerate(islice(batches, steps)):
        count = min(len(inputs), images - step * recipe.batch_size)
        if count < 2:
            continue  # batch normalisation has no variance over one image
        set_rate(state.optimizer, recipe, ((number - 1) * steps + step) / (recipe.epochs * steps))
        with torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda"):
            loss = task.loss(module(placed(inputs[:count], where)), targets[:count].to(where))
        state.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        state.optimizer.step()
        losses.append(float(loss.detach()))
        if not math.isfinite(losses[-1]):
            raise TrainingFailed(f"the loss is not a number in epoch {number}; lower the learning rate")
    if not losses:
        raise TrainingFailed(f"task {task.name} has one training image; training needs at least 2")
    return sum(losses) / len(losses)


def set_rate(optimizer: torch.optim.Optimizer, recipe: Recipe, done: float) -> None:
    """Learning rate at a fraction of the training: linear up over `warmup`, then a cosine down to 0."""
    if done < recipe.warmup:
        factor = (done + 1e-3) / recipe.warmup
    else:
        factor = 0.5 * (1 + math.cos(math.pi * (done - recipe.warmup) / (1 - recipe.warmup)))
    for group in optimizer.param_groups:
        group["lr"] = recipe.learning_rate * min(1.0, factor)


class _State:
    """Everything a training needs to go on after a break: weights, momentum, the best weights, what came before."""

    def __init__(self, module: GraphModule, recipe: Recipe, seed: int) -> None:
        self.module = module
        self.recipe = recipe
        self.seed = seed
        self.history: list[Epoch] = []
        self.best = -math.inf
        self.best_weights: dict[str, torch.Tensor] = {}
        self.optimizer = optimizer_of(module, recipe)

    def add(self, epoch: Epoch, score: float) -> None:
        self.history.append(epoch)
        if score > self.best:
            self.best = score
            self.best_weights = {name: tensor.detach().clone() for name, tensor in self.module.state_dict().items()}

    def restore_best(self) -> None:
        if self.best_weights:
            self.module.load_state_dict(self.best_weights)

    def save(self, path: Path) -> None:
        notes = {
            "training": self._training,
            "history": json.dumps([asdict(epoch) for epoch in self.history]),
            "best": repr(self.best),
        }
        write_checkpoint(path, self.module, self.optimizer, self.best_weights, notes)

    @property
    def _training(self) -> str:
        return f"{self.recipe}, seed {self.seed}, {self.module.graph.digest}"

    def load(self, path: Path, where: torch.device) -> None:
        self.best_weights, notes = read_checkpoint(path, self._training, self.module, self.optimizer, where)
        self.history = [Epoch(**epoch) for epoch in json.loads(notes["history"])]
        self.best = float(notes["best"])
