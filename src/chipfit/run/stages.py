"""A run: the baseline is trained, each variant searched, the best trained in full; from the journal what is there.

All that is decided depends on the study and on finished trials only, never on time or on which process was first.
A run that is taken up again therefore decides the same, finds finished trials in the journal, and ends with the same
result as one that was never interrupted.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import numpy as np

from chipfit.errors import JournalMismatch, TrainingFailed
from chipfit.nets.network import save_weights
from chipfit.run.combined import Screening
from chipfit.run.converging import aim_of
from chipfit.run.examples import keep_examples
from chipfit.run.jobs import CONVERGE, SUPERNET, Aim, Job, Outcome, Progress, Setting, task_of
from chipfit.run.journal import Journal, Trial
from chipfit.run.problem import COLUMNS, ROUNDING, Problem
from chipfit.run.quantised import delivers_int8, quantise
from chipfit.run.schedule import Pace, schedule
from chipfit.run.streaming import keep_streamed
from chipfit.run.workers import Workers
from chipfit.search.algorithm import Algorithm, Codes, Domain
from chipfit.search.pareto import front_mask
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
    epochs_shared: int = 0

    def conduct(self) -> Iterator[Event]:
        study = self.problem.study
        self.known = {trial.key: trial for trial in self.journal.trials()}
        self.recorded = {trial.number: key for key, trial in self.known.items()}
        zero = (0,) * len(self.problem.space.decisions)
        yield Stage("baseline", "", 1)
        (baseline,) = yield from self._evaluate("baseline", [zero])
        self.journal.belong("baseline", "baseline", [baseline.number])
        yield Stage("search", "baseline", 1)
        (reference,) = yield from self._evaluate("search", [zero])
        wanted = self._wanted(baseline, reference)
        screening = (yield from self._screening(baseline, reference)) if study.search.combines else None
        for variant, edits in study.rows.items():
            decisions = self.problem.decisions_of(edits)
            if study.search.converges:
                yield from self._converge(variant, decisions)
            else:
                yield from self._search(variant, decisions, wanted, screening)
        yield from self._finals(zero, wanted)
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

    def _search(
        self, variant: str, decisions: tuple[int, ...], wanted: float, screening: Screening | None
    ) -> Iterator[Event]:
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
        found = self._tell(algorithm, decisions, known, wanted)
        done = 0
        while done < trials:
            asked = self.problem.embed(algorithm.ask(min(study.search.batch, trials - done)), decisions)
            # Where nothing is within the limits, an algorithm may ask for what comes nearest.
            asked = asked[violation(self.problem.costs(asked), self.problem.limits) == 0]
            if not len(asked):
                break
            codes: list[Code] = [tuple(row) for row in asked.tolist()]
            yield from self._evaluate("search", codes)
            found += self._tell(algorithm, decisions, codes, wanted)
            done += len(codes)
        self.journal.belong(variant, "search", found)

    def _converge(self, variant: str, decisions: tuple[int, ...]) -> Iterator[Event]:
        """Trains weights and choice together; the network where this lands is what the search has found."""
        yield Stage(CONVERGE, variant, 1)
        zero = (0,) * len(self.problem.space.decisions)
        (landed,) = yield from self._evaluate(CONVERGE, [zero], aim_of(self.problem, decisions))
        holds = not violation(self.problem.costs(np.asarray([landed.code], np.int64)), self.problem.limits).any()
        self.journal.belong(variant, "search", [landed.number] if holds else [])

    def _tell(
        self, algorithm: Algorithm, decisions: tuple[int, ...], searched: Sequence[Code], wanted: float
    ) -> list[int]:
        """Tells the values of codes that were searched; gives the numbers of their trials."""
        codes: Codes = np.asarray(searched, np.int64)
        costs = self.problem.costs(codes)
        accuracy = np.array([self._accuracy(self.searched[code]) for code in searched])
        columns = [costs[name] for name in self.problem.study.search.objectives if name != "accuracy"]
        if "accuracy" in self.problem.study.search.objectives:
            columns.append(-accuracy)
        objectives = np.stack(columns, axis=1)
        objectives[np.isnan(accuracy)] = np.nan
        short = np.nan_to_num(np.maximum(wanted - accuracy, 0.0), nan=1.0)
        algorithm.tell(
            self.problem.narrowed(codes, decisions), objectives, violation(costs, self.problem.limits) + short
        )
        return [self.searched[code].number for code in searched]

    @staticmethod
    def _accuracy(trial: Trial) -> float:
        return trial.metrics.get("accuracy", math.nan) if trial.status != "failed" else math.nan

    def _wanted(self, baseline: Trial, reference: Trial) -> float:
        """The accuracy that a candidate must reach after a search's training; less than at the end by the slack."""
        limits = self.problem.study.limits
        wanted = [-math.inf]
        if limits.accuracy_drop is not None:
            wanted.append(self._accuracy(reference) - limits.accuracy_drop)
        if limits.accuracy is not None:
            wanted.append(self._accuracy(reference) + limits.accuracy - self._accuracy(baseline))
        return max(wanted) - self.problem.study.search.slack

    def _finals(self, zero: Code, wanted: float) -> Iterator[Event]:
        """Trains finalists in rounds: from each variant the next one that would be better than what it holds.

        A variant holds the best of all fully trained networks that its decisions can make, whoever asked for them.
        """
        study = self.problem.study
        queues = {variant: self._finalists(variant, wanted) for variant in study.rows}
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
                held = self._held(variant, finished, judge)
                if self._cheapest_wins and held is not None:
                    queue[:] = [code for code in queue if self._cost(code) < self._cost(held.code)]
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
            held = self._held(variant, finished, judge)
            self.journal.belong(variant, "chosen", [held.number] if held is not None else [])

    def _held(self, variant: str, finished: Sequence[Trial], judge: Trial) -> Trial | None:
        """The best network within all limits that the decisions of a variant can make: the cheapest, or where a search
        converges to a latency the most accurate."""
        open_to_it = set(self.problem.decisions_of(self.problem.study.rows[variant]))
        within = [
            trial
            for trial in finished
            if meets_limits(self.problem, trial, judge)
            and all(index in open_to_it for index, option in enumerate(trial.code) if option)
        ]
        if self.problem.study.search.converges:
            return min(within, key=lambda trial: (-self._accuracy(trial), trial.number), default=None)
        return min(within, key=lambda trial: (self._cost(trial.code), trial.number), default=None)

    def _cost(self, code: Code) -> float:
        """What the search minimises first, of one network."""
        return float(self.problem.costs(np.asarray([code], np.int64))[self._objective][0])

    @property
    def _cheapest_wins(self) -> bool:
        """Whether what costs more than what is held already need not be trained in full."""
        return "accuracy" not in self.problem.study.search.objectives and not self.problem.study.search.converges

    @property
    def _objective(self) -> str:
        return next(name for name in self.problem.study.search.objectives if name != "accuracy")

    def _finalists(self, variant: str, wanted: float) -> list[Code]:
        """Codes to train in full, the cheapest first: of the front of cost and accuracy after the search's training,
        evenly from end to end. Where accuracy is a limit only, the most accurate of the rest fill up a short front, and
        what costs no less than the baseline is left out.
        """
        numbers = set(self.journal.members(variant, "search"))
        if self.problem.study.search.converges:
            return [trial.code for trial in self.known.values() if trial.number in numbers and any(trial.code)]
        searched = {trial.number: trial for trial in self.searched.values() if trial.number in numbers}.values()
        trials = [
            trial
            for trial in searched
            if any(trial.code) and trial.status == "done" and self._accuracy(trial) >= wanted
        ]
        if not trials:
            return []
        codes = np.asarray([trial.code for trial in trials], np.int64)
        costs = self.problem.costs(codes)
        first = self._objective
        values = np.stack([costs[first], [-self._accuracy(trial) for trial in trials]], axis=1)
        allowed = violation(costs, self.problem.limits) == 0
        whole_front = "accuracy" in self.problem.study.search.objectives
        if not whole_front:
            allowed &= costs[first] < self.problem.baseline[first]
        front = np.flatnonzero(front_mask(values) & allowed)
        front = front[np.argsort(costs[first][front], kind="stable")]
        count = self.problem.study.search.finalists
        picks = front[np.unique(np.linspace(0, len(front) - 1, min(count, len(front))).round().astype(int))].tolist()
        rest = [index for index in np.argsort(values[:, 1], kind="stable").tolist() if allowed[index]]
        if not whole_front:
            picks += [index for index in rest if index not in picks][: count - len(picks)]
        return [trials[index].code for index in sorted(picks, key=lambda index: costs[first][index])]

    def _evaluate(
        self, stage: str, codes: Sequence[Code], aim: Aim | None = None
    ) -> Generator[Event, None, list[Trial]]:
        """Trials of codes in the given order, from the journal where they are known; yields each as it is there."""
        keys = [self._key(stage, code, aim) for code in codes]
        for key in keys:
            self.numbers.setdefault(key, len(self.numbers))
            if self.recorded.get(self.numbers[key], key) != key:
                raise JournalMismatch(
                    f"{self.journal.directory}: trial {self.numbers[key]} was another network before; "
                    "it was written by another version of chipfit, give another --out"
                )
        jobs = {self.numbers[key]: (key, code) for key, code in zip(keys, codes, strict=True) if key not in self.known}
        for key in dict.fromkeys(key for key in keys if key in self.known):
            yield self.known[key]
        floors = self._floors() if stage == "search" else ()
        for event in self.pool.run([self._job(stage, number, code, floors, aim) for number, (_, code) in jobs.items()]):
            if isinstance(event, Outcome):
                key, code = jobs[event.number]
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
        if stage == "search":
            self.searched.update(zip(codes, found, strict=True))
        return found

    def _key(self, stage: str, code: Code, aim: Aim | None = None) -> str:
        """Equal for codes that close to the same network: what is trained once in a stage is never trained again."""
        key = f"{stage}:{self.problem.space.close(code).digest[:40]}"
        return key if aim is None else f"{key}:{hashlib.sha256(repr(aim).encode()).hexdigest()[:16]}"

    def _job(self, stage: str, number: int, code: Code, floors: tuple[float, ...], aim: Aim | None) -> Job:
        study = self.problem.study
        epochs = {
            "baseline": study.training.baseline_epochs,
            "search": study.search.epochs,
            "final": study.training.final_epochs,
            SUPERNET: self.epochs_shared,
            CONVERGE: study.search.converge.epochs,
        }
        start: Path | None = self.journal.weights_file(self.numbers[self._key("baseline", (0,) * len(code))])
        if stage == "baseline":
            start = self.given if study.training.start == "given" else None
        digest = hashlib.sha256(f"{study.seed}:{self._key(stage, code, aim)}".encode()).digest()
        return Job(
            number, stage, code, study.training.recipe(epochs[stage]), int.from_bytes(digest[:4], "big"), start,
            self.journal.weights_file(number), self.journal.checkpoints / f"trial{number:04d}.safetensors",
            floors, test=stage == "final", threads=study.threads, aim=aim,
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


def meets_limits(problem: Problem, trial: Trial, judge: Trial) -> bool:
    """Whether a trained network holds the limits on accuracy and on costs; `judge` is the baseline trained alike."""
    limits = problem.study.limits
    accuracy = trial.metrics.get("accuracy", math.nan)
    if trial.status != "done" or not math.isfinite(accuracy):
        return False
    if limits.accuracy_drop is not None and accuracy < judge.metrics["accuracy"] - limits.accuracy_drop:
        return False
    if limits.accuracy is not None and accuracy < limits.accuracy:
        return False
    # The sum of a closed network's costs and that of its tables may differ in the last digit.
    return all(trial.costs[name] <= limit * (1 + ROUNDING) for name, limit in problem.limits.items())
