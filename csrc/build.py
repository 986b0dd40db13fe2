"""Builds the native libraries; setup.py calls ``build_all``.

Three libraries go to ``dyhead_lab/ops/lib``: the kernels under the emulator (release and debug build), which need a
C++ compiler, and the kernels for the GPU, which need nvcc and a CUDA build of torch as well. What could not be built
is told in ``status.json`` beside them; ``dyhead_lab.ops.native`` reads it.

Environment:
    CXX                the C++ compiler, nvcc's too (default: c++, then g++; nvcc takes what it was installed with)
    CUDA_HOME          the CUDA toolkit (default: where nvcc is)
    DYHEAD_CUDA        auto (default): build for the GPU if this machine has one and it is possible; 0: do not;
                       1: build, on a machine without a GPU too, and fail if it is not possible
    DYHEAD_CUDA_ARCHS  architectures, such as "90" or "80,90" (default: ARCHITECTURES)
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the package may not be installed yet
from dyhead_lab.hardware import has_nvidia_gpu
from dyhead_lab.platforms import has_ucontext, install, library_file, processors

SOURCE = Path(__file__).resolve().parent
ROOT = SOURCE.parent
OBJECTS = ROOT / "build" / "native"
TARGET = ROOT / "dyhead_lab" / "ops" / "lib"

KERNELS = sorted(SOURCE.glob("*/*.cu"))
BINDING = sorted((SOURCE / "binding").glob("*.cpp"))
WATCHERS = [SOURCE / "emulator" / name for name in ("races.cpp", "recorder.cpp")]

#: Turing, Ampere, Hopper, Blackwell (data centre and desktop). Code for 8.0 also runs on 8.6 and 8.9.
ARCHITECTURES = ("75", "80", "90", "100", "120")
#: From here on intermediate code is embedded as well, which newer GPUs compile for themselves. That of older ones has
#: no tensor-core instructions, and newer GPUs would take it for code that has.
FIRST_WITH_TENSOR_CORES = 80

#: The oldest torch whose stable ABI the libraries use is 2.10.
STABLE_ABI = ["-DTORCH_TARGET_VERSION=0x020a000000000000", "-DPy_LIMITED_API=0x030b0000"]
#: A fiber is left by a jump that glibc's checked longjmp takes for an error.
CXX_FLAGS = ["-std=c++17", "-O2", "-fPIC", "-fvisibility=hidden", "-U_FORTIFY_SOURCE"]
#: Apple's headers declare makecontext only under the first name of X/Open, and then what C++'s library needs only under
#: the second; they call it deprecated.
APPLE_FLAGS = ["-D_XOPEN_SOURCE=700", "-D_DARWIN_C_SOURCE", "-Wno-deprecated-declarations"]
#: Apple's linker wants to know every name beforehand, unless it is told that torch brings them.
APPLE_LINK = ["-undefined", "dynamic_lookup"]
#: The compiler announces every access of a kernel; csrc/emulator/announced.h listens, no sanitizer's library does.
ANNOUNCE = "-fsanitize=thread"
ERROR_LINES = 25


#: What compilers say where two versions do not fit each other, and what mends it.
CLASHES = {
    r"unsupported GNU version": "This CUDA takes no g++ so new. Install an older one, such as g++-12, and run: "
    "export CXX=g++-12 DYHEAD_CUDA=1 && make native",
    r"unsupported clang version": "This CUDA takes no clang so new. Install g++ and run: "
    "export CXX=g++ DYHEAD_CUDA=1 && make native",
    r'exception specification is incompatible.*"(cospi|sinpi|rsqrt)f?"': "glibc 2.41 and newer do not fit CUDA 12.9 "
    "and older. Install CUDA 13, then run: export DYHEAD_CUDA=1 && make native",
    r"Unsupported gpu architecture": "This CUDA is older or newer than an architecture that it was asked for. Mend "
    "DYHEAD_CUDA_ARCHS, then run: export DYHEAD_CUDA=1 && make native",
}


class CannotBuild(Exception):
    """A library cannot be built here; ``remedy`` says what would mend it."""

    def __init__(self, reason: str, remedy: str) -> None:
        super().__init__(reason)
        self.remedy = remedy


@dataclass
class Library:
    """A library: what to compile with which commands, and what to link."""

    name: str
    compiles: list[tuple[Path, list[str]]]
    link: list[str]
    remedy: str
    architectures: list[str] = field(default_factory=list)  # of a GPU: "sm_90" machine code, "compute_90" intermediate
    objects: list[Path] = field(default_factory=list)

    @property
    def path(self) -> Path:
        return TARGET / library_file(f"dyhead_{self.name}")


def build_all() -> dict[str, dict[str, Any]]:
    """Build what this machine can build; return, and write to ``status.json``, what happened to each library.

    Raises:
        SystemExit: with DYHEAD_CUDA=1 if the library for the GPU could not be built.
    """
    TARGET.mkdir(parents=True, exist_ok=True)
    OBJECTS.mkdir(parents=True, exist_ok=True)
    wish = os.environ.get("DYHEAD_CUDA", "auto")
    if wish not in ("auto", "0", "1"):
        raise SystemExit(f"DYHEAD_CUDA must be auto, 0 or 1, not {wish!r}")
    status: dict[str, dict[str, Any]] = {}
    libraries = []
    for name, plan in (
        ("emulated", plan_emulated),
        ("emulated_debug", plan_emulated_debug),
        ("cuda", plan_cuda),
    ):
        try:
            libraries.append(plan())
        except CannotBuild as error:
            status[name] = {"error": str(error), "remedy": error.remedy}
    status |= build(libraries)
    for name, entry in status.items():
        if "error" in entry:
            (TARGET / library_file(f"dyhead_{name}")).unlink(missing_ok=True)
        print(f"[native] {name}: {entry.get('error', 'built')}", file=sys.stderr)
    (TARGET / "status.json").write_text(json.dumps(status, indent=1), encoding="utf-8")
    if wish == "1" and "error" in status["cuda"]:
        raise SystemExit(f"DYHEAD_CUDA=1, but: {status['cuda']['error']}\n{status['cuda']['remedy']}")
    return status


# What to build


def plan_emulated(name: str = "emulated", flags: tuple[str, ...] = ()) -> Library:
    if not has_ucontext():
        raise CannotBuild(
            "the emulator's fibers need a POSIX system; here chapter 04 shows what was recorded",
            "Run everything in WSL, Windows' Linux",
        )
    on_mac = sys.platform == "darwin"
    compiler = [cxx(), *CXX_FLAGS, *(APPLE_FLAGS if on_mac else ()), *flags, f"-I{SOURCE}"]
    torch = torch_folder()
    compiles = [(source, [*compiler, "-x", "c++"]) for source in KERNELS]
    compiles += [(source, [*compiler, *STABLE_ABI, f"-I{torch / 'include'}"]) for source in BINDING]
    link = [cxx(), "-shared", f"-L{torch / 'lib'}", "-ltorch_cpu", *(APPLE_LINK if on_mac else ())]
    return Library(name, compiles, link, "Mend what the compiler says, then run: make native")


def plan_emulated_debug() -> Library:
    library = plan_emulated("emulated_debug", ("-g1", "-DDYHEAD_EMULATOR_CHECK"))
    compiler = library.compiles[0][1]
    library.compiles = [
        (source, [*command, ANNOUNCE] if source in KERNELS else command) for source, command in library.compiles
    ]
    library.compiles += [(source, compiler) for source in WATCHERS]
    return library


def plan_cuda() -> Library:
    wish = os.environ.get("DYHEAD_CUDA", "auto")
    if wish == "0":
        raise CannotBuild("not wanted (DYHEAD_CUDA=0)", "Run: export DYHEAD_CUDA=1 && make native")
    if wish == "auto" and not has_nvidia_gpu():
        raise CannotBuild("this machine has no NVIDIA GPU", "Run: export DYHEAD_CUDA=1 && make native")
    toolkit, torch, host = find_toolkit(), torch_folder(), cxx()
    if not list((torch / "lib").glob("libtorch_cuda.*")):
        raise CannotBuild("this torch is built without CUDA", "Install a CUDA build of torch, then run: make native")
    # A distribution's nvcc knows a compiler that fits it, often an older one than c++.
    chosen = ["-ccbin", host] if os.environ.get("CXX") else []
    nvcc = [str(toolkit / "bin" / "nvcc"), *chosen, "-std=c++17", "-O3", "--extended-lambda"]
    architectures = architecture_names(toolkit)
    nvcc += ["-Xcompiler", "-fPIC,-fvisibility=hidden", f"-I{SOURCE}", *architecture_flags(architectures)]
    include = [f"-I{SOURCE}", f"-I{torch / 'include'}", f"-I{toolkit / 'include'}"]
    binding = [host, *CXX_FLAGS, *STABLE_ABI, "-DUSE_CUDA", "-DDYHEAD_CUDA", *include]
    compiles = [(source, nvcc) for source in KERNELS] + [(source, binding) for source in BINDING]
    link = [host, "-shared", f"-L{toolkit / 'lib64'}", f"-L{toolkit / 'lib'}", f"-L{torch / 'lib'}"]
    link += ["-ltorch_cpu", "-ltorch_cuda", "-lcudart_static", "-ldl", "-lrt", "-lpthread"]
    remedy = "nvcc and the C++ compiler must fit each other and CUDA. Mend that, then run: "
    return Library("cuda", compiles, link, remedy + "export DYHEAD_CUDA=1 && make native", architectures)


def cxx() -> str:
    """The C++ compiler."""
    for name in (os.environ.get("CXX"), "c++", "g++"):
        if name and shutil.which(name):
            return name
    raise CannotBuild("no C++ compiler was found", f"Run: {install('compiler')} && make native")


def torch_folder() -> Path:
    """Where torch is installed; torch itself is not imported, that takes seconds."""
    spec = importlib.util.find_spec("torch")
    if spec is None or spec.origin is None:
        raise CannotBuild("torch is not installed", "Run: make setup")
    return Path(spec.origin).parent


def find_toolkit() -> Path:
    """The folder of the CUDA toolkit. The ``nvcc`` on PATH may be a wrapper script, so nvcc itself is asked."""
    for folder in (os.environ.get("CUDA_HOME"), os.environ.get("CUDA_PATH")):
        if folder and (Path(folder) / "bin" / "nvcc").is_file():
            return Path(folder)
    nvcc = shutil.which("nvcc")
    if nvcc:
        command = [nvcc, "--dryrun", "-x", "cu", "-c", os.devnull, "-o", os.devnull]
        answer = subprocess.run(command, capture_output=True, text=True, errors="replace")
        top = re.search(r"^#\$ TOP=(.+)$", answer.stderr, re.MULTILINE)
        if top:
            return Path(top[1].strip()).resolve()
    for folder in sorted(Path("/usr/local").glob("cuda*"), reverse=True):
        if (folder / "bin" / "nvcc").is_file():
            return folder
    raise CannotBuild(
        "nvcc was not found",
        "Install the CUDA toolkit, or set CUDA_HOME to its folder, then run: make native",
    )


def architecture_names(toolkit: Path) -> list[str]:
    """The code to make for the architectures that are wanted and that this toolkit knows: "sm_90", "compute_90"."""
    answer = subprocess.run(
        [str(toolkit / "bin" / "nvcc"), "--list-gpu-arch"], capture_output=True, text=True, errors="replace"
    )
    known = set(re.findall(r"compute_(\d+)", answer.stdout))
    wish = os.environ.get("DYHEAD_CUDA_ARCHS")
    wanted = re.findall(r"\d+", wish.replace(".", "")) if wish else list(ARCHITECTURES)
    if wish and not set(wanted) <= known:
        unknown = ", ".join(sorted(set(wanted) - known))
        raise CannotBuild(f"nvcc does not know architecture {unknown}", "Mend DYHEAD_CUDA_ARCHS")
    chosen = sorted((arch for arch in wanted if arch in known), key=int)
    if not chosen:
        raise CannotBuild("nvcc names no architecture that the kernels support", "Install a newer CUDA toolkit")
    portable = [arch for arch in chosen if int(arch) >= FIRST_WITH_TENSOR_CORES]
    return [f"sm_{arch}" for arch in chosen] + [f"compute_{arch}" for arch in portable]


def architecture_flags(names: list[str]) -> list[str]:
    """nvcc's flags for code of these names."""
    return [f"-gencode=arch=compute_{name.partition('_')[2]},code={name}" for name in names]


# Building


def build(libraries: list[Library]) -> dict[str, dict[str, Any]]:
    """Compile what has changed, as many files at a time as there are processors, and link."""
    headers = digest(*sorted(SOURCE.glob("*/*.h")), *sorted(SOURCE.glob("*/*.cuh")))
    for library in libraries:
        library.objects = [object_path(source, command, headers) for source, command in library.compiles]
    progress = Progress(sum(not path.exists() for library in libraries for path in library.objects))
    results: dict[str, dict[str, Any]] = {}
    with ThreadPoolExecutor(max_workers=processors()) as pool:
        pending = {
            library.name: [
                pool.submit(compile_object, source, command, path, progress)
                for (source, command), path in zip(library.compiles, library.objects, strict=True)
            ]
            for library in libraries
        }
        for library in libraries:
            try:
                for job in pending[library.name]:
                    job.result()
                link_library(library)
                results[library.name] = {"architectures": library.architectures} if library.architectures else {}
            except subprocess.CalledProcessError as error:
                lines = "\n".join(error.output.strip().splitlines()[-ERROR_LINES:])
                remedies = (remedy for words, remedy in CLASHES.items() if re.search(words, error.output))
                remedy = next(remedies, library.remedy)
                results[library.name] = {"error": f"the compiler failed:\n{lines}", "remedy": remedy}
    used = {path for library in libraries for path in library.objects}
    for stale in set(OBJECTS.glob("*.o")) - used:
        stale.unlink()
    return results


class Progress:
    """Says which file has been compiled, of how many, since when. CUDA kernels take minutes each."""

    def __init__(self, total: int) -> None:
        self.total, self.done = total, 0
        self.begun = time.monotonic()
        self.lock = threading.Lock()
        if total:
            print(f"[native] {total} files to compile", file=sys.stderr, flush=True)

    def finished(self, source: Path, compiler: str) -> None:
        with self.lock:
            self.done += 1
            line = f"{self.done} of {self.total}: {source.parent.name}/{source.name} by {Path(compiler).name}"
            print(f"[native] {line}, {time.monotonic() - self.begun:.0f} s", file=sys.stderr, flush=True)


def object_path(source: Path, command: list[str], headers: str) -> Path:
    """Where the object of a file lies; its name says from what sources and by what command it was made."""
    return OBJECTS / f"{source.parent.name}_{source.stem}_{digest(source, text=f'{command} {headers}')}.o"


def compile_object(source: Path, command: list[str], target: Path, progress: Progress) -> None:
    """Compile one file, unless that was done before."""
    if not target.exists():
        unfinished = target.with_suffix(f".{os.getpid()}")
        run([*command, "-c", str(source), "-o", str(unfinished)])
        unfinished.replace(target)
        progress.finished(source, command[0])


def link_library(library: Library) -> None:
    """Link, unless the library there was made of the same objects. A process that has the old one open keeps it."""
    stamp = library.path.with_suffix(".stamp")
    content = " ".join([*library.link, *(path.name for path in library.objects)])
    if library.path.exists() and stamp.exists() and stamp.read_text(encoding="utf-8") == content:
        return
    unfinished = library.path.with_suffix(f".{os.getpid()}")
    run([*library.link[:2], "-o", str(unfinished), *map(str, library.objects), *library.link[2:]])
    unfinished.replace(library.path)
    stamp.write_text(content, encoding="utf-8")


def run(command: list[str]) -> None:
    subprocess.run(command, check=True, text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def digest(*paths: Path, text: str = "") -> str:
    """A short name for the contents of files and a text."""
    state = hashlib.sha256(text.encode())
    for path in paths:
        state.update(path.name.encode() + path.read_bytes())
    return state.hexdigest()[:16]


if __name__ == "__main__":
    build_all()
