"""What a run directory tells, finished or not, and how results are named."""

from pathlib import Path
from typing import Any

import pytest

from chipfit.errors import InvalidInput
from chipfit.run.journal import Journal, Trial
from chipfit.run.launch import launch
from chipfit.run.stages import Stage
from chipfit.run.summary import Summary, summarise


@pytest.fixture
def done(tiny: Any, tmp_path: Path) -> Summary:
    study = tiny(accuracy="tiny_problem:fails_when_fused", variants={"V1 depth": ["depth_multiplier"], "V2": ["fuse"]})
    list(launch(study, tmp_path))
    return summarise(tmp_path)


def test_rows_are_the_baseline_and_the_variants_in_the_order_of_the_study(done: Summary) -> None:
    assert done.finished
    assert [row.name for row in done.rows] == ["baseline", "V1 depth", "V2"]
    baseline, depth, fuse = done.rows
    assert baseline.holds
    assert baseline.trial is not None
    assert (baseline.trial.stage, any(baseline.trial.code)) == ("final", False)
    assert depth.trial is not None
    assert depth.holds == bool(done.members["V1 depth"]["chosen"])
    assert (fuse.trial, fuse.holds) == (None, False)
    assert fuse.note == "no network of the search came near enough to the accuracy that is asked for"
    assert done.seconds == sum(trial.seconds for trial in done.trials) > 0
    assert done.study.rows == {"V1 depth": ("depth_multiplier",), "V2": ("fuse",)}


def test_results_are_named_by_row_first_word_or_number(done: Summary) -> None:
    depth = done.rows[1].trial
    assert depth is not None
    assert done.named("V1 depth") == done.named("V1") == done.named(str(depth.number)) == depth
    assert done.named("baseline") == done.rows[0].trial
    assert done.trial(0).stage == "baseline"
    with pytest.raises(InvalidInput, match="has no result 'V9'; there are: baseline, V1 depth, or a trial number"):
        done.named("V9")
    with pytest.raises(InvalidInput, match="has no result 'V2'"):
        done.named("V2")
    with pytest.raises(InvalidInput, match=f"has no finished trial 99; it has 0 to {len(done.trials) - 1}"):
        done.named("99")


def test_a_first_word_that_two_rows_share_names_neither(tiny: Any, tmp_path: Path) -> None:
    variants = {"V depth": ["depth_multiplier"], "V both": ["depth_multiplier", "fuse"]}
    list(launch(tiny(variants=variants), tmp_path))
    summary = summarise(tmp_path)
    assert summary.named("V depth") == summary.rows[1].trial
    assert summary.named("V both") == summary.rows[2].trial
    with pytest.raises(InvalidInput, match="has no result 'V'; there are: baseline, V depth, V both"):
        summary.named("V")


def test_a_run_that_is_not_finished_says_so(tiny: Any, tmp_path: Path) -> None:
    events = launch(tiny(), tmp_path)
    for event in events:
        if isinstance(event, Stage) and event.name == "search":
            break
    events.close()  # type: ignore[attr-defined]
    summary = summarise(tmp_path)
    assert not summary.finished
    assert [row.note for row in summary.rows] == ["before the final training", *["the run is not finished"] * 2]
    assert [row.trial is None for row in summary.rows] == [False, True, True]
    assert summary.named("baseline").number == 0
    with pytest.raises(InvalidInput, match="there are: baseline, or a trial number"):
        summary.named("V1")


def test_directories_without_a_run_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InvalidInput, match=r"is not a run directory \(no journal\.sqlite\); give the --out of a search"
    ):
        summarise(tmp_path)
    assert list(tmp_path.iterdir()) == []
    with Journal(tmp_path) as journal:
        journal.add(Trial(0, "search:0", "search", (), "done"))
    with pytest.raises(InvalidInput, match="holds no study yet"):
        summarise(tmp_path)
