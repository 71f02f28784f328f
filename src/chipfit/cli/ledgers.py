"""The ledger of a run as programs read it: every figure with its source."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from chipfit.cli.output import figure
from chipfit.run.power import JOULES_PER_KWH

if TYPE_CHECKING:
    from chipfit.run.ledger import Ledger, Plan, Saving
    from chipfit.run.power import Place
    from chipfit.run.summary import Summary


def ledger_json(summary: Summary) -> dict[str, Any]:
    """What a run has cost, what was expected of it, and what its result saves. Times in s, energy in J, CO2e in g."""
    from chipfit.report.findings import baseline_of, winner
    from chipfit.run.ledger import ledger

    found = ledger(summary)
    best, baseline = winner(summary), baseline_of(summary)
    trial = best.trial if best is not None else None
    saving = found.saving(baseline, trial) if baseline is not None and trial is not None else None
    return {
        "device_s": {stage: figure(seconds, "measured") for stage, seconds in found.stages.items()},
        "sessions": len(found.sessions),
        **_spent_json(found),
        "expected": None if found.plan is None else plan_json(found.plan, found.place),
        "every_candidate_s": figure(
            found.every_s, "modelled" if found.every_s is not None else "unavailable", detail=_every(found)
        ),
        "saving": None if saving is None else _saving_json(saving, found),
    }


def _spent_json(found: Ledger) -> dict[str, Any]:
    spent = found.spent
    if spent is None:
        why = "the run did not count it"
        nothing = figure(None, "unavailable", detail=why)
        return {"seconds": nothing, "energy_j": nothing, "co2e_g": nothing}
    return {
        "seconds": figure(found.seconds, "measured"),
        "energy_j": figure(spent.energy_j, spent.source, detail=spent.detail),
        "co2e_g": _co2e(spent.energy_j, found.place),
    }


def _every(found: Ledger) -> str:
    if found.plan is None or found.every_s is None:
        return "no network has been trained in full yet"
    return f"{found.plan.networks} networks at the mean of the full trainings, by as many workers"


def _co2e(energy_j: float, place: Place | None) -> dict[str, Any]:
    if place is None:
        return figure(None, "unavailable", detail="where the electricity is from is not known")
    detail = f"{place.g_per_kwh:g} g a kWh, {place.name}: {place.detail}"
    return figure(energy_j / JOULES_PER_KWH * place.g_per_kwh, "modelled", detail=detail)


def plan_json(plan: Plan, place: Place | None) -> dict[str, Any]:
    """What a study will take, as far as it can be told beforehand."""
    least, most = plan.trainings
    found: dict[str, Any] = {
        "networks": figure(plan.networks, "counted"),
        "trainings": {"least": figure(least, "counted"), "most": figure(most, "counted")},
    }
    expected = plan.expected
    if expected is None:
        nothing = figure(None, "unavailable", detail=plan.why)
        return found | {"seconds": nothing, "energy_j": nothing, "co2e_g": nothing}
    return found | {
        "seconds": figure(expected.seconds, "modelled", spread=expected.seconds_spread, detail=expected.detail),
        "energy_j": figure(expected.energy_j, "modelled", spread=expected.energy_spread_j, detail=expected.detail),
        "co2e_g": _co2e(expected.energy_j, place),
    }


def _saving_json(saving: Saving, found: Ledger) -> dict[str, Any]:
    users = f"a million users a year, {saving.inferences_per_user_and_day:g} inferences a day each"
    even = "modelled" if saving.break_even is not None else "unavailable"
    why = None if saving.break_even is not None else "the result needs no less energy than the baseline"
    return {
        "baseline_energy_j": figure(saving.baseline_j, "modelled"),
        "found_energy_j": figure(saving.found_j, "modelled"),
        "energy_j": figure(saving.energy_j, "modelled", detail=users),
        "co2e_g": _co2e(saving.energy_j, found.place),
        "break_even_inferences": figure(saving.break_even, even, detail=why),
    }
