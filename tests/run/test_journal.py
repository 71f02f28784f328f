"""What is in the journal stays there, whatever happens to the process, the disk or the file."""

import random
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from chipfit.errors import InvalidInput, JournalMismatch
from chipfit.run.journal import Journal, Trial

IDENTITY = {"name": "demo", "search": {"trials": 8, "batch": 4}, "limits": {"costs": {}}}


def trial(number: int) -> Trial:
    """A trial that can be told from every other."""
    return Trial(
        number, f"search:{number}", "search", (number, 0, 1), "done", {"accuracy": number / 7},
        {"latency": 0.1 * number},
        (0.5, number / 3), 1.5 * number, f"because {number}",
    )  # fmt: skip


def run(script: str, *arguments: object) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", script, *map(str, arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parent,
    )


def test_trials_and_notes_come_back_as_they_were(tmp_path: Path) -> None:
    failed = Trial(7, "final:7", "final", (), "failed", why="the loss is not a number")
    with Journal(tmp_path / "run") as journal:
        assert not journal.claim(IDENTITY, "digest")
        for number in (2, 0, 1):
            journal.add(trial(number))
        journal.add(failed)
        journal.belong("V1", "search", [2, 0, 2])
        journal.belong("V1", "search", [1, 0])
        journal.note("finished", "no")
        journal.note("finished", "yes")
    with Journal(tmp_path / "run") as journal:
        assert journal.claim(IDENTITY, "digest")
        assert journal.trials() == [trial(0), trial(1), trial(2), failed]
        assert journal.members("V1", "search") == [1, 0]
        assert journal.members("V2", "search") == []
        assert (journal.about("finished"), journal.about("unknown")) == ("yes", None)


ADD_ON = """
import sys
from pathlib import Path
from chipfit.run.journal import Journal
from test_journal import trial
journal = Journal(Path(sys.argv[1]))
known = journal.trials()
assert known == [trial(number) for number in range(len(known))]
for number in range(len(known), 10**6):
    journal.add(trial(number))
    print(number, flush=True)
"""


def test_a_killed_writer_loses_at_most_the_trial_being_added(tmp_path: Path) -> None:
    dice, before = random.Random(0), 0
    for _ in range(3):
        process = run(ADD_ON, tmp_path)
        assert process.stdout is not None
        said = [process.stdout.readline() for _ in range(dice.randint(1, 40))]
        process.kill()
        # Not `communicate`, which loses what has been read ahead of the lines.
        said += process.stdout.read().splitlines()
        process.communicate()
        with Journal(tmp_path) as journal:
            found = journal.trials()
        assert found == [trial(number) for number in range(len(found))]
        added = len([line for line in said if line.strip()])
        assert before + added <= len(found) <= before + added + 1
        before = len(found)


HOLD = """
import sys
from pathlib import Path
from chipfit.run.journal import Journal
with Journal(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path: Path) -> None:
    process = run(HOLD, tmp_path)
    assert process.stdout is not None
    assert process.stdout.readline() == "held\n"
    with pytest.raises(JournalMismatch, match=r"is in use by another chipfit; wait or give another --out"):
        Journal(tmp_path)
    process.kill()
    process.communicate()
    Journal(tmp_path).close()


def test_the_same_process_cannot_hold_it_twice(tmp_path: Path) -> None:
    with Journal(tmp_path), pytest.raises(JournalMismatch, match="in use"):
        Journal(tmp_path)


def test_another_study_is_refused_naming_what_differs(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.claim(IDENTITY, "digest")
        changed = {"name": "other", "search": {"trials": 9, "batch": 4}, "limits": {"costs": {"latency": 1}}}
        with pytest.raises(JournalMismatch) as caught:
            journal.claim(changed, "other digest")
        for part in (
            "name 'demo' -> 'other'",
            "search.trials 8 -> 9",
            "limits.costs.latency None -> 1",
            "another --out",
        ):
            assert part in str(caught.value)
        assert "batch" not in str(caught.value)
        assert "\n" not in str(caught.value)
        with pytest.raises(JournalMismatch, match="different: the order of variants"):
            journal.claim(IDENTITY, "digest of another order")
        journal.note("format", "0")
        with pytest.raises(JournalMismatch, match="another version of chipfit"):
            journal.claim(IDENTITY, "digest")


def test_foreign_and_damaged_files_are_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "journal.sqlite"
    path.write_bytes(b"no database at all" * 100)
    with pytest.raises(JournalMismatch, match=r"journal\.sqlite is not a journal of chipfit"):
        Journal(tmp_path)
    assert path.read_bytes() == b"no database at all" * 100

    path.unlink()
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE photographs (name TEXT)")
    database.close()
    before = path.read_bytes()
    with pytest.raises(JournalMismatch, match=r"not a journal of chipfit \(it belongs to another program\)"):
        Journal(tmp_path)
    assert path.read_bytes() == before

    path.unlink()
    with Journal(tmp_path) as journal:
        for number in range(200):
            journal.add(trial(number))
    content = bytearray(path.read_bytes())
    content[8192:] = bytes(len(content) - 8192)
    path.write_bytes(content)
    with Journal(tmp_path) as journal, pytest.raises(JournalMismatch, match=r"not a journal of chipfit .*malformed"):
        journal.trials()
    Path(f"{path}-wal").unlink(missing_ok=True)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(JournalMismatch, match="journal"), Journal(tmp_path) as journal:
        journal.trials()


def test_a_place_that_cannot_be_a_directory_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InvalidInput, match=r"file: File exists; give another --out"):
        Journal(tmp_path / "file")


def test_what_killed_writers_left_is_removed(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        left = journal.weights / ".trial0001.safetensors.0badcafe.partial"
        left.write_bytes(b"half")
        journal.weights_file(1).write_bytes(b"whole")
    Journal(tmp_path).close()
    assert [path.name for path in journal.weights.iterdir()] == ["trial0001.safetensors"]


FILL = """
import resource, sys
from pathlib import Path
from chipfit.errors import StorageFull
from chipfit.run.journal import Journal
from test_journal import IDENTITY, trial
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
try:
    with Journal(Path(sys.argv[1])) as journal:
        journal.claim(IDENTITY, "digest")
        for number in range(len(journal.trials()), 2000):
            journal.add(trial(number))
            journal.belong("V1", "search", list(range(number + 1)))
            print(number, flush=True)
except StorageFull as error:
    print(error, flush=True)
"""


@pytest.mark.parametrize("room", [100_000, 1_000_000])
def test_a_full_disk_is_one_line_and_what_was_there_stays(tmp_path: Path, room: int) -> None:
    process = run(FILL, tmp_path, room)
    said, _ = process.communicate()
    assert process.returncode == 0
    *numbers, message = said.splitlines()
    assert message.startswith(
        f"no space left for {tmp_path / 'journal.sqlite'}; free some and run the same command again"
    )
    last = int(numbers[-1])
    with Journal(tmp_path) as journal:
        assert journal.claim(IDENTITY, "digest")
        found = journal.trials()
        assert found[: last + 1] == [trial(number) for number in range(last + 1)]
        assert len(found) <= last + 2
        assert journal.members("V1", "search")[: last + 1] == list(range(last + 1))
        journal.add(trial(len(found)))
        assert journal.trials()[-1] == trial(len(found))


def test_a_disk_with_no_space_at_all_is_one_line(tmp_path: Path) -> None:
    said, _ = run(FILL, tmp_path, 0).communicate()
    assert said.count("\n") == 1
    assert said.startswith("no space left for ")
    with Journal(tmp_path) as journal:
        assert journal.trials() == []
