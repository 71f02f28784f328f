"""Runtimes of this machine, by the clock: LiteRT and ONNX Runtime on its CPU, PyTorch on its GPU.

The time is the fastest of many calls, as what other programs take only adds, without what a call costs that does
nothing: the time of a short chain of tiny layers less what its layers take, as a longer chain tells. Where a runtime
tells what each operator takes, subgraphs are timed in the middle of a network, with what caches hold there; elsewhere,
and where operators take less than its clock can tell, as networks of their own. A machine can be slow for seconds on
end, so all is timed again after the last, and what does not agree once more. Nothing here is exact: `spread_s` says how
far repetitions lie apart.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property, partial
from math import hypot, sqrt
from typing import Any

import numpy as np

from chipfit.errors import InvalidInput, MissingDependency, UnsupportedOperator
from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.measure.board_runner import Call, CannotRun, Timing, litert_runtime, onnx_runtime, timed
from chipfit.measure.litert_profiler import known_version
from chipfit.measure.litert_rows import in_place
from chipfit.measure.measurement import Failure, Measurement, Part, Run, Source
from chipfit.measure.specimen import NAME, Largest, Specimen, integer_weights, ranges_of
from chipfit.measure.subgraphs import subgraphs_of
from chipfit.nets.network import Network
from chipfit.targets.target import Precision, Runtime, Target

CHAINS = (1, 9)
"""Layers of the two chains that tell the fixed cost of a call."""
PASSES, MOST_PASSES = 2, 4
"""How often everything is timed, and what does not agree at most."""
TOLERANCE = 0.03
"""By how much the two fastest passes may differ."""
SHORTEST_S = 5e-6
"""What takes less in its place is timed alone: there a runtime counts whole microseconds."""

Places = Callable[[Network], Mapping[str, Timing]]
"""What the operators of a network take in their place, by the tensor that each gives, in the order of the file."""


@dataclass(frozen=True, slots=True)
class Fixed:
    """Seconds that a call takes whatever it computes, and a layer within it; `spread_s` is that of the call."""

    call_s: float
    layer_s: float
    spread_s: float

    def taken_off(self, latency_s: float, spread_s: float, source: Source) -> Measurement:
        """A measured time without that of the call: nothing takes less than a layer that computes next to nothing."""
        least = max(self.layer_s, self.spread_s)
        return Measurement(max(latency_s - self.call_s, least), source, spread_s=hypot(spread_s, self.spread_s))


def fixed_cost(short: Timing, long: Timing) -> Fixed:
    """From the times of two chains of `CHAINS` layers."""
    layers = CHAINS[1] - CHAINS[0]
    layer_s = max(long.minimum_s - short.minimum_s, 0.0) / layers
    call_s = max(short.minimum_s - CHAINS[0] * layer_s, 0.0)
    return Fixed(call_s, layer_s, hypot(short.spread_s, long.spread_s / layers))


@dataclass(frozen=True)
class Clocked:
    """A runtime of this machine for one target: a `measure.Tool`.

    `opened` makes a network ready and gives one call of it; it raises `CannotRun` for a network that the runtime
    refuses. `places` tells what its operators take, where the runtime does. Weights that a graph does not bring are
    drawn with `seed`.
    """

    target: Target
    opened: Callable[[Network], Call]
    source: Source
    places: Places | None = None
    seed: int = 0
    largest: Largest = Largest(1 << 22, 1 << 23)  # noqa: RUF009 (frozen)
    budget: int = 3_000
    whole: int = 60

    @cached_property
    def fixed(self) -> Fixed:
        """What a call and a layer cost that compute next to nothing, measured once."""
        short, long = (timed(self.opened(chain(layers))) for layers in CHAINS)
        return fixed_cost(short, long)

    def subgraphs(self, specimens: Sequence[Specimen]) -> list[Part | Failure]:
        """Every specimen with the workload that it has in the middle of a network."""
        measured = self._timed([partial(self._specimen, item, self.seed + n) for n, item in enumerate(specimens)])
        return [
            Part(item.workload(self.target.fuses), each) if isinstance(each, Measurement) else each
            for item, each in zip(specimens, measured, strict=True)
        ]

    def networks(self, models: Sequence[Graph | Network], sigma: float = 40.0) -> list[Run | Failure]:
        """Whole networks; runs come with parts, which add up to the whole, where the runtime tells of operators."""
        makers = [partial(_network, item, sigma, self.seed + n) for n, item in enumerate(models)]
        measured = self._timed([partial(self._whole, make) for make in makers])
        return [
            Run(each, self._parts(make(), each), {}) if isinstance(each, Measurement) else each
            for make, each in zip(makers, measured, strict=True)
        ]

    def _whole(self, make: Callable[[], Network]) -> Timing:
        found = timed(self.opened(make()))
        own = self.fixed.taken_off(found.minimum_s, found.spread_s, self.source)
        return Timing(
            own.latency_s, max(found.median_s - self.fixed.call_s, own.latency_s), own.spread_s, found.repeats
        )

    def _specimen(self, item: Specimen, seed: int) -> Timing:
        if self.places is not None:
            own = self._shares(drawn(item.inside, item.sigma, seed)).get(NAME)
            if own is None:
                raise CannotRun("the runtime does not tell what its operators take")
            if own.minimum_s >= SHORTEST_S:
                return own
        return self._whole(partial(drawn, item.alone, item.sigma, seed))

    def _shares(self, network: Network) -> dict[str, Timing]:
        """What each subgraph takes, by name; nothing where the runtime does not tell. What was put in for a node (a
        pad, a transposition) belongs to that node."""
        found = {} if self.places is None else self.places(network)
        subgraphs = subgraphs_of(network, self.target)
        owner = {key: part.name for part in subgraphs for key, _ in part.members}
        shares = {part.name: Timing(0.0, 0.0, 0.0, 0) for part in subgraphs} if found else {}
        name = subgraphs[-1].name
        for tensor, own in reversed([*found.items()]):
            name = owner.get(tensor, name)
            so_far = shares[name]
            times = (so_far.minimum_s + own.minimum_s, so_far.median_s + own.median_s)
            shares[name] = Timing(*times, hypot(so_far.spread_s, own.spread_s), own.repeats)
        return shares

    def _parts(self, network: Network, whole: Measurement) -> dict[str, Part]:
        shares = self._shares(network)
        least = max(self.fixed.layer_s, self.fixed.spread_s)
        times = {name: max(own.minimum_s, least) for name, own in shares.items()}
        scale = whole.latency_s / sum(times.values()) if times else 1.0
        return {
            part.name: Part(
                part.workload,
                Measurement(
                    times[part.name] * scale, self.source, spread_s=max(shares[part.name].spread_s, self.fixed.spread_s)
                ),
            )
            for part in subgraphs_of(network, self.target)
            if times
        }

    def _timed(self, makers: Sequence[Callable[[], Timing]]) -> list[Measurement | Failure]:
        """Times in passes; networks are made anew in each, as all of them together would not fit into memory."""
        times: list[list[Timing]] = [[] for _ in makers]
        failures: dict[int, Failure] = {}
        for number in range(MOST_PASSES):
            for place, make in enumerate(makers):
                if place in failures or (number >= PASSES and agreeing(times[place])):
                    continue
                try:
                    times[place].append(make())
                except (CannotRun, UnsupportedOperator) as error:
                    failures[place] = Failure(str(error))
        return [failures.get(place) or self._measurement(own) for place, own in enumerate(times)]

    def _measurement(self, passes: Sequence[Timing]) -> Measurement:
        best, second = sorted(passes, key=lambda found: found.minimum_s)[:2]
        # The standard deviation of two numbers is their distance by the root of two.
        spread_s = hypot(best.spread_s, (second.minimum_s - best.minimum_s) / sqrt(2))
        return Measurement(best.minimum_s, self.source, spread_s=spread_s)


def agreeing(passes: Sequence[Timing]) -> bool:
    """Whether the two fastest passes agree."""
    best, second = sorted(found.minimum_s for found in passes)[:2]
    return second <= best * (1 + TOLERANCE)


def _network(model: Graph | Network, sigma: float, seed: int) -> Network:
    return model if isinstance(model, Network) else drawn(model, sigma, seed)


def drawn(graph: Graph, sigma: float, seed: int) -> Network:
    """A graph with weights drawn at random, with standard deviation `sigma` in steps of 8-bit integers."""
    return Network("network", graph, integer_weights(graph, sigma, np.random.default_rng(seed)))


def chain(layers: int) -> Network:
    """So many linear layers of 8 features one after the other: next to no work."""
    b = Builder()
    x = b.input("input", (1, 8))
    for place in range(layers):
        x = b.linear(x, 8, key=f"layer{place}")
    return drawn(b.graph(x), 40.0, 0)


def runtime(target: Target, precision: str | None = None) -> Clocked:
    """The runtime that the target's table [tool] names.

    Raises `MissingDependency` where it is not installed, `InvalidInput` for a precision that it cannot be given and
    where there is no GPU.
    """
    tool, numbers = target.tool, target.precision(precision)
    if not isinstance(tool, Runtime):
        raise InvalidInput(
            f'target {target.name}: [tool] names no runtime; kind must be "litert", "onnxruntime" or "torch"'
        )
    match tool.kind:
        case "litert":
            return _litert(target, tool, numbers)
        case "onnxruntime":
            return _onnxruntime(target, tool, numbers)
        case "torch":
            return _torch(target, numbers)


def _litert(target: Target, tool: Runtime, numbers: Precision) -> Clocked:
    from chipfit.nets.tflite.exporter import program_of
    from chipfit.nets.tflite.program import Program
    from chipfit.nets.tflite.writer import written

    found = litert_runtime()
    if found is None:
        raise MissingDependency(
            f"target {target.name} is measured with LiteRT, which is not installed; "
            "install it with: pip install 'chipfit[litert]'"
        )
    integers = _bits(target, numbers, (8, 32)) == 8
    known_version(found.name, found.version)

    def program(network: Network) -> Program:
        return program_of(network, ranges_of(network.graph) if integers and not network.quantisation else None)

    def opened(network: Network) -> Call:
        return found.opened(written(program(network), "chipfit"), tool.threads)

    def places(network: Network) -> Mapping[str, Timing]:
        return in_place(program(network), tool.threads)

    source = Source("measured", found.name, found.version, date.today().isoformat())
    # A network tells of forty operators in the time of three or four on their own.
    return Clocked(target, opened, source, places, budget=3_000, whole=160)


def _onnxruntime(target: Target, tool: Runtime, numbers: Precision) -> Clocked:
    from chipfit.nets.onnx.exporter import export_onnx

    found = onnx_runtime()
    if found is None:
        raise MissingDependency(
            f"target {target.name} is measured with ONNX Runtime, which is not installed; "
            "install it with: pip install onnxruntime"
        )
    _bits(target, numbers, (32,))

    def opened(network: Network) -> Call:
        return found.opened(export_onnx(network, None, batch=1).SerializeToString(), tool.threads)

    return Clocked(target, opened, Source("measured", found.name, found.version, date.today().isoformat()))


def _bits(target: Target, numbers: Precision, known: Sequence[int]) -> int:
    """The bits of a precision, where weights and activations have the same, one of `known`."""
    bits = numbers.activation_bits
    if bits not in known or numbers.weight_bits != bits:
        raise InvalidInput(
            f"target {target.name}: its runtime is measured with {' or '.join(map(str, known))} bits, not with weights "
            f"of {numbers.weight_bits} and activations of {bits}; choose another precision"
        )
    return bits


def _torch(target: Target, numbers: Precision) -> Clocked:
    import torch

    if not torch.cuda.is_available():
        raise InvalidInput(
            f"target {target.name} is measured with PyTorch on a GPU, and PyTorch finds none; "
            "run this where there is one, or take another target"
        )
    kind = torch.float16 if _bits(target, numbers, (16, 32)) == 16 else torch.float32
    source = Source("measured", "torch", torch.__version__, date.today().isoformat())
    return Clocked(target, partial(_on_gpu, kind=kind), source)


def _on_gpu(network: Network, kind: Any) -> Call:
    """Replays of a recorded network: the GPU's time without Python's, which is longer for small layers."""
    import torch

    from chipfit.nets.module import GraphModule

    module = GraphModule(network.graph, network.weights).eval().to("cuda", kind)
    inputs = [torch.randn(tuple(item.shape), device="cuda", dtype=kind) for item in network.graph.inputs]  # type: ignore[arg-type]
    recorded = torch.cuda.CUDAGraph()
    try:
        with torch.no_grad():
            aside = torch.cuda.Stream()
            with torch.cuda.stream(aside):
                for _ in range(3):
                    module(*inputs)
            torch.cuda.current_stream().wait_stream(aside)
            with torch.cuda.graph(recorded):
                kept = module(*inputs)
    except RuntimeError as error:
        raise CannotRun(" ".join(str(error).split())) from None

    def call() -> object:
        recorded.replay()
        torch.cuda.synchronize()
        return kept

    return call
