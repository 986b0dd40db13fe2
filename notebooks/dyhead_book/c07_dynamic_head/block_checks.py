"""Checks, planted bugs and solutions of the chapter on the Dynamic Head: one block, its cost, and what "sparser" means.

Functions take and return NumPy arrays in float64, lists of them for a pyramid, and plain numbers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from dyhead_lab.attention.undecoupled import undecoupled_attention
from dyhead_lab.views.features import energy_share as library_energy_share

from ..practice.reader_checks import Case, Mistake, Verdict, check

TAPS = 9
OFFSETS_AND_MASKS = 27

Sizes = tuple[tuple[int, int], ...]


# Attention before it was taken apart


def undecoupled_formula(F_LSC: np.ndarray, weight: np.ndarray) -> np.ndarray:
    return undecoupled_attention(torch.from_numpy(F_LSC)[None], torch.from_numpy(weight))[0].numpy()


def undecoupled_solution(F_LSC, weight):  # type: ignore[no-untyped-def]
    """sigmoid(weight . F) . F, with F as one long vector inside the sigmoid."""
    gates = 1 / (1 + np.exp(-(weight @ F_LSC.reshape(-1))))
    return gates.reshape(F_LSC.shape) * F_LSC


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


# One block of the released form


def dyhead_block(levels, spatial, scale, task):  # type: ignore[no-untyped-def]
    """One block: for each level spatial-, then scale-, then task-aware attention over it and its neighbours."""
    outputs = []
    for l, own in enumerate(levels):
        finer = levels[l - 1] if l > 0 else None
        coarser = levels[l + 1] if l + 1 < len(levels) else None
        outputs.append(task(scale(spatial(own, finer, coarser))))
    return outputs


def _block_cases(seed: int = 0, count: int = 5) -> Iterator[Case]:
    """Pyramids of vectors, so that no map has to be resized, with attentions that tell their arguments apart."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        L, C = 3 + number % 3, 4
        mix = rng.normal(size=(3, C, C))

        def spatial(own: Any, finer: Any, coarser: Any, mix: np.ndarray = mix) -> list[np.ndarray]:
            branches = zip(mix, (finer, own, coarser), strict=True)
            return [np.tanh(A @ x) for A, x in branches if x is not None]

        def scale(branches: list[np.ndarray]) -> np.ndarray:
            return sum(x / (1 + np.exp(-x.mean())) for x in branches) / len(branches)  # type: ignore[return-value]

        def task(x: np.ndarray) -> np.ndarray:
            return np.maximum(x, 0.3 * x - 0.1 * x.mean())

        yield Case(f"{L} levels", ([rng.normal(size=C) for _ in range(L)], spatial, scale, task))


def _in_place(levels, spatial, scale, task):  # type: ignore[no-untyped-def]
    outputs = list(levels)
    for l in range(len(levels)):
        outputs[l] = dyhead_block(outputs, spatial, scale, task)[l]
    return outputs


def _wrapped(levels, spatial, scale, task):  # type: ignore[no-untyped-def]
    around = [levels[-1], *levels]
    return dyhead_block(around, spatial, scale, task)[1:]


BLOCK_MISTAKES = (
    Mistake(
        "a level reads what its neighbour has just become",
        "all levels read the input of the block: do not write into `levels`.",
        _in_place,
    ),
    Mistake(
        "the finer and the coarser neighbour are swapped",
        "levels go fine to coarse: the finer neighbour of l is l - 1.",
        lambda levels, spatial, scale, task: dyhead_block(levels, lambda o, f, c: spatial(o, c, f), scale, task),
    ),
    Mistake(
        "the finest level takes the coarsest one for its finer neighbour",
        "levels[-1] is the last element in Python: at l = 0 the finer neighbour is None.",
        _wrapped,
    ),
    Mistake(
        "the coarser neighbour is left out",
        "pass levels[l + 1], and None only for the last level.",
        lambda levels, spatial, scale, task: dyhead_block(levels, lambda o, f, c: spatial(o, f, None), scale, task),
    ),
    Mistake(
        "task-aware attention comes before scale-aware attention",
        "the released order is spatial, scale, task: first fuse the branches, then activate.",
        lambda levels, spatial, scale, task: dyhead_block(
            levels, spatial, lambda branches: scale([task(x) for x in branches]), lambda x: x
        ),
    ),
    Mistake(
        "task-aware attention is missing",
        "the last step activates the fused map.",
        lambda levels, spatial, scale, task: dyhead_block(levels, spatial, scale, lambda x: x),
    ),
)


def check_block(function: Callable[..., list[np.ndarray]]) -> Verdict:
    """Check the reader's ``block(levels, spatial, scale, task)``: a list like ``levels``."""
    return check(function, dyhead_block, _block_cases(), BLOCK_MISTAKES)


# What a block costs


def block_macs(sizes, C):  # type: ignore[no-untyped-def]
    """Multiply-adds of the convolutions of one block with ``offset_fit="resize"`` or ``"flat"``."""
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


# A number for "sparser"


def energy_share_formula(features_CHW: np.ndarray, top: float) -> float:
    return float(library_energy_share(torch.from_numpy(features_CHW)[None], top))


def energy_share_solution(features_CHW, top):  # type: ignore[no-untyped-def]
    """Share of the energy in the strongest ``top`` of the positions."""
    energy = np.sort((features_CHW**2).sum(0).reshape(-1))[::-1]
    count = max(1, round(top * len(energy)))
    return energy[:count].sum() / energy.sum()


def _share_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        C, H, W = (int(n) for n in rng.integers(3, 9, 3))
        top = (0.1, 0.25, 0.5)[number % 3]
        features = rng.normal(size=(C, H, W)) * rng.uniform(0, 2, size=(1, H, W))
        yield Case(f"features {C} x {H} x {W}, top {top}", (features, top))


ENERGY_SHARE_MISTAKES = (
    Mistake(
        "absolute values are summed, not squares",
        "energy is the sum of squares.",
        lambda x, top: energy_share_solution(np.sqrt(np.abs(x).sum(0, keepdims=True)), top),
    ),
    Mistake(
        "the strongest numbers are taken, not the strongest positions",
        "first sum the squares over channels, then sort positions.",
        lambda x, top: energy_share_solution(x.reshape(1, 1, -1), top),
    ),
    Mistake(
        "the weakest positions are taken",
        "np.sort goes from small to large.",
        lambda x, top: float(np.sort((x**2).sum(0).ravel())[: max(1, round(top * x[0].size))].sum() / (x**2).sum()),
    ),
    Mistake(
        "the channels are averaged before they are squared",
        "square first: positive and negative numbers must not cancel.",
        lambda x, top: energy_share_solution(x.mean(0, keepdims=True), top),
    ),
    Mistake(
        "the share is that of the positions above a threshold",
        "take a share of the positions, not those above a share of the maximum.",
        lambda x, top: float((x**2).sum(0)[(x**2).sum(0) >= (1 - top) * (x**2).sum(0).max()].sum() / (x**2).sum()),
    ),
)


def check_energy_share(function: Callable[[np.ndarray, float], float]) -> Verdict:
    """Check the reader's ``energy_share(features_CHW, top)``."""
    return check(function, energy_share_formula, _share_cases(), ENERGY_SHARE_MISTAKES)
