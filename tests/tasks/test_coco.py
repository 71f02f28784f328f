"""Detection from COCO's format: what is read, what is named when it is wrong, how splits are made."""

import json
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from chipfit.errors import InvalidInput
from chipfit.tasks.coco import coco_files
from chipfit.tasks.detection import Detection

CATEGORIES = [{"id": 7, "name": "cat"}, {"id": 3, "name": "dog"}]


def picture(path: Path, width: int, height: int, seed: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


def written(root: Path, count: int = 10, first: int = 0, width: int = 40, height: int = 20) -> dict[str, Any]:
    """COCO content for `count` images that are written to root/images, two boxes each."""
    images, annotations = [], []
    for index in range(first, first + count):
        picture(root / "images" / f"{index}.png", width, height, index)
        images.append({"id": 100 + index, "file_name": f"{index}.png", "width": width, "height": height})
        for number, (category, box) in enumerate([(7, [4, 2, 20, 10]), (3, [30.5, 5, 9.5, 15])]):
            annotations.append(
                {"id": 2 * index + number, "image_id": 100 + index, "category_id": category, "bbox": box, "iscrowd": 0}
            )
    return {"images": images, "annotations": annotations, "categories": CATEGORIES}


def save(content: Any, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def boxes(task: Detection) -> list[list[float]]:
    """All boxes of all splits that are there."""
    return [row.tolist() for part in task.boxes.values() for image in part for row in image if row[0] >= 0]


def test_images_and_boxes_are_read(tmp_path: Path) -> None:
    file = save(written(tmp_path), tmp_path / "annotations.json")
    task = coco_files(f"{file},{tmp_path / 'images'}", cache=tmp_path / "cache")
    assert task.classes == ("dog", "cat")
    assert task.sizes == {"train": 6, "validation": 2, "test": 2}
    assert task.input_shape == (3, 20, 40)
    assert task.skipped == ()
    originals = {Image.open(path).tobytes() for path in (tmp_path / "images").iterdir()}
    assert {image.tobytes() for part in task.images.values() for image in part} == originals
    found = boxes(task)
    assert len(found) == 20
    assert found[0] == pytest.approx([1, 0.1, 0.1, 0.6, 0.6, 0])
    assert found[1] == pytest.approx([0, 30.5 / 40, 0.25, 1, 1, 0])
    for where in (tmp_path, file):
        assert coco_files(where, cache=tmp_path / "cache").fingerprint == task.fingerprint
    assert coco_files(tmp_path, seed=1, cache=tmp_path / "cache").fingerprint != task.fingerprint


def test_stretched_images_keep_their_boxes(tmp_path: Path) -> None:
    save(written(tmp_path), tmp_path / "annotations.json")
    task = coco_files(tmp_path, size=16, limits={"train": 3}, cache=tmp_path / "cache")
    assert task.input_shape == (3, 16, 16)
    assert task.sizes["train"] == 3
    assert boxes(task)[0] == pytest.approx([1, 0.1, 0.1, 0.6, 0.6, 0])


def test_the_users_splits_are_kept(tmp_path: Path) -> None:
    for name, (count, first) in {"train": (4, 0), "val": (2, 4), "test": (3, 6)}.items():
        save(written(tmp_path, count, first), tmp_path / "annotations" / f"instances_{name}2017.json")
    task = coco_files(tmp_path, cache=tmp_path / "cache")
    assert task.sizes == {"train": 4, "validation": 2, "test": 3}


def test_an_image_in_two_splits_is_named(tmp_path: Path) -> None:
    save(written(tmp_path, 4, 0), tmp_path / "train.json")
    save(written(tmp_path, 3, 3), tmp_path / "val.json")
    save(written(tmp_path, 3, 6), tmp_path / "test.json")
    with pytest.raises(InvalidInput, match=r"3\.png: it is in train and, as .*3\.png, in validation"):
        coco_files(tmp_path, cache=tmp_path / "cache")
    task = coco_files(tmp_path, on_bad="skip", cache=tmp_path / "cache")
    assert task.sizes == {"train": 3, "validation": 3, "test": 3}
    assert len(task.skipped) == 1


def test_the_same_picture_twice_never_lands_in_two_splits(tmp_path: Path) -> None:
    content = written(tmp_path)
    for index in range(10):
        picture(tmp_path / "images" / f"{index}.png", 40, 20, index // 5)
    save(content, tmp_path / "annotations.json")
    with pytest.raises(InvalidInput, match="train split has no images"):
        coco_files(tmp_path, cache=tmp_path / "cache")


FAULTS = {
    "unknown class": ({"annotations": {0: {"category_id": 9}}}, "unknown class id 9; known are 3, 7", 19, 10),
    "unknown image": ({"annotations": {0: {"image_id": 9}}}, "unknown image id 9", 19, 10),
    "twice": ({"annotations": {1: {"id": 0}}}, "its id appears twice", 19, 10),
    "outside": ({"annotations": {0: {"bbox": [50, 2, 5, 5]}}}, "is less than a pixel of its image", 19, 10),
    "partly outside": ({"annotations": {0: {"bbox": [30, 2, 20, 5]}}}, "is partly outside its image", 20, 10),
    "empty": ({"annotations": {0: {"bbox": [5, 5, 0, 5]}}}, "is empty", 19, 10),
    "no box": ({"annotations": {0: {"bbox": [5, 5, 2]}}}, r"is not \[left, top, width, height\]", 19, 10),
    "no file": ({"images": {0: {"file_name": "x.png"}}}, r"there is no file x\.png in", 18, 9),
    "same id": ({"images": {1: {"id": 100}}}, r"its id or its file 1\.png appears twice", 18, 9),
    "no size": ({"images": {0: {"width": 0}}}, "width 0 and height 20 are not numbers above 0", 18, 9),
}


@pytest.mark.parametrize(("changes", "words", "left", "images"), FAULTS.values(), ids=FAULTS.keys())
def test_bad_items_are_refused_or_skipped_as_the_user_chooses(
    tmp_path: Path, changes: Any, words: str, left: int, images: int
) -> None:
    content = deepcopy(written(tmp_path))
    for section, rows in changes.items():
        for row, fields in rows.items():
            content[section][row] |= fields
    file = save(content, tmp_path / "annotations.json")
    with pytest.raises(InvalidInput, match=words) as caught:
        coco_files(tmp_path, cache=tmp_path / "cache")
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
    task = coco_files(tmp_path, on_bad="skip", cache=tmp_path / "cache")
    assert sum(task.sizes.values()) == images
    assert any(words.split()[0].strip("\\") in item for item in task.skipped)
    if section == "annotations" or "twice" not in words:
        assert len(boxes(task)) == left


def test_a_corrupt_image_is_named_and_may_be_skipped(tmp_path: Path) -> None:
    save(written(tmp_path), tmp_path / "annotations.json")
    (tmp_path / "images" / "4.png").write_bytes(b"no picture")
    with pytest.raises(InvalidInput, match=r"4\.png: not a readable image"):
        coco_files(tmp_path, cache=tmp_path / "cache")
    task = coco_files(tmp_path, on_bad="skip", cache=tmp_path / "cache")
    assert sum(task.sizes.values()) == 9
    assert "4.png" in task.skipped[0]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "not a readable JSON file"),
        ("[]", "has no list 'images'"),
        ('{"images": [], "annotations": []}', "has no list 'categories'"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1}]}', "give each a name"),
        ('{"images": [], "annotations": [], "categories": []}', "one or more of different names"),
        ('{"images": [], "annotations": [], "categories": [{"id": 1, "name": "a"}]}', "too few items"),
    ],
)
def test_files_that_are_no_coco_are_refused(tmp_path: Path, content: str, words: str) -> None:
    (tmp_path / "annotations.json").write_text(content)
    with pytest.raises(InvalidInput, match=words):
        coco_files(tmp_path, cache=tmp_path / "cache")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    for where, words in ((tmp_path / "none", "no such file or folder"), (tmp_path, r"no train\.json")):
        with pytest.raises(InvalidInput, match=words):
            coco_files(where)
    with pytest.raises(InvalidInput, match="give a COCO annotation file"):
        coco_files(f"{tmp_path / 'none.json'},{tmp_path}")
