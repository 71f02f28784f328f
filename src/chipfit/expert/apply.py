"""Changes made: the network with inherited weights on disk, read back and estimated anew, and how to train it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tomli_w

from chipfit.errors import InvalidInput
from chipfit.expert.advice import Advice
from chipfit.expert.changes import Change
from chipfit.expert.limits import LIMITS
from chipfit.files import write_whole
from chipfit.graph.graph import Graph
from chipfit.nets.inherit import Inherited, inherit
from chipfit.nets.network import Network
from chipfit.nets.written import format_of, written

ROUNDING = 1e-6
"""Relative difference between what was promised and what the written file costs that is no difference."""

REWRITTEN = 5e-3
"""The same where weights were written as other numbers (int8): compressed, they take other sizes."""


Write = Callable[[Network, Path], Network]
"""Writes a network to a path and gives what is read back from it."""


@dataclass(frozen=True, slots=True)
class Applied:
    """What was written. `promised` and `costs` are those of the changed network and of the file read back, by cost;
    `labels` count the nodes with weights by what became of these; `notes` say it node by node."""

    path: Path
    recipe: Path
    changes: tuple[Change, ...]
    promised: Mapping[str, float]
    costs: Mapping[str, float]
    labels: Mapping[str, int]
    notes: tuple[str, ...]
    rounding: float = ROUNDING

    @property
    def kept_promise(self) -> bool:
        """Whether the written file costs what was promised, but for `rounding`."""
        return all(abs(self.costs[name] / value - 1) <= self.rounding for name, value in self.promised.items())


def apply(advice: Advice, code: Sequence[int], path: Path, write: Write | None = None) -> Applied:
    """Writes the network that a set of changes makes: `.onnx`, `.tflite` (float), or a folder with PyTorch code.

    `write` writes it in another way, such as int8, and gives what is read back. Weights are inherited; a recipe for
    training lies beside it as "<name>.recipe.toml". Raises `InvalidInput` for a set without changes and a path that is
    none of these, and what the exporters raise; nothing is left half written.
    """
    made = tuple(change for change in advice.changes.known if code[change.decision] == change.option)
    if not made:
        raise InvalidInput("no change was chosen, so there is nothing to write; give ids of the advice, such as A1,A2")
    found = inherit(advice.network, advice.changes.space, list(code), np.random.default_rng(0))
    network = Network(f"{advice.network.name}-changed", advice.changes.space.close(list(code)), found.weights)
    promised = _costs(advice, network)
    format = format_of(path)
    model = written(network, path, format) if write is None else write(network, path)
    recipe = path.with_name(f"{path.name}.recipe.toml")
    write_whole(recipe, tomli_w.dumps(_recipe(advice, made, found)).encode())
    weighted = {name.rpartition(".")[0] for name in found.weights}
    labels: dict[str, int] = {}
    for key in weighted:
        labels[found.labels[key]] = labels.get(found.labels[key], 0) + 1
    rounding = ROUNDING if write is None else REWRITTEN
    return Applied(path, recipe, made, promised, _costs(advice, model), labels, found.notes, rounding)


def _costs(advice: Advice, network: Network | Graph) -> dict[str, float]:
    found = advice.estimator.costs(network)
    return {name: float(getattr(found, column)[0]) for name, column in LIMITS.items()}


def _recipe(advice: Advice, made: Sequence[Change], found: Inherited) -> dict[str, Any]:
    """How to bring accuracy back, for people and programs: what is new, and what learns from what."""
    touched = {label: sorted(key for key, own in found.labels.items() if own == label) for label in
               ("approximate", "reinitialised")}  # fmt: skip
    if not touched["approximate"] and not touched["reinitialised"]:
        advice_text = "The outputs are those of the network as given: no training is needed."
    else:
        advice_text = (
            "Train on your own data with the network as given as the teacher (distillation on its outputs): first only "
            "the nodes under `reinitialised` and `approximate`, then all, with a tenth of the first learning rate. "
            "Compare accuracy on images that were not trained on before you ship it."
        )
    return {
        "model": advice.network.name,
        "target": advice.estimator.target.name,
        "changes": [{"name": change.name, "what": change.what, "risk": change.risk} for change in made],
        "training": advice_text,
        **touched,
        "notes": list(found.notes),
    }
