"""Checks, mistakes and solutions of the chapter on the CUDA kernel: who computes what, lines of memory, reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from ..practice.reader_checks import Case, Mistake, Verdict, check

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
