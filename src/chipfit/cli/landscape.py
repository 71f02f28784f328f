"""The command that shows what a search walks on: landscape."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chipfit.cli.options import EstimatorFile, Json, Shape, absolute, input_shape
from chipfit.cli.output import detail_of, fitting, people, print_json, progress

if TYPE_CHECKING:
    from collections.abc import Sequence

    from chipfit.estimate.estimator import Estimator
    from chipfit.graph.graph import Graph
    from chipfit.report.landscape import Step
    from chipfit.run.problem import Problem
    from chipfit.spaces.curate import Curated
    from chipfit.spaces.landscape import Landscape

SHOWN = 8
"""Reasons for removed options that are shown for each decision."""


def landscape(
    model: Annotated[str, typer.Argument(help="A study file (.toml), or a model as in estimate.")],
    target: Annotated[str | None, typer.Option("--target", "-t", help="A chip; a study file names its own.")] = None,
    decision: Annotated[
        list[str] | None, typer.Option(help="What varies: a decision, or a layer of a model; again for a second.")
    ] = None,
    run: Annotated[Path | None, typer.Option(help="A run of the study, whose path is drawn as well.")] = None,
    estimator: EstimatorFile = None,
    shape: Shape = None,
    out: Annotated[Path | None, typer.Option(help="The picture to write (.svg or .png).")] = None,
    json: Json = False,
) -> None:
    """How latency goes along one or two decisions, smooth or rocky, and which options are worth offering.

    Of a model every channel count of a layer is looked at, by default of the slowest one.
    """
    from chipfit.report.landscape import check_ending, path_of, write_picture
    from chipfit.run.summary import summarise
    from chipfit.spaces import landscape as landscapes
    from chipfit.spaces.curate import curate

    if out is not None:
        check_ending(out)
    steps: list[Step] = []
    if model.endswith(".toml"):
        problem = _study(Path(model), target, estimator, run)
        space, prepared, used = problem.space, problem.prepared, problem.estimator
        steps = path_of(summarise(run)) if run is not None else []
        names = decision or [landscapes.widest(space, prepared)]
    else:
        space, names, used = _model(model, target, decision or [], estimator, shape, run)
        prepared = used.prepare(space)
    found = landscapes.landscape(space, prepared, names)
    curated = curate(space, prepared.tables) if prepared.tables is not None else None
    title = f"{model if len(model) < 40 else Path(model).name} on {used.target.name}"
    kept = [curated.kept[index] for index in found.decisions] if curated is not None else [()] * len(names)
    if out is not None:
        write_picture(found, kept, steps, _headline(found, title), _subtitle(found, used), out)
    if json:
        print_json(_as_json(model, found, curated, steps, used))
        return
    _show(found, curated, title, out)


def _study(file: Path, target: str | None, estimator: Path | None, run: Path | None) -> Problem:
    """The study made ready, as its run knows it where there is one."""
    from chipfit.cli.options import overrides
    from chipfit.errors import InvalidInput
    from chipfit.run.problem import prepare, reopen
    from chipfit.run.study import load_study
    from chipfit.run.summary import summarise

    study = load_study(file, overrides([], {"target": target, "estimator": absolute(estimator)}))
    if run is None:
        return prepare(study, progress("fitting an estimator"))
    summary = summarise(run)
    for name in ("model", "target", "input_shape", "classes", "space"):
        if getattr(summary.study, name) != getattr(study, name):
            raise InvalidInput(f"{run} is a run of another study than {file}: their {name} differs")
    return reopen(summary, progress("preparing"))


def _model(
    model: str, target: str | None, layers: Sequence[str], file: Path | None, shape: str | None, run: Path | None
) -> tuple[Graph, list[str], Estimator]:
    """A model with every channel count of the layers open, the names of its decisions, and what predicts."""
    from chipfit.errors import InvalidInput
    from chipfit.estimate.store import estimator_for
    from chipfit.graph.channels import channel_groups
    from chipfit.nets.load import load
    from chipfit.spaces.sizes import open_widths
    from chipfit.targets import load_target

    if target is None:
        raise InvalidInput("landscape of a model needs --target; chipfit targets lists the chips")
    if run is not None:
        raise InvalidInput("--run shows the path of a study's search; give that study (.toml) instead of a model")
    network = load(model, input_shape=input_shape(shape))
    chip = load_target(target)
    used = estimator_for(chip, None, file, progress=fitting(chip.name))
    groups = {group.name: group for group in channel_groups(network.graph) if group.fixed is None}
    names = [layer.removesuffix(".width") for layer in layers]
    if not names:
        slowest = sorted(used.by_layer(network), key=lambda layer: -layer.latency_s)
        names = [name for layer in slowest for name, group in groups.items() if layer.name in group.members][:1]
    if not names:
        raise InvalidInput(f"{model} has no layer whose width can change")
    if unknown := [name for name in names if name not in groups]:
        raise InvalidInput(f"{model} has no width {unknown[0]!r} that can change; it has {', '.join(groups)}")
    given = {name: int(groups[name].width) for name in names}  # type: ignore[arg-type]
    graph = open_widths(network.graph, groups={name: range(1, width * 5 // 4 + 1) for name, width in given.items()})
    return graph, [f"{name}.width" for name in names], used


def _headline(found: Landscape, title: str) -> str:
    """What the picture says: the largest step between two neighbouring options, and who it is about."""
    import numpy as np

    latency, _ = found.line(0)
    ratios = latency[1:] / latency[:-1]
    if len(found.decisions) > 1 or not len(ratios):
        return title
    at = int(np.abs(np.log(ratios)).argmax())
    labels = found.labels(0)
    return f"{title}: {labels[at]} to {labels[at + 1]} costs {(ratios[at] - 1) * 100:+.1f} %"


def _subtitle(found: Landscape, used: Estimator) -> str:
    return f"{detail_of(used)}; all other decisions as given"


def _show(found: Landscape, curated: Curated | None, title: str, out: Path | None) -> None:
    """The same in words."""
    from chipfit.report.words import amount
    from chipfit.spaces.landscape import terrain

    console = people()
    console.print(title, style="bold", highlight=False, markup=False)
    for axis, index in enumerate(found.decisions):
        latency, macs = found.line(axis)
        shape = terrain(latency, macs)
        name, labels = found.space.decisions[index].name, found.labels(axis)
        ends = f"{amount('latency', float(latency.min()))} to {amount('latency', float(latency.max()))}"
        lines = [
            f"{name}: {len(labels)} options, {labels[0]} to {labels[-1]}, {ends}",
            f"  {shape.flat:.0%} of the steps are flat, {shape.falling:.0%} fall though the network grows; "
            f"roughness {shape.roughness:.2f}; larger costs more in {shape.concordance:.0%} of pairs",
        ]
        if curated is not None:
            kept = [found.space.decisions[index].options[option] for option in curated.kept[index]]
            lines.append(f"  worth offering: {', '.join(map(str, kept))}")
            reasons = curated.reasons().get(name, ())
            lines += [f"    {sentence}" for sentence in reasons[:SHOWN]]
            lines += [f"    and {len(reasons) - SHOWN} more reasons (all: --json)"] if len(reasons) > SHOWN else []
        for line in lines:
            console.print(line, highlight=False, markup=False)
    if curated is None:
        console.print("  the tables of this space are too large to say which options are worth offering")
    if out is not None:
        console.print(f"  picture: {out}", highlight=False, markup=False)


def _as_json(
    model: str, found: Landscape, curated: Curated | None, steps: Sequence[Step], used: Estimator
) -> dict[str, Any]:
    """The landscape as programs read it; options by MACs, the least first."""
    from chipfit.spaces.landscape import terrain

    detail = detail_of(used)
    decisions: list[dict[str, Any]] = []
    for axis, index in enumerate(found.decisions):
        latency, macs = found.line(axis)
        name, offered = found.space.decisions[index].name, found.space.decisions[index].options
        item: dict[str, Any] = {"name": name, "options": found.labels(axis), "given": offered[0]}
        item["latency_s"] = {"values": latency.tolist(), "source": "predicted", "detail": detail}
        item["macs"] = {"values": [int(value) for value in macs], "source": "counted"}
        item["terrain"] = {"latency": asdict(terrain(latency, macs)), "macs": asdict(terrain(macs, macs))}
        if curated is not None:
            item["kept"] = [offered[option] for option in curated.kept[index]]
            item["reasons"] = list(curated.reasons().get(name, ()))
        decisions.append(item)
    data: dict[str, Any] = {"model": model, "target": used.target.name, "decisions": decisions}
    if len(found.decisions) > 1:
        data["latency_s"] = {"values": found.latency_s.tolist(), "source": "predicted", "detail": detail}
    options = [decision.options for decision in found.space.decisions]
    data["path"] = [
        {
            "options": {d["name"]: options[i][step.code[i]] for d, i in zip(decisions, found.decisions, strict=True)},
            "better": step.better,
        }
        for step in steps
    ]
    return data
