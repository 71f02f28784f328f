"""Cutting an open graph says for every code what cutting the closed graph says."""

import itertools

import pytest
from hypothesis import given, settings
from tests.graph.strategies import codes_of, spaces

from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import (
    ALIASES,
    Activation,
    BatchNorm,
    Constant,
    Conv2d,
    Elementwise,
    Linear,
    MatMul,
    Op,
    Pool2d,
    Reshape,
    Select,
)
from chipfit.graph.subgraphs import FOLDED, FOLLOWERS, Subgraph, cut
from chipfit.graph.values import Decision, bind, choose
from chipfit.graph.workload import WORKLOAD_FIELDS, WORKLOAD_KINDS, activation_level

EVERYTHING = {kind: frozenset(FOLLOWERS) for kind in WORKLOAD_KINDS}
CONVOLUTIONS = {"conv": frozenset(FOLLOWERS), "depthwise": frozenset({"batch_norm", "activation"})}
MAPPINGS = [
    {},
    FOLDED,
    CONVOLUTIONS,
    {"conv": frozenset({"add"}), "elementwise": frozenset({"activation"})},
    {kind: frozenset({"batch_norm", "clamp"}) for kind in WORKLOAD_KINDS},
    EVERYTHING,
]

X = Input("x", (1, 8, 8, 8))


def conv(key: str, source: str, out: int = 8) -> Node:
    return Node(key, Conv2d(out, (3, 3), padding=(1, 1, 1, 1), bias=False), (source,))


def node(key: str, op: Op, *inputs: str) -> Node:
    return Node(key, op, inputs)


def members(found: tuple[Subgraph, ...]) -> list[list[str]]:
    return [[key for key, _ in subgraph.members] for subgraph in found]


def at(subgraph: Subgraph, chosen: dict[str, int]) -> dict[str, object]:
    """What an open subgraph says under a code."""
    under = {
        "members": {key for key, condition in subgraph.members if bind(condition, chosen)},
        "reads": {edge.source for edge in subgraph.reads if bind(edge.condition, chosen)},
        "gives_output": bool(bind(subgraph.gives_output, chosen)),
        "kind": subgraph.workload.kind,
    }
    return under | {name: bind(getattr(subgraph.workload, name), chosen) for name in WORKLOAD_FIELDS}


@settings(max_examples=60)
@given(spaces())
def test_an_open_graph_is_cut_as_each_of_its_networks(graph: Graph) -> None:
    for fuses in MAPPINGS:
        found = cut(graph, fuses)
        for code in codes_of(graph):
            chosen = {d.name: int(i) for d, i in zip(graph.decisions, code, strict=True)}
            present = [subgraph for subgraph in found if bind(subgraph.presence, chosen)]
            expected = cut(graph.close(code), fuses)
            assert [subgraph.name for subgraph in present] == [subgraph.name for subgraph in expected]
            for subgraph, closed in zip(present, expected, strict=True):
                assert at(subgraph, chosen) == at(closed, {})
                assert closed.presence is True


@settings(max_examples=60)
@given(spaces())
def test_every_node_that_does_work_is_in_one_subgraph(graph: Graph) -> None:
    for fuses in MAPPINGS:
        for code in codes_of(graph)[::5]:
            closed = graph.close(code)
            found = cut(closed, fuses)
            inside = [key for subgraph in found for key, _ in subgraph.members]
            working = [item.key for item in closed.nodes if not isinstance(item.op, (Constant, *ALIASES))]
            assert sorted(inside) == sorted(working)
            known = {item.key for item in closed.inputs}
            for subgraph in found:
                assert {edge.source for edge in subgraph.reads} <= known, "reads what is not there yet"
                known.add(subgraph.name)
            if not fuses:
                assert [subgraph.name for subgraph in found] == working


@settings(max_examples=60)
@given(spaces())
def test_what_is_fused_away_has_no_other_reader(graph: Graph) -> None:
    closed = graph.close(codes_of(graph)[-1])
    for subgraph in cut(closed, EVERYTHING):
        keys = [key for key, _ in subgraph.members]
        for key, after in itertools.pairwise(keys):
            assert [reader.key for reader in closed.consumers[key]] == [after]
            assert key not in closed.outputs


def test_a_residual_addition_goes_to_the_later_operand() -> None:
    nodes = (conv("first", "x"), conv("second", "first"), node("sum", Elementwise("add"), "second", "first"))
    graph = Graph((X,), nodes, ("sum",))
    first, second = cut(graph, EVERYTHING)
    assert members((first, second)) == [["first"], ["second", "sum"]]
    assert [edge.source for edge in second.reads] == ["first"]
    assert second.workload.adds == 1
    assert second.workload.in_elements == 2 * 8 * 8 * 8
    assert second.gives_output
    assert not first.gives_output
    assert members(cut(graph, FOLDED)) == [["first"], ["second"], ["sum"]]
    swapped = Graph((X,), (*nodes[:2], node("sum", Elementwise("add"), "first", "second")), ("sum",))
    assert members(cut(swapped, EVERYTHING)) == [["first"], ["second", "sum"]]


def test_an_addition_of_constants_or_with_broadcasting_is_not_fused() -> None:
    constant = node("constant", Constant((1, 8, 8, 8)))
    graph = Graph((X,), (constant, conv("c", "x"), node("sum", Elementwise("add"), "c", "constant")), ("sum",))
    found = cut(graph, EVERYTHING)
    assert members(found) == [["c"], ["sum"]]
    assert found[1].workload.parameters == 8 * 8 * 8
    assert found[1].workload.in_elements == 8 * 8 * 8
    small = node("small", Constant((1, 8, 1, 1)))
    both = (small, conv("c", "x"), conv("d", "small"), node("sum", Elementwise("add"), "c", "d"))
    assert members(cut(Graph((X,), both, ("sum",)), EVERYTHING)) == [["c"], ["d"], ["sum"]]


def test_constants_behind_aliases_and_selects_are_weights() -> None:
    index = choose(Decision("which", ("x", "table")), (0, 1))
    nodes = (
        node("table", Constant((1, 512))),
        node("shaped", Reshape((8, 8, 8)), "table"),
        node("either", Select(index), "x", "shaped"),
        conv("c", "x"),
        node("product", Elementwise("mul"), "c", "either"),
    )
    graph = Graph((X,), nodes, ("product",), (Decision("which", ("x", "table")),))
    workload = cut(graph, EVERYTHING)[1].workload
    assert [bind(workload.parameters, {"which": option}) for option in (0, 1)] == [0, 512]
    assert [bind(workload.in_elements, {"which": option}) for option in (0, 1)] == [1024, 512]


def test_a_tensor_with_two_readers_is_not_fused_away() -> None:
    nodes = (conv("c", "x"), node("relu", Activation("relu"), "c"), node("pool", Pool2d("max", (2, 2), (2, 2)), "c"))
    assert members(cut(Graph((X,), nodes, ("relu", "pool")), EVERYTHING)) == [["c"], ["relu"], ["pool"]]
    assert members(cut(Graph((X,), nodes[:2], ("relu", "c")), EVERYTHING)) == [["c"], ["relu"]]
    assert members(cut(Graph((X,), nodes[:2], ("relu",)), EVERYTHING)) == [["c", "relu"]]


def test_batch_normalisation_folds_only_before_the_activation() -> None:
    nodes = (conv("c", "x"), node("bn", BatchNorm(), "c"), node("relu", Activation("relu"), "bn"))
    (found,) = cut(Graph((X,), nodes, ("relu",)), EVERYTHING)
    assert members((found,)) == [["c", "bn", "relu"]]
    assert found.workload.biases == 8
    assert found.workload.activation == 1
    late = (conv("c", "x"), node("relu", Activation("relu"), "c"), node("bn", BatchNorm(), "relu"))
    found = cut(Graph((X,), late, ("bn",)), EVERYTHING)
    assert members(found) == [["c", "relu"], ["bn"]]
    assert found[0].workload.biases == 0
    after = (conv("c", "x"), node("sum", Elementwise("add"), "c", "x"), node("bn", BatchNorm(), "sum"))
    assert members(cut(Graph((X,), after, ("bn",)), EVERYTHING)) == [["c", "sum"], ["bn"]]


def test_a_subgraph_takes_one_addition() -> None:
    nodes = (
        conv("c", "x"),
        node("once", Elementwise("add"), "c", "x"),
        node("twice", Elementwise("add"), "once", "y"),
        node("relu", Activation("relu"), "twice"),
    )
    graph = Graph((X, Input("y", X.shape)), nodes, ("relu",))
    convolution = {"conv": EVERYTHING["conv"]}
    assert members(cut(graph, convolution)) == [["c", "once"], ["twice"], ["relu"]]


@pytest.mark.parametrize(
    ("functions", "level"),
    [(("relu",), 1), (("tanh",), 2), (("silu",), 3), (("silu", "relu"), 3), (("relu", "silu"), 3)],
)
def test_the_costliest_activation_counts(functions: tuple[str, ...], level: int) -> None:
    keys = ["c", *(f"a{i}" for i in range(len(functions)))]
    chain = [node(keys[i + 1], Activation(name), keys[i]) for i, name in enumerate(functions)]
    (found,) = cut(Graph((X,), (conv("c", "x"), *chain), (keys[-1],)), EVERYTHING)
    assert found.workload.activation == level
    alone = Graph((X,), (node("a", Activation(functions[-1]), "x"),), ("a",))
    assert cut(alone)[0].workload.activation == activation_level(Activation(functions[-1]))


@pytest.mark.parametrize(
    ("fused", "alone"),
    [({"clamp"}, {"tanh", "silu"}), ({"activation"}, {"silu"}), ({"composite"}, {"relu", "tanh"})],
)
def test_a_target_may_fuse_clamps_without_tables_and_tables_without_steps(fused: set[str], alone: set[str]) -> None:
    functions = ("relu", "tanh", "silu")
    pairs = [(conv(f"c.{each}", "x"), node(each, Activation(each), f"c.{each}")) for each in functions]
    graph = Graph((X,), tuple(itertools.chain(*pairs)), functions)
    found = cut(graph, {"conv": frozenset(fused)})
    assert {name for part in found for name in [part.name] if part.workload.kind == "activation"} == alone


def test_a_select_decides_what_is_fused() -> None:
    decision = Decision("path", ("conv", "pool"))
    nodes = (
        conv("c", "x"),
        node("p", Pool2d("max", (3, 3), (1, 1), (1, 1, 1, 1)), "x"),
        node("either", Select(choose(decision, (0, 1))), "c", "p"),
        node("relu", Activation("relu"), "either"),
    )
    graph = Graph((X,), nodes, ("relu",), (decision,))
    convolution, pool, relu = cut(graph, CONVOLUTIONS)
    presence = [[bind(item.presence, {"path": option}) for item in (convolution, pool, relu)] for option in (0, 1)]
    assert presence == [[True, False, False], [False, True, True]]
    assert bind(convolution.workload.activation, {"path": 0}) == 1


def test_workloads_of_convolution_linear_and_matrix_product() -> None:
    depthwise = node("d", Conv2d(8, (5, 3), (2, 2), (2, 1, 2, 1), groups=8), "x")
    graph = Graph((X,), (depthwise,), ("d",))
    (found,) = cut(graph)
    load = found.workload
    assert load.kind == "depthwise"
    assert (load.kernel_height, load.kernel_width, load.stride_height) == (5, 3, 2)
    assert (load.out_height, load.out_width, load.macs) == (4, 4, 4 * 4 * 8 * 15)
    assert (load.parameters, load.biases, load.groups) == (8 * 15, 8, 8)
    rows = Input("rows", (1, 6, 16))
    (found,) = cut(Graph((rows,), (node("l", Linear(4), "rows"),), ("l",)))
    load = found.workload
    assert (load.kind, load.in_height, load.in_channels, load.out_channels) == ("linear", 6, 16, 4)
    assert (load.macs, load.parameters, load.biases) == (6 * 16 * 4, 64, 4)
    other = Input("other", (1, 16, 5))
    (found,) = cut(Graph((rows, other), (node("m", MatMul(), "rows", "other"),), ("m",)))
    assert (found.workload.kind, found.workload.macs, found.workload.out_elements) == ("matmul", 6 * 5 * 16, 30)
    assert {edge.source for edge in found.reads} == {"rows", "other"}


@settings(max_examples=30)
@given(spaces())
def test_cutting_along_codes_is_cutting_each(graph: Graph) -> None:
    codes = codes_of(graph)[::3]
    found = cut(graph.along(codes), EVERYTHING)
    for number, code in enumerate(codes):
        chosen = {"candidate": number}
        present = [at(subgraph, chosen) for subgraph in found if bind(subgraph.presence, chosen)]
        assert present == [at(subgraph, {}) for subgraph in cut(graph.close(code), EVERYTHING)]
