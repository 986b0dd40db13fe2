"""The check of a reader's deformable convolution: cases, mistakes and planted bugs. Chapters 03 and 04 use it.

All functions take NumPy arrays in float64. The signature is that of ``ops/numba_reference/loops.py``, so that the
reader's function, the library's loops and every backend pass the same check.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from dyhead_lab.ops import formula

from ..practice.cases import FAR
from ..practice.drills import drill
from ..practice.reader_checks import Case, Mistake, Verdict, check


def deform_conv2d_formula(input, offset, weight, mask, stride, padding, dilation) -> np.ndarray:  # type: ignore[no-untyped-def]
    tensors = (torch.from_numpy(np.ascontiguousarray(array)) for array in (input, offset, weight, mask))
    x, dp, w, dm = tensors
    return formula.deform_conv2d(x, dp, w, None, stride, padding, dilation, dm).numpy()


def deform_conv2d_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
    """From one plain case to strides, dilations, offset groups and grouped weights; always 3 x 3 taps."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        stride, padding, dilation = (
            tuple(int(n) for n in rng.integers(low, high, 2)) if number >= 3 else (1, 1)
            for low, high in ((1, 3), (0, 3), (1, 3))
        )
        G, groups = ((1, 1), (2, 1), (1, 2), (2, 2))[number % 4 if number >= 3 else 0]
        B, C, Co, H, W = 1 + number % 2, 4, 2, int(rng.integers(5, 8)), int(rng.integers(5, 8))
        Ho, Wo = (
            (size + 2 * pad - 2 * step - 1) // move + 1
            for size, pad, step, move in zip((H, W), padding, dilation, stride, strict=True)
        )
        arrays = (
            rng.normal(size=(B, C, H, W)),
            rng.uniform(-3, 3, size=(B, 18 * G, Ho, Wo)),  # no index beyond -H: NumPy wraps there without a word
            rng.normal(size=(Co, C // groups, 3, 3)),
            rng.uniform(size=(B, 9 * G, Ho, Wo)),
        )
        description = f"input {B} x {C} x {H} x {W}, {G} offset group(s), {groups} group(s), stride {stride}, "
        yield Case(f"{description}padding {padding}, dilation {dilation}", (*arrays, stride, padding, dilation))


def _changed(**changes: Callable[..., Any]) -> Callable[..., np.ndarray]:
    """The right function on changed arguments: ``_changed(mask=lambda a: ...)`` gets all arguments by name."""
    names = ("input", "offset", "weight", "mask", "stride", "padding", "dilation")

    def imitate(*arguments: Any) -> np.ndarray:
        a = dict(zip(names, arguments, strict=True))
        return deform_conv2d_formula(*{**a, **{name: change(a) for name, change in changes.items()}}.values())

    return imitate


def _pairs(a: dict[str, Any]) -> np.ndarray:
    """Offsets as (B, G, K, 2, Ho, Wo)."""
    B, _, Ho, Wo = a["offset"].shape
    return a["offset"].reshape(B, -1, 9, 2, Ho, Wo)


def _planes(a: dict[str, Any]) -> np.ndarray:
    """Offsets that were read as all dy first, then all dx."""
    B, _, Ho, Wo = a["offset"].shape
    return a["offset"].reshape(B, -1, 2, 9, Ho, Wo).swapaxes(2, 3)


def _first_offset_group(name: str) -> Callable[[dict[str, Any]], np.ndarray]:
    """Offsets or masks in which every group has those of the first."""

    def repeated(a: dict[str, Any]) -> np.ndarray:
        G = a["mask"].shape[1] // 9
        return np.concatenate([a[name][:, : a[name].shape[1] // G]] * G, axis=1)

    return repeated


def _first_channels(*arguments: Any) -> np.ndarray:
    """Every group of the weights reads the channels of the first."""
    input, offset, weight, mask, *geometry = arguments
    C, C_group, G = input.shape[1], weight.shape[1], mask.shape[1] // 9
    used = max(1, G * C_group // C)  # offset groups of these channels
    own = (input[:, :C_group], offset[:, : 18 * used], weight, mask[:, : 9 * used])
    return deform_conv2d_formula(*own, *geometry)


def _wrapped(*arguments: Any) -> np.ndarray:
    """Rows and columns below zero are counted from the end, as NumPy does; those past the end count as zero."""
    input, offset, weight, mask, stride, padding, dilation = arguments
    wide = np.concatenate([input, input, np.zeros_like(input)], axis=2)
    wide = np.concatenate([wide, wide, np.zeros_like(wide)], axis=3)
    pairs = offset.reshape(len(offset), -1, 2, *offset.shape[2:]) + np.reshape(input.shape[2:], (2, 1, 1))
    return deform_conv2d_formula(wide, pairs.reshape(offset.shape), weight, mask, stride, padding, dilation)


DEFORM_CONV2D_MISTAKES = (
    Mistake(
        "x and y are swapped in the offsets",
        "of each tap's two channels the first is dy, the second dx.",
        _changed(offset=lambda a: _pairs(a)[:, :, :, ::-1].reshape(a["offset"].shape)),
    ),
    Mistake(
        "the offsets are read as all dy first, then all dx",
        "they alternate: channel 2k is dy of tap k, channel 2k + 1 its dx.",
        _changed(offset=lambda a: _planes(a).reshape(a["offset"].shape)),
    ),
    Mistake(
        "the mask is missing",
        "multiply every sample by dm_k.",
        _changed(mask=lambda a: np.ones_like(a["mask"])),
    ),
    Mistake(
        "half a pixel is subtracted",
        "here the centre of the first pixel is (0, 0), not (0.5, 0.5).",
        _changed(offset=lambda a: a["offset"] - 0.5),
    ),
    Mistake(
        "half a pixel is added",
        "here the centre of the first pixel is (0, 0), not (0.5, 0.5).",
        _changed(offset=lambda a: a["offset"] + 0.5),
    ),
    Mistake(
        "the offsets are forgotten",
        "the position is p_0 + p_k + dp_k.",
        _changed(offset=lambda a: np.zeros_like(a["offset"])),
    ),
    Mistake(
        "positions are cut to whole pixels",
        "read between the pixels with bilinear interpolation.",
        _changed(offset=lambda a: np.floor(a["offset"])),
    ),
    Mistake(
        "a position outside reads the border instead of zero",
        "skip a pixel that lies outside the image; do not clamp its index.",
        _changed(
            input=lambda a: np.pad(a["input"], ((0, 0), (0, 0), (FAR, FAR), (FAR, FAR)), mode="edge"),
            offset=lambda a: a["offset"] + FAR,
        ),
    ),
    Mistake(
        "a row or column below zero is counted from the other end",
        "image[-1] is NumPy's last row. A pixel with a negative row or column lies outside: skip it.",
        _wrapped,
    ),
    Mistake(
        "all channels take the offsets and masks of the first offset group",
        "channel c belongs to offset group c // (C // G), whose offsets begin at channel 18 g and masks at 9 g.",
        _changed(offset=_first_offset_group("offset"), mask=_first_offset_group("mask")),
    ),
    Mistake(
        "all channels take the offsets of the first offset group",
        "channel c belongs to offset group c // (C // G), whose offsets begin at channel 18 g.",
        _changed(offset=_first_offset_group("offset")),
    ),
    Mistake(
        "every group of the convolution reads the first channels of the input",
        "output channel o belongs to group o // (Co // groups), whose channels begin at that number times C // groups.",
        _first_channels,
    ),
    Mistake(
        "rows and columns of the kernel are swapped",
        "tap k lies in row k // 3 and column k % 3.",
        _changed(weight=lambda a: a["weight"].swapaxes(2, 3)),
    ),
    Mistake(
        "the kernel is flipped",
        "deep learning's convolution is a correlation: tap (0, 0) reads above and to the left.",
        _changed(weight=lambda a: a["weight"][:, :, ::-1, ::-1]),
    ),
    Mistake("the padding is forgotten", "p_0 is i * stride - padding.", _changed(padding=lambda a: (0, 0))),
    Mistake("the stride is forgotten", "p_0 is i * stride - padding.", _changed(stride=lambda a: (1, 1))),
    Mistake(
        "the dilation is forgotten",
        "p_k is k // 3 * dilation, and k % 3 * dilation.",
        _changed(dilation=lambda a: (1, 1)),
    ),
)


def _spread(reach: Callable[[int, int, int, int], bool]) -> Callable[..., np.ndarray]:
    """Every channel c feeds the outputs o with ``reach(c, o, channels of a group, outputs of a group)``."""

    def imitate(*arguments: Any) -> np.ndarray:
        input, offset, weight, *others = arguments
        C, (Co, C_group) = input.shape[1], weight.shape[:2]
        whole = np.zeros((Co, C, 3, 3))
        for o, c in np.ndindex(Co, C):
            if reach(c, o, C_group, Co * C_group // C):
                whole[o, c] = weight[o, c % C_group]
        return deform_conv2d_formula(input, offset, whole, *others)

    return imitate


#: What checks know besides what the chapter plants: mistakes of loops that spread a sample over the outputs.
MORE_DEFORM_CONV2D_MISTAKES = (
    *DEFORM_CONV2D_MISTAKES,
    Mistake(
        "every channel feeds the outputs of the first group of the convolution",
        "channel c belongs to group c // C_group, whose outputs begin at that number times the outputs of a group.",
        _spread(lambda c, o, C_group, Co_group: o < Co_group),
    ),
    Mistake(
        "every channel feeds all outputs, whatever its group of the convolution",
        "channel c feeds only the outputs of its own group: Co * C_group // C of them.",
        _spread(lambda c, o, C_group, Co_group: True),
    ),
)


def check_deform_conv2d(function: Callable[..., np.ndarray], seed: int = 0) -> Verdict:
    """Check the reader's ``deform_conv2d(input, offset, weight, mask, stride, padding, dilation)``."""
    return check(function, deform_conv2d_formula, deform_conv2d_cases(seed), MORE_DEFORM_CONV2D_MISTAKES)


def planted_bug(number: int) -> Callable[..., np.ndarray]:
    """A ``deform_conv2d`` with one of the mistakes above in it, for the reader to find."""
    return drill(DEFORM_CONV2D_MISTAKES, number)
