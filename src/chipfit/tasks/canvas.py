"""Paper, pencil and dice for drawn scenes: what `furniture`, `people` and `rooms` share."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from PIL import Image, ImageDraw

Colour = tuple[int, int, int]
Point = tuple[float, float]
T = TypeVar("T")

BACKGROUND, PERSON, FURNITURE, FLOOR = range(4)
FIRST_PERSON = 16
"""Mark of the first person on a canvas; every further person has the next number."""

MUTED: tuple[Colour, ...] = (
    (92, 64, 46), (134, 98, 66), (176, 138, 98), (205, 178, 140), (226, 214, 196), (58, 60, 66),
    (96, 100, 106), (150, 152, 150), (202, 204, 200), (44, 54, 84), (72, 96, 138), (128, 154, 178),
    (60, 88, 66), (104, 128, 92), (150, 44, 44), (184, 96, 74), (206, 150, 72), (98, 52, 84), (30, 30, 34),
)  # fmt: skip
"""Colours of cloth, wood and wall alike: a person's clothes are never told from furniture by colour alone."""


class Dice:
    """Uniform numbers of one generator, drawn in blocks because one call per number costs a microsecond."""

    def __init__(self, generator: np.random.Generator):
        self._generator = generator
        self._values = iter(())

    def uniform(self, low: float, high: float) -> float:
        value = next(self._values, None)
        if value is None:
            self._values = iter(self._generator.random(512).tolist())
            value = next(self._values)
        return low + (high - low) * value

    def integer(self, low: int, high: int) -> int:
        """An integer with low <= value <= high."""
        return low + int(self.uniform(0, high - low + 1))

    def chance(self, probability: float) -> bool:
        return self.uniform(0, 1) < probability

    def pick(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]

    def sign(self) -> int:
        return 1 if self.chance(0.5) else -1

    def colour(self) -> Colour:
        """A muted colour, lightly varied."""
        red, green, blue = self.pick(MUTED)
        gain, shift = self.uniform(0.8, 1.2), self.uniform(-12, 12)
        return clip(red * gain + shift), clip(green * gain), clip(blue * gain - shift)


def clip(value: float) -> int:
    return 0 if value < 0 else 255 if value > 255 else int(value)


def shade(colour: Colour, gain: float) -> Colour:
    return clip(colour[0] * gain), clip(colour[1] * gain), clip(colour[2] * gain)


def mix(first: Colour, second: Colour, share: float) -> Colour:
    """`second` laid over `first` with the given share."""
    red, green, blue = (clip(a + (b - a) * share) for a, b in zip(first, second, strict=True))
    return red, green, blue


class Canvas:
    """A square RGB picture whose fourth channel holds what each pixel shows.

    One draw call writes colour and mark together, so that picture and mask cannot disagree.
    Coordinates are in canvas pixels, y downward.
    """

    def __init__(self, side: int):
        self.side = side
        self.image = Image.new("RGBA", (side, side))
        self._draw = ImageDraw.Draw(self.image)

    def polygon(self, points: Sequence[Point], colour: Colour, mark: int) -> None:
        self._draw.polygon(points, fill=(*colour, mark))

    def ellipse(self, centre: Point, radius_x: float, radius_y: float, colour: Colour, mark: int) -> None:
        x, y = centre
        box = (x - radius_x, y - radius_y, x + radius_x, y + radius_y)
        self._draw.ellipse(box, fill=(*colour, mark))

    def line(self, points: Sequence[Point], width: float, colour: Colour, mark: int) -> None:
        self._draw.line(points, fill=(*colour, mark), width=max(1, round(width)))


@dataclass(frozen=True, slots=True)
class Place:
    """Where something stands: its foot in canvas pixels, pixels per metre there, and its turn in the picture plane.

    Methods take metres, x to the right and y up from the foot.
    """

    canvas: Canvas
    x: float
    y: float
    unit: float
    mark: int = FURNITURE
    cosine: float = 1.0
    sine: float = 0.0

    def turned(self, degrees: float, mark: int) -> "Place":
        # Rounded: the C library's last bit must not decide which pixel is drawn.
        angle = math.radians(degrees)
        cosine, sine = round(math.cos(angle), 6), round(math.sin(angle), 6)
        return Place(self.canvas, self.x, self.y, self.unit, mark, cosine, sine)

    def point(self, x: float, y: float) -> Point:
        along, up = x * self.cosine - y * self.sine, x * self.sine + y * self.cosine
        return self.x + along * self.unit, self.y - up * self.unit

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        self.canvas.polygon([self.point(x, y) for x, y in points], colour, self.mark)

    def box(self, left: float, bottom: float, right: float, top: float, colour: Colour) -> None:
        self.polygon(((left, bottom), (right, bottom), (right, top), (left, top)), colour)

    def disc(self, x: float, y: float, radius_x: float, radius_y: float, colour: Colour) -> None:
        if abs(self.sine) > abs(self.cosine):
            radius_x, radius_y = radius_y, radius_x
        unit = self.unit
        self.canvas.ellipse(self.point(x, y), radius_x * unit, radius_y * unit, colour, self.mark)

    def limb(self, points: Sequence[Point], width: float, colour: Colour) -> None:
        """A bent bar with round joints and ends."""
        joints = [self.point(x, y) for x, y in points]
        self.canvas.line(joints, width * self.unit, colour, self.mark)
        radius = width * self.unit / 2
        if radius >= 1.5:
            for joint in joints:
                self.canvas.ellipse(joint, radius, radius, colour, self.mark)

    def shadow(self, width: float, floor: Colour) -> None:
        """A contact shadow on the floor; it is floor, not furniture."""
        half = width / 2 * self.unit
        self.canvas.ellipse((self.x, self.y), half, half * 0.28, shade(floor, 0.62), FLOOR)
