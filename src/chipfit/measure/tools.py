"""Which tool measures a target."""

from __future__ import annotations

from chipfit.errors import InvalidInput
from chipfit.measure.measurement import Tool
from chipfit.measure.runtimes import runtime
from chipfit.measure.simulator import simulated
from chipfit.measure.vela import Compiler
from chipfit.targets.target import Board, Runtime, Target, Vela


def tool_for(target: Target, precision: str | None = None) -> Tool:
    """What the target's table [tool] says, or the simulator of its description.

    Raises `MissingDependency` for a tool that is not installed, `InvalidInput` for a board, which chipfit cannot reach.
    """
    match target.tool:
        case None:
            return simulated(target, precision)
        case Vela():
            return Compiler(target)
        case Runtime():
            return runtime(target, precision)
        case Board():
            raise InvalidInput(
                f"{target.name} is a board of your own: `chipfit profile {target.name} --plan DIR` writes what to run "
                "there, and --import reads the times back"
            )
