"""Advice: what it promises is what the changed network costs, alone, together, within limits and on disk."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from tests.spaces.networks import with_weights

from chipfit.errors import InvalidInput
from chipfit.estimate.estimator import Estimator
from chipfit.estimate.store import default_estimator
from chipfit.expert.advice import CERTAIN, Advice, advise
from chipfit.expert.apply import apply
from chipfit.expert.changes import possible_changes
from chipfit.expert.limits import least_risk
from chipfit.expert.unchanged import SLOWEST, touches
from chipfit.graph.build import Builder, conv_bn_act
from chipfit.graph.channels import channel_groups
from chipfit.nets.load import load
from chipfit.nets.network import Network
from chipfit.targets import load_target


@pytest.fixture(scope="module")
def network() -> Network:
    return load("ibn_classifier")


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return default_estimator(load_target("neural-engine"))


@pytest.fixture(scope="module")
def found(network: Network, estimator: Estimator) -> Advice:
    return advise(network, estimator)


def test_every_change_brings_what_it_says_to_the_network_that_it_makes(found: Advice) -> None:
    base = found.given
    for item in found.listed():
        made = found.changes.space.close(list(found.code_of([item.id])))
        costs = found.estimator.costs(made)
        assert costs.latency_s[0] / base.latency_s[0] - 1 == pytest.approx(item.alone.latency, abs=1e-9)
        assert costs.peak_bytes[0] / base.peak_bytes[0] - 1 == pytest.approx(item.alone.peak, abs=1e-9)
        assert costs.weight_bytes[0] / base.weight_bytes[0] - 1 == pytest.approx(item.alone.weights, abs=1e-9)


def test_no_set_of_its_changes_is_faster(found: Advice) -> None:
    assert found.advised
    assert found.gains.of(found.fastest).latency <= found.together.latency
    changed = [item.change for item in found.advised][:10]
    codes = np.repeat(np.array([found.code]), 2 ** len(changed), axis=0)
    for row, kept in zip(codes, product((True, False), repeat=len(changed)), strict=True):
        for change, stays in zip(changed, kept, strict=True):
            if not stays:
                row[change.decision] = 0
    latency_s = found.prepared.latency_s(codes)
    assert latency_s.argmin() == 0
    for item in found.advised:
        assert item.within < -CERTAIN * item.alone.spread
    assert found.together.latency < -CERTAIN * found.together.spread


def test_the_fastest_set_beats_random_ones_and_its_neighbours(found: Advice) -> None:
    generator = np.random.default_rng(0)
    options = [[0] for _ in found.code]
    for change in found.changes.known:
        if not change.sacrifice:
            options[change.decision].append(change.option)
    codes = np.array([[generator.choice(kept) for kept in options] for _ in range(2000)])
    near = np.repeat(np.array([found.fastest]), len(options), axis=0)
    for place, kept in enumerate(options):
        near[place, place] = generator.choice(kept)
    fastest = found.prepared.latency_s(np.array([found.fastest]))[0]
    assert fastest <= found.prepared.latency_s(np.concatenate([codes, near])).min() * (1 + 1e-12)


def test_limits_are_met_with_least_risk_or_said_to_be_impossible(found: Advice) -> None:
    base = float(found.given.latency_s[0])
    loose = least_risk(found, {"latency": base})
    assert not any(loose.code)
    for share in (0.95, 0.7):
        picked = least_risk(found, {"latency": share * base, "memory": float(found.given.peak_bytes[0])})
        costs = found.prepared.at(np.array([picked.code]))
        assert not picked.broken
        assert costs.latency_s[0] <= share * base
        assert costs.peak_bytes[0] <= found.given.peak_bytes[0]
    impossible = least_risk(found, {"latency": base / 1e4})
    assert impossible.broken["latency"] > 1
    with pytest.raises(InvalidInput, match="limit on"):
        least_risk(found, {"beauty": 1.0})
    with pytest.raises(InvalidInput, match="above 0"):
        least_risk(found, {"latency": 0.0})


@pytest.mark.parametrize("name", ["made.onnx", "made.tflite"])
def test_what_is_written_costs_what_was_promised(found: Advice, tmp_path: Path, name: str) -> None:
    made = apply(found, found.code, tmp_path / name)
    assert made.kept_promise
    assert made.costs["latency"] == pytest.approx(float(found.given.latency_s[0]) * (1 + found.together.latency))
    assert made.recipe.read_text().startswith("model")
    assert sum(made.labels.values()) > 0


def test_nothing_is_written_without_changes_or_a_known_format(found: Advice, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="no change"):
        apply(found, [0] * len(found.code), tmp_path / "made.onnx")
    with pytest.raises(InvalidInput, match=r"\.onnx or \.tflite"):
        apply(found, found.code, tmp_path / "made.xyz")
    assert not list(tmp_path.iterdir())


def test_names_are_known_and_one_decision_is_made_once(found: Advice) -> None:
    with pytest.raises(InvalidInput, match="there is no change"):
        found.code_of(["A999"])
    by_decision: dict[int, list[str]] = {}
    for change in found.changes.known:
        by_decision.setdefault(change.decision, []).append(change.name)
    several = next(names for names in by_decision.values() if len(names) > 1)
    with pytest.raises(InvalidInput, match="choose one"):
        found.code_of(several[:2])


def test_the_zero_code_is_the_network_as_given(network: Network) -> None:
    changes = possible_changes(network.graph)
    assert len({change.name for change in changes.known}) == len(changes.known)
    closed = changes.space.close([0] * len(changes.space.decisions))
    assert [node.key for node in closed.nodes] == [node.key for node in network.graph.nodes]


def test_few_sets_of_many_decisions_are_all_looked_at(estimator: Estimator) -> None:
    found = advise(load("mobilenet_v2-0.35-96"), estimator)
    assert len(found.code) > 64
    base = float(found.given.latency_s[0])
    picked = least_risk(found, {"latency": 0.9 * base})
    assert picked.complete
    assert not picked.broken
    assert found.prepared.latency_s(np.array([picked.code]))[0] <= 0.9 * base


def odd() -> Network:
    """A network of widths that are no step of any chip, with two images that grow on the way out."""
    b = Builder()
    x = b.input("x", (1, 3, 32, 32))
    for place, width in enumerate((17, 30, 46)):
        x = conv_bn_act(b, x, width, kernel=3, stride=2 if place else 1, activation="relu", key=f"block{place}")
    x = b.resize(b.conv(x, 7, key="mix"), 4, mode="bilinear", key="up")
    return with_weights(b.graph(b.conv(x, 2, key="head")))


@pytest.mark.parametrize("chip", ["ethos-u55-256", "neural-engine"])
def test_even_channels_are_one_change_with_a_gain_of_its_own(chip: str) -> None:
    found = advise(odd(), default_estimator(load_target(chip)))
    assert found.even
    for item in found.even:
        code = found.code_of([item.id])
        assert sum(option > 0 for option in code) == len(item.changes) > 1
        assert found.gains.of(code) == item.gain
        widths = {group.name: group.width for group in channel_groups(found.changes.space.close(list(code)))}
        for name, width in widths.items():
            assert name in item.odd or int(width) % item.step == 0 or name in ("head",)  # type: ignore[call-overload]
    even = {item.step: item.gain.latency for item in found.even}
    assert even[16] < 0 or chip == "neural-engine"


def test_what_falls_to_the_host_gets_a_change_that_the_chip_runs() -> None:
    estimator = default_estimator(load_target("ethos-u55-256"))
    found = advise(odd(), estimator)
    assert [item.node for item in estimator.unsupported(found.network.graph)] == ["up"]
    assert "up.steps=doubled" in {item.change.name for item in found.host}
    for item in found.host:
        made = found.changes.space.close(list(found.code_of([item.id])))
        assert not estimator.unsupported(made)
    assert not advise(odd(), default_estimator(load_target("neural-engine"))).host


def test_the_spread_of_a_difference_is_that_of_the_subgraphs_that_differ(found: Advice) -> None:
    generator = np.random.default_rng(3)
    cardinalities = [len(decision) for decision in found.changes.space.decisions]
    codes = [found.code, *generator.integers(0, cardinalities, (4, len(cardinalities))).tolist()]
    before = {layer.name: (layer.latency_s, layer.spread_s) for layer in found.gains.layers}
    for code, gain in zip(codes, found.gains.of_each(codes), strict=True):
        made = found.estimator.by_layer(found.changes.space.close(list(code)))
        after = {layer.name: (layer.latency_s, layer.spread_s) for layer in made}
        differ = [name for name in before.keys() | after.keys() if before.get(name) != after.get(name)]
        variance = sum(each.get(name, (0.0, 0.0))[1] ** 2 for name in differ for each in (before, after))
        assert gain.spread == pytest.approx(variance**0.5 / found.given.latency_s[0])
    assert found.gains.of([0] * len(cardinalities)).spread == 0


def test_every_slow_layer_has_a_change_or_the_reason_why_not(found: Advice) -> None:
    slowest = sorted(found.gains.layers, key=lambda layer: -layer.latency_s)[:SLOWEST]
    kept = {item.layer.name: item for item in found.unchanged}
    assert kept
    for layer in slowest:
        changed = any(touches(item.change, layer) for item in found.advised)
        assert not (changed and layer.name in kept)
        if layer.name in kept:
            assert kept[layer.name].tried or kept[layer.name].held
    for item in found.unchanged:
        gains = [each.gain.latency for each in item.tried]
        assert gains == sorted(gains)
        for each in item.tried:
            assert each.gain == found.gains.of(found.code_of([each.change.name]))
            assert found.code[each.change.decision] != each.change.option
            assert (each.why_not == "costs more") == (each.gain.latency > 0)
