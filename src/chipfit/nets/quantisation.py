"""How real numbers are stored as integers: by scale and zero point, of a tensor or of each of its channels."""

from __future__ import annotations

import math
from dataclasses import dataclass

from chipfit.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Quantisation:
    """real = scale × (integer − zero point) (Jacob et al. 2018, eq. 1), integers signed with `bits` bits.

    One scale and zero point for the whole tensor, or one for each channel: of weights the output channels. Raises
    `InvalidInput` for other counts, scales that are not above 0 and zero points that the bits cannot hold.
    """

    scales: tuple[float, ...]
    zero_points: tuple[int, ...]
    bits: int = 8

    def __post_init__(self) -> None:
        if not self.scales or len(self.scales) != len(self.zero_points):
            raise InvalidInput(f"a quantisation has {len(self.scales)} scales and {len(self.zero_points)} zero points")
        if not all(math.isfinite(scale) and scale > 0 for scale in self.scales):
            raise InvalidInput(f"quantisation scale {min(self.scales)}: must be a number above 0")
        low, high = self.range
        if not all(low <= point <= high for point in self.zero_points):
            raise InvalidInput(f"zero points {self.zero_points[:3]} lie outside {self.bits} bits ({low} to {high})")

    @property
    def range(self) -> tuple[int, int]:
        """Smallest and largest integer."""
        return -(1 << (self.bits - 1)), (1 << (self.bits - 1)) - 1
