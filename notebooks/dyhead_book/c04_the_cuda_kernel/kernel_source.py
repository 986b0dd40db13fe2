"""The library's kernels, to read."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dyhead_lab.paths import CSRC

SIMPLE = CSRC / "deform_conv" / "simple.cuh"


@dataclass(frozen=True)
class Listing:
    """Source code that shows itself as such in a notebook."""

    code: str
    language: str = "cpp"

    def _repr_markdown_(self) -> str:
        return f"```{self.language}\n{self.code}\n```"

    def __repr__(self) -> str:
        return self.code


def kernel_source(name: str) -> Listing:
    """The kernel ``name`` of csrc/deform_conv/simple.cuh, with the sentence that says what a thread does."""
    found = re.search(
        rf"(///[^\n]*\n)+template[^\n]*\n__global__ void {name}\(.*?\n}}", SIMPLE.read_text(encoding="utf-8"), re.DOTALL
    )
    if found is None:
        raise ValueError(f"name: {SIMPLE.name} has no kernel {name!r}")
    return Listing(found.group())
