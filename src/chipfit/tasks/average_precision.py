"""COCO's mean average precision with its standard error."""

import math
from collections.abc import Sequence

import numpy as np
from faster_coco_eval import COCO, COCOeval_faster
from numpy.typing import NDArray

from chipfit.tasks.spread import UNKNOWN

GROUPS = 10
"""So many parts of the examples are left out in turn for the standard error."""
LEAST_SCORE = 0.01
"""Boxes with a lower score change no figure that anyone reads, and most of the time."""


def average_precision(
    predictions: NDArray[np.float32], targets: NDArray[np.float32], classes: Sequence[str], size: tuple[int, int]
) -> dict[str, float]:
    """Average precision over IoU 0.5 to 0.95 in steps of 0.05 and over classes, and at 0.5, from 0 to 1.

    predictions: (n, boxes, 6): score, class, left, top, right, bottom. targets: (n, most, 6): class (-1: none), left,
    top, right, bottom, crowd. Edges are fractions of `size` (height, width). The standard error leaves out a tenth of
    the images at a time: Shao and Tu, "The jackknife and bootstrap" (1995), section 2.3. It is 0.5, that of not
    knowing, with fewer than two images that hold boxes, and where nothing was found or is to be found.
    """
    judge = _judge(predictions, targets, classes, size)
    with_boxes = ((targets[..., 0] >= 0) & (targets[..., 5] == 0)).any(axis=1)
    if judge is None or not with_boxes.any():
        return _named(0.0, UNKNOWN, 0.0)
    images = np.arange(len(targets))
    found, at_half = _precision(judge, images)
    groups = [images % GROUPS != group for group in range(min(GROUPS, len(images)))]
    # Where only one part holds boxes, nothing is left to judge by without it.
    parts = [_precision(judge, images[kept])[0] for kept in groups if with_boxes[kept].any()]
    count = len(parts)
    error = UNKNOWN if count < 2 else float(np.sqrt((count - 1) * np.var(parts)))
    return _named(found, min(error, UNKNOWN), at_half)


def _named(found: float, error: float, at_half: float) -> dict[str, float]:
    return {
        "mean_average_precision": found,
        "mean_average_precision_standard_error": error,
        "average_precision_at_half": at_half,
    }


def _judge(
    predictions: NDArray[np.float32], targets: NDArray[np.float32], classes: Sequence[str], size: tuple[int, int]
) -> COCOeval_faster | None:
    """What judges any of these images; None where no box was found at all."""
    image, row = np.nonzero(predictions[..., 0] >= LEAST_SCORE)
    if len(image) == 0:
        return None
    truth = COCO(_dataset(targets, classes, size))
    chosen = predictions[image, row].astype(np.float64)
    corner, extent = _scaled(chosen[:, 2:], size)
    found = truth.loadRes(np.column_stack([image + 1, corner, extent, chosen[:, 0], chosen[:, 1] + 1]))
    judge = COCOeval_faster(truth, found, "bbox", separate_eval=True)
    # Objects of all sizes together, up to 100 boxes: what else it can tell takes as long again for each.
    judge.params.areaRng, judge.params.areaRngLbl, judge.params.maxDets = [[0, 1e10]], ["all"], [100]
    return judge


def _precision(judge: COCOeval_faster, images: NDArray[np.int64]) -> tuple[float, float]:
    """Mean average precision over some of the images, and that at an intersection over union of 0.5."""
    judge.params.imgIds = (images + 1).tolist()
    judge.evaluate()
    judge.accumulate()
    # IoU thresholds, recalls, classes, sizes of objects, numbers of boxes; -1: there is nothing to find.
    precision = judge.eval["precision"][..., 0, 0]
    values = [float(part[part > -1].mean()) for part in (precision, precision[0])]
    if not all(map(math.isfinite, values)):
        raise ArithmeticError(f"average precision {values} over {len(images)} images is not finite")
    return values[0], values[1]


def _scaled(edges: NDArray[np.float64], size: tuple[int, int]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Left top corner and extent of boxes (n, 4), (n, 2) each, in pixels."""
    scale = np.array([size[1], size[0]], dtype=np.float64)
    return edges[:, :2] * scale, (edges[:, 2:] - edges[:, :2]) * scale


def _dataset(targets: NDArray[np.float32], classes: Sequence[str], size: tuple[int, int]) -> dict[str, object]:
    image, row = np.nonzero(targets[..., 0] >= 0)
    chosen = targets[image, row].astype(np.float64)
    corner, extent = _scaled(chosen[:, 1:5], size)
    return {
        "images": [{"id": i + 1, "height": size[0], "width": size[1]} for i in range(len(targets))],
        "categories": [{"id": i + 1, "name": name} for i, name in enumerate(classes)],
        "annotations": [
            {
                "id": i + 1,
                "image_id": int(image[i]) + 1,
                "category_id": int(chosen[i, 0]) + 1,
                "bbox": [*corner[i].tolist(), *extent[i].tolist()],
                "area": float(extent[i].prod()),
                "iscrowd": int(chosen[i, 5]),
            }
            for i in range(len(chosen))
        ],
    }
