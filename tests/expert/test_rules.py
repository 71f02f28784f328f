"""Rule packs: what is written comes back, what ships is sound, and every fault is one line that says where."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chipfit.errors import InvalidInput
from chipfit.expert.rules import (
    Chip,
    Evidence,
    Range,
    Rule,
    RulePack,
    Scale,
    Where,
    load_pack,
    shipped_packs,
    write_pack,
)
from chipfit.expert.sites import Site
from chipfit.targets import load_target

HAND = Evidence(by="hand")
LINES = st.text(st.characters(exclude_categories=("C",)), min_size=1, max_size=9)
BEGIN = 'name = "p"\ndescription = "d"\n'


def rule_text(**keys: str) -> str:
    said = {"name": '"r"', "kind": '"fuse"', "do": '"fused"', "evidence": '{by = "hand"}'} | keys
    return "[[rule]]\n" + "".join(f"{key} = {value}\n" for key, value in said.items() if value)


@pytest.mark.parametrize("name", shipped_packs())
def test_what_ships_can_be_read_and_written(name: str, tmp_path: Path) -> None:
    pack = load_pack(name)
    assert pack.name == name
    write_pack(tmp_path / "copy.toml", pack)
    assert load_pack(tmp_path / "copy.toml") == pack


@settings(max_examples=25)
@given(st.floats(0.05, 4), st.one_of(st.integers(1, 64), st.just("lanes")), LINES, st.floats(0, 1), st.floats(0, 1))
def test_what_is_written_comes_back(
    tmp_path_factory: pytest.TempPathFactory, share: float, multiple: object, name: str, low: float, high: float
) -> None:
    scale = Scale.model_validate({"share": share if share != 1 else 0.5, "multiple": multiple})
    evidence = Evidence(by="mined", runs=(name,), interval=(min(low, high), max(low, high)), best=high, offered=low)
    where = Where(position=Range(least=min(low, high), most=max(low, high)), resolution=Range(below=9))
    rule = Rule(name=name, kind="width", do=scale, where=where, chip=Chip(names=("a*",)), evidence=evidence)
    pack = RulePack(name="p", description=name, rule=(rule,))
    file = tmp_path_factory.mktemp("packs") / "pack.toml"
    write_pack(file, pack)
    assert load_pack(file) == pack


@given(st.integers(1, 2000), st.floats(0.1, 2), st.integers(1, 64))
def test_a_scaled_number_is_a_multiple_and_near_the_share(given: int, share: float, multiple: int) -> None:
    made = Scale(share=share, multiple=multiple).of(given, load_target("neural-engine"))
    assert made >= 1
    if share < 1:
        assert made <= given
    assert made % multiple == 0 or made == given
    assert abs(made - given * share) <= max(multiple / 2, multiple - given * share, 0) + 0.5


def test_lanes_are_those_of_the_chip() -> None:
    scale = Scale(multiple="lanes")
    assert scale.of(17, load_target("neural-engine")) == 16
    assert scale.of(17, load_target("neural-engine-32x32")) == 32


def test_ranges_end_where_they_say() -> None:
    assert [Range(least=2, below=4).holds(value) for value in (1, 2, 3.9, 4)] == [False, True, True, False]
    assert [Range(most=4).holds(value) for value in (-9, 4, 4.1, None)] == [True, True, False, False]


def test_what_is_not_known_of_a_place_fits_no_range() -> None:
    whole = Site("depth_multiplier", "depth_multiplier", resolution=96)
    assert Where(resolution=Range(most=96)).fits(whole)
    assert not Where(width=Range(most=96)).fits(whole)
    assert Where().fits(whole)


@pytest.mark.parametrize(
    ("chip", "fitting"),
    [
        (Chip(names=("ethos-u5*", "neural-*")), ["neural-engine", "neural-engine-depthwise", "ethos-u55-256"]),
        (Chip(depthwise_share=Range(most=0.05)), ["neural-engine", "ethos-u55-256"]),
        (Chip(input_channels=Range(least=16)), ["neural-engine", "neural-engine-depthwise"]),
        (Chip(names=("ethos-u55-256",), macs_per_cycle=Range(least=512)), []),
    ],
)
def test_chips_are_told_apart_by_what_decides(chip: Chip, fitting: list[str]) -> None:
    names = ("neural-engine", "neural-engine-depthwise", "ethos-u55-256")
    assert [name for name in names if chip.fits(load_target(name))] == fitting


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name = ", "not a TOML file"),
        ('name = "p"', "key 'description' is missing"),
        (BEGIN, "key 'rule' is missing"),
        (BEGIN + "rule = []", "it holds no rule"),
        (BEGIN + "rule = 3", "rule = 3"),
        (BEGIN + "rule = [3]", "rule 1: "),
        (BEGIN + rule_text(evidence=""), r"rule 1 \('r'\): key 'evidence' is missing"),
        (BEGIN + rule_text(name=r'"two\nlines"'), r"name = 'two\\nlines'"),
        (BEGIN + rule_text(whre="{}"), r"rule 1 \('r'\): unknown key 'whre'"),
        (BEGIN + rule_text(where="{depth = {most = 1}}"), "unknown key 'where.depth'"),
        (BEGIN + rule_text(where="{position = {}}"), "where.position: give least"),
        (BEGIN + rule_text(where="{width = {least = 9, most = 8}}"), "no number is at least 9"),
        (BEGIN + rule_text(where="{width = {least = nan}}"), "where.width.least = nan"),
        (BEGIN + rule_text(kind='"fusion"'), "kind = 'fusion'"),
        (BEGIN + rule_text(do='"fussed"'), "fuse takes fused, leave"),
        (BEGIN + rule_text(do="{share = 0.5}"), "fuse takes fused, leave"),
        (BEGIN + rule_text(kind='"width"', do='"narrow"'), "width takes {share = …, multiple = …}"),
        (BEGIN + rule_text(kind='"width"', do="{share = 1.0}"), "a share of 1 changes nothing"),
        (BEGIN + rule_text(kind='"width"', do="{share = -1.0}"), "greater than 0"),
        (BEGIN + rule_text(kind='"width"', do="{shar = 0.5}"), "unknown key 'do.shar'"),
        (BEGIN + rule_text(kind='"width"', do='{multiple = "lane"}'), "do.multiple.*'lane'"),
        (BEGIN + rule_text(do="[1]"), r"do = \[1\]"),
        (BEGIN + rule_text(kind='"kernel"', do='"big"'), "a kernel is a whole number"),
        (BEGIN + rule_text(kind='"size"', do='"leave"', where="{width = {most = 8}}"), "decided once for the whole"),
        (BEGIN + rule_text() + rule_text(), "two rules are named 'r'"),
        (BEGIN + rule_text() + rule_text(name='"s"'), "the same places on the same chips twice"),
        (BEGIN + rule_text() + rule_text(name='"s"', do='"leave"'), "and say different things"),
    ],
)  # fmt: skip
def test_every_fault_is_one_line_that_says_where(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "pack.toml"
    file.write_text(text)
    with pytest.raises(InvalidInput, match=message) as raised:
        load_pack(file)
    assert "\n" not in str(raised.value)
    assert str(raised.value).startswith(str(file))


@pytest.mark.parametrize(
    ("name", "message"),
    [("acelerators", "did you mean 'accelerators'"), ("nowhere.toml", "cannot be read"), ("x", "neither a .toml file")],
)
def test_a_pack_that_is_not_there(name: str, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        load_pack(name)


def test_a_file_that_is_no_text_and_a_path_that_is_no_pack(tmp_path: Path) -> None:
    (tmp_path / "pack.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InvalidInput, match="not a text file"):
        load_pack(tmp_path / "pack.toml")
    with pytest.raises(InvalidInput, match=r"is a \.toml file"):
        write_pack(tmp_path / "pack.txt", load_pack("accelerators"))
