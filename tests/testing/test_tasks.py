"""`check_task` passes sound tasks and catches each way of breaking the promise."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chipfit.errors import InvalidInput
from chipfit.tasks.rooms import rooms
from chipfit.tasks.vision import ImageClassification
from chipfit.testing.tasks import check_task


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> ImageClassification:
    cache: Path = tmp_path_factory.mktemp("cache")
    return rooms(train=80, validation=40, test=10, size=32, cache=cache)


@dataclass
class Broken:
    """A sound task with some of its parts replaced."""

    inner: ImageClassification
    parts: dict[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self.parts[name] if name in self.parts else getattr(self.inner, name)


def test_sound_tasks_pass(sound: ImageClassification) -> None:
    check_task(sound)
    check_task(Broken(sound, {}))


def with_batches(change: Callable[..., Any]) -> Callable[[ImageClassification], dict[str, Any]]:
    def parts(task: ImageClassification) -> dict[str, Any]:
        def batches(split, batch_size, size=None, generator=None):
            for inputs, targets in task.batches(split, batch_size, size, generator):
                yield change(split, inputs, generator), targets

        return {"batches": batches}

    return parts


def noisy(split, inputs, generator):
    return inputs + torch.from_numpy(np.random.default_rng().normal(0, 1e-3, inputs.shape).astype(np.float32))


def augmented_outside_training(split, inputs, generator):
    return inputs if generator is None else inputs * float(generator.uniform(0.5, 1))


def ignores_generator(task: ImageClassification) -> dict[str, Any]:
    return {"batches": lambda split, batch_size, size=None, generator=None: task.batches(split, batch_size, size)}


def ignores_size(task: ImageClassification) -> dict[str, Any]:
    return {
        "batches": lambda split, batch_size, size=None, generator=None: task.batches(split, batch_size, None, generator)
    }


def refuses_sizes(task: ImageClassification) -> dict[str, Any]:
    def batches(split, batch_size, size=None, generator=None):
        if size is not None:
            raise InvalidInput("no size suits")
        return task.batches(split, batch_size, size, generator)

    return {"batches": batches}


def any_metrics(predictions, targets):
    return {"accuracy": 0.5, "accuracy_standard_error": 0.1}


def leaks(task: ImageClassification) -> dict[str, Any]:
    def batches(split, batch_size, size=None, generator=None):
        return task.batches("validation" if split == "test" else split, batch_size, size, generator)

    return {"batches": batches, "sizes": {**task.sizes, "test": task.sizes["validation"]}}


@pytest.mark.parametrize(
    ("parts", "words"),
    [
        (lambda task: {"source": ""}, "source"),
        (lambda task: {"classes": ("a", "a")}, "classes"),
        (lambda task: {"sizes": {**task.sizes, "train": 81}}, r"not \(17, 3"),
        (lambda task: {"input_shape": (3, 32, 31)}, "inputs have shape"),
        (with_batches(lambda split, inputs, generator: inputs.double()), "not float32"),
        (with_batches(lambda split, inputs, generator: inputs * 255), "normalise"),
        (with_batches(lambda split, inputs, generator: inputs / 0), "not finite"),
        (with_batches(noisy), "two passes without a generator"),
        (with_batches(augmented_outside_training), "changes the examples"),
        (ignores_generator, "two seeds"),
        (ignores_size, "inputs of shape"),
        (leaks, "in validation and in test"),
        (lambda task: {"loss": lambda outputs, targets: outputs.sum() * 0}, "does not depend"),
        (lambda task: {"loss": lambda outputs, targets: outputs.sum(dim=1)}, "one finite number"),
        (refuses_sizes, "as stored, is refused"),
        (lambda task: {"misfit": lambda shapes: "(1, 3)"}, r"do not fit: \(1, 3\)"),
        (lambda task: {"misfit": lambda shapes: ""}, r"outputs of shapes \[\(1, 2, 1\)\] fit"),
        (lambda task: {"read": lambda outputs: outputs[1:], "metrics": any_metrics}, "32 inputs give 31 predictions"),
        (lambda task: {"read": lambda outputs: outputs - outputs.mean(), "metrics": any_metrics}, "which others are"),
        (lambda task: {"metrics": lambda outputs, targets: {"accuracy": 0.5}}, "accuracy_standard_error"),
        (
            lambda task: {"metrics": lambda outputs, targets: {"accuracy": 50.0, "accuracy_standard_error": 0.1}},
            "outside",
        ),
    ],
)
def test_a_broken_promise_is_named(sound: ImageClassification, parts, words: str) -> None:
    with pytest.raises(AssertionError, match=words):
        check_task(Broken(sound, parts(sound)))


def test_a_task_that_accepts_anything_is_caught(sound: ImageClassification) -> None:
    def batches(split, batch_size, size=None, generator=None):
        return sound.batches(split if split in sound.sizes else "train", max(1, batch_size), size, generator)

    with pytest.raises(AssertionError, match="does not raise InvalidInput"):
        check_task(Broken(sound, {"batches": batches}))
