import math

import pytest
import torch
import torch.nn.functional as F
from tests.accuracy.zero_shot.small import images, layers, residual

from chipfit.accuracy.zero_shot.gradients import LABELS
from chipfit.accuracy.zero_shot.zico import zico
from chipfit.errors import InvalidInput


def test_it_is_mean_over_deviation_of_the_two_halves() -> None:
    module, batch = layers(), images()
    labels = torch.randint(3, (4,), generator=torch.Generator().manual_seed(LABELS))
    weights = [module[1].weight, module[3].weight]
    found = [torch.autograd.grad(F.cross_entropy(module(half), labels), weights) for half in batch.chunk(2)]
    wanted = 0.0
    for gradients in zip(*found, strict=True):
        both = torch.stack(gradients)
        ratio = both.abs().mean(0) / both.std(0, correction=0)
        wanted += math.log(float(ratio[torch.isfinite(ratio)].sum()))
    assert zico(module, batch) == pytest.approx(wanted, rel=1e-4)


def test_two_halves_need_four_samples() -> None:
    with pytest.raises(InvalidInput, match="4 samples"):
        zico(residual(), images(3))
