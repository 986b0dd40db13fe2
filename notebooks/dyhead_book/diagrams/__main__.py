"""``python -m dyhead_book.diagrams``: write the diagrams of the book."""

from . import write_diagrams

print(f"{len(write_diagrams())} diagrams")
