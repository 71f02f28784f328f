"""What patterns are mined from: the trials that a search asked for, the decisions it had, and which hold the limits."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.run.journal import Journal
from chipfit.run.launch import launch
from chipfit.run.searches import searches
from chipfit.run.summary import summarise


def test_every_network_counts_once_for_the_variant_that_asked_for_it(tiny: Any, tmp_path: Path) -> None:
    list(launch(tiny(search={"algorithm": "random"}), tmp_path))
    summary = summarise(tmp_path)
    found = searches(summary)
    depth, both = found
    assert [space.name for space in (depth.space.decisions[index] for index in depth.offered)] == ["depth_multiplier"]
    assert len(both.offered) == len(both.space.decisions)
    codes = [tuple(code) for search in found for code in search.codes.tolist()]
    tried = {trial.code for trial in summary.trials if trial.stage == "search"}
    assert sorted(codes) == sorted(tried - {(0,) * len(both.space.decisions)})
    assert depth.data == "tiny_problem:by_size"
    latency_s = {trial.code: trial.costs["latency"] for trial in summary.trials}
    for search in found:
        assert search.objectives[:, 0].tolist() == [latency_s[tuple(code)] for code in search.codes.tolist()]


def test_what_failed_or_breaks_a_limit_is_not_among_the_best(tiny: Any, tmp_path: Path) -> None:
    limited = {"accuracy_drop": 0.5, "weights": "90 %"}
    list(
        launch(tiny(accuracy="tiny_problem:fails_when_fused", search={"algorithm": "random"}, limits=limited), tmp_path)
    )
    summary = summarise(tmp_path)
    baseline = summary.trial(summary.members["baseline"]["baseline"][0]).costs["weights"]
    trials = {trial.code: trial for trial in summary.trials if trial.stage == "search"}
    for search in searches(summary):
        for code, holds in zip(search.codes.tolist(), search.feasible, strict=True):
            trial = trials[tuple(code)]
            assert holds == (trial.status == "done" and trial.costs["weights"] <= 0.9 * baseline)
        assert not (search.best() & ~search.feasible).any()
    assert any(trial.status == "failed" for trial in trials.values())


def test_accuracy_as_an_objective_is_minimised_with_its_sign(tiny: Any, tmp_path: Path) -> None:
    study = tiny(search={"objectives": ["latency", "accuracy"], "algorithm": "random"})
    list(launch(study, tmp_path))
    for search in searches(summarise(tmp_path)):
        assert search.objectives.shape == (len(search.codes), 2)
        assert (search.objectives[:, 1] < 0).all()
        assert np.isfinite(search.objectives).all()


def test_a_run_that_is_not_finished_is_refused(tiny: Any, tmp_path: Path) -> None:
    list(launch(tiny(), tmp_path))
    with Journal(tmp_path) as journal:
        journal.note("finished", "no")
    with pytest.raises(InvalidInput, match="is not finished"):
        searches(summarise(tmp_path))
