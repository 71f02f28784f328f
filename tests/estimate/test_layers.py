"""One row per subgraph: what it moves and what it waits for."""

import pytest

from chipfit.estimate.estimator import Estimator
from chipfit.estimate.store import default_estimator
from chipfit.nets.zoo import from_zoo
from chipfit.report import tables
from chipfit.targets import load_target


def test_bytes_moved_are_those_of_tensors_and_weights(estimator: Estimator) -> None:
    graph = from_zoo("mobilenet_v2-0.35-96").graph
    rows = {row.name: row for row in estimator.by_layer(graph)}
    stem = rows["stem"]
    assert stem.activation_bytes == 96 * 96 * 3 + 48 * 48 * 16
    assert stem.moved_bytes == stem.activation_bytes + stem.weight_bytes
    assert sum(row.weight_bytes for row in rows.values()) == estimator.costs(graph).weight_bytes[0]


def test_what_a_memory_is_busy_with_is_the_larger_part(estimator: Estimator) -> None:
    rows = estimator.by_layer(from_zoo("mobilenet_v2-0.35-96").graph)
    room = estimator.target.memory.activation_bytes
    for row in rows:
        if row.bound in ("compute", "overhead"):
            assert row.bound_by == row.bound
        elif row.bound == "dram" and row.activation_bytes <= room:
            assert row.bound_by == "weights"
        else:
            assert (row.bound_by == "weights") == (row.weight_bytes >= row.activation_bytes)
    assert next(row for row in rows if row.kind == "linear").bound_by == "weights"


def test_what_has_no_weights_waits_for_activations() -> None:
    rows = default_estimator(load_target("ethos-u65-512")).by_layer(from_zoo("mobilenet_v2").graph)
    additions = [row for row in rows if row.kind == "elementwise" and row.bound == "dram"]
    assert additions
    assert all(row.bound_by == "activations" for row in additions)


@pytest.mark.parametrize("per_layer", [False, True])
def test_the_table_has_all_of_it_in_a_hundred_columns(estimator: Estimator, per_layer: bool) -> None:
    network = from_zoo("mobilenet_v2-0.35-96")
    lines = tables.text(tables.estimate("mobilenet_v2-0.35-96", network, estimator, per_layer)).splitlines()
    assert max(map(len, lines)) <= 100
    title = next(line for line in lines if line.startswith("Where the time goes"))
    assert title.split()[4:] == ["latency", "share", "MACs", "busy", "moved", "bound", "by"]
    classifier = next(line for line in lines if line.startswith("classifier"))
    for part in ("±", "1.28 M", "1.23 MiB", "weights"):
        assert part in classifier
