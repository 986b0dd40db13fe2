"""csrc/build.py: it finds the tools, tells why something cannot be built, and compiles nothing twice."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path

import pytest

from dyhead_lab.ops import native

CSRC = Path(__file__).parents[2] / "csrc"
sys.path.insert(0, str(CSRC))
build = importlib.import_module("build")
sys.path.remove(str(CSRC))


def write_script(path: Path, body: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
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
    assert json.loads((workshop / "lib" / "status.json").read_text()) == status
    assert native.why_missing("emulated") == (
        "They were not built: no C++ compiler was found\nRun: sudo apt-get install g++ && make native"
    )
    with pytest.raises(RuntimeError, match="The emulator's debug build is missing"):
        native.debug_operators()


def test_a_failed_compilation_is_told_with_its_last_lines(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = write_script(workshop / "bin" / "c++", "seq 100; echo 'types.h:1: error: no such thing' >&2; exit 1")
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("DYHEAD_CUDA", "0")
    status = build.build_all()
    lines = status["emulated"]["error"].splitlines()
    assert lines[-1] == "types.h:1: error: no such thing" and len(lines) == build.ERROR_LINES + 1
    assert "make native" in status["emulated"]["remedy"]
    assert "DYHEAD_CUDA=0" in status["cuda"]["error"]


def test_nothing_is_compiled_twice(workshop: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiler = write_script(workshop / "bin" / "c++", COUNTING)
    monkeypatch.setenv("CXX", str(compiler))
    monkeypatch.setenv("DYHEAD_CUDA", "0")
    calls = workshop / "bin" / "calls"
    assert "error" not in build.build_all()["emulated"]
    first = len(calls.read_text().split())
    sources = len(build.KERNELS) + len(build.BINDING)
    assert first == 2 * sources + 1 + 2  # both builds, the recorder, two links
    assert "error" not in build.build_all()["emulated"]
    assert len(calls.read_text().split()) == first
    next((workshop / "objects").glob("binding_library_*.o")).unlink()
    build.build_all()
    assert len(calls.read_text().split()) == first + 1  # what came out is the same, so nothing is linked


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
    flags = build.architecture_flags(workshop / "toolkit")
    assert flags == [
        "-gencode=arch=compute_75,code=sm_75",
        "-gencode=arch=compute_90,code=sm_90",
        "-gencode=arch=compute_90,code=compute_90",
    ]
    monkeypatch.setenv("DYHEAD_CUDA_ARCHS", "8.6")
    assert build.architecture_flags(workshop / "toolkit")[0] == "-gencode=arch=compute_86,code=sm_86"
    monkeypatch.setenv("DYHEAD_CUDA_ARCHS", "90,100")
    with pytest.raises(build.CannotBuild, match="does not know architecture 100"):
        build.architecture_flags(workshop / "toolkit")
