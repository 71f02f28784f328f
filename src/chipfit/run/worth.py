"""What the stages of a combined search were worth: how they agreed with what came after, and with chance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from chipfit.accuracy.agreement import Agreement, agreement

if TYPE_CHECKING:
    from chipfit.run.journal import Scored
    from chipfit.run.summary import Summary

Code = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Worth:
    """What a stage did for a variant. `next` names what its judgement is compared with, `agrees` how well it does.

    `chosen` and `random` are the mean of the next judgement over the networks that the stage chose, and over those that
    were added at random: what the next stage would have got without this one. None where there is nothing to compare.
    """

    variant: str
    stage: str
    looked_at: int
    failed: int
    kept: int
    drawn: int
    trusted: bool
    seconds: float
    next: str
    agrees: Agreement | None
    chosen: float | None
    random: float | None


def worths(summary: Summary) -> list[Worth]:
    """What every stage before the trainings of a combined search was worth, in the order in which they ran."""
    noted: Mapping[str, Mapping[str, Any]] = summary.notes.get("combined") or {}
    trained = {
        trial.code: trial.metrics["accuracy"]
        for trial in summary.trials
        if trial.stage == "search" and trial.status == "done"
    }
    ranked = _values(summary.scores.get("rank", {}))
    found: list[Worth] = []
    for variant, stages in noted.items():
        for stage, note in stages.items():
            kept, drawn = ([tuple(code) for code in note[name]] for name in ("kept", "random"))
            known = _values(summary.scores.get(stage, {}))
            later, name = (ranked, "supernet") if stage == "screen" and ranked else (trained, "training")
            own = [code for code in (*kept, *drawn) if code in known and code in later]
            seconds = sum(each.seconds for each in summary.scores.get(stage, {}).values())
            found.append(
                Worth(
                    variant, stage, note["looked_at"], note["failed"], len(kept), len(drawn), note["trusted"],
                    seconds * _share(summary, stage, note["looked_at"]), name, _agreement(known, later, own),
                    _mean(kept, later) if drawn else None, _mean(drawn, later) if kept else None,
                )
            )  # fmt: skip
    return found


def _share(summary: Summary, stage: str, looked_at: int) -> float:
    """A variant's part of the time of a stage, by how many networks it looked at."""
    total = sum(stages[stage]["looked_at"] for stages in summary.notes["combined"].values() if stage in stages)
    return looked_at / max(1, total)


def _values(scores: Mapping[Code, Scored]) -> dict[Code, float]:
    return {code: each.value for code, each in scores.items() if each.value is not None}


def _agreement(known: Mapping[Code, float], later: Mapping[Code, float], codes: Sequence[Code]) -> Agreement | None:
    found = agreement(np.array([known[code] for code in codes]), np.array([later[code] for code in codes]))
    return found if found.known else None


def _mean(codes: Sequence[Code], later: Mapping[Code, float]) -> float | None:
    values = [later[code] for code in codes if code in later]
    return float(np.mean(values)) if values else None
