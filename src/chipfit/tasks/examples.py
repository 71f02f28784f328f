"""Single examples of a task as people see them: the picture, what is in it, and what a network says is in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.tasks.batches import Images
from chipfit.tasks.detection import Detection
from chipfit.tasks.segmentation import IGNORED, Segmentation
from chipfit.tasks.speech import SoundClassification, Speech
from chipfit.tasks.task import Task
from chipfit.tasks.vision import ImageClassification

LEAST_SCORE = 0.3
"""Boxes that a network is less sure of are not shown."""

LARGEST_PIXELS = 512 * 512
"""Larger pictures are not shown."""

Shown = ImageClassification | Detection | Segmentation | SoundClassification | Speech


@dataclass(frozen=True, slots=True)
class Box:
    """Edges are fractions of width and height; `score` is 1 for what is really there."""

    kind: int
    score: float
    edges: tuple[float, float, float, float]


@dataclass(frozen=True, eq=False, slots=True)
class Seen:
    """What is in an example, really or by a network: in words, as boxes, or as classes of pixels (height, width)."""

    text: str
    boxes: tuple[Box, ...] = ()
    mask: NDArray[np.uint8] | None = None


def can_be_shown(task: Task) -> bool:
    """Whether examples of a task can be shown: it is one of chipfit's kinds, with pictures that are not too large."""
    if not isinstance(task, Shown):
        return False
    return not isinstance(task, Images) or int(np.prod(task.input_shape[1:])) <= LARGEST_PIXELS


def first_examples(task: Shown, count: int) -> list[int]:
    """Indices of the first `count` test examples that hold something: a box, or more than one class of pixels."""
    if isinstance(task, Detection):
        holds = (task.boxes["test"][..., 0] >= 0).any(axis=1)
    elif isinstance(task, Segmentation):
        masks = task.masks["test"]
        flat = np.where(masks == IGNORED, masks.reshape(len(masks), -1).min(axis=1)[:, None, None], masks)
        holds = flat.min(axis=(1, 2)) != flat.max(axis=(1, 2))
    else:
        holds = np.ones(task.sizes["test"], bool)
    return np.flatnonzero(holds)[:count].tolist()


def picture(task: Shown, index: int) -> NDArray[np.uint8] | None:
    """A test image as stored, uint8 (height, width, channels); None where examples are sounds."""
    return task.images["test"][index] if isinstance(task, Images) else None


def inputs(task: Shown, indices: Sequence[int], size: tuple[int, int]) -> torch.Tensor:
    """Test examples as a network of that input size takes them."""
    found, _ = next(iter(task.batches("test", max(indices) + 1, size)))
    return found[list(indices)]


def truth(task: Shown, index: int) -> Seen:
    """What is really in a test example."""
    match task:
        case Detection():
            rows = [row for row in task.boxes["test"][index].tolist() if row[0] >= 0]
            boxes = tuple(Box(int(kind), 1.0, (left, top, right, bottom)) for kind, left, top, right, bottom, _ in rows)
            return Seen(", ".join(task.classes[box.kind] for box in boxes), boxes)
        case Segmentation():
            return Seen("", mask=task.masks["test"][index])
        case Speech():
            return Seen(task.text(task.texts["test"][index].tolist()))
        case _:
            return Seen(task.classes[int(task.labels["test"][index])])


def seen(task: Shown, index: int, prediction: torch.Tensor) -> Seen:
    """What a network sees in a test example. prediction: what `Task.read` gives, of this example alone."""
    match task:
        case Detection():
            boxes = tuple(
                Box(int(kind), score, (left, top, right, bottom))
                for score, kind, left, top, right, bottom in prediction.tolist()
                if score >= LEAST_SCORE
            )
            return Seen(", ".join(f"{task.classes[box.kind]} {box.score:.2f}" for box in boxes) or "nothing", boxes)
        case Segmentation():
            mask, wanted = prediction.numpy(), task.masks["test"][index]
            right = float((mask == wanted)[wanted != IGNORED].mean())
            return Seen(f"{right:.0%} of the pixels right".replace("%", " %"), mask=mask)
        case Speech():
            return Seen(task.text(prediction.tolist()) or "nothing")
        case ImageClassification():
            return Seen(task.classes[int(prediction.argmax())])
        case _:
            return Seen(task.classes[int(prediction)])
