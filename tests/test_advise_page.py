"""docs/advise.md: every command is run, and every figure that it names is what comes out."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.drawn_runs import drawn_run

from chipfit.expert.rules import Chip, Where, load_pack
from chipfit.expert.sites import KINDS

PAGE = (Path(__file__).parents[1] / "docs" / "advise.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def run(line: str, place: Path, answers: str = "") -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "chipfit.cli.main", *shlex.split(line)[1:], "--json"]
    done = subprocess.run(command, cwd=place, input=answers, capture_output=True, text=True, timeout=600, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_the_page_says_what_comes_out(tmp_path: Path) -> None:
    advise, limit, never, apply, review, integers = "".join(blocks("console")).splitlines()[:6]
    status, found = run(advise, tmp_path)
    assert status == 0
    assert found["latency_s"]["value"] == pytest.approx(5.2e-3, rel=0.01)
    layers = found["advised"]
    assert [item["name"] for item in layers] == [
        "stage2.block1.fuse=fused", "stage6.block1.project.width=64", "stage3.block1.fuse=fused",
        "stage1.block1.merge=merged", "pool.pool=earlier",
    ]  # fmt: skip
    first, second, _, merged, last = layers
    assert merged["latency"]["value"] == pytest.approx(-0.010, abs=0.0005)
    assert last["latency"]["value"] == pytest.approx(-0.006, abs=0.0005)
    assert first["latency"]["value"] == pytest.approx(-0.040, abs=0.0005)
    assert first["peak_activation_bytes"]["value"] == pytest.approx(-0.18, abs=0.005)
    assert second["latency"]["value"] == pytest.approx(-0.022, abs=0.0005)
    assert found["together"]["latency"]["value"] == pytest.approx(-0.094, abs=0.0005)
    assert found["fastest"]["latency"]["value"] == pytest.approx(-0.095, abs=0.0005)
    assert {item["kind"] for item in found["left"]} == {"fuse", "depthwise"}
    assert all(item["latency"]["value"] > 0 for item in found["left"])
    assert found["unchanged"]
    assert all(item["tried"] or item["held"] for item in found["unchanged"])

    status, met = run(limit, tmp_path)
    assert status == 0
    assert met["chosen"]["changes"] == ["input.size=96"]
    assert met["chosen"]["latency"]["value"] == pytest.approx(-0.157, abs=0.0005)
    assert met["written"]["costs"]["latency"] == pytest.approx(4.35e-3, rel=0.005)
    assert (tmp_path / "faster.onnx").is_file()
    assert (tmp_path / "faster.onnx.recipe.toml").is_file()

    status, failed = run(never, tmp_path)
    assert status == 1
    assert failed["chosen"]["broken"]["latency"] == pytest.approx(2.98, abs=0.005)
    assert not (tmp_path / "never.onnx").exists()

    status, made = run(apply, tmp_path)
    assert (status, made["written"]["changes"]) == (0, [item["name"] for item in layers[:2]])

    (tmp_path / "review.toml").write_text(blocks("toml")[0])
    status, reviewed = run(review, tmp_path, answers="n\n" * 200)
    assert (status, reviewed["written"]["changes"]) == (0, ["stage2.block1.fuse=fused"])
    status, again = run(review, tmp_path)
    assert (status, again["written"]) == (0, reviewed["written"])

    generator = np.random.default_rng(0)
    for index in range(24):
        file = tmp_path / "images" / ("a", "b")[index % 2] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (160, 160, 3)).astype(np.uint8)).save(file)
    status, whole = run(integers, tmp_path)
    assert (status, whole["written"]["changes"]) == (0, made["written"]["changes"])
    assert whole["int8"]["images"] > 0
    assert whole["int8"]["mean_deviation"] < 0.1 * whole["int8"]["span"]


@pytest.mark.slow
def test_rules_do_what_the_page_says(tmp_path: Path) -> None:
    ruled, mine, mined = "".join(blocks("console")).splitlines()[6:]
    status, found = run(ruled, tmp_path)
    assert status == 0
    assert found["together"]["latency"]["value"] == pytest.approx(-0.283, abs=0.0005)
    fuse, late, aligned, narrower = found["rules"]["matched"]
    assert [rule["id"] for rule in (fuse, late, aligned, narrower)] == ["R1", "R3", "R6", "R7"]
    assert (len(fuse["changes"]), len(fuse["taken"]), len(late["left"])) == (5, 2, 5)
    assert fuse["latency"]["value"] == pytest.approx(-0.056, abs=0.0005)
    assert narrower["latency"]["value"] == pytest.approx(-0.233, abs=0.0005)
    assert (aligned["changes"], len(aligned["fitting"])) == ({}, 25)
    assert (tmp_path / "ruled.onnx").is_file()
    for named, made in (("R1.2", 1), ("R1", 5)):
        status, found = run(ruled.replace("--out ruled", f"--apply {named} --out named"), tmp_path)
        assert (status, len(found["written"]["changes"])) == (0, made)

    drawn_run(tmp_path / "runs" / "presence", 80, "ethos-u55-256")
    status, patterns = run(mine, tmp_path)
    assert status == 0
    assert patterns["rules"]
    status, found = run(mined, tmp_path)
    assert status == 0
    assert found["rules"]["pack"] == "presence"


def test_the_rule_pack_on_the_page_is_one(tmp_path: Path) -> None:
    file = tmp_path / "mine.toml"
    file.write_text(blocks("toml")[1])
    (rule,) = load_pack(file).rule
    kinds = re.findall(r"\w+", rule_line(file, "kind").replace("# or", ""))
    assert set(kinds) - {"kind"} == set(KINDS)
    for line, known in (("where", Where.model_fields), ("chip", Chip.model_fields)):
        assert set(known) <= set(re.findall(r"\w+", rule_line(file, line)))
    assert rule.evidence.by == "hand"


def rule_line(file: Path, key: str) -> str:
    return next(line for line in file.read_text().splitlines() if line.startswith(f"{key} = "))


@pytest.mark.slow
def test_half_of_the_time_is_the_classifier(tmp_path: Path) -> None:
    advise = "".join(blocks("console")).splitlines()[0]
    _, found = run(advise.replace(" advise ", " estimate "), tmp_path)
    slowest = max(found["subgraphs"], key=lambda layer: layer["share"])
    assert slowest["name"] == "classifier"
    assert slowest["share"] == pytest.approx(0.5, abs=0.05)
    assert slowest["bound_by"] == "weights"


def test_the_page_is_short() -> None:
    assert len(PAGE.splitlines()) <= 120
