"""Checks, planted bugs and solutions of the chapter on the race of kernels: a floor for their time, and a way in.

Counts are plain numbers. The reader's kernel takes and returns tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F

from dyhead_lab.ops import deform_conv2d

from ..practice.reader_checks import Case, Mistake, Verdict, check

TAPS = 9
Convolution = Callable[[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor]

# What cannot be avoided


def conv_work(B, C, H, W):  # type: ignore[no-untyped-def]
    """Bytes that a 3x3 deformable convolution, C to C, moves at least in float32, and operations of its product."""
    pixels = B * H * W
    numbers = 2 * pixels * C + pixels * TAPS * 3 + TAPS * C * C  # input and output, offsets and masks, weight
    return 4 * numbers, 2 * pixels * TAPS * C * C


def _work_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        B, C, H, W = int(rng.integers(2, 5)), 16 * int(rng.integers(1, 9)), *(int(n) for n in rng.integers(5, 60, 2))
        yield Case(f"{B} x {C} x {H} x {W}", (B, C, H, W))


def _work(
    bytes_: Callable[[int, int, int], float] = lambda pixels, C, all_bytes: all_bytes,
    operations: Callable[[int], float] = lambda all_operations: all_operations,
) -> Callable[..., tuple[float, float]]:
    """The counts, changed."""

    def imitate(B: int, C: int, H: int, W: int) -> tuple[float, float]:
        all_bytes, all_operations = conv_work(B, C, H, W)
        return bytes_(B * H * W, C, all_bytes), operations(all_operations)

    return imitate


WORK_MISTAKES = (
    Mistake(
        "numbers are counted, not bytes",
        "a float32 has four bytes.",
        _work(bytes_=lambda pixels, C, all_bytes: all_bytes / 4),
    ),
    Mistake(
        "the output is forgotten",
        "what is computed has to be written as well.",
        _work(bytes_=lambda pixels, C, all_bytes: all_bytes - 4 * pixels * C),
    ),
    Mistake(
        "the masks are forgotten, or an offset counts as one number",
        "an offset is (dy, dx), and each tap has a mask: 27 numbers a pixel.",
        _work(bytes_=lambda pixels, C, all_bytes: all_bytes - 4 * pixels * TAPS),
    ),
    Mistake(
        "the weight is read again for every pixel",
        "a floor counts every number once; a cache keeps what is read again.",
        _work(bytes_=lambda pixels, C, all_bytes: all_bytes + 4 * TAPS * C * C * (pixels - 1)),
    ),
    Mistake(
        "the four pixels of every tap are counted",
        "a floor counts every number of the input once, however often it is sampled.",
        _work(bytes_=lambda pixels, C, all_bytes: all_bytes + 4 * pixels * C * (4 * TAPS - 1)),
    ),
    Mistake(
        "a multiplication and its addition count as one",
        "machines are rated in operations: two for each multiply-add.",
        _work(operations=lambda all_operations: all_operations / 2),
    ),
    Mistake(
        "the nine taps are forgotten",
        "each output is a sum over C channels and nine taps.",
        _work(operations=lambda all_operations: all_operations / TAPS),
    ),
)


def check_conv_work(function: Callable[..., tuple[float, float]]) -> Verdict:
    """Check the reader's ``conv_work(B, C, H, W)``: (bytes, operations)."""
    return check(function, conv_work, _work_cases(), WORK_MISTAKES)


def floor_seconds(bytes_moved, operations, bandwidth, rate):  # type: ignore[no-untyped-def]
    """No kernel is faster: memory and arithmetic work at the same time, so the slower of the two decides."""
    return max(bytes_moved / bandwidth, operations / rate)


def _floor_cases(seed: int = 0, count: int = 8) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for number in range(count):
        memory, arithmetic = (float(x) for x in rng.uniform(1, 9, size=2))
        memory, arithmetic = sorted((memory, arithmetic + 1), reverse=bool(number % 2))
        bandwidth, rate = float(rng.uniform(2, 5)), float(rng.uniform(20, 50))
        bound = "memory" if memory > arithmetic else "arithmetic"
        yield Case(f"bound by {bound}", (memory * bandwidth, arithmetic * rate, bandwidth, rate))


FLOOR_MISTAKES = (
    Mistake(
        "the two times are added",
        "a machine loads while it computes: the longer time decides.",
        lambda b, o, bandwidth, rate: b / bandwidth + o / rate,
    ),
    Mistake(
        "the shorter time is taken",
        "both must be finished: the longer time decides.",
        lambda b, o, bandwidth, rate: min(b / bandwidth, o / rate),
    ),
    Mistake(
        "memory is forgotten",
        "bytes / bandwidth is a time too.",
        lambda b, o, bandwidth, rate: o / rate,
    ),
    Mistake(
        "arithmetic is forgotten",
        "operations / rate is a time too.",
        lambda b, o, bandwidth, rate: b / bandwidth,
    ),
    Mistake(
        "bandwidth and rate are swapped",
        "bytes go with bytes per second.",
        lambda b, o, bandwidth, rate: max(b / rate, o / bandwidth),
    ),
)


def check_floor_seconds(function: Callable[..., float]) -> Verdict:
    """Check the reader's ``floor_seconds(bytes_moved, operations, bandwidth, rate)``."""
    return check(function, floor_seconds, _floor_cases(), FLOOR_MISTAKES)


# The reader's kernel


def sampled_deform_conv2d(input, offset, weight, mask):  # type: ignore[no-untyped-def]
    """3x3, padding 1: sample each tap with grid_sample, put the taps side by side, one matrix product at the end."""
    H, W = input.shape[-2:]
    rows = torch.arange(H, dtype=input.dtype, device=input.device)[:, None]
    columns = torch.arange(W, dtype=input.dtype, device=input.device)[None]
    samples = []
    for k in range(TAPS):
        y = rows + k // 3 - 1 + offset[:, 2 * k]
        x = columns + k % 3 - 1 + offset[:, 2 * k + 1]
        grid_BHW2 = torch.stack([(2 * x + 1) / W - 1, (2 * y + 1) / H - 1], -1)  # pixel centres in [-1, 1]
        samples.append(F.grid_sample(input, grid_BHW2, align_corners=False) * mask[:, k, None])
    samples_BCKS = torch.stack(samples, 2).flatten(3)
    return torch.einsum("ock,bcks->bos", weight.flatten(2), samples_BCKS).unflatten(2, (H, W))


def _library(input: torch.Tensor, offset: torch.Tensor, weight: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    return deform_conv2d(input, offset, weight, padding=1, mask=mask, backend="formula")


def _contender_cases(seed: int = 0, count: int = 5) -> Iterator[Case]:
    """Not square, offsets up to and beyond the border."""
    generator = torch.Generator().manual_seed(seed)
    for number in range(count):
        B, C, Co, H, W = 1 + number % 2, 2, 3, 4 + number, 6

        def draw(*shape: int) -> torch.Tensor:
            return torch.randn(*shape, generator=generator, dtype=torch.float64)

        arguments = (draw(B, C, H, W), 1.5 * draw(B, 18, H, W), draw(Co, C, 3, 3), draw(B, 9, H, W).sigmoid())
        yield Case(f"input {B} x {C} x {H} x {W}", arguments)


CONTENDER_MISTAKES = (
    Mistake(
        "dy and dx are swapped",
        "channel 2k of the offsets is dy, 2k + 1 is dx.",
        lambda x, dp, w, m: _library(x, dp.unflatten(1, (TAPS, 2)).flip(2).flatten(1, 2), w, m),
    ),
    Mistake(
        "the masks are left out",
        "multiply each sample with its mask.",
        lambda x, dp, w, m: _library(x, dp, w, torch.ones_like(m)),
    ),
    Mistake(
        "the offsets are left out",
        "tap k reads at its place in the 3x3 grid plus its offset.",
        lambda x, dp, w, m: _library(x, torch.zeros_like(dp), w, m),
    ),
    Mistake(
        "positions are half a pixel off",
        "grid_sample with align_corners=False wants (2 x + 1) / W - 1 for pixel x.",
        lambda x, dp, w, m: _library(x, dp - 0.5, w, m),
    ),
    Mistake(
        "the taps go column by column",
        "k // 3 is the row of a tap, k % 3 its column.",
        lambda x, dp, w, m: _library(x, dp, w.transpose(2, 3), m),
    ),
    Mistake(
        "the samples are cut to whole pixels",
        "bilinear interpolation: four pixels share a sample.",
        lambda x, dp, w, m: _library(x, dp.round(), w, m),
    ),
)


def check_contender(function: Convolution) -> Verdict:
    """Check the reader's ``function(input, offset, weight, mask)``: 3x3, stride 1, padding 1, float64 tensors."""
    return check(function, _library, _contender_cases(), CONTENDER_MISTAKES)
