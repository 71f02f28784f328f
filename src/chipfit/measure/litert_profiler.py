"""What every operator takes inside a network that LiteRT runs: its profiler, through its C interface.

The layout of an event in memory is no promise of that interface, so only versions are asked whose layout is known.
XNNPACK, which runs most operators, rounds its times down to whole microseconds.
"""

from __future__ import annotations

import ctypes
import importlib.util
import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import MissingDependency
from chipfit.measure.board_runner import CannotRun

PACKAGE = "ai-edge-litert"
KNOWN_VERSIONS = ("2.3.0",)
"""Versions whose events are known to lie in memory as `_Event` has them."""

OPERATOR, IN_DELEGATE = 1 << 1, 1 << 3
"""Kinds of event: an operator that LiteRT runs itself, and one that a delegate runs."""
CPU = 1
WRITE = 1

Handle = ctypes.c_void_p


class _Memory(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int64) for name in ("footprint", "allocated", "in_use")]


class _Event(ctypes.Structure):
    _fields_ = [
        ("tag", ctypes.c_char_p),
        ("kind", ctypes.c_int),
        ("start_us", ctypes.c_uint64),
        ("elapsed_us", ctypes.c_uint64),
        ("before", _Memory),
        ("after", _Memory),
        ("place", ctypes.c_uint64),
        ("more", ctypes.c_uint64),
        ("source", ctypes.c_int),
    ]


class _Layout(ctypes.Structure):
    _fields_ = [("rank", ctypes.c_uint32), ("sizes", ctypes.c_int32 * 8), ("strides", ctypes.c_uint32 * 8)]


class _TensorType(ctypes.Structure):
    _fields_ = [("element", ctypes.c_int), ("layout", _Layout)]


@dataclass(frozen=True, slots=True)
class Event:
    """An operator in one call: the name that the runtime has for it, its place among the operators of the file (None
    where XNNPACK ran it, which does not tell), and whole microseconds."""

    tag: str
    place: int | None
    elapsed_us: int


@ctypes.CFUNCTYPE(None, ctypes.c_void_p)
def _kept(_: int) -> None:
    """Options are text that Python owns: nothing to free."""


@contextmanager
def profiled(model: bytes, inputs: Sequence[NDArray[Any]], threads: int) -> Generator[Callable[[], list[Event]]]:
    """A .tflite file made ready: every call runs it once and gives its operators in the order of execution.

    `inputs` are what the file's inputs are filled with. The file must come from `nets.tflite`: a damaged one ends the
    process, and so may a version of LiteRT that `known_version` refuses. Raises `CannotRun` for a file that it refuses.
    """
    library, environment = _library()
    freed: list[tuple[Any, Handle]] = []
    try:
        with _quietly():
            compiled, buffers = _opened(library, environment, model, inputs, threads, freed)
        profiler = Handle()
        _done(library.LiteRtCompiledModelGetProfiler(compiled, ctypes.byref(profiler)), "profiler")

        def call() -> list[Event]:
            _done(library.LiteRtStartProfiler(profiler), "profiling")
            _done(library.LiteRtRunCompiledModel(compiled, ctypes.c_size_t(0), *buffers), "call")
            _done(library.LiteRtStopProfiler(profiler), "profiling")
            found = _events(library, profiler)
            _done(library.LiteRtResetProfiler(profiler), "profiling")
            return found

        yield call
    finally:
        for free, handle in reversed(freed):
            free(handle)


def known_version(package: str, version: str) -> None:
    """Raises `MissingDependency` for a runtime whose profiler is not known."""
    if package != PACKAGE or version not in KNOWN_VERSIONS:
        known = " or ".join(KNOWN_VERSIONS)
        raise MissingDependency(
            f"operators are measured in their place with {PACKAGE} {known}; here is {package} {version}; "
            f"install it with: pip install '{PACKAGE}=={KNOWN_VERSIONS[-1]}'"
        )


@cache
def _library() -> tuple[Any, Handle]:
    """LiteRT's library with an environment of its own; opened once, as an environment registers the machine's chips."""
    found = importlib.util.find_spec("ai_edge_litert")
    if found is None or found.origin is None:
        raise CannotRun(f"{PACKAGE} is not installed")
    with _quietly():
        library = ctypes.CDLL(str(Path(found.origin).parent / "libLiteRt.so"))
        environment = Handle()
        _done(library.LiteRtCreateEnvironment(0, None, ctypes.byref(environment)), "environment")
    return library, environment


@contextmanager
def _quietly() -> Generator[None]:
    """What LiteRT says of accelerators that it does not find goes nowhere."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def _done(status: int, step: str) -> None:
    if status:
        raise CannotRun(f"LiteRT gives up at its {step} with status {status}")


def _opened(
    library: Any,
    environment: Handle,
    model: bytes,
    inputs: Sequence[NDArray[Any]],
    threads: int,
    freed: list[tuple[Any, Handle]],
) -> tuple[Handle, list[object]]:
    """The compiled file and the arguments of a call; what must be freed is added to `freed` as it comes."""

    def made(kind: str, create: Any, *arguments: object) -> Handle:
        handle = Handle()
        _done(create(*arguments, ctypes.byref(handle)), kind)
        freed.append((getattr(library, f"LiteRtDestroy{kind}"), handle))
        return handle

    options = made("Options", library.LiteRtCreateOptions)
    _done(library.LiteRtSetOptionsHardwareAccelerators(options, CPU), "processor")
    texts = {"runtime_options_string": "enable_profiling = true\n", "xnnpack": f"num_threads = {threads}\n"}
    kept = {name: ctypes.create_string_buffer(text.encode()) for name, text in texts.items()}
    for name, text in kept.items():
        opaque = Handle()
        _done(
            library.LiteRtCreateOpaqueOptions(name.encode(), ctypes.cast(text, Handle), _kept, ctypes.byref(opaque)),
            "options",
        )
        _done(library.LiteRtAddOpaqueOptions(options, opaque), "options")
    size = ctypes.c_size_t(len(model))
    file = made("Model", library.LiteRtCreateModelFromBuffer, environment, ctypes.c_char_p(model), size)
    compiled = made("CompiledModel", library.LiteRtCreateCompiledModel, environment, file, options)
    signature = Handle()
    _done(library.LiteRtGetModelSignature(file, ctypes.c_size_t(0), ctypes.byref(signature)), "signature")
    arguments: list[object] = []
    for side in ("Input", "Output"):
        count = ctypes.c_size_t()
        _done(getattr(library, f"LiteRtGetNumSignature{side}s")(signature, ctypes.byref(count)), "signature")
        buffers = [
            made("TensorBuffer", *_buffer(library, environment, compiled, signature, side, ctypes.c_size_t(place)))
            for place in range(count.value)
        ]
        if side == "Input":
            for buffer, array in zip(buffers, inputs, strict=True):
                _fill(library, buffer, array)
        arguments += [count, (Handle * count.value)(*buffers)]
    return compiled, arguments


def _buffer(
    library: Any, environment: Handle, compiled: Handle, signature: Handle, side: str, place: ctypes.c_size_t
) -> tuple[object, ...]:
    """What makes a buffer for an input or output, and its arguments."""
    tensor, kind, needed = Handle(), _TensorType(), Handle()
    by_index = getattr(library, f"LiteRtGetSignature{side}TensorByIndex")
    _done(by_index(signature, place, ctypes.byref(tensor)), "tensors")
    _done(library.LiteRtGetRankedTensorType(tensor, ctypes.byref(kind)), "tensors")
    requirements = getattr(library, f"LiteRtGetCompiledModel{side}BufferRequirements")
    _done(requirements(compiled, ctypes.c_size_t(0), place, ctypes.byref(needed)), "tensors")
    return library.LiteRtCreateManagedTensorBufferFromRequirements, environment, ctypes.byref(kind), needed


def _fill(library: Any, buffer: Handle, array: NDArray[Any]) -> None:
    size, memory = ctypes.c_size_t(), Handle()
    _done(library.LiteRtGetTensorBufferPackedSize(buffer, ctypes.byref(size)), "inputs")
    if size.value != array.nbytes:
        raise CannotRun(f"an input takes {size.value} bytes, not {array.nbytes}")
    _done(library.LiteRtLockTensorBuffer(buffer, ctypes.byref(memory), WRITE), "inputs")
    ctypes.memmove(memory, np.ascontiguousarray(array).ctypes.data, array.nbytes)
    _done(library.LiteRtUnlockTensorBuffer(buffer), "inputs")


def _events(library: Any, profiler: Handle) -> list[Event]:
    count = ctypes.c_int()
    _done(library.LiteRtGetNumProfilerEvents(profiler, ctypes.byref(count)), "events")
    events = (_Event * count.value)()
    _done(library.LiteRtGetProfilerEvents(profiler, count, events), "events")
    return [
        Event(event.tag.decode(), event.place if event.kind == OPERATOR else None, event.elapsed_us)
        for event in events
        if event.kind in (OPERATOR, IN_DELEGATE)
    ]
