"""Commands that make estimators: profile measures subgraphs on a target, fit learns from the measurements."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from chipfit.cli.options import Json, Precision
from chipfit.cli.output import people, print_json, progress


def profile(
    target: Annotated[str, typer.Argument(help="A chip that chipfit knows, or a TOML file.")],
    out: Annotated[Path, typer.Option(help="The table of measurements to write (CSV).")],
    count: Annotated[int, typer.Option(min=100, help="How many subgraphs to measure.")] = 20_000,
    seed: Annotated[int, typer.Option(help="Which subgraphs are drawn.")] = 0,
    precision: Precision = None,
    json: Json = False,
) -> None:
    """Measures operators and small subgraphs on a chip, by simulation for one that is only described."""
    from chipfit.estimate.fit import measure_samples
    from chipfit.measure import tool_for
    from chipfit.measure.table import write_table
    from chipfit.targets import load_target

    chip = load_target(target)
    measured = measure_samples(chip, tool_for(chip, precision), count, seed, progress("measuring"))
    write_table(out, measured)
    if json:
        print_json({"target": chip.name, "measurements": len(measured.workloads), "path": str(out)})
        return
    people().print(f"  {len(measured.workloads)} subgraphs measured on {chip.name}, written to {out}", highlight=False)


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
