"""A converging search in a study: one training of a variant's part of the space lands on the limit of latency."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from chipfit.errors import InvalidInput, LimitImpossible
from chipfit.estimate.store import estimator_for
from chipfit.graph.graph import Graph
from chipfit.graph.rewrite import restrict
from chipfit.run.jobs import Aim, Job, Outcome, Progress, Setting, task_of
from chipfit.targets import load_target

if TYPE_CHECKING:
    from chipfit.run.problem import Problem
    from chipfit.tasks.task import Task


def aim_of(problem: Problem, decisions: tuple[int, ...]) -> Aim:
    """What a variant's training chooses from and where it lands: so near under the limit that it holds it."""
    from chipfit.accuracy.distribution import TOLERANCE

    kept = tuple(
        problem.offered[index] if index in decisions else (0,) for index in range(len(problem.space.decisions))
    )
    limit_s = problem.limits["latency"]
    return Aim(kept, limit_s / (1 + TOLERANCE), limit_s)


def check_converging(problem: Problem, task: Task) -> None:
    """Refuses what no converging training can be, before anything is trained.

    Raises `InvalidInput` for a variant with one network, too few steps and what cannot be relaxed, `LimitImpossible`
    where no network of a variant is near the limit.
    """
    from chipfit.accuracy.converge import Converging, moves_of
    from chipfit.accuracy.distribution import check_target
    from chipfit.nets.relaxed import Relaxed
    from chipfit.nets.supernet import Supernet

    study = problem.study
    asked = study.search.converge
    try:
        moves_of(study.training.recipe(asked.epochs), task, Converging(asked.method))
    except InvalidInput as error:
        raise InvalidInput(f"search.converge.epochs = {asked.epochs}: {error}") from None
    for variant, edits in study.rows.items():
        decisions = problem.decisions_of(edits)
        if problem.reach(decisions) < 2:
            raise InvalidInput(
                f"variants.{variant}: has the network as given only, nothing is left to choose; open more decisions "
                f"under [space]{', or offer all options (curate = false)' if problem.curated else ''}"
            )
        aim = aim_of(problem, decisions)
        space = _open(problem.space, aim)
        try:
            check_target(problem.estimator.prepare(space), aim.target_s)
            supernet = Supernet(space, study.seed)
            if asked.method == "gradient":
                Relaxed(supernet)
        except (InvalidInput, LimitImpossible) as error:
            raise type(error)(f"variant {variant}: {error}") from None


def converging_training(setting: Setting, job: Job, aim: Aim, begin: float) -> Iterator[Progress | Outcome]:
    """Trains weights and choice of a variant together, from the weights of the trained baseline.

    The outcome has the code of the network where it landed, its metrics with inherited weights, and these weights.
    """
    from chipfit.accuracy.converge import Converging, converge
    from chipfit.accuracy.supernet import calibrated, supernet_metrics
    from chipfit.nets.network import Network, load_weights, save_weights
    from chipfit.nets.supernet import Supernet

    study, task = setting.study, task_of(setting.study.task)
    space = _open(setting.space, aim)
    given = None if job.start is None else Network(study.model, space.close(job.code), load_weights(job.start))
    supernet = Supernet(space, job.seed, given=given)
    file = Path(study.estimator) if study.estimator is not None else None
    costs = estimator_for(load_target(study.target), study.precision, file).prepare(space)
    landed: tuple[int, ...] = job.code
    history: list[float] = []
    for epoch in converge(
        supernet, task, job.recipe, costs, aim.target_s, seed=job.seed, device=study.device, checkpoint=job.checkpoint,
        how=Converging(study.search.converge.method), most_s=aim.most_s,
    ):  # fmt: skip
        landed = epoch.code
        history.append(epoch.metrics[task.metric])
        yield Progress(job.number, epoch.number, job.recipe.epochs, history[-1])
    metrics = supernet_metrics(supernet, landed, task, seed=job.seed, device=study.device)
    save_weights(job.weights, calibrated(supernet, landed, task, seed=job.seed, device=study.device).weights)
    job.checkpoint.unlink(missing_ok=True)
    code = tuple(kept[option] for kept, option in zip(aim.kept, landed, strict=True))
    found = {"accuracy": metrics[task.metric], **metrics}
    yield Outcome(job.number, "done", found, tuple(history), time.monotonic() - begin, code=code)


def _open(space: Graph, aim: Aim) -> Graph:
    """The space with what is open to a training."""
    return restrict(space, {item.name: kept for item, kept in zip(space.decisions, aim.kept, strict=True)})
