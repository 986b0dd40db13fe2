"""The map of the book: paths through it, what each chapter takes, and what the reader has solved."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from IPython.display import Markdown

from ..practice.answers import BOOK, exercises_of, progress

#: Name of a path -> numbers of its chapters, in the order to read them.
PATHS: dict[str, tuple[str, ...]] = {
    "Dynamic Head": ("01", "02", "03", "05", "06", "07", "08", "15", "17"),
    "Deformable attention and Sparse DETR": ("01", "03", "09", "10", "11", "12", "14"),
    "Kernels": ("03", "04", "10", "16"),
    "At the end of each path": ("13", "22"),
    "To look things up": ("18", "19", "20", "21"),
}


@dataclass(frozen=True)
class Stop:
    """A chapter on a path, as its own first cell describes it.

    Attributes:
        source: its folder holds ``chapter.py``.
    """

    source: Path

    @property
    def name(self) -> str:
        """Number and name: "02_scale_aware"."""
        return self.source.parent.name.removeprefix("c")

    @cached_property
    def _text(self) -> str:
        return self.source.read_text(encoding="utf-8")

    @property
    def title(self) -> str:
        found = re.search(r"^# # (.+)$", self._text, re.MULTILINE)
        return found[1] if found else self.name

    def says(self, row: str) -> str:
        """A row of the chapter's cost card, such as "Needs"; "" where there is none."""
        found = re.search(rf"^# \| {row} \| (.+?) \|$", self._text, re.MULTILINE)
        return found[1] if found else ""

    @property
    def minutes(self) -> tuple[int, int]:
        """From and to, with the exercises; (0, 0) for what is there to look things up."""
        found = re.match(r"(\d+)(?: to (\d+))? (minutes|hours?)", self.says("Time"))
        if not found:
            return 0, 0
        unit = 1 if found[3] == "minutes" else 60
        return unit * int(found[1]), unit * int(found[2] or found[1])

    def row(self, solved: Mapping[str, Sequence[str]]) -> str:
        known = exercises_of(self.name)
        right = len(set(known) & set(solved.get(self.name, ())))
        links = f"[{self.title}]({self.name}.ipynb)"
        if known:
            links += f", [workbook](workbook/{self.name}.ipynb)"
        state = f"{right} of {len(known)}{' ✓' if right == len(known) else ''}" if known else ""
        return f"| {self.name[:2]} | {links} | {_span(*self.minutes)} | {self.says('Needs')} | {state} |"


def stops() -> list[Stop]:
    """All chapters but this one."""
    return [Stop(path) for path in sorted(BOOK.glob("c[0-9][0-9]_*/chapter.py")) if "c00_" not in str(path)]


def reading_paths() -> Markdown:
    """All paths as tables, with what the reader has solved so far."""
    return Markdown("\n".join(_lines(progress())))


def _lines(solved: Mapping[str, Sequence[str]]) -> Iterator[str]:
    by_number = {stop.name[:2]: stop for stop in stops()}
    for path, numbers in PATHS.items():
        chapters = [by_number[number] for number in numbers if number in by_number]
        low, high = (sum(stop.minutes[end] for stop in chapters) for end in (0, 1))
        hours = f": {_span(round(low / 60), round(high / 60))} hours" if low >= 60 else ""
        yield f"**{path}**{hours}\n"
        yield "| | chapter | minutes | needs | solved |\n| --- | --- | --- | --- | --- |"
        yield from (stop.row(solved) for stop in chapters)
        yield ""


def _span(low: int, high: int) -> str:
    return "" if not low else str(low) if low == high else f"{low} to {high}"
