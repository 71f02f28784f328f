"""Options that commands share, and what they say read into values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

Json = Annotated[bool, typer.Option("--json", help="One JSON object on standard output, for programs.")]
TargetName = Annotated[str, typer.Option("--target", "-t", help="A chip that chipfit knows, or a TOML file.")]
EstimatorFile = Annotated[
    Path | None, typer.Option("--estimator", help="What fit or calibrate wrote, to predict with.")
]
Precision = Annotated[str | None, typer.Option(help="A precision of the target, such as int8 (default: its own).")]
Shape = Annotated[str | None, typer.Option(help="Input shape for module:function models, such as 1,3,96,96.")]


def input_shape(text: str | None) -> tuple[int, ...] | None:
    """A shape from "1,3,96,96". Raises `InvalidInput` for anything else."""
    from chipfit.errors import InvalidInput

    if text is None:
        return None
    try:
        shape = tuple(int(part) for part in text.split(","))
    except ValueError:
        shape = ()
    if not shape or min(shape) < 1:
        raise InvalidInput(f"input shape {text!r}: write whole numbers like 1,3,96,96")
    return shape


def absolute(path: Path | None) -> str | None:
    """A path as a study keeps it: the same from whatever folder the run is taken up again."""
    return None if path is None else str(path.resolve())


def overrides(limits: Sequence[str], options: Mapping[str, Any], settings: Sequence[str] = ()) -> dict[str, Any]:
    """Study keys from command-line options; those that are None were not given. Raises `InvalidInput`."""
    from chipfit.errors import InvalidInput

    changes = {key: value for key, value in options.items() if value is not None}
    for text in limits:
        name, equals, bound = text.partition("=")
        if not equals:
            raise InvalidInput(f"--limit {text!r}: write COST=BOUND, such as latency=2ms")
        changes[f"limits.{name.strip()}"] = bound.strip()
    for text in settings:
        changes |= _setting(text)
    return changes


def _setting(text: str) -> dict[str, Any]:
    """One --set KEY=VALUE; the value is read as TOML, and as plain text where it is none."""
    import tomllib

    from chipfit.errors import InvalidInput

    key, equals, value = text.partition("=")
    if not equals:
        raise InvalidInput(f"--set {text!r}: write KEY=VALUE, such as search.trials=4")
    try:
        return {key.strip(): tomllib.loads(f"value = {value}")["value"]}
    except tomllib.TOMLDecodeError:
        return {key.strip(): value.strip()}
