import numpy as np
import pytest

from chipfit.estimate.features import TERMS, feature_matrix, physics
from chipfit.estimate.rows import KIND_CODES, Rows
from chipfit.estimate.sampling import SAMPLED_KINDS, sample
from chipfit.graph.workload import WORKLOAD_FIELDS
from chipfit.targets import variant


@pytest.fixture
def rows(target, generator):
    drawn = [item for kind in SAMPLED_KINDS for item in sample(kind, 60, generator, target.fuses)]
    return Rows.of_workloads([item.workload(target.fuses) for item in drawn])


def test_terms_are_finite_and_work_is_never_less_than_the_macs_take(target, rows):
    precision = target.precision()
    found = physics(target, precision, rows)
    assert np.isfinite(found.terms).all()
    assert (found.terms >= 0).all()
    assert (found.energy_terms >= 0).all()
    ideal = rows["macs"] / (target.lanes.macs_per_cycle * precision.throughput)
    assert (found.terms[:, TERMS.index("work")] >= ideal * (1 - 1e-12)).all()
    assert (found.fill > 0).all()
    assert (found.fill <= 1).all()


@pytest.mark.parametrize(
    ("key", "value", "term"),
    [
        ("lanes.input_channels", 8, "work"),
        ("lanes.output_channels", 8, "work"),
        ("vector.table_elements_per_cycle", 2, "lookup"),
        ("memory.on_chip_bytes_per_cycle", 16, "on_chip"),
        ("memory.dram_bytes_per_s", 1e9, "weights"),
        ("memory.on_chip_bytes", 200_000, "excess"),
        ("overhead.layer_cycles", 500, "overhead"),
    ],
)
def test_a_poorer_chip_has_no_smaller_term(target, rows, key, value, term):
    poorer = variant(target, {key: value})
    before, after = (physics(each, each.precision(), rows).terms for each in (target, poorer))
    assert (after >= before * (1 - 1e-12)).all()
    assert (after[:, TERMS.index(term)] > before[:, TERMS.index(term)]).any()


def test_a_row_has_the_same_features_alone_and_in_a_batch(target, rows):
    precision = target.precision()
    facts = physics(target, precision, rows)
    roofline = facts.terms.max(axis=1)
    together = feature_matrix(rows, facts, roofline)
    for index in range(0, len(rows), 37):
        one = rows.take(slice(index, index + 1))
        alone = feature_matrix(one, physics(target, precision, one), roofline[index : index + 1])
        np.testing.assert_array_equal(alone[0], together[index])


def test_a_convolution_is_named_by_its_numbers():
    values = np.ones((3, len(WORKLOAD_FIELDS)))
    channels, groups = WORKLOAD_FIELDS.index("in_channels"), WORKLOAD_FIELDS.index("groups")
    values[:, channels], values[:, groups] = (16, 16, 1), (16, 1, 1)
    conv, depthwise = KIND_CODES["conv"], KIND_CODES["depthwise"]
    found = Rows.of(np.array([conv, depthwise, depthwise]), values)
    assert found.kinds.tolist() == [depthwise, conv, conv]
