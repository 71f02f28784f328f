"""Sequences of spoken digits under noise, composed from clips of single digits."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.sound import Features
from chipfit.tasks.speech import Speech
from chipfit.tasks.splits import Choice, OnBad
from chipfit.tasks.task import SPLITS

RATE_HZ = 8000
FRAMES = 256
"""Frames of a sequence: 2.6 seconds, what conv_ctc takes if nothing else is asked for."""
MOST_DIGITS = 5
COUNTS = {"train": 2000, "validation": 400, "test": 400}
NAMES = tuple("0123456789")
SPEEDS = (0.85, 1.18)
"""How much slower and faster training clips are played: few speakers have to stand for all."""
NOISE_DB = (10.0, 30.0)
"""How much louder a sequence is than the noise under it."""


@dataclass(frozen=True, slots=True)
class _Clips:
    audio: NDArray[np.int16]
    offsets: NDArray[np.int64]
    digit: NDArray[np.int64]
    speaker: NDArray[Any]

    def samples(self, index: int) -> NDArray[np.float32]:
        return self.audio[self.offsets[index] : self.offsets[index + 1]].astype(np.float32)


def digit_sequences(
    path: Path | str,
    seed: int = 0,
    limits: Mapping[str, int] | None = None,
    on_bad: OnBad = "refuse",
) -> Speech:
    """One to five digits after each other, from an .npz of clips at 8 kHz, under noise, as a recogniser's task.

    The arrays are `audio` (int16, all clips one after the other), `offsets` (n + 1; clip i is
    audio[offsets[i]:offsets[i + 1]]), `digit` (0 to 9) and `speaker`, each (n,), as in the free spoken digit data set.
    No speaker, and so no take, is in two splits: one each is set aside for validation and for test, by `seed`; of three
    speakers or more. limits: sequences of each split. on_bad: what happens to clips without sound. Raises InvalidInput
    for an archive that cannot be read or contradicts itself, and for fewer than three speakers.
    """
    path = Path(path)
    choice = Choice(path, None, {"validation": 0.15, "test": 0.15}, seed, on_bad, limits or {})
    clips = _clips(path)
    empty = np.flatnonzero(np.diff(clips.offsets) < RATE_HZ // 50)
    if len(empty) and on_bad == "refuse":
        raise InvalidInput(
            f'{path}: clip {empty[0]} is shorter than 20 ms; remove it, or skip bad items (on_bad="skip")'
        )
    speakers = np.unique(clips.speaker)
    if len(speakers) < 3:
        raise InvalidInput(f"{path}: {len(speakers)} speakers; three are needed, one of them for each split")
    order = np.random.default_rng(seed).permutation(len(speakers))
    of_split = {"test": speakers[order[:1]], "validation": speakers[order[1:2]], "train": speakers[order[2:]]}
    sounds: dict[str, NDArray[np.int16]] = {}
    texts: dict[str, NDArray[np.int64]] = {}
    for number, split in enumerate(SPLITS):
        usable = np.setdiff1d(np.flatnonzero(np.isin(clips.speaker, of_split[split])), empty)
        if len(usable) == 0:
            raise InvalidInput(f"{path}: speaker {of_split[split][0]} has no clip that can be used; add some")
        count = {**COUNTS, **choice.limits}[split]
        generator = np.random.default_rng([seed, number])
        sounds[split], texts[split] = _composed(clips, usable, count, split == "train", generator)
    return Speech(
        name="digits",
        classes=NAMES,
        sounds=sounds,
        texts=texts,
        features=Features(RATE_HZ),
        source=f"digit sequences from {path.name}, seed {seed}; test speaker {of_split['test'][0]}",
        skipped=tuple(f"{path}: clip {index}: shorter than 20 ms" for index in empty),
    )


def _clips(path: Path) -> _Clips:
    if not path.is_file():
        raise InvalidInput(f"{path}: no such file; give an .npz with the arrays audio, offsets, digit and speaker")
    try:
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as stored:
            arrays: dict[str, NDArray[Any]] = {name: stored[name] for name in ("audio", "offsets", "digit", "speaker")}
    except KeyError as error:
        raise InvalidInput(f"{path}: {error.args[0]}; needed are audio, offsets, digit and speaker") from error
    # np.load gives something that is no context manager for a lone .npy file.
    except (OSError, ValueError, EOFError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise InvalidInput(f"{path}: not a readable .npz file ({error}); write it again without pickles") from error
    audio, offsets, digit, speaker = (arrays[name] for name in ("audio", "offsets", "digit", "speaker"))
    if audio.dtype != np.int16 or audio.ndim != 1:
        raise InvalidInput(f"{path}: audio is {audio.dtype} {audio.shape}; give int16 (samples,)")
    if digit.ndim != 1 or speaker.shape != digit.shape or offsets.shape != (len(digit) + 1,) or len(digit) == 0:
        raise InvalidInput(
            f"{path}: digit {digit.shape}, speaker {speaker.shape}, offsets {offsets.shape}; give (n,), (n,), (n + 1,)"
        )
    if digit.dtype.kind not in "iu" or offsets.dtype.kind not in "iu" or digit.min() < 0 or digit.max() > 9:
        raise InvalidInput(f"{path}: digits and offsets must be whole numbers, digits from 0 to 9")
    offsets = offsets.astype(np.int64)
    if offsets[0] < 0 or offsets[-1] > len(audio) or (np.diff(offsets) < 0).any():
        raise InvalidInput(f"{path}: offsets fall or lie outside the {len(audio)} samples; write the file again")
    return _Clips(audio, offsets, digit.astype(np.int64), speaker)


def _composed(
    clips: _Clips, usable: NDArray[np.int64], count: int, varied: bool, generator: np.random.Generator
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
            clip = _played(clips.samples(index), speed)
            if place + len(clip) > length and said > 0:
                break
            clip = clip[: length - place]
            line[place : place + len(clip)] += clip * (8000 / max(1.0, float(np.abs(clip).max())))
            texts[row, said] = clips.digit[index]
            place += len(clip) + int(generator.integers(0, RATE_HZ // 5))
            if place >= length:
                break
        loud = float(np.sqrt(np.mean(line**2)))
        noise = generator.standard_normal(length, np.float32) * loud / 10 ** (generator.uniform(*NOISE_DB) / 20)
        sounds[row] = np.clip(np.rint(line + noise), -32768, 32767).astype(np.int16)
    return sounds, texts


def _played(samples: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    """Faster and higher, or slower and lower, by a factor."""
    if speed == 1.0:
        return samples
    places = np.arange(0, len(samples) - 1, speed)
    return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)
