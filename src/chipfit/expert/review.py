"""A review of advice: which changes were accepted and which not, in a file that can be read, edited and replayed."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path

import tomli_w

from chipfit.errors import InvalidInput
from chipfit.expert.advice import Advice
from chipfit.files import write_whole

Verdicts = Mapping[str, bool]
"""Whether a change was accepted, by its name."""


def read_review(path: Path, advice: Advice) -> dict[str, bool]:
    """What a review says so far; nothing where there is no file.

    Raises `InvalidInput` for a file that is no review, one of another model or chip, and changes that do not exist.
    """
    if not path.exists():
        return {}
    try:
        said = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise InvalidInput(f"{path}: not a review that can be read ({error}); delete it to begin anew") from None
    verdicts = said.get("changes")
    if not isinstance(verdicts, dict) or not all(isinstance(each, bool) for each in verdicts.values()):
        raise InvalidInput(f"{path}: [changes] must say true or false for each change by its name")
    about = {"model": advice.network.name, "target": advice.estimator.target.name}
    for key, value in about.items():
        if said.get(key) != value:
            raise InvalidInput(f"{path} is a review of {key} {said.get(key)!r}, not {value!r}; give another file")
    for name in verdicts:
        advice.changes.named(name)
    return dict(verdicts)


def write_review(path: Path, advice: Advice, verdicts: Verdicts) -> None:
    """Keeps a review. Raises what `write_whole` raises."""
    about = {"model": advice.network.name, "target": advice.estimator.target.name}
    write_whole(path, tomli_w.dumps({**about, "changes": dict(verdicts)}).encode())


def accepted(advice: Advice, verdicts: Verdicts) -> tuple[int, ...]:
    """The code of what was accepted. Raises `InvalidInput` where two options of one decision were."""
    return advice.code_of([name for name, yes in verdicts.items() if yes])
