"""Image classification on images held in memory."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.augment import Augmentation
from chipfit.tasks.batches import Arrays, Batch, Images, check_images, image_inputs
from chipfit.tasks.task import SPLITS, Outputs, single


@dataclass(frozen=True, eq=False)
class ImageClassification(Images):
    """A classification task (`tasks.task.Task`); its metric is accuracy.

    images: per split, uint8 (n, height, width, channels). labels: per split, int64 (n,), indices into `classes`.
    skipped: files that were left out because they could not be read.
    Raises InvalidInput where splits, shapes, types or labels do not fit together.
    """

    name: str
    classes: tuple[str, ...]
    images: Mapping[str, NDArray[np.uint8]]
    labels: Mapping[str, NDArray[np.int64]]
    source: str
    label_smoothing: float = 0.0
    augmentation: Augmentation = field(default_factory=Augmentation)
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise InvalidInput(f"task {self.name}: {len(self.classes)} classes; at least 2 are needed")
        if not 0 <= self.label_smoothing < 1:
            raise InvalidInput(f"task {self.name}: label_smoothing = {self.label_smoothing} is outside [0, 1)")
        check_images(f"task {self.name}", self.images, self.labels)
        for split in SPLITS:
            self._check_labels(split)

    def _check_labels(self, split: str) -> None:
        images, labels, where = self.images[split], self.labels[split], f"task {self.name}, {split} split"
        if labels.shape != images.shape[:1] or labels.dtype != np.int64:
            raise InvalidInput(f"{where}: labels are {labels.dtype} {labels.shape}; give int64 ({len(images)},)")
        if labels.min() < 0 or labels.max() >= len(self.classes):
            raise InvalidInput(
                f"{where}: labels run from {labels.min()} to {labels.max()}, but there are {len(self.classes)} classes"
            )

    @property
    def metric(self) -> str:
        return "accuracy"

    def _arrays(self) -> tuple[Arrays, Arrays]:
        return self.images, self.labels

    def _batch(
        self, split: str, chosen: NDArray[np.int64], size: tuple[int, int] | None, generator: np.random.Generator | None
    ) -> Batch:
        inputs, _ = image_inputs(self.images[split][chosen], size, self.augmentation, generator)
        return inputs, torch.from_numpy(self.labels[split][chosen])

    def misfit(self, shapes: Sequence[tuple[int, ...]]) -> str:
        """See `Task.misfit`: one output (1, classes)."""
        return "" if list(shapes) == [(1, self.outputs)] else f"(1, {self.outputs})"

    def read(self, outputs: Outputs) -> torch.Tensor:
        """The outputs as they are: a score for each class."""
        return single(outputs)

    def loss(self, outputs: Outputs, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy with label smoothing. outputs: (batch, classes); targets: (batch,)."""
        return torch.nn.functional.cross_entropy(single(outputs), targets, label_smoothing=self.label_smoothing)

    def metrics(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Accuracy and its standard error. predictions: (n, classes); targets: (n,).

        The standard error adds two hits and two misses, so that a perfect score is not taken for a certain one:
        Agresti and Coull, "Approximate is better than exact", The American Statistician 52 (1998).
        Raises InvalidInput for shapes that do not fit, and for no examples.
        """
        count = len(targets)
        if count == 0 or predictions.shape != (count, self.outputs):
            raise InvalidInput(
                f"task {self.name}: outputs {tuple(predictions.shape)} for targets {tuple(targets.shape)};"
                f" give (n, {self.outputs}) and (n,) with n above 0"
            )
        hits = int((predictions.argmax(dim=1) == targets).sum())
        share = (hits + 2) / (count + 4)
        return {
            "accuracy": hits / count,
            "accuracy_standard_error": math.sqrt(share * (1 - share) / (count + 4)),
        }
