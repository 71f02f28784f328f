"""Patterns: which decisions recur among the best candidates of finished searches, against how often they were offered.

The best candidates of a search are its best quarter: of the networks that hold all limits (on accuracy with the slack
that the search allows) the first fronts in what it minimised, whole fronts until a quarter of all that it tried is
reached. An option recurs where the lower end of the interval of its share among them lies above its share among all.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.expert.rules import LEAVE, SCALED, Range, Seen, Where
from chipfit.expert.sites import Site, sites
from chipfit.graph.canonical import canonical
from chipfit.graph.graph import Graph
from chipfit.search.pareto import constrained_ranks

Codes = NDArray[np.int64]
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

BEST = 0.25
"""Share of the networks that a search tried which count as its best."""

CONFIDENCE = 0.95
"""How sure all verdicts of one table are together."""

AXES = ("position", "resolution", "width")
"""What places are sorted by."""

STEPS = 8
"""Shares of what is given are told apart in steps of one in this many."""

_BUCKETS: Mapping[str, tuple[Range, ...]] = {
    "position": (Range(below=0.33), Range(least=0.33, below=0.67), Range(least=0.67)),
    "resolution": (Range(most=8), *(Range(least=n + 1, most=2 * n) for n in (8, 16, 32, 64)), Range(least=129)),
    "width": (Range(most=16), *(Range(least=n + 1, most=2 * n) for n in (16, 32, 64, 128)), Range(least=257)),
}

Verdict = Literal["above", "below", "open"]


@dataclass(frozen=True, eq=False)
class Searched:
    """What one variant of one run tried: `codes` (n, d) of a `space` around the network as `given`, what it minimised
    as `objectives` (n, m) with NaN where a training failed, and which networks hold its limits (n,). `offered` are
    the decisions that it might take."""

    run: str
    data: str
    target: str
    given: Graph
    space: Graph
    offered: tuple[int, ...]
    codes: Codes
    objectives: Floats
    feasible: Bools

    def best(self) -> Bools:
        """Its best candidates (n,)."""
        found = np.zeros(len(self.codes), np.bool_)
        if self.feasible.any():
            ranks = constrained_ranks(self.objectives[self.feasible])
            counts = np.cumsum(np.bincount(ranks))
            last = int(np.searchsorted(counts, math.ceil(BEST * len(self.codes))))
            found[self.feasible] = ranks <= last
        return found & np.isfinite(self.objectives).all(axis=1)


@dataclass(frozen=True, slots=True)
class Pattern:
    """One option at one kind of place.

    `offered` and `best` are its shares of such places in all networks tried and in the best `candidates` among them;
    the `interval` of `best` counts the places of a network as so many `witnesses` as the spread between networks says:
    one where they were always decided alike, all where each was decided by itself. `option` is "leave" for the network
    as given, a share where `kind` scales. `multiple` is what all chosen sizes were multiples of.
    """

    kind: str
    where: Where
    option: str | int | float
    multiple: int
    trials: int
    offered: float
    candidates: int
    best: float
    witnesses: float
    interval: tuple[float, float]
    seen: tuple[Seen, ...]

    @property
    def verdict(self) -> Verdict:
        """Whether it stands among the best more often than it was offered, beyond chance."""
        if self.interval[0] > self.offered:
            return "above"
        return "below" if self.interval[1] < self.offered else "open"

    @property
    def recurs_on(self) -> tuple[Seen, ...]:
        """The data sets and chips on which it stands among the best more often than it was offered."""
        return tuple(seen for seen in self.seen if seen.best > seen.offered)


@dataclass(frozen=True, slots=True)
class Mined:
    """Patterns of some searches, with places sorted by `axes`. `intervals` of all `comparisons` hold together with
    `confidence` (Bonferroni)."""

    axes: tuple[str, ...]
    runs: tuple[str, ...]
    trials: int
    candidates: int
    patterns: tuple[Pattern, ...]
    comparisons: int
    confidence: float = CONFIDENCE


def wilson(share: float, count: float, confidence: float) -> tuple[float, float]:
    """The score interval of a share seen in `count` cases (Wilson 1927); from 0 to 1 where there are none."""
    if count <= 0:
        return 0.0, 1.0
    z2 = NormalDist().inv_cdf(0.5 + confidence / 2) ** 2 / count
    middle = (share + z2 / 2) / (1 + z2)
    reach = math.sqrt(max(z2 * (share * (1 - share) + z2 / 4), 0.0)) / (1 + z2)
    return max(middle - reach, 0.0), min(middle + reach, 1.0)


def mine(searches: Sequence[Searched], axes: Sequence[str] = ("position",)) -> Mined:
    """Patterns of finished searches, by kind of decision and by bucket of all `axes` (of `AXES`) crossed.

    Raises `InvalidInput` for unknown axes and where nothing was searched.
    """
    if not axes or any(axis not in AXES for axis in axes) or len(set(axes)) != len(axes):
        raise InvalidInput(f"places cannot be sorted by {','.join(axes) or 'nothing'}: take some of {', '.join(AXES)}")
    if not sum(len(search.codes) for search in searches):
        raise InvalidInput("the runs tried no network beside the one given, so there are no patterns in them")
    counts: dict[tuple[str, Where, str | int | float], list[_Count]] = {}
    for search in searches:
        for count in _counted(search, axes):
            counts.setdefault((count.kind, count.where, count.option), []).append(count)
    # The last option of a place follows from the others.
    cells = {(kind, where) for kind, where, _ in counts}
    comparisons = len(counts) - len(cells)
    level = 1 - (1 - CONFIDENCE) / max(comparisons, 1)
    patterns = [_pattern(found, level) for found in counts.values()]
    best = sum(int(search.best().sum()) for search in searches)
    trials = sum(len(search.codes) for search in searches)
    runs = tuple(dict.fromkeys(search.run for search in searches))
    return Mined(tuple(axes), runs, trials, best, tuple(sorted(patterns, key=_order)), comparisons)


def _order(pattern: Pattern) -> tuple[str, str, str]:
    starts = [getattr(pattern.where, axis) for axis in AXES]
    place = ",".join("" if each is None else f"{each.least or 0:09.3f}" for each in starts)
    return pattern.kind, place, str(pattern.option)


@dataclass(frozen=True, slots=True)
class _Count:
    """How often one search offered an option at one kind of place, and how often it stands in its best candidates."""

    kind: str
    where: Where
    option: str | int | float
    multiple: int
    data: str
    target: str
    trials: int
    offered: float
    candidates: int
    best: float
    witnesses: float


def _pattern(counts: Sequence[_Count], level: float) -> Pattern:
    """Several searches together: what the best would show if they were as all that was tried, against what they do."""
    first = counts[0]
    groups: dict[tuple[str, str], list[_Count]] = {}
    for count in counts:
        groups.setdefault((count.data, count.target), []).append(count)
    seen: list[Seen] = []
    for (data, target), own in groups.items():
        trials, offered, candidates, best = _pooled(own)
        seen.append(Seen(data=data, target=target, trials=trials, offered=offered, candidates=candidates, best=best))
    trials, offered, candidates, best = _pooled(counts)
    multiple = math.gcd(*(count.multiple for count in counts))
    witnesses = sum(count.witnesses for count in counts)
    return Pattern(
        first.kind, first.where, first.option, multiple, trials, offered, candidates, best, witnesses,
        wilson(best, witnesses, level), tuple(seen),
    )  # fmt: skip


def _pooled(counts: Sequence[_Count]) -> tuple[int, float, int, float]:
    """Trials, the share offered, candidates, the share among the best; every search weighs what its candidates do."""
    trials, candidates = sum(count.trials for count in counts), sum(count.candidates for count in counts)
    weights = [count.candidates if candidates else count.trials for count in counts]
    offered = sum(weight * count.offered for weight, count in zip(weights, counts, strict=True)) / sum(weights)
    best = sum(weight * count.best for weight, count in zip(weights, counts, strict=True)) / sum(weights)
    return trials, offered, candidates, best if candidates else 0.0


def _counted(search: Searched, axes: Sequence[str]) -> Iterator[_Count]:
    """Every option of every kind of place of one search."""
    cells: dict[tuple[str, Where], list[int]] = {}
    for index, site in enumerate(sites(search.given, search.space)):
        if index in search.offered:
            cells.setdefault((site.kind, _bucket(site, axes)), []).append(index)
    matters, best = _matters(search), search.best()
    for (kind, where), places in cells.items():
        labels = {place: [_label(kind, search.space, place, o) for o in range(len(search.space.decisions[place]))]
                  for place in places}  # fmt: skip
        asked = matters[:, places]
        some = asked.any(axis=1)
        if not some.any():
            continue
        chosen = np.array([[labels[place][code[place]] for place in places] for code in search.codes], dtype=object)
        for option in dict.fromkeys(label for place in places for label in labels[place]):
            hits = ((chosen == option) & asked).sum(axis=1)[some] / asked.sum(axis=1)[some]
            candidates = int((best & some).sum())
            yield _Count(
                kind, where, option, _multiple(search, kind, places, (chosen == option) & best[:, None]), search.data,
                search.target, int(some.sum()), float(hits.mean()), candidates,
                float(hits[best[some]].mean()) if candidates else 0.0,
                candidates * _witnesses(hits, float(asked.sum(axis=1)[some].mean())),
            )  # fmt: skip


def _witnesses(hits: Floats, places: float) -> float:
    """For how many independent places a network counts, from 1 to the `places` that it has, by how much the shares
    `hits` (n,) vary between networks: the reciprocal of Kish's design effect."""
    share = float(hits.mean())
    alone, seen = share * (1 - share), float(hits.var())
    if alone == 0:
        return 1.0
    return places if seen * places <= alone else max(alone / seen, 1.0)


def _bucket(site: Site, axes: Sequence[str]) -> Where:
    """What the places have in common that are counted with this one."""
    found: dict[str, Range] = {}
    for axis in axes:
        known = getattr(site, axis)
        # What is decided once for the whole network has no place.
        if known is not None and site.position is not None:
            found[axis] = next(each for each in _BUCKETS[axis] if each.holds(known))
    return Where(**found)


def _label(kind: str, space: Graph, place: int, option: int) -> str | int | float:
    """An option as one that other places have too."""
    options = space.decisions[place].options
    if option == 0:
        return LEAVE
    chosen = options[option]
    if kind not in SCALED:
        return chosen if isinstance(chosen, int) else str(chosen)
    if kind == "depth_multiplier" or isinstance(options[0], float):
        return float(str(chosen))
    return max(round(STEPS * float(str(chosen)) / float(str(options[0]))), 1) / STEPS


def _multiple(search: Searched, kind: str, places: Sequence[int], taken: Bools) -> int:
    """The largest number that divides all sizes that were taken, 0 where none were or sizes are no numbers of their
    own."""
    sizes: list[int] = []
    for column, place in enumerate(places):
        options = search.space.decisions[place].options
        if kind in ("width", "size") and isinstance(options[0], int):
            used = np.unique(search.codes[taken[:, column], place])
            sizes += [int(str(options[option])) for option in used.tolist()]
    return math.gcd(*sizes)


def _matters(search: Searched) -> Bools:
    """Whether a decision makes a difference in a network (n, d): of a block that was fused, what became of its
    depthwise convolution does not."""
    if not len(search.codes):
        return np.zeros(search.codes.shape, np.bool_)
    reduce = canonical(search.space)
    same = reduce(search.codes)
    found = np.zeros(search.codes.shape, np.bool_)
    for place, decision in enumerate(search.space.decisions):
        for step in range(1, len(decision)):
            other = search.codes.copy()
            other[:, place] = (other[:, place] + step) % len(decision)
            found[:, place] |= (reduce(other) != same).any(axis=1)
    return found
