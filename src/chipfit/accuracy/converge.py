"""Single-shot search that converges: a distribution over the networks is trained beside their weights.

The objective is the loss of the networks drawn plus `pressure` · |expected latency / target - 1|, so that one run lands
on the latency asked for (Bender et al. 2020, TuNAS, section 4.2). The expectation is exact where the estimator has
tables of the space. How much pressure is enough depends on the loss: a step towards the target after each step makes up
for what is missing.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field, replace
from itertools import cycle
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from chipfit.accuracy.distribution import Distribution, ExpectedLatency, check_target, landing, off_target, pull
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
from chipfit.accuracy.supernet import WATCHED, supernet_metrics
from chipfit.accuracy.train import placed, resolve_device, set_rate
from chipfit.errors import InvalidInput, TrainingFailed
from chipfit.estimate.estimator import SpaceCosts
from chipfit.nets.relaxed import Relaxed
from chipfit.nets.supernet import Code, Supernet
from chipfit.tasks.task import Task

TRAVEL = 12.0
"""How far a logit can move in a whole run, whatever its length: enough to make a choice certain and to take it back."""

LEAST_MOVES = 10
"""Steps of the distribution below which what it chooses would be chance."""

TEMPERATURES = (2.0, 0.3)
"""Of the relaxation, at the beginning and at the end."""


@dataclass(frozen=True, slots=True)
class Converging:
    """How the distribution is trained, over validation images that the weights never see.

    "policy" draws `samples` networks a step and makes the better ones of them likelier (Williams 1992, with the mean of
    the other samples as the baseline); "gradient" goes along the gradient of all options at once (`nets.relaxed`). For
    the share `warmup` only weights are trained. `sharpen` is the weight of the entropy in nats at the end of the run,
    to which it rises as the square of the time.
    """

    method: Literal["policy", "gradient"] = "policy"
    warmup: float = 0.3
    samples: int = 4
    pressure: float = 1.0
    sharpen: float = 0.1

    def __post_init__(self) -> None:
        faults = [
            self.method not in ("policy", "gradient") and "method must be 'policy' or 'gradient'",
            not 0 <= self.warmup < 1 and "warmup must be from 0 to below 1",
            self.samples < 2 and "samples must be 2 or more, each is judged by the others",
            not 0 < self.pressure < math.inf and "pressure must be above 0",
            not 0 <= self.sharpen < math.inf and "sharpen must be 0 or more",
        ]
        if found := [fault for fault in faults if fault]:
            raise InvalidInput(f"{found[0]}, got {self}")


@dataclass(frozen=True, slots=True)
class Convergence:
    """What is known after an epoch: where the distribution stands, and the network on which it would land now.

    `entropy` is a share of that of equal chances. `metrics` are those of the network of `code` with inherited weights,
    on some validation images.
    """

    number: int
    loss: float
    expected_latency_s: float
    entropy: float
    code: Code
    latency_s: float
    metrics: dict[str, float] = field(default_factory=dict[str, float])
    seconds: float = 0.0


def moves_of(recipe: Recipe, task: Task, how: Converging) -> float:
    """Steps of the distribution in a training. Raises `InvalidInput` where they are too few to choose by."""
    moves = recipe.epochs * steps_of(recipe, task) * (1 - how.warmup)
    if moves < LEAST_MOVES:
        raise InvalidInput(
            f"{moves:.0f} training steps are left after the warm-up, a distribution needs {LEAST_MOVES}: give "
            "more epochs or images, or smaller batches"
        )
    return moves


def converge(
    supernet: Supernet,
    task: Task,
    recipe: Recipe,
    costs: SpaceCosts,
    target_s: float,
    *,
    seed: int,
    device: str = "auto",
    checkpoint: Path | None = None,
    how: Converging | None = None,
    sandwich: Sandwich | None = None,
    most_s: float = math.inf,
) -> Iterator[Convergence]:
    """Trains weights and distribution together, yielding after every epoch; the last `code` is the answer.

    That network takes no longer than `most_s` where any such was found. `costs` are those of the supernet's space.
    Resumes from its `checkpoint` to the same result. Raises what `train_supernet` does, and before anything is trained
    `InvalidInput` where there is nothing to choose, too little training, or for the gradient nothing to relax, and
    `LimitImpossible` where no network is near the target.
    """
    if costs.graph != supernet.space:
        raise InvalidInput("the costs are of another space than the supernet; prepare the estimator with its space")
    check_target(costs, target_s)
    run = _Run(
        supernet, task, recipe, costs, target_s, seed, device, how or Converging(), sandwich or Sandwich(), most_s
    )
    if checkpoint is not None and checkpoint.exists():
        run.load(checkpoint)
        yield from (_read(each) for each in run.training.history)
    for number in range(len(run.training.history) + 1, recipe.epochs + 1):
        begin = time.monotonic()
        found = run.epoch(number)
        run.training.keep()
        run.training.history.append(asdict(found) | {"seconds": time.monotonic() - begin})
        if checkpoint is not None:
            run.save(checkpoint)
        yield _read(run.training.history[-1])


def _read(note: dict[str, Any]) -> Convergence:
    return replace(Convergence(**note), code=tuple(note["code"]))


class _Run:
    """One search: weights by `sandwich_step`, logits by Adam along the gradient that the method gives."""

    def __init__(
        self,
        supernet: Supernet,
        task: Task,
        recipe: Recipe,
        costs: SpaceCosts,
        target_s: float,
        seed: int,
        device: str,
        how: Converging,
        sandwich: Sandwich,
        most_s: float,
    ) -> None:
        self.supernet, self.task, self.recipe, self.costs = supernet, task, recipe, costs
        self.target_s, self.seed, self.device, self.how, self.sandwich = target_s, seed, device, how, sandwich
        self.most_s = most_s
        self.where = resolve_device(device)
        supernet.to(self.where)
        self.steps = steps_of(recipe, task)
        times = f"{target_s!r} s, at most {most_s!r} s"
        name = f"converging, {how}, {sandwich}, {times}, {costs.estimator.target.name}, seed {seed}"
        self.training = Training(supernet, recipe, name)
        self.distribution = Distribution(supernet.space.cardinalities, self.where)
        self.expected = ExpectedLatency(costs, self.where)
        self.relaxed = Relaxed(supernet) if how.method == "gradient" else None
        self.moves = moves_of(recipe, task, how)
        self.adam = torch.optim.Adam([self.distribution.logits], betas=(0.5, 0.99))

    def epoch(self, number: int) -> Convergence:
        supernet, recipe = self.supernet, self.recipe
        supernet.train()
        judged = self._judged(number)
        losses: list[float] = []
        step = Step(0, {})
        try:
            for step in batches_of(
                self.task, "train", recipe.images, recipe.batch_size, supernet.sizes, [self.seed, number]
            ):
                total = (number - 1) * self.steps + step.number
                done = total / (recipe.epochs * self.steps)
                set_rate(self.training.optimizer, recipe, done)
                generator = np.random.default_rng([self.seed, 1, total])
                codes = list(dict.fromkeys((supernet.largest_code, *self._others(done, total, generator))))
                losses.append(sandwich_step(supernet, self.task, step, codes, self.sandwich.distil, self.where))
                self.training.advance()
                if done >= self.how.warmup:
                    self._move(next(judged), done, generator)
        except Diverged as what:
            raise self.training.failed(what, step) from None
        if not losses:
            raise TrainingFailed(f"task {self.task.name} has one training image; training needs at least 2")
        return self._found(number, sum(losses) / len(losses))

    def _judged(self, number: int) -> Iterator[Step]:
        """Validation batches, again and again where they are fewer than those of training."""
        for again in cycle(range(1 << 20)):
            found = 0
            for step in batches_of(
                self.task,
                "validation",
                None,
                self.recipe.batch_size,
                self.supernet.sizes,
                [self.seed, 2, number, again],
            ):
                found += 1
                yield step
            if not found:
                raise TrainingFailed(f"task {self.task.name} has one validation image; a choice needs at least 2")

    def _others(self, done: float, total: int, generator: np.random.Generator) -> list[Code]:
        """The networks that learn from the largest: fairly drawn at first, then those that are likely."""
        count, cardinalities = self.sandwich.random, self.supernet.space.cardinalities
        if done < self.how.warmup:
            fair = (fair_code(cardinalities, self.seed, draw) for draw in range(total * count, (total + 1) * count))
            return [self.supernet.smallest_code, *fair]
        return [tuple(row) for row in self.distribution.draw(count + 1, generator).tolist()]

    def _move(self, step: Step, done: float, generator: np.random.Generator) -> None:
        """One step of the distribution."""
        latency_s = self.expected(self.distribution, generator)
        later = (done - self.how.warmup) / (1 - self.how.warmup)
        objective = self.how.pressure * off_target(latency_s, self.target_s)
        objective = objective + self.how.sharpen * later**2 * self.distribution.entropy()
        objective = objective + self._quality(step, later, generator)
        (gradient,) = torch.autograd.grad(objective, [self.distribution.logits])
        if not bool(torch.isfinite(gradient).all()):
            raise Diverged("the gradient of the distribution")
        self.distribution.logits.grad = gradient
        # Constant steps would circle around the target, falling ones come to rest on it.
        rate = TRAVEL / self.moves * (1 + math.cos(math.pi * later))
        self.adam.param_groups[0]["lr"] = rate
        self.adam.step()
        pull(self.distribution, self.expected, self.target_s, rate, generator)

    def _quality(self, step: Step, later: float, generator: np.random.Generator) -> Tensor:
        if self.relaxed is None:
            return self._by_samples(step, generator)
        begin, end = TEMPERATURES
        gates = self.distribution.gates(generator, begin * (end / begin) ** later)
        names = [decision.name for decision in self.supernet.space.decisions]
        inputs, targets = step.at(self.supernet.sizes[0])
        outputs = self.relaxed(dict(zip(names, gates, strict=True)), placed(inputs, self.where))
        return self.task.loss(outputs, targets.to(self.where))

    def _by_samples(self, step: Step, generator: np.random.Generator) -> Tensor:
        """What has, as its gradient in the logits, that of the expected loss."""
        codes = self.distribution.draw(self.how.samples, generator)
        losses: list[float] = []
        with torch.no_grad():
            for code in codes.tolist():
                inputs, targets = step.at(self.supernet.size(code))
                outputs = self.supernet(code, placed(inputs, self.where))
                losses.append(float(self.task.loss(outputs, targets.to(self.where))))
        found = torch.tensor(losses, device=self.where)
        if not bool(torch.isfinite(found).all()):
            raise Diverged("the validation loss of a network")
        # The mean of the others is the baseline: each differs from it by n / (n - 1) of what it differs from the mean.
        better = (found - found.mean()) * len(losses) / (len(losses) - 1)
        return (better * self.distribution.log_probability(codes)).mean()

    def _found(self, number: int, loss: float) -> Convergence:
        with torch.no_grad():
            expected = float(self.expected(self.distribution, np.random.default_rng([self.seed, 3, number])))
            entropy = float(self.distribution.entropy())
        most = float(np.log(np.array(self.supernet.space.cardinalities)).sum())
        code, latency_s = landing(self.distribution, self.costs, self.target_s, self.seed, self.most_s)
        metrics = supernet_metrics(self.supernet, code, self.task, images=WATCHED, seed=self.seed, device=self.device)
        return Convergence(number, loss, expected, entropy / most, code, latency_s, metrics)

    def save(self, path: Path) -> None:
        known = self.adam.state[self.distribution.logits]
        self.training.extra = {"logits": self.distribution.logits.detach(), **known}
        self.training.save(path)

    def load(self, path: Path) -> None:
        self.training.load(path, self.where)
        extra = dict(self.training.extra)
        with torch.no_grad():
            self.distribution.logits.copy_(extra.pop("logits"))
        if extra:
            self.adam.state[self.distribution.logits] = extra | {"step": extra["step"].cpu()}
