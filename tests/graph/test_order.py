"""The order with the lowest peak equals the best of all orders, and is never worse than the given one."""

import itertools

import pytest
from hypothesis import given, settings
from tests.graph.strategies import spaces

from chipfit.graph import order
from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.graph.memory import peak
from chipfit.graph.order import best_order
from chipfit.graph.subgraphs import Subgraph, cut


def lowest(graph: Graph, subgraphs: tuple[Subgraph, ...]) -> int:
    """The lowest peak of all orders in which every subgraph comes after those that it reads."""
    peaks: list[int] = []
    names = {part.name for part in subgraphs}
    for each in itertools.permutations(subgraphs):
        seen: set[str] = set()
        for part in each:
            if not {edge.source for edge in part.reads} & names <= seen:
                break
            seen.add(part.name)
        else:
            peaks.append(peak(graph, each).elements)
    return min(peaks)


@settings(max_examples=60)
@given(spaces())
def test_the_best_order_is_the_best_of_all(space: Graph) -> None:
    graph = space.close((0,) * len(space.decisions))
    subgraphs = cut(graph)
    found = best_order(graph, subgraphs)
    assert sorted(part.name for part in found) == sorted(part.name for part in subgraphs)
    if 0 < len(subgraphs) <= 7:
        assert peak(graph, found).elements == lowest(graph, subgraphs)
    assert peak(graph, found).elements <= peak(graph, subgraphs).elements


def branching(branches: int, wide: int) -> Graph:
    """Branches of a wide and a narrow tensor each from one input, given layer by layer."""
    b = Builder()
    x = b.input("x", (1, 2, 10, 10))
    widened = [b.conv(x, wide, key=f"wide{number}") for number in range(branches)]
    narrow = [b.conv(each, 1, key=f"narrow{number}") for number, each in enumerate(widened)]
    return b.graph(b.concat(narrow, key="all"))


def test_branches_run_one_after_the_other() -> None:
    graph = branching(4, 20)
    subgraphs = cut(graph)
    assert peak(graph, subgraphs).elements == 4 * 2000 + 200
    # One wide tensor at a time, the input, and three narrow ones that wait; or without the input the fourth.
    assert peak(graph, best_order(graph, subgraphs)).elements == 2000 + 200 + 3 * 100


def test_an_order_that_cannot_be_better_stays() -> None:
    b = Builder()
    x = b.input("x", (1, 2, 10, 10))
    for number in range(5):
        x = b.conv(x, 3 + number, key=f"c{number}")
    graph = b.graph(x)
    assert best_order(graph, cut(graph)) == cut(graph)


def test_with_few_sets_looked_at_the_order_is_still_one_and_no_worse(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = branching(7, 9)
    subgraphs = cut(graph)
    exact = peak(graph, best_order(graph, subgraphs)).elements
    monkeypatch.setattr(order, "WIDEST", 3)
    found = best_order(graph, subgraphs)
    assert {part.name for part in found} == {part.name for part in subgraphs}
    assert exact <= peak(graph, found).elements <= peak(graph, subgraphs).elements
