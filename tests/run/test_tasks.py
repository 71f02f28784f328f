"""Studies of detection, segmentation and speech: what fits, what is refused in one line, what an int8 file gives."""

from pathlib import Path
from typing import Any

import pytest
import tiny_tasks

from chipfit.errors import InvalidInput
from chipfit.run.integers import export_integers
from chipfit.run.launch import check_fits, launch
from chipfit.run.problem import prepare
from chipfit.run.study import load_study
from chipfit.run.summary import summarise

EXAMPLES = Path(__file__).parents[2] / "examples"


FITTING = {
    "boxes": ("ibn_detector-0.35-32", 1),
    "masks": ("ibn_segmenter-0.5-16", 3),
    "speech": ("tiny_tasks:recogniser", None),
    "keywords": ("ds_cnn", 2),
}


def study(tiny: Any, name: str, **changes: Any) -> Any:
    model, classes = FITTING[name]
    given = {"model": model, "classes": classes, "task": {"data": f"tiny_tasks:{name}"}, "accuracy": None}
    edit = "standard" if name == "keywords" else "fuse"
    space = {edit: True, "depth_multiplier": [1.0, 0.75, 0.5]}
    loose = {"limits": {"accuracy_drop": 1.0}, "space": space, "variants": {"V": [edit, "depth_multiplier"]}}
    return tiny(**{**given, **loose, **changes})


@pytest.mark.parametrize("name", FITTING)
def test_networks_of_the_zoo_fit_their_tasks(tiny: Any, name: str) -> None:
    check_fits(prepare(study(tiny, name)), getattr(tiny_tasks, name)())


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("boxes", {"classes": 2}, r"\(1, 1, rows, columns\) and \(1, 4, rows, columns\).* set classes = 1"),
        ("boxes", {"classes": None}, "gives outputs of shapes .* set classes = 1"),
        ("boxes", {"model": "ibn_classifier-32"}, r"gives an output of shape \(1, 1\), the task needs"),
        ("masks", {"classes": 4}, r"the task needs \(1, 3, rows, columns\); .* set classes = 3"),
        ("speech", {"model": "conv_ctc-0.25-32", "classes": 11}, "2 steps or more; .* set classes = 3"),
        ("speech", {"model": "conv_ctc-0.25-32", "classes": 3}, "takes 40 channels, the data of the task have 12"),
    ],
)
def test_what_does_not_fit_is_one_line(tiny: Any, name: str, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as caught:
        check_fits(prepare(study(tiny, name, **changes)), getattr(tiny_tasks, name)())
    assert "\n" not in str(caught.value)


def test_sounds_are_not_stretched_to_a_network(tiny: Any) -> None:
    task = tiny_tasks.speech()
    problem = prepare(study(tiny, "speech", space={"input_size": [64]}, variants={}))
    longer = problem.network.graph
    assert longer.inputs[0].shape == (1, 12, 32, 1)
    check_fits(problem, task)
    with pytest.raises(InvalidInput, match="use a network of that size, as conv_ctc-32"):
        task.batches("train", 4, (64, 1))


def test_an_int8_detector_is_judged_by_its_boxes(tiny: Any, tmp_path: Path) -> None:
    pytest.importorskip("ai_edge_litert", reason="LiteRT is not installed")
    wanted = study(tiny, "boxes")
    network = prepare(wanted).network
    found = export_integers(network, wanted, tmp_path / "detector.tflite")
    assert found.metric == "mean_average_precision"
    assert found.images == 6
    assert found.in_float == ()
    assert set(found.integer) == set(found.real)
    assert 0 < found.mean_deviation < found.largest_deviation < found.span


@pytest.mark.parametrize("name", FITTING)
def test_a_study_of_every_task_runs_to_its_table(tiny: Any, tmp_path: Path, name: str) -> None:
    search = {"trials": 1, "batch": 1, "epochs": 1, "finalists": 1, "slack": 1.0}
    training = {"baseline_epochs": 1, "final_epochs": 1, "batch_size": 4}
    list(launch(study(tiny, name, search=search, training=training), tmp_path / "run"))
    summary = summarise(tmp_path / "run")
    assert summary.finished
    assert all(trial.status == "done" for trial in summary.trials)
    metric = getattr(tiny_tasks, name)().metric
    assert summary.provenance["data"]["metric"] == metric
    assert all(0 <= trial.metrics[metric] <= 1 for trial in summary.trials)
    for row in summary.rows:
        assert row.trial is not None
        found = summary.int8[row.trial.number].found
        assert found is not None
        assert (found.metric, found.images, found.in_float) == (metric, 6, ())
        assert found.real[metric] == pytest.approx(row.trial.metrics[f"test_{metric}"], abs=1e-6)
        error = row.trial.metrics[f"test_{metric}_standard_error"]
        assert row.trial.metrics["test_accuracy_standard_error"] == error


@pytest.mark.parametrize("name", ["detection", "classification", "segmentation", "speech", "keywords"])
def test_the_limits_of_the_examples_can_be_met(name: str) -> None:
    problem = prepare(load_study(EXAMPLES / f"{name}.toml"))
    problem.require_satisfiable()
    assert len(problem.space.decisions) > 8
