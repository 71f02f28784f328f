"""Training all networks of a space together: fair, seeded, resumable, and it stops when it diverges."""

from collections import Counter
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from chipfit.accuracy.recipe import Recipe
from chipfit.accuracy.sandwich import Sandwich, batches_of, fair_code
from chipfit.accuracy.supernet import Supernet, calibrated, recalibrate, supernet_metrics, train_supernet
from chipfit.accuracy.train import Epoch, train
from chipfit.errors import InvalidInput, TrainingFailed
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.graph import Graph
from chipfit.graph.values import choose
from chipfit.nets.module import GraphModule
from chipfit.tasks.augment import Augmentation
from chipfit.tasks.vision import ImageClassification

RECIPE = Recipe(epochs=3, batch_size=8, learning_rate=0.05)
ADAMW = replace(RECIPE, learning_rate=0.01, optimizer="adamw")


def space(decided: bool = True, sizes: tuple[int, ...] = (8,)) -> Graph:
    b = Builder()
    height = choose(b.decide("size", sizes), sizes) if len(sizes) > 1 else sizes[0]
    x = b.input("input", (1, 3, height, height))
    width = choose(b.decide("width", (8, 4, 2)), (8, 4, 2)) if decided else 8
    x = conv_bn_act(b, x, width, stride=2, activation="relu", key="stem")
    other = conv_bn_act(b, x, width, activation="relu", key="other")
    if decided:
        x = b.select(choose(b.decide("deeper", (0, 1)), (0, 1)), (x, other), key="deeper")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten")
    return b.graph(b.linear(x, 2, key="classifier"))


def task(train: int = 40, kind: type[ImageClassification] = ImageClassification) -> ImageClassification:
    """Red or blue, under noise."""
    generator = np.random.default_rng(0)
    images: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    for split, count in {"train": train, "validation": 30, "test": 20}.items():
        labels[split] = generator.integers(0, 2, count)
        pixels = generator.integers(0, 160, (count, 8, 8, 3))
        pixels[np.arange(count), :, :, 2 * labels[split]] += 60
        images[split] = pixels.astype(np.uint8)
    return kind("colours", ("red", "blue"), images, labels, "drawn", augmentation=Augmentation())


def trained(
    recipe: Recipe = RECIPE, *, seed: int = 3, checkpoint: Path | None = None, graph: Graph | None = None
) -> tuple[dict[str, torch.Tensor], list[Epoch]]:
    supernet = Supernet(graph or space(), 0)
    history = list(train_supernet(supernet, task(), recipe, seed=seed, device="cpu", checkpoint=checkpoint))
    return supernet.state_dict(), history


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def results(history: list[Epoch]) -> list[dict[str, Any]]:
    return [asdict(epoch) | {"seconds": 0} for epoch in history]


def test_every_network_learns() -> None:
    supernet = Supernet(space(), 0)
    history = list(train_supernet(supernet, task(), replace(RECIPE, epochs=8), seed=3, device="cpu"))
    assert history[-1].metrics["accuracy"] > 0.9
    assert history[-1].loss < history[0].loss
    for code in ((0, 0), (1, 0), (0, 1), (2, 1)):
        assert supernet_metrics(supernet, code, task(), device="cpu")["accuracy"] > 0.7


def test_the_same_seed_gives_the_same_weights_and_another_seed_others() -> None:
    weights, history = trained()
    torch.manual_seed(12345)
    again, history_again = trained()
    assert same(weights, again)
    assert results(history) == results(history_again)
    assert not same(weights, trained(seed=4)[0])


@pytest.mark.parametrize("recipe", [RECIPE, ADAMW], ids=["sgd", "adamw"])
@pytest.mark.parametrize("broken_after", [1, 2, 3])
def test_a_training_that_is_taken_up_again_ends_as_if_never_broken(
    broken_after: int, recipe: Recipe, tmp_path: Path
) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    first = train_supernet(Supernet(space(), 0), task(), recipe, seed=3, device="cpu", checkpoint=checkpoint)
    begun = [next(first) for _ in range(broken_after)]
    first.close()
    weights, history = trained(checkpoint=checkpoint, recipe=recipe)
    wanted, wanted_history = trained(recipe=recipe)
    assert history[:broken_after] == begun
    assert results(history) == results(wanted_history)
    assert same(weights, wanted)


def test_a_checkpoint_of_another_training_or_a_damaged_one_is_refused(tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoint.safetensors"
    trained(checkpoint=checkpoint)
    for other in ({"seed": 4}, {"recipe": replace(RECIPE, learning_rate=0.01)}, {"graph": space(sizes=(8, 16))}):
        with pytest.raises(InvalidInput, match=r"checkpoint\.safetensors is of another training; remove it"):
            trained(**{"checkpoint": checkpoint, **other})  # type: ignore[arg-type]
    checkpoint.write_bytes(checkpoint.read_bytes()[:100])
    with pytest.raises(InvalidInput, match=r"checkpoint\.safetensors: .*remove it, the training then begins anew"):
        trained(checkpoint=checkpoint)


def test_every_option_is_drawn_equally_often() -> None:
    cardinalities = (2, 3, 4)
    drawn = [fair_code(cardinalities, 7, draw) for draw in range(12 * 5)]
    for axis, options in enumerate(cardinalities):
        assert set(Counter(code[axis] for code in drawn).values()) == {60 // options}
        for start in range(0, 60, options):
            assert {code[axis] for code in drawn[start : start + options]} == set(range(options))
    assert len(set(drawn)) > 15
    assert drawn == [fair_code(cardinalities, 7, draw) for draw in range(60)]
    assert drawn != [fair_code(cardinalities, 8, draw) for draw in range(60)]


class Spied(Supernet):
    """Notes the networks that run in training."""

    def forward(self, code: Any, *inputs: torch.Tensor) -> Any:
        if self.training:
            self.__dict__.setdefault("seen", []).append(tuple(code))
        return super().forward(code, *inputs)


def test_a_step_trains_the_largest_the_smallest_and_others() -> None:
    supernet = Spied(space(), 0)
    recipe = Recipe(epochs=2, batch_size=20)
    list(train_supernet(supernet, task(), recipe, seed=3, device="cpu", sandwich=Sandwich(random=3, alone=0.5)))
    seen = supernet.__dict__["seen"]
    assert seen[:3] == [supernet.largest_code] * 3
    assert seen[3] == supernet.smallest_code
    assert len(seen) > 4


def test_one_network_is_trained_as_a_space_of_one() -> None:
    supernet = Supernet(space(decided=False), 0)
    history = list(train_supernet(supernet, task(), replace(RECIPE, epochs=8), seed=3, device="cpu"))
    assert history[-1].metrics["accuracy"] == history[-1].metrics["smallest_accuracy"] > 0.9


def test_images_have_the_size_of_each_network() -> None:
    supernet = Spied(space(sizes=(8, 16)), 0)
    list(train_supernet(supernet, task(), replace(RECIPE, epochs=1), seed=3, device="cpu"))
    assert {code[0] for code in supernet.__dict__["seen"]} == {0, 1}
    for code in ((0, 0, 0), (1, 2, 1)):
        assert 0 <= supernet_metrics(supernet, code, task(), images=10, device="cpu")["accuracy"] <= 1
    (step, *_) = batches_of(task(), "train", 8, 4, supernet.sizes, [0])
    assert [step.at(size)[0].shape for size in supernet.sizes] == [(4, 3, 8, 8), (4, 3, 16, 16)]
    assert torch.equal(step.at((8, 8))[1], step.at((16, 16))[1])


class Poisoned(ImageClassification):
    """Its loss is not a number from some call on."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        self.__dict__["calls"] = self.__dict__.get("calls", 0) + 1
        found = super().loss(outputs, targets)
        return found * float("nan") if self.__dict__["calls"] == self.__dict__["bad"] else found


def test_a_loss_that_is_not_a_number_is_found_in_its_step_and_the_last_good_weights_are_kept(tmp_path: Path) -> None:
    supernet, poisoned, checkpoint = Supernet(space(), 0), task(kind=Poisoned), tmp_path / "checkpoint.safetensors"
    poisoned.__dict__["bad"] = 5 + 3
    training = train_supernet(supernet, poisoned, RECIPE, seed=3, device="cpu", checkpoint=checkpoint)
    first = next(training)
    good = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    with pytest.raises(TrainingFailed, match=r"epoch 2, step 3 .* end of epoch 1 again: lower the learning rate"):
        next(training)
    assert same(supernet.state_dict(), good)
    weights, history = trained(checkpoint=checkpoint)
    assert history[0] == first
    assert same(weights, trained()[0])


class Steep(ImageClassification):
    """Its loss is a number, its gradient is none."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return super().loss(outputs, targets) + (0 * outputs.sum()).sqrt()


def test_a_gradient_that_is_not_a_number_never_reaches_the_weights() -> None:
    supernet = Supernet(space(), 0)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    with pytest.raises(TrainingFailed, match="a gradient is not a number in epoch 1, step 1"):
        list(train_supernet(supernet, task(kind=Steep), RECIPE, seed=3, device="cpu"))
    assert same(supernet.state_dict(), before)


def test_a_huge_learning_rate_fails_with_numbers_left() -> None:
    supernet = Supernet(space(), 0)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    with pytest.raises(TrainingFailed, match="lower the learning rate, or warm up longer"):
        list(train_supernet(supernet, task(), replace(RECIPE, learning_rate=1e30), seed=3, device="cpu"))
    assert same(supernet.state_dict(), before)


def test_statistics_are_those_of_the_network_itself() -> None:
    supernet = Supernet(space(), 0)
    (step,) = batches_of(task(), "train", 40, 40, [(8, 8)], [5])
    network = supernet.network((1, 0))
    module = GraphModule(network.graph, network.weights)
    recalibrate(module, [step.at((8, 8))[0]])
    assert not module.training
    weights = module.export_weights()
    plain = torch.nn.functional.conv2d(
        step.at((8, 8))[0], torch.from_numpy(network.weights["stem.weight"]), stride=2, padding=1
    )
    np.testing.assert_allclose(weights["stem.bn.running_mean"], plain.mean((0, 2, 3)).numpy(), atol=1e-6)
    np.testing.assert_allclose(weights["stem.bn.running_var"], plain.var((0, 2, 3)).numpy(), rtol=1e-5)
    with pytest.raises(InvalidInput, match="need at least 2 training images"):
        recalibrate(module, [])


def test_a_calibrated_network_is_judged_as_the_supernet_says() -> None:
    supernet = Supernet(space(), 0)
    list(train_supernet(supernet, task(), RECIPE, seed=3, device="cpu"))
    network = calibrated(supernet, (1, 1), task(), seed=2, device="cpu")
    module = GraphModule(network.graph, network.weights).eval()
    ((inputs, targets),) = task().batches("validation", 30)
    with torch.inference_mode():
        wanted = task().metrics(module(inputs), targets)
    assert supernet_metrics(supernet, (1, 1), task(), seed=2, device="cpu") == wanted
    few = supernet_metrics(supernet, (1, 1), task(), images=7, seed=2, device="cpu")
    with torch.inference_mode():
        assert few == task().metrics(module(inputs[:7]), targets[:7])


def test_an_inherited_network_trains_on() -> None:
    supernet = Supernet(space(), 0)
    network = supernet.network((1, 1))
    module = GraphModule(network.graph, network.weights)
    history = list(train(module, task(), replace(RECIPE, epochs=6), seed=0, device="cpu"))
    assert max(epoch.metrics["accuracy"] for epoch in history) > 0.8


@pytest.mark.parametrize("wrong", [{"random": -1}, {"distil": 1.5}, {"alone": 1.0}])
def test_a_sandwich_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match="random must be 0 or more"):
        Sandwich(**wrong)


def test_bad_budgets_are_refused() -> None:
    with pytest.raises(InvalidInput, match="metrics on 0 validation images mean nothing"):
        supernet_metrics(Supernet(space(), 0), (0, 0), task(), images=0, device="cpu")
    with pytest.raises(TrainingFailed, match="one training image"):
        list(train_supernet(Supernet(space(), 0), task(train=1), RECIPE, seed=0, device="cpu"))


def test_a_supernet_is_trained_by_the_optimizer_that_is_asked_for() -> None:
    plain, _ = trained(recipe=RECIPE)
    other, _ = trained(recipe=replace(RECIPE, optimizer="adamw"))
    assert not same(plain, other)
