"""The conformance check passes sound targets and catches broken ways to measure."""

from collections.abc import Sequence
from dataclasses import replace

import pytest

from chipfit.graph.workload import Workload
from chipfit.measure import Measurement, simulate, simulator
from chipfit.targets import Target, load_target, shipped_targets, variant
from chipfit.testing.targets import check_target

ENGINE = load_target("neural-engine")


@pytest.mark.parametrize(
    "target", [item for item in shipped_targets() if item.tool is None], ids=lambda target: target.name
)
def test_shipped_targets_pass(target: Target) -> None:
    check_target(target)


def test_a_target_that_runs_few_operators_passes() -> None:
    check_target(variant(ENGINE, {"unsupported": ["opaque", "softmax", "matmul", "transposed_conv", "resize"]}))


def test_a_sound_way_to_measure_passes() -> None:
    check_target(ENGINE, simulator(ENGINE))


def test_a_missing_measurement_is_found() -> None:
    with pytest.raises(AssertionError, match="measurements of"):
        check_target(ENGINE, lambda workloads: simulate(ENGINE, workloads)[1:])


def test_a_latency_of_zero_is_found() -> None:
    def measure(workloads: Sequence[Workload]) -> list[Measurement]:
        return [replace(found, latency_s=0.0) for found in simulate(ENGINE, workloads)]

    with pytest.raises(AssertionError, match=r"latency_s = 0\.0"):
        check_target(ENGINE, measure)


def test_a_cost_of_the_unknown_is_found() -> None:
    def measure(workloads: Sequence[Workload]) -> list[Measurement]:
        known = [Workload("copy") if workload.kind == "opaque" else workload for workload in workloads]
        return simulate(ENGINE, known)

    with pytest.raises(AssertionError, match="opaque"):
        check_target(ENGINE, measure)
