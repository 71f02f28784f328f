"""A study: what to search, for which chip, within which limits and with how much training, as read from a TOML file."""

from __future__ import annotations

import hashlib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from chipfit.accuracy.train import Recipe
from chipfit.errors import InvalidInput
from chipfit.spaces.curate import FREE, TOLERANCE
from chipfit.spaces.edits import SPACE_EDITS

UNITS = {
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6,
    "j": 1.0, "mj": 1e-3, "uj": 1e-6, "µj": 1e-6,
    "b": 1.0, "kib": 1024.0, "mib": 1024.0**2, "kb": 1e3, "mb": 1e6,
    "%": 0.01, "": 1.0,
}  # fmt: skip

FILE_KINDS = ("folder", "npz", "coco", "masks", "audio", "digits")
"""Kinds of data that stand in files."""

COSTS = ("latency", "energy", "weights", "peak_memory", "parameters", "macs")
"""What can be an objective or a limit besides accuracy. All are known before any training."""


COMBINED = "combined"
"""The algorithm that is not one of `launch.ALGORITHMS`: it screens and ranks before it trains."""

CURATE = "curate"
"""The key under [space] that is no edit: options that are not worth offering are left out."""

GIVEN = "given"
"""Opens, under [space], the decisions that the model itself comes with."""

Objective = Literal["latency", "energy", "weights", "peak_memory", "parameters", "macs", "accuracy"]


class Bound(BaseModel):
    """An upper bound: an amount in SI units (s, J, bytes, count), or a fraction of the baseline's cost."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    value: float = Field(gt=0)
    relative: bool = False


_FAMILIES = {
    "latency": ("s", "ms", "us", "µs"),
    "energy": ("j", "mj", "uj", "µj"),
    "weights": ("b", "kib", "mib", "kb", "mb"),
    "peak_memory": ("b", "kib", "mib", "kb", "mb"),
    "parameters": ("",),
    "macs": ("",),
}


def parse_bound(cost: str, text: object) -> Bound:
    """The bound that `text` gives for a cost: "2.4 ms", "400 KiB", "60 %" (of the baseline).

    Raises `InvalidInput` for an unknown cost, a missing or foreign unit, and amounts that are not above 0.
    """
    if cost not in COSTS:
        raise InvalidInput(f"limit {cost!r}: known are accuracy, {', '.join(COSTS)}")
    plain = str(text).replace("\u03bc", "µ")  # the Greek letter looks like the micro sign
    match = re.fullmatch(r"\s*([0-9.]+(?:[eE][+-]?[0-9]+)?)\s*([a-zA-Zµ%]*)\s*", plain)
    units = _FAMILIES[cost]
    named = " or ".join(unit or "a plain number" for unit in units[:2])
    if match is None or match[2].lower() not in (*units, "%"):
        raise InvalidInput(f"limit {cost} = {text!r}: write a number with a unit ({named}), or % of the baseline")
    try:
        value = float(match[1]) * UNITS[match[2].lower()]
    except ValueError:
        raise InvalidInput(f"limit {cost} = {text!r}: {match[1]!r} is not a number") from None
    if not 0 < value < math.inf:
        raise InvalidInput(f"limit {cost} = {text!r}: must be above 0 and finite")
    return Bound(value=value, relative=match[2] == "%")


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskSettings(_Section):
    """Where the data is from: see `chipfit.tasks.open.open_task`.

    Counts cap each split; `seed` makes scenes and splits, apart from the study's own; `size` is that of the images.
    `on_bad` is what happens to items that cannot be used: "refuse" stops at the first, "skip" leaves them out.
    """

    data: str = "rooms"
    seed: int = Field(default=0, ge=0)
    size: int | None = Field(default=None, ge=8)
    train: int | None = Field(default=None, ge=1)
    validation: int | None = Field(default=None, ge=1)
    test: int | None = Field(default=None, ge=1)
    on_bad: Literal["refuse", "skip"] = "refuse"


class TableSettings(_Section):
    """Which columns of a table hold accuracies, where `accuracy` is "table:FILE" and nothing is trained.

    `column` is looked up in every stage; `search_column`, if any, in the search instead of it, such as a short
    schedule's; `test_column` gives the accuracy on the test split at the end. `percent` says that they go to 100.
    """

    column: str = "accuracy"
    search_column: str | None = None
    test_column: str | None = None
    percent: bool = False


class TrainingSettings(_Section):
    """How networks are trained: the baseline from its start, and the best of the search once more at the end.

    `start` is "scratch" (fresh weights) or "given" (the weights that the model came with). `baseline_epochs` go to the
    baseline; `final_epochs` to every finalist and, alike, to the baseline itself, which all go on from there.
    """

    baseline_epochs: int = Field(default=12, ge=0)
    final_epochs: int = Field(default=8, ge=0)
    start: Literal["scratch", "given"] = "scratch"
    batch_size: int = Field(default=64, ge=2)
    learning_rate: float = Field(default=0.1, gt=0)
    optimizer: Literal["sgd", "adamw"] = "sgd"
    weight_decay: float = Field(default=1e-4, ge=0)
    images: int | None = Field(default=None, ge=2)

    def recipe(self, epochs: int) -> Recipe:
        """The recipe with this many epochs."""
        return Recipe(
            epochs=epochs,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            weight_decay=self.weight_decay,
            images=self.images,
            optimizer=self.optimizer,
        )


DURATIONS = {"s": 1.0, "min": 60.0, "h": 3600.0}


def parse_duration(text: object) -> float:
    """Seconds of a text such as "90 s", "30 min" or "2 h". Raises `ValueError` for anything else."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*(s|min|h)\s*", str(text))
    if match is None or float(match[1]) <= 0:
        raise ValueError(f"{text!r} is no time: write a number above 0 with s, min or h, such as '30 min'")
    return float(match[1]) * DURATIONS[match[2]]


def _duration(text: object) -> object:
    return text if text is None or isinstance(text, float) else parse_duration(text)


Duration = Annotated[float | None, BeforeValidator(_duration)]


class CombinedSettings(_Section):
    """Stages of a combined search before it trains: each a count, and none of it where that is 0.

    `screen` networks of each variant are scored without training by `score` (a name of `zero_shot.SCORES`, or
    module:NAME); a supernet is trained for `supernet` epochs, once for all variants; `rank` networks of each variant
    are then judged with its weights, of which the share `control` is drawn at random, so that what the stages before
    are worth can be told.
    """

    screen: int = Field(default=200, ge=0)
    score: str = "default"
    supernet: int = Field(default=4, ge=0)
    rank: int = Field(default=32, ge=1)
    control: float = Field(default=0.2, ge=0, le=1)


class SearchSettings(_Section):
    """How the space is searched: `trials` networks are trained for `epochs` epochs per variant, in batches of `batch`.

    `stop_below` ends a training early when its accuracy after an epoch is lower than that quantile of what earlier
    batches had reached after the same epoch (0: never). `slack` is how much lower than the limit asks an accuracy may
    be after this short training; what is trained in full at the end must hold the limit itself.

    `algorithm = "combined"` looks before it trains, as `combined` says. With a `budget` (such as "30 min", from the
    beginning of the run to its end) the counts of its stages and `trials` follow from the time that there is.
    """

    algorithm: str = "nsga2"
    budget: Duration = None
    combined: CombinedSettings = CombinedSettings()
    objectives: tuple[Objective, ...] = ("latency",)
    trials: int = Field(default=8, ge=1)
    epochs: int = Field(default=2, ge=0)
    batch: int = Field(default=4, ge=1)
    finalists: int = Field(default=2, ge=1)
    stop_below: float = Field(default=0.0, ge=0, lt=1)
    slack: float = Field(default=0.02, ge=0, le=1)

    @model_validator(mode="after")
    def _check(self) -> SearchSettings:
        if not self.objectives or len(set(self.objectives)) != len(self.objectives):
            raise ValueError("objectives must be one or more different names")
        if self.objectives == ("accuracy",):
            raise ValueError("accuracy alone needs no search for a chip; add latency, energy, weights or peak_memory")
        if self.budget is not None and not self.combines:
            raise ValueError(f'budget plans the stages of algorithm = "{COMBINED}" only; set trials instead')
        return self

    @property
    def combines(self) -> bool:
        """Whether this is a combined search."""
        return self.algorithm == COMBINED


class LedgerSettings(_Section):
    """How costs and savings of a run are counted; results do not depend on it.

    `country` (three letters, such as "DEU") says where the electricity is from, the world's average where it is left
    out. What a network saves is told for users who each make so many inferences a day.
    """

    country: str | None = None
    inferences_per_user_and_day: float = Field(default=100.0, gt=0)


class CurationSettings(_Section):
    """How options are curated before the search (`[space] curate = true`, or a table of these), see `curate`."""

    tolerance: float = Field(default=TOLERANCE, ge=0)
    free: float = Field(default=FREE, ge=0, lt=1)
    most: int | None = Field(default=None, ge=2)
    safe: bool = False


def _bounds(data: object) -> object:
    """Bounds as users write them, or as an identity holds them."""
    if not isinstance(data, Mapping):
        return data
    read = {key: text for key, text in data.items() if key in COSTS and isinstance(text, (Bound, Mapping))}
    return read | {key: parse_bound(str(key), text) for key, text in data.items() if key not in read}


class LimitSettings(_Section):
    """What every result must hold. `accuracy_drop` is against the baseline trained alike; `accuracy` is absolute.

    Both are fractions of 1. `costs` are upper bounds by name (see `COSTS`).
    """

    accuracy_drop: float | None = Field(default=0.01, ge=0, le=1)
    accuracy: float | None = Field(default=None, ge=0, le=1)
    costs: Annotated[dict[str, Bound], BeforeValidator(_bounds)] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather(cls, data: object) -> object:
        if not isinstance(data, Mapping) or "costs" in data:
            return data
        own = {key: value for key, value in data.items() if key in ("accuracy", "accuracy_drop")}
        return own | {"costs": {key: value for key, value in data.items() if key not in own}}


class Study(_Section):
    """One study. `space` gives the options of each edit, `variants` which edits each row of the table may use.

    `space` has given = true where the model comes with decisions of its own, and may say `curate`: then a search is
    offered only the options that are worth it. `model` is what `load` reads, or "published:NAME"; `accuracy` is
    "module:function" for own training, or "table:FILE" for looking it up.

    `estimator` is a file that `chipfit fit` or `chipfit calibrate` wrote; without one the target's own predicts.
    """

    name: str = Field(pattern=r"^[\w.\- ]+$")
    model: str
    target: str
    precision: str | None = None
    estimator: str | None = None
    input_shape: tuple[int, ...] | None = None
    classes: int | None = Field(default=None, ge=1)
    seed: int = Field(default=0, ge=0)
    accuracy: str | None = None
    workers: int = Field(default=2, ge=1)
    threads: int = Field(default=1, ge=1)
    device: str = "auto"
    task: TaskSettings = TaskSettings()
    table: TableSettings = TableSettings()
    training: TrainingSettings = TrainingSettings()
    search: SearchSettings = SearchSettings()
    limits: LimitSettings = LimitSettings()
    space: dict[str, object] = Field(default={"fuse": True, "depth_multiplier": True})
    variants: dict[str, tuple[str, ...]] = {}
    ledger: LedgerSettings = LedgerSettings()

    @model_validator(mode="after")
    def _check(self) -> Study:
        if unknown := [edit for edit in self.space if edit not in (*SPACE_EDITS, CURATE, GIVEN)]:
            raise ValueError(f"space.{unknown[0]}: there is no such edit; known are {', '.join(SPACE_EDITS)}, {CURATE}")
        curate = self.space.get(CURATE, False)
        if not isinstance(curate, (bool, Mapping)):
            raise ValueError(f"space.{CURATE} = {curate!r}: write true, or a table such as {{most = 6}}")
        if isinstance(curate, Mapping):
            CurationSettings.model_validate(curate)
        if not self.opened:
            raise ValueError("space: opens no decision; set at least one, such as fuse = true")
        for name, edits in self.variants.items():
            if name == "baseline" or name.isdigit() or not name.strip():
                raise ValueError(f"variants.{name}: is the name of something else; give another, such as V1")
            if not edits or len(set(edits)) != len(edits):
                raise ValueError(f"variants.{name} = {list(edits)}: list one or more different edits")
            if unknown := [edit for edit in edits if edit not in self.opened]:
                raise ValueError(
                    f"variants.{name}: {unknown[0]!r} is not opened under [space]; opened are {', '.join(self.opened)}"
                )
        return self

    @property
    def opened(self) -> dict[str, object]:
        """The edits that open decisions, with their options."""
        return {edit: options for edit, options in self.space.items() if options is not False and edit != CURATE}

    @property
    def curation(self) -> CurationSettings | None:
        """How the space is curated, None where a search is offered all of it."""
        curate = self.space.get(CURATE, False)
        return None if curate is False else CurationSettings.model_validate({} if curate is True else curate)

    @property
    def rows(self) -> dict[str, tuple[str, ...]]:
        """The variants to search, each with its edits; without any, one that uses all."""
        return self.variants or {"found": tuple(self.opened)}

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the result depends on: all but how many processes work at it, and how its cost is counted."""
        return self.model_dump(mode="json", exclude={"workers", "ledger"})

    @property
    def digest(self) -> str:
        """A hash of `identity`. Of all orders in a study only that of the variants makes a difference."""
        ordered = self.identity | {"variants": list(self.variants.items())}
        return hashlib.sha256(json.dumps(ordered, sort_keys=True).encode()).hexdigest()


def load_study(path: Path, overrides: Mapping[str, Any] | None = None) -> Study:
    """Reads a study; `overrides` replace values by dotted key ("task.data", "limits.latency").

    Paths in the file are taken from the file's own directory where they exist there, and made absolute.
    Raises `InvalidInput` with file, key and what to do for everything that does not fit.
    """
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}; give the path of a study file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not a readable TOML file ({error})") from None
    _localise(data, path.parent)
    for key, value in (overrides or {}).items():
        section: Any = data
        *parents, last = key.split(".")
        for parent in parents:
            section = section.setdefault(parent, {})
            if not isinstance(section, dict):
                raise InvalidInput(f"{path}: {key}: {parent!r} is no section; write one of its own keys")
        section[last] = value
    return make_study(data, str(path))


def make_study(data: Mapping[str, Any], where: str = "study") -> Study:
    """A study from a mapping; `where` is named in errors. Raises `InvalidInput` in one line."""
    try:
        return Study.model_validate(data)
    except InvalidInput as error:
        raise InvalidInput(f"{where}: {error}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        more = f" ({error.error_count() - 1} more)" if error.error_count() > 1 else ""
        if first["type"] == "extra_forbidden":
            raise InvalidInput(f"{where}: key {key!r} is unknown{_known(first['loc'])}{more}") from None
        reason = first["msg"].removeprefix("Value error, ")
        value = "" if isinstance(first["input"], (Mapping, BaseModel)) else f" = {first['input']!r}"
        place = f"{key}{value}: " if key else ""
        raise InvalidInput(f"{where}: {place}{reason}{more}") from None


def _known(loc: tuple[int | str, ...]) -> str:
    """The keys that are known where an unknown one stood."""
    model: type[BaseModel] = Study
    for part in loc[:-1]:
        annotation = model.model_fields[str(part)].annotation
        if not (isinstance(annotation, type) and issubclass(annotation, BaseModel)):
            return ""
        model = annotation
    return f"; known are {', '.join(sorted(model.model_fields))}"


def _localise(data: dict[str, Any], directory: Path) -> None:
    """Makes relative paths in a study file relative to the file's directory, where that is where they exist."""

    def local(text: object) -> object:
        found = directory / str(text)
        return str(found.resolve()) if isinstance(text, str) and text and found.exists() else text

    for key in ("model", "target", "estimator"):
        if key in data:
            data[key] = local(data[key])
    kind, colon, rest = str(data.get("accuracy", "")).partition(":")
    if colon and kind == "table":
        data["accuracy"] = f"table:{local(rest)}"
    task = data.get("task")
    if isinstance(task, dict) and isinstance(task.get("data"), str):
        kind, colon, rest = task["data"].partition(":")
        if colon and kind in FILE_KINDS:
            task["data"] = f"{kind}:{','.join(str(local(part)) for part in rest.split(','))}"
