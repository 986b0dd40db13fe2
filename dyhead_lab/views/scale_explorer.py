"""Explorer: how scale weights and scale ratios are spread over a data set, and which images stand in each bar.

The numbers come from a trace, so the explorer knows no model. ``views/live_scale.py`` renews them during training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
import traitlets
from matplotlib.figure import Figure
from torch import Tensor, nn

from ..attention.scale import scale_ratio
from ..evaluation.coco_metric import evaluation_mode
from ..evaluation.grouping import batches_of_one_size, padded_size
from ..trace import Trace, trace
from .explorer import Explorer, image_url
from .figures import BLUE, DPI, ORANGE, Picture, style

BARS = 32
THUMBNAIL = 48  # pixels
MOST_SHOWN = 12  # thumbnails of the still picture

#: What is measured -> [block][level] -> (images,); no images where a level lacks such a branch.
Numbers = Mapping[str, Sequence[Sequence[Tensor]]]


class Span(NamedTuple):
    """From where to where bars stand; numbers beyond count in the outermost bar."""

    low: float
    high: float
    logarithmic: bool = False

    def edges(self) -> np.ndarray:
        """(BARS + 1,), rising."""
        return (np.geomspace if self.logarithmic else np.linspace)(self.low, self.high, BARS + 1)


RATIO = "scale ratio"
RELEASED = {"gate of the finer branch": -1, "gate of the same level": 0, "gate of the coarser branch": 1}
WEIGHT = "weight of the level"

#: The released gates lie in [0.5, 1], the paper's weights in [0, 1]; ratios have equal room on both sides of 1.
RELEASED_SPANS = {RATIO: Span(0.5, 2, True), **dict.fromkeys(RELEASED, Span(0.5, 1))}
PAPER_SPANS = {RATIO: Span(0.25, 4, True), WEIGHT: Span(0, 1)}


@torch.no_grad()
def scale_numbers(model: nn.Module, images: Sequence[Tensor], levels: int, batch_size: int = 16) -> Numbers:
    """Run a detector over images and keep its scale weights and ratios, in the order of the images.

    A gate sees the mean of a level, padding included, so a batch holds only images that are padded to the same size.

    Args:
        model: with a Dynamic Head of either form; its training modes are as before afterwards.
        images: (3, H, W) each, in [0, 1], on the device of the model.
        levels: how many the head has.
        batch_size: most images a pass.
    """
    order: list[int] = []
    with evaluation_mode(model), trace(model, keep=lambda path, name: name == "scale_weights") as seen:
        size_of = padded_size(model)
        for batch in batches_of_one_size(enumerate(images), lambda item: size_of(*item[1].shape[-2:]), batch_size):
            order += [place for place, _ in batch]
            model([image for _, image in batch])
    back = torch.tensor(order).argsort()
    numbers = numbers_of(seen, levels)
    return {
        name: [[values[back] if len(values) else values for values in block] for block in blocks]
        for name, blocks in numbers.items()
    }


def numbers_of(seen: Trace, levels: int) -> Numbers:
    """Scale ratio and gates (released form) or weights (paper form) of all images that were traced.

    The released form calls a block's gate once a level, fine to coarse, and that batch after batch; the paper form
    calls it once a batch, with the weights of all levels.

    Raises:
        ValueError: no scale weights were traced, or there are too few levels to tell the two forms apart.
    """
    if levels < 3:
        raise ValueError(f"levels: got {levels}, expected at least 3; with fewer the two forms look the same")
    calls: dict[str, list[Tensor]] = {}
    for path, weights in seen.find("scale_weights"):
        calls.setdefault(path, []).append(weights.float().cpu())
    if not calls:
        raise ValueError("seen: holds no scale_weights, expected passes of a model with DyHead blocks")
    blocks = list(calls.values())
    if blocks[0][0].shape[1] == levels:
        return _paper_numbers([torch.cat(block) for block in blocks])
    return _released_numbers([[torch.cat(block[l::levels]) for l in range(levels)] for block in blocks])


def _released_numbers(gates: Sequence[Sequence[Tensor]]) -> Numbers:
    """From ``[block][level]`` -> (images, branches), fine to coarse; the first level has no finer branch."""

    def branch(gates_Bn: Tensor, l: int, step: int) -> Tensor:
        column = step if l == 0 else 1 + step
        return gates_Bn[:, column] if 0 <= column < gates_Bn.shape[1] else gates_Bn.new_empty(0)

    numbers = {RATIO: [[scale_ratio(gates_Bn) for gates_Bn in block] for block in gates]}
    for name, step in RELEASED.items():
        numbers[name] = [[branch(gates_Bn, l, step) for l, gates_Bn in enumerate(block)] for block in gates]
    return numbers


def _paper_numbers(weights: Sequence[Tensor]) -> Numbers:
    """From a (images, L) per block. Where neither side speaks, 0 / 0, their ratio is 1."""

    def ratios(weights_BL: Tensor) -> list[Tensor]:
        return [scale_ratio(weights_BL, l).nan_to_num(1, posinf=torch.inf) for l in range(weights_BL.shape[1])]

    return {
        RATIO: [ratios(weights_BL) for weights_BL in weights],
        WEIGHT: [list(weights_BL.unbind(1)) for weights_BL in weights],
    }


class ScaleExplorer(Explorer, static="scale_explorer"):
    """Histograms per block and level; a bar opens the images that stand in it.

    Choose what is measured, a block with a level, and a bar of its histogram, by mouse or arrow keys. The images of
    the bar stay chosen when you go to another level: their share of every histogram is drawn in another colour.

    Args:
        numbers: as :func:`scale_numbers` gives them.
        levels: names of the levels, finest first.
        images: the images behind the numbers, (3, H, W) in [0, 1]; only small thumbnails are kept.

    Raises:
        ValueError: the numbers do not fit the levels or the images.
    """

    levels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    thumbnails = traitlets.List(traitlets.Unicode()).tag(sync=True)
    names: Any = traitlets.List(help="what is measured, in order: a saved notebook sorts the keys below").tag(sync=True)
    edges: Any = traitlets.Dict(help="what is measured -> edges of the bars").tag(sync=True)
    bars: Any = traitlets.Dict(help="what is measured -> [block][level] -> bar of each image").tag(sync=True)
    medians: Any = traitlets.Dict(help="what is measured -> [block][level] -> median; None for none").tag(sync=True)
    measured = traitlets.Unicode(RATIO).tag(sync=True)
    block = traitlets.Int(0).tag(sync=True)
    level = traitlets.Int(0).tag(sync=True)
    chosen = traitlets.List(traitlets.Int(), help="the images of the chosen bar").tag(sync=True)
    status = traitlets.Unicode("", help="where the numbers come from, in a few words").tag(sync=True)

    def __init__(self, numbers: Numbers, levels: Sequence[str], images: Sequence[Tensor]):
        if not images:
            raise ValueError("images: got none, expected at least 1")
        self._images = [image.cpu() for image in images]
        super().__init__(levels=list(levels), thumbnails=[image_url(i, THUMBNAIL, quality=70) for i in images])
        self.show(numbers)
        self.chosen = self.images_of(min(self.bars[RATIO][0][0]))

    @traitlets.validate("measured", "block", "level", "chosen")
    def _known(self, proposal: Any) -> Any:
        name, value = proposal.trait.name, proposal.value
        known: Any = {
            "measured": self.names or [value],
            "block": range(len(self.bars.get(RATIO, [0]))),
            "level": range(len(self.levels)),
            "chosen": range(len(self.thumbnails)),
        }[name]
        for item in value if name == "chosen" else [value]:
            if item not in known:
                raise traitlets.TraitError(f"{name}: got {item!r}, expected one of {known}")
        return value

    def show(self, numbers: Numbers, status: str = "") -> None:
        """Show other numbers of the same images; the choices stay.

        Args:
            numbers: as :func:`scale_numbers` gives them.
            status: where they come from, such as "iteration 200".
        """
        _check(numbers, self.levels, len(self.thumbnails))
        spans = PAPER_SPANS if WEIGHT in numbers else RELEASED_SPANS
        with self.hold_sync():
            self.names = list(numbers)
            self.edges = {name: spans[name].edges().round(3).tolist() for name in numbers}
            self.bars = {name: _map(rows, lambda x, n=name: _bars(x, spans[n])) for name, rows in numbers.items()}
            self.medians = {name: _map(rows, _median) for name, rows in numbers.items()}
            self.status = status

    def images_of(self, bar: int) -> list[int]:
        """Numbers of the images that stand in a bar of the histogram that is shown."""
        return [image for image, place in enumerate(self.bars[self.measured][self.block][self.level]) if place == bar]

    def picture(self) -> Picture:
        """The histograms of all blocks and levels, and the chosen images."""
        return Picture(self._figure(), self._alt())

    def _figure(self) -> Figure:
        rows = self.bars[self.measured]
        edges = np.array(self.edges[self.measured])
        with style():
            size = (2 * len(self.levels) + 1, 1.5 * len(rows) + 1.1)
            figure = Figure(figsize=size, dpi=DPI, layout="constrained")
            above, below = figure.subfigures(2, 1, squeeze=False, height_ratios=[1.5 * len(rows), 1.1]).flat
            grid = above.subplots(len(rows), len(self.levels), squeeze=False, sharex=True, sharey=True)
            for axes, (i, l) in zip(grid.flat, np.ndindex(grid.shape), strict=True):
                places = np.array(rows[i][l], int)
                mine = places[self.chosen] if len(places) else places
                for counted, colour, alpha in ((places, BLUE, 0.5), (mine, ORANGE, 1)):
                    heights = np.bincount(counted, minlength=BARS)
                    axes.stairs(heights, edges, fill=True, color=colour, alpha=alpha)
                axes.set_title(f"block {i + 1}, {self.levels[l]}", fontsize=9)
            if self.measured == RATIO:
                grid[0, 0].set_xscale("log", base=2)
                grid[0, 0].xaxis.set_major_formatter("{x:g}")
            above.supxlabel(self.measured, fontsize=9)
            for place, image in enumerate(self.chosen[:MOST_SHOWN]):
                axes = below.add_subplot(1, MOST_SHOWN, place + 1)
                axes.imshow(self._images[image].permute(1, 2, 0).clamp(0, 1).numpy())
                axes.set_title(str(image + 1), fontsize=9)
                axes.axis("off")
        return figure

    def _alt(self) -> str:
        rows = []
        for i, block in enumerate(self.medians[self.measured]):
            pairs = zip(self.levels, block, strict=True)
            rows.append(f"block {i + 1}: " + ", ".join(f"{name} {m:.2f}" for name, m in pairs if m is not None))
        spread = f"Histograms of the {self.measured} over {len(self.thumbnails)} images"
        return f"{spread}, medians of {'; '.join(rows)}. Chosen: {len(self.chosen)}."


def _map(rows: Sequence[Sequence[Tensor]], of: Any) -> list[list[Any]]:
    return [[of(values) for values in block] for block in rows]


def _median(values: Tensor) -> float | None:
    return round(float(values.double().quantile(0.5)), 4) if len(values) else None


def _bars(values: Tensor, span: Span) -> list[int]:
    """The bar of each number; one that lies on an edge belongs to the bar above it."""
    places = np.searchsorted(span.edges(), values.double().numpy() + 1e-9, side="right") - 1
    return places.clip(0, BARS - 1).tolist()


def _check(numbers: Numbers, levels: Sequence[str], images: int) -> None:
    if not numbers.get(RATIO):
        raise ValueError(f"numbers: got {list(numbers)}, expected {RATIO!r} with at least 1 block")
    for name, rows in numbers.items():
        for i, block in enumerate(rows):
            if len(block) != len(levels):
                raise ValueError(f"{name}, block {i + 1}: got {len(block)} levels, expected {len(levels)}")
            for level, values in zip(levels, block, strict=True):
                if values.shape != (images,) and (name == RATIO or len(values)):
                    got = tuple(values.shape)
                    raise ValueError(f"{name}, block {i + 1}, {level}: got shape {got}, expected ({images},)")
