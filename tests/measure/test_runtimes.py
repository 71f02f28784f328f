"""Runtimes of this machine: the clock is patient, the fixed cost of a call goes off, and totals are about sums."""

import time
from collections.abc import Callable, Mapping

import numpy as np
import pytest

from chipfit.errors import InvalidInput, MissingDependency
from chipfit.estimate.random_networks import random_networks
from chipfit.graph.build import Builder
from chipfit.graph.ops import Activation, Conv2d, Opaque
from chipfit.graph.subgraphs import cut
from chipfit.measure import Failure, Part, Run, Source, Specimen, tool_for
from chipfit.measure import board_runner as runner
from chipfit.measure.board_runner import Timing, timed
from chipfit.measure.runtimes import CHAINS, Clocked, Fixed, chain, fixed_cost, runtime
from chipfit.nets.network import Network
from chipfit.targets import load_target, variant

CPU = load_target("reference-cpu")
BY_ONNX = variant(CPU, {"tool.kind": "onnxruntime", "default_precision": "float32"})
HERE = Source("measured", "clock", "1", "2026-11-01")


class Clock:
    """A clock and a call that takes the times it is told, the last one for ever."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *times_s: float) -> None:
        self.now, self.times, self.calls = 0.0, list(times_s), 0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def __call__(self) -> None:
        self.calls += 1
        self.now += self.times.pop(0) if len(self.times) > 1 else self.times[0]


def test_the_fastest_call_counts_and_warming_up_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    call = Clock(monkeypatch, 0.001, 9.0, 0.5, 0.3, 0.31, 0.302)
    found = timed(call)
    assert found.minimum_s == pytest.approx(0.3)
    assert found.repeats == call.calls - 2
    assert found.spread_s == pytest.approx(np.std([0.3, 0.302, 0.302], ddof=1))


def test_rounds_go_on_until_they_agree_but_not_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timed(Clock(monkeypatch, 0.2)).repeats == runner.AGREEING
    noisy = Clock(monkeypatch, *(0.02 * 1.1**place for place in range(40, 0, -1)))
    assert timed(noisy).repeats == runner.MOST_ROUNDS
    assert timed(noisy).spread_s > 0.02 * timed(noisy).minimum_s


def test_no_time_is_called_exact(monkeypatch: pytest.MonkeyPatch) -> None:
    assert timed(Clock(monkeypatch, 0.25)).spread_s > 0


def test_what_a_call_costs_is_found_from_two_chains() -> None:
    call, layer = 5e-6, 2e-7
    short, long = (Timing(call + layers * layer, 0, 1e-9, 100) for layers in CHAINS)
    found = fixed_cost(short, long)
    assert found.call_s == pytest.approx(call)
    assert found.layer_s == pytest.approx(layer)
    assert fixed_cost(long, short).layer_s == 0


def test_nothing_takes_less_than_a_layer_that_does_nothing() -> None:
    fixed = Fixed(5e-6, 2e-7, 1e-8)
    assert fixed.taken_off(25e-6, 0, HERE).latency_s == pytest.approx(20e-6)
    assert fixed.taken_off(4e-6, 0, HERE).latency_s == 2e-7
    assert fixed.taken_off(4e-6, 3e-8, HERE).spread_s == pytest.approx(np.hypot(3e-8, 1e-8))


@pytest.fixture(scope="module", params=[CPU, BY_ONNX], ids=lambda target: target.tool.kind)
def tool(request: pytest.FixtureRequest) -> Clocked:
    pytest.importorskip("ai_edge_litert" if request.param is CPU else "onnxruntime")
    return runtime(request.param)


def conv(channels: int, size: int = 56) -> Specimen:
    return Specimen(Conv2d(channels, (3, 3), (1, 1), (1, 1, 1, 1)), ((1, channels, size, size),), activation="relu")


def test_results_come_in_order_with_the_workload_of_the_middle_of_a_network(tool: Clocked) -> None:
    specimens = [conv(64), Specimen(Activation("silu"), ((1, 8, 4, 4),)), conv(8)]
    found = tool.subgraphs(specimens)
    for part, specimen in zip(found, specimens, strict=True):
        assert isinstance(part, Part)
        assert part.workload == specimen.workload(tool.target.fuses)
        assert part.measurement.source == tool.source
        assert part.measurement.spread_s > 0
    times = [part.measurement.latency_s for part in found if isinstance(part, Part)]
    # 60 times the work and more: no load of the machine turns this round.
    assert times[0] > 4 * times[2] > 0


def test_what_cannot_run_is_named_and_the_rest_goes_on(tool: Clocked) -> None:
    b = Builder()
    x = b.input("input", (1, 8, 4, 4))
    odd = b.graph(b.add(Opaque("Warp", (1, 8, 4, 4)), x, key="warp"))
    found = tool.networks([odd, chain(2)])
    assert isinstance(found[0], Failure)
    assert "Warp" in found[0].why
    assert isinstance(found[1], Run)
    assert bool(found[1].parts) == (tool.places is not None)


def test_a_longer_chain_takes_longer(tool: Clocked) -> None:
    times = [run.measurement.latency_s for run in tool.networks([chain(2), chain(200)]) if isinstance(run, Run)]
    assert times[1] > 5 * times[0]


def test_a_model_that_a_runtime_refuses_says_why() -> None:
    pytest.importorskip("ai_edge_litert")
    for found, model in ((runner.litert_runtime(), b"\x1c\x00\x00\x00TFL3"), (runner.onnx_runtime(), b"nothing")):
        assert found is not None
        with pytest.raises(runner.CannotRun):
            found.opened(model, 1)


def test_targets_name_their_tool() -> None:
    pytest.importorskip("ai_edge_litert")
    assert tool_for(CPU).source.tool == "ai-edge-litert"  # type: ignore[attr-defined]
    assert tool_for(BY_ONNX).source.tool == "onnxruntime"  # type: ignore[attr-defined]


def test_a_runtime_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chipfit.measure.runtimes.litert_runtime", lambda: None)
    with pytest.raises(MissingDependency, match=r"chipfit\[litert\]"):
        runtime(CPU)


def test_precisions_that_a_runtime_cannot_be_given_are_refused() -> None:
    with pytest.raises(InvalidInput, match="measured with 32 bits, not with weights of 8"):
        runtime(BY_ONNX, "int8")
    with pytest.raises(InvalidInput, match="names no runtime"):
        runtime(load_target("neural-engine"))


def test_without_a_gpu_torch_says_so() -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(InvalidInput, match="PyTorch finds none"):
        runtime(variant(CPU, {"tool.kind": "torch", "default_precision": "float32"}))


@pytest.mark.slow
def test_a_gpu_times_networks() -> None:
    import torch

    if not torch.cuda.is_available():
        pytest.skip("this machine has no GPU")
    found = runtime(variant(CPU, {"tool.kind": "torch", "default_precision": "float32"})).networks([chain(2)])
    assert isinstance(found[0], Run)


def test_parts_are_the_subgraphs_and_add_up_to_the_whole() -> None:
    pytest.importorskip("ai_edge_litert")
    tool = runtime(CPU)
    graphs = random_networks(3, np.random.default_rng(77))
    for graph, run in zip(graphs, tool.networks(graphs), strict=True):
        assert isinstance(run, Run)
        assert {name: part.workload for name, part in run.parts.items()} == {
            part.name: part.workload for part in cut(graph, CPU.fuses)
        }
        total = sum(part.measurement.latency_s for part in run.parts.values())
        assert total == pytest.approx(run.measurement.latency_s, rel=1e-9)
        assert all(part.measurement.spread_s > 0 for part in run.parts.values())


def in_the_middle(seconds: Mapping[str, float]) -> Callable[[Network], dict[str, Timing]]:
    """Places of a runtime that takes so long for each operator, by the tensor that it gives."""
    return lambda network: {
        key: Timing(seconds.get(key, 1e-3), 0.0, 1e-9, 16) for key in (node.key for node in network.graph.nodes)
    }


def test_a_specimen_takes_what_it_takes_in_its_place_unless_that_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    class Constant:
        """A runtime whose calls take 3 microseconds each."""

        now = 0.0

        def __call__(self, network: Network) -> runner.Call:
            def call() -> None:
                self.now += 3e-6

            return call

    clock = Constant()
    monkeypatch.setattr(time, "perf_counter", lambda: clock.now)
    long = Clocked(CPU, clock, HERE, in_the_middle({"specimen": 7e-6, "activation": 2e-6}))
    (found,) = long.subgraphs([conv(8)])
    assert isinstance(found, Part)
    assert found.measurement.latency_s == pytest.approx(9e-6)
    short = Clocked(CPU, clock, HERE, in_the_middle({"specimen": 1e-6, "activation": 1e-6}))
    (found,) = short.subgraphs([conv(8)])
    assert isinstance(found, Part)
    assert found.measurement.latency_s == short.fixed.taken_off(3e-6, 0, HERE).latency_s
    untold = Clocked(CPU, clock, HERE, lambda network: {})
    assert isinstance(untold.subgraphs([conv(8)])[0], Failure)


class Slow:
    """A runtime whose calls take what they are told per opening, and a clock that goes by it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *times_s: float) -> None:
        self.now, self.times, self.opened = 0.0, list(times_s), 0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def __call__(self, network: Network) -> runner.Call:
        layers = len(network.graph.nodes)
        taken = 1e-6 * (10 + layers)
        if layers == 3:
            taken, self.opened = self.times[self.opened], self.opened + 1

        def call() -> None:
            self.now += taken

        return call


def test_what_was_slow_for_a_while_is_timed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch, 0.4, 0.2, 0.201, 9.0)
    (found,) = Clocked(CPU, slow, HERE).networks([chain(3)])
    assert isinstance(found, Run)
    assert slow.opened == 3
    assert found.measurement.latency_s == pytest.approx(0.2 - 1e-5)
    assert found.measurement.spread_s == pytest.approx(np.std([0.2, 0.201], ddof=1), rel=1e-3)


def test_what_never_agrees_says_so_by_its_spread(monkeypatch: pytest.MonkeyPatch) -> None:
    slow = Slow(monkeypatch, 0.9, 0.6, 0.4, 0.2, 0.1)
    (found,) = Clocked(CPU, slow, HERE).networks([chain(3)])
    assert isinstance(found, Run)
    assert slow.opened == 4
    assert found.measurement.spread_s > 0.5 * found.measurement.latency_s
