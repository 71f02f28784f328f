"""Laws of the loaders, on images written for the test, and on real ones where there are any."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chipfit.errors import InvalidInput
from chipfit.tasks.image_files import image_archive, image_folder
from chipfit.testing.tasks import check_task

COUNTS = {"cat": 30, "dog": 20, "elk": 10}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIPFIT_CACHE", str(tmp_path / "cache"))


def png(index: int, width: int = 12, height: int = 12) -> bytes:
    pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def write_classes(root: Path, counts: dict[str, int], start: int = 0) -> Path:
    number = start
    for name, count in counts.items():
        (root / name).mkdir(parents=True)
        for index in range(count):
            (root / name / f"{index}.png").write_bytes(png(number))
            number += 1
    return root


def write_archive(path: Path, **changes) -> Path:
    files = [png(index) for index in range(60)]
    arrays = {
        "jpeg": np.frombuffer(b"".join(files), dtype=np.uint8),
        "offsets": np.concatenate([[0], np.cumsum([len(file) for file in files])]),
        "labels": np.repeat([0, 1, 2], list(COUNTS.values())),
        "classes": np.array(list(COUNTS)),
    }
    arrays.update(changes)
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


def test_a_folder_is_split_class_by_class(tmp_path: Path) -> None:
    task = image_folder(write_classes(tmp_path / "pets", COUNTS), validation=0.2, test=0.2)
    assert task.classes == ("cat", "dog", "elk")
    assert task.sizes == {"train": 36, "validation": 12, "test": 12}
    for split, size in task.sizes.items():
        counts = np.bincount(task.labels[split], minlength=3)
        assert np.abs(counts - np.array([3, 2, 1]) * size / 6).max() <= 1
    check_task(task)


def test_pixels_and_labels_stay_together(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", COUNTS)
    task = image_folder(root)
    known = {np.asarray(Image.open(file)).tobytes(): name for name in COUNTS for file in (root / name).glob("*.png")}
    seen = [
        (image.tobytes(), task.classes[label])
        for split in task.sizes
        for image, label in zip(task.images[split], task.labels[split], strict=True)
    ]
    assert dict(seen) == known
    assert len(seen) == 60


def test_archive_and_folder_of_the_same_images_are_the_same_task(tmp_path: Path) -> None:
    root = tmp_path / "pets"
    number = 0
    for name, count in COUNTS.items():
        (root / name).mkdir(parents=True)
        for _ in range(count):
            (root / name / f"{number:03}.png").write_bytes(png(number))
            number += 1
    folder, archive = image_folder(root, seed=3), image_archive(write_archive(tmp_path / "pets.npz"), seed=3)
    assert folder.fingerprint == archive.fingerprint
    assert folder.fingerprint != image_folder(root, seed=4).fingerprint


def test_ready_made_splits_are_kept(tmp_path: Path) -> None:
    root = tmp_path / "data"
    write_classes(root / "train", {"a": 10, "b": 10})
    write_classes(root / "val", {"a": 2, "b": 3}, start=100)
    task = image_folder(root, test=0.2)
    assert task.sizes == {"train": 16, "validation": 5, "test": 4}
    write_classes(root / "test", {"a": 4, "b": 3}, start=200)
    assert image_folder(root).sizes == {"train": 20, "validation": 5, "test": 7}
    write_classes(root / "test", {"c": 1}, start=300)
    with pytest.raises(InvalidInput, match="class c has no training images"):
        image_folder(root)


def test_limits_take_part_of_each_split_and_leave_the_others_alone(tmp_path: Path) -> None:
    path = write_archive(tmp_path / "a.npz")
    whole = image_archive(path, validation=0.2, test=0.2)
    part = image_archive(path, validation=0.2, test=0.2, limits={"train": 12, "test": 6})
    assert part.sizes == {"train": 12, "validation": 12, "test": 6}
    assert np.bincount(part.labels["train"]).tolist() == pytest.approx([6, 4, 2], abs=1)
    assert np.array_equal(part.images["validation"], whole.images["validation"])
    assert np.array_equal(part.images["test"], whole.images["test"][:6])


def test_images_are_cut_and_scaled_to_the_size_asked_for(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", {"a": 8, "b": 8})
    (root / "a" / "wide.png").write_bytes(png(99, width=40, height=16))
    assert image_folder(root, size=10).input_shape == (3, 10, 10)
    with pytest.raises(InvalidInput, match="give a size"):
        image_folder(root)


def test_photographs_stand_upright(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", {"a": 8, "b": 8})
    lying = Image.new("RGB", (12, 12), (0, 0, 0))
    lying.paste((255, 255, 255), (0, 0, 6, 12))
    turned = Image.Exif()
    turned[0x0112] = 6
    for file in (root / "a").glob("*.png"):
        file.unlink()
    for index in range(8):
        lying.save(root / "a" / f"{index}.jpg", exif=turned, quality=95)
    task = image_folder(root)
    (image, *_) = task.images["train"][task.labels["train"] == 0]
    assert image[:5].mean() > 240
    assert image[7:].mean() < 15


def test_a_corrupt_image_is_refused_by_name_or_skipped_and_counted(tmp_path: Path) -> None:
    root = write_classes(tmp_path / "pets", COUNTS)
    for content in (b"", b"not an image", png(0)[:60], png(0)[:-30].replace(b"IDAT", b"IDAX")):
        (root / "dog" / "3.png").write_bytes(content)
        with pytest.raises(InvalidInput, match=r"dog/3\.png: not a readable image"):
            image_folder(root)
        task = image_folder(root, on_bad="skip")
        assert task.skipped == (str(root / "dog" / "3.png"),)
        assert sum(task.sizes.values()) == 59


def test_unusable_folders_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such folder"):
        image_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InvalidInput, match="0 class folders"):
        image_folder(tmp_path / "empty")
    with pytest.raises(InvalidInput, match="1 class folders"):
        image_folder(write_classes(tmp_path / "one", {"a": 5}))
    root = write_classes(tmp_path / "hollow", {"a": 5, "b": 5})
    (root / "c").mkdir()
    (root / "c" / "notes.txt").write_text("no image")
    with pytest.raises(InvalidInput, match="no images"):
        image_folder(root)
    with pytest.raises(InvalidInput, match="too few images for a validation split"):
        image_folder(write_classes(tmp_path / "few", {"a": 1, "b": 1}))


@pytest.mark.parametrize(
    "changes",
    [
        {"validation": 0.0},
        {"validation": 0.6, "test": 0.4},
        {"size": 0},
        {"seed": -1},
        {"on_bad": "ignore"},
        {"limits": {"train": 0}},
        {"limits": {"trial": 5}},
    ],
)
def test_unusable_options_are_refused(tmp_path: Path, changes) -> None:
    root = write_classes(tmp_path / "pets", {"a": 10, "b": 10})
    with pytest.raises(InvalidInput):
        image_folder(root, **changes)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"offsets": None}, "offsets"),
        ({"jpeg": np.zeros(5)}, "jpeg is float64"),
        ({"offsets": np.arange(61)[::-1]}, "offsets fall"),
        ({"offsets": np.arange(61) * 10**6}, "outside"),
        ({"offsets": np.arange(7)}, "60 labels and 7 offsets"),
        ({"labels": np.arange(60)}, "labels from 0 to 59 for 3 classes"),
        ({"labels": np.full(60, 0.5)}, "labels are float64"),
        ({"labels": np.zeros(60, dtype=int)}, "all of one class"),
        ({"classes": np.array(["cat", None, 3], dtype=object)}, "without pickles"),
        ({"jpeg": np.zeros(10**6, dtype=np.uint8)}, r"image \d+: not a readable image"),
    ],
)
def test_an_archive_that_contradicts_itself_is_refused(tmp_path: Path, changes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        image_archive(write_archive(tmp_path / "a.npz", **changes))


def test_files_that_are_no_archive_are_refused(tmp_path: Path) -> None:
    whole = write_archive(tmp_path / "a.npz").read_bytes()
    with pytest.raises(InvalidInput, match="no such file"):
        image_archive(tmp_path / "b.npz")
    np.save(tmp_path / "lone.npy", np.arange(3))
    lone = (tmp_path / "lone.npy").read_bytes()
    for content in (b"", b"plain text", whole[: len(whole) // 2], lone):
        (tmp_path / "b.npz").write_bytes(content)
        with pytest.raises(InvalidInput, match=r"not a readable \.npz"):
            image_archive(tmp_path / "b.npz")


def test_large_results_come_from_the_cache_and_a_damaged_one_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chipfit.tasks.decode.CACHE_FROM_BYTES", 1)
    path = write_archive(tmp_path / "a.npz")
    before = image_archive(path).fingerprint
    cached = sorted((tmp_path / "cache").glob("*.npz"))
    assert len(cached) == 3
    cached[0].write_bytes(cached[0].read_bytes()[:-100])
    assert image_archive(path).fingerprint == before
    monkeypatch.setattr("chipfit.tasks.decode._decode_one", None)
    assert image_archive(path).fingerprint == before


def test_cifar_loads_and_is_a_task(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "cifar10" / "cifar10_jpeg_train.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    task = image_archive(path, limits={"train": 2000, "validation": 500, "test": 500}, cache=tmp_path)
    assert len(task.classes) == 10
    assert task.input_shape == (3, 32, 32)
    assert set(np.bincount(task.labels["train"])) <= {199, 200, 201}
    check_task(task)


@pytest.mark.slow
def test_all_of_cifar_loads(shared_data: Path, tmp_path: Path) -> None:
    path = shared_data / "cifar10" / "cifar10_jpeg_train.npz"
    if not path.is_file():
        pytest.skip(f"no {path}")
    task = image_archive(path, cache=tmp_path)
    assert sum(task.sizes.values()) == 50_000
