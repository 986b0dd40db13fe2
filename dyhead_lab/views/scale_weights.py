"""Explorer: the scale weights that a Dynamic Head learned, per block and level.

Scale-aware attention multiplies each branch that meets at a level by one gate per image. The explorer shows
these gates and their ratio over a set of images. It receives plain numbers from a trace, never a model.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import traitlets
from matplotlib.figure import Figure

from ..attention.scale import scale_ratio
from ..trace import Trace
from .explorer import Explorer, image_url
from .figures import BLUE, DPI, GREEN, ORANGE, Picture, style

THUMBNAIL = 64  # pixels

Gates = Sequence[Sequence[torch.Tensor]]  # [block][level] -> (images, branches), finest branch first


def gates_of(trace: Trace) -> list[list[torch.Tensor]]:
    """Gates per block and level, (images, branches), branches from the finest level to the coarsest.

    Reads what one forward pass of a released-form Dynamic Head emits: one call per level, finest level first.

    Raises:
        ValueError: if no scale weights were traced.
    """
    calls: dict[str, list[torch.Tensor]] = {}
    for path, gates_Bn in trace.find("scale_weights"):
        calls.setdefault(path, []).append(gates_Bn.float().cpu())
    if not calls:
        raise ValueError("trace: holds no scale_weights, expected a pass of a model with DyHead blocks")
    return list(calls.values())


def branch_names(levels: Sequence[str], level: int) -> list[str]:
    """What meets at a level, finest first: ``["finer (P3)", "same level (P4)", "coarser (P5)"]``."""
    names = [f"finer ({levels[level - 1]})"] if level > 0 else []
    names.append(f"same level ({levels[level]})")
    return names + ([f"coarser ({levels[level + 1]})"] if level < len(levels) - 1 else [])


class ScaleWeights(Explorer, static="scale_weights"):
    """Choose a block and a level, by mouse or keyboard, and see the gates of the branches that meet there.

    Read the choice from Python with ``explorer.reading``, or follow it::

        explorer.observe(lambda change: print(change.new), names="reading")

    Args:
        gates: ``[block][level]`` -> (images, branches), as :func:`gates_of` gives them.
        levels: names of the levels, finest first.
        images: the images behind the rows, (3, H, W) in [0, 1]; only small thumbnails are kept.
    """

    gates: Any = traitlets.List().tag(sync=True)
    levels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    branches: Any = traitlets.List().tag(sync=True)
    thumbnails = traitlets.List(traitlets.Unicode()).tag(sync=True)
    block = traitlets.Int(0).tag(sync=True)
    level = traitlets.Int(0).tag(sync=True)
    branch = traitlets.Int(0).tag(sync=True)
    image = traitlets.Int(-1, help="index of an image, or -1 for the mean over all").tag(sync=True)
    reading = traitlets.Dict(help="what the choice says: names, gate and scale ratio")

    def __init__(self, gates: Gates, levels: Sequence[str], images: Sequence[torch.Tensor]):
        _check(gates, levels, images)
        self._gates = gates
        super().__init__(
            gates=[[w.double().round(decimals=4).tolist() for w in block] for block in gates],
            levels=list(levels),
            branches=[branch_names(levels, l) for l in range(len(levels))],
            thumbnails=[image_url(image, THUMBNAIL) for image in images],
        )
        self.observe(self._read, names=["block", "level", "branch", "image"])
        self._read()

    @traitlets.validate("block", "level", "image")
    def _in_range(self, proposal: Any) -> int:
        name, value = proposal.trait.name, proposal.value
        first, end = {
            "block": (0, len(self.gates)),
            "level": (0, len(self.levels)),
            "image": (-1, len(self.thumbnails)),
        }[name]
        if not first <= value < end:
            raise traitlets.TraitError(f"{name}: got {value}, expected {first}..{end - 1}")
        return value

    def _read(self, _change: Any = None) -> None:
        """Recompute ``reading``. Where a level has only two branches, the third choice means the second."""
        weights = self._gates[self.block][self.level]
        rows = weights if self.image < 0 else weights[self.image : self.image + 1]
        branch = min(self.branch, weights.shape[1] - 1)
        self.reading = {
            "block": self.block,
            "level": self.levels[self.level],
            "branch": self.branches[self.level][branch],
            "image": "mean" if self.image < 0 else self.image,
            "gate": round(float(rows[:, branch].mean()), 4),
            "ratio": round(float(scale_ratio(rows).mean()), 4),
        }

    def picture(self) -> Picture:
        """All blocks and levels at once, as a still picture."""
        return Picture(gates_figure(self._gates, self.levels), self._alt())

    def _alt(self) -> str:
        rows = []
        for i, block in enumerate(self._gates):
            ratios = [f"{name} {scale_ratio(w).mean():.2f}" for name, w in zip(self.levels, block, strict=True)]
            rows.append(f"block {i + 1}: {', '.join(ratios)}")
        return "Learned scale weights. Mean scale ratio per level, " + "; ".join(rows) + "."


def _check(gates: Gates, levels: Sequence[str], images: Sequence[torch.Tensor]) -> None:
    for argument, given in (("gates", gates), ("images", images)):
        if not given:
            raise ValueError(f"{argument}: got none, expected at least 1")
    for i, block in enumerate(gates):
        if len(block) != len(levels):
            raise ValueError(f"gates[{i}]: got {len(block)} levels, expected {len(levels)}: {', '.join(levels)}")
        for l, weights in enumerate(block):
            expected = (len(images), len(branch_names(levels, l)))
            if weights.shape != expected:
                got = tuple(weights.shape)
                raise ValueError(f"gates[{i}][{l}]: got {got}, expected {expected} (images, branches)")


def gates_figure(gates: Gates, levels: Sequence[str]) -> Figure:
    """Small multiples: a row per block, a column per level; bars are mean gates, dots single images."""
    kinds = {"finer": BLUE, "same level": GREEN, "coarser": ORANGE}
    with style():
        figure = Figure(figsize=(2 * len(levels) + 1, 1.4 * len(gates) + 0.6), dpi=DPI, layout="constrained")
        grid = figure.subplots(len(gates), len(levels), squeeze=False, sharex=True, sharey=True)
        for i, block in enumerate(gates):
            for l, weights in enumerate(block):
                axes = grid[i, l]
                for column, name in enumerate(branch_names(levels, l)):
                    kind = name.split(" (")[0]
                    row = list(kinds).index(kind)
                    axes.barh(row, weights[:, column].mean() - 0.5, left=0.5, color=kinds[kind], alpha=0.6)
                    axes.plot(weights[:, column], [row] * len(weights), ".", color=kinds[kind], markersize=4)
                ratio = scale_ratio(weights).mean()
                axes.set_title(f"block {i + 1}, {levels[l]}: ratio {ratio:.2f}", fontsize=9)
        grid[0, 0].set(xlim=(0.48, 1.02), xticks=(0.5, 0.75, 1), ylim=(2.6, -0.6))
        grid[0, 0].set_yticks(range(len(kinds)), list(kinds))
        figure.supxlabel("gate, from 0.5 to 1 (bar: mean, dots: images)", fontsize=9)
    return figure
