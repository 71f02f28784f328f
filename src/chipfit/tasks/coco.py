"""Detection from images and annotations in COCO's JSON format."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.decode import Picture, decode
from chipfit.tasks.detection import Detection
from chipfit.tasks.splits import Choice, Faults, OnBad, apart, split_orders
from chipfit.tasks.task import SPLITS

LEAST_PIXELS = 1.0
"""Boxes that are narrower or lower than this inside their image cannot be found by anybody."""

FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}


@dataclass(frozen=True, slots=True)
class _Item:
    """One image with its boxes (m, 6): class, left, top, right, bottom as fractions, crowd."""

    picture: Picture
    boxes: NDArray[np.float32]


@dataclass(slots=True)
class _Listing:
    """What annotation files hold, by split, and the classes of all of them."""

    classes: tuple[str, ...] = ()
    items: dict[str, list[_Item]] = field(default_factory=dict)


def coco_files(
    where: str | Path,
    size: int | None = None,
    validation: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    on_bad: OnBad = "refuse",
    limits: Mapping[str, int] | None = None,
    cache: Path | None = None,
) -> Detection:
    """Images with boxes: "DIR" or "ANNOTATIONS.json,IMAGES".

    DIR holds train.json (and validation.json or val.json, and test.json), or annotations/instances_train*.json and the
    like, with the images in DIR/train/ and so on, in DIR/images/ or in DIR itself; or one annotations.json. Splits that
    have no file are split off the training images by `seed`, `validation` and `test` being their fractions. size:
    height and width to which images are stretched; None needs images of one size. on_bad: "refuse" stops at the first
    item that cannot be used (a missing or unreadable image, a box outside its image or empty, an unknown class or image
    id, a repeated id), "skip" leaves it out and names it in `skipped`; of a box that is partly outside, the part inside
    stays. limits: at most so many images of a split. Raises InvalidInput with file and item.
    """
    files = _files(str(where))
    first = next(iter(files.values()))[0]
    choice = Choice(first, size, {"validation": validation, "test": test}, seed, on_bad, limits or {}, cache)
    faults = Faults(on_bad)
    listing = _Listing()
    for split, (annotations, images) in files.items():
        _list(listing, split, annotations, images, faults)
    return _assembled(listing, choice, faults)


def _files(where: str) -> dict[str, tuple[Path, tuple[Path, ...]]]:
    """The annotation file of each split that has one, and the folders that may hold its images."""
    first, comma, second = where.partition(",")
    root = Path(first)
    if comma:
        return {"train": (root, (Path(second),))}
    if root.is_file():
        return {"train": (root, (root.parent / "images", root.parent))}
    if not root.is_dir():
        raise InvalidInput(f"{root}: no such file or folder; give DIR or ANNOTATIONS.json,IMAGES")
    found: dict[str, tuple[Path, tuple[Path, ...]]] = {}
    for name, split in FOLDERS.items():
        candidates = [root / f"{name}.json", *sorted((root / "annotations").glob(f"*{name}*.json"))]
        candidates += [root / name / "_annotations.coco.json"]
        if existing := [file for file in candidates if file.is_file()]:
            folders = [root / name, *sorted(root.glob(f"{name}[0-9]*")), root / "images" / name, root / "images", root]
            found[split] = (existing[0], tuple(folders))
    if not found:
        for file in (root / "annotations.json", *sorted((root / "annotations").glob("*.json"))):
            if file.is_file():
                return {"train": (file, (root / "images", root))}
    if "train" not in found:
        raise InvalidInput(f"{root}: no train.json or annotations.json; give ANNOTATIONS.json,IMAGES")
    return found


def _list(listing: _Listing, split: str, file: Path, folders: Sequence[Path], faults: Faults) -> None:
    """Reads one annotation file into the listing."""
    content = _content(file)
    categories = _categories(file, content["categories"])
    classes = tuple(categories.values())
    if listing.classes and classes != listing.classes:
        raise InvalidInput(f"{file}: classes {classes} are not those of the other splits, {listing.classes}")
    listing.classes = classes
    images = _images(file, content["images"], folders, faults)
    boxes: dict[object, list[tuple[float, ...]]] = {key: [] for key in images}
    numbers = {key: index for index, key in enumerate(categories)}
    seen: set[object] = set()
    skipped = {entry.get("id") for entry in content["images"]} - set(images)
    for index, entry in enumerate(content["annotations"]):
        item = f"{file}: annotation {entry.get('id', f'number {index}')}"
        if entry.get("image_id") in skipped:
            continue
        found = _box(entry, images, numbers, seen)
        if isinstance(found, str):
            faults.add(item, found)
            continue
        row, complaint = found
        if complaint:
            faults.add(item, complaint, left_out="the part outside is left out")
        boxes[entry["image_id"]].append(row)
    listing.items[split] = [
        _Item(picture, np.array(boxes[key], dtype=np.float32).reshape(-1, 6)) for key, (picture, _, _) in images.items()
    ]


def _content(file: Path) -> dict[str, list[dict[str, Any]]]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}; give a COCO annotation file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file}: not a readable JSON file ({error}); write it again") from None
    for name in ("images", "annotations", "categories"):
        entries = content.get(name) if isinstance(content, dict) else None
        if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
            raise InvalidInput(f"{file}: has no list {name!r}; give images, annotations and categories as COCO does")
    return content


def _categories(file: Path, entries: Sequence[Mapping[str, Any]]) -> dict[object, str]:
    """Names of classes by id, in the order of their ids."""
    names: dict[Any, str] = {}
    for entry in entries:
        if not isinstance(entry.get("id"), int) or not isinstance(entry.get("name"), str) or entry["id"] in names:
            raise InvalidInput(f"{file}: category {dict(entry)}: give each a name and a number of its own as id")
        names[entry["id"]] = entry["name"]
    if not names or len(set(names.values())) != len(names):
        raise InvalidInput(f"{file}: categories {list(names.values())}; give one or more of different names")
    return {key: names[key] for key in sorted(names)}


def _images(
    file: Path, entries: Sequence[Mapping[str, Any]], folders: Sequence[Path], faults: Faults
) -> dict[object, tuple[Picture, float, float]]:
    """Picture, width and height of each usable image, by id."""
    images: dict[object, tuple[Picture, float, float]] = {}
    named: set[str] = set()
    for index, entry in enumerate(entries):
        key, name = entry.get("id"), entry.get("file_name")
        item = f"{file}: image {key if key is not None else f'number {index}'}"
        width, height = entry.get("width"), entry.get("height")
        if not isinstance(key, (int, str)) or not isinstance(name, str):
            faults.add(item, "it has no id or no file_name")
            continue
        if key in images or name in named:
            faults.add(item, f"its id or its file {name} appears twice")
            continue
        if not _positive(width) or not _positive(height):
            faults.add(item, f"width {width!r} and height {height!r} are not numbers above 0")
            continue
        path = next((folder / name for folder in folders if (folder / name).is_file()), None)
        if path is None:
            faults.add(item, f"there is no file {name} in {', '.join(str(folder) for folder in folders)}")
            continue
        named.add(name)
        images[key] = (Picture(str(path), path), float(width), float(height))  # type: ignore[arg-type]
    return images


def _positive(number: object) -> bool:
    return isinstance(number, (int, float)) and number > 0


def _box(
    entry: Mapping[str, Any],
    images: Mapping[object, tuple[Picture, float, float]],
    classes: Mapping[object, int],
    seen: set[object],
) -> tuple[tuple[float, ...], str] | str:
    """A row of `Detection.boxes` and what was wrong with it but could be mended; or why it cannot be used."""
    if entry.get("image_id") not in images:
        return f"unknown image id {entry.get('image_id')!r}"
    if entry.get("category_id") not in classes:
        return f"unknown class id {entry.get('category_id')!r}; known are {', '.join(map(str, classes))}"
    if entry.get("id") is not None and entry["id"] in seen:
        return "its id appears twice"
    seen.add(entry.get("id"))
    numbers = entry.get("bbox")
    if not isinstance(numbers, list) or len(numbers) != 4 or not all(isinstance(n, (int, float)) for n in numbers):
        return f"bbox {numbers!r} is not [left, top, width, height]"
    left, top, width, height = map(float, numbers)
    _, image_width, image_height = images[entry["image_id"]]
    inside = (max(left, 0), max(top, 0), min(left + width, image_width), min(top + height, image_height))
    if not (inside[2] - inside[0] >= LEAST_PIXELS and inside[3] - inside[1] >= LEAST_PIXELS):
        where = "is empty" if not (width > 0 and height > 0) else "is less than a pixel of its image"
        return f"box {numbers} {where} ({image_width:g}x{image_height:g})"
    # Rounded coordinates may reach over the edge by less than a pixel.
    over = max(-left, -top, left + width - image_width, top + height - image_height)
    complaint = f"box {numbers} is partly outside its image ({image_width:g}x{image_height:g})" if over > 1 else ""
    edges = (inside[0] / image_width, inside[1] / image_height, inside[2] / image_width, inside[3] / image_height)
    return (float(classes[entry["category_id"]]), *edges, float(bool(entry.get("iscrowd", 0)))), complaint


def _assembled(listing: _Listing, choice: Choice, faults: Faults) -> Detection:
    order = split_orders({split: len(items) for split, items in listing.items.items()}, choice)
    pixels: dict[str, tuple[list[str], NDArray[np.uint8]]] = {}
    rows: dict[str, list[NDArray[np.float32]]] = {}
    for split in SPLITS:
        origin, indices = order[split]
        items = [listing.items[origin][index] for index in indices]
        decoded, failed = decode([item.picture for item in items], choice.size, choice.cache, fit="stretch")
        for index, why in failed.items():
            faults.add(items[index].picture.name, f"not a readable image ({why})")
        good = [index for index in range(len(items)) if index not in failed]
        pixels[split] = [items[index].picture.name for index in good], decoded[good]
        rows[split] = [items[index].boxes for index in good]
    kept = apart(pixels, faults, given=len(listing.items) > 1)
    most = max((len(boxes) for part in rows.values() for boxes in part), default=1)
    return Detection(
        choice.where.stem,
        listing.classes,
        images={split: pixels[split][1][kept[split]] for split in SPLITS},
        boxes={split: _padded([rows[split][index] for index in kept[split]], most) for split in SPLITS},
        source=f"COCO annotations in {choice.where.name}",
        skipped=tuple(faults.items),
    )


def _padded(boxes: Sequence[NDArray[np.float32]], most: int) -> NDArray[np.float32]:
    """Boxes (m, 6) of each image as one array (n, most, 6)."""
    padded: NDArray[np.float32] = np.zeros((len(boxes), max(1, most), 6), dtype=np.float32)
    padded[..., 0] = -1
    for row, found in zip(padded, boxes, strict=True):
        row[: len(found)] = found
    return padded
