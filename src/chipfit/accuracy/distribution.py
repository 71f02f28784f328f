"""A distribution over the networks of a space, every decision by itself, and the latency that it expects."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from chipfit.errors import InvalidInput, LimitImpossible
from chipfit.estimate.estimator import SpaceCosts
from chipfit.nets.relaxed import contracted
from chipfit.nets.supernet import Code
from chipfit.search.exact import Table, extremes

Codes = NDArray[np.int64]

LATENCY_SAMPLES = 256
"""Networks by which a step estimates the expected latency where the costs of a space have no tables."""

TOLERANCE = 0.02
"""How far off the target, relative to it, a network may be that is taken for its probability."""

FARTHEST = 0.03
"""How far off the target the nearest network of a space may be for a search to begin."""

DRAWN = 4096
_BEYOND = 1e6
MOST_PROBABLE = 48
"""Changes of one decision that are tried two at a time: those that cost least probability."""


class Distribution:
    """One softmax for each decision. `logits` is (decisions, most options); what has no option stays out."""

    def __init__(self, cardinalities: Sequence[int], device: torch.device) -> None:
        self.cardinalities = tuple(cardinalities)
        widest = max(cardinalities, default=1)
        self.logits = torch.zeros((len(cardinalities), widest), device=device, requires_grad=True)
        index = torch.arange(widest, device=device)
        self._there = index[None] < torch.tensor(self.cardinalities, device=device)[:, None]

    @property
    def log_probabilities(self) -> Tensor:
        """(decisions, most options), -inf where there is no option."""
        return torch.log_softmax(self.logits.masked_fill(~self._there, -torch.inf), dim=1)

    @property
    def probabilities(self) -> list[Tensor]:
        """One (options,) for each decision."""
        found = self.log_probabilities.exp()
        return [found[axis, :options] for axis, options in enumerate(self.cardinalities)]

    def log_probability(self, codes: Codes) -> Tensor:
        """(n,) of codes (n, d), differentiable."""
        index = torch.from_numpy(codes).to(self.logits.device)
        return self.log_probabilities.gather(1, index.T).sum(0)

    def entropy(self) -> Tensor:
        """In nats, the sum over the decisions."""
        logs = self.log_probabilities.masked_fill(~self._there, 0.0)
        return -(logs.exp() * logs * self._there).sum()

    def draw(self, count: int, generator: np.random.Generator) -> Codes:
        """Codes (count, d)."""
        return draw([each.detach().cpu().numpy() for each in self.probabilities], count, generator)

    def gates(self, generator: np.random.Generator, temperature: float) -> list[Tensor]:
        """One drawn option of each decision as 0 and 1, with the gradient of its relaxation (Jang et al. 2017)."""
        noise = torch.from_numpy(generator.gumbel(size=tuple(self.logits.shape)).astype(np.float32))
        logits = self.log_probabilities + noise.to(self.logits.device)
        soft = torch.softmax(logits / temperature, dim=1)
        hard = torch.zeros_like(soft).scatter(1, soft.argmax(1, keepdim=True), 1.0)
        # The difference of equal numbers is 0 exactly: forward only what was drawn counts.
        gates = hard + (soft - soft.detach())
        return [gates[axis, :options] for axis, options in enumerate(self.cardinalities)]


def draw(probabilities: Sequence[NDArray[np.floating]], count: int, generator: np.random.Generator) -> Codes:
    """Codes (count, d) of independent decisions."""
    codes = np.zeros((count, len(probabilities)), np.int64)
    for axis, chances in enumerate(probabilities):
        steps = np.cumsum(chances.astype(np.float64))
        codes[:, axis] = np.searchsorted(steps / steps[-1], generator.random(count), side="right")
        codes[:, axis] = np.minimum(codes[:, axis], len(chances) - 1)
    return codes


class ExpectedLatency:
    """The latency in s that a distribution expects, differentiable: exact from the tables of a space.

    Without tables it is the mean over drawn networks, with the gradient of the log-derivative trick.
    """

    def __init__(self, costs: SpaceCosts, device: torch.device) -> None:
        self.costs = costs
        tables = [] if costs.tables is None else costs.tables.tables("latency_s")
        self._tables = [(axes, torch.from_numpy(values).to(device, torch.float64)) for axes, values in tables]

    def __call__(self, distribution: Distribution, generator: np.random.Generator) -> Tensor:
        if self.costs.tables is None:
            return self._drawn(distribution, generator)
        chances = [each.double() for each in distribution.probabilities]
        parts = [contracted(values, [chances[axis] for axis in axes]) for axes, values in self._tables]
        return torch.stack(parts).sum()

    def _drawn(self, distribution: Distribution, generator: np.random.Generator) -> Tensor:
        codes = distribution.draw(LATENCY_SAMPLES, generator)
        latency_s = torch.from_numpy(self.costs.latency_s(codes)).to(distribution.logits.device)
        mean = latency_s.mean()
        scored = ((latency_s - mean) * distribution.log_probability(codes).double()).mean()
        return mean + (scored - scored.detach())


def off_target(latency_s: Tensor, target_s: float) -> Tensor:
    """|latency / target - 1|, rounded off within `TOLERANCE` so that its gradient comes to rest at the target."""
    off = (latency_s / target_s - 1).float()
    return torch.where(off.abs() > TOLERANCE, off.abs() - TOLERANCE / 2, off.square() / (2 * TOLERANCE))


def pull(
    distribution: Distribution, expected: ExpectedLatency, target_s: float, most: float, generator: np.random.Generator
) -> None:
    """One Newton step of the logits towards the target, along the gradient of the expected latency, none above `most`.

    It does what a very large weight of the latency would, whatever the size of the loss beside it.
    """
    latency_s = expected(distribution, generator)
    if not latency_s.requires_grad:
        return  # all networks take the same time
    (slope,) = torch.autograd.grad(latency_s, [distribution.logits])
    steep = float(slope.square().sum())
    if steep == 0:
        return
    step = slope * ((target_s - float(latency_s.detach())) / steep)
    with torch.no_grad():
        distribution.logits.add_(step.clamp(-most, most))


def check_target(costs: SpaceCosts, target_s: float) -> None:
    """Raises `InvalidInput` where there is nothing to choose, `LimitImpossible` where no network is near the target."""
    if max(costs.graph.cardinalities, default=1) < 2:
        raise InvalidInput("the space has one network only, nothing is left to choose; train it with accuracy.train")
    if not 0 < target_s < float("inf"):
        raise InvalidInput(f"a target of {target_s} s is no latency; give one above 0")
    fastest = costs.minimum("latency_s")
    if costs.tables is None:
        lowest, highest = fastest.bound, float("inf")
    else:
        tables = [Table(axes, values) for axes, values in costs.tables.tables("latency_s")]
        low, high = extremes(tables, costs.graph.cardinalities)
        lowest, highest = low.bound, high.bound
    if not lowest * (1 - FARTHEST) <= target_s <= highest * (1 + FARTHEST):
        nearest = lowest if target_s < lowest else highest
        raise LimitImpossible(
            f"no network of the space takes {target_s:.4g} s: they take {lowest:.4g} to {highest:.4g} s; ask for "
            f"{nearest:.4g} s, or open more decisions"
        )


def landing(
    distribution: Distribution, costs: SpaceCosts, target_s: float, seed: int, most_s: float = math.inf
) -> tuple[Code, float]:
    """The most probable network within `TOLERANCE` of the target and its latency; the nearest found where none is.

    One above `most_s` is taken only where none below it was found. Looked for among draws, and among changes of up to
    two decisions of the most probable network.
    """
    chances = [each.detach().cpu().numpy() for each in distribution.probabilities]
    generator = np.random.default_rng(seed)
    mode = np.array([int(each.argmax()) for each in chances], np.int64)
    codes = np.unique(np.concatenate([_near(mode, chances), draw(chances, DRAWN, generator)]), axis=0)
    off = _off(costs.latency_s(codes), target_s, most_s)
    while off.min() > TOLERANCE:
        around = _near(codes[off.argmin()], chances)
        nearer = _off(costs.latency_s(around), target_s, most_s)
        if nearer.min() >= off.min():
            break
        codes, off = around, nearer
    allowed = np.flatnonzero(off <= max(TOLERANCE, float(off.min())))
    logs = distribution.log_probability(codes[allowed]).detach().cpu().numpy()
    best = allowed[np.lexsort((off[allowed], -logs))[0]]
    return tuple(codes[best].tolist()), float(costs.latency_s(codes[best : best + 1])[0])


def _off(latency_s: NDArray[np.float64], target_s: float, most_s: float) -> NDArray[np.float64]:
    """How far off the target, relative to it; above `most_s` farther than anything below."""
    return np.abs(latency_s / target_s - 1) + np.where(latency_s > most_s, _BEYOND, 0.0)


def _near(code: Codes, chances: Sequence[NDArray[np.floating]]) -> Codes:
    """The code, and it with one decision or two of the least improbable ones changed."""
    changes = [
        (float(each[code[axis]] / max(float(each[option]), 1e-12)), axis, option)
        for axis, each in enumerate(chances)
        for option in range(len(each))
        if option != code[axis]
    ]
    changes.sort()
    found = [code]
    for place, (_, axis, option) in enumerate(changes):
        single = code.copy()
        single[axis] = option
        found.append(single)
        for _, other, second in changes[:place] if place < MOST_PROBABLE else ():
            if other != axis:
                double = single.copy()
                double[other] = second
                found.append(double)
    return np.stack(found)
