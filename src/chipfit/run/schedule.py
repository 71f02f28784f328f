"""How much each stage of a combined search does: as a study says, or as much as fits the time that it gives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from chipfit.errors import InvalidInput
from chipfit.run.study import Study

SCREENED, SHARED = 0.1, 0.5
"""Shares of the time left for searching that go to scores, and to the supernet with the networks that it ranks."""

PASSES = 4
"""Networks that every step of a supernet trains, and so what it takes of a network's own step."""

LEAST_EPOCHS = 3
"""Epochs below which a supernet ranks nothing; its time then goes to trainings."""

RANKED_EPOCH = 0.25
"""What ranking a network takes of an epoch of its training: statistics and some validation images, no gradients."""

MOST_SCREENED, MOST_RANKED = 2000, 200


@dataclass(frozen=True, slots=True)
class Schedule:
    """What each variant is given, but for the supernet, which all share; `expected_s` by stage, None where unknown."""

    screen: int
    supernet: int
    rank: int
    trials: int
    expected_s: Mapping[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Pace:
    """What things take in this run, in seconds of one worker: an epoch of the baseline, and scoring it."""

    epoch_s: float
    score_s: float


def schedule(study: Study, pace: Pace, spent_s: float) -> Schedule:
    """The schedule of a study after its baseline and reference were trained, which took `spent_s`.

    Without a budget counts are those of the study. Raises `InvalidInput` for a budget that leaves no time for one
    training of each variant.
    """
    search, asked = study.search, study.search.combined
    if search.budget is None:
        return Schedule(asked.screen, asked.supernet, asked.rank, search.trials)
    variants, workers = len(study.rows), study.workers
    side_by_side = min(workers, search.batch)
    trial_s = pace.epoch_s * max(search.epochs, 0.1)
    final_s = pace.epoch_s * max(study.training.final_epochs, 0.1)
    finals_s = final_s + variants * search.finalists * final_s / min(workers, variants)
    left_s = search.budget - spent_s - finals_s
    least_s = variants * trial_s
    if left_s < least_s:
        raise InvalidInput(
            f"search.budget = {search.budget:.0f} s is too small: the baseline took {spent_s:.0f} s, training "
            f"{search.finalists} finalists of each of {variants} variants takes {finals_s:.0f} s and one network of "
            f"each in the search {least_s:.0f} s; give {spent_s + finals_s + least_s:.0f} s or more"
        )
    screen = min(MOST_SCREENED, int(SCREENED * left_s * workers / (variants * pace.score_s))) if asked.screen else 0
    shared_s = SHARED * left_s if asked.supernet and study.accuracy is None else 0.0
    rank = min(MOST_RANKED, int(0.3 * shared_s * workers / (variants * RANKED_EPOCH * pace.epoch_s)))
    supernet = int(0.7 * shared_s / (PASSES * pace.epoch_s))
    if supernet < LEAST_EPOCHS or rank < 2 * variants:
        supernet = rank = 0
    before = {
        "screen": screen * variants * pace.score_s / workers,
        "supernet": supernet * PASSES * pace.epoch_s,
        "rank": rank * variants * RANKED_EPOCH * pace.epoch_s / workers,
    }
    trials = max(1, int((left_s - sum(before.values())) * side_by_side / least_s))
    return Schedule(
        screen, supernet, rank, trials,
        before | {"search": trials * least_s / side_by_side, "final": finals_s},
    )  # fmt: skip
