"""One training at a time in a run folder: two would write over each other's checkpoints and mix their logs."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ..errors import UserError
from ..platforms import try_lock
from .checkpoint import writing

LOCK = ".lock"


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """A block in which no other process trains in this run folder.

    The system takes the lock away with the process, however that ends; the file stays. Where a file system has no
    locks, the block runs without one.

    Raises:
        UserError: another process trains there, or the folder cannot be written.
    """
    with writing(folder):
        folder.mkdir(parents=True, exist_ok=True)
        file = open(folder / LOCK, "a+", encoding="utf-8")
    with file:
        if not try_lock(file.fileno()):
            file.seek(0)
            who = file.read().strip() or "another process"
            raise UserError(
                f"{folder}: {who} is training in this folder; wait for it, stop it, or choose another --out "
                "(out=... in Python)"
            )
        with writing(folder):
            file.truncate(0)
            file.write(f"process {os.getpid()} on {platform.node()}\n")
            file.flush()
        yield
