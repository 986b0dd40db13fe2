"""Where things lie: the project's data beside the package, in the repository; the reader's own in the home folder."""

import os
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
DATA = REPOSITORY / "data"
WEIGHTS = DATA / "weights"  # shipped with the project
COCO = DATA / "coco2017"  # where recipes look for COCO, once it is downloaded


def reader_folder() -> Path:
    """What the book keeps for its reader, such as guesses: ``$DYHEAD_READER``, or where programs keep user data."""
    chosen = os.environ.get("DYHEAD_READER")
    if chosen:
        return Path(chosen)
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local" / "share") / "dyhead_lab"
