"""Searches by others and simple ones, on tables, for the benchmarks: each gives the rows that it trained, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from chipfit.search import Algorithm, Codes, Domain, FreeCosts
from chipfit.search.acquisition import expected_improvement

Floats = NDArray[np.float64]
Rows = list[int]

POPULATION = 20


@dataclass(frozen=True, eq=False)
class Problem:
    """A table as a search problem: n networks of which `loss` (n,) is paid for; `cost` (n,), if any, is free.

    `codes` (n, d) are the listed codes, `row` gives the row of each code, -1 for one that is not listed. `usable` says
    which rows may be trained; `signs` (n, h) are free hints.
    """

    name: str
    cardinalities: tuple[int, ...]
    codes: Codes
    row: Callable[[Codes], NDArray[np.int64]]
    loss: Floats
    cost: Floats | None
    usable: NDArray[np.bool_]
    signs: Floats
    canonical: Callable[[Codes], Codes] | None = None

    @property
    def domain(self) -> Domain:
        return Domain(self.cardinalities, self.canonical, self.free)

    def free(self, codes: Codes) -> FreeCosts:
        rows = self.row(codes)
        violation = np.where((rows >= 0) & self.usable[rows], 0.0, 1.0)
        cost = np.empty((len(codes), 0)) if self.cost is None else self.cost[rows][:, None]
        return FreeCosts(cost, violation)

    def hints(self, columns: tuple[int, ...]) -> Callable[[Codes], Floats]:
        return lambda codes: self.signs[self.row(codes)][:, columns]

    def objectives(self, rows: NDArray[np.int64] | Rows) -> Floats:
        """Everything that is minimised, of rows: (n, 1) or (n, 2), the free one first."""
        parts = [self.loss[rows]] if self.cost is None else [self.cost[rows], self.loss[rows]]
        return np.stack(parts, axis=1)


@dataclass
class Trained:
    """Counts every network once, however often it is asked for; `full` when the budget is spent."""

    problem: Problem
    budget: int

    def __post_init__(self) -> None:
        self.rows: Rows = []
        self._seen: set[int] = set()

    @property
    def full(self) -> bool:
        return len(self.rows) >= self.budget

    def add(self, code: Codes) -> int | None:
        """The row of a code; None where it cannot be trained or there is no budget left."""
        given = code[None] if self.problem.canonical is None else self.problem.canonical(code[None])
        row = int(self.problem.row(given)[0])
        if row < 0 or not self.problem.usable[row]:
            return None
        if row not in self._seen:
            if self.full:
                return None
            self._seen.add(row)
            self.rows.append(row)
        return row


def asked(make: Callable[[Domain, int], Algorithm], batch: int, stop: bool) -> Callable[[Problem, int, int], Rows]:
    """One of our algorithms, asked for batches; with `stop` until the optimum is found."""

    def search(problem: Problem, seed: int, budget: int) -> Rows:
        algorithm = make(problem.domain, seed)
        rows: Rows = []
        best = problem.loss[problem.usable].min()
        while len(rows) < budget:
            codes = algorithm.ask(min(batch, budget - len(rows)))
            found = problem.row(codes)
            rows += found.tolist()
            if not len(codes) or (stop and problem.loss[found].min() <= best):
                break
            algorithm.tell(codes, problem.objectives(found))
        return rows

    return search


def pymoo_nsga2(problem: Problem, seed: int, budget: int) -> Rows:
    """pymoo's NSGA-II with integer operators, no duplicates, population 20."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling

    width = len(problem.cardinalities)
    columns = 1 if problem.cost is None else 2
    space = PymooProblem(
        n_var=width,
        n_obj=columns,
        n_ieq_constr=1,
        xl=np.zeros(width),
        xu=np.array(problem.cardinalities) - 1,
        vtype=int,
    )
    operators = {
        "sampling": IntegerRandomSampling(),
        "crossover": SBX(prob=0.9, eta=3.0, vtype=float, repair=RoundingRepair()),
        "mutation": PM(eta=3.0, vtype=float, repair=RoundingRepair()),
    }
    algorithm = NSGA2(pop_size=POPULATION, eliminate_duplicates=True, **operators)
    algorithm.setup(space, termination=("n_gen", 50 * budget), seed=seed, verbose=False)
    trained = Trained(problem, budget)
    while not trained.full and algorithm.has_next():
        offspring = algorithm.ask()
        if offspring is None or not len(offspring):
            break
        rows = [trained.add(code.astype(np.int64)) for code in offspring.get("X")]
        values = np.array([np.full(columns, 1e6) if row is None else problem.objectives([row])[0] for row in rows])
        offspring.set("F", values)
        offspring.set("G", np.array([[1.0 if row is None else 0.0] for row in rows]))
        algorithm.tell(infills=offspring)
    return trained.rows


def optuna_search(sampler: str) -> Callable[[Problem, int, int], Rows]:
    """Optuna's TPE or NSGA-II (population 20) over categorical parameters."""

    def search(problem: Problem, seed: int, budget: int) -> Rows:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers = optuna.samplers
        chosen = (
            samplers.TPESampler(seed=seed)
            if sampler == "tpe"
            else samplers.NSGAIISampler(seed=seed, population_size=POPULATION)
        )
        columns = 1 if problem.cost is None else 2
        study = optuna.create_study(sampler=chosen, directions=["minimize"] * columns)
        options = {
            str(decision): optuna.distributions.CategoricalDistribution(tuple(range(count)))
            for decision, count in enumerate(problem.cardinalities)
        }
        trained = Trained(problem, budget)
        for _ in range(4 * budget):
            trial = study.ask(options)
            row = trained.add(np.array([trial.params[name] for name in options], dtype=np.int64))
            if row is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, problem.objectives([row])[0].tolist())
            if trained.full:
                break
        return trained.rows

    return search


def ridge(problem: Problem, seed: int, budget: int, start: int = 20) -> Rows:
    """Ridge regression over options and pairs of options: 20 networks at random, then what it predicts best.

    With one objective it learns ranks, and is fitted after every training; with two it knows the free one, learns the
    accuracy and is fitted after every fifth.
    """
    generator = np.random.default_rng(seed)
    usable = np.flatnonzero(problem.usable)
    options = [problem.codes[:, [decision]] == np.arange(count) for decision, count in enumerate(problem.cardinalities)]
    onehot = np.concatenate(options, axis=1).astype(np.float64)
    rows: Rows = generator.permutation(usable)[:start].tolist()
    best = problem.loss[usable].min()
    while len(rows) < min(budget, len(usable)):
        loss = problem.loss[rows]
        if problem.cost is None:
            if loss.min() <= best:
                break
            loss = np.argsort(np.argsort(loss)) / len(loss)
        same = onehot @ onehot[rows].T
        alike = same + same * (same - 1) / 2  # options and pairs that two codes share
        weights = np.linalg.solve(alike[rows] + np.eye(len(rows)), loss - loss.mean())
        left = np.setdiff1d(usable, rows)
        count = min(1 if problem.cost is None else 5, budget - len(rows))
        rows += _most_improving(problem, rows, left, loss.mean() + alike @ weights, count)
    return rows


def _most_improving(problem: Problem, rows: Rows, left: NDArray[np.int64], predicted: Floats, count: int) -> Rows:
    if problem.cost is None:
        return left[np.argsort(predicted[left], kind="stable")[:count]].tolist()
    reached = problem.objectives(rows)
    expected = np.stack([problem.cost[left], predicted[left]], axis=1)
    reference = np.concatenate([reached, expected]).max(axis=0)
    picked: Rows = []
    for _ in range(count):
        gain = expected_improvement(reached, reference, expected, np.zeros_like(expected))
        best = int(np.where(np.isin(left, picked), -1.0, gain).argmax())
        picked.append(int(left[best]))
        reached = np.concatenate([reached, expected[[best]]])
    return picked


def local_search(warm: bool) -> Callable[[Problem, int, int], Rows]:
    """Steepest descent over codes that differ in one decision, restarted at random; warm: first from the most FLOPs."""

    def search(problem: Problem, seed: int, budget: int) -> Rows:
        generator = np.random.default_rng(seed)
        trained = Trained(problem, budget)
        starts = problem.codes[generator.permutation(np.flatnonzero(problem.usable))]
        if warm:
            most = np.where(problem.usable, problem.signs[:, 0], -np.inf).argmax()
            starts = np.concatenate([problem.codes[[most]], starts])
        for code in starts:
            here = trained.add(code)
            while here is not None and not trained.full:
                around = [
                    np.where(np.arange(len(code)) == decision, option, problem.codes[here])
                    for decision, count in enumerate(problem.cardinalities)
                    for option in range(count)
                    if option != problem.codes[here, decision]
                ]
                near = [trained.add(around[number]) for number in generator.permutation(len(around))]
                best = min((row for row in near if row is not None), key=lambda row: problem.loss[row], default=here)
                if problem.loss[best] >= problem.loss[here]:
                    break
                here = best
            if trained.full:
                break
        return trained.rows

    return search
