"""Studies of published spaces whose accuracies are looked up in a table: what the words of a study file stand for."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from chipfit.accuracy.table import AccuracyTable, Code, CodeOf, read_table
from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph
from chipfit.run.study import Study
from chipfit.spaces.published import fbnet, mnasnet, nas_bench_201

MODEL = "published:"
"""What a study's model begins with where it is a published space."""

ACCURACY = "table:"
"""What a study's accuracy begins with where it is looked up."""


@dataclass(frozen=True, slots=True)
class Published:
    """A published space, open over the decisions that its table knows, and which network a row of that is."""

    space: Callable[[], Graph]
    code_of: CodeOf


def _cell_code(row: Mapping[str, str]) -> Code:
    return nas_bench_201.code_of(_cell(row, "net", "arch_str"))


def _fbnet_code(row: Mapping[str, str]) -> Code:
    return fbnet.code_of(_cell(row, "arch"))


def _cell(row: Mapping[str, str], *names: str) -> str:
    for name in names:
        if row.get(name):
            return row[name]
    raise InvalidInput(f"names no network; a column {' or '.join(names)} is needed")


PUBLISHED: Mapping[str, Published] = {
    # Every edge is kept, as the authors run the networks: the table has a row for each of the 15,625 codes.
    "nas-bench-201": Published(lambda: nas_bench_201.space(idle=True), _cell_code),
    "accel-nasbench": Published(mnasnet.space, mnasnet.code_of),
    "fbnet": Published(fbnet.space, _fbnet_code),
}
"""Published spaces by the names of study files."""


def published(model: str) -> Published:
    """The space that a study's model names, "published:NAME". Raises `InvalidInput` for a name that is not known."""
    name = model.removeprefix(MODEL)
    if name not in PUBLISHED:
        raise InvalidInput(f"model {model!r}: published spaces are {', '.join(MODEL + name for name in PUBLISHED)}")
    return PUBLISHED[name]


def table_of(study: Study) -> AccuracyTable:
    """The table of a study, read once per process. Raises `InvalidInput` for what `read_table` refuses."""
    if not study.model.startswith(MODEL):
        spaces = ", ".join(MODEL + name for name in PUBLISHED)
        raise InvalidInput(f"accuracy {study.accuracy!r}: a table needs a published space as the model: {spaces}")
    settings = study.table
    columns = tuple(dict.fromkeys(filter(None, (settings.column, settings.search_column, settings.test_column))))
    path = Path((study.accuracy or "").removeprefix(ACCURACY))
    changed = path.stat().st_mtime_ns if path.is_file() else 0
    return _read(path, changed, columns, study.model, settings.percent)


@cache
def _read(path: Path, changed: int, columns: tuple[str, ...], model: str, percent: bool) -> AccuracyTable:
    return read_table(path, columns, published(model).code_of, percent)


def looked_up(study: Study, stage: str, code: Code) -> dict[str, float]:
    """The metrics of a network in a stage. Raises `TrainingFailed` with the reason where the table has none."""
    table, settings = table_of(study), study.table
    column = settings.search_column if stage == "search" and settings.search_column else settings.column
    metrics = {"accuracy": table.accuracy(code, column)}
    if stage == "final" and settings.test_column:
        metrics["test_accuracy"] = table.accuracy(code, settings.test_column)
    return metrics
