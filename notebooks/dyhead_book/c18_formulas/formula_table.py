"""The formulas of the papers: each one once, with its letters, where it is built, its code and a number that proves it.

The table itself is ``formulas.toml`` beside this file.
"""

from __future__ import annotations

import inspect
import re
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ..practice.answers import BOOK

TABLE = Path(__file__).parent / "formulas.toml"

#: Largest relative difference between the library and the formula in loops. Both compute in float64 and add in other
#: orders, which costs about 1e-15 a term; the library rounds some constants to float32, hence not smaller.
TOLERANCE = 1e-6


@dataclass(frozen=True)
class Formula:
    """One formula.

    Attributes:
        name: what it is called.
        paper, equation: where it stands; an equation of "" has no number there.
        latex: the formula.
        letters: what its letters mean.
        code: "module:name" of what computes it in this library.
        proof: "module:name" of a function that gives (what the library computes, what the formula says).
        chapter: number of the chapter that it belongs to.
        built: the function or class that the cells of that chapter define for it; "" if they only speak of it.
    """

    name: str
    paper: str
    equation: str
    latex: str
    letters: str
    code: str
    proof: str
    chapter: str
    built: str

    def place(self) -> str:
        """Where the book builds it, as a link: "Built in [chapter 02](02_scale_aware.ipynb) as `f`"."""
        [folder] = BOOK.glob(f"c{self.chapter}_*")
        link = f"[chapter {self.chapter}]({folder.name.removeprefix('c')}.ipynb)"
        return f"Built in {link} as `{self.built}`" if self.built else f"Discussed in {link}"

    def line(self) -> str:
        """File and line of the code, such as ``dyhead_lab/attention/scale.py:84``."""
        found = _resolve(self.code)
        package = import_module(found.__module__.partition(".")[0])
        path = Path(inspect.getsourcefile(found)).relative_to(Path(package.__file__).parents[1])  # type: ignore[arg-type]
        return f"{path.as_posix()}:{inspect.getsourcelines(found)[1]}"

    def error(self) -> float:
        """Norm of the difference between the library and the formula over the norm of the formula."""
        computed, literal = (torch.as_tensor(value).detach().double() for value in _resolve(self.proof)())
        if computed.shape != literal.shape:
            raise ValueError(
                f"{self.name}: the library gives {tuple(computed.shape)}, the formula {tuple(literal.shape)}"
            )
        return float((computed - literal).norm() / literal.norm())


def read_formulas(path: Path = TABLE) -> list[Formula]:
    """All formulas, in the order of the table.

    Raises:
        ValueError: an entry lacks a field, or two entries are the same formula.
    """
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["formula"]
    formulas = []
    for entry in entries:
        try:
            formulas.append(Formula(**entry))
        except TypeError as error:
            raise ValueError(f"{path.name}, {entry.get('name', 'an entry without name')}: {error}") from None
    for field in ("name", "latex"):
        values = [getattr(formula, field) for formula in formulas]
        twice = {value for value in values if values.count(value) > 1}
        if twice:
            raise ValueError(f"{path.name}: the same {field} stands more than once: {', '.join(sorted(twice))}")
    return formulas


def read_papers(path: Path = TABLE) -> dict[str, str]:
    """Paper -> its address, for those that have one."""
    return tomllib.loads(path.read_text(encoding="utf-8"))["papers"]


def heading(paper: str) -> str:
    """The heading of a paper's formulas; the paper is linked."""
    address = read_papers().get(paper)
    return f"## [{paper}]({address})" if address else f"## {paper}"


def contents(formulas: Sequence[Formula]) -> str:
    """All formulas by name, chapter by chapter of the book: for who knows where a formula was met."""
    chapters: dict[str, list[str]] = {}
    for formula in sorted(formulas, key=lambda f: f.chapter):
        [notebook] = re.findall(r"\((\S+?\.ipynb)\)", formula.place())
        chapters.setdefault(f"[{formula.chapter}]({notebook})", []).append(formula.name)
    lines = (f"| {link} | {' · '.join(names)} |" for link, names in chapters.items())
    return "\n".join(["| chapter | formulas |", "| --- | --- |", *lines])


def by_paper(formulas: Sequence[Formula]) -> Iterator[tuple[str, list[Formula]]]:
    """(paper, its formulas), papers in order of first appearance."""
    for paper in dict.fromkeys(formula.paper for formula in formulas):
        yield paper, [formula for formula in formulas if formula.paper == paper]


def markdown(formula: Formula) -> str:
    """The formula as a card: the formula itself, its letters, its code, and the number that proves it."""
    where = f" In the paper: equation {formula.equation}." if formula.equation else ""
    return (
        f"### {formula.name}\n\n$${formula.latex.strip()}$$\n\n{formula.letters}\n\n"
        f"{formula.place()}.{where} Code of the library: `{formula.line()}`. "
        f"Difference between code and formula: {formula.error():.0e}."
    )


def _resolve(name: str) -> Any:
    """The object behind "module:name.name"."""
    module, _, path = name.partition(":")
    found: Any = import_module(module)
    for part in path.split("."):
        found = getattr(found, part)
    return inspect.unwrap(found)
