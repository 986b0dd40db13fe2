"""Figures of the chapter on attention: weights over a photograph, sine positions, and what a small DETR has learned."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from torch import Tensor

from dyhead_lab.views.figures import BLUE, DPI, INK, ORANGE, SKY, draw_boxes, style

#: Area in points^2 of the disc of a point that has all of the weight.
LARGEST_DISC = 500
FADED = 0.85  # brightness of an image below a map


def weights_figure(
    image: Tensor,
    maps: Mapping[str, Tensor],
    label: str,
    highest: float | None = None,
    query: tuple[float, float] | None = None,
    boxes: Mapping[str, Tensor] | None = None,
    columns: int = 4,
) -> Figure:
    """Maps over an image on one scale, with a colour bar.

    Args:
        image: (3, H, W) in [0, 1], drawn in grey under every map.
        maps: title -> (h, w) of any resolution, stretched over the image.
        label: of the colour bar, with the unit.
        highest: end of the scale; None takes the largest value of all maps.
        query: (x, y) in pixels of a place to mark.
        boxes: title -> (4,) xyxy in pixels of a box to outline on that map.
        columns: pictures per row.
    """
    H, W = image.shape[1:]
    columns = min(columns, len(maps))
    rows = -(-len(maps) // columns)
    top = highest or max(float(values.max()) for values in maps.values())
    with style():
        figure = Figure(figsize=(2.0 * columns + 0.9, 2.0 * rows * H / W + 0.35 * rows), dpi=DPI, layout="constrained")
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes, (title, values) in zip(grid.flat, maps.items(), strict=False):
            drawn = _over(axes, image, values, top)
            axes.set_title(title, fontsize=10)
            if query is not None:
                axes.plot(*query, "X", color=SKY, markersize=9, markeredgecolor="black")
            if boxes is not None and title in boxes:
                x1, y1, x2, y2 = boxes[title].tolist()
                axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], color=SKY, linewidth=1.6)
        for axes in grid.flat[len(maps) :]:
            axes.axis("off")
        figure.colorbar(drawn, ax=grid, label=label, fraction=0.05, pad=0.02)
    return figure


def _over(axes: Axes, image: Tensor, values: Tensor, top: float) -> ScalarMappable:
    """One map over a grey image, which shows through where values are weak; gives the scale for a colour bar."""
    H, W = image.shape[1:]
    shown = values.float().numpy(force=True)
    axes.imshow(_smaller(image).mean(0).numpy(force=True) * FADED, cmap="gray", vmin=0, vmax=1, extent=(0, W, H, 0))
    alpha = (shown / top).clip(0, 1) ** 0.5 * 0.9
    axes.imshow(shown, cmap="inferno", vmin=0, vmax=top, alpha=alpha, extent=(0, W, H, 0))
    axes.set(xlim=(0, W), ylim=(H, 0))
    axes.axis("off")
    return ScalarMappable(Normalize(0, top), "inferno")


def dense_and_sampled_figure(
    image: Tensor,
    dense: Tensor,
    locations_P2: Tensor,
    weights_P: Tensor,
    query: tuple[float, float],
) -> Figure:
    """What one query reads of a photograph: a weight for every token, or a few points.

    Args:
        image: (3, H, W) in [0, 1].
        dense: (h, w), the weights of one head over all tokens. The scale ends at the second largest: the largest is
            most often the query's own.
        locations_P2: (P, 2) as (x, y) in [0, 1].
        weights_P: (P,).
        query: (x, y) in pixels.
    """
    H, W = image.shape[1:]
    with style():
        figure = Figure(figsize=(9.2, 4.6 * H / W + 0.5), dpi=DPI, layout="constrained")
        left, right = figure.subplots(1, 2)
        second = float(dense.flatten().topk(2).values[-1])  # the query itself would hide all others
        drawn = _over(left, image, dense, second)
        left.set_title(f"dense: {dense.numel():,} weights", fontsize=10)
        bar = figure.colorbar(drawn, ax=left, label="attention weight", location="bottom", shrink=0.8, pad=0.02)
        bar.ax.locator_params(nbins=4)
        right.imshow(_smaller(image).permute(1, 2, 0).numpy(force=True), extent=(0, W, H, 0), alpha=0.85)
        x, y = (locations_P2 * torch.tensor([W, H])).numpy(force=True).T
        right.scatter(x, y, s=LARGEST_DISC * weights_P.numpy(force=True), color=ORANGE, edgecolors="black")
        right.set(xlim=(0, W), ylim=(H, 0))
        right.axis("off")
        right.set_title(f"deformable: {len(weights_P)} points, area = weight", fontsize=10)
        for axes in (left, right):
            axes.plot(*query, "X", color=SKY, markersize=11, markeredgecolor="black")
    return figure


def positions_figure(positions_CHW: Tensor, cells: Sequence[tuple[int, int]]) -> Figure:
    """How alike the sine position of a cell is to that of all others: the cosine of their angle.

    Args:
        positions_CHW: (C, H, W).
        cells: (row, column) of the cells to compare with, one picture each.
    """
    unit = torch.nn.functional.normalize(positions_CHW, dim=0)
    with style():
        figure = Figure(figsize=(3.0 * len(cells) + 0.8, 2.8), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, len(cells), squeeze=False)[0]
        for axes, (row, column) in zip(grid, cells, strict=True):
            alike = (unit * unit[:, row, column, None, None]).sum(0)
            drawn = axes.imshow(alike.numpy(force=True), cmap="viridis", vmin=0.6, vmax=1)
            axes.plot(column, row, "X", color="white", markersize=9, markeredgecolor="black")
            axes.set(xlabel="column, cells", ylabel="row, cells")
            axes.set_title(f"cell ({row}, {column})", fontsize=10)
        figure.colorbar(drawn, ax=grid, label="cosine similarity", fraction=0.05, pad=0.02)
    return figure


def learning_figure(losses: Sequence[float], ap: Mapping[int, float]) -> Figure:
    """A loss that falls, and the AP that was measured on the way.

    Args:
        losses: one per step.
        ap: step -> AP.
    """
    with style():
        figure = Figure(figsize=(6.4, 3.0), dpi=DPI, layout="constrained")
        axes = figure.add_subplot()
        axes.plot(losses, color=BLUE, linewidth=1)
        axes.set(xlabel="step", ylabel="loss, sum of all terms", yscale="log")
        axes.yaxis.label.set_color(BLUE)
        right = axes.twinx()
        right.plot(list(ap), list(ap.values()), "o-", color=ORANGE)
        right.set(ylim=(0, 1.05), ylabel="AP on the 16 pictures")
        right.yaxis.label.set_color(ORANGE)
        right.spines["right"].set_visible(True)
        right.spines["right"].set_color(INK)
    return figure


def found_figure(
    images: Sequence[Tensor],
    truth: Sequence[Mapping[str, Tensor]],
    found: Sequence[Mapping[str, Tensor]],
    names: Sequence[str],
    threshold: float = 0.5,
) -> Figure:
    """Pictures in a row: true boxes dashed in white, what was found in colours with names and scores.

    Args:
        images: (3, H, W) each, in [0, 1].
        truth, found: ``boxes`` (n, 4) xyxy in pixels and ``labels`` (n,); of what was found also ``scores``.
        names: of the classes.
        threshold: detections of lower score are left out.
    """
    H, W = images[0].shape[1:]
    with style():
        figure = Figure(figsize=(3.1 * len(images), 3.1 * H / W + 0.2), dpi=DPI, layout="constrained")
        grid = figure.subplots(1, len(images), squeeze=False)[0]
        for axes, image, wanted, got in zip(grid, images, truth, found, strict=True):
            axes.imshow(_smaller(image).permute(1, 2, 0).numpy(force=True), extent=(0, W, H, 0))
            axes.set(xlim=(0, W), ylim=(H, 0))
            axes.axis("off")
            kept = got["scores"] >= threshold
            draw_boxes(axes, got["boxes"][kept], got["labels"][kept], names, got["scores"][kept], font_size=9)
            for x1, y1, x2, y2 in wanted["boxes"].tolist():
                axes.plot([x1, x2, x2, x1, x1], [y1, y1, y2, y2, y1], "--", color="white", linewidth=1.2)
    return figure


def _smaller(image: Tensor) -> Tensor:
    """Half the resolution: a notebook should not weigh megabytes, and no figure here is about single pixels."""
    return torch.nn.functional.avg_pool2d(image[None], 2)[0]
