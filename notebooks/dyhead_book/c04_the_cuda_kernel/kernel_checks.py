"""What the chapter on the CUDA kernel leans on: kernel sources to read, accesses to look at, a check, a timing."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from dyhead_lab.ops import deform_conv2d, native
from dyhead_lab.ops.bench.table import recorded
from dyhead_lab.ops.native import Access
from dyhead_lab.paths import REPOSITORY

from ..practice.checks import Case, Mistake, Verdict, check

SIMPLE = REPOSITORY / "csrc" / "deform_conv" / "simple.cuh"
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
    found = re.search(rf"(///[^\n]*\n)+template[^\n]*\n__global__ void {name}\(.*?\n}}", SIMPLE.read_text(), re.DOTALL)
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


# Which thread computes what: an exercise


def owner_formula(i: int, Co: int, S: int) -> tuple[int, int, int]:
    """Image, output channel and pixel of output number ``i`` in a tensor (B, Co, S): the last letter runs fastest."""
    return i // S // Co, i // S % Co, i % S


def _owner_cases(seed: int = 0, count: int = 30) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        B, Co, S = (int(n) for n in rng.integers(2, 9, 3))
        i = int(rng.integers(1, B * Co * S))
        yield Case(f"output {i} of ({B}, {Co}, {S})", (i, Co, S))


OWNER_MISTAKES = (
    Mistake(
        "neighbouring threads compute neighbouring channels",
        "in (B, Co, Ho, Wo) the neighbour in memory is the next pixel, so i % S is the pixel.",
        lambda i, Co, S: (i // Co // S, i % Co, i // Co % S),
    ),
    Mistake(
        "the channel is not wrapped",
        "i // S counts channels through all images: take it modulo Co.",
        lambda i, Co, S: (i // S // Co, i // S, i % S),
    ),
    Mistake(
        "the image is not divided by the channels",
        "i // S counts channels through all images: an image has Co of them.",
        lambda i, Co, S: (i // S, i // S % Co, i % S),
    ),
    Mistake(
        "the pixel is not wrapped",
        "i counts through everything: the pixel is what is left over, i % S.",
        lambda i, Co, S: (i // S // Co, i // S % Co, i),
    ),
    Mistake(
        "image and channel are swapped",
        "the answer is (b, o, p).",
        lambda i, Co, S: (i // S % Co, i // S // Co, i % S),
    ),
)


def check_owner(function: Callable[[int, int, int], tuple[int, int, int]]) -> Verdict:
    """Check the reader's ``owner(i, Co, S)``: (b, o, p) of output ``i``."""
    return check(function, owner_formula, _owner_cases(), OWNER_MISTAKES)


# What a warp moves, and what the whole kernel reads: two more exercises


def lines_of(elements_n, element_bytes):  # type: ignore[no-untyped-def]
    """How many lines of 128 bytes hold these elements of a buffer that begins where a line begins."""
    return len({int(element) * element_bytes // 128 for element in elements_n})


def _lines_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
    """32 lanes: neighbours, with a stride, scattered; elements of 2, 4 and 8 bytes."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        element_bytes = (4, 2, 8)[number % 3]
        first, stride = int(rng.integers(1, 90)), int(rng.integers(2, 40))
        elements = (
            first + np.arange(32),
            first + stride * np.arange(32),
            rng.integers(0, 3000, 32),
            first + np.arange(32) // 3,
        )[number % 4]
        yield Case(f"32 lanes, {element_bytes} bytes each", (elements, element_bytes))


LINES_MISTAKES = (
    Mistake(
        "elements are counted, not lines",
        "element e lies in line e * element_bytes // 128. Count different lines.",
        lambda e, n: len(set(e.tolist())),
    ),
    Mistake(
        "every lane gets a line of its own",
        "lanes that read from the same line share it.",
        lambda e, n: len(e),
    ),
    Mistake(
        "everything between the first and the last element is fetched",
        "a line that no lane asks for stays where it is.",
        lambda e, n: int(e.max()) * n // 128 - int(e.min()) * n // 128 + 1,
    ),
    Mistake(
        "the elements are taken for neighbours",
        "32 lanes need 32 * element_bytes bytes, but only neighbours lie in as few lines.",
        lambda e, n: -(-len(e) * n // 128),
    ),
    Mistake(
        "the first line begins at the smallest element",
        "lines begin at multiples of 128 bytes. A warp that begins in the middle of one needs one more.",
        lambda e, n: lines_of(e - e.min(), n),
    ),
    Mistake(
        "every element is taken for four bytes",
        "a half has two, a double has eight: multiply by element_bytes.",
        lambda e, n: lines_of(e, 4),
    ),
)


def check_lines(function: Callable[[np.ndarray, int], int]) -> Verdict:
    """Check the reader's ``lines_of(elements_n, element_bytes)``."""
    return check(function, lines_of, _lines_cases(), LINES_MISTAKES)


def input_reads(B, C, Co, S, K):  # type: ignore[no-untyped-def]
    """Reads of ``input`` by the simple forward kernel, far from the border: it samples anew for every output."""
    outputs = B * Co * S
    samples_each = C * K
    return outputs * samples_each * 4


def _read_cases(seed: int = 0, count: int = 6) -> Iterator[Case]:
    rng = np.random.default_rng(seed)
    for _ in range(count):
        B, C, Co, S, K = (int(n) for n in rng.integers((2, 2, 2, 10, 2), (5, 30, 30, 400, 10)))
        yield Case(f"B {B}, {C} -> {Co} channels, {S} pixels, {K} taps", (B, C, Co, S, K))


READS_MISTAKES = (
    Mistake(
        "a sample is counted as one read",
        "bilinear interpolation reads four pixels.",
        lambda B, C, Co, S, K: B * C * Co * S * K,
    ),
    Mistake(
        "output channels share their samples",
        "they could, but here each output is a thread of its own and samples anew. That is what the fast kernels mend.",
        lambda B, C, Co, S, K: B * C * S * K * 4,
    ),
    Mistake(
        "only one input channel is read",
        "every tap of every output reads all C channels.",
        lambda B, C, Co, S, K: B * Co * S * K * 4,
    ),
    Mistake(
        "the taps are forgotten",
        "every output sums over K taps.",
        lambda B, C, Co, S, K: B * C * Co * S * 4,
    ),
    Mistake(
        "a single image is counted",
        "there are B of them.",
        lambda B, C, Co, S, K: C * Co * S * K * 4,
    ),
)


def check_reads(function: Callable[[int, int, int, int, int], int]) -> Verdict:
    """Check the reader's ``input_reads(B, C, Co, S, K)``."""
    return check(function, input_reads, _read_cases(), READS_MISTAKES)


# On a GPU


def gpu_report(channels: int = 256, size: tuple[int, int] = (100, 168), repeats: int = 20) -> str:
    """Forward time of ours and torchvision's on this machine's GPU.

    Without a GPU: what was recorded on one, or plainly that nothing was.

    Args:
        channels, size, repeats: of the live measurement.
    """
    problem = native.why_missing("cuda")
    if problem:
        table = recorded("cuda")
        return f"No GPU here. {problem}\n{told(table)}" if table else f"Not measured on a GPU. {problem}"
    from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

    generator = torch.Generator("cuda").manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, device="cuda", generator=generator)

    x, dp = draw(1, channels, *size), draw(1, 18, *size)
    w, dm = draw(channels, channels, 3, 3) / channels, draw(1, 9, *size).sigmoid()
    ours = _milliseconds(lambda: deform_conv2d(x, dp, w, padding=1, mask=dm, backend="cuda"), repeats)
    theirs = _milliseconds(lambda: torchvision_deform_conv2d(x, dp, w, padding=1, mask=dm), repeats)
    shape = f"3x3, {channels} -> {channels} channels, {size[0]} x {size[1]}, float32"
    return f"{torch.cuda.get_device_name()}, {shape}: ours {ours:.3f} ms, torchvision {theirs:.3f} ms (medians)"


def told(table: dict[str, Any]) -> str:
    """A recorded table of the operator benchmark in lines: the machine, then a line per forward pass."""
    machine = table["machine"]
    lines = [f"Recorded on {machine['device']}, torch {machine['torch']}, {machine['date']} (medians):"]
    lines += [
        f"{row['problem']}: {row['who']} {row['median_ms']:.3f} ms, {row['times_faster_than_peer']:.1f} x {row['peer']}"
        for row in table["rows"]
        if row["pass"] == "forward" and row["who"] != row["peer"]
    ]
    return "\n".join(lines)


def _milliseconds(run: Callable[[], object], repeats: int) -> float:
    times = []
    for _ in range(repeats + 3):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return float(np.median(times[3:]))  # the first runs warm up
