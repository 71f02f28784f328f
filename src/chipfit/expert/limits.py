"""The set of changes that meets limits and risks least, out of advice on a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.estimate.estimator import SpaceCosts
from chipfit.expert.advice import Advice
from chipfit.expert.changes import Carried
from chipfit.expert.sets import ROUNDING, restricted

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

LIMITS = {"latency": "latency_s", "energy": "energy_j", "weights": "weight_bytes", "memory": "peak_bytes"}
"""Costs that can be limited, and their fields in `Costs`."""

RISKS: Mapping[Carried, float] = {"exact": 0.1, "approximate": 1.0, "reinitialised": 2.0}
SACRIFICE = 4.0
FURTHER = 0.1
"""What a change counts as risk to accuracy: more where weights are lost, most where detail or channels are given up,
and a little more for every further option of one decision. An order, not a measure: nobody knows what a change costs
before it is trained."""

EVERYTHING = 1 << 16
"""Sets up to which all are looked at."""
WIDTH, KEPT = 64, 16
"""Sets that are followed at a time where there are more, and those that are looked at for what they do not need."""

SMALLEST = 0.1
"""Risk that the smallest step counts as, so that one without risk is not infinitely good."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A set of changes. Where `broken` is not empty no set was found that meets all limits: this one comes closest, and
    `broken` says how far each limit is exceeded, as a share of it. `complete` says that all sets were looked at."""

    code: tuple[int, ...]
    broken: Mapping[str, float]
    complete: bool


def least_risk(advice: Advice, limits: Mapping[str, float]) -> Chosen:
    """The set of changes with least risk among those that meet all limits (seconds, joules, bytes).

    All sets are looked at where they are few; else many are grown change by change, and what a set does not need is
    taken out of it again. Raises `InvalidInput` for an unknown cost and a limit that is not above 0.
    """
    for name, bound in limits.items():
        if name not in LIMITS:
            raise InvalidInput(f"limit on {name!r}: costs that can be limited are {', '.join(LIMITS)}")
        if not (math.isfinite(bound) and bound > 0):
            raise InvalidInput(f"limit {name} = {bound}: must be above 0")
    options = _options(advice)
    offered = _Offered(
        advice.estimator.prepare(restricted(advice.changes, options)), _risks(advice, options), dict(limits)
    )
    sets = math.prod(map(len, options))
    codes = offered.all() if sets <= EVERYTHING else offered.grown()
    excess = offered.excess(codes)
    total, risk = offered.total(codes), offered.risk(codes)
    best = int(np.lexsort((offered.prepared.latency_s(codes), risk, total))[0])
    broken = {name: float(values[best]) for name, values in excess.items() if values[best] > 0}
    code = tuple(kept[option] for kept, option in zip(options, codes[best], strict=True))
    return Chosen(code, broken, sets <= EVERYTHING)


def _options(advice: Advice) -> list[list[int]]:
    """The options of every decision that advice lists as worth something, behind that of the network as given."""
    found: list[set[int]] = [{0} for _ in advice.changes.space.decisions]
    for item in advice.advised:
        found[item.change.decision].add(item.change.option)
    # Of what is given up, less may do: all lesser options of the same decision.
    for item in advice.sacrifices:
        found[item.change.decision] |= {change.option for change in advice.changes.of(item.change.decision)}
    return [sorted(kept) for kept in found]


def _risks(advice: Advice, options: Sequence[Sequence[int]]) -> list[Floats]:
    """The risk of every option that is offered; the further an option of one decision goes, the more it risks."""
    weight = {
        (change.decision, change.option): SACRIFICE if change.sacrifice else RISKS[change.carried]
        for change in advice.changes.known
    }
    return [
        np.array([weight.get((decision, option), 0.0) * (1 + FURTHER * option) for option in kept])
        for decision, kept in enumerate(options)
    ]


@dataclass(frozen=True, eq=False)
class _Offered:
    """The sets that are offered, as codes (n, d) of a space of their own, with the `risks` of its options."""

    prepared: SpaceCosts
    risks: Sequence[Floats]
    limits: Mapping[str, float]

    def all(self) -> Codes:
        """All sets."""
        lengths = np.array([len(risk) for risk in self.risks])
        steps = np.cumprod([1, *lengths[:-1]])
        return np.arange(lengths.prod())[:, None] // steps % lengths

    def grown(self) -> Codes:
        """Sets that meet the limits, or come near: change by change, the best of all sets with one more."""
        front = np.zeros((1, len(self.risks)), np.int64)
        seen = [front]
        for _ in range(sum(len(risk) > 1 for risk in self.risks)):
            total = self.total(front)
            if (total == 0).any():
                break
            more = np.unique(np.concatenate([self._neighbours(front), front]), axis=0)
            after, risk = self.total(more), self.risk(more)
            # A step that lowers what is too much by a little, at little risk, may lead further than the lowest.
            steps = (total.min() - after) / np.maximum(risk, SMALLEST)
            chosen = [np.lexsort((risk, after))[: WIDTH // 2], np.argsort(-steps)[: WIDTH // 2]]
            front = more[np.unique(np.concatenate(chosen))]
            seen.append(front)
        found = np.unique(np.concatenate(seen), axis=0)
        order = np.lexsort((self.risk(found), self.total(found)))[:KEPT]
        return np.concatenate([found[order], *[self._reduced(found[place])[None] for place in order]])

    def _neighbours(self, codes: Codes) -> Codes:
        found: list[Codes] = []
        for decision, risk in enumerate(self.risks):
            for option in range(len(risk)):
                changed = codes[codes[:, decision] != option].copy()
                changed[:, decision] = option
                found.append(changed)
        return np.concatenate(found)

    def _reduced(self, code: Codes) -> Codes:
        """A set without what it does not need: as long as another option of one decision leaves the limits no more
        broken and risks less, the one that risks least."""
        while True:
            tried = self._neighbours(code[None])
            total, risk = self.total(tried), self.risk(tried)
            better = (total <= self.total(code[None])[0]) & (risk < self.risk(code[None])[0])
            if not better.any():
                return code
            code = tried[better][int(risk[better].argmin())]

    def risk(self, codes: Codes) -> Floats:
        """The risks (n,) of sets."""
        return np.sum([risk[codes[:, decision]] for decision, risk in enumerate(self.risks)], axis=0)

    def excess(self, codes: Codes) -> dict[str, Floats]:
        """How far sets (n,) exceed each limit, as a share of it."""
        costs = self.prepared.at(codes)
        taken = {name: np.asarray(getattr(costs, LIMITS[name]), np.float64) for name in self.limits}
        over = {name: taken[name] / bound - 1 for name, bound in self.limits.items()}
        return {name: np.where(share > ROUNDING, share, 0) for name, share in over.items()}

    def total(self, codes: Codes) -> Floats:
        """The sum (n,) of what sets exceed."""
        return np.sum([np.zeros(len(codes)), *self.excess(codes).values()], axis=0)
