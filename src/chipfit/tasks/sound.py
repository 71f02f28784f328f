"""Sounds as network inputs: log-mel features and cepstral coefficients, computed outside the network."""

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.errors import InvalidInput

FLOOR = 1e-6
"""Added to a band's energy before the logarithm: about what 16-bit silence holds."""
CENTRE, SCALE = -7.0, 4.0
"""What is subtracted from a logarithm of energy, and what it is divided by: speech then lies around -1 to 1."""


@dataclass(frozen=True, slots=True)
class Features:
    """Energies of `bands` mel-spaced bands in windows of `window_s` seconds every `hop_s`, as natural logarithms.

    coefficients: so many cepstral coefficients (DCT-II, orthonormal) instead of the energies, if given. as_channels:
    inputs are (bands, frames, 1) for convolutions over time, else pictures (1, frames, bands).
    Source of the mel scale: O'Shaughnessy 1987, 2595 log10(1 + f / 700). Raises `InvalidInput` for what makes no sense.
    """

    rate_hz: int
    window_s: float = 0.025
    hop_s: float = 0.010
    bands: int = 40
    coefficients: int | None = None
    as_channels: bool = True

    def __post_init__(self) -> None:
        if self.rate_hz < 1000 or not 0 < self.hop_s <= self.window_s or self.bands < 2:
            raise InvalidInput(f"{self}: give a rate of 1000 Hz or more, 0 < hop <= window, and 2 bands or more")
        if self.coefficients is not None and not 1 <= self.coefficients <= self.bands:
            raise InvalidInput(f"{self}: coefficients must be 1 to the number of bands")

    @property
    def window(self) -> int:
        """Samples of a window."""
        return round(self.window_s * self.rate_hz)

    @property
    def hop(self) -> int:
        """Samples from one window to the next."""
        return round(self.hop_s * self.rate_hz)

    def frames(self, samples: int) -> int:
        """How many whole windows lie in so many samples."""
        return max(0, (samples - self.window) // self.hop + 1)

    def shape(self, samples: int) -> tuple[int, int, int]:
        """Channels, height and width of the input that so many samples give."""
        wide = self.coefficients or self.bands
        return (wide, self.frames(samples), 1) if self.as_channels else (1, self.frames(samples), wide)


def keyword_features(rate_hz: int) -> Features:
    """A second as 49 frames of 10 coefficients: those of the keyword spotter of MLPerf Tiny (Banbury et al. 2021)."""
    return Features(rate_hz, window_s=0.030, hop_s=0.020, bands=40, coefficients=10, as_channels=False)


def as_features(sounds: NDArray[np.float32], features: Features) -> torch.Tensor:
    """Network inputs, float32 (n, channels, height, width), from samples in [-1, 1], float32 (n, samples)."""
    # One by one: in larger products the last bit of a sound would depend on its place in the batch.
    values = torch.stack([_logarithms(torch.from_numpy(sound.copy()), features) for sound in sounds])
    return values.transpose(1, 2)[..., None].contiguous() if features.as_channels else values[:, None]


def _logarithms(sound: torch.Tensor, features: Features) -> torch.Tensor:
    """Of one sound (samples,): (frames, bands or coefficients)."""
    frames = sound.unfold(0, features.window, features.hop)
    spectrum = torch.fft.rfft(frames * torch.hann_window(features.window), n=_length(features)).abs().square()
    logarithms = (torch.log(spectrum @ torch.from_numpy(_filters(features)) + FLOOR) - CENTRE) / SCALE
    if features.coefficients is None:
        return logarithms
    return logarithms @ torch.from_numpy(_cosines(features.bands, features.coefficients))


def _length(features: Features) -> int:
    return 2 ** math.ceil(math.log2(features.window))


@lru_cache(maxsize=8)
def _filters(features: Features) -> NDArray[np.float32]:
    """Triangles of height 1 that overlap by half, from 20 Hz to half the rate: (bins, bands)."""

    def mel(hertz: float) -> float:
        return 2595 * math.log10(1 + hertz / 700)

    edges = np.linspace(mel(20), mel(features.rate_hz / 2), features.bands + 2)
    hertz = 700 * (10 ** (edges / 2595) - 1)
    bins = np.fft.rfftfreq(_length(features), 1 / features.rate_hz)[:, None]
    rising = (bins - hertz[:-2]) / (hertz[1:-1] - hertz[:-2])
    falling = (hertz[2:] - bins) / (hertz[2:] - hertz[1:-1])
    filters: NDArray[np.float64] = np.clip(np.minimum(rising, falling), 0, None)
    # A low band may be narrower than the bins are apart: it then takes the nearest one.
    for band in np.flatnonzero(filters.sum(axis=0) == 0):
        filters[np.abs(bins[:, 0] - hertz[band + 1]).argmin(), band] = 1
    return (filters / features.window).astype(np.float32)


@lru_cache(maxsize=8)
def _cosines(bands: int, coefficients: int) -> NDArray[np.float32]:
    """The orthonormal DCT-II as (bands, coefficients), divided by the root of the bands: values stay near 1."""
    angles = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * np.arange(coefficients)
    cosines = np.cos(angles) * np.where(np.arange(coefficients) == 0, 1.0, math.sqrt(2.0)) / bands
    return cosines.astype(np.float32)
