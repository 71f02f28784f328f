"""The scores by their names."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import cast

from torch import Tensor, nn

from chipfit.accuracy.zero_shot.az_nas import complexity, expressivity, progressivity, trainability
from chipfit.accuracy.zero_shot.composed import default
from chipfit.accuracy.zero_shot.counts import flops, parameters
from chipfit.accuracy.zero_shot.gradients import fisher, gradient_norm, grasp, snip
from chipfit.accuracy.zero_shot.jacobian import jacobian_covariance
from chipfit.accuracy.zero_shot.meco import meco
from chipfit.accuracy.zero_shot.patterns import naswot, swap
from chipfit.accuracy.zero_shot.synflow import synflow
from chipfit.accuracy.zero_shot.zen import zen
from chipfit.accuracy.zero_shot.zico import zico
from chipfit.errors import InvalidInput
from chipfit.files import named

Score = Callable[[nn.Module, Tensor], float]
"""A module with fresh weights and a batch to a number, larger for better; raises `ScoreFailed` where there is none."""

SCORES: Mapping[str, Score] = {
    "default": default,
    "parameters": parameters,
    "flops": flops,
    "gradient_norm": gradient_norm,
    "snip": snip,
    "grasp": grasp,
    "synflow": synflow,
    "fisher": fisher,
    "jacobian_covariance": jacobian_covariance,
    "naswot": naswot,
    "swap": swap,
    "zen": zen,
    "zico": zico,
    "meco": meco,
    "expressivity": expressivity,
    "progressivity": progressivity,
    "trainability": trainability,
    "complexity": complexity,
}


def score_of(name: str) -> Score:
    """The score of a name in `SCORES`, or a function of the user's own as "module:NAME".

    Raises `InvalidInput` for a name that is neither, or what is no function.
    """
    if name in SCORES:
        return SCORES[name]
    if ":" not in name:
        raise InvalidInput(f"there is no score {name!r}; there are {', '.join(SCORES)}, or write module:NAME")
    found = named(name, "score")
    if not callable(found):
        raise InvalidInput(f"score {name!r} is not a function; name one that takes (module, batch)")
    return cast(Score, found)
