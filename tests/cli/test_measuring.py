"""profile and fit on the command line: a board of one's own from plan to table."""

import csv
import json
from pathlib import Path

import pytest
from tests.conftest import Run

from chipfit.measure.table import read_table
from chipfit.targets import load_target


@pytest.fixture
def board(tmp_path: Path) -> Path:
    path = tmp_path / "my-board.toml"
    path.write_text('base = "reference-cpu"\nname = "my-board"\n[tool]\nkind = "board"\nruntime = "LiteRT"\n')
    return path


def test_the_simulator_measures_by_default(chipfit: Run, tmp_path: Path) -> None:
    status, out, _ = chipfit("profile", "neural-engine", "--out", tmp_path / "t.csv", "--count", 100, "--json")
    found = json.loads(out)
    assert status == 0
    table = read_table(tmp_path / "t.csv")
    assert found["measurements"] == len(table) > 100
    assert {item.source.kind for item in table.measurements} == {"simulated"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("neural-engine",), "--out FILE is missing"),
        (("neural-engine", "--import", "results.csv"), "--import needs the folder of the plan and a table to write"),
        (("neural-engine", "--plan", "jobs", "--out", "t.csv"), "--plan writes a folder"),
        (("neural-engine", "--plan", "jobs", "--error", "2%"), "--error and --fusion need answers at once"),
        (("neural-engine", "--fusion", "--out", "t.csv"), "--fusion prints what it finds"),
        (("neural-engine", "--error", "small", "--out", "t.csv"), "--error 'small': write a share such as 5%"),
        (("neural-engine", "--error", "200%", "--out", "t.csv"), "must be a fraction from 0 to 1"),
    ],
)
def test_options_that_do_not_go_together_are_one_line(chipfit: Run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = chipfit("profile", *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert len(err.splitlines()) == 1


def test_what_is_measured_is_chosen_until_the_error_is_small_enough(chipfit: Run, tmp_path: Path) -> None:
    table = tmp_path / "t.csv"
    status, out, err = chipfit("profile", "neural-engine", "--out", table, "--error", "20%", "--count", 400, "--json")
    found = json.loads(out)
    assert status == 0
    assert found["stopped"] == "error"
    assert found["error"] <= 0.2
    assert [each["subgraphs"] for each in found["rounds"]][-1] == found["subgraphs"] >= 100
    assert "subgraphs measured: nine of ten networks within" in err
    status, out, _ = chipfit("fit", table, "--target", "neural-engine", "--out", tmp_path / "e.json", "--json")
    assert status == 0
    assert json.loads(out)["network_errors"]["count"] > 0


def test_fusion_prints_a_table_that_a_target_file_takes(chipfit: Run, tmp_path: Path) -> None:
    status, out, _ = chipfit("profile", "neural-engine", "--fusion")
    assert status == 0
    written = tmp_path / "mine.toml"
    written.write_text(f'base = "neural-engine"\nname = "mine"\n{out[out.index("[fuses]") :]}')
    chip, mine = load_target("neural-engine"), load_target(str(written))
    assert mine.fuses == chip.fuses
    status, out, _ = chipfit("profile", "neural-engine", "--fusion", "--json")
    assert {kind: frozenset(names) for kind, names in json.loads(out)["fuses"].items()} == chip.fuses


def test_a_board_says_how_it_is_measured(chipfit: Run, board: Path, tmp_path: Path) -> None:
    status, _, err = chipfit("profile", board, "--out", tmp_path / "t.csv")
    assert status == 2
    assert "--plan DIR" in err


def _time_us(row: dict[str, str]) -> float:
    if row["kind"] in ("call", "network"):
        return {"call1": 5.1, "call9": 5.9}.get(row["model"], 900.0)
    return 5.1 + int(row["macs"]) / 1e4 + int(row["in_elements"]) / 1e3


@pytest.mark.slow
def test_a_board_from_plan_to_table(chipfit: Run, board: Path, tmp_path: Path) -> None:
    jobs, times, out = tmp_path / "jobs", tmp_path / "results.csv", tmp_path / "t.csv"
    status, shown, _ = chipfit("profile", board, "--plan", jobs, "--count", 100, "--json")
    planned = json.loads(shown)
    assert status == 0
    with (jobs / "manifest.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if row["file"].endswith(".tflite")]
    assert len(rows) == planned["models"]
    size = sum(path.stat().st_size for path in (jobs / "models").iterdir())
    assert planned["bytes"] == size
    with times.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "latency_us"])
        # Any times that grow with the work will do.
        writer.writerows([row["file"], _time_us(row)] for row in rows)
    status, shown, err = chipfit("profile", board, "--import", times, "--plan", jobs, "--out", out, "--json")
    assert status == 0, err
    found = json.loads(shown)
    table = read_table(out)
    assert (found["measurements"], found["networks"]) == (len(table), len(table.wholes))
    assert found["networks"] >= 4
    times.write_text("file,latency_us\n" + "".join(f"{row['file']},0\n" for row in rows[:3]))
    status, shown, err = chipfit("profile", board, "--import", times, "--plan", jobs, "--out", out, "--partial")
    assert (status, shown) == (2, "")
    assert err.count("must be above 0") == 3


def test_a_plan_needs_enough_to_learn_from(chipfit: Run, board: Path, tmp_path: Path) -> None:
    status, _, err = chipfit("profile", board, "--plan", tmp_path / "jobs", "--count", 99)
    assert status == 2
    assert "100" in err
