"""Short names of tasks."""

import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import chipfit.tasks
from chipfit.errors import InvalidInput
from chipfit.tasks.open import open_task

MODULE = """
from pathlib import Path
from chipfit.tasks.rooms import rooms

number = 3

def small():
    return rooms(train=2, validation=1, test=1, size=32, cache=Path({cache!r}))

ready = small()

def nothing():
    return None
"""


def test_rooms_with_counts_size_and_seed(tmp_path: Path) -> None:
    task = open_task("rooms", size=32, seed=1, train=3, validation=2, test=1, cache=tmp_path)
    assert task.sizes == {"train": 3, "validation": 2, "test": 1}
    assert task.input_shape == (3, 32, 32)
    other = open_task("rooms", size=32, seed=2, train=3, validation=2, test=1, cache=tmp_path)
    assert task.fingerprint != other.fingerprint


def test_rooms_with_boxes_and_masks(tmp_path: Path) -> None:
    for spec, metric in (
        ("rooms-boxes", "mean_average_precision"),
        ("rooms-masks", "mean_intersection_over_union"),
    ):
        task = open_task(spec, size=32, seed=1, train=5, validation=4, test=4, cache=tmp_path)
        assert task.metric == metric
        assert task.sizes == {"train": 5, "validation": 4, "test": 4}
        assert task.input_shape == (3, 32, 32)
        assert (
            task.fingerprint
            == open_task(spec, size=32, seed=1, train=5, validation=4, test=4, cache=tmp_path).fingerprint
        )


def test_what_is_chosen_reaches_the_loaders(tmp_path: Path) -> None:
    for spec in ("coco", "masks", "audio", "digits", "keywords"):
        for on_bad in ("refuse", "skip"):
            with pytest.raises(InvalidInput, match=r"no such|folder"):
                open_task(f"{spec}:{tmp_path / 'none'}", on_bad=on_bad, cache=tmp_path)
    for spec in ("audio:x", "digits:x", "keywords:x"):
        with pytest.raises(InvalidInput, match="sounds have no image size"):
            open_task(spec, size=32)
    (tmp_path / "images").mkdir()
    (tmp_path / "masks").mkdir()
    for index in range(8):
        Image.new("RGB", (8, 8), (index, 0, 0)).save(tmp_path / "images" / f"{index}.png")
        Image.new("L", (8, 8), index % 2).save(tmp_path / "masks" / f"{index}.png")
    (tmp_path / "masks" / "7.png").unlink()
    with pytest.raises(InvalidInput, match=r'skip bad items \(on_bad = "skip"\)'):
        open_task(f"masks:{tmp_path}", cache=tmp_path / "cache")
    task = open_task(f"masks:{tmp_path}", on_bad="skip", size=16, train=2, cache=tmp_path / "cache")
    assert task.sizes["train"] == 2
    assert task.input_shape == (3, 16, 16)


def test_a_users_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "users_task.py").write_text(MODULE.format(cache=str(tmp_path)))
    (tmp_path / "broken_task.py").write_text("import no_such_library\n")
    monkeypatch.syspath_prepend(tmp_path)
    try:
        assert open_task("users_task:small").fingerprint == open_task("users_task:ready").fingerprint
        for spec, words in (
            ("users_task:absent", "has no 'absent'"),
            ("users_task:number", "a int is not a task"),
            ("users_task:nothing", "a NoneType is not a task"),
            ("broken_task:small", "no_such_library"),
            ("no_such_module:small", "cannot import no_such_module"),
        ):
            with pytest.raises(InvalidInput, match=words):
                open_task(spec)
        for options in ({"size": 64}, {"train": 5}, {"seed": 1}):
            with pytest.raises(InvalidInput, match="leave them out"):
                open_task("users_task:small", **options)
    finally:
        sys.modules.pop("users_task", None)


@pytest.mark.parametrize("spec", ["", "room", "rooms:", ":x", "folder:", "npz:", "folder:/no/such", "npz:/no/such"])
def test_bad_names_are_refused_in_one_line(spec: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        open_task(spec)
    assert "\n" not in str(caught.value)


def test_the_package_hands_names_on_without_importing_torch() -> None:
    script = "import sys, chipfit.tasks; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
    for name in chipfit.tasks.__all__:
        assert getattr(chipfit.tasks, name) is not None
    with pytest.raises(AttributeError, match="no_such_name"):
        _ = chipfit.tasks.no_such_name
