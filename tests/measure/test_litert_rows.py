"""Every event of LiteRT's profiler finds the operator that it comes from, and no time is lost on the way."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipfit.estimate.random_networks import random_networks
from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.measure.board_runner import noise
from chipfit.measure.litert_profiler import Event, profiled
from chipfit.measure.litert_rows import NEVER_MERGED, in_place, match, order_of, owners
from chipfit.measure.runtimes import drawn
from chipfit.measure.specimen import ranges_of
from chipfit.nets.tflite.exporter import program_of
from chipfit.nets.tflite.program import Operation, Program
from chipfit.nets.tflite.writer import written

CONV, POINTWISE, TABLE = "Convolution (NHWC, QC8) IGEMM", "Fully Connected (NC, QS8, QC8W) GEMM", "Invalid Unary Op"


@pytest.mark.parametrize(
    ("codes", "names", "expected"),
    [
        (["CONV_2D", "ADD", "CONV_2D"], [CONV, "Add (ND)", POINTWISE], [0, 1, 2]),
        (["PAD", "CONV_2D"], [CONV], [1]),
        (["CONV_2D", "LOGISTIC", "MUL", "CONV_2D"], [CONV, TABLE, CONV], [0, 2, 3]),
        (["ADD", "MUL", "MUL"], [TABLE, "Multiply (ND)"], [1, 2]),
        (["ADD", "CONV_2D"], ["Add (ND)", "Clamp (NC)", CONV], [0, 0, 1]),
        (["MEAN", "FULLY_CONNECTED"], ["Mean (ND) Reduce", "Static Reshape (NC)", POINTWISE], [0, 1, 1]),
        (["RESHAPE"], ["Static Reshape (NC)"], [0]),
        (["MAX_POOL_2D"], [], []),
        (["CONV_2D", "CONV_2D"], [CONV], None),
        (["MUL"], ["Something new"], None),
        ([], [CONV], None),
    ],
)
def test_names_go_to_operators_in_order(codes: list[str], names: list[str], expected: list[int] | None) -> None:
    assert match(codes, names) == expected


NAME_OF = {"CONV_2D": CONV, "DEPTHWISE_CONV_2D": "Convolution (NHWC, QC8) DWConv", "ADD": "Add (ND)", "PAD": ""}


@given(st.lists(st.tuples(st.sampled_from(sorted(NAME_OF)), st.booleans()), max_size=12))
def test_what_is_merged_and_added_misleads_no_layer(steps: list[tuple[str, bool]]) -> None:
    codes, names, expected = [], [], []
    for place, (code, clamped) in enumerate(steps):
        codes.append(code)
        if code != "PAD":
            own = [NAME_OF[code], *(["Clamp (NC)"] if code == "ADD" and clamped else [])]
            names += own
            expected += [place] * len(own)
    assert match(codes, names) == expected


@given(st.data())
def test_an_order_runs_everything_once_and_after_what_it_reads(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 10))
    operations = [
        Operation("ADD", tuple(f"t{source}" for source in data.draw(st.lists(st.integers(-1, place - 1)))), f"t{place}")
        for place in range(count)
    ]
    inside = data.draw(st.sets(st.integers(0, count - 1)))
    order = order_of(operations, inside)
    assert sorted(order) == list(range(count))
    seen: set[str] = {"t-1"}
    for place in order:
        assert set(operations[place].inputs) <= seen
        seen.add(operations[place].output)
    assert order_of(operations, []) == list(range(count))


def test_all_that_is_ready_of_one_side_runs_before_the_other() -> None:
    operations = [
        Operation("CONV_2D", ("x",), "a"),
        Operation("HARD_SWISH", ("a",), "b"),
        Operation("CONV_2D", ("b",), "c"),
        Operation("CONV_2D", ("a",), "d"),
    ]
    assert order_of(operations, [1]) == [0, 3, 1, 2]
    events = [Event(CONV, None, 1), Event(CONV, None, 2), Event("HARD_SWISH", 1, 3), Event(CONV, None, 4)]
    assert owners(operations, events) == [0, 3, 1, 2]


def test_events_of_another_order_are_not_guessed_at() -> None:
    operations = [Operation("HARD_SWISH", ("x",), "a"), Operation("HARD_SWISH", ("a",), "b")]
    assert owners(operations, [Event("HARD_SWISH", 0, 1), Event("HARD_SWISH", 1, 1)]) == [0, 1]
    assert owners(operations, [Event("HARD_SWISH", 1, 1), Event("HARD_SWISH", 0, 1)]) is None


def program(graph: Graph) -> Program:
    return program_of(drawn(graph, 40.0, 0), ranges_of(graph))


def test_real_networks_lose_nothing_on_the_way() -> None:
    pytest.importorskip("ai_edge_litert")
    for graph in random_networks(4, np.random.default_rng(41)):
        found = program(graph)
        filled = [noise(found.tensors[name].shape, found.tensors[name].type) for name in found.inputs]
        with profiled(written(found, "test"), filled, 1) as call:
            events = call()
        places = owners(found.operations, events)
        assert places is not None
        assert len(places) == len(events)
        layers = {place for place, each in enumerate(found.operations) if each.code in NEVER_MERGED}
        assert layers <= set(places)
        for event, place in zip(events, places, strict=True):
            assert event.place in (None, place)


def test_times_are_of_the_operators_that_take_them() -> None:
    pytest.importorskip("ai_edge_litert")
    b = Builder()
    x = b.input("input", (1, 8, 40, 40))
    for key, channels in (("small", 8), ("large", 128), ("last", 8)):
        x = b.activation(b.conv(x, channels, kernel=3, key=key), "hard_swish", key=f"{key}.act")
    found = program(b.graph(x))
    times = in_place(found, 1)
    assert list(times) == [operation.output for operation in found.operations]
    # 16 times the work; a load of the machine slows all of them.
    assert times["large"].minimum_s > 3 * times["small"].minimum_s > 0
    assert times["large.act"].minimum_s > 3 * times["small.act"].minimum_s > 0
