"""Rendered rooms with boxes and masks are the scenes of the renderer."""

from pathlib import Path

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.tasks.rendered import rooms_with_boxes, rooms_with_masks
from chipfit.tasks.rooms import render

COUNTS = {"train": 4, "validation": 3, "test": 2}


def test_images_boxes_and_masks_are_those_of_the_scenes(tmp_path: Path) -> None:
    boxes, masks = (make(COUNTS, 3, 48, tmp_path) for make in (rooms_with_boxes, rooms_with_masks))
    for split, count in COUNTS.items():
        for index in range(count):
            scene = render(3, split, index, 48)
            assert np.array_equal(boxes.images[split][index], scene.image)
            assert np.array_equal(masks.images[split][index], scene.image)
            assert np.array_equal(masks.masks[split][index], scene.mask)
            rows = boxes.boxes[split][index]
            assert np.allclose(rows[rows[:, 0] == 0, 1:5] * 48, scene.boxes)
            assert (rows[:, 0] >= 0).sum() == len(scene.boxes)


def test_stored_scenes_are_the_same_and_damaged_ones_are_drawn_again(tmp_path: Path) -> None:
    first = rooms_with_boxes(COUNTS, 3, 32, tmp_path).fingerprint
    drawn: list[int] = []

    def noted(indices):
        for index in indices:
            drawn.append(index)
            yield index

    assert rooms_with_boxes(COUNTS, 3, 32, tmp_path, noted).fingerprint == first
    assert drawn == []
    (tmp_path / "rooms-scenes-3-test-2-32.npz").write_bytes(b"damaged")
    assert rooms_with_boxes(COUNTS, 3, 32, tmp_path, noted).fingerprint == first
    assert drawn == list(range(2))
    with pytest.raises(InvalidInput, match="rooms with 0 test images"):
        rooms_with_boxes({"test": 0}, 3, 32, tmp_path)
