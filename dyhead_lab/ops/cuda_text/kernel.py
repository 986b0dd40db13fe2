"""The kernel that a text becomes: called with blocks, threads and arguments."""

from __future__ import annotations

import math
import re
import textwrap
from collections.abc import Sequence
from typing import Any

from . import emulated, nvrtc, recording, toolchain
from .errors import KernelError
from .launch import Launch
from .signature import read_signature

#: What every GPU since compute capability 3.0 takes (CUDA programming guide, technical specifications).
MOST_THREADS = (1024, 1024, 64)
MOST_THREADS_OF_A_BLOCK = 1024
MOST_BLOCKS = (2**31 - 1, 65535, 65535)

Size = int | Sequence[int]


class CudaKernel:
    """A kernel out of a text; :func:`cuda_kernel` makes one.

    Attributes:
        text: as it was given, without the indentation that all lines share.
        signature: its name and parameters.
        unfinished: what an ``#error`` in the text says is still to do; such a kernel is refused when it is launched.
    """

    def __init__(self, text: str, name: str | None = None):
        self.text = textwrap.dedent(text).strip("\n") + "\n"
        self.signature = read_signature(self.text, name)
        gap = re.search(r'^\s*#\s*error\s+"?(.*?)"?\s*$', self.text, re.MULTILINE)
        self.unfinished = gap[1] if gap else None
        if self.unfinished is None:
            self._compile()

    def _compile(self) -> None:
        if toolchain.why_missing():
            recording.raise_known(self.text)
            return
        try:
            toolchain.program(self.text, self.signature)
        except KernelError as error:
            recording.keep_error(self.text, error)
            raise

    def __call__(
        self,
        blocks: Size,
        threads: Size,
        *arguments: Any,
        shared_bytes: int = 0,
        watch: tuple[int, range] | None = None,
    ) -> Launch:
        """Launch the kernel and wait for it; what it writes stands in the tensors afterwards.

        Args:
            blocks: how many, a number or (x, y) or (x, y, z).
            threads: of a block, likewise.
            arguments: contiguous tensors for pointers, numbers for the rest. Tensors on the CPU run in the emulator,
                tensors on a GPU there.
            shared_bytes: dynamic shared memory of a block.
            watch: (block, threads): a block, counted through the grid, and a range of its threads, whose steps the
                emulator notes.
        Raises:
            KernelError: arguments or the launch do not fit, or the kernel does what a GPU does not forgive.
        """
        if self.unfinished is not None:
            raise KernelError("unfinished", f"{self.signature.name} is not finished: {self.unfinished}")
        device = self.signature.check(arguments)
        grid = _size("blocks", blocks, MOST_BLOCKS)
        block = _size("threads", threads, MOST_THREADS)
        if math.prod(block) > MOST_THREADS_OF_A_BLOCK:
            most = MOST_THREADS_OF_A_BLOCK
            raise KernelError("arguments", f"threads: a block has at most {most}, got {math.prod(block)}")
        if not isinstance(shared_bytes, int) or shared_bytes < 0:
            raise KernelError("arguments", f"shared_bytes: got {shared_bytes!r}, expected a whole number from 0 on")
        if device.type == "cuda":
            nvrtc.launch(self.text, self.signature, device, grid, block, shared_bytes, arguments)
            return Launch(self.signature.name, nvrtc.device_name(device), grid, block)
        if device.type != "cpu":
            raise KernelError("arguments", f"tensors on {device}: expected tensors on the CPU or on an NVIDIA GPU")
        asked = emulated.request(self.text, self.signature, grid, block, shared_bytes, arguments, watch)
        return emulated.run(asked, arguments)

    def ptx(self, architecture: str = "compute_75") -> str:
        """What NVIDIA's own compiler makes of the text, for GPUs of this architecture or newer; no GPU is needed.

        Raises:
            KernelError: the text does not compile, or NVRTC is not here.
        """
        return nvrtc.compiled(self.text, self.signature, architecture).code.decode()

    def __repr__(self) -> str:
        expected = ", ".join(f"{p.declaration} {p.name}" for p in self.signature.parameters)
        return f"{self.signature.name}({expected})"


def cuda_kernel(text: str, name: str | None = None) -> CudaKernel:
    """Compile a CUDA kernel.

    Args:
        text: CUDA C++ with a function ``__global__ void name(...)``, and whatever ``__device__`` functions it calls.
        name: of the kernel, if there are several.
    Returns:
        Called as ``kernel(blocks, threads, *arguments)``, it launches the kernel.
    Raises:
        KernelError: the text has no kernel or does not compile; the message shows the line.
    """
    return CudaKernel(text, name)


def _size(what: str, size: Size, most: tuple[int, int, int]) -> tuple[int, int, int]:
    given = tuple(size) if isinstance(size, Sequence) else (size,)
    if not 1 <= len(given) <= 3 or not all(isinstance(n, int) and not isinstance(n, bool) for n in given):
        raise KernelError("arguments", f"{what}: got {size!r}, expected one to three whole numbers")
    x, y, z = (*given, 1, 1)[:3]
    for n, limit in zip((x, y, z), most, strict=True):
        if not 1 <= n <= limit:
            raise KernelError("arguments", f"{what}: got {size!r}, expected numbers from 1 to {most}")
    return x, y, z
