"""Clips of single spoken digits in one archive, split by who speaks."""

import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.splits import Choice, OnBad
from chipfit.tasks.task import SPLITS

RATE_HZ = 8000
COUNTS = {"train": 2000, "validation": 400, "test": 400}
"""Examples of each split, unless others are asked for."""
NAMES = tuple("0123456789")
SPEEDS = (0.85, 1.18)
"""How much slower and faster training clips are played: few speakers have to stand for all."""
LOUD = 8000
"""The largest sample of a digit in what is composed."""
NOISE_DB = (10.0, 30.0)
"""How much louder what is spoken is than the noise under it."""


@dataclass(frozen=True, slots=True)
class Clips:
    """An archive of clips, and which of them each split may use. `skipped` says what is wrong with others."""

    audio: NDArray[np.int16]
    offsets: NDArray[np.int64]
    digit: NDArray[np.int64]
    speaker: NDArray[Any]
    usable: Mapping[str, NDArray[np.int64]]
    counts: Mapping[str, int]
    test_speaker: str
    skipped: tuple[str, ...]

    def samples(self, index: int) -> NDArray[np.float32]:
        """A clip as it was spoken."""
        return self.audio[self.offsets[index] : self.offsets[index + 1]].astype(np.float32)


def read_clips(path: Path, seed: int, limits: Mapping[str, int] | None, on_bad: OnBad) -> Clips:
    """Reads an .npz of clips at 8 kHz and splits it: no speaker, and so no take, is in two splits.

    The arrays are `audio` (int16, all clips one after the other), `offsets` (n + 1; clip i is
    audio[offsets[i]:offsets[i + 1]]), `digit` (0 to 9) and `speaker`, each (n,), as in the free spoken digit data set.
    One speaker each is set aside for validation and for test, by `seed`. on_bad: what happens to clips without sound.
    Raises InvalidInput for an archive that cannot be read or contradicts itself, and for fewer than three speakers.
    """
    choice = Choice(path, None, {"validation": 0.15, "test": 0.15}, seed, on_bad, limits or {})
    audio, offsets, digit, speaker = _arrays(path)
    empty = np.flatnonzero(np.diff(offsets) < RATE_HZ // 50)
    if len(empty) and on_bad == "refuse":
        raise InvalidInput(
            f'{path}: clip {empty[0]} is shorter than 20 ms; remove it, or skip bad items (on_bad="skip")'
        )
    speakers = np.unique(speaker)
    if len(speakers) < 3:
        raise InvalidInput(f"{path}: {len(speakers)} speakers; three are needed, one of them for each split")
    order = np.random.default_rng(seed).permutation(len(speakers))
    of_split = {"test": speakers[order[:1]], "validation": speakers[order[1:2]], "train": speakers[order[2:]]}
    usable: dict[str, NDArray[np.int64]] = {}
    for split in SPLITS:
        usable[split] = np.setdiff1d(np.flatnonzero(np.isin(speaker, of_split[split])), empty)
        if len(usable[split]) == 0:
            raise InvalidInput(f"{path}: speaker {of_split[split][0]} has no clip that can be used; add some")
    skipped = tuple(f"{path}: clip {index}: shorter than 20 ms" for index in empty)
    counts = {**COUNTS, **choice.limits}
    return Clips(audio, offsets, digit, speaker, usable, counts, str(of_split["test"][0]), skipped)


def _arrays(path: Path) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
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
    return audio, offsets, digit.astype(np.int64), speaker


def played(samples: NDArray[np.float32], speed: float) -> NDArray[np.float32]:
    """Faster and higher, or slower and lower, by a factor."""
    if speed == 1.0:
        return samples
    places = np.arange(0, len(samples) - 1, speed)
    return np.interp(places, np.arange(len(samples)), samples).astype(np.float32)


def made_loud(clip: NDArray[np.float32]) -> NDArray[np.float32]:
    """A clip whose largest sample is `LOUD`."""
    return clip * (LOUD / max(1.0, float(np.abs(clip).max())))


def noise_under(line: NDArray[np.float32], generator: np.random.Generator) -> NDArray[np.int16]:
    """A line of samples with white noise under it, by a random number of `NOISE_DB` decibels softer."""
    loud = float(np.sqrt(np.mean(line**2)))
    noise = generator.standard_normal(len(line), np.float32) * loud / 10 ** (generator.uniform(*NOISE_DB) / 20)
    return np.clip(np.rint(line + noise), -32768, 32767).astype(np.int16)
