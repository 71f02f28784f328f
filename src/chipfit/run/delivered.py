"""What is known in the end of networks that were trained in full: their int8 files, and what they are on a stream."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from chipfit.run.journal import Journal

INT8 = "int8"
"""The note of the journal that keeps what was found of int8 files, and the folder with the files."""

STREAMING = "streaming"
"""The note of the journal that keeps what networks cost on a stream."""


@dataclass(frozen=True, slots=True)
class Integers:
    """How an int8 file does beside the network that it was made from.

    `integer` and `real` are the task's metrics of both on all `images` of the test split, empty where `unchecked` says
    why the file was not run. Deviations are absolute, of the network's outputs, which span `span`. `in_float` are nodes
    that the file computes in float32.
    """

    images: int
    metric: str
    integer: Mapping[str, float]
    real: Mapping[str, float]
    mean_deviation: float
    largest_deviation: float
    span: float
    in_float: tuple[str, ...]
    unchecked: str = ""


@dataclass(frozen=True, slots=True)
class Quantised:
    """The int8 file of a trial: its size, how it does beside the network, and what it costs when it is read back.

    `costs` are in SI units by the names that studies use, `broken` those that are above a limit of the study. `found`
    is None where there is no such file, with the reason in `why`. `compiled_s` is the latency of the file by the chip's
    own compiler, named in `compiler`; None where it is not installed, or for what `compiler` says then.
    """

    number: int
    file_bytes: int = 0
    found: Integers | None = None
    costs: Mapping[str, float] = field(default_factory=dict[str, float])
    broken: tuple[str, ...] = ()
    why: str = ""
    compiled_s: float | None = None
    compiler: str = ""

    @property
    def ran(self) -> bool:
        """Whether the file was run, so that its accuracy is known."""
        return self.found is not None and not self.found.unchecked


@dataclass(frozen=True, slots=True)
class Streamed:
    """A network on a stream of sound, in seconds.

    Every `step_s` of sound there is an output. `compute_s` is what it takes to compute it where inputs are kept,
    `anew_s` where all frames that it depends on are computed anew. `wait_s` is how long after a frame has begun all is
    there that its output depends on, the window of the last frame included.
    """

    step_s: float
    compute_s: float
    anew_s: float
    wait_s: float

    @property
    def load(self) -> float:
        """The share of the time that computing takes; above 1 the chip cannot keep up."""
        return self.compute_s / self.step_s

    @property
    def end_to_end_s(self) -> float:
        """From the begin of a sound to the answer."""
        return self.wait_s + self.compute_s


def known_files(journal: Journal) -> dict[int, Quantised]:
    """What a journal keeps of int8 files, by the number of the trial."""
    return read(json.loads(journal.about(INT8) or "{}"))


def read(noted: Mapping[str, Mapping[str, Any]]) -> dict[int, Quantised]:
    """What a journal's note says, by the number of the trial."""
    return {int(number): _read(dict(each)) for number, each in noted.items()}


def _read(each: dict[str, Any]) -> Quantised:
    if each["found"] is not None:
        inner: dict[str, Any] = dict(each["found"])
        inner["in_float"] = tuple(inner["in_float"])
        each["found"] = Integers(**inner)
    each["broken"] = tuple(each["broken"])
    return Quantised(**each)


def read_streamed(noted: Mapping[str, Mapping[str, Any]] | None) -> dict[int, Streamed]:
    """What the journal's note says, by the number of the trial."""
    return {int(number): Streamed(**each) for number, each in (noted or {}).items()}
