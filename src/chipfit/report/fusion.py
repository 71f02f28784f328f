"""What a chip was found to run together, for the terminal, with the table that a target file takes."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Group
from rich.table import Table
from rich.text import Text

from chipfit.estimate.fusion import Evidence, fuses_of
from chipfit.graph.subgraphs import FOLLOWERS
from chipfit.targets.target import Target


def fusion(target: Target, evidence: Sequence[Evidence]) -> Group:
    """What every follower adds behind every kind by its own time, where that contradicts the file, and what to write
    there."""
    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("behind")
    for name in FOLLOWERS:
        table.add_column(name, justify="right")
    for kind in dict.fromkeys(each.kind for each in evidence):
        table.add_row(kind, *(_cell(each) for each in evidence if each.kind == kind))
    title = Text(f"What {target.name} runs together: time that is added, by the time that it takes apart", style="bold")
    legend = "* runs together; ! not what the target's file says; ? cannot be measured"
    return Group(title, table, Text(legend, style="dim"), Text(f"\n{toml(evidence)}"))


def toml(evidence: Sequence[Evidence]) -> str:
    """The table [fuses] of a target file."""
    lines = ["[fuses]"]
    for kind, names in fuses_of(evidence).items():
        quoted = ", ".join(f'"{name}"' for name in names)
        lines.append(f"{kind} = [{quoted}]")
    return "\n".join(lines)


def _cell(each: Evidence) -> str:
    if each.ratio is None:
        return "?"
    return f"{'!' if each.contradicts else ''}{'*' if each.fused else ''} {max(each.ratio, 0):.2f}".strip()
