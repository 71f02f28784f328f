"""Training is seeded, can be broken off after any epoch, keeps its best weights and says when it fails."""

import math
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chipfit.accuracy.recipe import Recipe
from chipfit.accuracy.train import Epoch, evaluate, resolve_device, train
from chipfit.errors import InvalidInput, TrainingFailed
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.graph import Graph
from chipfit.nets.module import GraphModule
from chipfit.nets.network import initialise
from chipfit.tasks.augment import Augmentation
from chipfit.tasks.vision import ImageClassification

RECIPE = Recipe(epochs=4, batch_size=8, learning_rate=0.05)
ADAMW = replace(RECIPE, learning_rate=0.01, optimizer="adamw")


def graph(size: int = 8) -> Graph:
    b = Builder()
    x = b.input("input", (1, 3, size, size))
    x = conv_bn_act(b, x, 8, stride=2, activation="relu", key="stem")
    x = b.global_pool(x, key="pool")
    x = b.reshape(x, (-1,), key="flatten")
    return b.graph(b.linear(x, 2, key="classifier"))


def module(seed: int = 0, size: int = 8) -> GraphModule:
    return GraphModule(graph(size), initialise(graph(size), np.random.default_rng(seed)))


def task(train: int = 40, seed: int = 0) -> ImageClassification:
    """Red or blue, under noise."""
    generator = np.random.default_rng(seed)
    images: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    for split, count in {"train": train, "validation": 30, "test": 20}.items():
        labels[split] = generator.integers(0, 2, count)
        pixels = generator.integers(0, 160, (count, 8, 8, 3))
        pixels[np.arange(count), :, :, 2 * labels[split]] += 60
        images[split] = pixels.astype(np.uint8)
    return ImageClassification("colours", ("red", "blue"), images, labels, "drawn", augmentation=Augmentation())


def trained(recipe: Recipe = RECIPE, *, seed: int = 3, checkpoint: Path | None = None) -> tuple[Any, list[Epoch]]:
    net = module()
    history = list(train(net, task(), recipe, seed=seed, device="cpu", checkpoint=checkpoint))
    return net.export_weights(), history


def same(one: Any, other: Any) -> bool:
    return one.keys() == other.keys() and all(np.array_equal(one[name], other[name]) for name in one)


def results(history: list[Epoch]) -> list[dict[str, Any]]:
    return [asdict(epoch) | {"seconds": 0} for epoch in history]


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    weights, history = trained()
    again, history_again = trained()
    other, _ = trained(seed=4)
    assert same(weights, again)
    assert results(history) == results(history_again)
    assert not same(weights, other)
    assert [epoch.number for epoch in history] == [1, 2, 3, 4]


@pytest.mark.parametrize("recipe", [RECIPE, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("broken_after", [1, 2, 3, 4])
def test_a_training_that_is_taken_up_again_ends_as_if_never_broken(
    broken_after: int, recipe: Recipe, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    first = train(module(), task(), recipe, seed=3, device="cpu", checkpoint=checkpoint)
    begun = [next(first) for _ in range(broken_after)]
    first.close()
    weights, history = trained(recipe, checkpoint=checkpoint)
    wanted, wanted_history = trained(recipe)
    assert history[:broken_after] == begun
    assert results(history) == results(wanted_history)
    assert same(weights, wanted)


def test_the_global_random_state_has_no_say() -> None:
    weights, _ = trained()
    torch.manual_seed(12345)
    np.random.seed(12345)
    assert same(trained()[0], weights)


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    trained(checkpoint=checkpoint)
    for recipe, seed in ((replace(RECIPE, learning_rate=0.01), 3), (RECIPE, 4)):
        with pytest.raises(InvalidInput, match=r"checkpoint\.safetensors is of another training; remove it"):
            trained(recipe, seed=seed, checkpoint=checkpoint)
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(InvalidInput, match=r"checkpoint\.safetensors: .*remove it, the training then begins anew"):
        trained(checkpoint=checkpoint)


class Judged(ImageClassification):
    """Validation finds each epoch as good as it is told."""

    def metrics(self, outputs: torch.Tensor, targets: torch.Tensor) -> dict[str, float]:
        return {"accuracy": next(self.scores)}  # type: ignore[attr-defined]


@pytest.mark.parametrize("best", [1, 2, 3])
def test_the_best_weights_are_kept(best: int) -> None:
    plain = task()
    judged = Judged(plain.name, plain.classes, plain.images, plain.labels, plain.source)
    object.__setattr__(judged, "scores", iter([0.9 if epoch == best else 0.5 for epoch in (1, 2, 3)]))
    net, snapshots = module(), []
    for _ in train(net, judged, replace(RECIPE, epochs=3), seed=3, device="cpu"):
        snapshots.append(net.export_weights())
    assert same(net.export_weights(), snapshots[best - 1])
    assert not same(snapshots[0], snapshots[2])


def test_a_loss_that_is_not_a_number_fails() -> None:
    net = module()
    with torch.no_grad():
        next(net.parameters()).fill_(math.nan)
    with pytest.raises(TrainingFailed, match="the loss is not a number in epoch 1; lower the learning rate"):
        list(train(net, task(), RECIPE, seed=3, device="cpu"))


def test_no_epochs_train_nothing() -> None:
    net = module()
    before = net.export_weights()
    assert list(train(net, task(), replace(RECIPE, epochs=0), seed=3, device="cpu")) == []
    assert same(net.export_weights(), before)


def test_a_last_batch_of_one_image_is_survived() -> None:
    net = module()
    history = list(train(net, task(train=17), replace(RECIPE, epochs=1), seed=3, device="cpu"))
    assert math.isfinite(history[0].loss)
    assert history[0].loss > 0.1
    with pytest.raises(TrainingFailed, match="one training image"):
        list(train(module(), task(train=1), RECIPE, seed=3, device="cpu"))


class Counted(ImageClassification):
    """Counts the images that a loss is taken of."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.seen.append(len(targets))  # type: ignore[attr-defined]
        return super().loss(outputs, targets)


@pytest.mark.parametrize(("images", "wanted"), [(None, [8, 8, 8, 8, 8]), (20, [8, 8, 4]), (16, [8, 8]), (5, [5])])
def test_an_epoch_takes_no_more_images_than_it_may(images: int | None, wanted: list[int]) -> None:
    plain = task()
    counted = Counted(plain.name, plain.classes, plain.images, plain.labels, plain.source)
    object.__setattr__(counted, "seen", [])
    list(train(module(), counted, replace(RECIPE, epochs=1, images=images), seed=3, device="cpu"))
    assert counted.seen == wanted  # type: ignore[attr-defined]


def test_the_learning_rate_warms_up_and_falls_to_nearly_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    rates: list[float] = []
    step = torch.optim.SGD.step

    def noted(self: torch.optim.SGD, *arguments: Any) -> Any:
        rates.append(self.param_groups[0]["lr"])
        assert {group["lr"] for group in self.param_groups} == {rates[-1]}
        return step(self, *arguments)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    list(train(module(), task(), replace(RECIPE, epochs=10), seed=3, device="cpu"))
    peak = int(np.argmax(rates))
    assert len(rates) == 50
    assert rates[0] < 0.05 * RECIPE.learning_rate
    assert max(rates) == pytest.approx(RECIPE.learning_rate)
    assert rates[-1] < 0.01 * RECIPE.learning_rate
    assert peak == 5
    assert (np.diff(rates[:peak]) > 0).all()
    assert (np.diff(rates[peak:]) < 0).all()


def test_what_can_be_learned_is_learned() -> None:
    net = module()
    before = evaluate(net, task(), "test", device="cpu")["accuracy"]
    history = list(train(net, task(), replace(RECIPE, epochs=15), seed=3, device="cpu"))
    assert history[-1].loss < 0.5 * history[0].loss
    assert evaluate(net, task(), "test", device="cpu")["accuracy"] >= max(0.95, before)


def test_evaluation_leaves_the_weights_and_uses_the_size_of_the_network() -> None:
    net = module(size=16)
    before = net.export_weights()
    metrics = evaluate(net, task(), "validation", device="cpu", batch_size=7)
    assert metrics == evaluate(net, task(), "validation", device="cpu", batch_size=30)
    assert set(metrics) == {"accuracy", "accuracy_standard_error"}
    assert same(net.export_weights(), before)
    assert not net.training


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ({"epochs": -1}, "epochs must be 0 or more"),
        ({"batch_size": 1}, "batch_size must be 2 or more"),
        ({"learning_rate": 0.0}, "learning_rate must be above 0"),
        ({"learning_rate": math.nan}, "learning_rate must be above 0"),
        ({"learning_rate": math.inf}, "learning_rate must be above 0"),
        ({"momentum": 1.0}, "momentum must be"),
        ({"weight_decay": -0.1}, "weight_decay must be"),
        ({"warmup": 1.0}, "warmup must be"),
        ({"images": 1}, "images must be 2 or more"),
        ({"optimizer": "best"}, "optimizer must be one of sgd, adamw"),
    ],
)
def test_recipes_that_cannot_work_are_refused(fault: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words):
        Recipe(**{"epochs": 1} | fault)


def test_devices_that_are_not_there_are_refused() -> None:
    assert resolve_device("cpu") == torch.device("cpu")
    assert resolve_device("auto").type in ("cpu", "cuda")
    with pytest.raises(InvalidInput, match="device 'abacus'"):
        resolve_device("abacus")
    if not torch.cuda.is_available():
        with pytest.raises(InvalidInput, match="no GPU is available here; use 'auto' or 'cpu'"):
            resolve_device("cuda")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
