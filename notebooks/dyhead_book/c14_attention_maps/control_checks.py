"""Checks of the chapter on attention maps: where taps lie, the start of deformable attention, tokens that carry."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..practice.reader_checks import Case, Mistake, Verdict, check

# Where the taps of a deformable convolution read


def _tap_places(
    offset_18HW: np.ndarray,
    *,
    pairs: Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]] = lambda o: (o[0::2], o[1::2]),
    taps: np.ndarray | None = None,
    sign: float = 1.0,
    half: float = 0.5,
) -> np.ndarray:
    H, W = offset_18HW.shape[1:]
    dy_9HW, dx_9HW = pairs(offset_18HW)
    tap_y, tap_x = (np.mgrid[-1:2, -1:2] if taps is None else taps).reshape(2, 9, 1, 1)
    row, column = np.mgrid[:H, :W]
    y = (row + tap_y + sign * dy_9HW + half) / H
    x = (column + tap_x + sign * dx_9HW + half) / W
    return np.stack([x, y], -1).transpose(1, 2, 0, 3)


TAP_MISTAKES = (
    Mistake(
        "all dy are expected before all dx",
        "the 18 channels are dy and dx of the first tap, then of the second: [0::2] and [1::2].",
        lambda o: _tap_places(o, pairs=lambda o: (o[:9], o[9:])),
    ),
    Mistake(
        "dx is expected before dy",
        "offsets of the convolution are (dy, dx); only the answer is (x, y).",
        lambda o: _tap_places(o, pairs=lambda o: (o[1::2], o[0::2])),
    ),
    Mistake(
        "half a cell is missing",
        "the centre of column j lies at (j + 0.5) / W.",
        lambda o: _tap_places(o, half=0.0),
    ),
    Mistake(
        "the offsets are taken off",
        "p_0 + p_k + offset: all three are added.",
        lambda o: _tap_places(o, sign=-1.0),
    ),
    Mistake(
        "the taps run down the columns",
        "row by row: (-1, -1), (-1, 0), (-1, 1), (0, -1) and so on, as (y, x).",
        lambda o: _tap_places(o, taps=np.mgrid[-1:2, -1:2][::-1]),
    ),
    Mistake(
        "the taps run from 0 to 2",
        "the middle tap reads the place itself: they run from -1 to 1.",
        lambda o: _tap_places(o, taps=np.mgrid[0:3, 0:3]),
    ),
    Mistake(
        "the taps of the kernel are forgotten",
        "an offset starts at its tap of the regular grid, not at the place.",
        lambda o: _tap_places(o, taps=np.zeros((2, 3, 3))),
    ),
)


def _offset_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    """The regular grid first, then one tap of one place, then offsets everywhere."""
    rng = np.random.default_rng(seed)
    yield Case("no offsets on a 2 x 3 map", (np.zeros((18, 2, 3)),))
    for number in range(count):
        H, W = int(rng.integers(2, 5)), int(rng.integers(5, 8))
        yield Case(f"offsets on a {H} x {W} map", (rng.normal(size=(18, H, W)) * (number + 1) / 2,))


def check_tap_places(function: Callable[[np.ndarray], np.ndarray]) -> Verdict:
    """Check the reader's ``tap_places(offset_18HW)``, which gives (H, W, 9, 2) as (x, y) in [0, 1]."""
    return check(function, _tap_places, _offset_cases(), TAP_MISTAKES)


# Where deformable attention reads before it has learned


def _ring(
    box_4: np.ndarray,
    M: int,
    P: int,
    *,
    stretch: bool = True,
    circle: float = 2.0,
    first: int = 1,
    reach: float = 0.5,
    per_point: bool = True,
    turned: bool = False,
    flipped: bool = False,
) -> np.ndarray:
    cx, cy, w, h = box_4
    angle_M = np.arange(M) * circle * np.pi / M
    direction_M2 = np.stack([np.cos(angle_M), np.sin(angle_M)][:: -1 if turned else 1], -1)
    if stretch:
        direction_M2 = direction_M2 / np.abs(direction_M2).max(1, keepdims=True)
    steps_P = np.arange(first, P + first) / (P if per_point else 1)
    size = (h, w) if flipped else (w, h)
    return (cx, cy) + direction_M2[:, None] * steps_P[:, None] * reach * np.array(size)


RING_MISTAKES = (
    Mistake(
        "the first point lies in the centre",
        "points count from 1: the last one reaches the border of the box.",
        lambda b, M, P: _ring(b, M, P, first=0),
    ),
    Mistake(
        "the directions are not stretched to the square",
        "divide every direction by the larger of |cos| and |sin|: the last points lie on the box, not on an ellipse.",
        lambda b, M, P: _ring(b, M, P, stretch=False),
    ),
    Mistake(
        "offsets count whole boxes",
        "the way from the centre to the border is half of the width, half of the height.",
        lambda b, M, P: _ring(b, M, P, reach=1.0),
    ),
    Mistake(
        "offsets are not divided by the number of points",
        "point k of P lies k / P of the way to the border.",
        lambda b, M, P: _ring(b, M, P, per_point=False),
    ),
    Mistake(
        "the heads share half of the circle",
        "head m looks at the angle 2 pi m / M.",
        lambda b, M, P: _ring(b, M, P, circle=1.0),
    ),
    Mistake(
        "sine and cosine are swapped",
        "x takes the cosine, y the sine.",
        lambda b, M, P: _ring(b, M, P, turned=True),
    ),
    Mistake(
        "width and height are swapped",
        "the box is (cx, cy, w, h): x counts in widths, y in heights.",
        lambda b, M, P: _ring(b, M, P, flipped=True),
    ),
)


def _ring_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        M, P = (8, 4) if number else (4, 2)
        box = np.concatenate([rng.uniform(0.3, 0.7, 2), rng.uniform((0.1, 0.3), (0.2, 0.5))])
        yield Case(f"{M} heads, {P} points, box {box.round(2)}", (box, M, P))


def check_ring_points(function: Callable[[np.ndarray, int, int], np.ndarray]) -> Verdict:
    """Check the reader's ``ring_points(box_4, M, P)``, which gives (M, P, 2) as (x, y) in [0, 1]."""
    return check(function, _ring, _ring_cases(), RING_MISTAKES)


# How few tokens carry most of the attention


def _carry(heat_N: np.ndarray, share: float) -> float:
    falling_N = np.sort(heat_N)[::-1]
    before_N = np.cumsum(falling_N) - falling_N
    return float((before_N < share * heat_N.sum()).mean())


CARRY_MISTAKES = (
    Mistake(
        "the smallest tokens are taken first",
        "how few suffice: begin with those that receive most.",
        lambda h, s: float((np.cumsum(np.sort(h)) - np.sort(h) < s * h.sum()).mean()),
    ),
    Mistake(
        "the token that reaches the share is not counted",
        "it is needed: count tokens before which less than the share is collected.",
        lambda h, s: float((np.cumsum(np.sort(h)[::-1]) < s * h.sum()).mean()),
    ),
    Mistake(
        "the count is divided by the tokens that are read at all",
        "a share of all tokens, also of those that nobody reads.",
        lambda h, s: _carry(h, s) * len(h) / (h > 0).sum(),
    ),
    Mistake(
        "the count is not divided by the number of tokens",
        "a share, not a number of tokens.",
        lambda h, s: _carry(h, s) * len(h),
    ),
    Mistake(
        "tokens above a share of the largest are counted",
        "the share is one of the sum: add up from the largest on until it is reached.",
        lambda h, s: float((h >= (1 - s) * h.max()).mean()),
    ),
)


def _heat_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    """One small case to work out by hand, then skewed maps in which a part receives nothing."""
    rng = np.random.default_rng(seed)
    yield Case("four tokens", (np.array([1.0, 6.0, 0.0, 3.0]), 0.8))
    for _ in range(count):
        n = int(rng.integers(20, 60))
        heat = np.exp(1.5 * rng.normal(size=n)) * (rng.uniform(size=n) > 0.3)
        share = float(rng.choice([0.5, 0.8, 0.9]))
        yield Case(f"{n} tokens, share {share}", (heat, share))


def check_carry(function: Callable[[np.ndarray, float], float]) -> Verdict:
    """Check the reader's ``tokens_that_carry(heat_N, share)``."""
    return check(function, _carry, _heat_cases(), CARRY_MISTAKES)
