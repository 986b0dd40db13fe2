"""csrc/build.py: it finds the tools, tells why something cannot be built, and compiles nothing twice."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from dyhead_lab.hardware import runs_on
from dyhead_lab.ops import native
from dyhead_lab.remedies import rebuild

CSRC = Path(__file__).parents[2] / "csrc"
sys.path.insert(0, str(CSRC))
build = importlib.import_module("build")
sys.path.remove(str(CSRC))


def write_script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


@pytest.fixture
def workshop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A place where builds leave the real libraries alone; its ``bin`` comes first on PATH."""
    for name in ("CXX", "CUDA_HOME", "CUDA_PATH", "DYHEAD_CUDA", "DYHEAD_CUDA_ARCHS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(build, "OBJECTS", tmp_path / "objects")
    monkeypatch.setattr(build, "TARGET", tmp_path / "lib")
    monkeypatch.setattr(native, "FOLDER", tmp_path / "lib")
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:/usr/bin:/bin")
    return tmp_path


#: A compiler that writes its command line where it should write an object, and counts its calls.
COUNTING = """\
previous=
for word in "$@"; do
  [ "$previous" = -o ] && echo "$@" > "$word"
  previous="$word"
done
echo call >> "$(dirname "$0")/calls"
"""


def test_a_machine_without_a_compiler_is_told_the_remedy(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(workshop / "bin"))
    status = build.build_all()
    assert status["emulated"]["error"] == "no C++ compiler was found"
    assert json.loads((workshop / "lib" / "status.json").read_text(encoding="utf-8")) == status
    assert native.why_missing("emulated") == (
        f"They were not built: no C++ compiler was found\nRun: sudo apt-get install g++ && {rebuild()}"
    )
    with pytest.raises(RuntimeError, match="The emulator's debug build is missing"):
        native.debug_operators()


def test_windows_is_told_what_chapter_04_shows(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(build, "has_nvidia_gpu", lambda: False)
    status = build.build_all()
    assert status["emulated"]["error"].endswith("here chapter 04 shows what was recorded")
    assert status["emulated"]["remedy"] == "Run everything in WSL, Windows' Linux"


def test_apples_compiler_gets_the_flags_of_its_headers_and_its_linker(
    workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CXX", str(write_script(workshop / "bin" / "c++", COUNTING)))
    monkeypatch.setattr(sys, "platform", "darwin")
    library = build.plan_emulated()
    assert library.path.name == "libdyhead_emulated.dylib" and library.link[-2:] == build.APPLE_LINK
    assert all(set(build.APPLE_FLAGS) <= set(command) for _, command in library.compiles)
    monkeypatch.setattr(sys, "platform", "linux")
    plain = build.plan_emulated()
    assert not {*build.APPLE_FLAGS, *build.APPLE_LINK} & {*plain.link, *plain.compiles[0][1]}


def test_a_failed_compilation_is_told_with_its_last_lines(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = write_script(workshop / "bin" / "c++", "seq 100; echo 'types.h:1: error: no such thing' >&2; exit 1")
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("DYHEAD_CUDA", "0")
    status = build.build_all()
    lines = status["emulated"]["error"].splitlines()
    assert lines[-1] == "types.h:1: error: no such thing" and len(lines) == build.ERROR_LINES + 1
    assert "make native" in status["emulated"]["remedy"]
    assert "DYHEAD_CUDA=0" in status["cuda"]["error"]


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ("#error -- unsupported GNU version! gcc versions later than 12 are not supported!", "CXX=g++-12"),
        ('error: exception specification is incompatible with that of previous function "cospi"', "Install CUDA 13"),
        ('error: exception specification is incompatible with that of previous function "open"', "must fit each other"),
    ],
)
def test_a_known_clash_of_versions_is_told_with_what_mends_it(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, said: str, remedy: str
) -> None:
    complaint = workshop / "said"
    complaint.write_text(f"math.h(7): {said}\n" + "more\n" * build.ERROR_LINES, encoding="utf-8")
    compiler = write_script(workshop / "bin" / "nvcc", f"cat {complaint} >&2; exit 2")
    library = build.Library("cuda", [(build.KERNELS[0], [str(compiler)])], [], "Both must fit each other")
    (workshop / "objects").mkdir()
    assert remedy in build.build([library])["cuda"]["remedy"]


def test_nvcc_keeps_its_own_compiler_unless_another_one_is_asked_for(
    workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DYHEAD_CUDA", "1")
    monkeypatch.setenv("CUDA_HOME", str(workshop / "toolkit"))
    write_script(workshop / "toolkit" / "bin" / "nvcc", "echo compute_90")
    (workshop / "torch" / "lib").mkdir(parents=True)
    (workshop / "torch" / "lib" / "libtorch_cuda.so").touch()
    monkeypatch.setattr(build, "torch_folder", lambda: workshop / "torch")
    kernels = dict(build.plan_cuda().compiles)[build.KERNELS[0]]
    assert "-ccbin" not in kernels
    monkeypatch.setenv("CXX", str(write_script(workshop / "bin" / "g++-12", "exit 0")))
    kernels = dict(build.plan_cuda().compiles)[build.KERNELS[0]]
    assert kernels[kernels.index("-ccbin") + 1].endswith("g++-12")


#: As much of CUDA 12.0 as `memory.cuh` asks for. It adds no four floats at once.
CUDA_12_0 = """\
#pragma once
#define CUDART_VERSION 12000
#define __device__
#define __global__
#define __shared__
#define __align__(n)
struct uint3 { unsigned x, y, z; };
static uint3 threadIdx, blockIdx, blockDim, gridDim;
struct float4 { float x, y, z, w; };
struct __half {};
struct __nv_bfloat16 {};
float __half2float(__half);
float __bfloat162float(__nv_bfloat16);
__half __float2half(float);
__nv_bfloat16 __float2bfloat16(float);
template <class T> T __ldg(const T*);
float atomicAdd(float*, float);
double atomicAdd(double*, double);
"""


@pytest.mark.parametrize("flags", [[], ["-D__CUDA_ARCH__=750"], ["-D__CUDA_ARCH__=900"]], ids=["host", "75", "90"])
def test_cuda_12_0_need_not_add_four_floats_at_once(tmp_path: Path, flags: list[str]) -> None:
    """Its headers declare that from 12.1 on, and the host's pass of nvcc sees what no architecture is set for."""
    for name in ("cuda_runtime.h", "cuda_fp16.h", "cuda_bf16.h"):
        (tmp_path / name).write_text(CUDA_12_0, encoding="utf-8")
    (tmp_path / "all.cpp").write_text('#include "common/memory.cuh"\n', encoding="utf-8")
    command = [build.cxx(), "-std=c++17", "-fsyntax-only", "-D__CUDACC__", *flags, f"-I{tmp_path}", f"-I{CSRC}"]
    done = subprocess.run([*command, str(tmp_path / "all.cpp")], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_nothing_is_compiled_twice(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = write_script(workshop / "bin" / "c++", COUNTING)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("DYHEAD_CUDA", "0")
    calls = workshop / "bin" / "calls"
    assert "error" not in build.build_all()["emulated"]
    first = len(calls.read_text(encoding="utf-8").split())
    sources = len(build.KERNELS) + len(build.BINDING)
    assert first == 2 * sources + 2 + 2  # both builds, races and recorder, two links
    assert "error" not in build.build_all()["emulated"]
    assert len(calls.read_text(encoding="utf-8").split()) == first
    next((workshop / "objects").glob("binding_library_*.o")).unlink()
    build.build_all()
    # What came out is the same, so nothing is linked.
    assert len(calls.read_text(encoding="utf-8").split()) == first + 1


def test_asking_for_cuda_in_vain_fails(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = write_script(workshop / "bin" / "c++", COUNTING)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("DYHEAD_CUDA", "1")

    def nowhere() -> Path:
        raise build.CannotBuild("nvcc was not found", "Install the CUDA toolkit")

    monkeypatch.setattr(build, "find_toolkit", nowhere)
    with pytest.raises(SystemExit, match="DYHEAD_CUDA=1, but: nvcc was not found\nInstall the CUDA toolkit"):
        build.build_all()
    monkeypatch.setenv("DYHEAD_CUDA", "yes")
    with pytest.raises(SystemExit, match="must be auto, 0 or 1, not 'yes'"):
        build.build_all()


def test_the_toolkit_is_found_behind_a_wrapper_script(workshop: Path) -> None:
    toolkit = workshop / "toolkit"
    real = write_script(toolkit / "bin" / "nvcc", f"echo '#$ TOP={toolkit}/bin/..' >&2")
    write_script(workshop / "bin" / "nvcc", f'exec {real} "$@"')
    assert build.find_toolkit() == toolkit


def test_cuda_home_decides(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_script(workshop / "chosen" / "bin" / "nvcc", "exit 0")
    monkeypatch.setenv("CUDA_HOME", str(workshop / "chosen"))
    assert build.find_toolkit() == workshop / "chosen"


def test_only_architectures_that_nvcc_knows(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_script(workshop / "toolkit" / "bin" / "nvcc", "echo compute_75; echo compute_86; echo compute_90")
    names = build.architecture_names(workshop / "toolkit")
    assert names == ["sm_75", "sm_90", "compute_90"]
    assert build.architecture_flags(names) == [
        "-gencode=arch=compute_75,code=sm_75",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    ]
    monkeypatch.setenv("DYHEAD_CUDA_ARCHS", "8.6")
    assert build.architecture_names(workshop / "toolkit") == ["sm_86", "compute_86"]
    monkeypatch.setenv("DYHEAD_CUDA_ARCHS", "90,100")
    with pytest.raises(build.CannotBuild, match="does not know architecture 100"):
        build.architecture_names(workshop / "toolkit")


@pytest.mark.parametrize("newer", [(8, 9), (10, 3), (11, 0), (12, 1), (13, 0)])
def test_a_newer_gpu_finds_code_with_tensor_cores(workshop: Path, newer: tuple[int, int]) -> None:
    """Also those that no listed architecture's machine code fits, such as 11.0, which is newer than 10.0 only."""
    write_script(workshop / "toolkit" / "bin" / "nvcc", "\n".join(f"echo compute_{a}" for a in build.ARCHITECTURES))
    names = build.architecture_names(workshop / "toolkit")
    assert runs_on(newer, names)
    assert not any(runs_on((8, 0), [name]) for name in names if name.endswith("75"))


def test_what_a_library_holds_is_written_beside_it(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", str(write_script(workshop / "bin" / "c++", COUNTING)))
    monkeypatch.setenv("CUDA_HOME", str(workshop / "toolkit"))
    monkeypatch.setenv("DYHEAD_CUDA", "1")
    write_script(workshop / "toolkit" / "bin" / "nvcc", f"echo compute_90\n{COUNTING}")
    (workshop / "torch" / "lib").mkdir(parents=True)
    (workshop / "torch" / "lib" / "libtorch_cuda.so").touch()
    monkeypatch.setattr(build, "torch_folder", lambda: workshop / "torch")
    assert native.architectures() == []
    build.build_all()
    assert native.architectures() == ["sm_90", "compute_90"]
    monkeypatch.setenv("DYHEAD_CUDA", "0")
    build.build_all()
    assert native.architectures() == []


def test_a_machine_without_a_gpu_compiles_for_one_only_if_asked(
    workshop: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build, "has_nvidia_gpu", lambda: False)
    with pytest.raises(build.CannotBuild, match="this machine has no NVIDIA GPU") as told:
        build.plan_cuda()
    assert told.value.remedy == "Run: export DYHEAD_CUDA=1 && make native"
    write_script(workshop / "toolkit" / "bin" / "nvcc", "echo compute_90")
    monkeypatch.setenv("CUDA_HOME", str(workshop / "toolkit"))
    monkeypatch.setenv("DYHEAD_CUDA", "1")
    (workshop / "torch" / "lib").mkdir(parents=True)
    (workshop / "torch" / "lib" / "libtorch_cuda.so").touch()
    monkeypatch.setattr(build, "torch_folder", lambda: workshop / "torch")
    assert len(build.plan_cuda().compiles) == len(build.KERNELS) + len(build.BINDING)
    monkeypatch.delenv("DYHEAD_CUDA")
    monkeypatch.setattr(build, "has_nvidia_gpu", lambda: True)
    assert build.plan_cuda().name == "cuda"


def test_progress_names_every_file_that_is_compiled(
    workshop: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CXX", str(write_script(workshop / "bin" / "c++", COUNTING)))
    monkeypatch.setenv("DYHEAD_CUDA", "0")
    build.build_all()
    total = 2 * (len(build.KERNELS) + len(build.BINDING)) + 2  # both builds, races and recorder
    told = capsys.readouterr().err
    assert f"[native] {total} files to compile" in told and f"[native] {total} of {total}: " in told
    assert all(f"{path.parent.name}/{path.name} by c++" in told for path in [*build.KERNELS, *build.BINDING])
    build.build_all()
    assert "to compile" not in capsys.readouterr().err


@pytest.fixture(scope="module")
def cuda_plan() -> Any:
    """What would be compiled for a GPU, on this machine, with or without one."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DYHEAD_CUDA", "1")
        try:
            return build.plan_cuda()
        except build.CannotBuild as error:
            pytest.skip(str(error))


@pytest.mark.parametrize("source", [*build.KERNELS, *build.BINDING], ids=lambda path: f"{path.parent.name}/{path.name}")
def test_cuda_compilers_take_every_source(cuda_plan: Any, source: Path, tmp_path: Path) -> None:
    """Intermediate code for the oldest and the newest way through the sources: machine code takes minutes."""
    [command] = [command for path, command in cuda_plan.compiles if path == source]
    plain = [word for word in command if not word.startswith("-gencode=")]
    ways = [["--ptx", "-arch=compute_75"], ["--ptx", "-arch=compute_90"]] if source.suffix == ".cu" else [["-c"]]
    for way in ways:
        done = subprocess.run(
            [*plain, *way, str(source), "-o", str(tmp_path / "out")], capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


def test_the_gpu_library_was_built_or_says_why_not() -> None:
    """The whole library, machine code for all architectures, is made where there is a GPU or DYHEAD_CUDA=1 asks for it.

    ``test_cuda_compilers_take_every_source`` holds elsewhere that nvcc takes the sources.
    """
    status = json.loads((native.FOLDER / "status.json").read_text(encoding="utf-8"))["cuda"]
    if "error" in status:
        assert status["remedy"], status["error"]
        assert not status["error"].startswith("the compiler failed"), status["error"]
        pytest.skip(status["error"])
    assert native.built("cuda")
