"""Where things lie: what the project ships, data sets, and what is kept for the reader.

In a checkout all but the last lie in the repository. An installed package carries what the project ships inside itself
(``setup.py`` puts it there), and nothing is ever added to it: data sets then go to the reader's folder.
"""

from __future__ import annotations

import os
from pathlib import Path

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
    """What the book keeps for its reader, such as guesses: ``$DYHEAD_READER``, or where programs keep user data."""
    chosen = os.environ.get("DYHEAD_READER")
    if chosen:
        return Path(chosen)
    return data_home() / "dyhead_lab"


def data_folder() -> Path:
    """Where data sets are drawn or downloaded to, and looked for.

    ``$DYHEAD_DATA``, else the folder ``data`` of the checkout, else one in the reader's folder.
    """
    chosen = os.environ.get("DYHEAD_DATA")
    if chosen:
        return Path(chosen)
    return CHECKOUT / "data" if CHECKOUT else reader_folder() / "data"


def coco_path() -> Path:
    """Where recipes look for COCO 2017."""
    return data_folder() / "coco2017"


def find_weights(source: str | Path) -> Path | None:
    """The weights file that is meant by a file, a run folder, or the name of weights that the project ships.

    None if there is none. It answers without importing torch.
    """
    candidates = (Path(source), Path(source) / "weights.pt", WEIGHTS / f"{source}.pt")
    return next((path for path in candidates if path.is_file()), None)
