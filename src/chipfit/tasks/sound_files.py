"""Tasks from sounds that a user has: WAV files in one folder per class, or a manifest of files and texts."""

import csv
import json
import re
import wave
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.sound import Features, keyword_features
from chipfit.tasks.speech import SoundClassification, Speech
from chipfit.tasks.splits import Choice, Faults, OnBad, apart, grouped_orders
from chipfit.tasks.task import SPLITS

CLIP_S = 1.0
"""Sounds of a folder are cut, or filled up with silence, to this length."""
SPLIT_FOLDERS = {"train": "train", "validation": "validation", "val": "validation", "test": "test"}
LISTS = {"validation": "validation_list.txt", "test": "testing_list.txt"}
"""Files of Google's Speech Commands that say which sounds belong to a split."""
FILE_COLUMNS = ("audio_filepath", "file", "path", "audio", "filename")
TEXT_COLUMNS = ("text", "transcript", "sentence")


@dataclass(frozen=True, slots=True)
class _Sound:
    """A file, what is said in it (a class or a text) and who says it ("" where nobody knows)."""

    path: Path
    text: str
    speaker: str


def sounds(
    where: Path | str,
    validation: float = 0.15,
    test: float = 0.15,
    seed: int = 0,
    on_bad: OnBad = "refuse",
    limits: Mapping[str, int] | None = None,
) -> SoundClassification | Speech:
    """A folder with a folder of WAV files per class, or "MANIFEST", or "TRAIN,VALIDATION,TEST", manifests with texts.

    A folder may hold train, validation (or val) and test folders of such folders, or the lists of Speech Commands; each
    sound is cut or filled up to a second. A manifest is JSON lines or CSV with a file (audio_filepath, file or path,
    from the manifest's folder) and a text, and perhaps a speaker. What has no split of its own is split by `seed`,
    speaker by speaker where they are known (`speaker`, or a name as SPEAKER_nohash_0.wav); `validation` and `test` are
    fractions. All files must be mono PCM of one rate: that of the first. on_bad: "refuse" stops at the first file that
    cannot be used (missing, unreadable, empty, of another rate, without text), "skip" leaves it out and names it in
    `skipped`. limits: at most so many sounds of a split. Raises InvalidInput with file and item.
    """
    first = Path(str(where).split(",")[0])
    choice = Choice(first, None, {"validation": validation, "test": test}, seed, on_bad, limits or {})
    faults = Faults(on_bad)
    if first.is_dir():
        return _classified(first, choice, faults)
    if not first.is_file():
        raise InvalidInput(f"{first}: no such file or folder; give a folder of classes, or a manifest (.jsonl or .csv)")
    return _spoken([Path(part) for part in str(where).split(",")], choice, faults)


def _classified(root: Path, choice: Choice, faults: Faults) -> SoundClassification:
    folders = {"train": root}
    if (root / "train").is_dir():
        folders = {split: root / name for name, split in SPLIT_FOLDERS.items() if (root / name).is_dir()}
    listed = {split: _folder(folder) for split, folder in folders.items()}
    if len(folders) == 1:
        listed |= _by_lists(root, listed)
    classes = tuple(sorted({sound.text for sound in listed["train"]}))
    if len(classes) < 2:
        raise InvalidInput(
            f"{folders['train']}: {len(classes)} folders of WAV files; give a folder for each of 2 or more classes"
        )
    for part in listed.values():
        for sound in part:
            if sound.text not in classes:
                raise InvalidInput(f"{sound.path}: class {sound.text} has no training sounds; add some or remove it")
    arrays, rate = _arrays(listed, choice, faults, CLIP_S)
    return SoundClassification(
        name=root.resolve().name,
        classes=classes,
        sounds={split: part[0] for split, part in arrays.items()},
        labels={s: np.array([classes.index(text) for text in arrays[s][1]], dtype=np.int64) for s in SPLITS},
        features=keyword_features(rate),
        source=f"sounds in folder {root.name}",
        skipped=tuple(faults.items),
    )


def _folder(root: Path) -> list[_Sound]:
    found: list[_Sound] = []
    for folder in sorted(entry for entry in root.iterdir() if entry.is_dir() and entry.name[0] not in "._"):
        for path in sorted(file for file in folder.rglob("*") if file.suffix.lower() == ".wav"):
            match = re.match(r"(.+)_nohash_", path.name)
            found.append(_Sound(path, folder.name, match[1] if match else ""))
    return found


def _by_lists(root: Path, listed: dict[str, list[_Sound]]) -> dict[str, list[_Sound]]:
    """The splits that the lists of Speech Commands name, and what they leave for training."""
    found: dict[str, list[_Sound]] = {}
    rest = listed["train"]
    for split, name in LISTS.items():
        if (root / name).is_file():
            wanted = {root / line.strip() for line in (root / name).read_text(encoding="utf-8").splitlines()}
            found[split] = [sound for sound in rest if sound.path in wanted]
            rest = [sound for sound in rest if sound.path not in wanted]
    return found | {"train": rest}


def _spoken(manifests: Sequence[Path], choice: Choice, faults: Faults) -> Speech:
    if len(manifests) > len(SPLITS):
        raise InvalidInput(f"{manifests[0]}: {len(manifests)} manifests; give {', '.join(SPLITS)} at most")
    listed = {split: _manifest(path, faults) for split, path in zip(SPLITS, manifests, strict=False)}
    symbols = tuple(sorted({symbol for part in listed.values() for sound in part for symbol in sound.text} | {" "}))
    arrays, rate = _arrays(listed, choice, faults, None)
    longest = max(len(text) for part in arrays.values() for text in part[1])
    texts: dict[str, NDArray[np.int64]] = {}
    for split, (_, words) in arrays.items():
        texts[split] = np.full((len(words), longest), -1, dtype=np.int64)
        for row, text in zip(texts[split], words, strict=True):
            row[: len(text)] = [symbols.index(symbol) for symbol in text]
    return Speech(
        name=manifests[0].stem,
        classes=symbols,
        sounds={split: part[0] for split, part in arrays.items()},
        texts=texts,
        features=Features(rate),
        source=f"sounds and texts of {manifests[0].name}",
        separator=" ",
        skipped=tuple(faults.items),
    )


def _manifest(path: Path, faults: Faults) -> list[_Sound]:
    found: list[_Sound] = []
    for line, entry in _entries(path):
        item = f"{path}: line {line}"
        name = next((entry[column] for column in FILE_COLUMNS if entry.get(column)), "")
        text = next((entry[column] for column in TEXT_COLUMNS if entry.get(column)), "")
        text = " ".join(text.lower().split())
        if not name or not text:
            faults.add(item, f"has no {'file' if not name else 'text'}; columns are {', '.join(entry)}")
            continue
        found.append(_Sound(path.parent / name, text, entry.get("speaker") or ""))
    return found


def _entries(path: Path) -> list[tuple[int, dict[str, str]]]:
    """Lines of a manifest by number."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not a readable manifest ({error}); give JSON lines or CSV") from None
    if path.suffix.lower() in (".csv", ".tsv"):
        rows = csv.DictReader(text.splitlines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",")
        return [(number, {str(k): str(v) for k, v in row.items() if v}) for number, row in enumerate(rows, start=2)]
    entries: list[tuple[int, dict[str, str]]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise InvalidInput(f"{path}: line {number} is no JSON ({error}); give one object a line") from None
        if not isinstance(entry, dict):
            raise InvalidInput(f"{path}: line {number} is no object; give one object a line")
        entries.append((number, {str(key): str(value) for key, value in entry.items() if value is not None}))
    return entries


def _arrays(
    listed: Mapping[str, Sequence[_Sound]], choice: Choice, faults: Faults, length_s: float | None
) -> tuple[dict[str, tuple[NDArray[np.int16], list[str]]], int]:
    """Sounds of one length and their texts, by split, and their rate; the longest sets the length if none is given."""
    speakers = {split: [sound.speaker or str(sound.path) for sound in part] for split, part in listed.items()}
    _speakers_apart(listed, faults)
    order = grouped_orders(speakers, choice)
    rate = 0
    read: dict[str, list[tuple[_Sound, NDArray[np.int16]]]] = {}
    for split in SPLITS:
        origin, indices = order[split]
        read[split] = []
        for index in indices:
            sound = listed[origin][index]
            found = read_wav(sound.path)
            if isinstance(found, str):
                faults.add(str(sound.path), found)
                continue
            rate = rate or found[1]
            if found[1] != rate:
                faults.add(str(sound.path), f"its rate is {found[1]} Hz, that of the first sound {rate} Hz")
                continue
            read[split].append((sound, found[0]))
    length = max((len(samples) for part in read.values() for _, samples in part), default=1)
    length = length if length_s is None else round(length_s * rate)
    arrays = {split: _stacked([samples for _, samples in read[split]], length) for split in SPLITS}
    contents = {split: ([str(sound.path) for sound, _ in read[split]], arrays[split]) for split in SPLITS}
    kept = apart(contents, faults, given=len(listed) > 1)
    return {s: (arrays[s][kept[s]], [read[s][index][0].text for index in kept[s]]) for s in SPLITS}, rate


def _speakers_apart(listed: Mapping[str, Sequence[_Sound]], faults: Faults) -> None:
    """A speaker whose sounds the user's own splits share is a bad item."""
    first: dict[str, str] = {}
    for split, part in listed.items():
        for sound in part:
            if sound.speaker and first.setdefault(sound.speaker, split) != split:
                why = f"its speaker {sound.speaker} is in {first[sound.speaker]} and in {split}"
                faults.add(str(sound.path), why, left_out="it stays")
                break


def _stacked(parts: Sequence[NDArray[np.int16]], length: int) -> NDArray[np.int16]:
    stacked: NDArray[np.int16] = np.zeros((len(parts), length), dtype=np.int16)
    for row, samples in zip(stacked, parts, strict=True):
        row[: min(length, len(samples))] = samples[:length]
    return stacked


def read_wav(path: Path) -> tuple[NDArray[np.int16], int] | str:
    """Samples, int16 (n,), and their rate in Hz, of a mono PCM file of 8, 16, 24 or 32 bits; or why it is no such."""
    try:
        with wave.open(str(path), "rb") as file:
            channels, width, rate, count = file.getparams()[:4]
            content = file.readframes(count)
    except FileNotFoundError:
        return "there is no such file"
    except (OSError, EOFError, wave.Error) as error:
        return f"not a readable PCM WAV file ({error or 'it ends too early'})"
    if channels != 1:
        return f"it has {channels} channels; mix them to one"
    if width not in (1, 2, 3, 4) or len(content) < width:
        return "it holds no samples" if len(content) < width else f"its samples have {width} bytes"
    content = content[: len(content) // width * width]
    if width == 1:
        # Samples of 8 bits are unsigned, all others signed.
        return (np.frombuffer(content, np.uint8).astype(np.int16) - 128) * np.int16(256), rate
    bytes_of = np.frombuffer(content, np.uint8).reshape(-1, width)
    return np.ascontiguousarray(bytes_of[:, -2:]).view("<i2")[:, 0].astype(np.int16), rate
