"""Even channels across a model: all widths that are no multiple of a step moved to one, as one change."""

from __future__ import annotations

from dataclasses import dataclass

from chipfit.expert.changes import STEPS, Change, Changes
from chipfit.expert.gains import Gain, Gains


@dataclass(frozen=True, slots=True)
class Even:
    """All free widths that are no multiple of `step` at the nearest one that is offered, which is near each.

    `gain` is what they bring together; `odd` are channel groups that stay, as every multiple is too far from them.
    """

    id: str
    step: int
    changes: tuple[Change, ...]
    gain: Gain
    odd: tuple[str, ...]


def even_channels(changes: Changes, gains: Gains) -> tuple[Even, ...]:
    """For every step of chips what it brings to make all widths multiples of it; without steps that move fewer than two
    widths, or no others than a smaller step."""
    found: list[tuple[int, tuple[Change, ...], tuple[str, ...]]] = []
    for step in STEPS:
        moved, odd = _moved(changes, step)
        if len(moved) > 1 and all(moved != before for _, before, _ in found):
            found.append((step, moved, odd))
    codes: list[list[int]] = []
    for _, moved, _ in found:
        code = [0] * len(changes.space.decisions)
        for change in moved:
            code[change.decision] = change.option
        codes.append(code)
    brought = gains.of_each(codes)
    return tuple(
        Even(f"E{step}", step, moved, gain, odd) for (step, moved, odd), gain in zip(found, brought, strict=True)
    )


def _moved(changes: Changes, step: int) -> tuple[tuple[Change, ...], tuple[str, ...]]:
    """The changes that make all widths multiples of a step, and the groups for which none does."""
    moved: list[Change] = []
    odd: list[str] = []
    for place, decision in enumerate(changes.space.decisions):
        group, _, kind = decision.name.rpartition(".")
        given = decision.options[0]
        if kind != "width" or not isinstance(given, int) or given % step == 0:
            continue
        near = [item for item in changes.of(place) if not item.sacrifice and _width(changes, item) % step == 0]
        if near:
            moved.append(min(near, key=lambda item: _apart(changes, item)))
        else:
            odd.append(group)
    return tuple(moved), tuple(odd)


def _width(changes: Changes, change: Change) -> int:
    width = changes.space.decisions[change.decision].options[change.option]
    assert isinstance(width, int)
    return width


def _apart(changes: Changes, change: Change) -> tuple[int, int]:
    """How far a width moves, and of two that move as far the one with more channels first."""
    given = changes.space.decisions[change.decision].options[0]
    width = _width(changes, change)
    assert isinstance(given, int)
    return abs(width - given), -width
