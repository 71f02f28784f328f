"""A task from the short name that a study file or a command line gives."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from chipfit.errors import InvalidInput
from chipfit.files import named
from chipfit.tasks.image_files import image_archive, image_folder
from chipfit.tasks.rooms import Progress, rooms
from chipfit.tasks.task import Task

FORMS = "rooms, folder:DIR, npz:FILE or module:NAME"


def open_task(
    spec: str,
    *,
    size: int | None = None,
    seed: int = 0,
    train: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    cache: Path | None = None,
    progress: Progress = iter,
) -> Task:
    """The task that `spec` names: "rooms", "folder:DIR", "npz:FILE", or "module:NAME" of the user's own.

    size: height and width of the stored images; None takes the task's own. seed: of the scenes or the splits.
    train, validation, test: images per split, at most. NAME is a task, or a function without arguments that gives
    one; such a task brings its own size, seed and counts. `progress` wraps the indices of rooms being rendered.
    Raises InvalidInput for a name, file or value that cannot be used.
    """
    counts = {"train": train, "validation": validation, "test": test}
    given = {split: count for split, count in counts.items() if count is not None}
    kind, _, rest = spec.partition(":")
    if spec == "rooms":
        return rooms(**given, seed=seed, size=96 if size is None else size, cache=cache, progress=progress)
    if not kind or not rest:
        raise InvalidInput(f"unknown task {spec!r}; give {FORMS}")
    if kind == "folder":
        return image_folder(rest, size, seed=seed, limits=given, cache=cache)
    if kind == "npz":
        return image_archive(rest, size, seed=seed, limits=given, cache=cache)
    if given or size is not None or seed != 0:
        raise InvalidInput(f"task {spec}: a task of your own sets its size, seed and counts itself; leave them out")
    return _user_task(spec)


def _user_task(spec: str) -> Task:
    found = named(spec, "task")
    # A class that would make a task has every name that a task has.
    if isinstance(found, type) or (callable(found) and not isinstance(found, Task)):
        found = cast(Callable[[], object], found)()
    if not isinstance(found, Task):
        raise InvalidInput(
            f"task {spec}: a {type(found).__name__} is not a task; it needs what chipfit.tasks.task.Task lists"
        )
    return found
