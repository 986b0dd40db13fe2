"""Where numbers come from: command, machine, versions and the state of the source code."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from ..ops.bench.measure import machine
from ..paths import CHECKOUT


def provenance(device: str = "cpu") -> dict[str, Any]:
    """What a later reader must know to produce a number again, as plain values.

    Args:
        device: "cpu" or "cuda": which one computed.

    Returns:
        ``command`` as it was typed, ``machine`` (device, threads, date, versions) and ``git`` (see
        :func:`git_state`).
    """
    words = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {"command": shlex.join(words), "machine": machine(device), "git": git_state()}


def git_state(folder: Path | None = CHECKOUT) -> dict[str, Any] | None:
    """The commit of a checkout and whether tracked files differ from it. None outside of git.

    An installed package has none: a repository around it belongs to somebody else.
    """
    if folder is None:
        return None
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "changed": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.CalledProcessError):  # git is not installed, or this is no checkout
        return None


def _git(folder: Path, *arguments: str) -> str:
    command = ["git", "-C", str(folder), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
