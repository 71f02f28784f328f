"""A task from the short name that a study file or a command line gives."""

from collections.abc import Callable
from pathlib import Path
from typing import cast

from chipfit.errors import InvalidInput
from chipfit.files import named
from chipfit.tasks.coco import coco_files
from chipfit.tasks.digits import digit_sequences
from chipfit.tasks.image_files import image_archive, image_folder
from chipfit.tasks.keywords import spoken_keywords
from chipfit.tasks.mask_files import mask_folder
from chipfit.tasks.rendered import rooms_with_boxes, rooms_with_masks
from chipfit.tasks.rooms import Progress, rooms
from chipfit.tasks.sound_files import sounds
from chipfit.tasks.splits import OnBad
from chipfit.tasks.task import Task

FORMS = (
    "rooms, rooms-boxes, rooms-masks, folder:DIR, npz:FILE, coco:DIR, coco:ANNOTATIONS,IMAGES, masks:DIR, audio:DIR,"
    " audio:MANIFEST, digits:FILE, keywords:FILE or module:NAME"
)

RENDERED: dict[str, Callable[..., Task]] = {"rooms-boxes": rooms_with_boxes, "rooms-masks": rooms_with_masks}
PICTURES: dict[str, Callable[..., Task]] = {
    "folder": image_folder,
    "npz": image_archive,
    "coco": coco_files,
    "masks": mask_folder,
}
SOUNDS: dict[str, Callable[..., Task]] = {"audio": sounds, "digits": digit_sequences, "keywords": spoken_keywords}


def open_task(
    spec: str,
    *,
    size: int | None = None,
    seed: int = 0,
    train: int | None = None,
    validation: int | None = None,
    test: int | None = None,
    on_bad: OnBad = "refuse",
    cache: Path | None = None,
    progress: Progress = iter,
) -> Task:
    """The task that `spec` names.

    Rendered: "rooms" (is there a person), "rooms-boxes" (where), "rooms-masks" (which pixels). From files: "folder:DIR"
    and "npz:FILE" (classes of images), "coco:DIR" or "coco:ANNOTATIONS.json,IMAGES" (boxes), "masks:DIR" (a class for
    each pixel), "audio:DIR" (classes of sounds), "audio:MANIFEST" (texts), "digits:FILE" (sequences of spoken digits),
    "keywords:FILE" (single digits).
    "module:NAME" is the user's own: a task, or a function without arguments that gives one; such a task brings its own
    size, seed and counts.

    size: height and width of the stored images; None takes the task's own; sounds have none. seed: of the scenes or
    the splits. train, validation, test: examples per split, at most. on_bad: whether items that cannot be used are
    refused or skipped. `progress` wraps the indices of rooms being rendered.
    Raises InvalidInput for a name, file or value that cannot be used.
    """
    counts = {"train": train, "validation": validation, "test": test}
    given = {split: count for split, count in counts.items() if count is not None}
    kind, _, rest = spec.partition(":")
    if spec == "rooms":
        return rooms(**given, seed=seed, size=96 if size is None else size, cache=cache, progress=progress)
    if spec in RENDERED:
        return RENDERED[spec](given, seed, 96 if size is None else size, cache, progress)
    if not kind or not rest:
        raise InvalidInput(f"unknown task {spec!r}; give {FORMS}")
    if kind in PICTURES:
        return PICTURES[kind](rest, size, seed=seed, limits=given, on_bad=on_bad, cache=cache)
    if kind in SOUNDS:
        if size is not None:
            raise InvalidInput(f"task {spec}: sounds have no image size; leave size out")
        return SOUNDS[kind](rest, seed=seed, limits=given, on_bad=on_bad)
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
