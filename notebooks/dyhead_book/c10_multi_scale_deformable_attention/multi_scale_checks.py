"""Checks and mistakes of multi-scale deformable attention: where the points lie, and the sum over them.

The sum is checked twice: as loops on NumPy arrays, with the signature of ``ops/numba_reference/loops.py``, so that the
reader's loops, the library's loops and every backend pass the same check; and as a function on tensors. All in float64.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.ops import formula
from dyhead_lab.ops.numba_reference import loops

from ..practice.cases import draw_sizes
from ..practice.reader_checks import Case, Mistake, Verdict, check
from ..practice.softmax import softmax

# Where the points lie


def locations_formula(reference_BQL: Tensor, offsets_BQMLP2: Tensor, spatial_shapes_L2: Tensor) -> Tensor:
    """Where the library's module reads: (x, y) in [0, 1], (B, Q, M, L, P, 2).

    The module computes offsets by a linear layer; here that is the identity, and the queries are the offsets.
    """
    B, _, M, L, P, _ = offsets_BQMLP2.shape
    layer = MultiScaleDeformableAttention(M * L * P * 2, L, M, P).double()
    with torch.no_grad():
        layer.sampling_offsets.weight.copy_(torch.eye(M * L * P * 2))
        layer.sampling_offsets.bias.zero_()
        counts = spatial_shapes_L2.prod(1)
        value = torch.zeros(B, int(counts.sum()), M * L * P * 2, dtype=torch.float64)
        starts = counts.cumsum(0) - counts
        _, locations, _ = layer(offsets_BQMLP2.flatten(2), reference_BQL, value, spatial_shapes_L2, starts)
    return locations


def _location_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
    """Points on one level, then on several, then boxes."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        B, Q, M, P = (int(n) for n in rng.integers((1, 2, 2, 2), (3, 5, 4, 5)))
        L = 1 if number < 2 else int(rng.integers(2, 4))
        corners = 2 if number < 8 else 4
        shapes = draw_sizes(rng, L)
        reference = torch.from_numpy(rng.uniform(0.1, 0.9, (B, Q, L, corners)))
        offsets = torch.from_numpy(2 * rng.normal(size=(B, Q, M, L, P, 2)))
        what = "points" if corners == 2 else "boxes"
        yield Case(
            f"{Q} {what}, {M} heads, {P} points a head, levels {shapes.tolist()}",
            (reference, offsets, torch.from_numpy(shapes)),
        )


Place = Callable[[Tensor, Tensor, Tensor], Tensor]


def _placed(point: Place | None = None, box: Place | None = None) -> Callable[..., Tensor]:
    """Locations whose rule for points or boxes is another one; it gets reference, offsets, (W, H) of the levels."""

    def imitate(reference_BQL: Tensor, offsets: Tensor, shapes: Tensor) -> Tensor:
        rule = point if reference_BQL.shape[-1] == 2 else box
        if rule is None:
            return locations_formula(reference_BQL, offsets, shapes)
        return rule(reference_BQL[:, :, None, :, None], offsets, shapes.flip(-1)[:, None])

    return imitate


LOCATION_MISTAKES = (
    Mistake(
        "the offsets are divided by (H, W)",
        "offsets are (x, y): divide by (W, H), that is spatial_shapes_L2.flip(-1).",
        _placed(lambda r, o, s: r + o / s.flip(-1)),
    ),
    Mistake(
        "the offsets are not divided by the size of the level",
        "offsets count in cells, the reference point in shares of the map. Bring them to the same unit.",
        _placed(lambda r, o, s: r + o),
    ),
    Mistake(
        "the result is in cells",
        "it is the offset that is brought to [0, 1], not the reference point to cells.",
        _placed(lambda r, o, s: r * s + o),
    ),
    Mistake(
        "all levels are divided by the size of the finest one",
        "a cell of a coarse level is larger: every level has a size of its own.",
        _placed(lambda r, o, s: r + o / s[0]),
    ),
    Mistake(
        "the levels are reversed",
        "levels go from fine to coarse in offsets and in shapes: level l of one belongs to level l of the other.",
        _placed(lambda r, o, s: r + o / s.flip(0)),
    ),
    Mistake(
        "half a cell is added",
        "the reference point is the place itself. The half cell belongs to the step from [0, 1] to cells.",
        _placed(lambda r, o, s: r + (o + 0.5) / s),
    ),
    Mistake(
        "x and y are exchanged in the offsets",
        "the last axis of the offsets is (x, y), like that of the reference points.",
        _placed(lambda r, o, s: r + o.flip(-1) / s),
    ),
    Mistake(
        "around a box the offsets are not divided by P",
        "point k starts k steps away from the centre; divided by P even the last one starts on the edge.",
        _placed(box=lambda r, o, s: r[..., :2] + o * r[..., 2:] / 2),
    ),
    Mistake(
        "around a box the whole size is used instead of half of it",
        "from the centre of a box to its edge it is half a width.",
        _placed(box=lambda r, o, s: r[..., :2] + o / o.shape[-2] * r[..., 2:]),
    ),
    Mistake(
        "around a box the offsets count in cells",
        "around a box, offsets count in half box sizes over P: an offset of P reaches the edge on every level.",
        _placed(box=lambda r, o, s: r[..., :2] + o / s),
    ),
    Mistake(
        "width and height of the box are exchanged",
        "boxes are (cx, cy, w, h) and offsets (x, y): x goes with w.",
        _placed(box=lambda r, o, s: r[..., :2] + o / o.shape[-2] * r[..., 2:].flip(-1) / 2),
    ),
)


def check_locations(function: Callable[..., Tensor], seed: int = 0) -> Verdict:
    """Check the reader's ``sampling_locations(reference_BQL, offsets_BQMLP2, spatial_shapes_L2)``."""
    return check(function, locations_formula, _location_cases(seed), LOCATION_MISTAKES)


# The sum


def ms_deform_attn_formula(*arrays: np.ndarray) -> np.ndarray:
    """The sum as ``ops/formula.py`` writes it, (B, Q, M, D); arguments as in :func:`check_ms_deform_attn`."""
    out = formula.ms_deform_attn(*(torch.from_numpy(array.copy()) for array in arrays))
    return out.unflatten(-1, arrays[0].shape[2:]).numpy()


def ms_deform_attn_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    """From one level and one head to three levels, several heads and points outside the map."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        B, Q, M, P, D = (int(n) for n in rng.integers((1, 2, 2, 1, 1), (3, 4, 4, 4, 3)))
        L = 1 if number < 2 else int(rng.integers(2, 4))
        M = 1 if number < 2 else M
        shapes = draw_sizes(rng, L)
        counts = shapes.prod(1)
        arguments = (
            rng.normal(size=(B, counts.sum(), M, D)),
            shapes,
            np.concatenate([[0], counts.cumsum()[:-1]]),
            rng.uniform(-0.1, 1.1, size=(B, Q, M, L, P, 2)),
            softmax(rng.normal(size=(B, Q, M, L, P)), (3, 4)),
        )
        yield Case(f"batch {B}, {Q} queries, {M} head(s), {P} point(s), levels {shapes.tolist()}", arguments)


def _changed(**changes: Callable[[dict[str, np.ndarray]], np.ndarray]) -> Callable[..., np.ndarray]:
    """The right function on changed arguments; ``size`` stands beside them: (W, H) of each level, (L, 1, 2)."""
    names = ("value", "shapes", "starts", "locations", "weights")

    def imitate(*arguments: np.ndarray) -> np.ndarray:
        a: dict[str, Any] = dict(zip(names, arguments, strict=True))
        known = {**a, "size": a["shapes"][:, None, ::-1]}
        return ms_deform_attn_formula(*{**a, **{name: change(known) for name, change in changes.items()}}.values())

    return imitate


def _without_borders(*arguments: np.ndarray) -> np.ndarray:
    """Cells outside a level are looked up among the tokens all the same, wherever their number leads."""
    value, shapes, starts, locations, weights = arguments
    batch, head = np.arange(len(value))[:, None, None, None], np.arange(value.shape[2])[None, None, :, None]
    out = 0.0
    for l, ((H, W), start) in enumerate(zip(shapes.tolist(), starts.tolist(), strict=True)):
        x, y = locations[:, :, :, l, :, 0] * W - 0.5, locations[:, :, :, l, :, 1] * H - 0.5
        left, top = np.floor(x).astype(int), np.floor(y).astype(int)
        for row, share_y in ((top, top + 1 - y), (top + 1, y - top)):
            for column, share_x in ((left, left + 1 - x), (left + 1, x - left)):
                token = (start + row * W + column) % value.shape[1]
                share = weights[:, :, :, l] * share_y * share_x
                out = out + (share[..., None] * value[batch, token, head]).sum(3)
    return np.asarray(out)


def _last_only(axis: int) -> Callable[[dict[str, np.ndarray]], np.ndarray]:
    """Weights that let only the last entry of an axis through."""

    def weights(a: dict[str, np.ndarray]) -> np.ndarray:
        kept = np.zeros(a["weights"].shape[axis])
        kept[-1] = 1
        return a["weights"] * kept.reshape([-1 if n == axis else 1 for n in range(5)])

    return weights


MS_DEFORM_ATTN_MISTAKES = (
    Mistake(
        "only the last point of the last level is kept",
        "`=` stands where `+=` belongs: every point of every level adds to out[b, q, m].",
        _changed(weights=lambda a: _last_only(4)({**a, "weights": _last_only(3)(a)})),
    ),
    Mistake(
        "only the last level is kept",
        "`=` stands where `+=` belongs, or the output starts anew in every level.",
        _changed(weights=_last_only(3)),
    ),
    Mistake(
        "only the last point of each level is kept",
        "`=` stands where `+=` belongs: all P points add up.",
        _changed(weights=_last_only(4)),
    ),
    Mistake(
        "a cell outside the level is looked up all the same",
        "row -1 or column -1 is no error in Python: the index wraps around, or leads into the row before. Skip cells "
        "outside.",
        _without_borders,
    ),
    Mistake(
        "the half cell is forgotten",
        "phi stretches [0, 1] over the outer edges of the map: the position is r * W - 0.5.",
        _changed(locations=lambda a: a["locations"] + 0.5 / a["size"]),
    ),
    Mistake(
        "[0, 1] is stretched from the first cell centre to the last one",
        "phi stretches [0, 1] over the outer edges of the map: r * W - 0.5, not r * (W - 1).",
        _changed(locations=lambda a: (a["locations"] * (a["size"] - 1) + 0.5) / a["size"]),
    ),
    Mistake(
        "x and y are exchanged",
        "a location is (x, y): x goes with W and with the column.",
        _changed(locations=lambda a: a["locations"][..., ::-1]),
    ),
    Mistake(
        "x is stretched by H, and y by W",
        "spatial_shapes holds (H, W), locations hold (x, y).",
        _changed(locations=lambda a: a["locations"] * a["size"][..., ::-1] / a["size"]),
    ),
    Mistake(
        "every level is read from the first token on",
        "level l starts at token level_start_index[l].",
        _changed(starts=lambda a: np.zeros_like(a["starts"])),
    ),
    Mistake(
        "the levels are reversed",
        "locations and weights have the levels fine to coarse, as the tokens have.",
        _changed(
            locations=lambda a: a["locations"][:, :, :, ::-1],
            weights=lambda a: a["weights"][:, :, :, ::-1],
        ),
    ),
    Mistake(
        "the points are summed without their weights",
        "multiply every sample by its attention weight.",
        _changed(weights=lambda a: np.ones_like(a["weights"])),
    ),
    Mistake(
        "all heads read the values of the first head",
        "value[b, n, m]: head m has D channels of its own.",
        _changed(value=lambda a: np.repeat(a["value"][:, :, :1], a["value"].shape[2], 2)),
    ),
    Mistake(
        "only the nearest cell is read",
        "read between the cells with bilinear interpolation.",
        _changed(locations=lambda a: (np.floor(a["locations"] * a["size"]) + 0.5) / a["size"]),
    ),
    Mistake(
        "a position outside reads the border instead of zero",
        "skip a cell that lies outside the map; do not clamp its index.",
        _changed(locations=lambda a: a["locations"].clip(0.5 / a["size"], 1 - 0.5 / a["size"])),
    ),
)


def _last_cell(*arguments: np.ndarray) -> np.ndarray:
    """Each of the four cells of a sample overwrites what was there before."""
    value, shapes, starts, locations, weights = arguments
    out = np.zeros((*weights.shape[:3], value.shape[3]))
    for b, q, m, l, p in np.ndindex(weights.shape):
        H, W = shapes[l]
        p_x, p_y = locations[b, q, m, l, p] * (W, H) - 0.5
        for row, column, share, _, _ in loops.around.py_func(p_y, p_x):
            if 0 <= row < H and 0 <= column < W:
                out[b, q, m] = weights[b, q, m, l, p] * share * value[b, starts[l] + row * W + column, m]
    return out


#: What the check of the loops knows besides what the chapter plants.
LOOPS_MISTAKES = (
    *MS_DEFORM_ATTN_MISTAKES,
    Mistake(
        "only the last cell of the last point is kept",
        "`=` stands where `+=` belongs: all four cells of every point add to out[b, q, m].",
        _last_cell,
    ),
)
GRID_SAMPLE_MISTAKES = (
    Mistake(
        "locations go to grid_sample in [0, 1]",
        "grid_sample counts from -1 to 1: hand it 2 * r - 1.",
        _changed(locations=lambda a: (a["locations"] + 1) / 2),
    ),
    *MS_DEFORM_ATTN_MISTAKES,
)


def check_ms_deform_attn(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check ``ms_deform_attn(value, spatial_shapes, level_start_index, sampling_locations, attention_weights)``."""
    return check(function, ms_deform_attn_formula, ms_deform_attn_cases(seed), LOOPS_MISTAKES)


def check_on_tensors(function: Callable[..., Tensor], seed: int = 0) -> Verdict:
    """Check the same function on tensors, (B, Q, M * D) as the library's ``ms_deform_attn`` gives it."""

    def on_arrays(*arrays: np.ndarray) -> Any:
        out = function(*map(torch.from_numpy, arrays))
        D = arrays[0].shape[3]
        fits = isinstance(out, Tensor) and out.ndim == 3 and out.shape[-1] == arrays[0].shape[2] * D
        return out.unflatten(-1, (-1, D)) if fits else out  # another shape is told by the check

    return check(on_arrays, ms_deform_attn_formula, ms_deform_attn_cases(seed), GRID_SAMPLE_MISTAKES)
