"""chipfit advise: its JSON, what it writes, reviews that are replayed, and what it refuses in one line."""

import io
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tests.conftest import Run

from chipfit.nets.load import load

ASKED = ("advise", "ibn_classifier", "--target", "neural-engine")


def test_every_figure_of_the_json_has_its_source(chipfit: Run) -> None:
    status, out, err = chipfit(*ASKED, "--json")
    found = json.loads(out)
    assert (status, err) == (0, "")
    assert found["latency_s"]["source"] == "predicted"
    items = [item for kind in ("advised", "free", "sacrifices", "left") for item in found[kind]]
    assert found["advised"]
    assert len({item["id"] for item in items}) == len(items)
    for item in (*items, found["together"], found["fastest"]):
        assert item["latency"]["source"] == "predicted"
        assert item["energy"]["source"] == "modelled"
        assert item["peak_activation_bytes"]["source"] == "counted"
    assert found["unchanged"]
    for item in found["unchanged"]:
        assert item["tried"] or item["held"]
        assert all(each["why_not"] and each["latency"]["source"] == "predicted" for each in item["tried"])
    assert found["fastest"]["latency"]["value"] <= found["together"]["latency"]["value"] < 0


def test_people_see_what_to_change_and_what_it_brings(chipfit: Run) -> None:
    status, out, _ = chipfit(*ASKED)
    assert status == 0
    assert "What to change" in out
    assert "all of them at once" in out
    assert "--apply" in out
    assert max(map(len, out.splitlines())) <= 100


def test_what_is_applied_is_written_and_costs_what_was_promised(chipfit: Run, tmp_path: Path) -> None:
    file = tmp_path / "made.onnx"
    status, out, _ = chipfit(*ASKED, "--apply", "all", "--out", file, "--json")
    made = json.loads(out)["written"]
    assert status == 0
    assert made["costs"] == pytest.approx(made["promised"])
    status, out, _ = chipfit("estimate", file, "-t", "neural-engine", "--json")
    assert json.loads(out)["latency_s"]["value"] == pytest.approx(made["costs"]["latency"])
    assert Path(made["recipe"]).is_file()


def test_limits_that_cannot_be_met_say_by_how_much_and_write_nothing(chipfit: Run, tmp_path: Path) -> None:
    file = tmp_path / "made.onnx"
    status, _, err = chipfit(*ASKED, "--limit", "latency=1us", "--out", file)
    assert status == 1
    assert "exceeds latency by" in err
    assert not file.exists()
    status, out, _ = chipfit(*ASKED, "--limit", "latency=90%", "--limit", "memory=1MiB", "--json")
    assert status == 0
    assert json.loads(out)["chosen"]["latency"]["value"] <= -0.1


def test_a_review_that_is_there_is_replayed_without_a_question(chipfit: Run, tmp_path: Path) -> None:
    _, out, _ = chipfit(*ASKED, "--json")
    found = json.loads(out)
    names = [item["name"] for kind in ("advised", "free", "sacrifices") for item in found[kind]]
    lines = [f'"{name}" = {"true" if name == names[0] else "false"}' for name in names]
    file = tmp_path / "review.toml"
    file.write_text("\n".join(['model = "ibn_classifier"', 'target = "neural-engine"', "[changes]", *lines]))
    status, out, err = chipfit(*ASKED, "--review", file, "--out", tmp_path / "made.onnx", "--json")
    assert (status, err) == (0, "")
    assert json.loads(out)["written"]["changes"] == names[:1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--apply", "all"), "--apply needs --out"),
        (("--apply", "A1", "--limit", "latency=1ms", "--out", "x.onnx"), "give one of them"),
        (("--apply", "A999", "--out", "x.onnx"), "there is no change 'A999'"),
        (("--limit", "beauty=1"), "costs are latency, energy, weights, memory"),
        (("--limit", "latency=1ms", "--limit", "latency=2ms"), "has a limit already"),
        (("--limit", "memory=3ms"), "write a number with a unit"),
        (("--limit", "latency=90%", "--data", "rooms", "--out", "x.onnx"), "needs --out FILE.tflite"),
        (("--limit", "latency=90%", "--data", "npz:none.npz", "--out", "x.tflite"), "none.npz"),
        (("--limit", "latency=90%", "--data", "pictures", "--out", "x.tflite"), "unknown task 'pictures'"),
    ],
)
def test_what_cannot_be_used_is_one_line(chipfit: Run, arguments: tuple[str, ...], message: str) -> None:
    status, out, err = chipfit(*ASKED, *arguments)
    assert (status, out) == (2, "")
    assert message in err
    assert err.count("\n") == 1


def test_limits_on_energy_and_memory_hold_in_what_is_chosen(chipfit: Run) -> None:
    status, out, _ = chipfit(*ASKED, "--limit", "energy=95%", "--limit", "memory=100%", "--json")
    found = json.loads(out)["chosen"]
    assert status == 0
    assert found["energy"]["value"] <= -0.05
    assert found["peak_activation_bytes"]["value"] <= 0
    status, out, _ = chipfit(*ASKED, "--limit", "memory=80%", "--json")
    assert (status, json.loads(out)["chosen"]["peak_activation_bytes"]["value"] <= -0.2) == (0, True)
    status, _, err = chipfit(*ASKED, "--limit", "energy=1%", "--limit", "memory=1KiB")
    assert status == 1
    assert "exceeds" in err
    assert "energy" in err
    assert "memory" in err


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """An archive of 40 noisy images of two classes."""
    generator = np.random.default_rng(0)
    files: list[bytes] = []
    for index in range(40):
        kept = io.BytesIO()
        noise = generator.integers(0, 128, (96, 96, 3)) + 127 * (index % 2)
        Image.fromarray(noise.astype(np.uint8)).save(kept, "PNG")
        files.append(kept.getvalue())
    content = {
        "jpeg": np.frombuffer(b"".join(files), np.uint8),
        "offsets": np.cumsum([0, *map(len, files)]),
        "labels": np.arange(40) % 2,
        "classes": np.array(["dark", "light"]),
    }
    np.savez(tmp_path / "pictures.npz", **content)
    return tmp_path / "pictures.npz"


def test_with_images_a_tflite_file_is_int8_and_near_the_float_network(
    chipfit: Run, pictures: Path, tmp_path: Path
) -> None:
    pytest.importorskip("ai_edge_litert")
    file = tmp_path / "made.tflite"
    status, out, _ = chipfit(*ASKED, "--apply", "A1", "--out", file, "--data", f"npz:{pictures}", "--json")
    found = json.loads(out)
    assert status == 0
    assert found["written"]["costs"] == pytest.approx(found["written"]["promised"], rel=5e-3)
    assert found["int8"]["calibrated"] > 0
    assert found["int8"]["images"] > 0
    assert found["int8"]["mean_deviation"] < 0.05 * found["int8"]["span"]
    assert load(file).quantisation
    status, out, _ = chipfit(*ASKED, "--apply", "A1", "--out", file)
    assert "float32" in out
    assert not load(file).quantisation


def test_advice_that_writes_nothing_needs_no_torch() -> None:
    code = (
        "import sys; from chipfit.cli.main import app; "
        "app(['advise', 'ibn_classifier', '-t', 'neural-engine', '--json'], standalone_mode=False); "
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], stdout=subprocess.DEVNULL, check=False).returncode == 0
