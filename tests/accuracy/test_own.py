"""Whatever a user's own training does, it is a result or one line that says where it went wrong."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from chipfit.accuracy.own import Budget, call_own
from chipfit.errors import InvalidInput, TrainingFailed

BUDGET = Budget("search", epochs=2, images=None, seed=1, device="cpu")

OWN = """
import sys
import torch
NUMBER = 3

def number(module, budget): return 0.5
def tensor(module, budget): return torch.tensor(0.5)
def mapping(module, budget): return {"accuracy": 0.5, "loss": 2, "epochs": budget.epochs}
def trains(module, budget):
    with torch.no_grad():
        module.weight.fill_(7.0)
    return 0.5
def raises(module, budget):
    return 1 / 0
def raises_in_torch(module, budget):
    return module(torch.zeros(1, 99))
def leaves(module, budget): sys.exit("enough")
def interrupted(module, budget): raise KeyboardInterrupt
def nothing(module, budget): return None
def text(module, budget): return "good"
def pair(module, budget): return (0.5, 0.6)
def many(module, budget): return torch.zeros(1000)
def nan(module, budget): return float("nan")
def infinite(module, budget): return {"accuracy": float("inf")}
def without(module, budget): return {"loss": 2.0}
def words(module, budget): return {"accuracy": 0.5, "note": "fine"}
def narrow(module): return 0.5
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "own_training.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    monkeypatch.delitem(sys.modules, "own_training", raising=False)
    return tmp_path / "own_training.py"


def call(name: str, module: torch.nn.Module | None = None) -> dict[str, float]:
    return call_own(f"own_training:{name}", module or torch.nn.Linear(4, 2), BUDGET)


def line_of(text: str) -> int:
    return OWN.splitlines().index(text) + 1


def test_numbers_and_mappings_are_results() -> None:
    assert call("number") == {"accuracy": 0.5}
    assert call("tensor") == {"accuracy": 0.5}
    assert call("mapping") == {"accuracy": 0.5, "loss": 2.0, "epochs": 2.0}


def test_the_module_is_trained_in_place() -> None:
    module = torch.nn.Linear(4, 2)
    call("trains", module)
    assert np.all(module.weight.detach().numpy() == 7)


@pytest.mark.parametrize(
    ("name", "line", "words"),
    [
        ("raises", "    return 1 / 0", "raised ZeroDivisionError: division by zero"),
        ("raises_in_torch", "    return module(torch.zeros(1, 99))", "raised RuntimeError: mat1 and mat2"),
        ("leaves", 'def leaves(module, budget): sys.exit("enough")', "raised SystemExit: enough"),
    ],
)
def test_what_it_raises_is_said_with_the_line_in_the_users_file(own: Path, name: str, line: str, words: str) -> None:
    with pytest.raises(TrainingFailed) as caught:
        call(name)
    message = str(caught.value)
    assert message.startswith(f"own_training:{name} {words}")
    assert message.endswith(f"({own}:{line_of(line)})")
    assert "\n" not in message


def test_a_function_that_takes_other_arguments_fails_with_what_python_says() -> None:
    with pytest.raises(TrainingFailed, match=r"raised TypeError: narrow\(\) takes 1 positional argument"):
        call("narrow")


def test_an_interrupt_is_no_failure() -> None:
    with pytest.raises(KeyboardInterrupt):
        call("interrupted")


@pytest.mark.parametrize("name", ["nothing", "text", "pair", "many", "words"])
def test_nonsense_is_refused(name: str) -> None:
    with pytest.raises(TrainingFailed, match=r"returned .*; return a number or a mapping of numbers") as caught:
        call(name)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("name", ["nan", "infinite", "without"])
def test_a_result_has_a_finite_accuracy(name: str) -> None:
    with pytest.raises(TrainingFailed, match="returned no finite 'accuracy'"):
        call(name)


def test_a_name_that_is_no_function_is_refused() -> None:
    with pytest.raises(InvalidInput, match="accuracy 'own_training:NUMBER' is not a function"):
        call("NUMBER")
    with pytest.raises(InvalidInput, match="own_training has no 'absent'"):
        call("absent")
