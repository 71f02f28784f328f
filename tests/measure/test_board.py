"""A board of the user's own: a plan is what the tool would have measured, its program stands alone, and what comes back
is checked."""

import ast
import csv
import hashlib
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from chipfit.errors import InvalidInput
from chipfit.estimate.sampling import sample
from chipfit.graph.build import Builder
from chipfit.graph.ops import Opaque
from chipfit.graph.subgraphs import cut
from chipfit.measure import board_runner as runner
from chipfit.measure import tool_for
from chipfit.measure.board import MANIFEST, RUNNER, Planner
from chipfit.measure.board_results import imported
from chipfit.measure.measurement import Failure
from chipfit.measure.simulator import simulate
from chipfit.measure.specimen import Largest
from chipfit.nets.zoo import resnet8
from chipfit.targets import Board, load_target, variant

TARGET = variant(load_target("reference-cpu"), {"name": "my-board", "tool": {"kind": "board", "runtime": "LiteRT"}})
SMALL = Largest(1 << 12, 1 << 12)
CALL_S = 4e-6
SPECIMENS = [
    *sample("conv", 48, np.random.default_rng(3), TARGET.fuses, SMALL),
    *sample("pool", 12, np.random.default_rng(4), TARGET.fuses, SMALL),
]
MOST_WORK = 2 + max(range(len(SPECIMENS)), key=lambda place: SPECIMENS[place].workload().macs)  # type: ignore[arg-type]
"""Place of its line in the results, after the two calls."""
USUAL = 2 + next(place for place, item in enumerate(SPECIMENS) if not item.activation)
"""Place of a line with many neighbours."""
Lines = list[dict[str, str]]


@pytest.fixture(scope="module")
def plan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("plan") / "jobs"
    planner = Planner(TARGET, folder)
    assert all(isinstance(item, Failure) for item in planner.subgraphs(SPECIMENS))
    planner.networks([resnet8()])
    planner.finish()
    assert planner.models == 2 + len(SPECIMENS) + 1
    return folder


def manifest(plan: Path) -> Lines:
    with (plan / MANIFEST).open() as file:
        return list(csv.DictReader(file))


def lines(plan: Path) -> Lines:
    """Results as they should be: the simulator's times and the cost of a call, in ms."""
    loads = dict(zip([f"subgraph{place:05d}" for place in range(len(SPECIMENS))], SPECIMENS, strict=True))
    found: Lines = []
    for row in manifest(plan):
        if not row["file"].endswith(".tflite"):
            continue
        seconds = 1e-9 * int(row["model"].removeprefix("call")) if row["kind"] == "call" else 0.0
        if row["model"] in loads:
            seconds = simulate(TARGET, [loads[row["model"]].workload(TARGET.fuses)])[0].latency_s
        elif row["kind"] == "network":
            seconds = 1e-3
        found.append(
            {"file": row["file"], "latency_ms": repr((seconds + CALL_S) * 1e3), "spread_ms": "1e-7",
             "runtime": "LiteRT", "version": "2", "device": "desk", "date": "2026-11-02", "sha256": row["sha256"],
             "error": ""}
        )  # fmt: skip
    return found


def write(path: Path, rows: Lines) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_plan_holds_what_would_have_been_measured_file_by_file(plan: Path) -> None:
    rows = manifest(plan)
    for row in rows:
        if row["file"]:
            assert hashlib.sha256((plan / row["file"]).read_bytes()).hexdigest() == row["sha256"]
    kinds = [row["kind"] for row in rows if not row["file"]]
    assert kinds == [part.workload.kind for part in cut(resnet8(), TARGET.fuses)]
    for place, item in enumerate(SPECIMENS):
        load = item.workload(TARGET.fuses)
        own = [row for row in rows if row["model"] == f"subgraph{place:05d}"]
        assert [Path(row["file"]).suffix for row in own] == [".tflite", ".onnx"]
        assert all(int(row["macs"]) == load.macs and row["kind"] == load.kind for row in own)


def test_the_same_specimens_give_the_same_plan(plan: Path, tmp_path: Path) -> None:
    planner = Planner(TARGET, tmp_path / "again")
    planner.subgraphs(SPECIMENS)
    planner.networks([resnet8()])
    planner.finish()
    assert (tmp_path / "again" / MANIFEST).read_bytes() == (plan / MANIFEST).read_bytes()


def test_a_folder_that_holds_a_plan_is_left_alone(plan: Path) -> None:
    with pytest.raises(InvalidInput, match="holds a plan already"):
        Planner(TARGET, plan)


def test_networks_that_cannot_run_are_left_out_by_name(tmp_path: Path) -> None:
    b = Builder()
    odd = b.graph(b.add(Opaque("Warp", (1, 8, 4, 4)), b.input("input", (1, 8, 4, 4)), key="warp"))
    planner = Planner(TARGET, tmp_path / "jobs")
    planner.networks([odd])
    assert planner.models == 2
    assert "cannot run" in planner.left_out[0]


def test_times_come_back_as_they_were_without_the_cost_of_a_call(plan: Path, tmp_path: Path) -> None:
    found = imported(write(tmp_path / "results.csv", lines(plan)), plan, TARGET)
    assert found.remarks == ()
    loads = [item.workload(TARGET.fuses) for item in SPECIMENS]
    assert [load.macs for load in found.table.workloads] == [load.macs for load in loads]
    assert found.table.workloads == tuple(loads)
    times = [item.latency_s for item in found.table.measurements]
    np.testing.assert_allclose(times, [item.latency_s for item in simulate(TARGET, loads)], rtol=1e-6)
    (whole,) = found.table.wholes
    assert whole.measurement.latency_s == pytest.approx(1e-3)
    assert len(whole.workloads) == len(cut(resnet8(), TARGET.fuses))
    assert {item.source.tool for item in found.table.measurements} == {"LiteRT on desk"}


def test_a_table_in_another_unit_is_the_same(plan: Path, tmp_path: Path) -> None:
    rows = lines(plan)
    other = [{"file": Path(row["file"]).name, "latency_us": repr(float(row["latency_ms"]) * 1e3)} for row in rows]
    times = [
        [item.latency_s for item in imported(write(tmp_path / "results.csv", each), plan, TARGET).table.measurements]
        for each in (rows, other)
    ]
    np.testing.assert_allclose(times[0], times[1], rtol=1e-9)


def test_of_several_times_the_fastest_counts(plan: Path, tmp_path: Path) -> None:
    rows = lines(plan)
    slow = [{**row, "latency_ms": repr(float(row["latency_ms"]) * 1.5)} for row in rows[5:8]]
    once = imported(write(tmp_path / "results.csv", rows), plan, TARGET)
    twice = imported(write(tmp_path / "results.csv", [*slow, *rows]), plan, TARGET)
    assert {
        load: item.latency_s for load, item in zip(twice.table.workloads, twice.table.measurements, strict=True)
    } == {load: item.latency_s for load, item in zip(once.table.workloads, once.table.measurements, strict=True)}
    assert "3 models have several lines; the fastest counts" in twice.remarks[0]


def _change(place: int, **values: str) -> Callable[[Lines], None]:
    return lambda rows: rows[place].update(values)


PROBLEMS: dict[str, tuple[Callable[[Lines], None], str]] = {
    "zero": (_change(5, latency_ms="0"), "results.csv, line 7: latency_ms = '0': must be above 0; time models/"),
    "negative": (_change(5, latency_ms="-3"), "line 7: latency_ms = '-3': must be a number that is not negative"),
    "no number": (_change(5, latency_ms="n/a"), "line 7: latency_ms = 'n/a': must be a number"),
    "another file": (lambda rows: rows.append({**rows[5], "file": "x"}), "line 65: file 'x' is not in the plan"),
    "digest": (_change(5, sha256="00"), "line 7: sha256 of models/subgraph00003.tflite is not that of the plan"),
    "missing": (lambda rows: rows.pop(), "1 of 63 planned models have no line: network00062; run runner.py again"),
    "several tools": (_change(5, version="3"), "columns runtime, version, device: times of several tools: "),
    "too fast": (_change(MOST_WORK, latency_ms=repr(CALL_S * 1e3 + 1e-6)), " s, but my-board needs "),
    "odd": (
        lambda rows: rows[USUAL].update(latency_ms=repr(300 * float(rows[USUAL]["latency_ms"]))),
        f"line {USUAL + 2}: models/subgraph{USUAL - 2:05d}.tflite took ",
    ),
    "unit": (
        lambda rows: [row.update(latency_ms=repr(float(row["latency_ms"]) * 1e3)) for row in rows] and None,
        "times what my-board is described to take: is the unit the one in the column's name?",
    ),
    "no call": (_change(0, error="no memory"), "no time of call1, which tells what an empty call costs"),
}  # fmt: skip


@pytest.mark.parametrize("name", PROBLEMS)
def test_every_problem_is_one_line_with_file_line_and_remedy(name: str, plan: Path, tmp_path: Path) -> None:
    change, message = PROBLEMS[name]
    rows = lines(plan)
    change(rows)
    with pytest.raises(InvalidInput) as caught:
        imported(write(tmp_path / "results.csv", rows), plan, TARGET)
    assert message in str(caught.value)
    assert len(str(caught.value).splitlines()) == 1
    assert caught.value.exit_status == 2


def test_all_problems_are_told_at_once(plan: Path, tmp_path: Path) -> None:
    rows = lines(plan)
    for row in rows[:3]:
        row["latency_ms"] = "0"
    rows.pop()
    with pytest.raises(InvalidInput) as caught:
        imported(write(tmp_path / "results.csv", rows), plan, TARGET)
    assert len(str(caught.value).splitlines()) == 4


def test_a_clock_that_is_too_coarse_is_noticed(plan: Path, tmp_path: Path) -> None:
    rows = [{"file": row["file"], "latency_ms": row["latency_ms"]} for row in lines(plan)]
    rows[1]["latency_ms"] = rows[USUAL]["latency_ms"] = rows[0]["latency_ms"]
    with pytest.raises(InvalidInput, match=f"line {USUAL + 2}: .* took no longer than a call that computes next to"):
        imported(write(tmp_path / "results.csv", rows), plan, TARGET)


@pytest.mark.parametrize(("factor", "believed"), [(1.8, True), (0.6, True), (2.5, False)])
def test_an_odd_time_that_is_confirmed_is_believed(factor: float, believed: bool, plan: Path, tmp_path: Path) -> None:
    rows = lines(plan)
    rows[USUAL]["latency_ms"] = repr(300 * float(rows[USUAL]["latency_ms"]))
    again = {**rows[USUAL], "latency_ms": repr(factor * float(rows[USUAL]["latency_ms"]))}
    path = write(tmp_path / "results.csv", [*rows, again])
    if believed:
        assert len(imported(path, plan, TARGET).table) == len(SPECIMENS)
    else:
        with pytest.raises(InvalidInput, match="times what similar subgraphs take"):
            imported(path, plan, TARGET)


def test_missing_and_failed_models_are_left_out_and_said(plan: Path, tmp_path: Path) -> None:
    rows = lines(plan)
    rows[5] |= {"latency_ms": "", "error": "out of memory"}
    rows.pop(8)
    found = imported(write(tmp_path / "results.csv", rows), plan, TARGET, partial=True)
    assert len(found.table) == len(SPECIMENS) - 2
    assert "1 of 63 planned models have no line: subgraph00006; they are left out" in found.remarks[0]
    assert "1 models failed on the board and are left out: models/subgraph00003.tflite" in found.remarks[1]


def test_files_that_are_none_are_refused(plan: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="No such file"):
        imported(tmp_path / "nothing.csv", plan, TARGET)
    rows = [{"file": "a", "time": "3"}]
    with pytest.raises(InvalidInput, match="needs one column of times, latency_s, latency_ms, latency_us, latency_ns"):
        imported(write(tmp_path / "results.csv", rows), plan, TARGET)
    with pytest.raises(InvalidInput, match=r"manifest.csv: No such file or directory; give the folder that --plan"):
        imported(write(tmp_path / "results.csv", lines(plan)), tmp_path, TARGET)


def test_a_board_is_measured_by_a_plan(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="--plan DIR"):
        tool_for(TARGET)
    path = tmp_path / "my-board.toml"
    path.write_text('base = "reference-cpu"\nname = "my-board"\n[tool]\nkind = "board"\nruntime = "LiteRT"\n')
    assert load_target(path).tool == Board(kind="board", runtime="LiteRT")


def test_the_program_needs_nothing_but_python_and_numpy(plan: Path) -> None:
    tree = ast.parse((plan / RUNNER).read_text(), feature_version=(3, 8))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [item.name for item in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    assert names <= {*sys.stdlib_module_names, "numpy"}


def run_there(folder: Path, *arguments: str) -> Lines:
    """Runs the program as on a board, where chipfit is not installed; its results."""
    command = [sys.executable, str(folder / RUNNER), "--device", "desk", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=os.sep)
    assert done.returncode == 0, done.stderr
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture
def few(tmp_path: Path) -> Path:
    planner = Planner(TARGET, tmp_path / "jobs")
    planner.subgraphs(SPECIMENS[:3])
    planner.networks([resnet8()])
    planner.finish()
    return tmp_path / "jobs"


@pytest.mark.slow
@pytest.mark.parametrize(("runtime", "suffix"), [("ai_edge_litert", "tflite"), ("onnxruntime", "onnx")])
def test_the_program_times_every_model_and_goes_on_where_it_stopped(few: Path, runtime: str, suffix: str) -> None:
    pytest.importorskip(runtime)
    rows = run_there(few, "--format", suffix)
    planned = [row["file"] for row in manifest(few) if row["file"].endswith(suffix)]
    assert [row["file"] for row in rows] == planned
    assert all(float(row["latency_us"]) > 0 and not row["error"] for row in rows)
    # Cut off in the middle of a line, as where the power went.
    text = (few / "results.csv").read_text()
    kept = text.splitlines(keepends=True)[:4]
    (few / "results.csv").write_text("".join(kept) + "models/subgr")
    again = run_there(few, "--format", suffix)
    assert [row["file"] for row in again] == planned
    assert again[:3] == rows[:3]
    assert len(run_there(few, "--format", suffix, "--again", planned[2])) == len(planned) + 1
    table = imported(few / "results.csv", few, TARGET).table
    assert (len(table), len(table.wholes)) == (3, 1)


@pytest.mark.slow
def test_a_model_that_fails_or_ends_the_process_is_recorded_and_the_rest_goes_on(few: Path) -> None:
    pytest.importorskip("ai_edge_litert")
    names = [row["file"] for row in manifest(few) if row["file"].endswith("tflite")]
    (few / names[2]).write_bytes(b"damaged")
    (few / names[3]).unlink()
    (few / "running.txt").write_text(names[4])
    rows = {row["file"]: row for row in run_there(few)}
    assert list(rows) == names
    assert "not the one that was planned" in rows[names[2]]["error"]
    assert "No such file" in rows[names[3]]["error"]
    assert rows[names[4]]["error"] == "the process ended while this model ran"
    assert all(float(rows[name]["latency_us"]) > 0 for name in (*names[:2], *names[5:]))
    assert not (few / "running.txt").exists()


def test_a_runtime_that_refuses_a_planned_model_is_a_line_with_the_reason(
    few: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refuse(model: bytes, threads: int) -> runner.Call:
        raise runner.CannotRun("no such operator")

    monkeypatch.setattr(runner, "litert_runtime", lambda: runner.Runtime("odd", "1", ".tflite", refuse))
    monkeypatch.setattr(runner, "__file__", str(few / RUNNER))
    monkeypatch.setattr(sys, "argv", ["runner.py"])
    assert runner.main() == 0
    with (few / "results.csv").open() as file:
        assert {row["error"] for row in csv.DictReader(file)} == {"no such operator"}
    assert "failed: no such operator" in capsys.readouterr().out
