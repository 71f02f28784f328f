"""Ways to measure subgraphs on a target."""

from chipfit.measure.measurement import Failure, Measure, Measurement, Part, Run, Source, Tool
from chipfit.measure.simulator import (
    Columns,
    Simulated,
    Simulation,
    simulate,
    simulate_columns,
    simulated,
    simulator,
    workload_columns,
)
from chipfit.measure.specimen import Specimen
from chipfit.measure.tools import tool_for

__all__ = [
    "Columns",
    "Failure",
    "Measure",
    "Measurement",
    "Part",
    "Run",
    "Simulated",
    "Simulation",
    "Source",
    "Specimen",
    "Tool",
    "simulate",
    "simulate_columns",
    "simulated",
    "simulator",
    "tool_for",
    "workload_columns",
]
