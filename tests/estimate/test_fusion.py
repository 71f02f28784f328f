import numpy as np
import pytest

from chipfit.estimate.fusion import SIZES, Evidence, detect_fusion, fuses_of, pair
from chipfit.graph.subgraphs import FOLLOWERS, cut
from chipfit.measure.measurement import Failure, Measurement, Run, Source
from chipfit.measure.simulator import simulated
from chipfit.measure.vela import Compiler, installed
from chipfit.targets import load_target, shipped_targets, variant

KINDS = (
    "conv", "depthwise", "transposed_conv", "linear", "matmul", "pool", "elementwise", "activation", "normalisation",
    "softmax", "resize", "copy",
)  # fmt: skip


def _written(fuses):
    """A table [fuses] without empty lines, and without clamps where every activation is fused."""
    tables = {kind: set(names) - ({"clamp"} if "activation" in names else set()) for kind, names in fuses.items()}
    return {kind: names for kind, names in tables.items() if names}


def _found(target, chip):
    return {kind: set(names) for kind, names in fuses_of(detect_fusion(target, simulated(chip))).items()}


def test_the_table_of_the_described_chip_is_found_again(target):
    assert _found(target, target) == _written(target.fuses)


@pytest.mark.slow
@pytest.mark.parametrize("name", [item.name for item in shipped_targets() if item.tool is None])
def test_tables_of_all_described_chips_are_found_again(name):
    target = load_target(name)
    assert _found(target, target) == _written(target.fuses)


@pytest.mark.parametrize("seed", range(2))
def test_any_table_is_found_again_whatever_the_description_says(target, seed):
    generator = np.random.default_rng(seed)
    table = {kind: [name for name in FOLLOWERS if generator.random() < 0.5] for kind in KINDS}
    # A normalisation scales what comes before an activation: behind one nothing folds it.
    table["activation"] = [name for name in table["activation"] if name != "batch_norm"]
    chip = variant(target, {"fuses": table})
    assert _found(target, chip) == _written(chip.fuses)


def test_contradictions_are_those_and_no_others(target):
    table = {kind: sorted(names) for kind, names in target.fuses.items()}
    chip = variant(target, {"fuses": table | {"conv": ["batch_norm", "clamp"], "pool": []}})
    found = {(each.kind, each.follower) for each in detect_fusion(target, simulated(chip)) if each.contradicts}
    assert found == {
        ("conv", "activation"), ("conv", "composite"), ("conv", "add"), ("pool", "clamp"), ("pool", "activation"),
        ("pool", "composite"),
    }  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("follower", FOLLOWERS)
def test_apart_nothing_can_run_together(kind, follower):
    everything = dict.fromkeys(KINDS, frozenset(FOLLOWERS))
    names = [part.name for part in cut(pair(kind, follower, *SIZES[0], together=True, apart=True), everything)]
    assert "operator" in names
    assert "follower" in names
    together = cut(pair(kind, follower, *SIZES[0], together=True, apart=False), everything)
    # What reads beside it is gone, and the follower, unless nothing ever folds it.
    assert len(names) - len(together) == (1 if (kind, follower) == ("activation", "batch_norm") else 2)


class _Scattering:
    """A tool whose times scatter more than followers take."""

    largest, budget, whole = None, 100, 10

    def __init__(self, chip, spread_s):
        self.simulated, self.spread_s = simulated(chip), spread_s

    def networks(self, models):
        source = Source("measured", "clock", "1")
        return [
            Run(Measurement(run.measurement.latency_s, source, spread_s=self.spread_s), {}, {})
            for run in self.simulated.networks(models)
        ]

    def subgraphs(self, specimens):
        return [Failure("not asked for")] * len(specimens)


def test_what_cannot_be_told_keeps_what_the_file_says(target):
    found = detect_fusion(target, _Scattering(target, 1.0))
    assert {each.fused for each in found} == {None}
    assert not any(each.contradicts for each in found)
    assert all("too short" in each.why for each in found)
    assert {kind: set(names) for kind, names in fuses_of(found).items()} == _written(target.fuses)


def test_times_without_parts_tell_the_same(target):
    quiet = {kind: set(names) for kind, names in fuses_of(detect_fusion(target, _Scattering(target, 0.0))).items()}
    assert quiet == _written(target.fuses)


def test_activation_stands_for_clamps():
    found = [Evidence("conv", name, False, 0.0, True) for name in ("clamp", "activation")]
    assert fuses_of(found) == {"conv": ("activation",)}
    assert fuses_of(found[:1]) == {"conv": ("clamp",)}


@pytest.mark.slow
@pytest.mark.skipif(installed() is None, reason="needs the Vela compiler: pip install 'chipfit[ethos-u]'")
def test_the_compiler_fuses_what_the_file_of_ethos_u55_says():
    target = load_target("ethos-u55-256")
    found = detect_fusion(target, Compiler(target))
    convolutions = [each for each in found if each.kind in ("conv", "depthwise", "transposed_conv", "linear", "pool")]
    assert not [each for each in convolutions if each.contradicts]
    # Rows of the compiled files agree: a function by table behind a softmax takes no cycles, one behind a product does.
    assert {(each.kind, each.follower, each.fused) for each in found if each.contradicts} >= {
        ("softmax", "activation", True), ("matmul", "activation", False),
    }  # fmt: skip
