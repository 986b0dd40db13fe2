"""The library's kernels, to read."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass

from dyhead_lab.paths import CSRC

WIDEST = 88  # characters of a line that JupyterLab shows unbroken as a listing, in a window of 1280 pixels
SIMPLE = CSRC / "deform_conv" / "simple.cuh"


@dataclass(frozen=True)
class Listing:
    """Source code that shows itself as such in a notebook."""

    code: str
    language: str = "cpp"

    def _repr_markdown_(self) -> str:
        lines = "\n".join(_broken(line) for line in self.code.splitlines())
        return f"```{self.language}\n{lines}\n```"

    def __repr__(self) -> str:
        return self.code


def _broken(line: str) -> str:
    """A long line of code or comment on several lines."""
    indent = "/// " if line.startswith("/// ") else " " * (len(line) - len(line.lstrip()) + 4)
    return textwrap.fill(line, WIDEST, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def kernel_source(name: str) -> Listing:
    """The kernel ``name`` of csrc/deform_conv/simple.cuh, with the sentence that says what a thread does."""
    found = re.search(
        rf"(///[^\n]*\n)+template[^\n]*\n__global__ void {name}\(.*?\n}}", SIMPLE.read_text(encoding="utf-8"), re.DOTALL
    )
    if found is None:
        raise ValueError(f"name: {SIMPLE.name} has no kernel {name!r}")
    return Listing(found.group())
