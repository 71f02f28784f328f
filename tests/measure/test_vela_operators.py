"""Which operators the compiler leaves to the host, beside what the target files say of it."""

import pytest

from chipfit.graph.functions import FUNCTION_NAMES, function_name
from chipfit.graph.ops import (
    ACTIVATIONS,
    ELEMENTWISE,
    POOLS,
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
    Resize,
    Slice,
    Softmax,
    Transpose,
)
from chipfit.graph.workload import WORKLOAD_KINDS
from chipfit.measure.measurement import Run
from chipfit.measure.specimen import NAME, Specimen
from chipfit.measure.vela import Compiler, installed
from chipfit.targets import Target, load_target, shipped_targets
from chipfit.targets.target import Vela

IMAGE, SEQUENCE, POINT = (1, 32, 16, 16), (1, 64, 96), (1, 32, 1, 1)


def _depthwise(stride: tuple[int, int]) -> Specimen:
    return Specimen(Conv2d(32, (3, 3), stride, (1, 1, 1, 1), groups=32), (IMAGE,))


def _transposed(kernel: int, stride: tuple[int, int]) -> Specimen:
    return Specimen(ConvTranspose2d(32, (kernel, kernel), stride), (IMAGE,))


def _resizes() -> list[Specimen]:
    scales = [(s, s) for s in (0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 8.0, 16.0)] + [(2.0, 1.0), (1.0, 2.0), (2.0, 4.0)]
    small = (1, 32, 8, 8)
    found = [Specimen(Resize(mode, scale=scale), (small,)) for mode in ("nearest", "bilinear") for scale in scales]
    for size in (8, 15, 16, 22, 29, 57):
        found.append(Specimen(Resize("bilinear", size=(size, size), align_corners=True), (small,)))
        found.append(Specimen(Resize("nearest", size=(size, size)), (small,)))
    found.append(Specimen(Resize("bilinear", size=(29, 15), align_corners=True), (small,)))
    return found + [Specimen(Resize(mode, size=(7, 5)), (POINT,)) for mode in ("nearest", "bilinear")]


def _single() -> list[Specimen]:
    single: list[tuple[Op, tuple[int, ...]]] = [
        *((Activation(name), shape) for name in ACTIVATIONS for shape in (IMAGE, SEQUENCE) if name != "prelu"),
        (Activation("prelu"), IMAGE), (BatchNorm(), IMAGE), (LayerNorm(), SEQUENCE), (LayerNorm(3), IMAGE),
        (Softmax(), SEQUENCE), (Softmax(1), IMAGE), (Linear(48), SEQUENCE), (Linear(48), (1, 96)),
        *((GlobalPool(name), IMAGE) for name in POOLS), *((Pool2d(name, (3, 3), (2, 2)), IMAGE) for name in POOLS),
        (Slice(1, 0, 16), IMAGE), (Slice(2, 0, 8), IMAGE), (Pad((1, 1, 1, 1)), IMAGE), (Transpose((0, 2, 1)), SEQUENCE),
        (Transpose((0, 2, 3, 1)), IMAGE), (Conv2d(32, (3, 3), (1, 1), (1, 1, 1, 1)), IMAGE),
        (Conv2d(32, (3, 3), (2, 2), (1, 1, 1, 1), groups=4), IMAGE), (Conv2d(32, (4, 4), (4, 4)), IMAGE),
    ]  # fmt: skip
    return [Specimen(op, (shape,)) for op, shape in single]


def specimens() -> list[Specimen]:
    """Every function of every kind, and the shapes that decide whether an operator goes to the host."""
    found = _single()
    for name in ELEMENTWISE:
        found += [Specimen(Elementwise(name), (IMAGE, other)) for other in (IMAGE, POINT)]
        found.append(Specimen(Elementwise(name), (IMAGE, POINT), constants=(False, True)))
    found.append(Specimen(Concat(), (IMAGE, IMAGE)))
    found += [Specimen(MatMul(), shapes) for shapes in ((SEQUENCE, (1, 96, 48)), ((1, 4, 64, 32), (1, 4, 32, 64)))]
    found += [_depthwise(stride) for stride in ((1, 1), (2, 2), (3, 3), (2, 3), (4, 4), (4, 1), (1, 4), (5, 5))]
    found += [_transposed(3, stride) for stride in ((1, 1), (2, 2), (2, 1), (1, 2), (3, 3), (4, 4))]
    found += [_transposed(2, (2, 2)), _transposed(4, (4, 4)), _transposed(1, (2, 2))]
    return found + _resizes()


def accelerators() -> list[str]:
    """Every accelerator once; what it runs does not depend on its memories."""
    return [
        chip.name for chip in shipped_targets() if isinstance(chip.tool, Vela) and chip.tool.accelerator == chip.name
    ]


def test_every_function_is_among_what_is_compared() -> None:
    target = load_target("neural-engine")
    loads = [item.workload(target.fuses) for item in specimens()]
    kinds = {load.kind for load in loads}
    assert kinds == set(WORKLOAD_KINDS) - {"opaque"}
    assert {function_name(load.kind, load.function) for load in loads} >= set(FUNCTION_NAMES)


@pytest.mark.slow
@pytest.mark.skipif(installed() is None, reason="needs the compiler: pip install 'chipfit[ethos-u]'")
@pytest.mark.parametrize("name", accelerators())
def test_a_target_file_says_what_the_compiler_leaves_to_the_host(name: str) -> None:
    target: Target = load_target(name)
    items = specimens()
    runs = Compiler(target, workers=1).networks([item.inside for item in items])
    wrong: list[str] = []
    for item, run in zip(items, runs, strict=True):
        assert isinstance(run, Run), f"{item}: {run}"
        here = bool(target.runs(item.workload(target.fuses)))
        if here != (NAME not in run.elsewhere):
            wrong.append(f"{item.op} of {item.inputs}: the file says {here}, elsewhere is {run.elsewhere}")
    assert not wrong, "\n".join(wrong)
