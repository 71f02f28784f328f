"""The Ethos-U targets: every accelerator in every sensible memory mode, as the compiler names them."""

import re
from pathlib import Path

import pytest

from chipfit.errors import InvalidInput
from chipfit.targets import Target, Vela, load_target, shipped_targets

OUTSIDE = {
    "": "Dedicated_Sram_384KB",
    "-dedicated-256": "Dedicated_Sram_256KB",
    "-dedicated-512": "Dedicated_Sram_512KB",
    "-shared-sram": "Shared_Sram",
    "-sram-only": "Sram_Only",
}
MODES = {"u55": {"": "Shared_Sram", "-sram-only": "Sram_Only"}, "u65": OUTSIDE, "u85": OUTSIDE}
MACS = {"u55": (32, 64, 128, 256), "u65": (256, 512), "u85": (128, 256, 512, 1024, 2048)}
EXPECTED = {
    f"ethos-{product}-{macs}{suffix}": (f"ethos-{product}-{macs}", mode)
    for product, sizes in MACS.items()
    for macs in sizes
    for suffix, mode in MODES[product].items()
}
EVERY = pytest.mark.parametrize("target", [load_target(name) for name in EXPECTED], ids=lambda target: target.name)


def test_every_accelerator_comes_in_every_memory_mode_and_sizes_are_in_order() -> None:
    assert tuple(target.name for target in shipped_targets() if isinstance(target.tool, Vela)) == tuple(EXPECTED)


@EVERY
def test_names_say_what_is_compiled_for(target: Target) -> None:
    assert isinstance(target.tool, Vela)
    assert (target.tool.accelerator, target.tool.memory_mode) == EXPECTED[target.name]
    assert target.lanes.macs_per_cycle == int(target.tool.accelerator.rsplit("-", 1)[1])


@EVERY
def test_a_memory_mode_changes_memories_and_nothing_of_the_array(target: Target) -> None:
    base = load_target(EXPECTED[target.name][0])
    for part in ("lanes", "tiles", "depthwise", "vector", "overhead", "energy", "precisions", "fuses"):
        assert getattr(target, part) == getattr(base, part), part
    assert target.memory.on_chip_bytes_per_cycle == base.memory.on_chip_bytes_per_cycle


@EVERY
def test_figures_agree_with_the_configuration_of_the_compiler(target: Target) -> None:
    """Clock, bandwidths and size of memory are those of the sections that the table of the tool names."""
    pytest.importorskip("ethosu.regor", reason="the compiler comes with ethos-u-vela")
    from chipfit.measure.vela import _configuration, settings

    assert isinstance(target.tool, Vela)
    settings(target.tool)
    known = _configuration()[1]
    system = known[f"System_Config.{target.tool.system_config}"]
    mode = known[f"Memory_Mode.{target.tool.memory_mode}"]
    assert float(system["core_clock"]) == target.clock_hz
    # A port moves 8 bytes per cycle, those of Ethos-U65 and U85 16 bytes.
    port = 8 if target.tool.accelerator.startswith("ethos-u55") else 16

    def bytes_per_cycle(memory: str) -> float:
        return port * float(system[f"{memory}_clock_scale"]) * int(system.get(f"{memory}_ports_used", "1"))

    assert target.memory.on_chip_bytes_per_cycle == bytes_per_cycle("Sram")
    outside = system["axi1_port"] if mode.get("const_mem_area", "Axi1") == "Axi1" else ""
    if outside:
        assert target.dram_bytes_per_cycle == bytes_per_cycle(outside)
    assert target.layout.weights_on_chip == (not outside)
    if "arena_cache_size" in mode:
        assert target.memory.on_chip_bytes == int(mode["arena_cache_size"])


def test_a_file_of_ones_own_lies_over_any_of_them_and_over_one_only(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        'base = "ethos-u65-512-sram-only"\nname = "own"\nclock_hz = 500_000_000\n\n'
        '[tool]\nsystem_config = "Ethos_U65_Mid_End"\n',
        encoding="utf-8",
    )
    own, base = load_target(path), load_target("ethos-u65-512-sram-only")
    assert isinstance(own.tool, Vela)
    assert (own.tool.system_config, own.tool.memory_mode) == ("Ethos_U65_Mid_End", "Sram_Only")
    assert own.tiles == base.tiles
    path.write_text('base = ["ethos-u65-256", "ethos-u65-512"]\nname = "own"\n', encoding="utf-8")
    with pytest.raises(InvalidInput, match=re.escape("base = ['ethos-u65-256', 'ethos-u65-512']: take one of")):
        load_target(path)


def test_an_unknown_suffix_is_answered_with_the_nearest_name() -> None:
    with pytest.raises(InvalidInput, match=r"did you mean 'ethos-u55-128-sram-only'\?"):
        load_target("ethos-u55-128-sram_only")
