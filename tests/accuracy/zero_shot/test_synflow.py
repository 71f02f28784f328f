import pytest
import torch
from tests.accuracy.zero_shot.small import SIZE, images, layers, residual

from chipfit.accuracy.zero_shot.synflow import synflow


def test_every_layer_carries_the_whole_flow() -> None:
    """Weights times gradients sum to the output in every layer of a network without biases (Tanaka et al. 2020)."""
    module = layers(bias=False)
    first, second = (module[place].weight.detach().double().abs() for place in (1, 3))
    flow = float((second @ first @ torch.ones(3 * SIZE * SIZE, dtype=torch.float64)).sum())
    assert synflow(module, images()) == pytest.approx(2 * flow)


def test_data_and_signs_do_not_count() -> None:
    module = layers()
    wanted = synflow(module, images(seed=1))
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.neg_()
    assert synflow(module, images(samples=4, seed=2)) == wanted


def test_normalisation_is_left_out() -> None:
    module = residual()
    wanted = synflow(module, images())
    with torch.no_grad():
        for name, buffer in module.named_buffers():
            if name.endswith("running_var"):
                buffer.fill_(100.0)
    assert synflow(module, images()) == wanted
