"""Arm Ethos-U through its compiler, Vela: cycles per operator of files that are compiled in processes of their own.

A damaged file can end the compiler's process, and the compiler never gives the interpreter back while it works: hence
the pool, in which one bad file costs one process and one result.
"""

from __future__ import annotations

import configparser
import importlib.metadata
import importlib.resources
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any, TypeVar

import numpy as np

from chipfit.errors import InvalidInput, MissingDependency, UnsupportedOperator
from chipfit.graph.graph import Graph
from chipfit.measure.measurement import Failure, Measurement, Part, Run, Source
from chipfit.measure.specimen import NAME, Largest, Specimen, integer_weights, ranges_of
from chipfit.measure.subgraphs import subgraphs_of
from chipfit.nets.network import Network
from chipfit.targets.target import Target, Vela

PRODUCTS = {"55": "EthosU55", "65": "EthosU65", "85": "EthosU85"}

NO_LIMIT = 1 << 32
"""Bytes of on-chip memory where the memory mode sets no limit: all that the accelerator can address."""

LEAST_CYCLES = 64
"""What an operator counts that costs nothing, as tensors that are put side by side in place."""

HOST = "Passthrough"
"""What the compiler calls an operator that it leaves to the host's processor."""

LONGEST_S = 300.0
"""Seconds after which a compilation is given up."""

BATCH = 8
"""Files that a process compiles at a time."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Compiler:
    """Vela for one target: a `measure.Tool`. `workers` processes compile side by side (None: one per core).

    Raises `MissingDependency` where the compiler is not installed, `InvalidInput` for a target that it does not know.
    """

    target: Target
    workers: int | None = None
    seed: int = 0
    largest: Largest = Largest(1 << 23, 1_000_000)  # noqa: RUF009 (frozen)
    budget: int = 4_000
    whole: int = 450

    def __post_init__(self) -> None:
        if self.version is None:
            raise MissingDependency(
                f"target {self.target.name} is measured with Vela, which is not installed; "
                "install it with: pip install 'chipfit[ethos-u]'"
            )
        if not isinstance(self.target.tool, Vela):
            raise InvalidInput(f'target {self.target.name} has no table [tool] with kind = "vela"; add one')
        settings(self.target.tool)

    @cached_property
    def version(self) -> str | None:
        """The installed version of the compiler, None where there is none."""
        return installed()

    @cached_property
    def source(self) -> Source:
        """The compiler and its version: the same file costs other cycles in another version."""
        return Source("simulated", "ethos-u-vela", self.version or "")

    def subgraphs(self, specimens: Sequence[Specimen]) -> list[Part | Failure]:
        """The specimens' own rows, compiled between their neighbours."""
        jobs = [(item, self.seed + number) for number, item in enumerate(specimens)]
        return self._all(partial(_specimens, self.target, self.source), jobs)

    def networks(self, models: Sequence[Graph | Network], sigma: float = 40.0) -> list[Run | Failure]:
        """Whole networks, with weights of their own or normal ones with standard deviation `sigma` in integer steps."""
        jobs = [(graph, sigma, self.seed + number) for number, graph in enumerate(models)]
        return self._all(partial(_networks, self.target, self.source), jobs)

    def _all(self, work: Callable[[list[T]], list[R]], jobs: Sequence[T]) -> list[R | Failure]:
        from pebble import ProcessExpired, ProcessPool

        found: list[R | Failure] = []
        batches = [list(jobs[start : start + BATCH]) for start in range(0, len(jobs), BATCH)]
        again: list[tuple[int, T]] = []
        with ProcessPool(max_workers=self.workers or os.cpu_count() or 1, initializer=_silent) as pool:
            running = [pool.schedule(work, args=(batch,), timeout=LONGEST_S) for batch in batches]
            for batch, future in zip(batches, running, strict=True):
                try:
                    found += future.result()
                except (ProcessExpired, TimeoutError):
                    again += [(len(found) + place, job) for place, job in enumerate(batch)]
                    found += [Failure("not compiled")] * len(batch)
            single = [(place, pool.schedule(work, args=([job],), timeout=LONGEST_S)) for place, job in again]
            for place, future in single:
                try:
                    found[place] = future.result()[0]
                except ProcessExpired as error:
                    found[place] = Failure(f"the compiler died with exit code {error.exitcode}")
                except TimeoutError:
                    found[place] = Failure(f"the compiler took longer than {LONGEST_S:.0f} s")
        return found


def _silent() -> None:
    """What the compiler prints of its own goes nowhere: standard output belongs to results."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)


def installed() -> str | None:
    """The installed version of the compiler, None where there is none."""
    try:
        return importlib.metadata.version("ethos-u-vela")
    except importlib.metadata.PackageNotFoundError:
        return None


@cache
def _configuration() -> tuple[str, configparser.ConfigParser]:
    """The compiler's configuration file, as it is and read."""
    text = (importlib.resources.files("ethosu") / "config_files" / "Arm" / "vela.ini").read_text()
    known = configparser.ConfigParser(inline_comment_prefixes=(";",))
    known.read_string(text)
    return text, known


def settings(tool: Vela) -> tuple[str, str, str]:
    """Product, system configuration and options in the words of the compiler.

    Raises `InvalidInput` for a system configuration or memory mode that its configuration file does not have.
    """
    text, known = _configuration()
    for key, section in (("system_config", "System_Config"), ("memory_mode", "Memory_Mode")):
        if f"{section}.{getattr(tool, key)}" not in known:
            names = ", ".join(name.partition(".")[2] for name in known.sections() if name.startswith(section))
            raise InvalidInput(f"tool.{key} = {getattr(tool, key)!r}: the compiler knows {names}")
    _, product, macs = tool.accelerator.split("-")
    cores = 2 if tool.accelerator == "ethos-u65-512" else 1
    mode = known[f"Memory_Mode.{tool.memory_mode}"]
    arena = tool.arena_bytes or int(mode.get("arena_cache_size", str(NO_LIMIT)))
    system = (
        f"[architecture]\nmacs={int(macs) // cores}\ncores={cores}\n[vela]\n"
        f"system_config_name={tool.system_config}\nmemory_mode_name={tool.memory_mode}\n{text}"
    )
    options = f"[compiler]\nenable_db=true\n[scheduler]\noptimize=Performance\narena_size_limit={arena}\n"
    return PRODUCTS[product.removeprefix("u")], system, options


@dataclass(frozen=True, slots=True)
class Row:
    """One operator of a compiled file: the name of the tensor that it gives, whether the accelerator runs it, and its
    cycles."""

    tensor: str
    here: bool
    cycles: int


@dataclass(frozen=True, slots=True)
class Report:
    """What the compiler says of a file."""

    rows: tuple[Row, ...]
    cycles: int
    memory_bytes: Mapping[str, int]
    encoded_weight_bytes: int


def compiled(tool: Vela, model: bytes, operations: Sequence[str]) -> Report:
    """Compiles a TFLite file in this process; `operations` are the names of its operators' outputs, in order.

    A file that does not come from `nets.tflite` should not be given: a damaged one ends the process.
    """
    from ethosu import regor

    product, system, options = settings(tool)
    result: Any = regor.compile(product, model, "TFLITE", system, options=options, verbose=False)
    tables = result.opt_database.tables
    origin = {row["id"]: int(row["ext_key"]) for row in _rows(tables.get("source"))}
    rows: list[Row] = []
    for row in _rows(tables.get("perf")):
        place = origin.get(row["source_id"], -1)
        tensor = operations[place] if 0 <= place < len(operations) else row["name"]
        rows.append(Row(tensor, row["operator"] != HOST, int(row["op_cycles"])))
    report = result.perf_report
    memory = {str(name): int(part.peakUsage) for name, part in report.memories.items()}
    return Report(tuple(rows), int(report.totalCycles), memory, int(report.encodedWeights))


def _rows(table: Any) -> Iterator[dict[str, str]]:
    if table is not None:
        for row in table.data:
            yield dict(zip(table.header, row, strict=False))


def _specimens(target: Target, source: Source, jobs: Sequence[tuple[Specimen, int]]) -> list[Part | Failure]:
    return [_specimen(target, source, *job) for job in jobs]


def _specimen(target: Target, source: Source, specimen: Specimen, seed: int) -> Part | Failure:
    found = measured(target, source, specimen.inside, specimen.sigma, seed)
    if isinstance(found, Failure):
        return found
    if any(name == NAME or name == "sum" for name in found.elsewhere):
        return Failure(f"{type(specimen.op).__name__} does not run on {target.name}")
    return found.parts[NAME]


def _networks(
    target: Target, source: Source, jobs: Sequence[tuple[Graph | Network, float, int]]
) -> list[Run | Failure]:
    return [measured(target, source, *job) for job in jobs]


def measured(target: Target, source: Source, model: Graph | Network, sigma: float, seed: int) -> Run | Failure:
    """Compiles a network in this process and shares its cycles out among the subgraphs.

    A graph without weights gets normal ones with standard deviation `sigma` in integer steps, from `seed`.
    """
    from chipfit.nets.tflite.exporter import program_of
    from chipfit.nets.tflite.writer import written

    assert isinstance(target.tool, Vela)
    if isinstance(model, Network):
        network = model
    else:
        network = Network("network", model, integer_weights(model, sigma, np.random.default_rng(seed)))
    try:
        program = program_of(network, None if network.quantisation else ranges_of(network.graph))
    except UnsupportedOperator as error:
        return Failure(str(error))
    operations = [operation.output for operation in program.operations]
    try:
        report = compiled(target.tool, written(program, "chipfit"), operations)
    except RuntimeError as error:
        return Failure(f"the compiler says: {' '.join(str(error).split())}")
    return _run(target, source, network, operations, report)


def _run(target: Target, source: Source, network: Network, operations: Sequence[str], report: Report) -> Run:
    """The report's rows by subgraph. What was put in for a node (a pad, a transposition) belongs to that node."""
    subgraphs = subgraphs_of(network, target)
    owner = {key: part.name for part in subgraphs for key, _ in part.members}
    place, following = {}, ""
    for name in reversed(operations):
        following = owner.get(name, following)
        place[name] = following
    cycles = dict.fromkeys((part.name for part in subgraphs), 0)
    elsewhere: dict[str, None] = {}
    for row in report.rows:
        if (name := place.get(row.tensor, "")) in cycles:
            if not row.here:
                elsewhere[name] = None
            cycles[name] += row.cycles
    clock = target.clock_hz
    parts = {
        part.name: Part(
            part.workload,
            Measurement(max(float(cycles[part.name]), LEAST_CYCLES) / clock, source, cycles[part.name]),
        )
        for part in subgraphs
    }
    whole = Measurement(report.cycles / clock, source, report.cycles, peak_bytes=report.memory_bytes.get("Sram"))
    memory = dict(report.memory_bytes) | {"encoded weights": report.encoded_weight_bytes}
    return Run(whole, parts, memory, tuple(elsewhere))
