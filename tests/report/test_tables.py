import re
from dataclasses import replace

import pytest
from rich.console import RenderableType

from chipfit.estimate.estimator import Estimator
from chipfit.graph.graph import Graph, Node
from chipfit.graph.ops import Opaque
from chipfit.nets.zoo import ibn_classifier
from chipfit.report import tables
from chipfit.run.problem import Problem
from chipfit.run.summary import Row, Summary
from chipfit.targets import shipped_targets, variant


def lines_of(renderable: RenderableType) -> list[str]:
    lines = tables.text(renderable).splitlines()
    assert max(len(line) for line in lines) <= 100
    return lines


def test_the_comparison_has_every_row_and_every_figure_with_its_unit(finished: Summary) -> None:
    text = "\n".join(lines_of(tables.comparison(finished)))
    for row in finished.rows:
        (line,) = (line for line in text.splitlines() if row.name in line and "±" in line)
        assert re.search(r"\d (ms|µs) ", line)
        assert re.search(r"\d+\.\d ± \d+\.\d %", line)
        assert len(re.findall(r"\d (?:KiB|MiB)", line)) == 2
        assert re.search(r"\d (mJ|µJ)$", line)
        assert ("−" in line) == (row.name != "baseline")
        assert line.startswith("✗ ") == (not row.holds)
    assert tables.comparison_text(finished) == text + "\n"
    assert "✗ V1 multiplier: no finalist held all limits" in text


def test_the_comparison_of_a_run_without_results_still_stands(empty: Summary, unfinished: Summary) -> None:
    for summary in (empty, unfinished):
        text = "\n".join(lines_of(tables.comparison(summary)))
        assert all(row.name in text for row in summary.rows)
        assert "✗" not in text


def test_names_cannot_style_or_break_the_table(finished: Summary) -> None:
    hostile = "[red]a[/] \x1b[2J\n" + "long name " * 12
    rows = (*finished.rows, Row(hostile, finished.rows[1].trial, False, "[bold]why[/bold]"))
    text = "\n".join(lines_of(tables.comparison(replace(finished, rows=rows))))
    assert "\x1b" not in text
    assert "[red]a[/]" in text
    assert "[bold]why[/bold]" in text
    assert re.sub(r"[^l]", "", text).count("l") >= 12


def _estimate(problem: Problem, per_layer: bool) -> list[str]:
    graph = problem.space.close((0,) * len(problem.space.decisions))
    return lines_of(tables.estimate("mine.onnx", graph, problem.estimator, per_layer))


def test_an_estimate_gives_totals_with_sources_and_the_slowest_subgraphs(problem: Problem) -> None:
    graph = problem.space.close((0,) * len(problem.space.decisions))
    layers = problem.estimator.by_layer(graph)
    text = _estimate(problem, False)
    assert text[0].startswith("mine.onnx on neural-engine (500 MHz, 256 MAC/cycle, 512 KiB on chip, int8)")
    for title, source in [
        ("latency", "predicted"),
        ("energy", "predicted"),
        ("weights", "counted"),
        ("MACs", "counted"),
    ]:
        assert any(line.strip().startswith(title) and source in line for line in text)
    slowest = max(layers, key=lambda layer: layer.latency_s)
    first = next(index for index, line in enumerate(text) if line.startswith("─")) + 1
    assert text[first].startswith(slowest.name)
    assert f"all {len(layers)}: --per-layer" in text[-1]


def test_a_peak_that_exceeds_the_chip_says_so(problem: Problem) -> None:
    assert "on chip (the rest" not in " ".join(_estimate(problem, False))
    small = variant(problem.estimator.target, {"memory.on_chip_bytes": 2048, "memory.weight_buffer_bytes": 1024})
    text = _estimate(replace(problem, estimator=replace(problem.estimator, target=small)), False)
    assert "more than the 2 KiB on chip (the rest lies outside)" in " ".join(" ".join(text).split())


def test_all_subgraphs_are_shown_where_asked_in_execution_order(problem: Problem) -> None:
    graph = problem.space.close((0,) * len(problem.space.decisions))
    text = _estimate(problem, True)
    names = [layer.name for layer in problem.estimator.by_layer(graph)]
    assert [line.split()[0] for line in text if " % " in line and line.split()[0] in names] == names
    assert not any("--per-layer" in line for line in text)


def test_subgraphs_are_shown_by_their_share(problem: Problem) -> None:
    graph = problem.space.close((0,) * len(problem.space.decisions))
    slowest = sorted(problem.estimator.by_layer(graph), key=lambda layer: -layer.latency_s)
    text = _estimate(problem, False)
    shown = [layer.name for line in text for layer in slowest if line.startswith(f"{layer.name} ")]
    assert shown == [layer.name for layer in slowest[: tables.TOP]]


def test_operators_that_cannot_run_are_named_with_why_and_remedy(problem: Problem) -> None:
    graph = problem.space.close((0,) * len(problem.space.decisions))
    key = graph.outputs[0]
    odd = Node("warp.0", Opaque("GridSample", graph.shapes[key]), (key,))
    text = " ".join(
        lines_of(
            tables.estimate("odd", replace(graph, nodes=(*graph.nodes, odd), outputs=("warp.0",)), problem.estimator)
        )
    )
    assert "1 operator cannot run on neural-engine; latency and energy are without them" in text
    assert "GridSample (warp.0): chipfit does not know this operator; replace it" in text


def test_subgraphs_outside_the_trained_range_are_flagged(problem: Problem) -> None:
    def far(name: str, graph: Graph, estimator: Estimator) -> list[str]:
        return lines_of(tables.estimate(name, graph, estimator))

    small = far("small", ibn_classifier(), problem.estimator)
    assert not any("†" in line for line in small)
    large = ibn_classifier(resolution=4096)
    assert any(not layer.in_range for layer in problem.estimator.by_layer(large))
    assert any(
        line.startswith("† outside the shapes that the estimator was trained on")
        for line in far("l", large, problem.estimator)
    )


def test_preflight_shows_decisions_ranges_and_limits(problem: Problem) -> None:
    text = "\n".join(lines_of(tables.preflight(problem, problem.preflight())))
    for decision in problem.space.decisions:
        assert re.search(rf"^{re.escape(decision.name)} +(fuse|depth_multiplier) +{decision.options[0]}", text, re.M)
    assert "10 decisions, 2,048 networks (all evaluated)" in text
    for title in ("latency", "energy", "weights", "peak RAM"):
        assert len(re.findall(r"(?:ms|µs|mJ|µJ|KiB|MiB)", re.search(rf"^{title} .*$", text, re.M)[0])) == 4  # type: ignore[index]
    assert "✓ latency ≤ " in text
    assert "✓ all limits at once: satisfiable" in text


def test_preflight_says_when_a_limit_cannot_be_met(problem: Problem) -> None:
    limits = problem.study.limits.model_validate({"latency": "1 %"})
    hard = replace(problem, study=problem.study.model_copy(update={"limits": limits}))
    text = "\n".join(lines_of(tables.preflight(hard, hard.preflight())))
    assert "✗ latency ≤ " in text
    assert "✗ no network was found that meets all limits at once" in text
    assert "✓" not in text


def test_targets_are_listed_with_where_their_figures_are_from() -> None:
    text = "\n".join(lines_of(tables.targets(shipped_targets())))
    for target in shipped_targets():
        assert re.search(rf"^{re.escape(target.name)} +[\d.]+ GMAC/s +\d+ MHz +[\d.]+ [KM]iB", text, re.M)
    assert "a description of a design, not measured on silicon" in " ".join(text.split())


@pytest.mark.parametrize("width", [40, 60, 100])
def test_no_line_is_wider_than_asked(finished: Summary, width: int) -> None:
    assert max(len(line) for line in tables.text(tables.comparison(finished), width).splitlines()) <= width
