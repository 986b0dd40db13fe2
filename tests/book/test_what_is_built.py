"""The book builds what it teaches: counted over the cells that a reader sees, and held, so that it cannot shrink again.

What the definitions are worth is proven elsewhere: ``test_built_NN.py`` runs shipped detectors on them.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Iterator
from functools import cache

import pytest
import torch
from torch import nn

import dyhead_book
from dyhead_book import build, editions
from dyhead_book.practice.reader_checks import Mistake

TITLES = [build.title(source) for source in build.chapters()]
FEWEST_MODULES = 50  # classes with a forward pass: nn.Module or an autograd Function
FEWEST_TRAININGS = 14
FEWEST_ANSWERS = 700
#: Chapter -> lines of code of its detector, without blank lines, comments and docstrings.
FEWEST_LINES = {"08": 120, "11": 150, "12": 80}
LEARNS = {nn.Module, torch.autograd.Function}


def visible(title: str) -> list[ast.stmt]:
    """The statements of the cells whose code the book shows, in their order."""
    cells = build.book(build.BOOK / f"c{title}" / "chapter.py").cells
    code = (cell for cell in cells if cell.cell_type == "code")
    shown = (cell.source for cell in code if not cell.metadata.get("jupyter", {}).get("source_hidden"))
    return [statement for text in shown for statement in ast.parse(text).body]


@cache
def statements() -> dict[str, list[ast.stmt]]:
    return {title: visible(title) for title in TITLES}


def modules(body: list[ast.stmt]) -> list[str]:
    """Names of the classes with a forward pass: their bases lie in torch, in the library, or above them."""
    found, imported = [], {"nn.Module": nn.Module, "torch.autograd.Function": torch.autograd.Function}
    for statement in (node for top in body for node in ast.walk(top)):
        if isinstance(statement, ast.ImportFrom) and statement.module:
            place = importlib.import_module(statement.module)
            for name in statement.names:
                imported[name.asname or name.name] = getattr(place, name.name, None)
        if isinstance(statement, ast.ClassDef):
            bases = [ast.unparse(base) for base in statement.bases]
            if any(base in found or _has_forward(imported.get(base)) for base in bases):
                found.append(statement.name)
    return found


def _has_forward(thing: object) -> bool:
    return inspect.isclass(thing) and any(issubclass(thing, base) for base in LEARNS)


def trainings(body: list[ast.stmt]) -> list[ast.stmt]:
    """Statements, a loop or a definition, in which an optimiser steps."""
    return [statement for statement in body if any(map(_is_a_step, ast.walk(statement)))]


def _is_a_step(node: ast.AST) -> bool:
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "step"):
        return False
    return "optimi" in ast.unparse(node.func.value)


def lines_of_code(definition: ast.stmt) -> int:
    """Without blank lines, comments and docstrings."""
    bare = ast.parse(ast.unparse(definition))
    documented = (ast.FunctionDef, ast.ClassDef)
    for node in ast.walk(bare):
        if isinstance(node, documented) and ast.get_docstring(node) is not None:
            node.body = node.body[1:] or [ast.Pass()]
    return len(ast.unparse(bare).splitlines())


def until_proven(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Functions and classes of the detector: what stands above its proof."""
    for statement in body:
        if any(isinstance(node, ast.Name) and node.id == "check_same_ap" for node in ast.walk(statement)):
            return
        if isinstance(statement, ast.FunctionDef | ast.ClassDef):
            yield statement


def test_readers_build_no_fewer_modules_and_autograd_functions():
    found = {title: modules(body) for title, body in statements().items()}
    assert len({name for names in found.values() for name in names}) >= FEWEST_MODULES, found


def test_no_fewer_trainings_are_written_in_the_open():
    found = {title: len(trainings(body)) for title, body in statements().items()}
    assert sum(found.values()) >= FEWEST_TRAININGS, found
    for number in ("03", "07", "08", "09", "11", "12", "13", "17"):  # what these chapters build also learns there
        assert any(title.startswith(number) and count for title, count in found.items()), f"chapter {number}"


@pytest.mark.parametrize("number", FEWEST_LINES)
def test_a_whole_detector_stands_in_the_chapter(number):
    [body] = [body for title, body in statements().items() if title.startswith(number)]
    counted = {definition.name: lines_of_code(definition) for definition in until_proven(body)}  # type: ignore[attr-defined]
    assert sum(counted.values()) >= FEWEST_LINES[number], counted


def mistakes() -> set[Mistake]:
    """Every wrong answer that a check of the book knows."""
    found = set()
    for module in pkgutil.walk_packages(dyhead_book.__path__, "dyhead_book."):
        if module.name.rpartition(".")[2].endswith("_checks"):
            for entries in vars(importlib.import_module(module.name)).values():
                listed = entries if isinstance(entries, tuple | list) else ()
                found |= {entry for entry in listed if isinstance(entry, Mistake)}
    return found


def right_answers() -> set[tuple[str, str, str]]:
    """Chapter, exercise and style of every right answer that the tests put in: the book's own, and other styles."""
    found = set()
    for source in build.chapters():
        found |= {
            (source.parent.name, exercise.name, "book") for exercise in editions.exercises(build.read_source(source))
        }
        if (source.parent / "other_styles.py").is_file():
            styles = importlib.import_module(f"dyhead_book.{source.parent.name}.other_styles").OTHER_STYLES
            found |= {(source.parent.name, name, "other") for name in styles}
    return found


def test_no_fewer_answers_to_exercises_are_known_and_tried():
    """Wrong ones are planted by the tests of the checks, right ones put in by those of the workbooks."""
    wrong, right = mistakes(), right_answers()
    assert len(wrong) >= FEWEST_ANSWERS and len(wrong) + len(right) >= FEWEST_ANSWERS
    assert any(style == "other" for *_, style in right)


# The counters themselves


def test_only_classes_with_a_forward_pass_are_counted():
    text = "from torch import nn\nclass A(nn.Module): ...\nclass B(A): ...\nclass C: ...\nclass D(C): ..."
    assert modules(ast.parse(text).body) == ["A", "B"]


def test_a_training_is_where_an_optimiser_steps():
    loop = "for x in data:\n    loss(x).backward()\n    optimiser.step()"
    assert len(trainings(ast.parse(f"{loop}\nschedule.step()\ndef step():\n    optimizer.step()").body)) == 2


def test_docstrings_and_comments_are_no_lines_of_code():
    text = 'def f():\n    """Words.\n\n    More.\n    """\n    # why\n\n    return 1'
    assert lines_of_code(ast.parse(text).body[0]) == 2
