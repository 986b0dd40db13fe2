"""Checks of what moves: how many sectors a warp needs, and the tile in shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor

from dyhead_lab.ops.cuda_text import CudaKernel

from ..practice.reader_checks import Case, Mistake, Verdict, check
from .kernel_checks import SHARED_FAULTS, Faults, KernelCase, blocks_for, check_kernel

# sectors_of(elements_n, element_bytes)


def sectors_formula(elements_n, element_bytes):  # type: ignore[no-untyped-def]
    """How many sectors of 32 bytes hold these elements of a buffer that begins where a sector begins."""
    return len({int(element) * element_bytes // 32 for element in elements_n})


def _sector_cases(seed: int = 0, count: int = 12) -> Iterator[Case]:
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


SECTOR_MISTAKES = (
    Mistake(
        "elements are counted, not sectors",
        "element e lies in sector e * element_bytes // 32. Count different sectors.",
        lambda e, n: len(set(e.tolist())),
    ),
    Mistake(
        "lines of 128 bytes are counted",
        "a line has four sectors, and each is fetched for itself (since compute capability 6).",
        lambda e, n: len({int(element) * n // 128 for element in e}),
    ),
    Mistake(
        "every lane gets a sector of its own",
        "lanes that read from the same sector share it.",
        lambda e, n: len(e),
    ),
    Mistake(
        "everything between the first and the last element is fetched",
        "a sector that no lane asks for stays where it is.",
        lambda e, n: int(e.max()) * n // 32 - int(e.min()) * n // 32 + 1,
    ),
    Mistake(
        "the elements are taken for neighbours",
        "32 lanes need 32 * element_bytes bytes, but only neighbours lie in as few sectors.",
        lambda e, n: -(-len(e) * n // 32),
    ),
    Mistake(
        "the first sector begins at the smallest element",
        "sectors begin at multiples of 32 bytes. A warp that begins in the middle of one needs one more.",
        lambda e, n: sectors_formula(e - e.min(), n),
    ),
    Mistake(
        "every element is taken for four bytes",
        "a half has two, a double has eight: multiply by element_bytes.",
        lambda e, n: sectors_formula(e, 4),
    ),
)


def check_sectors(function: Callable[[np.ndarray, int], int]) -> Verdict:
    """Check the reader's ``sectors_of(elements_n, element_bytes)``."""
    return check(function, sectors_formula, _sector_cases(), SECTOR_MISTAKES)


# blur(x, out, n): the mean of three neighbours, by a tile in shared memory

TILE = 128  # most threads of a block that the kernel must serve


def run_blur(kernel: CudaKernel, x: Tensor, threads: int) -> Tensor:
    out = torch.zeros(len(x))
    kernel(blocks_for(len(x), threads), threads, x, out, len(x))
    return out


def blur_formula(x: Tensor, threads: int) -> Tensor:
    padded = torch.nn.functional.pad(x, (1, 1))
    return (padded[:-2] + x + padded[2:]) / 3


BLUR_FAULTS: Faults = {
    **SHARED_FAULTS,
    "unwritten": (
        "the tile has no neighbours at its ends",
        "three elements are read around each thread: the first and the last thread must bring one more each.",
    ),
}


def _blur_cases() -> Iterator[KernelCase]:
    for n, (size, threads) in enumerate(((TILE, TILE), (2 * TILE, TILE), (192, 64), (300, TILE), (70, 32), (33, 32))):
        x = torch.rand(size, generator=torch.Generator().manual_seed(n))
        yield KernelCase(f"{size} elements, blocks of {threads}", (x, threads), BLUR_FAULTS)


def _without_halo(x: Tensor, threads: int) -> Tensor:
    """The neighbours of other blocks count as zero."""
    padded = torch.nn.functional.pad(x, (0, -len(x) % threads)).view(-1, threads)
    return torch.stack([blur_formula(part, threads) for part in padded]).flatten()[: len(x)]


BLUR_MISTAKES = (
    Mistake(
        "the neighbours of the next block count as zero",
        "the first and the last thread of a block bring one element more each, from the blocks beside.",
        _without_halo,
    ),
    Mistake(
        "the sum is not divided",
        "the mean of three: divide by 3.",
        lambda x, threads: 3 * blur_formula(x, threads),
    ),
    Mistake(
        "the neighbours are x[i] and the two behind",
        "the tile begins one element before the block: thread t finds its own at t + 1.",
        lambda x, threads: blur_formula(torch.nn.functional.pad(x, (0, 1)), threads)[1:],
    ),
    Mistake(
        "every block begins at the first element",
        "i counts through all blocks: blockIdx.x * blockDim.x + threadIdx.x.",
        lambda x, threads: torch.cat([blur_formula(x, threads)[:threads], torch.zeros(max(0, len(x) - threads))]),
    ),
    Mistake(
        "blocks of 128 are taken for granted",
        "whoever launches the kernel chooses the block: it is blockDim.x.",
        lambda x, threads: torch.where(torch.arange(len(x)) % TILE < threads, blur_formula(x, threads), 0),
    ),
)
#: Reads of x over elements: 1 and a bit with a tile, 3 without.
MOST_READS = 1.2


def check_blur(kernel: CudaKernel) -> Verdict:
    """Check the reader's ``blur(x, out, n)``: right, and each element is read from global memory about once."""
    verdict = check_kernel(kernel, run_blur, blur_formula, _blur_cases(), BLUR_MISTAKES)
    if not verdict:
        return verdict
    n = 8 * TILE
    launch = kernel(8, TILE, torch.ones(n), torch.zeros(n), n)
    reads = launch.bytes_used(kernel.signature.parameters[0].name, "read") / (4 * n)
    if reads > MOST_READS:
        return Verdict(
            False,
            f"The numbers are right, but each element is read {reads:.1f} times from global memory.\n"
            "This is what comes out when the tile is left aside.\n"
            "Hint: after __syncthreads(), read from the tile alone.",
        )
    return Verdict(True, f"{verdict.message} Each element is read {reads:.2f} times from global memory.")
