"""Networks as TFLite files, float and int8, written from the graph itself: names stay, nothing is traced."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

import chipfit
from chipfit.errors import InvalidInput, UnsupportedOperator
from chipfit.files import write_whole
from chipfit.graph.graph import Graph
from chipfit.graph.ops import (
    Activation,
    BatchNorm,
    Concat,
    Constant,
    Conv2d,
    ConvTranspose2d,
    Elementwise,
    GlobalPool,
    LayerNorm,
    Linear,
    MatMul,
    Op,
    Opaque,
    Pad,
    Pool2d,
    Reshape,
    Resize,
    Slice,
    Softmax,
    Transpose,
)
from chipfit.nets.network import Network
from chipfit.nets.tflite import layout_out as layout
from chipfit.nets.tflite import operators_out as operators
from chipfit.nets.tflite.outline import Outline
from chipfit.nets.tflite.program import Program
from chipfit.nets.tflite.quantise import Ranges, quantised
from chipfit.nets.tflite.writer import written

LARGEST_FILE_BYTES = 2**31 - 1
"""What one TFLite file can hold."""

WRITERS: Mapping[type[Op], Callable[[Outline, Any, Any], None]] = {
    Conv2d: operators.convolution,
    ConvTranspose2d: operators.transposed_convolution,
    Linear: operators.linear,
    MatMul: operators.matmul,
    BatchNorm: operators.batch_norm,
    LayerNorm: operators.layer_norm,
    Activation: operators.activation,
    Softmax: operators.softmax,
    Elementwise: operators.elementwise,
    Constant: operators.constant,
    Concat: layout.concat,
    Slice: layout.slice_,
    Pool2d: layout.pool,
    GlobalPool: layout.global_pool,
    Resize: layout.resize,
    Pad: layout.pad,
    Reshape: layout.reshape,
    Transpose: layout.transpose,
}
"""One for every kind in `ops.KINDS`, without `Opaque` (unknown) and `Select` (gone from a closed graph)."""


def export_tflite(network: Network, path: Path, *, ranges: Ranges | None = None) -> tuple[str, ...]:
    """Writes the TFLite file of `tflite_model` and gives the keys of nodes that an int8 file computes in float32.

    Raises what `tflite_model` raises, `StorageFull` where the disk is full.
    """
    program = program_of(network, ranges)
    write_whole(Path(path), _content(program))
    return tuple(program.in_float)


def tflite_model(network: Network, ranges: Ranges | None = None) -> bytes:
    """The network as a TFLite file for one image: int8 in and out with `ranges`, else float32.

    `ranges` says from where to where the numbers of each tensor go, by key, as `activation_ranges` observes. Without
    them a network with quantisation of its own is written as int8 with exactly that. Images are (1, height, width,
    channels) in the file, tensors of other ranks as in the graph; a tensor has the key of the node that gives it, the
    last one where several are written as one. Raises `UnsupportedOperator` naming all nodes that TFLite cannot say,
    `InvalidInput` for an open graph, a tensor without range, or more than one file can hold.
    """
    return _content(program_of(network, ranges))


def program_of(network: Network, ranges: Ranges | None = None) -> Program:
    """What `tflite_model` writes; raises what that raises."""
    if network.graph.decisions:
        raise InvalidInput(f"{network.name}: {len(network.graph.decisions)} decisions are open; close it with a code")
    program = outlined(network)
    if ranges is None and not network.quantisation:
        return program
    return quantised(program, network, ranges)


def outlined(network: Network) -> Program:
    """The network in TFLite's terms, with real numbers."""
    outline = Outline(network)
    needed = _needed(network.graph)
    faults: list[str] = []
    for node in network.graph.nodes:
        if node.key in outline.covered or node.key not in needed:
            continue
        if isinstance(node.op, Opaque):
            faults.append(f"{node.key!r} is {node.op.operator!r}, which chipfit does not know")
            _leave_out(outline, node.key)
            continue
        try:
            WRITERS[type(node.op)](outline, node, node.op)
        except UnsupportedOperator as error:
            faults.append(f"{node.key!r}: {error}")
            _leave_out(outline, node.key)
    if faults:
        raise UnsupportedOperator(
            f"{network.name}: {len(faults)} nodes cannot be exported to TFLite: {'; '.join(faults)}; "
            "replace them with operators that chipfit knows, or cut the network before them"
        )
    for key in network.graph.outputs:
        outline.output(key)
    return outline.program


def _leave_out(outline: Outline, key: str) -> None:
    """Something in the place of a node that cannot be written, so that all others are looked at."""
    outline.constants[key] = np.broadcast_to(np.float32(0), outline.shape(key))


def _needed(graph: Graph) -> set[str]:
    """Tensors that an output needs."""
    needed = set(graph.outputs)
    for node in reversed(graph.nodes):
        if node.key in needed:
            needed.update(node.inputs)
    return needed


def _content(program: Program) -> bytes:
    size = sum(tensor.data.nbytes for tensor in program.tensors.values() if tensor.data is not None)
    if size > LARGEST_FILE_BYTES:
        raise InvalidInput(f"{program.name}: {size} bytes are too many for one TFLite file ({LARGEST_FILE_BYTES})")
    return written(program, f"chipfit {chipfit.__version__}")
