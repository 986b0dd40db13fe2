"""Checks of the kernels that read a picture: grey values, and samples between the pixels."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from dyhead_lab.ops import formula
from dyhead_lab.ops.cuda_text import CudaKernel

from ..practice.reader_checks import Mistake, Verdict
from .kernel_checks import FAULTS, Faults, KernelCase, blocks_for, check_kernel

Block = tuple[int, int]


def _random(seed: int, *shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


# grey(image, out, H, W): one thread, one pixel


def run_grey(kernel: CudaKernel, image: Tensor, block: Block) -> Tensor:
    _, H, W = image.shape
    out = torch.zeros(H, W)
    kernel((blocks_for(W, block[0]), blocks_for(H, block[1])), block, image, out, H, W)
    return out


def grey_formula(image: Tensor, block: Block) -> Tensor:
    return image.mean(0)


#: Where blocks fill the picture nobody can cross its border but by a wrong index.
FILLED_FAULTS: Faults = {
    "bounds": (
        "x and y are exchanged",
        "rows lie behind each other, W elements each: the index is y * W + x, and x runs with threadIdx.x.",
    ),
    "race": (
        "the block's place is forgotten",
        "threadIdx counts inside a block: add blockIdx.x * blockDim.x, and the same for y.",
    ),
}


def _grey_cases() -> Iterator[KernelCase]:
    """From squares that blocks fill to rests; few blocks are those that the chapter uses."""
    for n, (H, W, block) in enumerate(
        ((16, 16, (16, 16)), (8, 24, (8, 4)), (24, 8, (8, 8)), (13, 17, (16, 16)), (9, 40, (32, 4)))
    ):
        is_filled = H % block[1] == W % block[0] == 0
        what = f"{'' if is_filled else 'not '}filled by blocks of {block[0]} x {block[1]}"
        image = _random(n, 3, H, W)
        yield KernelCase(f"{H} x {W} pixels, {what}", (image, block), FILLED_FAULTS if is_filled else FAULTS)


def _grey_written(image: Tensor, written: Iterator[tuple[int, int]]) -> Tensor:
    """Grey values where threads write, zero elsewhere."""
    out = torch.zeros(image.shape[1:])
    for y, x in written:
        if y < out.shape[0] and x < out.shape[1]:
            out[y, x] = image[:, y, x].mean()
    return out


def _threads(image: Tensor, block: Block) -> Iterator[tuple[int, int, int, int]]:
    """(block's row, block's column, thread's row, thread's column) of all threads."""
    _, H, W = image.shape
    for by in range(blocks_for(H, block[1])):
        for bx in range(blocks_for(W, block[0])):
            for ty in range(block[1]):
                for tx in range(block[0]):
                    yield by, bx, ty, tx


def _planes_apart(distance: int) -> Mistake:
    def imitate(image: Tensor, block: Block) -> Tensor:
        _, H, W = image.shape
        p = torch.arange(H * W)
        step = {1: 1, 2: W}[distance]
        flat = image.flatten()
        return ((flat[p] + flat[p + step] + flat[p + 2 * step]) / 3).view(H, W)

    what = {1: "the three colours are taken for neighbours", 2: "a plane is taken for a row"}[distance]
    return Mistake(what, "the image is (3, H, W): from one plane to the next there are H * W elements.", imitate)


GREY_MISTAKES = (
    Mistake(
        "x and y are exchanged in the grid",
        "x comes from blockIdx.x, blockDim.x and threadIdx.x, and goes to W; y from the .y, and goes to H.",
        lambda image, block: _grey_written(
            image, ((bx * block[0] + tx, by * block[1] + ty) for by, bx, ty, tx in _threads(image, block))
        ),
    ),
    Mistake(
        "blocks of 16 x 16 are taken for granted",
        "whoever launches the kernel chooses the block: it is blockDim.",
        lambda image, block: _grey_written(
            image, ((16 * by + ty, 16 * bx + tx) for by, bx, ty, tx in _threads(image, block))
        ),
    ),
    _planes_apart(1),
    _planes_apart(2),
    Mistake("one colour is read", "a pixel has three, one in each plane.", lambda image, block: image[0]),
    Mistake("the sum is not divided", "the grey value is the mean of three.", lambda image, block: image.sum(0)),
)


def check_grey(kernel: CudaKernel) -> Verdict:
    """Check the reader's ``grey(image, out, H, W)``: the mean of three planes, a thread a pixel."""
    return check_kernel(kernel, run_grey, grey_formula, _grey_cases(), GREY_MISTAKES)


# sample(plane, y, x, out, H, W, n): one thread, one point between the pixels


SAMPLE_THREADS = 64


def run_sample(kernel: CudaKernel, plane: Tensor, y: Tensor, x: Tensor) -> Tensor:
    out = torch.zeros(len(y))
    kernel(blocks_for(len(y), SAMPLE_THREADS), SAMPLE_THREADS, plane, y, x, out, *plane.shape, len(y))
    return out


def sample_formula(plane: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return formula.bilinear(plane[None], y, x)[0]


SAMPLE_FAULTS: Faults = {
    "race": FAULTS["race"],
    "bounds": (
        "a pixel outside of the plane is read",
        "each of the four pixels may lie outside, above and to the left too: look before you read.",
    ),
}


def _sample_cases() -> Iterator[KernelCase]:
    """Points at pixels, then between them, then around the border and outside; only the second case needs a guard."""
    for n, (H, W, count, what) in enumerate(
        ((6, 6, 64, "at pixels"), (5, 9, 100, "between pixels"), (5, 9, 128, "around the border"))
    ):
        y, x = _random(10 + n, count) * (H - 1), _random(20 + n, count) * (W - 1)
        if n == 0:
            y, x = y.round(), x.round()
        if n == 2:
            y, x = y * 2 - H / 2, x * 2 - W / 2
        faults = FAULTS if count % SAMPLE_THREADS else SAMPLE_FAULTS
        yield KernelCase(f"{count} points {what} of {H} x {W}", (_random(n, H, W), y, x), faults)


def _corners(plane: Tensor, y: Tensor, x: Tensor, clamp: bool = False, wrap: bool = False, far: bool = False) -> Tensor:
    """Bilinear interpolation with a border of another kind, or with weights that belong to the pixel opposite."""
    H, W = plane.shape
    out = torch.zeros_like(y)
    for i in (0, 1):
        for j in (0, 1):
            row, column = y.floor() + i, x.floor() + j
            near_y, near_x = 1 - (y - row).abs(), 1 - (x - column).abs()
            weight = (1 - near_y) * (1 - near_x) if far else near_y * near_x
            if clamp:
                row, column = row.clamp(0, H - 1), column.clamp(0, W - 1)
            place = row.long() * W + column.long()
            inside = (row >= 0) & (row < H) & (wrap | ((column >= 0) & (column < W)))
            inside &= (place >= 0) & (place < H * W)
            out += torch.where(inside, plane.flatten()[place.clamp(0, H * W - 1)] * weight, 0)
    return out


def _truncated(plane: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """int(y) in place of floor(y): the same from zero on; the corner above -0.5 is 0, not -1."""
    H, W = plane.shape
    out = torch.zeros_like(y)
    for i in (0, 1):
        for j in (0, 1):
            row, column = y.trunc() + i, x.trunc() + j
            weight = (1 - (y - row).abs()) * (1 - (x - column).abs())
            inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
            place = row.clamp(0, H - 1).long() * W + column.clamp(0, W - 1).long()
            out += torch.where(inside, plane.flatten()[place] * weight, 0)
    return out


SAMPLE_MISTAKES = (
    Mistake("y and x are exchanged", "y counts rows and goes to H.", lambda plane, y, x: sample_formula(plane, x, y)),
    Mistake(
        "each corner gets the weight of the one opposite",
        "the nearer a pixel, the more it weighs: 1 minus the distance, in y times in x.",
        lambda plane, y, x: _corners(plane, y, x, far=True),
    ),
    Mistake(
        "the nearest pixel is read",
        "there are four pixels around a point, and each has a share.",
        lambda plane, y, x: sample_formula(plane, y.round(), x.round()),
    ),
    Mistake(
        "only the pixel above and to the left is read",
        "there are four pixels around a point, and each has a share.",
        lambda plane, y, x: sample_formula(plane, y.floor(), x.floor()),
    ),
    Mistake(
        "the border is repeated",
        "a pixel outside counts as zero: leave it out, do not move it inside.",
        lambda plane, y, x: _corners(plane, y, x, clamp=True),
    ),
    Mistake(
        "the column is not held against the width",
        "column -1 of a row is the end of the row before: no fault, but a wrong pixel.",
        lambda plane, y, x: _corners(plane, y, x, wrap=True),
    ),
    Mistake(
        "positions are cut, not rounded down",
        "int(-0.5) is 0, floorf(-0.5f) is -1.",
        _truncated,
    ),
)


def check_sample(kernel: CudaKernel) -> Verdict:
    """Check the reader's ``sample(plane, y, x, out, H, W, n)``: bilinear interpolation, a thread a point."""
    return check_kernel(kernel, run_sample, sample_formula, _sample_cases(), SAMPLE_MISTAKES)
