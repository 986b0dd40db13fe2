"""The problems of the benchmark: sizes that detectors meet, their inputs, and who takes part."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..deform_conv import deform_conv2d
from ..ms_deform_attn import ms_deform_attn
from . import peers

BF16 = torch.bfloat16


@dataclass(frozen=True)
class Contender:
    """One way to compute a problem.

    Attributes:
        function: of (*floats), returns the output.
        dtype: what it computes in; None: the problem's own. A peer that lacks a dtype runs in another one, and its
            name says so.
        kernels: which of our native kernels run, forward and backward.
        tf32: whether float32 matrix products on a GPU round their factors to TF32.
        graph: whether its work on a GPU is recorded once and replayed, so that launching it costs nothing.
    """

    function: Callable[..., Tensor]
    dtype: torch.dtype | None = None
    kernels: str = "auto"
    tf32: bool = False
    graph: bool = False


@dataclass(frozen=True)
class Problem:
    """One operator at one size.

    Attributes:
        name: what the table calls it.
        floats: tensors that get gradients.
        contenders: by name. The first is ours, the second the peer that ratios refer to.
        operations: floating-point operations of the matrix product in the forward pass; 0 without one.
    """

    name: str
    floats: list[Tensor]
    contenders: dict[str, Contender]
    operations: int

    def floats_of(self, contender: Contender) -> list[Tensor]:
        """The tensors in the dtype that the contender computes in."""
        return [t if contender.dtype is None else t.to(contender.dtype) for t in self.floats]

    def factors_of(self, contender: Contender) -> str:
        """The type of the factors of its matrix product: "float32", "bfloat16", or "tf32"."""
        dtype = self.floats_of(contender)[0].dtype
        return "tf32" if contender.tf32 else "bfloat16" if dtype == BF16 else "float32"

    def bytes_moved(self, output: Tensor, backward: bool) -> int:
        """What any implementation must move: arguments read and output written once. Backward: the arguments and
        the output's gradient read, and every argument's gradient written."""
        arguments = sum(t.numel() * t.element_size() for t in self.floats)
        forward = arguments + output.numel() * output.element_size()
        return forward + (forward + arguments) * backward


def convolution(name: str, B: int, C: int, H: int, W: int, device: str, dtype: torch.dtype = torch.float32) -> Problem:
    """Version 2, 3x3, C to C channels; offsets of 1.5 pixels (standard deviation)."""
    random = torch.Generator().manual_seed(0)
    tensors = [
        torch.randn(B, C, H, W, generator=random),
        torch.randn(B, 18, H, W, generator=random) * 1.5,
        torch.randn(C, C, 3, 3, generator=random) / (9 * C) ** 0.5,
        torch.randn(B, 9, H, W, generator=random).sigmoid(),
    ]

    def ours(input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor) -> Tensor:
        return deform_conv2d(input, offset, weight, padding=1, mask=mask)

    contenders = {
        "dyhead_lab": Contender(ours),
        **_in_float32("torchvision", peers.torchvision_deform_conv2d, dtype),
        "plain conv2d": Contender(peers.plain_conv2d),
    }
    if device == "cuda" and dtype == torch.float32:
        contenders |= {f"{name} tf32": replace(each, tf32=True) for name, each in contenders.items()}
    contenders |= _simple_kernels(ours, device) | _deformops(peers.deformops_conv2d, device, dtype)  # they know no TF32
    input, offset, weight, mask = tensors
    exact = torch.float32 if dtype == BF16 else dtype  # of offsets and masks, as under autocast
    floats = [input.to(device, dtype), offset.to(device, exact), weight.to(device, dtype), mask.to(device, exact)]
    return Problem(name, floats, contenders, 2 * B * H * W * C * C * 9)


def attention(
    name: str,
    B: int,
    image: tuple[int, int],
    Q: int | None,
    device: str,
    dtype: torch.dtype = torch.float32,
    uniform: bool = False,
    heads: int = 8,
    channels: int = 32,
    strides: tuple[int, ...] = (8, 16, 32, 64),
) -> Problem:
    """4 points a level; ``channels`` of each head. ``Q`` is None for an encoder: a query per token.

    Samples lie 2 pixels (standard deviation) from their query, so that neighbours share what they read; or, if
    ``uniform``, anywhere in the image, which is the worst case for a cache.
    """
    random = torch.Generator().manual_seed(0)
    sizes = [(-(-image[0] // stride), -(-image[1] // stride)) for stride in strides]
    shapes = torch.tensor(sizes)
    starts = shapes.prod(1).cumsum(0) - shapes.prod(1)
    N = int(shapes.prod(1).sum())
    centres = torch.cat([_centres(H, W) for H, W in sizes]) if Q is None else torch.rand(Q, 2, generator=random)
    L, P = len(strides), 4
    steps = torch.randn(B, len(centres), heads, L, P, 2, generator=random) * 2
    near = centres.view(-1, 1, 1, 1, 2) + steps / shapes.flip(1).view(L, 1, 2)
    tensors = [
        torch.randn(B, N, heads, channels, generator=random),
        torch.rand(near.shape, generator=random) if uniform else near,
        torch.rand(B, len(centres), heads, L * P, generator=random).softmax(-1).view(B, -1, heads, L, P),
    ]

    def bound(operator: Callable[..., Tensor], levels_on: str = device) -> Callable[..., Tensor]:
        levels = shapes.to(levels_on), starts.to(levels_on)
        return lambda value, locations, weights: operator(value, *levels, locations, weights)

    contenders = {
        "dyhead_lab": Contender(bound(ms_deform_attn)),
        **_in_float32("grid_sample", bound(peers.grid_sample_attention, "cpu"), dtype),
        **_simple_kernels(bound(ms_deform_attn), device),
        **_deformops(bound(peers.deformops_attention), device, dtype),
    }
    if device == "cuda" and Q is not None:  # so short that launching takes longer than the work
        contenders |= {f"{name} in a graph": replace(each, graph=True) for name, each in contenders.items()}
    exact = torch.float32 if dtype == BF16 else dtype  # of locations and weights, as under autocast
    floats = [tensors[0].to(device, dtype), *(t.to(device, exact) for t in tensors[1:])]
    return Problem(name, floats, contenders, 0)


def _in_float32(name: str, function: Callable[..., Tensor], dtype: torch.dtype) -> dict[str, Contender]:
    """A peer that does not take halves: there it runs in float32, and its name says so."""
    if dtype == BF16:
        return {f"{name} fp32": Contender(function, torch.float32)}
    return {name: Contender(function)}


def _simple_kernels(function: Callable[..., Tensor], device: str) -> dict[str, Contender]:
    """On a GPU our first kernels run too: the classic design, a thread per channel."""
    return {"simple kernels": Contender(function, kernels="simple")} if device == "cuda" else {}


def _deformops(function: Callable[..., Tensor], device: str, dtype: torch.dtype | None = None) -> dict[str, Contender]:
    """The fastest public kernels, where they are installed. They want all tensors in one dtype."""
    takes_part = device == "cuda" and peers.has_deformops()
    return {"deformops": Contender(function, dtype)} if takes_part else {}


def _centres(H: int, W: int) -> Tensor:
    """(H * W, 2): the centre of every pixel as (x, y) in [0, 1]."""
    y, x = torch.meshgrid((torch.arange(H) + 0.5) / H, (torch.arange(W) + 0.5) / W, indexing="ij")
    return torch.stack((x, y), -1).view(-1, 2)


Makers = list[Callable[[str], Problem]]

#: By device. Problems are made one by one, since the larger ones fill gigabytes with their gradients.
FULL: dict[str, Makers] = {
    "cpu": [
        lambda device: convolution("deform_conv2d P3 1x256x100x168", 1, 256, 100, 168, device),
        lambda device: convolution("deform_conv2d P3 1x256x100x168 bf16", 1, 256, 100, 168, device, BF16),
        lambda device: convolution("deform_conv2d P4 1x256x50x84", 1, 256, 50, 84, device),
        lambda device: convolution("deform_conv2d P5 2x256x25x42", 2, 256, 25, 42, device),
        lambda device: convolution("deform_conv2d small 16x64x20x20", 16, 64, 20, 20, device),
        lambda device: attention("ms_deform_attn encoder 800x1333", 1, (800, 1333), None, device),
        lambda device: attention("ms_deform_attn encoder 800x1333 bf16", 1, (800, 1333), None, device, BF16),
        lambda device: attention("ms_deform_attn encoder 512x512", 1, (512, 512), None, device),
        lambda device: attention("ms_deform_attn decoder 300 of 800x1333", 1, (800, 1333), 300, device),
    ],
    "cuda": [
        lambda device: convolution("deform_conv2d P3 2x256x100x168", 2, 256, 100, 168, device),
        lambda device: convolution("deform_conv2d P3 2x256x100x168 bf16", 2, 256, 100, 168, device, BF16),
        lambda device: convolution("deform_conv2d P4 2x256x50x84 bf16", 2, 256, 50, 84, device, BF16),
        lambda device: convolution("deform_conv2d P5 2x256x25x42 bf16", 2, 256, 25, 42, device, BF16),
        lambda device: attention("ms_deform_attn encoder 2 of 800x1333", 2, (800, 1333), None, device),
        lambda device: attention("ms_deform_attn encoder 2 of 800x1333 bf16", 2, (800, 1333), None, device, BF16),
        lambda device: attention("ms_deform_attn uniform 2 of 800x1333", 2, (800, 1333), None, device, uniform=True),
        lambda device: attention("ms_deform_attn decoder 300, 2 of 800x1333", 2, (800, 1333), 300, device),
        lambda device: attention("ms_deform_attn decoder 300, 2 of 800x1333 bf16", 2, (800, 1333), 300, device, BF16),
    ],
}
QUICK: Makers = [
    lambda device: convolution("deform_conv2d small 2x64x20x20", 2, 64, 20, 20, device),
    lambda device: attention("ms_deform_attn encoder 160x160", 1, (160, 160), None, device),
    lambda device: attention("ms_deform_attn decoder 100 of 160x160", 1, (160, 160), 100, device),
]
