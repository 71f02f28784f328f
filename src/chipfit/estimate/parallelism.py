"""How many channels a chip works on at once, as its measurements reveal it: where predicted latency steps up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from chipfit.estimate.estimator import Estimator
from chipfit.estimate.rows import Rows
from chipfit.graph.build import same
from chipfit.graph.ops import Conv2d, Elementwise, Op
from chipfit.graph.values import Shape
from chipfit.measure.specimen import Specimen

SIZE = 28
"""Height and width of the images that are looked at."""
OTHER = 64
"""Channels on the side that stays."""
MOST = 128
"""Channels up to which the other side grows."""
CANDIDATES = (64, 32, 16, 8, 4, 2)
STEPS_SHARE = 0.8
"""Share of all rises that must lie just above multiples for these to count as steps."""


@dataclass(frozen=True, slots=True)
class Granularity:
    """For one operator and axis: `channels` are worked on at once (1: no steps), as `share` of all rises in latency lie
    one channel above a multiple of that; `measured` says whether the estimator has seen such operators."""

    operator: str
    axis: str
    channels: int
    share: float
    measured: bool


def granularities(estimator: Estimator) -> tuple[Granularity, ...]:
    """The parallelism that an estimator has learnt, by operator and axis."""
    counts = range(1, MOST + 1)
    found: list[Granularity] = []
    for name, kernel in (("1x1 convolution", 1), ("3x3 convolution", 3)):
        pads = same(kernel)
        inputs = [_workload(estimator, Conv2d(OTHER, (kernel, kernel), padding=pads), _image(n)) for n in counts]  # type: ignore[arg-type]
        outputs = [_workload(estimator, Conv2d(n, (kernel, kernel), padding=pads), _image(OTHER)) for n in counts]  # type: ignore[arg-type]
        found.append(_granularity(estimator, name, "input channels", inputs))
        found.append(_granularity(estimator, name, "output channels", outputs))
    depthwise = [_workload(estimator, Conv2d(n, (3, 3), padding=(1, 1, 1, 1), groups=n), _image(n)) for n in counts]
    found.append(_granularity(estimator, "3x3 depthwise", "channels", depthwise[1:]))
    sums = [_workload(estimator, Elementwise("add"), _image(n), _image(n)) for n in counts]
    found.append(_granularity(estimator, "addition", "channels", sums))
    return tuple(found)


def _image(channels: int) -> Shape:
    return 1, channels, SIZE, SIZE


def _workload(estimator: Estimator, op: Op, *inputs: Shape) -> Rows:
    return Rows.of_workloads([Specimen(op, inputs).workload(estimator.target.fuses)])


def _granularity(estimator: Estimator, operator: str, axis: str, sweep: Sequence[Rows]) -> Granularity:
    rows = Rows(np.concatenate([row.kinds for row in sweep]), np.concatenate([row.values for row in sweep]))
    predicted = estimator.predict(rows)
    rises = np.diff(predicted.latency_s)
    # What rises by less than the estimate's own spread says nothing.
    rises = np.where(rises > predicted.spread_s[1:], rises, 0)
    # The rise at place i leads to as many channels as the next row has.
    channels = rows["in_channels" if axis != "output channels" else "out_channels"][1:].astype(np.int64)
    total = rises.sum()
    for step in CANDIDATES:
        share = float(rises[channels % step == 1].sum() / total) if total > 0 else 0.0
        if share >= STEPS_SHARE:
            return Granularity(operator, axis, step, share, bool(predicted.in_range.all()))
    return Granularity(operator, axis, 1, 1.0, bool(predicted.in_range.all()))
