import math

import numpy as np
import pytest
import torch
from tests.accuracy.zero_shot.small import images, residual
from torch import nn

from chipfit.accuracy.zero_shot import default, fresh
from chipfit.accuracy.zero_shot.composed import UNREACHED, parts
from chipfit.errors import ScoreFailed
from chipfit.nets.module import GraphModule
from chipfit.nets.network import initialise
from chipfit.spaces.published.nas_bench_201 import CONV1, CONV3, NONE, POOL, SKIP, is_connected, space
from chipfit.testing.scores import check_score

CELLS = [
    (CONV3, NONE, CONV1, NONE, NONE, CONV3),
    (NONE, CONV1, SKIP, CONV3, CONV3, POOL),
    (NONE, NONE, NONE, CONV3, CONV3, CONV1),
]


def test_it_keeps_what_scores_promise() -> None:
    check_score(default, any_order=True)


def test_it_is_the_sum_of_its_parts() -> None:
    found = parts(residual(), images())
    assert found is not None
    assert default(residual(), images()) == found.operators + found.non_linearity + found.topology + found.output


def test_of_the_batch_only_the_shape_counts() -> None:
    assert default(residual(), images(2)) == default(residual(), images(9, seed=3))


@pytest.mark.parametrize("code", CELLS)
def test_what_no_way_reaches_does_not_count(code: tuple[int, ...]) -> None:
    lean, idle = (space(idle=idle, resolution=8).close(code) for idle in (False, True))
    weights = initialise(idle, np.random.default_rng(0))
    small = images(2)
    one = default(GraphModule(lean, {name: weights[name] for name, _ in lean.weights()}), small)
    assert one == pytest.approx(default(GraphModule(idle, weights), small), abs=0.01)
    assert (one == UNREACHED) is not is_connected(code)


def test_a_network_that_reaches_its_output_beats_all_that_do_not() -> None:
    assert default(fresh(space(resolution=8).close((NONE, NONE, POOL, NONE, NONE, NONE))), images(2)) > UNREACHED


def test_more_of_the_same_scores_higher() -> None:
    skips, ones, threes = (fresh(space(resolution=8).close((kind,) * 6)) for kind in (SKIP, CONV1, CONV3))
    scores = [default(module, images(2)) for module in (skips, ones, threes)]
    assert scores[0] < scores[1] < scores[2]


def test_weights_that_are_scaled_before_normalisation_do_not_count() -> None:
    module = residual()
    wanted = default(module, images())
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            if "conv" in name and parameter.ndim == 4:
                parameter.mul_(10)
    assert default(module, images()) == pytest.approx(wanted, abs=0.02)


def test_a_network_without_non_linearities_fails_with_the_reason() -> None:
    with pytest.raises(ScoreFailed, match="non-linearities"):
        default(nn.Conv2d(3, 4, 3), images())
    assert math.isfinite(default(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), images()))


class Overwriting(nn.Module):
    """A residual block as it is often written: what it read is overwritten by the sum and by the activation."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.layers = nn.Sequential(nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3, padding=1))
        self.classifier = nn.Linear(4, 3)

    def forward(self, batch: torch.Tensor) -> tuple[torch.Tensor, str]:
        x = self.stem(batch)
        out = self.layers(x)
        out += x
        return self.classifier(torch.relu(out).mean((2, 3))), "more"


def test_modules_that_overwrite_and_give_several_things_are_scored() -> None:
    assert math.isfinite(default(Overwriting(), images()))
    found = parts(Overwriting(), images())
    assert found is not None
