"""Shapes that an accelerator runs of operators that it does not run in all."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from chipfit.graph.functions import FUNCTIONS
from chipfit.graph.values import Value, both, either, equal, maximum, negate
from chipfit.graph.workload import Workload

_CONFIG = ConfigDict(frozen=True, strict=True, extra="forbid")

Stride = Annotated[int, Field(gt=0)]
Factors = Annotated[tuple[Stride, ...], Field(strict=False, min_length=1)] | Literal["any"]


class Resizes(BaseModel):
    """Factors by which images are enlarged; an image of one pixel always is."""

    model_config = _CONFIG
    nearest: Factors = "any"
    """factors of nearest neighbours, or "any" for all"""
    bilinear: Factors = "any"
    """factors of bilinear interpolation, or "any" for all"""
    bilinear_aligned: Factors = "any"
    """factors of what lies between the corners, where corners are aligned, or "any" for all"""


class Shapes(BaseModel):
    """What an accelerator asks of the shapes of single operators; without a key it runs all."""

    model_config = _CONFIG
    depthwise_stride: Stride | None = None
    """largest stride of a depthwise convolution"""
    transposed_conv_stride: Stride | None = None
    """largest stride of a transposed convolution, whose kernel must reach as far"""
    alike: bool = False
    """whether strides of transposed convolutions and factors of resizes must be the same along both axes"""
    resize: Resizes = Resizes()
    """table of the factors of resizes"""

    def holds(self, load: Workload) -> Value:
        """Under which codes a workload has such a shape: a bool, or a table of them."""
        if load.kind in ("conv", "depthwise") and self.depthwise_stride is not None:
            # An open graph calls a convolution full that is depthwise under some codes.
            single = both(equal(load.groups, load.in_channels), negate(equal(load.in_channels, 1)))
            strides = maximum(load.stride_height, load.stride_width)
            return negate(both(single, negate(_within(strides, self.depthwise_stride))))
        if load.kind == "transposed_conv" and self.transposed_conv_stride is not None:
            return self._transposed(load, self.transposed_conv_stride)
        return self._resized(load) if load.kind == "resize" else True

    def _transposed(self, load: Workload, largest: int) -> Value:
        found = _within(maximum(load.stride_height, load.stride_width), largest)
        reaches = both(_within(load.stride_height, load.kernel_height), _within(load.stride_width, load.kernel_width))
        even = equal(load.stride_height, load.stride_width) if self.alike else True
        return both(both(found, reaches), even)

    def _resized(self, load: Workload) -> Value:
        function = FUNCTIONS["resize"][int(load.function)]  # type: ignore[arg-type]
        factors: Factors = getattr(self.resize, function)
        if factors == "any":
            return True
        found, high, wide = (both(equal(load.in_height, 1), equal(load.in_width, 1)), False, False)
        for factor in factors:
            rows = equal(load.out_height, _grown(load.in_height, factor, function))
            columns = equal(load.out_width, _grown(load.in_width, factor, function))
            found = either(found, both(rows, columns))
            high, wide = either(high, rows), either(wide, columns)
        return found if self.alike else either(found, both(high, wide))


def _within(value: Value, largest: Value) -> Value:
    return equal(maximum(value, largest), largest)


def _grown(size: Value, factor: int, function: str) -> Value:
    return (size - 1) * factor + 1 if function == "bilinear_aligned" else size * factor
