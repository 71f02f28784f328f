"""Drawings as a list of marks, written as SVG or as PNG.

Few kinds of marks are enough for the pictures that leave chipfit as files; a plotting library would bring many times
what it is used for. Places are in pixels from the upper left corner.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from chipfit.errors import InvalidInput
from chipfit.files import write_whole
from chipfit.report.words import plain

SCALE = 2
"""Pixels of a PNG by those of its drawing: sharp on a projector."""
FINE = 2
"""What a PNG is drawn larger and then reduced by, for smooth edges."""

_FAMILY = "system-ui, 'Segoe UI', Roboto, Helvetica, Arial, sans-serif"
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}
_PLAINER = str.maketrans({"×": "x", "–": "-", "−": "-", "→": ">", "µ": "u", "≤": "<", "…": "."})
"""What Pillow's own letters lack."""

Place = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Line:
    """Straight lines from place to place."""

    places: tuple[Place, ...]
    colour: str
    width: float = 1.0


@dataclass(frozen=True, slots=True)
class Dot:
    """A disc, with a white rim that keeps it apart from what lies under it."""

    place: Place
    radius: float
    colour: str
    rim: float = 1.0


@dataclass(frozen=True, slots=True)
class Words:
    """One line of text on its baseline; `turned` reads from below upwards."""

    place: Place
    text: str
    size: float
    colour: str
    anchor: Literal["start", "middle", "end"] = "start"
    bold: bool = False
    turned: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """Coloured cells (rows, columns, 3) between the upper left and the lower right corner."""

    corner: Place
    opposite: Place
    colours: NDArray[np.uint8]


Mark = Line | Dot | Words | Cells


@dataclass(frozen=True, slots=True, eq=False)
class Drawing:
    """Marks in the order in which they are drawn, on white. `title` is what a screen reader says."""

    width: int
    height: int
    title: str
    marks: Sequence[Mark]


def write(drawing: Drawing, path: Path) -> None:
    """Writes a drawing as .svg or .png. Raises `InvalidInput` for another ending, and what `write_whole` raises."""
    writers = {".svg": lambda: svg(drawing).encode(), ".png": lambda: png(drawing)}
    check_ending(path)
    write_whole(path, writers[path.suffix.lower()]())


def check_ending(path: Path) -> None:
    """Raises `InvalidInput` where a drawing cannot be written under this name."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise InvalidInput(f"{path}: pictures are written as .svg or .png; give a name that ends so")


def svg(drawing: Drawing) -> str:
    """The drawing as an SVG file that needs nothing else."""
    size = {"width": str(drawing.width), "height": str(drawing.height)}
    root = ElementTree.Element("svg", {"xmlns": "http://www.w3.org/2000/svg", "role": "img", **size})
    root.set("viewBox", f"0 0 {drawing.width} {drawing.height}")
    root.set("font-family", _FAMILY)
    ElementTree.SubElement(root, "title").text = plain(drawing.title)
    ElementTree.SubElement(root, "rect", {**size, "fill": "#ffffff"})
    for mark in drawing.marks:
        _svg_mark(root, mark)
    return ElementTree.tostring(root, encoding="unicode")


def _svg_mark(root: ElementTree.Element, mark: Mark) -> None:
    match mark:
        case Line():
            points = " ".join(f"{x:.1f},{y:.1f}" for x, y in mark.places)
            style = {"fill": "none", "stroke": mark.colour, "stroke-width": f"{mark.width:g}"}
            ElementTree.SubElement(root, "polyline", {"points": points, "stroke-linejoin": "round", **style})
        case Dot():
            style = {"fill": mark.colour, "stroke": "#ffffff", "stroke-width": f"{mark.rim:g}"}
            place = {"cx": f"{mark.place[0]:.1f}", "cy": f"{mark.place[1]:.1f}", "r": f"{mark.radius:g}"}
            ElementTree.SubElement(root, "circle", {**place, **style})
        case Words():
            x, y = mark.place
            style = {"font-size": f"{mark.size:g}", "fill": mark.colour, "text-anchor": mark.anchor}
            style |= {"font-weight": "600"} if mark.bold else {}
            style |= {"transform": f"rotate(-90 {x:.1f} {y:.1f})"} if mark.turned else {}
            element = ElementTree.SubElement(root, "text", {"x": f"{x:.1f}", "y": f"{y:.1f}", **style})
            element.text = plain(mark.text)
        case Cells():
            (left, top), (right, bottom) = mark.corner, mark.opposite
            data = base64.b64encode(_encoded(Image.fromarray(mark.colours))).decode()
            place = {"x": f"{left:.1f}", "y": f"{top:.1f}", "width": f"{right - left:.1f}"}
            place |= {"height": f"{bottom - top:.1f}", "preserveAspectRatio": "none"}
            style = {"style": "image-rendering:pixelated", "href": f"data:image/png;base64,{data}"}
            ElementTree.SubElement(root, "image", {**place, **style})


def png(drawing: Drawing) -> bytes:
    """The drawing as a PNG file of `SCALE` times its size."""
    large = SCALE * FINE
    image = Image.new("RGB", (drawing.width * large, drawing.height * large), "#ffffff")
    for mark in drawing.marks:
        _draw(image, mark, large)
    return _encoded(image.resize((drawing.width * SCALE, drawing.height * SCALE), Image.Resampling.LANCZOS))


def _draw(image: Image.Image, mark: Mark, scale: int) -> None:
    canvas = ImageDraw.Draw(image)
    match mark:
        case Line():
            places = [(x * scale, y * scale) for x, y in mark.places]
            canvas.line(places, fill=mark.colour, width=max(1, round(mark.width * scale)), joint="curve")
        case Dot():
            x, y = (value * scale for value in mark.place)
            for radius, colour in ((mark.radius + mark.rim / 2, "#ffffff"), (mark.radius - mark.rim / 2, mark.colour)):
                reach = radius * scale
                canvas.ellipse((x - reach, y - reach, x + reach, y + reach), fill=colour)
        case Words():
            _write(image, mark, scale)
        case Cells():
            (left, top), (right, bottom) = (tuple(round(v * scale) for v in p) for p in (mark.corner, mark.opposite))
            cells = Image.fromarray(mark.colours).resize((right - left, bottom - top), Image.Resampling.NEAREST)
            image.paste(cells, (left, top))


def _write(image: Image.Image, words: Words, scale: int) -> None:
    font = ImageFont.load_default(words.size * scale)
    text = plain(words.text).translate(_PLAINER)
    x, y = (value * scale for value in words.place)
    heavier: dict[str, Any] = {"stroke_width": 0.02 * words.size * scale} if words.bold else {}
    if not words.turned:
        ImageDraw.Draw(image).text((x, y), text, words.colour, font, _ANCHORS[words.anchor], **heavier)
        return
    length, high = int(font.getlength(text)) + 1, int(2 * words.size * scale)
    mask = Image.new("L", (length, high))
    ImageDraw.Draw(mask).text((0, high * 0.75), text, 255, font, "ls", **heavier)
    before = {"start": 0.0, "middle": length / 2, "end": float(length)}[words.anchor]
    place = round(x - 0.75 * high), round(y - length + before)
    image.paste(Image.new("RGB", (high, length), words.colour), place, mask.rotate(90, expand=True))


def _encoded(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, "PNG", optimize=True)
    return file.getvalue()
