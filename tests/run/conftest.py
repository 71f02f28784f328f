"""Studies of the tiny problem beside this file."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from chipfit.run.study import Study, make_study

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for `tiny_problem`, here and in processes that are started from here

MakeStudy = Callable[..., Study]


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """The environment of a subprocess that finds `tiny_problem`."""
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    return {**os.environ, "PYTHONPATH": path}


TINY: dict[str, Any] = {
    "name": "tiny",
    "model": "tiny_problem:model",
    "target": "neural-engine",
    "accuracy": "tiny_problem:by_size",
    "workers": 1,
    "device": "cpu",
    "space": {"fuse": True, "depth_multiplier": [1.0, 0.75, 0.5]},
    "variants": {"V1 depth": ["depth_multiplier"], "V2 both": ["fuse", "depth_multiplier"]},
    "search": {"trials": 6, "batch": 2, "epochs": 1, "slack": 0.02},
    "limits": {"accuracy_drop": 0.05},
    "training": {"baseline_epochs": 2, "final_epochs": 2, "batch_size": 8},
}


@pytest.fixture(scope="session")
def tiny() -> MakeStudy:
    """Makes a study of the tiny problem; arguments replace sections key by key, other values whole."""

    def make(**changes: Any) -> Study:
        data = dict(TINY)
        for key, value in changes.items():
            merged = key in ("task", "search", "limits", "training") and isinstance(value, dict)
            data[key] = data.get(key, {}) | value if merged else value
        return make_study({key: value for key, value in data.items() if value is not None})

    return make


@pytest.fixture(scope="session")
def trained(tiny: MakeStudy) -> MakeStudy:
    """The same with chipfit's own training on the tiny task."""

    def make(**changes: Any) -> Study:
        return tiny(
            accuracy=None, **{"task": {"data": "tiny_problem:task"}, "limits": {"accuracy_drop": 0.5}} | changes
        )

    return make
