import numpy as np
import pytest

from chipfit.estimate.features import TERMS, described, physics
from chipfit.estimate.regress import fit_roofline, regress
from chipfit.estimate.rows import KIND_CODES, Rows
from chipfit.estimate.sampling import sample
from chipfit.measure.simulator import simulate_columns, workload_columns
from chipfit.targets import load_target

APART, JOINT = described(load_target("ethos-u85-256")), described(load_target("ethos-u65-512"))


@pytest.mark.parametrize("start", [APART, JOINT], ids=["apart", "joint"])
def test_a_roofline_finds_the_figures_of_the_chip(generator, start):
    terms = np.exp(generator.uniform(0, 10, (3000, len(TERMS))))
    terms[:, 0] = 100
    truth = start * generator.uniform(0.4, 2.5, start.shape)
    truth[start[:, 0] > 0, 0] = 3.0
    found = fit_roofline(terms, (terms @ truth.T).max(axis=1), start)
    off = np.abs(np.log((terms @ found.T).max(axis=1) / (terms @ truth.T).max(axis=1)))
    before = np.abs(np.log((terms @ start.T).max(axis=1) / (terms @ truth.T).max(axis=1)))
    # Rows and resources are fitted by turns, which may end beside the best for two of the seven resources.
    assert np.median(off) < 0.001
    assert off.mean() < before.mean() / 20
    assert ((found > 0) <= (start > 0)).all()


def test_a_roofline_of_few_rows_stays_with_the_description(generator):
    terms = np.exp(generator.uniform(0, 10, (7, len(TERMS))))
    cycles = 2 * (terms @ APART.T).max(axis=1)
    np.testing.assert_array_equal(fit_roofline(terms, cycles, APART), APART)


@pytest.fixture
def measured(target, chip, generator):
    drawn = [item for kind in ("conv", "depthwise") for item in sample(kind, 900, generator, target.fuses)]
    loads = [item.workload(target.fuses) for item in drawn]
    return Rows.of_workloads(loads), simulate_columns(chip, workload_columns(loads))


def test_trees_are_better_than_the_roofline_alone_on_what_they_never_saw(target, measured, generator):
    rows, truth = measured
    learn = generator.random(len(rows)) < 0.7
    found = regress(
        target, target.precision(), rows.take(learn), truth.latency_s[learn], truth.energy_j[learn], generator
    )
    test, latency_s = rows.take(~learn), truth.latency_s[~learn]
    off = np.abs(np.log(found.predict(target, target.precision(), test).latency_s / latency_s))
    terms = physics(target, target.precision(), test).terms
    roofline = np.einsum("nt,npt->np", terms, found.pieces[test.kinds]).max(axis=1) / target.clock_hz
    described = (terms @ APART.T).max(axis=1) / target.clock_hz
    alone, untouched = (np.abs(np.log(each / latency_s)).mean() for each in (roofline, described))
    assert off.mean() < 0.5 * alone < 0.5 * untouched


def test_what_was_not_measured_is_out_of_range_and_less_certain(target, measured, generator):
    rows, truth = measured
    small = rows["in_channels"] <= 64
    found = regress(target, target.precision(), rows.take(small), truth.latency_s[small], None, generator)
    wide = rows.take(rows["in_channels"] >= 512)
    inside, outside = (found.predict(target, target.precision(), each) for each in (rows.take(small), wide))
    assert inside.in_range.all()
    assert not outside.in_range.any()
    assert (outside.spread_s / outside.latency_s).min() > 0.2
    never = Rows(np.full(3, KIND_CODES["pool"]), rows.values[:3])
    assert not found.predict(target, target.precision(), never).in_range.any()


def test_latency_far_outside_grows_as_the_work_does(target, measured, generator):
    rows, truth = measured
    conv = rows.kinds == KIND_CODES["conv"]
    small = conv & (rows["macs"] < 1e7)
    found = regress(target, target.precision(), rows.take(small), truth.latency_s[small], None, generator)
    large = conv & (rows["macs"] > 1e9)
    off = np.log(found.predict(target, target.precision(), rows.take(large)).latency_s / truth.latency_s[large])
    assert large.sum() > 20
    assert np.abs(off).mean() < 0.35


def test_without_measured_energy_the_description_counts(target, generator):
    loads = [item.workload(target.fuses) for item in sample("conv", 300, generator, target.fuses)]
    truth = simulate_columns(target, workload_columns(loads))
    rows = Rows.of_workloads(loads)
    found = regress(target, target.precision(), rows, truth.latency_s, None, generator)
    energy_j = found.predict(target, target.precision(), rows).energy_j
    np.testing.assert_allclose(energy_j, truth.energy_j, rtol=0.02)
