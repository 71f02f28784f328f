"""Targets: read from TOML, validated with one line per mistake, equal by what they hold."""

import re
from importlib.resources import files
from pathlib import Path

import pytest
from pydantic import ValidationError

from chipfit.errors import InvalidInput
from chipfit.graph.subgraphs import FOLLOWERS
from chipfit.graph.workload import WORKLOAD_KINDS
from chipfit.targets import Target, load_target, shipped_targets, variant

GOOD = (files("chipfit.targets") / "neural-engine.toml").read_text(encoding="utf-8")
NAMES = tuple(target.name for target in shipped_targets())


def written(folder: Path, text: str) -> Path:
    path = folder / "chip.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", NAMES)
def test_a_shipped_target_has_the_name_of_its_file_and_says_where_it_comes_from(name: str) -> None:
    target = load_target(name)
    assert target.name == name
    if target.tool is None:
        assert target.source == "description"
        text = (files("chipfit.targets") / f"{name}.toml").read_text(encoding="utf-8")
        assert "not silicon" in text.split("\n\n", maxsplit=1)[0]
    else:
        assert "manual" in target.source or "overview" in target.source or "measured" in target.source
    assert set(target.fuses) <= set(WORKLOAD_KINDS)
    assert all(followers <= set(FOLLOWERS) for followers in target.fuses.values())


def test_at_least_four_designs_are_shipped_and_all_differ() -> None:
    assert len(NAMES) >= 4
    assert len({target.digest for target in shipped_targets()}) == len(NAMES)


def test_a_file_and_the_shipped_name_give_the_same_target(tmp_path: Path) -> None:
    path = written(tmp_path, GOOD)
    for source in (path, str(path)):
        target = load_target(source)
        assert target == load_target("neural-engine")
        assert hash(target) == hash(load_target("neural-engine"))


def test_peak_rates_follow_from_lanes_clock_and_precision() -> None:
    target = load_target("neural-engine")
    assert target.peak_macs_per_second == 16 * 16 * 500e6
    assert variant(target, {"default_precision": "int16x8"}).peak_macs_per_second == 16 * 16 * 250e6
    assert target.dram_bytes_per_cycle == 8
    assert target.memory.activation_bytes == (512 - 64) * 1024


def test_the_digest_knows_figures_and_ignores_texts() -> None:
    target = load_target("neural-engine")
    assert variant(target, {"description": "another text", "source": "data sheet"}).digest == target.digest
    assert variant(target, {"lanes.pixels": 2}).digest != target.digest
    assert variant(target, {"fuses.conv": ["add", "composite", "activation", "batch_norm"]}) == target
    assert variant(target, {"fuses.conv": ["add", "activation"]}).digest != target.digest


def test_a_target_does_not_change() -> None:
    with pytest.raises(ValidationError):
        load_target("neural-engine").clock_hz = 1.0  # type: ignore[misc]


def test_a_precision_is_found_by_name() -> None:
    target = load_target("neural-engine")
    assert target.precision() == target.precision("int8") == target.precisions["int8"]
    with pytest.raises(InvalidInput, match="no precision 'int9'; it has int16, int16x8, int8"):
        target.precision("int9")


BAD = {
    "negative clock": ("clock_hz = 500_000_000", "clock_hz = -1", "key 'clock_hz' = -1: must be greater than 0"),
    "misspelt key": ("clock_hz", "clok_hz", "unknown key 'clok_hz' (did you mean 'clock_hz'?)"),
    "misspelt key in a table": ("pixels = 1", "pixel = 1", "unknown key 'lanes.pixel' (did you mean 'pixels'?)"),
    "misspelt key of a precision": ("[precisions.int8]\nweight_bits", "[precisions.int8]\nweight_bit",
                                    "unknown key 'precisions.int8.weight_bit' (did you mean 'weight_bits'?)"),
    "missing key": ("clock_hz = 500_000_000", "", "key 'clock_hz' is missing"),
    "missing key in a table": ("taps = 1\n", "", "key 'depthwise.taps' is missing: add it (kernel taps in one cycle"),
    "text for a number": ("clock_hz = 500_000_000", 'clock_hz = "fast"', "key 'clock_hz' = 'fast': must be a number"),
    "fraction for a count": ("pixels = 1", "pixels = 1.5", "key 'lanes.pixels' = 1.5: must be a whole number"),
    "truth value for a count": ("pixels = 1", "pixels = true", "key 'lanes.pixels' = True: must be a whole number"),
    "infinite": ("clock_hz = 500_000_000", "clock_hz = inf", "key 'clock_hz' = inf: must be a finite number"),
    "efficiency above one": ("efficiency = 0.75", "efficiency = 1.5", "must be less than or equal to 1"),
    "number for a table": ("[overhead]", "lanes2 = 3\n[overhead]", "unknown key 'memory.lanes2'"),
    "text for a list": ('matmul = ["activation", "composite"]', 'matmul = "activation"', "must be a list of names"),
    "unknown kind": ("matmul =", "matmull =", "fuses: unknown 'matmull' (did you mean 'matmul'?)"),
    "unknown follower": ('"composite"]', '"composit"]', "fuses.matmul: unknown 'composit'"),
    "unknown unsupported kind": ('["opaque"]', '["pol"]', "unsupported: unknown 'pol' (did you mean 'pool'?)"),
    "unknown default": ('= "int8"', '= "int4"', "default_precision: unknown 'int4'"),
    "buffer fills memory": ("weight_buffer_bytes = 65_536", "weight_buffer_bytes = 524_288", "must leave room"),
    "name with blanks": ('name = "neural-engine"', 'name = "My Chip"', "key 'name' = 'My Chip': must match pattern"),
    "line break in a text": ('name = "neural-engine"', 'name = "a\\nb"', "key 'name' = 'a\\nb': must match"),
    "not TOML": ("[lanes]", "[lanes", "not a TOML file"),
}  # fmt: skip


@pytest.mark.parametrize("mistake", BAD)
def test_a_mistake_is_named_in_one_line_with_its_file(tmp_path: Path, mistake: str) -> None:
    old, new, message = BAD[mistake]
    assert old in GOOD
    path = written(tmp_path, GOOD.replace(old, new, 1))
    with pytest.raises(InvalidInput, match=re.escape(message)) as caught:
        load_target(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert "\n" not in str(caught.value)


def test_several_mistakes_are_counted(tmp_path: Path) -> None:
    text = GOOD.replace("clock_hz = 500_000_000", "clock_hz = -1").replace("pixels = 1", "pixels = 0")
    with pytest.raises(InvalidInput, match=r"'clock_hz' = -1.*\(and 1 more\)$"):
        load_target(written(tmp_path, text))


def test_an_unknown_name_lists_the_known_ones() -> None:
    with pytest.raises(InvalidInput, match=r"no target 'neural-engin' \(did you mean 'neural-engine'\?\)") as caught:
        load_target("neural-engin")
    assert all(name in str(caught.value) for name in NAMES)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match=r"absent\.toml: cannot be read \(No such file"):
        load_target(tmp_path / "absent.toml")
    path = tmp_path / "binary.toml"
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InvalidInput, match=r"binary\.toml: not a text file"):
        load_target(path)


def test_a_variant_is_validated_like_a_file() -> None:
    target = load_target("neural-engine")
    changed = variant(target, {"lanes.output_channels": 8, "name": "half"})
    assert (changed.lanes.output_channels, changed.name) == (8, "half")
    assert target.lanes.output_channels == 16
    for key, message in {
        "lanes.outputs": "unknown key 'lanes.outputs'",
        "nothing.lanes": "unknown table 'nothing' in 'nothing.lanes'",
        "clock_hz.lanes": "unknown table 'clock_hz' in 'clock_hz.lanes'",
        "lanes.pixels": "key 'lanes.pixels' = 0: must be greater than 0",
    }.items():
        with pytest.raises(InvalidInput, match=f"variant of neural-engine: {re.escape(message)}"):
            variant(target, {key: 0})


@pytest.mark.parametrize(
    "target", [item for item in shipped_targets() if item.tool is None], ids=lambda target: target.name
)
def test_plain_data_gives_the_target_back(target: Target) -> None:
    assert Target.model_validate(target.model_dump(mode="json")) == target
