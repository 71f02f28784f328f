"""The rendered rooms as detection of persons and as segmentation: the same scenes as `rooms`, other answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.files import cache_directory
from chipfit.tasks.cache import read_arrays, write_arrays
from chipfit.tasks.detection import Detection
from chipfit.tasks.rooms import MASK_CLASSES, Progress, render, still_drawn
from chipfit.tasks.segmentation import Segmentation
from chipfit.tasks.task import SPLITS

MOST_PERSONS = 2
"""So many persons stand in a room at most."""


@dataclass(frozen=True, slots=True)
class _Scenes:
    images: NDArray[np.uint8]
    boxes: NDArray[np.float32]
    masks: NDArray[np.uint8]


def rooms_with_boxes(
    counts: Mapping[str, int] | None = None,
    seed: int = 0,
    size: int = 96,
    cache: Path | None = None,
    progress: Progress = iter,
) -> Detection:
    """Rendered rooms with a box around what is visible of each person; half of the rooms hold nobody.

    counts: images per split, by default those of `rooms`. The other arguments are those of `rooms`.
    Raises what `rooms` raises.
    """
    scenes = {split: _scenes(split, counts, seed, size, cache, progress) for split in SPLITS}
    return Detection(
        name="rooms-boxes",
        classes=("person",),
        images={split: part.images for split, part in scenes.items()},
        boxes={split: part.boxes for split, part in scenes.items()},
        source=f"rendered rooms with boxes of persons, seed {seed}",
    )


def rooms_with_masks(
    counts: Mapping[str, int] | None = None,
    seed: int = 0,
    size: int = 96,
    cache: Path | None = None,
    progress: Progress = iter,
) -> Segmentation:
    """Rendered rooms with a class for every pixel: background, person, furniture, floor; see `rooms_with_boxes`."""
    scenes = {split: _scenes(split, counts, seed, size, cache, progress) for split in SPLITS}
    return Segmentation(
        name="rooms-masks",
        classes=MASK_CLASSES,
        images={split: part.images for split, part in scenes.items()},
        masks={split: part.masks for split, part in scenes.items()},
        source=f"rendered rooms with masks, seed {seed}",
    )


def _scenes(
    split: str, counts: Mapping[str, int] | None, seed: int, size: int, cache: Path | None, progress: Progress
) -> _Scenes:
    count = {"train": 4000, "validation": 1000, "test": 1000, **(counts or {})}[split]
    if count < 1:
        raise InvalidInput(f"rooms with {count} {split} images; ask for at least 1")
    path = (cache or cache_directory()) / f"rooms-scenes-{seed}-{split}-{count}-{size}.npz"
    stored = read_arrays(path)
    if stored is not None and stored.keys() >= {"images", "boxes", "masks"}:
        fits = stored["images"].shape == (count, size, size, 3) and stored["masks"].shape == (count, size, size)
        if fits and still_drawn(stored["images"], seed, split, size):
            return _Scenes(stored["images"], stored["boxes"], stored["masks"])
    arrays = _drawn(split, count, seed, size, progress)
    write_arrays(path, arrays)
    return _Scenes(**arrays)


def _drawn(split: str, count: int, seed: int, size: int, progress: Progress) -> dict[str, NDArray[Any]]:
    images: NDArray[np.uint8] = np.empty((count, size, size, 3), dtype=np.uint8)
    masks: NDArray[np.uint8] = np.empty((count, size, size), dtype=np.uint8)
    boxes: NDArray[np.float32] = np.zeros((count, MOST_PERSONS, 6), dtype=np.float32)
    boxes[..., 0] = -1
    for index in progress(range(count)):
        scene = render(seed, split, index, size)
        images[index], masks[index] = scene.image, scene.mask
        boxes[index, : len(scene.boxes), 0] = 0
        boxes[index, : len(scene.boxes), 1:5] = scene.boxes / size
    return {"images": images, "boxes": boxes, "masks": masks}
