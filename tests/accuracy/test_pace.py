"""Timing a few training steps: positive, longer for more work; an unknown device is named."""

import pytest

from chipfit.accuracy.pace import seconds_per_image
from chipfit.accuracy.recipe import Recipe
from chipfit.errors import InvalidInput
from chipfit.nets.module import GraphModule
from chipfit.nets.zoo import from_zoo


def module(name: str) -> GraphModule:
    network = from_zoo(name)
    return GraphModule(network.graph, network.weights)


def test_a_much_larger_network_takes_longer() -> None:
    small = seconds_per_image(module("ibn_classifier-0.5-32"), Recipe(1), 100.0, device="cpu")
    large = seconds_per_image(module("ibn_classifier-96"), Recipe(1), 100.0, device="cpu")
    assert 0 < small < large


def test_an_unknown_device_is_named() -> None:
    with pytest.raises(InvalidInput, match="device"):
        seconds_per_image(module("ibn_classifier-0.5-32"), Recipe(1), 1.0, device="abacus")
