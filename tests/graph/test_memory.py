"""Peak memory by liveness equals a simulation of what is in memory step by step."""

import numpy as np
from hypothesis import given, settings
from tests.graph.strategies import codes_of, spaces

from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.memory import copying_the_rest, liveness, parts_in_place, peak
from chipfit.graph.ops import Activation, Concat, Conv2d, Elementwise, Op, Pool2d, Reshape, Resize
from chipfit.graph.subgraphs import FOLDED, FOLLOWERS, Subgraph, cut, producers
from chipfit.graph.tables import TableMax
from chipfit.graph.values import bind
from chipfit.graph.workload import WORKLOAD_KINDS

EVERYTHING = {kind: frozenset(FOLLOWERS) for kind in WORKLOAD_KINDS}


def simulated(graph: Graph, subgraphs: tuple[Subgraph, ...]) -> list[dict[str, int]]:
    """What is in memory during each step of a closed graph, one tensor at a time."""
    host = {key: subgraph.name for subgraph in subgraphs for key, _ in subgraph.members}
    for node in graph.nodes:
        if isinstance(node.op, Reshape):
            host[node.key] = host.get(node.inputs[0], node.inputs[0])
    kept = {host.get(key, key) for key in graph.outputs}
    size = {item.key: int(np.prod(item.shape)) for item in graph.inputs}
    size |= {subgraph.name: int(np.prod(graph.shapes[subgraph.name])) for subgraph in subgraphs}
    memory = {item.key for item in graph.inputs}
    steps: list[dict[str, int]] = []
    for number, subgraph in enumerate(subgraphs):
        later = {edge.source for other in subgraphs[number:] for edge in other.reads}
        memory = {name for name in memory if name in later or name in kept} | {subgraph.name}
        steps.append({name: size[name] for name in memory})
    return steps


@settings(max_examples=30)
@given(spaces())
def test_peak_is_that_of_a_step_by_step_simulation(graph: Graph) -> None:
    for fuses in ({}, FOLDED, EVERYTHING):
        subgraphs = cut(graph, fuses)
        steps = liveness(graph, subgraphs)
        table = TableMax.of([[live.elements for live in step.alive] for step in steps], graph.decisions)
        codes = codes_of(graph)
        peaks = table.at(codes)
        for code, open_peak in zip(codes, peaks, strict=True):
            closed = graph.close(code)
            found = cut(closed, fuses)
            expected = simulated(closed, found)
            assert [{live.tensor: live.elements for live in step.alive} for step in liveness(closed, found)] == expected
            assert [step.subgraph for step in liveness(closed, found)] == [subgraph.name for subgraph in found]
            highest = max((sum(step.values()) for step in expected), default=0)
            result = peak(closed, found)
            assert result.elements == open_peak == highest
            assert sum(elements for _, elements in result.tensors) == highest
            chosen = {d.name: int(i) for d, i in zip(graph.decisions, code, strict=True)}
            held = [{live.tensor: bind(live.elements, chosen) for live in step.alive} for step in steps]
            held = [{name: size for name, size in step.items() if size} for step in held]
            assert [step for step in held if step] == expected


def shared(graph: Graph, subgraphs: tuple[Subgraph, ...]) -> list[int]:
    """Elements in memory during each step of a closed graph when tensors share places: a place is taken from the step
    that first writes into it to the last that needs a tensor in it."""
    size = {item.key: int(np.prod(item.shape)) for item in graph.inputs}
    size |= {part.name: int(np.prod(graph.shapes[part.name])) for part in subgraphs}
    number = {part.name: step for step, part in enumerate(subgraphs)}
    readers = {name: [part.name for part in subgraphs for edge in part.reads if edge.source == name] for name in size}
    kept = {edge.source for key in graph.outputs for edge in producers(graph)[key]}
    kept |= {part.name for part in subgraphs if part.gives_output}
    last = {name: max([number[each] for each in readers[name]], default=number.get(name, -1)) for name in size}
    last |= dict.fromkeys(kept, len(subgraphs) - 1)
    place = {name: name for name in size}
    for part in subgraphs:
        name, shape = part.name, graph.shapes[part.name]
        if len(readers[name]) == 1 and name not in kept and part.workload.kind != "copy":
            (reader,) = readers[name]
            if isinstance(graph.by_key[reader].op, Concat):
                place[name] = reader
                continue
        if part.workload.kind == "elementwise" and name not in kept:
            free = [edge.source for edge in part.reads if last[edge.source] == number[name] and edge.source in number]
            free = [each for each in free if size[each] == size[name]]
            if free and all(other == shape for other in graph.input_shapes(graph.by_key[name])):
                place[name] = place[free[0]]
    first = {name: min([number.get(each, 0) for each in size if place[each] == name], default=0) for name in size}
    until = {name: max([last[each] for each in size if place[each] == name], default=-1) for name in size}
    steps = range(len(subgraphs))
    return [sum(size[name] for name in size if first[name] <= step <= until[name]) for step in steps]


@settings(max_examples=30)
@given(spaces())
def test_tensors_that_share_memory_count_once(graph: Graph) -> None:
    subgraphs = cut(graph)
    table = TableMax.of(
        [[live.elements for live in step.alive] for step in liveness(graph, subgraphs, 1, ("copy", "elementwise"))],
        graph.decisions,
    )
    codes = codes_of(graph)
    for code, open_peak in zip(codes, table.at(codes), strict=True):
        closed = graph.close(code)
        found = cut(closed)
        steps = liveness(closed, found, 1, ("copy", "elementwise"))
        assert [sum(live.elements for live in step.alive) for step in steps] == shared(closed, found)
        result = peak(closed, found, 1, ("copy", "elementwise"))
        assert result.elements == open_peak
        assert sum(elements for _, elements in result.tensors) == open_peak


def node(key: str, op: Op, *inputs: str) -> Node:
    return Node(key, op, inputs)


def conv(key: str, source: str, out: int, stride: int = 1) -> Node:
    return Node(key, Conv2d(out, (3, 3), (stride, stride), (1, 1, 1, 1)), (source,))


def test_a_residual_keeps_its_operand() -> None:
    nodes = (
        conv("wide", "x", 6),
        conv("narrow", "wide", 2),
        node("sum", Elementwise("add"), "narrow", "x"),
    )
    graph = Graph((Input("x", (1, 2, 10, 10)),), nodes, ("sum",))
    # x is 200 elements, wide 600: x, wide and narrow are there together.
    assert peak(graph, cut(graph, {})).elements == 1000
    found = peak(graph, cut(graph, EVERYTHING))
    assert (found.elements, found.subgraph) == (1000, "narrow")
    assert found.tensors[0] == ("wide", 600)
    assert sorted(found.tensors) == [("narrow", 200), ("wide", 600), ("x", 200)]


def test_a_concatenation_holds_operands_and_result() -> None:
    nodes = (conv("a", "x", 3), conv("b", "x", 4), node("both", Concat(1), "a", "b"))
    graph = Graph((Input("x", (1, 2, 10, 10)),), nodes, ("both",))
    found = peak(graph, cut(graph))
    assert (found.elements, found.subgraph) == (300 + 400 + 700, "both")
    assert [sum(live.elements for live in step.alive) for step in liveness(graph, cut(graph))] == [500, 900, 1400]


def test_a_long_skip_is_held_across_the_narrow_part() -> None:
    nodes = (
        conv("encoder", "x", 8),
        node("pool", Pool2d("max", (2, 2), (2, 2)), "encoder"),
        conv("middle", "pool", 16),
        node("up", Resize("nearest", scale=(2.0, 2.0)), "middle"),
        node("merged", Concat(1), "encoder", "up"),
        conv("decoder", "merged", 1),
    )
    graph = Graph((Input("x", (1, 1, 8, 8)),), nodes, ("decoder",))
    steps = liveness(graph, cut(graph))
    held = {step.subgraph: {live.tensor for live in step.alive} for step in steps}
    assert held["middle"] == {"encoder", "pool", "middle"}
    assert held["decoder"] == {"merged", "decoder"}
    totals = {step.subgraph: sum(live.elements for live in step.alive) for step in steps}
    assert totals == {"encoder": 576, "pool": 640, "middle": 896, "up": 1792, "merged": 3072, "decoder": 1600}
    assert peak(graph, cut(graph)).tensors == (("merged", 1536), ("up", 1024), ("encoder", 512))


def test_outputs_stay_to_the_end_even_an_input_passed_on() -> None:
    nodes = (conv("a", "x", 2), conv("b", "a", 2), node("c", Activation("relu"), "b"))
    image = Input("x", (1, 1, 10, 10))
    first = liveness(Graph((image,), nodes, ("a", "c")), cut(Graph((image,), nodes, ("a", "c"))))
    assert {live.tensor for live in first[-1].alive} == {"a", "b"}
    passing = Graph((image,), nodes, ("c", "x"))
    assert {live.tensor for live in liveness(passing, cut(passing))[-1].alive} == {"x", "a", "b"}


def test_a_network_without_work_needs_no_memory() -> None:
    graph = Graph((Input("x", (1, 1, 2, 2)),), (), ("x",))
    assert peak(graph, cut(graph)).elements == 0


def test_a_sum_takes_the_place_of_an_operand() -> None:
    nodes = (conv("a", "x", 4), conv("b", "x", 4), node("sum", Elementwise("add"), "a", "b"), conv("end", "sum", 1))
    graph = Graph((Input("x", (1, 1, 10, 10)),), nodes, ("end",))
    totals = [
        sum(live.elements for live in step.alive) for step in liveness(graph, cut(graph), in_place=("elementwise",))
    ]
    assert totals == [100 + 400, 100 + 800, 800, 400 + 100]
    # Not where an operand is needed again, nor where the sum is an output of the network.
    again = Graph((Input("x", (1, 1, 10, 10)),), (*nodes, node("two", Concat(1), "a", "b", "end")), ("two",))
    assert peak(again, cut(again), in_place=("elementwise",)).elements == peak(again, cut(again)).elements
    output = Graph((Input("x", (1, 1, 10, 10)),), nodes[:3], ("sum",))
    assert peak(output, cut(output), in_place=("elementwise",)).elements == 1200


def test_parts_are_written_where_the_whole_lies() -> None:
    nodes = (conv("a", "x", 3), conv("b", "x", 4), node("both", Concat(1), "a", "b"), conv("end", "both", 1))
    graph = Graph((Input("x", (1, 2, 10, 10)),), nodes, ("end",))
    totals = [sum(live.elements for live in step.alive) for step in liveness(graph, cut(graph), in_place=("copy",))]
    # The whole takes 700 elements from the first part on.
    assert totals == [200 + 700, 200 + 700, 700, 700 + 100]
    # A part that somebody else reads is copied, in blocks of its own; the whole has none, as its second part begins
    # inside a block.
    graph = Graph(graph.inputs, (*nodes, conv("other", "a", 1)), ("end", "other"))
    held = {
        step.subgraph: {live.tensor: live.elements for live in step.alive}
        for step in liveness(graph, cut(graph), 16, ("copy",))
    }
    assert held["both"] == {"a": 1600, "b": 0, "both": 700}


@settings(max_examples=20)
@given(spaces())
def test_concatenations_read_what_is_not_written_in_place(graph: Graph) -> None:
    for code in codes_of(graph)[:4]:
        closed = graph.close(code)
        subgraphs = cut(closed)
        parts = parts_in_place(closed, subgraphs)
        before = {part.name: part.workload for part in subgraphs}
        for part in copying_the_rest(closed, subgraphs, parts):
            there = sum(
                before[source].out_elements for source, _ in part.reads if parts.get(source, ("",))[0] == part.name
            )
            assert part.workload.in_elements == before[part.name].in_elements - there
            assert part.workload.in_elements >= 0
            assert part.workload.out_elements == before[part.name].out_elements
