"""What operators are called where one function of a workload kind is meant: "activation.sqrt", "copy.concat"."""

from __future__ import annotations

from collections.abc import Mapping

from chipfit.graph.ops import ACTIVATIONS, ELEMENTWISE, POOLS
from chipfit.graph.values import Value
from chipfit.graph.workload import RESIZES

FUNCTIONS: Mapping[str, tuple[str, ...]] = {
    "pool": POOLS,
    "elementwise": ELEMENTWISE,
    "activation": ACTIVATIONS,
    "normalisation": ("batch_norm", "layer_norm"),
    "resize": RESIZES,
    "copy": ("concat", "slice", "pad", "transpose"),
}
"""The functions that share a workload kind, in the order in which `workload.function_number` counts them."""

FUNCTION_NAMES = tuple(f"{kind}.{name}" for kind, names in FUNCTIONS.items() for name in names)


def function_name(kind: str, function: Value) -> str:
    """The name of a workload's function with its kind; the kind alone where it has one function only."""
    return f"{kind}.{FUNCTIONS[kind][int(function)]}" if kind in FUNCTIONS else kind  # type: ignore[arg-type]
