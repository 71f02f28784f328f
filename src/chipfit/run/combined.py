"""The combined search: a score without training screens, a supernet ranks, a surrogate proposes what to train.

What a stage keeps goes on to the next one together with some networks drawn at random, so that the worth of every
stage can be told afterwards. All of it is in the journal, so that a run goes on in the middle of any stage.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chipfit.accuracy.agreement import agreement
from chipfit.accuracy.surrogate import fit
from chipfit.run.jobs import Judged, Judging, Progress
from chipfit.run.journal import Journal, Scored, Trial
from chipfit.run.problem import Problem
from chipfit.run.schedule import Schedule
from chipfit.run.workers import Workers
from chipfit.search.algorithm import Algorithm, Codes
from chipfit.search.evolution import NSGA2, select
from chipfit.search.guided import Guided
from chipfit.search.simple import RandomSearch

Code = tuple[int, ...]
Floats = NDArray[np.float64]

SCREEN, RANK = "screen", "rank"

ASKED, TOGETHER = 32, 4
"""Networks that are asked for at a time in a screening, and those of one job."""


@dataclass(frozen=True, slots=True)
class Offer:
    """What the stages before a training give to a variant's search, in the codes of the variant's domain.

    `codes` are worth a training, `scores` and `ranks` what networks were judged as, by their codes in the space.
    """

    codes: Codes
    scores: Mapping[Code, float]
    ranks: Mapping[Code, float]


@dataclass(frozen=True, slots=True)
class Kept:
    """What a stage did for a variant: how many it looked at, how many of these failed, what it `kept` by its own
    judgement and what was added at `random`; `trusted` says whether the judgement was used at all."""

    looked_at: int
    failed: int
    kept: tuple[Code, ...]
    random: tuple[Code, ...]
    trusted: bool = True


@dataclass(slots=True)
class Screening:
    """The stages of a combined search before a variant's trainings."""

    problem: Problem
    journal: Journal
    pool: Workers
    schedule: Schedule = field(default_factory=lambda: Schedule(0, 0, 1, 1))
    supernet: Path | None = None
    known: dict[str, dict[Code, Scored]] = field(default_factory=dict)

    def timed(self, zero: Code) -> Generator[Progress, None, float]:
        """Seconds that scoring the baseline takes, as the journal has it. Scores are timed although none is wanted."""
        found = yield from self._judge(SCREEN, [zero], None, 0, 1)
        return max(found[zero].seconds, 1e-3)

    def plan(self, planned: Schedule) -> None:
        """Takes the schedule of the journal, or this one where none is there yet: time must not change a run's plan."""
        known = json.loads(self.journal.about("schedule") or "null")
        if known is None:
            self.journal.note("schedule", json.dumps(asdict(planned)))
        self.schedule = planned if known is None else Schedule(**known)

    def offer(
        self, variant: str, decisions: tuple[int, ...], trained: Mapping[Code, Trial]
    ) -> Generator[Progress, None, Offer]:
        """Scores and ranks networks of a variant. `trained` are the networks that the run has trained for a search."""
        generator = np.random.default_rng([self.problem.study.seed, 3, *variant.encode()])
        screened, kept = yield from self._screened(variant, decisions, trained, generator)
        scores = {code: each.value for code, each in screened.items() if each.value is not None}
        if self.supernet is None:
            return Offer(self._narrow((*kept.kept, *kept.random), decisions), scores, {})
        ranked = yield from self._ranked(variant, [*kept.kept, *kept.random])
        ranks = {code: each.value for code, each in ranked.items() if each.value is not None}
        return Offer(self._narrow(tuple(ranks), decisions), scores, ranks)

    def algorithm(self, decisions: tuple[int, ...], offer: Offer) -> Algorithm:
        """What proposes trainings, from all that is known of a variant's networks."""

        def hints(codes: Codes) -> Floats:
            full = [tuple(row) for row in self.problem.embed(codes, decisions).tolist()]
            columns = [[known.get(code, np.nan) for code in full] for known in (offer.scores, offer.ranks) if known]
            return np.array(columns, np.float64).reshape(len(columns), len(full)).T

        study = self.problem.study
        given = hints if offer.scores or offer.ranks else None
        return Guided(self.problem.domain(decisions), study.seed, fit, given, offer.codes)

    def _narrow(self, codes: Sequence[Code], decisions: tuple[int, ...]) -> Codes:
        full = np.array(codes, np.int64).reshape(len(codes), len(self.problem.space.decisions))
        return self.problem.narrowed(full, decisions)

    def _screened(
        self,
        variant: str,
        decisions: tuple[int, ...],
        trained: Mapping[Code, Trial],
        generator: np.random.Generator,
    ) -> Generator[Progress, None, tuple[dict[Code, Scored], Kept]]:
        """Scores of networks of a variant, found by an evolution on scores and costs; and what to keep of them."""
        wanted = self.schedule.rank if self.supernet is not None else self.schedule.trials
        chance = max(1, round(self.problem.study.search.combined.control * wanted))
        if not self.schedule.screen or not self._trusted(trained):
            drawn = RandomSearch(self.problem.domain(decisions), self.problem.study.seed).ask(wanted)
            chosen = tuple(tuple(row) for row in self.problem.embed(drawn, decisions).tolist())
            kept = Kept(0, 0, (), chosen, trusted=not self.schedule.screen)
            self._note(variant, SCREEN, kept)
            return {}, kept
        found: dict[Code, Scored] = {}
        domain = self.problem.domain(decisions)
        algorithm = NSGA2(domain, self.problem.study.seed)
        while len(found) < self.schedule.screen:
            asked = algorithm.ask(min(ASKED, self.schedule.screen - len(found)))
            costs = domain.free_costs(asked)
            within = costs.violation <= 0
            if not within.any():
                break
            asked, free = asked[within], costs.objectives[within]
            codes: list[Code] = [tuple(row) for row in self.problem.embed(asked, decisions).tolist()]
            done = len(found)
            found |= yield from self._judge(SCREEN, codes, None, done, self.schedule.screen)
            values = np.array([_value(found[code]) for code in codes])
            algorithm.tell(asked, np.column_stack([free, -values]))
        codes = [code for code, each in found.items() if each.value is not None]
        kept = self._keep(found, codes, decisions, wanted - chance, chance, generator)
        self._note(variant, SCREEN, kept)
        return found, kept

    def _keep(
        self,
        found: Mapping[Code, Scored],
        codes: Sequence[Code],
        decisions: tuple[int, ...],
        count: int,
        chance: int,
        generator: np.random.Generator,
    ) -> Kept:
        """The best of what was scored, all along the costs, and as many at random of the rest."""
        if not codes:
            return Kept(len(found), len(found), (), ())
        costs = self.problem.domain(decisions).free_costs(self._narrow(codes, decisions))
        values = np.array([_value(found[code]) for code in codes])
        best = select(np.column_stack([costs.objectives, -values]), costs.violation, count)
        rest = np.setdiff1d(np.arange(len(codes)), best)
        drawn = generator.permutation(rest)[:chance]
        kept, others = (tuple(codes[place] for place in places) for places in (best, np.sort(drawn)))
        return Kept(len(found), len(found) - len(codes), kept, others)

    def _ranked(self, variant: str, codes: Sequence[Code]) -> Generator[Progress, None, dict[Code, Scored]]:
        found = yield from self._judge(RANK, codes, self.supernet, 0, len(codes))
        failed = sum(each.value is None for each in found.values())
        self._note(variant, RANK, Kept(len(found), failed, tuple(found), ()))
        return found

    def _judge(
        self, stage: str, codes: Sequence[Code], supernet: Path | None, done: int, total: int
    ) -> Generator[Progress, None, dict[Code, Scored]]:
        """What networks are judged as, from the journal where that is known; kept as soon as it is there."""
        known = self.known.setdefault(stage, self.journal.scores(stage))
        missing = list(dict.fromkeys(code for code in codes if code not in known))
        study = self.problem.study
        jobs = [
            Judging(
                number, tuple(missing[start : start + TOGETHER]), study.seed, study.search.combined.score, supernet,
                study.threads,
            )
            for number, start in enumerate(range(0, len(missing), TOGETHER))
        ]  # fmt: skip
        done += len(codes) - len(missing)
        for event in self.pool.run(jobs):
            if isinstance(event, Judged):
                self.journal.add_scores(stage, event.scores)
                known.update({each.code: each for each in event.scores})
                done += len(event.scores)
                yield Progress(-1, done, total, float("nan"))
        return {code: known[code] for code in codes}

    def _trusted(self, trained: Mapping[Code, Trial]) -> bool:
        """Whether what was trained so far says nothing against the score."""
        known = self.known.setdefault(SCREEN, self.journal.scores(SCREEN))
        pairs = [
            (_value(known[code]), trial.metrics["accuracy"])
            for code, trial in trained.items()
            if trial.status == "done" and code in known and known[code].value is not None
        ]
        found = agreement(np.array([pair[0] for pair in pairs]), np.array([pair[1] for pair in pairs]))
        # What was trained was chosen by the score among others, which hides much of what it knows: it is dropped where
        # nothing of it is left, not where too little is shown.
        return found.spearman is None or found.spearman > 0

    def _note(self, variant: str, stage: str, kept: Kept) -> None:
        noted = json.loads(self.journal.about("combined") or "{}")
        noted.setdefault(variant, {})[stage] = asdict(kept)
        self.journal.note("combined", json.dumps(noted))


def _value(scored: Scored) -> float:
    return float("nan") if scored.value is None else scored.value
