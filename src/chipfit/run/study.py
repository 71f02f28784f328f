"""A study: what to search, for which chip, within which limits and with how much training, as read from a TOML file."""

from __future__ import annotations

import hashlib
import json
import math
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field, ValidationError, model_validator

from chipfit.errors import InvalidInput
from chipfit.run.settings import (
    COMBINED,
    CURATE,
    FILE_KINDS,
    GIVEN,
    CurationSettings,
    LedgerSettings,
    LimitSettings,
    SearchSettings,
    Section,
    TableSettings,
    TaskSettings,
    TrainingSettings,
)
from chipfit.search.halving import ETA, least, rungs
from chipfit.spaces.edits import SPACE_EDITS

QUICKER = 6
"""So many times fewer epochs and finalists a quick study has; of networks that are searched it has half."""


class Study(Section):
    """One study. `space` gives the options of each edit, `variants` which edits each row of the table may use.

    `rules` are rows that nothing searches for: by name the rule pack, shipped or a file, that says what to change. What
    it asks for and the space offers is made, where it pays on the chip, and trained as long as a finalist.

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
    variants: dict[str, tuple[str, ...]] = Field(default={})
    rules: dict[str, str] = Field(default={})
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
        if self.search.converges:
            self._check_converging()
        if self.search.halves and (self.accuracy or "").startswith("table:"):
            raise ValueError(
                f"accuracy = {self.accuracy!r}: a search by halving trains networks for more and more epochs, and a "
                "table has one training of each; choose another search.algorithm"
            )
        for kind, names in (("variants", self.variants), ("rules", self.rules)):
            for name in names:
                if name == "baseline" or name.isdigit() or not name.strip() or (kind == "rules" and name in self.rows):
                    raise ValueError(f"{kind}.{name}: is the name of something else; give another, such as V1")
        for name, edits in self.variants.items():
            if not edits or len(set(edits)) != len(edits):
                raise ValueError(f"variants.{name} = {list(edits)}: list one or more different edits")
            if unknown := [edit for edit in edits if edit not in self.opened]:
                raise ValueError(
                    f"variants.{name}: {unknown[0]!r} is not opened under [space]; opened are {', '.join(self.opened)}"
                )
        return self

    def _check_converging(self) -> None:
        if "latency" not in self.limits.costs:
            raise ValueError(
                'search.algorithm = "converge" lands on a latency: set limits.latency, such as "2 ms" or "60 %"'
            )
        if others := [name for name in self.limits.costs if name != "latency"]:
            raise ValueError(
                f"limits.{others[0]}: a converging search keeps to the limit of latency only; leave it out, or set "
                f'search.algorithm = "{COMBINED}"'
            )
        if self.accuracy is not None:
            raise ValueError(
                f"accuracy = {self.accuracy!r}: a converging search trains all networks at once, which needs chipfit's "
                "own training on a [task]; leave it out, or choose another search.algorithm"
            )

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
    def names(self) -> tuple[str, ...]:
        """The rows of the table below the baseline: what is searched for, then what rules ask for."""
        return (*self.rows, *self.rules)

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the result depends on: all but how many processes work at it, and how its cost is counted."""
        return self.model_dump(mode="json", exclude={"workers", "ledger"})

    @property
    def quick(self) -> Study:
        """The same study under another name with a fraction of its training (`QUICKER`): shows all, proves nothing."""
        fewer = {"training": ("baseline_epochs", "final_epochs"), "search": ("epochs", "trials", "finalists")}
        changed = self.model_dump()
        for section, counts in fewer.items():
            for name in counts:
                changed[section][name] = math.ceil(changed[section][name] / (2 if name == "trials" else QUICKER))
        if self.search.halves:
            changed["search"]["epochs"] = max(ETA, changed["search"]["epochs"])
            fewest = least(rungs(changed["search"]["epochs"])) / changed["search"]["epochs"]
            changed["search"]["trials"] = max(math.ceil(fewest), changed["search"]["trials"])
        if self.search.budget is not None:
            changed["search"]["budget"] = self.search.budget / QUICKER
        return Study.model_validate(changed | {"name": f"{self.name}-quick"})

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
    if isinstance(data.get("rules"), dict):
        data["rules"] = {name: local(pack) for name, pack in data["rules"].items()}
    task = data.get("task")
    if isinstance(task, dict) and isinstance(task.get("data"), str):
        kind, colon, rest = task["data"].partition(":")
        if colon and kind in FILE_KINDS:
            task["data"] = f"{kind}:{','.join(str(local(part)) for part in rest.split(','))}"
