"""What a run costs and saves: expected before it, counted by session while it goes on, and what its result saves.

Every session of a run notes in the journal what it has spent so far, so that a run that was interrupted, or killed,
counts all that it took.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Generator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from chipfit.errors import ChipfitError
from chipfit.run.journal import Journal, Trial
from chipfit.run.power import JOULES_PER_KWH, Draw, Meter, Place, Spent
from chipfit.run.schedule import PASSES
from chipfit.run.settings import LedgerSettings
from chipfit.run.study import Study
from chipfit.search.halving import trainings

if TYPE_CHECKING:
    from chipfit.run.problem import Problem
    from chipfit.run.summary import Summary
    from chipfit.tasks.task import Task

T = TypeVar("T")

NOTED_EVERY_S = 5.0
"""How often a session notes what it has spent: a killed one loses at most that and the training under way."""

FORWARD = 1 / 3
"""What judging an image costs of training on it: a backward pass is about two forward passes."""

SPREAD = 0.3
"""How far candidates may take longer or shorter to train than the baseline that is timed, as a fraction."""

START_S = 5.0
"""What it takes to start processes that train, assumed."""

USERS, DAYS = 1_000_000, 365


@dataclass(frozen=True, slots=True)
class Expected:
    """What a search will take: its time from begin to end, and energy, each with half its range."""

    seconds: float
    seconds_spread: float
    energy_j: float
    energy_spread_j: float
    detail: str


@dataclass(frozen=True, slots=True)
class Plan:
    """What a study will do: `networks` that its rows can reach, how many trainings at least and at most.

    `expected` is None where trainings cannot be timed beforehand; `why` then says so.
    """

    networks: int
    trainings: tuple[int, int]
    expected: Expected | None
    why: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """One time that a run was under way, from its begin to its end."""

    seconds: float
    workers: int
    energy_j: float
    source: str
    detail: str


@dataclass(frozen=True, slots=True)
class Saving:
    """What a network needs less than the baseline, modelled, for each inference and for a million users in a year.

    `break_even` is after how many inferences that is more than the search took, None where it saves nothing.
    """

    baseline_j: float
    found_j: float
    inferences_per_user_and_day: float
    energy_j: float
    co2e_g: float
    break_even: float | None


@dataclass(frozen=True, slots=True)
class Ledger:
    """What a run has cost so far. `stages` are worker seconds of training by stage.

    `every_s` is how long the same workers would train all of the plan's networks in full.
    """

    stages: Mapping[str, float]
    sessions: tuple[Session, ...]
    plan: Plan | None
    place: Place | None
    settings: LedgerSettings = field(default_factory=LedgerSettings)
    every_s: float | None = None

    @property
    def seconds(self) -> float:
        """Time of all sessions."""
        return sum(session.seconds for session in self.sessions)

    @property
    def spent(self) -> Spent | None:
        """Energy of all sessions, None where none was counted; measured only where it was so in every one."""
        if not self.sessions:
            return None
        source = "measured" if all(session.source == "measured" for session in self.sessions) else "modelled"
        details = dict.fromkeys(session.detail for session in self.sessions)
        return Spent(sum(session.energy_j for session in self.sessions), source, "; ".join(details))

    def co2e_g(self, energy_j: float) -> float | None:
        """What so much electricity emits; None where it is not known where it is from."""
        return None if self.place is None else energy_j / JOULES_PER_KWH * self.place.g_per_kwh

    def saving(self, baseline: Trial, found: Trial) -> Saving | None:
        """What a result saves, None where that cannot be said."""
        old, new, spent = baseline.costs.get("energy"), found.costs.get("energy"), self.spent
        if old is None or new is None or spent is None or self.place is None:
            return None
        daily = self.settings.inferences_per_user_and_day
        yearly = (old - new) * daily * DAYS * USERS
        even = spent.energy_j / (old - new) if old > new else None
        return Saving(old, new, daily, yearly, yearly / JOULES_PER_KWH * self.place.g_per_kwh, even)


class Book:
    """Keeps the ledger of one session in the journal."""

    def __init__(self, journal: Journal, workers: int, meter: Meter) -> None:
        self._journal, self._workers, self._meter = journal, workers, meter
        self._before: list[dict[str, Any]] = json.loads(journal.about("sessions") or "[]")
        self._noted = -math.inf

    def keep(self, at_once: bool = False) -> None:
        """Notes what this session has spent so far, where some seconds have passed since the last time."""
        seconds = self._meter.seconds
        if not at_once and seconds < self._noted + NOTED_EVERY_S:
            return
        self._noted = seconds
        spent = self._meter.read()
        now = Session(seconds, self._workers, spent.energy_j, spent.source, spent.detail)
        self._journal.note("sessions", json.dumps([*self._before, asdict(now)]))


def counted(events: Generator[T], book: Book) -> Iterator[T]:
    """The events of a run, what it has spent kept as they come, and once more when it ends or is broken off."""
    try:
        with contextlib.closing(events):
            for event in events:
                book.keep()
                yield event
    finally:
        book.keep(at_once=True)


def note_place(journal: Journal, study: Study, place: Place) -> None:
    """Keeps where the electricity is from and how savings are told, as the study says them now."""
    journal.note("place", json.dumps({"place": asdict(place), "settings": study.ledger.model_dump()}))


def ledger(summary: Summary) -> Ledger:
    """What a run has cost so far, from its journal alone."""
    notes = summary.notes
    stages: dict[str, float] = {}
    for trial in summary.trials:
        stages[trial.stage] = stages.get(trial.stage, 0.0) + trial.seconds
    stages |= {
        stage: sum(each.seconds for each in scores.values()) for stage, scores in summary.scores.items() if scores
    }
    sessions = tuple(Session(**session) for session in notes.get("sessions") or ())
    plan = read_plan(notes["plan"]) if notes.get("plan") else None
    known = notes.get("place")
    place = Place(**known["place"]) if known else None
    settings = LedgerSettings.model_validate(known["settings"]) if known else LedgerSettings()
    full = [trial.seconds for trial in summary.trials if trial.stage == "final" and trial.status == "done"]
    every = plan.networks * sum(full) / len(full) / sessions[-1].workers if plan and full and sessions else None
    return Ledger(stages, sessions, plan, place, settings, every)


def read_plan(data: Mapping[str, Any]) -> Plan:
    """A plan as a journal keeps it (`dataclasses.asdict`)."""
    expected = None if data["expected"] is None else Expected(**data["expected"])
    return Plan(data["networks"], tuple(data["trainings"]), expected, data["why"])


def plan(problem: Problem, machine: Draw, task: Task | None = None) -> Plan:
    """What a study will take; times a few training steps of its baseline, on images of its `task` where it is given.

    Nothing is raised for what cannot be timed: the plan says why not.
    """
    study = problem.study
    reach = [problem.reach(problem.decisions_of(edits)) for edits in study.rows.values()]
    networks = problem.reach(sorted({index for edits in study.rows.values() for index in problem.decisions_of(edits)}))
    converging = len(reach) if study.search.converges else 0
    finals = len(study.rules) + (converging or sum(min(study.search.finalists, size - 1) for size in reach))
    searched = _searched(study, [] if converging else [size - 1 for size in reach])
    counts = ((1, 1), *searched, (1, 1 + finals), (converging, converging))
    total = (sum(least for least, _ in counts), sum(most for _, most in counts))
    if study.search.budget is not None:
        return Plan(networks, total, _budgeted(study.search.budget, study, machine))
    if study.accuracy is not None:
        return Plan(networks, total, None, f"how long {study.accuracy} takes is not known before it has run")
    try:
        pace, images = _pace(problem, task)
    except ChipfitError as error:
        return Plan(networks, total, None, str(error))
    return Plan(networks, total, _expected(study, machine, pace, images, counts))


def _searched(study: Study, networks: Sequence[int]) -> list[tuple[int, int]]:
    """Trainings of the search at least and at most, by rung, over variants that have so many networks besides the
    baseline, which is among them."""
    search = study.search
    if search.halves:
        found = [trainings(search.rungs, search.trials * search.epochs, size) for size in networks]
        ends = [[sum(ends) for ends in zip(*rung, strict=True)] for rung in zip(*found, strict=True)]
        return [(1 + least, 1 + most) for least, most in ends]
    most = sum(min(search.trials, size) for size in networks)
    return [(1 + (most if search.stop_below == 0 else most // 2), 1 + most)]


def _budgeted(budget_s: float, study: Study, machine: Draw) -> Expected:
    """What a search with a budget takes: the time that it is given, of which it may leave some."""
    energy_j = budget_s * machine.watts(study.workers * study.threads)
    return Expected(budget_s, SPREAD * budget_s, energy_j, SPREAD * energy_j, f"its budget; {machine.detail}")


def _images(study: Study, sizes: Mapping[str, int]) -> tuple[float, ...]:
    """What one training sees in each stage, in images trained on: the baseline, in the search by rung, in full at the
    end, and a converging one, whose steps train `PASSES` networks and judge others for the choice."""
    train = min(sizes["train"], study.training.images or sizes["train"])
    judged = FORWARD * sizes["validation"]
    search = study.search
    added = [rung - search.below(rung) for rung in search.rungs] if search.halves else [search.epochs]
    epochs = (study.training.baseline_epochs, *added, study.training.final_epochs)
    *before, final = (count * (train + judged) + judged for count in epochs)
    converging = search.converge.epochs * ((PASSES + 1) * train + judged)
    return *before, final + FORWARD * sizes["test"], converging


def _pace(problem: Problem, task: Task | None) -> tuple[float, tuple[float, ...]]:
    """Seconds that the baseline takes for each image, and how many images a training of each stage sees."""
    from chipfit.accuracy.pace import seconds_per_image
    from chipfit.nets.module import GraphModule
    from chipfit.run.jobs import task_of

    study = problem.study
    asked = {split: getattr(study.task, split) for split in ("train", "validation", "test")}
    # Data that the study counts itself need not be made or read to say how long they take.
    if task is None and None in asked.values():
        task = task_of(study.task)
    images = _images(study, asked if task is None else task.sizes)
    graph = problem.space.close((0,) * len(problem.space.decisions))
    module = GraphModule(graph, problem.network.weights)
    recipe = study.training.recipe(1)
    pace = seconds_per_image(module, recipe, sum(images), task=task, device=study.device, threads=study.threads)
    return pace, images


def _expected(
    study: Study, machine: Draw, pace: float, images: Sequence[float], counts: Sequence[tuple[int, int]]
) -> Expected:
    searching = [min(study.workers, study.search.batch)] * len(study.search.rungs)
    side_by_side = (1, *searching, min(study.workers, len(study.rows)), 1)
    ends: list[tuple[float, float]] = []
    for end in (0, 1):
        # Trainings of a stage side by side, on no more cores than there are.
        rounds = [
            count[end] / min(width, max(1, machine.cores // study.threads))
            for count, width in zip(counts, side_by_side, strict=True)
        ]
        factor = 1 - SPREAD if end == 0 else 1 + SPREAD
        seconds = [START_S if study.workers > 1 else 0.0]
        seconds += [factor * pace * seen * some for seen, some in zip(images, rounds, strict=True)]
        ends.append((sum(seconds), sum(seconds) * machine.watts(study.workers * study.threads)))
    (shortest, least_j), (longest, most_j) = ends
    return Expected(
        (shortest + longest) / 2,
        (longest - shortest) / 2,
        (least_j + most_j) / 2,
        (most_j - least_j) / 2,
        f"{1e3 * pace:.3g} ms for each image that the baseline trains on, timed; {machine.detail}",
    )
