"""Explorer: choose how many tokens Sparse DETR refines, and see at once what that costs and what it finds."""

from __future__ import annotations

import base64
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import traitlets
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from torch import Tensor

from ..detectors.detr.dam import correlation
from ..trace import Trace
from .explorer import Explorer, image_url
from .figures import BLUE, DPI, VERMILION, Picture, draw_boxes, place_for, style
from .token_maps import levels_of

LARGEST = 480  # pixels of the picture that is kept in the notebook
Detection = dict[str, Tensor]


@dataclass(frozen=True)
class SparsePass:
    """What one forward pass of a sparse detector did with its tokens.

    Attributes:
        dam_N: decoder attention map: attention that each token received.
        kept_N: True for the tokens that the encoder refined.
        sizes: (H, W) of the levels of the N tokens, fine to coarse.
        detection: ``boxes`` (n, 4) in pixels, ``scores`` and ``labels`` (n,).
    """

    dam_N: Tensor
    kept_N: Tensor
    sizes: list[tuple[int, int]]
    detection: Detection

    @property
    def corr(self) -> float:
        """Share of the decoder's attention that falls on kept tokens."""
        return float(correlation(self.dam_N[None], self.kept_N[None])[0])


def read_sparse_pass(trace: Trace, detection: Detection, image: int = 0) -> SparsePass:
    """What a trace of a sparse detector says about one image of the batch.

    Raises:
        ValueError: the trace holds no ``dam``: it is not of a sparse detector.
    """
    found = {name: next((tensor for _, tensor in trace.find(name)), None) for name in ("dam", "kept_tokens")}
    if found["dam"] is None or found["kept_tokens"] is None:
        raise ValueError("trace: holds no dam and kept_tokens, expected a pass of a sparse detector")
    _, shapes = next(trace.find("attention_shapes"))
    dam_N, index_T = found["dam"][image].float().cpu(), found["kept_tokens"][image].cpu()
    kept_N = torch.zeros(len(dam_N), dtype=torch.bool)
    kept_N[index_T[index_T >= 0]] = True
    return SparsePass(dam_N, kept_N, [(int(H), int(W)) for H, W in shapes], detection)


class SparseTokens(Explorer, static="sparse_tokens"):
    """A slider for the keeping ratio rho: the model runs again, and all that depends on rho is redrawn.

    Args:
        run: ``run(rho)`` gives a trace and the detection of one image; it is called once for each rho that is visited.
        image: (3, H, W) in [0, 1].
        rhos: the ratios of the slider, rising, each in (0, 1].
        categories: class names.
        cost: ``cost(rho)``: multiply-adds of the encoder.
        start: the ratio that is shown first; the first one of ``rhos`` by default.
        threshold: boxes of lower scores are not drawn.

    Raises:
        ValueError: ``rhos`` are not as described, or ``start`` is not among them.
    """

    asks = ("chosen",)
    source = traitlets.Unicode().tag(sync=True)
    size = traitlets.List(traitlets.Int(), help="(H, W) of the image").tag(sync=True)
    rhos = traitlets.List(traitlets.Float()).tag(sync=True)
    chosen = traitlets.Int(0, help="index of the ratio that is shown").tag(sync=True)
    levels: Any = traitlets.List(help="per level: H, W, DAM and kept tokens as base64 bytes").tag(sync=True)
    boxes: Any = traitlets.List(help="per box: x1, y1, x2, y2, name and score").tag(sync=True)
    numbers: Any = traitlets.Dict(help="rho, kept, tokens, corr, cost, detections").tag(sync=True)
    visited: Any = traitlets.List(help="the numbers of every ratio seen so far, by ratio").tag(sync=True)

    def __init__(
        self,
        run: Callable[[float], tuple[Trace, Detection]],
        image: Tensor,
        rhos: Sequence[float],
        categories: Sequence[str],
        cost: Callable[[float], float],
        start: float | None = None,
        threshold: float = 0.3,
    ):
        rhos = list(rhos)
        if not rhos or sorted(set(rhos)) != rhos or not (0 < rhos[0] and rhos[-1] <= 1):
            raise ValueError(f"rhos: expected rising ratios in (0, 1], got {rhos}")
        if start is not None and start not in rhos:
            raise ValueError(f"start: expected one of {rhos}, got {start}")
        self._run, self._cost, self._image = run, cost, image
        self._categories, self._threshold = list(categories), threshold
        self._passes: dict[float, SparsePass] = {}
        super().__init__(source=image_url(image, LARGEST), size=list(image.shape[1:]), rhos=rhos)
        self.chosen = 0 if start is None else rhos.index(start)
        self.observe(self._show, names="chosen")
        self._show()

    @traitlets.validate("chosen")
    def _in_range(self, proposal: Any) -> int:
        if not 0 <= proposal.value < len(self.rhos):
            raise traitlets.TraitError(f"chosen: got {proposal.value}, expected 0..{len(self.rhos) - 1}")
        return proposal.value

    @property
    def current(self) -> SparsePass:
        """The pass of the ratio that is shown."""
        rho = self.rhos[self.chosen]
        if rho not in self._passes:
            self._passes[rho] = read_sparse_pass(*self._run(rho))
        return self._passes[rho]

    def _show(self, _change: Any = None) -> None:
        seen, rho = self.current, self.rhos[self.chosen]
        confident = seen.detection["scores"] >= self._threshold
        brightest = max(float(seen.dam_N.max()), 1e-12)
        with self.hold_sync():
            self.levels = [
                {"size": list(dam_HW.shape), "dam": _bytes(dam_HW / brightest), "kept": _bytes(kept_HW.float())}
                for dam_HW, kept_HW in zip(
                    levels_of(seen.dam_N, seen.sizes), levels_of(seen.kept_N, seen.sizes), strict=True
                )
            ]
            self.boxes = [
                [*(round(v, 1) for v in box), self._categories[label], round(score, 2)]
                for box, label, score in zip(
                    *(seen.detection[name][confident].tolist() for name in ("boxes", "labels", "scores")), strict=True
                )
            ]
            self.numbers = {
                "rho": rho,
                "kept": int(seen.kept_N.sum()),
                "tokens": len(seen.kept_N),
                "corr": round(seen.corr, 4),
                "cost": self._cost(rho),
                "detections": len(self.boxes),
            }
            known = {entry["rho"]: entry for entry in (*self.visited, self.numbers)}
            self.visited = [known[ratio] for ratio in sorted(known)]
            self._answered()

    def figure(self) -> Figure:
        """The image with its boxes, and the levels: attention of the decoder in blue, kept tokens outlined."""
        seen = self.current
        H, W = self.size
        with style():
            size = (2.35 * (1 + len(seen.sizes)), max(2.65 / place_for(self._image), 1))
            figure = Figure(figsize=size, dpi=DPI, layout="constrained")
            axes, *grid = figure.subplots(1, 1 + len(seen.sizes))
            axes.imshow(self._image.permute(1, 2, 0).clamp(0, 1).numpy(force=True), extent=(0, W, H, 0))
            confident = seen.detection["scores"] >= self._threshold
            kept_boxes = {name: tensor[confident] for name, tensor in seen.detection.items()}
            draw_boxes(axes, kept_boxes["boxes"], kept_boxes["labels"], self._categories, kept_boxes["scores"])
            axes.set(xlim=(0, W), ylim=(H, 0), title=f"rho {self.numbers['rho']:g}: Corr {seen.corr:.2f}")
            maps = zip(levels_of(seen.dam_N, seen.sizes), levels_of(seen.kept_N, seen.sizes), strict=True)
            for panel, (dam_HW, kept_HW) in zip(grid, maps, strict=True):
                panel.imshow(dam_HW.numpy(), cmap=_shades(BLUE), vmin=0, vmax=float(seen.dam_N.max()))
                rows, columns = np.nonzero(kept_HW.numpy())
                panel.plot(columns, rows, "s", markersize=40 / len(dam_HW) + 2, mfc="none", mec=VERMILION)
                panel.set_title("{} x {}".format(*dam_HW.shape))
            for panel in (axes, *grid):
                panel.set(xticks=(), yticks=())
        return figure

    def picture(self) -> Picture:
        n = self.numbers
        alt = (
            f"With rho {n['rho']:g} the encoder refines {n['kept']} of {n['tokens']} tokens; they receive "
            f"{n['corr']:.0%} of the decoder's attention, and {n['detections']} objects are found."
        )
        return Picture(self.figure(), alt)


def _bytes(values: Tensor) -> str:
    """Values in [0, 1] as one byte each, row by row, in base64."""
    return base64.b64encode((values * 255).round().byte().numpy().tobytes()).decode()


def _shades(colour: str) -> LinearSegmentedColormap:
    return LinearSegmentedColormap.from_list("shades", ["#ffffff00", colour])
