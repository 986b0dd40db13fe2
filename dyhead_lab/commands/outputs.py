"""Where commands write: looked at before anything is computed, so that no work is lost on a name that is taken."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError


def output_folder(folder: Path) -> Path:
    """Make the folder of ``--out``, where it is not there yet.

    Raises:
        UserError: that cannot be done; above all, a file has this name or one of a folder above.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        file = next((path for path in (folder, *folder.parents) if path.is_file()), None)
        reason = f"{file} is a file" if file else error.strerror
        raise UserError(f"--out {folder}: expected a folder to write into, but {reason}") from error
    return folder


def output_file(file: Path) -> Path:
    """Make the folder above the file of ``--out``.

    Raises:
        UserError: that cannot be done, or a folder has this name.
    """
    if file.is_dir():
        raise UserError(f"--out {file}: expected a file to write, but it is a folder")
    output_folder(file.parent)
    return file
