"""Studies of the tiny problem beside this file, with an estimator that is fitted in a second."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from chipfit.estimate import store
from chipfit.estimate.fit import fit
from chipfit.measure.simulator import simulator
from chipfit.run import workers
from chipfit.run.study import Study, make_study
from chipfit.targets.target import load_target

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE))  # for `tiny_problem`, here and in processes that are started from here
BUDGET = 600

MakeStudy = Callable[..., Study]


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A cache that holds a small estimator and a path on which `tiny_problem` is found, for subprocesses as well."""
    cache = tmp_path_factory.mktemp("cache")
    before = os.environ.get("CHIPFIT_CACHE")
    os.environ["CHIPFIT_CACHE"] = str(cache)
    target = load_target("neural-engine")

    def small(*arguments: Any, **options: Any) -> Any:
        return fit(*arguments, **options | {"budget": BUDGET})

    patch = pytest.MonkeyPatch()
    patch.setattr("chipfit.estimate.fit.fit", small)
    store.default_estimator(target)
    patch.undo()
    path = os.pathsep.join([str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])])
    yield {**os.environ, "PYTHONPATH": path}
    if before is None:
        del os.environ["CHIPFIT_CACHE"]
    else:
        os.environ["CHIPFIT_CACHE"] = before


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


@pytest.fixture
def tiny(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> MakeStudy:
    """Makes a study of the tiny problem; arguments replace sections key by key, other values whole."""
    monkeypatch.setattr(workers, "_tasks", {})

    def make(**changes: Any) -> Study:
        data = dict(TINY)
        for key, value in changes.items():
            merged = key in ("task", "search", "limits", "training") and isinstance(value, dict)
            data[key] = data.get(key, {}) | value if merged else value
        return make_study({key: value for key, value in data.items() if value is not None})

    return make


@pytest.fixture
def trained(tiny: MakeStudy) -> MakeStudy:
    """The same with chipfit's own training on the tiny task."""

    def make(**changes: Any) -> Study:
        return tiny(accuracy=None, **{"task": {"data": "tiny_problem:task"}, "limits": {"accuracy_drop": 0.5}} | changes)

    return make
