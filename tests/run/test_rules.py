"""Rows of a study that rule packs give without a search."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_problem

from chipfit.errors import InvalidInput, JournalMismatch
from chipfit.run.choosing import meets_limits
from chipfit.run.launch import launch
from chipfit.run.problem import prepare
from chipfit.run.summary import Summary, summarise

EVERYTHING = """
name = "everything"
description = "Fuses all and halves the network."
[[rule]]
name = "fuse"
kind = "fuse"
do = "fused"
evidence = {by = "hand", note = "none"}
[[rule]]
name = "half"
kind = "depth_multiplier"
do = {share = 0.5}
evidence = {by = "hand", note = "none"}
"""


@pytest.fixture
def pack(tmp_path: Path) -> str:
    path = tmp_path / "everything.toml"
    path.write_text(EVERYTHING)
    return str(path)


def finished(study: Any, directory: Path) -> Summary:
    list(launch(study, directory))
    return summarise(directory)


def row_of(summary: Summary, name: str) -> Any:
    return next(row for row in summary.rows if row.name == name)


def test_a_row_by_rules_is_trained_as_long_as_a_finalist_and_never_searched_for(
    tiny: Any, tmp_path: Path, pack: str
) -> None:
    study = tiny(rules={"by rules": pack}, limits={"accuracy_drop": 1.0})
    summary, problem = finished(study, tmp_path / "run"), prepare(study)
    assert [row.name for row in summary.rows] == ["baseline", "V1 depth", "V2 both", "by rules"]
    row = row_of(summary, "by rules")
    assert row.holds
    assert row.trial.code == problem.ruled(pack)
    assert row.trial.stage == "final"
    assert summary.members["by rules"]["search"] == ()
    labels = {
        decision.name: decision.options[option]
        for decision, option in zip(problem.space.decisions, row.trial.code, strict=True)
    }
    assert labels["depth_multiplier"] == 0.5


def test_what_rules_ask_for_is_made_only_where_it_pays(tiny: Any, pack: str) -> None:
    problem = prepare(tiny(rules={"by rules": pack}))
    code = problem.ruled(pack)
    latency = problem.costs(np.array([code]))["latency"][0]
    for place, option in enumerate(code):
        wanted = 2 if problem.space.decisions[place].name == "depth_multiplier" else 1
        flipped = list(code)
        flipped[place] = 0 if option else wanted
        assert problem.costs(np.array([flipped]))["latency"][0] >= latency * (1 - 1e-9)


def test_a_row_by_rules_that_breaks_a_limit_is_shown_and_says_so(tiny: Any, tmp_path: Path, pack: str) -> None:
    Path(pack).write_text(EVERYTHING.replace('do = "fused"', 'do = "leave"'))  # half a network and no more
    study = tiny(rules={"by rules": pack}, limits={"accuracy_drop": 0.0})
    summary = finished(study, tmp_path / "run")
    row = row_of(summary, "by rules")
    judge = next(trial for trial in summary.trials if trial.stage == "final" and not any(trial.code))
    assert not meets_limits(prepare(study), row.trial, judge)
    assert not row.holds


def test_the_same_rules_again_train_nothing_and_other_rules_are_refused(tiny: Any, tmp_path: Path, pack: str) -> None:
    study = tiny(rules={"by rules": pack})
    finished(study, tmp_path / "run")
    count = len(tiny_problem.CALLS)
    finished(study, tmp_path / "run")
    assert len(tiny_problem.CALLS) == count
    Path(pack).write_text(EVERYTHING.replace("0.5", "0.75"))
    with pytest.raises(JournalMismatch, match="a rule pack changed"):
        finished(study, tmp_path / "run")


def test_rules_that_ask_for_nothing_here_are_refused_before_anything_is_written(
    tiny: Any, tmp_path: Path, pack: str
) -> None:
    Path(pack).write_text(EVERYTHING.replace('do = "fused"', 'do = "leave"').replace("0.5", "0.9"))
    with pytest.raises(InvalidInput, match="everything asks for nothing"):
        finished(tiny(rules={"by rules": pack}), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("name", "fault"), [("V1 depth", "something else"), ("baseline", "something else")])
def test_a_row_by_rules_needs_a_name_of_its_own(tiny: Any, pack: str, name: str, fault: str) -> None:
    with pytest.raises(InvalidInput, match=fault):
        tiny(rules={name: pack})


def test_an_unknown_pack_is_refused_with_those_that_ship(tiny: Any, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="accelerators"):
        finished(tiny(rules={"by rules": "acelerators"}), tmp_path / "run")
