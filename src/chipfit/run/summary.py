"""What a finished or interrupted run has found: the rows of its comparison table, from the journal alone."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from chipfit.errors import InvalidInput
from chipfit.run.delivered import Quantised, Streamed, known_files, read_streamed
from chipfit.run.journal import Journal, Scored, Trial
from chipfit.run.study import Study, make_study

NOTES = ("curation", "plan", "place", "sessions", "schedule", "combined", "streaming")


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the comparison: the baseline or the best of a variant. `trial` is None where nothing was found yet.

    `holds` says whether the limits hold after the full training, those on costs in the int8 file too where there is
    one; `note` why not, or what is still missing.
    """

    name: str
    trial: Trial | None
    holds: bool
    note: str = ""


@dataclass(frozen=True, slots=True)
class Summary:
    """A run as it stands. `members` gives for each variant the trials it asked for by stage; `notes` are
    what the journal keeps besides: "curation" (`Curated.as_json`), "plan", "place", "sessions" of the ledger, and
    "schedule" and "combined" of a combined search, whose `scores` are by stage and code. `int8` is what is known of the
    int8 files of fully trained networks, by the number of the trial.
    """

    directory: Path
    study: Study
    finished: bool
    rows: tuple[Row, ...]
    trials: tuple[Trial, ...]
    members: Mapping[str, Mapping[str, tuple[int, ...]]]
    provenance: Mapping[str, Any]
    notes: Mapping[str, Any] = field(default_factory=dict[str, Any])
    scores: Mapping[str, Mapping[tuple[int, ...], Scored]] = field(default_factory=dict[str, Any])
    int8: Mapping[int, Quantised] = field(default_factory=dict[int, Quantised])

    @property
    def streamed(self) -> dict[int, Streamed]:
        """Fully trained networks that recognise speech on a stream of sound, by the number of the trial."""
        return read_streamed(self.notes.get("streaming"))

    @property
    def seconds(self) -> float:
        """Training time of all trials together, in worker seconds."""
        return sum(trial.seconds for trial in self.trials)

    def trial(self, number: int) -> Trial:
        """The trial of a number. Raises `InvalidInput` naming those that exist."""
        for trial in self.trials:
            if trial.number == number:
                return trial
        last = max((trial.number for trial in self.trials), default=-1)
        raise InvalidInput(f"{self.directory} has no finished trial {number}; it has 0 to {last}")

    def named(self, name: str) -> Trial:
        """The trial of a number, or of a row ("baseline", a variant, or its first word). Raises `InvalidInput`."""
        if name.isdigit():
            return self.trial(int(name))
        exact = [row.trial for row in self.rows if row.name == name]
        found = [trial for trial in exact or [row.trial for row in self.rows if row.name.split()[0] == name] if trial]
        if len(found) == 1:
            return found[0]
        known = ", ".join(row.name for row in self.rows if row.trial is not None) or "none yet"
        raise InvalidInput(f"{self.directory} has no result {name!r}; there are: {known}, or a trial number")


def summarise(directory: Path) -> Summary:
    """Reads a run directory. Raises `InvalidInput` when it holds no run, `JournalMismatch` when it is in use."""
    if not (directory / "journal.sqlite").is_file():
        raise InvalidInput(f"{directory} is not a run directory (no journal.sqlite); give the --out of a search")
    with Journal(directory) as journal:
        identity = journal.about("identity")
        if identity is None:
            raise InvalidInput(f"{directory} holds no study yet; run chipfit search with this --out first")
        study = make_study(json.loads(identity), str(directory))
        trials = {trial.number: trial for trial in journal.trials()}
        names = ("baseline", *study.names)
        stages = ("baseline", "search", "final", "chosen")
        members = {name: {stage: tuple(journal.members(name, stage)) for stage in stages} for name in names}
        finished = journal.about("finished") == "yes"
        provenance = json.loads(journal.about("provenance") or "{}")
        notes = {name: json.loads(journal.about(name) or "null") for name in NOTES}
        scores = {stage: journal.scores(stage) for stage in ("screen", "rank")}
        int8 = known_files(journal)
    rows = [_baseline_row(members["baseline"], trials)]
    rows += [
        as_written(_row(name, members[name], trials, finished), study, int8, members["baseline"]["final"])
        for name in study.names
    ]
    return Summary(
        directory, study, finished, tuple(rows), tuple(trials.values()), members, provenance, notes, scores, int8
    )


def as_written(row: Row, study: Study, int8: Mapping[int, Quantised], baseline: Sequence[int]) -> Row:
    """A row that holds all limits does not where its int8 file breaks one, by the estimate or the chip's compiler."""
    found = int8.get(row.trial.number) if row.trial is not None else None
    if not row.holds or found is None:
        return row
    if found.broken:
        return replace(row, holds=False, note="the network holds all limits, its int8 file does not")
    bound = study.limits.costs.get("latency")
    given = int8[baseline[0]].compiled_s if baseline and baseline[0] in int8 else None
    unit = (given or math.inf) if bound is not None and bound.relative else 1.0
    if bound is not None and found.compiled_s is not None and found.compiled_s > bound.value * unit:
        above = found.compiled_s / (bound.value * unit) - 1
        return replace(
            row, holds=False, note=f"compiled by {found.compiler} it is {above:.1%} above the limit on latency"
        )
    return row


def _baseline_row(members: Mapping[str, tuple[int, ...]], trials: Mapping[int, Trial]) -> Row:
    for stage, note in (("final", ""), ("baseline", "before the final training")):
        if members[stage] and members[stage][0] in trials:
            return Row("baseline", trials[members[stage][0]], True, note)
    return Row("baseline", None, False, "not trained yet")


def _row(name: str, members: Mapping[str, tuple[int, ...]], trials: Mapping[int, Trial], finished: bool) -> Row:
    if members["chosen"]:
        return Row(name, trials[members["chosen"][0]], True)
    finals = [trials[number] for number in members["final"] if number in trials]
    if not finished:
        return Row(name, finals[-1] if finals else None, False, "the run is not finished")
    if not finals:
        tried = [trials[number] for number in members["search"] if any(trials[number].code)]
        reason = "no network of the search came near enough to the accuracy that is asked for"
        return Row(name, None, False, reason if tried else "no other network of this variant meets the limits on costs")
    best = max(finals, key=lambda trial: trial.metrics.get("accuracy", -1.0))
    return Row(name, best, False, "no finalist held all limits after the full training; this is the most accurate")
