import pytest
import torch
from tests.accuracy.zero_shot.small import images, residual
from torch import nn

from chipfit.accuracy.zero_shot.trace import finite, traced, untouched
from chipfit.errors import InvalidInput, ScoreFailed


def test_both_kinds_of_module_are_watched_alike() -> None:
    trace = traced(residual(blocks=2), images())
    assert len(trace.products) == 6
    assert len(trace.bent) == 4
    assert len(trace.normalised) == 5
    assert len(trace.sums) == 2


def test_what_an_activation_overwrites_is_still_seen() -> None:
    module = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.Hardswish(inplace=True))
    trace = traced(module, images())
    assert len(trace.bent) == 2
    assert all(bool((tensor < 0).any()) for tensor in trace.bent)
    assert torch.equal(trace.output, module(images()))


def test_dropout_is_left_out() -> None:
    module = nn.Sequential(nn.Flatten(), nn.Dropout(0.9))
    with untouched(module, images()):
        assert torch.equal(traced(module, images()).output, images().flatten(1))


def test_a_network_that_does_not_run_says_why() -> None:
    with pytest.raises(ScoreFailed, match=r"\(8, 3, 8, 8\).*channels"):
        traced(nn.Conv2d(4, 4, 3), images())


def test_a_network_that_gives_no_tensor_says_what_it_gives() -> None:
    class Text(nn.Module):
        def forward(self, batch: torch.Tensor) -> str:
            return "cat"

    with pytest.raises(ScoreFailed, match="str"):
        traced(Text(), images())


def test_one_sample_is_too_few() -> None:
    with pytest.raises(InvalidInput, match="2 samples"), untouched(residual(), images(1)):
        pass


def test_a_module_is_left_as_it_was_though_its_score_fails() -> None:
    module = residual().eval()
    before = {name: value.clone() for name, value in module.state_dict().items()}

    def failing() -> None:
        with untouched(module, images()):
            module(images())
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        failing()
    assert not module.training
    assert all(torch.equal(value, before[name]) for name, value in module.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), torch.tensor(float("-inf"))])
def test_what_is_not_finite_is_no_score(value: float) -> None:
    with pytest.raises(ScoreFailed, match="odd"):
        finite("odd", value)
