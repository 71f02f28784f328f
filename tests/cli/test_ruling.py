"""chipfit patterns and advise --rules: their JSON, what they write, and what they refuse in one line."""

import json
from pathlib import Path

import pytest
from tests.conftest import Run
from tests.drawn_runs import drawn_run

from chipfit.expert.rules import load_pack

ASKED = ("advise", "ibn_classifier", "--target", "neural-engine", "--rules")


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A search of a few networks and one of many."""
    place = tmp_path_factory.mktemp("runs")
    return drawn_run(place / "few", 6), drawn_run(place / "many", 80)


def test_every_figure_of_the_rules_has_its_source(chipfit: Run) -> None:
    status, out, err = chipfit(*ASKED, "accelerators", "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["rules"]["pack"] == "accelerators"
    listed = {item["id"]: item for kind in ("advised", "left") for item in found[kind]}
    for rule in found["rules"]["matched"]:
        assert rule["evidence"]["by"] == "hand"
        assert rule["latency"]["source"] == "predicted"
        assert set(rule["changes"]) <= set(listed)
        assert set(rule["taken"]) <= {item["id"] for item in found["advised"]}
    assert found["together"]["latency"]["value"] < 0


def test_people_see_rules_changes_and_what_stays(chipfit: Run) -> None:
    status, out, _ = chipfit(*ASKED, "accelerators")
    assert status == 0
    for text in (
        "✓ R1.1",
        "in the set",
        "written by hand",
        "at once: latency −",
        "R3 leave late bottlenecks",
        "R1,R7",
    ):
        assert text in out
    assert max(map(len, out.splitlines())) <= 100


def test_what_is_taken_is_written_and_what_is_named_is_written_instead(chipfit: Run, tmp_path: Path) -> None:
    status, out, _ = chipfit(*ASKED, "accelerators", "--out", tmp_path / "made.onnx", "--json")
    made = json.loads(out)
    assert status == 0
    assert made["written"]["costs"] == pytest.approx(made["written"]["promised"])
    assert set(made["written"]["changes"]) == {item["name"] for item in made["advised"]}
    file = tmp_path / "named.onnx"
    status, out, _ = chipfit(*ASKED, "accelerators", "--apply", "R6,R1.1", "--out", file, "--json")
    named = json.loads(out)
    assert status == 0
    asked = next(rule for rule in named["rules"]["matched"] if rule["id"] == "R6")["changes"]
    assert asked
    assert set(named["written"]["changes"]) == {*asked.values(), "stage1.block1.fuse=fused"}
    assert file.is_file()


def test_patterns_become_rules_that_apply_to_another_network(
    chipfit: Run, runs: tuple[Path, Path], tmp_path: Path
) -> None:
    file = tmp_path / "mined.toml"
    status, out, err = chipfit("patterns", runs[1], "--out", file, "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["trials"] >= 50
    assert all(pattern["best"]["source"] == "counted" for pattern in found["patterns"])
    above = [pattern for pattern in found["patterns"] if pattern["verdict"] == "above"]
    assert len(found["rules"]) == len(above) > 0
    pack = load_pack(file)
    assert [rule.do for rule in pack.rule] == [rule["do"] for rule in found["rules"]]
    assert {rule.chip.names for rule in pack.rule} == {("neural-engine",)}
    status, out, _ = chipfit("advise", "mobilenet_v2-0.35-96", "-t", "neural-engine", "--rules", file)
    assert status == 0
    assert "best, offered" in " ".join(out.split())
    status, _, err = chipfit("advise", "mobilenet_v2-0.35-96", "-t", "ethos-u55-256", "--rules", file)
    assert status == 2
    assert f"({len(pack.rule)} are for other chips)" in err


def test_people_see_patterns_by_position_resolution_and_width(chipfit: Run, runs: tuple[Path, Path]) -> None:
    status, out, _ = chipfit("patterns", runs[1])
    assert status == 0
    for text in ("by position", "by resolution", "by width", "recurs", "rule: fuse leave"):
        assert text in out
    assert max(map(len, out.splitlines())) <= 100


def test_few_trials_make_no_rule_and_no_file(chipfit: Run, runs: tuple[Path, Path], tmp_path: Path) -> None:
    status, out, _ = chipfit("patterns", runs[0])
    assert status == 0
    assert "No rule: nothing stands out beyond chance" in out
    status, out, err = chipfit("patterns", runs[0], "--out", tmp_path / "mined.toml")
    assert (status, out) == (2, "")
    assert "so there is no rule to write" in err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nothing",), "no rule pack 'nothing'"),
        (("accelerators", "--limit", "latency=1ms"), "give it without --limit and --review"),
        (("accelerators", "--apply", "all"), "--apply needs --out"),
        (("accelerators", "--apply", "R99", "--out", "x.onnx"), "there is no change 'R99'"),
        (("accelerators", "--apply", "R3", "--out", "x.onnx"), "asks for no change here"),
        (("accelerators", "--out", "x.xyz"), r".onnx or .tflite"),
    ],
)
def test_what_cannot_be_used_is_one_line(chipfit: Run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = chipfit(*ASKED, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_a_contradiction_and_rules_that_do_not_pay_write_nothing(chipfit: Run, tmp_path: Path) -> None:
    rule = (
        '[[rule]]\nname = "{}"\nkind = "fuse"\ndo = "{}"\nwhere = {{position = {{{}}}}}\nevidence = {{by = "hand"}}\n'
    )
    begin = 'name = "p"\ndescription = "d"\n'
    pack, file = tmp_path / "pack.toml", tmp_path / "made.onnx"
    pack.write_text(begin + rule.format("a", "fused", "most = 0.9") + rule.format("b", "leave", "least = 0.1"))
    status, _, err = chipfit(*ASKED, pack, "--out", file)
    assert status == 2
    assert "contradicts itself" in err
    assert err.count("\n") == 1
    pack.write_text(begin + rule.format("late", "fused", "least = 0.8"))
    status, _, err = chipfit(*ASKED, pack, "--out", file)
    assert status == 2
    assert "nothing that rule pack p asks for pays on neural-engine" in err
    assert [path.name for path in tmp_path.iterdir()] == ["pack.toml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [(("nowhere",), "is not a run directory"), (("nowhere", "nowhere"), "a run is given twice")],
)
def test_runs_that_are_none(chipfit: Run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = chipfit("patterns", *arguments)
    assert (status, out) == (2, "")
    assert message in err


def test_places_are_sorted_by_what_is_known(chipfit: Run, runs: tuple[Path, Path], tmp_path: Path) -> None:
    status, _, err = chipfit("patterns", runs[0], "--by", "depth")
    assert status == 2
    assert "take some of position, resolution, width" in err
    status, out, _ = chipfit("patterns", runs[1], "--by", "resolution, width", "--json")
    assert status == 0
    assert json.loads(out)["by"] == ["resolution", "width"]
