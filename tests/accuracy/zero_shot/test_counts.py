import pytest
from tests.accuracy.zero_shot.small import images

from chipfit.accuracy.zero_shot import fresh
from chipfit.accuracy.zero_shot.counts import flops, parameters
from chipfit.graph.totals import count_macs, count_parameters
from chipfit.nets.zoo import mobilenet_v2, resnet8


@pytest.mark.parametrize("graph", [mobilenet_v2(0.35, 32, 10), resnet8(resolution=32)], ids=["mobile", "residual"])
def test_counts_are_those_of_the_graph(graph: object) -> None:
    module = fresh(graph)  # type: ignore[arg-type]
    batch = images(2, size=32)
    assert parameters(module, batch) == count_parameters(graph)  # type: ignore[arg-type]
    assert flops(module, batch) == count_macs(graph)  # type: ignore[arg-type]
