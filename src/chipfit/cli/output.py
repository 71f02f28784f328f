"""What commands write: one JSON object on standard output, or tables for people; progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, TypeVar

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from chipfit.estimate.estimator import Costs, Estimator

T = TypeVar("T")

WIDTH = 100


def people() -> Console:
    """Standard output for people, at most `WIDTH` columns."""
    console = Console()
    return Console(width=min(console.width, WIDTH)) if console.is_terminal else Console(width=WIDTH)


def notices() -> Console:
    """Standard error, for progress and remarks."""
    return Console(stderr=True, width=min(Console(stderr=True).width, WIDTH))


def print_json(data: Mapping[str, Any]) -> None:
    """One JSON object on standard output and nothing else."""
    json.dump(data, sys.stdout, indent=2, allow_nan=False)
    sys.stdout.write("\n")


def bar() -> Progress:
    """A progress bar on standard error that leaves no trace when it is done."""
    return Progress(
        TextColumn("  {task.description}"),
        BarColumn(bar_width=32),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        console=notices(),
        transient=True,
    )


def progress(description: str) -> Callable[[Iterable[T]], Iterator[T]]:
    """What wraps an iterable that takes long in a progress bar with this description."""

    def wrap(items: Iterable[T]) -> Iterator[T]:
        with bar() as shown:
            total = len(items) if hasattr(items, "__len__") else None  # type: ignore[arg-type]
            yield from shown.track(items, total=total, description=description)

    return wrap


def fitting(target: str) -> Callable[[Iterable[T]], Iterator[T]]:
    """What wraps the steps of fitting an estimator that a target came without: says so first, and what else to do."""
    steps = progress(f"fitting an estimator for {target}")
    said: list[str] = []

    def wrap(items: Iterable[T]) -> Iterator[T]:
        if not said:
            said.append(
                f"{target} comes without an estimator: measuring and fitting one now, which takes minutes and is kept. "
                f"With a budget of your own: chipfit profile {target}, chipfit fit, --estimator FILE"
            )
            notices().print(said[0], style="dim", soft_wrap=True)
        return steps(items)

    return wrap


def figure(value: float | None, source: str, **more: Any) -> dict[str, Any]:
    """A figure as programs read it: its value, where it comes from, and what else is known about it."""
    return {"value": value, "source": source, **{key: item for key, item in more.items() if item is not None}}


def detail_of(estimator: Estimator) -> str:
    """What predicts, in a few words, and whether the compiler is now another version."""
    from chipfit.estimate.check import other_version

    source, calibration = estimator.provenance.source, estimator.calibration
    known = asdict(source) | {"fitted": estimator.provenance.fitted}
    detail = estimator_detail(estimator.target.name, known, None if calibration is None else asdict(calibration.source))
    warning = other_version(estimator)
    return detail if warning is None else f"{detail}; {warning}"


def estimator_detail(target: str, known: Mapping[str, Any], calibrated: Mapping[str, Any] | None) -> str:
    """What predicts, in a few words. `known` are the fields of a `Source` and "fitted", `calibrated` of a `Source`."""
    detail = f"estimator {target} ({_source(known)}, fitted {known['fitted']})"
    return detail if calibrated is None else f"{detail}, calibrated with whole networks ({_source(calibrated)})"


def _source(known: Mapping[str, Any]) -> str:
    day = f" on {known['date']}" if known["date"] else ""
    return f"{known['kind']} with {known['tool']} {known['version']}{day}"


def cost_figures(costs: Costs, index: int, estimator: Estimator) -> dict[str, Any]:
    """All costs of one network, each with its source. Times in s, energy in J, sizes in bytes."""
    detail = detail_of(estimator)
    return {
        "latency_s": figure(
            float(costs.latency_s[index]), "predicted", spread=float(costs.spread_s[index]), detail=detail
        ),
        "cycles": figure(float(costs.latency_s[index]) * estimator.target.clock_hz, "predicted", detail=detail),
        "energy_j": figure(float(costs.energy_j[index]), "modelled", detail=detail),
        "macs": figure(int(costs.macs[index]), "counted"),
        "parameters": figure(int(costs.parameters[index]), "counted"),
        "weight_bytes": figure(int(costs.weight_bytes[index]), "counted"),
        "peak_activation_bytes": figure(int(costs.peak_bytes[index]), "counted"),
    }
