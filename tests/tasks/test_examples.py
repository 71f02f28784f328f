"""Which examples are shown does not depend on any network, and what is shown is what the task reads."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from chipfit.tasks.detection import Detection
from chipfit.tasks.examples import LEAST_SCORE, can_be_shown, first_examples, inputs, picture, seen, truth
from chipfit.tasks.segmentation import IGNORED, Segmentation
from chipfit.tasks.sound import Features
from chipfit.tasks.speech import SoundClassification, Speech
from chipfit.tasks.vision import ImageClassification

COUNT = 5
RNG = np.random.default_rng(0)
IMAGES = {split: RNG.integers(0, 256, (COUNT, 8, 8, 3), dtype=np.uint8) for split in ("train", "validation", "test")}
FEATURES = Features(2000, bands=12)
SOUNDS = {split: np.zeros((COUNT, FEATURES.window + 7 * FEATURES.hop), np.int16) for split in IMAGES}


def detection() -> Detection:
    """Only the second, fourth and fifth test image hold anything."""
    boxes = {split: np.tile(np.array([0, 0.1, 0.2, 0.6, 0.7, 0], np.float32), (COUNT, 2, 1)) for split in IMAGES}
    boxes["test"][:, 1] = (-1, 0, 0, 0, 0, 0)
    boxes["test"][[0, 2], 0] = (-1, 0, 0, 0, 0, 0)
    return Detection("boxes", ("cat",), IMAGES, boxes, "drawn")


def segmentation() -> Segmentation:
    """Only the third and fifth test image hold more than one class that counts."""
    masks = {split: np.zeros((COUNT, 8, 8), np.uint8) for split in IMAGES}
    masks["test"][1, :4] = IGNORED
    masks["test"][[2, 4], 4:] = 1
    masks["test"][4, 0] = IGNORED
    return Segmentation("masks", ("wall", "cat"), IMAGES, masks, "drawn")


def speech() -> Speech:
    texts = {split: np.tile([0, 1, -1], (COUNT, 1)) for split in IMAGES}
    return Speech("speech", ("o", "k"), SOUNDS, texts, FEATURES, "drawn")


def test_the_first_that_hold_something_are_shown() -> None:
    assert first_examples(detection(), 2) == [1, 3]
    assert first_examples(detection(), 9) == [1, 3, 4]
    assert first_examples(segmentation(), 9) == [2, 4]
    assert first_examples(speech(), 3) == [0, 1, 2]


def test_inputs_are_those_of_the_examples_alone() -> None:
    task = detection()
    ((every, _),) = task.batches("test", COUNT, (16, 16))
    torch.testing.assert_close(inputs(task, [1, 4], (16, 16)), every[[1, 4]])
    found = picture(task, 3)
    assert found is not None
    np.testing.assert_array_equal(found, IMAGES["test"][3])
    assert picture(speech(), 0) is None


def test_boxes_are_told_with_their_scores_where_they_are_sure() -> None:
    task = detection()
    assert truth(task, 1).text == "cat"
    assert truth(task, 1).boxes[0].edges == pytest.approx((0.1, 0.2, 0.6, 0.7))
    rows = torch.zeros(100, 6)
    rows[0] = torch.tensor([0.9, 0, 0.25, 0.25, 0.5, 0.5])
    rows[1] = torch.tensor([LEAST_SCORE - 0.01, 0, 0, 0, 1, 1])
    found = seen(task, 1, rows)
    assert (found.text, len(found.boxes)) == ("cat 0.90", 1)
    assert found.boxes[0].edges == (0.25, 0.25, 0.5, 0.5)
    assert seen(task, 1, torch.zeros(100, 6)).text == "nothing"


def test_masks_are_told_by_the_pixels_that_count() -> None:
    task = segmentation()
    wanted = truth(task, 4).mask
    assert wanted is not None
    guess = torch.zeros(8, 8, dtype=torch.uint8)
    # 24 of the 56 pixels that count are of class 0.
    assert seen(task, 4, guess).text == "43 % of the pixels right"
    assert seen(task, 4, torch.from_numpy(wanted)).text == "100 % of the pixels right"


def test_classes_and_texts_are_told_in_words() -> None:
    labels = {split: np.arange(COUNT) % 2 for split in IMAGES}
    images = ImageClassification("halves", ("cat", "dog"), IMAGES, labels, "drawn")
    assert (truth(images, 1).text, seen(images, 1, torch.tensor([2.0, 1.0])).text) == ("dog", "cat")
    sounds = SoundClassification("sounds", ("cat", "dog"), SOUNDS, labels, FEATURES, "drawn")
    assert (truth(sounds, 1).text, seen(sounds, 1, torch.tensor(0)).text) == ("dog", "cat")
    assert (truth(speech(), 0).text, seen(speech(), 0, torch.tensor([1, 1, -1])).text) == ("o k", "k k")
    assert seen(speech(), 0, torch.tensor([-1, -1])).text == "nothing"


def test_what_is_too_large_or_unknown_is_not_shown() -> None:
    assert can_be_shown(detection())
    assert can_be_shown(speech())
    large = {split: np.zeros((1, 600, 600, 3), np.uint8) for split in IMAGES}
    boxes = {split: detection().boxes["train"][:1] for split in IMAGES}
    assert not can_be_shown(replace(detection(), images=large, boxes=boxes))
    assert not can_be_shown(SimpleNamespace(name="mine"))  # type: ignore[arg-type]
