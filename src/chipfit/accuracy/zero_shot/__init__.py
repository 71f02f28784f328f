"""Zero-shot scores: how good a network may become, told before it is trained."""

from chipfit.accuracy.zero_shot.catalogue import SCORES, Score, score_of
from chipfit.accuracy.zero_shot.composed import default
from chipfit.accuracy.zero_shot.initial import fresh
from chipfit.accuracy.zero_shot.ranks import ensemble

__all__ = ["SCORES", "Score", "default", "ensemble", "fresh", "score_of"]
