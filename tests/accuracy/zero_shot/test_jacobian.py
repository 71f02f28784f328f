import numpy as np
import pytest
import torch
from tests.accuracy.zero_shot.small import images, layers
from torch import nn

from chipfit.accuracy.zero_shot.jacobian import jacobian_covariance
from chipfit.errors import ScoreFailed


def test_it_is_of_the_correlations_between_the_samples_gradients() -> None:
    module, batch = layers(), images()
    read = batch.clone().requires_grad_()
    (found,) = torch.autograd.grad(module(read).sum(), [read])
    values = np.linalg.eigvalsh(np.corrcoef(found.flatten(1).double().numpy())).clip(0) + 1e-5
    assert jacobian_covariance(module, batch) == pytest.approx(-(np.log(values) + 1 / values).sum(), rel=1e-3)


def test_a_linear_network_follows_all_samples_alike_and_scores_low() -> None:
    linear = nn.Sequential(nn.Flatten(), nn.Linear(192, 3))
    assert jacobian_covariance(linear, images()) < jacobian_covariance(layers(), images())


def test_an_output_without_the_input_has_no_jacobian() -> None:
    class Constant(nn.Module):
        def forward(self, batch: torch.Tensor) -> torch.Tensor:
            return (batch - batch).mean((2, 3))

    with pytest.raises(ScoreFailed, match="does not depend"):
        jacobian_covariance(Constant(), images())
