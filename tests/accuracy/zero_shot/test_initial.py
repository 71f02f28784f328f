import torch
from tests.accuracy.zero_shot.small import images, residual_graph

from chipfit.accuracy.zero_shot import fresh


def test_the_seed_decides_the_weights() -> None:
    one, same, other = (fresh(residual_graph(), seed).eval()(images()) for seed in (3, 3, 4))
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
