"""Pictures of a run as files: whole, the same every time, and only where there is something to draw."""

from pathlib import Path
from xml.etree import ElementTree

import pytest

from chipfit.errors import InvalidInput
from chipfit.report.figures import LAYERS, write_figures
from chipfit.run.problem import Problem
from chipfit.run.summary import Summary


def test_the_files_stand_alone_and_are_the_same_every_time(finished: Summary, problem: Problem, tmp_path: Path) -> None:
    first = write_figures(finished, problem, tmp_path / "a")
    again = write_figures(finished, problem, tmp_path / "b")
    assert [path.name for path in first] == [
        "front.svg",
        "layers.svg",
        "landscape.svg",
    ]  # no examples are kept with this run
    for path, other in zip(first, again, strict=True):
        assert path.read_bytes() == other.read_bytes()
        root = ElementTree.fromstring(path.read_text())
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert "url(http" not in path.read_text()


def test_colours_of_the_page_come_with_the_front(finished: Summary, problem: Problem, tmp_path: Path) -> None:
    front = write_figures(finished, problem, tmp_path)[0].read_text()
    for name in ("--main:", ".front {", ".error {", ".given .error"):
        assert name in front


def test_layers_are_those_of_the_baseline_and_the_best(finished: Summary, problem: Problem, tmp_path: Path) -> None:
    layers = write_figures(finished, problem, tmp_path)[1].read_text()
    best = next(row for row in finished.rows if row.name == "V3 both")
    assert best.trial is not None
    for code in ((0,) * len(problem.space.decisions), best.trial.code):
        costs = problem.estimator.by_layer(problem.space.close(code))
        slowest = max(costs, key=lambda layer: layer.latency_s)
        assert slowest.name in layers
        assert f"{sum(layer.latency_s for layer in costs) * 1e6:.0f}" in layers
    names = {
        layer.name for layer in problem.estimator.by_layer(problem.space.close((0,) * len(problem.space.decisions)))
    }
    assert sum(f">{name}<" in layers or f"<!-- {name} -->" in layers for name in names) <= LAYERS


def test_without_a_trained_network_there_is_nothing_to_draw(empty: Summary, problem: Problem, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no trained network yet"):
        write_figures(empty, problem, tmp_path)
    assert not list(tmp_path.iterdir())


def test_where_nothing_was_found_only_the_front_is_drawn(unfinished: Summary, problem: Problem, tmp_path: Path) -> None:
    assert [path.name for path in write_figures(unfinished, problem, tmp_path)] == ["front.svg", "landscape.svg"]
