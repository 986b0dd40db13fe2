"""Record what the emulator does in a chapter: ``launches.json`` beside it, for machines without a C++ compiler.

python -m dyhead_book.record_launches 04
"""

from __future__ import annotations

import contextlib
import io
import sys

from dyhead_lab.ops.cuda_text import recording

from .build import chapters, read_source
from .editions import book_edition

LARGEST = 100_000  # bytes of one launch; a chapter leaves larger ones out where nothing is compiled


def main() -> None:
    [source] = chapters(sys.argv[1:])
    scope: dict[str, object] = {"__name__": "__main__"}
    file = source.parent / "launches.json"
    with recording.recorded(file, largest=LARGEST), contextlib.redirect_stdout(io.StringIO()):
        for cell in book_edition(read_source(source)).cells:
            if cell.cell_type == "code" and "check_rebuilt(" not in cell.source:  # a whole detector is too large
                exec(compile(cell.source, "<chapter>", "exec"), scope)


if __name__ == "__main__":
    main()
