import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from chipfit.graph.subgraphs import cut
from chipfit.report.architecture import (
    block_of,
    block_rows,
    changes,
    decision_rows,
    kind_of,
    latency_rows,
    merged,
    shape_rows,
)
from chipfit.run.problem import Problem

names = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(names, names)
def test_merging_keeps_all_names_once_and_the_first_order(first: list[str], second: list[str]) -> None:
    found = merged([first, second])
    assert sorted(found) == sorted({*first, *second})
    assert [name for name in found if name in first] == first


def test_what_is_new_comes_where_it_runs() -> None:
    assert merged([["stem", "expand", "depthwise", "project"], ["stem", "fused", "project"]]) == [
        "stem", "fused", "expand", "depthwise", "project",
    ]  # fmt: skip


def _fused(problem: Problem) -> tuple[int, ...]:
    return tuple(int(decision.name == "stage2.block1.fuse") for decision in problem.space.decisions)


def test_changes_name_the_decision_and_both_options(problem: Problem) -> None:
    zero = (0,) * len(problem.space.decisions)
    assert changes(problem.space.decisions, zero) == []
    assert [str(change) for change in changes(problem.space.decisions, _fused(problem))] == [
        "stage2.block1.fuse: separate → fused"
    ]
    (row,) = decision_rows(problem.space.decisions, [zero, _fused(problem)])
    assert [(cell.text, cell.state) for cell in row.cells] == [("separate", "same"), ("fused", "changed")]


def test_bars_are_on_one_scale_and_say_what_came_and_went(problem: Problem) -> None:
    zero = (0,) * len(problem.space.decisions)
    layers = [
        {layer.name: layer for layer in problem.estimator.by_layer(problem.space.close(code))}
        for code in (zero, _fused(problem))
    ]
    rows = latency_rows(layers, {}, 0.01)
    assert {row.name for row in rows} == {*layers[0], *layers[1]}
    for index, network in enumerate(layers):
        percents = np.array([row.cells[index].percent for row in rows if row.name in network])
        latencies = np.array([network[row.name].latency_s for row in rows if row.name in network])
        longest = max(layer.latency_s for each in layers for layer in each.values())
        np.testing.assert_allclose(percents, 100 * latencies / longest)
    states = {row.name: row.cells[1].state for row in rows}
    assert states["stage2.block1.fused"] == "new"
    assert states["stage2.block1.expand"] == states["stage2.block1.depthwise"] == "gone"
    assert states["stem"] == "same"
    assert [row.small for row in rows] == [
        all(row.name not in network or network[row.name].share < 0.01 for network in layers) for row in rows
    ]


def test_blocks_add_up_what_was_fused_and_what_it_was_made_from(problem: Problem) -> None:
    zero = (0,) * len(problem.space.decisions)
    layers = [
        {layer.name: layer for layer in problem.estimator.by_layer(problem.space.close(code))}
        for code in (zero, _fused(problem))
    ]
    rows = block_rows(layers)
    assert len({row.name for row in rows}) == len(rows) < len(layers[0])
    largest = max(
        sum(layer.latency_s for layer in network.values() if block_of(layer.name) == row.name)
        for row in rows
        for network in layers
    )
    for index, network in enumerate(layers):
        total = sum(layer.latency_s for layer in network.values())
        assert sum(row.cells[index].percent for row in rows) == pytest.approx(100 * total / largest)
    states = {row.name: row.cells[1].state for row in rows}
    assert states.pop("stage2.block1") in ("faster", "slower")
    assert set(states.values()) == {"same"}


def test_shapes_side_by_side(problem: Problem) -> None:
    loads = [
        {item.name: item.workload for item in cut(problem.space.close(code), problem.estimator.target.fuses)}
        for code in ((0,) * len(problem.space.decisions), _fused(problem))
    ]
    rows = {row.name: row for row in shape_rows(*loads)}
    assert kind_of(loads[0]["stage2.block1.depthwise"]) == "depthwise 3×3"
    assert rows["stage2.block1.expand"].cells[1].state == "gone"
    fused = rows["stage2.block1.fused"].cells
    assert fused[0].text == "–"
    assert fused[1].text.startswith("3×3 · ")
    assert fused[1].text.endswith(" · stride 2")
    assert fused[1].state == "new"
    assert {row.cells[1].state for row in shape_rows(loads[0], loads[0])} == {"same"}
