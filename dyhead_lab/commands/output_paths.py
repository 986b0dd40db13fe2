"""Where commands write: looked at before anything is computed, so that no work is lost on a name that is taken."""

from __future__ import annotations

import tempfile
from pathlib import Path

from ..errors import UserError


def output_folder(folder: Path) -> Path:
    """Make the folder of ``--out``, where it is not there yet, and try to write into it.

    Raises:
        UserError: that cannot be done; a file has this name or one of a folder above, or the folder is read-only.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):  # rights alone do not tell: root has all, on read-only disks too
            pass
    except OSError as error:
        file = next((path for path in (folder, *folder.parents) if path.is_file()), None)
        reason = f"{file} is a file" if file else error.strerror
        raise UserError(f"--out {folder}: expected a folder to write into, but {reason}") from error
    return folder


def output_file(file: Path) -> Path:
    """Make the folder above the file of ``--out``.

    Raises:
        UserError: that cannot be done, or what has this name is no file: a folder, or a device such as ``/dev/null``,
            which a file that is moved there would replace.
    """
    if file.exists() and not file.is_file():
        kind = "a folder" if file.is_dir() else "a device or a pipe"
        raise UserError(f"--out {file}: expected a file to write, but it is {kind}")
    output_folder(file.parent)
    return file
