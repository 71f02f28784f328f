"""Which shapes a target runs: as its file says, for numbers and for values that depend on decisions alike."""

from pathlib import Path

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.graph.values import Choice, table
from chipfit.graph.workload import WORKLOAD_FIELDS, Workload
from chipfit.targets import Target, load_target, variant


@pytest.fixture(scope="module")
def u55() -> Target:
    return load_target("ethos-u55-256")


@pytest.fixture(scope="module")
def u85() -> Target:
    return load_target("ethos-u85-256")


def depthwise(stride: object, other: object = None, channels: object = 32, kind: str = "depthwise") -> Workload:
    width = stride if other is None else other
    return Workload(kind, in_channels=channels, groups=32, stride_height=stride, stride_width=width)  # type: ignore[arg-type]


def resize(function: int, height: tuple[object, object], width: tuple[object, object]) -> Workload:
    return Workload(
        "resize", in_height=height[0], out_height=height[1], in_width=width[0], out_width=width[1], function=function
    )  # type: ignore[arg-type]


def test_strides_of_depthwise_convolutions(u55: Target, u85: Target) -> None:
    assert [bool(u55.runs(depthwise(stride))) for stride in (1, 2, 3, 4, 5)] == [True] * 3 + [False] * 2
    assert not u55.runs(depthwise(1, 4))
    assert not u55.runs(depthwise(4, kind="conv"))
    assert u55.runs(depthwise(4, channels=64, kind="conv"))
    assert u55.runs(Workload("conv", in_channels=1, groups=1, stride_height=4, stride_width=4))
    assert u85.runs(depthwise(4))
    assert load_target("neural-engine").runs(depthwise(200))


@pytest.mark.parametrize(
    ("kernel", "stride", "on_u55", "on_u85"),
    [((2, 2), (2, 2), True, True), ((3, 3), (1, 1), True, True), ((3, 3), (2, 1), False, True),
     ((4, 4), (4, 4), False, True), ((3, 3), (4, 4), False, False)],
)  # fmt: skip
def test_transposed_convolutions(kernel, stride, on_u55, on_u85, u55: Target, u85: Target) -> None:
    load = Workload(
        "transposed_conv",
        kernel_height=kernel[0],
        kernel_width=kernel[1],
        stride_height=stride[0],
        stride_width=stride[1],
    )
    assert (bool(u55.runs(load)), bool(u85.runs(load))) == (on_u55, on_u85)


@pytest.mark.parametrize(
    ("function", "height", "width", "on_u55", "on_u85"),
    [
        (0, (8, 16), (8, 16), True, True), (0, (8, 64), (9, 72), True, True), (0, (8, 16), (8, 32), False, True),
        (0, (8, 20), (8, 20), False, True), (0, (8, 4), (8, 4), False, True), (1, (8, 16), (8, 16), True, True),
        (1, (8, 32), (8, 32), False, True), (1, (8, 8), (8, 16), False, True), (1, (8, 24), (8, 24), False, False),
        (1, (1, 7), (1, 9), True, True), (1, (1, 7), (2, 9), False, False), (2, (8, 15), (8, 15), True, True),
        (2, (8, 16), (8, 16), False, False), (2, (8, 57), (8, 57), True, True),
    ],
)  # fmt: skip
def test_factors_of_resizes(function, height, width, on_u55, on_u85, u55: Target, u85: Target) -> None:
    load = resize(function, height, width)
    assert (bool(u55.runs(load)), bool(u85.runs(load))) == (on_u55, on_u85)


def test_values_are_judged_code_by_code(u55: Target) -> None:
    strides = table(("stride",), np.array([1, 2, 4]))
    sizes = table(("size",), np.array([8, 16, 20, 64]))
    for load, axis in ((depthwise(strides), 3), (resize(0, (8, sizes), (8, sizes)), 4)):
        found = u55.runs(load)
        assert isinstance(found, Choice)
        for code in range(axis):
            closed = load._replace(
                **{
                    name: value.values[code].item()
                    for name in WORKLOAD_FIELDS
                    if isinstance(value := getattr(load, name), Choice)
                }
            )
            assert bool(found.values[code]) == bool(u55.runs(closed))
    assert not np.all(found.values)


def test_a_function_is_refused_and_its_kind_is_not(u55: Target) -> None:
    assert u55.runs_some("normalisation")
    assert u55.runs(Workload("normalisation", function=0))
    assert not u55.runs(Workload("normalisation", function=1))
    assert not u55.runs_some("opaque")
    assert not variant(u55, {"unsupported": ["pool"]}).runs(Workload("pool", function=1))


def test_what_it_cannot_run_is_no_part_of_what_it_costs(u55: Target) -> None:
    assert variant(u55, {"unsupported": ["opaque"]}).digest == u55.digest
    assert variant(u55, {"shapes.depthwise_stride": 2}).digest == u55.digest
    assert variant(u55, {"shapes.depthwise_stride": 2}) != u55


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            '"activation.sqrt"',
            '"activation.sqr"',
            "unsupported: unknown 'activation.sqr' (did you mean 'activation.sqrt'?)",
        ),
        ("depthwise_stride = 3", "depthwise_stride = 0", "key 'shapes.depthwise_stride' = 0: must be greater than 0"),
        ("depthwise_stride = 3", "depthwise_strid = 3", "unknown key 'shapes.depthwise_strid'"),
        ("bilinear = [2]", "bilinear = []", "shapes.resize.bilinear"),
    ],
)
def test_the_file_is_checked_when_it_is_read(old: str, new: str, message: str, tmp_path: Path) -> None:
    import chipfit.targets

    text = (Path(chipfit.targets.__file__).parent / "ethos-u" / "ethos-u55-256.toml").read_text()
    assert old in text
    path = tmp_path / "mine.toml"
    path.write_text(text.replace(old, new))
    with pytest.raises(InvalidInput) as raised:
        load_target(path)
    assert message in str(raised.value)
    assert len(str(raised.value).splitlines()) == 1
