"""Fresh codes to ask: canonical, never asked or told before, within the free limits, worth an evaluation."""

from collections.abc import Callable
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.search.algorithm import Codes, Domain, FreeCosts
from chipfit.search.history import History, codes_of, keys

Sampler = Callable[[int], Codes]
"""Draws so many codes, canonical or not, repeated or not."""

ENUMERATED_SIZE = 100_000
"""Spaces of at most so many codes are listed in full once sampling no longer finds enough."""

_ATTEMPTS = 4
_SMALLEST_BATCH = 64
_LEAST_SHARE = 0.25
_INITIAL_POOL, _ANCHORS, _SPREAD = 2048, 256, 64
_CLIMBERS, _MUTANTS, _ROUNDS = 64, 16, 32


def mutate(codes: Codes, cardinalities: tuple[int, ...], rate: float, generator: np.random.Generator) -> Codes:
    """Changes each decision with probability rate, and at least one per code: (n, d) -> (n, d).

    A changed decision moves to a neighbouring option or to any other one, each half of the time: options are
    often ordered (widths, sizes), but need not be. Decisions with one option stay.
    """
    options = np.asarray(cardinalities, dtype=np.int64)
    open_decisions = np.flatnonzero(options > 1)
    if not len(open_decisions):
        return codes.copy()
    rows = np.arange(len(codes))
    if rate > 0:
        changed = (generator.random(codes.shape) < rate) & (options > 1)
        untouched = np.flatnonzero(~changed.any(axis=1))
        changed[untouched, generator.choice(open_decisions, len(untouched))] = True
        rows, decisions = np.nonzero(changed)
    else:
        decisions = generator.choice(open_decisions, len(codes))
    old, last = codes[rows, decisions], options[decisions] - 1
    chance = generator.random((3, len(rows)))
    up = ((chance[0] < 0.5) | (old == 0)) & (old < last)
    other = (old + 1 + (chance[1] * last).astype(np.int64)) % (last + 1)
    mutants = codes.copy()
    mutants[rows, decisions] = np.where(chance[2] < 0.5, np.where(up, old + 1, old - 1), other)
    return mutants


def spread_choice(
    points: NDArray[np.float64], count: int, anchors: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int64]:
    """Indices of count of the points (n, k), spread evenly over their quantiles and away from anchors (a, k).

    Farthest-point choice (Gonzalez 1985) on the ranks of each objective, so that the first few already
    cover the range; after the first _SPREAD the rest is random. Without objectives or anchors the choice, or its
    start, is random.
    """
    if count >= len(points):
        return np.arange(len(points))
    if points.shape[1] == 0:
        return generator.permutation(len(points))[:count]
    everything = np.concatenate([points, anchors])
    # Random order first: argmax then breaks ties at random, not by the sampler's order.
    order = generator.permutation(len(points))
    places: list[NDArray[np.float64]] = []
    distance = np.full(len(points), np.inf)
    away = np.zeros((len(anchors), len(points)))
    for column in everything.T:
        distinct, inverse = np.unique(column, return_inverse=True)
        quantiles = inverse / max(1, len(distinct) - 1)
        places.append(quantiles[order])
        np.maximum(away, np.abs(places[-1] - quantiles[len(points) :, None]), out=away)
    if len(anchors):
        distance = away.min(axis=0)
    chosen = np.empty(min(count, _SPREAD), dtype=np.int64)
    for number in range(len(chosen)):
        farthest = int(distance.argmax())
        chosen[number] = farthest
        gap = np.abs(places[0] - places[0][farthest])
        for column in places[1:]:
            np.maximum(gap, np.abs(column - column[farthest]), out=gap)
        np.minimum(distance, gap, out=distance)
        distance[farthest] = -1.0
    rest = np.delete(order, chosen)[: count - len(chosen)]
    return np.concatenate([order[chosen], rest])


Names = dict[bytes, None]
"""Keys of codes in order, each once."""


def _first(found: Names, count: int) -> Names:
    return found if len(found) <= count else dict.fromkeys(islice(found, count))


class Proposals:
    """Keeps what was asked and told, and draws fresh codes with a bounded effort.

    Sampling comes first. Where it falls short, a space of at most ENUMERATED_SIZE codes is listed, so that
    exhaustion is exact; in a larger one independent hill climbs walk towards codes that are wanted.
    """

    def __init__(self, domain: Domain, generator: np.random.Generator) -> None:
        self.domain = domain
        self.history = History(domain)
        self._generator = generator
        self._pending: Names = {}
        self._admissible_exist = False
        self._listed: Codes | None = None
        self._fresh_share = 1.0
        self._rounds = _ROUNDS

    @property
    def seen(self) -> int:
        """How many different codes were asked or told."""
        return len(self._pending) + len(self.history)

    @property
    def pending(self) -> Codes:
        """Codes asked and not told yet, (n, d), oldest first."""
        return self._codes_of(self._pending)

    def tell(self, codes: Codes, objectives: NDArray[np.float64], violation: NDArray[np.float64] | None) -> list[int]:
        """Passes values on to the history and gives the positions of the codes in it, each once."""
        codes = self.domain.canonicalised(codes)
        names, free = keys(codes), self.domain.free_costs(codes)
        positions = self.history.add_canonical(codes, names, free, objectives, violation)
        self._admissible(free)
        for name in names:
            self._pending.pop(name, None)
        return positions

    def uniform(self, count: int) -> Codes:
        """Uniformly random codes (count, d)."""
        options = np.asarray(self.domain.cardinalities, dtype=np.int64)
        return (self._generator.random((count, len(options))) * options).astype(np.int64)

    def diverse(self, count: int) -> Codes:
        """Random codes (count, d), half of them leaning towards low or high options throughout.

        The cost of a uniformly random code is a sum of many terms and seldom far from its mean; where options
        are ordered, leaning codes reach the ends of the range.
        """
        codes = self.uniform(count)
        leaning = codes[: count // 2]
        exponents = 2.0 ** self._generator.uniform(-2.0, 2.0, (len(leaning), 1))
        share = self._generator.random(leaning.shape) ** exponents
        options = np.asarray(self.domain.cardinalities, dtype=np.int64)
        leaning[:] = np.minimum((share * options).astype(np.int64), options - 1)
        return codes

    def draw(self, count: int, sample: Sampler, pool: int, anchors: Codes | None = None) -> Codes:
        """At most count fresh codes (n, d), counted as asked from now on.

        Up to pool of them are drawn, of which those are taken that are spread over the free objectives and
        away from anchors (a, d). Where no code is known to meet the free limits, the codes found that
        violate them least are given. Raises InvalidInput for a negative count.
        """
        if count < 0:
            raise InvalidInput(f"{count} codes were asked for: the number must not be negative")
        if count == 0:
            return self._codes_of({})
        if self.domain.free is None:
            pool = count
        found = self._sampled(sample, count, max(count, min(pool, self.domain.size)))
        if len(found) < count:
            found |= self._sampled(self.uniform, count - len(found), count - len(found), excluded=found)
        if len(found) < count and self.domain.size <= ENUMERATED_SIZE:
            found |= self._enumerated(count - len(found), excluded=found)
        elif len(found) < count:
            found |= self._climbed(count - len(found), excluded=found)
        if len(found) > count:
            found = self._spread(found, count, anchors)
        self._pending.update(found)
        return self._codes_of(found)

    def take(self, codes: Codes, count: int) -> Codes:
        """The first count of codes (n, d) that are fresh, in their order, counted as asked from now on."""
        found = _first(self._fresh(codes, {}), count)
        self._pending.update(found)
        return self._codes_of(found)

    def initial(self, count: int) -> Codes:
        """Fresh codes (n, d) to start from: the zero code, then a cover of the free objectives."""
        zero = np.zeros((1, len(self.domain.cardinalities)), dtype=np.int64)
        first = self._fresh(zero, {}) if count > 0 else {}
        self._pending.update(first)
        latest = range(max(0, len(self.history) - _ANCHORS), len(self.history))
        anchors = np.concatenate([self.history.codes(latest), self.pending])[-_ANCHORS:]
        rest = self.draw(count - len(first), self.diverse, _INITIAL_POOL, anchors)
        return np.concatenate([self._codes_of(first), rest])

    def _codes_of(self, names: Names) -> Codes:
        return codes_of(list(names), len(self.domain.cardinalities))

    def _spread(self, found: Names, count: int, anchors: Codes | None) -> Names:
        codes = self._codes_of(found)
        points = self.domain.free_costs(codes).objectives
        away = points[:0] if anchors is None or not points.shape[1] else self.domain.free_costs(anchors).objectives
        chosen = spread_choice(points, count, away, self._generator)
        return dict.fromkeys(keys(codes[chosen]))

    def _admissible(self, costs: FreeCosts) -> NDArray[np.bool_]:
        """Which codes meet the free limits; remembers whether any ever did."""
        admissible = costs.violation <= 0
        self._admissible_exist |= bool(admissible.any())
        return admissible

    def _wanted(self, costs: FreeCosts) -> NDArray[np.bool_]:
        return self._admissible(costs) & ~self.history.shadowed(costs.objectives)

    def _unseen(self, codes: Codes, excluded: Names) -> Names:
        pending, told = self._pending, self.history.names
        found = dict.fromkeys(keys(codes))
        return {name: None for name in found if name not in told and name not in pending and name not in excluded}

    def _fresh(self, codes: Codes, excluded: Names) -> Names:
        codes = self.domain.canonicalised(codes)
        return self._unseen(codes[self._wanted(self.domain.free_costs(codes))], excluded)

    def _sampled(self, sample: Sampler, count: int, pool: int, excluded: Names | None = None) -> Names:
        """The first fresh codes, at most pool, of one batch and of further, growing ones until count are found."""
        batch = sample(max(_SMALLEST_BATCH, int(pool / self._fresh_share)))
        found = self._fresh(batch, excluded or {})
        self._fresh_share = min(1.0, max(0.9 * len(found) / max(1, len(batch)), _LEAST_SHARE))
        for attempt in range(1, _ATTEMPTS):
            if len(found) >= count:
                break
            found |= self._fresh(sample(max(count - len(found), _SMALLEST_BATCH) << attempt), excluded or {})
        return _first(found, pool)

    def _enumerated(self, count: int, excluded: Names) -> Names:
        """Fresh codes from the whole space at random; the least violation where none is admissible."""
        if self._listed is None:
            self._listed = self._listing()
        unseen = self._codes_of(self._unseen(self._listed, {}))
        self._listed = unseen
        costs = self.domain.free_costs(unseen)
        if self._admissible_exist:
            candidates = self._generator.permutation(np.flatnonzero(self._wanted(costs)))
        else:
            candidates = np.argsort(costs.violation, kind="stable")
        return _first(self._unseen(unseen[candidates], excluded), count)

    def _listing(self) -> Codes:
        remainder = np.arange(self.domain.size)
        codes = np.empty((self.domain.size, len(self.domain.cardinalities)), dtype=np.int64)
        for decision, cardinality in enumerate(self.domain.cardinalities):
            remainder, codes[:, decision] = np.divmod(remainder, cardinality)
        codes = self._codes_of(self._unseen(self.domain.canonicalised(codes), {}))
        self._admissible(self.domain.free_costs(codes))
        return codes

    def _climbed(self, count: int, excluded: Names) -> Names:
        """Fresh codes from random hill climbs: to within the limits, then out of the front's shadow."""
        found: Names = {}
        climbers = nearest = self.domain.canonicalised(self.uniform(_CLIMBERS))
        for _ in range(self._rounds):
            parents = np.repeat(climbers, _MUTANTS, axis=0)
            children = mutate(parents, self.domain.cardinalities, 1.0 / parents.shape[1], self._generator)
            children = self.domain.canonicalised(children)
            everyone = np.concatenate([climbers[:, None], children.reshape(_CLIMBERS, _MUTANTS, -1)], axis=1)
            flat = everyone.reshape(-1, everyone.shape[2])
            costs = self.domain.free_costs(flat)
            wanted = self._wanted(costs)
            found |= self._unseen(flat[wanted], excluded)
            if len(found) >= count:
                self._rounds = _ROUNDS
                return _first(found, count)
            shadow = np.maximum(self.history.dominated_by(costs.objectives), 0.0)
            order = np.lexsort((shadow, costs.violation, np.repeat(np.arange(_CLIMBERS), 1 + _MUTANTS)))
            climbers = flat[order[:: 1 + _MUTANTS]]
            nearest = flat[np.argsort(costs.violation, kind="stable")]
        # What is told only narrows what is wanted: where a climb fell short, the next one is likely to as well.
        self._rounds = max(1, self._rounds // 2)
        if not self._admissible_exist:
            found |= self._unseen(nearest, excluded)
        return _first(found, count)
