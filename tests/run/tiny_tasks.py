"""Tasks of every kind on data so small that they are there at once; studies name them as tiny_tasks:NAME."""

import numpy as np

from chipfit.nets.network import Network, initialise
from chipfit.nets.zoo import conv_ctc
from chipfit.tasks.detection import Detection
from chipfit.tasks.segmentation import Segmentation
from chipfit.tasks.sound import Features, keyword_features
from chipfit.tasks.speech import SoundClassification, Speech

COUNTS = {"train": 8, "validation": 4, "test": 6}
FEATURES = Features(2000, bands=12)
KEYWORDS = keyword_features(2000)


def _images(size: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {split: rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8) for split, count in COUNTS.items()}


def boxes() -> Detection:
    """One object in the middle of every picture."""
    rows = {split: np.tile(np.float32([0, 0.2, 0.3, 0.8, 0.7, 0]), (count, 1, 1)) for split, count in COUNTS.items()}
    return Detection("boxes", ("thing",), _images(32), rows, "drawn")


def masks() -> Segmentation:
    """Three classes, side by side in every picture."""
    part = np.repeat([0, 1, 2, 2], 4).astype(np.uint8)
    wanted = {split: np.broadcast_to(part, (count, 16, 16)).copy() for split, count in COUNTS.items()}
    return Segmentation("masks", ("a", "b", "c"), _images(16), wanted, "drawn")


def speech() -> Speech:
    """The same word under noise every time."""
    rng = np.random.default_rng(0)
    samples = FEATURES.window + 31 * FEATURES.hop
    sounds = {split: rng.integers(-900, 900, (count, samples)).astype(np.int16) for split, count in COUNTS.items()}
    texts = {split: np.tile([0, 1], (count, 1)) for split, count in COUNTS.items()}
    return Speech("speech", ("o", "k"), sounds, texts, FEATURES, "drawn")


def keywords() -> SoundClassification:
    """Loud or soft, for the network of the zoo."""
    rng = np.random.default_rng(0)
    labels = {split: np.arange(count) % 2 for split, count in COUNTS.items()}
    sounds = {
        split: (rng.normal(0, 300, (count, KEYWORDS.rate_hz)) * (1 + 20 * labels[split][:, None])).astype(np.int16)
        for split, count in COUNTS.items()
    }
    return SoundClassification("keywords", ("soft", "loud"), sounds, labels, KEYWORDS, "drawn")


def recogniser() -> Network:
    """The network of the zoo for the frames and bands of `speech`."""
    graph = conv_ctc(classes=3, frames=32, width=0.25, bands=12)
    return Network("recogniser", graph, initialise(graph, np.random.default_rng(0)))
