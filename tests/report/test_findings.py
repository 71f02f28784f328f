from collections.abc import Callable
from dataclasses import replace

import pytest

from chipfit.report.findings import asked, broken, comparison, headline, sources, winner
from chipfit.run.problem import Problem
from chipfit.run.summary import Row, Summary


def _only(summary: Summary, name: str, **metrics: float) -> Summary:
    """The summary with one row besides the baseline, and other metrics in it."""
    rows = [row for row in summary.rows if row.name in ("baseline", name)]
    trial = rows[1].trial
    assert trial is not None
    rows[1] = replace(rows[1], trial=replace(trial, metrics={**trial.metrics, **metrics}))
    return replace(summary, rows=tuple(rows))


def test_the_winner_holds_all_limits_and_has_the_lowest_objective(finished: Summary) -> None:
    best = winner(finished)
    assert best is not None
    assert best.name == "V3 both"
    held = [row.trial.costs["latency"] for row in finished.rows if row.holds and row.trial]
    assert best.trial is not None
    assert best.trial.costs["latency"] == min(held)
    failing = next(row.trial for row in finished.rows if row.name == "V1 multiplier")
    assert failing is not None
    assert failing.costs["latency"] < best.trial.costs["latency"], "a faster row must not win without holding"


def test_the_headline_says_how_much_where_and_at_which_accuracy(finished: Summary) -> None:
    text = headline(finished)
    assert text.startswith("V3 both takes ")
    assert " less time per image than the baseline on neural-engine (" in text
    assert "predicted) at equal accuracy (96.5 ± 0.5 % against 96.8 ± 0.5 % on 1,000 test images)." in text


@pytest.mark.parametrize(
    ("accuracy", "words"), [(0.969, "at equal accuracy"), (0.95, "1.8 points lower"), (0.99, "2.2 points higher")]
)
def test_equal_is_claimed_only_within_the_standard_error(finished: Summary, accuracy: float, words: str) -> None:
    assert words in headline(_only(finished, "V3 both", test_accuracy=accuracy))


def test_without_a_network_within_the_limits_nothing_is_claimed(finished: Summary) -> None:
    text = headline(_only(finished, "V1 multiplier"))
    assert text.startswith("No network was found that holds all limits on neural-engine")


def test_a_result_that_is_no_faster_is_not_sold_as_one(finished: Summary) -> None:
    baseline = finished.rows[0]
    summary = replace(finished, rows=(baseline, Row("V2 fusion", baseline.trial, True)))
    assert headline(summary).startswith("Nothing better than the baseline was found")


def test_runs_that_are_not_finished_say_so(unfinished: Summary, empty: Summary) -> None:
    assert headline(unfinished).startswith("The run is not finished: 4 networks trained so far. Nothing here is final")
    assert headline(empty).startswith("The run has not trained any network yet.")
    assert {line.state for line in comparison(unfinished)} == {"holds", "open"}


def test_rows_that_fail_name_the_limit_and_both_figures(finished: Summary) -> None:
    failing = next(line for line in comparison(finished) if line.state == "fails")
    assert failing.name == "V1 multiplier"
    assert failing.notes[1] == "accuracy 94.0 % on validation is below the 96.2 % asked against the baseline"


def test_broken_limits_are_those_that_the_run_itself_would_not_accept(finished: Summary, problem: Problem) -> None:
    for trial in finished.trials:
        if trial.stage == "search" and trial.status == "done":
            above = trial.costs["latency"] > problem.limits["latency"]
            assert any("above the limit" in text for text in broken(finished, trial)) == above


def test_every_limit_is_told_with_its_amount(finished: Summary, problem: Problem) -> None:
    first, second = asked(finished)
    assert first == "accuracy at most 1 point below the baseline trained alike"
    assert second.startswith("latency ≤ 90 % of the baseline (")


def test_every_kind_of_figure_has_a_source(finished: Summary, unfinished: Summary, problem: Problem) -> None:
    text = "\n".join(sources(finished, problem.estimator))
    for word in ("latency: predicted", "energy: predicted", "parameters, weights, peak RAM: counted"):
        assert word in text
    assert "measured on 1,000 test images that the search did not see" in text
    assert f"{problem.estimator.provenance.subgraphs:,} subgraphs simulated" in text


def test_validation_figures_are_not_passed_off_as_test_figures(unfinished: Summary) -> None:
    assert "measured on 500 validation images that the search sees as well" in "\n".join(sources(unfinished))
    assert "accuracy on the validation split, no test yet" in comparison(unfinished)[0].notes


def test_the_users_own_accuracy_is_named_as_the_source(finished: Summary) -> None:
    own = replace(finished, study=finished.study.model_copy(update={"accuracy": "mine:train"}))
    assert "accuracy: as returned by mine:train" in sources(own)


@pytest.mark.parametrize(
    ("objective", "words"),
    [("weights", "less memory for weights"), ("parameters", "fewer parameters"), ("energy", "less energy per image")],
)
def test_the_headline_speaks_of_what_was_asked(
    problem: Problem, finished_as: Callable[[Problem], Summary], objective: str, words: str
) -> None:
    search = problem.study.search.model_copy(update={"objectives": (objective, "accuracy")})
    study = problem.study.model_copy(update={"search": search})
    text = headline(finished_as(replace(problem, study=study)))
    assert words in text
