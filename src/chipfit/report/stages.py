"""What the stages of a combined search did before networks were trained, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from chipfit.report.words import duration, plain, plural
from chipfit.run.worth import Worth, worths

if TYPE_CHECKING:
    from chipfit.run.summary import Summary

NAMES = {"screen": "scores without training", "rank": "ranks by the supernet"}


def stage_lines(summary: Summary) -> list[str]:
    """A line for every stage of every variant; empty where a search only trained."""
    return [f"{title(worth)}: {counts(worth)}, {duration(worth.seconds)}; {result(worth)}" for worth in worths(summary)]


def title(worth: Worth) -> str:
    """The stage and the variant."""
    return f"{plain(worth.variant)}, {NAMES[worth.stage]}"


def counts(worth: Worth) -> str:
    """How many networks a stage looked at and kept."""
    if not worth.trusted:
        return f"{worth.drawn} at random, as the score was contradicted by what had been trained"
    if not worth.looked_at:
        return f"{worth.drawn} at random"
    failed = f" ({worth.failed} without a value)" if worth.failed else ""
    if worth.stage == "rank":
        return f"{plural(worth.looked_at, 'network')}{failed}"
    drawn = f" and {worth.drawn} at random" if worth.drawn else ""
    return f"{plural(worth.looked_at, 'network')}{failed}, {worth.kept} kept{drawn}"


def result(worth: Worth) -> str:
    """How a stage agreed with the next, and what that one would have got from chance."""
    parts: list[str] = []
    if worth.agrees is not None:
        found = worth.agrees
        parts.append(
            f"Spearman {found.spearman:.2f} ({found.low:.2f} to {found.high:.2f}) with the {worth.next} "
            f"over {found.networks}"
        )
    if worth.chosen is not None and worth.random is not None:
        chosen, drawn = 100 * worth.chosen, 100 * worth.random
        parts.append(f"its choice has {chosen:.1f} % there in the mean, networks at random {drawn:.1f} %")
    return "; ".join(parts) or "too few networks to compare with what came after"
