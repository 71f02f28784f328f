import math

import pytest
import torch
from tests.accuracy.zero_shot.small import images
from torch import nn

from chipfit.accuracy.zero_shot.zen import zen
from chipfit.errors import ScoreFailed


def network(scale: float, *, normalised: bool) -> nn.Module:
    first = nn.Conv2d(3, 4, 3, bias=False)
    with torch.no_grad():
        first.weight.copy_(scale * torch.randn(first.weight.shape, generator=torch.Generator().manual_seed(0)))
    return nn.Sequential(first, *([nn.BatchNorm2d(4)] if normalised else []), nn.ReLU())


@pytest.mark.parametrize("normalised", [False, True])
def test_normalisation_does_not_hide_scales(normalised: bool) -> None:
    """What batch normalisation divides by is given back (Lin et al. 2021, algorithm 1)."""
    one, eight = (zen(network(scale, normalised=normalised), images()) for scale in (1.0, 8.0))
    assert eight - one == pytest.approx(math.log(8), abs=1e-3)


def test_an_input_that_changes_nothing_has_no_zen() -> None:
    with pytest.raises(ScoreFailed, match="does not depend"):
        zen(network(0.0, normalised=False), images())
