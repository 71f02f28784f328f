"""A canonical code closes to the same network, and closes the gaps that make no difference."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from tests.graph.strategies import codes_of, spaces

from chipfit.errors import InvalidInput
from chipfit.graph.canonical import canonical, distinct
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import Conv2d, Select
from chipfit.graph.values import Decision, ceil_div, choose, table


@settings(max_examples=60)
@given(spaces())
def test_the_network_stays_and_every_single_change_is_undone(graph: Graph) -> None:
    codes = codes_of(graph)
    found = canonical(graph)(codes)
    assert (found <= codes).all()
    assert (canonical(graph)(found) == found).all()
    networks = {tuple(code): graph.close(code) for code in codes.tolist()}
    for code, moved in zip(codes.tolist(), found.tolist(), strict=True):
        assert networks[tuple(code)].digest == networks[tuple(moved)].digest
        for decision, option in enumerate(moved):
            for smaller in range(option):
                other = (*moved[:decision], smaller, *moved[decision + 1 :])
                assert networks[other] != networks[tuple(moved)], "one decision could still move"


@settings(max_examples=30)
@given(spaces())
def test_codes_are_moved_one_by_one_as_all_at_once(graph: Graph) -> None:
    move, codes = canonical(graph), codes_of(graph)
    assert (move(codes) == np.concatenate([move(code[None]) for code in codes])).all()
    assert (distinct(graph, codes) == distinct(graph, move(codes))).all()
    assert len(distinct(graph, codes)) == len({tuple(code) for code in move(codes).tolist()})


def rounded() -> Graph:
    """A width and a multiplier that round to the same channels, and a branch that one option leaves out."""
    width = Decision("width", (32, 30, 16))
    multiplier = Decision("multiplier", (1.0, 0.95, 0.5))
    path = Decision("path", ("short", "long"))
    kernel = Decision("kernel", (3, 5, 7))
    unused = Decision("unused", ("a", "b"))
    channels = ceil_div(choose(width, width.options) * choose(multiplier, multiplier.options), 8) * 8
    size = choose(kernel, kernel.options)
    pad = size // 2
    nodes = (
        Node("first", Conv2d(channels, (1, 1)), ("x",)),
        Node("long", Conv2d(channels, (size, size), padding=(pad, pad, pad, pad)), ("first",)),
        Node("path", Select(choose(path, (0, 1))), ("first", "long")),
    )
    decisions = (width, multiplier, path, kernel, unused)
    return Graph((Input("x", (1, 4, 8, 8)),), nodes, ("path",), decisions)


def test_rounding_absent_branches_and_unused_decisions() -> None:
    move = canonical(rounded())

    def moved(*code: int) -> list[int]:
        return move(np.array([code]))[0].tolist()

    assert moved(1, 0, 0, 0, 0) == [0, 0, 0, 0, 0]
    assert moved(0, 1, 1, 2, 1) == [0, 0, 1, 2, 0]
    assert moved(0, 0, 0, 2, 1) == [0, 0, 0, 0, 0]
    assert moved(2, 0, 1, 1, 0) == [2, 0, 1, 1, 0]
    # 16 channels twice, but no single change leads from one to the other.
    assert moved(0, 2, 1, 0, 0) == [0, 2, 1, 0, 0]
    codes = np.array(list(itertools.product(range(3), range(3), range(2), range(3), range(2))))
    networks = {rounded().close(code).digest for code in codes}
    assert len(networks) <= len(distinct(rounded(), codes)) < len(codes) / 3


def test_one_move_may_open_the_way_for_another() -> None:
    a, b = Decision("a", (0, 1)), Decision("b", (0, 1))
    width = table(("a", "b"), np.array([[8, 16], [8, 8]]))
    conv = Node("c", Conv2d(width, (1, 1)), ("x",))
    move = canonical(Graph((Input("x", (1, 4, 8, 8)),), (conv,), ("c",), (a, b)))
    codes = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    assert move(codes).tolist() == [[0, 0], [0, 1], [0, 0], [0, 0]]


def test_codes_that_do_not_fit_are_refused() -> None:
    move = canonical(rounded())
    with pytest.raises(InvalidInput, match=r"\(n, 5\)"):
        move(np.zeros((2, 4), dtype=np.int64))
    with pytest.raises(InvalidInput, match="out of the range"):
        move(np.full((1, 5), 3))
    assert move(np.zeros((0, 5), dtype=np.int64)).shape == (0, 5)
