"""TFLite files at work: LiteRT runs them on this machine, on real numbers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput, MissingDependency
from chipfit.nets.tflite.program import TO_FILE, TO_GRAPH

Array = NDArray[np.float32]


def run_tflite(model: bytes | Path, *inputs: Array) -> list[Array]:
    """Outputs of a TFLite file, (n, …) each, for `inputs` of n images or vectors, (n, …) each; they run one by one.

    Numbers are real: quantised on the way in and back on the way out, by the scales in the file. Images are (n,
    channels, height, width) here, (1, height, width, channels) in the file. Raises `MissingDependency` without LiteRT,
    `InvalidInput` for a file that it cannot run and inputs that do not fit.
    """
    interpreter = _interpreter(model)
    places, results = interpreter.get_input_details(), interpreter.get_output_details()
    if len(places) != len(inputs):
        raise InvalidInput(f"the file has {len(places)} inputs, got {len(inputs)}")
    collected: list[list[Array]] = [[] for _ in results]
    turned = [_ordered(array, TO_FILE) for array in inputs]
    for place, array in zip(places, turned, strict=True):
        if tuple(place["shape"][1:]) != array.shape[1:]:
            raise InvalidInput(f"input {place['name']!r} has shape {tuple(place['shape'].tolist())}, got {array.shape}")
    for number in range(len(inputs[0])):
        for place, array in zip(places, turned, strict=True):
            interpreter.set_tensor(place["index"], _stored(array[number : number + 1], place))
        interpreter.invoke()
        for outputs, result in zip(collected, results, strict=True):
            outputs.append(_real(interpreter.get_tensor(result["index"]), result))
    return [_ordered(np.concatenate(outputs), TO_GRAPH) for outputs in collected]


def _interpreter(model: bytes | Path) -> Any:
    try:
        from ai_edge_litert.interpreter import Interpreter
    except ImportError:
        raise MissingDependency(
            "running a TFLite file needs LiteRT; install it with: pip install 'chipfit[litert]'"
        ) from None
    try:
        content = model if isinstance(model, bytes) else model.read_bytes()
    except OSError as error:
        raise InvalidInput(f"cannot read {model}: {error.strerror}; give a .tflite file") from None
    try:
        interpreter = Interpreter(model_content=content, num_threads=1)
        interpreter.allocate_tensors()
    except (RuntimeError, ValueError) as error:
        name = "the model" if isinstance(model, bytes) else str(model)
        raise InvalidInput(f"LiteRT cannot run {name}: {' '.join(str(error).split())}") from None
    return interpreter


def _ordered(array: Array, order: tuple[int, ...]) -> Array:
    return array.transpose(order) if array.ndim == 4 else array


def _stored(array: Array, place: Any) -> NDArray[Any]:
    if place["dtype"] == np.float32:
        return np.ascontiguousarray(array, np.float32)
    scale, point = place["quantization"]
    limits = np.iinfo(place["dtype"])
    return np.clip(np.round(array / scale) + point, limits.min, limits.max).astype(place["dtype"])


def _real(array: NDArray[Any], place: Any) -> Array:
    if place["dtype"] == np.float32:
        return array.copy()
    scale, point = place["quantization"]
    return ((array.astype(np.float32) - point) * np.float32(scale)).astype(np.float32)
