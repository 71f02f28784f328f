"""An accelerator as data: what a TOML file says of it, validated, with the units in the names."""

from __future__ import annotations

import difflib
import hashlib
import json
import re
import tomllib
from collections.abc import Mapping
from functools import cached_property
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_serializer, model_validator

from chipfit.errors import InvalidInput
from chipfit.graph.subgraphs import FOLLOWERS
from chipfit.graph.workload import WORKLOAD_KINDS

Count = Annotated[int, Field(gt=0)]
Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]
Share = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
# TOML has lists only; everything else is taken as written.
Names = Annotated[frozenset[str], Field(strict=False)]


class _Part(BaseModel):
    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", allow_inf_nan=False, use_attribute_docstrings=True
    )


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

    elements_per_cycle: Count
    """8-bit channels of one pixel in one cycle"""
    table_elements_per_cycle: Count
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
    """workload kinds that it cannot run"""

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
            _known(kind, WORKLOAD_KINDS, "unsupported")
        return self

    def __hash__(self) -> int:
        return hash(self.digest)

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
        """A hash, equal on every machine for targets that cost the same: texts for people do not count."""
        figures = self.model_dump(mode="json", exclude={"description", "source"})
        return hashlib.sha256(json.dumps(figures, sort_keys=True).encode()).hexdigest()

    def precision(self, name: str | None = None) -> Precision:
        """The precision of that name, or the default one. Raises `InvalidInput` for a name it does not have."""
        found = self.precisions.get(name or self.default_precision)
        if found is None:
            raise InvalidInput(
                f"target {self.name}: no precision {name!r}; it has {', '.join(sorted(self.precisions))}"
            )
        return found


def variant(target: Target, changes: Mapping[str, Any]) -> Target:
    """The target with some keys changed, validated as if read from a file.

    `changes` go from dotted keys of the TOML file ("lanes.output_channels") to values. Raises `InvalidInput`.
    """
    data = target.model_dump(mode="json")
    for key, value in changes.items():
        *tables, last = key.split(".")
        place = data
        for table in tables:
            if not isinstance(place.get(table), dict):
                raise InvalidInput(f"variant of {target.name}: unknown table {table!r} in {key!r}")
            place = place[table]
        place[last] = value
    return _validated(data, f"variant of {target.name}")


def shipped_targets() -> tuple[Target, ...]:
    """The accelerators that come with chipfit, by name."""
    return tuple(_read(file, file.name) for _, file in sorted(_shipped().items()))


def load_target(name_or_path: str | Path) -> Target:
    """The target of a shipped short name, or of a TOML file (anything that ends in ".toml").

    Raises `InvalidInput` for an unknown name (with the known ones), a file that cannot be read, is not TOML, or
    holds an unknown, missing or unfit key.
    """
    shipped = _shipped()
    name = str(name_or_path)
    if name in shipped:
        return _read(shipped[name], shipped[name].name)
    if name.endswith(".toml"):
        return _read(Path(name), name)
    raise InvalidInput(
        f"no target {name!r}{_near_miss(name, shipped)}: "
        f"it is neither a .toml file nor one of {', '.join(sorted(shipped))}"
    )


def _shipped() -> dict[str, Traversable]:
    folder = files("chipfit.targets")
    return {file.name.removesuffix(".toml"): file for file in folder.iterdir() if file.name.endswith(".toml")}


def _read(file: Traversable, where: str) -> Target:
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{where}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{where}: not a text file; a target is a TOML file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{where}: not a TOML file ({error}); copy a shipped target as a start") from None
    return _validated(data, where)


def _validated(data: dict[str, Any], where: str) -> Target:
    try:
        return Target.model_validate(data)
    except ValidationError as error:
        # A misspelt key is unknown and missing at once; the first says more.
        first, *rest = sorted(error.errors(), key=lambda item: item["type"] != "extra_forbidden")
        more = f" (and {len(rest)} more)" if rest else ""
        raise InvalidInput(f"{where}: {_explain(first)}{more}") from None


_MUST = {
    "frozen_set_type": "must be a list of names",
    "string_type": "must be text in quotes",
    "int_type": "must be a whole number",
    "float_type": "must be a number",
    "model_type": "must be a table",
    "dict_type": "must be a table",
}


def _explain(error: Any) -> str:
    """One pydantic error as one line: the key, its value, what it must be."""
    *tables, key = error["loc"] or ("",)
    dotted = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        siblings = _fields_at(tables)
        return f"unknown key {dotted!r}{_near_miss(str(key), siblings)}; remove it or take one of {', '.join(siblings)}"
    if error["type"] == "missing":
        about = _fields_at(tables).get(str(key), "")
        return f"key {dotted!r} is missing: add it ({about})"
    if error["type"] == "value_error":
        inside = f"{dotted}: " if dotted else ""
        return f"{inside}{error['ctx']['error']}"
    must = _MUST.get(error["type"]) or re.sub(r"^\w+ should", "must", error["msg"])
    about = _fields_at(tables).get(str(key), "")
    return f"key {dotted!r} = {error['input']!r}: {must}" + (f" ({about})" if about else "")


def _fields_at(tables: list[Any]) -> dict[str, str]:
    """Keys, with what they mean, of the table that is reached through `tables`."""
    part: type[BaseModel] = Target
    for table in tables:
        part = Precision if table == "precisions" or part is Precision else _nested(part, str(table))
    return {name: field.description or "" for name, field in part.model_fields.items()}


def _nested(part: type[BaseModel], name: str) -> type[BaseModel]:
    field = part.model_fields.get(name)
    inner = field.annotation if field else None
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else part


def _near_miss(name: str, known: Mapping[str, object]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _known(name: str, names: Any, key: str) -> None:
    if name not in names:
        known = dict.fromkeys(names)
        raise ValueError(f"{key}: unknown {name!r}{_near_miss(name, known)}; take one of {', '.join(known)}")
