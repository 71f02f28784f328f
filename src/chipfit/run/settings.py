"""The sections of a study file, with the amounts and times that people write in them."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from chipfit.accuracy.recipe import Recipe
from chipfit.errors import InvalidInput
from chipfit.search.halving import ETA, least, rungs, starters
from chipfit.spaces.curate import FREE, TOLERANCE

UNITS = {
    "s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6,
    "j": 1.0, "mj": 1e-3, "uj": 1e-6, "µj": 1e-6,
    "b": 1.0, "kib": 1024.0, "mib": 1024.0**2, "kb": 1e3, "mb": 1e6,
    "%": 0.01, "": 1.0,
}  # fmt: skip

SOUND_KINDS = ("audio", "digits", "keywords")
"""Kinds of data that are sounds."""

FILE_KINDS = ("folder", "npz", "coco", "masks", *SOUND_KINDS)
"""Kinds of data that stand in files."""

COSTS = ("latency", "energy", "weights", "peak_memory", "parameters", "macs")
"""What can be an objective or a limit besides accuracy. All are known before any training."""


COMBINED = "combined"
"""The algorithm that is not one of `launch.ALGORITHMS`: it screens and ranks before it trains."""

CONVERGE = "converge"
"""The algorithm that trains weights and choice together, once for each variant; none of those either."""

HALVING = "halving"
"""The algorithm that trains many networks for a few epochs and the better ones for more; none of those either."""

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


class Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class TaskSettings(Section):
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


class TableSettings(Section):
    """Which columns of a table hold accuracies, where `accuracy` is "table:FILE" and nothing is trained.

    `column` is looked up in every stage; `search_column`, if any, in the search instead of it, such as a short
    schedule's; `test_column` gives the accuracy on the test split at the end. `percent` says that they go to 100.
    """

    column: str = "accuracy"
    search_column: str | None = None
    test_column: str | None = None
    percent: bool = False


class TrainingSettings(Section):
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


class CombinedSettings(Section):
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


class ConvergeSettings(Section):
    """How a converging search trains weights and choice together: for `epochs` epochs, by `method`.

    See `accuracy.converge.Converging` for the methods.
    """

    epochs: int = Field(default=8, ge=1)
    method: Literal["policy", "gradient"] = "policy"


class SearchSettings(Section):
    """How the space is searched: `trials` networks are trained for `epochs` epochs per variant, in batches of `batch`.

    `stop_below` ends a training early when its accuracy after an epoch is lower than that quantile of what earlier
    batches had reached after the same epoch (0: never). `slack` is how much lower than the limit asks an accuracy may
    be after this short training; what is trained in full at the end must hold the limit itself.

    `algorithm = "combined"` looks before it trains, as `combined` says. With a `budget` (such as "30 min", from the
    beginning of the run to its end) the counts of its stages and `trials` follow from the time that there is.
    `algorithm = "converge"` lands on the study's limit of latency with one training for each variant, as `converge`
    says; `trials`, `batch` and `stop_below` have no part in it. `algorithm = "halving"` spends the epochs of so many
    `trials` on more networks: each starts at the first of `rungs`, and the better third of a rung goes on to the next.
    """

    algorithm: str = "nsga2"
    budget: Duration = None
    combined: CombinedSettings = CombinedSettings()
    converge: ConvergeSettings = ConvergeSettings()
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
        if self.halves:
            self._check_halving()
        return self

    def _check_halving(self) -> None:
        if self.epochs < ETA:
            raise ValueError(
                f"epochs = {self.epochs}: a search by halving trains networks for a third of them first; give "
                f"{ETA} or more"
            )
        if self.trials < self.fewest_trials:
            raise ValueError(
                f"trials = {self.trials}: the epochs of so many take no network through all rungs "
                f"({', '.join(map(str, self.rungs))} epochs); give {self.fewest_trials} or more"
            )
        if self.stop_below:
            raise ValueError(f"stop_below = {self.stop_below}: halving itself ends what is behind; leave it out")

    @property
    def combines(self) -> bool:
        """Whether this is a combined search."""
        return self.algorithm == COMBINED

    @property
    def converges(self) -> bool:
        """Whether this is a converging search."""
        return self.algorithm == CONVERGE

    @property
    def halves(self) -> bool:
        """Whether this is a search by halving."""
        return self.algorithm == HALVING

    @property
    def rungs(self) -> tuple[int, ...]:
        """Epochs up to which a search by halving trains networks, rung by rung, the last `epochs`; else (0,)."""
        return rungs(self.epochs) if self.halves else (0,)

    def below(self, rung: int) -> int:
        """The rung below one, 0 below the first."""
        return max((other for other in self.rungs if other < rung), default=0)

    @property
    def starters(self) -> int:
        """How many networks of each variant a search by halving trains up to the first rung, at most."""
        return starters(self.rungs, self.trials * self.epochs)

    @property
    def fewest_trials(self) -> int:
        """`trials` whose epochs take one network through all rungs."""
        return math.ceil(least(self.rungs) / self.epochs)


class LedgerSettings(Section):
    """How costs and savings of a run are counted; results do not depend on it.

    `country` (three letters, such as "DEU") says where the electricity is from, the world's average where it is left
    out. What a network saves is told for users who each make so many inferences a day.
    """

    country: str | None = None
    inferences_per_user_and_day: float = Field(default=100.0, gt=0)


class CurationSettings(Section):
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


class LimitSettings(Section):
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
