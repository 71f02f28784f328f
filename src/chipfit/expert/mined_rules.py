"""Rules out of patterns: what recurs beyond chance, with its evidence."""

from __future__ import annotations

from collections.abc import Sequence

from chipfit.errors import InvalidInput
from chipfit.expert.patterns import Mined, Pattern
from chipfit.expert.rules import LEAVE, SCALED, Chip, Evidence, Rule, RulePack, Scale, Seen, Where
from chipfit.spaces.sizes import DIVISOR

LARGEST_MULTIPLE = 32
"""Largest number that a mined rule rounds to; that sizes were multiples of more is chance."""


def rule_pack(mined: Mined, name: str) -> RulePack:
    """The patterns that recur beyond chance as rules, one for each kind of place: of several options the one that is
    most above what was offered. Raises `InvalidInput` where none does."""
    rules: list[Rule] = []
    for pattern in recurring(mined):
        rules.append(_rule(pattern, mined))
    if not rules:
        raise InvalidInput(
            f"no pattern stands out beyond chance in {mined.candidates} best of {mined.trials} candidates, so there is "
            "no rule to write; search with more trials, or give more runs"
        )
    runs = f"{len(mined.runs)} run" + ("s" if len(mined.runs) > 1 else "")
    return RulePack(
        name=name,
        description=f"Mined from {mined.candidates} best of {mined.trials} candidates of {runs}",
        rule=tuple(rules),
    )


def recurring(mined: Mined) -> tuple[Pattern, ...]:
    """The patterns that become rules, one at most for each kind of place."""
    found: dict[tuple[str, Where], Pattern] = {}
    for pattern in mined.patterns:
        before = found.get((pattern.kind, pattern.where))
        lead = pattern.interval[0] - pattern.offered
        if pattern.verdict == "above" and (before is None or lead > before.interval[0] - before.offered):
            found[pattern.kind, pattern.where] = pattern
    return tuple(found.values())


def _rule(pattern: Pattern, mined: Mined) -> Rule:
    return Rule(
        name=f"{pattern.kind} {_said(pattern)}: {pattern.where}",
        kind=pattern.kind,  # type: ignore[arg-type]
        do=_do(pattern),
        where=pattern.where,
        chip=Chip(names=_targets(pattern.recurs_on)),
        evidence=Evidence(
            by="mined",
            runs=mined.runs,
            trials=pattern.trials,
            offered=round(pattern.offered, 4),
            candidates=pattern.candidates,
            best=round(pattern.best, 4),
            interval=(round(pattern.interval[0], 4), round(pattern.interval[1], 4)),
            confidence=mined.confidence,
            seen=tuple(_rounded(seen) for seen in pattern.seen),
        ),
    )


def _said(pattern: Pattern) -> str:
    return f"× {pattern.option}" if isinstance(pattern.option, float) else str(pattern.option)


def _do(pattern: Pattern) -> str | int | Scale:
    if pattern.option == LEAVE or pattern.kind not in SCALED:
        return pattern.option if isinstance(pattern.option, int) else str(pattern.option)
    multiple = next((step for step in (LARGEST_MULTIPLE, 16, 8, 4, 2) if not pattern.multiple % step), 1)
    return Scale(share=float(pattern.option), multiple=multiple if pattern.multiple else DIVISOR)


def _targets(seen: Sequence[Seen]) -> tuple[str, ...]:
    return tuple(sorted({each.target for each in seen}))


def _rounded(seen: Seen) -> Seen:
    return seen.model_copy(update={"offered": round(seen.offered, 4), "best": round(seen.best, 4)})
