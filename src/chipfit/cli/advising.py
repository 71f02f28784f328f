"""The command that advises: what to change in a network, and the changed network itself."""

from __future__ import annotations

from dataclasses import asdict
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from chipfit.cli.advised import advice_json
from chipfit.cli.options import EstimatorFile, Json, Precision, Shape, TargetName, input_shape
from chipfit.cli.output import fitting, notices, people, print_json

if TYPE_CHECKING:
    from chipfit.expert.advice import Advice
    from chipfit.expert.apply import Applied
    from chipfit.nets.network import Network
    from chipfit.run.integers import Deviations


def advise(
    model: Annotated[
        str, typer.Argument(help=".onnx or .tflite file, module:function for PyTorch, or a name of the zoo.")
    ],
    target: TargetName,
    apply: Annotated[str | None, typer.Option(help="Ids or names of changes with commas between, or all.")] = None,
    out: Annotated[Path | None, typer.Option(help="Where --apply writes: .onnx, .tflite, or a folder.")] = None,
    data: Annotated[
        str | None, typer.Option(help="folder:DIR, npz:FILE, rooms: images to calibrate an int8 .tflite file with.")
    ] = None,
    limit: Annotated[list[str] | None, typer.Option(help="COST=BOUND, such as latency=2ms; again for more.")] = None,
    review: Annotated[
        Path | None, typer.Option(help="Decide change by change; what the file says already is not asked again.")
    ] = None,
    rules: Annotated[
        str | None, typer.Option(help="Apply a rule pack instead: a .toml file, or accelerators, which ships.")
    ] = None,
    precision: Precision = None,
    estimator: EstimatorFile = None,
    shape: Shape = None,
    json: Json = False,
) -> None:
    """What to change in a network for a chip, what each change brings, and the changed network on request."""
    from chipfit.cli.ruling import by_rules
    from chipfit.errors import InvalidInput, LimitImpossible
    from chipfit.estimate.store import estimator_for
    from chipfit.expert import advice as expert
    from chipfit.expert.limits import least_risk
    from chipfit.nets.load import load
    from chipfit.report import advice as report
    from chipfit.targets import load_target

    if out is None and apply is not None:
        raise InvalidInput("--apply needs --out: a path that ends in .onnx or .tflite, or a folder for PyTorch code")
    if data is not None and (out is None or out.suffix.lower() != ".tflite"):
        raise InvalidInput("--data calibrates an int8 file: it needs --out FILE.tflite")
    if sum(given is not None for given in (apply, review, limit or None)) > 1:
        raise InvalidInput("--apply, --limit and --review each choose changes: give one of them")
    if rules is not None and (limit or review is not None):
        raise InvalidInput("--rules says what to change: give it without --limit and --review")
    network = load(model, input_shape=input_shape(shape))
    chip = load_target(target)
    used = estimator_for(chip, precision, estimator, progress=fitting(chip.name))
    if rules is not None:
        by_rules(model, network, used, rules, apply, out, json)
        return
    found = expert.advise(network, used)
    code, picked = found.code if apply == "all" else (0,) * len(found.code), None
    if limit:
        picked = least_risk(found, _bounds(found, limit))
        code = picked.code
    elif review is not None:
        code = _reviewed(found, review)
    elif apply is not None and apply != "all":
        code = found.code_of([name.strip() for name in apply.split(",") if name.strip()])
    broken = picked.broken if picked is not None else {}
    made, integers = None, None
    if out is not None and any(code) and not broken:
        # Writing needs torch, which takes longer to import than all of the advice: it is only there when asked for.
        from chipfit.expert.apply import apply as applied_to

        if data is None:
            made = applied_to(found, code, out)
        else:
            integers = _Integers(data)
            made = applied_to(found, code, out, integers.write)
    if json:
        print_json(advice_json(model, found, picked, made) | ({} if integers is None else {"int8": integers.as_json()}))
    else:
        if apply is None and review is None:
            people().print(report.advice(model, found))
        if picked is not None:
            people().print(report.chosen(found, picked))
        if review is not None:
            people().print(report.total(found, code))
        if made is not None:
            people().print(report.applied(made))
            people().print(_format(made, integers), highlight=False, markup=False)
    if broken:
        over = ", ".join(f"{name} by {value:.1%}" for name, value in broken.items())
        raise LimitImpossible(
            f"no set of the changes meets all limits; the closest exceeds {over}; nothing was written"
        )


class _Integers:
    """Writes int8 files, calibrated on the images of a task, and keeps how far the last one is from its network."""

    def __init__(self, data: str) -> None:
        self.data = data
        self.found: Deviations | None = None

    def write(self, network: Network, path: Path) -> Network:
        from chipfit.nets.load import load
        from chipfit.run.integers import CALIBRATION_IMAGES, export_calibrated
        from chipfit.tasks.open import open_task

        sides = {int(side) for side in network.graph.inputs[0].shape[2:]}  # type: ignore[arg-type]
        # A task of the user's own brings its size and counts.
        ours = self.data.partition(":")[0] in ("rooms", "folder", "npz")
        task = open_task(
            self.data,
            size=sides.pop() if ours and len(sides) == 1 else None,
            train=CALIBRATION_IMAGES if ours else None,
            validation=1 if ours else None,
            test=CALIBRATION_IMAGES if ours else None,
        )
        self.found = export_calibrated(network, task, path)
        return load(path)

    def as_json(self) -> dict[str, Any]:
        """How the int8 file does, None where it could not be run."""
        assert self.found is not None
        known = asdict(self.found)
        return {name: None if isinstance(value, float) and isnan(value) else value for name, value in known.items()}


def _format(made: Applied, integers: _Integers | None) -> str:
    """What format a written file has, in one line, empty where its name says it all."""
    if integers is None:
        return (
            ""
            if made.path.suffix.lower() != ".tflite"
            else (
                "numbers: float32, as there are no images to calibrate int8 with; --data folder:DIR, npz:FILE or rooms"
            )
        )
    found = integers.found
    assert found is not None
    kept = f"; in float32, as 8 bits do not do: {', '.join(found.in_float)}" if found.in_float else ""
    if found.unchecked:
        return f"numbers: int8, calibrated on {found.calibrated} images; not run: {found.unchecked}{kept}"
    same = "" if isnan(found.agreement) else f", the largest is the same on {found.agreement:.1%}"
    return (
        f"numbers: int8, calibrated on {found.calibrated} images; run on {found.images} others beside the float "
        f"network: outputs differ by {found.mean_deviation:.3g} on average, of a span of {found.span:.3g}{same}{kept}"
    )


def _reviewed(found: Advice, path: Path) -> tuple[int, ...]:
    """The code of a review: what the file says, and what it does not say yet is asked and kept in it at once."""
    from chipfit.expert.review import accepted, read_review, write_review
    from chipfit.report.advice import question

    said = read_review(path, found)
    taken = {found.changes.named(name).decision for name, yes in said.items() if yes}
    for item in (*found.advised, *found.host, *found.free, *found.sacrifices):
        if item.change.name in said or item.change.decision in taken:
            continue
        notices().print(question(found, accepted(found, said), item))
        said[item.change.name] = typer.confirm("  make this change?", default=item in found.advised, err=True)
        if said[item.change.name]:
            taken.add(item.change.decision)
        write_review(path, found, said)
    return accepted(found, said)


def _bounds(found: Advice, texts: list[str]) -> dict[str, float]:
    """Limits from COST=BOUND, in SI units; a share is one of what the network as given costs."""
    from chipfit.errors import InvalidInput
    from chipfit.expert.limits import LIMITS
    from chipfit.run.settings import parse_bound

    bounds: dict[str, float] = {}
    for text in texts:
        name, equals, amount = (part.strip() for part in text.partition("="))
        if not equals or name not in LIMITS:
            raise InvalidInput(
                f"--limit {text!r}: write COST=BOUND, such as latency=2ms; costs are {', '.join(LIMITS)}"
            )
        if name in bounds:
            raise InvalidInput(f"--limit {text!r}: {name} has a limit already; give one for each cost")
        bound = parse_bound("peak_memory" if name == "memory" else name, amount)
        given = float(getattr(found.given, LIMITS[name])[0])
        bounds[name] = bound.value * given if bound.relative else bound.value
    return bounds
