import numpy as np
import pytest

from chipfit.estimate.forest import DEPTH, Forest, boosted, constant_tree, grown, leaf_of, trees_of


@pytest.fixture
def data(generator):
    matrix = generator.standard_normal((800, 5)).astype(np.float32)
    target = np.sin(3 * matrix[:, 0].astype(float)) + (matrix[:, 1] > 0.3) * matrix[:, 2]
    return matrix, target


def _walk(tree, row):
    """The naive twin: one row down one tree."""
    node = 0
    for _ in range(DEPTH):
        node = 2 * node + (1 if row[tree.features[node]] <= tree.thresholds[node] else 2)
    return float(np.float16(tree.leaves[node - (2**DEPTH - 1)]))


def test_a_forest_is_the_sum_of_its_trees_walked_row_by_row(data):
    matrix, target = data
    first, second = (trees_of(boosted(matrix, sign * target, rounds, 0)) for sign, rounds in ((1, 20), (-1, 7)))
    kinds = np.arange(len(matrix)) % 3
    found = Forest.of([first, second, []]).at(kinds, matrix)
    for index in range(0, 90, 7):
        trees = (first, second, [])[kinds[index]]
        assert found[index] == pytest.approx(sum(_walk(tree, matrix[index]) for tree in trees), abs=1e-9)


def test_trees_say_what_lightgbm_says(data):
    matrix, target = data
    booster = boosted(matrix, target, 30, 5)
    found = Forest.of([trees_of(booster)]).at(np.zeros(len(matrix), np.int64), matrix)
    # Every leaf is rounded by one part in two thousand at most.
    np.testing.assert_allclose(found, booster.predict(matrix), atol=1e-3)
    assert np.abs(found - target).mean() < 0.5 * np.abs(target - target.mean()).mean()


def test_an_empty_forest_and_a_constant_tree():
    matrix, kinds = np.zeros((4, 2), np.float32), np.zeros(4, np.int64)
    assert not Forest.of([[]]).at(kinds, matrix).any()
    np.testing.assert_array_equal(Forest.of([[constant_tree(0.5)]]).at(kinds, matrix), 0.5)


def test_regions_hold_enough_rows(data):
    matrix, target = data
    leaves = leaf_of(grown(matrix, target, 40, 0), matrix)
    _, counts = np.unique(leaves, return_counts=True)
    assert len(counts) > 1
    assert counts.min() >= 40
