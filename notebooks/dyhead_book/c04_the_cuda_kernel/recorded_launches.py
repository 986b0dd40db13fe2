"""What the emulator printed when this chapter was made, for machines without a C++ compiler.

``python -m dyhead_book.record_launches 04`` runs the book's cells and records them anew.
"""

from __future__ import annotations

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
