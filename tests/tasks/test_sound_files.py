"""Sounds from files: WAV of all widths, folders, manifests, clips of digits, and what is named when it is wrong."""

import json
import wave
from pathlib import Path

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.nets.zoo import from_zoo
from chipfit.tasks.digits import FRAMES, digit_sequences
from chipfit.tasks.keywords import spoken_keywords
from chipfit.tasks.sound_files import read_wav, sounds
from chipfit.tasks.speech import SoundClassification, Speech
from chipfit.testing.tasks import check_task


def write(path: Path, samples: np.ndarray, rate: int = 8000, channels: int = 1) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with wave.open(str(path), "wb") as file:
        file.setparams((channels, samples.dtype.itemsize, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def noise(seed: int, count: int = 1600) -> np.ndarray:
    return np.random.default_rng(seed).integers(-8000, 8000, count).astype(np.int16)


def keywords(root: Path, each: int = 10) -> Path:
    for number, word in enumerate(("no", "yes")):
        for index in range(each):
            write(root / word / f"s{index % 5}_nohash_{index}.wav", noise(100 * number + index))
    return root


def test_samples_of_every_width_are_read(tmp_path: Path) -> None:
    samples = noise(0)
    found = read_wav(write(tmp_path / "16.wav", samples))
    assert not isinstance(found, str)
    assert np.array_equal(found[0], samples)
    assert found[1] == 8000
    wide = (samples.astype(np.int32) << 16) + 77
    found = read_wav(write(tmp_path / "32.wav", wide.astype("<i4")))
    assert np.array_equal(found[0], samples)
    narrow = ((samples >> 8) + 128).astype(np.uint8)
    found = read_wav(write(tmp_path / "8.wav", narrow))
    assert np.array_equal(found[0], (samples >> 8) << 8)
    with wave.open(str(tmp_path / "24.wav"), "wb") as file:
        file.setparams((1, 3, 8000, 0, "NONE", ""))
        file.writeframes(b"".join(b"\x05" + sample.tobytes() for sample in samples))
    assert np.array_equal(read_wav(tmp_path / "24.wav")[0], samples)


def test_a_folder_of_classes_fits_the_keyword_spotter(tmp_path: Path) -> None:
    task = sounds(keywords(tmp_path / "words"))
    assert isinstance(task, SoundClassification)
    assert task.classes == ("no", "yes")
    assert task.input_shape == (1, 49, 10)
    assert sum(task.sizes.values()) == 20
    check_task(task)


def test_speakers_never_part(tmp_path: Path) -> None:
    root = keywords(tmp_path / "words", each=40)
    heard = {read_wav(path)[0].tobytes(): path.name.split("_")[0] for path in root.rglob("*.wav")}
    for seed in range(3):
        task = sounds(root, seed=seed)
        of_split = {s: {heard[row[:1600].tobytes()] for row in task.sounds[s]} for s in task.sounds}
        assert sum(map(len, of_split.values())) == 5
        assert set.union(*of_split.values()) == {"s0", "s1", "s2", "s3", "s4"}


def test_the_lists_of_speech_commands_are_kept(tmp_path: Path) -> None:
    root = keywords(tmp_path / "words")
    write(root / "_background_noise_" / "hum.wav", noise(1))
    (root / "validation_list.txt").write_text("no/s0_nohash_0.wav\nyes/s0_nohash_0.wav\n")
    (root / "testing_list.txt").write_text("no/s1_nohash_1.wav\n")
    for index in range(1, 10):
        if index % 5 < 2:
            (root / "no" / f"s{index % 5}_nohash_{index}.wav").unlink(missing_ok=index != 1)
            (root / "yes" / f"s{index % 5}_nohash_{index}.wav").unlink()
    write(root / "no" / "s1_nohash_1.wav", noise(999))
    task = sounds(root)
    assert task.sizes == {"train": 12, "validation": 2, "test": 1}


def manifest(root: Path, count: int = 10, first: int = 0, name: str = "manifest.jsonl") -> Path:
    lines = []
    for index in range(first, first + count):
        write(root / "clips" / f"{index}.wav", noise(index, 4000 + 10 * index))
        text = "Nine  one" if index % 2 else "two"
        lines.append({"audio_filepath": f"clips/{index}.wav", "duration": 0.5, "text": text, "speaker": f"v{index}"})
    path = root / name
    if name.endswith(".csv"):
        rows = [f"{line['audio_filepath']},{line['text']}" for line in lines]
        path.write_text("\n".join(["file,text", *rows]) + "\n")
    else:
        path.write_text("\n".join(map(json.dumps, lines)) + "\n")
    return path


@pytest.mark.parametrize("name", ["manifest.jsonl", "manifest.csv"])
def test_manifests_give_texts(tmp_path: Path, name: str) -> None:
    task = sounds(manifest(tmp_path, name=name))
    assert isinstance(task, Speech)
    assert "".join(task.classes) == " einotw"
    assert task.outputs == 8
    assert task.sizes == {"train": 6, "validation": 2, "test": 2}
    assert {task.text(row) for part in task.texts.values() for row in part.tolist()} == {"nine one", "two"}
    assert task.sounds["train"].shape[1] == 4090


def test_the_users_splits_are_kept_and_shared_speakers_named(tmp_path: Path) -> None:
    parts = [manifest(tmp_path, 4, first, f"{first}.jsonl") for first in (0, 4, 8)]
    task = sounds(",".join(map(str, parts)))
    assert task.sizes == {"train": 4, "validation": 4, "test": 4}
    parts[2].write_text(parts[2].read_text().replace("v9", "v2"))
    with pytest.raises(InvalidInput, match="its speaker v2 is in train and in test"):
        sounds(",".join(map(str, parts)))
    parts[2].write_text(parts[0].read_text().replace('"v', '"w'))
    with pytest.raises(InvalidInput, match=r"2\.wav: it is in train and, as .*2\.wav, in test"):
        sounds(",".join(map(str, parts)))


FAULTS = {
    "missing": (lambda file: file.unlink(), "there is no such file"),
    "no wav": (lambda file: file.write_bytes(b"RIFFnothing"), "not a readable PCM WAV file"),
    "rate": (lambda file: write(file, noise(3), rate=16000), "its rate is 16000 Hz, that of the first sound 8000 Hz"),
    "stereo": (lambda file: write(file, noise(3), channels=2), "it has 2 channels; mix them to one"),
    "empty": (lambda file: write(file, noise(3, 0)), "it holds no samples"),
}


@pytest.mark.parametrize(("damage", "words"), FAULTS.values(), ids=FAULTS.keys())
def test_bad_files_are_refused_or_skipped_as_the_user_chooses(tmp_path: Path, damage, words: str) -> None:
    # The last sound to be read, so that it is not the one that sets the rate.
    path = manifest(tmp_path, 30)
    order = [row.tobytes() for part in ("train", "validation", "test") for row in sounds(path).sounds[part]]
    clips = {file: read_wav(file)[0].tobytes() for file in (tmp_path / "clips").iterdir()}
    (victim,) = [file for file, content in clips.items() if order[-1].startswith(content)]
    damage(victim)
    with pytest.raises(InvalidInput, match=words) as caught:
        sounds(path)
    assert victim.name in str(caught.value)
    task = sounds(path, on_bad="skip")
    assert sum(task.sizes.values()) == 29
    assert len(task.skipped) == 1
    assert victim.name in task.skipped[0]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("m.jsonl", "{", "line 1 is no JSON"),
        ("m.jsonl", "[1]", "line 1 is no object"),
        ("m.jsonl", '{"text": "a"}', "line 1: has no file; columns are text"),
        ("m.jsonl", '{"file": "a.wav", "text": " "}', "line 1: has no text"),
        ("m.csv", "file,words\na.wav,b\n", "line 2: has no text; columns are file, words"),
        ("m.csv", "file,text\n", "too few items"),
    ],
)
def test_manifests_that_make_no_sense_are_named(tmp_path: Path, name: str, content: str, words: str) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InvalidInput, match=words):
        sounds(tmp_path / name)
    with pytest.raises(InvalidInput, match="no such file or folder"):
        sounds(tmp_path / "none")


def archive(path: Path, speakers: int = 4, **changes: np.ndarray) -> Path:
    """Clips of ten digits, twice from each speaker."""
    count = 20 * speakers
    lengths = np.random.default_rng(0).integers(1500, 3500, count)
    values = {
        "audio": noise(0, int(lengths.sum())),
        "offsets": np.concatenate([[0], np.cumsum(lengths)]),
        "digit": np.arange(count) % 10,
        "speaker": np.repeat([f"s{index}" for index in range(speakers)], 20),
        "rep": np.arange(count) // 10 % 2,
    }
    np.savez(path, **(values | changes))
    return path


def test_digit_sequences_are_what_the_recogniser_takes(tmp_path: Path) -> None:
    limits = {"train": 40, "validation": 20, "test": 20}
    task = digit_sequences(archive(tmp_path / "clips.npz"), limits=limits)
    assert task.input_shape == (40, FRAMES, 1)
    assert task.sizes == limits
    assert task.outputs == 11
    lengths = (task.texts["train"] >= 0).sum(axis=1)
    assert set(lengths) == {1, 2, 3, 4, 5}
    check_task(task, lambda inputs: inputs[:, :11, :64])
    assert digit_sequences(tmp_path / "clips.npz", limits=limits).fingerprint == task.fingerprint
    assert digit_sequences(tmp_path / "clips.npz", seed=1, limits=limits).fingerprint != task.fingerprint


def test_keywords_are_what_the_keyword_spotter_takes(tmp_path: Path) -> None:
    limits = {"train": 60, "validation": 30, "test": 30}
    path = archive(tmp_path / "clips.npz")
    task = spoken_keywords(path, limits=limits)
    network = from_zoo("ds_cnn", classes=task.outputs)
    assert (1, *task.input_shape) == network.graph.inputs[0].shape
    assert task.sizes == limits
    assert set(task.labels["train"]) == set(range(11))
    assert task.misfit([network.graph.shapes[key] for key in network.graph.outputs]) == ""  # type: ignore[misc]
    check_task(task, lambda inputs: inputs[:, 0, :1].mean(dim=2).repeat(1, 11))
    assert spoken_keywords(path, limits=limits).fingerprint == task.fingerprint
    assert spoken_keywords(path, seed=1, limits=limits).fingerprint != task.fingerprint


def test_every_keyword_lies_whole_in_its_second_and_silence_is_softer(tmp_path: Path) -> None:
    """Clips are flat; those of digit 9 are longer than a second and fill it."""
    lengths = np.where(np.arange(80) % 10 == 9, 12000, 2000)
    audio = np.repeat(np.where(np.arange(80) % 10 == 9, 900, 400), lengths).astype(np.int16)
    path = archive(tmp_path / "c.npz", audio=audio, offsets=np.concatenate([[0], np.cumsum(lengths)]))
    task = spoken_keywords(path, limits={"train": 90, "validation": 60, "test": 60})
    loud = (np.abs(task.sounds["test"].astype(int)) > 4000).sum(axis=1)
    for digit, samples in ((9, 8000), (3, 2000), (10, 0)):
        found = loud[task.labels["test"] == digit]
        assert len(found)
        assert np.abs(found - samples).max() <= 0.06 * samples  # noise takes some below
    # Some speakers say no 3: what they say instead is what the label says.
    few = archive(tmp_path / "few.npz", digit=np.full(80, 4))
    assert set(spoken_keywords(few, limits={"train": 30}).labels["train"]) == {4, 10}


def test_no_speaker_is_in_two_splits(tmp_path: Path) -> None:
    """Every speaker's clips are of a loudness of their own, relative within a clip: a flat one, a ramp, a burst."""
    lengths = np.full(60, 2000)
    shapes = [np.ones(2000), np.linspace(0, 1, 2000), np.where(np.arange(2000) < 200, 1.0, 0.0)]
    audio = np.concatenate([shapes[index // 20] * 8000 for index in range(60)]).astype(np.int16)
    path = archive(tmp_path / "c.npz", 3, audio=audio, offsets=np.concatenate([[0], np.cumsum(lengths)]))
    for seed in range(3):
        task = digit_sequences(path, seed=seed, limits={"train": 30, "validation": 30, "test": 30})
        kinds: set[int] = set()
        for split, part in task.sounds.items():
            digits = (task.texts[split] >= 0).sum(axis=1)
            loud = np.median((np.abs(part) > 6000).sum(axis=1) / digits) / 2000
            kinds.add(int(np.argmin([abs(loud - share) for share in (1, 0.25, 0.1)])))
        assert kinds == {0, 1, 2}
        single = spoken_keywords(path, seed=seed, limits={"train": 30, "validation": 30, "test": 30})
        assert single.source.rpartition(" ")[2] == task.source.rpartition(" ")[2]
        for split, part in single.sounds.items():
            loud = (np.abs(part[single.labels[split] < 10]) > 6000).sum(axis=1) / 2000
            same = (
                np.median((np.abs(task.sounds[split]) > 6000).sum(axis=1) / (task.texts[split] >= 0).sum(axis=1)) / 2000
            )
            assert np.median(loud) == pytest.approx(same, abs=0.08)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"audio": np.zeros(9, np.float32)}, "audio is float32"),
        ({"digit": np.arange(5)}, r"give \(n,\)"),
        ({"digit": np.arange(80)}, "digits from 0 to 9"),
        ({"offsets": np.arange(81)[::-1]}, "offsets fall"),
        ({"offsets": np.arange(81)}, "clip 0 is shorter than 20 ms"),
        ({"speaker": np.repeat(["a", "b"], 40)}, "2 speakers; three are needed"),
    ],
)
def test_archives_that_contradict_themselves_are_named(tmp_path: Path, changes, words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        digit_sequences(archive(tmp_path / "clips.npz", **changes))


def test_archives_that_are_none_are_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no such file"):
        digit_sequences(tmp_path / "none.npz")
    np.savez(tmp_path / "other.npz", audio=np.zeros(3, np.int16))
    with pytest.raises(InvalidInput, match="needed are audio, offsets, digit and speaker"):
        digit_sequences(tmp_path / "other.npz")
    (tmp_path / "text.npz").write_text("text")
    with pytest.raises(InvalidInput, match=r"not a readable \.npz"):
        digit_sequences(tmp_path / "text.npz")
