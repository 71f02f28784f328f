"""Boosted trees as flat arrays: trained by LightGBM, evaluated by NumPy for rows of all kinds in one pass.

A tree is complete: node i has the children 2i + 1 and 2i + 2, and branches that end early are continued with the same
leaf. One network's 60 rows then take a few array operations, without a call into a library per kind.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

DEPTH = 6
"""Levels of every tree."""
_NODES, _LEAVES = 2**DEPTH - 1, 2**DEPTH
_CHUNK = 1 << 16

Rows32 = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Forest:
    """For each of k kinds t trees: `features`, `thresholds` (k, t, nodes) and `leaves` (k, t, leaves).

    A row goes left where its feature is at most the threshold. Kinds with fewer trees have trees of zeros.
    """

    features: NDArray[np.int16]
    thresholds: Rows32
    leaves: Rows32

    @classmethod
    def of(cls, trees: list[list[Tree]]) -> Forest:
        """The forest with `trees` per kind."""
        most = max((len(each) for each in trees), default=0)
        forest = cls(
            np.zeros((len(trees), most, _NODES), dtype=np.int16),
            np.zeros((len(trees), most, _NODES), dtype=np.float32),
            np.zeros((len(trees), most, _LEAVES), dtype=np.float32),
        )
        for kind, each in enumerate(trees):
            for place, tree in enumerate(each):
                forest.features[kind, place] = tree.features
                forest.thresholds[kind, place] = tree.thresholds
                # One of hundreds of small corrections: half precision says enough of it, in a smaller file.
                forest.leaves[kind, place] = tree.leaves.astype(np.float16)
        return forest

    @cached_property
    def _used(self) -> NDArray[np.bool_]:
        """Which kinds (k,) have trees."""
        return np.any(self.leaves, axis=(1, 2))  # type: ignore[return-value]

    def at(self, kinds: NDArray[np.int64], matrix: Rows32) -> NDArray[np.float64]:
        """Sum (n,) of the trees of each row's kind; `matrix` (n, f) are its features."""
        trees = self.features.shape[1]
        total = np.zeros(len(kinds))
        if trees == 0:
            return total
        features, thresholds, leaves = self.features.ravel(), self.thresholds.ravel(), self.leaves.ravel()
        wanted = np.flatnonzero(self._used[kinds])
        step = max(1, _CHUNK // trees)
        width = matrix.shape[1]
        for start in range(0, len(wanted), step):
            rows = wanted[start : start + step]
            tree = kinds[rows, None] * trees + np.arange(trees)
            root, origin, values = tree * _NODES, np.arange(len(rows))[:, None] * width, matrix[rows].ravel()
            place, left_child = root, 1 - root
            for _ in range(DEPTH):
                # Sums of arrays of two types are several times slower than a conversion before.
                right = values.take(features.take(place).astype(np.intp) + origin) > thresholds.take(place)
                place = 2 * place + left_child + right.astype(np.intp)
            total[rows] = leaves.take(place + tree - _NODES).sum(axis=1, dtype=np.float64)
        return total


@dataclass(frozen=True, slots=True, eq=False)
class Tree:
    """One complete tree: `features`, `thresholds` (nodes,) and `leaves` (leaves,)."""

    features: NDArray[np.int16]
    thresholds: Rows32
    leaves: Rows32


def boosted(matrix: Rows32, target: NDArray[np.float64], rounds: int, seed: int) -> Any:
    """A LightGBM booster of `rounds` trees whose sum approximates `target` (n,), on one thread.

    Least absolute errors: a few rows of which nobody can tell what they are like leave the others alone.
    """
    return _trained(matrix, target, rounds, seed, learning_rate=0.07, least=5, ridge=1.0, objective="regression_l1")


def trees_of(booster: Any) -> list[Tree]:
    """The trees of a booster."""
    return [_complete(tree["tree_structure"]) for tree in booster.dump_model()["tree_info"]]


def _trained(
    matrix: Rows32,
    target: NDArray[np.float64],
    rounds: int,
    seed: int,
    *,
    learning_rate: float,
    least: int,
    ridge: float,
    objective: str = "regression",
) -> Any:
    import lightgbm

    options: dict[str, Any] = {
        "objective": objective,
        "learning_rate": learning_rate,
        "max_depth": DEPTH,
        "num_leaves": _LEAVES,
        "min_data_in_leaf": least,
        "lambda_l2": ridge,
        "boost_from_average": False,
        "deterministic": True,
        "force_col_wise": True,
        "num_threads": 1,
        "seed": seed,
        "verbosity": -1,
    }
    return lightgbm.train(options, lightgbm.Dataset(matrix, target), num_boost_round=rounds)


def _complete(root: dict[str, Any]) -> Tree:
    # Below an early leaf everything goes left, so that its rows stay together.
    tree = Tree(np.zeros(_NODES, np.int16), np.full(_NODES, np.inf, np.float32), np.zeros(_LEAVES, np.float32))
    waiting = [(0, root)]
    while waiting:
        node, part = waiting.pop()
        leaf = "leaf_value" in part
        if node >= _NODES:
            tree.leaves[node - _NODES] = part["leaf_value"]
            continue
        if not leaf:
            tree.features[node] = part["split_feature"]
            tree.thresholds[node] = part["threshold"]
        waiting.append((2 * node + 1, part if leaf else part["left_child"]))
        waiting.append((2 * node + 2, part if leaf else part["right_child"]))
    return tree


def constant_tree(value: float) -> Tree:
    """A tree that says `value` everywhere."""
    return Tree(np.zeros(_NODES, np.int16), np.full(_NODES, np.inf, np.float32), np.full(_LEAVES, value, np.float32))


def grown(matrix: Rows32, target: NDArray[np.float64], least: int, seed: int) -> Tree:
    """One regression tree on `target` with at least `least` rows per leaf: a partition into alike regions."""
    if len(target) < 2 * least:
        return constant_tree(float(target.mean()) if len(target) else 0.0)
    return trees_of(_trained(matrix, target, 1, seed, learning_rate=1.0, least=least, ridge=0.0))[0]


def leaf_of(tree: Tree, matrix: Rows32) -> NDArray[np.int64]:
    """The leaf (n,) that each row falls into."""
    node, rows = np.zeros(len(matrix), dtype=np.int64), np.arange(len(matrix))
    for _ in range(DEPTH):
        node = 2 * node + 1 + (matrix[rows, tree.features[node]] > tree.thresholds[node])
    return node - _NODES
