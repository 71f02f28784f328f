"""Detection of objects on images held in memory: boxes as targets, an anchor-free head, mean average precision."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.augment import Augmentation, Moves
from chipfit.tasks.average_precision import average_precision
from chipfit.tasks.batches import Arrays, Batch, Images, check_images, image_inputs
from chipfit.tasks.centres import detection_loss, read_boxes
from chipfit.tasks.task import SPLITS, Outputs

CLASS, LEFT, TOP, RIGHT, BOTTOM, CROWD = range(6)
"""Columns of a box: class (-1 where there is none), edges as fractions of width and height, and whether it is a crowd
(1): many objects in one box, which training leaves out and judging ignores."""

LEAST_VISIBLE = 0.3
"""So much of a box must stay inside an image that is shifted in training, else it is left out."""


@dataclass(frozen=True, eq=False)
class Detection(Images):
    """A detection task (`tasks.task.Task`); its metric is COCO's mean average precision over IoU 0.5 to 0.95.

    images: per split, uint8 (n, height, width, channels). boxes: per split, float32 (n, most, 6) with the columns
    named in this file, filled up by rows of class -1. Networks give two outputs over one grid of cells: a heat map for
    each class (logits), and four distances (logarithms) from a cell's middle to the edges of its box, in cells: see
    `tasks.centres`. Raises InvalidInput where splits, shapes, classes or edges do not fit together.
    """

    name: str
    classes: tuple[str, ...]
    images: Mapping[str, NDArray[np.uint8]]
    boxes: Mapping[str, NDArray[np.float32]]
    source: str
    augmentation: Augmentation = field(default_factory=Augmentation)
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes:
            raise InvalidInput(f"task {self.name}: no classes; name at least one")
        check_images(f"task {self.name}", self.images, self.boxes)
        for split in SPLITS:
            self._check_boxes(split)

    def _check_boxes(self, split: str) -> None:
        boxes, where = self.boxes[split], f"task {self.name}, {split} split"
        if boxes.ndim != 3 or boxes.shape[::2] != (len(self.images[split]), 6) or boxes.dtype != np.float32:
            raise InvalidInput(
                f"{where}: boxes are {boxes.dtype} {boxes.shape}; give float32 ({len(self.images[split])}, most, 6)"
            )
        real = boxes[boxes[..., CLASS] >= 0]
        if len(real) == 0:
            raise InvalidInput(f"{where} has no boxes; give at least one")
        if real[:, CLASS].max() >= len(self.classes):
            raise InvalidInput(f"{where}: a box of class {int(real[:, CLASS].max())}, of {len(self.classes)} classes")
        edges = real[:, LEFT : BOTTOM + 1]
        if not ((edges >= 0) & (edges <= 1)).all() or (edges[:, 2:] <= edges[:, :2]).any():
            raise InvalidInput(f"{where}: edges of boxes must be rising fractions from 0 to 1")

    @property
    def metric(self) -> str:
        return "mean_average_precision"

    def _arrays(self) -> tuple[Arrays, Arrays]:
        return self.images, self.boxes

    def _batch(
        self, split: str, chosen: NDArray[np.int64], size: tuple[int, int] | None, generator: np.random.Generator | None
    ) -> Batch:
        images, targets = self.images[split], self.boxes[split][chosen]
        inputs, moves = image_inputs(images[chosen], size, self.augmentation, generator)
        if moves is not None:
            targets = moved_boxes(targets, moves, images.shape[1:3])
        return inputs, torch.from_numpy(targets)

    def misfit(self, shapes: Sequence[tuple[int, ...]]) -> str:
        """See `Task.misfit`: a heat map and four distances over the same cells."""
        wanted = f"(1, {self.outputs}, rows, columns) and (1, 4, rows, columns)"
        if len(shapes) != 2 or any(len(shape) != 4 for shape in shapes):
            return wanted
        fits = (shapes[0][1], shapes[1][1]) == (self.outputs, 4) and shapes[0][2:] == shapes[1][2:]
        return "" if fits else wanted

    def loss(self, outputs: Outputs, targets: torch.Tensor) -> torch.Tensor:
        """See `centres.detection_loss`."""
        heat, distances = _two(outputs)
        return detection_loss(heat, distances, targets)

    def read(self, outputs: Outputs) -> torch.Tensor:
        """The best boxes of each image, float32 (batch, 100, 6): score, class, and edges as fractions.

        Rows without a box have score 0.
        """
        return read_boxes(*_two(outputs))

    def metrics(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Average precision over IoU 0.5 to 0.95, and at 0.5; predictions: (n, 100, 6); targets: (n, most, 6).

        Raises InvalidInput for shapes that do not fit, for no examples and for targets without any box.
        """
        fits = predictions.ndim == targets.ndim == 3 and len(predictions) == len(targets) > 0
        if not fits or predictions.shape[2] != 6 or targets.shape[2] != 6:
            raise InvalidInput(
                f"task {self.name}: predictions {tuple(predictions.shape)} for targets {tuple(targets.shape)};"
                " give (n, boxes, 6) and (n, most, 6) with n above 0"
            )
        _, height, width = self.input_shape
        return average_precision(predictions.numpy(), targets.numpy(), self.classes, (height, width))


def _two(outputs: Outputs) -> tuple[torch.Tensor, torch.Tensor]:
    if isinstance(outputs, torch.Tensor) or len(outputs) != 2:
        raise InvalidInput("detection reads two outputs, a heat map and distances; use a network that gives them")
    return outputs[0], outputs[1]


def moved_boxes(boxes: NDArray[np.float32], moves: Moves, size: tuple[int, int]) -> NDArray[np.float32]:
    """Boxes (n, most, 6) of images of `size` (height, width) that were moved.

    They are cut at the edges; what is left of less than `LEAST_VISIBLE` of a box is dropped.
    """
    boxes = boxes.copy()
    height, width = size
    edges = boxes[..., LEFT : BOTTOM + 1]
    area = (edges[..., 2] - edges[..., 0]) * (edges[..., 3] - edges[..., 1])
    shift = np.stack([moves.left / width, moves.up / height], axis=1).astype(np.float32)
    edges -= np.tile(shift, 2)[:, None]
    mirrored = edges[moves.mirrored]
    edges[moves.mirrored] = np.stack(
        [1 - mirrored[..., 2], mirrored[..., 1], 1 - mirrored[..., 0], mirrored[..., 3]], 2
    )
    np.clip(edges, 0, 1, out=edges)
    rest = (edges[..., 2] - edges[..., 0]) * (edges[..., 3] - edges[..., 1])
    gone = (boxes[..., CLASS] < 0) | (rest <= 0) | (rest < LEAST_VISIBLE * area)
    boxes[gone] = (-1, 0, 0, 0, 0, 0)
    return boxes
