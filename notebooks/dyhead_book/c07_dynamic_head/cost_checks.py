"""Checks and mistakes of the chapter on the Dynamic Head: attention before it was taken apart, and what a block costs.

Functions take and return NumPy arrays in float64 and plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch

from dyhead_lab.attention.undecoupled import undecoupled_attention

from ..practice.reader_checks import Case, Mistake, Verdict, check

TAPS = 9
OFFSETS_AND_MASKS = 27

Sizes = tuple[tuple[int, int], ...]


# Attention before it was taken apart


def undecoupled_formula(F_LSC: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return undecoupled_attention(torch.from_numpy(F_LSC)[None], torch.from_numpy(weight))[0].numpy()


def _undecoupled_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        L, S, C = (int(n) for n in rng.integers(2, 5, 3))
        n = L * S * C
        yield Case(f"F {L} x {S} x {C}", (rng.normal(size=(L, S, C)), rng.normal(size=(n, n))))


def _gated(gates: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> Callable[..., np.ndarray]:
    return lambda F, weight: gates(F.reshape(-1), weight).reshape(F.shape) * F


UNDECOUPLED_MISTAKES = (
    Mistake("the sigmoid is missing", "gates lie between 0 and 1.", _gated(lambda f, w: w @ f)),
    Mistake(
        "a softmax takes the place of the sigmoid",
        "each number has a gate of its own; they need not sum to 1.",
        _gated(lambda f, w: np.exp(w @ f - (w @ f).max()) / np.exp(w @ f - (w @ f).max()).sum()),
    ),
    Mistake(
        "the gates are not multiplied by F",
        "pi(F) . F: the gates weigh F itself.",
        lambda F, weight: (1 / (1 + np.exp(-(weight @ F.reshape(-1))))).reshape(F.shape),
    ),
    Mistake(
        "the weight is transposed",
        "row i of the weight belongs to gate i: weight @ f, not f @ weight.",
        _gated(lambda f, w: 1 / (1 + np.exp(-(f @ w)))),
    ),
    Mistake(
        "F is flattened with the channels first",
        "flatten (L, S, C) as it is; the channel runs fastest.",
        lambda F, weight: undecoupled_formula(F.transpose(2, 0, 1).copy(), weight).transpose(1, 2, 0),
    ),
)


def check_undecoupled(function: Callable[..., np.ndarray]) -> Verdict:
    """Check the reader's ``undecoupled(F_LSC, weight)``: (L, S, C)."""
    return check(function, undecoupled_formula, _undecoupled_cases(), UNDECOUPLED_MISTAKES)


# What a block costs


def block_macs(sizes: Sizes, C: int) -> int:
    """Multiply-adds of the convolutions of one block with any ``offset_fit`` but ``"upsample"``."""
    total = 0
    for l, (H, W) in enumerate(sizes):
        own = TAPS * C * C * H * W
        finer = TAPS * C * C * H * W if l > 0 else 0  # stride 2 brings it to the size of this level
        coarser = TAPS * C * C * sizes[l + 1][0] * sizes[l + 1][1] if l + 1 < len(sizes) else 0  # on its own grid
        total += own + finer + coarser + TAPS * C * OFFSETS_AND_MASKS * H * W
    return total


def _macs_variant(**replaced: Callable[[Sizes, int, int], int]) -> Callable[[Sizes, int], int]:
    """The count with the parts ``own``, ``finer``, ``coarser`` or ``offsets`` of level l replaced."""
    parts: dict[str, Callable[[Sizes, int, int], int]] = {
        "own": lambda sizes, C, l: TAPS * C * C * _area(sizes, l),
        "finer": lambda sizes, C, l: TAPS * C * C * _area(sizes, l) * (l > 0),
        "coarser": lambda sizes, C, l: TAPS * C * C * _area(sizes, l + 1),
        "offsets": lambda sizes, C, l: TAPS * C * OFFSETS_AND_MASKS * _area(sizes, l),
        **replaced,
    }
    return lambda sizes, C: sum(part(sizes, C, l) for l in range(len(sizes)) for part in parts.values())


def _area(sizes: Sizes, l: int) -> int:
    return sizes[l][0] * sizes[l][1] if 0 <= l < len(sizes) else 0


BLOCK_MACS_MISTAKES = (
    Mistake(
        "one of the neighbours is counted on the larger of the two grids",
        "the finer one is convolved with stride 2, the coarser one on its own grid: both on the smaller grid.",
        _macs_variant(coarser=lambda sizes, C, l: TAPS * C * C * _area(sizes, l) * (l + 1 < len(sizes))),
    ),
    Mistake(
        "every level has two neighbours",
        "the finest level has no finer one, the coarsest no coarser one.",
        _macs_variant(
            finer=lambda sizes, C, l: TAPS * C * C * _area(sizes, l),
            coarser=lambda sizes, C, l: TAPS * C * C * _area(sizes, min(l + 1, len(sizes) - 1)),
        ),
    ),
    Mistake(
        "the convolution that predicts offsets and masks is forgotten",
        "27 output channels at every position of every level.",
        _macs_variant(offsets=lambda sizes, C, l: 0),
    ),
    Mistake(
        "the masks are forgotten",
        "18 offsets and 9 masks: 27 output channels.",
        _macs_variant(offsets=lambda sizes, C, l: TAPS * C * 2 * TAPS * _area(sizes, l)),
    ),
    Mistake(
        "each branch predicts offsets of its own",
        "one convolution on the level itself steers all branches.",
        _macs_variant(offsets=lambda sizes, C, l: 3 * TAPS * C * OFFSETS_AND_MASKS * _area(sizes, l)),
    ),
    Mistake(
        "multiplications and additions are counted apart",
        "one multiply-add is one. Papers on detection call that a FLOP.",
        lambda sizes, C: 2 * block_macs(sizes, C),
    ),
)


def _macs_cases(seed: int = 0, count: int = 5) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        H, W, L, C = int(rng.integers(2, 5)), int(rng.integers(2, 5)), 3 + number % 3, 16 * int(rng.integers(1, 5))
        sizes = tuple((H * 2**l, W * 2**l) for l in reversed(range(L)))
        yield Case(f"{C} channels, levels {', '.join(f'{h} x {w}' for h, w in sizes)}", (sizes, C))


def check_block_macs(function: Callable[[Sizes, int], int]) -> Verdict:
    """Check the reader's ``block_macs(sizes, C)``."""
    return check(function, block_macs, _macs_cases(), BLOCK_MACS_MISTAKES)
