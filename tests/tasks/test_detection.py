"""Laws of detection: what is learned, read, judged and augmented."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from chipfit.errors import InvalidInput
from chipfit.nets.module import GraphModule
from chipfit.nets.zoo import from_zoo
from chipfit.tasks.augment import Moves, apply_moves
from chipfit.tasks.centres import MOST, PRIOR, SAME_OBJECT, detection_loss, read_boxes
from chipfit.tasks.detection import Detection, moved_boxes
from chipfit.testing.tasks import check_task

COUNTS = {"train": 24, "validation": 16, "test": 12}


def squares(seed: int = 0, **changes) -> Detection:
    """Red and blue rectangles on grey noise, none to two in a picture."""
    rng = np.random.default_rng(seed)
    images, boxes = {}, {}
    for split, count in COUNTS.items():
        pixels = rng.integers(90, 160, (count, 64, 64, 3), dtype=np.uint8)
        rows = np.zeros((count, 2, 6), np.float32)
        rows[..., 0] = -1
        for index in range(count):
            for number in range(index % 3):
                kind, (width, height) = int(rng.integers(2)), rng.integers(16, 30, 2)
                left, top = int(rng.integers(0, 64 - width)), int(rng.integers(0, 64 - height))
                pixels[index, top : top + height, left : left + width] = (220, 20, 20) if kind else (20, 20, 220)
                rows[index, number] = (kind, left / 64, top / 64, (left + width) / 64, (top + height) / 64, 0)
        images[split], boxes[split] = pixels, rows
    values = {"name": "squares", "classes": ("blue", "red"), "images": images, "boxes": boxes, "source": "drawn"}
    return Detection(**{**values, **changes})


def detector(seed: int = 0) -> GraphModule:
    net = from_zoo("ibn_detector-0.35-64", seed, classes=2)
    return GraphModule(net.graph, net.weights)


def ideal(targets: torch.Tensor, cells: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs that say exactly what the targets are, for two classes."""
    heat, distances = torch.full((len(targets), 2, cells, cells), -20.0), torch.zeros(len(targets), 4, cells, cells)
    for index, rows in enumerate(targets):
        for kind, left, top, right, bottom, _ in rows.tolist():
            if kind < 0:
                continue
            x, y = int((left + right) / 2 * cells), int((top + bottom) / 2 * cells)
            heat[index, int(kind), y, x] = 20.0
            edges = [x + 0.5 - left * cells, y + 0.5 - top * cells, right * cells - x - 0.5, bottom * cells - y - 0.5]
            distances[index, :, y, x] = torch.tensor(edges).clamp(min=1e-2).log()
    return heat, distances


def test_detection_keeps_what_tasks_promise() -> None:
    check_task(squares(), lambda inputs: detector().eval()(inputs))


def test_what_ideal_outputs_mean_is_what_was_wanted() -> None:
    task = squares()
    ((_, targets),) = task.batches("validation", 100)
    found = task.read(ideal(targets))
    assert found.shape == (16, MOST, 6)
    for rows, wanted in zip(found, targets, strict=True):
        sure = sorted(row[1:].tolist() for row in rows if row[0] > 0.5)
        real = sorted(row[:5].tolist() for row in wanted if row[0] >= 0)
        assert len(sure) == len(real)
        assert np.allclose(sure, real, atol=0.02)
    metrics = task.metrics(found, targets)
    assert metrics["mean_average_precision"] > 0.95
    assert metrics["average_precision_at_half"] == pytest.approx(1.0)


def test_the_loss_is_least_at_ideal_outputs() -> None:
    ((_, targets),) = squares().batches("validation", 100)
    heat, distances = ideal(targets)
    best = float(detection_loss(heat, distances, targets))
    generator = torch.Generator().manual_seed(0)
    for spread in (0.3, 1.0):
        noise = [torch.randn(part.shape, generator=generator) * spread for part in (heat, distances)]
        assert float(detection_loss(heat, distances + noise[1], targets)) > best
        assert float(detection_loss(heat * 0.05 + noise[0], distances, targets)) > best
    assert float(detection_loss(heat.flip(1), distances, targets)) > best + 1


def test_crowds_teach_nothing_and_are_no_mistake_to_find() -> None:
    task = squares()
    ((_, targets),) = task.batches("validation", 100)
    crowded = targets.clone()
    crowded[2, 0, 5] = 1
    nothing = crowded.clone()
    nothing[2, 0] = torch.tensor([-1.0, 0, 0, 0, 0, 0])
    outputs = ideal(targets)
    assert float(detection_loss(*outputs, crowded)) == pytest.approx(float(detection_loss(*outputs, nothing)))
    found = task.read(outputs)
    assert task.metrics(found, crowded)["average_precision_at_half"] == pytest.approx(1.0)
    assert task.metrics(found, nothing)["average_precision_at_half"] < 1.0


def test_an_image_without_boxes_still_teaches() -> None:
    heat, distances = torch.zeros(2, 2, 4, 4, requires_grad=True), torch.zeros(2, 4, 4, 4)
    nothing = torch.tensor([-1.0, 0, 0, 0, 0, 0]).expand(2, 3, 6)
    loss = detection_loss(heat, distances, nothing)
    (gradient,) = torch.autograd.grad(loss, heat)
    assert bool((gradient > 0).all())


@settings(max_examples=30)
@given(st.integers(0, 2**31), st.integers(1, 3))
def test_read_boxes_are_sorted_apart_and_within_the_image(seed: int, classes: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    heat = torch.randn(2, classes, 6, 5, generator=generator).round(decimals=1)
    found = read_boxes(heat, torch.randn(2, 4, 6, 5, generator=generator))
    assert found.shape == (2, MOST, 6)
    assert bool(((found >= 0) & (found[..., 2:].clamp(max=1) == found[..., 2:]).all()).all())
    scores = found[..., 0]
    assert bool((scores.diff(dim=1) <= 0).all())
    assert torch.equal(scores[:, 0], torch.sigmoid(heat + PRIOR).flatten(1).amax(dim=1))
    for image in found:
        rows = [row.tolist() for row in image if row[0] > 0]
        for index, one in enumerate(rows):
            assert all(overlap(one, other) <= SAME_OBJECT + 1e-5 for other in rows[:index] if one[1] == other[1])


def overlap(one: list[float], other: list[float]) -> float:
    width = min(one[4], other[4]) - max(one[2], other[2])
    height = min(one[5], other[5]) - max(one[3], other[3])
    shared = max(0.0, width) * max(0.0, height)
    areas = [(box[4] - box[2]) * (box[5] - box[3]) for box in (one, other)]
    return shared / max(sum(areas) - shared, 1e-9)


@settings(max_examples=20)
@given(st.integers(0, 2**31))
def test_boxes_move_with_their_images(seed: int) -> None:
    rng = np.random.default_rng(seed)
    task, count = squares(), 24
    moves = Moves(rng.integers(-9, 10, count), rng.integers(-9, 10, count), rng.random(count) < 0.5)
    images = apply_moves(task.images["train"], moves)
    boxes = moved_boxes(task.boxes["train"], moves, (64, 64))
    for index, (image, rows) in enumerate(zip(images, boxes, strict=True)):
        before = task.boxes["train"][index, 0, 1:5]
        if index % 3 != 1 or before.min() <= 0 or before.max() >= 1:
            continue  # of two rectangles one may hide the other, and edges of an image are repeated
        coloured = np.ptp(image.astype(int), axis=2) > 150
        _, left, top, right, bottom, _ = rows[0]
        ys, xs = np.nonzero(coloured)
        if rows[0, 0] >= 0 and min(left, top) > 0 and max(right, bottom) < 1:
            assert np.allclose(
                [xs.min(), ys.min(), xs.max() + 1, ys.max() + 1], np.array([left, top, right, bottom]) * 64
            )


def test_a_few_steps_lower_the_loss() -> None:
    task, module = squares(), detector().train()
    inputs, targets = next(iter(task.batches("train", 12)))
    optimiser = torch.optim.SGD(module.parameters(), lr=0.05, momentum=0.9)
    losses: list[float] = []
    for _ in range(12):
        loss = task.loss(module(inputs), targets)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]


def test_the_standard_error_is_about_the_spread_of_other_images() -> None:
    rng = np.random.default_rng(0)
    task, scores, errors = squares(), [], []
    for _ in range(16):
        targets = torch.zeros(60, 1, 6)
        targets[:, 0, 3:5] = 0.5
        predictions = torch.zeros(60, MOST, 6)
        # Every fourth box is found with too low an overlap for half of the thresholds.
        predictions[:, 0, 0] = torch.from_numpy(rng.uniform(0.2, 1, 60))
        predictions[:, 0, 4] = torch.from_numpy(np.where(rng.random(60) < 0.25, 0.37, 0.5))
        predictions[:, 0, 5] = 0.5
        metrics = task.metrics(predictions, targets)
        scores.append(metrics["mean_average_precision"])
        errors.append(metrics["mean_average_precision_standard_error"])
    assert np.mean(errors) == pytest.approx(np.std(scores), rel=0.4)


def test_contradictions_are_refused() -> None:
    good = squares()
    high, flat, outside = (good.boxes["test"].copy() for _ in range(3))
    high[1, 0, 0], flat[1, 0, 3], outside[1, 0, 4] = 2, 0, 1.5
    for boxes, words in (
        (good.boxes["test"][:5], "give float32"),
        (good.boxes["test"].astype(np.float64), "give float32"),
        (high, "a box of class 2, of 2 classes"),
        (flat, "rising fractions"),
        (outside, "rising fractions"),
        (np.full_like(high, -1), "has no boxes"),
    ):
        with pytest.raises(InvalidInput, match=f"task squares, test split.*{words}"):
            squares(boxes={**good.boxes, "test": boxes})
    with pytest.raises(InvalidInput, match="two outputs"):
        good.loss(torch.zeros(1, 2, 4, 4), torch.zeros(1, 1, 6))
    with pytest.raises(InvalidInput, match="predictions"):
        good.metrics(torch.zeros(0, MOST, 6), torch.zeros(0, 1, 6))
    assert good.misfit([(1, 2, 8, 8), (1, 4, 8, 8)]) == ""
    for shapes in ([(1, 3, 8, 8), (1, 4, 8, 8)], [(1, 2, 8, 8), (1, 4, 8, 4)], [(1, 2)], [(1, 2, 8, 8)]):
        assert "(1, 2, rows, columns)" in good.misfit(shapes)
