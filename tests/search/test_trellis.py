import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.search.sums import chain, everything, random_sum

from chipfit.errors import InvalidInput
from chipfit.search.exact import Table, total
from chipfit.search.trellis import Trellis, trellis


def along(paths: Trellis, code: np.ndarray) -> list[float]:
    result, state = paths.constant.copy(), 0
    for layer in paths.layers:
        result = result + layer.values[state, code[layer.decision]]
        state = int(layer.following[state, code[layer.decision]])
        assert state < layer.states_after
    assert state == 0
    return result.tolist()


@given(st.lists(st.integers(1, 3), max_size=5), st.integers(0, 10_000), st.integers(1, 3))
def test_every_code_is_a_path_that_adds_up_to_its_sums(cardinalities: list[int], seed: int, columns: int) -> None:
    generator = np.random.default_rng(seed)
    sums = [random_sum(cardinalities, generator) for _ in range(columns)]
    paths = trellis(sums, cardinalities)
    assert sorted(layer.decision for layer in paths.layers) == list(range(len(cardinalities)))
    for code in everything(cardinalities)[:30]:
        assert along(paths, code) == [total(tables, code[None])[0] for tables in sums]


def test_a_chain_keeps_as_few_decisions_open_as_its_tables_span() -> None:
    generator = np.random.default_rng(0)
    mixed = generator.permutation(40)
    tables = [Table(tuple(mixed[list(t.axes)].tolist()), t.values) for t in chain(40, 3, 3, generator)]
    assert max(layer.states_after for layer in trellis([tables], [3] * 40).layers) == 9


def test_a_decision_that_all_depend_on_stays_open_and_no_other() -> None:
    tables = [Table((0, other), np.ones((4, 3))) for other in range(1, 20)]
    assert max(layer.states_after for layer in trellis([tables], [4] + [3] * 19).layers) == 4


def test_too_many_decisions_that_meet_are_named() -> None:
    tables = [Table((a, b), np.ones((9, 9))) for a in range(9) for b in range(a)]
    with pytest.raises(InvalidInput, match=r"decisions .* meet in tables"):
        trellis([tables], [9] * 9, max_layer_entries=9**5)
