"""Classification tasks from images that a user has: a folder per class, or one archive."""

import itertools
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chipfit.errors import InvalidInput
from chipfit.tasks.decode import Picture, decode
from chipfit.tasks.splits import Choice, OnBad
from chipfit.tasks.task import SPLITS
from chipfit.tasks.vision import ImageClassification


@dataclass(frozen=True, slots=True)
class _Labelled:
    pictures: list[Picture]
    labels: NDArray[np.int64]


def image_folder(
    directory: Path | str,
    size: int | None = None,
    validation: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    on_bad: OnBad = "refuse",
    limits: Mapping[str, int] | None = None,
    cache: Path | None = None,
) -> ImageClassification:
    """Images in one folder per class, or in train, validation (or val) and test folders that hold such folders.

    size: height and width to cut and scale to; None needs images of one size. validation, test: fractions that are
    split off where there is no such folder, by `seed`, class by class. on_bad: "refuse" stops at a file that
    cannot be read, "skip" leaves it out and names it in `skipped`. limits: at most so many images of a split.
    cache: directory for decoded images (default $CHIPFIT_CACHE or ~/.cache/chipfit).
    Files whose suffix is not that of an image are no part of the data.
    Raises InvalidInput for a folder that is missing, empty or of one class, and for a corrupt image.
    """
    root = Path(directory)
    fractions = {"validation": validation, "test": test}
    choice = Choice(root, size, fractions, seed, on_bad, limits or {}, cache)
    if not root.is_dir():
        raise InvalidInput(f"{root}: no such folder; give one with a sub-folder of images for each class")
    folders = {"train": root}
    if (root / "train").is_dir():
        names = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
        folders = {split: root / name for name, split in names.items() if (root / name).is_dir()}
    classes = tuple(folder.name for folder in _class_folders(folders["train"]))
    if len(classes) < 2:
        raise InvalidInput(
            f"{folders['train']}: {len(classes)} class folders; give a sub-folder of images for each of 2 or more"
        )
    listed = {split: _listed(folder, classes) for split, folder in folders.items()}
    return _assembled(root.resolve().name, classes, listed, f"images in folder {root.name}", choice)


def image_archive(
    path: Path | str,
    size: int | None = None,
    validation: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    on_bad: OnBad = "refuse",
    limits: Mapping[str, int] | None = None,
    cache: Path | None = None,
) -> ImageClassification:
    """Images in one .npz with the arrays `jpeg`, `offsets`, `labels` and `classes`.

    jpeg: uint8, all files one after the other (any format that Pillow reads); image i is
    jpeg[offsets[i]:offsets[i + 1]]. labels: integers (n,), indices into `classes`, the names. The other arguments
    are those of `image_folder`. Raises InvalidInput for an archive that cannot be read or contradicts itself.
    """
    path = Path(path)
    fractions = {"validation": validation, "test": test}
    choice = Choice(path, size, fractions, seed, on_bad, limits or {}, cache)
    jpeg, offsets, labels, classes = _archive_arrays(path)
    ends = offsets.tolist()
    pictures = [
        Picture(f"{path} image {index}", jpeg[start:stop].tobytes())
        for index, (start, stop) in enumerate(itertools.pairwise(ends))
    ]
    return _assembled(path.stem, classes, {"train": _Labelled(pictures, labels)}, f"images in {path.name}", choice)


def _class_folders(root: Path) -> list[Path]:
    return sorted(entry for entry in root.iterdir() if entry.is_dir() and not entry.name.startswith("."))


def _listed(root: Path, classes: tuple[str, ...]) -> _Labelled:
    suffixes = Image.registered_extensions().keys()
    pictures: list[Picture] = []
    labels: list[int] = []
    for folder in _class_folders(root):
        if folder.name not in classes:
            raise InvalidInput(f"{folder}: class {folder.name} has no training images; add some or remove the folder")
        files = sorted(file for file in folder.rglob("*") if file.is_file() and file.suffix.lower() in suffixes)
        if not files:
            raise InvalidInput(f"{folder}: no images; add some or remove the folder")
        pictures += [Picture(str(file), file) for file in files]
        labels += [classes.index(folder.name)] * len(files)
    return _Labelled(pictures, np.array(labels, dtype=np.int64))


def _archive_arrays(
    path: Path,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.int64], tuple[str, ...]]:
    if not path.is_file():
        raise InvalidInput(f"{path}: no such file; give an .npz with the arrays jpeg, offsets, labels and classes")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays: dict[str, NDArray[Any]] = {name: stored[name] for name in ("jpeg", "offsets", "labels", "classes")}
    except KeyError as error:
        raise InvalidInput(f"{path}: {error.args[0]}; needed are jpeg, offsets, labels and classes") from error
    # np.load gives something that is no context manager for a lone .npy file.
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path}: not a readable .npz file ({error}); write it again without pickles") from error
    jpeg, offsets, labels = arrays["jpeg"], arrays["offsets"], arrays["labels"]
    classes = tuple(str(name) for name in arrays["classes"].reshape(-1))
    if jpeg.dtype != np.uint8 or jpeg.ndim != 1:
        raise InvalidInput(f"{path}: jpeg is {jpeg.dtype} {jpeg.shape}; give uint8 (bytes,)")
    for name, array in (("offsets", offsets), ("labels", labels)):
        if array.dtype.kind not in "iu" or array.ndim != 1:
            raise InvalidInput(f"{path}: {name} are {array.dtype} {array.shape}; give integers (n,)")
    if len(offsets) != len(labels) + 1 or len(labels) == 0:
        raise InvalidInput(f"{path}: {len(labels)} labels and {len(offsets)} offsets; give n above 0, and n + 1")
    offsets, labels = offsets.astype(np.int64), labels.astype(np.int64)
    if offsets[0] < 0 or offsets[-1] > len(jpeg) or (np.diff(offsets) < 0).any():
        raise InvalidInput(f"{path}: offsets fall or lie outside the {len(jpeg)} bytes of jpeg; write the file again")
    if labels.min() < 0 or labels.max() >= len(classes):
        raise InvalidInput(f"{path}: labels from {labels.min()} to {labels.max()} for {len(classes)} classes")
    return jpeg, offsets, labels, classes


def _assembled(
    name: str, classes: tuple[str, ...], listed: Mapping[str, _Labelled], source: str, choice: Choice
) -> ImageClassification:
    """Split what has to be split, take what is wanted, decode only that."""
    rng = np.random.default_rng(choice.seed)
    chosen = {split: (part, _proportional_order(part.labels, rng)) for split, part in listed.items()}
    whole, rest = chosen["train"]
    for split, fraction in choice.fractions.items():
        if split not in chosen:
            count = round(fraction * len(whole.labels))
            chosen[split], rest = (whole, rest[:count]), rest[count:]
    chosen["train"] = (whole, rest)
    images: dict[str, NDArray[np.uint8]] = {}
    labels: dict[str, NDArray[np.int64]] = {}
    skipped: list[str] = []
    for split in SPLITS:
        part, order = chosen[split]
        order = order[: choice.limits.get(split)]
        if len(order) == 0:
            raise InvalidInput(f"{choice.where}: too few images for a {split} split; add images or a larger fraction")
        pictures = [part.pictures[index] for index in order]
        decoded, failed = decode(pictures, choice.size, choice.cache)
        if failed and choice.on_bad == "refuse":
            index, why = next(iter(failed.items()))
            raise InvalidInput(
                f"{pictures[index].name}: not a readable image ({why}); repair or remove it, or skip corrupt images"
            )
        good = np.array([index for index in range(len(order)) if index not in failed], dtype=np.int64)
        images[split], labels[split] = decoded[good], part.labels[order][good]
        skipped += [pictures[index].name for index in failed]
    if len(np.unique(labels["train"])) < 2:
        raise InvalidInput(f"{choice.where}: the training images are all of one class; give images of 2 or more")
    return ImageClassification(name, classes, images, labels, source, skipped=tuple(skipped))


def _proportional_order(labels: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """A random order of which every stretch holds the classes in about their overall proportions."""
    shuffled = generator.permutation(len(labels))
    position = np.empty(len(labels))
    for label in np.unique(labels):
        members = shuffled[labels[shuffled] == label]
        # A random offset per class spreads the classes that are rarer than a stretch is long.
        position[members] = (np.arange(len(members)) + generator.random()) / len(members)
    return shuffled[np.argsort(position[shuffled], kind="stable")]
