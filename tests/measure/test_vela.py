import faulthandler
import os

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.graph.ops import Conv2d, LayerNorm
from chipfit.graph.subgraphs import cut
from chipfit.measure.measurement import Failure, Part, Run
from chipfit.measure.specimen import NAME, Specimen
from chipfit.measure.vela import Compiler, installed
from chipfit.nets.load import load
from chipfit.nets.zoo import ds_cnn, mobilenet_v2, resnet8
from chipfit.targets import load_target, variant

pytestmark = pytest.mark.skipif(
    installed() is None, reason="ethos-u-vela is not installed: pip install 'chipfit[ethos-u]'"
)
TARGET = load_target("ethos-u55-256")


def conv(channels, out, size=28, kernel=3):
    pad = kernel // 2
    return Specimen(Conv2d(out, (kernel, kernel), padding=(pad,) * 4), ((1, channels, size, size),))


def test_the_parts_of_a_network_are_the_whole():
    for run in Compiler(TARGET).networks([resnet8(), ds_cnn(), mobilenet_v2(0.35, 96)]):
        assert isinstance(run, Run)
        assert not run.elsewhere
        total = sum(part.measurement.cycles for part in run.parts.values())
        assert total == run.measurement.cycles
        assert run.measurement.latency_s == pytest.approx(total / TARGET.clock_hz)
        assert run.memory_bytes["Sram"] > 0


def test_the_parts_are_the_subgraphs_that_the_target_cuts():
    graph = ds_cnn()
    (run,) = Compiler(TARGET).networks([graph])
    assert list(run.parts) == [part.name for part in cut(graph, TARGET.fuses)]


def test_cycles_step_above_eight_output_channels():
    widths = (24, 25, 32, 33)
    found = Compiler(TARGET).subgraphs([conv(64, width) for width in widths])
    a, b, c, d = (item.measurement.cycles for item in found)
    assert a < b
    assert b == pytest.approx(c, rel=0.15)
    assert d > 1.1 * c


def test_a_compressed_weight_is_read_faster():
    wide, narrow = (Specimen(Conv2d(512, (1, 1)), ((1, 512, 4, 4),), sigma=sigma) for sigma in (40, 6))
    slow, fast = Compiler(TARGET).subgraphs([wide, narrow])
    assert fast.measurement.cycles < 0.8 * slow.measurement.cycles
    assert fast.workload.stored_share < 0.7 < slow.workload.stored_share


def test_what_the_chip_leaves_to_the_host_is_a_failure_with_a_reason():
    left, run = Compiler(TARGET).subgraphs([Specimen(LayerNorm(), ((1, 16, 64),)), conv(8, 8)])
    assert isinstance(left, Failure)
    assert "does not run" in left.why
    assert isinstance(run, Part)


def test_one_file_that_ends_the_compiler_costs_one_result():
    found = Compiler(TARGET, workers=2)._all(_sometimes, list(range(20)))
    assert [item for item in found if not isinstance(item, Failure)] == [n for n in range(20) if n != 13]
    assert "died" in found[13].why


def _sometimes(jobs):
    if 13 in jobs:
        faulthandler.disable()  # what pytest prints of a crash would look like one
        os.abort()
    return jobs


def test_a_network_counts_with_its_own_weights():
    network = load("resnet8")
    small = {name: np.sign(weight) * np.abs(weight) ** 3 for name, weight in network.weights.items()}
    given, compressed = Compiler(TARGET).networks([network, type(network)("small", network.graph, small)])
    assert compressed.memory_bytes["encoded weights"] < 0.9 * given.memory_bytes["encoded weights"]


@pytest.mark.parametrize("key", ["system_config", "memory_mode"])
def test_a_configuration_that_the_compiler_does_not_know_is_named(key):
    with pytest.raises(InvalidInput, match=f"tool.{key} = 'Nowhere': the compiler knows "):
        Compiler(variant(TARGET, {f"tool.{key}": "Nowhere"}))
    with pytest.raises(InvalidInput, match="no table"):
        Compiler(load_target("neural-engine"))


def test_the_same_seed_measures_the_same():
    specimens = [conv(16, 16), conv(17, 40, 14)]
    assert Compiler(TARGET).subgraphs(specimens) == Compiler(TARGET, workers=1).subgraphs(specimens)
    assert NAME in cut(specimens[0].inside)[1].name
