"""Rule packs on networks: who says what of which place, contradictions, and gains that hold."""

from typing import Any

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.estimate.estimator import Estimator
from chipfit.estimate.store import default_estimator
from chipfit.expert.matching import matches
from chipfit.expert.ruled import Ruled, advise_by_rules
from chipfit.expert.rules import RulePack, load_pack
from chipfit.expert.sites import positions, sites
from chipfit.nets.load import load
from chipfit.nets.network import Network
from chipfit.spaces.edits import inverted_bottlenecks, open_space
from chipfit.targets import load_target

CHIP = load_target("neural-engine")


def pack(*rules: dict[str, Any]) -> RulePack:
    """Rules by hand, each with what differs from a rule that fuses."""
    common = {"kind": "fuse", "do": "fused", "evidence": {"by": "hand"}}
    made = [{"name": f"rule {number}", **common, **rule} for number, rule in enumerate(rules, 1)]
    return RulePack.model_validate({"name": "test", "description": "d", "rule": made})


@pytest.fixture(scope="module")
def network() -> Network:
    return load("ibn_classifier")


@pytest.fixture(scope="module")
def estimator() -> Estimator:
    return default_estimator(CHIP)


@pytest.fixture(scope="module")
def found(network: Network, estimator: Estimator) -> Ruled:
    return advise_by_rules(network, estimator, load_pack("accelerators"))


def test_every_decision_of_every_edit_has_a_place(network: Network) -> None:
    edits = {"fuse": True, "standard": True, "earlier": True, "kernel": [3, 5], "repeats": True, "width": True}
    space = open_space(network.graph, edits | {"depth_multiplier": True, "input_size": [64]})
    for site in sites(network.graph, space):
        assert site.resolution is not None
        if site.kind in ("depth_multiplier", "size"):
            assert (site.position, site.width, site.resolution) == (None, None, 96)
        else:
            assert site.position is not None
            assert 0 <= site.position <= 1


def test_the_place_of_a_fusion_is_its_depthwise_convolution(network: Network) -> None:
    blocks = inverted_bottlenecks(network.graph)
    found = sites(network.graph, open_space(network.graph, {"fuse": True}))
    for site, block in zip(found, blocks.values(), strict=True):
        shape = network.graph.input_shapes(block.second)[0]
        assert (site.resolution, site.width) == (shape[2], shape[1])
        assert site.stride == block.second.op.stride[0]  # type: ignore[union-attr]
    places = [site.position for site in found]
    assert places == sorted(places)  # type: ignore[type-var]


def test_the_place_of_a_merge_is_its_depthwise_convolution_beside_fusions_too() -> None:
    graph = load("ds_cnn").graph
    found = {site.decision: site for site in sites(graph, open_space(graph, {"fuse": True, "merge": True}))}
    for options in ({"fuse": True}, {"merge": True}):
        for site in sites(graph, open_space(graph, options)):
            assert found[site.decision] == site
    assert found["block1.merge"].kernel == 3
    assert found["block1.merge"].position == positions(graph)["block1.depthwise"]


def test_a_rule_sets_just_the_places_that_it_describes(network: Network) -> None:
    matched = matches(pack({"where": {"width": {"most": 100}}}), network.graph, CHIP)
    space = open_space(network.graph, {"fuse": True})
    expected = {site.decision for site in sites(network.graph, space) if site.width is not None and site.width <= 100}
    assert {decision.name for decision in matched.changes.space.decisions} == expected
    assert 0 < len(expected) < len(space.decisions)
    assert set(matched.rule_of.values()) == {0}


def test_widths_become_the_share_and_the_multiple(network: Network) -> None:
    rule = {"kind": "width", "do": {"share": 0.6, "multiple": "lanes"}, "where": {"width": {"least": 40}}}
    matched = matches(pack(rule), network.graph, CHIP)
    assert matched.changes.known
    for decision in matched.changes.space.decisions:
        given, chosen = decision.options
        assert chosen == max(int(given * 0.6 / 16 + 0.5) * 16, 16)  # type: ignore[operator]


def test_what_is_right_already_and_what_is_to_be_left_is_no_change(network: Network) -> None:
    rules = (
        {"kind": "width", "do": {"multiple": 8}},
        {"do": "leave"},
        {"kind": "kernel", "do": "leave"},
        {"kind": "depth_multiplier", "do": "leave"},
        {"kind": "size", "do": "leave"},
    )
    matched = matches(pack(*rules), network.graph, CHIP)
    assert matched.changes.known == ()
    assert set(matched.fitting) == {0}
    assert set(matched.left) == {1, 2, 3, 4}
    assert matched.unmatched == ()


def test_the_input_and_all_widths_at_once(network: Network) -> None:
    rules = (
        {"kind": "size", "do": {"share": 0.7, "multiple": 32}},
        {"kind": "depth_multiplier", "do": {"share": 0.75, "multiple": 16}},
    )
    matched = matches(pack(*rules), network.graph, CHIP)
    assert {change.name for change in matched.changes.known} == {"input.size=64", "depth_multiplier=0.75"}


@pytest.mark.parametrize(
    ("model", "kind", "do", "ending"),
    [
        ("ibn_classifier", "kernel", 5, ".kernel=5"),
        ("ibn_classifier", "earlier", "earlier", ".earlier=earlier"),
        ("ibn_classifier", "depthwise", "standard", ".depthwise=standard"),
        ("mobilenet_v2-0.35-96", "merge", "merged", "stage1.block1.merge=merged"),
        ("resnet8", "factor", "two", ".factor=two"),
        ("mobilenet_v2-0.35-96", "repeats", {"share": 0.5}, ".repeats=1"),
    ],
)
def test_every_kind_of_rule_makes_another_network(model: str, kind: str, do: object, ending: str) -> None:
    graph = load(model).graph
    matched = matches(pack({"kind": kind, "do": do}), graph, CHIP)
    assert matched.changes.known
    assert any(change.name.endswith(ending) for change in matched.changes.known)
    space = matched.changes.space
    assert space.close([0] * len(space.decisions)).digest == graph.digest
    for change in matched.changes.known:
        code = [int(place == change.decision) for place in range(len(space.decisions))]
        assert space.close(code).digest != graph.digest


def test_rules_that_agree_are_no_contradiction_and_rules_that_do_not_are(network: Network) -> None:
    early, late = {"position": {"most": 0.7}}, {"position": {"least": 0.3}}
    agreeing = matches(pack({"where": early}, {"where": late}), network.graph, CHIP)
    assert set(agreeing.rule_of.values()) == {0, 1}
    with pytest.raises(
        InvalidInput, match=r"contradicts itself: of stage\S+fuse rule 'rule 1' wants fused and"
    ) as said:
        matches(pack({"where": early}, {"where": late, "do": "leave"}), network.graph, CHIP)
    assert "\n" not in str(said.value)
    chips = ({"where": early}, {"where": late, "do": "leave", "chip": {"names": ["ethos-*"]}})
    assert matches(pack(*chips), network.graph, CHIP).elsewhere == (1,)


def test_rules_without_a_place_are_named_and_a_pack_of_such_is_refused(network: Network) -> None:
    nowhere = {"where": {"resolution": {"least": 1000}}}
    matched = matches(pack({}, nowhere), network.graph, CHIP)
    assert matched.unmatched == (1,)
    with pytest.raises(InvalidInput, match="matches nothing: none of its 2 rules"):
        matches(pack(nowhere, {"chip": {"names": ["nothing"]}}), network.graph, CHIP)
    with pytest.raises(InvalidInput, match="matches nothing"):
        matches(pack({}, {"kind": "depthwise", "do": "standard"}), load("resnet8").graph, CHIP)


def test_every_gain_is_that_of_the_network_that_is_made(found: Ruled, estimator: Estimator) -> None:
    base, space = found.advice.given, found.advice.changes.space
    items = [item for rule in found.rules for item in rule.items]
    assert items
    for item in items:
        made = estimator.costs(space.close(list(found.code_of([item.id]))))
        assert made.latency_s[0] / base.latency_s[0] - 1 == pytest.approx(item.alone.latency, abs=1e-9)
    made = estimator.costs(space.close(list(found.advice.code)))
    assert made.latency_s[0] / base.latency_s[0] - 1 == pytest.approx(found.advice.together.latency, abs=1e-9)
    for rule in found.rules:
        code = found.advice.code_of([item.id for item in rule.taken])
        assert rule.gain.latency == pytest.approx(found.advice.gains.of(code).latency, abs=1e-12)


def test_no_single_change_makes_what_was_taken_faster(found: Ruled) -> None:
    code = np.array(found.advice.code)
    flipped = np.repeat(code[None], len(code), axis=0)
    np.fill_diagonal(flipped, 1 - code)
    latency_s = found.advice.prepared.latency_s(np.concatenate([code[None], flipped]))
    assert latency_s[0] <= latency_s[1:].min() * (1 + 1e-9)
    for item in (item for rule in found.rules for item in rule.items):
        expected = latency_s[0] - latency_s[1 + item.change.decision]
        expected *= 1 if item in found.advice.advised else -1
        assert item.within == pytest.approx(expected / found.advice.given.latency_s[0], abs=1e-12)


def test_what_costs_more_here_is_made_only_when_it_is_named(network: Network, estimator: Estimator) -> None:
    late = advise_by_rules(network, estimator, pack({"where": {"position": {"least": 0.8}}}))
    assert late.rules[0].items
    assert late.rules[0].taken == ()
    assert not any(late.advice.code)
    assert all(item.alone.latency > 0 for item in late.advice.left)
    assert all(late.code_of(["R1"]))
    with pytest.raises(InvalidInput, match="there is no change 'R9'"):
        late.code_of(["R9"])


def test_rules_that_ask_for_the_same_are_both_listed(network: Network, estimator: Estimator) -> None:
    both = advise_by_rules(network, estimator, pack({}, {"where": {"position": {"most": 0.5}}}))
    assert [rule.id for rule in both.rules] == ["R1", "R2"]
    assert both.rules[0].items
    assert both.rules[1].items == ()


def test_a_rule_that_asks_for_nothing_cannot_be_applied(network: Network, estimator: Estimator) -> None:
    left = advise_by_rules(network, estimator, pack({"do": "leave"}))
    assert left.advice.code == ()
    assert left.advice.together.latency == 0
    with pytest.raises(InvalidInput, match="asks for no change here"):
        left.code_of(["R1"])
