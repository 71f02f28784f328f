"""Expected hypervolume improvement of candidates whose objectives are known exactly or predicted with a spread."""

from __future__ import annotations

import itertools
import math

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from chipfit.search.pareto import crowding_distance, front_mask

Floats = NDArray[np.float64]

LARGEST_FRONT = 24
"""From four objectives on, so many points of a front are kept, the least crowded: boxes grow as its power m - 1."""

_BOXES_AT_ONCE = 64


def expected_improvement(front: Floats, reference: Floats, mean: Floats, spread: Floats) -> Floats:
    """Expected gain of hypervolume from each of n candidates: (n,), >= 0.

    front (f, m) are points reached, f may be 0; reference (m,) bounds what counts. mean and spread (n, m) are normal
    and independent predictions; a spread of 0 says that the objective is known. Exact for up to three objectives.
    With one objective it is the expected improvement. Source: the box decomposition of Yang et al. 2019 (Journal of
    Global Optimization 75).
    """
    lower, upper = free_boxes(front, reference)
    gains: list[Floats] = []
    for objective in range(len(reference)):
        corners, index = np.unique(np.concatenate([lower[:, objective], upper[:, objective]]), return_inverse=True)
        below = expected_below(corners, mean[:, objective], spread[:, objective])
        gains.append(below[:, index[len(lower) :]] - below[:, index[: len(lower)]])
    total = np.zeros(len(mean))
    for start in range(0, len(lower), _BOXES_AT_ONCE):
        block = np.ones((len(mean), min(_BOXES_AT_ONCE, len(lower) - start)))
        for gain in gains:
            block *= gain[:, start : start + _BOXES_AT_ONCE]
        total += block.sum(axis=1)
    return np.maximum(total, 0.0)


def expected_below(threshold: Floats, mean: Floats, spread: Floats) -> Floats:
    """E[max(0, threshold - Y)] of normal Y: threshold (t,), mean and spread (n,) -> (n, t); 0 below -inf."""
    result = np.zeros((len(mean), len(threshold)))
    finite = np.isfinite(threshold)
    gap = threshold[finite][None, :] - mean[:, None]
    width = np.where(spread > 0, spread, 1.0)[:, None]
    z = gap / width
    normal = gap * ndtr(z) + width * np.exp(-0.5 * z * z) / math.sqrt(2 * math.pi)
    result[:, finite] = np.where(spread[:, None] > 0, normal, np.maximum(gap, 0.0))
    return result


def free_boxes(front: Floats, reference: Floats) -> tuple[Floats, Floats]:
    """Disjoint boxes (lower (b, m), upper (b, m)) that cover what lies below the reference and no point dominates.

    front (f, m), reference (m,). Lower bounds may be -inf.
    """
    inside = front[(front < reference).all(axis=1)]
    inside = np.unique(inside[front_mask(inside)], axis=0)
    if len(reference) > 3 and len(inside) > LARGEST_FRONT:
        inside = inside[np.argsort(-crowding_distance(inside), kind="stable")[:LARGEST_FRONT]]
    boxes = _boxes(inside, reference)
    corners = np.array(boxes, dtype=np.float64).reshape(len(boxes), 2, len(reference))
    return corners[:, 0], corners[:, 1]


def _boxes(front: Floats, reference: Floats) -> list[tuple[tuple[float, ...], tuple[float, ...]]]:
    """Slices along the last objective; within each, the boxes of the points that reach it, without that objective."""
    if len(reference) == 1:
        best = min([float(reference[0]), *front[:, 0].tolist()])
        return [((-math.inf,), (best,))]
    front = front[np.argsort(front[:, -1], kind="stable")]
    levels = [-math.inf, *front[:, -1].tolist(), float(reference[-1])]
    found: list[tuple[tuple[float, ...], tuple[float, ...]]] = []
    for count, (low, high) in enumerate(itertools.pairwise(levels)):
        if low < high:
            reaching = front[:count, :-1]
            reaching = reaching[front_mask(reaching)] if len(reference) > 2 else reaching[-1:]
            found += [((*lower, low), (*upper, high)) for lower, upper in _boxes(reaching, reference[:-1])]
    return found
