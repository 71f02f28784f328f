"""Pictures of what networks see: the same every time, drawn where it is, small, and in the page."""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chipfit.report.examples import COLOURS, gallery, picture
from chipfit.report.page import page
from chipfit.run.examples import FILE
from chipfit.run.problem import Problem
from chipfit.run.summary import Summary
from chipfit.tasks.examples import Box, Seen


def pixels(uri: str) -> np.ndarray:
    kind, _, data = uri.partition(";base64,")
    assert kind == "data:image/webp"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(data))))


def colour(kind: int) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(COLOURS[kind][1:]), np.uint8).astype(int)


@pytest.mark.parametrize("shape", [(55, 55, 3), (55, 110), (300, 300, 3)])
def test_boxes_are_drawn_where_they_are(shape: tuple[int, ...]) -> None:
    image = np.full(shape, 128, np.uint8)
    drawn = pixels(picture(image, Seen("", (Box(1, 1.0, (0.2, 0.4, 0.6, 0.8)),)))).astype(int)
    height, width = drawn.shape[:2]
    assert width >= 220
    assert height * shape[1] == width * shape[0]
    changed = np.abs(drawn - 128).max(axis=2) > 60
    rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
    for found, wanted in (
        (rows[0], 0.4 * height),
        (rows[-1], 0.8 * height),
        (columns[0], 0.2 * width),
        (columns[-1], 0.6 * width),
    ):
        assert abs(found - wanted) <= 3
    middle = drawn[int(0.6 * height), int(0.4 * width)]
    assert np.abs(middle - 128).max() < 10


def test_masks_colour_every_pixel_but_those_that_do_not_count() -> None:
    image = np.full((64, 64, 3), 200, np.uint8)
    mask = np.repeat([0, 2, 255, 255], 16).astype(np.uint8) * np.ones((64, 1), np.uint8)
    drawn = pixels(picture(image, Seen("", mask=mask))).astype(int)
    width = drawn.shape[1]
    for place, kind in ((0.1, 0), (0.4, 2)):
        wanted = 0.45 * 200 + 0.55 * colour(kind)
        assert np.abs(drawn[100, int(place * width)] - wanted).max() < 14
    assert np.abs(drawn[100, int(0.8 * width)] - 200).max() < 10


def test_the_same_is_drawn_every_time() -> None:
    image = np.random.default_rng(0).integers(0, 256, (48, 48, 3), dtype=np.uint8)
    seen = Seen("", (Box(0, 0.5, (0.0, 0.0, 1.0, 1.0)), Box(0, 0.4, (0.5, 0.5, 0.5, 0.5))))
    assert picture(image, seen) == picture(image, seen)
    assert picture(None, seen) == ""


def kept(summary: Summary, directory: Path, image: str | None) -> Summary:
    """The run with two examples kept."""
    (directory / FILE).parent.mkdir(exist_ok=True)
    numbers = [trial.number for trial in summary.trials if trial.stage == "final"]
    one = {"text": "cat <b>", "boxes": [], "mask": None}
    found = {str(number): one | {"text": f"dog{number}"} for number in numbers}
    examples = [{"index": index, "image": image, "truth": one, "found": found} for index in (3, 7)]
    (directory / FILE).write_text(json.dumps({"classes": ["cat"], "int8": numbers, "examples": examples}))
    return replace(summary, directory=directory)


def test_the_page_shows_truth_baseline_and_the_best_row(finished: Summary, problem: Problem, tmp_path: Path) -> None:
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "PNG")
    summary = kept(finished, tmp_path, base64.b64encode(file.getvalue()).decode())
    found = gallery(summary)
    assert found is not None
    best = next(row for row in summary.rows if row.name == "V3 both")
    assert found.columns == ("truth", "baseline", "V3 both")
    assert best.trial is not None
    assert found.rows[0][1][2].text == f"dog{best.trial.number}"
    assert [panel.wrong for panel in found.rows[0][1]] == [False, True, True]
    assert "test images that hold something" in found.note
    content = page(summary, problem)
    assert content.count('<img src="data:image/webp;base64,') == 6
    assert 'alt="test example 3, truth: cat &lt;b&gt;"' in content
    assert page(summary, problem) == content


def test_sounds_are_words_without_pictures(finished: Summary, problem: Problem, tmp_path: Path) -> None:
    content = page(kept(finished, tmp_path, None), problem)
    assert "first test sounds" in content
    assert "<img" not in content


def test_without_examples_there_is_no_section(finished: Summary, problem: Problem) -> None:
    assert gallery(finished) is None
    assert "Example predictions" not in page(finished, problem)
