"""Networks written as plain models and read back as their users would read them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Literal

from torch import nn

from chipfit.errors import InvalidInput
from chipfit.nets.load import load
from chipfit.nets.network import Network

Format = Literal["onnx", "tflite", "torch"]


def format_of(path: Path) -> Format:
    """The format that a path stands for: .onnx, .tflite, or a folder for PyTorch code. Raises `InvalidInput`."""
    found = {".onnx": "onnx", ".tflite": "tflite", "": "torch"}.get(path.suffix.lower())
    if found is None:
        raise InvalidInput(f"{path}: give a path that ends in .onnx or .tflite, or a folder for PyTorch code")
    return found  # type: ignore[return-value]


def written(network: Network, path: Path, format: Format) -> Network:
    """Writes a network (TFLite in float32) and reads it back. Raises what the exporters raise."""
    if format == "onnx":
        from chipfit.nets.onnx.exporter import export_onnx

        export_onnx(network, path)
        return load(path)
    if format == "tflite":
        from chipfit.nets.tflite.exporter import export_tflite

        export_tflite(network, path)
        return load(path)
    from chipfit.nets.pytorch.exporter import export_torch

    return load(plain_module(export_torch(network, path)), input_shape=network.graph.inputs[0].shape)


def plain_module(path: Path) -> nn.Module:
    """The PyTorch module that an exported `model.py` gives, as its user would load it."""
    spec = importlib.util.spec_from_file_location("exported_model", path)
    if spec is None or spec.loader is None:
        raise InvalidInput(f"{path} cannot be imported; give a folder that Python can read")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load()
