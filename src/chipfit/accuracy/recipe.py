"""How a network is trained, as a value."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chipfit.errors import InvalidInput

OPTIMIZERS = ("sgd", "adamw")


@dataclass(frozen=True, slots=True)
class Recipe:
    """How a network is trained: a linear warm-up of the learning rate and one cosine descent.

    `optimizer` is "sgd", with Nesterov momentum, or "adamw" (Loshchilov and Hutter 2019), which recognisers of speech
    need to get off the ground: `momentum` then is the decay of the first moment, and learning rates are far smaller.
    `images` caps the training images of an epoch (None: all of them). 0 epochs train nothing. `warmup` is a fraction
    of the training. A batch needs 2 images: batch normalisation has no variance over one.
    """

    epochs: int
    batch_size: int = 64
    learning_rate: float = 0.1
    momentum: float = 0.9
    weight_decay: float = 1e-4
    warmup: float = 0.1
    images: int | None = None
    optimizer: str = "sgd"

    def __post_init__(self) -> None:
        faults = [
            self.optimizer not in OPTIMIZERS and f"optimizer must be one of {', '.join(OPTIMIZERS)}",
            self.epochs < 0 and "epochs must be 0 or more",
            self.batch_size < 2 and "batch_size must be 2 or more",
            not 0 < self.learning_rate < math.inf and "learning_rate must be above 0",
            not 0 <= self.momentum < 1 and "momentum must be from 0 to below 1",
            not 0 <= self.weight_decay < math.inf and "weight_decay must be 0 or more",
            not 0 <= self.warmup < 1 and "warmup must be from 0 to below 1",
            self.images is not None and self.images < 2 and "images must be 2 or more",
        ]
        if found := [fault for fault in faults if fault]:
            raise InvalidInput(f"{found[0]}, got {self}")
