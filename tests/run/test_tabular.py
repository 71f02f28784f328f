"""Whole studies in which accuracies are looked up: seconds, the same journal, gaps of the table as failed trials."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chipfit.errors import InvalidInput, JournalMismatch, TrainingFailed
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.graph import Graph
from chipfit.graph.totals import count_macs, count_parameters
from chipfit.graph.values import choose
from chipfit.run import launch as launching
from chipfit.run import tabular
from chipfit.run.export import network_of
from chipfit.run.launch import launch
from chipfit.run.problem import reopen
from chipfit.run.study import Study, load_study, make_study
from chipfit.run.summary import summarise
from chipfit.search.algorithm import Domain, Hints
from chipfit.search.guided import Fit, Guided

WIDTHS = (8, 16, 24, 32)


def space() -> Graph:
    """A network with two open widths."""
    b = Builder()
    x = b.input("input", (1, 3, 16, 16))
    for name in ("first", "second"):
        width = choose(b.decide(name, WIDTHS), WIDTHS)
        x = conv_bn_act(b, x, width, stride=2, key=name)
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten")
    return b.graph(b.linear(x, 2, key="classifier"))


def code_of(row: Mapping[str, str]) -> tuple[int, ...]:
    return int(row["first"]), int(row["second"])


def table(gaps: tuple[tuple[int, int], ...] = (), gain: float = 0.05) -> str:
    lines = ["first,second,full,short,held_out"]
    for first in range(4):
        for second in range(4):
            full = "" if (first, second) in gaps else f"{0.6 + gain * first + 0.02 * second:.3f}"
            lines.append(f"{first},{second},{full},{0.5 + 0.04 * first + 0.02 * second:.3f},0.5")
    return "\n".join(lines)


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    monkeypatch.setattr(tabular, "PUBLISHED", {"tiny": tabular.Published(space, code_of)})
    (tmp_path / "nets.csv").write_text(table())
    return make_study(settings(tmp_path))


def settings(directory: Path, **changes: Any) -> dict[str, Any]:
    return {
        "name": "tabular",
        "model": "published:tiny",
        "target": "neural-engine",
        "accuracy": f"table:{directory / 'nets.csv'}",
        "table": {"column": "full"},
        "space": {"given": True},
        "search": {"algorithm": "guided", "objectives": ["latency", "accuracy"], "trials": 30, "finalists": 16},
        "limits": {"accuracy_drop": 1.0},
    } | changes


def test_a_study_is_looked_up_and_a_small_space_is_exhausted(study: Study, tmp_path: Path) -> None:
    list(launch(study, tmp_path / "run"))
    summary = summarise(tmp_path / "run")
    assert summary.finished
    searched = {trial.code: trial for trial in summary.trials if trial.stage == "search"}
    assert len(searched) == 16
    for (first, second), trial in searched.items():
        assert trial.metrics["accuracy"] == pytest.approx(0.6 + 0.05 * first + 0.02 * second)
    assert len(summary.provenance["data"]["fingerprint"]) == 64
    with pytest.raises(InvalidInput, match="looked up in a table and has no weights"):
        network_of(reopen(summary), summary, summary.trials[1])


def test_what_comes_next_is_what_can_be_done(study: Study, tmp_path: Path, chipfit: Any) -> None:
    lines = [
        'name = "tabular"', 'model = "published:tiny"', 'target = "neural-engine"', 'accuracy = "table:nets.csv"',
        "table = {column = 'full'}", "space = {given = true}", "[search]", "trials = 3", 'algorithm = "guided"',
        "[limits]", "accuracy_drop = 1.0",
    ]  # fmt: skip
    (tmp_path / "study.toml").write_text("\n".join(lines))
    _, shown, _ = chipfit("search", tmp_path / "study.toml", "--out", tmp_path / "run")
    assert "chipfit export" not in shown
    assert f"chipfit report {tmp_path / 'run'} --json" in shown.replace("\n", "")
    _, listed, _ = chipfit("report", tmp_path / "run", "--json")
    assert {tuple(trial["code"]) for trial in json.loads(listed)["trials"]} >= {(0, 0)}


def test_the_search_may_see_a_short_schedule(study: Study, tmp_path: Path) -> None:
    columns = {"column": "full", "search_column": "short", "test_column": "held_out"}
    list(launch(make_study(settings(tmp_path, table=columns)), tmp_path / "run"))
    for trial in summarise(tmp_path / "run").trials:
        first, second = trial.code
        full, short = 0.6 + 0.05 * first + 0.02 * second, 0.5 + 0.04 * first + 0.02 * second
        assert trial.metrics["accuracy"] == pytest.approx(short if trial.stage == "search" else full)
        assert ("test_accuracy" in trial.metrics) == (trial.stage == "final")


def test_guided_search_is_given_what_is_known_of_every_network(
    study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    class Watched(Guided):
        def __init__(self, domain: Domain, seed: int, fit: Fit, hints: Hints | None = None) -> None:
            codes = np.array([(0, 0), (1, 0), (3, 3)])
            assert hints is not None
            seen.append(hints(codes))
            super().__init__(domain, seed, fit, hints)

    monkeypatch.setattr(launching, "Guided", Watched)
    list(launch(study, tmp_path / "run"))
    (found,) = seen
    closed = [space().close(code) for code in ((0, 0), (1, 0), (3, 3))]
    assert found[:, 0].tolist() == [count_macs(graph) for graph in closed]
    assert found[:, 1].tolist() == [count_parameters(graph) for graph in closed]
    assert found[:, 2:].tolist() == [[3, -3]] * 3


def test_gaps_of_the_table_are_failed_trials_with_the_reason(study: Study, tmp_path: Path) -> None:
    (tmp_path / "nets.csv").write_text(table(gaps=((1, 1), (3, 3))))
    list(launch(study, tmp_path / "run"))
    failed = {trial.code: trial.why for trial in summarise(tmp_path / "run").trials if trial.status == "failed"}
    assert set(failed) == {(1, 1), (3, 3)}
    assert "line 7: 'full' is empty" in failed[1, 1]


def test_a_run_that_is_taken_up_again_is_the_same_run(study: Study, tmp_path: Path) -> None:
    list(launch(study, tmp_path / "whole"))
    for _ in zip(range(9), launch(study, tmp_path / "parts"), strict=False):
        pass
    assert not summarise(tmp_path / "parts").finished
    list(launch(study, tmp_path / "parts"))
    whole, parts = (summarise(tmp_path / name) for name in ("whole", "parts"))
    assert [(t.number, t.code, t.metrics) for t in whole.trials] == [
        (t.number, t.code, t.metrics) for t in parts.trials
    ]
    assert whole.members == parts.members


def test_another_table_is_another_run(study: Study, tmp_path: Path) -> None:
    list(launch(study, tmp_path / "run"))
    (tmp_path / "nets.csv").write_text(table(gain=0.06))
    with pytest.raises(JournalMismatch, match="the data changed"):
        list(launch(study, tmp_path / "run"))


def test_a_baseline_that_is_not_in_the_table_ends_the_run(study: Study, tmp_path: Path) -> None:
    (tmp_path / "nets.csv").write_text(table(gaps=((0, 0),)))
    with pytest.raises(TrainingFailed, match="baseline could not be trained"):
        list(launch(study, tmp_path / "run"))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "published:huge"}, "published spaces are published:tiny"),
        ({"space": {"fuse": True}}, "has 2 decisions of its own: set given = true"),
        ({"table": {"column": "best"}}, "there is no column 'best'"),
        ({"model": "mobilenet_v2", "space": {"given": True}}, "has no decisions of its own: leave out"),
        ({"model": "mobilenet_v2", "space": {"depth_multiplier": True}}, "a table needs a published space"),
    ],
)
def test_what_does_not_fit_is_refused_before_anything_is_written(
    study: Study, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InvalidInput, match=message):
        list(launch(make_study(settings(tmp_path, **changes)), tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_the_table_is_found_beside_the_study(tmp_path: Path) -> None:
    (tmp_path / "nets.csv").write_text(table())
    lines = 'name = "n"\nmodel = "published:fbnet"\ntarget = "neural-engine"\naccuracy = "table:nets.csv"\n'
    (tmp_path / "study.toml").write_text(lines)
    assert load_study(tmp_path / "study.toml").accuracy == f"table:{tmp_path / 'nets.csv'}"


def test_the_published_tables_name_networks_of_their_spaces(shared_data: Path) -> None:
    from chipfit.accuracy.table import read_table

    cells = tabular.PUBLISHED["nas-bench-201"]
    path = shared_data / "nas" / "nb201_accuracy.csv.gz"
    found = read_table(path, ("cifar10_val_acc",), cells.code_of, percent=True)
    assert len(found.columns["cifar10_val_acc"]) == 5**6
    listed = tabular.PUBLISHED["accel-nasbench"]
    found = read_table(shared_data / "nas" / "accel_nasbench.csv.gz", ("val_top1",), listed.code_of, percent=True)
    assert len(found.lines) == 4111  # twelve of 4,123 were trained twice
