"""A CUDA kernel that comes as text: compiled in seconds, run on a GPU or in the emulator.

``kernel = cuda_kernel("__global__ void add(...) {...}")`` and ``kernel(blocks, threads, *arguments)``. CPU tensors go
to the emulator (``csrc/emulator``), which counts what moves and refuses what a GPU would not forgive: a place outside
of a tensor, threads that race, a barrier that some never reach. CUDA tensors go to the GPU by NVRTC. Whatever is wrong
is told at the line of the text.
"""

from .errors import KernelError
from .kernel import CudaKernel, cuda_kernel
from .launch import Launch, Traffic
from .toolchain import why_missing as why_no_emulator

__all__ = ["CudaKernel", "KernelError", "Launch", "Traffic", "cuda_kernel", "why_no_emulator"]
