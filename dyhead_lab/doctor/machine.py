"""The machine: Python, torch, the GPU, the compilers, and the native code that they made."""

from __future__ import annotations

import ctypes
import os
import re
import shutil
import sys
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path

from packaging.specifiers import SpecifierSet

from ..errors import UserError
from ..hardware import computing_device, has_nvidia_gpu, runs_on
from ..platforms import cuda_driver, has_ucontext, install, memory_limit, processors
from ..remedies import NAME, another_python, pip, rebuild, repair
from .check import Broken, Missing, check, first_output, installed, one_line, specifier

#: CUDA major version -> the first driver that runs programs built with it (NVIDIA, CUDA compatibility guide).
FIRST_DRIVER = {12: 525, 13: 580}

#: What is no fault: most laptops have none.
NO_GPU = "this machine has no NVIDIA GPU"


# Python and torch


@check("Python", another_python(), needed=True)
def python() -> str:
    try:
        accepted = SpecifierSet(metadata(NAME)["Requires-Python"])
    except PackageNotFoundError:
        raise Broken(f"{sys.prefix} does not hold this project", repair(NAME)) from None
    running = sys.version.split()[0]
    if not accepted.contains(running, prereleases=True):
        raise Broken(f"{running} in {sys.prefix}, but Python {accepted} is needed")
    return f"{running} in {sys.prefix}"


@check("torch", repair("torch", "torchvision"), needed=True)
def torch_pair() -> str:
    torch_version, vision_version = installed("torch"), installed("torchvision")
    expected = specifier("torchvision", "torch")
    if not expected.contains(torch_version, prereleases=True):
        raise Broken(f"torchvision {vision_version} needs torch{expected}, but torch is {torch_version}")
    import torch

    told = f"{torch_version} ({kind(torch.version.cuda)}), torchvision {vision_version}"
    try:
        import torchvision  # its compiled part fails to load where the pair does not fit
    except (ImportError, RuntimeError, OSError) as error:
        reason = f"{told} does not load beside it: both must be builds of one kind, from one place"
        raise Broken(one_line(f"{reason} ({type(error).__name__}: {error})")) from error
    with_cuda = bool(getattr(torchvision.version, "cuda", None))  # builds for the CPU do not say so
    if with_cuda != bool(torch.version.cuda):
        other = "with CUDA" if with_cuda else "for the CPU"
        raise Broken(f"{told} ({other}): both must be builds of one kind, from one place")
    return told


def kind(cuda: str | None) -> str:
    """What a build is for, in words."""
    return f"with CUDA {cuda}" if cuda else "for the CPU"


@check("processors and memory", "unset DYHEAD_DEVICE", needed=True)
def shares() -> str:
    """What this process may use of the machine, and where training and evaluation compute."""
    try:
        device = computing_device()
    except UserError as error:
        raise Broken(str(error)) from error
    limit = memory_limit()
    memory = "" if limit is None else f", {limit / 2**30:.1f} GiB of memory"
    return f"{processors()} of {os.cpu_count()} processors{memory}; training and evaluation compute on: {device.type}"


@check("CUDA device", install("driver", FIRST_DRIVER[13]))
def cuda_device() -> str:
    import torch

    supported = driver_cuda()
    if supported is None and not has_nvidia_gpu():
        return f"none, {NO_GPU}; everything runs on the CPU"
    if torch.version.cuda is None:
        raise Missing(f"torch {torch.__version__} is built for the CPU only", builds_with_cuda())
    if supported is None:
        raise Missing("no NVIDIA driver; everything runs on the CPU")
    built = version_pair(torch.version.cuda)
    if supported[0] < built[0]:
        raise Broken(
            f"the driver runs CUDA {dotted(supported)} and older, torch is built with {torch.version.cuda}; "
            "everything runs on the CPU",
            install("driver", FIRST_DRIVER[built[0]]),
        )
    if os.environ.get("CUDA_VISIBLE_DEVICES") in ("", "-1"):
        raise Missing("hidden by CUDA_VISIBLE_DEVICES", "unset CUDA_VISIBLE_DEVICES")
    if not torch.cuda.is_available():
        raise Broken("the driver is there, but torch finds no device", "nvidia-smi")
    return describe_device()


def builds_with_cuda() -> str:
    """The command that puts builds with CUDA in the place of builds for the CPU, of the same versions.

    pip takes "2.11.0+cpu" for 2.11.0 and leaves it, unless it must install it again.
    """
    pair = (f"{name}=={installed(name).partition('+')[0]}" for name in ("torch", "torchvision"))
    return pip(f"--force-reinstall {' '.join(pair)}")


def describe_device() -> str:
    """Name the first CUDA device; raises where torch has no kernels for it or it does not compute."""
    import torch

    name, capability = torch.cuda.get_device_name(0), torch.cuda.get_device_capability(0)
    architectures = torch.cuda.get_arch_list()
    use_the_cpu = "export CUDA_VISIBLE_DEVICES=-1"
    if not runs_on(capability, architectures):
        reason = f"{name} is sm_{capability[0]}{capability[1]}, torch has kernels for {' '.join(architectures)}"
        raise Broken(reason, use_the_cpu, harmful=True)
    try:
        total = torch.ones(3, device="cuda").sum().item()
    except RuntimeError as error:
        raise Broken(one_line(f"{name} does not compute: {error}"), use_the_cpu, harmful=True) from error
    if total != 3:
        raise Broken(f"{name} computes 1 + 1 + 1 = {total}", use_the_cpu, harmful=True)
    memory = torch.cuda.get_device_properties(0).total_memory / 2**30
    return f"{name}, sm_{capability[0]}{capability[1]}, {memory:.0f} GiB, {torch.cuda.device_count()} in all"


def driver_cuda() -> tuple[int, int] | None:
    """The newest CUDA version that the NVIDIA driver runs, or None without a driver."""
    try:
        driver = cuda_driver()
    except OSError:
        return None
    number = ctypes.c_int()
    if driver.cuDriverGetVersion(ctypes.byref(number)) != 0:
        raise Broken("the driver does not tell its version", "nvidia-smi")
    return number.value // 1000, number.value % 1000 // 10


# Native code


@check("nvcc", f"{install('cuda', '13-0')} && {rebuild()}")
def nvcc() -> str:
    import torch

    home = os.environ.get("CUDA_HOME", "/usr/local/cuda")
    path = shutil.which("nvcc") or shutil.which("nvcc", path=str(Path(home) / "bin"))
    if path is None:
        if not has_nvidia_gpu():
            return f"not needed, {NO_GPU}"
        raise Missing("not on PATH; it compiles the CUDA kernels")
    release = re.search(r"release (\d+\.\d+)", first_output(path, "--version"))
    if release is None:
        raise Broken(f"{path} does not tell its version")
    if torch.version.cuda and version_pair(release[1])[0] != version_pair(torch.version.cuda)[0]:
        raise Broken(f"{path} is CUDA {release[1]}, torch is built with {torch.version.cuda}")
    return f"{release[1]} ({path})"


@check("C++ compiler", f"{install('compiler')} && {rebuild()}")
def compiler() -> str:
    if not has_ucontext():
        return "not used on this system: chapter 04 shows recorded launches, and runs its kernels in WSL"
    names = [os.environ["CXX"]] if "CXX" in os.environ else ["c++", "g++"]
    path = next(filter(None, map(shutil.which, names)), None)
    if path is None:
        raise Missing(f"no {' or '.join(names)} on PATH; it compiles the native code")
    return f"{first_output(path, '--version').splitlines()[0]} ({path})"


@check("native code for the CPU", rebuild())
def native_cpu() -> str:
    if not has_ucontext():
        return "not built on this system: chapter 04 shows recorded launches"
    return native_kernels("emulated")


@check("native code for CUDA", rebuild())
def native_cuda() -> str:
    if not has_nvidia_gpu():
        return f"not needed, {NO_GPU}"
    return native_kernels("cuda")


def native_kernels(kind: str) -> str:
    """Whether the kernels are built, load and run. The reason ends with a sentence that names the remedy."""
    from ..ops import native

    problem = native.why_missing(kind)
    if problem is None:
        return "built, and loads" if kind == "emulated" else "built, and an empty kernel runs on the GPU"
    told = re.fullmatch(r"(.*)[.\n][^:]*: (.*)", problem, re.DOTALL)
    reason, remedy = told.groups() if told else (problem, "")
    bad = Broken if native.built(kind) else Missing
    raise bad(one_line(reason.removeprefix("They were ")), one_line(remedy))


def version_pair(text: str) -> tuple[int, int]:
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def dotted(pair: tuple[int, int]) -> str:
    return f"{pair[0]}.{pair[1]}"
