"""Checks and mistakes of the chapter on Deformable DETR: references on padded levels, and how boxes are refined."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dyhead_lab.detectors.detr.deformable_transformer import FlatPyramid
from dyhead_lab.detectors.detr.prediction_heads import inverse_sigmoid, refine_boxes

from ..practice.reader_checks import Case, Mistake, Verdict, check

SIZES = ((4, 6), (2, 3))  # (H, W) of the levels of a case

# References on padded levels


def library_on_levels(reference_BQ: Tensor, valid_cells_BL2: Tensor, spatial_shapes_L2: Tensor) -> Tensor:
    """The library's: points or boxes of the valid part -> the same in [0, 1] of every padded level."""
    return _pyramid(valid_cells_BL2, spatial_shapes_L2).on_levels(reference_BQ)


def _pyramid(valid_cells_BL2: Tensor, spatial_shapes_L2: Tensor) -> FlatPyramid:
    nothing = torch.empty(0)
    return FlatPyramid(nothing, nothing, nothing, (), spatial_shapes_L2, nothing, valid_cells_BL2)


def _levels_cases(seed: int = 0) -> Iterator[Case]:
    """No padding; one image that is padded on the right; two images padded in both directions; boxes."""
    generator = torch.Generator().manual_seed(seed)
    shapes = torch.tensor(SIZES)
    whole = shapes.flip(-1).double()
    right, below = whole * torch.tensor([0.5, 1.0]), whole * torch.tensor([1.0, 0.5])
    for values in (2, 4):
        what = "points" if values == 2 else "boxes"
        for text, valid in {
            "no padding": whole[None],
            "the right half is padding": right[None],
            "two images, padded right and below": torch.stack([right, below]),
        }.items():
            reference = torch.rand(len(valid), 3, values, generator=generator, dtype=torch.float64)
            yield Case(f"{what}, {text}", (reference, valid, shapes))


def _scaled_levels(ratio: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    """References times ``ratio(valid_cells_BL2, (W, H)_L2)``, (B, L, 2)."""

    def imitate(reference_BQ: Tensor, valid_cells_BL2: Tensor, spatial_shapes_L2: Tensor) -> Tensor:
        factor = ratio(valid_cells_BL2, spatial_shapes_L2.flip(-1))
        return reference_BQ[:, :, None] * factor.repeat(1, 1, reference_BQ.shape[-1] // 2)[:, None]

    return imitate


def _centre_only(reference_BQ: Tensor, valid_cells_BL2: Tensor, spatial_shapes_L2: Tensor) -> Tensor:
    right = library_on_levels(reference_BQ, valid_cells_BL2, spatial_shapes_L2)
    return torch.cat([right[..., :2], reference_BQ[:, :, None, 2:].expand_as(right[..., 2:])], -1)


LEVELS_MISTAKES = (
    Mistake(
        "padding is forgotten",
        "0.5 is the middle of the image. On a map whose right half is padding it lies at 0.25.",
        _scaled_levels(lambda valid, size: torch.ones_like(valid)),
    ),
    Mistake(
        "x and y are exchanged",
        "spatial_shapes_L2 holds (H, W), valid cells are counted as (columns, rows): flip one of them.",
        _scaled_levels(lambda valid, size: valid / size.flip(-1)),
    ),
    Mistake(
        "references are divided by the valid share",
        "a point moves towards the corner where the image lies: multiply.",
        _scaled_levels(lambda valid, size: size / valid),
    ),
    Mistake(
        "the first image's padding counts for all",
        "every image has a valid part of its own.",
        _scaled_levels(lambda valid, size: (valid / size)[:1].expand_as(valid)),
    ),
    Mistake(
        "only the centre of a box is scaled",
        "width and height shrink with the valid part as well.",
        _centre_only,
    ),
    Mistake(
        "references count in cells",
        "divide the valid cells by the size of the level: the operator wants [0, 1].",
        _scaled_levels(lambda valid, size: valid),
    ),
)


def check_on_levels(function: Callable[..., Tensor], seed: int = 0) -> Verdict:
    """Check the reader's ``on_levels(reference_BQ, valid_cells_BL2, spatial_shapes_L2)``."""
    return check(function, library_on_levels, _levels_cases(seed), LEVELS_MISTAKES)


# Refining boxes


def _box_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    """Boxes; boxes that touch the border of the image; points, which have no size yet."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        Q = int(torch.randint(2, 6, (), generator=generator))
        correction = torch.randn(Q, 4, generator=generator, dtype=torch.float64)
        reference = 0.1 + 0.8 * torch.rand(Q, 4, generator=generator, dtype=torch.float64)
        text = f"{Q} boxes"
        if 3 <= number < 6:
            reference[0, 0], reference[1, 3] = 0.0, 1.0
            text += ", one with cx = 0, one with h = 1"
        if number >= 6:
            reference, text = reference[:, :2], f"{Q} points"
        yield Case(text, (correction, reference))


def _on_boxes(change: Callable[[Tensor, Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    """``change(correction, reference)`` for boxes; points as they should be."""
    return lambda c, r: change(c, r) if r.shape[-1] == 4 else refine_boxes(c, r)


def _unclamped(correction: Tensor, reference: Tensor) -> Tensor:
    logit = (reference / (1 - reference)).log()
    padded = torch.cat([logit, torch.zeros_like(correction[:, logit.shape[-1] :])], -1)
    return (correction + padded).sigmoid()


REFINE_MISTAKES = (
    Mistake(
        "the inverse sigmoid is not clamped",
        "at 0 and 1 it is infinite: no correction moves such a box again, and its gradient is not a number. Keep x "
        "at least eps away from both ends.",
        _unclamped,
    ),
    Mistake(
        "the reference is not taken back to logits",
        "the reference lies in [0, 1] already: take its inverse sigmoid before you add the correction.",
        _on_boxes(lambda c, r: (c + r).sigmoid()),
    ),
    Mistake(
        "the correction is added to the box itself",
        "corrections count in logits. Added in [0, 1] a box can leave the image.",
        _on_boxes(lambda c, r: c + r),
    ),
    Mistake(
        "the reference is forgotten",
        "the head predicts a correction to the reference, not a box.",
        lambda c, r: c.sigmoid(),
    ),
    Mistake(
        "the last sigmoid is missing",
        "the sum is a logit: bring it to [0, 1].",
        _on_boxes(lambda c, r: c + inverse_sigmoid(r)),
    ),
    Mistake(
        "only the centre is refined",
        "all four numbers get a correction.",
        _on_boxes(lambda c, r: torch.cat([refine_boxes(c, r)[:, :2], r[:, 2:]], -1)),
    ),
    Mistake(
        "the correction is subtracted",
        "sigmoid(correction + inverse_sigmoid(reference)).",
        lambda c, r: refine_boxes(-c, r),
    ),
)


def check_refine(function: Callable[..., Tensor], seed: int = 0) -> Verdict:
    """Check the reader's ``refine_boxes(correction, reference)``.

    The tolerance lets a clamp of x itself to [eps, 1 - eps] pass, which differs from the library's by 1e-10.
    """
    return check(function, refine_boxes, _box_cases(seed), REFINE_MISTAKES, tolerance=1e-8)
