"""Checks of the reader's kernels: what they compute, and what they do that a GPU would not forgive.

A kernel runs on cases from the plainest on. It stops at the first case in which the emulator finds a fault; numbers of
the cases before are looked at first, because a wrong index often shows in both. All numbers are float32.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from torch import Tensor

from dyhead_lab.ops.cuda_text import CudaKernel, KernelError

from ..practice.reader_checks import Case, Mistake, Verdict, check

#: float32 sums of a few hundred terms in another order differ by about 1e-6; a mistake by far more.
TOLERANCE = 1e-5

Faults = Mapping[str, tuple[str, str]]

#: Kind of ``KernelError`` -> what it comes from, and a hint: where every thread has an element of its own.
FAULTS: Faults = {
    "bounds": (
        "there is no guard at the border",
        "there are more threads than elements: compare the index with the size before you use it.",
    ),
    "race": (
        "two threads take the same element",
        "each needs a number of its own: blockIdx.x * blockDim.x + threadIdx.x.",
    ),
}
#: The same where threads of a block work together.
SHARED_FAULTS: Faults = {
    "bounds": FAULTS["bounds"],
    "race": (
        "a __syncthreads() is missing",
        "threads of a block do not run in step: whoever reads what another wrote waits for it at __syncthreads().",
    ),
    "barrier": (
        "a thread leaves before __syncthreads()",
        "all threads of a block must come to the barrier: put the guard around the reads and the writes instead.",
    ),
    "unwritten": (
        "a part of shared memory is never filled",
        "count the elements that are read, and say for each which thread brings it.",
    ),
}


@dataclass(frozen=True)
class KernelCase(Case):
    """A case for a kernel, and what its faults come from."""

    faults: Faults = field(default_factory=lambda: FAULTS)


def check_kernel(
    kernel: CudaKernel,
    run: Callable[..., Tensor],
    formula: Callable[..., Tensor],
    cases: Iterable[KernelCase],
    mistakes: Sequence[Mistake],
) -> Verdict:
    """Hold a kernel against a formula.

    Args:
        run: takes the kernel and the arguments of a case, launches, and returns what was written.
        formula: takes the arguments of a case.
        mistakes: that give numbers; see :func:`~dyhead_book.practice.reader_checks.check`.
    """
    if not callable(kernel):
        return Verdict(False, f"This is a {type(kernel).__name__}, expected what cuda_kernel(text) gives.")
    passed: list[KernelCase] = []
    answers: list[Tensor] = []
    fault = ""
    for case in cases:
        try:
            answers.append(run(kernel, *case.arguments))
        except KernelError as error:
            if error.kind == "unfinished":
                raise NotImplementedError(kernel.unfinished) from None
            fault = f"{case.description}: {error}{_named(error, case.faults)}"
            break
        passed.append(case)
    given = iter(answers)
    numbers = check(lambda *_: next(given), formula, passed, mistakes, TOLERANCE)
    return Verdict(False, fault) if fault and numbers else numbers


def _named(error: KernelError, faults: Faults) -> str:
    known = faults.get(error.kind)
    return f"\nThis is what comes out when {known[0]}.\nHint: {known[1]}" if known else ""


def blocks_for(n: int, threads: int) -> int:
    """How many blocks hold at least ``n`` threads."""
    return -(-n // threads)
