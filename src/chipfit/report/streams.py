"""Networks on a stream of sound: how much time each output takes, and how long after the sound it is there."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text

from chipfit.report.tables import grid, remark
from chipfit.report.words import amount, plain, small_share

if TYPE_CHECKING:
    from chipfit.run.summary import Summary

TITLES = ("computing an output", "of real time", "without kept inputs", "waiting", "end to end")

NOTE = (
    "computing: predicted, for the frames of one output, while convolutions keep their latest inputs (moving these is "
    "left out); without: all frames that an output depends on, anew for each output, as the written files do; waiting: "
    "until all of these have been heard; end to end: from the begin of a sound to its output"
)


@dataclass(frozen=True, slots=True)
class StreamLine:
    """A row of the comparison on a stream; `cells` stand under `TITLES`."""

    name: str
    cells: tuple[str, ...]


def stream_heading(summary: Summary) -> str:
    """How often there is an output."""
    steps = sorted({each.step_s for each in summary.streamed.values()})
    return f"On a stream: an output every {' or '.join(f'{step * 1e3:.3g}' for step in steps)} ms of sound"


def stream_lines(summary: Summary) -> list[StreamLine]:
    """A line for each row whose network works on a stream; none where none does."""
    found: list[StreamLine] = []
    for row in summary.rows:
        each = summary.streamed.get(row.trial.number) if row.trial is not None else None
        if each is None:
            continue
        cells = (
            amount("latency", each.compute_s),
            small_share(each.load),
            amount("latency", each.anew_s),
            amount("latency", each.wait_s),
            amount("latency", each.end_to_end_s),
        )
        found.append(StreamLine(row.name, cells))
    return found


def stream_table(summary: Summary) -> Group | None:
    """The lines for the terminal, None where there are none."""
    lines = stream_lines(summary)
    if not lines:
        return None
    table = grid("", *TITLES)
    for line in lines:
        table.add_row(Text(plain(line.name)), *line.cells)
    return Group(Text(), Text(stream_heading(summary), style="bold"), table, remark([NOTE]))
