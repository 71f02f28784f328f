"""Segmentation of images held in memory: a class for every pixel, some of which may not count."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.augment import Augmentation, apply_moves
from chipfit.tasks.batches import Arrays, Batch, Images, check_images, image_inputs
from chipfit.tasks.spread import jackknife_error
from chipfit.tasks.task import SPLITS, Outputs, single

IGNORED = 255
"""The value in a mask of pixels that do not count."""


@dataclass(frozen=True, eq=False)
class Segmentation(Images):
    """A segmentation task (`tasks.task.Task`); its metric is the mean intersection over union of the classes.

    images: per split, uint8 (n, height, width, channels). masks: per split, uint8 (n, height, width), indices into
    `classes`, `IGNORED` where a pixel does not count. weights: how much a pixel of each class counts in the loss (None:
    all alike); see `frequency_weights`. Networks give scores (classes, rows, columns) at any resolution, which are
    scaled up to that of the masks. Raises InvalidInput where splits, shapes, types or classes do not fit together.
    """

    name: str
    classes: tuple[str, ...]
    images: Mapping[str, NDArray[np.uint8]]
    masks: Mapping[str, NDArray[np.uint8]]
    source: str
    weights: tuple[float, ...] | None = None
    augmentation: Augmentation = field(default_factory=Augmentation)
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 2 <= len(self.classes) < IGNORED:
            raise InvalidInput(f"task {self.name}: {len(self.classes)} classes; give 2 to {IGNORED - 1}")
        if self.weights is not None and (len(self.weights) != len(self.classes) or min(self.weights) < 0):
            raise InvalidInput(f"task {self.name}: weights {self.weights}; give one of 0 or more for each class")
        check_images(f"task {self.name}", self.images, self.masks)
        for split in SPLITS:
            images, masks, where = self.images[split], self.masks[split], f"task {self.name}, {split} split"
            if masks.shape != images.shape[:3] or masks.dtype != np.uint8:
                raise InvalidInput(f"{where}: masks are {masks.dtype} {masks.shape}; give uint8 {images.shape[:3]}")
            counted = masks[masks != IGNORED]
            if len(counted) == 0:
                raise InvalidInput(f"{where}: no pixel of the masks counts; give masks with classes")
            if counted.max() >= len(self.classes):
                raise InvalidInput(f"{where}: a mask holds class {counted.max()}, of {len(self.classes)} classes")

    @property
    def metric(self) -> str:
        return "mean_intersection_over_union"

    def _arrays(self) -> tuple[Arrays, Arrays]:
        return self.images, self.masks

    def _batch(
        self, split: str, chosen: NDArray[np.int64], size: tuple[int, int] | None, generator: np.random.Generator | None
    ) -> Batch:
        inputs, moves = image_inputs(self.images[split][chosen], size, self.augmentation, generator)
        targets = self.masks[split][chosen]
        if moves is not None:
            targets = apply_moves(targets[..., None], moves)[..., 0]
        return inputs, torch.from_numpy(targets)

    def misfit(self, shapes: Sequence[tuple[int, ...]]) -> str:
        """See `Task.misfit`: scores of the classes over any grid."""
        fits = len(shapes) == 1 and len(shapes[0]) == 4 and shapes[0][1] == self.outputs
        return "" if fits else f"(1, {self.outputs}, rows, columns)"

    def loss(self, outputs: Outputs, targets: torch.Tensor) -> torch.Tensor:
        """Mean weighted cross-entropy of the pixels that count. outputs: (batch, classes, rows, columns)."""
        scores = _scaled(single(outputs), tuple(targets.shape[1:]))
        weights = None if self.weights is None else torch.tensor(self.weights, device=scores.device)
        wanted = targets.long()
        summed = F.cross_entropy(scores, wanted, weights, ignore_index=IGNORED, reduction="sum")
        counted = wanted != IGNORED
        total = counted.sum() if weights is None else weights[wanted[counted]].sum()
        # A batch in which nothing counts teaches nothing.
        return summed / total.clamp(min=1e-9)

    def read(self, outputs: Outputs) -> torch.Tensor:
        """The class of every pixel at the size of the stored images, uint8 (batch, height, width)."""
        _, height, width = self.input_shape
        return _scaled(single(outputs), (height, width)).argmax(dim=1).to(torch.uint8)

    def metrics(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Mean intersection over union of the classes that appear, and the share of pixels that are right.

        predictions, targets: (n, height, width). The standard error leaves out one image at a time.
        Raises InvalidInput for shapes that do not fit, no examples and targets in which nothing counts.
        """
        if predictions.shape != targets.shape or predictions.ndim != 3 or len(targets) == 0:
            raise InvalidInput(
                f"task {self.name}: predictions {tuple(predictions.shape)} for targets {tuple(targets.shape)};"
                " give (n, height, width) of both, with n above 0"
            )
        tables = _confusions(predictions.numpy(), targets.numpy(), self.outputs)
        total = tables.sum(axis=0)
        if total.sum() == 0:
            raise InvalidInput(f"task {self.name}: no pixel of these targets counts")
        error = jackknife_error(tables, _mean_overlap)
        return {
            "mean_intersection_over_union": float(_mean_overlap(total[None])[0]),
            "mean_intersection_over_union_standard_error": error,
            "pixel_accuracy": float(np.trace(total) / total.sum()),
        }


def _scaled(scores: torch.Tensor, size: tuple[int, ...]) -> torch.Tensor:
    if tuple(scores.shape[2:]) == size:
        return scores.float()
    return F.interpolate(scores.float(), size=size, mode="bilinear", align_corners=False)


def _confusions(found: NDArray[np.uint8], wanted: NDArray[np.uint8], classes: int) -> NDArray[np.int64]:
    """For each image how many pixels of a class (rows) were taken for which (columns), (n, classes, classes)."""
    tables = np.zeros((len(wanted), classes, classes), dtype=np.int64)
    for index, (guess, truth) in enumerate(zip(found, wanted, strict=True)):
        counted = truth != IGNORED
        pairs = truth[counted].astype(np.int64) * classes + guess[counted]
        tables[index] = np.bincount(pairs, minlength=classes * classes).reshape(classes, classes)
    return tables


def _mean_overlap(tables: NDArray[np.int64]) -> NDArray[np.float64]:
    """Mean intersection over union (n,) of tables (n, classes, classes), over the classes that appear in each."""
    shared = np.diagonal(tables, axis1=1, axis2=2)
    union = tables.sum(axis=1) + tables.sum(axis=2) - shared
    overlap = np.where(union > 0, shared / np.maximum(union, 1), 0.0)
    return overlap.sum(axis=1) / np.maximum((union > 0).sum(axis=1), 1)


def frequency_weights(masks: NDArray[np.uint8], classes: int) -> tuple[float, ...]:
    """Weights that make rare classes count more: 1 / log(1.02 + share of the pixels), scaled to a mean of 1.

    Paszke et al., "ENet" (2016), section 5.1. masks: uint8 (n, height, width).
    """
    counts = np.bincount(masks[masks != IGNORED].reshape(-1), minlength=classes)[:classes]
    weights = 1 / np.log(1.02 + counts / max(1, counts.sum()))
    return tuple((weights / weights.mean()).tolist())
