"""Random sums of small tables, and all codes of a small space, for the tests."""

import itertools

import numpy as np

from chipfit.search.exact import Table


def everything(cardinalities: list[int]) -> np.ndarray:
    codes = list(itertools.product(*map(range, cardinalities)))
    return np.array(codes, dtype=np.int64).reshape(len(codes), len(cardinalities))


def random_sum(cardinalities: list[int], generator: np.random.Generator, most_axes: int = 3) -> list[Table]:
    """Integers make every order of summation give the same value, so equality can be exact."""
    tables: list[Table] = []
    for _ in range(int(generator.integers(0, 8))):
        axes = tuple(generator.permutation(len(cardinalities))[: generator.integers(0, most_axes + 1)].tolist())
        values = generator.integers(-9, 10, [cardinalities[axis] for axis in axes]).astype(np.float64)
        tables.append(Table(axes, np.asarray(values)))
    return tables


def chain(decisions: int, options: int, axes: int, generator: np.random.Generator) -> list[Table]:
    """One table over each run of so many neighbouring decisions."""
    return [
        Table(tuple(range(first, first + axes)), generator.random((options,) * axes))
        for first in range(decisions - axes + 1)
    ]
