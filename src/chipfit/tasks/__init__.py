"""Data sets, losses and metrics. Names are imported when they are first used: they need torch.

The rooms task is `chipfit.tasks.rooms.rooms`: the package cannot hand on a function with a module's name.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from chipfit.tasks.augment import Augmentation
    from chipfit.tasks.coco import coco_files
    from chipfit.tasks.detection import Detection
    from chipfit.tasks.digits import digit_sequences
    from chipfit.tasks.image_files import image_archive, image_folder
    from chipfit.tasks.keywords import spoken_keywords
    from chipfit.tasks.mask_files import mask_folder
    from chipfit.tasks.open import open_task
    from chipfit.tasks.rendered import rooms_with_boxes, rooms_with_masks
    from chipfit.tasks.rooms import Scene, render
    from chipfit.tasks.segmentation import Segmentation
    from chipfit.tasks.sound import Features
    from chipfit.tasks.sound_files import sounds
    from chipfit.tasks.speech import SoundClassification, Speech
    from chipfit.tasks.task import SPLITS, Outputs, Task
    from chipfit.tasks.vision import ImageClassification

_HOMES = {
    "Augmentation": "augment",
    "Detection": "detection",
    "Features": "sound",
    "ImageClassification": "vision",
    "Outputs": "task",
    "SPLITS": "task",
    "Scene": "rooms",
    "Segmentation": "segmentation",
    "SoundClassification": "speech",
    "Speech": "speech",
    "Task": "task",
    "coco_files": "coco",
    "digit_sequences": "digits",
    "image_archive": "image_files",
    "image_folder": "image_files",
    "mask_folder": "mask_files",
    "open_task": "open",
    "render": "rooms",
    "rooms_with_boxes": "rendered",
    "rooms_with_masks": "rendered",
    "sounds": "sound_files",
    "spoken_keywords": "keywords",
}

__all__ = [
    "SPLITS", "Augmentation", "Detection", "Features", "ImageClassification", "Outputs", "Scene", "Segmentation",
    "SoundClassification", "Speech", "Task", "coco_files", "digit_sequences", "image_archive", "image_folder",
    "mask_folder", "open_task", "render", "rooms_with_boxes", "rooms_with_masks", "sounds", "spoken_keywords",
]  # fmt: skip


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
