"""What chipfit asks of a task: data in three splits, a loss to train by, metrics to judge by."""

from collections.abc import Iterator, Sequence
from typing import Protocol, runtime_checkable

import numpy as np
import torch

from chipfit.errors import InvalidInput

SPLITS = ("train", "validation", "test")
"""A search sees train and validation only; test is for the report."""

Outputs = torch.Tensor | tuple[torch.Tensor, ...]
"""What a network gives for a batch: one tensor, or one for each of its outputs in order."""


def single(outputs: Outputs) -> torch.Tensor:
    """The one output of a network. Raises `InvalidInput` where it gives several."""
    if isinstance(outputs, torch.Tensor):
        return outputs
    raise InvalidInput(f"the network gives {len(outputs)} outputs, this task reads one; use a network with one")


@runtime_checkable
class Task(Protocol):
    """Data set, loss and metrics, independent of any network. `testing.check_task` checks one.

    What a target tensor holds is the task's own business (class indices, a map of classes, boxes padded
    to one length, the same for all batches of a split): targets only ever go from `batches` to `loss` and `metrics`.
    So do predictions, which are what `read` makes of a network's outputs, from there to `metrics`.
    """

    @property
    def name(self) -> str: ...

    @property
    def classes(self) -> tuple[str, ...]: ...

    @property
    def metric(self) -> str:
        """Name of the primary metric: a fraction from 0 to 1, higher is better."""
        ...

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Channels, height, width of an input as stored."""
        ...

    @property
    def outputs(self) -> int:
        """How many classes the network must tell apart: `classes` of a network of the zoo."""
        ...

    @property
    def source(self) -> str:
        """Where the data is from, in words for the report."""
        ...

    @property
    def sizes(self) -> dict[str, int]:
        """Examples per split."""
        ...

    @property
    def fingerprint(self) -> str:
        """Hex digest of data and splits; it changes when either does."""
        ...

    def batches(
        self,
        split: str,
        batch_size: int,
        size: tuple[int, int] | None = None,
        generator: np.random.Generator | None = None,
    ) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        """Every example of a split once, as (inputs, targets); the last batch may be smaller.

        inputs: float32 (batch, channels, height, width), normalised, resized to `size` (height, width) if given.
        Without a generator: in order and as stored. With one: shuffled, and augmented if the split is "train".
        Raises InvalidInput for an unknown split, a batch size or size below 1, or a size that the data cannot take.
        """
        ...

    def misfit(self, shapes: Sequence[tuple[int, ...]]) -> str:
        """What a network would have to give instead of outputs of these shapes (batch 1 first); "" where they fit."""
        ...

    def loss(self, outputs: Outputs, targets: torch.Tensor) -> torch.Tensor:
        """A scalar to minimise, differentiable in `outputs`."""
        ...

    def read(self, outputs: Outputs) -> torch.Tensor:
        """Predictions (batch, ...) from a network's outputs: no larger than judging and showing them needs."""
        ...

    def metrics(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Every metric over the examples given: the primary one, its standard error as `<metric>_standard_error`."""
        ...
