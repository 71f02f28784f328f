"""Makes neural networks fit special-purpose chips.

import chipfit

network = chipfit.load("mobilenet_v2-0.35-96")          # or a PyTorch module, or "net.onnx"
chip = chipfit.target("neural-engine")
print(chipfit.estimate(network, chip).latency_s)
space = chipfit.open(network, fuse=True, depth_multiplier=[1.0, 0.75, 0.5])
summary = chipfit.search("study.toml", out="runs/study")
chipfit.export(summary, "V3", "onnx", "faster.onnx")
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from chipfit.estimate.accumulate import Costs
    from chipfit.estimate.design import Area, Designs
    from chipfit.expert.advice import Advice
    from chipfit.graph.graph import Graph
    from chipfit.nets.network import Network
    from chipfit.run.export import Exported
    from chipfit.run.study import Study
    from chipfit.run.summary import Summary
    from chipfit.targets.target import Target

__all__ = ["advise", "design", "estimate", "export", "load", "open", "search", "target"]


def load(
    model: str | Path | nn.Module | Network, *, input_shape: tuple[int, ...] | None = None, classes: int | None = None
) -> Network:
    """A network from a PyTorch module, an .onnx or .tflite file, "module:function", or the name of a baseline.

    `input_shape` has the batch first; `classes` sets the outputs of a baseline. Raises `errors.InvalidInput`.
    """
    from chipfit.nets.load import load as read

    return read(model, input_shape=input_shape, classes=classes)


def target(name: str | Path) -> Target:
    """The description of a chip, by its short name or from a TOML file. Raises `errors.InvalidInput`."""
    from chipfit.targets import load_target

    return load_target(name)


def estimate(network: Network, chip: Target, codes: NDArray[np.int64] | None = None) -> Costs:
    """Latency (s), its spread, energy (J), bytes, MACs and parameters on a chip, each as an (n,) array.

    `network` may be a space from `open`, then `codes` (n, d) says which of its networks.
    """
    from chipfit.estimate.store import default_estimator

    return default_estimator(chip).costs(network.graph, codes)


def advise(network: Network, chip: Target) -> Advice:
    """What to change in a network for a chip, with each change's gain. Raises what `expert.advice.advise` does."""
    from chipfit.estimate.store import default_estimator
    from chipfit.expert.advice import advise as advised

    return advised(network, default_estimator(chip))


def design(
    target: str | Path | Target,
    models: Sequence[str | Path | nn.Module | Network],
    vary: Mapping[str, Sequence[Any]],
    *,
    area: Area | None = None,
    input_shape: tuple[int, ...] | None = None,
) -> Designs:
    """Networks simulated on every combination of varied keys of a target, to compare chips before there is one.

    `vary` goes from keys of the target ("lanes.output_channels", or two joined by "+") to values; `models` are what
    `load` takes, named as they are given. Raises what `estimate.design.compare_designs` raises.
    """
    from chipfit.errors import InvalidInput
    from chipfit.estimate.design import compare_designs
    from chipfit.targets import Target, load_target

    chip = target if isinstance(target, Target) else load_target(target)
    graphs: dict[str, Graph] = {}
    for model in models:
        network = load(model, input_shape=input_shape)
        name = str(model) if isinstance(model, (str, Path)) else network.name
        if name in graphs:
            raise InvalidInput(f"two networks are called {name!r}: give each a name of its own, once")
        graphs[name] = network.graph
    return compare_designs(chip, graphs, vary, area)


def open(network: Network, **edits: Any) -> Network:
    """The space around a network: one keyword for each edit (see `spaces.edits.SPACE_EDITS`), with its options.

    `fuse=True`, `depth_multiplier=[1.0, 0.75]`, `width={"divisor": 16}`, ... The zero code is the network as given.
    """
    from chipfit.nets.network import Network
    from chipfit.spaces.edits import open_space

    return Network(network.name, open_space(network.graph, edits), network.weights)


def search(study: str | Path | Study | Mapping[str, Any], out: str | Path) -> Summary:
    """Runs a study (a TOML file, a mapping with the same keys, or a `Study`) to its end, from where `out` was left.

    Raises what `run.launch.launch` raises.
    """
    from chipfit.run.launch import launch
    from chipfit.run.study import Study, load_study, make_study
    from chipfit.run.summary import summarise

    if isinstance(study, (str, Path)):
        study = load_study(Path(study))
    elif not isinstance(study, Study):
        study = make_study(study)
    for _ in launch(study, Path(out)):
        pass
    return summarise(Path(out))


def export(summary: Summary, trial: str, format: str, path: str | Path) -> Exported:
    """Writes a result as a plain model ("onnx", "tflite" for int8, or "torch") and checks what was written.

    `trial` is a row ("baseline", "V3 both" or its first word) or a trial number. Raises `errors.InvalidInput`.
    """
    from chipfit.run.export import export as write

    return write(summary, trial, format, Path(path))
