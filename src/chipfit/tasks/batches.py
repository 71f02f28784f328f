"""What tasks on arrays in memory share: checks, the order of examples, images as network inputs."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.augment import Augmentation, Moves, apply_moves, as_inputs, draw_moves, relit, resized
from chipfit.tasks.cache import fingerprint
from chipfit.tasks.task import SPLITS

Batch = tuple[torch.Tensor, torch.Tensor]


Arrays = Mapping[str, NDArray[Any]]
"""An array for every split, with an example along its first axis."""


class InMemory(ABC):
    """What tasks share whose examples are all in memory: the part of `tasks.task.Task` that follows from the arrays."""

    name: str
    classes: tuple[str, ...]

    @abstractmethod
    def _arrays(self) -> tuple[Arrays, Arrays]:
        """Examples and targets as stored."""

    @abstractmethod
    def _batch(
        self, split: str, chosen: NDArray[np.int64], size: tuple[int, int] | None, generator: np.random.Generator | None
    ) -> Batch:
        """The chosen examples of a split as inputs and targets, augmented where there is a generator."""

    @property
    def outputs(self) -> int:
        return len(self.classes)

    @property
    def sizes(self) -> dict[str, int]:
        return {split: len(self._arrays()[0][split]) for split in SPLITS}

    @property
    def fingerprint(self) -> str:
        return self._fingerprint

    @cached_property
    def _fingerprint(self) -> str:
        examples, targets = self._arrays()
        arrays = {split: {"examples": examples[split], "targets": targets[split]} for split in SPLITS}
        return fingerprint((*self.classes, *self._settings()), arrays)

    def _settings(self) -> tuple[str, ...]:
        """What else the inputs depend on."""
        return ()

    def _check_request(self, split: str, batch_size: int, size: tuple[int, int] | None) -> None:
        """Raises `InvalidInput` for what cannot be given as batches."""
        check_request(self.name, split, batch_size, size)

    def batches(
        self,
        split: str,
        batch_size: int,
        size: tuple[int, int] | None = None,
        generator: np.random.Generator | None = None,
    ) -> Iterator[Batch]:
        """See `Task.batches`; targets as the class says, with a batch along their first axis."""
        self._check_request(split, batch_size, size)
        return self._batches(split, batch_size, size, generator)

    def _batches(
        self, split: str, batch_size: int, size: tuple[int, int] | None, generator: np.random.Generator | None
    ) -> Iterator[Batch]:
        augmented = generator if split == "train" else None
        for chosen in orders(self.sizes[split], batch_size, generator):
            yield self._batch(split, chosen, size, augmented)


class Images(InMemory):
    """The same for images (n, height, width, channels)."""

    images: Mapping[str, NDArray[np.uint8]]

    @property
    def input_shape(self) -> tuple[int, int, int]:
        _, height, width, channels = self.images["train"].shape
        return channels, height, width


def check_images(where: str, images: Mapping[str, NDArray[np.uint8]], targets: Mapping[str, NDArray[Any]]) -> None:
    """Raises `InvalidInput` unless all splits hold images (n, height, width, channels) of one size, one at least."""
    for split in SPLITS:
        if split not in images or split not in targets:
            raise InvalidInput(f"{where}: no {split} split; give {', '.join(SPLITS)}")
        array = images[split]
        if array.ndim != 4 or array.dtype != np.uint8 or array.shape[1:] != images["train"].shape[1:]:
            raise InvalidInput(
                f"{where}, {split} split: images are {array.dtype} {array.shape}; give uint8"
                " (n, height, width, channels), of one size in all splits"
            )
        if len(array) == 0:
            raise InvalidInput(f"{where}, {split} split has no images; give at least one")


def check_request(name: str, split: str, batch_size: int, size: tuple[int, int] | None) -> None:
    """Raises `InvalidInput` for what no task can give as batches."""
    if split not in SPLITS:
        raise InvalidInput(f"task {name}: unknown split {split!r}; known are {', '.join(SPLITS)}")
    if batch_size < 1:
        raise InvalidInput(f"task {name}: batch size {batch_size}; use 1 or more")
    if size is not None and min(size) < 1:
        raise InvalidInput(f"task {name}: input size {size}; height and width must be 1 or more")


def orders(count: int, batch_size: int, generator: np.random.Generator | None) -> Iterator[NDArray[np.int64]]:
    """Indices of the examples of each batch: in order, or shuffled by a generator."""
    order = np.arange(count) if generator is None else generator.permutation(count)
    for start in range(0, count, batch_size):
        yield order[start : start + batch_size]


def image_inputs(
    pixels: NDArray[np.uint8],
    size: tuple[int, int] | None,
    augmentation: Augmentation,
    generator: np.random.Generator | None,
) -> tuple[torch.Tensor, Moves | None]:
    """Network inputs from images (n, height, width, channels), augmented by a generator, and how they were moved."""
    if generator is None:
        moves, inputs = None, as_inputs(pixels)
    else:
        moves = draw_moves(pixels.shape, augmentation, generator)
        inputs = relit(as_inputs(apply_moves(pixels, moves)), augmentation, generator)
    return inputs if size is None else resized(inputs, size), moves
