"""What a run costs and saves reads well and says what each figure is."""

import json
from dataclasses import replace

from chipfit.cli.ledgers import ledger_json
from chipfit.report.costs import cost_lines, plan_lines
from chipfit.report.page import page
from chipfit.run.ledger import Expected, Plan
from chipfit.run.power import Place
from chipfit.run.problem import Problem
from chipfit.run.summary import Summary

EXPECTED = {
    "seconds": 600.0,
    "seconds_spread": 120.0,
    "energy_j": 36000.0,
    "energy_spread_j": 7200.0,
    "detail": "timed",
}
NOTES = {
    "plan": {"networks": 2560, "trainings": [15, 24], "expected": EXPECTED, "why": ""},
    "place": {
        "place": {"name": "world average", "g_per_kwh": 475.0, "detail": "IEA 2019"},
        "settings": {"country": None, "inferences_per_user_and_day": 50.0},
    },
    "sessions": [
        {"seconds": 300.0, "workers": 2, "energy_j": 18000.0, "source": "modelled", "detail": "TDP of 65 W"},
        {"seconds": 330.0, "workers": 2, "energy_j": 18000.0, "source": "modelled", "detail": "TDP of 65 W"},
    ],
}  # fmt: skip


def counted(summary: Summary) -> Summary:
    return replace(summary, notes=NOTES)


def test_the_cost_stands_beside_what_was_expected_and_the_alternative(finished: Summary) -> None:
    cost, source, saves = cost_lines(counted(finished))
    assert cost == (
        "search cost 10 min, 10 Wh, 4.8 g CO2e in 2 sessions (estimated before: 10 min, 10 Wh, from 8 Wh to 12 Wh); "
        "training every candidate in full (2,560) would have taken 10 h 40 min"
    )
    assert source == "energy modelled: TDP of 65 W; 475 g CO2e a kWh (world average: IEA 2019)"
    assert saves.startswith("V3 both saves ")
    assert "for a million users a year at 50 inferences a day each" in saves
    assert "the search pays back after" in saves


def test_without_a_ledger_nothing_is_claimed(finished: Summary, empty: Summary) -> None:
    assert cost_lines(finished) == cost_lines(empty) == []
    found = ledger_json(finished)
    assert found["energy_j"]["source"] == found["every_candidate_s"]["source"] == "unavailable"


def test_every_figure_of_the_json_says_where_it_is_from(finished: Summary) -> None:
    found = ledger_json(counted(finished))
    json.dumps(found, allow_nan=False)
    for name in ("seconds", "energy_j", "co2e_g", "every_candidate_s"):
        assert found[name]["value"] > 0
        assert found[name]["source"] in ("measured", "modelled")
    assert found["expected"]["energy_j"] == {
        "value": 36000.0,
        "source": "modelled",
        "spread": 7200.0,
        "detail": "timed",
    }
    saving = found["saving"]
    less = saving["baseline_energy_j"]["value"] - saving["found_energy_j"]["value"]
    assert saving["break_even_inferences"]["value"] * less == 36000.0
    assert all("source" in figure for figure in saving.values())


def test_the_page_tells_the_cost(finished: Summary, problem: Problem) -> None:
    assert "search cost 10 min" in page(counted(finished), problem)
    assert "What it cost" not in page(finished, problem)


def test_a_plan_reads_as_a_range_or_says_why_there_is_none() -> None:
    place = Place("somewhere", 100.0, "made up")
    timed = Plan(10, (3, 5), Expected(600, 120, 36000, 7200, "2 ms for each image"))
    first, second = plan_lines(timed, place)
    assert first == "planned search: 3 to 5 trainings, 8 min to 12 min, 10 Wh, from 8 Wh to 12 Wh, 1 g CO2e"
    assert second == "modelled: 2 ms for each image; 100 g CO2e a kWh (somewhere: made up)"
    assert plan_lines(Plan(10, (5, 5), None, "no data"), place) == [
        "planned search: 5 trainings; time and energy not estimated: no data"
    ]
