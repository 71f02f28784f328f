"""Tasks on sounds held in memory: which class a sound is, and which words are spoken."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.tasks.batches import Arrays, Batch, InMemory
from chipfit.tasks.sound import Features, as_features
from chipfit.tasks.spread import jackknife_error
from chipfit.tasks.task import SPLITS, Outputs, single

Sounds = Mapping[str, NDArray[np.int16]]


@dataclass(frozen=True, slots=True)
class SoundAugmentation:
    """What is varied at random in training: start by up to `shift_s`, loudness by up to `gain_db`, white noise.

    noise: its largest root mean square as a fraction of full scale; how loud it is varies from sound to sound.
    """

    shift_s: float = 0.05
    gain_db: float = 6.0
    noise: float = 0.005

    def __post_init__(self) -> None:
        if min(self.shift_s, self.gain_db, self.noise) < 0:
            raise InvalidInput(f"{self}: values must be 0 or more")


def _inputs(
    sounds: NDArray[np.int16],
    features: Features,
    augmentation: SoundAugmentation,
    generator: np.random.Generator | None,
) -> torch.Tensor:
    values: NDArray[np.float32] = sounds.astype(np.float32) / np.float32(32768)
    if generator is not None:
        count, length = values.shape
        most = int(augmentation.shift_s * features.rate_hz)
        starts = generator.integers(-most, most + 1, count)
        values = np.pad(values, ((0, 0), (most, most)))
        values = values[np.arange(count)[:, None], np.arange(length) + most + starts[:, None]]
        gains = 10 ** (generator.uniform(-augmentation.gain_db, augmentation.gain_db, (count, 1)) / 20)
        noise = generator.standard_normal(values.shape, np.float32)
        levels = generator.uniform(0, augmentation.noise, (count, 1))
        values = (values * gains + noise * levels).astype(np.float32)
    return as_features(values, features)


def _check_sounds(name: str, sounds: Sounds, targets: Mapping[str, NDArray[np.int64]], features: Features) -> None:
    for split in SPLITS:
        if split not in sounds or split not in targets:
            raise InvalidInput(f"task {name}: no {split} split; give {', '.join(SPLITS)}")
        part, where = sounds[split], f"task {name}, {split} split"
        if part.ndim != 2 or part.dtype != np.int16 or part.shape[1:] != sounds["train"].shape[1:]:
            raise InvalidInput(f"{where}: sounds are {part.dtype} {part.shape}; give int16 (n, samples) of one length")
        if len(part) == 0:
            raise InvalidInput(f"{where} has no sounds; give at least one")
        if features.frames(part.shape[1]) < 1:
            raise InvalidInput(f"{where}: {part.shape[1]} samples are shorter than a window of {features.window}")
        if len(targets[split]) != len(part) or targets[split].dtype != np.int64:
            raise InvalidInput(f"{where}: {len(part)} sounds, {len(targets[split])} {targets[split].dtype} targets")


class _Sounds(InMemory):
    """What tasks on sounds share."""

    sounds: Sounds
    features: Features
    augmentation: SoundAugmentation

    @property
    def input_shape(self) -> tuple[int, int, int]:
        return self.features.shape(self.sounds["train"].shape[1])

    def _settings(self) -> tuple[str, ...]:
        return (str(self.features),)

    def _check_request(self, split: str, batch_size: int, size: tuple[int, int] | None) -> None:
        """Sounds are not stretched."""
        super()._check_request(split, batch_size, size)
        _, frames, columns = self.input_shape
        if size is not None and size != (frames, columns):
            raise InvalidInput(
                f"task {self.name}: the network takes inputs of {size[0]}x{size[1]}, the sounds give {frames}x{columns}"
                f" (frames, or frames and coefficients); use a network of that size, as conv_ctc-{frames}"
            )

    def _batch(
        self, split: str, chosen: NDArray[np.int64], size: tuple[int, int] | None, generator: np.random.Generator | None
    ) -> Batch:
        sounds, targets = self._arrays()
        inputs = _inputs(sounds[split][chosen], self.features, self.augmentation, generator)
        return inputs, torch.from_numpy(targets[split][chosen])


@dataclass(frozen=True, eq=False)
class SoundClassification(_Sounds):
    """Which class a sound is (`tasks.task.Task`); its metric is accuracy.

    sounds: per split, int16 (n, samples). labels: per split, int64 (n,), indices into `classes`. skipped: files that
    were left out. Raises InvalidInput where splits, shapes, types or labels do not fit together.
    """

    name: str
    classes: tuple[str, ...]
    sounds: Sounds
    labels: Mapping[str, NDArray[np.int64]]
    features: Features
    source: str
    augmentation: SoundAugmentation = SoundAugmentation()
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if len(self.classes) < 2:
            raise InvalidInput(f"task {self.name}: {len(self.classes)} classes; at least 2 are needed")
        _check_sounds(self.name, self.sounds, self.labels, self.features)
        for split, labels in self.labels.items():
            if labels.min() < 0 or labels.max() >= len(self.classes):
                raise InvalidInput(
                    f"task {self.name}, {split} split: labels run from {labels.min()} to {labels.max()},"
                    f" but there are {len(self.classes)} classes"
                )

    @property
    def metric(self) -> str:
        return "accuracy"

    def _arrays(self) -> tuple[Arrays, Arrays]:
        return self.sounds, self.labels

    def misfit(self, shapes: Sequence[tuple[int, ...]]) -> str:
        """See `Task.misfit`: one output (1, classes)."""
        return "" if list(shapes) == [(1, self.outputs)] else f"(1, {self.outputs})"

    def loss(self, outputs: Outputs, targets: torch.Tensor) -> torch.Tensor:
        """Mean cross-entropy. outputs: (batch, classes); targets: (batch,)."""
        return F.cross_entropy(single(outputs), targets)

    def read(self, outputs: Outputs) -> torch.Tensor:
        """The class of each sound, int64 (batch,)."""
        return single(outputs).argmax(dim=1)

    def metrics(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Accuracy, and its standard error after Agresti and Coull (1998). predictions, targets: (n,).

        Raises InvalidInput for shapes that do not fit, and for no examples.
        """
        count = len(targets)
        if count == 0 or predictions.shape != targets.shape:
            raise InvalidInput(
                f"task {self.name}: predictions {tuple(predictions.shape)} for targets {tuple(targets.shape)};"
                " give (n,) of both with n above 0"
            )
        hits = int((predictions == targets).sum())
        share = (hits + 2) / (count + 4)
        return {
            "accuracy": hits / count,
            "accuracy_standard_error": math.sqrt(share * (1 - share) / (count + 4)),
        }


@dataclass(frozen=True, eq=False)
class Speech(_Sounds):
    """Which symbols are spoken one after the other (`tasks.task.Task`), by connectionist temporal classification.

    classes: the symbols; a network gives one score more, the first, for "nothing new". sounds: per split, int16 (n,
    samples). texts: per split, int64 (n, longest), indices into `classes`, -1 behind the end. separator: the symbol
    that ends a word; None where each symbol is a word. The metric is the word accuracy: 1 less the word error rate, and
    0 where there are more errors than words. Source: Graves et al. 2006. Raises InvalidInput where splits, shapes,
    types or symbols do not fit together.
    """

    name: str
    classes: tuple[str, ...]
    sounds: Sounds
    texts: Mapping[str, NDArray[np.int64]]
    features: Features
    source: str
    separator: str | None = None
    augmentation: SoundAugmentation = SoundAugmentation()
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not self.classes or (self.separator is not None and self.separator not in self.classes):
            raise InvalidInput(f"task {self.name}: symbols {self.classes}; give one or more, the separator among them")
        _check_sounds(self.name, self.sounds, self.texts, self.features)
        for split, texts in self.texts.items():
            if texts.ndim != 2 or texts.shape[1] == 0 or texts.min() < -1 or texts.max() >= len(self.classes):
                raise InvalidInput(
                    f"task {self.name}, {split} split: texts {texts.shape}; give (n, longest) with values from -1"
                    f" (the end) to {len(self.classes) - 1}"
                )
            if (texts[:, 0] < 0).any():
                raise InvalidInput(f"task {self.name}, {split} split: sound {np.argmin(texts[:, 0])} has no text")

    @property
    def metric(self) -> str:
        return "word_accuracy"

    @property
    def outputs(self) -> int:
        return len(self.classes) + 1

    def _arrays(self) -> tuple[Arrays, Arrays]:
        return self.sounds, self.texts

    def misfit(self, shapes: Sequence[tuple[int, ...]]) -> str:
        """See `Task.misfit`: scores of the symbols and of "nothing new" over enough steps for the longest text."""
        longest = max(texts.shape[1] for texts in self.texts.values())
        wanted = f"(1, {self.outputs}, steps, 1) with {longest} steps or more"
        if len(shapes) != 1 or len(shapes[0]) != 4:
            return wanted
        _, scores, steps, width = shapes[0]
        return "" if (scores, width) == (self.outputs, 1) and steps >= longest else wanted

    def loss(self, outputs: Outputs, targets: torch.Tensor) -> torch.Tensor:
        """CTC loss, mean over symbols and examples; texts that do not fit into the steps count nothing.

        outputs: (batch, symbols + 1, steps, 1), the first score that of "nothing new". targets: (batch, longest).
        """
        scores = single(outputs)[..., 0].float().permute(2, 0, 1).log_softmax(dim=2)
        steps, batch = scores.shape[:2]
        lengths = (targets >= 0).sum(dim=1)
        given = torch.full((batch,), steps, dtype=torch.long)
        # The CPU's kernel serves every device: others differ in what lengths they take.
        return F.ctc_loss(scores.cpu(), (targets + 1).clamp(min=0).cpu(), given, lengths.cpu(), zero_infinity=True)

    def read(self, outputs: Outputs) -> torch.Tensor:
        """The symbols that are most likely step by step, repeats merged: int64 (batch, steps), -1 behind the end."""
        best = single(outputs)[..., 0].argmax(dim=1)
        new = (best > 0) & (best != F.pad(best, (1, 0), value=0)[:, :-1])
        # A stable sort moves what is kept to the front.
        order = (~new).to(torch.int64).argsort(dim=1, stable=True)
        return torch.gather(torch.where(new, best - 1, -1), 1, order)

    def metrics(self, predictions: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        """Word accuracy, word and symbol error rate (which may exceed 1); the standard error of the first.

        predictions: (n, steps); targets: (n, longest); both with -1 behind the end. Errors are the fewest insertions,
        deletions and substitutions, summed over all texts and divided by all words, or symbols, that were spoken. The
        standard error leaves out one example at a time. Raises InvalidInput for shapes that do not fit and no examples.
        """
        if predictions.ndim != 2 or targets.ndim != 2 or not len(predictions) == len(targets) > 0:
            raise InvalidInput(
                f"task {self.name}: predictions {tuple(predictions.shape)} for targets {tuple(targets.shape)};"
                " give (n, steps) and (n, longest) with n above 0"
            )
        counts: NDArray[np.int64] = np.zeros((len(targets), 4), dtype=np.int64)
        for row, found, wanted in zip(counts, predictions.tolist(), targets.tolist(), strict=True):
            symbols = [[symbol for symbol in text if symbol >= 0] for text in (found, wanted)]
            words = [self._words(text) for text in symbols]
            row[:] = (edits(*words), len(words[1]), edits(*symbols), len(symbols[1]))
        words, symbols = counts[:, :2].sum(axis=0), counts[:, 2:].sum(axis=0)
        return {
            "word_accuracy": float(_accuracy(counts.sum(axis=0)[None])[0]),
            "word_accuracy_standard_error": jackknife_error(counts, _accuracy),
            "word_error_rate": float(words[0] / words[1]),
            "character_error_rate": float(symbols[0] / symbols[1]),
        }

    def _words(self, symbols: Sequence[int]) -> list[str]:
        if self.separator is None:
            return [self.classes[symbol] for symbol in symbols]
        return [word for word in self.text(symbols).split(self.separator) if word]

    def text(self, symbols: Sequence[int]) -> str:
        """What was written, from indices; what is below 0 is left out."""
        joint = " " if self.separator is None else ""
        return joint.join(self.classes[symbol] for symbol in symbols if symbol >= 0)


def _accuracy(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Word accuracy (n,) of counts (n, 4) of word errors, words, symbol errors, symbols."""
    return np.maximum(0.0, 1 - counts[:, 0] / np.maximum(counts[:, 1], 1))


def edits(found: Sequence[object], wanted: Sequence[object]) -> int:
    """The fewest insertions, deletions and substitutions that make one sequence the other (Levenshtein 1966)."""
    row = list(range(len(wanted) + 1))
    for index, item in enumerate(found, start=1):
        before, row[0] = row[0], index
        for place, other in enumerate(wanted, start=1):
            before, row[place] = row[place], min(row[place] + 1, row[place - 1] + 1, before + (item != other))
    return row[-1]
