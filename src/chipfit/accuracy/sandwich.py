"""How the networks of a supernet are trained together: which ones in a step, on what, and what a break keeps."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from chipfit.accuracy.checkpoint import optimizer_of, read_checkpoint, write_checkpoint
from chipfit.accuracy.recipe import Recipe
from chipfit.accuracy.train import first, placed
from chipfit.errors import InvalidInput, TrainingFailed
from chipfit.nets.supernet import Code, Supernet
from chipfit.tasks.task import Task

Size = tuple[int, int] | None


@dataclass(frozen=True, slots=True)
class Sandwich:
    """What a step trains: the largest network, the smallest, and `random` others (Yu et al. 2019, section 3).

    All but the largest learn from its outputs: `distil` is their weight, what is left to 1 goes to the targets. For the
    share `alone` of the training only the largest is trained, for the others to start from.
    """

    random: int = 2
    distil: float = 1.0
    alone: float = 0.0

    def __post_init__(self) -> None:
        if self.random < 0 or not 0 <= self.distil <= 1 or not 0 <= self.alone < 1:
            raise InvalidInput(f"random must be 0 or more, distil from 0 to 1 and alone from 0 to below 1, got {self}")


def fair_code(cardinalities: Sequence[int], seed: int, draw: int) -> Code:
    """Draw number `draw` of a seeded sequence of codes in which k draws in a row, from a multiple of k on, take each of
    the k options of a decision once (strict fairness: Chu et al. 2021, FairNAS, section 3.2)."""
    code: list[int] = []
    for axis, options in enumerate(cardinalities):
        order = np.random.default_rng([seed, axis, draw // options]).permutation(options)
        code.append(int(order[draw % options]))
    return tuple(code)


@dataclass(frozen=True, slots=True)
class Step:
    """The images of one training step at every size that networks take, and the targets that go with each size."""

    number: int
    batches: Mapping[Size, tuple[Tensor, Tensor]]

    def at(self, size: Size) -> tuple[Tensor, Tensor]:
        """Images (n, channels, height, width) of a size, and their targets."""
        return self.batches[size]


def steps_of(recipe: Recipe, task: Task) -> int:
    """Training steps of an epoch."""
    return math.ceil(min(task.sizes["train"], recipe.images or task.sizes["train"]) / recipe.batch_size)


def batches_of(
    task: Task, split: str, images: int | None, batch_size: int, sizes: Sequence[Size], seed: Sequence[int]
) -> Iterator[Step]:
    """Shuffled batches of a split at several sizes at once, of at most `images` images; never one image alone."""
    streams = [
        first(task.batches(split, batch_size, size, np.random.default_rng(list(seed))), images) for size in sizes
    ]
    for number, batches in enumerate(zip(*streams, strict=True)):
        if len(batches[0][0]) > 1:  # batch normalisation has no variance over one image
            yield Step(number, dict(zip(sizes, batches, strict=True)))


class Diverged(Exception):
    """A loss or a gradient is not a number: which. Internal: `Training.failed` makes a `TrainingFailed` of it."""


def sandwich_step(
    supernet: Supernet, task: Task, step: Step, codes: Sequence[Code], distil: float, where: torch.device
) -> float:
    """Adds up the gradients of several networks, the first of which teaches the others; gives the first one's loss.

    Raises `Diverged` before a loss that is not a number reaches the weights.
    """
    taught: Tensor | None = None
    found = math.nan
    for position, code in enumerate(codes):
        inputs, targets = step.at(supernet.size(code))
        with torch.autocast(where.type, torch.bfloat16, enabled=where.type == "cuda"):
            outputs = supernet(code, placed(inputs, where))
            loss = _loss(task, outputs, targets.to(where), taught, distil)
        value = float(loss.detach())
        if not math.isfinite(value):
            raise Diverged(f"the loss of network {code}")
        loss.backward()  # type: ignore[no-untyped-call]
        if position == 0:
            found, taught = value, outputs.detach() if isinstance(outputs, Tensor) else None
    return found


def _loss(task: Task, outputs: Tensor, targets: Tensor, taught: Tensor | None, distil: float) -> Tensor:
    """The task's loss; for a pupil whose outputs are scores of classes, the cross-entropy with those of its teacher."""
    if taught is None or distil == 0 or not isinstance(outputs, Tensor) or taught.shape != outputs.shape:
        return task.loss(outputs, targets)
    if outputs.ndim not in (2, 4) or outputs.shape[1] != len(task.classes):
        return task.loss(outputs, targets)
    soft = F.softmax(taught.float(), 1)
    learnt = -(soft * F.log_softmax(outputs.float(), 1)).sum(1).mean()
    return learnt if distil == 1 else distil * learnt + (1 - distil) * task.loss(outputs, targets)


class Training:
    """The weights of a supernet in training, with the momentum that goes with them: kept, restored, written, read."""

    def __init__(self, supernet: Supernet, recipe: Recipe, name: str) -> None:
        self.supernet = supernet
        self.name = f"{name}, {recipe}, supernet of seed {supernet.seed}, {supernet.space.digest}"
        self.history: list[dict[str, Any]] = []
        self.extra: dict[str, Tensor] = {}
        self.optimizer = optimizer_of(supernet, recipe)
        self.keep()

    def keep(self) -> None:
        """Remembers the weights as they are: the last good state."""
        self._good = {name: tensor.detach().clone() for name, tensor in self.supernet.state_dict().items()}

    def advance(self) -> None:
        """One step of the optimizer; raises `Diverged` where a gradient is not a number."""
        found = [p.grad for p in self.supernet.parameters() if p.grad is not None]
        if not bool(torch.isfinite(torch.stack([grad.sum() for grad in found])).all()):
            raise Diverged("a gradient")
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def failed(self, what: Diverged, step: Step) -> TrainingFailed:
        """The last good weights are back; the error that says so."""
        self.optimizer.zero_grad(set_to_none=True)
        self.supernet.load_state_dict(self._good)
        epoch = len(self.history)
        rate = self.optimizer.param_groups[0]["lr"]
        return TrainingFailed(
            f"{what} is not a number in epoch {epoch + 1}, step {step.number + 1} of the supernet (learning rate "
            f"{rate:.3g}); its weights are those of the end of epoch {epoch} again: lower the learning rate, or "
            "warm up longer"
        )

    def save(self, path: Path) -> None:
        """Writes everything that going on needs."""
        extra = {name: tensor.detach().clone() for name, tensor in self.extra.items()}
        notes = {"training": self.name, "history": json.dumps(self.history)}
        write_checkpoint(path, self.supernet, self.optimizer, extra, notes)

    def load(self, path: Path, where: torch.device) -> None:
        """Takes up what `save` wrote. Raises `InvalidInput` for a file of another training or a damaged one."""
        self.extra, notes = read_checkpoint(path, self.name, self.supernet, self.optimizer, where)
        self.history = json.loads(notes["history"])
        self.keep()
