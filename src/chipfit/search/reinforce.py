"""Policy gradient over integer codes: independent distributions over the options of each decision."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.search.algorithm import Codes, Domain
from chipfit.search.proposals import Proposals

Floats = NDArray[np.float64]

Reward = Callable[[Floats, Floats], Floats]
"""What to maximise: objectives (n, m) and the spread (m,) of those told so far -> (n,). A sum of terms of which each
depends on free objectives alone or on paid ones alone."""

_FREE_SAMPLE, _LATEST = 256, 256
_SMOOTHING, _LARGEST = 0.9, 3.0
_EXPLORATION = 0.05


@dataclass(frozen=True, slots=True)
class Weighted:
    """Minus the weighted sum of the objectives, each in units of its spread; without weights all weigh the same."""

    weights: tuple[float, ...] = ()

    def __call__(self, objectives: Floats, spread: Floats) -> Floats:
        """Objectives (n, m), spread (m,) -> (n,). Raises InvalidInput for another number of weights than m."""
        if self.weights and len(self.weights) != objectives.shape[1]:
            raise InvalidInput(f"{len(self.weights)} weights for {objectives.shape[1]} objectives: give one for each")
        return -(objectives / spread) @ (np.asarray(self.weights) if self.weights else np.ones(objectives.shape[1]))


@dataclass(frozen=True, slots=True)
class AbsoluteTarget:
    """Minus the other objectives, and minus the distance of one from its target as a fraction of it.

    The search lands on the target instead of below it, as it does with a limit. The strength is in the unit of the
    other objectives; 0.07 is for accuracies as fractions of 1. Source: Bender et al. 2020 (TuNAS), section 4.
    Raises InvalidInput for a target or a strength that is not positive.
    """

    target: float
    strength: float = 0.07
    column: int = 0

    def __post_init__(self) -> None:
        if not (self.target > 0 and self.strength > 0):
            raise InvalidInput(f"target {self.target}, strength {self.strength}: both must be positive")

    def __call__(self, objectives: Floats, spread: Floats) -> Floats:
        """Objectives (n, m) -> (n,)."""
        distance = np.abs(objectives[:, self.column] / self.target - 1.0)
        return -np.delete(objectives, self.column, axis=1).sum(axis=1) - self.strength * distance


class Reinforce:
    """REINFORCE with a moving baseline (Williams 1992; for architectures Zoph and Le 2017, Bender et al. 2020).

    A policy draws each decision from a distribution of its own. Every code told moves it by learning_rate times its
    advantage over the moving average of rewards, in units of the standard deviation of the latest. The part of the
    reward that is free is a control variate: its gradient comes from many samples of the policy, none of them
    evaluated. A code that breaks a limit counts as worse than all that do not, the more the further it is from it; a
    failed one as badly as the furthest. The first `start` codes cover the free objectives.
    Raises InvalidInput for a learning rate that is not positive or a start below 1.
    """

    def __init__(
        self, domain: Domain, seed: int, reward: Reward | None = None, learning_rate: float = 0.1, start: int = 16
    ) -> None:
        if not learning_rate > 0 or start < 1:
            raise InvalidInput(f"learning rate {learning_rate}, start {start}: give a positive rate and at least 1")
        self._generator = np.random.default_rng(seed)
        self._proposals = Proposals(domain, self._generator)
        self._reward = Weighted() if reward is None else reward
        self._learning_rate = learning_rate
        self._start = start
        self._told: list[int] = []
        self._baseline, self._unit = np.nan, 1.0
        self._worst, self._largest = np.inf, 0.0
        most = max(domain.cardinalities, default=1)
        self._closed = np.arange(most) >= np.asarray(domain.cardinalities, dtype=np.int64)[:, None]
        self._logits = np.zeros(self._closed.shape)

    @property
    def probabilities(self) -> tuple[Floats, ...]:
        """The policy: how likely each option of each decision is."""
        counts = self._proposals.domain.cardinalities
        return tuple(row[:count].copy() for row, count in zip(self._policy(), counts, strict=True))

    def ask(self, n: int) -> Codes:
        """At most n fresh codes, see `Algorithm.ask`: first a diverse sample, then samples of the policy."""
        self._renew()
        if self._proposals.seen < self._start:
            return self._proposals.initial(n)
        return self._proposals.draw(n, self._sample, pool=n)

    def tell(self, codes: Codes, objectives: NDArray[np.float64], violation: NDArray[np.float64] | None = None) -> None:
        """Values of codes, see `Algorithm.tell`."""
        self._told += self._proposals.tell(codes, objectives, violation)

    def _policy(self) -> Floats:
        weights = np.where(self._closed, 0.0, np.exp(self._logits - self._logits.max(axis=1, keepdims=True)))
        return weights / weights.sum(axis=1, keepdims=True)

    def _sample(self, count: int) -> Codes:
        uniform = ~self._closed / (~self._closed).sum(axis=1, keepdims=True)
        policy = (1 - _EXPLORATION) * self._policy() + _EXPLORATION * uniform
        below = policy.cumsum(axis=1)[:, :-1]
        codes = (self._generator.random((count, len(policy), 1)) >= below).sum(axis=2)
        return np.minimum(codes, np.asarray(self._proposals.domain.cardinalities, dtype=np.int64) - 1)

    def _renew(self) -> None:
        """Moves the policy by all that was told since it was last asked."""
        told, self._told = list(dict.fromkeys(self._told)), []
        history = self._proposals.history
        latest = history.succeeded(range(max(0, len(history) - _LATEST), len(history)))
        if not told or not latest:
            return
        recent = history.objectives(latest)
        deviation = recent.std(axis=0)
        spread = np.where(deviation > 0, deviation, 1.0)
        codes, objectives, violation = history.codes(told), history.objectives(told), history.violation(told)
        known = self._proposals.domain.free_costs(codes[:0]).objectives.shape[1]
        rewards = self._reward(recent, spread)
        self._unit = float(rewards.std()) or 1.0
        share = _share(rewards, self._free_reward(recent[:, :known], spread))
        rewards = self._reward(objectives, spread) - share * self._free_reward(objectives[:, :known], spread)
        self._move(codes, self._advantages(self._penalised(rewards, violation)), self._learning_rate)
        if share > 0:
            sample = self._proposals.domain.canonicalised(self._sample(_FREE_SAMPLE))
            costs = self._proposals.domain.free_costs(sample)
            rewards = _lowered(share * self._free_reward(costs.objectives, spread), costs.violation, self._unit)
            rate = self._learning_rate * len(told) / len(sample)
            self._move(sample, (rewards - rewards.mean()) / self._unit, rate)

    def _free_reward(self, free_objectives: Floats, spread: Floats) -> Floats:
        """The part of the reward, but for a constant, that the free objectives (n, k) make up: (n,)."""
        paid = np.zeros((len(free_objectives), len(spread) - free_objectives.shape[1]))
        return self._reward(np.concatenate([free_objectives, paid], axis=1), spread)

    def _penalised(self, rewards: Floats, violation: Floats) -> Floats:
        """Rewards (n,) with failed and infeasible codes below all others told so far."""
        failed = np.isnan(rewards)
        good = rewards[~failed & (violation <= 0)]
        self._worst = min(self._worst, float(good.min())) if len(good) else self._worst
        self._largest = max(self._largest, float(violation.max()))
        floor = self._worst if np.isfinite(self._worst) else 0.0
        share = violation / self._largest if self._largest > 0 else violation
        rewards = np.where(violation > 0, floor - self._unit * share, rewards)
        return np.where(failed, floor - self._unit, rewards)

    def _advantages(self, rewards: Floats) -> Floats:
        mean = float(rewards.mean())
        if np.isnan(self._baseline):
            self._baseline = mean
        advantages = np.clip((rewards - self._baseline) / self._unit, -_LARGEST, _LARGEST)
        self._baseline += (1 - _SMOOTHING) * (mean - self._baseline)
        return advantages

    def _move(self, codes: Codes, advantages: Floats, rate: float) -> None:
        """A step along the sum of advantage times the gradient of log-probability, over codes (n, d)."""
        step = -advantages.sum() * self._policy()
        for decision, column in enumerate(codes.T):
            step[decision] += np.bincount(column, advantages, minlength=step.shape[1])
        self._logits += rate * step


def _share(rewards: Floats, free: Floats) -> float:
    """How much of the free part is best averaged over the policy: the coefficient of a control variate, 0 to 1.

    Where what is paid for pulls the other way, the reward of a code says more than its parts: the share is then small.
    """
    centred = free - free.mean()
    variance = float(centred @ centred)
    return float(np.clip(centred @ rewards / variance, 0.0, 1.0)) if variance > 0 else 0.0


def _lowered(rewards: Floats, violation: Floats, unit: float) -> Floats:
    """Rewards (n,) with those of codes that break free limits below all others."""
    broken = violation > 0
    if not broken.any():
        return rewards
    floor = float(rewards[~broken].min()) if not broken.all() else 0.0
    return np.where(broken, floor - unit * violation / violation.max(), rewards)
