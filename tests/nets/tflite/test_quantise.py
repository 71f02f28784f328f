"""Int8: what the specification demands, and numbers as near to the real ones as 8 bits allow."""

import importlib.resources
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from chipfit.errors import InvalidInput, UnsupportedOperator
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.graph import Graph, Input, Node
from chipfit.graph.ops import (
    ACTIVATIONS,
    ELEMENTWISE,
    Activation,
    BatchNorm,
    Concat,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    GlobalPool,
    LayerNorm,
    Linear,
    MatMul,
    Op,
    Pad,
    Pool2d,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
)
from chipfit.nets.lowering import lower
from chipfit.nets.module import GraphModule
from chipfit.nets.network import Network, initialise
from chipfit.nets.quantisation import Quantisation
from chipfit.nets.tflite.calibrate import activation_ranges
from chipfit.nets.tflite.exporter import export_tflite, program_of, tflite_model
from chipfit.nets.tflite.importer import import_tflite
from chipfit.nets.tflite.program import Affine, Program
from chipfit.nets.tflite.quantise import FIXED, LAYERS, MOVES, affine_of, integers
from chipfit.nets.tflite.runtime import run_tflite
from chipfit.nets.tflite.writer import written
from chipfit.nets.zoo import from_zoo

IMAGE, ROWS = (1, 4, 8, 6), (1, 5, 6)

SINGLE: list[tuple[Op, tuple[tuple[int, ...], ...], int]] = [
    (Conv2d(6, (3, 2), (2, 1), (0, 1, 2, 0), (1, 2), 2), (IMAGE,), 1),
    (Conv2d(8, (3, 3), (2, 2), (1, 1, 1, 1), groups=4), (IMAGE,), 1),
    (Conv2d(8, (1, 1), bias=False), (IMAGE,), 1),
    (ConvTranspose2d(6, (3, 3), (2, 2), (1, 1, 1, 1), (1, 1)), (IMAGE,), 1),
    (Linear(5), ((1, 24),), 1),
    (Linear(5), (ROWS,), 1),
    (MatMul(), (ROWS, (1, 6, 4)), 1),
    (BatchNorm(), (IMAGE,), 2),
    (BatchNorm(), (ROWS,), 4),
    (LayerNorm(), (ROWS,), 1),
    *((Activation(function), (IMAGE,), 2) for function in ACTIVATIONS),
    (Softmax(), (ROWS,), 2),
    (Softmax(1), (IMAGE,), 2),
    *((Elementwise(function), (IMAGE, (1, 4, 1, 1)), 1) for function in ELEMENTWISE),
    (Concat(), (IMAGE, IMAGE), 1),
    (Slice(1, 1, 3), (IMAGE,), 1),
    (Pool2d("max", (3, 3), (2, 2), (1, 1, 1, 1)), (IMAGE,), 1),
    (Pool2d("average", (3, 3), (2, 2), (1, 1, 1, 1)), (IMAGE,), 1),
    (Pool2d("average", (3, 3), (1, 1), (1, 1, 1, 1), count_include_pad=False), (IMAGE,), 1),
    (Pool2d("average", (3, 3), (2, 2), (1, 1, 1, 1), count_include_pad=False), (IMAGE,), 3),
    (GlobalPool(), (IMAGE,), 1),
    (GlobalPool("max"), (IMAGE,), 1),
    (Resize("nearest", scale=(2.0, 2.0)), (IMAGE,), 1),
    (Resize("bilinear", scale=(2.0, 2.0)), (IMAGE,), 1),
    (Pad((1, 0, 2, 3), -2.5), (IMAGE,), 1),
    (Reshape((-1,)), (IMAGE,), 1),
    (Transpose((0, 2, 3, 1)), (IMAGE,), 1),
]
"""Operators, the shapes that they read, and how many steps of the output their kernels may be off.

One step is half a step of rounding and what LiteRT's fixed-point multipliers add; a table of 256 entries and each inner
tensor round once more.
"""

ZOO = ("mobilenet_v1-0.25-96", "mobilenet_v2-0.35-96", "ibn_classifier", "resnet8", "ds_cnn")


def single(op: Op, shapes: tuple[tuple[int, ...], ...]) -> Network:
    """One operator with weights that 8 bits hold exactly."""
    keys = tuple(f"in{index}" for index in range(len(shapes)))
    inputs = tuple(Input(key, shape) for key, shape in zip(keys, shapes, strict=True))
    graph = Graph(inputs, (Node("node", op, keys),), ("node",))
    generator = np.random.default_rng(0)
    weights: dict[str, np.ndarray] = {}
    for name, array in initialise(graph, generator).items():
        whole = generator.integers(-126, 127, np.shape(array))
        if name.endswith("weight") and np.ndim(array) > 1:
            # The largest of each channel says the scale.
            channels = whole if not isinstance(op, ConvTranspose2d) else whole.swapaxes(0, 1)
            channels[(slice(None), *[0] * (np.ndim(array) - 1))] = 127
        weights[name] = (np.abs(whole) + 20 if name.endswith("var") else whole).astype(np.float32) / 128
    return Network("net", graph, weights)


def samples(graph: Graph, count: int, seed: int = 1) -> tuple[np.ndarray, ...]:
    """Normal numbers; those that roots are taken of, or that others are divided by, are above 0.3."""
    generator = np.random.default_rng(seed)
    arrays = {item.key: generator.standard_normal((count, *item.shape[1:]), np.float32) for item in graph.inputs}
    for node in graph.nodes:
        if isinstance(node.op, (Activation, Elementwise)) and node.op.function in ("sqrt", "div"):
            key = node.inputs[-1]
            arrays |= {key: np.float32(0.3) + np.abs(arrays[key])} if key in arrays else {}
    return tuple(arrays.values())


def outputs(net: Network, inputs: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    module = GraphModule(net.graph, net.weights).eval()
    with torch.no_grad():
        rows = [module(*(torch.from_numpy(array[i : i + 1]) for array in inputs)) for i in range(len(inputs[0]))]
    rows = [row if isinstance(row, tuple) else (row,) for row in rows]
    return [torch.cat(column).numpy() for column in zip(*rows, strict=True)]


def rounded(array: np.ndarray, affine: Affine) -> np.ndarray:
    """The numbers that the integers of a tensor stand for."""
    stored = integers(array, affine).astype(np.float64)
    return ((stored - affine.zero_points[0]) * affine.scales[0]).astype(np.float32)


def simulated(net: Network, program: Program, inputs: tuple[np.ndarray, ...]) -> list[np.ndarray]:
    """The network computed with real numbers, each tensor that the file stores rounded to what it can hold.

    So are weights, by output channel; whether normalisation is folded in before or behind makes no difference.
    """
    values = dict(zip((item.key for item in net.graph.inputs), inputs, strict=True))
    for key in values:
        values[key] = rounded(values[key], program.tensors[key].affine)
    for node in net.graph.nodes:
        shapes = net.graph.input_shapes(node)
        arrays = {name: net.weights[f"{node.key}.{name}"] for name in node.op.weights(shapes)}
        if isinstance(node.op, (Conv2d, Linear)):
            axes = tuple(range(1, arrays["weight"].ndim))
            scales = np.abs(arrays["weight"]).max(axes, keepdims=True) / 127
            arrays["weight"] = np.round(arrays["weight"] / scales) * scales
        weights = [torch.from_numpy(array) for array in arrays.values()]
        tensors = [torch.from_numpy(values[name]) for name in node.inputs]
        with torch.no_grad():
            value = lower(node, shapes)(tensors, weights, None).numpy()
        stored = program.tensors.get(node.key)
        values[node.key] = value if stored is None or stored.affine is None else rounded(value, stored.affine)
    return [values[key] for key in net.graph.outputs]


def correlation(a: np.ndarray, b: np.ndarray) -> float:
    return float(np.corrcoef(a.reshape(-1), b.reshape(-1))[0, 1])


def name_of(case: tuple[Op, tuple[tuple[int, ...], ...], int]) -> str:
    return f"{type(case[0]).__name__}-{getattr(case[0], 'function', getattr(case[0], 'mode', ''))}"


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_a_range_holds_zero_exactly_and_its_ends_within_a_step(a: float, b: float) -> None:
    low, high = min(a, b), max(a, b)
    affine = affine_of(low, high)
    scale = float(affine.scales[0])
    ends = np.array([0.0, low, high])
    held = rounded(ends, affine)
    assert held[0] == 0
    assert np.abs(held - ends).max() <= scale * 1.001
    inside = np.linspace(low, high, 50)
    assert (np.diff(integers(inside, affine).astype(int)) >= 0).all()


@pytest.mark.parametrize("case", SINGLE, ids=name_of)
def test_an_operator_is_within_a_step_of_what_its_rounded_inputs_give(
    case: tuple[Op, tuple[tuple[int, ...], ...], int],
) -> None:
    net, steps = single(*case[:2]), case[2]
    inputs = samples(net.graph, 8)
    ranges = activation_ranges(net, [inputs])
    program = program_of(net, ranges)
    read = tuple(
        rounded(array, program.tensors[item.key].affine) for item, array in zip(net.graph.inputs, inputs, strict=True)
    )
    (wanted,) = outputs(net, read)
    (given_,) = run_tflite(tflite_model(net, ranges), *inputs)
    affine = program.tensors["node"].affine
    assert affine is not None
    # What lies outside of the observed range is clipped, in the file and here.
    assert np.abs(given_ - rounded(wanted, affine)).max() <= steps * float(affine.scales[0]) * 1.001


@settings(max_examples=60)
@given(st.data())
def test_random_networks_come_close(small_graphs: st.SearchStrategy[Graph], data: st.DataObject) -> None:
    graph = data.draw(small_graphs)
    # It makes rows that are as small as a step, such as a fresh token beside an image, as large as the others.
    assume(not any(isinstance(node.op, LayerNorm) for node in graph.nodes))
    net = Network("net", graph, initialise(graph, np.random.default_rng(0)))
    inputs = samples(graph, 4)
    ranges = activation_ranges(net, [inputs])
    try:
        program = program_of(net, ranges)
    except UnsupportedOperator as error:
        assert "ends between pixels" in str(error)  # noqa: PT017
        return
    found = run_tflite(tflite_model(net, ranges), *inputs)
    for key, given_, wanted in zip(program.outputs, found, outputs(net, inputs), strict=True):
        affine = program.tensors[key].affine
        assert affine is not None
        error, step = np.abs(given_ - wanted).max(), float(affine.scales[0])
        assert error <= 8 * step or correlation(given_, wanted) > 0.98


@pytest.mark.parametrize("name", ZOO)
def test_zoo_networks_come_close_on_other_samples(name: str) -> None:
    net = from_zoo(name)
    ranges = activation_ranges(net, [*(samples(net.graph, 8, seed)[0] for seed in range(2))])
    inputs = samples(net.graph, 8, 99)
    (given_,) = run_tflite(tflite_model(net, ranges), *inputs)
    (wanted,) = outputs(net, inputs)
    assert correlation(given_, wanted) > 0.99
    (near,) = simulated(net, program_of(net, ranges), inputs)
    assert correlation(given_, near) > 0.995


def test_a_deep_detector_is_as_good_as_rounding_every_tensor() -> None:
    net = from_zoo("ibn_detector-0.5-96")
    inputs = samples(net.graph, 8)
    ranges = activation_ranges(net, [inputs])
    found = run_tflite(tflite_model(net, ranges), *inputs)
    near, wanted = simulated(net, program_of(net, ranges), inputs), outputs(net, inputs)
    for given_, rounded_, real in zip(found, near, wanted, strict=True):
        assert correlation(given_, rounded_) > 0.99
        # Fifty layers of random weights lose this much to 8 bits, by the simulation as well.
        assert correlation(given_, real) > 0.97


def varied() -> Graph:
    """A network with all that the specification has rules for."""
    b = Builder()
    x = conv_bn_act(b, b.input("image", (1, 3, 16, 16)), 8, activation="relu6", key="stem")
    left = b.activation(b.depthwise(x, stride=2, bias=True, key="left"), "sigmoid", key="left.gate")
    right = b.pool(x, "max", kernel=3, stride=2, padding=1, key="right")
    x = b.concat([left, right], key="both")
    x = b.activation(b.conv(x, 8, key="mixed"), "tanh", key="mixed.act")
    x = b.elementwise(x, b.pool(x, "average", kernel=3, stride=1, padding=1, key="smooth"), "max", key="most")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flat")
    return b.graph(b.softmax(b.linear(x, 10, key="classes"), key="chances"))


def test_the_rules_of_the_specification_hold() -> None:
    net = Network("net", varied(), initialise(varied(), np.random.default_rng(0)))
    program = program_of(net, activation_ranges(net, [samples(net.graph, 8)[0]]))
    tensors = program.tensors
    assert {tensors[name].type for name in (*program.inputs, *program.outputs)} == {"int8"}
    seen: set[str] = set()
    for operation in program.operations:
        seen.add(operation.code)
        out = tensors[operation.output].affine
        assert out is not None
        if operation.code in FIXED:
            assert (float(out.scales[0]), int(out.zero_points[0])) == FIXED[operation.code]
        if operation.code in MOVES:
            numbers = [tensors[name].affine for name in operation.inputs if tensors[name].type == "int8"]
            assert all(affine is not None and affine.same(out) for affine in numbers)
        if (layer := LAYERS.get(operation.code)) is not None:
            source, weight, bias = (tensors[operation.inputs[i]] for i in (layer.source, layer.weight, layer.bias))
            assert weight.type == "int8"
            assert bias.type == "int32"
            assert not weight.affine.zero_points.any()
            assert weight.affine.axis == layer.axis
            assert len(weight.affine.scales) == weight.shape[layer.axis]
            assert weight.data.min() >= -127
            np.testing.assert_allclose(bias.affine.scales, source.affine.scales[0] * weight.affine.scales, rtol=1e-6)
    assert seen >= {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "LOGISTIC", "TANH", "SOFTMAX", "CONCATENATION"}
    # The sigmoid's own scale meets another one in the concatenation.
    assert "QUANTIZE" in seen


def test_a_channel_of_zeros_keeps_its_bias() -> None:
    net = single(Conv2d(4, (3, 3), (1, 1), (1, 1, 1, 1)), (IMAGE,))
    weight, bias = net.weights["node.weight"].copy(), net.weights["node.bias"].copy()
    weight[1], bias[1], weight[2], bias[2] = 0, 1.7, 1e-12, -1.3
    net = replace(net, weights={"node.weight": weight, "node.bias": bias})
    inputs = samples(net.graph, 4)
    (given_,) = run_tflite(tflite_model(net, activation_ranges(net, [inputs])), *inputs)
    (wanted,) = outputs(net, inputs)
    assert np.abs(given_ - wanted)[:, 1:3].max() <= (wanted.max() - wanted.min()) / 255


def as_integers(net: Network, program: Program) -> Network:
    """A network without batch normalisation as a reader of the int8 file would give it."""
    found: dict[str, Quantisation] = {}
    weights = dict(net.weights)
    for name, tensor in program.tensors.items():
        affine = tensor.affine
        if affine is None or (name not in net.graph.shapes and name not in weights):
            continue
        bits = 32 if tensor.type == "int32" else 8
        found[name] = Quantisation(tuple(map(float, affine.scales)), tuple(map(int, affine.zero_points)), bits)
        if name in weights:
            scales = (
                affine.scales.reshape(-1, *[1] * (weights[name].ndim - 1)) if weights[name].ndim > 1 else affine.scales
            )
            weights[name] = (np.round(weights[name] / scales) * scales).astype(np.float32)
    return Network(net.name, net.graph, weights, found)


def test_a_network_from_an_int8_file_is_written_with_the_same_numbers() -> None:
    b = Builder()
    x = b.activation(
        b.conv(b.input("image", (1, 3, 16, 16)), 8, kernel=3, stride=2, bias=True, key="stem"), "relu", key="act"
    )
    x = b.elementwise(b.depthwise(x, bias=True, key="deep"), x, "add", key="sum")
    x = b.concat([b.activation(x, "sigmoid", key="gate"), x], key="both")
    x = b.reshape(b.pool(x, "max", kernel=2, key="pool"), (-1,), key="flat")
    graph = b.graph(b.softmax(b.linear(x, 10, key="classes"), key="chances"))
    net = Network("net", graph, initialise(graph, np.random.default_rng(0)))
    first = program_of(net, activation_ranges(net, [samples(graph, 8)[0]]))
    again = as_integers(net, first)
    second = program_of(again)
    assert [operation.code for operation in second.operations] == [operation.code for operation in first.operations]
    for name, tensor in first.tensors.items():
        other = second.tensors[name]
        assert other.type == tensor.type
        if tensor.affine is not None:
            assert other.affine is not None
            np.testing.assert_array_equal(other.affine.scales, tensor.affine.scales, err_msg=name)
            np.testing.assert_array_equal(other.affine.zero_points, tensor.affine.zero_points)
        if tensor.type == "int8" and tensor.data is not None:
            np.testing.assert_array_equal(other.data, tensor.data)
    inputs = samples(graph, 3)
    np.testing.assert_array_equal(run_tflite(tflite_model(again), *inputs), run_tflite(written(first, ""), *inputs))
    parts = {key: found for key, found in again.quantisation.items() if key != "act"}
    with pytest.raises(InvalidInput, match=r"no range is known of 'act'; give ranges from activation_ranges, or"):
        tflite_model(replace(again, quantisation=parts))
    # Arithmetic without quantisation is what the file computed with real numbers, with all that reads it.
    parts = {key: found for key, found in again.quantisation.items() if key != "sum"}
    assert program_of(replace(again, quantisation=parts)).in_float == ["sum", "gate", "both"]
    with pytest.raises(InvalidInput, match="tensor 'sum' has 16 bits and 1 scales"):
        tflite_model(replace(again, quantisation={**again.quantisation, "sum": Quantisation((0.1,), (0,), 16)}))


@settings(max_examples=60)
@given(st.data())
def test_an_int8_file_that_is_read_is_written_again_with_the_same_outputs(
    small_graphs: st.SearchStrategy[Graph], data: st.DataObject
) -> None:
    graph = data.draw(small_graphs)
    # Nearest neighbours at a broken scale are written as an index, which no node of a graph says.
    assume(not any(isinstance(node.op, Resize) and node.op.scale == (1.5, 0.5) for node in graph.nodes))
    net = Network("net", graph, initialise(graph, np.random.default_rng(0)))
    inputs = samples(graph, 2)
    model = tflite_model(net, activation_ranges(net, [inputs]))
    again = tflite_model(import_tflite(model))
    for given_, wanted in zip(run_tflite(again, *inputs), run_tflite(model, *inputs), strict=True):
        np.testing.assert_array_equal(given_, wanted)


@pytest.mark.parametrize("name", ["kws_ref_model", "pretrainedResnet_quant", "vww_96_int8"])
def test_files_of_others_are_read_and_written_with_the_same_outputs(shared_data: Path, name: str) -> None:
    path = shared_data / "models" / f"{name}.tflite"
    net = import_tflite(path)
    program = program_of(net)
    inputs: list[np.ndarray] = []
    for item in net.graph.inputs:
        affine = program.tensors[item.key].affine
        assert affine is not None
        low, high = ((end - int(affine.zero_points[0])) * float(affine.scales[0]) for end in (-128, 127))
        inputs.append(np.random.default_rng(0).uniform(low, high, (8, *item.shape[1:])).astype(np.float32))
    for given_, wanted in zip(run_tflite(tflite_model(net), *inputs), run_tflite(path, *inputs), strict=True):
        np.testing.assert_array_equal(given_, wanted)


def test_what_eight_bits_do_not_do_stays_real_and_is_reported(tmp_path: Path) -> None:
    b = Builder()
    x = b.linear(b.input("rows", (1, 5, 16)), 16, key="first")
    x = b.linear(b.add(LayerNorm(), x, key="norm"), 16, key="second")
    net = Network("net", b.graph(x), initialise(b.graph(x), np.random.default_rng(0)))
    ranges = activation_ranges(net, [samples(net.graph, 8)[0]])
    assert export_tflite(net, tmp_path / "x.tflite", ranges=ranges) == ("norm",)
    assert export_tflite(net, tmp_path / "y.tflite") == ()
    codes = [operation.code for operation in program_of(net, ranges).operations]
    assert codes[:2] == ["FULLY_CONNECTED", "DEQUANTIZE"]
    assert codes[-2:] == ["QUANTIZE", "FULLY_CONNECTED"]


def test_ranges_that_say_nothing_are_refused() -> None:
    net = from_zoo("resnet8")
    ranges = dict.fromkeys(net.graph.shapes, (-1.0, 1.0))
    with pytest.raises(
        InvalidInput, match=r"resnet8: no range is known of 'block1.conv1.act', 'block1.conv2.bn', 'block1.act'; "
    ):
        tflite_model(net, {key: found for key, found in ranges.items() if not key.startswith("block1")})
    with pytest.raises(InvalidInput, match=r"range nan to 1.0 of 'input': give finite numbers"):
        tflite_model(net, ranges | {"input": (math.nan, 1.0)})
    with pytest.raises(InvalidInput, match="no samples to calibrate with"):
        activation_ranges(net, [])
    with pytest.raises(InvalidInput, match=r"samples of shape \[\(2, 3, 9, 9\)\] do not fit \[\(3, 32, 32\)\]"):
        activation_ranges(net, [np.zeros((2, 3, 9, 9), np.float32)])


def test_ranges_cover_all_batches_however_they_are_cut() -> None:
    net = from_zoo("ds_cnn")
    (images,) = samples(net.graph, 6)
    whole = activation_ranges(net, [images])
    parts = activation_ranges(net, [images[:1], images[1:4], images[4:]])
    assert set(whole) == set(net.graph.shapes)
    for key, ends in whole.items():
        assert parts[key] == pytest.approx(ends, rel=1e-4, abs=1e-5)


COMPILE = """
import sys
from pathlib import Path
from ethosu import regor
product, system, ini, arena, *paths = sys.argv[1:]
system = system.replace(" ", chr(10)) + chr(10) + Path(ini).read_text()
options = f"[scheduler]\\noptimize=Performance\\narena_size_limit={arena}\\n"
for path in paths:
    done = regor.compile(product, Path(path).read_bytes(), "TFLITE", system, options=options, verbose=False)
    print("operators", done.perf_report.cpuOps, done.perf_report.npuOps, int(done.perf_report.totalCycles))
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    "chip",
    [
        ("EthosU55", "Ethos_U55_High_End_Embedded", "Shared_Sram", 1 << 32),
        ("EthosU65", "Ethos_U65_Client_Server", "Dedicated_Sram_384KB", 393216),
        ("EthosU85", "Ethos_U85_SYS_DRAM_Mid", "Dedicated_Sram_384KB", 393216),
    ],
    ids=lambda chip: chip[0],
)
def test_the_compiler_of_an_npu_takes_all_of_the_zoo(chip: tuple[str, str, str, int], tmp_path: Path) -> None:
    pytest.importorskip("ethosu.regor", reason="Vela is not installed")
    paths: list[str] = []
    for name in (*ZOO, "ibn_detector-0.5-96"):
        net = from_zoo(name)
        path = tmp_path / f"{name}.tflite"
        assert export_tflite(net, path, ranges=activation_ranges(net, [samples(net.graph, 2)[0]])) == ()
        paths.append(str(path))
    ini = importlib.resources.files("ethosu") / "config_files" / "Arm" / "vela.ini"
    product, configuration, mode, arena = chip
    system = f"[architecture] macs=256 cores=1 [vela] system_config_name={configuration} memory_mode_name={mode}"
    command = [sys.executable, "-c", COMPILE, product, system, str(ini), str(arena), *paths]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr[-1000:]
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith("operators")]
    assert len(found) == len(paths)
    assert all(elsewhere == "0" and int(here) > 0 and int(cycles) > 0 for elsewhere, here, cycles in found)
