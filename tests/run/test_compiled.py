"""On a chip with a compiler of its own, what that says of the int8 files stands beside the prediction and is judged."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chipfit.cli.runs import as_json
from chipfit.estimate.check import check
from chipfit.measure.vela import installed
from chipfit.nets.load import load
from chipfit.report.findings import comparison
from chipfit.report.page import page
from chipfit.report.tables import comparison_text
from chipfit.run.launch import launch
from chipfit.run.problem import reopen
from chipfit.run.quantised import int8_file
from chipfit.run.settings import Bound
from chipfit.run.study import Study
from chipfit.run.summary import Summary, as_written, summarise

pytestmark = pytest.mark.skipif(installed() is None, reason="ethos-u-vela is not installed")

SMALL: dict[str, Any] = {
    "target": "ethos-u55-256",
    "search": {"trials": 2},
    "variants": {"V": ["depth_multiplier"]},
}


def run(trained: Callable[..., Study], directory: Path, **limits: object) -> Summary:
    list(launch(trained(**SMALL, limits={"accuracy_drop": 1.0, **limits}), directory))
    return summarise(directory)


@pytest.fixture(scope="module")
def done(trained: Callable[..., Study], tmp_path_factory: pytest.TempPathFactory) -> Summary:
    return run(trained, tmp_path_factory.mktemp("run"))


def test_the_compilers_latency_is_that_of_the_file(done: Summary) -> None:
    estimator = reopen(done).estimator
    for number, found in done.int8.items():
        asked = check(estimator, load(int8_file(done.directory, number)))
        assert found.compiled_s == asked.measured.latency_s
        assert found.compiler == f"ethos-u-vela {installed()}"


def test_it_is_shown_wherever_the_prediction_is(done: Summary) -> None:
    baseline, found = comparison(done)
    assert baseline.compiled is not None
    assert found.compiled is not None
    assert baseline.compiled.change == ""
    assert found.compiled.change.startswith(("−", "+"))
    assert f"V {found.compiled.text} {found.compiled.change}" in comparison_text(done)
    assert f"compiled {found.compiled.text}" in page(done, reopen(done))
    figure = as_json(done)["rows"][1]["int8"]["compiled_latency_s"]
    assert figure["value"] == done.int8[done.rows[1].trial.number].compiled_s  # type: ignore[union-attr]
    assert "ethos-u-vela" in figure["source"]


@pytest.mark.parametrize(("factor", "holds"), [(1.001, True), (0.999, False)])
def test_a_limit_on_latency_is_judged_by_the_compiler_too(done: Summary, factor: float, holds: bool) -> None:
    row = done.rows[1]
    given, found = done.rows[0].trial, row.trial
    assert given is not None
    assert found is not None
    own, before = done.int8[found.number].compiled_s, done.int8[given.number].compiled_s
    assert own is not None
    assert before is not None
    for bound in (Bound(value=own * factor), Bound(value=own / before * factor, relative=True)):
        study = done.study.model_copy(
            update={"limits": done.study.limits.model_copy(update={"costs": {"latency": bound}})}
        )
        judged = as_written(replace(row, holds=True), study, done.int8, [given.number])
        assert judged.holds is holds
        assert holds or "above the limit on latency" in judged.note


def test_why_a_file_was_not_compiled_is_said(done: Summary) -> None:
    trial = done.rows[1].trial
    assert trial is not None
    left = replace(done.int8[trial.number], compiled_s=None, compiler="2 subgraphs run on the host's processor")
    shown = comparison(replace(done, int8={**done.int8, trial.number: left}))[1]
    assert shown.compiled is None
    assert "not compiled: 2 subgraphs run on the host's processor" in shown.notes
