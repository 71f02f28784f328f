"""An anchor-free detection head: what its outputs should be for given boxes, and which boxes its outputs mean.

After Zhou et al., "Objects as points" (2019), and Liu et al., "Training-time-friendly network for real-time object
detection" (AAAI 2020): one heat map for each class, highest at the middle of an object, and beside it four distances.
"""

import torch
import torch.nn.functional as F

SPREAD = 0.12
"""Standard deviation of the heat around an object's middle, as a fraction of its width and height."""
PRIOR = -2.5
"""Added to the heat before the sigmoid, so that a fresh network expects an object in one cell of 13, not in every other
one: Lin et al., "Focal loss for dense object detection" (2017), section 4.1. With heat that starts at 0 the many empty
cells throw the training off its course."""
BOX_WEIGHT = 1.0
MOST = 100
"""Boxes that are read for an image: as many as COCO's metric looks at."""
SAME_OBJECT = 0.6
"""Of boxes of one class with a larger intersection over union than this, the best stays."""
LOGARITHMS = (-4.0, 5.0)
"""Distances in cells are the exponential of an output within these."""


def detection_loss(heat: torch.Tensor, distances: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Focal loss of the heat maps plus generalised IoU of the boxes, weighted by the heat that a cell should have.

    heat: (batch, classes, rows, columns), logits less `PRIOR`. distances: (batch, 4, rows, columns). targets: (batch,
    most, 6) with the columns class, left, top, right, bottom, crowd. Each cell answers for the object whose heat is
    highest there. Sources: Law and Deng 2018, equation 1 (focal loss); Rezatofighi et al. 2019 (generalised IoU).
    """
    heat, distances = heat.float() + PRIOR, distances.float()
    wanted = _object_heat(targets, heat.shape[2], heat.shape[3])
    present = (targets[..., 0] >= 0) & (targets[..., 5] == 0)
    wanted = wanted * present[..., None, None]
    classes = torch.arange(heat.shape[1], device=heat.device)
    of_class = targets[..., 0, None] == classes
    # One class after the other: all at once would need rows x columns x objects x classes numbers.
    maps = torch.stack([(wanted * of_class[..., c, None, None]).amax(dim=1) for c in range(heat.shape[1])], dim=1)
    count = present.sum().clamp(min=1)
    focal = _focal(heat, maps) / count
    weight, owner = wanted.max(dim=1)
    edges = torch.gather(
        targets[..., 1:5, None].expand(-1, -1, -1, owner[0].numel()),
        1,
        owner.flatten(1)[:, None, None, :].expand(-1, 1, 4, -1),
    )[:, 0]
    found = _edges(distances).flatten(2)
    lost = 1 - _generalised_iou(found, edges)
    weight = weight.flatten(1)
    return focal + BOX_WEIGHT * (weight * lost).sum() / weight.sum().clamp(min=1)


def _object_heat(targets: torch.Tensor, rows: int, columns: int) -> torch.Tensor:
    """Heat of each object (batch, most, rows, columns): a bell around its middle, 1 in the cell that holds it."""
    left, top, right, bottom = targets[..., 1:5].unbind(dim=-1)
    down = _bell((top + bottom) / 2, bottom - top, rows)
    across = _bell((left + right) / 2, right - left, columns)
    return down[..., :, None] * across[..., None, :]


def _bell(middle: torch.Tensor, length: torch.Tensor, cells: int) -> torch.Tensor:
    """Along one axis, (batch, most, cells); measured from the cell that holds the middle, so that its heat is 1."""
    places = torch.arange(cells, device=middle.device, dtype=torch.float32)
    home = (middle * cells).floor().clamp(0, cells - 1)
    spread = (SPREAD * length * cells).clamp(min=1e-3)
    return torch.exp(-0.5 * ((places - home[..., None]) / spread[..., None]) ** 2)


def _focal(heat: torch.Tensor, wanted: torch.Tensor) -> torch.Tensor:
    """Penalty-reduced focal loss, summed; the nearer to an object's middle, the less a false alarm costs."""
    chance = torch.sigmoid(heat)
    middle = wanted > 0.999
    hit = F.logsigmoid(heat) * (1 - chance) ** 2
    miss = F.logsigmoid(-heat) * chance**2 * (1 - wanted) ** 4
    return -torch.where(middle, hit, miss).sum()


def _edges(distances: torch.Tensor) -> torch.Tensor:
    """Edges as fractions, (batch, 4, rows, columns), from logarithms of distances to the middle of each cell."""
    rows, columns = distances.shape[2:]
    reach = distances.clamp(*LOGARITHMS).exp()
    across = (torch.arange(columns, device=distances.device) + 0.5)[None, None, :]
    down = (torch.arange(rows, device=distances.device) + 0.5)[None, :, None]
    left, top, right, bottom = reach.unbind(dim=1)
    return torch.stack(
        [(across - left) / columns, (down - top) / rows, (across + right) / columns, (down + bottom) / rows], dim=1
    )


def _overlap(one: torch.Tensor, other: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Intersection and union of boxes (batch, 4, ...)."""
    width = torch.minimum(one[:, 2], other[:, 2]) - torch.maximum(one[:, 0], other[:, 0])
    height = torch.minimum(one[:, 3], other[:, 3]) - torch.maximum(one[:, 1], other[:, 1])
    shared = width.clamp(min=0) * height.clamp(min=0)
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (one, other)]
    return shared, areas[0] + areas[1] - shared


def _generalised_iou(one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
    shared, union = _overlap(one, other)
    low, high = torch.minimum(one[:, :2], other[:, :2]), torch.maximum(one[:, 2:], other[:, 2:])
    hull = (high - low).prod(dim=1).clamp(min=1e-9)
    return shared / union.clamp(min=1e-9) - (hull - union) / hull


def read_boxes(heat: torch.Tensor, distances: torch.Tensor) -> torch.Tensor:
    """The boxes that outputs mean, (batch, MOST, 6): score, class, left, top, right, bottom; the best first.

    A box stands where a heat map is nowhere higher among the eight cells around; of boxes of a class that overlap by
    more than `SAME_OBJECT` the best stays. Rows without a box are 0.
    """
    heat, distances = heat.float() + PRIOR, distances.float()
    rows, columns = heat.shape[2:]
    peaks = torch.where(heat == F.max_pool2d(heat, 3, 1, 1), torch.sigmoid(heat), 0.0)
    scores, places = peaks.flatten(1).topk(min(MOST, peaks[0].numel()), dim=1)
    kinds, cells = places // (rows * columns), places % (rows * columns)
    edges = _edges(distances).clamp(0, 1).flatten(2)
    edges = torch.gather(edges, 2, cells[:, None].expand(-1, 4, -1))
    scores = _without_doubles(scores, kinds, edges)
    found = torch.cat([scores[:, None], kinds[:, None].float(), edges], dim=1).transpose(1, 2)
    order = scores.argsort(dim=1, descending=True, stable=True)
    found = torch.gather(found, 1, order[..., None].expand(-1, -1, 6))
    found = torch.where(found[..., :1] > 0, found, 0.0)
    return F.pad(found, (0, 0, 0, MOST - found.shape[1]))


def _without_doubles(scores: torch.Tensor, kinds: torch.Tensor, edges: torch.Tensor) -> torch.Tensor:
    """Scores (batch, n), falling, with 0 for boxes (batch, 4, n) that overlap with a better one of their class."""
    shared, union = _overlap(edges[..., :, None], edges[..., None, :])
    double = (shared > SAME_OBJECT * union) & (kinds[..., :, None] == kinds[..., None, :])
    kept = scores > 0
    for index in range(scores.shape[1] - 1):
        worse = double[:, index, index + 1 :] & kept[:, index, None]
        kept[:, index + 1 :] &= ~worse
    return torch.where(kept, scores, 0.0)
