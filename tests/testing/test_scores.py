"""The conformance check itself: sound scores pass, each kind of fault is found."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from chipfit.errors import ScoreFailed
from chipfit.testing.scores import check_score


def sound(module: nn.Module, batch: Tensor) -> float:
    total = float(sum(parameter.detach().abs().sum() for parameter in module.parameters()))
    if total != total:
        raise ScoreFailed("weights are not finite")
    return total


def _drawing(module: nn.Module, batch: Tensor) -> float:
    return sound(module, batch) + float(torch.rand(()))


def _training(module: nn.Module, batch: Tensor) -> float:
    module.train()
    return sound(module, batch)


def _running(module: nn.Module, batch: Tensor) -> float:
    mode = module.training
    module.train()
    module(batch)
    module.train(mode)
    return sound(module, batch)


def _learning(module: nn.Module, batch: Tensor) -> float:
    mode = module.training
    module.eval()
    module(batch).sum().backward()
    module.train(mode)
    return sound(module, batch)


def _freezing(module: nn.Module, batch: Tensor) -> float:
    module.requires_grad_(True)
    return sound(module, batch)


def _doubling(module: nn.Module, batch: Tensor) -> float:
    batch.mul_(2)
    return sound(module, batch)


def _not_a_number(module: nn.Module, batch: Tensor) -> float:
    return float(sum(parameter.detach().abs().sum() for parameter in module.parameters()))


def _a_tensor(module: nn.Module, batch: Tensor) -> float:
    return torch.tensor(1.0)  # type: ignore[return-value]


FAULTS: dict[Callable[[nn.Module, Tensor], float], str] = {
    _drawing: "generator",
    _training: "mode",
    _running: "changes .*running",
    _learning: "gradients",
    _freezing: "requires_grad",
    _doubling: "batch",
    _not_a_number: "NaN",
    _a_tensor: "Tensor",
}


def test_a_sound_score_passes() -> None:
    check_score(sound, any_order=True)


@pytest.mark.parametrize(("score", "what"), FAULTS.items(), ids=lambda item: getattr(item, "__name__", ""))
def test_every_fault_is_found(score: Callable[[nn.Module, Tensor], float], what: str) -> None:
    with pytest.raises(AssertionError, match=what):
        check_score(score)


def test_a_score_that_hangs_on_the_order_is_found() -> None:
    def first(module: nn.Module, batch: Tensor) -> float:
        return sound(module, batch) + float(batch[0].sum())

    check_score(first)
    with pytest.raises(AssertionError, match="reversed"):
        check_score(first, any_order=True)
