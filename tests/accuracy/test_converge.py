"""One run lands on the latency asked for, with either method; it is seeded, resumable and refuses what cannot be."""

import itertools
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import torch

from chipfit.accuracy.converge import Convergence, Converging, converge
from chipfit.accuracy.distribution import Distribution, ExpectedLatency, landing
from chipfit.accuracy.recipe import Recipe
from chipfit.accuracy.supernet import Supernet
from chipfit.errors import InvalidInput, LimitImpossible, TrainingFailed
from chipfit.estimate import SpaceCosts, default_estimator
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.graph import Graph
from chipfit.graph.values import choose
from chipfit.spaces.edits import open_space
from chipfit.targets import load_target
from chipfit.tasks.augment import Augmentation
from chipfit.tasks.vision import ImageClassification

Method = Literal["policy", "gradient"]

METHODS: tuple[Method, ...] = ("policy", "gradient")
RECIPE = Recipe(epochs=5, batch_size=10, learning_rate=0.05)
CPU = torch.device("cpu")


def network() -> Graph:
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, 8, 8)), 32, activation="relu", key="first")
    x = conv_bn_act(b, x, 64, stride=2, activation="relu", key="second")
    x = conv_bn_act(b, x, 64, activation="relu", key="third")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten")
    return b.graph(b.linear(x, 2, key="classifier"))


def space() -> Graph:
    return open_space(network(), {"kernel": [3, 5], "width": {"factors": [1.0, 0.75, 0.5, 0.25], "divisor": 8}})


def task(kind: type[ImageClassification] = ImageClassification) -> ImageClassification:
    generator = np.random.default_rng(0)
    images: dict[str, Any] = {}
    labels: dict[str, Any] = {}
    for split, count in {"train": 40, "validation": 30, "test": 20}.items():
        labels[split] = generator.integers(0, 2, count)
        pixels = generator.integers(0, 160, (count, 8, 8, 3))
        pixels[np.arange(count), :, :, 2 * labels[split]] += 60
        images[split] = pixels.astype(np.uint8)
    return kind("colours", ("red", "blue"), images, labels, "drawn", augmentation=Augmentation())


@pytest.fixture(scope="module")
def costs() -> SpaceCosts:
    return default_estimator(load_target("neural-engine")).prepare(space())


def every(graph: Graph) -> np.ndarray[Any, np.dtype[np.int64]]:
    return np.array(list(itertools.product(*(range(options) for options in graph.cardinalities))))


def wanted(costs: SpaceCosts, share: float) -> float:
    return float(np.quantile(costs.latency_s(every(costs.graph)), share, method="nearest"))


def searched(
    costs: SpaceCosts, target_s: float, method: Method, checkpoint: Path | None = None, seed: int = 1
) -> tuple[list[Convergence], dict[str, torch.Tensor]]:
    supernet = Supernet(costs.graph, 0)
    how = Converging(method)
    run = converge(supernet, task(), RECIPE, costs, target_s, seed=seed, device="cpu", checkpoint=checkpoint, how=how)
    return list(run), supernet.state_dict()


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("share", [0.2, 0.6])
def test_it_lands_on_the_latency_asked_for(costs: SpaceCosts, method: Method, share: float) -> None:
    target_s = wanted(costs, share)
    history, _ = searched(costs, target_s, method)
    last = history[-1]
    assert abs(last.latency_s / target_s - 1) <= 0.03
    assert last.latency_s == pytest.approx(float(costs.latency_s(np.array([last.code]))[0]))
    assert [each.number for each in history] == [1, 2, 3, 4, 5]
    assert last.entropy < 0.5 < history[0].entropy
    assert abs(last.expected_latency_s / target_s - 1) < 0.05
    assert 0 <= last.metrics["accuracy"] <= 1


@pytest.mark.parametrize(("method", "broken_after"), [("policy", 1), ("policy", 3), ("gradient", 3)])
def test_a_search_that_is_taken_up_again_ends_as_if_never_broken(
    costs: SpaceCosts, method: Method, broken_after: int, tmp_path: Path
) -> None:
    target_s = wanted(costs, 0.4)
    whole, weights = searched(costs, target_s, method)
    checkpoint = tmp_path / "checkpoint.safetensors"
    run = converge(
        Supernet(costs.graph, 0), task(), RECIPE, costs, target_s,
        seed=1, device="cpu", checkpoint=checkpoint, how=Converging(method),
    )  # fmt: skip
    for _ in range(broken_after):
        next(run)
    run.close()
    history, again = searched(costs, target_s, method, checkpoint)
    assert [asdict(e) | {"seconds": 0} for e in history] == [asdict(e) | {"seconds": 0} for e in whole]
    assert all(torch.equal(weights[name], again[name]) for name in weights)
    with pytest.raises(InvalidInput, match="is of another training"):
        searched(costs, target_s * 1.1, method, checkpoint)


def skewed(cardinalities: tuple[int, ...], seed: int = 0) -> Distribution:
    distribution = Distribution(cardinalities, CPU)
    with torch.no_grad():
        distribution.logits.copy_(torch.randn(distribution.logits.shape, generator=torch.Generator().manual_seed(seed)))
    return distribution


def test_probabilities_of_all_networks_add_up_to_one() -> None:
    distribution = skewed((2, 3, 4))
    codes = np.array(list(itertools.product(range(2), range(3), range(4))))
    chances = distribution.log_probability(codes).exp().detach()
    assert float(chances.sum()) == pytest.approx(1, abs=1e-5)
    assert float(distribution.entropy().detach()) == pytest.approx(float(-(chances * chances.log()).sum()), abs=1e-5)
    drawn = distribution.draw(20_000, np.random.default_rng(0))
    seen = (drawn[:, None, :] == codes[None]).all(axis=2).mean(axis=0)
    np.testing.assert_allclose(seen, chances.numpy(), atol=0.015)


def test_gates_are_one_option_each_and_have_a_gradient() -> None:
    distribution = skewed((2, 3))
    gates = distribution.gates(np.random.default_rng(0), 1.0)
    for gate in gates:
        assert sorted(gate.tolist()) == [*[0.0] * (len(gate) - 1), 1.0]
    (gradient,) = torch.autograd.grad(gates[1][0], [distribution.logits])
    assert (gradient[1] != 0).all()
    assert torch.isfinite(gradient).all()


def test_the_expected_latency_is_that_of_all_networks_by_their_probability(costs: SpaceCosts) -> None:
    distribution = skewed(costs.graph.cardinalities)
    codes = every(costs.graph)
    latency_s = torch.from_numpy(costs.latency_s(codes))
    brute = (distribution.log_probability(codes).exp().double() * latency_s).sum()
    exact = ExpectedLatency(costs, CPU)(distribution, np.random.default_rng(0))
    assert float(exact.detach()) == pytest.approx(float(brute.detach()), rel=1e-5)
    (gradient,) = torch.autograd.grad(exact, [distribution.logits])
    (by_hand,) = torch.autograd.grad(brute, [distribution.logits])
    torch.testing.assert_close(gradient, by_hand, rtol=1e-3, atol=1e-10)


def test_without_tables_the_expected_latency_is_estimated(costs: SpaceCosts) -> None:
    lazy = replace(costs, tables=None)
    distribution = skewed(costs.graph.cardinalities)
    exact = ExpectedLatency(costs, CPU)(distribution, np.random.default_rng(0))
    drawn = ExpectedLatency(lazy, CPU)(distribution, np.random.default_rng(0))
    assert float(drawn.detach()) == pytest.approx(float(exact.detach()), rel=0.1)
    (gradient,) = torch.autograd.grad(exact, [distribution.logits])
    (estimated,) = torch.autograd.grad(drawn, [distribution.logits])
    assert float(torch.cosine_similarity(gradient.flatten(), estimated.flatten(), dim=0)) > 0.9


def test_a_landing_is_the_most_probable_network_near_the_target(costs: SpaceCosts) -> None:
    distribution = skewed(costs.graph.cardinalities, seed=3)
    codes, target_s = every(costs.graph), wanted(costs, 0.5)
    near = codes[np.abs(costs.latency_s(codes) / target_s - 1) <= 0.02]
    best = near[int(distribution.log_probability(near).argmax())]
    code, latency_s = landing(distribution, costs, target_s, 0)
    assert code == tuple(best.tolist())
    assert latency_s == pytest.approx(float(costs.latency_s(best[None])[0]))


@pytest.mark.parametrize("seed", range(4))
def test_a_landing_holds_a_limit_wherever_the_target_is(costs: SpaceCosts, seed: int) -> None:
    distribution = skewed(costs.graph.cardinalities, seed)
    latency_s = costs.latency_s(every(costs.graph))
    for most_s in np.quantile(latency_s, (0.05, 0.4, 0.8), method="nearest"):
        for target_s in (most_s, most_s * 1.3):
            code, landed_s = landing(distribution, costs, float(target_s), 0, float(most_s))
            assert landed_s <= most_s
            assert landed_s == costs.latency_s(np.array([code]))[0]
    # Where nothing holds it, the nearest is given, and it is for the caller to say so.
    assert landing(distribution, costs, float(latency_s.min()), 0, float(latency_s.min()) / 2)[1] >= latency_s.min()


def test_a_target_that_no_network_meets_is_refused_before_training(costs: SpaceCosts) -> None:
    latency_s = costs.latency_s(every(costs.graph))
    for target_s, nearest in ((latency_s.min() / 2, latency_s.min()), (latency_s.max() * 2, latency_s.max())):
        with pytest.raises(LimitImpossible, match=f"ask for {nearest:.4g} s"):
            searched(costs, float(target_s), "policy")
    with pytest.raises(InvalidInput, match="is no latency"):
        searched(costs, float("nan"), "policy")


def test_a_space_of_one_network_has_nothing_to_choose() -> None:
    closed = default_estimator(load_target("neural-engine")).prepare(network())
    with pytest.raises(InvalidInput, match="one network only, nothing is left to choose"):
        searched(closed, 1e-5, "policy")


def test_too_little_training_is_refused(costs: SpaceCosts) -> None:
    recipe = replace(RECIPE, epochs=1, images=20)
    with pytest.raises(InvalidInput, match="1 training steps are left after the warm-up, a distribution needs 10"):
        list(converge(Supernet(costs.graph, 0), task(), recipe, costs, wanted(costs, 0.5), seed=0, device="cpu"))


def test_costs_of_another_space_are_refused(costs: SpaceCosts) -> None:
    with pytest.raises(InvalidInput, match="costs are of another space"):
        list(converge(Supernet(network(), 0), task(), RECIPE, costs, 1e-5, seed=0, device="cpu"))


class Indifferent(ImageClassification):
    """Finds every network equally good."""

    def loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return 0 * outputs.sum()


@pytest.mark.parametrize("method", METHODS)
def test_where_all_networks_are_equally_good_the_latency_decides(costs: SpaceCosts, method: Method) -> None:
    target_s = wanted(costs, 0.3)
    run = converge(
        Supernet(costs.graph, 0), task(Indifferent), RECIPE, costs, target_s,
        seed=1, device="cpu", how=Converging(method),
    )  # fmt: skip
    assert abs(list(run)[-1].latency_s / target_s - 1) <= 0.03


def test_where_all_networks_take_the_same_time_the_loss_decides() -> None:
    b = Builder()
    x = b.conv(b.input("input", (1, 3, 8, 8)), 8, kernel=3, key="first")
    index = choose(b.decide("which", ("one", "other")), (0, 1))
    x = b.select(index, [b.conv(x, 8, kernel=3, key=key) for key in ("one", "other")], key="which.select")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten")
    costs = default_estimator(load_target("neural-engine")).prepare(b.graph(b.linear(x, 2, key="classifier")))
    target_s = float(costs.latency_s(np.array([[0]]))[0])
    history, _ = searched(costs, target_s, "policy")
    assert history[-1].latency_s == pytest.approx(target_s)


def test_the_policy_chooses_the_size_of_the_images() -> None:
    graph = open_space(network(), {"input_size": [8, 16], "width": {"factors": [1.0, 0.5], "divisor": 8}})
    sized = default_estimator(load_target("neural-engine")).prepare(graph)
    history, _ = searched(sized, wanted(sized, 0.5), "policy")
    assert abs(history[-1].latency_s / wanted(sized, 0.5) - 1) <= 0.03
    with pytest.raises(InvalidInput, match="use the policy method"):
        searched(sized, wanted(sized, 0.5), "gradient")


def test_a_diverging_search_keeps_its_last_good_weights(costs: SpaceCosts) -> None:
    supernet = Supernet(costs.graph, 0)
    before = {name: tensor.clone() for name, tensor in supernet.state_dict().items()}
    recipe = replace(RECIPE, learning_rate=1e30)
    with pytest.raises(TrainingFailed, match="lower the learning rate"):
        list(converge(supernet, task(), recipe, costs, wanted(costs, 0.5), seed=0, device="cpu"))
    assert all(torch.equal(before[name], tensor) for name, tensor in supernet.state_dict().items())


@pytest.mark.parametrize(
    "wrong", [{"method": "magic"}, {"warmup": 1.0}, {"samples": 1}, {"pressure": 0.0}, {"sharpen": -1.0}]
)
def test_settings_that_make_no_sense_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput, match=f"{next(iter(wrong))} must be"):
        Converging(**wrong)
