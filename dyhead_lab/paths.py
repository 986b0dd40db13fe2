"""Where things lie: what the project ships, data sets, and what is kept for the reader.

In a checkout all but the last lie in the repository. An installed package carries what the project ships inside itself
(``setup.py`` puts it there), and nothing is ever added to it: data sets then go to the reader's folder. So they do in a
checkout that others share and the reader cannot write to.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from .errors import UserError
from .platforms import data_home

PACKAGE = Path(__file__).resolve().parent
_PACKED = PACKAGE / "shipped"  # only an installed package has it

#: The repository that this package runs from; None where it was installed.
CHECKOUT: Path | None = None if _PACKED.is_dir() else PACKAGE.parent

_SHIPPED = CHECKOUT or _PACKED
WEIGHTS = _SHIPPED / "data" / "weights"  # small trained models
SAMPLE = _SHIPPED / "data" / "sample"  # pictures, and the log of a training
CSRC = _SHIPPED / "csrc"  # sources of the native code
CHAPTERS = _SHIPPED / "notebooks"  # the executed chapters of the book


def reader_folder() -> Path:
    """What the book keeps for its reader, such as guesses: ``$DYHEAD_READER``, or where programs keep user data.

    Raises:
        UserError: this user has no home.
    """
    chosen = os.environ.get("DYHEAD_READER")
    if chosen:
        return Path(chosen)
    try:
        return data_home() / "dyhead_lab"
    except RuntimeError as error:
        raise UserError("this user has no home: name a folder with the environment variable DYHEAD_READER") from error


def data_folder(name: str = "") -> Path:
    """Where the data set of this name lies, or is drawn or downloaded to; without a name, where all of them do.

    ``$DYHEAD_DATA``, else the folder ``data`` of the checkout if the set is there or can be put there, else one in the
    reader's folder.
    """
    chosen = os.environ.get("DYHEAD_DATA")
    if chosen:
        return Path(chosen) / name
    if CHECKOUT:
        shared = CHECKOUT / "data" / name
        if (name and shared.exists()) or can_write(shared):
            return shared
    return reader_folder() / "data" / name


def coco_path() -> Path:
    """Where recipes look for COCO 2017."""
    return data_folder("coco2017")


def can_write(folder: Path) -> bool:
    """Whether files can be put into this folder, which is made if it is not there yet."""
    return not why_not_written(folder)


def why_not_written(folder: Path) -> str:
    """Why no files can be put into this folder, which is made if it is not there yet; "" where they can."""
    nearest = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not nearest.is_dir():
        return os.strerror(errno.ENOTDIR)
    return "" if os.access(nearest, os.W_OK | os.X_OK) else f"{nearest} can only be read"


def legible(text: str) -> str:
    """A text that can be written: "?" in place of what is not UTF-8 in the name of a file, as in old archives."""
    return text.encode("utf-8", errors="replace").decode("utf-8")


def find_weights(source: str | Path) -> Path | None:
    """The weights file that is meant by a file, a run folder, or the name of weights that the project ships.

    None if there is none. It answers without importing torch.
    """
    candidates = (Path(source), Path(source) / "weights.pt", WEIGHTS / f"{source}.pt")
    return next((path for path in candidates if path.is_file()), None)
