"""Explorer: click a place of an image and see where a layer looked, with which weights, and what that gave."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn import functional as F

from ..trace import Trace
from .explorer import Explorer, image_url
from .figures import DPI, INK, PALETTE, Picture, place_for, style
from .sampling_layers import Points, SamplingLayer, sampling_layers, valid_part

LARGEST = 640  # pixels of the picture that is kept in the notebook
BARS = 12  # channels of the output that are shown
SHOWN = (-0.25, 1.25)  # of the image, each way: a point far outside must not shrink it
EDGE = 0.03  # of the image, beyond the outermost point or the image's border
COLUMNS = ("head", "level", "point", "x", "y", "offset_x", "offset_y", "weight")


class SamplingPoints(Explorer, static="sampling_points"):
    """Sampling points of every layer of a traced detector, for any pixel or object query.

    Choose a layer and click a place, or move it with the arrow keys. Every point is drawn with the weight that it
    has; choose a head to see its points alone. Choose a point and see the four pixels that it reads; drag it, or nudge
    it with the arrow keys, and see how the layer's output changes. All numbers are those of the forward pass: from the
    points of all heads, :meth:`output` computes the layer's output again. Three buttons save them as CSV, npz and SVG,
    as the methods ``to_...`` do; CSV and npz hold the points of all heads.

    Args:
        trace: of a forward pass of any detector here, imported official weights included.
        image: the image that the detector was given, (3, H, W) in [0, 1].
        number: which image of the batch it was.
        found: the detector's result for the image, from a detector with object queries: a query that found an object
            is then named by its class, score and box.
        categories: names of the classes, in the order of the labels of ``found``.

    Raises:
        ValueError: ``image`` is not such a tensor, nothing in the trace samples, or ``found`` names no queries.
    """

    asks = ("layer", "place", "head", "chosen", "moved")
    source = traitlets.Unicode(help="the image as the network saw it, with its padding").tag(sync=True)
    size = traitlets.List(traitlets.Int(), help="(H, W) of that picture").tag(sync=True)
    layers: Any = traitlets.List(
        help="per layer: name, number of places, (H, W) of their levels and of the maps that it reads"
    ).tag(sync=True)
    layer = traitlets.Int(0).tag(sync=True)
    place = traitlets.Int(0).tag(sync=True)
    click: Any = traitlets.List(help="a position (x, y) in [0, 1]; the nearest place is chosen").tag(sync=True)
    head = traitlets.Int(-1, help="the head whose points are drawn; -1: all heads").tag(sync=True)
    chosen = traitlets.Int(0, help="the point that is looked at, one of those that are drawn").tag(sync=True)
    moved: Any = traitlets.List(help="where the reader dragged it, (x, y) in [0, 1]; empty: nowhere").tag(sync=True)
    here: Any = traitlets.List(help="where the place lies, (x, y)").tag(sync=True)
    where = traitlets.Unicode(help="the place in words").tag(sync=True)
    points: Any = traitlets.List(help="per point: x, y, offset x, offset y, weight, head, level, index").tag(sync=True)
    corners: Any = traitlets.Dict(help="the four pixels of the chosen point").tag(sync=True)
    bars: Any = traitlets.Dict(help="channels of the output, before and after the move").tag(sync=True)

    def __init__(
        self,
        trace: Trace,
        image: Tensor,
        number: int = 0,
        found: Mapping[str, Tensor] | None = None,
        categories: Sequence[str] = (),
    ):
        if image.ndim != 3 or len(image) != 3 or not image.is_floating_point():
            raise ValueError(f"image: got {image.dtype} {tuple(image.shape)}, expected floats (3, H, W) in [0, 1]")
        self._layers = sampling_layers(trace, number)
        self._objects = {} if found is None else _objects(found, categories)
        self._picture = _as_seen(image.cpu(), trace, number)
        super().__init__(
            source=image_url(self._picture, LARGEST),
            size=list(self._picture.shape[1:]),
            layers=[
                {
                    "name": layer.name,
                    "places": len(layer.places),
                    "grid": [list(size) for size in layer.grid],
                    "reads": [list(level.shape[-2:]) for level in layer.maps],
                }
                for layer in self._layers
            ],
        )
        self.observe(self._change_layer, names="layer")
        self.observe(self._change_click, names="click")
        self.observe(self._change_place, names="place")
        self.observe(self._change_head, names="head")
        self.observe(self._look, names=["chosen", "moved"])
        self.on_msg(self._send_file)
        self._change_layer()

    @traitlets.validate("layer", "place", "head", "chosen")
    def _in_range(self, proposal: Any) -> int:
        name, value = proposal.trait.name, proposal.value
        first, end = {
            "layer": (0, len(self._layers)),
            "place": (0, len(self.current.places)),
            "head": (-1, self.heads),
            "chosen": (0, max(1, len(self.points))),
        }[name]
        if not first <= value < end:
            raise traitlets.TraitError(f"{name}: got {value}, expected {first}..{end - 1}")
        if name == "chosen" and self.points and self.head not in (-1, self.points[value][5]):
            raise traitlets.TraitError(f"chosen: got {value}, expected a point of head {self.head}, which is drawn")
        return value

    @property
    def current(self) -> SamplingLayer:
        """The layer that is shown."""
        return self._layers[self.layer]

    @property
    def heads(self) -> int:
        """How many heads, or offset groups, the layer that is shown has."""
        return self.current.maps[0].shape[0]

    def shown(self) -> Points:
        """The points of all heads, the moved one where it was dragged to."""
        table = torch.tensor(self.points, dtype=torch.float32).view(-1, 8)
        numbers = table[:, 5:].long().unbind(1)
        points = Points(table[:, :2], table[:, 2:4], table[:, 4], *numbers)
        if not self.moved:
            return points
        positions = points.positions.clone()
        positions[self.chosen] = positions.new_tensor(self.moved)
        return replace(points, positions=positions)

    def output(self) -> Tensor:
        """The layer's output at the place, (channels,), computed from the points of :meth:`shown`."""
        return self.current.compute(self.shown())

    def _change_layer(self, _change: Any = None) -> None:
        """Stay at the same position of the image; the first layer starts in its middle."""
        x, y = self.here or (0.5, 0.5)
        place = self.current.nearest(x, y)
        if place != self.place:
            self.place = place
        else:
            self._change_place()

    def _change_click(self, _change: Any = None) -> None:
        if self.click:
            self.place = self.current.nearest(*self.click)

    def _change_place(self, _change: Any = None) -> None:
        points = self.current.points(self.place)
        rows = torch.cat([points.positions, points.offsets, points.weights[:, None]], 1).tolist()
        numbers = torch.stack([points.head, points.level, points.index], 1).tolist()
        with self.hold_sync():
            self.here = self.current.places[self.place].tolist()
            self.where = self._place_name()
            self.points = [row + n for row, n in zip(rows, numbers, strict=True)]
            if self.head >= self.heads:  # the layer before had more of them
                self.head = -1
            self._choose_heaviest()
            self._look()

    def _change_head(self, _change: Any = None) -> None:
        """Look at a point that is drawn: where the chosen one belongs to another head, at the heaviest of this one."""
        with self.hold_sync():
            if self.head >= 0 and self.points[self.chosen][5] != self.head:
                self._choose_heaviest()
            self._answered()

    def _place_name(self) -> str:
        """The place in words: a cell of a map, or an object query and what it found."""
        at = self.place
        for H, W in self.current.grid:
            if at < H * W:
                return f"The place: row {at // W + 1}, column {at % W + 1} of a map of {H} x {W}."
            at -= H * W
        if "decoder" in self.current.name:
            return f"The place: object query {at}{self._objects.get(at, '')}."  # counted as in found["queries"]
        return f"The place: token {at + 1} of the {len(self.current.places)} that are refined."

    def _choose_heaviest(self) -> None:
        """Choose the point of the largest weight among those that are drawn, and put a moved one back."""
        drawn = [i for i, point in enumerate(self.points) if self.head in (-1, point[5])]
        self.chosen = max(drawn, key=lambda i: self.points[i][4])  # first: a moved point has to be one that is there
        self.moved = []

    def _look(self, _change: Any = None) -> None:
        """Tell the four pixels of the chosen point, and what the layer gives before and after the move."""
        points, layer = self.shown(), self.current
        H, W = layer.maps[int(points.level[self.chosen])].shape[-2:]
        corners = layer.corners(points, self.chosen)
        self.corners = {
            "size": [H, W],
            "pixels": [[c.row, c.column, c.share, c.inside] for c in corners],
        }
        before, after = layer.output[self.place], self.output() if self.moved else layer.output[self.place]
        channels = before.abs().topk(min(BARS, len(before))).indices.sort().values
        difference = float((after - before).norm() / before.norm().clamp(min=1e-12))
        self.bars = {
            "channels": channels.tolist(),
            "before": before[channels].tolist(),
            "after": after[channels].tolist(),
            "change": difference,
        }
        self._answered()

    def table(self) -> list[dict[str, float]]:
        """One row per point of the place: head, level, point, x, y, offset_x, offset_y, weight."""
        p = self.shown()
        columns = (p.head, p.level, p.index, *p.positions.unbind(1), *p.offsets.unbind(1), p.weights)
        return [dict(zip(COLUMNS, row, strict=True)) for row in zip(*(c.tolist() for c in columns), strict=True)]

    def exported(self, kind: str) -> bytes:
        """The content of a file: "csv" holds :meth:`table`, "npz" arrays, "svg" :meth:`figure`.

        The arrays are the points of the place, what each one reads (n, D), and the layer's output.

        Raises:
            ValueError: there is no such kind.
        """
        writers = {"csv": self._csv, "npz": self._npz, "svg": self._svg}
        if kind not in writers:
            raise ValueError(f"kind: got {kind!r}, expected one of {', '.join(writers)}")
        return writers[kind]()

    def to_csv(self, path: str | Path) -> None:
        """Write :meth:`table`."""
        Path(path).write_bytes(self.exported("csv"))

    def to_npz(self, path: str | Path) -> None:
        """Write the arrays of :meth:`exported`."""
        Path(path).write_bytes(self.exported("npz"))

    def to_svg(self, path: str | Path) -> None:
        """Write :meth:`figure` as a vector graphic."""
        Path(path).write_bytes(self.exported("svg"))

    def _send_file(self, _widget: Any, content: dict[str, str], _buffers: Any) -> None:
        """Answer a button of the page with the file that it asks for. ``view`` says which view asked."""
        kind = content["export"]
        name = f"sampling_points_layer{self.layer}_place{self.place}.{kind}"
        self.send({"view": content["view"], "name": name}, [self.exported(kind)])

    def _csv(self) -> bytes:
        file = io.StringIO(newline="")
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(self.table())
        return file.getvalue().encode()

    def _npz(self) -> bytes:
        points, layer = self.shown(), self.current
        arrays = {name: getattr(points, name) for name in ("positions", "offsets", "weights", "head", "level", "index")}
        arrays |= {"place": layer.places[self.place], "read": layer.sample(points), "output": self.output()}
        file = io.BytesIO()
        np.savez(file, **{name: tensor.numpy() for name, tensor in arrays.items()})
        return file.getvalue()

    def _svg(self) -> bytes:
        file = io.BytesIO()
        with style():
            self.figure().savefig(file, format="svg", transparent=True, metadata={"Date": None})
        return file.getvalue()

    def figure(self) -> Figure:
        """The image with the place and the points that are drawn; larger points weigh more, colours are levels."""
        points = self.shown()
        drawn = points.head == self.head if self.head >= 0 else points.head >= 0
        H, W = self.size
        with style():
            figure = Figure(figsize=(5, 5 / place_for(self._picture) + 0.8), dpi=DPI, layout="constrained")
            axes = figure.add_subplot()
            axes.imshow(
                self._picture.permute(1, 2, 0).clamp(0, 1).numpy(), extent=(0, 1, 1, 0), aspect=H / W, alpha=0.8
            )
            sizes = 10 + 150 * points.weights / points.weights.max().clamp(min=1e-12)
            for level in points.level[drawn].unique().tolist():
                of = drawn & (points.level == level)
                x, y = points.positions[of].T
                colour = PALETTE[level % len(PALETTE)]
                map_size = "{} x {}".format(*self.current.maps[level].shape[-2:])
                axes.scatter(x, y, sizes[of], c=colour, edgecolors="black", linewidths=0.6, label=f"reads {map_size}")
            axes.plot(*self.here, "P", color="white", markeredgecolor="black", markersize=11)
            title = self.current.name if self.head < 0 else f"{self.current.name}, head {self.head + 1}"
            (left, right), (top, bottom) = (_limits(points.positions[drawn, axis]) for axis in (0, 1))
            axes.set(title=title, xticks=(), yticks=(), xlim=(left, right), ylim=(bottom, top))
            figure.legend(loc="outside lower center", ncols=3, fontsize=9, frameon=False)
            for spine in axes.spines.values():
                spine.set_color(INK)
        return figure

    def picture(self) -> Picture:
        weights = [point[4] for point in self.points if self.head in (-1, point[5])]
        x, y = self.here
        of_head = "" if self.head < 0 else f"head {self.head + 1} of "
        alt = (
            f"{len(weights)} sampling points of {of_head}{self.current.name} for the place at ({x:.2f}, {y:.2f}) of "
            f"the image; the largest weight is {max(weights):.2f}."
        )
        return Picture(self.figure(), alt, colours=256)


def _limits(positions: Tensor) -> tuple[float, float]:
    """What is drawn of an axis: the image, and points beside it as far as the page shows them."""
    shown = torch.cat([positions[positions.isfinite()], positions.new_tensor([0.0, 1.0])])
    return max(float(shown.min()) - EDGE, SHOWN[0]), min(float(shown.max()) + EDGE, SHOWN[1])


def _objects(found: Mapping[str, Tensor], categories: Sequence[str]) -> dict[int, str]:
    """Object query -> class, score and box of the best object that it found, in words.

    Raises:
        ValueError: ``found`` is of a detector without queries.
    """
    if "queries" not in found:
        raise ValueError(f"found: expected the result of a detector with object queries, got {', '.join(found)}")
    objects: dict[int, str] = {}
    rows = zip(*(found[key].tolist() for key in ("queries", "labels", "scores", "boxes")), strict=True)
    for query, label, score, box in rows:
        name = categories[label] if categories else f"class {label}"
        x1, y1, x2, y2 = (f"{end:.0f}" for end in box)
        told = f", which found: {name} {score:.2f}, x from {x1} to {x2}, y from {y1} to {y2} pixels"
        objects.setdefault(query, told)  # results are sorted by score
    return objects


def _as_seen(image: Tensor, trace: Trace, number: int) -> Tensor:
    """``image`` in the size and with the padding (grey) in which the network saw it."""
    for _, batch in trace.find("network_input"):
        H, W = batch.shape[-2:]
        w, h = (int(n) for n in (valid_part(trace, number) * torch.tensor([W, H])).round())
        resized = F.interpolate(image[None], (h, w), mode="bilinear", align_corners=False, antialias=True)[0]
        return F.pad(resized, (0, W - w, 0, H - h), value=0.5)
    return image
