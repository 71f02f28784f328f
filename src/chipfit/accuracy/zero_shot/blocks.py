"""The blocks of a network: stretches between tensors that everything passes through."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from chipfit.accuracy.zero_shot.trace import Trace

Step = Any
"""A node of PyTorch's autograd graph: what computed a tensor; its type has no public name."""


def block_ends(trace: Trace, inputs: Tensor) -> list[Tensor]:
    """Feature maps (batch, channels, …) that every way from `inputs` to the output passes, in order.

    They are results of normalisations and additions, so a residual block has one, at its end. `inputs` is what the
    network was traced on and requires gradients.
    """
    maps = [tensor for _, tensor in trace.normalised] + [total.gave for total in trace.sums]
    # The list keeps the steps alive: their identity is what tells them apart.
    known = [(tensor.grad_fn, tensor) for tensor in maps if tensor.grad_fn is not None and tensor.ndim > 2]
    of_step = {id(step): tensor for step, tensor in known}
    ends = [of_step[id(step)] for step in _on_every_way(trace.output.grad_fn, inputs) if id(step) in of_step]
    return ends[::-1]


def _on_every_way(output: Step, inputs: Tensor) -> list[Step]:
    """The steps from the output back to `inputs` that no way between the two avoids."""
    order = steps_behind(output)
    leads: set[int] = set()
    for step in reversed(order):
        if getattr(step, "variable", None) is inputs or any(id(before) in leads for before in steps_before(step)):
            leads.add(id(step))
    order = [step for step in order if id(step) in leads]
    place = {id(step): number for number, step in enumerate(order)}
    found: list[Step] = []
    furthest = 0
    for number, step in enumerate(order):
        if number >= furthest:
            found.append(step)
        furthest = max([furthest, *(place[id(before)] for before in steps_before(step) if id(before) in leads)])
    return found


def steps_before(step: Step) -> list[Step]:
    """The steps whose results a step used."""
    return [before for before, _ in step.next_functions if before is not None]


def steps_behind(output: Step) -> list[Step]:
    """Every step behind the output, each ahead of those that it uses."""
    seen: set[int] = set()
    found: list[Step] = []
    stack: list[tuple[Step, bool]] = [(output, False)] if output is not None else []
    while stack:
        step, done = stack.pop()
        if done:
            found.append(step)
        elif id(step) not in seen:
            seen.add(id(step))
            stack.append((step, True))
            stack.extend((before, False) for before in steps_before(step))
    return found[::-1]
