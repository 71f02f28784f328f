"""Predictor-guided search: a surrogate over codes says which of them are worth an evaluation."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from chipfit.search.acquisition import expected_improvement
from chipfit.search.algorithm import Codes, Domain, Hints
from chipfit.search.features import Describe, Features
from chipfit.search.history import keys
from chipfit.search.pareto import front_mask
from chipfit.search.proposals import ENUMERATED_SIZE, Proposals, mutate, spread_choice

Floats = NDArray[np.float64]
Rows = NDArray[np.int64]

Predict = Callable[[Features], tuple[Floats, Floats]]
"""Expected value and spread (one standard deviation, above 0) of n networks: (n,), (n,)."""

Fit = Callable[[Features, Floats], Predict]
"""Learns from the features of n >= 2 networks and their values (n,), of which the smaller is the better."""

START = 6
"""So many networks are evaluated before the surrogate decides."""

POOL = 512
"""So many candidates are drawn at random, so many near the best found, and so many with the best hints."""

CLIMBS = 2
"""So many times the neighbours of the candidates worth most become candidates."""

_SAMPLE = 4096
_ELITE, _FRONT = 24, 64
_COMPARED = 256
_UNCERTAIN = 0.5


@dataclass(frozen=True, slots=True, eq=False)
class _Candidates:
    codes: Codes
    features: Features
    free: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Learned:
    """What surrogates say of features: objectives that are paid for (n, p), their spreads, the chance to be feasible
    (n,); `reached` are the objectives (k, m) of what was told, the free ones first."""

    predict: Callable[[Features], tuple[Floats, Floats, Floats]]
    reached: Floats


@dataclass(frozen=True, slots=True, eq=False)
class _Known:
    """What was told of codes that did not fail; free (n, k) and paid (n, p) are their objectives."""

    features: Features
    free: Floats
    paid: Floats
    feasible: NDArray[np.bool_]


class Guided:
    """Bayesian optimisation over codes: fit(features, values) learns each objective that is paid for.

    The next code is the one with the largest expected hypervolume improvement times the probability of meeting the
    limits that are paid for. Free objectives enter exactly and free limits are never broken. In a batch, and for codes
    that were asked and not told, what is expected counts as reached (the kriging believer of Ginsbourger et al. 2010).
    hints (see `Hints`) choose the first codes, half of them, the other half being unlike all others; from then on they
    are features, whose worth the surrogate learns. Without hints the first codes are spread over the free objectives.
    Failed evaluations count as codes that break a limit. `offered` codes (s, d) are always among the candidates.
    """

    def __init__(
        self, domain: Domain, seed: int, fit: Fit, hints: Hints | None = None, offered: Codes | None = None
    ) -> None:
        self._generator = np.random.default_rng(seed)
        self._proposals = Proposals(domain, self._generator)
        self._domain = domain
        self._fit = fit
        self._hinted = hints is not None
        self._listing: _Candidates | None = None
        self._numbers: dict[bytes, int] = {}
        listed = _listed(domain) if domain.size <= ENUMERATED_SIZE else None
        sample = listed if listed is not None else domain.canonicalised(self._proposals.diverse(_SAMPLE))
        self._offered = domain.canonicalised(sample[:0] if offered is None else offered)
        sample = np.unique(np.concatenate([sample, self._offered]), axis=0) if listed is None else sample
        self._describe = Describe(domain, hints, sample)
        if listed is not None:
            self._listing = _Candidates(listed, self._describe(listed), domain.free_costs(listed).objectives)
            self._numbers = {key: number for number, key in enumerate(keys(listed))}

    def ask(self, n: int) -> Codes:
        """At most n fresh codes, see `Algorithm.ask`: first those that hints or a cover of the space suggest."""
        history = self._proposals.history
        alive = history.succeeded(range(len(history)))
        if n <= 0 or (len(alive) < START and not self._hinted):
            return self._proposals.initial(n)
        candidates, known = self._candidates(alive), self._known(alive)
        if len(alive) < START:
            rows = self._opening(candidates, known, n)
        else:
            learned = self._learned(known)
            candidates = self._climbed(candidates, learned)
            rows = _greedy(candidates, learned, n)
        ranked = candidates.codes[rows]
        return self._proposals.draw(n, lambda _: ranked, pool=n)

    def tell(self, codes: Codes, objectives: Floats, violation: Floats | None = None) -> None:
        """Values of codes, see `Algorithm.tell`."""
        self._proposals.tell(codes, objectives, violation)

    def _known(self, alive: list[int]) -> _Known:
        history = self._proposals.history
        codes = history.codes(alive)
        free = self._domain.free_costs(codes)
        objectives = history.objectives(alive)
        paid = objectives[:, free.objectives.shape[1] :] if len(alive) else np.empty((0, 1))
        return _Known(self._describe(codes), free.objectives, paid, history.violation(alive) <= 0)

    def _climbed(self, candidates: _Candidates, learned: _Learned) -> _Candidates:
        """The best candidates and their neighbours, a few times over: of a large space few are drawn at random.

        Where all codes of a space are listed, the candidates stay.
        """
        for _ in range(CLIMBS if self._listing is None and len(candidates.codes) else 0):
            best = candidates.codes[_greedy(candidates, learned, 1)[:_COMPARED]]
            parents = best[self._generator.integers(0, min(_ELITE, len(best)), POOL // 2)]
            children = self._neighbours(parents)
            candidates = self._within(np.concatenate([best, children]))
        return candidates

    def _neighbours(self, parents: Codes) -> Codes:
        cardinalities = self._domain.cardinalities
        children = mutate(parents, cardinalities, 0.5 / max(1, len(cardinalities)), self._generator)
        return np.unique(self._domain.canonicalised(children), axis=0)

    def _candidates(self, alive: list[int]) -> _Candidates:
        """Fresh codes within the free limits: random ones, ones near the best, ones with the best hints."""
        drawn = [self._random(), self._offered]
        if alive:
            drawn.append(self._near(alive))
        if self._hinted and self._listing is not None:
            order = np.argsort(-self._listing.features.hints.mean(axis=1), kind="stable")
            drawn.append(self._listing.codes[order[:POOL]])
        return self._within(np.concatenate(drawn))

    def _within(self, codes: Codes) -> _Candidates:
        """Those of some codes that are fresh and within the free limits, each once."""
        history = self._proposals.history
        seen = {*keys(history.codes(range(len(history)))), *keys(self._proposals.pending)}
        fresh = {key: row for row, key in enumerate(keys(codes)) if key not in seen}
        codes = codes[list(fresh.values())]
        costs = self._domain.free_costs(codes)
        # In random order, so that of equal candidates none is preferred.
        rows = self._generator.permutation(np.flatnonzero(costs.violation <= 0))
        codes = codes[rows]
        if self._listing is None:
            return _Candidates(codes, self._describe(codes), costs.objectives[rows])
        numbers = np.array([self._numbers[key] for key in keys(codes)], dtype=np.int64)
        return _Candidates(codes, self._listing.features.at(numbers), costs.objectives[rows])

    def _random(self) -> Codes:
        if self._listing is None:
            return self._domain.canonicalised(self._proposals.diverse(POOL))
        return self._listing.codes[self._generator.permutation(len(self._listing.codes))[:POOL]]

    def _near(self, alive: list[int]) -> Codes:
        """Codes that differ in a decision or two from the front and the most accurate found."""
        history = self._proposals.history
        objectives, violation = history.objectives(alive), history.violation(alive)
        good = np.lexsort((objectives[:, -1], violation))[:_ELITE]
        front = np.flatnonzero(front_mask(objectives, violation))[:_FRONT]
        elite = history.codes([alive[row] for row in np.union1d(good, front)])
        return self._neighbours(elite[self._generator.integers(0, len(elite), 2 * POOL)])

    def _opening(self, candidates: _Candidates, known: _Known, count: int) -> Rows:
        """In turn the most promising by the hints, and the least like all others."""
        history = self._proposals.history
        asked = np.concatenate([history.codes(range(len(history))), self._proposals.pending])
        promising = _greedy(candidates, self._guessed(known), count).tolist()
        unlike = self._unlike(candidates, asked, count).tolist()
        picked: dict[int, None] = {}
        for number in range(min(count, len(promising))):
            queue = promising if (len(asked) + number) % 2 == 0 else unlike
            picked[next(row for row in queue if row not in picked)] = None
        return np.array(list(picked), dtype=np.int64)

    def _unlike(self, candidates: _Candidates, asked: Codes, count: int) -> Rows:
        """Rows far from one another and from what was asked: by free objectives, or by options among good hints."""
        if candidates.free.shape[1]:
            away = self._domain.free_costs(asked).objectives
            return spread_choice(candidates.free, 2 * count, away, self._generator)
        score = candidates.features.hints.mean(axis=1)
        better = np.argsort(-score, kind="stable")[: max(2 * count, len(score) // 2)]
        options = candidates.features.options[better]
        return better[_farthest(options, self._describe(asked).options, 2 * count)]

    def _guessed(self, known: _Known) -> _Learned:
        """Before anything is known: the hints, and a spread that says so."""
        objectives = max(1, known.paid.shape[1])

        def predict(features: Features) -> tuple[Floats, Floats, Floats]:
            mean = np.repeat(-features.hints.mean(axis=1)[:, None], objectives, axis=1)
            return mean, np.full_like(mean, _UNCERTAIN), np.ones(len(features))

        return _Learned(predict, np.empty((0, known.free.shape[1] + objectives)))

    def _learned(self, known: _Known) -> _Learned:
        """A surrogate for each objective that is paid for, and one for what breaks limits or fails."""
        paid = np.stack([compressed(column) for column in known.paid.T], axis=1) if known.paid.size else known.paid
        surrogates = [self._fit(known.features, column) for column in paid.T]
        feasible = self._feasible()

        def predict(features: Features) -> tuple[Floats, Floats, Floats]:
            found = [surrogate(features) for surrogate in surrogates]
            none = np.empty((len(features), 0))
            mean = np.stack([mean for mean, _ in found], axis=1) if found else none
            spread = np.stack([spread for _, spread in found], axis=1) if found else none
            return mean, spread, feasible(features)

        return _Learned(predict, np.concatenate([known.free, paid], axis=1)[known.feasible])

    def _feasible(self) -> Callable[[Features], Floats]:
        """What gives the probability (n,) of meeting the limits that are paid for, and of not failing."""
        history = self._proposals.history
        everything = range(len(history))
        codes = history.codes(everything)
        failed = np.isnan(history.objectives(everything)).any(axis=1) if len(codes) else np.zeros(0, dtype=np.bool_)
        excess = np.maximum(history.violation(everything) - self._domain.free_costs(codes).violation, 0.0)
        if len(codes) < START or not (failed | (excess > 0)).any():
            return lambda features: np.ones(len(features))
        unit = float(np.median(excess[excess > 0])) if (excess > 0).any() else 1.0
        values = np.where(failed, 1.0, np.where(excess > 0, np.minimum(excess / unit, 3.0), -1.0))
        surrogate = self._fit(self._describe(codes), values)

        def probability(features: Features) -> Floats:
            mean, spread = surrogate(features)
            return ndtr(-mean / spread)

        return probability


def _greedy(candidates: _Candidates, learned: _Learned, count: int) -> Rows:
    """Rows of candidates by falling acquisition; the first count one by one, each counted as reached for the next."""
    if not len(candidates.codes):
        return np.empty(0, dtype=np.int64)
    mean, spread, likely = learned.predict(candidates.features)
    mean = np.concatenate([candidates.free, mean], axis=1)
    spread = np.concatenate([np.zeros_like(candidates.free), spread], axis=1)
    reached = learned.reached
    reference = _reference(reached, mean, candidates.free.shape[1])
    worth = likely * expected_improvement(reached, reference, mean, spread)
    order = np.argsort(-worth, kind="stable")
    compared = order[: max(_COMPARED, count)]
    picked: list[int] = []
    for _ in range(min(count, len(compared)) if count > 1 else 0):
        row = int(np.where(np.isin(compared, picked), -1.0, worth[compared]).argmax())
        picked.append(int(compared[row]))
        reached = np.concatenate([reached, mean[picked[-1:]]])
        worth[compared] = likely[compared] * expected_improvement(reached, reference, mean[compared], spread[compared])
    return np.array(list(dict.fromkeys([*picked, *order.tolist()])), dtype=np.int64)


def _reference(reached: Floats, mean: Floats, free: int) -> Floats:
    """A point a little worse than all that was reached, and in free objectives than all candidates."""
    everything = np.concatenate([reached, mean])
    worst, best = everything.max(axis=0), everything.min(axis=0)
    if len(reached):
        worst[free:] = reached[:, free:].max(axis=0)
    return worst + np.maximum(0.01 * (worst - best), 1e-9 * np.maximum(1.0, np.abs(worst)))


def compressed(values: Floats) -> Floats:
    """Values (n,) with those worse than the median drawn together, by the logarithm; their order stays.

    A network that does not learn says little of how the good ones differ, and would take all of the spread.
    """
    middle = float(np.median(values))
    unit = middle - float(values.min()) or 1.0
    return np.where(values > middle, middle + unit * np.log1p(np.maximum(values - middle, 0.0) / unit), values)


def _listed(domain: Domain) -> Codes:
    grid = np.indices(domain.cardinalities).reshape(len(domain.cardinalities), -1).T.astype(np.int64)
    return np.unique(domain.canonicalised(grid), axis=0)


def _farthest(points: Floats, anchors: Floats, count: int) -> Rows:
    """Indices of count of the points (n, f), each the farthest from the anchors (a, f) and those before it."""
    distance = np.full(len(points), np.inf)
    for anchor in anchors:
        np.minimum(distance, ((points - anchor) ** 2).sum(axis=1), out=distance)
    chosen: list[int] = []
    for _ in range(min(count, len(points))):
        chosen.append(int(distance.argmax()))
        np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1), out=distance)
        distance[chosen] = -1.0
    return np.array(chosen, dtype=np.int64)
