"""Sequences of spoken digits under noise, composed from clips of single digits."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chipfit.tasks.clips import NAMES, RATE_HZ, SPEEDS, Clips, made_loud, noise_under, played, read_clips
from chipfit.tasks.sound import Features
from chipfit.tasks.speech import Speech
from chipfit.tasks.splits import OnBad
from chipfit.tasks.task import SPLITS

FRAMES = 256
"""Frames of a sequence: 2.6 seconds, what conv_ctc takes if nothing else is asked for."""
MOST_DIGITS = 5


def digit_sequences(
    path: Path | str,
    seed: int = 0,
    limits: Mapping[str, int] | None = None,
    on_bad: OnBad = "refuse",
) -> Speech:
    """One to five digits after each other, from an .npz of clips at 8 kHz, under noise, as a recogniser's task.

    The archive is that of `clips.read_clips`, and so are the splits: by speaker. limits: sequences of each split.
    Raises what `read_clips` raises.
    """
    path = Path(path)
    clips = read_clips(path, seed, limits, on_bad)
    sounds: dict[str, NDArray[np.int16]] = {}
    texts: dict[str, NDArray[np.int64]] = {}
    for number, split in enumerate(SPLITS):
        generator = np.random.default_rng([seed, number])
        usable, count = clips.usable[split], clips.counts[split]
        sounds[split], texts[split] = _composed(clips, usable, count, split == "train", generator)
    return Speech(
        name="digits",
        classes=NAMES,
        sounds=sounds,
        texts=texts,
        features=Features(RATE_HZ),
        source=f"digit sequences from {path.name}, seed {seed}; test speaker {clips.test_speaker}",
        skipped=clips.skipped,
    )


def _composed(
    clips: Clips, usable: NDArray[np.int64], count: int, varied: bool, generator: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.int64]]:
    """`count` sequences of clips of one speaker each, and their digits."""
    features = Features(RATE_HZ)
    length = features.window + (FRAMES - 1) * features.hop
    sounds: NDArray[np.int16] = np.zeros((count, length), dtype=np.int16)
    texts: NDArray[np.int64] = np.full((count, MOST_DIGITS), -1, dtype=np.int64)
    for row in range(count):
        own = usable[clips.speaker[usable] == clips.speaker[generator.choice(usable)]]
        wanted = generator.integers(1, MOST_DIGITS + 1)
        line = np.zeros(length, dtype=np.float32)
        speed = float(generator.uniform(*SPEEDS)) if varied else 1.0
        place = int(generator.integers(0, RATE_HZ // 5))
        for said, index in enumerate(generator.choice(own, wanted)):
            clip = played(clips.samples(index), speed)
            if place + len(clip) > length and said > 0:
                break
            clip = clip[: length - place]
            line[place : place + len(clip)] += made_loud(clip)
            texts[row, said] = clips.digit[index]
            place += len(clip) + int(generator.integers(0, RATE_HZ // 5))
            if place >= length:
                break
        sounds[row] = noise_under(line, generator)
    return sounds, texts
