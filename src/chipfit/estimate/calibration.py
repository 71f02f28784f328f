"""What whole networks on a board say about an estimator's subgraphs: a factor per kind, and costs that it lacks.

The calibrated latency of a subgraph is linear in what the estimator says, so the cost of a network stays a sum over its
subgraphs and the cost of a space a sum of tables.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from chipfit.errors import InvalidInput
from chipfit.estimate.regress import Prediction
from chipfit.estimate.rows import Floats, Rows
from chipfit.graph.workload import WORKLOAD_KINDS
from chipfit.measure.measurement import Source

EXTRAS = ("subgraph", "mac", "element", "parameter")
"""What the board may take time for beside the estimate: each subgraph, MAC, element read or written, and parameter."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """How a board differs from an estimator, learnt from `networks` measured whole networks of `families` families.

    `factors` multiply the estimated latencies, one for each of `WORKLOAD_KINDS`; `extras_s` are seconds for one of
    each of `EXTRAS`. `median_error`, `largest_error` and `spearman` are of networks whose whole family was left out,
    `median_error_before` is that of the estimator as it was. `strength` held the factors together and the extras down.
    Raises `InvalidInput` for figures that cannot be.
    """

    factors: tuple[float, ...]
    extras_s: tuple[float, ...]
    source: Source
    networks: int
    families: int
    strength: float
    median_error: float
    largest_error: float
    spearman: float
    median_error_before: float

    def __post_init__(self) -> None:
        if len(self.factors) != len(WORKLOAD_KINDS) or len(self.extras_s) != len(EXTRAS):
            raise InvalidInput(
                f"a calibration needs {len(WORKLOAD_KINDS)} factors and {len(EXTRAS)} extras, "
                f"got {len(self.factors)} and {len(self.extras_s)}"
            )
        if not all(np.isfinite(value) and value >= 0 for value in (*self.factors, *self.extras_s)):
            raise InvalidInput("factors and extras of a calibration must be finite and not negative")

    def apply(self, rows: Rows, found: Prediction) -> Prediction:
        """The predictions of an estimator for n rows as the board has them; energy and bounds stay the estimator's."""
        factors = np.array(self.factors)[rows.kinds]
        latency_s = factors * found.latency_s + extras(rows) @ np.array(self.extras_s)
        return replace(found, latency_s=latency_s, spread_s=factors * found.spread_s)

    def as_json(self) -> dict[str, Any]:
        """The same as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Calibration:
        """The calibration of a JSON object. Raises `TypeError`, `KeyError` or `InvalidInput` for anything else."""
        given: dict[str, Any] = data | {name: tuple(data[name]) for name in ("factors", "extras_s")}
        given["source"] = Source(**data["source"])
        return cls(**given)


def extras(rows: Rows) -> Floats:
    """How many of each of `EXTRAS` n rows have: (n, extras)."""
    elements = rows["in_elements"] + rows["out_elements"]
    return np.stack([np.ones(len(rows)), rows["macs"], elements, rows["parameters"]], axis=1)
