"""chipfit design: the JSON that programs rely on, limits and exit status, and one line for what cannot be used."""

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.conftest import Run

from chipfit.cli.designing import parse_limits, parse_vary
from chipfit.errors import InvalidInput

NETWORKS = ("--model", "resnet8", "--model", "ds_cnn")
VARY = ("--vary", "lanes.output_channels=8,16", "--vary", "memory.on_chip_bytes=131072,524288")


@pytest.fixture
def design(chipfit: Run) -> Run:
    """As `chipfit`, of the command "design"."""
    return partial(chipfit, "design")


def figures(data: Any) -> Iterator[dict[str, Any]]:
    """Every object that has a value."""
    if isinstance(data, dict):
        if "value" in data:
            yield data
        for item in data.values():
            yield from figures(item)
    elif isinstance(data, list):
        for item in data:
            yield from figures(item)


def test_the_json_has_its_keys_and_every_figure_its_source(design: Run) -> None:
    status, out, err = design("neural-engine", *NETWORKS, *VARY, "--limit", "latency=1ms", "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert set(found) == {
        "target", "chipfit", "simulator", "area", "parameters", "limits", "networks", "designs", "importance",
        "rank_changes",
    }  # fmt: skip
    assert found["limits"] == {"latency": {"value": 0.001, "source": "given"}}
    assert [set(item) for item in found["parameters"]] == [{"name", "keys", "values"}] * 2
    assert [set(item) for item in found["networks"]] == [{"name", "macs", "missing"}] * 2
    assert len(found["designs"]) == 4
    for item in found["designs"]:
        assert set(item) == {
            "settings", "area_mm2", "activation_room_bytes", "mean", "front", "holds_limits", "networks"
        }  # fmt: skip
        assert set(item["mean"]) == {"latency_s", "energy_j", "utilisation"}
        assert set(item["front"]) == {"latency", "energy"}
        for costs in item["networks"].values():
            assert set(costs) == {"latency_s", "energy_j", "utilisation", "peak_activation_bytes", "fits"}
            assert costs["latency_s"]["source"] == "simulated"
    assert set(found["importance"]) == {"latency", "energy", "latency_by_network"}
    assert {item["source"] for item in figures(found)} == {"simulated", "counted", "assumed", "given"}
    assert all(set(item) == {"value", "source"} for item in figures(found))
    assert [item["settings"]["lanes.output_channels"]["value"] for item in found["designs"]] == [8, 8, 16, 16]


def test_what_cannot_run_is_null_with_its_nodes(design: Run) -> None:
    vary = ("--vary", 'unsupported=["opaque"],["opaque","depthwise"]')
    status, out, _ = design("neural-engine", *NETWORKS, *vary, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["designs"][1]["networks"]["ds_cnn"]["latency_s"] == {"value": None, "source": "simulated"}
    assert found["designs"][1]["networks"]["resnet8"]["latency_s"]["value"] > 0
    assert {item["kind"] for item in found["networks"][1]["missing"]} == {"depthwise"}
    assert found["networks"][0]["missing"] == []
    assert found["importance"]["latency"] == {"unsupported": {"value": None, "source": "simulated"}}


def test_a_limit_that_no_design_holds_is_exit_one_with_the_nearest(design: Run) -> None:
    status, out, err = design("neural-engine", *NETWORKS, *VARY, "--limit", "latency=1us", "--json")
    assert status == 1
    assert not any(item["holds_limits"] for item in json.loads(out)["designs"])
    assert err.startswith("chipfit: no design meets latency ≤ 1 µs for every network; the nearest is ")
    assert "lanes.output_channels 16" in err
    assert len(err.splitlines()) == 1


def test_a_network_that_no_design_runs_meets_no_limit(design: Run, tmp_path: Path) -> None:
    vary = ("--vary", 'unsupported=["opaque","depthwise"]')
    status, out, err = design("neural-engine", *NETWORKS, *vary, "--limit", "latency=1s")
    assert status == 1
    assert "none of them runs all networks (ds_cnn)" in err
    assert "no design runs ds_cnn" in out


def test_the_table_fits_and_the_page_is_written(design: Run, tmp_path: Path) -> None:
    path = tmp_path / "page.html"
    status, out, _ = design("neural-engine", *NETWORKS, *VARY, "--out", path)
    assert status == 0
    assert max(map(len, out.splitlines())) <= 100
    assert "simulated" in out
    assert path.read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_areas_can_be_given(design: Run) -> None:
    status, out, _ = design("neural-engine", *NETWORKS, *VARY, "--mac-area", 100, "--byte-area", 1, "--json")
    assert status == 0
    assert json.loads(out)["designs"][0]["area_mm2"]["value"] == pytest.approx((8 * 16 * 100 + 131_072) / 1e6)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("neural", *NETWORKS, *VARY), "no target 'neural'"),
        (("neural-engine", "--model", "resnet9", *VARY), "resnet9"),
        (("neural-engine", "--model", "resnet8", "--model", "resnet8", *VARY), "two networks"),
        (("neural-engine", *NETWORKS, "--vary", "lanes.pixels"), "KEY=VALUE"),
        (("neural-engine", *NETWORKS, "--vary", "lanes.pixel=1"), "lanes.pixel"),
        (("neural-engine", *NETWORKS, "--vary", "lanes.pixels=few,many"), "'few'"),
        (("neural-engine", *NETWORKS, "--vary", "lanes.pixels=1", "--vary", "lanes.pixels=2"), "varied twice"),
        (("neural-engine", *NETWORKS, *VARY, "--limit", "latency"), "COST=BOUND"),
        (("neural-engine", *NETWORKS, *VARY, "--limit", "latency=80%"), "no baseline"),
        (("neural-engine", *NETWORKS, *VARY, "--limit", "macs=1"), "latency and energy"),
        (("neural-engine", *NETWORKS, *VARY, "--mac-area", "-1"), "mac_um2"),
    ],
)
def test_bad_input_is_one_line_and_exit_two(design: Run, arguments: tuple[str, ...], says: str) -> None:
    status, out, err = design(*arguments)
    assert (status, out) == (2, "")
    assert len(err.splitlines()) == 1
    assert err.startswith("chipfit: ")
    assert says in err


def test_values_are_read_as_toml_and_as_text_where_they_are_none() -> None:
    assert parse_vary(["a.b=8, 16", "c=1e9,2_000", "d=int8,int16", 'e=["x"],["y","z"]']) == {
        "a.b": [8, 16],
        "c": [1e9, 2000],
        "d": ["int8", "int16"],
        "e": [["x"], ["y", "z"]],
    }
    assert parse_limits(["latency=2ms", "energy=3 uJ"]) == {"latency": 0.002, "energy": pytest.approx(3e-6)}
    with pytest.raises(InvalidInput):
        parse_vary(["=1"])
