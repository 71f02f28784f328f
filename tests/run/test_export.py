"""What is handed over is what was promised: the same costs when read back, the same outputs."""

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch

from chipfit.cli.runs import export as command
from chipfit.errors import InvalidInput, LimitImpossible
from chipfit.nets.load import load
from chipfit.nets.module import GraphModule
from chipfit.nets.tflite.runtime import run_tflite
from chipfit.run.export import export, network_of
from chipfit.run.jobs import task_of
from chipfit.run.launch import launch
from chipfit.run.problem import prepare
from chipfit.run.summary import Summary, summarise


@pytest.fixture(scope="module")
def done(trained: Any, tmp_path_factory: pytest.TempPathFactory) -> Summary:
    directory = tmp_path_factory.mktemp("run")
    list(launch(trained(search={"trials": 4}, limits={"accuracy_drop": 1.0, "latency": "90 %"}), directory))
    return summarise(directory)


@pytest.mark.parametrize("name", ["baseline", "V1", "V2"])
def test_an_onnx_file_costs_and_computes_what_was_promised(done: Summary, tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.onnx"
    exported = export(done, name, "onnx", path)
    assert exported.path == path
    for cost, value in exported.costs.items():
        assert value == pytest.approx(exported.promised[cost], rel=1e-9)
    network = network_of(prepare(done.study), done, done.named(name))
    images = np.random.default_rng(0).standard_normal((1, 3, 16, 16), np.float32)
    with torch.no_grad():
        wanted = GraphModule(network.graph, network.weights).eval()(torch.from_numpy(images)).numpy()
        again = load(path)
        read = GraphModule(again.graph, again.weights).eval()(torch.from_numpy(images)).numpy()
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    (given,) = session.run(None, {session.get_inputs()[0].name: images})
    np.testing.assert_allclose(given, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(read, wanted, rtol=1e-4, atol=1e-5)


def test_plain_pytorch_code_computes_the_same(done: Summary, tmp_path: Path) -> None:
    folder = tmp_path / "plain"
    exported = export(done, "V2", "torch", folder)
    assert exported.path == folder
    assert {path.suffix for path in folder.iterdir()} >= {".py", ".safetensors"}
    for cost, value in exported.costs.items():
        assert value == pytest.approx(exported.promised[cost], rel=1e-9)
    images = torch.from_numpy(np.random.default_rng(0).standard_normal((2, 3, 16, 16), np.float32))
    network = network_of(prepare(done.study), done, done.named("V2"))
    source = (folder / "model.py").read_text()
    assert "chipfit" not in re.sub('""".*?"""', "", source, flags=re.DOTALL)
    space: dict[str, Any] = {"__file__": str(folder / "model.py"), "__name__": "plain"}
    exec(compile(source, "model.py", "exec"), space)
    with torch.no_grad():
        wanted = GraphModule(network.graph, network.weights).eval()(images)
        torch.testing.assert_close(space["load"]()(images), wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["baseline", "V2"])
def test_an_int8_file_holds_the_limits_and_comes_close(done: Summary, tmp_path: Path, name: str) -> None:
    path = tmp_path / "model.tflite"
    exported = export(done, name, "tflite", path)
    for cost, value in exported.costs.items():
        if cost == "parameters":
            # Two numbers of each normalised channel became one bias.
            assert value < exported.promised[cost]
        else:
            assert value == pytest.approx(exported.promised[cost], rel=1e-9), cost
    found = exported.integers
    assert found is not None
    assert (found.images, found.in_float, found.unchecked) == (12, (), "")
    assert abs(found.integer["accuracy"] - found.real["accuracy"]) <= 2 / 12
    assert found.real["accuracy"] == done.named(name).metrics["test_accuracy"]
    assert 0 < found.mean_deviation <= found.largest_deviation < 0.1 * found.span
    # What is reported is what the file computes, on the images of the task.
    task = task_of(done.study.task)
    ((images, labels),) = task.batches("test", 12)
    (given,) = run_tflite(path, images.numpy())
    assert task.metrics(torch.from_numpy(given), labels) == found.integer


def test_the_command_says_how_an_int8_file_does(
    done: Summary, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "model.tflite"
    command(done.directory, trial="V2", format="tflite", out=path, json=True)
    found = json.loads(capsys.readouterr().out)
    exported = export(done, "V2", "tflite", path).integers
    assert exported is not None
    assert found["path"] == str(path)
    assert found["int8"]["metrics"]["accuracy"] == {"value": exported.integer["accuracy"], "source": "measured"}
    assert found["int8"]["float_metrics"]["accuracy"]["value"] == exported.real["accuracy"]
    assert found["int8"]["outputs"]["largest_deviation"]["value"] == exported.largest_deviation
    command(done.directory, trial="V2", format="tflite", out=None)
    text = " ".join(capsys.readouterr().out.split())
    assert f"int8 run on 12 test images: accuracy {100 * exported.integer['accuracy']:.1f} % (float" in text
    assert list(done.directory.glob("trial*.tflite"))


def test_int8_without_litert_says_how_to_get_it(
    done: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    exported = export(done, "V2", "tflite", tmp_path / "model.tflite")
    assert exported.integers is not None
    remedy = "running a TFLite file needs LiteRT; install it with: pip install 'chipfit[litert]'"
    assert exported.integers.unchecked == remedy
    assert (tmp_path / "model.tflite").is_file()
    command(done.directory, trial="V2", format="tflite", out=tmp_path / "model.tflite")
    assert f"not run: {remedy}" in " ".join(capsys.readouterr().out.split())


def test_int8_needs_images_that_chipfit_knows(tiny: Any, tmp_path: Path) -> None:
    list(launch(tiny(variants={"V2": ["fuse"]}), tmp_path / "run"))
    with pytest.raises(InvalidInput, match=r"training of its own \(tiny_problem:by_size\), so chipfit knows no images"):
        export(summarise(tmp_path / "run"), "baseline", "tflite", tmp_path / "x.tflite")
    assert not (tmp_path / "x.tflite").exists()


def test_what_cannot_be_exported_is_refused(done: Summary, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="format 'coreml': known are onnx, tflite, torch"):
        export(done, "V1", "coreml", tmp_path / "x")
    with pytest.raises(InvalidInput, match="has no result 'V7'"):
        export(done, "V7", "onnx", tmp_path / "x.onnx")
    (done.directory / "weights" / "trial0000.safetensors").unlink()
    with pytest.raises(InvalidInput, match=r"cannot read weights from .*trial0000\.safetensors"):
        export(done, "0", "onnx", tmp_path / "x.onnx")
    assert not (tmp_path / "x.onnx").exists()


def test_a_failed_trial_has_nothing_to_export(tiny: Any, tmp_path: Path) -> None:
    list(launch(tiny(accuracy="tiny_problem:fails_when_fused", variants={"V2": ["fuse"]}), tmp_path))
    summary = summarise(tmp_path)
    failed = next(trial for trial in summary.trials if trial.status == "failed")
    with pytest.raises(
        InvalidInput, match=rf"trial {failed.number} failed \(.*fused is not my taste.*\); choose another"
    ):
        export(summary, str(failed.number), "onnx", tmp_path / "x.onnx")


def test_a_written_model_that_breaks_a_limit_is_not_passed_over(
    done: Summary, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = load("resnet8")
    monkeypatch.setattr(
        "chipfit.nets.written.load", lambda path, **options: larger if str(path).endswith("x.onnx") else load(path)
    )
    with pytest.raises(
        LimitImpossible, match=r"the written model has latency .*, above the limit .* please report this"
    ):
        export(done, "V2", "onnx", tmp_path / "x.onnx")
