"""The command for chips that are not built yet: design compares variants of a description."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chipfit.cli.options import Json, Shape, input_shape
from chipfit.cli.output import figure, people, print_json

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from chipfit.estimate.design import Area, Designs


def design(
    target: Annotated[str, typer.Argument(help="The chip to vary: one that chipfit knows, or a TOML file.")],
    model: Annotated[list[str], typer.Option(help="A network as in estimate; again for more.")],
    vary: Annotated[
        list[str], typer.Option(help="KEY=VALUE,VALUE of the target; KEY+KEY=... varies two together; again for more.")
    ],
    limit: Annotated[list[str] | None, typer.Option(help="latency=2ms or energy=1mJ; again for more.")] = None,
    mac_area: Annotated[float | None, typer.Option(help="µm² of one lane, instead of what is assumed.")] = None,
    byte_area: Annotated[float | None, typer.Option(help="µm² of one on-chip byte, likewise.")] = None,
    shape: Shape = None,
    out: Annotated[Path | None, typer.Option(help="A page with the picture to write (HTML).")] = None,
    json: Json = False,
) -> None:
    """Before silicon: simulates networks on every combination of the varied values, and says what matters.

    Exit status 1 says that no design holds the limits for all networks.
    """
    import chipfit

    limits = parse_limits(limit or [])
    found = chipfit.design(
        target, model, parse_vary(vary), area=_area(mac_area, byte_area), input_shape=input_shape(shape)
    )
    if out is not None:
        from chipfit.report.design_page import write_page

        write_page(found, out, limits)
    if json:
        print_json(as_json(found, limits))
    else:
        from chipfit.report.design import designs

        people().print(designs(found, limits))
        if out is not None:
            people().print(f"  picture: {out}", highlight=False)
    _require(found, limits)


def parse_vary(texts: Sequence[str]) -> dict[str, list[Any]]:
    """Keys and values from "KEY=VALUE,VALUE"; values are read as TOML, and as plain text where they are none.

    Raises `InvalidInput` for anything else and for a key that is given twice.
    """
    import tomllib

    from chipfit.errors import InvalidInput

    found: dict[str, list[Any]] = {}
    for text in texts:
        key, equals, values = (part.strip() for part in text.partition("="))
        if not (key and equals and values):
            raise InvalidInput(f"--vary {text!r}: write KEY=VALUE,VALUE, such as lanes.output_channels=8,16,32")
        if key in found:
            raise InvalidInput(f"--vary {text!r}: {key} is varied twice; give all its values in one")
        try:
            found[key] = tomllib.loads(f"values = [{values}]")["values"]
        except tomllib.TOMLDecodeError:
            found[key] = [value.strip() for value in values.split(",")]
    return found


def parse_limits(texts: Sequence[str]) -> dict[str, float]:
    """Limits in SI units from "latency=2ms" and "energy=1mJ". Raises `InvalidInput` for anything else."""
    from chipfit.cli.options import overrides
    from chipfit.errors import InvalidInput
    from chipfit.estimate.design import LIMITS
    from chipfit.run.settings import parse_bound

    found: dict[str, float] = {}
    for key, text in overrides(texts, {}).items():
        cost = key.removeprefix("limits.")
        if cost not in LIMITS:
            raise InvalidInput(f"--limit {cost}={text}: designs are held to {' and '.join(LIMITS)}")
        bound = parse_bound(cost, text)
        if bound.relative:
            raise InvalidInput(f"--limit {cost}={text}: write an amount such as 2ms; designs have no baseline")
        found[cost] = bound.value
    return found


def _area(mac_um2: float | None, byte_um2: float | None) -> Area:
    from chipfit.estimate.design import Area

    assumed = Area()
    return Area(
        assumed.mac_um2 if mac_um2 is None else mac_um2,
        assumed.on_chip_byte_um2 if byte_um2 is None else byte_um2,
    )


def _require(found: Designs, limits: Mapping[str, float]) -> None:
    """Raises `LimitImpossible` where no design holds all limits, with the nearest one."""
    from chipfit.errors import LimitImpossible
    from chipfit.estimate.design import nearest, within
    from chipfit.report.design import settings
    from chipfit.report.words import amount, share

    if not limits or within(found, limits).any():
        return
    wanted = " and ".join(f"{cost} ≤ {amount(cost, bound)}" for cost, bound in limits.items())
    close = nearest(found, limits)
    if close is None:
        names = list(dict.fromkeys(item.network for item in found.missing))
        raise LimitImpossible(f"no design meets {wanted}: none of them runs all networks ({', '.join(names)})")
    raise LimitImpossible(
        f"no design meets {wanted} for every network; the nearest is {settings(found, close.design)}, where "
        f"{close.network} has {close.cost} {amount(close.cost, close.value)}, {share(close.excess)} above"
    )


def as_json(found: Designs, limits: Mapping[str, float]) -> dict[str, Any]:
    """The comparison as programs read it: every figure with its source. Times in s, energy in J, area in mm²."""
    import chipfit
    from chipfit.estimate.design import rank_changes, within
    from chipfit.report.design import assumption

    held = within(found, limits).tolist() if limits else [None] * len(found)
    fronts = {cost: found.front(name).tolist() for cost, name in (("latency", "latency_s"), ("energy", "energy_j"))}
    means = {name: found.mean(name) for name in ("latency_s", "energy_j", "utilisation")}
    return {
        "target": found.target.name,
        "chipfit": chipfit.__version__,
        "simulator": f"chipfit simulator {chipfit.__version__}",
        "area": assumption(found.area),
        "parameters": [
            {"name": item.name, "keys": list(item.keys), "values": list(item.values)} for item in found.parameters
        ],
        "limits": {cost: figure(bound, "given") for cost, bound in limits.items()},
        "networks": [
            {"name": name, "macs": figure(int(found.macs[i]), "counted"), "missing": _missing(found, name)}
            for i, name in enumerate(found.networks)
        ],
        "designs": [
            {
                "settings": _given(found, i),
                "area_mm2": figure(float(found.area_mm2[i]), "assumed"),
                "activation_room_bytes": figure(int(found.room_bytes[i]), "given"),
                "mean": {name: _simulated(values[i]) for name, values in means.items()},
                "front": {cost: on[i] for cost, on in fronts.items()},
                "holds_limits": held[i],
                "networks": {name: _costs(found, i, j) for j, name in enumerate(found.networks)},
            }
            for i in range(len(found))
        ],
        "importance": _importance(found),
        "rank_changes": [
            {
                "networks": [change.first, change.second],
                "faster_on": [figure(count, "simulated") for count in (change.first_faster, change.second_faster)],
                "most_on": [_given(found, i) for i in (change.best_for_first, change.best_for_second)],
            }
            for change in rank_changes(found)
        ],
    }


def _given(found: Designs, design: int) -> dict[str, Any]:
    return {name: figure(value, "given") for name, value in found.setting(design).items()}


def _costs(found: Designs, design: int, network: int) -> dict[str, Any]:
    peak = int(found.peak_bytes[design, network])
    return {
        "latency_s": _simulated(found.latency_s[design, network]),
        "energy_j": _simulated(found.energy_j[design, network]),
        "utilisation": _simulated(found.utilisation[design, network]),
        "peak_activation_bytes": figure(peak, "counted"),
        "fits": bool(found.fits[design, network]),
    }


def _simulated(value: float) -> dict[str, Any]:
    """A figure of the simulator; null where a network cannot run."""
    return figure(None if value != value else float(value), "simulated")


def _missing(found: Designs, network: str) -> list[dict[str, Any]]:
    return [
        {"node": item.node, "operator": item.operator, "kind": item.kind, "designs": item.designs}
        for item in found.missing
        if item.network == network
    ]


def _importance(found: Designs) -> dict[str, Any]:
    """Shares of variance by parameter, null where not every design runs what they are about."""
    from chipfit.estimate.design import main_effects

    def named(effects: NDArray[np.float64]) -> dict[str, Any]:
        return {item.name: _simulated(share) for item, share in zip(found.parameters, effects, strict=True)}

    networks = {name: named(main_effects(found, "latency_s", i)) for i, name in enumerate(found.networks)}
    return {
        "latency": named(main_effects(found)),
        "energy": named(main_effects(found, "energy_j")),
        "latency_by_network": networks,
    }
