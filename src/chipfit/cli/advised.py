"""Advice as programs read it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chipfit.cli.output import cost_figures, detail_of, figure

if TYPE_CHECKING:
    from chipfit.expert.advice import Advice, Advised, Gain
    from chipfit.expert.apply import Applied
    from chipfit.expert.limits import Chosen
    from chipfit.expert.unchanged import Unchanged


def advice_json(model: str, found: Advice, picked: Chosen | None, made: Applied | None) -> dict[str, Any]:
    """Advice as programs read it; every figure with its source."""
    import chipfit

    detail = detail_of(found.estimator)
    result: dict[str, Any] = {
        "model": model,
        "target": found.estimator.target.name,
        "precision": found.estimator.precision_name,
        "chipfit": chipfit.__version__,
        **cost_figures(found.given, 0, found.estimator),
        **{
            name: [_item(item, detail) for item in items]
            for name, items in (
                ("advised", found.advised),
                ("free", found.free),
                ("sacrifices", found.sacrifices),
                ("left", found.left),
                ("host", found.host),
            )
        },
        "even": [
            {
                "id": item.id,
                "step": item.step,
                "changes": [change.name for change in item.changes],
                "odd": list(item.odd),
                **gain_json(item.gain, detail),
            }
            for item in found.even
        ],
        "unchanged": [_unchanged(item, detail) for item in found.unchanged],
        "together": gain_json(found.together, detail),
        "fastest": gain_json(found.gains.of(found.fastest), detail),
    }
    if picked is not None:
        names = [item.name for item in found.changes.known if picked.code[item.decision] == item.option]
        result["chosen"] = {"changes": names, "broken": dict(picked.broken), "complete": picked.complete}
        result["chosen"] |= gain_json(found.gains.of(picked.code), detail)
    if made is not None:
        result["written"] = {
            "path": str(made.path),
            "recipe": str(made.recipe),
            "changes": [item.name for item in made.changes],
            "promised": dict(made.promised),
            "costs": dict(made.costs),
            "weights": dict(made.labels),
            "notes": list(made.notes),
        }
    return result


def _item(item: Advised, detail: str) -> dict[str, Any]:
    change = item.change
    return {
        "id": item.id,
        "name": change.name,
        "kind": change.kind,
        "where": list(change.where),
        "what": change.what,
        "why": item.why,
        "weights_carried": change.carried,
        "risk": change.risk,
        "within_set": item.within,
        **gain_json(item.alone, detail),
    }


def _unchanged(item: Unchanged, detail: str) -> dict[str, Any]:
    layer = item.layer
    return {
        "layer": layer.name,
        "kind": layer.kind,
        "share": layer.share,
        "latency_s": figure(layer.latency_s, "predicted", spread=layer.spread_s, detail=detail),
        "utilisation": layer.utilisation,
        "bound": layer.bound_by,
        "tried": [
            {
                "name": each.change.name,
                "what": each.change.what,
                "why_not": each.why_not,
                **gain_json(each.gain, detail),
            }
            for each in item.tried
        ],
        "held": list(item.held),
    }


def gain_json(gain: Gain, detail: str) -> dict[str, Any]:
    """What a change or a set of them brings, each figure with its source."""
    return {
        "latency": figure(gain.latency, "predicted", spread=gain.spread, detail=detail),
        "energy": figure(gain.energy, "modelled", detail=detail),
        "weight_bytes": figure(gain.weights, "counted"),
        "peak_activation_bytes": figure(gain.peak, "counted"),
        "parameters": figure(gain.parameters, "counted"),
    }
