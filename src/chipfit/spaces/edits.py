"""All edits by the short names of study files, and the one order in which they are applied together."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from pydantic import ConfigDict, ValidationError, validate_call

from chipfit.errors import InvalidInput
from chipfit.graph.graph import Graph
from chipfit.spaces.layout import pool_earlier, remove_layout_changes, resize_in_steps, resize_later, shrink_outputs
from chipfit.spaces.operators import factorise_kernels, open_activations, stride_earlier
from chipfit.spaces.sizes import open_depth_multiplier, open_input_size, open_widths
from chipfit.spaces.structure import (
    fuse_inverted_bottlenecks,
    inverted_bottlenecks,
    merge_depthwise_separable,
    open_kernels,
    open_repeats,
    standard_convolutions,
)

__all__ = [
    "SPACE_EDITS",
    "factorise_kernels",
    "fuse_inverted_bottlenecks",
    "inverted_bottlenecks",
    "merge_depthwise_separable",
    "open_activations",
    "open_depth_multiplier",
    "open_input_size",
    "open_kernels",
    "open_repeats",
    "open_space",
    "open_widths",
    "pool_earlier",
    "remove_layout_changes",
    "resize_in_steps",
    "resize_later",
    "shrink_outputs",
    "standard_convolutions",
    "stride_earlier",
]

SPACE_EDITS: Mapping[str, Callable[..., Graph]] = {
    "layout": remove_layout_changes,
    "later": resize_later,
    "steps": resize_in_steps,
    "output": shrink_outputs,
    "pool": pool_earlier,
    "fuse": fuse_inverted_bottlenecks,
    "earlier": stride_earlier,
    "merge": merge_depthwise_separable,
    "standard": standard_convolutions,
    "kernel": open_kernels,
    "factor": factorise_kernels,
    "repeats": open_repeats,
    "activation": open_activations,
    "width": open_widths,
    "depth_multiplier": open_depth_multiplier,
    "input_size": open_input_size,
}
"""Edits by the names of study files, in the order in which `open_space` applies them: layout first, then structure
before sizes, so that widths take in what structure adds, and the depth multiplier last of the widths, so that it scales
what they chose. An earlier stride comes behind fusion, which looks for strides that are closed, and before merging,
which takes strides as they are, and all else that copies convolutions; activations come last of the structure, so that
copies of them follow."""


def open_space(graph: Graph, decisions: Mapping[str, object]) -> Graph:
    """The space that several edits open, applied in the order of `SPACE_EDITS` whatever the order of `decisions`.

    The options of an edit are True for its defaults, a list for its first option (`kernel = [3, 5]`), or a table of
    its arguments (`width = {factors = [1.0, 0.5], divisor = 16}`). Raises `InvalidInput` for an unknown edit, options
    that do not fit it, and what the edits themselves raise.
    """
    if unknown := [name for name in decisions if name not in SPACE_EDITS]:
        raise InvalidInput(f"space: there is no edit {unknown[0]!r}; known are {', '.join(SPACE_EDITS)}")
    for name, edit in SPACE_EDITS.items():
        if name in decisions:
            graph = _apply(graph, name, edit, decisions[name])
    return graph


def _apply(graph: Graph, name: str, edit: Callable[..., Graph], options: object) -> Graph:
    if options is True:
        return edit(graph)
    checked = validate_call(config=ConfigDict(arbitrary_types_allowed=True))(edit)
    try:
        if isinstance(options, Mapping):
            return checked(graph, **options)
        return checked(graph, options)
    except ValidationError as error:
        fault = error.errors()[0]
        where = ".".join(str(part) for part in fault["loc"])
        raise InvalidInput(f"space: {name} = {options!r}: {fault['msg']} ({where})") from None
