"""How well a supernet ranks networks that were trained alone, and what it costs: CIFAR-10, 23 decisions.

    python benchmarks/supernet.py [--quick] [--images 8000] [--epochs 10] [--networks 20] [--seed 0] [--keep DIR]

The space is MobileNetV2-like. Networks are drawn uniformly (seed 20261128 + seed) and trained alone from fresh
weights; the supernet is trained once, for 1.75 times the epochs. Accuracy alone is of 4,000 test images; the supernet
judges on 1,000 validation images, as a search does. Costs are CPU seconds of this process, so that what else runs on
the machine counts little. With --keep, what was trained is not trained again. About 40 minutes on one core; the
images are looked for in the directory that CHIPFIT_TEST_DATA names, or in ../shared/data.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import time
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from chipfit.accuracy.recipe import Recipe
from chipfit.accuracy.supernet import Supernet, supernet_metrics, train_supernet
from chipfit.accuracy.train import evaluate, train
from chipfit.estimate.fit import rank_correlation
from chipfit.graph.build import Builder, conv_bn_act, inverted_bottleneck
from chipfit.graph.graph import Graph
from chipfit.graph.totals import macs, parameters
from chipfit.nets.module import GraphModule
from chipfit.nets.network import initialise
from chipfit.spaces.edits import open_space
from chipfit.tasks.image_files import image_archive
from chipfit.tasks.vision import ImageClassification

DATA = Path(os.environ.get("CHIPFIT_TEST_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
IMAGES = DATA / "cifar10" / "cifar10_jpeg_train.npz"
SEED = 20_261_128
LONGER = 1.75
"""Epochs of the supernet by those of a network alone: about ten times the cost, at four networks a step."""
JUDGED = 1000
"""Validation images on which the supernet judges a network."""


def mobilenet_space() -> Graph:
    """A MobileNetV2-like network for 32×32: kernels, widths, expansions, early fusion and skipped blocks are open."""
    b = Builder()
    x = conv_bn_act(b, b.input("input", (1, 3, 32, 32)), 16, stride=2, key="stem")
    for stage, (width, stride) in enumerate(((24, 2), (32, 1), (48, 2)), start=1):
        for block in (1, 2):
            key = f"stage{stage}.block{block}"
            x = inverted_bottleneck(b, x, width, expansion=4, stride=stride if block == 1 else 1, key=key)
    x = conv_bn_act(b, x, 128, kernel=1, key="head")
    x = b.reshape(b.global_pool(x, key="pool"), (-1,), key="flatten")
    edits = {
        "fuse": {"blocks": ["stage1.block1", "stage1.block2"]},
        "kernel": [3, 5],
        "repeats": True,
        "width": {"factors": [1.0, 0.75, 0.5, 0.25], "divisor": 4},
    }
    return open_space(b.graph(b.linear(x, 10, key="classifier")), edits)


def cifar10(images: int) -> ImageClassification:
    """CIFAR-10 with `images` training images."""
    return image_archive(IMAGES, limits={"train": images, "validation": JUDGED, "test": 4 * JUDGED})


def alone(space: Graph, code: NDArray[np.int64], task: ImageClassification, recipe: Recipe, seed: int) -> list[float]:
    """Test accuracy and CPU seconds of one network trained from fresh weights."""
    graph = space.close(code)
    module = GraphModule(graph, initialise(graph, np.random.default_rng(seed)))
    begin = time.process_time()
    for _ in train(module, task, recipe, seed=seed, device="cpu"):
        pass
    took = time.process_time() - begin
    return [evaluate(module, task, "test", device="cpu")["accuracy"], took]


def trained_alone(
    space: Graph, codes: NDArray[np.int64], task: ImageClassification, recipe: Recipe, seed: int, keep: Path | None
) -> NDArray[np.float64]:
    """Test accuracy and CPU seconds of every network (n, 2), from `keep` where they are known."""
    path = None if keep is None else keep / "alone.json"
    known: dict[str, list[float]] = json.loads(path.read_text()) if path is not None and path.exists() else {}
    for number, code in enumerate(codes):
        name = f"{recipe} {task.sizes} {seed} {code.tolist()}"
        if name not in known:
            known[name] = alone(space, code, task, recipe, seed)
            if path is not None:
                path.write_text(json.dumps(known, indent=1))
        print(f"  network {number:2d} alone: {known[name][0]:.1%}, {known[name][1]:.0f} s", flush=True)
    return np.array([known[f"{recipe} {task.sizes} {seed} {code.tolist()}"] for code in codes])


def trained_together(
    space: Graph, task: ImageClassification, recipe: Recipe, seed: int, keep: Path | None
) -> tuple[dict[str, torch.Tensor], float]:
    """State of the trained supernet, and the CPU seconds that it took."""
    supernet = Supernet(space, seed)
    name = f"supernet-{task.sizes['train']}-{recipe.epochs}-{seed}"
    checkpoint = None if keep is None else keep / f"{name}.safetensors"
    path = None if keep is None else keep / f"{name}.seconds"
    took = float(path.read_text()) if path is not None and path.exists() else 0.0
    begin, known = time.process_time(), checkpoint is not None and checkpoint.exists()
    for epoch in train_supernet(supernet, task, recipe, seed=seed, device="cpu", checkpoint=checkpoint):
        shown = f"{epoch.metrics['accuracy']:.1%}, smallest {epoch.metrics['smallest_accuracy']:.1%}"
        print(f"  supernet epoch {epoch.number}: largest {shown}", flush=True)
        if not known and path is not None:
            path.write_text(str(took + time.process_time() - begin))
    return supernet.state_dict(), took if known else took + time.process_time() - begin


def scores_of(
    space: Graph, codes: NDArray[np.int64], supernet: NDArray[np.float64], task: ImageClassification
) -> dict[str, NDArray[np.float64]]:
    """What ranks the networks, by name; zero-shot where this version has it."""
    scores = {
        "supernet": supernet,
        "MACs": macs(space).at(codes)[:, 0],
        "parameters": parameters(space).at(codes)[:, 0],
    }
    if importlib.util.find_spec("chipfit.accuracy.zero_shot") is not None:
        zero_shot = importlib.import_module("chipfit.accuracy.zero_shot")
        (batch, _) = next(task.batches("train", 32))
        values = [zero_shot.default(zero_shot.fresh(space.close(code), 0), batch) for code in codes]
        scores["zero-shot"] = np.array(values)
        scores["both"] = zero_shot.ensemble(np.stack([scores["zero-shot"], supernet], axis=1))
    return scores


def show(scores: dict[str, NDArray[np.float64]], truth: NDArray[np.float64]) -> None:
    """One line for each score."""
    print("\nrank correlation (Spearman) with the accuracy of networks trained alone")
    for name, score in scores.items():
        print(f"  {name:12s} {rank_correlation(score, truth):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a smoke test: few images and networks, one epoch")
    parser.add_argument("--images", type=int, default=8000)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--networks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--keep", type=Path, help="directory for what has been trained")
    given = parser.parse_args()
    if not IMAGES.exists():
        print(f"no images at {IMAGES}; set CHIPFIT_TEST_DATA to a directory that holds cifar10/")
        return
    images, epochs, networks = (512, 1, 4) if given.quick else (given.images, given.epochs, given.networks)
    if given.keep is not None:
        given.keep.mkdir(parents=True, exist_ok=True)
    space, task = mobilenet_space(), cifar10(images)
    codes = np.random.default_rng(SEED + given.seed).integers(0, space.cardinalities, (networks, len(space.decisions)))
    recipe, long = Recipe(epochs), Recipe(max(1, round(LONGER * epochs)))
    print(f"{len(space.decisions)} decisions, {images} images, {epochs} epochs alone, {long.epochs} for the supernet")

    state, together_s = trained_together(space, task, long, given.seed, given.keep)
    supernet = Supernet(space, given.seed)
    supernet.load_state_dict(state)
    begin = time.process_time()
    found = [supernet_metrics(supernet, code, task, images=JUDGED, seed=0, device="cpu")["accuracy"] for code in codes]
    judged_s = (time.process_time() - begin) / networks
    truth, alone_s = trained_alone(space, codes, task, recipe, given.seed, given.keep).T
    show(scores_of(space, codes, np.array(found), task), truth)
    once_s, all_s = alone_s.mean(), together_s
    print(f"accuracy alone {truth.min():.1%} to {truth.max():.1%}, inherited {min(found):.1%} to {max(found):.1%}")
    print(f"one training alone {once_s:.1f} s, the supernet {all_s:.1f} s: {all_s / once_s:.1f} times")
    print(f"judging a network {judged_s:.3f} s: {once_s / judged_s:.0f} times cheaper, {60 / judged_s:.0f} a minute")


if __name__ == "__main__":
    main()
