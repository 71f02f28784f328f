import pytest
import torch
from tests.accuracy.zero_shot.small import images, residual
from torch import Tensor, nn

from chipfit.accuracy.zero_shot.blocks import block_ends
from chipfit.accuracy.zero_shot.trace import traced


def ends(module: nn.Module) -> list[Tensor]:
    inputs = images().requires_grad_()
    return block_ends(traced(module, inputs), inputs)


@pytest.mark.parametrize("blocks", [0, 1, 3])
def test_a_residual_block_ends_where_its_ways_meet(blocks: int) -> None:
    assert len(ends(residual(blocks))) == blocks + 1


def test_a_chain_ends_a_block_at_every_normalisation_in_order() -> None:
    module = nn.Sequential(*(part for _ in range(3) for part in (nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU())))
    found = ends(module)
    assert len(found) == 3
    x = images()
    for place, end in enumerate(found):
        x = module[3 * place + 1](module[3 * place](x))
        torch.testing.assert_close(end, x)
        x = x.relu()
