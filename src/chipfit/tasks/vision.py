"""Image classification on images held in memory, and loaders for images that a user has."""

import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.augment import Augmentation, as_inputs, moved, relit, resized
from chipfit.tasks.cache import digest
from chipfit.tasks.task import SPLITS

Batch = tuple[torch.Tensor, torch.Tensor]


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
        for split in SPLITS:
            if split not in self.images or split not in self.labels:
                raise InvalidInput(f"task {self.name}: no {split} split; give {', '.join(SPLITS)}")
            self._check_split(split)

    def _check_split(self, split: str) -> None:
        images, labels, where = self.images[split], self.labels[split], f"task {self.name}, {split} split"
        if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1:] != self.images["train"].shape[1:]:
            raise InvalidInput(
                f"{where}: images are {images.dtype} {images.shape}; give uint8 (n, height, width, channels),"
                " of one size in all splits"
            )
        if labels.shape != images.shape[:1] or labels.dtype != np.int64:
            raise InvalidInput(f"{where}: labels are {labels.dtype} {labels.shape}; give int64 ({len(images)},)")
        if len(labels) == 0:
            raise InvalidInput(f"{where} has no images; give at least one")
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
        state = hashlib.blake2b("\n".join(self.classes).encode(), digest_size=16)
        for split in SPLITS:
            state.update(digest({"images": self.images[split], "labels": self.labels[split]}).encode())
        return state.hexdigest()

    def batches(
        self,
        split: str,
        batch_size: int,
        size: tuple[int, int] | None = None,
        generator: np.random.Generator | None = None,
    ) -> Iterator[Batch]:
        """See `Task.batches`. targets: int64 (batch,)."""
        if split not in SPLITS:
            raise InvalidInput(f"task {self.name}: unknown split {split!r}; known are {', '.join(SPLITS)}")
        if batch_size < 1:
            raise InvalidInput(f"task {self.name}: batch size {batch_size}; use 1 or more")
        if size is not None and min(size) < 1:
            raise InvalidInput(f"task {self.name}: input size {size}; height and width must be 1 or more")
        return self._batches(split, batch_size, size, generator)

    def _batches(
        self, split: str, batch_size: int, size: tuple[int, int] | None, generator: np.random.Generator | None
    ) -> Iterator[Batch]:
        images, labels = self.images[split], self.labels[split]
        order = np.arange(len(labels)) if generator is None else generator.permutation(len(labels))
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            pixels = images[chosen]
            if generator is not None and split == "train":
                inputs = as_inputs(moved(pixels, self.augmentation, generator))
                inputs = relit(inputs, self.augmentation, generator)
            else:
                inputs = as_inputs(pixels)
            yield inputs if size is None else resized(inputs, size), torch.from_numpy(labels[chosen])

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy with label smoothing. outputs: (batch, classes); targets: (batch,)."""
        return torch.nn.functional.cross_entropy(outputs, targets, label_smoothing=self.label_smoothing)

    def metrics(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Accuracy and its standard error. outputs: (n, classes); targets: (n,).

        The standard error adds two hits and two misses, so that a perfect score is not taken for a certain one:
        Agresti and Coull, "Approximate is better than exact", The American Statistician 52 (1998).
        Raises InvalidInput for shapes that do not fit, and for no examples.
        """
        count = len(targets)
        if count == 0 or outputs.shape != (count, self.outputs):
            raise InvalidInput(
                f"task {self.name}: outputs {tuple(outputs.shape)} for targets {tuple(targets.shape)};"
                f" give (n, {self.outputs}) and (n,) with n above 0"
            )
        hits = int((outputs.argmax(dim=1) == targets).sum())
        share = (hits + 2) / (count + 4)
        return {
            "accuracy": hits / count,
            "accuracy_standard_error": math.sqrt(share * (1 - share) / (count + 4)),
        }
