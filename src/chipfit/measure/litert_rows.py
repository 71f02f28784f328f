"""Which operator of a .tflite file took what: events of LiteRT's profiler, given to the operators that they come from.

LiteRT says of the operators that it runs itself where they stand in the file. XNNPACK only names what it runs, in
order, with some operators merged and some added; names and order say which is whose.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import hypot, sqrt

import numpy as np
from numpy.typing import NDArray

from chipfit.measure.board_runner import CannotRun, Timing, noise
from chipfit.measure.litert_profiler import Event, profiled
from chipfit.nets.tflite.program import Operation, Program

_TABLE = "Invalid Unary Op"
"""XNNPACK's name for a table that it made of one or several operators."""

NAMES: Mapping[str, tuple[str, ...]] = {
    "CONV_2D": ("Convolution", "Fully Connected"),
    "DEPTHWISE_CONV_2D": ("Convolution",),
    "TRANSPOSE_CONV": ("Deconvolution",),
    "FULLY_CONNECTED": ("Fully Connected",),
    "BATCH_MATMUL": ("Batch Matrix Multiply",),
    "ADD": ("Add", _TABLE),
    "SUB": ("Subtract", _TABLE),
    "MUL": ("Multiply", _TABLE),
    "DIV": ("Divide", _TABLE),
    "MAXIMUM": ("Maximum", _TABLE),
    "MINIMUM": ("Minimum", _TABLE),
    "MAX_POOL_2D": ("Max Pooling",),
    "AVERAGE_POOL_2D": ("Average Pooling", "Global Average Pooling"),
    "MEAN": ("Mean",),
    "LOGISTIC": ("Sigmoid", _TABLE),
    "TANH": ("TanH", _TABLE),
    "EXP": ("Exp", _TABLE),
    "SQRT": ("Square Root", _TABLE),
    "RSQRT": ("Reciprocal Square Root", _TABLE),
    "ABS": ("Abs", _TABLE),
    "GELU": ("GELU", _TABLE),
    "LEAKY_RELU": ("LeakyReLU", _TABLE),
    "HARD_SWISH": ("HardSwish", _TABLE),
    "PRELU": ("PReLU",),
    "RELU": ("Clamp",),
    "RELU6": ("Clamp",),
    "SOFTMAX": ("SoftMax",),
    "RESIZE_BILINEAR": ("Resize Bilinear",),
    "CONCATENATION": ("Copy", "Concatenate"),
    "STRIDED_SLICE": ("Slice", "Strided Slice"),
    "TRANSPOSE": ("Transpose",),
    "RESHAPE": ("Static Reshape", "Copy"),
    "PAD": ("Constant Pad",),
    "PADV2": ("Constant Pad",),
    "QUANTIZE": ("Convert",),
    "DEQUANTIZE": ("Convert",),
}
"""How the names begin that XNNPACK has for an operator of a file."""

NEVER_MERGED = ("CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "FULLY_CONNECTED", "RESIZE_BILINEAR")
"""Operators that have an event of their own whenever XNNPACK runs them."""

ADDED_BEHIND = "Clamp"
"""What XNNPACK adds belongs to the operator after it, but for a clamp."""


LEAST_CALLS, MOST_CALLS = 16, 400
LEAST_S = 0.05
"""How many calls are profiled: as many as fit into this time, within limits."""
COUNTED = 0.25
"""Share of the calls, the fastest, that the times are the means of."""
UNCERTAIN_S = 1e-6 / sqrt(12)
"""Standard deviation of what rounding to whole microseconds takes."""


def in_place(program: Program, threads: int) -> dict[str, Timing]:
    """What each operator of a file takes within it, in s, by the tensor that it gives, in the order of the file.

    Empty where it is not certain which operator took what. Raises what `profiled` raises.
    """
    from chipfit.nets.tflite.writer import written

    inputs = [program.tensors[name] for name in program.inputs]
    filled = [noise(item.shape, item.type) for item in inputs]
    with profiled(written(program, "chipfit"), filled, threads) as call:
        events = call()
        call()
        taken = _calls(call, events)
    places = owners(program.operations, events)
    if places is None:
        return {}
    # Rounded down to whole microseconds, a time is half of one too short in the mean.
    taken += [
        0.5 if event.place is None and event_s >= 1 else 0 for event, event_s in zip(events, taken.mean(0), strict=True)
    ]
    found: dict[str, Timing] = {}
    for place, operation in enumerate(program.operations):
        numbers = [number for number, each in enumerate(places) if each == place]
        own = taken[:, numbers].sum(axis=1) / 1e6
        spread_s = hypot(float(own.std()) / sqrt(len(own)), UNCERTAIN_S * sqrt(len(numbers)))
        found[operation.output] = Timing(float(own.mean()), float(np.median(own)), spread_s, len(own))
    return found


def _calls(call: Callable[[], list[Event]], events: Sequence[Event]) -> NDArray[np.float64]:
    """Microseconds of the fastest calls (n, events)."""
    names = [event.tag for event in events]
    taken: list[list[int]] = []
    start = time.perf_counter()
    while len(taken) < LEAST_CALLS or (time.perf_counter() - start < LEAST_S and len(taken) < MOST_CALLS):
        found = call()
        if [event.tag for event in found] != names:
            raise CannotRun("LiteRT does not run the same operators in every call")
        taken.append([event.elapsed_us for event in found])
    times = np.array(taken, np.float64)
    return times[np.argsort(times.sum(axis=1))[: max(1, int(len(times) * COUNTED))]]


def owners(operations: Sequence[Operation], events: Sequence[Event]) -> list[int] | None:
    """For each event the place of its operator in the file; None where that is not certain."""
    inside = {event.place for event in events if event.place is not None}
    order = order_of(operations, inside)
    found = [-1 if event.place is None else event.place for event in events]
    if [place for place in order if place in inside] != [place for place in found if place >= 0]:
        return None
    stretches = _between(order, [place in inside for place in order])
    for places, numbers in zip(stretches, _between(range(len(events)), [place >= 0 for place in found]), strict=True):
        matched = match([operations[place].code for place in places], [events[number].tag for number in numbers])
        if matched is None:
            return None
        for number, own in zip(numbers, matched, strict=True):
            found[number] = places[own]
    return found


def order_of(operations: Sequence[Operation], inside: Iterable[int]) -> list[int]:
    """The places of a file's operators in the order of execution.

    LiteRT runs all that is ready and of the same side, then all of the other side; `inside` are the places of what it
    runs itself.
    """
    own = set(inside)
    given = {operation.output for operation in operations}
    order: list[int] = []
    ready: set[str] = set()
    left = list(range(len(operations)))
    side: bool | None = None
    while left:
        place = next(
            (
                place
                for place in left
                if (side is None or (place in own) == side)
                and all(name in ready or name not in given for name in operations[place].inputs)
            ),
            None,
        )
        if place is None:
            side = None
            continue
        side = place in own
        order.append(place)
        left.remove(place)
        ready.add(operations[place].output)
    return order


def _between(items: Iterable[int], alone: Sequence[bool]) -> list[list[int]]:
    """Stretches of items with those that stand alone as the limits between them."""
    stretches: list[list[int]] = [[]]
    for item, single in zip(items, alone, strict=True):
        if single:
            stretches.append([])
        else:
            stretches[-1].append(item)
    return stretches


def match(codes: Sequence[str], names: Sequence[str]) -> list[int] | None:
    """For each of XNNPACK's names the place among `codes` of the operator that it belongs to, both in order.

    As many as possible find an operator whose name they are, the last ones where there is a choice, as what is merged
    goes to the first. None where an operator that is never merged is left without.
    """
    fits = np.array([[name.startswith(NAMES.get(code, ())) for name in names] for code in codes], bool)
    fits = fits.reshape(len(codes), len(names))
    most = np.zeros((len(codes) + 1, len(names) + 1), np.int64)
    for row in range(len(codes)):
        for column in range(len(names)):
            taken = most[row, column] + fits[row, column]
            most[row + 1, column + 1] = max(taken, most[row, column + 1], most[row + 1, column])
    found = [-1] * len(names)
    row, column = len(codes), len(names)
    while row and column:
        if fits[row - 1, column - 1] and most[row, column] == most[row - 1, column - 1] + 1:
            row, column = row - 1, column - 1
            found[column] = row
        elif most[row, column] == most[row - 1, column]:
            row -= 1
        else:
            column -= 1
    if any(code in NEVER_MERGED and place not in found for place, code in enumerate(codes)):
        return None
    return _completed(found, names)


def _completed(found: list[int], names: Sequence[str]) -> list[int] | None:
    """What XNNPACK added given to a neighbour; None where there is none."""
    if names and max(found) < 0:
        return None
    for number, own in enumerate(found):
        if own < 0:
            before = [each for each in found[:number] if each >= 0]
            behind = [each for each in found[number + 1 :] if each >= 0]
            clamps = names[number].startswith(ADDED_BEHIND)
            found[number] = before[-1] if before and (clamps or not behind) else behind[0]
    return found
