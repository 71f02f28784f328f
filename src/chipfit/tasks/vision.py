"""Image classification on images held in memory."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.augment import Augmentation
from chipfit.tasks.batches import Batch, check_images, check_request, image_inputs, orders
from chipfit.tasks.cache import fingerprint
from chipfit.tasks.task import SPLITS, Outputs, single


@dataclass(frozen=True, eq=False)
class ImageClassification:
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

    @property
    def outputs(self) -> int:
        return len(self.classes)

    @property
    def input_shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.images["train"].shape
        return channels, height, width

    @property
    def sizes(self) -> dict[str, int]:
        return {split: len(self.labels[split]) for split in SPLITS}

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        return fingerprint(self.classes, {s: {"images": self.images[s], "labels": self.labels[s]} for s in SPLITS})

    def batches(
        self,
        split: str,
        batch_size: int,
        size: tuple[int, int] | None = None,
        generator: np.random.Generator | None = None,
    ) -> Iterator[Batch]:
        """See `Task.batches`. targets: int64 (batch,)."""
        check_request(self.name, split, batch_size, size)
        return self._batches(split, batch_size, size, generator)

    def _batches(
        self, split: str, batch_size: int, size: tuple[int, int] | None, generator: np.random.Generator | None
    ) -> Iterator[Batch]:
        images, labels = self.images[split], self.labels[split]
        for chosen in orders(len(labels), batch_size, generator):
            augmented = generator if split == "train" else None
            inputs, _ = image_inputs(images[chosen], size, self.augmentation, augmented)
            yield inputs, torch.from_numpy(labels[chosen])

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
