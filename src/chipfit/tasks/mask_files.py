"""Segmentation from folders of pictures and of PNG masks, as CamVid's and Cityscapes' files are laid out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chipfit.errors import InvalidInput
from chipfit.tasks.decode import Picture, decode
from chipfit.tasks.segmentation import IGNORED, Segmentation, frequency_weights
from chipfit.tasks.splits import Choice, Faults, OnBad, apart, split_orders
from chipfit.tasks.task import SPLITS

MASK_FOLDERS = ("masks", "labels", "annotations", "gtFine", "annot")
IMAGE_FOLDERS = ("images", "leftImg8bit", "img")
SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
ENDINGS = ("_gtFine_labelTrainIds", "_gtFine_labelIds", "_leftImg8bit", "_mask", "_label", "_labels", "_L")
"""What a mask's or picture's name may end with beyond what both share, the most wanted first."""
UNWANTED = ("_gtFine_color", "_gtFine_instanceIds", "_gtFine_polygons")


@dataclass(frozen=True, slots=True)
class _Pair:
    image: Picture
    mask: Picture


def mask_folder(
    directory: Path | str,
    size: int | None = None,
    validation: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    on_bad: OnBad = "refuse",
    limits: Mapping[str, int] | None = None,
    cache: Path | None = None,
    weighted: bool = True,
) -> Segmentation:
    """Pictures and masks with the same names in two folders, such as DIR/images and DIR/masks.

    Splits are folders train, validation (or val) and test above or below these; those that are missing are split off
    the training images by `seed`, `validation` and `test` being their fractions. A mask is a PNG of one channel whose
    values are classes. DIR/classes.txt names them, one a line; a line "255 void" says which value does not count (any
    number of such lines; 255 never counts). Without that file the classes are all values up to the highest. size:
    height and width to which both are stretched; None needs all of one size. weighted: rare classes count more in the
    loss. on_bad: "refuse" stops at the first item that cannot be used (a missing or unreadable mask, one of another
    size, an unknown class, no pixel that counts), "skip" leaves it out and names it in `skipped`. limits: at most so
    many images of a split. Raises InvalidInput with the file.
    """
    root = Path(directory)
    choice = Choice(root, size, {"validation": validation, "test": test}, seed, on_bad, limits or {}, cache)
    if not root.is_dir():
        raise InvalidInput(f"{root}: no such folder; give one with the folders images and masks")
    faults = Faults(on_bad)
    pairs = {split: _pairs(images, masks, faults) for split, (images, masks) in _folders(root).items()}
    names, ignored = _classes(root)
    order = split_orders({split: len(found) for split, found in pairs.items()}, choice)
    arrays: dict[str, tuple[list[str], NDArray[np.uint8], NDArray[np.uint8]]] = {}
    for split in SPLITS:
        origin, indices = order[split]
        chosen = [pairs[origin][index] for index in indices]
        arrays[split] = _arrays(chosen, choice, len(names) or IGNORED, ignored, faults)
    kept = apart({split: (part[0], part[1]) for split, part in arrays.items()}, faults, given=len(pairs) > 1)
    images = {split: part[1][kept[split]] for split, part in arrays.items()}
    masks = {split: part[2][kept[split]] for split, part in arrays.items()}
    classes = names or _numbered(masks)
    weights = frequency_weights(masks["train"], len(classes)) if weighted else None
    source = f"images and masks in folder {root.name}"
    return Segmentation(
        root.resolve().name, classes, images, masks, source, weights=weights, skipped=tuple(faults.items)
    )


def _folders(root: Path) -> dict[str, tuple[Path, Path]]:
    """Folders of images and of masks of each split."""
    found: dict[str, tuple[Path, Path]] = {}
    for name, split in SPLIT_FOLDERS.items():
        for images in IMAGE_FOLDERS:
            for masks in MASK_FOLDERS:
                for pair in ((root / name / images, root / name / masks), (root / images / name, root / masks / name)):
                    if split not in found and pair[0].is_dir() and pair[1].is_dir():
                        found[split] = pair
        # CamVid as it is often handed on: train beside trainannot.
        if split not in found and (root / name).is_dir() and (root / f"{name}annot").is_dir():
            found[split] = (root / name, root / f"{name}annot")
    if "train" in found:
        return found
    for images in IMAGE_FOLDERS:
        for masks in MASK_FOLDERS:
            if (root / images).is_dir() and (root / masks).is_dir():
                return {"train": (root / images, root / masks)}
    raise InvalidInput(f"{root}: no folders images and masks, in it or in {root / 'train'}; name them so")


def _stem(path: Path) -> str:
    """A name without what only a picture's or only a mask's name has."""
    for ending in ENDINGS:
        if path.stem.endswith(ending):
            return path.stem.removesuffix(ending)
    return path.stem


def _pairs(images: Path, masks: Path, faults: Faults) -> list[_Pair]:
    suffixes = Image.registered_extensions().keys()
    by_stem: dict[str, Path] = {}
    for path in sorted(masks.rglob("*.png")):
        if path.stem.endswith(UNWANTED):
            continue
        before = by_stem.get(_stem(path))
        if before is None or _rank(path) < _rank(before):
            by_stem[_stem(path)] = path
    found: list[_Pair] = []
    for path in sorted(file for file in images.rglob("*") if file.suffix.lower() in suffixes):
        mask = by_stem.pop(_stem(path), None)
        if mask is None:
            faults.add(str(path), f"there is no mask {_stem(path)}.png in {masks}")
        else:
            found.append(_Pair(Picture(str(path), path), Picture(str(mask), mask)))
    for mask in by_stem.values():
        faults.add(str(mask), f"there is no picture of its name in {images}")
    if not found:
        raise InvalidInput(f"{images}: no pictures with masks in {masks}; give both the same names")
    return found


def _rank(path: Path) -> int:
    return next((rank for rank, ending in enumerate(ENDINGS) if path.stem.endswith(ending)), len(ENDINGS))


def _classes(root: Path) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Names of the classes, and the values that do not count, from classes.txt; no names where there is none."""
    file = root / "classes.txt"
    if not file.is_file():
        return (), (IGNORED,)
    names: list[str] = []
    ignored = {IGNORED}
    for line in file.read_text(encoding="utf-8").splitlines():
        if match := re.fullmatch(r"\s*(\d+)\s+(void|ignore|ignored|unlabelled|unlabeled)\s*", line):
            ignored.add(int(match[1]))
        elif line.strip():
            names.append(line.strip())
    if len(set(names)) != len(names) or len(names) < 2:
        raise InvalidInput(f"{file}: classes {names}; name two or more different ones, one a line")
    return tuple(names), tuple(sorted(ignored))


def _arrays(
    pairs: Sequence[_Pair], choice: Choice, classes: int, ignored: Sequence[int], faults: Faults
) -> tuple[list[str], NDArray[np.uint8], NDArray[np.uint8]]:
    """Names, images and masks of the usable pairs."""
    images, bad_images = decode([pair.image for pair in pairs], choice.size, choice.cache, fit="stretch")
    masks, bad_masks = decode([pair.mask for pair in pairs], choice.size, choice.cache, fit="labels")
    if images.shape[:3] != masks.shape[:3]:
        raise InvalidInput(
            f"{pairs[0].mask.name}: masks are {masks.shape[2]}x{masks.shape[1]} pixels, the images"
            f" {images.shape[2]}x{images.shape[1]}; give a size to scale both to"
        )
    masks = np.where(np.isin(masks[..., 0], ignored), np.uint8(IGNORED), masks[..., 0])
    good: list[int] = []
    for index, pair in enumerate(pairs):
        if index in bad_images:
            faults.add(pair.image.name, f"not a readable image ({bad_images[index]})")
        elif index in bad_masks:
            faults.add(pair.mask.name, f"not a readable mask ({bad_masks[index]})")
        elif why := _unusable(masks[index], classes):
            faults.add(pair.mask.name, why)
        else:
            good.append(index)
    return [pairs[index].image.name for index in good], images[good], masks[good]


def _unusable(mask: NDArray[np.uint8], classes: int) -> str:
    counted = mask[mask != IGNORED]
    if len(counted) == 0:
        return "no pixel of this mask counts"
    if counted.max() >= classes:
        return f"holds class {counted.max()}, of {classes} classes (classes.txt also says which values do not count)"
    return ""


def _numbered(masks: Mapping[str, NDArray[np.uint8]]) -> tuple[str, ...]:
    highest = max(int(part[part != IGNORED].max(initial=0)) for part in masks.values())
    return tuple(f"class {number}" for number in range(highest + 1))
