"""What a chip runs together with the operator before, found by measuring small networks instead of assumed.

An operator that runs by itself adds its own time to a network: what it adds where it cannot run together with the one
before, behind a tensor that something else reads too. One that runs together adds something else: mostly less, next to
nothing where it hides behind the other, and sometimes more, where the compiler's choice is a bad one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import hypot
from statistics import median

from chipfit.graph.build import Builder
from chipfit.graph.graph import Graph
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    LayerNorm,
    Linear,
    MatMul,
    Op,
    Pad,
    Pool2d,
    Resize,
    Softmax,
)
from chipfit.graph.subgraphs import FOLLOWERS
from chipfit.graph.values import Shape
from chipfit.measure.measurement import Failure, Run, Tool
from chipfit.measure.specimen import NEIGHBOUR_CHANNELS, neighbour, with_channels
from chipfit.targets.target import Target

SIZES = ((14, 32), (28, 64), (28, 128), (56, 32))
"""Height and width, and channels, of the tensors that are tried. Smaller ones tell what commands cost."""
TELLING = 0.15
"""By how much of its own time what an operator adds must differ from it."""
OVER_NOISE = 3.0
"""By how many standard deviations it must differ, and its own time from nothing."""

_FUNCTIONS: Mapping[str, Op] = {
    "batch_norm": BatchNorm(),
    "clamp": Activation("relu6"),
    "activation": Activation("sigmoid"),
    "composite": Activation("silu"),
    "add": Elementwise("add"),
}
"""What stands for each of `FOLLOWERS`."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Whether an operator of a `kind` takes a `follower` along.

    `ratio` is what the follower adds by its own time, the median over sizes; `fused` says whether the two differ at
    half of the sizes at least. `described` is what the target's file says. Where nothing could be measured `ratio`
    and `fused` are None, and `why` says what hindered it.
    """

    kind: str
    follower: str
    described: bool
    ratio: float | None
    fused: bool | None
    why: str = ""

    @property
    def contradicts(self) -> bool:
        """Whether the measurements contradict the file."""
        return self.fused is not None and self.fused != self.described


def detect_fusion(target: Target, tool: Tool) -> tuple[Evidence, ...]:
    """What `tool` shows of every kind that the target runs and every one of `FOLLOWERS`.

    The target's own table of fusions is only compared with.
    """
    cases = [(kind, follower) for kind in _HOSTS if kind not in target.unsupported for follower in FOLLOWERS]
    # One call each, so that the tool draws the same weights for the same place.
    runs = [
        tool.networks([pair(*case, *size, together=together, apart=apart) for case in cases for size in SIZES])
        for apart in (False, True)
        for together in (False, True)
    ]
    found: list[Evidence] = []
    for place, (kind, follower) in enumerate(cases):
        fuses = target.fuses.get(kind, frozenset())
        described = follower in fuses or (follower == "clamp" and "activation" in fuses)
        own = slice(place * len(SIZES), (place + 1) * len(SIZES))
        found.append(_evidence(kind, follower, described, list(zip(*(each[own] for each in runs), strict=True))))
    return tuple(found)


def fuses_of(evidence: Sequence[Evidence]) -> dict[str, tuple[str, ...]]:
    """The table [fuses] of a target file by what was found, and by the file where nothing could be measured.

    "activation" stands for clamps as well.
    """
    table: dict[str, tuple[str, ...]] = {}
    for each in evidence:
        if each.described if each.fused is None else each.fused:
            table[each.kind] = (*table.get(each.kind, ()), each.follower)
    return {
        kind: tuple(name for name in names if name != "clamp" or "activation" not in names)
        for kind, names in table.items()
    }


def _evidence(kind: str, follower: str, described: bool, runs: Sequence[Sequence[Run | Failure]]) -> Evidence:
    """From four networks for each size: without and with the follower, then the same where something else reads too."""
    ratios: list[float] = []
    differing = 0
    why = "its own time is too short to tell"
    for four in runs:
        failed = [run.why for run in four if isinstance(run, Failure)]
        lost = [name for run in four if isinstance(run, Run) for name in run.elsewhere]
        if failed or lost:
            why = failed[0] if failed else f"{lost[0]} does not run on the target"
            continue
        alone, behind, read, apart = (run.measurement for run in four if isinstance(run, Run))
        own_s, added_s = apart.latency_s - read.latency_s, behind.latency_s - alone.latency_s
        noise_s = OVER_NOISE * hypot(*(each.spread_s for each in (alone, behind, read, apart)))
        if own_s > noise_s:
            ratios.append(added_s / own_s)
            differing += abs(added_s - own_s) > max(TELLING * own_s, noise_s)
    if not ratios:
        return Evidence(kind, follower, described, None, None, why)
    return Evidence(kind, follower, described, median(ratios), 2 * differing >= len(ratios))


def pair(kind: str, follower: str, size: int, channels: int, *, together: bool, apart: bool) -> Graph:
    """A network around an operator of a kind; with `together` the follower stands behind it, with `apart` something
    else reads its output too. All else is equal."""
    b = Builder()
    op, inputs = _HOSTS[kind](size, channels)
    names = [neighbour(b, shape, f"before{place}") for place, shape in enumerate(inputs)]
    # What reads a tensor beside it keeps the operator from running with the one before.
    outputs = [with_channels(b, name, NEIGHBOUR_CHANNELS, f"{name}.beside") for name in names]
    second: tuple[str, ...] = ()
    if follower == "add":
        # The other operand comes first: only then can the sum run with the operator.
        second = (neighbour(b, op.shape(list(inputs)), "residual"),)
        outputs.append(with_channels(b, second[0], NEIGHBOUR_CHANNELS, "residual.beside"))
    x = b.add(op, *names, key="operator")
    if apart:
        outputs.append(with_channels(b, x, NEIGHBOUR_CHANNELS, "operator.beside"))
    if together:
        x = b.add(_FUNCTIONS[follower], x, *second, key="follower")
    return b.graph([with_channels(b, x, NEIGHBOUR_CHANNELS, "after"), *outputs])


def _on_image(op: Op) -> Callable[[int, int], tuple[Op, tuple[Shape, ...]]]:
    return lambda size, channels: (op, ((1, channels, size, size),))


_HOSTS: Mapping[str, Callable[[int, int], tuple[Op, tuple[Shape, ...]]]] = {
    "conv": lambda size, n: (Conv2d(n, (3, 3), (1, 1), (1, 1, 1, 1), bias=True), ((1, n, size, size),)),
    "depthwise": lambda size, n: (
        Conv2d(n, (3, 3), (1, 1), (1, 1, 1, 1), groups=n, bias=True),
        ((1, n, size, size),),
    ),
    "transposed_conv": lambda size, n: (ConvTranspose2d(n, (2, 2), (2, 2)), ((1, n, size, size),)),
    "linear": lambda size, n: (Linear(size * n // 4), ((1, size * n // 4),)),
    "matmul": lambda size, n: (MatMul(), ((1, size, n), (1, n, size))),
    "pool": _on_image(Pool2d("max", (3, 3), (1, 1), (1, 1, 1, 1))),
    "elementwise": lambda size, n: (Elementwise("mul"), ((1, n, size, size),) * 2),
    "activation": _on_image(Activation("tanh")),
    "normalisation": _on_image(LayerNorm()),
    "softmax": _on_image(Softmax()),
    "resize": _on_image(Resize("bilinear", scale=(2.0, 2.0))),
    "copy": _on_image(Pad((1, 1, 1, 1))),
}
"""Operators of every kind that can have followers, for a size and channels, with the shapes of their inputs."""
