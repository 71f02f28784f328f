"""What holds for the source tree as a whole, beyond what the linters and the import contracts check."""

import subprocess
import sys
from pathlib import Path

import pytest

import chipfit

PACKAGE = Path(__file__).parents[1] / "src" / "chipfit"
LONGEST_FILE_LINES = 400
HEAVY = ("lightgbm", "onnx", "onnxruntime", "sklearn", "torch")


def test_the_tests_run_against_this_checkout() -> None:
    assert Path(chipfit.__file__).parent.samefile(PACKAGE)


def test_no_source_file_is_too_long() -> None:
    lengths = {path: len(path.read_text().splitlines()) for path in PACKAGE.rglob("*.py")}
    too_long = {str(path.relative_to(PACKAGE)): lines for path, lines in lengths.items() if lines > LONGEST_FILE_LINES}
    assert lengths
    assert not too_long


def test_every_folder_with_modules_is_a_package() -> None:
    folders = {path.parent for path in PACKAGE.rglob("*.py")}
    assert PACKAGE in folders
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.parametrize("module", ["chipfit", "chipfit.cli.main"])
def test_starting_imports_no_heavy_library(module: str) -> None:
    script = f"import sys, {module}; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"
