"""Patterns: what was planted is found, chance is not, few trials give wide intervals, and counts are as defined."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from chipfit.errors import InvalidInput
from chipfit.expert.matching import matches
from chipfit.expert.mined_rules import recurring, rule_pack
from chipfit.expert.patterns import BEST, Mined, Pattern, Searched, mine, wilson
from chipfit.expert.rules import LEAVE, Scale
from chipfit.expert.sites import sites
from chipfit.graph.canonical import canonical
from chipfit.nets.zoo import from_zoo
from chipfit.spaces.edits import open_space
from chipfit.targets import load_target

GIVEN = from_zoo("ibn_classifier-32").graph
SPACE = open_space(GIVEN, {"fuse": True, "depth_multiplier": [1.0, 0.75, 0.5]})
EARLY = np.array([site.kind == "fuse" and site.position < 0.33 for site in sites(GIVEN, SPACE)])  # type: ignore[operator]
LATE = np.array([site.kind == "fuse" and site.position >= 0.67 for site in sites(GIVEN, SPACE)])  # type: ignore[operator]

Floats = NDArray[np.float64]
Cost = Callable[[NDArray[np.int64], np.random.Generator], Floats]


def planted(codes: NDArray[np.int64], generator: np.random.Generator) -> Floats:
    """Early fusion is cheap and late fusion costs."""
    return codes @ LATE * 1.0 - codes @ EARLY + generator.normal(0, 0.2, len(codes))


def chance(codes: NDArray[np.int64], generator: np.random.Generator) -> Floats:
    return generator.normal(size=len(codes))


def searched(count: int, seed: int, cost: Cost, data: str = "rooms", target: str = "neural-engine") -> Searched:
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, SPACE.cardinalities, (count, len(SPACE.decisions)))
    offered = tuple(range(len(SPACE.decisions)))
    objectives = cost(codes, generator)[:, None]
    return Searched(
        f"runs/{data}", data, target, GIVEN, SPACE, offered, codes, objectives, np.ones(count, np.bool_)
    )  # fmt: skip


def only(mined: Mined, kind: str, option: object) -> list[Pattern]:
    return [pattern for pattern in mined.patterns if (pattern.kind, pattern.option) == (kind, option)]


@given(st.floats(0, 1), st.integers(1, 10_000), st.floats(0.5, 0.9999))
def test_an_interval_holds_its_share_and_narrows_with_more_cases(share: float, count: int, confidence: float) -> None:
    low, high = wilson(share, count, confidence)
    assert 0 <= low <= share + 1e-12
    assert share - 1e-12 <= high <= 1
    closer = wilson(share, 4 * count, confidence)
    assert closer[1] - closer[0] < high - low
    surer = wilson(share, count, (1 + confidence) / 2)
    assert surer[0] <= low + 1e-12
    assert surer[1] >= high - 1e-12


def test_the_interval_of_a_textbook() -> None:
    # 8 of 10: Brown, Cai and DasGupta 2001 give the score interval as (0.49, 0.943).
    assert wilson(0.8, 10, 0.95) == pytest.approx((0.490, 0.943), abs=5e-4)
    assert wilson(0.5, 0, 0.95) == (0.0, 1.0)


def test_what_was_planted_is_found_and_applies_to_another_network() -> None:
    mined = mine([searched(120, 1, planted)])
    pack = rule_pack(mined, "planted")
    found = {(rule.kind, rule.do): rule for rule in pack.rule}
    assert set(found) == {("fuse", "fused"), ("fuse", LEAVE)}
    assert found["fuse", "fused"].where.position.below == 0.33  # type: ignore[union-attr]
    assert found["fuse", LEAVE].where.position.least == 0.67  # type: ignore[union-attr]
    evidence = found["fuse", "fused"].evidence
    assert evidence.interval[0] > evidence.offered  # type: ignore[index, operator]
    matched = matches(pack, from_zoo("mobilenet_v2-0.5-96").graph, load_target("neural-engine"))
    assert matched.changes.known
    assert matched.left


def test_chance_makes_hardly_a_rule() -> None:
    false = sum(bool(recurring(mine([searched(60, seed, chance)]))) for seed in range(40))
    assert false <= 4  # 5 % of 40 are 2


def test_places_that_are_decided_alike_are_one_witness() -> None:
    apart = searched(200, 11, chance)
    alike = apart.codes.copy()
    alike[:, EARLY] = alike[:, EARLY][:, :1]
    together = Searched(**{name: getattr(apart, name) for name in _FIELDS} | {"codes": alike})
    early = [
        next(p for p in mine([search]).patterns if p.option == "fused" and p.where.position.least is None)  # type: ignore[union-attr]
        for search in (apart, together)
    ]
    assert early[1].witnesses == pytest.approx(early[1].candidates)
    assert early[0].witnesses == pytest.approx(EARLY.sum() * early[0].candidates, rel=0.25)
    assert early[0].witnesses <= EARLY.sum() * early[0].candidates


def test_few_trials_give_wide_intervals_and_no_rule() -> None:
    mined = mine([searched(8, 0, planted)])
    assert all(pattern.verdict == "open" for pattern in mined.patterns)
    assert all(pattern.interval[1] - pattern.interval[0] > 0.4 for pattern in mined.patterns)
    with pytest.raises(InvalidInput, match="no pattern stands out beyond chance in 2 best of 8 candidates"):
        rule_pack(mined, "none")


def test_the_best_are_a_quarter_of_all_and_hold_the_limits() -> None:
    search = searched(40, 3, planted)
    best = search.best()
    assert best.sum() == BEST * 40
    assert search.objectives[best].max() <= search.objectives[~best].min()
    few = np.arange(40) < 4
    limited = Searched(**{name: getattr(search, name) for name in _FIELDS} | {"feasible": few})
    assert (limited.best() <= few).all()
    assert limited.best().any()
    none = Searched(**{name: getattr(search, name) for name in _FIELDS} | {"feasible": few & ~few})
    assert not none.best().any()


_FIELDS = ("run", "data", "target", "given", "space", "offered", "codes", "objectives", "feasible")


def test_shares_are_counted_over_the_places_of_each_network() -> None:
    search = searched(50, 4, chance)
    pattern = next(p for p in mine([search]).patterns if p.option == "fused" and p.where.position.least is None)  # type: ignore[union-attr]
    assert pattern.offered == pytest.approx(search.codes[:, EARLY].mean())
    assert pattern.best == pytest.approx(search.codes[search.best()][:, EARLY].mean())
    assert (pattern.trials, pattern.candidates) == (50, int(search.best().sum()))


def test_options_of_a_place_add_up() -> None:
    for axes in (("position",), ("width",), ("resolution", "position")):
        cells: dict[object, list[Pattern]] = {}
        for pattern in mine([searched(30, 5, chance), searched(30, 6, chance, "faces")], axes).patterns:
            cells.setdefault((pattern.kind, pattern.where), []).append(pattern)
        for patterns in cells.values():
            assert sum(pattern.offered for pattern in patterns) == pytest.approx(1)
            assert sum(pattern.best for pattern in patterns) == pytest.approx(1)


def test_what_makes_no_difference_is_not_counted() -> None:
    """Of a block that is fused it does not matter what its depthwise convolution is."""
    space = open_space(GIVEN, {"fuse": True, "standard": True})
    kinds = [site.kind for site in sites(GIVEN, space)]
    codes = np.array([[int(kind == "fuse") for kind in kinds]] * 8)
    codes[0] = [int(kind == "depthwise") for kind in kinds]
    reduced = canonical(space)(codes)
    offered = tuple(range(len(kinds)))
    search = Searched(
        "r", "d", "t", GIVEN, space, offered, reduced, np.arange(8.0)[:, None], np.ones(8, np.bool_)
    )  # fmt: skip
    patterns = only(mine([search], ("position",)), "depthwise", "standard")
    fusable = [pattern for pattern in patterns if pattern.trials == 1]
    assert fusable
    assert all(pattern.offered == 1 for pattern in fusable)


def test_rules_say_where_they_recur_and_are_for_those_chips_only() -> None:
    with_effect = searched(120, 7, planted, "rooms", "neural-engine")
    mined = mine([with_effect, searched(120, 8, planted, "faces", "ethos-u55-256")])
    rule = next(rule for rule in rule_pack(mined, "both").rule if rule.do == "fused")
    assert rule.chip.names == ("ethos-u55-256", "neural-engine")
    assert {seen.data for seen in rule.evidence.seen} == {"rooms", "faces"}

    def opposed(codes: NDArray[np.int64], generator: np.random.Generator) -> Floats:
        return -planted(codes, generator)

    mined = mine([searched(240, 7, planted), searched(40, 8, opposed, "faces", "ethos-u55-256")])
    patterns = [pattern for pattern in recurring(mined) if pattern.option == "fused"]
    assert patterns
    for pattern in patterns:
        assert {seen.data for seen in pattern.recurs_on} == {"rooms"}
    pack = rule_pack(mined, "one")
    assert {rule.chip.names for rule in pack.rule} == {("neural-engine",)}


def test_widths_become_shares_of_what_is_given() -> None:
    space = open_space(GIVEN, {"width": {"factors": [1.0, 0.5], "divisor": 8}})
    generator = np.random.default_rng(9)
    codes = generator.integers(0, 2, (160, len(space.decisions)))
    cost = -codes.sum(axis=1)[:, None].astype(float)
    offered = tuple(range(len(space.decisions)))
    search = Searched("r", "d", "neural-engine", GIVEN, space, offered, codes, cost, np.ones(160, np.bool_))
    rules = rule_pack(mine([search], ("width",)), "widths").rule
    assert rules
    for rule in rules:
        assert isinstance(rule.do, Scale)
        assert rule.do.share in (0.5, 0.625)
        assert rule.do.multiple in (8, 16, 32)


@pytest.mark.parametrize("axes", [(), ("depth",), ("width", "width")])
def test_places_are_sorted_by_what_is_known(axes: tuple[str, ...]) -> None:
    with pytest.raises(InvalidInput, match="take some of position, resolution, width"):
        mine([searched(8, 0, chance)], axes)
    with pytest.raises(InvalidInput, match="tried no network"):
        mine([searched(0, 0, chance)])
