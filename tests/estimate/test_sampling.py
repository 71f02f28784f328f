import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.estimate.sampling import SAMPLED_KINDS, sample
from chipfit.graph.subgraphs import FOLDED
from chipfit.graph.workload import WORKLOAD_FIELDS, WORKLOAD_KINDS
from chipfit.measure.simulator import simulate_columns, workload_columns


def columns_of(specimens, fuses=FOLDED):
    return workload_columns([item.workload(fuses) for item in specimens])


def test_every_kind_but_opaque_can_be_drawn():
    assert set(SAMPLED_KINDS) == set(WORKLOAD_KINDS) - {"opaque"}
    with pytest.raises(InvalidInput, match="opaque"):
        sample("opaque", 1, np.random.default_rng(0))


@pytest.mark.parametrize("kind", SAMPLED_KINDS)
def test_samples_are_workloads_that_a_target_can_run(kind, target, generator):
    columns = columns_of(sample(kind, 200, generator, target.fuses), target.fuses)
    found = simulate_columns(target, columns)
    assert (found.cycles > 0).all()
    assert (columns["out_elements"] > 0).all()
    assert all((columns[name] >= 0).all() for name in WORKLOAD_FIELDS)


def test_the_fields_of_a_convolution_belong_together(generator):
    columns = columns_of(sample("conv", 500, generator))
    taps = columns["kernel_height"] * columns["kernel_width"]
    weights = columns["out_channels"] * (columns["in_channels"] // columns["groups"]) * taps
    assert (columns["parameters"] == weights).all()
    assert (columns["macs"] == weights * columns["out_height"] * columns["out_width"]).all()
    assert (columns["in_channels"] % columns["groups"] == 0).all()


def test_samples_reach_what_networks_hold(generator):
    conv, linear = (columns_of(sample(kind, 3000, generator)) for kind in ("conv", "linear"))
    for columns, field, low, high in (
        (conv, "in_channels", 1, 2048), (conv, "out_channels", 1, 2048), (conv, "in_height", 1, 450),
        (conv, "kernel_height", 1, 11), (linear, "in_channels", 1, 9216),
    ):  # fmt: skip
        assert columns[field].min() <= low
        assert columns[field].max() >= high
    assert {1000, 1001} <= set(linear["out_channels"].tolist())
    assert (conv["in_height"] != conv["in_width"]).any()
    beside = conv["out_channels"] % 8
    assert all((beside == rest).sum() > 100 for rest in (0, 1, 7))


def test_only_what_the_target_fuses_is_drawn(generator):
    both = {"conv": frozenset({"activation", "composite", "add"})}
    alone = columns_of(sample("conv", 200, generator, {}), {})
    fused = columns_of(sample("conv", 200, generator, both), both)
    assert not alone["activation"].any()
    assert not alone["adds"].any()
    assert set(fused["activation"].tolist()) == {0, 1, 2, 3}
    assert set(fused["adds"].tolist()) == {0, 1}
    clamps = {"conv": frozenset({"clamp"})}
    assert set(columns_of(sample("conv", 200, generator, clamps), clamps)["activation"].tolist()) == {0, 1}


def test_the_same_seed_draws_the_same():
    first, second, other = (sample("pool", 50, np.random.default_rng(seed)) for seed in (3, 3, 4))
    assert first == second
    assert first != other
