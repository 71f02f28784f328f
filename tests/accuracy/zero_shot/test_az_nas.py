import pytest
import torch
from tests.accuracy.zero_shot.small import images, residual
from torch import nn

from chipfit.accuracy.zero_shot.az_nas import complexity, expressivity, progressivity, trainability
from chipfit.accuracy.zero_shot.blocks import block_ends
from chipfit.accuracy.zero_shot.counts import flops
from chipfit.accuracy.zero_shot.features import as_variables, spectral_entropy
from chipfit.accuracy.zero_shot.trace import traced
from chipfit.errors import ScoreFailed


def test_expressivity_sums_and_progressivity_compares_the_entropies_of_blocks() -> None:
    inputs = images().requires_grad_()
    ends = block_ends(traced(residual(), inputs), inputs)
    found = [spectral_entropy(as_variables(end)) for end in ends]
    assert expressivity(residual(), images()) == pytest.approx(sum(found), rel=1e-4)
    assert progressivity(residual(), images()) == pytest.approx(min(found[1] - found[0], found[2] - found[1]), rel=1e-3)


def chain(gain: float) -> nn.Module:
    """Two blocks, the second of which multiplies every channel by `gain`."""
    keep = nn.GroupNorm(1, 3)
    scale = nn.Conv2d(3, 3, 1, bias=False)
    with torch.no_grad():
        scale.weight.copy_(gain * torch.eye(3)[:, :, None, None])
    return nn.Sequential(keep, _Scaled(scale))


class _Scaled(nn.Module):
    def __init__(self, scale: nn.Module) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, batch: torch.Tensor) -> torch.Tensor:
        return torch.add(self.scale(batch), 0.0)


@pytest.mark.parametrize("gain", [0.25, 1.0, 4.0])
def test_trainability_falls_as_gradients_grow_or_vanish(gain: float) -> None:
    found = trainability(chain(gain), images(32))
    assert found == pytest.approx(2 - gain - 1 / gain, abs=0.4 * gain)
    if gain != 1:
        assert found < trainability(chain(1.0), images(32))


def test_complexity_is_multiply_accumulates() -> None:
    assert complexity(residual(), images()) == flops(residual(), images())


@pytest.mark.parametrize("score", [expressivity, progressivity, trainability])
def test_a_network_without_blocks_has_none_of_them(score: object) -> None:
    with pytest.raises(ScoreFailed, match="block"):
        score(nn.Flatten(), images())  # type: ignore[operator]
