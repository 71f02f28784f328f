"""What a target cannot run is named with what to do and in no sum; an open graph and a closed one agree on it."""

import json
import sys
from dataclasses import replace

import numpy as np
import pytest

from chipfit.cli.main import main
from chipfit.errors import InvalidInput
from chipfit.estimate.estimator import Estimator
from chipfit.estimate.store import default_estimator, estimator_for, save_estimator
from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Activation, Conv2d, Elementwise, LayerNorm, Op, Resize
from chipfit.graph.values import Value, table
from chipfit.nets.network import Network, initialise
from chipfit.nets.onnx.exporter import export_onnx
from chipfit.targets import Target, load_target, variant

LACKING = ["opaque", "activation.gelu", "elementwise.div", "normalisation.layer_norm"]


@pytest.fixture(scope="module")
def poorer(target: Target) -> Target:
    return variant(target, {"unsupported": LACKING, "shapes.depthwise_stride": 3, "shapes.resize.bilinear": [2]})


@pytest.fixture(scope="module")
def known(estimator: Estimator, poorer: Target) -> Estimator:
    return replace(estimator, target=poorer)


def network(*ops: Op, between: bool = False) -> Graph:
    b = Builder()
    x = b.conv(b.input("input", (1, 3, 32, 32)), 16, kernel=3, bias=True, key="stem")
    for number, op in enumerate(ops):
        if between:
            x = b.pool(x, kernel=3, stride=1, function="max", key=f"between{number}")
        x = b.add(op, *([x, x] if isinstance(op, Elementwise) else [x]), key=f"op{number}")
    return b.graph(b.conv(x, 8, bias=True, key="last"))


def strided(stride: Value) -> Op:
    return Conv2d(16, (3, 3), (stride, stride), (1, 1, 1, 1), groups=16)


@pytest.mark.parametrize(
    ("op", "operator", "why", "remedy"),
    [
        (
            LayerNorm(),
            "LayerNorm layer_norm",
            "does not run normalisation.layer_norm: it runs on the host",
            "batch norm",
        ),
        (Elementwise("div"), "Elementwise div", "does not run elementwise.div", "reciprocal"),
        (strided(4), "Conv2d", "does not run depthwise of this stride (4x4)", "a stride of 2"),
        (Resize("bilinear", scale=(3.0, 3.0)), "Resize bilinear", "of this size (30x30 to 90x90)", "factor of 2"),
    ],
)
def test_a_gap_is_named_and_in_no_sum(op, operator, why, remedy, known, estimator) -> None:
    graph = network(op, between=True)
    assert not estimator.unsupported(graph)
    (gap,) = known.unsupported(graph)
    assert (gap.node, gap.operator) == ("op0", operator)
    assert why in gap.why
    assert "whose speed chipfit does not know" in gap.why
    assert remedy in gap.remedy
    rows = known.by_layer(graph)
    assert [row.name for row in rows] == ["stem", "between0", "last"]
    assert known.costs(graph).latency_s[0] == pytest.approx(sum(row.latency_s for row in rows))
    assert known.costs(graph).latency_s[0] < estimator.costs(graph).latency_s[0]
    assert known.costs(graph).weight_bytes[0] == estimator.costs(graph).weight_bytes[0]


@pytest.mark.parametrize(
    "op",
    [
        strided(3),
        Resize("bilinear", scale=(2.0, 2.0)),
        Activation("silu"),
        Elementwise("mul"),
        Resize("nearest", scale=(3.0, 3.0)),
    ],
)
def test_its_neighbours_are_predicted_as_before(op, known, estimator) -> None:
    graph = network(op, between=True)
    assert not known.unsupported(graph)
    assert known.costs(graph).latency_s[0] == estimator.costs(graph).latency_s[0]


def test_what_is_fused_is_named_and_its_host_is_predicted(known, estimator) -> None:
    graph = network(Activation("gelu"))
    (gap,) = known.unsupported(graph)
    assert (gap.node, gap.operator) == ("op0", "Activation gelu")
    assert [row.name for row in known.by_layer(graph)] == ["stem", "last"]


def test_an_open_graph_leaves_out_what_the_closed_one_does(known, estimator) -> None:
    b = Builder()
    x = b.conv(b.input("input", (1, 3, 32, 32)), 16, kernel=3, bias=True, key="stem")
    b.decide("stride", (2, 4))
    x = b.add(strided(table(("stride",), np.array([2, 4]))), x, key="deep")
    graph = b.graph(b.conv(x, 8, bias=True, key="last"))
    prepared = known.prepare(graph).at(np.array([[0], [1]]))
    closed = [known.costs(graph.close((code,))) for code in (0, 1)]
    for name in ("latency_s", "energy_j", "weight_bytes", "macs", "spread_s"):
        expected = [float(getattr(each, name)[0]) for each in closed]
        np.testing.assert_allclose(getattr(prepared, name), expected, rtol=1e-9)
        np.testing.assert_allclose(getattr(known.costs(graph, np.array([[0], [1]])), name), expected, rtol=1e-9)
    assert [gap.node for gap in known.unsupported(graph)] == ["deep"]
    assert [len(known.unsupported(graph.close((code,)))) for code in (0, 1)] == [0, 1]
    np.testing.assert_allclose(prepared.latency_s[0], estimator.costs(graph.close((0,))).latency_s[0], rtol=1e-9)


def test_an_estimator_serves_a_target_that_runs_less_but_none_that_runs_more(
    estimator, poorer, target, tmp_path
) -> None:
    path = tmp_path / "all.json"
    save_estimator(path, estimator)
    assert estimator_for(poorer, None, path).target == poorer
    save_estimator(path, replace(estimator, target=poorer))
    with pytest.raises(InvalidInput, match="as it is described now"):
        estimator_for(target, None, path)


def test_the_command_line_says_that_the_cost_is_unavailable(tmp_path, monkeypatch, capsys) -> None:
    graph = network(LayerNorm(), between=True)
    export_onnx(Network("odd", graph, initialise(graph, np.random.default_rng(0))), tmp_path / "odd.onnx")
    arguments = ["chipfit", "estimate", str(tmp_path / "odd.onnx"), "--target", "ethos-u55-256"]
    monkeypatch.setattr(sys, "argv", [*arguments, "--json"])
    with pytest.raises(SystemExit, match="0"):
        main()
    (gap,) = json.loads(capsys.readouterr().out)["unsupported"]
    assert gap["operator"] == "LayerNorm layer_norm"
    assert (gap["latency_s"]["value"], gap["latency_s"]["source"]) == (None, "unavailable")
    assert "whose speed chipfit does not know" in gap["latency_s"]["detail"]
    monkeypatch.setattr(sys, "argv", arguments)
    with pytest.raises(SystemExit, match="0"):
        main()
    text = " ".join(capsys.readouterr().out.split())
    assert "1 operator cannot run on ethos-u55-256; latency and energy are without" in text
    assert "LayerNorm layer_norm" in text
    assert default_estimator(load_target("ethos-u55-256")).target == load_target("ethos-u55-256")
