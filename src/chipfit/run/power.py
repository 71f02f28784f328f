"""What a machine draws while it trains, and what a kilowatt-hour emits: CodeCarbon's tables and methods, offline.

Nothing is sent or fetched, no file is written. A counter in the processor (RAPL) or on the GPU (NVML) is read where
there is one. Else the processor counts with its thermal design power times the share of its cores that train, as
CodeCarbon counts a process, with 4 W a core where the processor is in no table; memory counts by its size.
"""

from __future__ import annotations

import contextlib
import csv
import json
import logging
import os
import time
from collections.abc import Generator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

from chipfit.errors import InvalidInput

JOULES_PER_KWH = 3.6e6
RAPL = Path("/sys/class/powercap/intel-rapl/subsystem")
WORLD = "world average"


@dataclass(frozen=True, slots=True)
class Draw:
    """What a machine draws, in W: `processor_w` with all its `cores` (as the system counts them) at work.

    `detail` says where the figures are from.
    """

    processor: str
    cores: int
    processor_w: float
    memory_w: float
    detail: str

    def watts(self, cores: int) -> float:
        """What it draws while so many of its cores train."""
        return self.processor_w * min(1.0, cores / self.cores) + self.memory_w


@dataclass(frozen=True, slots=True)
class Place:
    """Where the electricity is from: what a kWh emits there, in g CO2e."""

    name: str
    g_per_kwh: float
    detail: str


@dataclass(frozen=True, slots=True)
class Spent:
    """Energy that was spent, and where the figure is from: "measured" or "modelled", and by what."""

    energy_j: float
    source: str
    detail: str


@contextlib.contextmanager
def _quiet() -> Generator[None]:
    """CodeCarbon says on standard error what it finds; here the report does."""
    log = logging.getLogger("codecarbon")
    before = log.level
    log.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        log.setLevel(before)


def draw(processor: str | None = None) -> Draw:
    """What this machine draws, or one with another `processor`."""
    with _quiet():
        from codecarbon.core.cpu import DEFAULT_POWER_PER_CORE, TDP
        from codecarbon.external.ram import RAM
        from codecarbon.input import DataSource

        name, cores = processor or _processor(), os.cpu_count() or 1
        with open(DataSource().cpu_power_path, encoding="utf-8") as file:
            # Its own reader of this table takes half a second to load a library for it.
            table = {row["Name"]: row["TDP"] for row in csv.DictReader(file)}
        match = TDP._get_matching_cpu(None, name, {"Name": list(table)})  # type: ignore[arg-type]  # pyright: ignore
        memory_w = float(RAM().total_power().W)
    if match:
        watts, known = float(table[match]), f"thermal design power of {match}, {table[match]} W"
    else:
        watts = float(DEFAULT_POWER_PER_CORE * cores)
        known = f"{name} is in no table: {DEFAULT_POWER_PER_CORE} W for each of {cores} cores"
    detail = f"{known}; memory {memory_w:g} W (codecarbon {version('codecarbon')})"
    return Draw(name, cores, watts, memory_w, detail)


def _processor() -> str:
    """The processor by its own name; on Linux without what CodeCarbon needs a second for."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    for line in lines:
        key, _, value = line.partition(":")
        if key.strip() == "model name" and value.strip():
            return value.strip()
    from codecarbon.core.util import detect_cpu_model

    return detect_cpu_model() or "an unknown processor"


def place(country: str | None) -> Place:
    """What electricity emits in a country (three letters, such as "DEU"), of the world's average for None.

    Raises `InvalidInput` for a country that CodeCarbon has no figure for.
    """
    with _quiet():
        from codecarbon.input import DataSource

        source = DataSource()
        packaged = f"codecarbon {version('codecarbon')}"
        if country is None:
            path = source.carbon_intensity_per_source_path
            known = json.loads(Path(path).read_text(encoding="utf-8"))
            return Place(WORLD, float(known["world_average"]), f"IEA 2019, from {packaged}")
        mixes = json.loads(Path(source.global_energy_mix_data_path).read_text(encoding="utf-8"))
    found = mixes.get(country.upper())
    if found is None or found.get("carbon_intensity") is None:
        raise InvalidInput(
            f"ledger.country = {country!r}: no figure is known; give a country by three letters, such as DEU, or leave "
            "it out for the world's average"
        )
    return Place(str(found["country_name"]), float(found["carbon_intensity"]), f"mix of {found['year']}, {packaged}")


class Meter:
    """Counts the energy that this machine spends from now on, while `cores` of its cores train.

    `gpu` is the index of the GPU that trains, None where none does. Where neither a counter nor a model knows a part,
    the figures leave it out and say so.
    """

    def __init__(self, machine: Draw, cores: int, gpu: int | None = None, rapl: Path = RAPL) -> None:
        self._machine, self._cores, self._gpu, self._rapl = machine, cores, gpu, rapl
        self._begin = self._last = time.monotonic()
        self._counted = {"processor": 0.0, "gpu": 0.0}
        with _quiet():
            for counter in (self._processor, self._graphics):
                if counter is not None:
                    counter.start()

    @property
    def seconds(self) -> float:
        """Time since it was made."""
        return time.monotonic() - self._begin

    @cached_property
    def _processor(self) -> Any:
        """The processor's own counter, None where there is none that can be read."""
        if not self._rapl.exists():
            return None
        from codecarbon.core.cpu import IntelRAPL, is_rapl_available

        return IntelRAPL(rapl_dir=str(self._rapl)) if is_rapl_available(str(self._rapl)) else None

    @cached_property
    def _graphics(self) -> Any:
        """The GPU's own counter, None where there is none that can be read."""
        if self._gpu is None:
            return None
        from codecarbon.core.gpu import AllGPUDevices

        found = AllGPUDevices()
        return found if found.device_count > self._gpu else None

    def read(self) -> Spent:
        """What was spent since it was made. Counters run over: call it more often than every half hour."""
        now = time.monotonic()
        since, self._last = now - self._last, now
        with _quiet():
            self._count(since)
        machine, source = self._machine, "measured"
        if self._processor is not None:
            total_j = self._counted["processor"] + machine.memory_w * self.seconds
            detail = f"processor measured by RAPL, with all that ran on it; memory {machine.memory_w:g} W"
        else:
            total_j, source = machine.watts(self._cores) * self.seconds, "modelled"
            detail = f"{machine.detail}; {min(self._cores, machine.cores)} of {machine.cores} cores at work"
        if self._graphics is not None:
            return Spent(total_j + self._counted["gpu"], source, f"GPU measured by NVML; {detail}")
        if self._gpu is not None:
            return Spent(total_j, "modelled", f"without the GPU, whose counter cannot be read; {detail}")
        return Spent(total_j, source, detail)

    def _count(self, since: float) -> None:
        from codecarbon.core.units import Time

        if self._processor is not None:
            found = self._processor.get_cpu_details(Time.from_seconds(since))
            kwh = sum(value for name, value in found.items() if "Energy" in name)
            self._counted["processor"] += JOULES_PER_KWH * kwh
        if self._graphics is not None:
            for device in self._graphics.get_delta(Time.from_seconds(since)):
                if device["gpu_index"] == self._gpu:
                    self._counted["gpu"] += JOULES_PER_KWH * device["delta_energy_consumption"].kWh
