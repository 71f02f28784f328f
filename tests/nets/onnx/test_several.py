"""ONNX operators that take several nodes compute what ONNX Runtime does."""

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper

from chipfit.graph.ops import Opaque
from chipfit.nets.module import GraphModule
from chipfit.nets.onnx.importer import import_onnx

SHAPE = (1, 6, 4, 5)
SIX = np.linspace(0.5, 2, 6, dtype=np.float32)

CASES: list[tuple[str, list[np.ndarray], dict[str, Any], int]] = [
    ("ReduceSum", [np.array([2, 3])], {"keepdims": 0}, 18),
    ("ReduceSum", [np.array([], np.int64)], {"noop_with_empty_axes": 1}, 18),
    ("ReduceMin", [np.array([-3])], {}, 18),
    ("ReduceL1", [np.array([1])], {"keepdims": 0}, 18),
    ("ReduceL2", [np.array([1, 2, 3])], {}, 18),
    ("InstanceNormalization", [SIX, SIX[::-1].copy()], {"epsilon": 1e-3}, 18),
    ("GroupNormalization", [SIX, SIX[::-1].copy()], {"num_groups": 3, "epsilon": 1e-3}, 21),
    ("Elu", [], {"alpha": 0.7}, 18),
    ("Selu", [], {}, 18),
    ("Celu", [], {"alpha": 2.0}, 18),
    ("Mish", [], {}, 18),
    ("Reciprocal", [], {}, 18),
    ("Tile", [np.array([1, 2, 1, 3])], {}, 18),
    ("Gather", [np.array([5, 0, 1, 3, 3])], {"axis": 1}, 18),
    ("Pad", [np.array([0, 1, 2, 0, 0, 2, 0, 1])], {}, 18),
    ("Pow", [np.array(1.5, np.float32)], {}, 18),
]


def written(operator: str, known: list[np.ndarray], attributes: dict[str, Any], opset: int) -> onnx.ModelProto:
    names = [f"known{index}" for index in range(len(known))]
    # Numbers above 0, as roots and reciprocals want them, are those of "p".
    nodes = [helper.make_node("Exp", ["x"], ["p"]), helper.make_node(operator, ["p", *names], ["y"], **attributes)]
    graph = helper.make_graph(
        nodes,
        "case",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(array, name) for name, array in zip(names, known, strict=True)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


@pytest.mark.parametrize(("operator", "known", "attributes", "opset"), CASES)
def test_operators_in_several_nodes(
    operator: str, known: list[np.ndarray], attributes: dict[str, Any], opset: int
) -> None:
    model = written(operator, known, attributes, opset)
    x = np.random.default_rng(0).uniform(-2, 2, SHAPE).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    net = import_onnx(model)
    assert not [node for node in net.graph.nodes if isinstance(node.op, Opaque)]
    with torch.no_grad():
        given = GraphModule(net.graph, net.weights)(torch.from_numpy(x)).numpy()
    np.testing.assert_allclose(given, session.run(None, {"x": x})[0], rtol=2e-5, atol=1e-5)
