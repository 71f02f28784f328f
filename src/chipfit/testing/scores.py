"""Conformance of zero-shot scores: what `chipfit.accuracy.zero_shot.Score` promises, checked on small networks."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from chipfit.accuracy.zero_shot import Score, fresh
from chipfit.errors import ScoreFailed
from chipfit.graph.build import Builder, conv_bn_act, inverted_bottleneck, residual_block
from chipfit.graph.graph import Graph

_CLASSES, _SAMPLES, _SIZE = 5, 8, 12
_TOLERANCE = 1e-3
"""Relative difference that another order of summation may make."""


def check_score(score: Score, *, any_order: bool = False) -> None:
    """Raises AssertionError, with what was wrong, unless `score` keeps what scores promise.

    Checked on residual, mobile and plain PyTorch networks: the score is a finite float; twice the same for the same
    weights and batch, whatever the state of the process's generator, which it leaves alone; module and batch are left
    as they were (weights, statistics, mode, gradients and whether they are asked for); and networks that have no
    score, with weights that are not finite or nothing that reaches the output, raise `ScoreFailed` instead of giving
    NaN or infinity. With `any_order` the order of samples does not matter. An exception of the score's own passes.
    """
    batch = torch.randn(_SAMPLES, 3, _SIZE, _SIZE, generator=torch.Generator().manual_seed(1))
    for name, make in _networks().items():
        _check_value(score, make, batch, name)
        _check_untouched(score, make(), batch, name)
        if any_order:
            _check_order(score, make(), batch, name)
    _check_failures(score, batch)


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise AssertionError(message)


def _networks() -> Mapping[str, Callable[[], nn.Module]]:
    return {
        "a residual network": lambda: fresh(_graph(residual_block)),
        "a mobile network": lambda: fresh(_graph(_mobile)),
        "a plain PyTorch network": _plain,
    }


def _graph(block: Callable[..., str]) -> Graph:
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, _SIZE, _SIZE)), 8, key="stem")
    for number, (out, stride) in enumerate(((8, 1), (12, 2), (12, 1))):
        x = block(b, x, out, stride=stride, key=f"block{number}")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten")
    return b.graph(b.linear(x, _CLASSES, key="classifier"))


def _mobile(b: Builder, x: str, out: int, *, stride: int, key: str) -> str:
    return inverted_bottleneck(b, x, out, expansion=2, stride=stride, key=key)


def _plain() -> nn.Module:
    """With dropout, activations that overwrite and no bias before normalisation, as users write networks."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)  # only the forked generator: layers take no other
        return nn.Sequential(
            nn.Conv2d(3, 8, 3, padding=1, bias=False),
            nn.BatchNorm2d(8),
            nn.ReLU(inplace=True),
            nn.Conv2d(8, 12, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(12),
            nn.Hardswish(inplace=True),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(12, _CLASSES),
        )


def _check_value(score: Score, make: Callable[[], nn.Module], batch: Tensor, name: str) -> None:
    state = torch.random.get_rng_state()
    try:
        first = score(make(), batch)
        _require(torch.equal(torch.random.get_rng_state(), state), f"{name}: the process's generator is moved")
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(7)  # another state of the process's generator, forked
            again = score(make(), batch)
    finally:
        torch.random.set_rng_state(state)
    _require(type(first) is float, f"{name}: the score is {type(first).__name__}, not float")
    _require(math.isfinite(first), f"{name}: the score is {first}; raise ScoreFailed where there is none")
    _require(first == again, f"{name}: the score is {first} once and {again} then")


def _check_untouched(score: Score, module: nn.Module, batch: Tensor, name: str) -> None:
    given = batch.clone()
    parameters = list(module.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])
    for training in (True, False):
        module.train(training)
        before = {key: value.clone() for key, value in module.state_dict().items()}
        score(module, batch)
        changed = [key for key, value in module.state_dict().items() if not torch.equal(value, before[key])]
        _require(not changed, f"{name}: the score changes {', '.join(changed)}")
        _require(all(part.training is training for part in module.modules()), f"{name}: the mode is changed")
        asked = [parameter.requires_grad for parameter in parameters]
        _require(asked == [False, *[True] * (len(parameters) - 1)], f"{name}: requires_grad is changed")
        gradients: list[Tensor | None] = [parameter.grad for parameter in parameters]
        kept = gradients.pop()
        same = kept is not None and bool((kept == 1).all()) and not any(each is not None for each in gradients)
        _require(same, f"{name}: gradients are changed")
    _require(torch.equal(given, batch) and not batch.requires_grad, f"{name}: the score changes the batch")


def _check_order(score: Score, module: nn.Module, batch: Tensor, name: str) -> None:
    one, other = score(module, batch), score(module, batch.flip(0))
    _require(math.isclose(one, other, rel_tol=_TOLERANCE), f"{name}: {one}, with the samples reversed {other}")


def _check_failures(score: Score, batch: Tensor) -> None:
    """Networks that have no score, or a finite one all the same: nothing else comes back."""
    broken = fresh(_graph(residual_block))
    with torch.no_grad():
        next(broken.parameters()).fill_(math.nan)
    silent = fresh(_graph(residual_block))
    with torch.no_grad():
        for parameter in silent.parameters():
            parameter.zero_()
    for name, module in (("a network of NaN", broken), ("a network of zeros", silent), ("a network of nothing", _Id())):
        try:
            value = score(module, batch)
        except ScoreFailed:
            continue
        _require(type(value) is float and math.isfinite(value), f"{name}: the score is {value}; raise ScoreFailed")


class _Id(nn.Module):
    """No weights: the mean of the image."""

    def forward(self, batch: Tensor) -> Tensor:
        return batch.mean((2, 3))
