"""What a search costs and what its result saves, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chipfit.report.findings import baseline_of, winner
from chipfit.report.words import amount, count, duration, electricity, mass, plural
from chipfit.run.ledger import ledger
from chipfit.run.power import JOULES_PER_KWH

if TYPE_CHECKING:
    from chipfit.run.ledger import Expected, Ledger, Plan, Saving
    from chipfit.run.power import Place
    from chipfit.run.summary import Summary


def cost_lines(summary: Summary) -> list[str]:
    """What a run has cost, where the figures are from, and what its result saves; empty where nothing was counted."""
    found = ledger(summary)
    spent = found.spent
    if spent is None:
        return []
    lines = [_cost(found), f"energy {spent.source}: {spent.detail}; {_where(found.place)}"]
    best, baseline = winner(summary), baseline_of(summary)
    if best is not None and best.trial is not None and baseline is not None:
        saving = found.saving(baseline, best.trial)
        if saving is not None:
            lines.append(_saves(best.name, saving))
    return lines


def _cost(found: Ledger) -> str:
    spent = found.spent
    energy_j = spent.energy_j if spent is not None else 0.0
    figures = [duration(found.seconds), electricity(energy_j)]
    if (co2e_g := found.co2e_g(energy_j)) is not None:
        figures.append(f"{mass(co2e_g)} CO2e")
    sessions = f" in {len(found.sessions)} sessions" if len(found.sessions) > 1 else ""
    expected = found.plan.expected if found.plan is not None else None
    before = (
        "" if expected is None else f" (estimated before: {duration(expected.seconds)}, {_expected_energy(expected)})"
    )
    every = (
        f"; training every candidate in full ({count(found.plan.networks)}) would have taken {duration(found.every_s)}"
        if found.every_s is not None and found.plan is not None
        else ""
    )
    return f"search cost {', '.join(figures)}{sessions}{before}{every}"


def _expected_energy(expected: Expected) -> str:
    low, high = expected.energy_j - expected.energy_spread_j, expected.energy_j + expected.energy_spread_j
    return f"{electricity(expected.energy_j)}, from {electricity(low)} to {electricity(high)}"


def _where(place: Place | None) -> str:
    if place is None:
        return "where the electricity is from is not known"
    return f"{place.g_per_kwh:.0f} g CO2e a kWh ({place.name}: {place.detail})"


def _saves(name: str, saving: Saving) -> str:
    users = f"for a million users a year at {saving.inferences_per_user_and_day:g} inferences a day each"
    if saving.break_even is None:
        more = amount("energy", saving.found_j - saving.baseline_j)
        return f"{name} needs {more} more an inference (modelled) than the baseline, so the search does not pay back"
    return (
        f"{name} saves {amount('energy', saving.baseline_j - saving.found_j)} an inference (modelled): "
        f"{electricity(saving.energy_j)}, {mass(saving.co2e_g)} CO2e {users}; the search pays back after "
        f"{count(float(f'{saving.break_even:.2g}'))} inferences"
    )


def plan_lines(plan: Plan, place: Place) -> list[str]:
    """What a planned search will take, and where the figures are from."""
    least, most = plan.trainings
    trainings = plural(most, "training") if least == most else f"{least:,} to {most:,} trainings"
    expected = plan.expected
    if expected is None:
        return [f"planned search: {trainings}; time and energy not estimated: {plan.why}"]
    low, high = expected.seconds - expected.seconds_spread, expected.seconds + expected.seconds_spread
    emitted = mass(expected.energy_j / JOULES_PER_KWH * place.g_per_kwh)
    return [
        f"planned search: {trainings}, {duration(low)} to {duration(high)}, {_expected_energy(expected)}, "
        f"{emitted} CO2e",
        f"modelled: {expected.detail}; {_where(place)}",
    ]
