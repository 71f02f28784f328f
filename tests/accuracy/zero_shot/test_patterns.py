import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tests.accuracy.zero_shot.small import images, layers, residual
from torch import nn

from chipfit.accuracy.zero_shot.patterns import SAMPLES, count_patterns, naswot, swap
from chipfit.accuracy.zero_shot.trace import traced
from chipfit.errors import ScoreFailed


@given(st.integers(0, 2**31), st.integers(1, SAMPLES))
def test_patterns_are_counted_as_a_set_of_them_is(seed: int, samples: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    tensors = [torch.randn(samples, 7, generator=generator), torch.randn(samples, 2, 5, generator=generator)]
    columns = np.concatenate([(tensor.reshape(samples, -1) > 0).numpy() for tensor in tensors], axis=1)
    assert count_patterns(tensors) == len({tuple(column) for column in columns.T})


def test_naswot_counts_units_that_pairs_switch_alike() -> None:
    module, batch = layers(), images()
    (read,) = traced(module, batch).bent
    on = (read > 0).int().numpy()
    alike = np.array([[(one == other).sum() for other in on] for one in on], dtype=float)
    sign, wanted = np.linalg.slogdet(alike)
    if sign > 0:
        assert naswot(module, batch) == pytest.approx(wanted, abs=1e-6)
    assert naswot(residual(), batch) > 0


def test_samples_that_nothing_tells_apart_have_no_naswot() -> None:
    with pytest.raises(ScoreFailed, match="apart"):
        naswot(residual(), torch.zeros(4, 3, 8, 8))


def test_a_wider_network_shows_more_patterns() -> None:
    def network(width: int) -> nn.Module:
        torch.manual_seed(0)
        return nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), nn.Conv2d(width, width, 3), nn.ReLU())

    with torch.random.fork_rng(devices=[]):
        counts = [swap(network(width), images()) for width in (1, 4, 16)]
    assert counts[0] < counts[1] < counts[2]


@pytest.mark.parametrize("score", [naswot, swap])
def test_without_non_linearities_there_is_no_score(score: object) -> None:
    with pytest.raises(ScoreFailed, match="non-linearities"):
        score(nn.Conv2d(3, 4, 3), images())  # type: ignore[operator]
