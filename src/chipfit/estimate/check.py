"""An estimate beside what the target's own tool says of the same network."""

from __future__ import annotations

from dataclasses import dataclass

from chipfit.errors import InvalidInput
from chipfit.estimate.estimator import Estimator
from chipfit.measure.measurement import Failure, Measurement, Run
from chipfit.measure.tools import tool_for
from chipfit.nets.network import Network


@dataclass(frozen=True, slots=True)
class Check:
    """A network's predicted and measured costs; `elsewhere` names subgraphs that ran on another processor."""

    target: str
    predicted_s: float
    predicted_bytes: int
    measured: Measurement
    elsewhere: tuple[str, ...]


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
