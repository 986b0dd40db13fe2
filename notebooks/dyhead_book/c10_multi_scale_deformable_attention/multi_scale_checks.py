"""Checks, mistakes and solutions of the chapter on multi-scale deformable attention.

All functions take NumPy arrays in float64. ``ms_deform_attn`` has the signature of ``ops/numba_reference/loops.py``, so
that the reader's loops, the library's loops and every backend pass the same check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from dyhead_lab.ops import formula

from ..practice.cases import draw_sizes
from ..practice.reader_checks import Case, Mistake, Verdict, check
from ..practice.softmax import softmax

Sizes = np.ndarray  # (L, 2), (H, W) of each level

# Where the points lie


def sampling_locations(reference_Q2: np.ndarray, offsets_QMLP2: np.ndarray, shapes_L2: Sizes) -> np.ndarray:
    """Reference points in [0, 1] plus offsets in cells of each level: (x, y) in [0, 1], (Q, M, L, P, 2)."""
    width_height_L2 = shapes_L2[:, ::-1]
    return reference_Q2[:, None, None, None] + offsets_QMLP2 / width_height_L2[:, None]


def _location_cases(seed: int = 0, count: int = 10) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        Q, M, P = (int(n) for n in rng.integers(2, 5, 3))
        L = 1 if number < 2 else int(rng.integers(2, 4))
        shapes = draw_sizes(rng, L)
        arguments = rng.uniform(size=(Q, 2)), 2 * rng.normal(size=(Q, M, L, P, 2)), shapes
        yield Case(f"{Q} queries, {M} heads, {P} points, levels {shapes.tolist()}", arguments)


LOCATION_MISTAKES = (
    Mistake(
        "the offsets are divided by (H, W)",
        "offsets are (x, y): divide by (W, H), that is shapes_L2[:, ::-1].",
        lambda r, o, s: r[:, None, None, None] + o / s[:, None],
    ),
    Mistake(
        "the offsets are not divided by the size of the level",
        "offsets count in cells, the reference point in shares of the map. Bring them to the same unit.",
        lambda r, o, s: r[:, None, None, None] + o,
    ),
    Mistake(
        "the result is in cells",
        "it is the offset that is brought to [0, 1], not the reference point to cells.",
        lambda r, o, s: r[:, None, None, None] * s[:, None, ::-1] + o,
    ),
    Mistake(
        "all levels are divided by the size of the finest one",
        "a cell of a coarse level is larger: every level has a size of its own.",
        lambda r, o, s: r[:, None, None, None] + o / s[0, ::-1],
    ),
    Mistake(
        "the levels are reversed",
        "levels go from fine to coarse in offsets and in shapes: level l of one belongs to level l of the other.",
        lambda r, o, s: r[:, None, None, None] + o / s[::-1, None, ::-1],
    ),
    Mistake(
        "half a cell is added",
        "the reference point is the place itself. The half cell belongs to the step from [0, 1] to cells.",
        lambda r, o, s: r[:, None, None, None] + (o + 0.5) / s[:, None, ::-1],
    ),
    Mistake(
        "x and y are swapped in the offsets",
        "the last axis of the offsets is (x, y), like that of the reference points.",
        lambda r, o, s: r[:, None, None, None] + o[..., ::-1] / s[:, None, ::-1],
    ),
)


def check_locations(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``sampling_locations(reference_Q2, offsets_QMLP2, shapes_L2)``."""
    return check(function, sampling_locations, _location_cases(seed), LOCATION_MISTAKES)


def box_locations(reference_Q4: np.ndarray, offsets_QMLP2: np.ndarray) -> np.ndarray:
    """Points around reference boxes (cx, cy, w, h): an offset of P reaches from the centre to the edge."""
    P = offsets_QMLP2.shape[3]
    centre, size = reference_Q4[:, None, None, None, :2], reference_Q4[:, None, None, None, 2:]
    return centre + offsets_QMLP2 / P * size * 0.5


def _box_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        Q, M, L, P = (int(n) for n in rng.integers((2, 2, 1, 2), (5, 4, 4, 6)))
        offsets = 2 * rng.normal(size=(Q, M, L, P, 2))
        yield Case(f"{Q} boxes, {M} heads, {L} level(s), {P} points", (rng.uniform(0.1, 0.9, (Q, 4)), offsets))


BOX_MISTAKES = (
    Mistake(
        "the offsets are not divided by P",
        "point k starts k steps away from the centre; divided by P even the last one starts on the edge.",
        lambda r, o: r[:, None, None, None, :2] + o * r[:, None, None, None, 2:] * 0.5,
    ),
    Mistake(
        "the whole box size is used instead of half of it",
        "from the centre of a box to its edge it is half a width.",
        lambda r, o: r[:, None, None, None, :2] + o / o.shape[3] * r[:, None, None, None, 2:],
    ),
    Mistake(
        "the size of the box is not used",
        "around a box, offsets count in half box sizes, not in shares of the image.",
        lambda r, o: r[:, None, None, None, :2] + o / o.shape[3],
    ),
    Mistake(
        "width and height are swapped",
        "boxes are (cx, cy, w, h) and offsets (x, y): x goes with w.",
        lambda r, o: r[:, None, None, None, :2] + o / o.shape[3] * r[:, None, None, None, :1:-1] * 0.5,
    ),
    Mistake(
        "points start from the corner of the box",
        "the first two numbers of the box are its centre already.",
        lambda r, o: box_locations(r, o) - r[:, None, None, None, 2:] / 2,
    ),
)


def check_box_locations(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``box_locations(reference_Q4, offsets_QMLP2)``."""
    return check(function, box_locations, _box_cases(seed), BOX_MISTAKES)


# How much each point counts


def attention_weights(logits_QMLP: np.ndarray) -> np.ndarray:
    """Softmax over all points of all levels together, in every head by itself."""
    return softmax(logits_QMLP, axis=(2, 3))


def _weight_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        Q, M, L, P = (int(n) for n in rng.integers(2, 5, 4))
        yield Case(f"{Q} queries, {M} heads, {L} levels, {P} points", (2 * rng.normal(size=(Q, M, L, P)),))


WEIGHT_MISTAKES = (
    Mistake(
        "the softmax runs over the points of each level alone",
        "levels compete with each other: the weights of all L * P points sum to 1.",
        lambda z: softmax(z, 3),
    ),
    Mistake(
        "the softmax runs over the levels alone",
        "points compete too: the weights of all L * P points sum to 1.",
        lambda z: softmax(z, 2),
    ),
    Mistake(
        "the softmax runs over the heads",
        "every head has weights of its own that sum to 1.",
        lambda z: softmax(z, 1),
    ),
    Mistake(
        "the softmax runs over heads, levels and points together",
        "every head has weights of its own that sum to 1.",
        lambda z: softmax(z, (1, 2, 3)),
    ),
    Mistake(
        "a sigmoid is taken instead of a softmax",
        "modulated deformable convolution takes a sigmoid; here the points compete.",
        lambda z: 1 / (1 + np.exp(-z)),
    ),
    Mistake("the weights are not divided by their sum", "exp alone is no softmax.", lambda z: np.exp(z)),
)


def check_weights(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``attention_weights(logits_QMLP)``."""
    return check(function, attention_weights, _weight_cases(seed), WEIGHT_MISTAKES)


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


MS_DEFORM_ATTN_MISTAKES = (
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
        "x and y are swapped",
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


def check_ms_deform_attn(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check ``ms_deform_attn(value, spatial_shapes, level_start_index, sampling_locations, attention_weights)``."""
    return check(function, ms_deform_attn_formula, ms_deform_attn_cases(seed), MS_DEFORM_ATTN_MISTAKES)
