"""Times the models that lie beside this file: python3 runner.py

It needs Python 3.8, numpy and one of ai_edge_litert, tflite_runtime, tensorflow (for .tflite files) or onnxruntime (for
.onnx files), and nothing else: copy the folder to the board and start it there. Every model gives one line in
results.csv. Stopped at any point, the same command goes on with the models that are not in it; a model that cannot run
gets a line with the reason.
"""

from __future__ import annotations

import argparse
import csv
import datetime
import functools
import hashlib
import importlib
import importlib.metadata
import math
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any, Callable, NamedTuple  # noqa: UP035 (Python 3.8)

ROUND_S = 0.01
"""Seconds of one round of calls; a call that takes longer is a round."""
AGREEING = 3
"""Rounds that have to agree."""
MOST_ROUNDS = 12
"""Rounds after which a time is taken as it is."""
TOLERANCE = 0.02
"""By how much rounds that agree may differ."""

RESULT_COLUMNS = (
    "file", "latency_us", "median_us", "spread_us", "repeats", "runtime", "version", "device", "date", "sha256",
    "error",
)  # fmt: skip
LITERT = (
    ("ai_edge_litert.interpreter", "ai-edge-litert"),
    ("tflite_runtime.interpreter", "tflite-runtime"),
    ("tensorflow.lite", "tensorflow"),
)
"""Modules that run .tflite files, and the packages that they come in."""

Call = Callable[[], object]


class CannotRun(Exception):
    """A model that a runtime refuses, and why."""


class Runtime(NamedTuple):
    """A runtime of this machine: its package, its version, and what makes one call of a model's bytes and threads."""

    name: str
    version: str
    suffix: str
    opened: Callable[[bytes, int], Call]


class Timing(NamedTuple):
    """Times of one call in seconds. `spread_s` is the standard deviation of the fastest rounds' minima."""

    minimum_s: float
    median_s: float
    spread_s: float
    repeats: int


def timed(call: Call) -> Timing:
    """Times a call in rounds until the fastest three agree: what other programs on the machine take only adds.

    The first two calls do not count: they make memory ready.
    """
    call()
    call()
    times: list[float] = []
    best: list[float] = []
    while len(best) < AGREEING or (best[AGREEING - 1] > best[0] * (1 + TOLERANCE) and len(best) < MOST_ROUNDS):
        own: list[float] = []
        start = end = time.perf_counter()
        while not own or end - start < ROUND_S:
            before = end
            call()
            end = time.perf_counter()
            own.append(end - before)
        times += own
        best = sorted([*best, min(own)])
    mean = sum(best[:AGREEING]) / AGREEING
    deviation = math.sqrt(sum((value - mean) ** 2 for value in best[:AGREEING]) / (AGREEING - 1))
    finest = time.get_clock_info("perf_counter").resolution
    return Timing(best[0], sorted(times)[len(times) // 2], max(deviation, finest), len(times))


def litert_runtime() -> Runtime | None:
    """The first of `LITERT` that is installed."""
    for module, package in LITERT:
        try:
            interpreter = importlib.import_module(module).Interpreter
        except ImportError:
            continue
        return Runtime(package, _version(package), ".tflite", functools.partial(_litert, interpreter))
    return None


def onnx_runtime() -> Runtime | None:
    """ONNX Runtime where it is installed."""
    try:
        library = importlib.import_module("onnxruntime")
    except ImportError:
        return None
    return Runtime("onnxruntime", str(library.__version__), ".onnx", functools.partial(_onnx, library))


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "unknown"


def _litert(interpreter_type: Any, model: bytes, threads: int) -> Call:
    try:
        interpreter = interpreter_type(model_content=model, num_threads=threads)
        interpreter.allocate_tensors()
        for place in interpreter.get_input_details():
            interpreter.set_tensor(place["index"], noise(place["shape"], place["dtype"]))
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise CannotRun(" ".join(str(error).split())) from None
    return interpreter.invoke


def _onnx(library: Any, model: bytes, threads: int) -> Call:
    options = library.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    try:
        session = library.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        inputs = {item.name: noise([_size(size) for size in item.shape], "float32") for item in session.get_inputs()}
        session.run(None, inputs)
    except Exception as error:  # the runtime's own errors have no other base
        raise CannotRun(" ".join(str(error).split())) from None
    return lambda: session.run(None, inputs)


def _size(size: object) -> int:
    return size if isinstance(size, int) else 1


def noise(shape: Any, dtype: Any) -> Any:
    """Numbers that no runtime can take a short cut for."""
    import numpy as np

    generator, kind = np.random.default_rng(0), np.dtype(dtype)
    if kind.kind in "iu":
        limits = np.iinfo(kind)
        return generator.integers(max(limits.min, -128), min(limits.max, 127), shape, kind, endpoint=True)
    return generator.standard_normal(shape).astype(kind)


def _done(results: Path) -> set[str]:
    """Files that have a line in the results; a line that was cut off when the machine stopped is removed."""
    if not results.exists():
        with results.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerow(RESULT_COLUMNS)
        return set()
    content = results.read_bytes()
    if not content.endswith(b"\n"):
        results.write_bytes(content[: content.rfind(b"\n") + 1])
    with results.open(newline="", encoding="utf-8") as file:
        return {row["file"] for row in csv.DictReader(file)}


def _line(folder: Path, name: str, digest: str, runtime: Runtime, options: argparse.Namespace) -> list[object]:
    today = datetime.date.today().isoformat()
    found, why, actual = None, "", digest
    try:
        model = (folder / name).read_bytes()
        actual = hashlib.sha256(model).hexdigest()
        if actual != digest:
            raise CannotRun("the file is not the one that was planned: copy it again")
        found = timed(runtime.opened(model, options.threads))
    except (CannotRun, OSError, MemoryError) as error:
        why = " ".join(str(error).split()) or type(error).__name__
    figures = [f"{value * 1e6:.4f}" for value in found[:3]] if found else ["", "", ""]
    repeats = found.repeats if found else 0
    return [name, *figures, repeats, runtime.name, runtime.version, options.device, today, actual, why]


def run(folder: Path, runtime: Runtime, options: argparse.Namespace) -> None:
    """Times all models of the folder's manifest that have no line in its results, and those of `options.again`."""
    results, running = folder / "results.csv", folder / "running.txt"
    with (folder / "manifest.csv").open(newline="", encoding="utf-8") as file:
        digests = {row["file"]: row["sha256"] for row in csv.DictReader(file) if row["file"].endswith(runtime.suffix)}
    done = _done(results) - set(options.again)
    left = [name for name in digests if name not in done]
    crashed = running.read_text(encoding="utf-8") if running.exists() else ""
    with results.open("a", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for place, name in enumerate(left, start=1):
            if name == crashed:
                why = "the process ended while this model ran"
                today = datetime.date.today().isoformat()
                line = [name, "", "", "", 0, *runtime[:2], options.device, today, digests[name], why]
            else:
                running.write_text(name, encoding="utf-8")
                line = _line(folder, name, digests[name], runtime, options)
            writer.writerow(line)
            file.flush()
            os.fsync(file.fileno())
            outcome = f"failed: {line[-1]}" if line[-1] else f"{line[1]} us"
            print(f"{place}/{len(left)} {name}: {outcome}", flush=True)
    if running.exists():
        running.unlink()


def main() -> int:
    """Runs the command line."""
    parser = argparse.ArgumentParser(description="Times the models that lie beside this file.")
    parser.add_argument("--threads", type=int, default=1, help="threads that the runtime may use")
    parser.add_argument("--device", default=platform.node() or platform.machine(), help="name of the board")
    parser.add_argument("--format", choices=("tflite", "onnx"), help="default: tflite where its runtime is installed")
    parser.add_argument("--again", nargs="*", default=[], metavar="FILE", help="models to time once more")
    options = parser.parse_args()
    runtime = None if options.format == "onnx" else litert_runtime()
    if runtime is None and options.format != "tflite":
        runtime = onnx_runtime()
    if runtime is None:
        print("runner: no runtime here: install ai-edge-litert, tflite-runtime or onnxruntime", file=sys.stderr)
        return 2
    print(f"{runtime.name} {runtime.version}, {options.threads} thread(s), on {options.device}")
    run(Path(__file__).resolve().parent, runtime, options)
    return 0


if __name__ == "__main__":
    sys.exit(main())
