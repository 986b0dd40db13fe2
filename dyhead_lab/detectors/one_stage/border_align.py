"""Border alignment: describe a box by what lies on its four sides, not at its centre."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...trace import emit, is_traced

#: Equal parts that the points divide each border into; the points are one more, the corners belong to them.
INTERVALS = 10


def border_points(boxes: Tensor, intervals: int = INTERVALS) -> Tensor:
    """Points at equal distances along the left, top, right and bottom border of boxes, corners included.

    Args:
        boxes: xyxy, (..., 4).
        intervals: equal parts of each border.

    Returns:
        (x, y), (..., 4, intervals + 1, 2): on the left and the right border from top to bottom, on the top and the
        bottom border from left to right.
    """
    along = torch.linspace(0, 1, intervals + 1, dtype=boxes.dtype, device=boxes.device)
    x1, y1, x2, y2 = (side[..., None].expand(*side.shape, intervals + 1) for side in boxes.unbind(-1))
    x, y = x1 + (x2 - x1) * along, y1 + (y2 - y1) * along
    borders = [(x1, y), (x, y1), (x2, y), (x, y2)]
    return torch.stack([torch.stack(points, -1) for points in borders], -3)


def border_align(x: Tensor, boxes: Tensor, stride: float, intervals: int = INTERVALS) -> Tensor:
    """The largest value on each border of each box, channel by channel.

        y[b, n, side, c] = max over points p of that border of x[b, side, c] at p

    Values between pixels are bilinear; points outside the map take the nearest value on its edge. A box whose points
    are NaN or infinite reads NaN: it is a mistake, which shows.

    Args:
        x: the map, (B, 4 C, H, W): C channels for the left border, then for the top, right and bottom one.
        boxes: xyxy in pixels of the image, (B, N, 4).
        stride: pixels of the image per cell of the map.
        intervals: equal parts of each border.

    Returns:
        (B, N, 4 C), in the order of the channels of ``x``, at least float32. Gradients go to ``x``, at the point of the
        largest value, and not to ``boxes``.

    Raises:
        ValueError: the shapes do not fit.

    Source: Qiu et al., "BorderDet: Border Feature for Dense Object Detection", ECCV 2020, section 3.3. Both
    corners of a border are read, as in the released kernel: 11 points for the published 10 intervals.
    """
    if x.dim() != 4 or x.shape[1] % 4:
        raise ValueError(f"x: expected (B, 4 C, H, W), got {tuple(x.shape)}")
    if boxes.dim() != 3 or boxes.shape[0] != x.shape[0] or boxes.shape[2] != 4:
        raise ValueError(f"boxes: expected ({x.shape[0]}, N, 4), got {tuple(boxes.shape)}")
    if intervals < 1:
        raise ValueError(f"intervals: expected at least 1, got {intervals}")
    B, channels, H, W = x.shape
    N, C = boxes.shape[1], channels // 4
    x = x.to(torch.promote_types(x.dtype, torch.float32))  # a bfloat16 coordinate near 1000 is known to 4 pixels
    points_of_boxes = border_points(boxes.detach().to(x), intervals)
    sound_BN = points_of_boxes.isfinite().flatten(2).all(-1)
    # The backward pass of grid_sample ends the process at NaN (torch 2.11, CPU), so it never sees any.
    points_of_boxes = points_of_boxes.where(sound_BN[..., None, None, None], 0.0)
    points = points_of_boxes.transpose(1, 2).reshape(B * 4, N, intervals + 1, 2)
    # A map of H x W cells covers the pixels from 0 to H * stride: -1 to 1 for grid_sample.
    grid = points / points.new_tensor([W * stride / 2, H * stride / 2]) - 1
    with torch.no_grad():
        largest = _sample(x.reshape(B * 4, C, H, W), grid).argmax(-1)
    # Only the point of the largest value gets a gradient. Reading it once more spares the memory of all the others.
    index = largest[..., None, None].expand(-1, -1, -1, 1, 2)
    chosen = grid[:, None].expand(-1, C, -1, -1, -1).gather(3, index).flatten(0, 1)
    y = _sample(x.reshape(B * channels, 1, H, W), chosen).view(B, channels, N).transpose(1, 2)
    return y.masked_fill(~sound_BN[..., None], torch.nan)


def _sample(maps: Tensor, grid: Tensor) -> Tensor:
    return F.grid_sample(maps, grid, padding_mode="border", align_corners=False)


class BorderAlignment(nn.Module):
    """The border alignment module: a place's own feature beside those of the borders of its box.

    Two 1x1 convolutions make C' channels for the place and 4 C' for the borders, with instance normalisation and
    ReLU; a third joins the 5 C' channels.

    Emits ``border_points``.

    Args:
        channels: C of the map that comes in and goes out.
        border_channels: C'.

    Source: BorderDet, section 3.3; normalisation as in the released code.
    """

    def __init__(self, channels: int, border_channels: int):
        super().__init__()
        self.own = _project(channels, border_channels)
        self.borders = _project(channels, 4 * border_channels)
        self.join = nn.Sequential(nn.Conv2d(5 * border_channels, channels, 1), nn.ReLU())

    def forward(self, x: Tensor, boxes: Tensor, stride: float) -> Tensor:
        """Align (B, C, H, W).

        Args:
            x: the map.
            boxes: the box that each place has found so far, row by row, xyxy in pixels, (B, H*W, 4).
            stride: pixels per cell.
        """
        if is_traced():
            emit(self, border_points=border_points(boxes))
        aligned = border_align(self.borders(x), boxes, stride)
        own = self.own(x)
        return self.join(torch.cat([aligned.transpose(1, 2).reshape(len(x), -1, *x.shape[2:]).to(own), own], 1))


class MapNorm(nn.Module):
    """Each map of each image to mean 0 and variance 1; a map of a single place, which has neither, to 0.

    PyTorch's own ``InstanceNorm2d`` refuses single places, and the coarsest level of a small image is one.
    """

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, (2, 3), correction=0, keepdim=True)
        return (x - mean) * (variance + 1e-5).rsqrt()


def _project(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1), MapNorm(), nn.ReLU())
