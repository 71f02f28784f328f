"""Rule packs: when a place in a network looks like this, on a chip like that, do this; with the evidence. One TOML file
that a person reads, edits and shares; every fault in one line."""

from __future__ import annotations

import tomllib
from fnmatch import fnmatchcase
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal

import tomli_w
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from chipfit.errors import InvalidInput
from chipfit.expert.sites import FEATURES, WHOLE, Site
from chipfit.files import write_whole
from chipfit.graph.ops import ACTIVATIONS
from chipfit.targets.target import Target, near_miss

Text = Annotated[str, Field(min_length=1)]
Line = Annotated[str, Field(pattern=r"^[^\x00-\x1f\x7f]+$")]
Share = Annotated[float, Field(ge=0, le=1)]
Names = Annotated[tuple[Text, ...], Field(strict=False)]

LEAVE = "leave"
"""What a rule says of places that are better left as they are."""

LANES = "lanes"
"""A multiple that stands for the output channels that the chip works on at once."""

SCALED = ("width", "repeats", *WHOLE)
"""Kinds whose options are shares of what is given."""

_OPTIONS: dict[str, tuple[str, ...]] = {
    "fuse": ("fused",),
    "depthwise": ("standard",),
    "earlier": ("earlier",),
    "merge": ("merged",),
    "factor": ("two", "three"),
    "activation": tuple(name for name in ACTIVATIONS if name != "prelu"),
}


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, extra="forbid", allow_inf_nan=False)


class Range(_Part):
    """Numbers from `least` to `most`, both among them, or up to those that are `below` a number; without one of them
    there is no end on that side."""

    least: float | None = None
    most: float | None = None
    below: float | None = None

    @model_validator(mode="after")
    def _in_order(self) -> Range:
        if self.most is not None and self.below is not None:
            raise ValueError("give most or below, not both")
        end = self.most if self.below is None else self.below
        if self.least is None and end is None:
            raise ValueError("give least, and most or below, or one of them")
        if self.least is not None and end is not None and (self.least > end or self.least == self.below):
            raise ValueError(f"no number is at least {self.least:g} and at most, or below, {end:g}")
        return self

    def __str__(self) -> str:
        if self.least is None:
            return f"up to {self.most:g}" if self.below is None else f"below {self.below:g}"
        end = self.most if self.below is None else self.below
        return f"from {self.least:g}" if end is None else f"{self.least:g} to {end:g}"

    def holds(self, value: float | None) -> bool:
        """Whether a number is in the range; what is not there is in none."""
        if value is None:
            return False
        above = self.least is None or value >= self.least
        return above and (self.most is None or value <= self.most) and (self.below is None or value < self.below)


class Where(_Part):
    """What a place looks like (`expert.sites.Site`); what is not said is open."""

    position: Range | None = None
    resolution: Range | None = None
    width: Range | None = None
    stride: Range | None = None
    kernel: Range | None = None

    def fits(self, site: Site) -> bool:
        """Whether a place looks like this."""
        asked = [(getattr(self, name), getattr(site, name)) for name in FEATURES]
        return all(known is None or known.holds(value) for known, value in asked)

    def __str__(self) -> str:
        said = [f"{name} {known}" for name in FEATURES if (known := getattr(self, name)) is not None]
        return ", ".join(said) or "anywhere"


class Chip(_Part):
    """What a chip is like; what is not said is open. `depthwise_share` is the share of the array's multiply-accumulates
    per cycle that a depthwise convolution can use, `input_channels` how many are summed in one cycle."""

    names: Names = ()
    macs_per_cycle: Range | None = None
    input_channels: Range | None = None
    depthwise_share: Range | None = None

    def fits(self, target: Target) -> bool:
        """Whether a target is like this. Names are patterns, such as "ethos-u*"."""
        if self.names and not any(fnmatchcase(target.name, name) for name in self.names):
            return False
        depthwise = target.depthwise
        used = depthwise.channels * depthwise.taps * depthwise.efficiency / target.lanes.macs_per_cycle
        asked = (
            (self.macs_per_cycle, target.lanes.macs_per_cycle),
            (self.input_channels, target.lanes.input_channels),
            (self.depthwise_share, used),
        )
        return all(known is None or known.holds(value) for known, value in asked)


class Scale(_Part):
    """A share of what is given, rounded to a multiple: of a number, or of the output lanes of the chip ("lanes")."""

    share: Annotated[float, Field(gt=0, le=4)] = 1.0
    multiple: Annotated[int, Field(ge=1)] | Literal["lanes"] = 1

    def of(self, given: int, target: Target) -> int:
        """The share of a number on a chip: the nearest multiple, at least one of it. A share of at most 1 of a number
        that holds a multiple is never more than that number, unless only rounding is asked for (a share of 1)."""
        step = self.step(target)
        nearest = max(int(given * self.share / step + 0.5) * step, step)
        return nearest if self.share >= 1 else min(nearest, given)

    def step(self, target: Target) -> int:
        """What results are multiples of, on a chip."""
        return target.lanes.output_channels if self.multiple == LANES else self.multiple


class Seen(_Part):
    """How often an option was offered and stood among the best in the runs on one data set and chip. `offered` and
    `best` are shares of the places in all networks tried, and in the best of them."""

    data: Text
    target: Text
    trials: Annotated[int, Field(ge=0)]
    offered: Share
    candidates: Annotated[int, Field(ge=0)]
    best: Share


class Evidence(_Part):
    """Where a rule is from: "hand", with a note, or "mined" from runs.

    `interval` is that of `best`, the share in the best candidates, at `confidence` for all comparisons together.
    """

    by: Literal["hand", "mined"]
    note: str = ""
    runs: Names = ()
    trials: Annotated[int, Field(ge=0)] | None = None
    offered: Share | None = None
    candidates: Annotated[int, Field(ge=0)] | None = None
    best: Share | None = None
    interval: Annotated[tuple[Share, Share], Field(strict=False)] | None = None
    confidence: Share | None = None
    seen: Annotated[tuple[Seen, ...], Field(strict=False)] = ()


class Rule(_Part):
    """One rule. `do` is an option ("fused", a kernel size), a share of what is given, or "leave"."""

    name: Line
    kind: Literal[
        "fuse",
        "depthwise",
        "earlier",
        "merge",
        "factor",
        "kernel",
        "activation",
        "repeats",
        "width",
        "depth_multiplier",
        "size",
    ]
    do: str | int | Scale
    where: Where = Where()
    chip: Chip = Chip()
    evidence: Evidence

    @model_validator(mode="after")
    def _fits_its_kind(self) -> Rule:
        if self.kind in WHOLE:
            said = [name for name in FEATURES if name != "resolution" and getattr(self.where, name) is not None]
            if said:
                raise ValueError(f"where.{said[0]}: {self.kind} is decided once for the whole network; remove it")
        if self.do == LEAVE:
            return self
        if self.kind in SCALED:
            if not isinstance(self.do, Scale):
                raise ValueError(f'do = {self.do!r}: {self.kind} takes {{share = …, multiple = …}} or "leave"')
            if self.do.share == 1 and (self.kind != "width" or self.do.multiple == 1):
                raise ValueError(
                    f'do: a share of 1 changes nothing; write "leave", or another share of the {self.kind}'
                )
        elif self.kind == "kernel":
            if not isinstance(self.do, int) or self.do < 1:
                raise ValueError('do: a kernel is a whole number of at least 1, or "leave"')
        elif self.do not in _OPTIONS[self.kind]:
            raise ValueError(f"do = {self.do!r}: {self.kind} takes {', '.join((*_OPTIONS[self.kind], LEAVE))}")
        return self


class RulePack(_Part):
    """Rules that belong together, in the order in which they are shown."""

    name: Line
    description: Line
    rule: Annotated[tuple[Rule, ...], Field(strict=False, min_length=1)]

    @model_validator(mode="after")
    def _says_each_thing_once(self) -> RulePack:
        for place, rule in enumerate(self.rule):
            for before in self.rule[:place]:
                if rule.name == before.name:
                    raise ValueError(f"two rules are named {rule.name!r}; rename or remove one")
                alike = (rule.kind, rule.where, rule.chip) == (before.kind, before.where, before.chip)
                if alike:
                    raise ValueError(
                        f"{before.name!r} and {rule.name!r} are about the same places on the same chips "
                        f"{'twice' if rule.do == before.do else 'and say different things'}; remove one"
                    )
        return self


def shipped_packs() -> tuple[str, ...]:
    """Short names of the packs that come with chipfit."""
    return tuple(sorted(_shipped()))


def load_pack(name_or_path: str | Path) -> RulePack:
    """The pack of a short name, or of a TOML file (anything that ends in ".toml").

    Raises `InvalidInput` for an unknown name, a file that cannot be read, and everything in it that does not fit.
    """
    name, shipped = str(name_or_path), _shipped()
    if name not in shipped and not name.endswith(".toml"):
        raise InvalidInput(
            f"no rule pack {name!r}{near_miss(name, dict.fromkeys(shipped))}: it is neither a .toml file nor one of "
            f"{', '.join(sorted(shipped))}"
        )
    file = shipped.get(name, Path(name))
    try:
        data = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{name}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{name}: not a text file; a rule pack is a TOML file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{name}: not a TOML file ({error}); mend it, or begin from a shipped pack") from None
    try:
        return RulePack.model_validate(data)
    except ValidationError as error:
        raise InvalidInput(f"{name}: {_explain(error, data)}") from None


def write_pack(path: Path, pack: RulePack) -> None:
    """Writes a pack, whole or not at all. Raises `InvalidInput` for a path that is no .toml, and what `write_whole`
    raises."""
    if path.suffix != ".toml":
        raise InvalidInput(f"{path}: a rule pack is a .toml file; give such a path")
    data = pack.model_dump(mode="json", exclude_defaults=True)
    write_whole(path, tomli_w.dumps(data, multiline_strings=False).encode())


def _shipped() -> dict[str, Traversable]:
    folder = files("chipfit.expert") / "data"
    return {item.name.removesuffix(".toml"): item for item in folder.iterdir() if item.name.endswith(".toml")}


def _explain(error: ValidationError, data: dict[str, Any]) -> str:
    """The first fault of a pack in one line: which rule, which key, what it must be."""
    # A misspelt key is unknown and missing at once; the first says more. A table that fits no kind of `do` is a scale.
    errors = error.errors()
    tables = [item for item in errors if "Scale" in item["loc"] and item["type"] not in ("model_type", "missing")]
    faults = sorted(tables or errors, key=lambda item: item["type"] != "extra_forbidden")
    first, more = faults[0], f" (and {len(faults) - 1} more)" if len(faults) > 1 else ""
    place, path = "", list(first["loc"])
    if path[:1] == ["rule"] and len(path) > 1:
        place, path = f"rule {int(path[1]) + 1}{_named(data, int(path[1]))}: ", path[2:]
    key = ".".join(str(part) for part in path if part not in ("Scale", "int", "str"))
    if first["type"] == "extra_forbidden":
        return f"{place}unknown key {key!r}; remove it or see docs/advise.md for those that are known{more}"
    if first["type"] == "missing":
        return f"{place}key {key!r} is missing; add it{more}"
    if first["type"] == "too_short" and key == "rule":
        return "it holds no rule; add a [[rule]]"
    reason = first["msg"].removeprefix("Value error, ").replace("Input should", "must", 1)
    if first["type"] == "value_error":
        return f"{place}{f'{key}: ' if key else ''}{reason}{more}"
    return f"{place}{key} = {first['input']!r}: {reason}{more}"


def _named(data: dict[str, Any], index: int) -> str:
    rules = data["rule"]
    name = rules[index].get("name") if isinstance(rules[index], dict) else None
    return f" ({name!r})" if isinstance(name, str) else ""
