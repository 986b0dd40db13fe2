"""The check and the planted bugs of a box that is written relative to an anchor."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dyhead_lab.detectors.anchors import BOX_WEIGHTS, decode_boxes
from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy, xyxy_to_cxcywh

from ..practice.reader_checks import Case, Mistake, Verdict, check

Decode = Callable[[Tensor, Tensor], Tensor]


def box_from_deltas_formula(anchor: Tensor, deltas: Tensor) -> Tensor:
    return decode_boxes(deltas[None], anchor[None])[0]


def _deltas_cases(seed: int = 0) -> Iterator[Case]:
    """No change, a shift, a larger box, and then all at once."""
    plain = ((0.0, 0, 0, 0), (10.0, 0, 0, 0), (0, -5.0, 0, 0), (0, 0, 2.0, 0), (0, 0, 0, -2.0))
    generator = torch.Generator().manual_seed(seed)
    drawn = [tuple(row) for row in (2 * torch.randn(5, 4, generator=generator)).tolist()]
    for values in (*plain, *drawn):
        corner, size = 100 * torch.rand(2, generator=generator).double(), 10 + 50 * torch.rand(2, generator=generator)
        anchor, deltas = torch.cat([corner, corner + size.double()]), torch.tensor(values, dtype=torch.float64)
        yield Case(f"anchor {_text(anchor)}, deltas {_text(deltas)}", (anchor, deltas))


def _deltas_variant(
    weights: tuple[float, ...] = BOX_WEIGHTS,
    grow: Callable[[Tensor], Tensor] = torch.exp,
    reach: Callable[[Tensor], Tensor] = lambda size: size,
    from_centre: bool = True,
    half: float = 0.5,
    read: Callable[[Tensor], Tensor] = lambda anchor: anchor,
    write: Callable[[Tensor], Tensor] = lambda box: box,
) -> Decode:
    def imitate(anchor: Tensor, deltas: Tensor) -> Tensor:
        anchor = read(anchor)
        shift, log_size = (deltas / torch.tensor(weights, dtype=deltas.dtype)).chunk(2)
        size = anchor[2:] - anchor[:2]
        centre = anchor[:2] + (size / 2 if from_centre else 0) + shift * reach(size)
        return write(torch.cat([centre - half * size * grow(log_size), centre + half * size * grow(log_size)]))

    return imitate


DELTAS_MISTAKES = (
    Mistake(
        "the deltas are not divided by their weights",
        "dx and dy come multiplied by 10, dw and dh by 5.",
        _deltas_variant(weights=(1, 1, 1, 1)),
    ),
    Mistake("the exponential is missing", "w * exp(dw): dw is a logarithm.", _deltas_variant(grow=lambda d: 1 + d)),
    Mistake(
        "the shift is taken in pixels",
        "dx counts in widths of the anchor, dy in heights.",
        _deltas_variant(reach=torch.ones_like),
    ),
    Mistake(
        "width and height are swapped in the shift",
        "dx goes with the width, dy with the height.",
        _deltas_variant(reach=lambda size: size.flip(0)),
    ),
    Mistake(
        "the corner of the anchor is taken for its centre",
        "shift the centre, x1 + w / 2.",
        _deltas_variant(from_centre=False),
    ),
    Mistake(
        "the whole side is added to the centre instead of half of it",
        "from the centre to a side it is w / 2.",
        _deltas_variant(half=1.0),
    ),
    Mistake(
        "the anchor is read as centre and size",
        "it comes as two corners, x1, y1, x2, y2.",
        _deltas_variant(read=cxcywh_to_xyxy),
    ),
    Mistake(
        "the box is returned as centre and size",
        "return two corners, x1, y1, x2, y2.",
        _deltas_variant(write=xyxy_to_cxcywh),
    ),
)


def check_box_from_deltas(function: Decode) -> Verdict:
    """Check the reader's ``box_from_deltas(anchor, deltas)``: corners (4,) and deltas (4,) -> corners (4,)."""
    return check(function, box_from_deltas_formula, _deltas_cases(), DELTAS_MISTAKES)


def _text(numbers: Tensor) -> str:
    return f"({', '.join(f'{number:.1f}' for number in numbers.tolist())})"
