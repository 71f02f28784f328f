"""A result as an int8 TFLite file: calibrated on images of its task, run, and compared with the network itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import ChipfitError, InvalidInput, MissingDependency, StorageFull
from chipfit.nets.network import Network, load_weights
from chipfit.run.delivered import Integers, Quantised
from chipfit.run.jobs import Quantising, Setting, task_of
from chipfit.run.study import Study
from chipfit.tasks.task import Outputs, Task

if TYPE_CHECKING:
    import torch

    from chipfit.nets.tflite.calibrate import Samples

CALIBRATION_IMAGES = 256
"""Training images on which ranges are observed, spread evenly over the split."""

BATCH = 64


def export_integers(network: Network, study: Study, path: Path) -> Integers:
    """Writes a network of a study as an int8 file, calibrated on its training images, and runs it on the test split.

    Raises `InvalidInput` for a study whose images chipfit does not know, and what `export_tflite` raises.
    """
    if study.accuracy is not None:
        raise InvalidInput(
            f"study {study.name} has a training of its own ({study.accuracy}), so chipfit knows no images to calibrate "
            "int8 with; export onnx, or call chipfit.nets.tflite.exporter.export_tflite with ranges of your own"
        )
    task = task_of(study.task)
    in_float = _written(network, list(_calibration(task, network)), path)
    return _compared(network, task, path, in_float)


def _written(network: Network, samples: Sequence[Samples], path: Path) -> tuple[str, ...]:
    """Writes the int8 file of a network, calibrated on samples; gives the nodes that it computes in float32."""
    from chipfit.nets.tflite.calibrate import activation_ranges, without_silent_weights
    from chipfit.nets.tflite.exporter import export_tflite

    ranges = activation_ranges(network, samples)
    return export_tflite(without_silent_weights(network, samples, ranges), path, ranges=ranges)


def quantised(setting: Setting, job: Quantising) -> Quantised:
    """Does a job in this process; what cannot be written or run says why. Raises `StorageFull`."""
    try:
        name = f"{setting.study.name}-{job.number}"
        network = Network(name, setting.space.close(job.code), load_weights(job.weights))
        found = export_integers(network, setting.study, job.file)
    except StorageFull:
        raise
    except (ChipfitError, RuntimeError, MemoryError) as error:
        return Quantised(job.number, why=" ".join(str(error).split()) or type(error).__name__)
    return Quantised(job.number, job.file.stat().st_size, found)


@dataclass(frozen=True, slots=True)
class Deviations:
    """How far the outputs of an int8 file are from those of the network that it was made from, on `images` test images.

    Deviations are absolute, of outputs that span `span`; `agreement` is the share of images on which the largest output
    is the same one, NaN where an image has more than one row of outputs. `calibrated` says on how many images ranges
    were observed, `in_float` which nodes the file computes in float32, `unchecked` why it was not run.
    """

    calibrated: int
    images: int
    mean_deviation: float
    largest_deviation: float
    span: float
    agreement: float
    in_float: tuple[str, ...]
    unchecked: str = ""


def export_calibrated(network: Network, task: Task, path: Path) -> Deviations:
    """Writes a network as an int8 file, calibrated on training images of a task, and runs it on test images.

    What the task asks of its outputs does not matter: only the images count. Raises `InvalidInput` for a network that
    does not take just one image, or images of other channels, and what `export_tflite` raises.
    """
    import torch

    taken = [item.shape for item in network.graph.inputs if len(item.shape) == 4]
    if len(taken) != 1 or len(network.graph.inputs) != 1:
        raise InvalidInput(
            f"{network.name}: int8 is calibrated on images, but this network does not take just one image; leave the "
            "data out for a float32 file, or call chipfit.nets.tflite.exporter.export_tflite with ranges of your own"
        )
    batches = list(_calibration(task, network))
    in_float = _written(network, batches, path)
    calibrated, apart, alike = sum(map(len, batches)), _Apart(), list[torch.Tensor]()
    images = 0
    try:
        for given, found, _ in _both(network, task, path):
            apart.add(given, found)
            one, other = (each[0] if isinstance(each, tuple) else each for each in (given, found))
            images += len(other)
            if other.ndim == 2:
                alike.append(one.argmax(1) == other.argmax(1))
    except MissingDependency as error:
        nothing = float("nan")
        return Deviations(calibrated, 0, nothing, nothing, nothing, nothing, in_float, str(error))
    return Deviations(
        calibrated=calibrated,
        images=images,
        mean_deviation=apart.total / apart.count,
        largest_deviation=apart.largest,
        span=apart.highest - apart.lowest,
        agreement=float(torch.cat(alike).double().mean()) if alike else float("nan"),
        in_float=in_float,
    )


def _size(network: Network) -> tuple[int, int]:
    _, _, height, width = network.graph.inputs[0].shape
    return int(height), int(width)  # type: ignore[arg-type]


def _calibration(task: Task, network: Network) -> Iterator[NDArray[np.float32]]:
    """Training images as stored, every so many-th of them, in batches."""
    step = max(1, task.sizes["train"] // CALIBRATION_IMAGES)
    chosen: list[NDArray[np.float32]] = []
    for inputs, _ in task.batches("train", BATCH * step, _size(network)):
        chosen.append(inputs.numpy()[::step])
        if sum(map(len, chosen)) >= CALIBRATION_IMAGES:
            break
    yield from chosen


def _both(network: Network, task: Task, path: Path) -> Iterator[tuple[Outputs, Outputs, torch.Tensor]]:
    """What the written file and the network give on the test split, and the targets, batch by batch.

    Raises `MissingDependency`.
    """
    import torch

    from chipfit.nets.module import GraphModule
    from chipfit.nets.tflite.runtime import run_tflite

    module = GraphModule(network.graph, network.weights).eval()
    for inputs, labels in task.batches("test", BATCH, _size(network)):
        given = tuple(torch.from_numpy(output) for output in run_tflite(path, inputs.numpy()))
        with torch.inference_mode():
            found = module(inputs)
        yield given if isinstance(found, tuple) else given[0], found, labels


def _compared(network: Network, task: Task, path: Path, in_float: tuple[str, ...]) -> Integers:
    """The written file and the network on the test split."""
    import torch

    integer: list[torch.Tensor] = []
    real: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    apart = _Apart()
    try:
        for given, found, labels in _both(network, task, path):
            apart.add(given, found)
            integer.append(task.read(given))
            real.append(task.read(found))
            targets.append(labels)
    except MissingDependency as error:
        nothing = float("nan")
        return Integers(0, task.metric, {}, {}, nothing, nothing, nothing, in_float, str(error))
    labels = torch.cat(targets)
    return Integers(
        images=len(labels),
        metric=task.metric,
        integer=task.metrics(torch.cat(integer), labels),
        real=task.metrics(torch.cat(real), labels),
        mean_deviation=apart.total / apart.count,
        largest_deviation=apart.largest,
        span=apart.highest - apart.lowest,
        in_float=in_float,
    )


@dataclass(slots=True)
class _Apart:
    """How far the outputs of two networks are apart, over all batches."""

    total: float = 0.0
    count: int = 0
    largest: float = 0.0
    lowest: float = math.inf
    highest: float = -math.inf

    def add(self, given: Outputs, wanted: Outputs) -> None:
        ours, theirs = (each if isinstance(each, tuple) else (each,) for each in (given, wanted))
        for one, other in zip(ours, theirs, strict=True):
            difference = (one - other).abs()
            self.total += float(difference.double().sum())
            self.count += difference.numel()
            self.largest = max(self.largest, float(difference.max()))
            self.lowest = min(self.lowest, float(other.min()))
            self.highest = max(self.highest, float(other.max()))
