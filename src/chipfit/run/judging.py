"""What worker processes do for a combined search: score networks, train a supernet, rank networks with its weights."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

from chipfit.accuracy.own import one_line
from chipfit.accuracy.supernet import Supernet, supernet_metrics, train_supernet
from chipfit.accuracy.zero_shot import fresh, score_of
from chipfit.errors import ScoreFailed
from chipfit.nets.module import parameter_name, weight_name
from chipfit.nets.network import Network, load_weights, save_weights
from chipfit.run.jobs import Job, Judging, Outcome, Progress, Setting, task_of
from chipfit.run.journal import Scored

IMAGES = 16
"""Images that a score sees."""

VALIDATED = 1000
"""Validation images on which a network is ranked with the weights of a supernet."""


def judged(setting: Setting, job: Judging) -> tuple[Scored, ...]:
    """What the networks of a job are judged as; one that cannot be judged says why, and ends no search."""
    judge = _by_score(setting, job) if job.supernet is None else _by_supernet(setting, job, job.supernet)
    found: list[Scored] = []
    for code in job.codes:
        begin = time.monotonic()
        try:
            value, why = judge(code), ""
        except ScoreFailed as error:
            value, why = None, str(error)
        except (RuntimeError, MemoryError) as error:  # torch raises these where memory does not suffice
            value, why = None, one_line(f"{type(error).__name__}: {error}")
        found.append(Scored(code, value, time.monotonic() - begin, why))
    return tuple(found)


def _by_score(setting: Setting, job: Judging) -> Callable[[tuple[int, ...]], float]:
    score = score_of(job.score)

    def judge(code: tuple[int, ...]) -> float:
        graph = setting.space.close(code)
        shape = [int(size) for size in graph.inputs[0].shape[1:]]  # type: ignore[arg-type]
        # Noise, not images: a score tells of the network, and studies with a training of their own have no images here.
        batch = torch.randn((IMAGES, *shape), generator=torch.Generator().manual_seed(job.seed))
        return score(fresh(graph, job.seed), batch)

    return judge


def _by_supernet(setting: Setting, job: Judging, file: Path) -> Callable[[tuple[int, ...]], float]:
    task = task_of(setting.study.task)
    supernet = _restored(setting, job.seed, file)

    def judge(code: tuple[int, ...]) -> float:
        metrics = supernet_metrics(supernet, code, task, images=VALIDATED, seed=job.seed, device=setting.study.device)
        return metrics[task.metric]

    return judge


_restored_last: dict[Path, Supernet] = {}


def _restored(setting: Setting, seed: int, file: Path) -> Supernet:
    """The supernet of a file, read once per process."""
    if file not in _restored_last:
        supernet = Supernet(setting.space, seed)
        weights = load_weights(file)
        supernet.load_state_dict({parameter_name(name): torch.from_numpy(array) for name, array in weights.items()})
        _restored_last.clear()
        _restored_last[file] = supernet
    return _restored_last[file]


def shared_training(setting: Setting, job: Job, begin: float) -> Iterator[Progress | Outcome]:
    """Trains the weights of all networks of the space, from those of the trained baseline."""
    study, task = setting.study, task_of(setting.study.task)
    given: Network | None = None
    if job.start is not None:
        given = Network(study.model, setting.space.close(job.code), load_weights(job.start))
    supernet = Supernet(setting.space, job.seed, given=given)
    metrics: dict[str, float] = {}
    history: list[float] = []
    for epoch in train_supernet(
        supernet, task, job.recipe, seed=job.seed, device=study.device, checkpoint=job.checkpoint
    ):
        metrics = epoch.metrics
        history.append(metrics[task.metric])
        yield Progress(job.number, epoch.number, job.recipe.epochs, history[-1])
    state: dict[str, Any] = supernet.state_dict()
    save_weights(job.weights, {weight_name(name): tensor.cpu().numpy() for name, tensor in state.items()})
    job.checkpoint.unlink(missing_ok=True)
    found = {"accuracy": metrics[task.metric], **metrics}
    yield Outcome(job.number, "done", found, tuple(history), time.monotonic() - begin)
