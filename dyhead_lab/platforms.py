"""What differs between Linux, macOS and Windows, and between a whole machine and the share of it that a container gets.

Functions that only some systems have are called here and nowhere else in the library. Needs nothing but Python itself:
the set-up uses it before anything is installed.
"""

from __future__ import annotations

import ctypes
import errno
import math
import os
import platform
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

#: What to install a thing with. Names as of Debian and Ubuntu, Homebrew, and winget.
INSTALL = {
    "linux": {
        "compiler": "sudo apt-get install g++",
        "browser": "sudo apt-get install chromium",
        "driver": "sudo apt-get install nvidia-driver-{version}",
        "cuda": "sudo apt-get install cuda-toolkit-{version}",
    },
    "darwin": {"compiler": "xcode-select --install", "browser": "brew install --cask chromium"},
    "win32": {
        "compiler": "wsl --install",
        "browser": "winget install Hibbiki.Chromium",
        "driver": "install NVIDIA's driver {version} or newer",
        "cuda": "wsl --install",
    },
}


def install(thing: str, version: str | int = "") -> str:
    """The command that installs a thing outside of Python; empty where this system has none.

    Args:
        thing: a name in :data:`INSTALL`.
        version: of it, where the name of the package tells it.
    """
    return INSTALL.get(sys.platform, INSTALL["linux"]).get(thing, "").format(version=version)


# Files and folders


def library_file(name: str) -> str:
    """The file of a shared library: ``libNAME.so``, ``libNAME.dylib`` or ``NAME.dll``."""
    kinds = {"darwin": "lib{}.dylib", "win32": "{}.dll"}
    return kinds.get(sys.platform, "lib{}.so").format(name)


def toolkit_libraries(name: str) -> str:
    """How the files of a library of NVIDIA's toolkit are called, as a pattern: its version stands in the name."""
    return f"{name}64_*.dll" if sys.platform == "win32" else f"lib{name}.so*"


def has_elf() -> bool:
    """True where programs are files in ELF, whose linker can set a section of memory apart by its name."""
    return sys.platform not in ("darwin", "win32")


def has_ucontext() -> bool:
    """True where a program can lay out a second stack by POSIX's ``makecontext``, as the emulator's fibers do."""
    return sys.platform != "win32"


def programs_folder(environment: Path) -> Path:
    """Where a virtual environment keeps its programs."""
    return environment / ("Scripts" if sys.platform == "win32" else "bin")


def python_of(environment: Path) -> Path:
    """The Python of a virtual environment."""
    return programs_folder(environment) / ("python.exe" if sys.platform == "win32" else "python")


def data_home() -> Path:
    """Where programs keep data of their user."""
    return _chosen("XDG_DATA_HOME") or (_local_app_data() or Path.home() / ".local" / "share")


def cache_home() -> Path:
    """Where programs keep what they can make again."""
    plain = Path.home() / ("Library/Caches" if sys.platform == "darwin" else ".cache")
    return _chosen("XDG_CACHE_HOME") or (_local_app_data() or plain)


def _chosen(variable: str) -> Path | None:
    value = os.environ.get(variable)
    return Path(value) if value else None


def _local_app_data() -> Path | None:
    return _chosen("LOCALAPPDATA") if sys.platform == "win32" else None


def is_private(path: Path) -> bool:
    """True if this file or folder is there, belongs to this user, and nobody else can change it.

    Windows keeps rights in other ways, and gives each user folders that others cannot write to: there it is enough
    that the path is no link.
    """
    try:
        found = path.lstat()
    except OSError:
        return False
    if not (stat.S_ISREG(found.st_mode) or stat.S_ISDIR(found.st_mode)):
        return False
    if not hasattr(os, "getuid"):
        return True
    return found.st_uid == os.getuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def is_root() -> bool:
    """True for the user who may do everything, as in most containers."""
    return hasattr(os, "geteuid") and os.geteuid() == 0


# Processes


def try_lock(file: int) -> bool:
    """Lock an open file, given by its descriptor, for this process alone, until it closes the file or ends.

    Returns:
        whether it is ours now; True, too, where the file system has no locks.
    """
    try:
        if sys.platform == "win32":
            import msvcrt

            os.lseek(file, 2**30, os.SEEK_SET)  # far behind what others may want to read
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)  # processes that are forked do not inherit this kind
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN)
    return True


def after_fork(call: Callable[[], None]) -> None:
    """Let a process that was forked off begin with ``call``. Windows has no fork."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=call)


def peak_resident() -> int:
    """The most bytes of memory that this process has held so far."""
    if sys.platform == "win32":
        import psutil

        return psutil.Process().memory_info().peak_wset
    import resource

    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return held if sys.platform == "darwin" else held * 1024  # Linux counts in KiB, macOS in bytes


# Shares of a machine


def processors(root: Path = Path("/")) -> int:
    """How many processors this process may use, at least 1.

    That is the least of what the machine has, what the process is bound to, and the time that its control groups give
    it, as containers and batch systems set it.

    Args:
        root: of the file system.
    """
    return max(1, min([bound_processors(), *(math.ceil(share) for share in _processor_shares(root))]))


def bound_processors() -> int:
    """How many processors this process is bound to; those of the machine, where a system binds none."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_limit(root: Path = Path("/")) -> int | None:
    """The bytes that this process and its neighbours in a container may use together; None where nothing limits them.

    Args:
        root: of the file system.
    """
    limits = [
        int(text)
        for name, controller in (("memory.max", ""), ("memory.limit_in_bytes", "memory"))
        for text in _settings(name, controller, root)
        if text.isdecimal()
    ]
    real = [limit for limit in limits if limit < 1 << 60]  # version 1 says "none" by a number near 2**63
    return min(real, default=None)


def shared_memory(folder: Path = Path("/dev/shm")) -> int | None:
    """The bytes that processes may share; None where no folder holds them, as on macOS and Windows."""
    try:
        return shutil.disk_usage(folder).total
    except OSError:
        return None


def _processor_shares(root: Path) -> Iterator[float]:
    """Processors that control groups give, such as 1.5.

    Source: the Linux kernel's documentation, "Control Group v2" (cpu.max) and "CFS Bandwidth Control" (version 1).
    """
    for text in _settings("cpu.max", "", root):
        quota, _, period = text.partition(" ")
        if quota.isdecimal() and period.isdecimal():
            yield int(quota) / int(period)
    quotas = _settings("cpu.cfs_quota_us", "cpu", root)
    for text, period in zip(quotas, _settings("cpu.cfs_period_us", "cpu", root), strict=False):
        if text.isdecimal() and period.isdecimal():  # -1 means none
            yield int(text) / int(period)


def _settings(name: str, controller: str, root: Path) -> list[str]:
    """A setting of this process's control group and of all groups above it.

    Args:
        name: of the file.
        controller: of version 1 of control groups; empty for version 2.
        root: of the file system.
    """
    found = []
    for folder in _control_groups(controller, root):
        try:
            found.append((folder / name).read_text(encoding="ascii").strip())
        except (OSError, ValueError):
            continue
    return found


def _control_groups(controller: str, root: Path) -> list[Path]:
    """The folders of this process's control group and of those above it, the nearest first."""
    try:
        lines = (root / "proc/self/cgroup").read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError):
        return []
    base = root / "sys/fs/cgroup" / controller
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controller in controllers.split(","):  # version 2 has one line, with nothing between the colons
            own = base / path.strip("/")
            return [own, *(folder for folder in own.parents if folder == base or base in folder.parents)]
    return []


# Hardware


def processor_name(root: Path = Path("/")) -> str:
    """The processor's name. ``platform.processor`` is empty on most Linux systems, and vague elsewhere."""
    if sys.platform == "darwin":
        asked = subprocess.run(
            ["sysctl", "-n", "machdep.cpu.brand_string"], capture_output=True, text=True, check=False
        )
        return asked.stdout.strip() or platform.machine()
    try:
        lines = (root / "proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cuda_driver() -> ctypes.CDLL:
    """NVIDIA's driver, as a library.

    Raises:
        OSError: it is not there.
    """
    return ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
