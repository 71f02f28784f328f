"""What a run has found, in words: the sentence on top, the lines of the comparison, where every figure is from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from chipfit.report.words import amount, change, latency, plain, plural, share, small_share
from chipfit.run.settings import SOUND_KINDS

if TYPE_CHECKING:
    from chipfit.estimate.estimator import Estimator
    from chipfit.measure.measurement import Source
    from chipfit.run.delivered import Quantised
    from chipfit.run.journal import Trial
    from chipfit.run.summary import Row, Summary
    from chipfit.spaces.curate import Curated

COST_TITLES: Mapping[str, str] = {
    "latency": "latency",
    "parameters": "parameters",
    "weights": "weights",
    "peak_memory": "peak RAM",
    "energy": "energy",
    "macs": "MACs",
}
"""Costs by the names that studies use, as columns are titled."""

_SAVING: Mapping[str, tuple[str, str, str]] = {
    "latency": ("takes", "less", "time per {example}"),
    "energy": ("needs", "less", "energy per {example}"),
    "weights": ("needs", "less", "memory for weights"),
    "peak_memory": ("needs", "less", "memory for activations"),
    "parameters": ("has", "fewer", "parameters"),
    "macs": ("does", "fewer", "multiply-accumulates"),
}


@dataclass(frozen=True, slots=True)
class Accuracy:
    """An accuracy as a fraction; `standard_error` is nan where nobody gave one, `split` "test" or "validation"."""

    value: float
    standard_error: float
    split: str

    def __str__(self) -> str:
        if math.isfinite(self.standard_error):
            return f"{self.value * 100:.1f} ± {self.standard_error * 100:.1f} %"
        return share(self.value)


@dataclass(frozen=True, slots=True)
class Figure:
    """A cost as text, and how much that is more or less than the baseline's; empty where there is nothing to say."""

    text: str
    change: str


@dataclass(frozen=True, slots=True)
class Line:
    """A row of the comparison as text. `figures` go by the names in `COST_TITLES`; empty where nothing was found.

    `state` is "best", "holds", "fails" (it does not hold all limits) or "open" (not known before the run is finished).
    `accuracy` is that of the network (`brief` without its standard error), `int8` that of its int8 file and `file` the
    size of that; "–" where unknown. `compiled` is the latency of that file by the chip's own compiler.
    """

    name: str
    state: str
    accuracy: str
    figures: Mapping[str, Figure]
    notes: tuple[str, ...]
    brief: str = "–"
    int8: str = "–"
    file: str = "–"
    compiled: Figure | None = None


def accuracy_of(trial: Trial) -> Accuracy | None:
    """The accuracy on the test split where it was measured, else on validation; None where training failed."""
    for split, prefix in (("test", "test_"), ("validation", "")):
        value = trial.metrics.get(f"{prefix}accuracy", math.nan)
        if math.isfinite(value):
            return Accuracy(value, trial.metrics.get(f"{prefix}accuracy_standard_error", math.nan), split)
    return None


def int8_accuracy(summary: Summary, trial: Trial) -> Accuracy | None:
    """The accuracy of a trial's int8 file on the test split, None where it was not run."""
    known = summary.int8.get(trial.number)
    if known is None or known.found is None or not known.ran:
        return None
    metrics, metric = known.found.integer, known.found.metric
    return Accuracy(metrics[metric], metrics.get(f"{metric}_standard_error", math.nan), "test")


def counted(summary: Summary, trial: Trial) -> Mapping[str, float]:
    """The costs of a trial; weights and memory are those of its int8 file where there is one."""
    known = summary.int8.get(trial.number)
    if known is None or not known.costs:
        return trial.costs
    return {**trial.costs, **{name: known.costs[name] for name in ("weights", "peak_memory")}}


def baseline_of(summary: Summary) -> Trial | None:
    """The trial that everything is compared with, None where the baseline is not trained yet."""
    return next((row.trial for row in summary.rows if row.name == "baseline"), None)


def objective(summary: Summary) -> str:
    """The cost that the study asks first to be lowered."""
    return next(name for name in summary.study.search.objectives if name != "accuracy")


def winner(summary: Summary) -> Row | None:
    """Of the rows that hold all limits, the one with the lowest first objective; None where there is none."""
    name = objective(summary)
    found = [row for row in summary.rows if row.holds and row.trial is not None and row.name != "baseline"]
    return min(found, key=lambda row: row.trial.costs[name] if row.trial else math.inf, default=None)


def limits(summary: Summary) -> dict[str, float]:
    """Upper bounds on costs in SI units; those relative to the baseline only once there is one."""
    baseline = baseline_of(summary)
    found: dict[str, float] = {}
    for name, bound in summary.study.limits.costs.items():
        if not bound.relative:
            found[name] = bound.value
        elif baseline is not None:
            found[name] = bound.value * baseline.costs[name]
    return found


def asked(summary: Summary) -> list[str]:
    """Every limit of the study in words."""
    wanted = summary.study.limits
    known = limits(summary)
    found: list[str] = []
    if wanted.accuracy_drop is not None:
        drop = f"{wanted.accuracy_drop * 100:.3g}"
        points = "point" if drop == "1" else "points"
        found.append(f"accuracy at most {drop} {points} below the baseline trained alike")
    if wanted.accuracy is not None:
        found.append(f"accuracy ≥ {share(wanted.accuracy)}")
    for name, bound in wanted.costs.items():
        relative = f"{bound.value * 100:.3g} % of the baseline" if bound.relative else ""
        exact = amount(name, known[name]) if name in known else ""
        text = f"{relative} ({exact})" if relative and exact else relative or exact
        found.append(f"{COST_TITLES[name]} ≤ {text}")
    return found


def broken(summary: Summary, trial: Trial) -> list[str]:
    """Every limit that a trained network does not hold, with the figure and the limit. The validation split judges."""
    known = summary.int8.get(trial.number)
    costs = {**trial.costs, **{name: known.costs[name] for name in known.broken}} if known is not None else trial.costs
    found = [
        f"{COST_TITLES[name]} {amount(name, costs[name])} is {small_share(costs[name] / limit - 1)} above "
        f"the limit {amount(name, limit)}"
        for name, limit in limits(summary).items()
        if costs.get(name, 0.0) > limit
    ]
    wanted, judge = summary.study.limits, baseline_of(summary)
    accuracy = trial.metrics.get("accuracy", math.nan)
    floors: list[tuple[float, str]] = []
    if wanted.accuracy_drop is not None and judge is not None and judge.stage == trial.stage == "final":
        floors.append((judge.metrics.get("accuracy", math.nan) - wanted.accuracy_drop, "asked against the baseline"))
    if wanted.accuracy is not None and trial.stage == "final":
        floors.append((wanted.accuracy, "asked"))
    found += [
        f"accuracy {share(accuracy)} on validation is below the {share(floor)} {why}"
        for floor, why in floors
        if accuracy < floor
    ]
    return found


def comparison(summary: Summary) -> list[Line]:
    """The lines of the comparison table."""
    best = winner(summary)
    return [_line(summary, row, best) for row in summary.rows]


def _line(summary: Summary, row: Row, best: Row | None) -> Line:
    state = "holds" if row.holds else "fails" if summary.finished else "open"
    state = "best" if row is best else state
    notes = [row.note] if row.note else []
    trial = row.trial
    if trial is None:
        return Line(row.name, state, "–", {}, tuple(notes))
    if trial.status == "failed":
        notes.append(f"training failed: {trial.why}")
    elif not row.holds:
        notes += broken(summary, trial)
    accuracy, baseline = accuracy_of(trial), baseline_of(summary)
    if accuracy is not None and accuracy.split != "test" and summary.study.accuracy is None:
        notes.append("accuracy on the validation split, no test yet")
    notes += _int8_notes(summary, trial)
    costs, before = counted(summary, trial), {} if baseline is None else counted(summary, baseline)
    figures = {
        name: Figure(
            amount(name, costs[name]), change(costs[name], before[name]) if before and row.name != "baseline" else ""
        )
        for name in COST_TITLES
        if name in costs
    }
    known = summary.int8.get(trial.number)
    file = amount("weights", known.file_bytes) if known is not None and known.file_bytes else "–"
    integer, brief = str(int8_accuracy(summary, trial) or "–"), share(accuracy.value) if accuracy is not None else "–"
    compiled = _compiled(summary, known, None if row.name == "baseline" else baseline)
    return Line(row.name, state, str(accuracy or "–"), figures, tuple(notes), brief, integer, file, compiled)


def _compiled(summary: Summary, known: Quantised | None, baseline: Trial | None) -> Figure | None:
    """What the chip's own compiler says of a row's int8 file, and how much less that is than of the baseline's."""
    if known is None or known.compiled_s is None:
        return None
    before = summary.int8.get(baseline.number) if baseline is not None else None
    changed = change(known.compiled_s, before.compiled_s) if before is not None and before.compiled_s else ""
    return Figure(amount("latency", known.compiled_s), changed)


def _int8_notes(summary: Summary, trial: Trial) -> list[str]:
    """What is special about a row's int8 file: what could not be done with it, or that it lost more than the limit."""
    known, baseline, drop = summary.int8.get(trial.number), baseline_of(summary), summary.study.limits.accuracy_drop
    if known is None:
        return []
    notes = [f"not compiled: {known.compiler}"] if known.compiled_s is None and known.compiler else []
    if known.found is None or not known.ran:
        why = f"no int8 file: {known.why}" if known.found is None else f"int8 file not run: {known.found.unchecked}"
        return [why, *notes]
    found = int8_accuracy(summary, trial)
    before = int8_accuracy(summary, baseline) if baseline is not None else None
    if found is None or before is None or drop is None or before.value - found.value <= drop:
        return notes
    return [
        *notes,
        f"its int8 file is {(before.value - found.value) * 100:.1f} points below the baseline's on the test split "
        "(limits on accuracy are judged on validation, before quantisation)",
    ]


def headline(summary: Summary) -> str:
    """The sentence that a person who reads only one needs; it claims no more than what was found."""
    baseline, target, best = baseline_of(summary), summary.study.target, winner(summary)
    if not summary.finished:
        return f"{_unfinished(summary)} Nothing here is final; the same search command goes on from there."
    if baseline is None:
        return "The baseline could not be trained, so there is nothing to compare with."
    if best is None or best.trial is None:
        return (
            f"No network was found that holds all limits on {target}; the table says which limits failed. "
            "The baseline is the only result."
        )
    name = objective(summary)
    new, old = best.trial.costs[name], baseline.costs[name]
    figures = f"{amount(name, new)} instead of {amount(name, old)}"
    verb, less, noun = _SAVING[name]
    if new >= old:
        return (
            f"Nothing better than the baseline was found on {target}: {best.name} holds all limits, but its "
            f"{COST_TITLES[name]} is no lower ({figures}), {_at_accuracy(summary, best.trial, baseline)}."
        )
    what = noun.format(example=example(summary))
    return (
        f"{best.name} {verb} {change(new, old).lstrip('−')} {less} {what} than the baseline on {target} "
        f"({figures}, {_kind(name)}) {_at_accuracy(summary, best.trial, baseline)}."
    )


def example(summary: Summary) -> str:
    """What an example of the study's data is called."""
    return "sound" if summary.study.task.data.partition(":")[0] in SOUND_KINDS else "image"


def _kind(cost: str) -> str:
    return "predicted" if cost in ("latency", "energy") else "counted"


def _unfinished(summary: Summary) -> str:
    done = len(summary.trials)
    if not done:
        return "The run has not trained any network yet."
    return f"The run is not finished: {plural(done, 'network')} trained so far."


def _at_accuracy(summary: Summary, trial: Trial, baseline: Trial) -> str:
    """How the accuracies compare; "equal" only where the difference is within its own standard error."""
    new, old, files = int8_accuracy(summary, trial), int8_accuracy(summary, baseline), "as int8 files, "
    if new is None or old is None:
        new, old, files = accuracy_of(trial), accuracy_of(baseline), ""
    if new is None or old is None or new.split != old.split:
        return "with accuracies that cannot be compared"
    figures = f"{files}{new} against {old}{_where(summary, new.split)}"
    difference = new.value - old.value
    if abs(difference) <= math.hypot(new.standard_error, old.standard_error) or difference == 0:
        return f"at equal accuracy ({figures})"
    points, direction = f"{abs(difference) * 100:.1f}", "higher" if difference > 0 else "lower"
    return f"at an accuracy {points} points {direction} ({figures})"


def _where(summary: Summary, split: str) -> str:
    if summary.study.accuracy is not None:
        return ""
    number = _sizes(summary).get(split)
    return f" on {number:,} {split} {example(summary)}s" if number else f" on the {split} split"


def _sizes(summary: Summary) -> Mapping[str, int]:
    data: Mapping[str, Any] = summary.provenance.get("data", {})
    return data.get("sizes", {})


def sources(summary: Summary, estimator: Estimator | None = None) -> list[str]:
    """Where each figure of the comparison is from, one sentence for each kind."""
    study = summary.study
    trained = f"; {trained_on(estimator)}" if estimator is not None else ""
    spreads = [
        row.trial.costs["latency_spread"] / row.trial.costs["latency"]
        for row in summary.rows
        if row.trial is not None and row.trial.costs.get("latency") and "latency_spread" in row.trial.costs
    ]
    spread = f", spread (one standard deviation) {small_share(max(spreads))}" if spreads else ""
    if study.accuracy is not None:
        accuracy = f"accuracy: as returned by {study.accuracy}"
    else:
        metric = summary.provenance.get("data", {}).get("metric", "accuracy")
        named = "" if metric == "accuracy" else f" ({metric})"
        what = (
            f"int8: accuracy{named} of the int8 file, run in LiteRT; float: of the network before; both"
            if summary.int8
            else f"accuracy{named}:"
        )
        accuracy = f"{what} measured{_measured_on(summary)}, ± one standard error"
    written = any(each.costs for each in summary.int8.values())
    own = "parameters: counted in the network; " if written else "parameters, "
    where = "the int8 file, read back" if written else "the network"
    compilers = sorted({each.compiler for each in summary.int8.values() if each.compiled_s is not None})
    return [
        f"latency: predicted by the estimator for {study.target}{spread}{trained}",
        *(f"compiled: latency of the int8 file by {name}" for name in compilers),
        "energy: predicted by the same estimator (modelled, not measured)",
        accuracy,
        f"{own}weights, peak RAM: counted in {where} (peak RAM: activations alive at once)",
    ]


def _measured_on(summary: Summary) -> str:
    found = [accuracy_of(row.trial) for row in summary.rows if row.trial is not None]
    if any(accuracy is not None and accuracy.split == "test" for accuracy in found):
        return f"{_where(summary, 'test')} that the search did not see"
    return f"{_where(summary, 'validation')} that the search sees as well"


def trained_on(estimator: Estimator) -> str:
    """What an estimator rests on, with its error on networks that it never saw."""
    known, calibration = estimator.provenance, estimator.calibration
    measured = f"{known.subgraphs:,} subgraphs {_with(known.source)}; "
    if calibration is not None:
        return (
            f"{measured}calibrated on {plural(calibration.networks, 'whole network')} {_with(calibration.source)}; "
            f"left out in turn: median {small_share(calibration.median_error)}, "
            f"worst {small_share(calibration.largest_error)} off"
        )
    errors = known.network_errors
    if errors is None:
        return measured + "not checked on whole networks: none was measured"
    return (
        f"{measured}{plural(errors.count, 'whole unseen network')}: median {small_share(errors.median)}, "
        f"worst {small_share(errors.largest)} off"
    )


def _with(source: Source) -> str:
    day = f" on {source.date}" if source.date else ""
    return f"{source.kind} with {source.tool} {source.version}{day}"


def removals(curated: Curated, most: int = 6) -> list[str]:
    """What curation left out and why, a line for each of the first `most` decisions, and how many more there are."""
    reasons = curated.reasons()
    lines = [f"{plain(name)}: {'; '.join(found)}" for name, found in list(reasons.items())[:most]]
    more = len(reasons) - most
    return [*lines, *([f"and of {plural(more, 'more decision')} (--json has all)"] if more > 0 else [])]


def latency_of(trial: Trial) -> str:
    """The predicted latency of a trial with its spread."""
    return latency(trial.costs["latency"], trial.costs.get("latency_spread", math.nan))


def stage_counts(trials: Sequence[Trial]) -> str:
    """How trainings ended: "8 trained, 1 stopped early, 1 failed"."""
    names = {"done": "trained", "stopped": "stopped early", "failed": "failed"}
    counts = {status: sum(trial.status == status for trial in trials) for status in names}
    return ", ".join(f"{number} {names[status]}" for status, number in counts.items() if number) or "none"
