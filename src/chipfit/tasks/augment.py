"""From stored bytes to network inputs: random shifts, mirroring, light; normalising; resizing."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Augmentation:
    """What is varied at random in training images.

    shift: largest move, as a fraction of height and width; edges are repeated. flip: mirror left and right, half
    of the time. brightness: largest change, as a fraction of the full range. contrast: largest relative change.
    """

    shift: float = 0.1
    flip: bool = True
    brightness: float = 0.1
    contrast: float = 0.2

    def __post_init__(self) -> None:
        for name in ("shift", "brightness", "contrast"):
            value = getattr(self, name)
            if not 0 <= value < 1:
                raise InvalidInput(f"augmentation {name} = {value} is outside [0, 1)")


@dataclass(frozen=True, slots=True)
class Moves:
    """How images are moved, all (n,): pixels that their content goes up and left by, and which are then mirrored."""

    up: NDArray[np.int64]
    left: NDArray[np.int64]
    mirrored: NDArray[np.bool_]


def draw_moves(shape: tuple[int, ...], augmentation: Augmentation, generator: np.random.Generator) -> Moves:
    """Random moves for images of shape (n, height, width, ...)."""
    count, height, width = shape[:3]
    tall, wide = int(augmentation.shift * height), int(augmentation.shift * width)
    up = generator.integers(-tall, tall + 1, count)
    left = generator.integers(-wide, wide + 1, count)
    mirrored = generator.random(count) < 0.5 if augmentation.flip else np.zeros(count, dtype=bool)
    return Moves(up, left, mirrored)


def apply_moves(images: NDArray[np.uint8], moves: Moves) -> NDArray[np.uint8]:
    """Each image of (n, height, width, channels) moved; edges are repeated."""
    count, height, width, channels = images.shape
    rows = np.clip(np.arange(height) + moves.up[:, None], 0, height - 1)
    columns = np.clip(np.arange(width) + moves.left[:, None], 0, width - 1)
    columns[moves.mirrored] = columns[moves.mirrored, ::-1]
    pixels = (np.arange(count)[:, None, None] * height + rows[:, :, None]) * width + columns[:, None, :]
    return images.reshape(-1, channels).take(pixels.reshape(-1), axis=0).reshape(images.shape)


def moved(images: NDArray[np.uint8], augmentation: Augmentation, generator: np.random.Generator) -> NDArray[np.uint8]:
    """Each image of (n, height, width, channels) shifted and perhaps mirrored."""
    return apply_moves(images, draw_moves(images.shape, augmentation, generator))


def as_inputs(images: NDArray[np.uint8]) -> torch.Tensor:
    """uint8 (n, height, width, channels) to float32 (n, channels, height, width) in [-1, 1].

    The same fixed scale for every data set: a chip that reads int8 gets it by subtracting 128.
    """
    values = torch.from_numpy(images).permute(0, 3, 1, 2).to(torch.float32, memory_format=torch.contiguous_format)
    return values.mul_(1 / 127.5).sub_(1.0)


def relit(inputs: torch.Tensor, augmentation: Augmentation, generator: np.random.Generator) -> torch.Tensor:
    """Brightness and contrast of each image of (n, channels, height, width) changed, in place."""
    count = len(inputs)
    contrast = generator.uniform(1 - augmentation.contrast, 1 + augmentation.contrast, (count, 1, 1, 1))
    # The inputs span two units, so a fraction of the full range counts twice.
    brightness = generator.uniform(-2 * augmentation.brightness, 2 * augmentation.brightness, (count, 1, 1, 1))
    inputs.mul_(torch.from_numpy(contrast.astype(np.float32)))
    return inputs.add_(torch.from_numpy(brightness.astype(np.float32))).clamp_(-1.0, 1.0)


def resized(inputs: torch.Tensor, size: tuple[int, int]) -> torch.Tensor:
    """Bilinear with antialiasing, to (height, width); unchanged if that is their size."""
    if tuple(inputs.shape[-2:]) == size:
        return inputs
    return torch.nn.functional.interpolate(inputs, size=size, mode="bilinear", antialias=True, align_corners=False)
