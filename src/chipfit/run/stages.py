"""A run: the baseline is trained, each variant searched, the best trained in full; from the journal what is there.

All that is decided depends on the study and on finished trials only, never on time or on which process was first.
A run that is taken up again therefore decides the same, finds finished trials in the journal, and ends with the same
result as one that was never interrupted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from chipfit.errors import JournalMismatch, TrainingFailed
from chipfit.nets.network import save_weights
from chipfit.run.choosing import (
    cheapest_wins,
    cost_of,
    finalists,
    held,
    judged,
    longest_trained,
    meets_limits,
    wanted_accuracy,
)
from chipfit.run.combined import Screening
from chipfit.run.converging import aim_of
from chipfit.run.examples import keep_examples
from chipfit.run.halving import Halved, Step
from chipfit.run.jobs import CONVERGE, SUPERNET, Aim, Job, Outcome, Progress, Setting, task_of
from chipfit.run.journal import Journal, Trial
from chipfit.run.problem import COLUMNS, Problem
from chipfit.run.quantised import delivers_int8, quantise
from chipfit.run.schedule import Pace, schedule
from chipfit.run.streaming import keep_streamed
from chipfit.run.workers import Workers
from chipfit.search.algorithm import Algorithm, Codes, Domain
from chipfit.search.halving import trainings
from chipfit.spaces.preflight import violation

Code = tuple[int, ...]

LEAST_TO_COMPARE = 4
"""So many trainings must have reached an epoch before one that is behind them is given up."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage begins: "baseline", "search", "final" or "int8", for a variant or for all.

    `trainings` is how many there are at most; in "int8" it is how many files are written and run.
    """

    name: str
    variant: str
    trainings: int


Event = Stage | Progress | Trial


class AlgorithmMaker(Protocol):
    """Builds an algorithm for a domain, from a seed and the number of trials that it will be given."""

    def __call__(self, domain: Domain, seed: int, trials: int, /) -> Algorithm: ...


def run(problem: Problem, journal: Journal, make_algorithm: AlgorithmMaker | None, workers: int) -> Generator[Event]:
    """Conducts a study whose limits can be met, yielding what happens; finished when exhausted.

    Without `make_algorithm` the search is a combined or a converging one, as the study says.

    A network that several variants ask for is trained once, and its trial yielded again. Raises `TrainingFailed` when
    the baseline cannot be trained, `StorageFull` when the disk is full.
    """
    given = journal.directory / "given.safetensors"
    if not given.exists():
        save_weights(given, problem.network.weights)
    with Workers(Setting(problem.study, problem.space, given), workers) as pool:
        yield from _Run(problem, journal, pool, given, make_algorithm).conduct()


@dataclass(slots=True)
class _Run:
    problem: Problem
    journal: Journal
    pool: Workers
    given: Path
    make_algorithm: AlgorithmMaker | None
    known: dict[str, Trial] = field(default_factory=dict)
    recorded: dict[int, str] = field(default_factory=dict)
    numbers: dict[str, int] = field(default_factory=dict)
    searched: dict[Code, Trial] = field(default_factory=dict)
    wanted: dict[int, float] = field(default_factory=dict)
    epochs_shared: int = 0

    def conduct(self) -> Iterator[Event]:
        study = self.problem.study
        self.known = {trial.key: trial for trial in self.journal.trials()}
        self.recorded = {trial.number: key for key, trial in self.known.items()}
        zero = (0,) * len(self.problem.space.decisions)
        yield Stage("baseline", "", 1)
        (baseline,) = yield from self._evaluate("baseline", [zero])
        self.journal.belong("baseline", "baseline", [baseline.number])
        yield Stage("search", "baseline", len(study.search.rungs))
        references: list[Trial] = []
        for rung in study.search.rungs:
            references += yield from self._evaluate("search", [zero], rungs=[rung])
            self.wanted[rung] = wanted_accuracy(study, baseline, references[-1])
        screening = (yield from self._screening(baseline, references[-1])) if study.search.combines else None
        halved = Halved(self.problem, self._climb, self.wanted)
        for variant, edits in study.rows.items():
            decisions = self.problem.decisions_of(edits)
            if study.search.converges:
                yield from self._converge(variant, decisions)
            elif study.search.halves:
                yield from self._halve(variant, decisions, halved, references[0])
            else:
                yield from self._search(variant, decisions, screening)
        yield from self._finals(zero)
        full = [trial for trial in self.known.values() if trial.stage == "final" and trial.status == "done"]
        full.sort(key=lambda trial: trial.number)
        if delivers_int8(self.problem):
            yield Stage("int8", "", len(full))
            yield from quantise(self.problem, self.journal, self.pool, full)
        if self.problem.study.accuracy is None:
            task = task_of(self.problem.study.task)
            keep_examples(self.problem, self.journal, task, full)
            keep_streamed(self.problem, self.journal, task, full)

    def _screening(self, baseline: Trial, reference: Trial) -> Generator[Event, None, Screening]:
        """Plans a combined search, once, and trains the supernet that all variants share."""
        study, zero = self.problem.study, baseline.code
        screening = Screening(self.problem, self.journal, self.pool)
        yield Stage("screen", "baseline", 1)
        score_s = yield from screening.timed(zero)
        epochs = max(1, study.training.baseline_epochs if study.accuracy is None else 1)
        planned = schedule(study, Pace(baseline.seconds / epochs, score_s), baseline.seconds + reference.seconds)
        screening.plan(planned)
        self.epochs_shared = screening.schedule.supernet
        if self.epochs_shared:
            yield Stage("supernet", "", 1)
            (shared,) = yield from self._evaluate(SUPERNET, [zero])
            if shared.status == "done":
                screening.supernet = self.journal.weights_file(shared.number)
        return screening

    def _search(self, variant: str, decisions: tuple[int, ...], screening: Screening | None) -> Iterator[Event]:
        """Trains what an algorithm asks for; what the other variants have tried of this part of the space is told."""
        study, trials = self.problem.study, self.problem.study.search.trials
        if screening is not None:
            trials = screening.schedule.trials
            yield Stage("screen", variant, 1)
            offer = yield from screening.offer(variant, decisions, self.searched)
            algorithm = screening.algorithm(decisions, offer)
        else:
            assert self.make_algorithm is not None
            algorithm = self.make_algorithm(self.problem.domain(decisions), study.seed, trials)
        yield Stage("search", variant, trials)
        others = sorted(set(range(len(self.problem.space.decisions))) - set(decisions))
        known = [code for code in self.searched if not any(code[index] for index in others)]
        found = self._tell(algorithm, decisions, known)
        done = 0
        while done < trials:
            asked = self.problem.embed(algorithm.ask(min(study.search.batch, trials - done)), decisions)
            # Where nothing is within the limits, an algorithm may ask for what comes nearest.
            asked = asked[violation(self.problem.costs(asked), self.problem.limits) == 0]
            if not len(asked):
                break
            codes: list[Code] = [tuple(row) for row in asked.tolist()]
            yield from self._evaluate("search", codes)
            found += self._tell(algorithm, decisions, codes)
            done += len(codes)
        self.journal.belong(variant, "search", found)

    def _converge(self, variant: str, decisions: tuple[int, ...]) -> Iterator[Event]:
        """Trains weights and choice together; the network where this lands is what the search has found."""
        yield Stage(CONVERGE, variant, 1)
        zero = (0,) * len(self.problem.space.decisions)
        (landed,) = yield from self._evaluate(CONVERGE, [zero], aim_of(self.problem, decisions))
        holds = not violation(self.problem.costs(np.asarray([landed.code], np.int64)), self.problem.limits).any()
        self.journal.belong(variant, "search", [landed.number] if holds else [])

    def _halve(self, variant: str, decisions: tuple[int, ...], halved: Halved, reference: Trial) -> Iterator[Event]:
        """Trains many networks for a few epochs, and the better ones for more."""
        assert self.make_algorithm is not None
        search = self.problem.study.search
        most = trainings(search.rungs, search.trials * search.epochs, self.problem.reach(decisions))
        yield Stage("search", variant, sum(some for _, some in most))
        algorithm = self.make_algorithm(self.problem.domain(decisions), self.problem.study.seed, search.starters)
        found = yield from halved.search(decisions, algorithm, reference)
        self.journal.belong(variant, "search", found)

    def _climb(self, steps: Sequence[Step]) -> Generator[Progress | Trial, None, list[Trial]]:
        """Trials of networks that are trained up to rungs of a search by halving."""
        return self._evaluate("search", [code for code, _ in steps], rungs=[rung for _, rung in steps])

    def _tell(self, algorithm: Algorithm, decisions: tuple[int, ...], searched: Sequence[Code]) -> list[int]:
        """Tells the values of codes that were searched; gives the numbers of their trials."""
        codes: Codes = np.asarray(searched, np.int64)
        trials = [self.searched[code] for code in searched]
        algorithm.tell(self.problem.narrowed(codes, decisions), *judged(self.problem, codes, trials, self.wanted[0]))
        return [trial.number for trial in trials]

    def _finals(self, zero: Code) -> Iterator[Event]:
        """Trains finalists in rounds: from each variant the next one that would be better than what it holds.

        A variant holds the best of all fully trained networks that its decisions can make, whoever asked for them.
        """
        study = self.problem.study
        queues = {variant: self._finalists(variant) for variant in study.rows}
        own: dict[str, list[Trial]] = {variant: [] for variant in queues}
        ruled = [self.problem.ruled(pack) for pack in study.rules.values()]
        yield Stage("final", "", 1 + len(ruled) + sum(len(queue) for queue in queues.values()))
        judge, *finished = yield from self._evaluate("final", [zero, *ruled])
        self.journal.belong("baseline", "final", [judge.number])
        for name, trial in zip(study.rules, finished, strict=True):
            self.journal.belong(name, "final", [trial.number])
            holds = meets_limits(self.problem, trial, judge)
            self.journal.belong(name, "chosen", [trial.number] if holds else [])
        while True:
            asked: dict[str, Code] = {}
            for variant, queue in queues.items():
                best = held(self.problem, variant, finished, judge)
                if best is not None and cheapest_wins(study):
                    most = cost_of(self.problem, best.code)
                    queue[:] = [code for code in queue if cost_of(self.problem, code) < most]
                if queue:
                    asked[variant] = queue.pop(0)
            if not asked:
                break
            trials = yield from self._evaluate("final", list(asked.values()))
            finished += trials
            for variant, trial in zip(asked, trials, strict=True):
                own[variant].append(trial)
        for variant, trials in own.items():
            self.journal.belong(variant, "final", [trial.number for trial in trials])
            best = held(self.problem, variant, finished, judge)
            self.journal.belong(variant, "chosen", [best.number] if best is not None else [])

    def _finalists(self, variant: str) -> list[Code]:
        """Codes to train in full: where a variant's search landed, or the best of what it trained for longest."""
        known = {trial.number: trial for trial in self.known.values()}
        numbers = dict.fromkeys(self.journal.members(variant, "search"))
        trials = [known[number] for number in numbers if any(known[number].code)]
        if self.problem.study.search.converges:
            return [trial.code for trial in trials]
        trials = longest_trained([trial for trial in trials if trial.status == "done"])
        return finalists(self.problem, trials, self.wanted[trials[0].rung]) if trials else []

    def _evaluate(
        self, stage: str, codes: Sequence[Code], aim: Aim | None = None, rungs: Sequence[int] = ()
    ) -> Generator[Progress | Trial, None, list[Trial]]:
        """Trials of codes in the given order, from the journal where they are known; yields each as it is there.

        `rungs` are up to where a search by halving trains each.
        """
        rungs = rungs or (0,) * len(codes)
        keys = [self._key(stage, code, aim, rung) for code, rung in zip(codes, rungs, strict=True)]
        for key in keys:
            self.numbers.setdefault(key, len(self.numbers))
            if self.recorded.get(self.numbers[key], key) != key:
                raise JournalMismatch(
                    f"{self.journal.directory}: trial {self.numbers[key]} was another network before; "
                    "it was written by another version of chipfit, give another --out"
                )
        jobs = {
            self.numbers[key]: (key, code, rung)
            for key, code, rung in zip(keys, codes, rungs, strict=True)
            if key not in self.known
        }
        for key in dict.fromkeys(key for key in keys if key in self.known):
            yield self.known[key]
        floors = self._floors() if stage == "search" else ()
        asked = [self._job(stage, number, code, floors, aim, rung) for number, (_, code, rung) in jobs.items()]
        for event in self.pool.run(asked):
            if isinstance(event, Outcome):
                key, code, _ = jobs[event.number]
                trial = self._trial(stage, key, event.code or code, event)
                if trial.status == "failed" and not any(code) and stage != SUPERNET:
                    what = "the converging search failed" if aim else f"the baseline could not be trained ({stage})"
                    raise TrainingFailed(f"{what}: {trial.why}")
                self.journal.add(trial)
                self.known[key] = trial
                yield trial
            elif isinstance(event, Progress):
                yield event
        found = [self.known[key] for key in keys]
        if stage == "search" and not any(rungs):
            self.searched.update(zip(codes, found, strict=True))
        return found

    def _key(self, stage: str, code: Code, aim: Aim | None = None, rung: int = 0) -> str:
        """Equal for codes that close to the same network: what is trained once in a stage is never trained again."""
        key = f"{stage}{f'@{rung}' if rung else ''}:{self.problem.space.close(code).digest[:40]}"
        return key if aim is None else f"{key}:{hashlib.sha256(repr(aim).encode()).hexdigest()[:16]}"

    def _job(self, stage: str, number: int, code: Code, floors: tuple[float, ...], aim: Aim | None, rung: int) -> Job:
        study = self.problem.study
        below = study.search.below(rung)
        epochs = {
            "baseline": study.training.baseline_epochs,
            "search": rung - below if rung else study.search.epochs,
            "final": study.training.final_epochs,
            SUPERNET: self.epochs_shared,
            CONVERGE: study.search.converge.epochs,
        }
        start: Path | None = self.journal.weights_file(self.numbers[self._key("baseline", (0,) * len(code))])
        if stage == "baseline":
            start = self.given if study.training.start == "given" else None
        if below:
            start = self.journal.weights_file(self.numbers[self._key(stage, code, rung=below)])
        digest = hashlib.sha256(f"{study.seed}:{self._key(stage, code, aim, rung)}".encode()).digest()
        return Job(
            number, stage, code, study.training.recipe(epochs[stage]), int.from_bytes(digest[:4], "big"), start,
            self.journal.weights_file(number), self.journal.checkpoints / f"trial{number:04d}.safetensors",
            floors, test=stage == "final", threads=study.threads, aim=aim, goes_on=below > 0,
        )  # fmt: skip

    def _floors(self) -> tuple[float, ...]:
        """By epoch, the accuracy below which a training is given up, from earlier batches of the search."""
        quantile = self.problem.study.search.stop_below
        histories = [trial.history for trial in self.searched.values()]
        floors: list[float] = []
        for epoch in range(self.problem.study.search.epochs):
            best = [max(history[: epoch + 1]) for history in histories if len(history) > epoch]
            if quantile <= 0 or len(best) < LEAST_TO_COMPARE:
                break
            floors.append(float(np.quantile(best, quantile)))
        return tuple(floors)

    def _trial(self, stage: str, key: str, code: Code, outcome: Outcome) -> Trial:
        costs = self.problem.estimator.costs(self.problem.space.close(code))
        found = {name: float(getattr(costs, column)[0]) for name, column in COLUMNS.items()}
        found["latency_spread"] = float(costs.spread_s[0])
        return Trial(
            outcome.number, key, stage, code, outcome.status, dict(outcome.metrics), found, outcome.history,
            outcome.seconds, outcome.why,
        )  # fmt: skip
