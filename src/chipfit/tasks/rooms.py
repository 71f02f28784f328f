"""The data set that comes with chipfit: rendered rooms, is there a person or not.

Every scene follows from (seed, split, index) alone. Clothes share their colours with furniture, many things
have the outline of a person, and light, blur and noise vary, so that neither colour nor brightness gives the
answer. Boxes and masks come with each scene.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from chipfit.errors import InvalidInput
from chipfit.files import cache_directory
from chipfit.tasks.cache import read_arrays, write_arrays
from chipfit.tasks.canvas import FIRST_PERSON, PERSON, Canvas, Dice, Place
from chipfit.tasks.furniture import FURNISHINGS, LOOKALIKES, Drawer
from chipfit.tasks.interior import Room, draw_room
from chipfit.tasks.people import draw_person
from chipfit.tasks.task import SPLITS
from chipfit.tasks.vision import ImageClassification

CLASSES = ("no person", "person")
MASK_CLASSES = ("background", "person", "furniture", "floor")
SMALLEST_PERSON = 0.05
"""Share of the picture that must be visible of everybody in it, else no eye could tell."""
ATTEMPTS = 8
"""So many drawings may hide somebody before one person is put in front of everything."""

Progress = Callable[[Iterable[int]], Iterable[int]]


@dataclass(frozen=True, eq=False)
class Scene:
    """A rendered room.

    image: uint8 (size, size, 3). label: index into CLASSES. boxes: int32 (people, 4), left, top, right, bottom in
    pixels, right and bottom exclusive, around what is visible of each person. mask: uint8 (size, size), indices
    into MASK_CLASSES.
    """

    image: NDArray[np.uint8]
    label: int
    boxes: NDArray[np.int32]
    mask: NDArray[np.uint8]


def render(seed: int, split: str, index: int, size: int = 96) -> Scene:
    """Scene `index` of a split: the same call gives the same bytes.

    Raises InvalidInput for an unknown split, a negative seed or index, or a size below 32.
    """
    _check(seed, split, size)
    if index < 0:
        raise InvalidInput(f"room index {index} is negative; count from 0")
    sequence = np.random.SeedSequence((seed, SPLITS.index(split), index))
    generator = np.random.Generator(np.random.PCG64(sequence))
    dice = Dice(generator)
    with_person = dice.chance(0.5)
    drawn, marks = _visible_scene(with_person, dice, size)
    boxes = [_box(marks == mark) for mark in np.unique(marks[marks >= FIRST_PERSON])]
    return Scene(
        image=_photograph(drawn, dice, generator),
        label=int(with_person),
        boxes=np.array(boxes, dtype=np.int32).reshape(-1, 4),
        mask=np.where(marks >= FIRST_PERSON, PERSON, marks).astype(np.uint8),
    )


def rooms(
    train: int = 4000,
    validation: int = 1000,
    test: int = 1000,
    seed: int = 0,
    size: int = 96,
    cache: Path | None = None,
    progress: Progress = iter,
) -> ImageClassification:
    """Rendered rooms as a task: person or no person, about half of each.

    train, validation, test: images per split. size: height and width. cache: directory for rendered arrays
    (default $CHIPFIT_CACHE or ~/.cache/chipfit); what is damaged or no longer what the renderer draws is rendered
    again. progress: wraps the indices that are being rendered, as a progress bar does.
    Raises InvalidInput for a count below 1, a negative seed or a size below 32; StorageFull if the cache is full.
    """
    images: dict[str, NDArray[np.uint8]] = {}
    labels: dict[str, NDArray[np.int64]] = {}
    for split, count in zip(SPLITS, (train, validation, test), strict=True):
        _check(seed, split, size)
        if count < 1:
            raise InvalidInput(f"rooms with {count} {split} images; ask for at least 1")
        path = (cache or cache_directory()) / f"rooms-{seed}-{split}-{count}-{size}.npz"
        images[split], labels[split] = _rendered(path, seed, split, count, size, progress)
    return ImageClassification(
        name="rooms", classes=CLASSES, images=images, labels=labels, source=f"rendered rooms, seed {seed}"
    )


def _check(seed: int, split: str, size: int) -> None:
    if seed < 0:
        raise InvalidInput(f"rooms seed {seed} is negative; use 0 or more")
    if split not in SPLITS:
        raise InvalidInput(f"unknown split {split!r}; known are {', '.join(SPLITS)}")
    if size < 32:
        raise InvalidInput(f"rooms of {size} pixels are too small to show a person; use 32 or more")


def _rendered(
    path: Path, seed: int, split: str, count: int, size: int, progress: Progress
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    stored = read_arrays(path)
    if stored is not None and stored.keys() >= {"images", "labels"}:
        images, labels = stored["images"], stored["labels"]
        if images.shape == (count, size, size, 3) and still_drawn(images, seed, split, size):
            return images, labels
    images = np.empty((count, size, size, 3), dtype=np.uint8)
    labels = np.empty(count, dtype=np.int64)
    for index in progress(range(count)):
        scene = render(seed, split, index, size)
        images[index], labels[index] = scene.image, scene.label
    write_arrays(path, {"images": images, "labels": labels})
    return images, labels


def still_drawn(images: NDArray[np.uint8], seed: int, split: str, size: int) -> bool:
    """Whether this renderer, with this Pillow and NumPy, still draws what is stored: a spot check."""
    spots = np.unique(np.linspace(0, len(images) - 1, 8, dtype=int))
    return all(np.array_equal(images[spot], render(seed, split, int(spot), size).image) for spot in spots)


def _visible_scene(with_person: bool, dice: Dice, size: int, attempt: int = 0) -> tuple[Image.Image, NDArray[np.uint8]]:
    """Draw until everybody can be seen; give the picture at twice the size and the marks at the final size."""
    canvas = Canvas(2 * size)
    people = _draw_scene(canvas, with_person, in_front=attempt == ATTEMPTS, dice=dice)
    marks = np.asarray(canvas.image)[::2, ::2, 3]
    seen = np.bincount(marks.reshape(-1), minlength=256)[FIRST_PERSON : FIRST_PERSON + people]
    if attempt < ATTEMPTS and (seen < SMALLEST_PERSON * size * size).any():
        return _visible_scene(with_person, dice, size, attempt + 1)
    return canvas.image, marks


def _draw_scene(canvas: Canvas, with_person: bool, in_front: bool, dice: Dice) -> int:
    """Room, furniture, look-alikes and people from far to near; returns how many people.

    With or without people, as many things of a person's size are drawn, at the same places, so that how full
    a picture is tells nothing. `in_front`: one person only, whom nothing hides.
    """
    room = draw_room(canvas, dice)
    drawers: list[tuple[float, float, Drawer | None]] = []
    for _ in range(dice.integer(1, 2)):
        drawers.append((*_floor_spot(room, dice), dice.pick(FURNISHINGS)))
    slots = dice.pick((1, 1, 2))
    people = 0
    for slot in range(slots):
        is_person = with_person and (slot == 0 or (not in_front and dice.chance(0.35)))
        people += is_person
        drawers.append((*_floor_spot(room, dice), None if is_person else dice.pick(LOOKALIKES)))
    if in_front:
        drawers = [(canvas.side / 2, canvas.side * 0.95, d) if d is None else (x, y, d) for x, y, d in drawers]
    mark = FIRST_PERSON
    for x, y, drawer in sorted(drawers, key=lambda entry: (in_front and entry[2] is None, entry[1])):
        place = room.place(x, y)
        if drawer is None:
            draw_person(place, mark, dice, room.floor)
            mark += 1
        else:
            drawer(place, dice, room.floor)
        if dice.chance(0.05):
            _something_in_front(place, dice)
    return people


def _floor_spot(room: Room, dice: Dice) -> tuple[float, float]:
    side = room.canvas.side
    depth = dice.uniform(0.2, 1) ** 0.75
    return side * dice.uniform(0.08, 0.92), room.bottom + (side * 1.12 - room.bottom) * depth


def _something_in_front(place: Place, dice: Dice) -> None:
    """A bar, board or cloth across what stands at `place`."""
    colour = dice.colour()
    x, height = dice.uniform(-0.3, 0.3), dice.uniform(0.3, 1.0)
    if dice.chance(0.5):
        place.box(x - 0.35, 0, x + 0.35, height, colour)
    else:
        place.limb(((x, 0), (x + dice.uniform(-0.2, 0.2), height * 1.8)), dice.uniform(0.04, 0.12), colour)


def _box(person: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(person.any(axis=1)), np.flatnonzero(person.any(axis=0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _photograph(drawn: Image.Image, dice: Dice, generator: np.random.Generator) -> NDArray[np.uint8]:
    """What a cheap camera makes of the drawing: light from one side, a lamp, colour cast, blur, noise.

    Only additions and multiplications on float32, which give the same bits on every machine.
    """
    picture = drawn.convert("RGB").reduce(2)
    blur = dice.uniform(0, 0.5) * picture.width / 96
    if blur > 0.25:
        picture = picture.filter(ImageFilter.BoxBlur(blur))
    size = picture.width
    across = np.linspace(-1, 1, size, dtype=np.float32)
    x, y = across[None, :], across[:, None]
    light = np.float32(1) + np.float32(dice.uniform(-0.3, 0.3)) * x + np.float32(dice.uniform(-0.25, 0.25)) * y
    if dice.chance(0.5):
        far = (x - np.float32(dice.uniform(-1, 1))) ** 2 + (y - np.float32(dice.uniform(-1, 0.5))) ** 2
        light = light + np.float32(dice.uniform(0.1, 0.5)) / (np.float32(1) + np.float32(6) * far)
    exposure = dice.uniform(0.7, 1.2)
    cast = np.array([exposure * dice.uniform(0.92, 1.08) for _ in range(3)], dtype=np.float32)
    haze = np.float32(dice.uniform(0, 30) if dice.chance(0.3) else 0)
    values = np.asarray(picture, dtype=np.float32) * (light[..., None] * cast) + haze
    # Two bytes that add up: close enough to a normal distribution, and the same everywhere.
    grain = generator.integers(0, 256, (2, size, size, 3), dtype=np.uint8).astype(np.float32)
    noise = grain[0] + grain[1] - np.float32(255)
    values += noise * np.float32(dice.uniform(0.01, 0.04))
    return np.clip(values + np.float32(0.5), 0, 255).astype(np.uint8)
