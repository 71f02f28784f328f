"""Laws of the rendered rooms."""

import hashlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipfit.errors import InvalidInput
from chipfit.tasks.rooms import MASK_CLASSES, SMALLEST_PERSON, render, rooms

PERSON = MASK_CLASSES.index("person")


def test_scenes_are_what_they_were_when_the_digest_was_taken() -> None:
    """Who changes these bytes changes everybody's data and results; that must not happen unnoticed."""
    state = hashlib.sha256()
    for index in range(8):
        scene = render(seed=0, split="test", index=index, size=64)
        state.update(scene.image.tobytes() + scene.mask.tobytes() + scene.boxes.tobytes())
    assert state.hexdigest()[:16] == "81e9e471f79826f4"


@settings(max_examples=60)
@given(st.integers(0, 2**32), st.sampled_from(["train", "validation", "test"]), st.integers(0, 10**6))
def test_label_boxes_and_mask_agree(seed: int, split: str, index: int) -> None:
    scene = render(seed, split, index, size=48)
    assert scene.image.shape == (48, 48, 3)
    assert scene.image.dtype == scene.mask.dtype == np.uint8
    assert scene.mask.max() < len(MASK_CLASSES)
    assert scene.label == int(len(scene.boxes) > 0) == int((scene.mask == PERSON).any())
    covered = np.zeros((48, 48), dtype=bool)
    for left, top, right, bottom in scene.boxes:
        assert 0 <= left < right <= 48
        assert 0 <= top < bottom <= 48
        covered[top:bottom, left:right] = True
        inside = scene.mask[top:bottom, left:right] == PERSON
        assert inside[0].any()
        assert inside[-1].any()
        assert inside[:, 0].any()
        assert inside[:, -1].any()
        assert inside.sum() >= SMALLEST_PERSON * 48 * 48
    assert covered[scene.mask == PERSON].all()


@given(st.integers(0, 1000), st.sampled_from([32, 48, 97]))
@settings(max_examples=20)
def test_a_scene_depends_on_nothing_but_its_name(index: int, size: int) -> None:
    one = render(3, "train", index, size)
    render(4, "test", index + 1, 40)
    other = render(3, "train", index, size)
    assert np.array_equal(one.image, other.image)
    assert np.array_equal(one.mask, other.mask)
    assert np.array_equal(one.boxes, other.boxes)


def test_seed_split_and_index_each_change_the_scene() -> None:
    names = [(0, "train", 0), (1, "train", 0), (0, "validation", 0), (0, "test", 0), (0, "train", 1)]
    assert len({render(*name, size=32).image.tobytes() for name in names}) == len(names)


def test_half_of_the_rooms_hold_a_person_and_colour_does_not_tell() -> None:
    scenes = [render(0, "train", index, size=32) for index in range(600)]
    labels = np.array([scene.label for scene in scenes])
    assert 0.44 < labels.mean() < 0.56
    colours = np.array([scene.image.mean(axis=(0, 1)) for scene in scenes])
    difference = colours[labels == 1].mean(axis=0) - colours[labels == 0].mean(axis=0)
    assert np.abs(difference / colours.std(axis=0)).max() < 0.3


def test_a_person_that_cannot_be_seen_is_put_in_front(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("chipfit.tasks.rooms.ATTEMPTS", 0)
    for index in range(40):
        scene = render(0, "train", index, size=48)
        assert scene.label == len(scene.boxes)
        assert scene.label == 0 or (scene.mask == PERSON).mean() >= SMALLEST_PERSON


@pytest.mark.parametrize(
    "arguments", [(-1, "train", 0, 96), (0, "all", 0, 96), (0, "train", -1, 96), (0, "train", 0, 31)]
)
def test_bad_scene_names_are_refused(arguments: tuple[int, str, int, int]) -> None:
    with pytest.raises(InvalidInput):
        render(*arguments)


def small_rooms(cache: Path, rendered: list[int] | None = None):
    def progress(indices):
        for index in indices:
            if rendered is not None:
                rendered.append(index)
            yield index

    return rooms(train=6, validation=3, test=3, size=32, cache=cache, progress=progress)


def test_the_task_holds_the_rendered_scenes(tmp_path: Path) -> None:
    task = small_rooms(tmp_path)
    assert task.sizes == {"train": 6, "validation": 3, "test": 3}
    for split, count in task.sizes.items():
        for index in range(count):
            scene = render(0, split, index, 32)
            assert np.array_equal(task.images[split][index], scene.image)
            assert task.labels[split][index] == scene.label


def test_what_is_cached_is_not_rendered_again(tmp_path: Path) -> None:
    first, again = [], []
    one, other = small_rooms(tmp_path, first), small_rooms(tmp_path, again)
    assert len(first) == 12
    assert again == []
    assert one.fingerprint == other.fingerprint
    assert not list(tmp_path.glob("*.part"))


def flip_a_bit(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def cut_short(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-200])


def empty(path: Path) -> None:
    path.write_bytes(b"")


def other_scenes(path: Path) -> None:
    """Sound, but not what the renderer draws, as a file of an older version would be."""
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files if name != "digest"}
    arrays["images"] = arrays["images"] ^ 1
    from chipfit.tasks.cache import write_arrays

    write_arrays(path, arrays)


@pytest.mark.parametrize("damage", [flip_a_bit, cut_short, empty, other_scenes])
def test_a_damaged_cache_is_rendered_again(tmp_path: Path, damage) -> None:
    before = small_rooms(tmp_path).fingerprint
    (path,) = tmp_path.glob("*train*.npz")
    damage(path)
    rendered: list[int] = []
    assert small_rooms(tmp_path, rendered).fingerprint == before
    assert rendered == list(range(6))
    rendered.clear()
    small_rooms(tmp_path, rendered)
    assert rendered == []


def test_the_cache_directory_comes_from_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIPFIT_CACHE", str(tmp_path / "deep" / "cache"))
    rooms(train=2, validation=1, test=1, size=32)
    assert len(list((tmp_path / "deep" / "cache").glob("*.npz"))) == 3


def test_a_cache_that_cannot_be_written_says_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidInput, match="CHIPFIT_CACHE"):
        rooms(train=2, validation=1, test=1, size=32, cache=tmp_path / "file")


def test_counts_below_one_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="0 validation"):
        rooms(train=1, validation=0, test=1, size=32, cache=tmp_path)
