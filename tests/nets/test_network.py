"""Networks: weights that fit, fresh weights, and files that are whole or not there."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from chipfit.errors import InvalidInput
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.graph import Graph
from chipfit.graph.ops import Activation, LayerNorm
from chipfit.graph.values import choose
from chipfit.nets.network import Network, initialise, load_weights, save_weights


def small(width: int = 64) -> Graph:
    b = Builder()
    x = b.input("x", (1, 3, 8, 8))
    x = conv_bn_act(b, x, width, key="stem")
    x = b.depthwise(x, kernel=5, bias=True, key="depthwise")
    x = b.add(Activation("prelu"), x, key="prelu")
    x = b.conv_transpose(x, width, kernel=4, stride=2, padding=1, key="up")
    x = b.elementwise(x, b.constant((1, width, 1, 1), key="offset"), "add", key="sum")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flat")
    x = b.linear(x, 100, key="linear")
    return b.graph(b.add(LayerNorm(), x, key="norm"))


def test_fresh_weights_fit_and_have_the_variance_that_keeps_gradients() -> None:
    graph = small()
    weights = initialise(graph, np.random.default_rng(0))
    Network("small", graph, weights)
    assert {array.dtype for array in weights.values()} == {np.dtype(np.float32)}
    expected = {"stem": (64 * 9), "depthwise": 25, "up": 64 * 16}
    for key, fan_out in expected.items():
        assert weights[f"{key}.weight"].std() == pytest.approx((2 / fan_out) ** 0.5, rel=0.1)
    assert weights["linear.weight"].std() == pytest.approx((1 / 64) ** 0.5, rel=0.1)
    ones = ("stem.bn.weight", "stem.bn.running_var", "norm.weight")
    zeros = ("stem.bn.bias", "stem.bn.running_mean", "norm.bias", "linear.bias", "depthwise.bias", "up.bias")
    assert all((weights[name] == 1).all() for name in ones)
    assert all((weights[name] == 0).all() for name in zeros)
    assert (weights["prelu.weight"] == 0.25).all()
    assert weights["offset.value"].std() > 0


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    first, again, other = (initialise(small(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert all((first[name] == again[name]).all() for name in first)
    assert (first["stem.weight"] != other["stem.weight"]).any()


def test_weights_that_do_not_fit_are_named() -> None:
    graph = small()
    weights = initialise(graph, np.random.default_rng(0))
    without = {name: array for name, array in weights.items() if name != "linear.bias"}
    with pytest.raises(InvalidInput, match=r"linear\.bias is missing"):
        Network("n", graph, without)
    with pytest.raises(InvalidInput, match=r"extra\.weight belongs to no node"):
        Network("n", graph, weights | {"extra.weight": np.zeros(1, np.float32)})
    with pytest.raises(InvalidInput, match=r"linear\.bias is float32 \(3,\), not float32 \(100,\)"):
        Network("n", graph, weights | {"linear.bias": np.zeros(3, np.float32)})
    with pytest.raises(InvalidInput, match=r"linear\.bias is float64"):
        Network("n", graph, weights | {"linear.bias": np.zeros(100)})  # type: ignore[dict-item]
    with pytest.raises(InvalidInput, match=f"and {len(weights) - 3} more"):
        Network("n", graph, {})


def test_an_open_graph_has_no_fresh_weights_but_makes_a_network() -> None:
    b = Builder()
    width = choose(b.decide("width", (8, 16)), (8, 16))
    graph = b.graph(b.conv(b.input("x", (1, 3, 8, 8)), width, key="y"))
    with pytest.raises(InvalidInput, match="close it first"):
        initialise(graph, np.random.default_rng(0))
    baseline = initialise(graph.close((0,)), np.random.default_rng(0))
    assert Network("open", graph, baseline).weights is baseline


def test_weights_come_back_from_a_file_as_they_were(tmp_path: Path) -> None:
    weights = initialise(small(), np.random.default_rng(0))
    weights["stem.weight"] = np.asfortranarray(weights["stem.weight"])
    path = tmp_path / "net.safetensors"
    save_weights(path, weights)
    loaded = load_weights(path)
    assert set(loaded) == set(weights)
    assert all((loaded[name] == weights[name]).all() for name in weights)
    assert [item.name for item in tmp_path.iterdir()] == ["net.safetensors"]


def test_files_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"cannot read weights from .*none\.safetensors"):
        load_weights(tmp_path / "none.safetensors")
    broken = tmp_path / "broken.safetensors"
    save_weights(broken, initialise(small(), np.random.default_rng(0)))
    broken.write_bytes(broken.read_bytes()[:-10])
    with pytest.raises(InvalidInput, match="must be a safetensors file"):
        load_weights(broken)
    double = tmp_path / "double.safetensors"
    double.write_bytes(safetensors.numpy.save({"a.weight": np.zeros(3)}))
    with pytest.raises(InvalidInput, match=r"'a\.weight' is F64"):
        load_weights(double)
