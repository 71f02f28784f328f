"""What stages of a combined search were worth: a perfect score agrees with the accuracies, and its choice is better."""

from pathlib import Path
from typing import Any

import pytest

from chipfit.report.stages import stage_lines
from chipfit.run.launch import launch
from chipfit.run.summary import summarise
from chipfit.run.worth import worths


def search(score: str) -> dict[str, Any]:
    stages = {"screen": 24, "score": score, "supernet": 0, "control": 0.4}
    return {"algorithm": "combined", "trials": 16, "objectives": ["latency", "accuracy"], "combined": stages}


def test_a_score_that_knows_the_accuracy_agrees_with_it(tiny: Any, tmp_path: Path) -> None:
    study = tiny(search=search("parameters"), variants={}, limits={"accuracy_drop": 1.0})
    list(launch(study, tmp_path / "run"))
    summary = summarise(tmp_path / "run")
    (worth,) = worths(summary)
    assert (worth.variant, worth.stage, worth.next) == ("found", "screen", "training")
    assert worth.looked_at >= worth.kept + worth.drawn > 0
    assert worth.agrees is not None
    assert worth.agrees.spearman == pytest.approx(1.0)
    (line,) = stage_lines(summary)
    assert "Spearman 1.00" in line
    assert f"{worth.kept} kept and {worth.drawn} at random" in line


def test_a_score_that_misleads_is_not_used_for_the_next_variant(tiny: Any, tmp_path: Path) -> None:
    rows = {"first": ["fuse"], "second": ["fuse", "depth_multiplier"]}
    study = tiny(search=search("tiny_problem:fewer_is_better"), variants=rows, limits={"accuracy_drop": 1.0})
    list(launch(study, tmp_path / "run"))
    first, second = worths(summarise(tmp_path / "run"))
    assert first.trusted
    assert not second.trusted
    assert (second.looked_at, second.kept) == (0, 0)
    assert second.drawn > 0
    assert "contradicted" in stage_lines(summarise(tmp_path / "run"))[1]


def test_a_search_that_only_trains_has_no_such_stages(tiny: Any, tmp_path: Path) -> None:
    list(launch(tiny(), tmp_path / "run"))
    assert worths(summarise(tmp_path / "run")) == []
    assert stage_lines(summarise(tmp_path / "run")) == []
