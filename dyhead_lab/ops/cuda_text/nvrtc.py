"""Compiles a kernel's text with NVIDIA's runtime compiler, and launches it on a GPU.

NVRTC comes with CUDA builds of torch. It and the driver are called through their C interfaces (CUDA toolkit
documentation, "NVRTC" and "CUDA driver API").
"""

from __future__ import annotations

import ctypes
import functools
import importlib.util
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...platforms import cuda_driver, toolkit_libraries
from .errors import KernelError, at_line
from .signature import Signature

SOURCE = "kernel.cu"
#: NVRTC knows no <stdint.h>.
PRELUDE = (
    "typedef signed int int32_t; typedef unsigned int uint32_t; typedef unsigned char uint8_t;\n"
    "typedef long long int64_t;\n"
)
Size = tuple[int, int, int]


@dataclass(frozen=True)
class Compiled:
    """PTX, or machine code for one architecture, and the kernel's name in it."""

    code: bytes
    name: bytes


def why_missing() -> str | None:
    """Why texts cannot be compiled for a GPU here, or None if they can."""
    if _library() is None:
        return "NVRTC is not here: it comes with the CUDA builds of torch."
    return None


@functools.cache
def _library() -> ctypes.CDLL | None:
    for path in _candidates():
        try:
            return ctypes.CDLL(str(path))
        except OSError:
            continue
    return None


def _candidates() -> list[Path]:
    folders = []
    nvidia = importlib.util.find_spec("nvidia")
    for place in (nvidia.submodule_search_locations or ()) if nvidia else ():
        folders += [Path(place, "cuda_nvrtc", "lib"), *sorted(Path(place).glob("cu[0-9]*/lib"), reverse=True)]
    folders.append(Path(torch.__file__).parent / "lib")
    toolkit = os.environ.get("CUDA_HOME")
    folders += [Path(toolkit, "lib64")] if toolkit else []
    return [
        path
        for folder in folders
        for path in sorted(folder.glob(toolkit_libraries("nvrtc")))
        if ".alt" not in path.name
    ]


@functools.lru_cache(maxsize=64)
def compiled(text: str, signature: Signature, architecture: str) -> Compiled:
    """Compile for ``"compute_80"`` (PTX) or ``"sm_90"`` (machine code).

    Raises:
        KernelError: the text does not compile; the message shows the line. Or NVRTC is not here.
    """
    library = _library()
    if library is None:
        raise KernelError("machine", str(why_missing()))
    library.nvrtcGetErrorString.restype = ctypes.c_char_p
    source = f'{PRELUDE}#line 1 "{SOURCE}"\n{text}'.encode()
    program = ctypes.c_void_p()
    _expect(library, library.nvrtcCreateProgram(ctypes.byref(program), source, SOURCE.encode(), 0, None, None))
    try:
        name = signature.name.encode()
        _expect(library, library.nvrtcAddNameExpression(program, name))
        options = [f"--gpu-architecture={architecture}".encode(), b"--std=c++17", b"-lineinfo"]
        if library.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options)):
            raise _compile_error(_output(library, program, "ProgramLog").decode(errors="replace"), text)
        lowered = ctypes.c_char_p()
        _expect(library, library.nvrtcGetLoweredName(program, name, ctypes.byref(lowered)))
        kind = "PTX" if architecture.startswith("compute") else "CUBIN"
        return Compiled(_output(library, program, kind), bytes(lowered.value or name))
    finally:
        library.nvrtcDestroyProgram(ctypes.byref(program))


def _output(library: ctypes.CDLL, program: ctypes.c_void_p, what: str) -> bytes:
    size = ctypes.c_size_t()
    _expect(library, getattr(library, f"nvrtcGet{what}Size")(program, ctypes.byref(size)))
    content = ctypes.create_string_buffer(size.value)
    _expect(library, getattr(library, f"nvrtcGet{what}")(program, content))
    return content.raw if what == "CUBIN" else content.raw.rstrip(b"\0")


def _expect(library: ctypes.CDLL, status: int) -> None:
    if status:
        raise KernelError("machine", f"NVRTC: {library.nvrtcGetErrorString(status).decode()}")


def _compile_error(output: str, text: str) -> KernelError:
    found = re.findall(rf"{re.escape(SOURCE)}\((\d+)\): (?:catastrophic )?error:? *(.*)", output)
    if not found:
        return KernelError("compile", output.strip()[:500])
    messages = [at_line(text, int(line), message.removeprefix("#error directive: ")) for line, message in found[:3]]
    return KernelError("compile", "\n".join(messages), int(found[0][0]))


# On a GPU


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device)


def launch(
    text: str,
    signature: Signature,
    device: torch.device,
    blocks: Size,
    threads: Size,
    shared_bytes: int,
    arguments: Sequence[Any],
) -> None:
    """Launch on the device of the tensors, in torch's current stream, and wait for the end.

    Raises:
        KernelError: the text does not compile, or what the driver says.
    """
    major, minor = torch.cuda.get_device_capability(device)
    code = compiled(text, signature, f"sm_{major}{minor}")
    with torch.cuda.device(device):
        torch.cuda.synchronize()  # makes the device's context current
        function = _function(code, torch.cuda.current_device())
        values = [_value(p, argument) for p, argument in zip(signature.parameters, arguments, strict=True)]
        pointers = (ctypes.c_void_p * max(1, len(values)))(*(ctypes.addressof(value) for value in values))
        stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
        _driver_expect(
            "cuLaunchKernel", function, *map(ctypes.c_uint, (*blocks, *threads, shared_bytes)), stream, pointers, None
        )
        torch.cuda.synchronize()


def _value(parameter: Any, argument: Any) -> Any:
    """Where a value lies that the driver copies."""
    if isinstance(argument, torch.Tensor):
        return ctypes.c_void_p(argument.data_ptr())
    content = parameter.packed(argument)
    return (ctypes.c_char * len(content)).from_buffer_copy(content)


@functools.lru_cache(maxsize=64)
def _function(code: Compiled, device: int) -> ctypes.c_void_p:
    """The kernel in the current context, which is the device's; modules stay loaded."""
    module, function = ctypes.c_void_p(), ctypes.c_void_p()
    _driver_expect("cuModuleLoadData", ctypes.byref(module), code.code)
    _driver_expect("cuModuleGetFunction", ctypes.byref(function), module, code.name)
    return function


def _driver_expect(call: str, *arguments: Any) -> None:
    driver = cuda_driver()
    status = getattr(driver, call)(*arguments)
    if status:
        told = ctypes.c_char_p()
        driver.cuGetErrorString(status, ctypes.byref(told))
        raise KernelError("machine", f"{call}: {(told.value or b'unknown error').decode()}")
