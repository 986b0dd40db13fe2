"""An environment, ``.venv``: its Python, what lies in it, and what installs more. The standard library only.

Its syntax is old on purpose, see ``bootstrap.py``.
"""

import csv
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)
GB = 1e9


class SetupError(Exception):
    """The environment cannot be made; the message says why and what to do."""


def say(text):
    print("[setup] " + text, flush=True)


def call(command, environment=None):
    """Run ``command`` with its output shown; return its exit status."""
    return subprocess.call(command, env=environment)


def platforms():
    """The library's module for what differs by system. An old Python could not read it."""
    if str(ROOT) not in sys.path:
        sys.path.insert(0, str(ROOT))
    import dyhead_lab.platforms

    return dyhead_lab.platforms


def venv_version(venv):
    """(major, minor) of the Python in ``venv`` if it runs and something can install packages there, else None."""
    probe = "import sys; print(*sys.version_info[:2])"
    if not has_pip(venv) and not shutil.which("uv"):
        return None
    try:
        output = subprocess.check_output([venv_python(venv), "-c", probe], stderr=subprocess.DEVNULL)
    except (OSError, subprocess.CalledProcessError):
        return None
    version = tuple(int(part) for part in output.split())
    return version if version >= OLDEST_PYTHON else None


def venv_python(venv):
    return str(platforms().python_of(venv))


def has_pip(venv):
    """False in an environment that uv made."""
    return any((folder / "pip").is_dir() for folder in site_packages(venv))


def site_packages(venv):
    """The folders of ``venv`` that hold packages: on Linux and macOS, on Windows."""
    return [*venv.glob("lib/python*/site-packages"), *venv.glob("Lib/site-packages")]


def installer(venv, needs_uv=False):
    """The beginning of a command that installs packages into ``venv``: pip's, or uv's where that is needed.

    An environment that uv made has no pip. Where uv is not on this machine, pip brings it into the environment.
    """
    uv = shutil.which("uv")
    pip = [venv_python(venv), "-m", "pip", "install", "--disable-pip-version-check"]
    if has_pip(venv) and not needs_uv:
        return pip
    if not uv:
        say("installing uv, which knows where builds of torch for the CPU lie")
        if call([*pip, "--quiet", "uv"]) != 0:
            raise SetupError("uv could not be installed; pip's message stands above. --torch-index does without it")
        uv = str(platforms().programs_folder(venv) / "uv")
    return [uv, "pip", "install", "--python", venv_python(venv)]


def is_uv(command):
    """Whether a command that ``installer`` began is one of uv."""
    return command[1] == "pip"


def drop_half_installed(venv):
    """Make pip forget packages of which a listed file is missing or has the wrong size; return their names.

    A pip that was killed while it copied files can leave a package that looks installed. Without its
    ``.dist-info`` folder pip installs it again, over the files that are there.
    """
    dropped = []
    for info in sorted(info for folder in site_packages(venv) for info in folder.glob("*.dist-info")):
        if not is_complete(info):
            shutil.rmtree(str(info))
            dropped.append(info.name[: -len(".dist-info")])
    return dropped


def is_complete(info):
    """True if every file in the RECORD of a ``.dist-info`` folder is there with its size."""
    try:
        with open(str(info / "RECORD"), newline="", encoding="utf-8") as file:
            rows = [row for row in csv.reader(file) if row and not row[0].endswith(".pyc")]
    except OSError:
        return False
    for path, _, size in rows:
        file_path = os.path.join(str(info.parent), path)
        if not os.path.isfile(file_path) or (size and os.path.getsize(file_path) != int(size)):
            return False
    return True


def size_gb(folder):
    """GB in all files below ``folder``."""
    return bytes_below(folder) / GB


def bytes_below(folder):
    """Bytes in all files below ``folder``."""
    return sum(os.lstat(os.path.join(path, name)).st_size for path, _, names in os.walk(str(folder)) for name in names)


def check_disk(venv, sizes_gb, missing_gb, freed_gb=0.0):
    """Refuse to begin what cannot end. Returns True if pip's cache has room as well.

    pip keeps all wheels until it has unpacked them, so at the end both lie on the disk.

    Args:
        venv: the folder that grows.
        sizes_gb: of the whole environment, and of its wheels.
        missing_gb: what it does not hold yet.
        freed_gb: what is deleted before anything is installed.
    """
    environment_gb, wheels_gb = sizes_gb
    wheels_gb *= missing_gb / environment_gb
    needed_gb = missing_gb + wheels_gb
    free_gb = shutil.disk_usage(str(venv.parent)).free / GB + freed_gb
    if free_gb < needed_gb:
        raise SetupError(
            f"the disk is short: {venv.parent} has {free_gb:.1f} GB free. The finished environment takes "
            f"{environment_gb:.0f} GB, and installing it takes {needed_gb:.1f} GB for a while. "
            "Free some space and run the same command again."
        )
    return free_gb > needed_gb + wheels_gb


@contextmanager
def temporary_folder(folder):
    """An empty folder for the wheels that pip unpacks: ``/tmp`` is often small, and a killed pip leaves GBs behind."""
    shutil.rmtree(str(folder), ignore_errors=True)
    folder.mkdir()
    try:
        yield folder
    finally:
        shutil.rmtree(str(folder), ignore_errors=True)
