"""Dilated convolutions as older converters write them: between an operator that takes pixels apart and its inverse."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

from chipfit.nets.tflite.call import Dilation
from chipfit.nets.tflite.reader import Damaged, StoredModel, StoredOperator

CONVOLUTIONS = ("CONV_2D", "DEPTHWISE_CONV_2D")


@dataclass(frozen=True)
class Joined:
    """An operator of the file, or a convolution with the two around it."""

    stored: StoredOperator
    dilation: Dilation | None = None


def join_dilations(model: StoredModel) -> list[Joined]:
    """The operators, with every SPACE_TO_BATCH_ND, convolution and BATCH_TO_SPACE_ND that belong together as one."""
    readers = Counter(number for stored in model.operators for number in stored.inputs)
    readers.update(model.outputs)
    maker = {number: index for index, stored in enumerate(model.operators) for number in stored.outputs}

    def before(number: int, kinds: tuple[str, ...]) -> int | None:
        index = maker.get(number)
        if index is None or readers[number] != 1 or model.operators[index].name not in kinds:
            return None
        return index

    joined: list[Joined | None] = [Joined(stored) for stored in model.operators]
    for last, stored in enumerate(model.operators):
        if stored.name != "BATCH_TO_SPACE_ND" or len(stored.inputs) != 3 or not stored.outputs:
            continue
        middle = before(stored.inputs[0], CONVOLUTIONS)
        inputs = model.operators[middle].inputs if middle is not None else ()
        first = before(inputs[0], ("SPACE_TO_BATCH_ND",)) if inputs else None
        if middle is None or first is None or not first < middle < last:
            continue
        found = _dilation(model, model.operators[first], stored)
        if found is not None:
            opened = model.operators[first].inputs[0]
            convolution = replace(model.operators[middle], inputs=(opened, *inputs[1:]), outputs=stored.outputs)
            joined[first] = joined[middle] = None
            joined[last] = Joined(convolution, found)
    return [item for item in joined if item is not None]


def _dilation(model: StoredModel, opening: StoredOperator, closing: StoredOperator) -> Dilation | None:
    """What the pair says; None where it is not of height and width, or not known."""
    if len(opening.inputs) != 3:
        return None
    settings: list[list[int]] = []
    for number, size in zip((*opening.inputs[1:], *closing.inputs[1:]), (2, 4, 2, 4), strict=True):
        tensor = model.tensors[number] if number >= 0 else None
        if tensor is None or tensor.data is None or tensor.kind not in ("INT32", "INT64"):
            return None
        values = [int(value) for value in tensor.integers().reshape(-1)]
        if len(values) != size or min(values) < 0:
            return None
        settings.append(values)
    block, padding, again, crops = settings
    if block != again or min(block) < 1:
        raise Damaged(f"pixels are taken apart by {block} and put together by {again}")
    sides = ((values[0], values[2], values[1], values[3]) for values in (padding, crops))
    return Dilation((block[0], block[1]), *sides)
