"""The set of changes that meets limits and risks least, out of advice on a network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.estimate.accumulate import Costs
from chipfit.expert.advice import Advice
from chipfit.expert.changes import Carried

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]

LIMITS = {"latency": "latency_s", "energy": "energy_j", "weights": "weight_bytes", "memory": "peak_bytes"}
"""Costs that can be limited, and their fields in `Costs`."""

RISKS: Mapping[Carried, float] = {"exact": 0.1, "approximate": 1.0, "reinitialised": 2.0}
SACRIFICE = 4.0
"""What a change counts as risk to accuracy: more where weights are lost, most where detail or channels are given up.
An order, not a measure: nobody knows what a change costs before it is trained."""

EVERYTHING = 1 << 16
"""Sets up to which all are looked at."""
WIDTH = 64
"""Sets that are followed at a time where there are more."""


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
    sets = math.prod(len(kept) for kept in options.values())
    codes = _all(advice, options) if sets <= EVERYTHING else _grown(advice, options, limits)
    excess = _excess(advice, codes, limits)
    total, risk = sum(excess.values(), start=np.zeros(len(codes))), _risk(advice, codes)
    best = int(np.lexsort((advice.prepared.latency_s(codes), risk, total))[0])
    broken = {name: float(values[best]) for name, values in excess.items() if values[best] > 0}
    return Chosen(tuple(int(option) for option in codes[best]), broken, sets <= EVERYTHING)


def _options(advice: Advice) -> dict[int, list[int]]:
    """The options of every decision that advice lists as worth something, with that of the network as given."""
    found: dict[int, set[int]] = {}
    offered = (*advice.advised, *advice.sacrifices)
    for item in offered:
        found.setdefault(item.change.decision, {0}).add(item.change.option)
    # Of what is given up, less may do: all lesser options of the same decision.
    for item in advice.sacrifices:
        found[item.change.decision] |= {change.option for change in advice.changes.of(item.change.decision)}
    return {decision: sorted(kept) for decision, kept in sorted(found.items())}


def _all(advice: Advice, options: Mapping[int, Sequence[int]]) -> Codes:
    grid = np.meshgrid(*options.values(), indexing="ij") if options else []
    codes = np.zeros((math.prod(len(kept) for kept in options.values()), len(advice.changes.space.decisions)), np.int64)
    for decision, values in zip(options, grid, strict=True):
        codes[:, decision] = values.ravel()
    return codes


def _grown(advice: Advice, options: Mapping[int, Sequence[int]], limits: Mapping[str, float]) -> Codes:
    """Sets that meet the limits, or come near: from several starts, the best of all sets with one change more."""
    count = len(advice.changes.space.decisions)
    front = np.unique(np.stack([np.zeros(count, np.int64), np.array(advice.code, np.int64)]), axis=0)
    seen = [front]
    for _ in range(len(options)):
        total = _total(advice, front, limits)
        if (total == 0).any():
            break
        more = np.unique(np.concatenate([_neighbours(front, options), front]), axis=0)
        order = np.lexsort((_risk(advice, more), _total(advice, more, limits)))
        # A step that lowers what is too much by a little, at little risk, may lead further than the lowest.
        per_risk = (total.min() - _total(advice, more, limits)) / np.maximum(_risk(advice, more), 0.1)
        front = more[np.unique(np.concatenate([order[: WIDTH // 2], np.argsort(-per_risk)[: WIDTH // 2]]))]
        seen.append(front)
    found = np.unique(np.concatenate(seen), axis=0)
    order = np.lexsort((_risk(advice, found), _total(advice, found, limits)))[:WIDTH]
    return np.concatenate([found[order], *[_reduced(advice, found[place], options, limits)[None] for place in order]])


def _neighbours(codes: Codes, options: Mapping[int, Sequence[int]]) -> Codes:
    found: list[Codes] = []
    for decision, kept in options.items():
        for option in kept:
            changed = codes[codes[:, decision] != option].copy()
            changed[:, decision] = option
            found.append(changed)
    return np.concatenate(found)


def _reduced(advice: Advice, code: Codes, options: Mapping[int, Sequence[int]], limits: Mapping[str, float]) -> Codes:
    """A set without what it does not need: as long as a change of one decision leaves no limit more broken and risks
    less, the one that risks least."""
    while True:
        tried = _neighbours(code[None], options)
        total, risk = _total(advice, tried, limits), _risk(advice, tried)
        better = (total <= _total(advice, code[None], limits)[0]) & (risk < _risk(advice, code[None])[0])
        if not better.any():
            return code
        code = tried[better][int(risk[better].argmin())]


def _risk(advice: Advice, codes: Codes) -> Floats:
    weight = {
        (change.decision, change.option): SACRIFICE if change.sacrifice else RISKS[change.carried]
        for change in advice.changes.known
    }
    total = np.zeros(len(codes))
    for decision, item in enumerate(advice.changes.space.decisions):
        table = np.array([weight.get((decision, option), 0.0) for option in range(len(item.options))])
        # The further an option of one decision goes, the more it risks.
        table = table * (1 + 0.1 * np.arange(len(table)))
        total += table[codes[:, decision]]
    return total


def _excess(advice: Advice, codes: Codes, limits: Mapping[str, float]) -> dict[str, Floats]:
    costs = advice.prepared.at(codes)
    return {name: np.maximum(_column(costs, name) / bound - 1, 0) for name, bound in limits.items()}


def _total(advice: Advice, codes: Codes, limits: Mapping[str, float]) -> Floats:
    return sum(_excess(advice, codes, limits).values(), start=np.zeros(len(codes)))


def _column(costs: Costs, name: str) -> Floats:
    return np.asarray(getattr(costs, LIMITS[name]), np.float64)
