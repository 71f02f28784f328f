"""Segmentation from folders: layouts of real data sets, and what is named when a file is wrong."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chipfit.errors import InvalidInput
from chipfit.tasks.mask_files import mask_folder
from chipfit.tasks.segmentation import IGNORED


def pair(image: Path, mask: Path, seed: int, *, palette: bool = False, size: tuple[int, int] = (12, 8)) -> None:
    rng = np.random.default_rng(seed)
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(image)
    values = Image.fromarray(rng.integers(0, 3, (size[1], size[0]), dtype=np.uint8))
    if palette:
        values = values.convert("P")
        values.putdata(rng.integers(0, 3, size[0] * size[1]).tolist())
    values.save(mask)


def flat(root: Path, count: int = 10, first: int = 0) -> Path:
    for index in range(first, first + count):
        pair(root / "images" / f"{index}.png", root / "masks" / f"{index}.png", index)
    return root


def test_pairs_are_read_as_they_are(tmp_path: Path) -> None:
    task = mask_folder(flat(tmp_path / "data"), cache=tmp_path)
    assert task.sizes == {"train": 6, "validation": 2, "test": 2}
    assert task.classes == ("class 0", "class 1", "class 2")
    assert task.input_shape == (3, 8, 12)
    assert task.weights is not None
    pairs = {
        (
            Image.open(tmp_path / "data/images" / f"{i}.png").tobytes(),
            Image.open(tmp_path / "data/masks" / f"{i}.png").tobytes(),
        )
        for i in range(10)
    }
    found = {
        (image.tobytes(), mask.tobytes())
        for s in task.images
        for image, mask in zip(task.images[s], task.masks[s], strict=True)
    }
    assert found == pairs


def test_camvid_with_names_and_a_value_that_does_not_count(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("val", 4), ("test", 6)):
        for index in range(first, first + 2 + 2 * (first == 0)):
            name = f"0001TP_{index}"
            pair(tmp_path / split / f"{name}.png", tmp_path / f"{split}annot" / f"{name}.png", index, palette=True)
    (tmp_path / "classes.txt").write_text("sky\nroad\n2 void\n")
    task = mask_folder(tmp_path, cache=tmp_path / "cache", weighted=False)
    assert task.classes == ("sky", "road")
    assert task.sizes == {"train": 4, "validation": 2, "test": 2}
    assert task.weights is None
    assert set(np.unique(task.masks["train"])) == {0, 1, IGNORED}


def test_cityscapes_names_and_folders(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("val", 3), ("test", 5)):
        for index in range(first, first + 2 + (first == 0)):
            stem = f"aachen_{index:06d}_000019"
            masks = tmp_path / "gtFine" / split / "aachen"
            pair(
                tmp_path / "leftImg8bit" / split / "aachen" / f"{stem}_leftImg8bit.png",
                masks / f"{stem}_gtFine_labelTrainIds.png",
                index,
            )
            for other in ("color", "labelIds", "instanceIds"):
                Image.new("RGBA", (12, 8)).save(masks / f"{stem}_gtFine_{other}.png")
    task = mask_folder(tmp_path, size=8, cache=tmp_path / "cache")
    assert task.sizes == {"train": 3, "validation": 2, "test": 2}
    assert task.input_shape == (3, 8, 8)


def test_labels_are_never_mixed_by_scaling(tmp_path: Path) -> None:
    flat(tmp_path / "data")
    for index in range(10):
        mask = np.zeros((8, 12), np.uint8)
        mask[:, index % 8 :] = 200
        Image.fromarray(mask).save(tmp_path / "data" / "masks" / f"{index}.png")
    task = mask_folder(tmp_path / "data", size=17, cache=tmp_path)
    assert set(np.unique(task.masks["train"])) == {0, 200}


FAULTS = {
    "no mask": (lambda root: (root / "masks" / "3.png").unlink(), r"3\.png: there is no mask 3\.png"),
    "no picture": (lambda root: (root / "images" / "3.png").unlink(), r"3\.png: there is no picture of its name"),
    "corrupt mask": (lambda root: (root / "masks" / "3.png").write_bytes(b"x"), r"3\.png: not a readable mask"),
    "corrupt image": (lambda root: (root / "images" / "3.png").write_bytes(b"x"), r"3\.png: not a readable image"),
    "colours": (lambda root: Image.new("RGB", (12, 8)).save(root / "masks" / "3.png"), "its mode is RGB, not L or P"),
    "unknown": (lambda root: Image.new("L", (12, 8), 7).save(root / "masks" / "3.png"), "holds class 7, of 3 classes"),
    "empty": (lambda root: Image.new("L", (12, 8), 255).save(root / "masks" / "3.png"), "no pixel of this mask counts"),
}


@pytest.mark.parametrize(("damage", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_bad_items_are_refused_or_skipped_as_the_user_chooses(tmp_path: Path, damage, words: str) -> None:
    root = flat(tmp_path / "data")
    (root / "classes.txt").write_text("a\nb\nc\n")
    damage(root)
    with pytest.raises(InvalidInput, match=words) as caught:
        mask_folder(root, cache=tmp_path)
    assert "\n" not in str(caught.value)
    task = mask_folder(root, on_bad="skip", cache=tmp_path)
    assert sum(task.sizes.values()) == 9
    assert len(task.skipped) == 1
    assert "3.png" in task.skipped[0]


def test_sizes_that_differ_need_one_to_scale_to(tmp_path: Path) -> None:
    root = flat(tmp_path / "data")
    for index in range(10):
        Image.new("L", (6, 4), index % 3).save(root / "masks" / f"{index}.png")
    with pytest.raises(InvalidInput, match="masks are 6x4 pixels, the images 12x8; give a size"):
        mask_folder(root, cache=tmp_path)
    assert mask_folder(root, size=8, cache=tmp_path).input_shape == (3, 8, 8)


def test_a_picture_in_two_splits_is_named(tmp_path: Path) -> None:
    for split, first in (("train", 0), ("val", 3), ("test", 6)):
        for index in range(first, first + 4):
            pair(tmp_path / split / "images" / f"{index}.png", tmp_path / split / "masks" / f"{index}.png", index)
    with pytest.raises(InvalidInput, match=r"6\.png: it is in validation and, as .*6\.png, in test"):
        mask_folder(tmp_path, cache=tmp_path / "cache")
    assert mask_folder(tmp_path, on_bad="skip", cache=tmp_path / "cache").sizes["test"] == 4


@pytest.mark.parametrize(
    ("folders", "words"),
    [((), "no folders images and masks"), (("images", "masks"), "no pictures with masks")],
)
def test_folders_without_data_are_named(tmp_path: Path, folders: tuple[str, ...], words: str) -> None:
    for name in folders:
        (tmp_path / name).mkdir()
    with pytest.raises(InvalidInput, match=words):
        mask_folder(tmp_path)
    with pytest.raises(InvalidInput, match="no such folder"):
        mask_folder(tmp_path / "none")
    flat(tmp_path)
    (tmp_path / "classes.txt").write_text("a\na\n")
    with pytest.raises(InvalidInput, match="two or more different ones"):
        mask_folder(tmp_path, cache=tmp_path)
