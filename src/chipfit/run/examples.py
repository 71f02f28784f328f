"""What fully trained networks make of a few test examples: kept with the run, so that the report needs no data."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from chipfit.files import write_whole
from chipfit.nets.network import load_weights
from chipfit.run.delivered import known_files
from chipfit.run.quantised import int8_file
from chipfit.tasks.examples import Box, Seen, can_be_shown, first_examples, inputs, picture, seen, truth

if TYPE_CHECKING:
    import torch

    from chipfit.graph.graph import Graph
    from chipfit.nets.network import Weights
    from chipfit.run.journal import Journal, Trial
    from chipfit.run.problem import Problem
    from chipfit.tasks.task import Outputs, Task

COUNT = 6
"""Examples that are shown: the first of the test split that hold something, whatever networks make of them."""

FILE = "examples.json"


@dataclass(frozen=True, eq=False, slots=True)
class Example:
    """A test example: its number in the split, its picture (None for a sound), the truth, and what trials see in it."""

    index: int
    image: NDArray[np.uint8] | None
    truth: Seen
    found: Mapping[int, Seen]


@dataclass(frozen=True, eq=False, slots=True)
class Examples:
    """`int8` are the trials whose int8 file was run here; of the others it was the network itself."""

    classes: tuple[str, ...]
    int8: tuple[int, ...]
    examples: tuple[Example, ...]


def keep_examples(problem: Problem, journal: Journal, task: Task, trials: Sequence[Trial]) -> None:
    """Writes what trials see in the first test examples, by their int8 files where these can be run.

    Nothing where the task has nothing to show. Raises `StorageFull`.
    """
    known = read_examples(journal.directory)
    int8 = sorted(number for number, each in known_files(journal).items() if each.ran)
    if known is not None and list(known.int8) == int8:
        return
    if not can_be_shown(task):
        return
    chosen = first_examples(task, COUNT)  # type: ignore[arg-type]
    if not chosen:
        return
    found: dict[int, list[Seen]] = {}
    for trial in trials:
        graph = problem.space.close(trial.code)
        _, _, height, width = graph.inputs[0].shape
        batch = inputs(task, chosen, (int(height), int(width)))  # type: ignore[arg-type]
        if trial.number in int8:
            outputs = _of_file(int8_file(journal.directory, trial.number), batch, len(graph.outputs))
        else:
            outputs = _of_network(graph, load_weights(journal.weights_file(trial.number)), batch)
        read = task.read(outputs)
        found[trial.number] = [seen(task, index, row) for index, row in zip(chosen, read, strict=True)]  # type: ignore[arg-type]
    examples = [
        {
            "index": index,
            "image": _stored(picture(task, index)),  # type: ignore[arg-type]
            "truth": _as_json(truth(task, index)),  # type: ignore[arg-type]
            "found": {str(number): _as_json(each[place]) for number, each in found.items()},
        }
        for place, index in enumerate(chosen)
    ]
    whole = {"classes": list(task.classes), "int8": int8, "examples": examples}
    write_whole(journal.directory / FILE, json.dumps(whole).encode())


def read_examples(directory: Path) -> Examples | None:
    """The examples of a run directory, None where there are none."""
    path = directory / FILE
    if not path.is_file():
        return None
    stored: dict[str, Any] = json.loads(path.read_text())
    examples = tuple(
        Example(
            each["index"],
            _image(each["image"]),
            _of_json(each["truth"]),
            {int(number): _of_json(found) for number, found in each["found"].items()},
        )
        for each in stored["examples"]
    )
    return Examples(tuple(stored["classes"]), tuple(stored["int8"]), examples)


def _of_file(file: Path, batch: torch.Tensor, outputs: int) -> Outputs:
    import torch

    from chipfit.nets.tflite.runtime import run_tflite

    given = tuple(torch.from_numpy(output) for output in run_tflite(file, batch.numpy()))
    return given if outputs > 1 else given[0]


def _of_network(graph: Graph, weights: Weights, batch: torch.Tensor) -> Outputs:
    import torch

    from chipfit.nets.module import GraphModule

    with torch.inference_mode():
        return GraphModule(graph, weights).eval()(batch)


def _as_json(each: Seen) -> dict[str, Any]:
    boxes = [[box.kind, round(box.score, 4), *(round(edge, 5) for edge in box.edges)] for box in each.boxes]
    return {"text": each.text, "boxes": boxes, "mask": _stored(each.mask)}


def _of_json(stored: Mapping[str, Any]) -> Seen:
    boxes = tuple(Box(kind, score, tuple(edges)) for kind, score, *edges in stored["boxes"])
    return Seen(stored["text"], boxes, _image(stored["mask"]))


def _stored(array: NDArray[np.uint8] | None) -> str | None:
    """A picture (height, width) or (height, width, 1 or 3) as the text of a PNG."""
    if array is None:
        return None
    file = io.BytesIO()
    Image.fromarray(array[..., 0] if array.shape[2:] == (1,) else array).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _image(stored: str | None) -> NDArray[np.uint8] | None:
    return None if stored is None else np.asarray(Image.open(io.BytesIO(base64.b64decode(stored))))
