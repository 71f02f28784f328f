"""Single spoken digits as keywords under noise, and silence: what a keyword spotter tells apart."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chipfit.tasks.clips import LOUD, NAMES, RATE_HZ, SPEEDS, Clips, made_loud, noise_under, played, read_clips
from chipfit.tasks.sound import keyword_features
from chipfit.tasks.speech import SoundClassification
from chipfit.tasks.splits import OnBad
from chipfit.tasks.task import SPLITS

SILENCE = len(NAMES)
"""The class of what holds no digit; it is as frequent as each digit."""


def spoken_keywords(
    path: Path | str,
    seed: int = 0,
    limits: Mapping[str, int] | None = None,
    on_bad: OnBad = "refuse",
) -> SoundClassification:
    """Which digit is spoken in a second of sound, if any: eleven classes, from an .npz of clips at 8 kHz.

    The archive is that of `clips.read_clips`, and so are the splits: by speaker. A clip lies anywhere in its second,
    what is longer is cut at both ends. limits: examples of each split. Raises what `read_clips` raises.
    """
    path = Path(path)
    clips = read_clips(path, seed, limits, on_bad)
    sounds: dict[str, NDArray[np.int16]] = {}
    labels: dict[str, NDArray[np.int64]] = {}
    for number, split in enumerate(SPLITS):
        generator = np.random.default_rng([seed, number])
        labels[split] = generator.integers(0, SILENCE + 1, clips.counts[split])
        sounds[split], labels[split] = _placed(clips, split, labels[split], generator)
    return SoundClassification(
        name="keywords",
        classes=(*NAMES, "silence"),
        sounds=sounds,
        labels=labels,
        features=keyword_features(RATE_HZ),
        source=f"single digits from {path.name}, seed {seed}; test speaker {clips.test_speaker}",
        skipped=clips.skipped,
    )


def _placed(
    clips: Clips, split: str, wanted: NDArray[np.int64], generator: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """A second of sound for each wanted class, and what it holds: another digit where nobody says that one."""
    length = RATE_HZ
    sounds: NDArray[np.int16] = np.zeros((len(wanted), length), dtype=np.int16)
    held = wanted.copy()
    usable = clips.usable[split]
    for row, kind in enumerate(wanted.tolist()):
        if kind == SILENCE:
            # As soft as the noise under the digits is.
            level = LOUD / 8 / 10 ** (generator.uniform(10, 30) / 20)
            sounds[row] = np.rint(generator.standard_normal(length) * level).astype(np.int16)
            continue
        own = usable[clips.digit[usable] == kind]
        index = int(generator.choice(own if len(own) else usable))
        held[row] = clips.digit[index]
        clip = played(clips.samples(index), float(generator.uniform(*SPEEDS)) if split == "train" else 1.0)
        over = max(0, len(clip) - length)
        clip = clip[over // 2 : over // 2 + length]
        line = np.zeros(length, dtype=np.float32)
        place = int(generator.integers(0, length - len(clip) + 1))
        line[place : place + len(clip)] = made_loud(clip)
        sounds[row] = noise_under(line, generator)
    return sounds, held
