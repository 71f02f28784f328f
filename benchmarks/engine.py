"""The search engine on sums of random tables: speed, hypervolume against the exact front, exact answers, overhead.

Run as `OMP_NUM_THREADS=1 python benchmarks/engine.py [--seeds 50] [--slow-seeds 10] [--only PART,PART]`; parts are
evolution, exact, limits, overhead. The rows of pymoo and Optuna, which get the slow seeds (Optuna at most 3), need
`pip install pymoo optuna`; without them they are left out. Processor time is counted, evaluation included where nothing
else is said, so that ratios hold on a machine that others use. Problem s has 20 decisions with 5 options and two
objectives, sums of tables that `numpy.random.default_rng(s)` draws from [0, 1). Regret is what the hypervolume of all
that was evaluated lacks of the exact front's, seen from the worst value of each objective. pymoo's NSGA-II has uniform
crossover and rounded polynomial mutation (eta 3), the best of the settings that were tried for it.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import LimitImpossible
from chipfit.search import (
    NSGA2,
    Algorithm,
    Codes,
    Domain,
    FreeCosts,
    LocalSearch,
    RandomSearch,
    RegularizedEvolution,
    Reinforce,
    Table,
    cheapest,
    front,
    hypervolume,
    total,
)

Floats = NDArray[np.float64]
Make = Callable[[Domain, int], Algorithm]

DECISIONS, OPTIONS = 20, 5
EVALUATIONS, FEW = 20_000, 300


class Additive:
    """Two objectives, each a sum of one table per decision."""

    def __init__(self, seed: int) -> None:
        values = np.random.default_rng(seed).random((DECISIONS, OPTIONS, 2))
        self.tables = [[Table((d,), values[d, :, column]) for d in range(DECISIONS)] for column in range(2)]
        self.worst = values.max(axis=1).sum(axis=0)
        self._values, self._offsets = values.reshape(-1, 2), np.arange(DECISIONS) * OPTIONS
        self.exact = hypervolume(front(self.tables, (OPTIONS,) * DECISIONS).values, self.worst)

    def evaluate(self, codes: Codes) -> Floats:
        return self._values[codes + self._offsets].sum(axis=1)

    def domain(self, free: int) -> Domain:
        """With so many of the objectives known for free."""
        known = (lambda codes: FreeCosts(self.evaluate(codes)[:, :free], np.zeros(len(codes)))) if free else None
        return Domain((OPTIONS,) * DECISIONS, free=known)

    def regret(self, values: Floats) -> float:
        return 1.0 - hypervolume(values, self.worst) / self.exact


def ours(make: Make, free: int, batch: int, evaluations: int) -> Callable[[Additive, int], Floats]:
    def run(problem: Additive, seed: int) -> Floats:
        algorithm = make(problem.domain(free), seed)
        told: list[Floats] = []
        for asked in range(0, evaluations, batch):
            codes = algorithm.ask(min(batch, evaluations - asked))
            if not len(codes):
                break
            told.append(problem.evaluate(codes))
            algorithm.tell(codes, told[-1])
        return np.concatenate(told)

    return run


def by_pymoo(population: int) -> Callable[[Additive, int], Floats]:
    from pymoo.algorithms.moo.nsga2 import NSGA2 as Theirs
    from pymoo.core.problem import Problem
    from pymoo.operators.crossover.ux import UniformCrossover
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    def run(problem: Additive, seed: int) -> Floats:
        told: list[Floats] = []

        class Posed(Problem):
            def __init__(self) -> None:
                super().__init__(n_var=DECISIONS, n_obj=2, xl=0, xu=OPTIONS - 1, vtype=int)

            def _evaluate(self, x, out, *args, **kwargs) -> None:
                out["F"] = problem.evaluate(x.astype(np.int64))
                told.append(out["F"])

        mutation = PM(prob=1.0, eta=3, vtype=float, repair=RoundingRepair())
        algorithm = Theirs(population, IntegerRandomSampling(), crossover=UniformCrossover(prob=0.9), mutation=mutation)
        minimize(Posed(), algorithm, ("n_eval", EVALUATIONS), seed=seed, verbose=False)
        return np.concatenate(told)

    return run


def by_optuna(name: str) -> Callable[[Additive, int], Floats]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)

    def run(problem: Additive, seed: int) -> Floats:
        samplers = {"TPE": optuna.samplers.TPESampler, "NSGA-II": optuna.samplers.NSGAIISampler}
        study = optuna.create_study(directions=["minimize"] * 2, sampler=samplers[name](seed=seed))

        def objective(trial: optuna.Trial) -> tuple[float, float]:
            code = [trial.suggest_int(f"d{d}", 0, OPTIONS - 1) for d in range(DECISIONS)]
            first, second = problem.evaluate(np.array([code]))[0].tolist()
            return first, second

        study.optimize(objective, n_trials=FEW)
        return np.array([trial.values for trial in study.trials])

    return run


def contestants(seeds: int, slow: int) -> Iterator[tuple[str, Callable[[Additive, int], Floats], int]]:
    """Name, what runs it, and with how many seeds."""

    def of(population: int) -> Make:
        return lambda domain, seed: NSGA2(domain, seed, population=population)

    if find_spec("pymoo") is not None:
        yield "pymoo NSGA-II, population 100", by_pymoo(100), slow
        yield "pymoo NSGA-II, population 200", by_pymoo(200), slow
    yield "chipfit NSGA2, asked for 1,000", ours(NSGA2, 0, 1000, EVALUATIONS), seeds
    yield "chipfit NSGA2, asked for 500", ours(NSGA2, 0, 500, EVALUATIONS), seeds
    yield "chipfit NSGA2, asked for 250", ours(NSGA2, 0, 250, EVALUATIONS), seeds
    yield "chipfit NSGA2, population and asks 100", ours(of(100), 0, 100, EVALUATIONS), seeds
    yield "chipfit NSGA2, one objective free, asked for 500", ours(NSGA2, 1, 500, EVALUATIONS), seeds
    yield "chipfit NSGA2, both free, until exhausted", ours(NSGA2, 2, 100, EVALUATIONS), slow
    yield "chipfit LocalSearch, asked for 100", ours(LocalSearch, 0, 100, EVALUATIONS), slow
    yield "chipfit random", ours(RandomSearch, 0, 20, FEW), seeds
    yield "chipfit NSGA2, population 32", ours(of(32), 0, 20, FEW), seeds
    yield "chipfit NSGA2, population 32, one objective free", ours(of(32), 1, 20, FEW), seeds
    if find_spec("optuna") is not None:
        yield "Optuna NSGA-II", by_optuna("NSGA-II"), min(slow, 3)
        yield "Optuna TPE", by_optuna("TPE"), min(slow, 3)


def evolution(seeds: int, slow: int) -> None:
    print(
        f"\n{'':50}{'seeds':>6}{'evaluations':>12}{'per second':>12}{'ratio':>8}{'regret: median':>16}{'quartiles':>18}"
    )
    problems = [Additive(seed) for seed in range(max(seeds, slow))]
    first = None
    for name, run, count in contestants(seeds, slow):
        rates, regrets, counts = [], [], []
        for seed, problem in enumerate(problems[:count]):
            start = time.process_time()
            values = run(problem, seed)
            rates.append(len(values) / (time.process_time() - start))
            regrets.append(problem.regret(values))
            counts.append(len(values))
        rate = float(np.median(rates))
        first = first or rate
        low, middle, high = np.quantile(regrets, [0.25, 0.5, 0.75])
        print(
            f"{name:50}{len(rates):6}{np.median(counts):12.0f}{rate:12.0f}{rate / first:8.1f}{middle:16.4%}"
            f"{f'{low:.4%} {high:.4%}':>18}",
            flush=True,
        )


def chain(decisions: int, options: int, axes: int, generator: np.random.Generator) -> list[Table]:
    return [
        Table(tuple(range(first, first + axes)), generator.random((options,) * axes))
        for first in range(decisions - axes + 1)
    ]


def exact() -> None:
    print(f"\n{'exact front':48}{'codes':>12}{'points':>8}{'exact':>7}{'ms':>8}{'gap / extent':>14}")
    for decisions, options, columns, axes, epsilon in (
        (20, 5, 2, 1, 0.0),
        (26, 4, 2, 1, 0.0),
        (26, 4, 2, 2, 0.0),
        (26, 4, 2, 3, 0.0),
        (50, 4, 2, 2, 0.0),
        (20, 5, 3, 1, 0.0),
        (26, 4, 3, 2, 0.0),
        (26, 4, 3, 2, 0.05),
    ):
        generator = np.random.default_rng(0)
        objectives = [chain(decisions, options, axes, generator) for _ in range(columns)]
        times = []
        for _ in range(3):
            start = time.process_time()
            found = front(objectives, [options] * decisions, epsilon)
            times.append(time.process_time() - start)
        gap = float((found.gap / np.ptp(found.values, axis=0)).max())
        name = f"{decisions} decisions of {options}, {columns} objectives, {axes} each"
        size = f"{float(options) ** decisions:.1e}"
        print(
            f"{name:48}{size:>12}{len(found.codes):8}{found.exact!s:>7}{min(times) * 1e3:8.1f}{gap:14.3f}", flush=True
        )
    worst = max(brute_regret(seed) for seed in range(10))
    print(f"largest regret on 10 sub-spaces of 4^10 codes, against all of them: {worst:.1e}")


def brute_regret(seed: int) -> float:
    generator = np.random.default_rng(seed)
    objectives = [chain(10, 4, 1 + seed % 3, generator) for _ in range(2 + seed % 2)]
    codes = np.indices((4,) * 10).reshape(10, -1).T
    values = np.stack([total(tables, codes) for tables in objectives], axis=1)
    worst = values.max(axis=0)
    return abs(1.0 - hypervolume(front(objectives, [4] * 10).values, worst) / hypervolume(values, worst))


def limits(seeds: int) -> None:
    print(
        f"\n{'cheapest of 4^50 = 1.3e30 codes':32}{'solved':>8}{'exact':>7}{'none':>6}{'ms: median':>12}{'largest':>9}"
    )
    for axes in (1, 2, 3):
        for count in (1, 2, 3):
            times, kept, none = [], 0, 0
            for seed in range(seeds):
                generator = np.random.default_rng(seed)
                costs, *others = (chain(50, 4, axes, generator) for _ in range(1 + count))
                bounds = [(tables, generator.uniform(0.3, 0.5) * len(tables)) for tables in others]
                start = time.process_time()
                try:
                    kept += cheapest(costs, bounds, [4] * 50).exact
                except LimitImpossible as error:
                    none += "no code meets" in str(error)
                times.append(time.process_time() - start)
            name = f"tables over {axes}, {count} limits"
            print(
                f"{name:32}{seeds:8}{kept:7}{none:6}{np.median(times) * 1e3:12.0f}{max(times) * 1e3:9.0f}", flush=True
            )


def overhead() -> None:
    asks = (1, 10, 100)
    print(
        f"\n{'ask and tell, microseconds per candidate, of 2,000':50}" + "".join(f"{f'asks of {n}':>14}" for n in asks)
    )
    makes: dict[str, Make] = {
        "random": RandomSearch,
        "NSGA2, population 100": lambda domain, seed: NSGA2(domain, seed, population=100),
        "RegularizedEvolution, population 100": lambda domain, seed: RegularizedEvolution(domain, seed, population=100),
        "Reinforce": Reinforce,
        "LocalSearch": LocalSearch,
    }
    problem = Additive(0)
    for name, make in makes.items():
        for free in (0, 1):
            cells = [spent(make(problem.domain(free), 0), problem, n, 2000) for n in asks]
            label = f"{name}{', one objective free' if free else ''}"
            print(f"{label:50}" + "".join(f"{cell * 1e6:14.1f}" for cell in cells), flush=True)


def spent(algorithm: Algorithm, problem: Additive, batch: int, count: int) -> float:
    seconds = 0.0
    for _ in range(count // batch):
        start = time.process_time()
        codes = algorithm.ask(batch)
        seconds += time.process_time() - start
        values = problem.evaluate(codes)
        start = time.process_time()
        algorithm.tell(codes, values)
        seconds += time.process_time() - start
    return seconds / count


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--slow-seeds", type=int, default=10)
    parser.add_argument("--only", default="evolution,exact,limits,overhead")
    given = parser.parse_args(arguments)
    warnings.simplefilter("ignore")  # pymoo and Optuna warn of what is experimental in them
    parts = {
        "evolution": lambda: evolution(given.seeds, given.slow_seeds),
        "exact": exact,
        "limits": lambda: limits(min(given.seeds, 20)),
        "overhead": overhead,
    }
    for part in given.only.split(","):
        parts[part]()


if __name__ == "__main__":
    main()
