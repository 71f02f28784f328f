"""The PyTorch module that is handed over: it needs nothing of chipfit and computes the same."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chipfit.errors import InvalidInput, UnsupportedOperator
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import Activation, Concat, Constant, Linear, Opaque, Pad, Pool2d
from chipfit.graph.values import Decision
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network, initialise
from chipfit.nets.pytorch.exporter import export_torch
from chipfit.nets.zoo import from_zoo


def imported(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("handed_over", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def network(graph: Graph) -> Network:
    generator = np.random.default_rng(0)
    weights = initialise(graph, generator)
    for array in weights.values():
        array += generator.uniform(0.01, 0.2, array.shape).astype(np.float32)
    return Network("net", graph, weights)


def assert_same(net: Network, directory: Path) -> None:
    module = imported(export_torch(net, directory)).load()
    assert not module.training
    for batch in (1, 3):
        inputs = [
            torch.rand(batch, *item.shape[1:], generator=torch.Generator().manual_seed(0)) for item in net.graph.inputs
        ]
        with torch.no_grad():
            given, wanted = module(*inputs), GraphModule(net.graph, net.weights).eval()(*inputs)
        torch.testing.assert_close(given, wanted, rtol=1e-5, atol=1e-5)


@settings(max_examples=60)
@given(data=st.data())
def test_random_networks_compute_the_same(
    data: st.DataObject, small_graphs: st.SearchStrategy[Graph], tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert_same(network(data.draw(small_graphs)), tmp_path_factory.mktemp("handed_over"))


@pytest.mark.parametrize("name", ["mobilenet_v2-0.35-64", "resnet8", "ds_cnn", "ibn_detector-0.25-64"])
def test_the_zoo_computes_the_same(name: str, tmp_path: Path) -> None:
    assert_same(from_zoo(name), tmp_path)


def test_names_that_mean_something_to_python(tmp_path: Path) -> None:
    keys = ["self", "forward", "for", "0", "a.b", "a_b", "torch", "F", "Tensor", '"""', "lambda x: 1", "ü", "training"]
    nodes = tuple(
        Node(key, Linear(4) if index % 2 else Activation("relu"), (before,))
        for index, (before, key) in enumerate(zip(["match", *keys], keys, strict=False))
    )
    net = network(Graph((Input("match", (1, 4)),), nodes, (keys[-1], "match")))
    assert_same(Network('x""" \n import os', net.graph, net.weights), tmp_path)


def test_padding_beyond_what_pools_can_do_and_constants(tmp_path: Path) -> None:
    nodes = (
        Node("pad", Pad((1, 0, 0, 2), float("-inf")), ("x",)),
        Node("max", Pool2d("max", (3, 3), (2, 2), (0, 1, 1, 0)), ("pad",)),
        Node("relu", Activation("relu"), ("max",)),
        Node("average", Pool2d("average", (3, 2), (2, 1), (1, 0, 0, 1), False, False), ("relu",)),
        Node("token", Constant((1, 2, 1, 4)), ()),
        Node("cat", Concat(2), ("token", "average")),
    )
    graph = Graph((Input("x", (1, 2, 6, 7)),), nodes, ("cat",))
    width = graph.shapes["average"][3]
    sized = tuple(Node("token", Constant((1, 2, 1, width)), ()) if node.key == "token" else node for node in nodes)
    assert_same(network(Graph(graph.inputs, sized, ("cat", "token"))), tmp_path)


def test_the_files_need_nothing_of_chipfit(tmp_path: Path) -> None:
    path = export_torch(from_zoo("ds_cnn"), tmp_path)
    assert sorted(item.name for item in tmp_path.iterdir()) == ["model.py", "model.safetensors"]
    script = (
        "import sys; sys.modules['chipfit'] = None; import torch, model; net = model.load();"
        "print(tuple(net(torch.zeros(2, 1, 49, 10)).shape))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], cwd=path.parent, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "(2, 12)"


def test_the_module_can_be_trained_on(tmp_path: Path) -> None:
    net = from_zoo("resnet8")
    module = imported(export_torch(net, tmp_path)).load().train()
    module(torch.rand(4, 3, 32, 32)).square().sum().backward()
    assert all(parameter.grad is not None for parameter in module.parameters())
    learned = {name for name in net.weights if ".running_" not in name}
    assert len(list(module.parameters())) == len(learned)


def test_what_cannot_be_exported(tmp_path: Path) -> None:
    x = Input("x", (1, 4))
    opaque = Graph((x,), (Node("odd", Opaque("GridSample", (1, 4)), ("x",)),), ("odd",))
    with pytest.raises(UnsupportedOperator, match=r"'odd'.*'GridSample'"):
        export_torch(Network("net", opaque, {}), tmp_path)
    with pytest.raises(InvalidInput, match="1 decisions are open"):
        export_torch(Network("net", Graph((x,), (), ("x",), (Decision("width", (1, 2)),)), {}), tmp_path)
    assert list(tmp_path.iterdir()) == []
