"""Laws of segmentation: what counts, what is learned, how masks follow their images."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chipfit.accuracy.recipe import Recipe
from chipfit.accuracy.train import train
from chipfit.errors import InvalidInput
from chipfit.nets.module import GraphModule
from chipfit.nets.zoo import from_zoo
from chipfit.tasks.augment import Augmentation
from chipfit.tasks.segmentation import IGNORED, Segmentation, frequency_weights
from chipfit.testing.tasks import check_task

COUNTS = {"train": 24, "validation": 12, "test": 10}


def halves(**changes) -> Segmentation:
    """A bright part left of a dark one, the border somewhere; two columns at the edges do not count."""
    rng = np.random.default_rng(0)
    images, masks = {}, {}
    for split, count in COUNTS.items():
        border = rng.integers(8, 24, count)
        right = np.arange(32)[None, None, :] >= border[:, None, None]
        right = np.broadcast_to(right, (count, 16, 32))
        images[split] = (rng.integers(0, 60, (count, 16, 32, 3)) + np.where(right, 30, 160)[..., None]).astype(np.uint8)
        masks[split] = right.astype(np.uint8)
        masks[split][:, :, [0, 31]] = IGNORED
    values = {"name": "halves", "classes": ("left", "right"), "images": images, "masks": masks, "source": "drawn"}
    return Segmentation(**{**values, **changes})


def segmenter(size: str = "16x32") -> GraphModule:
    net = from_zoo(f"ibn_segmenter-0.5-{size}", 0, classes=2)
    return GraphModule(net.graph, net.weights)


def test_segmentation_keeps_what_tasks_promise() -> None:
    check_task(halves(), lambda inputs: segmenter().eval()(inputs))


@settings(max_examples=30)
@given(st.integers(0, 2**31))
def test_the_metric_is_the_mean_of_the_overlaps_of_sets(seed: int) -> None:
    rng = np.random.default_rng(seed)
    task = halves()
    found, wanted = rng.integers(0, 2, (3, 16, 32)), rng.integers(0, 2, (3, 16, 32))
    wanted[rng.random(wanted.shape) < 0.2] = IGNORED
    metrics = task.metrics(torch.from_numpy(found.astype(np.uint8)), torch.from_numpy(wanted.astype(np.uint8)))
    counted = wanted != IGNORED
    overlaps = [((found == c) & (wanted == c)).sum() / (((found == c) & counted) | (wanted == c)).sum() for c in (0, 1)]
    assert metrics["mean_intersection_over_union"] == pytest.approx(np.mean(overlaps))
    assert metrics["pixel_accuracy"] == pytest.approx((found == wanted)[counted].mean())
    assert 0 < metrics["mean_intersection_over_union_standard_error"] < 0.1


def test_right_outputs_of_any_resolution_score_best() -> None:
    task = halves()
    ((_, targets),) = task.batches("test", 100)
    right = (targets == 1).float()
    full = torch.stack([1 - right, right], dim=1) * 20
    assert task.metrics(task.read(full), targets)["mean_intersection_over_union"] == 1
    coarse = torch.nn.functional.avg_pool2d(full, 2)
    assert task.metrics(task.read(coarse), targets)["mean_intersection_over_union"] > 0.9
    losses = [float(task.loss(outputs, targets)) for outputs in (full, coarse, torch.zeros_like(full), -full)]
    assert losses == sorted(losses)
    assert losses[2] == pytest.approx(np.log(2))


def test_pixels_that_do_not_count_change_nothing() -> None:
    task = halves()
    ((_, targets),) = task.batches("test", 100)
    outputs = torch.randn(10, 2, 16, 32, generator=torch.Generator().manual_seed(0))
    other = outputs.clone()
    other[:, :, :, [0, 31]] = 5.0
    other[:, 0, :, [0, 31]] = -5.0
    assert float(task.loss(other, targets)) == pytest.approx(float(task.loss(outputs, targets)))
    assert task.metrics(task.read(other), targets) == task.metrics(task.read(outputs), targets)
    nothing = torch.full_like(targets, IGNORED)
    assert float(task.loss(outputs, nothing)) == 0
    with pytest.raises(InvalidInput, match="no pixel of these targets counts"):
        task.metrics(task.read(outputs), nothing)


def test_rare_classes_weigh_more_and_change_the_loss() -> None:
    masks = np.zeros((2, 10, 10), np.uint8)
    masks[0, 0, :5], masks[1] = 1, IGNORED
    weights = frequency_weights(masks, 3)
    assert weights[2] > weights[1] > weights[0] > 0
    assert np.mean(weights) == pytest.approx(1)
    ((_, targets),) = halves().batches("test", 100)
    outputs = torch.zeros(10, 2, 16, 32)
    outputs[:, 0] = 1.0
    plain, weighted = (float(halves(weights=w).loss(outputs, targets)) for w in (None, (0.5, 1.5)))
    assert weighted > plain
    assert float(halves(weights=(2.0, 2.0)).loss(outputs, targets)) == pytest.approx(plain)


def test_masks_move_with_their_images() -> None:
    task = halves(augmentation=Augmentation(shift=0.3, brightness=0, contrast=0))
    for inputs, targets in task.batches("train", 24, generator=np.random.default_rng(0)):
        bright = inputs.mean(dim=1) > 0
        counted = targets != IGNORED
        assert bool((bright == (targets == 0))[counted].all())


def test_a_few_steps_lower_the_loss() -> None:
    history = list(train(segmenter(), halves(), Recipe(epochs=4, batch_size=8), seed=0, device="cpu"))
    assert history[-1].loss < 0.5 * history[0].loss


def test_contradictions_are_refused() -> None:
    good = halves()
    high, empty = good.masks["test"].copy(), np.full_like(good.masks["test"], IGNORED)
    high[0, 0, 5] = 2
    for masks, words in (
        (high, "holds class 2, of 2 classes"),
        (empty, "no pixel of the masks counts"),
        (good.masks["test"][:, :5], "masks are uint8"),
        (good.masks["test"].astype(np.int64), "masks are int64"),
    ):
        with pytest.raises(InvalidInput, match=f"task halves, test split.*{words}"):
            halves(masks={**good.masks, "test": masks})
    for changes, words in (({"classes": ("one",)}, "1 classes"), ({"weights": (1.0,)}, "one of 0 or more")):
        with pytest.raises(InvalidInput, match=words):
            halves(**changes)
    assert good.misfit([(1, 2, 4, 8)]) == ""
    for shapes in ([(1, 2)], [(1, 3, 4, 8)], [(1, 2, 4, 8), (1, 2, 4, 8)]):
        assert good.misfit(shapes) == "(1, 2, rows, columns)"
    with pytest.raises(InvalidInput, match="gives 2 outputs, this task reads one"):
        good.read((torch.zeros(1, 2, 4, 8), torch.zeros(1)))
