"""How much weights take in the lossless code that Arm's accelerators decode while they work.

Golomb-Rice codes of small integers: values themselves with the sign in the last bit, or places in a palette of the
most frequent ones; runs of zeros apart where that is shorter (Arm, "Ethos-U weight compression"). The length follows
from how often each value occurs, so it needs neither compiler nor encoder.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating[Any]]

_DIVISORS = np.arange(6)[:, None]
_EXCESS = (1.0, 1.0, 1.0, 1.04, 1.078, 1.0)
"""What the encoder of ethos-u-vela 5.2.0 takes more than the best code with a divisor, measured on normal weights with
standard deviations from 6 to 28: it does not search for the best divisor."""
_PALETTE = 32
_TRUNCATED = 2
_RUN = np.arange(256)


def stored_share(weights: NDArray[np.generic]) -> float:
    """The share of their plain size that 8-bit weights (any shape, -128 to 127) take when they are compressed."""
    count = np.bincount(np.asarray(weights, np.int64).ravel() + 128, minlength=256).astype(np.float64)
    total = count.sum()
    if total == 0:
        return 1.0
    share = count / total
    value = np.arange(-128, 128)
    folded = np.zeros(257)
    folded[2 * np.abs(value) - (value < 0)] = share
    lengths = [_length(folded), _fixed(folded)]
    frequent = np.sort(share)[::-1]
    used = int((frequent > 0).sum())
    if used <= _PALETTE:
        lengths += [_length(frequent) + 8 * used / total, max(1.0, np.ceil(np.log2(used))) + 8 * used / total]
    if (zeros := float(share[128])) > 0.1:
        rest = folded.copy()
        rest[0] = 0
        # Every other value is followed by the length of the zeros behind it.
        runs = (1 - zeros) * zeros**_RUN
        lengths.append((1 - zeros) * (_length(np.append(rest[1:], 0) / max(1 - zeros, 1e-9)) + _length(runs)))
    return float(min(lengths)) / 8


def _length(share: Floats) -> float:
    """Bits per symbol (its place in `share`) of the best Golomb-Rice code."""
    symbol = np.arange(len(share))
    quotient = symbol >> _DIVISORS
    # Where quotients end at 2, that needs no bit to say that it ends.
    ends = (quotient * (share > 0)).max(axis=1, keepdims=True) <= _TRUNCATED
    lengths = (np.where(ends, np.minimum(quotient + 1, _TRUNCATED), quotient + 1) + _DIVISORS) * share
    best = int(lengths.sum(axis=1).argmin())
    return float(lengths[best].sum() * _EXCESS[best])


def _fixed(share: Floats) -> float:
    """Bits per symbol when all take as many as the largest."""
    return float(int(np.flatnonzero(share)[-1]).bit_length())
