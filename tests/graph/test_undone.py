"""Tensors equal to earlier ones: what undoes something is found, what only looks like it is not."""

from __future__ import annotations

import pytest

from chipfit.graph.build import Builder
from chipfit.graph.ops import Op, Pad, Pool2d, Reshape, Resize, Slice, Transpose
from chipfit.graph.undone import undone


@pytest.mark.parametrize(
    ("first", "second", "same"),
    [
        (Transpose((0, 2, 3, 1)), Transpose((0, 3, 1, 2)), "x"),
        (Transpose((0, 2, 3, 1)), Transpose((0, 2, 3, 1)), None),
        (Transpose((0, 2, 3, 1)), Transpose((0, 1, 2, 3)), "first"),
        (Reshape((8, 36)), Reshape((8, 6, 6)), "x"),
        (Reshape((8, 36)), Reshape((4, 12, 6)), None),
        (Pad((1, 1, 1, 1)), Pad((0, 0, 0, 0)), "first"),
        (Pad((1, 1, 1, 1)), Pad((1, 0, 0, 0)), None),
        (Pad((1, 1, 1, 1)), Resize("bilinear", (1.0, 1.0)), "first"),
        (Pad((1, 1, 1, 1)), Resize("bilinear", (2.0, 2.0)), None),
        (Pad((1, 1, 1, 1)), Pool2d("max", (1, 1), (1, 1)), "first"),
        (Pad((1, 1, 1, 1)), Pool2d("max", (1, 1), (2, 2)), None),
        (Pad((1, 1, 1, 1)), Slice(2, 0, 8), "first"),
        (Pad((1, 1, 1, 1)), Slice(2, 1, 8), None),
        (Pad((1, 1, 1, 1)), Slice(2, 0, 8, 2), None),
    ],
)
def test_two_in_a_row(first: Op, second: Op, same: str | None) -> None:
    b = Builder()
    x = b.add(first, b.input("x", (1, 8, 6, 6)), key="first")
    graph = b.graph(b.add(second, x, key="second"))
    assert undone(graph, graph.by_key["second"]) == same


@pytest.mark.parametrize(
    ("cuts", "order", "whole"),
    [
        (((0, 3), (3, 8)), (0, 1), True),
        (((0, 3), (3, 8)), (1, 0), False),
        (((0, 4), (3, 8)), (0, 1), False),
        (((0, 3), (3, 7)), (0, 1), False),
    ],
)
def test_parts_joined_again(cuts: tuple[tuple[int, int], ...], order: tuple[int, ...], whole: bool) -> None:
    b = Builder()
    x = b.input("x", (1, 8, 6, 6))
    parts = [b.add(Slice(1, *cut), x, key=f"part{place}") for place, cut in enumerate(cuts)]
    graph = b.graph(b.concat([parts[place] for place in order], axis=-3, key="joined"))
    assert undone(graph, graph.by_key["joined"]) == ("x" if whole else None)


@pytest.mark.parametrize(("start", "stop", "found"), [(0, 3, "a"), (3, 8, "b"), (2, 5, None), (0, 8, "joined")])
def test_a_part_of_what_was_joined(start: int, stop: int, found: str | None) -> None:
    b = Builder()
    a, other = b.input("a", (1, 3, 6, 6)), b.input("b", (1, 5, 6, 6))
    graph = b.graph(b.add(Slice(1, start, stop), b.concat([a, other], key="joined"), key="part"))
    assert undone(graph, graph.by_key["part"]) == found
