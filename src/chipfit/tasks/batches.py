"""What tasks on arrays in memory share: checks, the order of examples, images as network inputs."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.augment import Augmentation, Moves, apply_moves, as_inputs, draw_moves, relit, resized
from chipfit.tasks.task import SPLITS

Batch = tuple[torch.Tensor, torch.Tensor]


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
