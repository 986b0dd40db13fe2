"""Explorer: the activation that each channel chose, what it does to the features, and who reads the channel."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import traitlets
from torch import Tensor

from ..trace import Trace
from .explorer import Explorer
from .figures import Picture
from .task_lines import coefficients_of, lines_figure, strangest_channels

BINS = 40
READERS = ("class", "box", "centre")
ORDERS = ("distance from ReLU", *READERS, "number")
PICTURED = 8  # channels of the still picture


class TaskPieces(Explorer, static="task_pieces"):
    """Choose a block, a level and a channel: its two lines, its values before and after, and its weight for the tasks.

    Channels stand in an order of the reader's choice: by the distance of their coefficients from ReLU, by the weight
    that the class, box or centre predictor gives them, or by number.

    Args:
        trace: of a forward pass of a detector with task-aware attention.
        levels: names of the levels, finest first.

    Raises:
        ValueError: the trace holds no task coefficients, or other levels than named.
    """

    asks = ("block", "level", "order", "rank")
    levels = traitlets.List(traitlets.Unicode()).tag(sync=True)
    blocks = traitlets.Int(1).tag(sync=True)
    orders = traitlets.List(traitlets.Unicode()).tag(sync=True)
    block = traitlets.Int(0).tag(sync=True)
    level = traitlets.Int(0).tag(sync=True)
    order = traitlets.Int(0, help="index of the order of channels").tag(sync=True)
    rank = traitlets.Int(0, help="place of the channel in that order").tag(sync=True)
    channels: Any = traitlets.List(help="per rank: channel, then its strengths for the readers").tag(sync=True)
    piece: Any = traitlets.Dict(help="of the chosen channel: lines, and histograms before and after").tag(sync=True)

    def __init__(self, trace: Trace, levels: Sequence[str]):
        self._coefficients = coefficients_of(trace)
        self._before, self._after = ([t for _, t in trace.find(name)] for name in ("after_scale", "after_task"))
        for i, block in enumerate(self._coefficients):
            if len(block) != len(levels):
                raise ValueError(f"levels: got {len(levels)} names, block {i + 1} has {len(block)} levels")
        strengths = next((tensor for _, tensor in trace.find("channel_strengths")), None)
        self._strengths = None if strengths is None else strengths.float().cpu()
        orders = ORDERS if strengths is not None else (ORDERS[0], ORDERS[-1])
        super().__init__(levels=list(levels), blocks=len(self._coefficients), orders=list(orders))
        self.observe(self._sort, names=["block", "level", "order"])
        self.observe(self._look, names="rank")
        self._sort()

    @traitlets.validate("block", "level", "order", "rank")
    def _in_range(self, proposal: Any) -> int:
        name, value = proposal.trait.name, proposal.value
        end = {
            "block": self.blocks,
            "level": len(self.levels),
            "order": len(self.orders),
            "rank": self._coefficients[0][0].shape[2],
        }[name]
        if not 0 <= value < end:
            raise traitlets.TraitError(f"{name}: got {value}, expected 0..{end - 1}")
        return value

    @property
    def channel(self) -> int:
        """The channel that is shown."""
        return int(self.channels[self.rank][0])

    def _now(self, of: Sequence[Any]) -> Any:
        """The entry of the chosen block and level in a list of calls."""
        return of[self.block * len(self.levels) + self.level]

    def _sort(self, _change: Any = None) -> None:
        coefficients = self._coefficients[self.block][self.level]
        C = coefficients.shape[2]
        name = self.orders[self.order]
        if name in READERS:
            order = self._strengths[READERS.index(name)].argsort(descending=True).tolist()  # type: ignore[index]
        else:
            order = strangest_channels(coefficients, C) if name == ORDERS[0] else list(range(C))
        strengths = torch.zeros(3, C) if self._strengths is None else self._strengths
        with self.hold_sync():
            self.channels = [[c, *(round(float(s), 4) for s in strengths[:, c])] for c in order]
            self._look()

    def _look(self, _change: Any = None) -> None:
        c = self.channel
        coefficients_B4 = self._coefficients[self.block][self.level][:, :, c]
        before, after = (self._now(calls)[:, c].float().cpu() for calls in (self._before, self._after))
        a1, b1, a2, b2 = (k[:, None, None] for k in coefficients_B4.unbind(1))
        reach = max(float(before.abs().max()), float(after.abs().max()), 1e-3)
        self.piece = {
            "lines": coefficients_B4.mean(0).tolist(),
            "spread": (coefficients_B4.amax(0) - coefficients_B4.amin(0)).tolist(),
            "second": float((a2 * before + b2 > a1 * before + b1).float().mean()),
            "reach": reach,
            "before": _histogram(before, reach),
            "after": _histogram(after, reach),
        }
        self._answered()

    def picture(self) -> Picture:
        """The first channels of the chosen order, in the chosen block and level."""
        first = [int(row[0]) for row in self.channels[:PICTURED]]
        alt = (
            f"Activations of channels {', '.join(map(str, first))} in block {self.block + 1}, "
            f"{self.levels[self.level]}: two lines each, the larger of them, and ReLU for comparison."
        )
        return Picture(lines_figure(self._coefficients[self.block][self.level], first), alt)


def _histogram(values: Tensor, reach: float) -> list[float]:
    """Share of the values in each of BINS bins from -reach to reach."""
    return (torch.histc(values, BINS, -reach, reach) / values.numel()).tolist()
