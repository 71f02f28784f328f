"""Every form in which a network is given, and what is said of those that cannot be read."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from chipfit.errors import InvalidInput
from chipfit.graph.ops import Linear
from chipfit.nets.load import load
from chipfit.nets.onnx.exporter import export_onnx
from chipfit.nets.zoo import from_zoo

SOURCE = """
from torch import nn
from chipfit.nets.zoo import from_zoo

def plain():
    return nn.Linear(4, 2)

def pair():
    return nn.Linear(4, 2), (1, 4)

def with_example():
    return nn.Linear(4, 2)

with_example.example_input = (1, 4)

class Known(nn.Linear):
    example_input = (1, 4)

def known():
    return Known(4, 2)

built = Known(4, 2)

def network():
    return from_zoo("ds_cnn", 3)

def broken():
    raise ValueError("no data")

def nothing():
    return None

number = 3
"""


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a module in a directory of its own, which is the current one."""
    name = f"models_{abs(hash(str(tmp_path)))}"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return name


def test_networks_files_and_names(tmp_path: Path) -> None:
    net = from_zoo("ds_cnn", seed=5)
    assert load(net) is net
    model = export_onnx(net, tmp_path / "my net.onnx")
    for given in (tmp_path / "my net.onnx", str(tmp_path / "my net.onnx"), model):
        assert load(given).graph == net.graph
    assert load(tmp_path / "my net.onnx").name == "my net"
    named = load("ds_cnn", seed=5)
    assert named.graph == net.graph
    assert all(np.array_equal(named.weights[key], net.weights[key]) for key in net.weights)
    assert load("resnet8").weights.keys() == from_zoo("resnet8").weights.keys()


@pytest.mark.parametrize("function", ["pair", "with_example", "known", "built"])
def test_functions_that_say_the_shape(models: str, function: str) -> None:
    net = load(f"{models}:{function}")
    assert [node.op for node in net.graph.nodes] == [Linear(2)]
    assert net.name == function


def test_functions_that_do_not(models: str) -> None:
    assert load(f"{models}:plain", input_shape=(1, 7, 4)).graph.inputs[0].shape == (1, 7, 4)
    assert load(f"{models}:pair", input_shape=(1, 7, 4)).graph.inputs[0].shape == (1, 7, 4)
    with pytest.raises(InvalidInput, match=r":plain: a PyTorch module does not say.*input_shape="):
        load(f"{models}:plain")
    assert load(f"{models}:network").graph == from_zoo("ds_cnn").graph


def test_modules(models: str) -> None:
    assert load(nn.Linear(4, 2), input_shape=(1, 4)).graph.shapes
    assert load(nn.Linear(4, 2), input_shape=torch.zeros(3, 4)).graph.inputs[0].shape == (1, 4)
    with pytest.raises(InvalidInput, match="input_shape="):
        load(nn.Linear(4, 2))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("broken", "fails with ValueError: no data"),
        ("nothing", "a NoneType is no network"),
        ("number", "a int is no function"),
        ("missing", "has no 'missing'"),
    ],
)
def test_functions_that_give_no_network(models: str, name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load(f"{models}:{name}")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "detector.onnx").write_bytes(b"")
    (tmp_path / "detector.tflite").write_bytes(b"")
    (tmp_path / "net.txt").write_text("")
    for given, message in (
        (tmp_path / "detektor.onnx", r"no such file; in .* there is detector\.onnx"),
        (tmp_path / "gone" / "net.onnx", "no such file, nor a directory"),
        (tmp_path / "detector.onnx", "not a readable ONNX file"),
        (tmp_path / "net.txt", "not a form that chipfit reads"),
        (tmp_path / "detektor.tflite", r"no such file; in .* there is detector\.tflite"),
        (tmp_path / "detector.tflite", "not a readable TFLite file"),
        ("net.pt", "pickles are never loaded"),
        ("resnet9", "did you mean resnet8"),
        ("xyzzy", "the zoo has mobilenet_v1"),
        ("no_such_module:net", "cannot import no_such_module"),
        (7, "a int is no network"),
    ):
        with pytest.raises(InvalidInput, match=message) as caught:
            load(given)
        assert "\n" not in str(caught.value)
