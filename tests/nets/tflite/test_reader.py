"""TFLite files that are damaged, hostile, or hold what chipfit does not say: one line, or what is left is named."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.graph.ops import Concat, Linear, Opaque
from chipfit.nets.load import load
from chipfit.nets.tflite.exporter import tflite_model
from chipfit.nets.tflite.importer import import_tflite
from chipfit.nets.tflite.reader import DTYPES, StoredTensor
from chipfit.nets.zoo import from_zoo

NewFile = Callable[[], Any]

LONGEST_S = 5.0
"""Far above what reading one of the small files takes (about 0.05 s), for a busy machine."""


def outcome(data: bytes) -> str:
    """What reading gives: a network that holds together, or one line. All else is raised."""
    began, said = time.monotonic(), ""
    try:
        assert import_tflite(data).graph.shapes
    except InvalidInput as error:
        said = str(error)
    assert time.monotonic() - began < LONGEST_S
    assert not said or said.startswith("TFLite model: ")
    assert "\n" not in said
    return "refused" if said else "network"


def mutated(data: bytes, generator: np.random.Generator) -> bytes:
    """The file with some bits flipped, some bytes others, or some of its numbers extreme."""
    changed = bytearray(data)
    kind = generator.integers(3)
    for _ in range(generator.integers(1, 5)):
        # Half of the changes hit the tables of small files, which weights would hide otherwise.
        place = int(generator.integers(len(changed) - 8))
        if generator.integers(2):
            place = max(4, len(changed) - 8 - int(generator.exponential(4000)))
        if kind == 0:
            changed[place] ^= 1 << int(generator.integers(8))
        elif kind == 1:
            changed[place] = int(generator.integers(256))
        else:
            word = int(generator.choice([0, 1, 2, 127, 2**16, 2**31 - 1, 2**31, 2**32 - 1]))
            changed[place & ~3 : (place & ~3) + 4] = word.to_bytes(4, "little")
    return bytes(changed)


def test_damaged_exports_are_refused_or_read() -> None:
    data = tflite_model(from_zoo("ds_cnn"))
    assert outcome(data) == "network"
    outcomes = [outcome(data[:length]) for length in np.linspace(0, len(data) - 1, 60).astype(int)]
    generator = np.random.default_rng(3)
    outcomes += [outcome(mutated(data, generator)) for _ in range(250)]
    assert set(outcomes) == {"network", "refused"}


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vww_96_int8", "pretrainedResnet_quant", "kws_ref_model"])
def test_damaged_files_are_refused_or_read(shared_data: Path, name: str) -> None:
    data = (shared_data / "models" / f"{name}.tflite").read_bytes()
    outcomes = [outcome(data[:length]) for length in np.linspace(0, len(data) - 1, 500).astype(int)]
    generator = np.random.default_rng(3)
    outcomes += [outcome(mutated(data, generator)) for _ in range(2000)]
    assert set(outcomes) == {"network", "refused"}


def test_little_that_unfolds_to_much_is_refused(new_file: NewFile) -> None:
    """A constant that is put beside itself again and again, and one weight that thousands of layers read."""
    file = new_file()
    x = file.input("x", (1, 4))
    last = file.constant(np.ones((1, 4)), "seed")
    for index in range(50):
        wider = file.tensor(f"t{index}", (1, 4 << min(index, 20)))
        file.operator("CONCATENATION", [last, last], wider, table="ConcatenationOptions", Axis=1)
        last = wider
    y = file.tensor("y", (1, 4))
    file.operator("ADD", [x, last], y, table="AddOptions")
    shared = new_file()
    last = shared.input("x", (1, 256))
    weight = shared.constant(np.ones((256, 256)), "w")
    for index in range(2000):
        wider = shared.tensor(f"t{index}", (1, 256))
        shared.operator("FULLY_CONNECTED", [last, weight], wider)
        last = wider
    for data in (file.written(y), shared.written(last)):
        tracemalloc.start()
        with pytest.raises(InvalidInput, match="unfolds to far more numbers than it has bytes"):
            import_tflite(data)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200 * 2**20


@pytest.mark.parametrize(
    ("sizes", "message"),
    [((1, 2**31 - 1, 2**31 - 1, 64), "has open sizes"), ((3, 8, 8, 2), "no batch of 1 first")],
)
def test_inputs_that_cannot_be(new_file: NewFile, sizes: tuple[int, ...], message: str) -> None:
    file = new_file()
    x, y = file.input("x", sizes), file.tensor("y", sizes)
    file.operator("RELU", [x], y)
    with pytest.raises(InvalidInput, match=message):
        import_tflite(file.written(y))


def test_operators_that_read_what_is_not_there(new_file: NewFile) -> None:
    file = new_file()
    x, y, z = file.input("x", (1, 4)), file.tensor("y", (1, 4)), file.tensor("z", (1, 4))
    file.operator("ADD", [x, z], y, table="AddOptions")
    file.operator("RELU", [y], z)
    with pytest.raises(InvalidInput, match=r"operator 'y' \(ADD\): it reads 'z', which nothing before it gives"):
        import_tflite(file.written(z))


@pytest.mark.parametrize(
    ("shape", "weight", "message"),
    [
        ((1, 4), (3, 5), r"operator 'y' \(FULLY_CONNECTED\): weights for 5 columns on shape \(1, 4\)"),
        ((1, 4), (3, 5, 1), "weights of shape"),
    ],
)
def test_weights_that_do_not_fit(new_file: NewFile, shape: Any, weight: Any, message: str) -> None:
    file = new_file()
    x, y = file.input("x", shape), file.tensor("y", (1, 3))
    file.operator("FULLY_CONNECTED", [x, file.constant(np.ones(weight))], y, table="FullyConnectedOptions")
    with pytest.raises(InvalidInput, match=message):
        import_tflite(file.written(y))


def test_open_sizes_are_asked_for(new_file: NewFile) -> None:
    file = new_file()
    x, y = file.input("x", (1, 1, 1, 3)), file.tensor("y", (1, 1, 1, 3))
    file.open |= {(x, 0), (x, 1), (x, 2)}
    file.operator("RELU", [x], y)
    data = file.written(y)
    with pytest.raises(
        InvalidInput, match=r"input 'x' has open sizes \(1, 3, \?, \?\); give them all with input_shape="
    ):
        import_tflite(data)
    with pytest.raises(InvalidInput, match=r"input 'x' is \(\?, 3, \?, \?\), which input_shape=\(1, 8, 8, 3\)"):
        import_tflite(data, input_shape=(1, 8, 8, 3))
    with pytest.raises(InvalidInput, match="there is no input 'z'; it has"):
        import_tflite(data, input_shape={"z": (1, 3, 8, 8)})
    for asked in ((1, 3, 8, 9), {"x": (1, 3, 8, 9)}):
        assert import_tflite(data, input_shape=asked).graph.shapes["y"] == (1, 3, 8, 9)


def test_what_is_not_known_is_named_with_its_shape(new_file: NewFile) -> None:
    """The end of a detector: its boxes, classes, scores and count come from an operator of its own."""
    file = new_file()
    x, boxes = file.input("x", (1, 2, 3, 8)), file.tensor("boxes", (1, 12, 4))
    file.operator("RESHAPE", [x, file.constant([1, 12, 4])], boxes)
    results = [file.tensor(name, shape) for name, shape in (("b", (1, 10, 4)), ("c", (1, 10)), ("n", (1,)))]
    anchors = file.constant(np.zeros((12, 4)))
    file.operator("custom:TFLite_Detection_PostProcess", [boxes, anchors], *results)
    net = import_tflite(file.written(*results))
    found = [node for node in net.graph.nodes if isinstance(node.op, Opaque)]
    assert [node.key for node in found] == list(net.graph.outputs) == ["b", "c", "n"]
    assert [node.op.size for node in found] == [(1, 10, 4), (1, 10), (1,)]
    assert {node.op.operator for node in found} == {"TFLite_Detection_PostProcess"}
    assert all(node.inputs == ("boxes",) for node in found)


def test_a_known_operator_says_why_it_is_opaque(new_file: NewFile) -> None:
    file = new_file()
    x, y, z = file.input("x", (1, 4, 4, 3)), file.tensor("y", (1, 7, 7, 3)), file.tensor("z", (1, 7, 7, 6))
    file.operator("RESIZE_BILINEAR", [x, file.constant([7, 7])], y, table="ResizeBilinearOptions")
    file.operator("CONCATENATION", [y, y], z, table="ConcatenationOptions", Axis=3)
    net = import_tflite(file.written(z))
    assert [node.op for node in net.graph.nodes] == [
        Opaque("RESIZE_BILINEAR (pixels are read at other places)", (1, 3, 7, 7)),
        Concat(1),
    ]


def test_joined_names_are_those_of_their_last_layer(new_file: NewFile) -> None:
    file = new_file()
    x, y = file.input("serving:0", (1, 4)), file.tensor("net/act/Relu;net/dense/BiasAdd;net/dense/MatMul", (1, 3))
    z = file.tensor("net/act/Relu", (1, 3))
    weight = file.constant(np.ones((3, 4)), "net/act/Relu;net/dense/MatMul")
    file.operator("FULLY_CONNECTED", [x, weight], y, table="FullyConnectedOptions", FusedActivationFunction=1)
    file.operator("TANH", [y], z)
    net = import_tflite(file.written(z))
    assert [node.key for node in net.graph.nodes] == ["net/act/Relu.linear", "net/act/Relu", "net/act/Relu_1"]
    assert isinstance(net.graph.nodes[0].op, Linear)


def test_files_are_loaded_by_their_ending(tmp_path: Path) -> None:
    (tmp_path / "My net.TFLITE").write_bytes(tflite_model(from_zoo("ds_cnn")))
    net = load(tmp_path / "My net.TFLITE")
    assert net.name == "My net"
    assert net.graph.inputs == from_zoo("ds_cnn").graph.inputs
    (tmp_path / "net.tflite").mkdir()
    with pytest.raises(InvalidInput, match="no such file"):
        load(tmp_path / "net.tflite")


def test_four_bits_are_two_in_a_byte() -> None:
    packed = np.array([0x21, 0x8F, 0x07], np.uint8)
    stored = StoredTensor("w", (5,), "INT4", packed, (0.5,), (0,))
    np.testing.assert_array_equal(stored.integers(), [1, 2, -1, -8, 7])
    how = stored.quantisation()
    assert how is not None
    assert how.range == (-8, 7)
    with pytest.raises(ValueError, match="has 3 bytes for the shape"):
        StoredTensor("w", (7,), "INT4", packed).integers()


@pytest.mark.parametrize("kind", DTYPES)
def test_numbers_of_every_type_are_read(kind: str) -> None:
    numbers = np.array([[0, 1], [1, 0], [1, 1]]).astype(DTYPES[kind])
    stored = StoredTensor("w", (3, 2), kind, np.frombuffer(numbers.tobytes(), np.uint8))
    np.testing.assert_array_equal(stored.integers(), numbers)
