"""A result as an int8 TFLite file: calibrated on images of its task, run, and compared with the network itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput, MissingDependency
from chipfit.nets.network import Network
from chipfit.run.study import Study
from chipfit.run.workers import task_of
from chipfit.tasks.task import Task

if TYPE_CHECKING:
    import torch

CALIBRATION_IMAGES = 256
"""Training images on which ranges are observed, spread evenly over the split."""

BATCH = 64


@dataclass(frozen=True, slots=True)
class Integers:
    """How an int8 file does beside the network that it was made from.

    `integer` and `real` are the task's metrics of both on all `images` of the test split, empty where `unchecked` says
    why the file was not run. Deviations are absolute, of the network's outputs, which span `span`. `in_float` are nodes
    that the file computes in float32.
    """

    images: int
    metric: str
    integer: Mapping[str, float]
    real: Mapping[str, float]
    mean_deviation: float
    largest_deviation: float
    span: float
    in_float: tuple[str, ...]
    unchecked: str = ""


def export_integers(network: Network, study: Study, path: Path) -> Integers:
    """Writes a network of a study as an int8 file, calibrated on its training images, and runs it on the test split.

    Raises `InvalidInput` for a study whose images chipfit does not know, and what `export_tflite` raises.
    """
    from chipfit.nets.tflite.calibrate import activation_ranges
    from chipfit.nets.tflite.exporter import export_tflite

    if study.accuracy is not None:
        raise InvalidInput(
            f"study {study.name} has a training of its own ({study.accuracy}), so chipfit knows no images to calibrate "
            "int8 with; export onnx, or call chipfit.nets.tflite.exporter.export_tflite with ranges of your own"
        )
    task = task_of(study.task)
    ranges = activation_ranges(network, _calibration(task, network))
    in_float = export_tflite(network, path, ranges=ranges)
    return _compared(network, task, path, in_float)


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
    from chipfit.nets.tflite.calibrate import activation_ranges
    from chipfit.nets.tflite.exporter import export_tflite

    images = [item.shape for item in network.graph.inputs if len(item.shape) == 4]
    if len(images) != 1 or len(network.graph.inputs) != 1:
        raise InvalidInput(
            f"{network.name}: int8 is calibrated on images, but this network does not take just one image; leave the "
            "data out for a float32 file, or call chipfit.nets.tflite.exporter.export_tflite with ranges of your own"
        )
    batches = list(_calibration(task, network))
    in_float = export_tflite(network, path, ranges=activation_ranges(network, batches))
    calibrated = sum(map(len, batches))
    nothing = float("nan")
    try:
        outputs, real, _ = _outputs(network, task, path)
    except MissingDependency as error:
        return Deviations(calibrated, 0, nothing, nothing, nothing, nothing, in_float, str(error))
    apart = (outputs - real).abs()
    same = (outputs.argmax(1) == real.argmax(1)).double().mean() if real.ndim == 2 else nothing
    return Deviations(
        calibrated=calibrated,
        images=len(real),
        mean_deviation=float(apart.mean()),
        largest_deviation=float(apart.max()),
        span=float(real.max() - real.min()),
        agreement=float(same),
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


def _outputs(network: Network, task: Task, path: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """What the written file and the network give on the test split, and the targets. Raises `MissingDependency`."""
    import torch

    from chipfit.nets.module import GraphModule
    from chipfit.nets.tflite.runtime import run_tflite

    module = GraphModule(network.graph, network.weights).eval()
    given: list[torch.Tensor] = []
    wanted: list[torch.Tensor] = []
    targets: list[torch.Tensor] = []
    for inputs, labels in task.batches("test", BATCH, _size(network)):
        given.append(torch.from_numpy(run_tflite(path, inputs.numpy())[0]))
        with torch.inference_mode():
            found = module(inputs)
        wanted.append(found[0] if isinstance(found, tuple) else found)
        targets.append(labels)
    return torch.cat(given), torch.cat(wanted), torch.cat(targets)


def _compared(network: Network, task: Task, path: Path, in_float: tuple[str, ...]) -> Integers:
    """The written file and the network on the test split."""
    try:
        outputs, real, labels = _outputs(network, task, path)
    except MissingDependency as error:
        nothing = float("nan")
        return Integers(0, task.metric, {}, {}, nothing, nothing, nothing, in_float, str(error))
    apart = (outputs - real).abs()
    return Integers(
        images=len(labels),
        metric=task.metric,
        integer=task.metrics(outputs, labels),
        real=task.metrics(real, labels),
        mean_deviation=float(apart.mean()),
        largest_deviation=float(apart.max()),
        span=float(real.max() - real.min()),
        in_float=in_float,
    )
