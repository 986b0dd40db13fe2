"""Compiles a kernel's text for the emulator, and keeps the program for the next time.

Programs are kept in the user's cache folder under a hash of everything that went in. Nothing is run from there that
another user could have put there: the folder and the program must belong to this user and be writable by nobody else.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ...paths import CSRC
from ...platforms import cache_home, has_elf, install, is_private
from .errors import KernelError, at_line
from .signature import Signature

#: ``-fsanitize=thread`` makes the compiler announce each access; only the announcements are used, not its library.
#: It optimises first, as a GPU's compiler does, but must not take wide words apart.
TEXT_FLAGS = ("-std=c++17", "-O1", "-fno-tree-sra", "-g1", "-gdwarf-4", "-fsanitize=thread")
#: A fiber is left by a jump that glibc's checked longjmp takes for an error.
PROGRAM_FLAGS = ("-std=c++17", "-O2", "-U_FORTIFY_SOURCE")
#: Fixed addresses, so that one of them names a line without further arithmetic.
LINK_FLAGS = ("-no-pie",)
EMULATOR = CSRC / "emulator"
SOURCE = "kernel.cu"
_SHOWN = 3  # mistakes; those behind them mostly follow from the first


def compiler() -> str | None:
    """The C++ compiler: ``$CXX``, else the system's, GNU's or Clang. None if there is none."""
    chosen = os.environ.get("CXX")
    names = (chosen,) if chosen else ("c++", "g++", "clang++")
    return next(filter(None, map(shutil.which, names)), None)


def why_missing() -> str | None:
    """Why no text can be compiled for the emulator here and what would mend it, or None if it can."""
    if not has_elf():
        return "Kernels that come as text run in the emulator on Linux only (under Windows, in WSL)."
    if compiler() is None:
        return f"There is no C++ compiler here. Run: {install('compiler')}"
    return None


def program(text: str, signature: Signature) -> Path:
    """The program that runs this kernel in the emulator; compiled now, or taken from the cache.

    Raises:
        KernelError: no compiler, or the text does not compile.
    """
    problem = why_missing()
    if problem:
        raise KernelError("machine", problem)
    whole = _whole_source(text, signature)
    path = cache_folder() / f"{_stamp(*TEXT_FLAGS, *LINK_FLAGS, whole)}.program"
    if not is_private(path):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            source, made = Path(folder, "whole.cpp"), Path(folder, "program")
            source.write_text(whole, encoding="utf-8")
            compiled = Path(folder, "whole.o")
            _run([*TEXT_FLAGS, f"-I{CSRC}", "-c", str(source), "-o", str(compiled)], text)
            _run([str(compiled), str(_surroundings()), *LINK_FLAGS, "-o", str(made)], text)
            made.replace(path)
    return path


def lines(path: Path, places: Sequence[int]) -> dict[int, int | None]:
    """The lines of the text at these places in a program's code; None where they cannot be found."""
    unknown: dict[int, int | None] = dict.fromkeys(places)
    tool = shutil.which("addr2line")
    if tool is None or not unknown:
        return unknown
    asked = [tool, "-e", str(path), *(f"{place:x}" for place in unknown)]
    answers = subprocess.run(asked, capture_output=True, text=True, check=False).stdout.splitlines()
    if len(answers) != len(unknown):
        return unknown
    found = [re.search(rf"{re.escape(SOURCE)}:(\d+)", answer) for answer in answers]
    return {place: int(match[1]) if match else None for place, match in zip(unknown, found, strict=True)}


def _whole_source(text: str, signature: Signature) -> str:
    """The text between what it needs and the function that calls it."""
    # `extern __shared__ T name[];` is the one spelling that plain C++ cannot be taught
    shared = r"extern\s+__shared__\s+(?:__align__\s*\(\d+\)\s*)?([\w ]+?)\s+(\w+)\s*\[\s*\]\s*;"
    body = re.sub(shared, r"\1* const \2 = reinterpret_cast<\1*>(emulator::dynamic_shared());", text)
    values = ", ".join(f"*({p.declaration}*)arguments[{n}]" for n, p in enumerate(signature.parameters))
    call = f'extern "C" void dyhead_call(void* const* arguments) {{ (void)arguments; {signature.name}({values}); }}'
    return f'#include "emulator/text.h"\n#line 1 "{SOURCE}"\n{body}\n#line 1 "launch"\n{call}\n'


def _surroundings() -> Path:
    """The part of every program that no text changes."""
    path = cache_folder() / f"{_stamp(*PROGRAM_FLAGS)}.surroundings"
    if not is_private(path):
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            made = Path(folder, "surroundings.o")
            source = EMULATOR / "text_main.cpp"
            _run([*PROGRAM_FLAGS, f"-I{CSRC}", "-c", str(source), "-o", str(made)], "")
            made.replace(path)
    return path


def _run(arguments: Sequence[str], text: str) -> None:
    """Run the compiler.

    Raises:
        KernelError: it fails; its first errors with their lines in ``text``.
    """
    command = [str(compiler()), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"}, errors="replace"
    )
    if done.returncode:
        raise _compile_error(done.stderr, text)


def _compile_error(output: str, text: str) -> KernelError:
    found = re.findall(rf"{re.escape(SOURCE)}:(\d+)(?::\d+)?: (?:fatal )?(?:error: )?(.*)", output)
    told: dict[int, str] = {}
    for line, message in found:
        if not re.match(r"warning|note|In ", message):
            told.setdefault(int(line), message.removeprefix("#error ").strip('"'))
    if not told:
        last = "\n".join(output.strip().splitlines()[-5:])
        return KernelError("machine", f"The compiler {compiler()} fails, and not because of the text:\n{last}")
    messages = [at_line(text, line, message) for line, message in list(told.items())[:_SHOWN]]
    return KernelError("compile", "\n".join(messages), next(iter(told)))


# What is kept


@functools.cache
def cache_folder() -> Path:
    """Where programs are kept: ``dyhead_lab/cuda_text`` in the user's cache folder.

    Where it cannot be written, or somebody else could write there: a folder of this process.
    """
    try:
        folder = cache_home() / "dyhead_lab" / "cuda_text"
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if is_private(folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    except (OSError, RuntimeError):  # a user without a home raises RuntimeError
        pass
    return Path(_folder_of_this_process().name)


@functools.cache
def _folder_of_this_process() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="dyhead_lab_")


def _stamp(*parts: str) -> str:
    """A hash of the parts, the compiler and the emulator."""
    digest = hashlib.sha256("\0".join((*parts, _compiler_version(str(compiler())))).encode())
    for source in sorted(EMULATOR.iterdir()):
        digest.update(source.read_bytes())
    return digest.hexdigest()[:32]


@functools.cache
def _compiler_version(path: str) -> str:
    return path + subprocess.run([path, "--version"], capture_output=True, text=True, check=False).stdout
