"""Runs in stripes: what they hold fits, and they are as high as that allows."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from chipfit.graph.build import Builder
from chipfit.graph.stripes import LOWEST, Link, Stripe, stripes
from chipfit.graph.subgraphs import Subgraph, cut

KINDS = ("conv", "pool")
SIZE = 16


def chain(channels: list[int], kernel: int = 3) -> tuple[Subgraph, ...]:
    """Convolutions one after the other on 16x16 pixels."""
    b = Builder()
    x = b.input("input", (1, 4, SIZE, SIZE))
    for number, width in enumerate(channels):
        x = b.conv(x, width, kernel=kernel, padding=kernel // 2, key=f"conv{number}")
    return cut(b.graph(x))


def worked(parts: tuple[Subgraph, ...], weights: list[int], room: int) -> list[Stripe]:
    stored = [part.workload.out_elements for part in parts]
    together = [part.workload.in_elements + part.workload.out_elements for part in parts]
    links = [Link(number, number + 1, True) for number in range(len(parts) - 1)]
    return stripes(parts, links, KINDS, together, stored, weights, room)


def test_stripes_grow_until_the_memory_is_full() -> None:
    """A stripe of n rows takes n + 2 of the tensor between, and there are two."""
    parts = chain([32, 32])
    row = 2 * SIZE * 32
    for rows in range(2, 9):
        for room, expected in (((rows + 2) * row, rows), ((rows + 2) * row - 1, rows - 1)):
            found = worked(parts, [0, 0], room)
            assert [stripe.height for stripe in found] == [expected, expected]
            assert [stripe.held for stripe in found] == [(expected + 2) * row] * 2


def test_whole_tensors_where_there_is_room() -> None:
    assert worked(chain([32, 32]), [0, 0], 2 * SIZE * SIZE * 32 + 1) == [Stripe()] * 2


def test_weights_stay_one_after_the_other_beside_the_lowest_stripes() -> None:
    parts = chain([32, 32, 32])
    lowest = 2 * 3 * 2 * SIZE * 32
    assert [stripe.streamed for stripe in worked(parts, [10, 20, 30], lowest + 60)] == [False, False, False]
    assert [stripe.streamed for stripe in worked(parts, [10, 20, 30], lowest + 59)] == [False, False, True]
    assert [stripe.streamed for stripe in worked(parts, [10, 70, 30], lowest + 60)] == [False, True, False]


def test_weights_before_count_twice_once_stripes_have_grown() -> None:
    """Three more rows of both tensors, and what is left of the memory for weights that had all found room."""
    parts = chain([32, 32, 32])
    grown = 2 * (4 + 2) * 2 * SIZE * 32
    for left, expected in ((29, [False, False, True]), (30, [False, False, False]), (9, [False, True, True])):
        found = worked(parts, [10, 20, 30], grown + 60 + left)
        assert [stripe.height for stripe in found] == [4, 4, 4]
        assert [stripe.streamed for stripe in found] == expected


def test_a_run_without_room_for_more_than_the_lowest_stripes_is_parted() -> None:
    """Six operators and room for their five tensors in the lowest stripes: in the next ones there is room for three of
    them and the last, so two runs; with five rows still, for two each, and with six there would be three runs."""
    row = 2 * SIZE * 32
    found = worked(chain([32] * 6), [0] * 6, 5 * (LOWEST + 2) * row)
    assert [bool(stripe.takes) for stripe in found] == [False, True, True, False, True, True]
    assert [bool(stripe.gives) for stripe in found] == [True, True, False, True, True, False]
    assert [stripe.height for stripe in found] == [5] * 6


def test_no_run_is_parted_where_that_leaves_one_alone_without_room() -> None:
    row = 2 * SIZE * 32
    found = worked(chain([32] * 4), [0] * 4, 3 * (LOWEST + 2) * row)
    assert [bool(stripe.takes) for stripe in found] == [False, True, True, True]
    assert [stripe.height for stripe in found] == [LOWEST] * 4


@given(st.lists(st.integers(1, 64), min_size=2, max_size=6), st.sampled_from([1, 3, 5]), st.integers(500, 60_000))
def test_what_a_run_holds_fits_unless_its_stripes_are_the_lowest(channels: list[int], kernel: int, room: int) -> None:
    parts = chain(channels, kernel)
    weights = [int(part.workload.parameters) for part in parts]  # type: ignore[arg-type]
    found = worked(parts, weights, room)
    for before, after in pairwise(found):
        assert bool(before.gives) == bool(after.takes)
        if after.takes:
            assert before.held == after.held
            assert before.height == after.height
    for part, stripe in zip(parts, found, strict=True):
        assert stripe.held <= room
        assert bool(stripe.height) == bool(stripe.takes or stripe.gives)
        assert stripe.height in (0, LOWEST) or LOWEST < stripe.height <= part.workload.out_height // 2
        if not stripe.height:
            assert not stripe.streamed


def test_what_two_read_is_whole() -> None:
    parts = chain([32, 32])
    stored = [part.workload.out_elements for part in parts]
    links = [Link(0, 1, True), Link(0, 1, True)]
    assert stripes(parts, links, KINDS, [0, 1 << 20], stored, [0, 0], 9_000) == [Stripe()] * 2
