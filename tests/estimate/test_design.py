"""Comparing designs: batch is one by one, the simulator's laws hold along every axis, and the summaries by hand."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import chipfit
from chipfit.errors import InvalidGraph, InvalidInput
from chipfit.estimate.design import (
    Area,
    Designs,
    compare_designs,
    main_effects,
    nearest,
    rank_changes,
    within,
)
from chipfit.estimate.random_networks import random_networks
from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.graph.memory import peak
from chipfit.graph.subgraphs import cut
from chipfit.measure.simulator import simulate
from chipfit.nets.zoo import from_zoo
from chipfit.targets import Target, load_target, variant

ENGINE = load_target("neural-engine")
NETWORKS = {name: from_zoo(name).graph for name in ("resnet8", "ds_cnn", "mobilenet_v2-0.35-96")}
RANDOM = {f"random{i}": graph for i, graph in enumerate(random_networks(6, np.random.default_rng(5)))}


def found(vary: dict[str, Sequence[Any]], networks: dict[str, Graph] = NETWORKS, target: Target = ENGINE) -> Designs:
    return compare_designs(target, networks, vary)


def made_up(latency_s: Sequence[Sequence[float]], sizes: Sequence[int], area: Sequence[float] | None = None) -> Designs:
    """Designs whose latencies are given: networks a, b, ... on a grid of parameters with so many values."""
    vary = {name: range(1, size + 1) for name, size in zip(("lanes.pixels", "depthwise.taps"), sizes, strict=False)}
    latencies = np.array(latency_s)
    networks = dict.fromkeys("abcdef"[: latencies.shape[1]], NETWORKS["resnet8"])
    designs = compare_designs(ENGINE, networks, vary)
    areas = designs.area_mm2 if area is None else np.array(area)
    return replace(designs, latency_s=latencies, energy_j=latencies * 2, area_mm2=areas)


def test_designs_cost_what_each_costs_alone() -> None:
    designs = found(
        {
            "lanes.output_channels": [8, 24],
            "memory.on_chip_bytes": [131_072, 524_288],
            "default_precision": ["int8", "int16x8"],
        }
    )
    assert len(designs) == 8
    for i in range(len(designs)):
        chip = variant(ENGINE, designs.setting(i))
        assert chip == designs.variants[i]
        for j, graph in enumerate(NETWORKS.values()):
            subgraphs = cut(graph, chip.fuses)
            alone = simulate(chip, [item.workload for item in subgraphs])
            macs = sum(int(item.workload.macs) for item in subgraphs)  # type: ignore[arg-type]
            latency_s = sum(item.latency_s for item in alone)
            assert designs.latency_s[i, j] == pytest.approx(latency_s, rel=1e-12)
            assert designs.energy_j[i, j] == pytest.approx(sum(item.energy_j or 0 for item in alone), rel=1e-12)
            assert designs.utilisation[i, j] == pytest.approx(macs / latency_s / chip.peak_macs_per_second, rel=1e-12)
            assert designs.peak_bytes[i, j] == peak(graph, subgraphs).elements * chip.precision().activation_bits // 8
        assert designs.room_bytes[i] == chip.memory.activation_bytes


def test_a_network_costs_the_same_whoever_is_compared_with_it() -> None:
    vary = {"lanes.pixels": [1, 3], "lanes.input_channels": [4, 20]}
    together = found(vary)
    for j, (name, graph) in enumerate(NETWORKS.items()):
        alone = found(vary, {name: graph})
        np.testing.assert_allclose(alone.latency_s[:, 0], together.latency_s[:, j], rtol=1e-12)
        np.testing.assert_allclose(alone.energy_j[:, 0], together.energy_j[:, j], rtol=1e-12)


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("lanes.output_channels", [1, 3, 8, 12, 16, 24, 32, 64, 100]),
        ("lanes.input_channels", [1, 3, 8, 12, 16, 24, 32, 64, 100]),
        ("lanes.pixels", [1, 2, 3, 4, 7, 8]),
        ("depthwise.channels", [1, 4, 16, 24, 64]),
        ("memory.dram_bytes_per_s", [1e9, 2e9, 4e9, 8e9]),
        ("memory.on_chip_bytes_per_cycle", [8.0, 16.0, 32.0, 64.0]),
        ("memory.on_chip_bytes", [70_000, 131_072, 262_144, 1_048_576]),
        ("clock_hz", [1e8, 2e8, 5e8, 1e9]),
    ],
)
def test_more_of_anything_is_never_slower(key: str, values: list[Any]) -> None:
    designs = found({key: values}, NETWORKS | RANDOM)
    assert (np.diff(designs.latency_s, axis=0) <= 1e-12 * designs.latency_s[1:]).all()
    assert (designs.latency_s[0] > designs.latency_s[-1]).any()


def test_keys_that_are_joined_take_the_same_value() -> None:
    designs = found({"lanes.output_channels+depthwise.channels": [8, 32]})
    assert [item.lanes.output_channels for item in designs.variants] == [8, 32]
    assert [item.depthwise.channels for item in designs.variants] == [8, 32]
    assert designs.setting(1) == {"lanes.output_channels+depthwise.channels": 32}


def test_the_last_parameter_changes_fastest_and_numbers_of_numpy_are_numbers() -> None:
    designs = found({"lanes.pixels": np.array([1, 2]), "clock_hz": np.array([1e8, 2e8, 3e8])})  # type: ignore[dict-item]
    assert [(item.lanes.pixels, item.clock_hz / 1e8) for item in designs.variants] == [
        (1, 1), (1, 2), (1, 3), (2, 1), (2, 2), (2, 3),
    ]  # fmt: skip


@pytest.mark.parametrize("quantity", ["latency_s", "energy_j"])
def test_no_design_on_the_front_is_dominated_and_every_other_is(quantity: str) -> None:
    vary = {
        "lanes.output_channels": [4, 8, 16, 32],
        "lanes.input_channels": [4, 8, 16],
        "memory.on_chip_bytes": [100_000, 200_000],
    }
    designs = found(vary)
    on = designs.front(quantity)
    costs = np.stack([designs.area_mm2, np.exp(np.log(getattr(designs, quantity)).mean(axis=1))], axis=1)
    for i in range(len(designs)):
        dominated = any((other <= costs[i]).all() and (other < costs[i]).any() for other in costs)
        assert on[i] == (not dominated)
    assert 1 < on.sum() < len(designs)


def test_area_is_lanes_and_bytes() -> None:
    chip = variant(ENGINE, {"lanes.output_channels": 8, "lanes.input_channels": 4, "lanes.pixels": 2})
    assert Area(100.0, 2.0).of(chip) == pytest.approx((64 * 100 + 524_288 * 2) / 1e6)
    designs = found({"lanes.pixels": [1, 2], "memory.on_chip_bytes": [100_000, 200_000]})
    assert (np.diff(designs.area_mm2.reshape(2, 2), axis=0) > 0).all()
    assert (np.diff(designs.area_mm2.reshape(2, 2), axis=1) > 0).all()


def test_rank_changes_of_a_made_up_case() -> None:
    designs = made_up([[1, 2, 9], [2, 2, 9], [3, 2, 9], [1, 3, 9]], [4])
    (change,) = rank_changes(designs)
    assert (change.first, change.second) == ("a", "b")
    assert (change.first_faster, change.second_faster) == (2, 1)
    assert (change.best_for_first, change.best_for_second) == (3, 2)


def test_equal_networks_change_no_rank() -> None:
    same = [[1.0, 1.0 + 1e-13], [2.0, 2.0 - 1e-13]]
    assert rank_changes(made_up(same, [2])) == ()
    for tie in (1 + 1e-13, 1 - 1e-13):
        assert rank_changes(made_up([[1.0, tie], [3.0, 2.0]], [2])) == ()
        assert rank_changes(made_up([[1.0, tie], [2.0, 3.0]], [2])) == ()


def test_main_effects_of_factors_that_multiply_are_all_there_is() -> None:
    rows, columns = np.array([1.0, 2.0, 8.0]), np.array([1.0, 3.0])
    designs = made_up(np.outer(rows, columns).reshape(6, 1).tolist(), [3, 2])
    variances = np.array([np.log(rows).var(), np.log(columns).var()])
    np.testing.assert_allclose(main_effects(designs), variances / variances.sum(), rtol=1e-12)


def test_factors_that_only_act_together_have_no_main_effect() -> None:
    designs = made_up([[1.0], [2.0], [2.0], [1.0]], [2, 2])
    np.testing.assert_allclose(main_effects(designs), [0, 0], atol=1e-12)


def test_what_changes_nothing_matters_nothing() -> None:
    designs = made_up([[3.0]] * 4, [2, 2])
    assert main_effects(designs).tolist() == [0, 0]
    assert np.isnan(main_effects(made_up([[1.0], [np.nan]], [2]))).all()


def test_main_effects_of_the_mean_and_of_each_network() -> None:
    designs = made_up([[1, 1], [1, 4], [2, 1], [2, 4]], [2, 2])
    assert main_effects(designs, "latency_s", 0).tolist() == pytest.approx([1, 0])
    assert main_effects(designs, "latency_s", 1).tolist() == pytest.approx([0, 1])
    assert main_effects(designs).tolist() == pytest.approx([0.2, 0.8])


def test_limits_hold_for_every_network_or_the_nearest_is_named() -> None:
    designs = made_up([[1, 5], [3, 4], [2, 8], [np.nan, 1]], [4])
    assert within(designs, {"latency": 5.0}).tolist() == [True, True, False, False]
    assert within(designs, {"latency": 5.0, "energy": 8.0}).tolist() == [False, True, False, False]
    close = nearest(designs, {"latency": 2.0})
    assert close is not None
    assert (close.design, close.network, close.cost, close.value, close.excess) == (1, "b", "latency", 4.0, 1.0)
    assert nearest(made_up([[1, np.nan]], [1]), {"latency": 2.0}) is None
    with pytest.raises(InvalidInput, match="area"):
        within(designs, {"area": 1.0})


def test_what_a_design_cannot_run_is_named_and_never_counted_as_zero() -> None:
    designs = found({"unsupported": [["opaque"], ["opaque", "depthwise"]]})
    j = designs.networks.index("mobilenet_v2-0.35-96")
    assert np.isnan(designs.latency_s[1, j])
    assert np.isnan(designs.energy_j[1, j])
    assert designs.runnable.all()
    assert np.isnan(designs.mean("latency_s")[1])
    assert not designs.front("latency_s")[1]
    named = [item for item in designs.missing if item.network == "mobilenet_v2-0.35-96"]
    depthwise = [item for item in cut(NETWORKS["mobilenet_v2-0.35-96"]) if item.workload.kind == "depthwise"]
    assert [item.node for item in named] == [item.name for item in depthwise]
    assert {(item.operator, item.kind, item.designs) for item in named} == {("Conv2d", "depthwise", 1)}
    assert not any(item.network == "resnet8" for item in designs.missing)


def test_what_only_a_design_without_fusion_cannot_run_is_named_too() -> None:
    chip = variant(ENGINE, {"unsupported": ["opaque", "activation"]})
    designs = found({"fuses.conv": [["batch_norm", "activation", "add"], ["batch_norm"]]}, target=chip)
    j = designs.networks.index("resnet8")
    assert np.isnan(designs.latency_s[:, j]).tolist() == [False, True]
    named = [item for item in designs.missing if item.network == "resnet8"]
    assert named
    assert {(item.kind, item.operator, item.designs) for item in named} == {("activation", "Activation", 1)}


def test_a_network_that_no_design_runs_is_in_no_mean() -> None:
    chip = variant(ENGINE, {"unsupported": ["opaque", "depthwise"]})
    vary = {"lanes.pixels": [1, 2]}
    designs = found(vary, target=chip)
    np.testing.assert_allclose(designs.mean("latency_s"), designs.latency_s[:, 0])
    assert designs.runnable.tolist() == [True, False, False]
    assert {item.designs for item in designs.missing} == {2}
    with pytest.raises(InvalidInput, match=r"no design can run any .* ds_cnn: Conv2d"):
        found(vary, {"ds_cnn": NETWORKS["ds_cnn"]}, chip)


@pytest.mark.parametrize(
    ("vary", "says"),
    [
        ({"lanes.outputs": [8]}, "lanes.outputs"),
        ({"lane.output_channels": [8]}, "unknown table 'lane'"),
        ({"lanes.output_channels": [8, 0]}, "greater than 0"),
        ({"lanes.output_channels": [8, 8]}, "given twice"),
        ({"lanes.output_channels": []}, "no values"),
        ({"lanes.pixels+lanes.pixels": [1]}, "varied twice"),
        ({"lanes.pixels": [1], "clock_hz+lanes.pixels": [2]}, "varied twice"),
        ({"lanes.pixels+": [1]}, "empty"),
        ({"lanes.pixels": range(1, 1000), "depthwise.taps": range(1, 1000)}, "998,001 designs"),
        ({"memory.on_chip_bytes": [1024]}, "must leave room"),
    ],
)
def test_what_cannot_be_varied_is_said_in_a_line(vary: dict[str, Sequence[Any]], says: str) -> None:
    with pytest.raises(InvalidInput, match=says) as error:
        found(vary)
    assert "\n" not in str(error.value)


def test_networks_must_be_there_closed_and_do_something() -> None:
    vary = {"lanes.pixels": [1]}
    with pytest.raises(InvalidInput, match="no network"):
        found(vary, {})
    space = chipfit.open(from_zoo("mobilenet_v2-0.35-96"), fuse=True)
    with pytest.raises(InvalidGraph, match="open decisions"):
        found(vary, {"space": space.graph})
    b = Builder()
    with pytest.raises(InvalidInput, match="nothing in it takes time"):
        found(vary, {"nothing": b.graph(b.input("x", (1, 3, 4, 4)))})
    for area in ((0.0, 1.0), (1.0, float("nan"))):
        with pytest.raises(InvalidInput, match="µm²"):
            Area(*area)


def test_the_package_takes_names_and_networks() -> None:
    designs = chipfit.design("neural-engine", ["resnet8", from_zoo("ds_cnn")], {"lanes.pixels": [1, 2]})
    assert designs.networks == ("resnet8", "ds_cnn")
    np.testing.assert_allclose(designs.latency_s, found({"lanes.pixels": [1, 2]}).latency_s[:, :2], rtol=1e-12)
    with pytest.raises(InvalidInput, match="two networks are called 'resnet8'"):
        chipfit.design(ENGINE, ["resnet8", "resnet8"], {"lanes.pixels": [1]})
