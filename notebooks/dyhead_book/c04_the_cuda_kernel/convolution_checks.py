"""Checks of the kernels of deformable convolution: one thread an output, and samples that are read side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from dyhead_lab.ops import formula
from dyhead_lab.ops.cuda_text import CudaKernel, KernelError

from ..practice.reader_checks import Mistake, Verdict
from .kernel_checks import KernelCase, blocks_for, check_kernel

ONE, PAD = (1, 1), (1, 1)

# deform_conv(in, offset, mask, weight, out, C, Co, H, W, n): 3x3, stride 1, padding 1


def run_deform_conv(kernel: CudaKernel, x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    B, C, H, W = x.shape
    out = torch.zeros(B, len(weight), H, W)
    n = out.numel()
    kernel(blocks_for(n, 64), 64, x, offset, mask, weight, out, C, len(weight), H, W, n)
    return out


def deform_conv_formula(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    return formula.deform_conv2d(x, offset, weight, None, ONE, PAD, ONE, mask)


def _conv_cases() -> Iterator[KernelCase]:
    """One channel without offsets, then offsets, then channels, then images."""
    sizes = (
        (1, 1, 1, 4, 4, 0.0),
        (1, 1, 1, 4, 7, 1.5),
        (1, 3, 1, 4, 5, 1.5),
        (1, 2, 3, 4, 5, 1.5),
        (2, 3, 4, 3, 5, 2.0),
    )
    for n, (B, C, Co, H, W, spread) in enumerate(sizes):
        generator = torch.Generator().manual_seed(n)
        draw = [torch.rand(*s, generator=generator) for s in ((B, C, H, W), (B, 18, H, W), (B, 9, H, W), (Co, C, 3, 3))]
        arguments = (draw[0], (2 * draw[1] - 1) * spread, draw[2], draw[3] - 0.5)
        yield KernelCase(f"{B} image(s), {C} -> {Co} channels, {H} x {W}, offsets up to {spread:g}", arguments)


def _with(
    offset: Callable[[Tensor], Tensor] = lambda o: o,
    mask: Callable[[Tensor], Tensor] = lambda m: m,
    weight: Callable[[Tensor], Tensor] = lambda w: w,
    padding: int = 1,
) -> Callable[..., Tensor]:
    """The formula with an argument changed."""

    def imitate(x: Tensor, offset_: Tensor, mask_: Tensor, weight_: Tensor) -> Tensor:
        moved = offset(offset_) + (1 - padding)
        return deform_conv_formula(x, moved, mask(mask_), weight(weight_))

    return imitate


def _channel_fastest(x: Tensor, offset: Tensor, mask: Tensor, weight: Tensor) -> Tensor:
    """Right sums, in places that belong to others: out is filled as if it were (B, S, Co)."""
    right = deform_conv_formula(x, offset, mask, weight)
    return right.flatten(2).transpose(1, 2).reshape(right.shape)


CONV_MISTAKES = (
    Mistake(
        "dy and dx are exchanged",
        "offsets come as (dy, dx) for each tap: channel 2 k moves it down, 2 k + 1 to the right.",
        _with(offset=lambda o: o.unflatten(1, (9, 2)).flip(2).flatten(1, 2)),
    ),
    Mistake(
        "all dy are taken to stand before all dx",
        "offsets come in pairs, (dy, dx) for each tap: channels 2 k and 2 k + 1.",
        _with(offset=lambda o: torch.stack([o[:, :9], o[:, 9:]], 2).flatten(1, 2)),
    ),
    Mistake(
        "the offsets are left out",
        "tap k of pixel p reads at row p / W + k / 3 - 1 + dy, and its column likewise.",
        _with(offset=torch.zeros_like),
    ),
    Mistake(
        "rows and columns of the taps are exchanged",
        "tap k lies in row k / 3 and column k % 3 of the kernel.",
        _with(
            weight=lambda w: w.transpose(2, 3),
            offset=lambda o: o.unflatten(1, (3, 3, 2)).transpose(1, 2).flatten(1, 3),
            mask=lambda m: m.unflatten(1, (3, 3)).transpose(1, 2).flatten(1, 2),
        ),
    ),
    Mistake("the mask is left out", "each sample is multiplied by its mask.", _with(mask=torch.ones_like)),
    Mistake(
        "the padding is forgotten",
        "the middle tap, k = 4, lies on the pixel itself: row k / 3 - 1.",
        _with(padding=0),
    ),
    Mistake(
        "neighbouring threads compute neighbouring channels",
        "out is (B, Co, H, W): its last letter runs fastest, so the pixel is i % S.",
        _channel_fastest,
    ),
    Mistake(
        "all images take the offsets of the first",
        "offset is (B, 18, H, W): image b begins at b * 18 * S.",
        _with(offset=lambda o: o[:1].expand_as(o)),
    ),
    Mistake(
        "all images take the mask of the first",
        "mask is (B, 9, H, W): image b begins at b * 9 * S.",
        _with(mask=lambda m: m[:1].expand_as(m)),
    ),
)


def check_deform_conv(kernel: CudaKernel) -> Verdict:
    """Check the reader's ``deform_conv(in, offset, mask, weight, out, C, Co, H, W, n)``."""
    return check_kernel(kernel, run_deform_conv, deform_conv_formula, _conv_cases(), CONV_MISTAKES)


# gather_last(in, y, x, out, C, H, W, n): samples of all channels, channels last


def run_gather(kernel: CudaKernel, image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """``image`` (C, H, W) goes in as (H, W, C); out is (points, C)."""
    C, H, W = image.shape
    out = torch.zeros(len(y), C)
    kernel(blocks_for(out.numel(), 128), 128, image.permute(1, 2, 0).contiguous(), y, x, out, C, H, W, out.numel())
    return out


def gather_formula(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    return formula.bilinear(image, y, x).T.contiguous()


def _gather_cases() -> Iterator[KernelCase]:
    for n, (C, H, W, points) in enumerate(((4, 4, 4, 16), (3, 5, 8, 21), (32, 6, 7, 40))):
        generator = torch.Generator().manual_seed(n)
        image, y, x = (torch.rand(*s, generator=generator) for s in ((C, H, W), (points,), (points,)))
        yield KernelCase(f"{C} channels of {H} x {W}, {points} points", (image, y * (H + 1) - 1, x * (W + 1) - 1))


def _read_as(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Channels last, read as if they came first."""
    return gather_formula(image.permute(1, 2, 0).reshape(image.shape), y, x)


GATHER_MISTAKES = (
    Mistake(
        "the input is read with channels first",
        "in is (H, W, C): channel c begins at in + c, and a pixel is C elements from the next.",
        _read_as,
    ),
    Mistake(
        "the result is written with channels first",
        "out is (points, C): its element i is channel i % C of point i / C.",
        lambda image, y, x: gather_formula(image, y, x).T.reshape(len(y), len(image)),
    ),
    Mistake(
        "all channels read the first",
        "channel c begins at in + c.",
        lambda image, y, x: gather_formula(image[:1].expand_as(image), y, x),
    ),
    Mistake("y and x are exchanged", "y counts rows.", lambda image, y, x: gather_formula(image, x, y)),
)
#: A warp reads a corner of one point in 32 channels, 4 sectors, where it lies well: 1.0 times what it uses.
MOST_SECTORS = 5.0


def check_gather(kernel: CudaKernel) -> Verdict:
    """Check the reader's ``gather_last(in, y, x, out, C, H, W, n)``: right, and neighbours read neighbours."""
    verdict = check_kernel(kernel, run_gather, gather_formula, _gather_cases(), GATHER_MISTAKES)
    if not verdict:
        return verdict
    generator = torch.Generator().manual_seed(9)
    image, y, x = (torch.rand(*s, generator=generator) for s in ((32, 16, 16), (64,), (64,)))
    last, out = image.permute(1, 2, 0).contiguous(), torch.zeros(64, 32)
    try:
        launch = kernel(16, 128, last, y * 15, x * 15, out, 32, 16, 16, 64 * 32)
    except KernelError as error:
        return Verdict(False, str(error))
    name = kernel.signature.parameters[0].name
    each = launch.sectors(name) / launch.requests(name)
    if each > MOST_SECTORS:
        return Verdict(
            False,
            f"The numbers are right, but a warp's read takes {each:.0f} sectors where 4 are enough.\n"
            "This is what comes out when neighbouring threads take neighbouring points.\n"
            "Hint: the channel must run fastest: c = i % C, and the point is i / C.",
        )
    return Verdict(True, f"{verdict.message} A warp's read takes {each:.1f} sectors.")
