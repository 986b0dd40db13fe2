"""The reader's detector so far: which parts of a shipped detector the chapters have built, and that it still works."""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import Any

from torch import nn

from .drawn_shapes import shapes_ap
from .rebuilt import rebuilt


@dataclass(frozen=True)
class Part:
    """One class that a chapter built.

    Attributes:
        name: of the class.
        times: how often the detector uses it.
        parameters: of all of them together.
    """

    name: str
    times: int
    parameters: int


@dataclass(frozen=True)
class SoFar:
    """What :func:`so_far` found; shows itself as a table.

    Attributes:
        weights: name of the detector.
        parts: those that the reader built.
        parameters: of the whole detector.
        built: of these, how many lie in parts that the reader built.
        ap: AP on pictures of Shapes that the detector has not seen.
    """

    weights: str
    parts: tuple[Part, ...]
    parameters: int
    built: int
    ap: float

    @property
    def _rows(self) -> list[tuple[str, str, str]]:
        rows = [(part.name, f"{part.times}", f"{part.parameters:,}") for part in self.parts]
        return [*rows, ("the library's parts", "", f"{self.parameters - self.built:,}")]

    @property
    def _sentence(self) -> str:
        share = self.built / self.parameters
        percent = f"{share:.0%}" if share >= 0.005 else "less than 1%"
        return f"{self.weights}: {percent} of {self.parameters:,} parameters are yours; AP {self.ap:.3f} on Shapes."

    def __repr__(self) -> str:
        rows = [f"{name:28} {times:>3} x {parameters:>12}" for name, times, parameters in self._rows[:-1]]
        name, _, parameters = self._rows[-1]
        return "\n".join(["Your detector so far", *rows, f"{name:28}       {parameters:>12}", self._sentence])

    def _repr_html_(self) -> str:
        header = "<tr><th>part</th><th>times</th><th>parameters</th></tr>"
        rows = ("".join(f"<td>{html.escape(cell)}</td>" for cell in row) for row in self._rows)
        table = "".join(f"<tr>{row}</tr>" for row in rows)
        return f"<p><b>Your detector so far</b></p><table>{header}{table}</table><p>{html.escape(self._sentence)}</p>"


def so_far(weights: str, /, images: int = 60, **built: type[nn.Module] | Any) -> SoFar:
    """Rebuild a shipped detector around what the reader built, and measure it.

    Args:
        weights: name of a detector that has learned Shapes, such as ``"quickstart"``.
        images: pictures of Shapes for AP.
        built: name of a class of the library -> the reader's; see :func:`~.rebuilt.rebuilt`.

    Raises:
        UserError: the trained weights do not fit.
    """
    with rebuilt(weights, **built) as model:
        parts: list[Part] = []
        owned: set[tuple[int, int]] = set()
        for name, own in built.items():
            used = [part for part in model.modules() if type(part) is own]
            parameters = {id(parameter): parameter.numel() for part in used for parameter in part.parameters()}
            owned |= parameters.items()
            parts.append(Part(name, len(used), sum(parameters.values())))
        total = sum(parameter.numel() for parameter in model.parameters())
        return SoFar(weights, tuple(parts), total, sum(count for _, count in owned), shapes_ap(model, images))
