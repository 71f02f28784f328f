"""A study on a curated space: only what is worth offering is tried, and its journal speaks of the whole space."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.report.page import page
from chipfit.run.export import export
from chipfit.run.journal import Journal
from chipfit.run.launch import launch
from chipfit.run.problem import Problem, prepare, reopen
from chipfit.run.summary import summarise
from chipfit.search.simple import RandomSearch

WIDTHS = {"factors": [1.0, 0.95, 0.9, 0.8, 0.7, 0.6, 0.5], "divisor": 1}


@pytest.fixture(scope="module")
def curated(tiny: Any) -> Any:
    space = {"fuse": True, "width": WIDTHS, "curate": {"most": 3}}
    return tiny(space=space, variants={"V1": ["width"], "V2": ["width", "fuse"]})


@pytest.fixture(scope="module")
def problem(curated: Any) -> Problem:
    return prepare(curated)


def test_an_algorithm_sees_only_what_is_offered(problem: Problem) -> None:
    assert problem.curated is not None
    assert problem.curated.size < np.prod(problem.space.cardinalities)
    decisions = problem.decisions_of(["width"])
    domain = problem.domain(decisions)
    codes = RandomSearch(domain, 0).ask(50)
    whole = problem.embed(codes, decisions)
    for index in range(len(problem.space.decisions)):
        assert set(whole[:, index].tolist()) <= set(problem.offered[index])
    np.testing.assert_array_equal(problem.narrowed(whole, decisions), codes)
    assert (whole[:, [index for index in range(whole.shape[1]) if index not in decisions]] == 0).all()
    missing = next(
        (index, option)
        for index in decisions
        for option in range(len(problem.space.decisions[index]))
        if option not in problem.offered[index]
    )
    foreign = whole[:1].copy()
    foreign[0, missing[0]] = missing[1]
    with pytest.raises(InvalidInput, match="curation removed"):
        problem.narrowed(foreign, decisions)


def test_preflight_is_of_what_is_offered_in_codes_of_the_space(problem: Problem) -> None:
    found = problem.preflight()
    assert problem.curated is not None
    assert found.size == problem.curated.size
    for name, item in found.ranges.items():
        assert all(option in problem.offered[index] for index, option in enumerate(item.cheapest))
        assert problem.costs(np.array([item.cheapest]))[name][0] == pytest.approx(item.minimum)
        assert item.baseline == problem.baseline[name]


def test_a_curated_run_is_resumed_exported_and_reported_as_it_was(
    curated: Any, problem: Problem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = launch(curated, tmp_path)
    for _ in zip(range(5), events, strict=False):
        pass
    events.close()  # type: ignore[attr-defined]
    # Whatever another version would curate, a run goes on with what it began with.
    monkeypatch.setattr("chipfit.run.problem.curate", None)
    list(launch(curated, tmp_path))
    summary = summarise(tmp_path)
    again = reopen(summary)
    assert again.curated is not None
    assert problem.curated is not None
    assert again.curated.kept == problem.curated.kept
    assert again.curated.reasons() == problem.curated.reasons()
    for trial in summary.trials:
        assert all(option in problem.offered[index] for index, option in enumerate(trial.code))
        costs = problem.estimator.costs(problem.space.close(trial.code))
        assert trial.costs["latency"] == costs.latency_s[0]
    written = export(summary, "V2", "onnx", tmp_path / "v2.onnx")
    assert written.costs["latency"] == pytest.approx(written.promised["latency"])
    text = page(summary, again)
    assert "Curated before the search" in text
    assert "What curation left out" in text
    with Journal(tmp_path) as journal:
        assert json.loads(journal.about("curation") or "") == problem.curated.as_json()


def test_a_study_that_is_not_curated_is_offered_everything(tiny: Any) -> None:
    found = prepare(tiny())
    assert found.curated is None
    assert [len(offered) for offered in found.offered] == list(found.space.cardinalities)
