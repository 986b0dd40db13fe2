"""What the losses of dense detectors share."""

from __future__ import annotations

import torch
from torch import Tensor

from .anchors import sides


def mean_over_processes(value: Tensor) -> Tensor:
    """The mean of a detached ``value`` over all training processes; ``value`` itself when there is one."""
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        value = value.clone()
        torch.distributed.all_reduce(value)
        value /= torch.distributed.get_world_size()
    return value


def centerness(points: Tensor, boxes: Tensor) -> Tensor:
    """How central points (n, 2) lie in boxes (n, 4): 1 at the centre, 0 at the sides, (n,). Points lie
    inside.

        sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b))

    Source: Tian et al., "FCOS", ICCV 2019, equation 3.
    """
    left_top, right_bottom = sides(points, boxes).chunk(2, -1)
    ratio = torch.minimum(left_top, right_bottom) / torch.maximum(left_top, right_bottom)
    return ratio.prod(-1).sqrt()
