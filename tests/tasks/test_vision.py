"""Laws of image classification on arrays in memory."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chipfit.errors import InvalidInput
from chipfit.tasks.augment import Augmentation, as_inputs, moved, relit
from chipfit.tasks.vision import ImageClassification

STILL = Augmentation(shift=0, flip=False, brightness=0, contrast=0)


def noise_task(augmentation: Augmentation = STILL, **changes) -> ImageClassification:
    rng = np.random.default_rng(0)
    counts = {"train": 21, "validation": 9, "test": 8}
    values = {
        "name": "noise",
        "classes": ("a", "b", "c"),
        "images": {s: rng.integers(0, 256, (n, 10, 12, 3), dtype=np.uint8) for s, n in counts.items()},
        "labels": {s: rng.integers(0, 3, n) for s, n in counts.items()},
        "source": "random numbers",
        "augmentation": augmentation,
    }
    return ImageClassification(**{**values, **changes})


def joined(task: ImageClassification, *arguments, **named) -> tuple[torch.Tensor, torch.Tensor]:
    inputs, targets = zip(*task.batches(*arguments, **named), strict=True)
    return torch.cat(inputs), torch.cat(targets)


@given(st.integers(1, 30), st.sampled_from(["train", "validation", "test"]))
def test_batches_are_the_images_in_order(batch_size: int, split: str) -> None:
    task = noise_task()
    inputs, targets = joined(task, split, batch_size)
    images = np.rint((inputs.numpy().transpose(0, 2, 3, 1) + 1) * 127.5)
    assert np.array_equal(images, task.images[split])
    assert np.array_equal(targets.numpy(), task.labels[split])


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_a_shuffled_split_holds_the_same_pairs(split: str) -> None:
    task = noise_task()
    plain, plain_targets = joined(task, split, 4)
    mixed, mixed_targets = joined(task, split, 4, generator=np.random.default_rng(5))
    assert not torch.equal(plain, mixed)

    def pairs(inputs, targets):
        return sorted((image.numpy().tobytes(), int(label)) for image, label in zip(inputs, targets, strict=True))

    assert pairs(plain, plain_targets) == pairs(mixed, mixed_targets)


def test_only_training_images_are_augmented_and_only_with_a_generator() -> None:
    plain, lively = noise_task(), noise_task(Augmentation())
    for split in ("train", "validation", "test"):
        assert torch.equal(joined(plain, split, 4)[0], joined(lively, split, 4)[0])
    for split, same in (("train", False), ("validation", True), ("test", True)):
        one = joined(plain, split, 4, generator=np.random.default_rng(1))[0]
        other = joined(lively, split, 4, generator=np.random.default_rng(1))[0]
        assert torch.equal(one, other) is same


@given(st.integers(0, 2**32), st.floats(0, 0.5), st.booleans())
def test_moved_images_are_windows_of_the_padded_originals(seed: int, shift: float, flip: bool) -> None:
    images = np.random.default_rng(seed).integers(0, 256, (3, 8, 6, 3), dtype=np.uint8)
    out = moved(images, Augmentation(shift=shift, flip=flip), np.random.default_rng(seed))
    tall, wide = int(shift * 8), int(shift * 6)
    for image, got in zip(images, out, strict=True):
        padded = np.pad(image, ((tall, tall), (wide, wide), (0, 0)), mode="edge")
        windows = [padded[y : y + 8, x : x + 6] for y in range(2 * tall + 1) for x in range(2 * wide + 1)]
        windows += [window[:, ::-1] for window in windows] if flip else []
        assert any(np.array_equal(window, got) for window in windows)


def test_relit_inputs_stay_in_range_and_differ_from_image_to_image() -> None:
    inputs = as_inputs(np.full((16, 4, 4, 3), 180, dtype=np.uint8))
    out = relit(inputs.clone(), Augmentation(), np.random.default_rng(0))
    assert float(out.abs().max()) <= 1
    assert len(out[:, 0, 0, 0].unique()) == 16
    assert torch.equal(out.amax(dim=(1, 2, 3)), out.amin(dim=(1, 2, 3)))


def test_resizing_keeps_what_an_image_shows() -> None:
    ramp = np.broadcast_to(np.linspace(0, 255, 12).astype(np.uint8)[None, None, :, None], (2, 10, 12, 3)).copy()
    images = dict.fromkeys(("train", "validation", "test"), ramp)
    labels = {split: np.array([0, 1]) for split in images}
    task = noise_task(images=images, labels=labels)
    for size in ((5, 6), (20, 24), (10, 12)):
        inputs, _ = joined(task, "test", 2, size)
        assert tuple(inputs.shape) == (2, 3, *size)
        assert bool((inputs.diff(dim=3) > 0).all())
        assert float(inputs.mean()) == pytest.approx(float(joined(task, "test", 2)[0].mean()), abs=0.01)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=50))
def test_accuracy_is_the_share_of_hits(pairs: list[tuple[int, int]]) -> None:
    guesses, targets = (torch.tensor(column) for column in zip(*pairs, strict=True))
    metrics = noise_task().metrics(torch.nn.functional.one_hot(guesses, 3).float(), targets)
    share = sum(guess == target for guess, target in pairs) / len(pairs)
    assert metrics["accuracy"] == pytest.approx(share)
    assert 0 < metrics["accuracy_standard_error"] < 0.25


def test_the_standard_error_is_that_of_many_repeats() -> None:
    rng, task, share = np.random.default_rng(0), noise_task(), 0.8
    runs = []
    for _ in range(400):
        outputs = torch.zeros(250, 3)
        outputs[:, 0] = torch.from_numpy(np.where(rng.random(250) < share, 1.0, -1.0))
        runs.append(task.metrics(outputs, torch.zeros(250, dtype=torch.int64)))
    spread = np.std([run["accuracy"] for run in runs])
    assert runs[0]["accuracy_standard_error"] == pytest.approx(spread, rel=0.15)
    assert runs[0]["accuracy_standard_error"] == pytest.approx(math.sqrt(share * (1 - share) / 250), rel=0.15)


def test_label_smoothing_punishes_certainty() -> None:
    outputs, targets = torch.tensor([[30.0, 0.0, 0.0]]), torch.tensor([0])
    assert float(noise_task().loss(outputs, targets)) < 1e-6
    assert float(noise_task(label_smoothing=0.1).loss(outputs, targets)) > 1


def test_the_fingerprint_follows_data_and_splits_alone() -> None:
    task = noise_task()
    assert task.fingerprint == noise_task(Augmentation(), name="other", source="elsewhere").fingerprint
    images = {split: array.copy() for split, array in task.images.items()}
    images["test"][0, 0, 0, 0] ^= 1
    labels = {split: array.copy() for split, array in task.labels.items()}
    labels["train"][0] = (labels["train"][0] + 1) % 3
    changed = [noise_task(images=images), noise_task(labels=labels), noise_task(classes=("a", "b", "d"))]
    assert len({task.fingerprint, *(other.fingerprint for other in changed)}) == 4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(("half", 4), "unknown split"), (("train", 0), "batch size 0"), (("train", 4, (0, 5)), "input size")],
)
def test_bad_requests_are_refused_at_once(arguments, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        noise_task().batches(*arguments)


def test_contradictions_are_refused() -> None:
    good = noise_task()
    train = good.images["train"]
    bad = [
        {"classes": ("only",)},
        {"label_smoothing": 1.0},
        {"images": {"train": train, "test": good.images["test"]}},
        {"images": {**good.images, "train": train.astype(np.float32)}},
        {"images": {**good.images, "test": good.images["test"][:, :5]}},
        {"labels": {**good.labels, "test": good.labels["test"][:-1]}},
        {"labels": {**good.labels, "test": good.labels["test"] + 3}},
        {"labels": {**good.labels, "test": good.labels["test"] - 3}},
        {"images": {**good.images, "test": train[:0]}, "labels": {**good.labels, "test": good.labels["test"][:0]}},
    ]
    for changes in bad:
        with pytest.raises(InvalidInput, match="task noise"):
            noise_task(**changes)
    for outputs, targets in (((0, 3), 0), ((4, 2), 4), ((4, 3), 5)):
        with pytest.raises(InvalidInput, match="outputs"):
            good.metrics(torch.zeros(outputs), torch.zeros(targets, dtype=torch.int64))
    with pytest.raises(InvalidInput, match="shift"):
        Augmentation(shift=1.0)
