"""An accelerator as data: what a TOML file says of it, validated, with the units in the names."""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_serializer, model_validator

from chipfit.errors import InvalidInput
from chipfit.graph.functions import FUNCTION_NAMES, function_name
from chipfit.graph.subgraphs import FOLLOWERS, Subgraph
from chipfit.graph.values import Value, both, never
from chipfit.graph.workload import WORKLOAD_KINDS, Workload
from chipfit.targets.shapes import Shapes

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
# TOML has lists only; everything else is taken as written.
Names = Annotated[frozenset[str], Field(strict=False)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Lanes(_Part):
    """The multiplier array: how many of each a cycle works on; their product is the MACs per cycle."""

    input_channels: Count
    """input channels that are summed in one cycle"""
    output_channels: Count
    """output channels in one cycle"""
    pixels: Count
    """neighbouring output pixels of a row in one cycle"""

    @property
    def macs_per_cycle(self) -> int:
        """Multiply-accumulates that the array offers per cycle."""
        return self.input_channels * self.output_channels * self.pixels


class Depthwise(_Part):
    """How a depthwise convolution maps: it has nothing to sum over input channels, so most lanes stay idle."""

    channels: Count
    """channels in one cycle"""
    taps: Count
    """kernel taps in one cycle; 1 where the array knows no windows"""
    efficiency: Share
    """share of cycles that do work, between 0 and 1"""


class Vector(_Part):
    """The unit for everything that is no matrix product."""

    elements_per_cycle: Count | Positive
    """8-bit channels of one pixel in one cycle"""
    table_elements_per_cycle: Count | Positive
    """8-bit channels of one pixel that are looked up in a function table in one cycle"""


class Memory(_Part):
    """On-chip memory and the way to DRAM. Weights come from DRAM for every image."""

    on_chip_bytes: Count
    """on-chip memory, weight buffer included"""
    weight_buffer_bytes: Count
    """part of the on-chip memory through which weights stream, double-buffered"""
    on_chip_bytes_per_cycle: Positive
    """bytes between on-chip memory and the lanes per cycle"""
    dram_bytes_per_s: Positive
    """sustained bandwidth to DRAM or flash"""
    burst_bytes: Count = 1
    """bytes side by side that DRAM moves at least; of fewer, the rest is moved in vain"""
    dram_takes_turns: bool = False
    """whether DRAM carries one thing at a time: weights, or activations in or out"""

    @model_validator(mode="after")
    def _buffer_fits(self) -> Memory:
        if self.weight_buffer_bytes >= self.on_chip_bytes:
            raise ValueError(
                f"weight_buffer_bytes = {self.weight_buffer_bytes} must leave room in "
                f"on_chip_bytes = {self.on_chip_bytes}"
            )
        return self

    @property
    def activation_bytes(self) -> int:
        """On-chip bytes that activations can use."""
        return self.on_chip_bytes - self.weight_buffer_bytes


class Overhead(_Part):
    """Cycles of every subgraph that do no work."""

    layer_cycles: NotNegative
    """command decoding and set-up"""
    fill_cycles: NotNegative
    """filling and draining the pipeline"""


class Precision(_Part):
    """One number format that the chip computes in."""

    weight_bits: Count
    """bits of a weight"""
    activation_bits: Count
    """bits of an activation"""
    bias_bits: Count
    """bits of an accumulator bias"""
    throughput: Positive
    """MACs of a lane per cycle: 1 at full rate, 0.5 where one takes two cycles"""


class Energy(_Part):
    """Energy of the parts, and the power that flows as long as the chip is on."""

    mac_j: NotNegative
    """one multiply-accumulate at full rate"""
    idle_mac_j: NotNegative
    """one lane and cycle that is clocked with nothing to multiply"""
    on_chip_byte_j: NotNegative
    """one byte to or from on-chip memory"""
    dram_byte_j: NotNegative
    """one byte to or from DRAM"""
    static_w: NotNegative
    """leakage and clock tree"""


class Layout(_Part):
    """How activations lie in memory, as far as it decides what they take."""

    channel_block: Count = 1
    """channels to which tensors inside the network are padded; inputs and outputs of the network are not"""
    weights_on_chip: bool = False
    """whether weights lie in the memory of the activations"""
    weight_buffers: bool = False
    """whether weights that lie elsewhere are fetched into the memory of the activations ahead of their operator"""
    in_place: Names = frozenset()
    """workload kinds that share memory: results of "elementwise" ones take the place of an operand that nobody needs
    any more, what a "copy" puts side by side is written where the whole will lie"""
    aligned_bytes: Count = 1
    """bytes of which every tensor takes a multiple"""
    stored_share: Share = 1.0
    """what unknown weights take of their plain size; below 1 the chip compresses weights, and known ones count as they
    are"""
    plain: Names = frozenset()
    """workload kinds whose output is written in pieces between each other, and therefore lies without blocks"""
    striped: Names = frozenset()
    """workload kinds that run in stripes together with their neighbours where memory is short; with any, what lies in
    memory around a subgraph counts among what its latency depends on"""

    @field_serializer("in_place", "plain", "striped")
    def _sorted_names(self, names: frozenset[str]) -> list[str]:
        return sorted(names)


# TOML has lists only.
Sizes = Annotated[tuple[Count, Count, Count], Field(strict=False)]


class Tiles(_Part):
    """The pieces of an output that the array works on one after the other, and the buffers that bound them.

    Without this table every output is one piece. Compilers take the piece for which least is read: inputs again for
    every piece of output channels, weights again for every piece of pixels.
    """

    granules: Annotated[tuple[Sizes, ...], Field(strict=False, min_length=1)]
    """smallest pieces (height, width, channels) of the array, of which the one that fits best is taken"""
    depthwise_granules: Annotated[tuple[Sizes, ...], Field(strict=False, min_length=1)]
    """the same for depthwise convolutions"""
    largest: Sizes
    """largest piece"""
    channel_step: Count
    """steps in which pieces grow along the channels"""
    shallow_channels: Count
    """input channels of a piece when taps of the kernel are worked on side by side"""
    deep_channels: Count
    """input channels of a piece when they are worked on tap by tap"""
    shared_bytes: Count | None = None
    """buffer for two pieces of input and two of accumulators together"""
    input_bytes: Count
    """buffer of one piece of input, or the step in which the shared buffer is divided for it"""
    accumulator_bytes: Count
    """buffer of the accumulators of one piece, or the step in which the shared buffer is divided for them"""
    least_cycles: Count
    """cycles that a step of the array takes for however few pixels, for each eight channels of the smallest piece:
    weights are decoded meanwhile"""
    accumulator_channels: Count = 8
    """channels for multiples of which accumulators are kept"""
    input_channels: Count = 8
    """channels for multiples of which inputs are held"""
    input_steps: Annotated[tuple[Sizes, ...], Field(strict=False)] = ()
    """units (height, width, channels) in which inputs are held instead, by how deep they are; a unit of as many pixels
    as the smallest piece has its shape"""
    tap_step: Count = 4
    """taps of a kernel that are worked on side by side"""
    least_taps: Count | None = None
    """for how many taps those count at least that are left over; without it, for a whole step"""
    proportional_channels: Count | None = None
    """channels of the deepest piece of a depthwise convolution where these pieces take the proportions of the output;
    without it they are chosen as all others"""
    cores: Count = 1
    """arrays that share out the channels of a piece"""
    pool_cycles: Count = 4
    """cycles that a step of the array takes for a tap of a pool, of which at least four count"""


class Vela(_Part):
    """Arm's compiler for Ethos-U, with its own names for what it compiles for."""

    kind: Literal["vela"] = "vela"
    """which tool measures"""
    accelerator: Annotated[str, Field(pattern=r"^ethos-u(55|65|85)-[0-9]+$")]
    """product and MACs per cycle, such as ethos-u55-256"""
    system_config: Text
    """clock and memories, a section of the compiler's configuration file"""
    memory_mode: Text
    """what lies in which memory, a section of the compiler's configuration file"""
    arena_bytes: Count | None = None
    """on-chip memory for activations; without it, what the memory mode says"""


class Runtime(_Part):
    """A runtime on the processor or GPU of this machine, which takes the time."""

    kind: Literal["litert", "onnxruntime", "torch"]
    """which tool measures"""
    threads: Count = 1
    """threads that it may use"""


class Board(_Part):
    """A board of the user's own, where chipfit cannot run: measured by the files of `chipfit profile --plan`."""

    kind: Literal["board"]
    """which tool measures"""
    runtime: Text
    """name of the runtime on the board, for people"""


TOOLS: Mapping[str, type[BaseModel]] = {
    "vela": Vela,
    "litert": Runtime,
    "onnxruntime": Runtime,
    "torch": Runtime,
    "board": Board,
}
"""The tables of tools by their kind."""


class Target(_Part):
    """An accelerator. Two targets are equal when all they hold is equal.

    Raises `pydantic.ValidationError` when built by hand from unfit values; `load_target` and `variant` raise
    `InvalidInput` with the key, its value and the remedy in one line.
    """

    name: Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")]
    """short name: lower case, digits, '-', '.' and '_'"""
    description: Text
    """one sentence for people"""
    source: Text
    """where the figures come from; "description" for a design that nobody has built"""
    clock_hz: Positive
    """clock of the array"""
    lanes: Lanes
    """table of the multiplier array"""
    depthwise: Depthwise
    """table of the depthwise mapping"""
    vector: Vector
    """table of the vector unit"""
    memory: Memory
    """table of the memories"""
    overhead: Overhead
    """table of fixed cycles"""
    energy: Energy
    """table of energies"""
    default_precision: Text
    """name of the precision that is used when none is asked for"""
    precisions: Annotated[dict[str, Precision], Field(min_length=1)]
    """one table per number format"""
    fuses: dict[str, Names]
    """per workload kind, what runs together with it"""
    unsupported: Names
    """workload kinds, or single functions such as "activation.sqrt", that it cannot run"""
    shapes: Shapes = Shapes()
    """table of the shapes that it runs of operators that it does not run in all"""
    tiles: Tiles | None = None
    """table of the pieces that outputs are worked on in"""
    layout: Layout = Layout()
    """table of the layout of activations"""
    tool: Annotated[Vela | Runtime | Board, Field(discriminator="kind")] | None = None
    """table of what measures it; without one it is simulated from this description"""

    @field_serializer("fuses")
    def _sorted_fuses(self, fuses: dict[str, frozenset[str]]) -> dict[str, list[str]]:
        return {kind: sorted(followers) for kind, followers in fuses.items()}

    @field_serializer("unsupported")
    def _sorted_unsupported(self, unsupported: frozenset[str]) -> list[str]:
        return sorted(unsupported)

    @model_validator(mode="after")
    def _names_are_known(self) -> Target:
        _known(self.default_precision, self.precisions, "default_precision")
        for kind, followers in self.fuses.items():
            _known(kind, WORKLOAD_KINDS, "fuses")
            for follower in sorted(followers):
                _known(follower, FOLLOWERS, f"fuses.{kind}")
        for kind in sorted(self.unsupported):
            _known(kind, (*WORKLOAD_KINDS, *FUNCTION_NAMES), "unsupported")
        for key, kinds in (
            ("in_place", self.layout.in_place),
            ("plain", self.layout.plain),
            ("striped", self.layout.striped),
        ):
            for kind in sorted(kinds):
                _known(kind, WORKLOAD_KINDS, f"layout.{key}")
        return self

    def __hash__(self) -> int:
        return hash(self.digest)

    def runs_some(self, kind: str) -> bool:
        """Whether it runs anything of a workload kind; nothing runs what chipfit does not know."""
        return kind != "opaque" and kind not in self.unsupported

    def runs(self, load: Workload) -> Value:
        """Under which codes it runs a workload: a bool, or a table of them."""
        if not self.runs_some(load.kind) or function_name(load.kind, load.function) in self.unsupported:
            return False
        return self.shapes.holds(load)

    def run_of(self, subgraphs: Iterable[Subgraph]) -> list[Subgraph]:
        """The subgraphs that it runs, each present only under the codes under which it does."""
        found = [part._replace(presence=both(part.presence, self.runs(part.workload))) for part in subgraphs]
        return [part for part in found if not never(part.presence)]

    @property
    def peak_macs_per_second(self) -> float:
        """Multiply-accumulates per second at the default precision with every lane busy."""
        return self.lanes.macs_per_cycle * self.precision().throughput * self.clock_hz

    @property
    def dram_bytes_per_cycle(self) -> float:
        """Bytes to or from DRAM during one cycle of the array."""
        return self.memory.dram_bytes_per_s / self.clock_hz

    @cached_property
    def digest(self) -> str:
        """A hash, equal on every machine for targets on which the same workload costs the same.

        Texts for people do not count, nor which workloads it cannot run: of those nothing is predicted.
        """
        figures = self.model_dump(mode="json", exclude={"description", "source", "unsupported", "shapes"})
        return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()

    def precision(self, name: str | None = None) -> Precision:
        """The precision of that name, or the default one. Raises `InvalidInput` for a name it does not have."""
        found = self.precisions.get(name or self.default_precision)
        if found is None:
            raise InvalidInput(
                f"target {self.name}: no precision {name!r}; it has {', '.join(sorted(self.precisions))}"
            )
        return found


def near_miss(name: str, known: Mapping[str, object]) -> str:
    """A question for what was misspelt, empty where nothing is near."""
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _known(name: str, names: Any, key: str) -> None:
    if name not in names:
        known = dict.fromkeys(names)
        raise ValueError(f"{key}: unknown {name!r}{near_miss(name, known)}; take one of {', '.join(known)}")
