"""Names of single functions: one for each that a workload counts, the other way round as well."""

import pytest

from chipfit.graph.functions import FUNCTION_NAMES, FUNCTIONS, function_name
from chipfit.graph.ops import (
    ACTIVATIONS,
    ELEMENTWISE,
    POOLS,
    Activation,
    BatchNorm,
    Concat,
    Conv2d,
    Elementwise,
    GlobalPool,
    LayerNorm,
    MatMul,
    Pad,
    Pool2d,
    Resize,
    Slice,
    Transpose,
)
from chipfit.graph.workload import WORKLOAD_KINDS, function_number

OPERATORS = {
    **{f"activation.{name}": Activation(name) for name in ACTIVATIONS},
    **{f"elementwise.{name}": Elementwise(name) for name in ELEMENTWISE},
    **{f"pool.{name}": Pool2d(name, (2, 2), (2, 2)) for name in POOLS},
    "normalisation.batch_norm": BatchNorm(),
    "normalisation.layer_norm": LayerNorm(),
    "resize.nearest": Resize("nearest", scale=(2.0, 2.0)),
    "resize.bilinear": Resize("bilinear", scale=(2.0, 2.0)),
    "resize.bilinear_aligned": Resize("bilinear", scale=(2.0, 2.0), align_corners=True),
    "copy.concat": Concat(),
    "copy.slice": Slice(1, 0, 2),
    "copy.pad": Pad((1, 1, 1, 1)),
    "copy.transpose": Transpose((0, 2, 1)),
}


def test_every_name_is_of_one_operator() -> None:
    assert set(OPERATORS) == set(FUNCTION_NAMES)
    assert set(FUNCTIONS) < set(WORKLOAD_KINDS)


@pytest.mark.parametrize("name", FUNCTION_NAMES)
def test_a_workload_is_called_what_its_operator_is(name: str) -> None:
    kind = name.partition(".")[0]
    assert function_name(kind, function_number(OPERATORS[name])) == name


def test_other_spellings_of_a_function_have_its_name() -> None:
    assert function_name("pool", function_number(GlobalPool("max"))) == "pool.max"
    aligned = Resize("nearest", scale=(2.0, 2.0), align_corners=True)
    assert function_name("resize", function_number(aligned)) == "resize.nearest"


def test_a_kind_with_one_function_is_called_by_itself() -> None:
    for op, kind in ((Conv2d(8, (1, 1)), "conv"), (MatMul(), "matmul")):
        assert function_name(kind, function_number(op)) == kind
