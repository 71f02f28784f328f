"""Weights as a chip stores them: what it fills up is not free."""

import pytest

from chipfit.graph.workload import Workload
from chipfit.measure.stored import coded_share, stored_bytes
from chipfit.targets import load_target


def test_filled_up_zeros_make_weights_longer() -> None:
    ethos = load_target("ethos-u55-256")

    def bits(inputs: int, outputs: int, kernel: int = 1) -> float:
        parameters = inputs * outputs * kernel * kernel
        load = Workload("conv", in_channels=inputs, out_channels=outputs, parameters=parameters)
        load = load._replace(kernel_height=kernel, kernel_width=kernel)
        share = coded_share(ethos, ethos.precision(), load, 0.95)
        return float(share) * 8  # type: ignore[arg-type]

    assert bits(64, 64) == pytest.approx(0.95 * 8, abs=1e-2)
    # Half of the numbers are zeros: a bit to say that none follows, another for each one that does.
    assert bits(16, 64) == pytest.approx(0.95 * 8 + 2, abs=1e-2)
    assert bits(16, 64) > bits(24, 64) > bits(31, 64) > bits(64, 64)
    # Nine taps of three channels: 12 by 8 numbers for 27 weights.
    assert bits(3, 64, kernel=3) > bits(64, 64, kernel=3) + 2
    # Weights that no code shortens are filled up all the same.
    narrow = Workload("conv", in_channels=3, out_channels=64, parameters=192)
    assert coded_share(ethos, ethos.precision(), narrow, 1.0) > 1
    # A chip that does not compress stores weights as they are.
    assert coded_share(load_target("neural-engine"), ethos.precision(), Workload("conv"), 1) == 1
    plain, chip = Workload("conv", in_channels=3, out_channels=8, parameters=24, biases=8), load_target("neural-engine")
    assert stored_bytes(chip.precision(), plain) == 24 + 8 * chip.precision().bias_bits // 8
