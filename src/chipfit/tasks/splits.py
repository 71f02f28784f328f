"""What loaders of a user's files share: which items are wanted, how they are split, what is done with bad ones."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.task import SPLITS

OnBad = Literal["refuse", "skip"]


@dataclass(frozen=True, slots=True)
class Choice:
    """What of the data is wanted, and how. Raises `InvalidInput` for what makes no sense."""

    where: Path
    size: int | None
    fractions: dict[str, float]
    seed: int
    on_bad: OnBad
    limits: Mapping[str, int] = field(default_factory=dict[str, int])
    cache: Path | None = None

    def __post_init__(self) -> None:
        if self.size is not None and self.size < 1:
            raise InvalidInput(f"{self.where}: image size {self.size}; use 1 or more")
        if self.seed < 0:
            raise InvalidInput(f"{self.where}: seed {self.seed} is negative; use 0 or more")
        if self.on_bad not in ("refuse", "skip"):
            raise InvalidInput(f'{self.where}: {self.on_bad!r} for bad items; use "refuse" or "skip"')
        if min(self.fractions.values()) <= 0 or sum(self.fractions.values()) >= 1:
            raise InvalidInput(f"{self.where}: fractions {self.fractions}; each must be above 0 and together below 1")
        for split, count in self.limits.items():
            if split not in SPLITS or count < 1:
                raise InvalidInput(f"{self.where}: limit {split} = {count}; limit {', '.join(SPLITS)} to 1 or more")


@dataclass(slots=True)
class Faults:
    """Bad items: `add` refuses the first or notes each, with why."""

    on_bad: OnBad
    items: list[str] = field(default_factory=list[str])

    def add(self, item: str, why: str, left_out: str = "it is left out") -> None:
        """Raises `InvalidInput` where bad items are refused."""
        if self.on_bad == "refuse":
            raise InvalidInput(f'{item}: {why}; repair or remove it, or skip bad items (on_bad = "skip")')
        self.items.append(f"{item}: {why}; {left_out}")


def split_orders(counts: Mapping[str, int], choice: Choice) -> dict[str, tuple[str, NDArray[np.int64]]]:
    """For each split, from which listing its items are, and their indices in random order, as many as are wanted.

    counts: items of each listing; "train" is one of them, and what has no listing of its own is split off it. Raises
    `InvalidInput` where nothing is left for a split.
    """
    generator = np.random.default_rng(choice.seed)
    orders = {split: (split, generator.permutation(count)) for split, count in counts.items()}
    _, rest = orders["train"]
    for split, fraction in choice.fractions.items():
        if split not in orders:
            count = round(fraction * counts["train"])
            orders[split], rest = ("train", rest[:count]), rest[count:]
    orders["train"] = ("train", rest)
    chosen = {split: (orders[split][0], orders[split][1][: choice.limits.get(split)]) for split in SPLITS}
    _need_all(chosen, choice)
    return chosen


def grouped_orders(groups: Mapping[str, Sequence[str]], choice: Choice) -> dict[str, tuple[str, NDArray[np.int64]]]:
    """As `split_orders`, but items of one group, such as one speaker's, never part. groups: that of each item."""
    if set(groups) == set(SPLITS):
        return split_orders({split: len(names) for split, names in groups.items()}, choice)
    generator = np.random.default_rng(choice.seed)
    names = groups["train"]
    known = sorted(set(names))
    order = [known[index] for index in generator.permutation(len(known))]
    rank = {name: place for place, name in enumerate(order)}
    # Groups in random order, the items of each together and in random order themselves.
    items = np.array(sorted(generator.permutation(len(names)).tolist(), key=lambda index: rank[names[index]]), np.int64)
    orders = {split: (split, generator.permutation(len(part))) for split, part in groups.items() if split != "train"}
    for split, fraction in choice.fractions.items():
        if split not in orders:
            end = round(fraction * len(names))
            # A group that the boundary would cut belongs to this split as a whole.
            while 0 < end < len(items) and names[items[end]] == names[items[end - 1]]:
                end += 1
            orders[split], items = ("train", generator.permutation(items[:end])), items[end:]
    orders["train"] = ("train", generator.permutation(items))
    chosen = {split: (orders[split][0], orders[split][1][: choice.limits.get(split)]) for split in SPLITS}
    _need_all(chosen, choice)
    return chosen


def _need_all(chosen: Mapping[str, tuple[str, NDArray[np.int64]]], choice: Choice) -> None:
    for split, (_, indices) in chosen.items():
        if len(indices) == 0:
            raise InvalidInput(f"{choice.where}: too few items for a {split} split; add some or a larger fraction")


def apart(
    examples: Mapping[str, tuple[Sequence[str], NDArray[Any]]], faults: Faults, given: bool
) -> dict[str, NDArray[np.int64]]:
    """Indices of each split's examples, without those that are in a later split too.

    examples: by split, names and contents (n, ...). given: the splits are the user's own, so that what is in two of
    them is a bad item; else it is left out of the earlier one and noted.
    """
    kept: dict[str, NDArray[np.int64]] = {}
    later: dict[bytes, tuple[str, str]] = {}
    for split in reversed(SPLITS):
        names, contents = examples[split]
        keys = [hashlib.blake2b(np.ascontiguousarray(item).data, digest_size=16).digest() for item in contents]
        good: list[int] = []
        for index, key in enumerate(keys):
            if key not in later:
                good.append(index)
            elif given:
                faults.add(names[index], "it is in {} and, as {}, in {}".format(split, *later[key]))
            else:
                faults.items.append(f"{names[index]}: the same as {later[key][0]}; it is left out of the {split} split")
        later |= {key: (name, split) for key, name in zip(keys, names, strict=True) if key not in later}
        kept[split] = np.array(good, dtype=np.int64)
    return kept
