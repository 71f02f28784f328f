import numpy as np
import pytest
import torch
from tests.accuracy.zero_shot.small import images
from torch import nn

from chipfit.accuracy.zero_shot.meco import meco
from chipfit.errors import ScoreFailed


def test_it_is_the_sum_of_least_eigenvalues_of_correlations() -> None:
    first, second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 5, 3)
    one = first(images())
    maps = [one, second(one.relu())]
    wanted = 0.0
    for tensor in maps:
        rows = tensor.detach().movedim(1, 0).flatten(1).double().numpy()
        wanted += np.linalg.eigvalsh(np.corrcoef(rows))[0]
    assert meco(nn.Sequential(first, nn.ReLU(), second), images()) == pytest.approx(wanted, rel=1e-3)


def test_channels_that_repeat_bring_nothing() -> None:
    layer = nn.Conv2d(3, 2, 3)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter[1] = parameter[0]
    assert meco(layer, images()) == pytest.approx(0, abs=1e-5)


def test_without_layers_there_is_no_score() -> None:
    with pytest.raises(ScoreFailed, match="convolutions"):
        meco(nn.Flatten(), images())
