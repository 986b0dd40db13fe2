"""The CUDA kernel to read: its source, and what its threads do to memory under the emulator."""

from __future__ import annotations

import re
from dataclasses import dataclass

import torch

from dyhead_lab.ops import native
from dyhead_lab.ops.native import Access
from dyhead_lab.paths import CSRC

SIMPLE = CSRC / "deform_conv" / "simple.cuh"
UNIT = (1, 1)


@dataclass(frozen=True)
class Listing:
    """Source code that shows itself as such in a notebook."""

    code: str
    language: str = "cpp"

    def _repr_markdown_(self) -> str:
        return f"```{self.language}\n{self.code}\n```"

    def __repr__(self) -> str:
        return self.code


def kernel_source(name: str) -> Listing:
    """The kernel ``name`` of csrc/deform_conv/simple.cuh, with the sentence that says what a thread does."""
    found = re.search(
        rf"(///[^\n]*\n)+template[^\n]*\n__global__ void {name}\(.*?\n}}", SIMPLE.read_text(encoding="utf-8"), re.DOTALL
    )
    if found is None:
        raise ValueError(f"name: {SIMPLE.name} has no kernel {name!r}")
    return Listing(found.group())


# What threads do to memory


@dataclass(frozen=True)
class Example:
    """One deformable convolution with a single channel and 3x3 taps, drawn from a seed.

    Args:
        H, W: size of the input and of the output (padding 1).
        offset_scale: standard deviation of the offsets in pixels; they are cut at twice that.
        seed: of all numbers.
    """

    H: int
    W: int
    offset_scale: float
    seed: int = 0

    def tensors(self) -> tuple[torch.Tensor, ...]:
        """input (1, 1, H, W), offset (1, 18, H, W), weight (1, 1, 3, 3), mask (1, 9, H, W), float32."""
        generator = torch.Generator().manual_seed(self.seed)
        offset = torch.randn(1, 18, self.H, self.W, generator=generator).clamp(-2, 2) * self.offset_scale
        image = torch.randn(1, 1, self.H, self.W, generator=generator)
        weight = torch.randn(1, 1, 3, 3, generator=generator)
        return image, offset, weight, torch.rand(1, 9, self.H, self.W, generator=generator)

    def forward(self, block: int = 0, threads: range = range(1)) -> list[Access]:
        """What these threads of the simple forward kernel do; thread i computes output pixel i."""
        arguments = (*self.tensors(), *UNIT * 4)
        return native.record("deform_conv2d_forward", *arguments, block=block, threads=threads)

    def backward(self, block: int = 0, threads: range = range(256)) -> list[Access]:
        """What these threads of the simple backward kernels do, with an output gradient of ones."""
        arguments = (torch.ones(1, 1, self.H, self.W), *self.tensors(), *UNIT * 4, False)
        return native.record("deform_conv2d_backward", *arguments, block=block, threads=threads)
