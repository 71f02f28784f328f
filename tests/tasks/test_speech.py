"""Laws of tasks on sounds: features, what is read from outputs, errors of words."""

import math
from collections.abc import Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chipfit.accuracy.recipe import Recipe
from chipfit.accuracy.train import train
from chipfit.errors import InvalidInput
from chipfit.nets.module import GraphModule
from chipfit.nets.network import initialise
from chipfit.nets.zoo import conv_ctc, ds_cnn
from chipfit.tasks.sound import Features, as_features
from chipfit.tasks.speech import SoundAugmentation, SoundClassification, Speech, edits
from chipfit.testing.tasks import check_task

RATE = 2000
FEATURES = Features(RATE, bands=12)
SAMPLES = FEATURES.window + 31 * FEATURES.hop
COUNTS = {"train": 24, "validation": 12, "test": 10}


def tones(seed: int = 0, **changes) -> Speech:
    """Two notes, one to three of them after each other, over noise."""
    rng = np.random.default_rng(seed)
    sounds, texts = {}, {}
    for split, count in COUNTS.items():
        waves, said = np.zeros((count, SAMPLES)), np.full((count, 3), -1)
        for row in range(count):
            for number in range(int(rng.integers(1, 4))):
                said[row, number] = rng.integers(2)
                start = 20 + number * 210
                at = np.arange(start, min(SAMPLES, start + 130))
                waves[row, at] = 6000 * np.sin(2 * math.pi * (200, 700)[said[row, number]] * at / RATE)
        sounds[split] = (waves + rng.normal(0, 60, waves.shape)).astype(np.int16)
        texts[split] = said.astype(np.int64)
    values = {"name": "tones", "classes": ("low", "high"), "sounds": sounds, "texts": texts}
    return Speech(**{**values, "features": FEATURES, "source": "composed", **changes})


def recogniser(seed: int = 0) -> GraphModule:
    graph = conv_ctc(classes=3, frames=32, width=0.25, bands=12)
    return GraphModule(graph, initialise(graph, np.random.default_rng(seed)))


def spoken(steps: Sequence[int], classes: int = 3) -> torch.Tensor:
    """Outputs that are sure of one score after the other."""
    return torch.nn.functional.one_hot(torch.tensor([steps]), classes).float().transpose(1, 2)[..., None] * 20


def test_speech_keeps_what_tasks_promise() -> None:
    check_task(tones(), lambda inputs: recogniser().eval()(inputs))


def test_keyword_spotting_keeps_what_tasks_promise() -> None:
    rng = np.random.default_rng(0)
    features = Features(8000, 0.030, 0.020, 40, 10, as_channels=False)
    sounds = {split: rng.integers(-9000, 9000, (count, 8000)).astype(np.int16) for split, count in COUNTS.items()}
    labels = {split: rng.integers(0, 3, count) for split, count in COUNTS.items()}
    task = SoundClassification("noise", ("a", "b", "c"), sounds, labels, features, "drawn")
    assert task.input_shape == (1, 49, 10)
    check_task(task)
    graph = ds_cnn(classes=3)
    module = GraphModule(graph, initialise(graph, np.random.default_rng(0))).eval()
    check_task(task, lambda inputs: module(inputs))
    assert task.misfit([(1, 12)]) == "(1, 3)"


def test_frames_are_those_of_whole_windows_and_follow_the_sound() -> None:
    features = Features(8000)
    assert features.frames(8000) == 98
    assert Features(16000, 0.030, 0.020).frames(16000) == 49
    silent, loud = np.zeros((1, 8000), np.float32), np.zeros((1, 8000), np.float32)
    loud[0, 4000:] = np.sin(2 * np.pi * 1000 * np.arange(4000) / 8000)
    inputs = as_features(np.concatenate([silent, loud]), features)
    assert tuple(inputs.shape) == (2, *features.shape(8000)) == (2, 40, 98, 1)
    assert torch.equal(inputs[0, :, 0], inputs[0, :, -1])
    assert torch.equal(inputs[1, :, :48], inputs[0, :, :48])
    assert bool((inputs[1, :, 52:] >= inputs[0, :, 52:]).all())
    assert float(inputs.abs().max()) < 3


@given(st.floats(100, 3500))
@settings(max_examples=20)
def test_a_note_is_loudest_in_the_band_of_its_pitch(hertz: float) -> None:
    features = Features(8000)
    note = np.sin(2 * np.pi * hertz * np.arange(8000) / 8000, dtype=np.float64).astype(np.float32)
    band = int(as_features(note[None], features)[0, :, 50, 0].argmax())
    edges = np.linspace(2595 * np.log10(1 + 20 / 700), 2595 * np.log10(1 + 4000 / 700), 42)
    low, high = (700 * (10 ** (edge / 2595) - 1) for edge in (edges[band], edges[band + 2]))
    # Bins are 31 Hz apart.
    assert low - 32 <= hertz <= high + 32


def test_features_of_a_batch_are_those_one_by_one() -> None:
    rng = np.random.default_rng(0)
    sounds = rng.normal(0, 0.1, (3, 4000)).astype(np.float32)
    for features in (Features(8000), Features(8000, 0.03, 0.02, 40, 10, as_channels=False)):
        together = as_features(sounds, features)
        assert all(torch.allclose(as_features(sounds[i : i + 1], features)[0], together[i], atol=0) for i in range(3))


@pytest.mark.parametrize(
    ("steps", "said"),
    [
        ((0, 0, 0, 0), []),
        ((1, 1, 0, 2), [0, 1]),
        ((1, 0, 1, 1), [0, 0]),
        ((2, 1, 2, 1), [1, 0, 1, 0]),
        ((0, 2, 2, 2), [1]),
    ],
)
def test_repeats_are_one_symbol_unless_nothing_is_between(steps: Sequence[int], said: list[int]) -> None:
    (found,) = tones().read(spoken(steps)).tolist()
    assert found == said + [-1] * (len(steps) - len(said))


def test_sure_and_right_outputs_have_no_errors_and_next_to_no_loss() -> None:
    task = tones()
    ((_, targets),) = task.batches("test", 100)
    outputs = torch.cat(
        [
            spoken([score for symbol in row for score in (symbol + 1 if symbol >= 0 else 0, 0)] + [0, 0])
            for row in targets.tolist()
        ]
    )
    metrics = task.metrics(task.read(outputs), targets)
    assert metrics["word_accuracy"] == 1
    assert metrics["word_error_rate"] == metrics["character_error_rate"] == 0
    assert float(task.loss(outputs, targets)) < 0.01
    assert float(task.loss(outputs.roll(1, dims=1), targets)) > 5
    nothing = task.read(spoken([0] * 8).expand(len(targets), -1, -1, -1))
    assert task.metrics(nothing, targets)["word_error_rate"] == 1


def test_words_are_told_apart_by_the_separator() -> None:
    texts = {s: np.array([[0, 1, 2, 0, -1]]).repeat(n, axis=0) for s, n in COUNTS.items()}
    task = tones(classes=("a", "b", " "), texts=texts, separator=" ")
    wanted = torch.from_numpy(texts["test"])
    found = wanted.clone()
    assert task.text(found[0].tolist()) == "ab a"
    found[:5] = torch.tensor([0, 1, 0, -1, -1])
    metrics = task.metrics(found, wanted)
    assert metrics["word_error_rate"] == pytest.approx(0.5)
    assert metrics["character_error_rate"] == pytest.approx(1 / 8)
    assert metrics["word_accuracy"] == pytest.approx(0.5)
    assert metrics["word_accuracy_standard_error"] == pytest.approx(1 / math.sqrt(4 * 9), rel=0.01)


@given(
    st.lists(st.integers(0, 3), max_size=7),
    st.lists(st.integers(0, 3), max_size=7),
    st.lists(st.integers(0, 3), max_size=7),
)
def test_edits_are_a_distance(a: list[int], b: list[int], c: list[int]) -> None:
    assert edits(a, b) == edits(b, a)
    assert (edits(a, b) == 0) == (a == b)
    assert edits(a, c) <= edits(a, b) + edits(b, c)
    assert abs(len(a) - len(b)) <= edits(a, b) <= max(len(a), len(b))


def test_edits_of_known_words() -> None:
    assert [edits(*pair) for pair in (("kitten", "sitting"), ("", "abc"), ("flaw", "lawn"))] == [3, 3, 2]


def test_a_few_steps_lower_the_loss() -> None:
    history = list(
        train(recogniser(), tones(), Recipe(epochs=8, batch_size=8, learning_rate=0.05), seed=0, device="cpu")
    )
    assert history[-1].loss < 0.6 * history[0].loss


def test_training_sounds_are_varied_and_others_are_not() -> None:
    task, still = tones(), tones(augmentation=SoundAugmentation(0, 0, 0))
    for split in COUNTS:
        one, other = (next(iter(t.batches(split, 24, generator=np.random.default_rng(0))))[0] for t in (task, still))
        assert torch.equal(one, other) == (split != "train")


def test_contradictions_are_refused() -> None:
    good = tones()
    high, none = good.texts["test"].copy(), good.texts["test"].copy()
    high[0, 0], none[3] = 2, -1
    for changes, words in (
        ({"texts": {**good.texts, "test": high}}, "values from -1"),
        ({"texts": {**good.texts, "test": none}}, "sound 3 has no text"),
        ({"texts": {**good.texts, "test": high[:3]}}, "10 sounds, 3 int64 targets"),
        ({"sounds": {**good.sounds, "test": good.sounds["test"][:, :50]}}, "of one length"),
        ({"separator": " "}, "the separator among them"),
        ({"features": Features(RATE, window_s=2.0, bands=12)}, "shorter than a window"),
    ):
        with pytest.raises(InvalidInput, match=words):
            tones(**changes)
    with pytest.raises(InvalidInput, match="takes inputs of 64x1, the sounds give 32x1"):
        good.batches("train", 4, (64, 1))
    assert good.misfit([(1, 3, 8, 1)]) == ""
    for shapes in ([(1, 2, 8, 1)], [(1, 3, 2, 1)], [(1, 3)], [(1, 3, 8, 2)]):
        assert good.misfit(shapes) == "(1, 3, steps, 1) with 3 steps or more"
    with pytest.raises(InvalidInput, match="hop <= window"):
        Features(8000, 0.01, 0.02)
