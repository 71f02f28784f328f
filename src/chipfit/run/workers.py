"""Training candidates in processes of their own; progress and results come back as they happen."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import queue
import time
from collections.abc import Generator, Iterator, Mapping, Sequence, Set
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from typing import Any, cast

from chipfit.errors import TrainingFailed
from chipfit.graph.graph import Graph
from chipfit.run.jobs import (
    SUPERNET,
    Job,
    Judged,
    Judging,
    Outcome,
    Progress,
    Quantising,
    Result,
    Setting,
    Work,
    task_of,
)
from chipfit.run.study import Study
from chipfit.run.tabular import ACCURACY, looked_up
from chipfit.tasks.task import Task

POLL_S = 0.2


class Workers:
    """A pool of processes that train and judge; with one worker, this process does it itself."""

    def __init__(self, setting: Setting, count: int) -> None:
        self._setting = setting
        self._count = count
        self._context = multiprocessing.get_context("spawn")
        self._pool: ProcessPoolExecutor | None = None
        self._news: Any = None

    def __enter__(self) -> Workers:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Ends all processes at once; what they were training is taken up from its checkpoint another time."""
        pool, self._pool = self._pool, None
        if pool is not None:
            processes = list((pool._processes or {}).values())  # pyright: ignore[reportPrivateUsage]
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.kill()

    def run(self, jobs: Sequence[Work]) -> Iterator[Progress | Result]:
        """Runs jobs; yields progress, and one outcome for each in the order in which they finish.

        A candidate whose training fails or takes its process down is a failed outcome; with one worker that process is
        this one. Raises `StorageFull` when a disk is full, and what else is no fault of the candidate.
        """
        if self._count == 1:
            for job in jobs:
                yield from work(self._setting, job)
            return
        lost = yield from self._attempt(jobs)
        # Which of them took the process down cannot be told: one by one, only that one fails.
        for job in lost:
            if (yield from self._attempt([job])):
                yield job.lost()

    def _attempt(self, jobs: Sequence[Work]) -> Generator[Progress | Result, None, list[Work]]:
        """Runs jobs until all are done or a process died; returns those without an outcome."""
        pool = self._started()
        try:
            running: dict[Future[Result], Work] = {pool.submit(_remote, job): job for job in jobs}
        except BrokenProcessPool:  # a process died while it had nothing to do
            self.stop()
            return list(jobs)
        while running:
            done, _ = wait(running, timeout=POLL_S, return_when=FIRST_COMPLETED)
            yield from self._heard({job.number for job in running.values()})
            for future in sorted(done, key=lambda future: future.exception() is not None):
                try:
                    outcome = future.result()
                except BrokenProcessPool:
                    self.stop()
                    return list(running.values())
                del running[future]
                yield outcome
        return []

    def _heard(self, numbers: Set[int]) -> Iterator[Progress]:
        """Progress of jobs that has come in; what comes after a job's outcome is of no use."""
        with contextlib.suppress(queue.Empty):
            while True:
                news: Progress = self._news.get_nowait()
                if news.number in numbers:
                    yield news

    def _started(self) -> ProcessPoolExecutor:
        if self._pool is None:
            self._news = self._context.Queue()
            self._pool = ProcessPoolExecutor(
                self._count, self._context, initializer=_begin, initargs=(self._setting, self._news, os.getpid())
            )
        return self._pool


_shared: dict[str, Any] = {}


def _begin(setting: Setting, news: Any, parent: int) -> None:
    """Runs once in every worker process."""
    import signal
    import threading

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _keep_freed_memory()
    _shared.update(setting=setting, news=news)

    def leave_with_parent() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os._exit(1)

    threading.Thread(target=leave_with_parent, daemon=True).start()


def _keep_freed_memory() -> None:
    """Tells glibc not to hand the tensors of a step back to the system: faulting them in anew takes a tenth of it."""
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # another C library or system
        return
    trim_threshold, mmap_threshold = -1, -3  # names of <malloc.h>
    mallopt(mmap_threshold, 1 << 30)
    mallopt(trim_threshold, (1 << 31) - 1)


def _remote(job: Work) -> Result:
    last: Result | None = None
    for event in work(_shared["setting"], job):
        if isinstance(event, Progress):
            _shared["news"].put(event)
        else:
            last = event
    return cast(Result, last)


def work(setting: Setting, job: Work) -> Iterator[Progress | Result]:
    """Does one job in this process: progress by epoch, then its outcome, its weights written before.

    What only this candidate is to blame for is a failed outcome; a file that cannot be read or written, or a name that
    does not exist, would fail all of them and is raised.
    """
    import torch

    from chipfit.accuracy.own import one_line

    begin = time.monotonic()
    threads = torch.get_num_threads()
    torch.set_num_threads(job.threads)
    try:
        if isinstance(job, Judging):
            from chipfit.run.judging import judged

            yield Judged(job.number, judged(setting, job))
        elif isinstance(job, Quantising):
            from chipfit.run.integers import quantised

            yield quantised(setting, job)
        else:
            yield from _train(setting, job, begin)
    except TrainingFailed as error:
        yield Outcome(job.number, "failed", seconds=time.monotonic() - begin, why=str(error))
    except (RuntimeError, MemoryError) as error:  # torch raises these where memory does not suffice
        yield Outcome(
            job.number, "failed", seconds=time.monotonic() - begin, why=one_line(f"{type(error).__name__}: {error}")
        )
    finally:
        torch.set_num_threads(threads)


def _train(setting: Setting, job: Job, begin: float) -> Iterator[Progress | Outcome]:
    from chipfit.accuracy.train import train
    from chipfit.nets.module import GraphModule
    from chipfit.nets.network import save_weights

    study = setting.study
    if job.stage == SUPERNET:
        from chipfit.run.judging import shared_training

        yield from shared_training(setting, job, begin)
        return
    if job.aim is not None:
        from chipfit.run.converging import converging_training

        yield from converging_training(setting, job, job.aim, begin)
        return
    if (study.accuracy or "").startswith(ACCURACY):
        metrics = looked_up(study, job.stage, job.code)
        yield Outcome(job.number, "done", metrics, seconds=time.monotonic() - begin)
        return
    graph = setting.space.close(job.code)
    module = GraphModule(graph, starting_weights(setting, job, graph))
    if study.accuracy is not None:
        metrics = _own_training(study.accuracy, study, job, module)
        save_weights(job.weights, module.export_weights())
        yield Outcome(job.number, "done", metrics, seconds=time.monotonic() - begin)
        return
    task = task_of(study.task)
    history: list[float] = []
    status, why = "done", ""
    for epoch in train(module, task, job.recipe, seed=job.seed, device=study.device, checkpoint=job.checkpoint):
        history.append(epoch.metrics[task.metric])
        yield Progress(job.number, epoch.number, job.recipe.epochs, history[-1])
        if epoch.number <= len(job.floors) and max(history) < job.floors[epoch.number - 1]:
            status, why = "stopped", f"{task.metric} {max(history):.3f} after epoch {epoch.number} is far behind"
            break
    metrics = _measured(study, task, module, "validation")
    if job.test:
        metrics |= {f"test_{name}": value for name, value in _measured(study, task, module, "test").items()}
    save_weights(job.weights, module.export_weights())
    job.checkpoint.unlink(missing_ok=True)
    yield Outcome(job.number, status, metrics, tuple(history), time.monotonic() - begin, why)


def _measured(study: Study, task: Task, module: Any, split: str) -> dict[str, float]:
    """Metrics on a split; "accuracy" is the task's primary metric, whatever its own name, with its standard error."""
    from chipfit.accuracy.train import evaluate

    metrics = evaluate(module, task, split, device=study.device)
    same = {
        f"accuracy{end}": metrics[f"{task.metric}{end}"]
        for end in ("", "_standard_error")
        if task.metric + end in metrics
    }
    return {**same, **metrics}


def starting_weights(setting: Setting, job: Job, graph: Graph) -> Mapping[str, Any]:
    """Weights that a job starts from: fresh, those in `job.start`, or inherited from these."""
    import numpy as np

    from chipfit.nets.inherit import inherit
    from chipfit.nets.network import Network, initialise, load_weights

    generator = np.random.default_rng([job.seed, 1])
    baseline = setting.space.close((0,) * len(setting.space.decisions))
    if job.start is None:
        return initialise(graph, generator)
    if job.goes_on:
        return load_weights(job.start)
    given = Network(setting.study.model, baseline, load_weights(job.start))
    return inherit(given, setting.space, job.code, generator).weights


def _own_training(spec: str, study: Study, job: Job, module: Any) -> dict[str, float]:
    """Calls the user's own training; whatever it raises is the candidate's failure, not the run's."""
    from chipfit.accuracy.own import Budget, call_own

    budget = Budget(job.stage, job.recipe.epochs, job.recipe.images, job.seed, study.device)
    return call_own(spec, module, budget, adds_up=study.search.halves and job.stage == "search")
