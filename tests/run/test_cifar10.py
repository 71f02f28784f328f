"""The main job on real images: CIFAR-10 with a small budget, where the archive is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

STUDY = Path(__file__).parents[2] / "examples" / "cifar10.toml"

SMALL = (
    "task.train=600", "task.validation=200", "task.test=300", "search.trials=2", "search.epochs=1",
    "search.slack=0.5", "limits.accuracy_drop=0.5", "training.baseline_epochs=2", "training.final_epochs=1",
)  # fmt: skip


@pytest.mark.slow
def test_cifar10_from_baseline_to_table(shared_data: Path, tmp_path: Path) -> None:
    archive = shared_data / "cifar10" / "cifar10_jpeg_train.npz"
    command = [sys.executable, "-m", "chipfit.cli.main", "search", str(STUDY), "--data", f"npz:{archive}"]
    command += ["--out", str(tmp_path / "run"), "--json"]
    command += [part for item in SMALL for part in ("--set", item)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout)
    rows = {row["name"]: row for row in found["rows"]}
    assert found["finished"]
    assert found["provenance"]["data"]["sizes"] == {"train": 600, "validation": 200, "test": 300}
    assert list(rows) == ["baseline", "V1 depth multiplier", "V2 fusion", "V3 both"]
    for name, row in rows.items():
        assert 0 <= row["metrics"]["test_accuracy"]["value"] <= 1
        if name != "baseline":
            assert row["holds"]
            assert row["costs"]["latency"]["value"] < rows["baseline"]["costs"]["latency"]["value"]
