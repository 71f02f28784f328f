"""Commands that look: targets, estimate, space."""

from __future__ import annotations

from math import prod
from pathlib import Path
from typing import Annotated, Any

import typer

from chipfit.cli.ledgers import plan_json
from chipfit.cli.options import EstimatorFile, Json, Precision, Shape, TargetName, absolute, input_shape, overrides
from chipfit.cli.output import cost_figures, detail_of, figure, fitting, people, print_json, progress


def targets(
    show: Annotated[
        list[str] | None, typer.Argument(help="show TARGET: one chip, with the parallelism that measurements reveal.")
    ] = None,
    json: Json = False,
) -> None:
    """The chips that chipfit knows, and where their figures come from; `targets show T` for one of them."""
    from chipfit.errors import InvalidInput
    from chipfit.report import tables
    from chipfit.targets import shipped_targets

    if show:
        if len(show) != 2 or show[0] != "show":
            raise InvalidInput(f"targets {' '.join(show)}: write `chipfit targets` or `chipfit targets show TARGET`")
        _show(show[1], json)
        return
    known = shipped_targets()
    if json:
        print_json({"targets": [target.model_dump(mode="json") for target in known]})
    else:
        people().print(tables.targets(known))


def _show(name: str, json: bool) -> None:
    from dataclasses import asdict

    from chipfit.estimate.parallelism import granularities
    from chipfit.report import tables

    used = _estimator(name, None, None)
    if json:
        found = [asdict(item) for item in granularities(used)]
        print_json({"target": used.target.model_dump(mode="json"), "parallelism": found})
    else:
        people().print(tables.parallelism(used.target, used))


def estimate(
    model: Annotated[
        str, typer.Argument(help=".onnx or .tflite file, module:function for PyTorch, or a name of the zoo.")
    ],
    target: TargetName,
    precision: Precision = None,
    estimator: EstimatorFile = None,
    shape: Shape = None,
    per_layer: Annotated[bool, typer.Option("--per-layer", help="All subgraphs, not only the slowest.")] = False,
    check: Annotated[bool, typer.Option("--check", help="Measure it with the chip's own tool as well.")] = False,
    json: Json = False,
) -> None:
    """Latency, energy, weights and peak memory of a network on a chip; where the time goes."""
    from chipfit.estimate import check as checking
    from chipfit.nets.load import load
    from chipfit.report import tables

    network = load(model, input_shape=input_shape(shape))
    used = _estimator(target, precision, estimator)
    if not json:
        people().print(tables.estimate(model, network, used, per_layer=per_layer))
        if check:
            people().print(tables.checked(checking.check(used, network)))
        return
    figures = cost_figures(used.costs(network), 0, used)
    peak, on_chip = used.peak(network), used.target.memory.on_chip_bytes
    figures["peak_activation_bytes"] |= {
        "tensors": [name for name, _ in peak.held],
        "on_chip_bytes": on_chip,
        "fits_on_chip": peak.size <= on_chip,
    }
    if other := used.reordered(network):
        figures["peak_activation_bytes"]["reordered"] = figure(other.size, "counted") | {"order": list(other.order)}
    if check:
        found = checking.check(used, network)
        detail = f"{found.measured.source.tool} {found.measured.source.version}"
        figures["check"] = {
            "latency_s": figure(found.measured.latency_s, found.measured.source.kind, detail=detail),
            "peak_bytes": figure(found.measured.peak_bytes, found.measured.source.kind, detail=detail),
            "elsewhere": list(found.elsewhere),
        }
    print_json(
        {
            "model": model,
            "target": used.target.name,
            "precision": used.precision_name,
            "chipfit": _version(),
            **figures,
            "unsupported": [
                {"node": item.node, "operator": item.operator, "why": item.why, "remedy": item.remedy}
                | {"latency_s": figure(None, "unavailable", detail=item.why)}
                for item in used.unsupported(network.graph)
            ],
            "subgraphs": [_layer(layer) for layer in used.by_layer(network)],
        }
    )


def _layer(layer: Any) -> dict[str, Any]:
    return {
        "name": layer.name,
        "kind": layer.kind,
        "latency_s": figure(layer.latency_s, "predicted", spread=layer.spread_s),
        "energy_j": figure(layer.energy_j, "modelled"),
        "macs": layer.macs,
        "weight_bytes": layer.weight_bytes,
        "activation_bytes": layer.activation_bytes,
        "moved_bytes": layer.moved_bytes,
        "utilisation": layer.utilisation,
        "bound": layer.bound,
        "bound_by": layer.bound_by,
        "share": layer.share,
        "in_range": layer.in_range,
    }


def _estimator(target: str, precision: str | None, file: Path | None) -> Any:
    from chipfit.estimate.store import estimator_for
    from chipfit.targets import load_target

    chip = load_target(target)
    return estimator_for(chip, precision, file, progress=fitting(chip.name))


def _version() -> str:
    import chipfit

    return chipfit.__version__


def space(
    model: Annotated[str, typer.Argument(help="A study file (.toml), or a model as in estimate.")],
    target: Annotated[str | None, typer.Option("--target", "-t", help="A chip; a study file names its own.")] = None,
    limit: Annotated[list[str] | None, typer.Option(help="COST=BOUND, such as latency=2ms; again for more.")] = None,
    estimator: EstimatorFile = None,
    shape: Shape = None,
    json: Json = False,
) -> None:
    """Before a search: the decisions, the size of the space, what its networks cost, which limits can be met."""
    from chipfit.errors import InvalidInput
    from chipfit.report import tables
    from chipfit.report.costs import plan_lines
    from chipfit.run.ledger import plan
    from chipfit.run.power import draw, place
    from chipfit.run.problem import prepare
    from chipfit.run.study import load_study, make_study

    changes = overrides(limit or [], {"target": target, "estimator": absolute(estimator)})
    if model.endswith(".toml"):
        study = load_study(Path(model), changes)
    else:
        if target is None:
            raise InvalidInput("space of a model needs --target; chipfit targets lists the chips")
        opened = {"fuse": True, "depth_multiplier": True, "width": True}
        limits = {key.removeprefix("limits."): text for key, text in changes.items() if key.startswith("limits.")}
        chosen = {"model": model, "target": target, "estimator": absolute(estimator)}
        data = {"name": "space", **chosen, "input_shape": input_shape(shape), "limits": limits, "space": opened}
        study = make_study(data, "command line")
    problem = prepare(study, progress("fitting an estimator"))
    found = problem.preflight()
    where = place(study.ledger.country)
    planned = plan(problem, draw()) if model.endswith(".toml") else None
    if not json:
        people().print(tables.preflight(problem, found))
        if planned is not None:
            lines = plan_lines(planned, where)
            people().print(lines[0], highlight=False, markup=False)
            people().print(tables.remark(lines[1:]))
        problem.require_satisfiable()
        return
    names = [item.name for item in problem.space.decisions]
    print_json(
        {
            "model": study.model,
            "target": problem.estimator.target.name,
            "estimator": detail_of(problem.estimator),
            "decisions": [
                {"name": item.name, "options": list(item.options), "offered": [item.options[index] for index in kept]}
                for item, kept in zip(problem.space.decisions, problem.offered, strict=True)
            ],
            "networks": prod(problem.space.cardinalities),
            "offered": found.size,
            "curation": None if problem.curated is None else problem.curated.reasons(),
            "sampled": found.sampled,
            "costs": {
                name: {
                    "baseline": item.baseline,
                    "minimum": item.minimum,
                    "median": item.median,
                    "maximum": item.maximum,
                    "exact": item.exact,
                    "cheapest": list(item.cheapest),
                }
                for name, item in found.ranges.items()
            },
            "limits": {
                name: {"value": bound, "share": found.shares[name], "excess": found.excess.get(name, 0.0)}
                for name, bound in problem.limits.items()
            },
            "share_within_limits": found.share,
            "feasible": found.feasible is not None,
            "influence": {
                cost: {
                    "source": "exact" if cost in found.known else "sampled",
                    "of": dict(zip(names, shares, strict=True)),
                }
                for cost, shares in found.influence.items()
            },
            "search": None if planned is None else plan_json(planned, where),
        }
    )
    problem.require_satisfiable()
