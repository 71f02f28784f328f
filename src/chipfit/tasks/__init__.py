"""Data sets, losses and metrics. Names are imported when they are first used: they need torch.

The rooms task is `chipfit.tasks.rooms.rooms`: the package cannot hand on a function with a module's name.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chipfit.tasks.augment import Augmentation
    from chipfit.tasks.image_files import image_archive, image_folder
    from chipfit.tasks.open import open_task
    from chipfit.tasks.rooms import Scene, render
    from chipfit.tasks.task import SPLITS, Task
    from chipfit.tasks.vision import ImageClassification

_HOMES = {
    "Augmentation": "augment",
    "ImageClassification": "vision",
    "SPLITS": "task",
    "Scene": "rooms",
    "Task": "task",
    "image_archive": "image_files",
    "image_folder": "image_files",
    "open_task": "open",
    "render": "rooms",
}

__all__ = [
    "SPLITS", "Augmentation", "ImageClassification", "Scene", "Task",
    "image_archive", "image_folder", "open_task", "render",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
