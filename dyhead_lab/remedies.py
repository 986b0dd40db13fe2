"""The commands that mend an installation: the set-up's in a checkout, ``pip`` where the package was installed."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

from . import __version__
from .paths import CHECKOUT

NAME = "dyhead-lab"
SETUPTOOLS = "setuptools>=80"  # pyproject.toml says so of the build
SDIST = f"dyhead_lab-{__version__}.tar.gz"


def pip(arguments: str) -> str:
    """``pip install`` of the Python that runs; uv's, where an environment of uv has no pip."""
    if importlib.util.find_spec("pip") is None:
        return f"uv pip install --python {sys.executable} {arguments}"
    return f"{sys.executable} -m pip install {arguments}"


def setup(command: str, python: str = "") -> str:
    """A command of this checkout's set-up. Make passes it on, where there is make.

    Args:
        command: "lab", "native" or "repair".
        python: the Python to do it with, such as "python3.12"; the usual one if not given.
    """
    if shutil.which("make"):
        return f"make {command}" + (f" PYTHON={python}" if python else "")
    return f"{python or 'python'} {Path('scripts', 'bootstrap.py')} {command}"


def repair(*packages: str) -> str:
    """Install packages anew, at versions that belong together."""
    return setup("repair") if CHECKOUT else pip(f"--force-reinstall {' '.join(packages)}")


def another_python() -> str:
    """Set everything up with a Python that the project accepts."""
    return setup("lab", "python3.12") if CHECKOUT else f"python3.12 -m pip install {origin()}"


def restore(path: str) -> str:
    """Bring back a file of this project. ``path`` is as seen from the repository."""
    return f"git checkout HEAD -- {path}" if CHECKOUT else pip(f"--force-reinstall --no-deps {origin()}")


def rebuild() -> str:
    """Compile the native code. A wheel cannot do that; the sdist can, with the torch that is there."""
    if CHECKOUT:
        return setup("native")
    source = SDIST if origin().endswith(".whl") or origin() == NAME else origin()
    return f"{pip(repr(SETUPTOOLS))} && {pip(f'--force-reinstall --no-deps --no-build-isolation {source}')}"


def origin() -> str:
    """What pip installed this project from: a file, a folder or a repository; its name if pip kept no address.

    Source: PyPA specifications, "Recording the Direct URL Origin of installed distributions".
    """
    try:
        recorded = json.loads(distribution(NAME).read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        recorded = {}
    url = recorded.get("url", NAME)
    version_control = recorded.get("vcs_info")
    return f"{version_control['vcs']}+{url}@{version_control['commit_id']}" if version_control else url
