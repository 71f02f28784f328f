"""Files are whole or not there; a name in a user's module is found, or the message says why not."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from chipfit.errors import InvalidInput
from chipfit.files import cache_directory, named, remove_partials, write_whole


def test_a_file_is_written_in_new_folders_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "new" / "folder" / "file.bin"
    for content in (b"first", b"second", b""):
        write_whole(path, content)
        assert path.read_bytes() == content
        assert list(path.parent.iterdir()) == [path]


def test_others_may_read_what_the_mask_allows(tmp_path: Path) -> None:
    write_whole(tmp_path / "file", b"content")
    (tmp_path / "plain").write_bytes(b"content")
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == stat.S_IMODE((tmp_path / "plain").stat().st_mode)


WRITE_LARGE = """
import resource, sys
from pathlib import Path
from chipfit.errors import StorageFull
from chipfit.files import write_whole
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, resource.RLIM_INFINITY))
try:
    write_whole(Path(sys.argv[1]), bytes(100_000))
except StorageFull as error:
    print(error)
"""


def test_a_full_disk_leaves_the_old_file_and_no_part_of_the_new(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_whole(path, b"old")
    done = subprocess.run([sys.executable, "-c", WRITE_LARGE, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(f"no space left for {path}; free some")
    assert done.stdout.count("\n") == 1
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


WRITE_ON = """
import sys
from pathlib import Path
from chipfit.files import write_whole
print("ready", flush=True)
for number in range(10**9):
    write_whole(Path(sys.argv[1]), bytes([number % 256]) * 300_000)
"""


def test_a_killed_writer_leaves_a_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for _ in range(3):
        process = subprocess.Popen([sys.executable, "-c", WRITE_ON, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        with process.stdout:
            process.stdout.readline()
            with pytest.raises(subprocess.TimeoutExpired):
                process.wait(0.2)
            process.kill()
            process.wait()
        content = path.read_bytes()
        assert len(content) == 300_000
        assert len(set(content)) == 1
    remove_partials(tmp_path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidInput, match=r"cannot write .*file/below: .*; give another place"):
        write_whole(tmp_path / "file" / "below", b"content")


def test_the_cache_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CHIPFIT_CACHE", str(tmp_path))
    assert cache_directory() == tmp_path
    monkeypatch.setenv("CHIPFIT_CACHE", "")
    assert cache_directory() == Path.home() / ".cache" / "chipfit"


def test_names_are_found_in_the_current_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "files_test_mine.py").write_text("ANSWER = 42\n")
    (tmp_path / "files_test_broken.py").write_text("1 / 0\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    assert named("files_test_mine:ANSWER", "answer") == 42
    assert named("os:getcwd", "function") is os.getcwd
    for spec, why in {
        "files_test_mine": "write module:NAME",
        ":ANSWER": "write module:NAME",
        "files_test_mine:": "write module:NAME",
        "files_test_absent:X": "cannot import files_test_absent",
        "files_test_mine:WRONG": "files_test_mine has no 'WRONG'",
        "files_test_broken:X": "fails on import with ZeroDivisionError: division by zero",
    }.items():
        with pytest.raises(InvalidInput, match=f"answer '{spec}': .*{why}") as caught:
            named(spec, "answer")
        assert "\n" not in str(caught.value)
