"""Commands that make estimators: profile measures subgraphs on a target, fit learns from the measurements, calibrate
brings an estimator to a board of which times of whole networks are known."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chipfit.cli.options import EstimatorFile, Json, Precision, Shape, TargetName, input_shape
from chipfit.cli.output import fitting, notices, people, print_json, progress

Out = Annotated[Path | None, typer.Option(help="The table of measurements to write (CSV).")]
Plan = Annotated[Path | None, typer.Option(help="A folder of models to time on a board, to write or to read back.")]
Results = Annotated[Path | None, typer.Option("--import", help="Times from the board, to read back with --plan.")]
Error = Annotated[
    str | None,
    typer.Option(
        "--error",
        help="Choose what to measure next until nine of ten held-out networks are estimated so well, such as 5% "
        "(0%: until --count are measured).",
    ),
]
Fusion = Annotated[
    bool, typer.Option("--fusion", help="Instead: find out by measuring what runs together with the operator before.")
]
Count = Annotated[int | None, typer.Option(min=100, help="How many subgraphs (default: as the tool is fast).")]


def profile(
    target: Annotated[str, typer.Argument(help="A chip that chipfit knows, or a TOML file.")],
    out: Out = None,
    count: Count = None,
    plan: Plan = None,
    results: Results = None,
    error: Error = None,
    fusion: Fusion = False,
    partial: Annotated[bool, typer.Option(help="With --import: models that were not timed are left out.")] = False,
    seed: Annotated[int, typer.Option(help="Which subgraphs are drawn.")] = 0,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Measures subgraphs on a chip with its tool, or writes what to run on your own board and reads it back."""
    from chipfit.errors import InvalidInput

    if (fusion or error is not None) and (plan is not None or results is not None):
        raise InvalidInput("--error and --fusion need answers at once: a board that is measured by --plan gives none")
    if fusion:
        if out is not None or error is not None:
            raise InvalidInput("--fusion prints what it finds and measures nothing else: leave --out and --error away")
        _fusion(target, precision, json)
    elif results is not None:
        if plan is None or out is None:
            raise InvalidInput("--import needs the folder of the plan and a table to write: --plan DIR --out FILE")
        _read_back(target, results, plan, out, partial, json)
    elif plan is not None:
        if out is not None:
            raise InvalidInput("--plan writes a folder: leave --out away until you --import the times")
        _write_plan(target, plan, count, seed, json)
    elif out is None:
        raise InvalidInput("--out FILE is missing: where to write the measurements (or --plan DIR for your own board)")
    elif error is not None:
        _choose(target, out, error, count, seed, precision, json)
    else:
        _measure(target, out, count, seed, precision, json)


def _choose(
    target: str, out: Path, error: str, count: int | None, seed: int, precision: str | None, json: bool
) -> None:
    from chipfit.estimate.choose import choosing
    from chipfit.measure import tool_for
    from chipfit.measure.table import write_table
    from chipfit.targets import load_target

    chip = load_target(target)
    course: list[tuple[int, float]] = []
    last = None
    for last in choosing(
        chip, tool_for(chip, precision), error=_fraction(error), budget=count, seed=seed, precision=precision
    ):
        course.append((last.subgraphs, last.error))
        notices().print(
            f"  {last.subgraphs} subgraphs measured: nine of ten networks within {last.error:.2%}", highlight=False
        )
    assert last is not None
    assert last.stopped is not None
    write_table(out, last.table)
    if json:
        found = {"target": chip.name, "subgraphs": last.subgraphs, "held_out_networks": last.held_out}
        rounds = [{"subgraphs": number, "error": off} for number, off in course]
        print_json(found | {"error": last.error, "stopped": last.stopped, "rounds": rounds, "path": str(out)})
        return
    why = {
        "error": "the error is as small as asked for",
        "budget": "as many were measured as allowed",
        "candidates": "nothing is left that would teach anything",
    }[last.stopped]
    people().print(
        f"  {last.subgraphs} subgraphs and {last.held_out} held-out networks measured on {chip.name}: {out}\n"
        f"  nine of ten of these networks are estimated within {last.error:.2%}\n"
        f"  stopped because {why}",
        highlight=False,
    )


def _fraction(text: str) -> float:
    """A share from "2%" or "0.02". Raises `InvalidInput` for anything else."""
    from chipfit.errors import InvalidInput

    try:
        return float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        raise InvalidInput(f"--error {text!r}: write a share such as 5% or 0.05") from None


def _fusion(target: str, precision: str | None, json: bool) -> None:
    from dataclasses import asdict

    from chipfit.estimate.fusion import detect_fusion, fuses_of
    from chipfit.measure import tool_for
    from chipfit.report.fusion import fusion
    from chipfit.targets import load_target

    chip = load_target(target)
    notices().print(f"  measuring pairs of operators on {chip.name}", highlight=False)
    evidence = detect_fusion(chip, tool_for(chip, precision))
    if json:
        pairs = [{**asdict(each), "contradicts": each.contradicts} for each in evidence]
        print_json({"target": chip.name, "fuses": fuses_of(evidence), "pairs": pairs})
        return
    people().print(fusion(chip, evidence))


def _measure(target: str, out: Path, count: int | None, seed: int, precision: str | None, json: bool) -> None:
    from chipfit.estimate.fit import measure_samples
    from chipfit.measure import tool_for
    from chipfit.measure.table import write_table
    from chipfit.targets import load_target

    chip = load_target(target)
    measured = measure_samples(chip, tool_for(chip, precision), count, seed, progress("measuring"))
    write_table(out, measured)
    if json:
        print_json(
            {
                "target": chip.name,
                "measurements": len(measured),
                "networks": len(measured.wholes),
                "path": str(out),
            }
        )
        return
    people().print(f"  {len(measured)} subgraphs measured on {chip.name}, written to {out}", highlight=False)


def _write_plan(target: str, plan: Path, count: int | None, seed: int, json: bool) -> None:
    from chipfit.estimate.fit import measure_samples
    from chipfit.measure.board import RUNNER, Planner
    from chipfit.targets import load_target

    chip = load_target(target)
    planner = Planner(chip, plan)
    measure_samples(chip, planner, count, seed, progress("planning"))
    planner.finish()
    if json:
        found = {"target": chip.name, "models": planner.models, "bytes": planner.bytes, "path": str(plan)}
        print_json(found | {"left_out": planner.left_out})
        return
    for line in planner.left_out:
        notices().print(f"  left out: {line}", highlight=False, markup=False)
    shown = people()
    shown.print(f"  {planner.models} models, {planner.bytes / 1e6:.0f} MB, written to {plan}", highlight=False)
    shown.print(
        f"  next: copy {plan} to the board, run python3 {RUNNER} there, bring results.csv back, then", highlight=False
    )
    shown.print(f"  chipfit profile {target} --import results.csv --plan {plan} --out FILE", highlight=False)


def _read_back(target: str, results: Path, plan: Path, out: Path, partial: bool, json: bool) -> None:
    from chipfit.measure.board_results import imported
    from chipfit.measure.table import write_table
    from chipfit.targets import load_target

    chip = load_target(target)
    found = imported(results, plan, chip, partial=partial)
    write_table(out, found.table)
    subgraphs, networks = len(found.table), len(found.table.wholes)
    if json:
        print_json(
            {
                "target": chip.name,
                "measurements": subgraphs,
                "networks": networks,
                "remarks": list(found.remarks),
                "path": str(out),
            }
        )
        return
    for line in found.remarks:
        notices().print(f"  {line}", highlight=False, markup=False)
    shown = people()
    shown.print(
        f"  {subgraphs} subgraphs and {networks} whole networks of {chip.name}, written to {out}", highlight=False
    )
    shown.print(f"  next: chipfit fit {out} --target {target} --out ESTIMATOR.json", highlight=False)


def fit(
    table: Annotated[Path, typer.Argument(help="A table of measurements, as profile writes it (CSV).")],
    out: Annotated[Path, typer.Option(help="The estimator file to write.")],
    target: Annotated[str, typer.Option("--target", "-t", help="The chip that the table was measured on.")],
    precision: Precision = None,
    seed: Annotated[int, typer.Option(help="Which measurements are held out.")] = 0,
    json: Json = False,
) -> None:
    """Trains an estimator on measurements; tells its error on subgraphs and networks that it did not see."""
    from chipfit.estimate.fit import fit_measured
    from chipfit.estimate.store import save_estimator
    from chipfit.measure.table import read_table
    from chipfit.report import tables
    from chipfit.targets import load_target

    chip = load_target(target)
    estimator = fit_measured(chip, read_table(table), precision=precision, seed=seed, progress=progress("fitting"))
    save_estimator(out, estimator)
    if json:
        print_json({"path": str(out), "target": chip.name, **estimator.provenance.as_json()})
        return
    people().print(tables.estimator(estimator))
    people().print(f"  written to {out}", highlight=False)


def calibrate(
    times: Annotated[Path, typer.Argument(help="Times of whole networks: columns model, latency_ms, family (CSV).")],
    out: Annotated[Path, typer.Option(help="The estimator file to write.")],
    target: TargetName,
    estimator: EstimatorFile = None,
    precision: Precision = None,
    shape: Shape = None,
    json: Json = False,
) -> None:
    """Brings an estimator to a board on which whole networks were timed; tells its error on families left out."""
    from dataclasses import asdict

    from chipfit.estimate.calibrate import calibrate as calibrated
    from chipfit.estimate.network_times import errors_of, network_times
    from chipfit.estimate.store import estimator_for, save_estimator
    from chipfit.report import tables
    from chipfit.targets import load_target

    chip = load_target(target)
    before = estimator_for(chip, precision, estimator, progress=fitting(chip.name))
    timed = network_times(times, before, input_shape(shape))
    for line in timed.remarks:
        notices().print(f"  {line}", highlight=False, markup=False)
    found = calibrated(before, timed.models, timed.latency_s, timed.source, timed.families)
    save_estimator(out, found)
    uncalibrated = errors_of(before, timed)
    if json:
        assert found.calibration is not None
        shown = {"path": str(out), "target": chip.name, "before": asdict(uncalibrated), "remarks": list(timed.remarks)}
        print_json({**shown, "calibration": found.calibration.as_json()})
        return
    people().print(tables.calibration(found, uncalibrated))
    people().print(f"  written to {out}", highlight=False)
