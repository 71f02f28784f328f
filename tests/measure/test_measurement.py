"""A measurement holds only figures that can be."""

import math

import pytest

from chipfit.errors import InvalidInput
from chipfit.measure import Measurement, Source

BOARD = Source("measured", "board", "2", "2026-11-01")


@pytest.mark.parametrize("name", ["latency_s", "cycles", "peak_bytes", "energy_j", "spread_s"])
@pytest.mark.parametrize("figure", [-1, math.nan, math.inf])
def test_a_figure_that_cannot_be_is_refused(name: str, figure: float) -> None:
    with pytest.raises(InvalidInput, match=f"board gave {name} = {figure}"):
        Measurement(**{"latency_s": 1.0, "source": BOARD, name: figure})  # type: ignore[arg-type]


def test_what_a_tool_does_not_tell_is_none() -> None:
    found = Measurement(1e-3, BOARD)
    assert (found.cycles, found.peak_bytes, found.energy_j, found.spread_s) == (None, None, None, 0.0)


def test_a_source_says_tool_version_and_a_known_kind() -> None:
    with pytest.raises(InvalidInput, match="'guessed' is neither"):
        Source("guessed", "board", "2")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput, match="needs a tool and its version"):
        Source("measured", "board", "")
