"""What commands write: one JSON object on standard output, or tables for people; progress on standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
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


def figure(value: float | None, source: str, **more: Any) -> dict[str, Any]:
    """A figure as programs read it: its value, where it comes from, and what else is known about it."""
    return {"value": value, "source": source, **{key: item for key, item in more.items() if item is not None}}


def cost_figures(costs: Costs, index: int, estimator: Estimator) -> dict[str, Any]:
    """All costs of one network, each with its source. Times in s, energy in J, sizes in bytes."""
    from chipfit.estimate.check import other_version

    source = estimator.provenance.source
    detail = f"estimator {estimator.target.name} ({source.tool} {source.version}, fitted {estimator.provenance.fitted})"
    if (warning := other_version(estimator)) is not None:
        detail += f"; {warning}"
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
