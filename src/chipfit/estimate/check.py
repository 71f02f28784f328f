"""An estimate beside what the target's own tool says of the same network."""

from __future__ import annotations

from dataclasses import dataclass

from chipfit.errors import InvalidInput
from chipfit.estimate.estimator import Estimator
from chipfit.measure.measurement import Failure, Measurement, Run
from chipfit.measure.tools import tool_for
from chipfit.measure.vela import installed
from chipfit.nets.network import Network
from chipfit.targets.target import Vela


@dataclass(frozen=True, slots=True)
class Check:
    """A network's predicted and measured costs; `elsewhere` names subgraphs that ran on another processor."""

    target: str
    predicted_s: float
    predicted_bytes: int
    measured: Measurement
    elsewhere: tuple[str, ...]


def other_version(estimator: Estimator) -> str | None:
    """What to say where another version of the compiler is installed than the estimator was fitted with, else None."""
    fitted, now = estimator.provenance.source.version, installed()
    if not isinstance(estimator.target.tool, Vela) or now in (None, fitted):
        return None
    return f"the estimator is of ethos-u-vela {fitted}, installed is {now}: versions differ in what they say"


def check(estimator: Estimator, network: Network) -> Check:
    """Measures a closed network with the tool of the estimator's target.

    Raises `MissingDependency` where the tool is not installed, `InvalidInput` where it cannot measure the network.
    """
    tool = tool_for(estimator.target, estimator.precision_name)
    (found,) = tool.networks([network])
    if isinstance(found, Failure):
        raise InvalidInput(f"{network.name}: {estimator.target.name}'s own tool cannot measure it: {found.why}")
    assert isinstance(found, Run)
    costs = estimator.costs(network)
    return Check(
        estimator.target.name, float(costs.latency_s[0]), int(costs.peak_bytes[0]), found.measurement, found.elsewhere
    )
