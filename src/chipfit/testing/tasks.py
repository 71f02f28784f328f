"""Conformance of tasks: what `chipfit.tasks.task.Task` promises."""

import hashlib
import itertools
import math
from collections.abc import Callable

import numpy as np
import torch

from chipfit.errors import InvalidInput
from chipfit.tasks.task import SPLITS, Outputs, Task

Model = Callable[[torch.Tensor], Outputs]

_BATCH_SIZE = 32
_SPREAD_OF_SEEDS = 8
"""Two shuffles of at least this many examples agree less than once in 40,000 times."""


def check_task(task: Task, model: Model | None = None, examples: int = 2000) -> None:
    """Raises AssertionError, with what was wrong, unless `task` keeps what tasks promise.

    Checked: names and sizes; shape, type and range of the inputs, resized ones too; every example once; the same order
    without a generator, the same batches for the same seed; no augmentation outside training; no example of one
    split in another; outputs that fit; a loss that is finite and differentiable; predictions of one length; metrics
    that are finite, the primary one from 0 to 1, and its standard error. Sizes other than the stored may be refused.
    model: inputs to outputs as a network would give them; by default channel means through a random matrix, which gives
    (batch, outputs). examples: so many of each split are read.
    """
    _check_names(task)
    for split in SPLITS:
        _check_inputs(task, split, examples)
        _check_generator(task, split, examples)
    _check_resized(task)
    _check_disjoint(task, examples)
    _check_refusals(task)
    _check_loss_and_metrics(task, model or _channel_means(task))


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _check_names(task: Task) -> None:
    _require(isinstance(task, Task), f"{type(task).__name__} lacks part of Task")
    _require(bool(task.name and task.source and task.metric), f"name {task.name!r}, source or metric is empty")
    _require(len(set(task.classes)) == len(task.classes) > 0, f"classes {task.classes} repeat or are none")
    _require(task.outputs >= 1, f"outputs = {task.outputs}")
    _require(set(task.sizes) == set(SPLITS), f"sizes {task.sizes} do not name {', '.join(SPLITS)}")
    _require(min(task.sizes.values()) >= 1, f"sizes {task.sizes}: a split is empty")
    _require(len(task.input_shape) == 3 and min(task.input_shape) >= 1, f"input_shape {task.input_shape}")
    _require(bool(task.fingerprint) and task.fingerprint == task.fingerprint, "fingerprint is empty or changes")


def _first(
    task: Task, split: str, seed: int | None, size: tuple[int, int] | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = None if seed is None else np.random.default_rng(seed)
    return next(iter(task.batches(split, _BATCH_SIZE, size, generator)))


def _check_inputs(task: Task, split: str, examples: int) -> None:
    """Shape, type, range and number of what comes without a generator."""
    seen = 0
    for inputs, targets in task.batches(split, _BATCH_SIZE):
        where = f"{split} examples {seen} to {seen + len(inputs)}"
        expected = min(_BATCH_SIZE, task.sizes[split] - seen)
        _require(inputs.dtype == torch.float32, f"{where}: inputs are {inputs.dtype}, not float32")
        _require(
            tuple(inputs.shape) == (expected, *task.input_shape),
            f"{where}: inputs have shape {tuple(inputs.shape)}, not {(expected, *task.input_shape)}",
        )
        _require(len(targets) == len(inputs), f"{where}: {len(targets)} targets")
        _require(bool(torch.isfinite(inputs).all()), f"{where}: inputs are not finite")
        _require(float(inputs.abs().max()) < 100, f"{where}: inputs reach {float(inputs.abs().max())}: normalise them")
        seen += len(inputs)
        if seen >= examples:
            return
    _require(seen == task.sizes[split], f"{split} gives {seen} examples, sizes says {task.sizes[split]}")


def _check_generator(task: Task, split: str, examples: int) -> None:
    """Order and augmentation follow the generator alone."""
    for seed in (None, 0):
        for one, other in zip(_first(task, split, seed), _first(task, split, seed), strict=True):
            what = "without a generator" if seed is None else "for the same seed"
            _require(torch.equal(one, other), f"{split}: two passes {what} differ")
    if task.sizes[split] < _SPREAD_OF_SEEDS:
        return
    plain, shuffled, other = (_first(task, split, seed)[0] for seed in (None, 0, 1))
    _require(not torch.equal(shuffled, other), f"{split}: two seeds give the same batch")
    _require(not torch.equal(plain, shuffled), f"{split}: a generator does not shuffle")
    if split != "train" and task.sizes[split] <= examples:
        stored = {content for inputs, _ in task.batches(split, _BATCH_SIZE) for content in _hashes(inputs)}
        _require(stored.issuperset(_hashes(shuffled)), f"{split}: a generator changes the examples, not just the order")


def _check_resized(task: Task) -> None:
    channels, height, width = task.input_shape
    for size in ((height, width), (max(1, height // 2), width + 3)):
        try:
            inputs, _ = _first(task, "validation", None, size)
        except InvalidInput as error:
            _require(size != (height, width), f"size {size}, as stored, is refused: {error}")
            continue
        _require(
            tuple(inputs.shape[1:]) == (channels, *size), f"size {size} gives inputs of shape {tuple(inputs.shape)}"
        )
        _require(inputs.dtype == torch.float32, f"size {size} gives {inputs.dtype}")
        _require(bool(torch.isfinite(inputs).all()), f"size {size} gives inputs that are not finite")


def _hashes(inputs: torch.Tensor) -> list[bytes]:
    return [hashlib.blake2b(np.ascontiguousarray(image.numpy()).data, digest_size=12).digest() for image in inputs]


def _check_disjoint(task: Task, examples: int) -> None:
    contents: dict[str, set[bytes]] = {}
    for split in SPLITS:
        batches = itertools.islice(task.batches(split, _BATCH_SIZE), math.ceil(examples / _BATCH_SIZE))
        contents[split] = {content for inputs, _ in batches for content in _hashes(inputs)}
    for one, other in itertools.combinations(SPLITS, 2):
        shared = len(contents[one] & contents[other])
        _require(shared == 0, f"{shared} examples are in {one} and in {other}")


def _check_refusals(task: Task) -> None:
    for split, batch_size in (("no such split", 1), ("train", 0)):
        try:
            next(iter(task.batches(split, batch_size)))
        except InvalidInput:
            continue
        raise AssertionError(f"batches({split!r}, {batch_size}) does not raise InvalidInput")


def _channel_means(task: Task) -> Model:
    weights = torch.randn(task.input_shape[0], task.outputs, generator=torch.Generator().manual_seed(0))
    return lambda inputs: inputs.mean(dim=(2, 3)) @ weights


def _check_loss_and_metrics(task: Task, model: Model) -> None:
    inputs, targets = _first(task, "validation", None)
    given = model(inputs)
    leaves = [part.detach().requires_grad_() for part in (given if isinstance(given, tuple) else (given,))]
    outputs = tuple(leaves) if isinstance(given, tuple) else leaves[0]
    shapes = [(1, *part.shape[1:]) for part in leaves]
    _require(task.misfit(shapes) == "", f"outputs of shapes {shapes} do not fit: {task.misfit(shapes)}")
    wrong = [(*shape, 1) for shape in shapes]
    _require(task.misfit(wrong) != "", f"outputs of shapes {wrong} fit")
    loss = task.loss(outputs, targets)
    _require(loss.ndim == 0 and bool(torch.isfinite(loss)), f"loss {loss} is not one finite number")
    for gradient in torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True):
        _require(bool(torch.isfinite(gradient).all()), "the gradient of the loss is not finite")
        _require(bool(gradient.abs().sum() > 0), "the loss does not depend on the outputs")
    with torch.no_grad():
        predictions, metrics = _judged(task, outputs, targets)
        halves = [part[: len(inputs) // 2] for part in leaves]
        half = task.read(tuple(halves) if isinstance(given, tuple) else halves[0])
    _require(len(predictions) == len(inputs), f"{len(inputs)} inputs give {len(predictions)} predictions")
    same = half.shape[1:] == predictions.shape[1:] and bool(torch.equal(half, predictions[: len(half)]))
    _require(same, "predictions of some examples depend on which others are in the batch")
    for name in (task.metric, f"{task.metric}_standard_error"):
        _require(name in metrics, f"metrics gives {sorted(metrics)}, but not {name}")
        _require(0 <= metrics[name] <= 1, f"{name} = {metrics[name]} is outside [0, 1]")
    _require(all(math.isfinite(value) for value in metrics.values()), f"metrics {metrics} are not all finite")


def _judged(task: Task, outputs: Outputs, targets: torch.Tensor) -> tuple[torch.Tensor, dict[str, float]]:
    predictions = task.read(outputs)
    return predictions, task.metrics(predictions, targets)
