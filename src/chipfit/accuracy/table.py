"""Accuracies that are looked up in a table of networks that others trained, instead of training."""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from chipfit.errors import InvalidInput, TrainingFailed

Code = tuple[int, ...]

CodeOf = Callable[[Mapping[str, str]], Code]
"""The code of the network that a row of a table is about; raises `InvalidInput` for a row that is of none."""


@dataclass(frozen=True, slots=True, eq=False)
class AccuracyTable:
    """Accuracies by code, as fractions of 1: `columns` has those of each column that was read.

    `lines` says in which line of the file each network stands first; `digest` is that of the file.
    """

    path: Path
    lines: Mapping[Code, int]
    columns: Mapping[str, Mapping[Code, float]]
    digest: str

    def accuracy(self, code: Code, column: str) -> float:
        """The accuracy of a network. Raises `TrainingFailed` with the reason where the table has none."""
        if code not in self.lines:
            raise TrainingFailed(f"{self.path.name} has no row for the network {list(code)}")
        if code not in self.columns[column]:
            raise TrainingFailed(f"{self.path.name}, line {self.lines[code]}: {column!r} is empty for {list(code)}")
        return self.columns[column][code]


def read_table(path: Path, columns: tuple[str, ...], code_of: CodeOf, percent: bool = False) -> AccuracyTable:
    """Reads a table of networks, .csv or .csv.gz with a head line; columns are fractions of 1, or percent.

    A network that was trained several times stands in several rows: its accuracy is their mean. Empty cells and NaN are
    trainings without an accuracy. Raises `InvalidInput`, with the line, for a file that cannot be read, a column that
    is not there, and what is no accuracy.
    """
    lines: dict[Code, int] = {}
    found: dict[str, dict[Code, list[float]]] = {column: {} for column in columns}
    content = _content(path)
    for line, row in _rows(path, content, columns):
        where = f"{path}, line {line}"
        try:
            code = code_of(row)
        except InvalidInput as error:
            raise InvalidInput(f"{where}: {error}") from None
        lines.setdefault(code, line)
        for column, values in found.items():
            value = _accuracy(row[column], percent, f"{where}: {column}")
            if value is not None:
                values.setdefault(code, []).append(value)
    if not lines:
        raise InvalidInput(f"{path}: has no rows; give a table of networks")
    means = {column: {code: fmean(given) for code, given in values.items()} for column, values in found.items()}
    return AccuracyTable(path, lines, means, hashlib.sha256(content).hexdigest())


def _content(path: Path) -> bytes:
    try:
        content = path.read_bytes()
        return gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InvalidInput(f"{path}: not a readable table ({reason}); give a .csv or .csv.gz file") from None


def _rows(path: Path, content: bytes, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    try:
        reader = csv.DictReader(io.StringIO(content.decode("utf-8"), newline=""), restval="")
        names = list(reader.fieldnames or [])
        if missing := [column for column in columns if column not in names]:
            raise InvalidInput(f"{path}: there is no column {missing[0]!r}; there are {', '.join(names)}")
        for row in reader:
            yield reader.line_num, {name: row[name] for name in names}
    except (UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path}: not a readable table ({error}); give a .csv or .csv.gz file") from None


def _accuracy(text: str, percent: bool, where: str) -> float | None:
    try:
        value = float(text) if text.strip() else math.nan
    except ValueError:
        raise InvalidInput(f"{where} = {text!r} is no number; leave it empty where there is none") from None
    if math.isnan(value):
        return None
    value = value / 100.0 if percent else value
    if not 0.0 <= value <= 1.0:
        remedy = "accuracies of 0 to 100 are expected" if percent else "for percent, set table.percent = true"
        raise InvalidInput(f"{where} = {text} is no fraction of 1; {remedy}")
    return value
