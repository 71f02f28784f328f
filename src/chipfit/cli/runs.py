"""Commands around a run: search, report, export."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chipfit.cli.ledgers import ledger_json
from chipfit.cli.options import EstimatorFile, Json, absolute, overrides
from chipfit.cli.output import bar, estimator_detail, figure, notices, people, print_json, progress

if TYPE_CHECKING:
    from chipfit.run.delivered import Integers
    from chipfit.run.journal import Trial
    from chipfit.run.stages import Event
    from chipfit.run.study import Study
    from chipfit.run.summary import Row, Summary


def search(
    study: Annotated[Path, typer.Argument(help="The study: model, target, data, limits (TOML).")],
    out: Annotated[Path | None, typer.Option(help="The run directory (default: runs/NAME).")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed than the study's.")] = None,
    data: Annotated[str | None, typer.Option(help="Other data: rooms, folder:DIR, npz:FILE, module:NAME.")] = None,
    target: Annotated[str | None, typer.Option("--target", "-t", help="Another chip.")] = None,
    estimator: EstimatorFile = None,
    workers: Annotated[int | None, typer.Option(help="Processes that train side by side.")] = None,
    limit: Annotated[list[str] | None, typer.Option(help="COST=BOUND, such as latency=2ms; again for more.")] = None,
    set_: Annotated[list[str] | None, typer.Option("--set", help="Any key of the study: KEY=VALUE.")] = None,
    quick: Annotated[bool, typer.Option("--quick", help="A sixth of the training: shows all, proves nothing.")] = False,
    json: Json = False,
) -> None:
    """The main job: find faster or smaller networks within the limits. The same command again resumes it.

    Exit status 1 says that no network was found that holds all limits.
    """
    from chipfit.report.findings import winner
    from chipfit.run.launch import launch
    from chipfit.run.study import load_study
    from chipfit.run.summary import summarise

    options = {"seed": seed, "task.data": data, "target": target, "workers": workers, "estimator": absolute(estimator)}
    loaded = load_study(study, overrides(limit or [], options, set_ or []))
    loaded = loaded.quick if quick else loaded
    directory = out or Path("runs") / loaded.name
    _announce(loaded, directory)
    begin = time.monotonic()
    try:
        _follow(launch(loaded, directory, progress("preparing")), loaded)
    except KeyboardInterrupt:
        notices().print(f"chipfit: interrupted; {directory} is safe, the same command goes on from there", style="bold")
        sys.exit(130)
    summary = summarise(directory)
    best = winner(summary)
    if json:
        print_json(as_json(summary))
    else:
        _show(summary)
        _what_next(summary, best, time.monotonic() - begin)
    if best is None:
        raise typer.Exit(1)


def _what_next(summary: Summary, best: Row | None, seconds: float) -> None:
    """How many networks were trained, and the command that hands over the result."""
    from chipfit.run.tabular import ACCURACY

    if (summary.study.accuracy or "").startswith(ACCURACY):
        people().print(
            f"  {len(summary.trials)} accuracies looked up, nothing was trained: there are no weights to export\n"
            f"  next:   chipfit report {summary.directory} --json lists every network and its decisions",
            highlight=False,
        )
        return
    name = best.name.split()[0] if best is not None else "baseline"
    people().print(
        f"  {len(summary.trials)} trainings, {summary.seconds / 60:.1f} worker minutes "
        f"({seconds / 60:.1f} minutes now)\n"
        f"  next:   chipfit export {summary.directory} --trial {name} --format onnx",
        highlight=False,
    )


def _show(summary: Summary) -> None:
    """The sentence that matters and the table on the terminal, and the page in the run directory."""
    from chipfit.report.costs import cost_lines
    from chipfit.report.findings import headline
    from chipfit.report.page import write_page
    from chipfit.report.stages import stage_lines
    from chipfit.report.streams import stream_table
    from chipfit.report.tables import comparison
    from chipfit.run.problem import reopen

    problem = reopen(summary, progress("preparing"))
    page = summary.directory / "report.html"
    write_page(summary, problem, page)
    people().print(headline(summary), style="bold", highlight=False)
    people().print(comparison(summary, problem.estimator))
    if (streams := stream_table(summary)) is not None:
        people().print(streams)
    for line in (*stage_lines(summary), *cost_lines(summary)):
        people().print(f"  {line}", highlight=False, markup=False)
    people().print(f"  report: {page}", highlight=False)


def _announce(study: Study, directory: Path) -> None:
    notices().print(
        f"[bold]{study.name}[/]: {study.model} on {study.target}, data {study.task.data}, "
        f"variants {', '.join(study.names)}, in {directory}",
        highlight=False,
    )


def _follow(events: Iterable[Event], study: Study) -> None:
    """Shows a run as it goes: one bar for the stage, one line for each trial."""
    from chipfit.run.jobs import Progress
    from chipfit.run.journal import Trial
    from chipfit.run.stages import Stage

    with bar() as shown:
        stage = None
        done: dict[int, float] = {}
        for event in events:
            if isinstance(event, Stage):
                if stage is not None:
                    shown.remove_task(stage)
                label = f"{event.name} {event.variant}".strip()
                stage, done = shown.add_task(label, total=event.trainings), {}
            elif isinstance(event, Progress):
                done[event.number] = min(0.99, event.done / max(1, event.total))
            elif isinstance(event, Trial):
                if event.number not in done or done[event.number] < 1:
                    shown.console.print(_line(event), highlight=False)
                done[event.number] = 1.0
            if stage is not None:
                shown.update(stage, completed=sum(done.values()))


def _line(trial: Trial) -> str:
    from chipfit.run.amounts import amount

    cost = amount("latency", trial.costs["latency"]) if "latency" in trial.costs else ""
    if trial.status == "failed":
        return f"  {trial.number:4d} {trial.kind:9s} {cost:>9}  failed: {trial.why}"
    mark = " stopped early" if trial.status == "stopped" else ""
    accuracy = 100 * trial.metrics.get("accuracy", float("nan"))
    return f"  {trial.number:4d} {trial.kind:9s} {cost:>9}  {accuracy:5.1f} % on validation{mark}"


def as_json(summary: Summary) -> dict[str, Any]:
    """A run as programs read it; every figure with its source."""
    detail = _predicts(summary)
    return {
        "name": summary.study.name,
        "finished": summary.finished,
        "provenance": dict(summary.provenance),
        "curation": summary.notes.get("curation") and {"kept": summary.notes["curation"]["kept"]},
        "ledger": ledger_json(summary),
        "rows": [
            {"name": row.name, "holds": row.holds, "note": row.note}
            | (_trial_json(row.trial, detail) if row.trial else {})
            | (_delivered_json(summary, row.trial) if row.trial else {})
            for row in summary.rows
        ],
        "trials": [_trial_json(trial, detail) for trial in summary.trials],
    }


def _predicts(summary: Summary) -> str | None:
    """What predicted the latencies of a run; None where it began before that was kept."""
    known = summary.provenance.get("estimator")
    return None if known is None else estimator_detail(summary.provenance["target"], known, known["calibrated"])


def _trial_json(trial: Trial, detail: str | None) -> dict[str, Any]:
    metrics = {name: figure(value, "measured") for name, value in trial.metrics.items()}
    return {
        "trial": trial.number,
        "stage": trial.stage,
        **({"up_to_epoch": trial.rung} if trial.rung else {}),
        "code": list(trial.code),
        "status": trial.status,
        "why": trial.why,
        "costs": _costs_json(trial.costs, detail),
        "metrics": metrics,
        "seconds": trial.seconds,
    }


def _costs_json(costs: Mapping[str, float], detail: str | None) -> dict[str, Any]:
    sources = {"latency": "predicted", "energy": "modelled"}
    return {
        name: figure(
            value,
            sources.get(name, "counted"),
            spread=costs.get(f"{name}_spread"),
            detail=detail if name == "latency" else None,
        )
        for name, value in costs.items()
        if not name.endswith("_spread")
    }


def report(
    directory: Annotated[Path, typer.Argument(help="A run directory.")],
    pictures: Annotated[Path | None, typer.Option(help="A folder to write the pictures into, as files.")] = None,
    json: Json = False,
) -> None:
    """The table, the pictures and one self-contained HTML page of a run, finished or not."""
    from chipfit.run.summary import summarise

    summary = summarise(directory)
    if pictures is not None:
        from chipfit.report.figures import write_figures
        from chipfit.run.problem import reopen

        for path in write_figures(summary, reopen(summary, progress("preparing")), pictures):
            notices().print(f"  picture: {path}", highlight=False)
    if json:
        print_json(as_json(summary))
    else:
        _show(summary)


def export(
    directory: Annotated[Path, typer.Argument(help="A run directory.")],
    trial: Annotated[str, typer.Option(help="A trial number, or a row of the table (baseline, V1, ...).")],
    format: Annotated[str, typer.Option(help="onnx, tflite (int8), or torch (plain code and weights).")] = "onnx",
    out: Annotated[Path | None, typer.Option(help="Where to write (default: in the run directory).")] = None,
    json: Json = False,
) -> None:
    """Hands over a plain model that needs nothing of chipfit to run, and checks the written file."""
    from chipfit.run.amounts import amount
    from chipfit.run.export import export as write
    from chipfit.run.summary import summarise

    summary = summarise(directory)
    number = summary.named(trial).number
    default = directory / (f"trial{number:04d}" if format == "torch" else f"trial{number:04d}.{format}")
    written = write(summary, trial, format, out or default)
    if json:
        costs = _costs_json(written.costs, _predicts(summary))
        found: dict[str, Any] = {"path": str(written.path), "trial": number, "costs": costs}
        print_json(found if written.integers is None else found | {"int8": _integers_json(written.integers)})
        return
    costs = {name: amount(name, written.costs[name]) for name in ("latency", "weights", "peak_memory")}
    people().print(
        f"  wrote {written.path}\n"
        f"  read back and estimated anew: latency {costs['latency']} (promised "
        f"{amount('latency', written.promised['latency'])}), weights {costs['weights']}, "
        f"peak memory {costs['peak_memory']}",
        highlight=False,
    )
    if written.integers is not None:
        people().print(_integers_text(written.integers), highlight=False, markup=False)


def _delivered_json(summary: Summary, trial: Trial) -> dict[str, Any]:
    """What is known of a fully trained network besides: its int8 file, and its times on a stream of sound."""
    stream = summary.streamed.get(trial.number)
    times = {} if stream is None else {name: figure(value, "predicted") for name, value in asdict(stream).items()}
    told = {"int8": _int8_json(summary, trial)} if trial.number in summary.int8 else {}
    return told | ({"streaming": times} if times else {})


def _int8_json(summary: Summary, trial: Trial) -> dict[str, Any]:
    """The int8 file of a row: where it is, how accurate it is, what it costs when read back, the limits it breaks."""
    from chipfit.run.quantised import int8_file

    known = summary.int8[trial.number]
    if known.found is None:
        return {"why": known.why}
    return {
        "path": str(int8_file(summary.directory, trial.number)),
        "file_bytes": figure(known.file_bytes, "counted"),
        "costs": _costs_json(known.costs, _predicts(summary)),
        "broken": list(known.broken),
        "compiled_latency_s": None
        if known.compiled_s is None
        else figure(known.compiled_s, f"simulated ({known.compiler})"),
        **_integers_json(known.found),
    }


def _integers_json(integers: Integers) -> dict[str, Any]:
    names = ("mean_deviation", "largest_deviation", "span")
    return {
        "images": integers.images,
        "metrics": {name: figure(value, "measured") for name, value in integers.integer.items()},
        "float_metrics": {name: figure(value, "measured") for name, value in integers.real.items()},
        "outputs": {} if integers.unchecked else {name: figure(getattr(integers, name), "measured") for name in names},
        "in_float": list(integers.in_float),
        "unchecked": integers.unchecked,
    }


def _integers_text(integers: Integers) -> str:
    """What people read of an int8 file: how accurate it is, and what is special about it."""
    kept = f"\n  in float32, as 8 bits do not do: {', '.join(integers.in_float)}" if integers.in_float else ""
    if integers.unchecked:
        return f"  not run: {integers.unchecked}{kept}"
    metric = integers.metric
    return (
        f"  int8 run on {integers.images} test images: {metric} {100 * integers.integer[metric]:.1f} % (float "
        f"{100 * integers.real[metric]:.1f} %); outputs differ by {integers.mean_deviation:.3g} on average, "
        f"{integers.largest_deviation:.3g} at most, of a span of {integers.span:.3g}{kept}"
    )
