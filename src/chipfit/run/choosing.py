"""What a run decides from finished trials: how accurate a candidate must be, what is trained in full, what is held."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from chipfit.run.journal import Trial
from chipfit.run.problem import ROUNDING, Problem
from chipfit.run.study import Study
from chipfit.search.algorithm import Codes
from chipfit.search.pareto import front_mask
from chipfit.spaces.preflight import violation

Code = tuple[int, ...]
Floats = NDArray[np.float64]


def accuracy_of(trial: Trial) -> float:
    """The accuracy that a training gave, NaN where it failed."""
    return trial.metrics.get("accuracy", math.nan) if trial.status != "failed" else math.nan


def wanted_accuracy(study: Study, baseline: Trial, reference: Trial) -> float:
    """The accuracy that a candidate must reach after a search's training; less than at the end by the slack.

    `reference` is the baseline trained as candidates are.
    """
    limits = study.limits
    wanted = [-math.inf]
    if limits.accuracy_drop is not None:
        wanted.append(accuracy_of(reference) - limits.accuracy_drop)
    if limits.accuracy is not None:
        wanted.append(accuracy_of(reference) + limits.accuracy - accuracy_of(baseline))
    return max(wanted) - study.search.slack


def judged(problem: Problem, codes: Codes, trials: Sequence[Trial], wanted: float | Floats) -> tuple[Floats, Floats]:
    """What an algorithm is told of codes (n, d) and their trials: objectives (n, m) and violation (n,).

    `wanted` is the accuracy that they must reach, one for all or (n,).
    """
    costs = problem.costs(codes)
    accuracy = np.array([accuracy_of(trial) for trial in trials])
    columns = [costs[name] for name in problem.study.search.objectives if name != "accuracy"]
    if "accuracy" in problem.study.search.objectives:
        columns.append(-accuracy)
    objectives = np.stack(columns, axis=1)
    objectives[np.isnan(accuracy)] = np.nan
    short = np.nan_to_num(np.maximum(wanted - accuracy, 0.0), nan=1.0)
    return objectives, violation(costs, problem.limits) + short


def longest_trained(trials: Sequence[Trial]) -> list[Trial]:
    """Those on the highest rung that any of them reached: of a search that has no rungs all."""
    highest = max((trial.rung for trial in trials), default=0)
    return [trial for trial in trials if trial.rung == highest]


def finalists(problem: Problem, trials: Sequence[Trial], wanted: float) -> list[Code]:
    """Codes to train in full, the cheapest first: of the front of cost and accuracy after the search's training,
    evenly from end to end. Where accuracy is a limit only, the most accurate of the rest fill up a short front, and
    what costs no less than the baseline is left out.
    """
    trials = [trial for trial in trials if accuracy_of(trial) >= wanted]
    if not trials:
        return []
    codes = np.asarray([trial.code for trial in trials], np.int64)
    costs = problem.costs(codes)
    first = _objective(problem)
    values = np.stack([costs[first], [-accuracy_of(trial) for trial in trials]], axis=1)
    allowed = violation(costs, problem.limits) == 0
    whole_front = "accuracy" in problem.study.search.objectives
    if not whole_front:
        allowed &= costs[first] < problem.baseline[first]
    front = np.flatnonzero(front_mask(values) & allowed)
    front = front[np.argsort(costs[first][front], kind="stable")]
    count = problem.study.search.finalists
    picks = front[np.unique(np.linspace(0, len(front) - 1, min(count, len(front))).round().astype(int))].tolist()
    rest = [index for index in np.argsort(values[:, 1], kind="stable").tolist() if allowed[index]]
    if not whole_front:
        picks += [index for index in rest if index not in picks][: count - len(picks)]
    return [trials[index].code for index in sorted(picks, key=lambda index: costs[first][index])]


def held(problem: Problem, variant: str, finished: Sequence[Trial], judge: Trial) -> Trial | None:
    """The best network within all limits that the decisions of a variant can make: the cheapest, or where a search
    converges to a latency the most accurate."""
    open_to_it = set(problem.decisions_of(problem.study.rows[variant]))
    within = [
        trial
        for trial in finished
        if meets_limits(problem, trial, judge)
        and all(index in open_to_it for index, option in enumerate(trial.code) if option)
    ]
    if problem.study.search.converges:
        return min(within, key=lambda trial: (-accuracy_of(trial), trial.number), default=None)
    return min(within, key=lambda trial: (cost_of(problem, trial.code), trial.number), default=None)


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


def cost_of(problem: Problem, code: Code) -> float:
    """What the search minimises first, of one network."""
    return float(problem.costs(np.asarray([code], np.int64))[_objective(problem)][0])


def cheapest_wins(study: Study) -> bool:
    """Whether what costs more than what is held already need not be trained in full."""
    return "accuracy" not in study.search.objectives and not study.search.converges


def _objective(problem: Problem) -> str:
    return next(name for name in problem.study.search.objectives if name != "accuracy")
