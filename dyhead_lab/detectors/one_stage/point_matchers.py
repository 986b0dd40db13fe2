"""Which places belong to which object, for detectors whose places are points: FCOS and the two stages of RepPoints.

Every matcher returns the index of each place's object, ``BACKGROUND`` or ``IGNORED`` (see ``losses``), levels one after
the other, (N,).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchvision.ops import box_area, box_iou

from ..anchors import centres, sides
from ..losses import BACKGROUND, IGNORED


@torch.no_grad()
def match_by_size(
    points: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, finest_size: float = 64.0, radius: float = 1.5
) -> Tensor:
    """FCOS: a place belongs to the smallest object whose middle it lies in and whose size suits its level.

    The size of an object at a place is its farthest side. The finest level takes sizes up to ``finest_size``, each
    further one up to twice as much, the coarsest one all that is left. The middle of an object is the part of its box
    within ``radius`` cells of its centre in x and in y.

    Args:
        points: (x, y) of the places of each level, (H*W, 2), in pixels.
        strides: pixels per cell of each level.
        boxes: the objects, xyxy (G, 4); G may be 0.
        finest_size: in pixels.
        radius: in cells.

    Source: Tian et al., "FCOS", ICCV 2019, section 3.2; the middle as in its released code.
    """
    if len(boxes) == 0:
        return torch.full((sum(map(len, points)),), BACKGROUND, device=boxes.device)
    costs = []
    for level, (points_n2, stride) in enumerate(zip(points, strides, strict=True)):
        smallest = finest_size * 2 ** (level - 1) if level else 0.0
        largest = finest_size * 2**level if level < len(points) - 1 else torch.inf
        sides_nG4 = sides(points_n2[:, None], boxes)
        size_nG = sides_nG4.amax(-1)
        off_centre_nG = (points_n2[:, None] - centres(boxes)).abs().amax(-1)
        fits_nG = (sides_nG4.amin(-1) > 0) & (off_centre_nG < radius * stride)
        fits_nG &= (size_nG >= smallest) & (size_nG <= largest)
        costs.append(torch.where(fits_nG, box_area(boxes), torch.inf))
    cost_N, matched_N = torch.cat(costs).min(1)
    return torch.where(cost_N.isfinite(), matched_N, BACKGROUND)


@torch.no_grad()
def match_nearest(points: Sequence[Tensor], strides: Sequence[int], boxes: Tensor, scale: float = 4.0) -> Tensor:
    """RepPoints, first stage: each object takes the one place next to its centre, on the level that suits its size.

    An object of side s, the geometric mean of width and height, belongs to the level of stride
    2^floor(log2(s / scale)), or to the nearest level there is. A place that several objects want goes to the one whose
    centre is nearer, measured in that object's width and height.

    Args:
        points, strides, boxes: as in :func:`match_by_size`.
        scale: side, in cells, from which an object belongs to a level.

    Source: Yang et al., "RepPoints", ICCV 2019, section 4.2, with the level as in its released code.
    """
    matched_N = torch.full((sum(map(len, points)),), BACKGROUND, device=boxes.device)
    if len(boxes) == 0:
        return matched_N
    size_G2 = (boxes[:, 2:] - boxes[:, :2]).clamp(min=1e-6)
    finest, coarsest = (int(stride).bit_length() - 1 for stride in (strides[0], strides[-1]))
    level_G = (size_G2 / scale).log2().mean(1).floor().clamp(finest, coarsest) - finest
    level_N = torch.cat([torch.full((len(p),), l, device=boxes.device) for l, p in enumerate(points)])
    distance_NG = ((torch.cat(list(points))[:, None] - centres(boxes)) / size_G2).norm(dim=-1)
    distance_NG = distance_NG.masked_fill(level_N[:, None] != level_G, torch.inf)
    distance_G, nearest_G = distance_NG.min(0)
    order_G = distance_G.argsort(descending=True)  # the nearest object comes last
    last_N = _last_at(nearest_G[order_G], torch.arange(len(boxes), device=boxes.device), len(matched_N))
    return torch.where(last_N >= 0, order_G[last_N], matched_N)


@torch.no_grad()
def match_by_iou(found: Tensor, boxes: Tensor, positive: float = 0.5, negative: float = 0.4) -> Tensor:
    """RepPoints, second stage: a place belongs to the object that its first box overlaps most.

    It is positive from an IoU of ``positive`` on, background below ``negative``, and ignored between. Each object also
    keeps the place that overlaps it most, however little.

    Args:
        found: first box of each place, xyxy (N, 4).
        boxes: the objects, xyxy (G, 4); G may be 0.
        positive, negative: IoU.
    """
    if len(boxes) == 0:
        return torch.full((len(found),), BACKGROUND, device=boxes.device)
    iou_NG = box_iou(found, boxes)
    best_N, matched_N = iou_NG.max(1)
    matched_N = torch.where(best_N >= positive, matched_N, torch.where(best_N < negative, BACKGROUND, IGNORED))
    best_G, place_G = iou_NG.max(0)
    object_G = torch.where(best_G > 0, torch.arange(len(boxes), device=boxes.device), -1)
    last_N = _last_at(place_G, object_G, len(found))
    return torch.where(last_N >= 0, last_N, matched_N)


def _last_at(place_G: Tensor, turn_G: Tensor, places: int) -> Tensor:
    """The largest ``turn_G`` at each place, (places,); -1 where there is none.

    It does what a loop does that writes each object at its place, turn by turn, but a GPU need not tell the host
    where that is.
    """
    return turn_G.new_full((places,), -1).scatter_reduce_(0, place_G, turn_G, "amax")
