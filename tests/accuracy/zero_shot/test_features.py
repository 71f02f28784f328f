import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from chipfit.accuracy.zero_shot.features import (
    as_variables,
    directions,
    gram,
    least_correlation,
    least_correlations,
    spectral_entropies,
    spectral_entropy,
)
from chipfit.errors import ScoreFailed

seeds = st.integers(0, 2**31)


def rows(seed: int, channels: int = 5, draws: int = 40) -> torch.Tensor:
    found = np.random.default_rng(seed).standard_normal((channels, draws)).cumsum(axis=0)
    return torch.from_numpy(found - found.mean(axis=1, keepdims=True)).float()


@given(seeds)
def test_the_least_correlation_is_numpys(seed: int) -> None:
    found = rows(seed)
    wanted = np.linalg.eigvalsh(np.corrcoef(found.numpy()))[0]
    assert least_correlation(found) == pytest.approx(wanted, abs=1e-4)


@given(seeds)
def test_the_entropy_is_that_of_the_covariances_eigenvalues_and_knows_no_scale(seed: int) -> None:
    found = rows(seed)
    shares = np.linalg.eigvalsh(np.cov(found.numpy()))
    shares = shares / shares.sum()
    assert spectral_entropy(found) == pytest.approx(-(shares * np.log(shares)).sum(), abs=1e-4)
    assert spectral_entropy(1e-3 * found) == pytest.approx(spectral_entropy(found), abs=1e-4)


def test_more_channels_than_draws_have_the_same_entropy_as_their_draws() -> None:
    found = rows(0, channels=60, draws=12)
    assert spectral_entropy(found) == pytest.approx(spectral_entropy(found.T), abs=1e-4)
    assert gram(found).shape == (12, 12)
    assert least_correlation(found) == 0


def test_channels_that_repeat_or_are_constant_leave_nothing() -> None:
    found = rows(1)
    assert least_correlation(torch.cat([found, found[:1]])) == pytest.approx(0, abs=1e-5)
    assert least_correlation(torch.cat([found, torch.zeros(1, 40)])) == 0
    assert spectral_entropy(torch.zeros(3, 9)) == 0
    assert spectral_entropy(found[:1].expand(4, -1)) == pytest.approx(0, abs=1e-4)


@given(st.lists(st.tuples(seeds, st.sampled_from([3, 5, 40])), min_size=1, max_size=6))
def test_many_at_once_are_each_by_itself(drawn: list[tuple[int, int]]) -> None:
    several = [rows(seed, channels, draws=20) for seed, channels in drawn]
    several += [torch.zeros(3, 20), torch.cat([several[0], torch.zeros(1, 20)])]
    found = [directions(each) for each in several]
    assert spectral_entropies(found) == pytest.approx([spectral_entropy(each) for each in several], abs=1e-5)
    assert least_correlations(found) == pytest.approx([least_correlation(each) for each in several], abs=1e-5)
    assert spectral_entropies([]) == least_correlations([]) == []


def test_independent_channels_have_all_directions() -> None:
    found = torch.eye(4).repeat(1, 50)
    assert spectral_entropy(found) == pytest.approx(np.log(4))


@pytest.mark.parametrize("shape", [(6, 5), (6, 7, 5), (6, 5, 3), (6, 5, 4, 2)])
def test_channels_are_variables_for_every_rank(shape: tuple[int, ...]) -> None:
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    channels = shape[2] if len(shape) == 3 else shape[1]
    found = as_variables(features)
    assert found.shape == (channels, features.numel() // channels)
    assert found.mean(1).abs().max() < 1e-6
    few = as_variables(features, most=2 * features[0].numel() // channels)
    assert few.shape[1] == 2 * features[0].numel() // channels


def test_features_that_are_not_finite_have_no_spectrum() -> None:
    with pytest.raises(ScoreFailed, match="not finite"):
        spectral_entropy(torch.full((3, 8), float("nan")))
