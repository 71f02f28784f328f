"""Tables and the page of compared designs: everything shown once, inside its bounds, and what is missing is named."""

import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.estimate.design import Area, Designs, compare_designs
from chipfit.nets.zoo import from_zoo
from chipfit.report.design import (
    assumption,
    designs,
    effect_rows,
    gaps,
    headline,
    importance,
    rankings,
    setting,
    shown,
    worst_network,
)
from chipfit.report.design_page import log_ticks, page, picture, write_page
from chipfit.report.tables import text
from chipfit.targets import load_target, variant

ENGINE = load_target("neural-engine")
SMALL = {"lanes.output_channels": [8, 16], "memory.on_chip_bytes": [131_072, 524_288]}
LARGE = {
    "lanes.output_channels+depthwise.channels": [8, 16, 24, 32],
    "lanes.input_channels": [4, 8, 16],
    "lanes.pixels": [1, 2],
    "memory.on_chip_bytes": [131_072, 524_288],
    "memory.dram_bytes_per_s": [1e9, 4e9],
    "clock_hz": [2e8, 1e9],
}


def compared(vary: dict[str, Sequence[Any]] = SMALL, count: int = 2, chip: Any = ENGINE) -> Designs:
    names = ("mobilenet_v2-0.35-96", "resnet8", "ds_cnn", "mobilenet_v1-0.25-96", "ibn_classifier-32")
    return compare_designs(chip, {name: from_zoo(name).graph for name in names[:count]}, vary)


@pytest.mark.parametrize("vary", [SMALL, LARGE, {}])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_tables_fit_a_hundred_columns_and_a_screen(vary: dict[str, Sequence[Any]], count: int) -> None:
    lines = text(designs(compared(vary, count), {"latency": 1e-3, "energy": 1.0})).splitlines()
    assert max(map(len, lines)) <= 100
    assert len(lines) <= 90
    assert "\N{REPLACEMENT CHARACTER}" not in "\n".join(lines)
    assert "simulated" in "\n".join(lines)
    assert "area is a proxy" in "\n".join(lines)


def test_every_design_stands_in_the_table_with_its_figures() -> None:
    found = compared(count=1)
    shown_text = text(designs(found, {"latency": 0.8e-3}))
    rows = [line for line in shown_text.splitlines() if re.match("[✓✗]", line) and "KiB" in line]
    assert len(rows) == len(found)
    for line, design in zip(rows, np.argsort(found.area_mm2, kind="stable"), strict=True):
        held = found.latency_s[design, 0] <= 0.8e-3
        assert line.startswith("✓" if held else "✗")
        assert f"{found.latency_s[design, 0] * 1e3:.3g} ms" in line
        assert f"{found.energy_j[design, 0] * 1e6:.3g} µJ" in line
        assert ("L" in line.split()[1]) == bool(found.front("latency_s")[design])
        assert ("fits" in line) == bool(found.fits[design, 0])
        assert setting("memory.on_chip_bytes", found.setting(int(design))["memory.on_chip_bytes"]) in line


def test_of_very_many_only_fronts_are_shown_and_the_rest_is_counted() -> None:
    found = compared(LARGE, 5)
    rows, left_out = shown(found, None)
    best = found.front("latency_s") | found.front("energy_j")
    assert best[rows].all()
    assert len(rows) + left_out == len(found)
    assert f"{left_out} other designs" in text(designs(found))


def test_what_cannot_run_is_named_with_its_nodes() -> None:
    found = compared({"unsupported": [["opaque"], ["opaque", "depthwise"]]})
    (line,) = gaps(found)
    assert line.startswith("1 of 2 designs cannot run mobilenet_v2-0.35-96: Conv2d (")
    assert "depthwise" in line
    for whole in (text(designs(found)), page(found)):
        assert "cannot run" in whole
        assert "nan" not in whole.replace("\n", " ").lower().split()
    never = compared(chip=variant(ENGINE, {"unsupported": ["opaque", "depthwise"]}))
    assert gaps(never)[0].startswith("no design runs mobilenet_v2-0.35-96")
    assert picture(never, 760, 440).series[0].name == "resnet8"


def test_rankings_name_both_sides_or_say_that_there_is_none() -> None:
    chip = variant(ENGINE, {"lanes.pixels": 4, "clock_hz": 2e8})
    networks = {name: from_zoo(name).graph for name in ("resnet8", "ds_cnn")}
    lines = rankings(compare_designs(chip, networks, {"lanes.input_channels": [4, 32]}))
    assert len(lines) == 2
    assert lines[0].startswith("resnet8 is faster than ds_cnn on ")
    assert lines[1].startswith("ds_cnn is faster than resnet8 on ")
    assert rankings(compared({"clock_hz": [1e8, 2e8]})) == ["the order of the networks is the same on every design"]
    assert rankings(compared(count=1)) == []


def test_of_many_pairs_that_change_places_the_rest_is_counted() -> None:
    found = compared({"lanes.pixels": [1, 2]}, 5)
    there, back = np.arange(1.0, 6), np.arange(5.0, 0, -1)
    lines = rankings(replace(found, latency_s=np.stack([there, back])))
    assert len(lines) == 2 * 4 + 1
    assert lines[-1].startswith("6 other pairs")


def test_the_worst_network_is_the_one_furthest_from_its_best() -> None:
    found = compared({"lanes.output_channels": [4, 32]}, 5)
    name, factor = worst_network(found, 0)
    factors = found.latency_s[0] / found.latency_s.min(axis=0)
    assert (name, factor) == (found.networks[int(factors.argmax())], pytest.approx(factors.max()))


def test_what_matters_says_how_much_there_is_to_matter() -> None:
    found = compared({"lanes.output_channels": [8, 32], "memory.on_chip_bytes": [262_144, 524_288]})
    effects = importance(found)
    assert [title for title, _, _ in effects] == ["latency (mean)", "energy (mean)", *found.networks]
    mean = found.mean("latency_s")
    assert effects[0][2] == pytest.approx(mean.max() / mean.min())
    rows = {row[0]: row[1:] for row in effect_rows(found, effects)}
    assert list(rows) == ["lanes.output_channels", "memory.on_chip_bytes", "several together", "highest by lowest"]
    for column in zip(*(row for name, row in rows.items() if name != "highest by lowest"), strict=True):
        assert sum(float(cell.split()[0]) for cell in column) == pytest.approx(100, abs=0.16)
    assert f"a factor of {effects[0][2]:.3g}" in headline(found)


def test_settings_carry_units() -> None:
    assert setting("memory.on_chip_bytes", 524_288) == "512 KiB"
    assert setting("clock_hz", 500_000_000) == "500 MHz"
    assert setting("clock_hz", 1.2e9) == "1.2 GHz"
    assert setting("memory.dram_bytes_per_s", 4e9) == "4 GB/s"
    assert setting("lanes.pixels", 4) == "4"
    assert "as given" in assumption(Area(1.0, 1.0))


@pytest.mark.parametrize("size", [(760, 440), (360, 380)])
def test_every_design_of_every_network_is_drawn_once_and_inside(size: tuple[int, int]) -> None:
    found = compared(LARGE, 3)
    drawn = picture(found, *size)
    assert [series.name for series in drawn.series] == list(found.networks)
    for j, series in enumerate(drawn.series):
        marks = [*series.best, *series.beaten]
        assert len(marks) == len(found)
        assert all(drawn.left < mark.x < drawn.right and drawn.top < mark.y < drawn.bottom for mark in marks)
        costs = np.stack([found.area_mm2, found.latency_s[:, j]], axis=1)
        dominated = [((costs <= own).all(axis=1) & (costs < own).any(axis=1)).any() for own in costs]
        assert len(series.best) == len(found) - sum(dominated)
        assert all(a.x <= b.x and a.y <= b.y for a, b in itertools.pairwise(series.best))


def test_the_page_needs_nothing_else_and_its_pictures_are_sound(tmp_path: Any) -> None:
    found = compared(LARGE, 2)
    write_page(found, tmp_path / "page.html", {"latency": 1e-3})
    whole = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert whole == page(found, {"latency": 1e-3})
    assert "\N{REPLACEMENT CHARACTER}" not in whole
    for outside in ("http:", "https:", "<script", "<link", "@import", "url("):
        assert outside not in whole
    assert "prefers-color-scheme: dark" in whole
    pictures = [ElementTree.fromstring(item) for item in re.findall(r"<svg viewBox=\"0 0 .*?</svg>", whole, re.DOTALL)]
    assert len(pictures) == 2
    for drawn in pictures:
        marks = [item for item in drawn.iter("path") if item.get("class") in ("on", "off")]
        assert len(marks) == len(found) * 2
        assert all("\N{REPLACEMENT CHARACTER}" not in (item.findtext("title") or "") for item in marks)
        assert {len((item.findtext("title") or "").splitlines()) for item in marks} == {2}


def test_hostile_names_cannot_break_the_page() -> None:
    found = compare_designs(ENGINE, {"<script>alert(1)</script>": from_zoo("resnet8").graph}, {"lanes.pixels": [1, 2]})
    assert "<script" not in page(found)


def test_more_networks_than_colours_are_drawn_as_their_mean() -> None:
    graph = from_zoo("resnet8").graph
    found = compare_designs(ENGINE, {f"n{i}": graph for i in range(7)}, {"lanes.pixels": [1, 2]})
    (series,) = picture(found, 760, 440).series
    assert series.name == "geometric mean of 7 networks"


def test_a_page_that_cannot_be_written_is_said(tmp_path: Any) -> None:
    with pytest.raises(InvalidInput):
        write_page(compared(count=1), tmp_path)


@pytest.mark.parametrize(("low", "high"), [(1.0, 1.01), (1e-3, 2e-3), (0.05, 7.0), (1e-6, 1e6), (3.0, 90.0)])
def test_logarithmic_ticks_are_few_and_inside(low: float, high: float) -> None:
    found = log_ticks(float(np.log(low)), float(np.log(high)), 6)
    assert 1 <= len(found) <= 6
    assert all(low * (1 - 1e-9) <= value <= high * (1 + 1e-9) for value in found)
    assert found == sorted(found)
