"""What the emulator printed when this chapter was made, for machines without a C++ compiler.

``python -m dyhead_book.c04_the_cuda_kernel.recorded_launches`` runs the book's cells and records them anew.
"""

from __future__ import annotations

import contextlib
import io
from pathlib import Path

from dyhead_lab.ops.cuda_text import recording, why_no_emulator

FILE = Path(__file__).parent / "launches.json"


def replayed() -> str:
    """Make the recorded launches known; say how kernels run here."""
    problem = why_no_emulator()
    if problem is None:
        return "A C++ compiler is here: the kernels of this chapter are compiled and run in the emulator."
    recording.replay(FILE)
    return (
        f"{problem}\nUntil then this chapter shows what the emulator printed when the book was made. What you write "
        "yourself cannot be compiled."
    )


def main() -> None:
    from dyhead_book.build import read_source
    from dyhead_book.editions import book_edition

    book = book_edition(read_source(Path(__file__).parent / "chapter.py"))
    scope: dict[str, object] = {"__name__": "__main__"}
    with recording.recorded(FILE, largest=100_000), contextlib.redirect_stdout(io.StringIO()):
        for cell in book.cells:
            if cell.cell_type == "code" and "check_rebuilt(" not in cell.source:  # a whole detector is too large
                exec(compile(cell.source, "<chapter>", "exec"), scope)


if __name__ == "__main__":
    main()
