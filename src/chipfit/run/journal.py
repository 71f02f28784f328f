"""The journal of a run: one SQLite file that holds every finished trial, and the weights beside it.

A row is written only once its trial is finished and its weights are on disk, so that a run killed at any moment loses
at most what was being trained.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import sqlite3
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from chipfit.errors import InvalidInput, JournalMismatch, StorageFull
from chipfit.files import remove_partials

FORMAT = 1
APPLICATION = 0x63686966
"""What marks an SQLite file as a journal of chipfit ("chif")."""

_SCHEMA = (
    "CREATE TABLE about (key TEXT PRIMARY KEY, value TEXT NOT NULL)",
    "CREATE TABLE trials (number INTEGER PRIMARY KEY, key TEXT NOT NULL UNIQUE, stage TEXT NOT NULL, "
    "code TEXT NOT NULL, status TEXT NOT NULL, metrics TEXT NOT NULL, costs TEXT NOT NULL, history TEXT NOT NULL, "
    "seconds REAL NOT NULL, why TEXT NOT NULL, finished REAL NOT NULL)",
    "CREATE TABLE members (variant TEXT NOT NULL, stage TEXT NOT NULL, position INTEGER NOT NULL, "
    "number INTEGER NOT NULL, PRIMARY KEY (variant, stage, position))",
)

_SCORES = (
    "CREATE TABLE IF NOT EXISTS scores (stage TEXT NOT NULL, code TEXT NOT NULL, value REAL, seconds REAL NOT NULL, "
    "why TEXT NOT NULL, PRIMARY KEY (stage, code))"
)
"""Added to journals of before when they are opened."""


@dataclass(frozen=True, slots=True)
class Trial:
    """One network that was trained (or failed).

    `stage` is "baseline", "search" or "final"; `status` is "done", "stopped" (too far behind after some epochs) or
    "failed", with the reason in `why`. `metrics` are those of the validation split, with the prefix "test_" those of
    the test split (finals only); `costs` are the estimator's.
    """

    number: int
    key: str
    stage: str
    code: tuple[int, ...]
    status: str
    metrics: Mapping[str, float] = field(default_factory=dict)
    costs: Mapping[str, float] = field(default_factory=dict)
    history: tuple[float, ...] = ()
    seconds: float = 0.0
    why: str = ""

    @property
    def rung(self) -> int:
        """Epochs up to which a search by halving had trained it, several trainings together; else 0."""
        return int(self.key.partition(":")[0].partition("@")[2] or 0)

    @property
    def kind(self) -> str:
        """The stage, in a search by halving with the rung: "search@3"."""
        return f"{self.stage}@{self.rung}" if self.rung else self.stage


@dataclass(frozen=True, slots=True)
class Scored:
    """A network that was judged without being trained: the larger `value` the better, None with the reason in `why`."""

    code: tuple[int, ...]
    value: float | None
    seconds: float
    why: str = ""


class Journal:
    """A run directory: `journal.sqlite`, `weights/`, `checkpoints/`. One process at a time may hold it."""

    def __init__(self, directory: Path) -> None:
        """Opens or creates a run directory.

        Raises `JournalMismatch` when it is in use or its journal is no journal, `StorageFull` when the disk is full.
        """
        self.directory = directory
        try:
            for folder in (directory, self.weights, self.checkpoints):
                folder.mkdir(parents=True, exist_ok=True)
            self._lock = (directory / ".lock").open("w")
        except OSError as error:
            raise InvalidInput(f"{directory}: {error.strerror}; give another --out") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise JournalMismatch(f"{directory} is in use by another chipfit; wait or give another --out") from None
        self._database = sqlite3.connect(directory / "journal.sqlite", isolation_level=None)
        try:
            for folder in (directory, self.weights, self.checkpoints):
                remove_partials(folder)
            with self._guard():
                self._prepare()
        except BaseException:
            self.close()
            raise

    def _prepare(self) -> None:
        (marked,) = self._database.execute("PRAGMA application_id").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if tables and marked != APPLICATION:
            raise sqlite3.DatabaseError("it belongs to another program")
        self._database.execute("PRAGMA journal_mode = WAL")
        if not tables:
            with self._transaction():
                self._database.execute(f"PRAGMA application_id = {APPLICATION}")
                for statement in _SCHEMA:
                    self._database.execute(statement)
        self._database.execute(_SCORES)

    @property
    def weights(self) -> Path:
        return self.directory / "weights"

    @property
    def checkpoints(self) -> Path:
        return self.directory / "checkpoints"

    def weights_file(self, number: int) -> Path:
        """Where the weights of a trial are."""
        return self.weights / self.weights_name(number)

    @staticmethod
    def weights_name(number: int) -> str:
        """The name of the file with the weights of a trial."""
        return f"trial{number:04d}.safetensors"

    def claim(self, identity: Mapping[str, Any], digest: str) -> bool:
        """Makes the directory this study's; whether a run is being resumed.

        Raises `JournalMismatch` naming what differs when the directory holds another study.
        """
        with self._guard():
            known = self.about("digest")
            if known is None:
                with self._transaction():
                    self._note("format", str(FORMAT))
                    self._note("identity", json.dumps(identity))
                    self._note("digest", digest)
                return False
        if self.about("format") != str(FORMAT):
            raise JournalMismatch(f"{self.directory} was written by another version of chipfit; give another --out")
        if known != digest:
            before = json.loads(self.about("identity") or "{}")
            changed = ", ".join(_differences(before, json.loads(json.dumps(identity)))) or "the order of variants"
            raise JournalMismatch(
                f"{self.directory} holds another study (different: {changed}); "
                "give another --out, or the same study again"
            )
        return True

    def about(self, key: str) -> str | None:
        """A note on the run, or None."""
        found = self._read("SELECT value FROM about WHERE key = ?", key)
        return found[0][0] if found else None

    def note(self, key: str, value: str) -> None:
        """Keeps a note on the run."""
        with self._guard():
            self._note(key, value)

    def _note(self, key: str, value: str) -> None:
        self._database.execute("INSERT OR REPLACE INTO about VALUES (?, ?)", (key, value))

    def add(self, trial: Trial) -> None:
        """Records a finished trial. Raises `StorageFull` when the disk is full."""
        row = asdict(trial)
        texts = [json.dumps(row[name]) for name in ("code", "metrics", "costs", "history")]
        with self._guard():
            self._database.execute(
                "INSERT INTO trials VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    trial.number, trial.key, trial.stage, texts[0], trial.status, texts[1], texts[2], texts[3],
                    trial.seconds, trial.why, time.time(),
                ),
            )  # fmt: skip

    def belong(self, variant: str, stage: str, numbers: list[int]) -> None:
        """Records which trials a variant asked for in a stage, in order; replaces what was recorded before."""
        with self._guard(), self._transaction():
            self._database.execute("DELETE FROM members WHERE variant = ? AND stage = ?", (variant, stage))
            rows = [(variant, stage, position, number) for position, number in enumerate(numbers)]
            self._database.executemany("INSERT INTO members VALUES (?, ?, ?, ?)", rows)

    def members(self, variant: str, stage: str) -> list[int]:
        """Numbers of the trials that a variant asked for in a stage, in order."""
        query = "SELECT number FROM members WHERE variant = ? AND stage = ? ORDER BY position"
        return [row[0] for row in self._read(query, variant, stage)]

    def trials(self) -> list[Trial]:
        """All finished trials by number."""
        columns = "number, key, stage, code, status, metrics, costs, history, seconds, why"
        return [_trial(row) for row in self._read(f"SELECT {columns} FROM trials ORDER BY number")]

    def add_scores(self, stage: str, scores: Sequence[Scored]) -> None:
        """Keeps what networks were judged as in a stage that trains none of them."""
        rows = [(stage, json.dumps(each.code), each.value, each.seconds, each.why) for each in scores]
        with self._guard(), self._transaction():
            self._database.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?, ?, ?, ?)", rows)

    def scores(self, stage: str) -> dict[tuple[int, ...], Scored]:
        """What networks were judged as in a stage, by code."""
        rows = self._read("SELECT code, value, seconds, why FROM scores WHERE stage = ? ORDER BY rowid", stage)
        found = [Scored(tuple(json.loads(code)), value, seconds, why) for code, value, seconds, why in rows]
        return {each.code: each for each in found}

    def close(self) -> None:
        """Gives the directory free."""
        self._database.close()
        self._lock.close()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _read(self, query: str, *values: str) -> list[tuple[Any, ...]]:
        with self._guard():
            return self._database.execute(query, values).fetchall()

    @contextlib.contextmanager
    def _transaction(self) -> Generator[None]:
        self._database.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._database.execute("COMMIT")
        except BaseException:
            if self._database.in_transaction:  # SQLite has rolled back by itself where the disk is full
                self._database.execute("ROLLBACK")
            raise

    @contextlib.contextmanager
    def _guard(self) -> Generator[None]:
        """SQLite's errors as the user should see them."""
        try:
            yield
        except sqlite3.OperationalError as error:
            if "full" in str(error) or "disk I/O" in str(error):
                raise StorageFull(
                    f"no space left for {self.directory / 'journal.sqlite'}; free some and run the same command again, "
                    "all finished trials are safe"
                ) from None
            raise JournalMismatch(f"{self.directory / 'journal.sqlite'}: {error}; give another --out") from None
        except sqlite3.DatabaseError as error:
            raise JournalMismatch(
                f"{self.directory / 'journal.sqlite'} is not a journal of chipfit ({error}); give another --out"
            ) from None


def _trial(row: tuple[Any, ...]) -> Trial:
    number, key, stage, code, status, metrics, costs, history, seconds, why = row
    return Trial(
        number, key, stage, tuple(json.loads(code)), status, json.loads(metrics), json.loads(costs),
        tuple(json.loads(history)), seconds, why,
    )  # fmt: skip


def _differences(before: Mapping[str, Any], now: Mapping[str, Any], prefix: str = "") -> list[str]:
    found: list[str] = []
    for key in sorted({*before, *now}):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += _differences(old, new, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} {old!r} -> {new!r}")
    return found[:4]
