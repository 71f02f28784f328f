"""Targets from TOML files, shipped or a user's own; every fault in one line."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from itertools import pairwise
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from chipfit.errors import InvalidInput
from chipfit.targets.target import TOOLS, Precision, Target, near_miss


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
    """The accelerators that come with chipfit, by name, numbers in names by size."""
    return tuple(_named(name) for name in sorted(_shipped(), key=_by_size))


def load_target(name_or_path: str | Path) -> Target:
    """The target of a shipped short name, or of a TOML file (anything that ends in ".toml").

    Raises `InvalidInput` for an unknown name (with the known ones), a file that cannot be read, is not TOML, or
    holds an unknown, missing or unfit key.
    """
    shipped = _shipped()
    name = str(name_or_path)
    if name in shipped:
        return _named(name)
    if name.endswith(".toml"):
        return _validated(_over_base(_read(Path(name), name), name), name)
    raise InvalidInput(
        f"no target {name!r}{near_miss(name, shipped)}: "
        f"it is neither a .toml file nor one of {', '.join(sorted(shipped))}"
    )


_SHARED = "memory-"
"""How files begin that stand for several targets: one for each of the targets that they name as `base`."""


@cache
def _shipped() -> Mapping[str, tuple[Traversable, str | None]]:
    """For each name the file, and where it stands for several targets the base of this one."""
    root = files("chipfit.targets")
    found = [file for folder in (root, root / "ethos-u") for file in folder.iterdir() if file.name.endswith(".toml")]
    known: dict[str, tuple[Traversable, str | None]] = {}
    for file in found:
        if file.name.startswith(_SHARED):
            data = _read(file, file.name)
            known |= {data["name"].format(base=base): (file, base) for base in data["base"]}
        else:
            known[file.name.removesuffix(".toml")] = (file, None)
    return known


def _by_size(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdecimal() else (0, part) for part in re.split(r"(\d+)", name)]


def _named(name: str) -> Target:
    return _validated(_data(name), _shipped()[name][0].name)


def _data(name: str) -> dict[str, Any]:
    """What the file of a shipped name says, over what its base says."""
    file, base = _shipped()[name]
    data = _read(file, file.name)
    if base is not None:
        data |= {"base": base, "name": data["name"].format(base=base)}
    return _over_base(data, file.name)


def _read(file: Traversable, where: str) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InvalidInput(f"{where}: cannot be read ({error.strerror}); check the path") from None
    except UnicodeDecodeError:
        raise InvalidInput(f"{where}: not a text file; a target is a TOML file in UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise InvalidInput(f"{where}: not a TOML file ({error}); copy a shipped target as a start") from None


def _over_base(data: dict[str, Any], where: str) -> dict[str, Any]:
    """What a file says, laid over what the target that it names as `base` says."""
    base = data.pop("base", None)
    if base is None:
        return data
    shipped = _shipped()
    if not isinstance(base, str) or base not in shipped or base == data.get("name"):
        known = {name: None for name in shipped if name != data.get("name")}
        raise InvalidInput(f"{where}: base = {base!r}{near_miss(str(base), known)}: take one of {', '.join(known)}")
    return _laid_over(_data(base), data)


def _laid_over(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in changes.items():
        old = merged.get(key)
        # A table of another kind has other keys.
        if isinstance(old, dict) and isinstance(value, dict) and value.get("kind") in (None, old.get("kind")):
            merged[key] = _laid_over(old, value)
        else:
            merged[key] = value
    return merged


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
    "union_tag_invalid": "kind must be vela, litert, onnxruntime, torch or board",
    "union_tag_not_found": "needs a kind: vela, litert, onnxruntime, torch or board",
}


def _explain(error: Any) -> str:
    """One pydantic error as one line: the key, its value, what it must be."""
    *tables, key = error["loc"] or ("",)
    dotted = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        siblings = _fields_at(tables)
        return f"unknown key {dotted!r}{near_miss(str(key), siblings)}; remove it or take one of {', '.join(siblings)}"
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
        if table in TOOLS:
            part = TOOLS[table]
        else:
            part = Precision if table == "precisions" or part is Precision else _nested(part, str(table))
    return dict.fromkeys(part.model_fields, "") | _meanings(part)


def _meanings(part: type[BaseModel]) -> dict[str, str]:
    """What the strings under the fields of a model say, read from its source only where somebody must be told."""
    found: dict[str, str] = {}
    for model in (*part.__mro__[:0:-1], part):
        if issubclass(model, BaseModel) and model is not BaseModel:
            body = ast.parse(textwrap.dedent(inspect.getsource(model))).body[0].body  # type: ignore[attr-defined]
            for field, below in pairwise(body):
                if isinstance(field, ast.AnnAssign) and isinstance(below, ast.Expr):
                    found[ast.unparse(field.target)] = inspect.cleandoc(ast.literal_eval(below.value))
    return found


def _nested(part: type[BaseModel], name: str) -> type[BaseModel]:
    field = part.model_fields.get(name)
    inner = field.annotation if field else None
    return inner if isinstance(inner, type) and issubclass(inner, BaseModel) else part
