import numpy as np
import pytest

from chipfit.measure.compression import stored_share

mlw_codec = pytest.importorskip("ethosu.mlw_codec", reason="the encoder that is compared with comes with ethos-u-vela")


def encoded(weights):
    return len(mlw_codec.encode(weights.astype(int).tolist())) / len(weights)


def normal(sigma):
    return np.clip(np.round(np.random.default_rng(1).normal(0, sigma, 20_000)), -127, 127)


@pytest.mark.parametrize("sigma", [1, 3, 7, 11, 18, 27, 40, 60])
def test_normal_weights_take_what_the_encoder_makes_of_them(sigma):
    weights = normal(sigma)
    assert stored_share(weights) == pytest.approx(encoded(weights), rel=0.04)


def test_palettes_and_runs_of_zeros_are_seen():
    generator = np.random.default_rng(2)
    few = generator.choice([-90, -31, 2, 15, 77, 101], 20_000)
    sparse = normal(20) * (generator.random(20_000) < 0.1)
    for weights in (few, sparse):
        assert stored_share(weights) == pytest.approx(encoded(weights), rel=0.05)
        assert stored_share(weights) < 0.5


def test_order_and_shape_do_not_count_and_nothing_grows_much():
    weights = normal(30)
    assert stored_share(weights) == stored_share(np.sort(weights).reshape(100, 20, 10))
    assert stored_share(np.random.default_rng(3).integers(-128, 128, 20_000)) <= 1.13
    assert stored_share(np.zeros(1000)) < 0.2
    assert stored_share(np.zeros((0, 3))) == 1.0
