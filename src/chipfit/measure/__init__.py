"""Ways to measure subgraphs on a target."""

from chipfit.measure.measurement import Measure, Measurement, Source
from chipfit.measure.simulator import Columns, Simulation, simulate, simulate_columns, simulator, workload_columns

__all__ = [
    "Columns",
    "Measure",
    "Measurement",
    "Simulation",
    "Source",
    "simulate",
    "simulate_columns",
    "simulator",
    "workload_columns",
]
