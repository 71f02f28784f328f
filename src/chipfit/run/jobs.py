"""What worker processes are given to do, and what comes back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from chipfit.accuracy.recipe import Recipe
from chipfit.graph.graph import Graph
from chipfit.run.delivered import Quantised
from chipfit.run.journal import Scored
from chipfit.run.settings import TaskSettings
from chipfit.run.study import Study
from chipfit.tasks.task import Task

SUPERNET = "supernet"
"""The stage of the one job that trains the weights of all networks at once."""

CONVERGE = "converge"
"""The stage of the jobs that train weights and choice together, one for each variant."""

DIED = "its process died (out of memory? a script must start a run under `if __name__ == '__main__':`)"


@dataclass(frozen=True, slots=True)
class Aim:
    """What a converging training chooses from, and where it lands: near `target_s`, at `most_s` at the most.

    `kept` are the indices of the options of every decision of the space that are open to it.
    """

    kept: tuple[tuple[int, ...], ...]
    target_s: float
    most_s: float


@dataclass(frozen=True, slots=True)
class Job:
    """One network to train. `start` is the file with the weights to inherit from, None for fresh weights.

    `floors` are the accuracies below which training stops, by epoch; `test` asks for metrics on the test split;
    `threads` is how many PyTorch may use. A converging training has an `aim`; its `code` is that of the baseline.
    One that `goes_on` starts from the weights of the same network in `start`, as they are.
    """

    number: int
    stage: str
    code: tuple[int, ...]
    recipe: Recipe
    seed: int
    start: Path | None
    weights: Path
    checkpoint: Path
    floors: tuple[float, ...] = ()
    test: bool = False
    threads: int = 1
    aim: Aim | None = None
    goes_on: bool = False

    def lost(self) -> Outcome:
        """The outcome of a job that took its process down."""
        return Outcome(self.number, "failed", why=DIED)


@dataclass(frozen=True, slots=True)
class Judging:
    """Networks to judge without training them: by a score, or with the weights of a supernet in the file `supernet`."""

    number: int
    codes: tuple[tuple[int, ...], ...]
    seed: int
    score: str
    supernet: Path | None = None
    threads: int = 1

    def lost(self) -> Judged:
        """The outcome of a job that took its process down."""
        return Judged(self.number, tuple(Scored(code, None, 0.0, DIED) for code in self.codes))


@dataclass(frozen=True, slots=True)
class Judged:
    """What the networks of a `Judging` were judged as, in its order."""

    number: int
    scores: tuple[Scored, ...]


@dataclass(frozen=True, slots=True)
class Quantising:
    """A trained network (its weights in `weights`) to write as the int8 file `file` and to run on the test split."""

    number: int
    code: tuple[int, ...]
    weights: Path
    file: Path
    threads: int = 1

    def lost(self) -> Quantised:
        """The outcome of a job that took its process down."""
        return Quantised(self.number, why=DIED)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a job is: epochs done of all, and the last accuracy."""

    number: int
    done: int
    total: int
    metric: float


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a job ended; see `journal.Trial`. `code` is that of a network that the job itself chose."""

    number: int
    status: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    history: tuple[float, ...] = ()
    seconds: float = 0.0
    why: str = ""
    code: tuple[int, ...] | None = None


Work = Job | Judging | Quantising
Result = Outcome | Judged | Quantised


@dataclass(frozen=True, slots=True)
class Setting:
    """What all jobs of a run share. `given` is the file with the weights that the model came with."""

    study: Study
    space: Graph
    given: Path


_tasks: dict[TaskSettings, Task] = {}


def task_of(settings: TaskSettings, progress: Callable[..., Any] | None = None) -> Task:
    """The task of a study, loaded once per process; `progress` wraps what may take long."""
    from chipfit.tasks.open import open_task

    if settings not in _tasks:
        _tasks[settings] = open_task(
            settings.data,
            size=settings.size,
            seed=settings.seed,
            train=settings.train,
            validation=settings.validation,
            test=settings.test,
            on_bad=settings.on_bad,
            progress=progress or iter,
        )
    return _tasks[settings]
