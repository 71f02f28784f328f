"""Test examples side by side: the truth, what the baseline sees and what the best network sees, as small pictures."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from chipfit.report.findings import baseline_of, winner
from chipfit.run.examples import Example, Examples, read_examples
from chipfit.tasks.examples import LEAST_SCORE, Seen

if TYPE_CHECKING:
    from chipfit.run.journal import Trial
    from chipfit.run.summary import Summary

WIDTH = 220
"""Pixels that a picture has across at least, by whole factors."""

COLOURS = ("#56b4e9", "#d55e00", "#009e73", "#f0e442", "#cc79a7", "#0072b2", "#e69f00", "#999999")
"""Told apart by people who see colours differently (Okabe and Ito 2008); classes beyond the last begin anew."""

COVER = 0.55
"""How much of a picture the colours of a mask cover."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture as a data URI ("" where examples have none) and its words; `wrong` where they are not the truth."""

    picture: str
    text: str
    wrong: bool


@dataclass(frozen=True, slots=True)
class Gallery:
    """A row of panels for each example, columns by name; `keys` are colours and the classes that they stand for."""

    note: str
    columns: tuple[str, ...]
    rows: tuple[tuple[int, tuple[Panel, ...]], ...]
    keys: tuple[tuple[str, str], ...]


def gallery(summary: Summary) -> Gallery | None:
    """The examples of a run with its baseline and its best row, None where none are kept."""
    found, baseline, shown = read_examples(summary.directory), baseline_of(summary), _best(summary)
    if found is None or baseline is None:
        return None
    named: list[tuple[str, Trial]] = [("baseline", baseline), *([shown] if shown is not None else [])]
    named = [(name, trial) for name, trial in named if trial.number in found.examples[0].found]
    rows = tuple((example.index, _panels(example, [trial.number for _, trial in named])) for example in found.examples)
    return Gallery(
        _note(found, named), ("truth", *(name for name, _ in named)), rows, _keys(found, [t.number for _, t in named])
    )


def _best(summary: Summary) -> tuple[str, Trial] | None:
    """The best row that holds all limits, else the last that there is."""
    best = winner(summary)
    rows = [best] if best is not None else [row for row in summary.rows if row.trial and row.name != "baseline"][-1:]
    return next(((row.name, row.trial) for row in rows if row.trial is not None), None)


def _note(found: Examples, named: Sequence[tuple[str, Trial]]) -> str:
    some = found.examples[0]
    what = "sounds" if some.image is None else "images"
    boxes = f" Boxes with a score of {LEAST_SCORE} or more." if any(each.truth.boxes for each in found.examples) else ""
    by = "their int8 files" if all(trial.number in found.int8 for _, trial in named) else "the networks"
    return f"The first test {what} that hold something, not chosen by how well they do; seen by {by}.{boxes}"


def _panels(example: Example, numbers: Sequence[int]) -> tuple[Panel, ...]:
    everything = [example.truth, *(example.found[number] for number in numbers)]
    compared = example.truth.mask is None and not example.truth.boxes
    return tuple(
        Panel(picture(example.image, each), each.text, compared and each.text != example.truth.text)
        for each in everything
    )


def _keys(found: Examples, numbers: Sequence[int]) -> tuple[tuple[str, str], ...]:
    """Colours of the classes that appear in boxes or masks."""
    there: set[int] = set()
    for example in found.examples:
        for each in (example.truth, *(example.found[number] for number in numbers)):
            there |= {box.kind for box in each.boxes}
            if each.mask is not None:
                there |= set(np.unique(each.mask).tolist())
    return tuple((_colour(kind), found.classes[kind]) for kind in sorted(there) if kind < len(found.classes))


def picture(image: NDArray[np.uint8] | None, each: Seen) -> str:
    """A test image with what was seen drawn on it, as the data URI of a WebP; "" without an image."""
    if image is None:
        return ""
    factor = max(1, -(-WIDTH // image.shape[1]))
    drawn = Image.fromarray(_covered(image, each.mask)).convert("RGB")
    drawn = drawn.resize((drawn.width * factor, drawn.height * factor), Image.Resampling.NEAREST)
    brush = ImageDraw.Draw(drawn)
    for box in reversed(each.boxes):
        left, top, right, bottom = box.edges
        corners = (left * drawn.width, top * drawn.height, right * drawn.width - 1, bottom * drawn.height - 1)
        whole = (corners[0], corners[1], max(corners[0], corners[2]), max(corners[1], corners[3]))
        brush.rectangle(whole, outline="black", width=4)
        brush.rectangle(
            (whole[0] + 1, whole[1] + 1, max(whole[0] + 1, whole[2] - 1), max(whole[1] + 1, whole[3] - 1)),
            outline=_colour(box.kind),
            width=2,
        )
    file = io.BytesIO()
    drawn.save(file, "WEBP", quality=80, method=4)
    return f"data:image/webp;base64,{base64.b64encode(file.getvalue()).decode()}"


def _covered(image: NDArray[np.uint8], mask: NDArray[np.uint8] | None) -> NDArray[np.uint8]:
    """An image under the colours of its classes; what belongs to none stays as it is."""
    if mask is None:
        return image
    coloured = np.stack([image] * 3, axis=2) if image.ndim == 2 else image
    table = np.array([tuple(bytes.fromhex(_colour(kind)[1:])) for kind in range(256)], np.float32)
    cover = np.where(mask == 255, 0.0, COVER)[..., None]
    return (coloured * (1 - cover) + table[mask] * cover).round().astype(np.uint8)


def _colour(kind: int) -> str:
    return COLOURS[kind % len(COLOURS)]
