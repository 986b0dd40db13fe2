"""Every exercise of the book: difficulty, minutes, hints, a check of the reader's function, and a solution that passes.

The chapters are read as text, and only their imports are run: an exercise is a call of ``Exercise``, and its check is
the first ``check...`` that takes a stub behind it.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dyhead_book import build as builder
from dyhead_book.practice.reader_checks import Mistake

from .planted import FEWEST as FEWEST_BUGS

#: Pages to look things up: the first steps, formulas, glossary, misstatements, differences.
PAGES = ("00", "18", "19", "20", "21")
CHAPTERS = [source for source in builder.chapters() if not builder.title(source).startswith(PAGES)]
NAMES = [builder.title(source) for source in CHAPTERS]
FEWEST, MOST = 3, 6


@dataclass(frozen=True)
class Found:
    """A card of a chapter with the code between it and the next card."""

    call: ast.Call
    behind: list[ast.stmt]

    @property
    def kind(self) -> str:
        return self.call.func.id  # type: ignore[attr-defined]

    @property
    def title(self) -> str:
        return ast.literal_eval(self.call.args[0])

    def argument(self, name: str) -> ast.expr:
        return next(keyword.value for keyword in self.call.keywords if keyword.arg == name)

    @property
    def stubs(self) -> set[str]:
        """Functions that wait for the reader."""
        return {s.name for s in self.behind if isinstance(s, ast.FunctionDef) and "NotImplementedError" in ast.dump(s)}

    def check(self) -> ast.expr | None:
        """The function that checks a stub."""
        for statement in self.behind:
            call = statement.value if isinstance(statement, ast.Expr) else None
            if isinstance(call, ast.Call) and call.args and ast.unparse(call.args[0]) in self.stubs:
                return call.func
        return None


@cache
def statements(source: Path) -> list[ast.stmt]:
    return ast.parse(source.read_text(encoding="utf-8")).body


@cache
def names(source: Path) -> dict[str, Any]:
    """What the imports of a chapter bring."""
    imports = [s for s in statements(source) if isinstance(s, ast.Import | ast.ImportFrom)]
    scope: dict[str, Any] = {}
    exec(compile(ast.Module(imports, []), str(source), "exec"), scope)
    return scope


def meant(expression: ast.expr, source: Path) -> Any:
    return eval(compile(ast.Expression(expression), str(source), "eval"), names(source))


def cards(source: Path) -> Iterator[Found]:
    body = statements(source)
    starts = [
        i
        for i, s in enumerate(body)
        if isinstance(s, ast.Expr)
        and isinstance(s.value, ast.Call)
        and isinstance(s.value.func, ast.Name)
        and s.value.func.id in ("Exercise", "Challenge")
    ]
    for start, end in zip(starts, [*starts[1:], len(body)], strict=True):
        yield Found(body[start].value, body[start + 1 : end])  # type: ignore[attr-defined]


def exercises(source: Path) -> list[Found]:
    return [card for card in cards(source) if card.kind == "Exercise"]


@pytest.mark.parametrize("source", CHAPTERS, ids=NAMES)
def test_a_chapter_has_three_to_six_exercises(source):
    assert FEWEST <= len(exercises(source)) <= MOST


@pytest.mark.parametrize("source", CHAPTERS, ids=NAMES)
def test_every_card_says_difficulty_and_minutes_and_helps_in_steps(source):
    for card in cards(source):
        shown = meant(card.call, source)  # refuses a difficulty off the scale, and a single hint
        assert shown.minutes > 0, card.title
        fold = "Solution" if card.kind == "Exercise" else "Answer"
        assert f"<summary>{fold}</summary>" in shown._repr_html_(), card.title


@pytest.mark.parametrize("source", CHAPTERS, ids=NAMES)
def test_every_exercise_has_a_check_that_its_solution_passes_and_a_stub_does_not(source):
    def stub(*arguments: Any) -> None:
        raise NotImplementedError

    for card in exercises(source):
        check = card.check()
        assert check is not None, f"{card.title}: no check takes the reader's function"
        function = meant(check, source)
        verdict = function(meant(card.argument("solution"), source))
        assert verdict, f"{card.title}: the solution gets {verdict}"
        assert "not written yet" in function(stub).message, card.title


def mistakes_of(check: Callable[..., Any]) -> tuple[Mistake, ...]:
    """The table of mistakes that a check knows, found among the global names of its code."""
    code = inspect.unwrap(check)
    tables = [code.__globals__.get(name) for name in code.__code__.co_names]
    return next(t for t in tables if isinstance(t, tuple) and t and isinstance(t[0], Mistake))


@pytest.mark.parametrize("source", CHAPTERS, ids=NAMES)
def test_every_check_names_at_least_five_mistakes_and_the_chapter_plants_one(source):
    for card in exercises(source):
        table = mistakes_of(meant(card.check(), source))
        assert len({mistake.name for mistake in table}) >= FEWEST_BUGS, card.title
    planted = {"drill", "planted_bug"} & {
        call.func.id
        for call in ast.walk(ast.Module(statements(source), []))
        if isinstance(call, ast.Call) and isinstance(call.func, ast.Name)
    }
    assert planted, "no drill: the chapter gives no function with a planted bug"


@pytest.mark.parametrize("source", CHAPTERS, ids=NAMES)
def test_the_tables_of_every_chapter_are_proven(source):
    """The check of every exercise stands in a test of this folder that plants the bugs of its table."""
    proofs = "\n".join(
        path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py") if path != Path(__file__)
    )
    for card in exercises(source):
        assert meant(card.check(), source).__name__ in proofs, card.title


@pytest.mark.parametrize("source", CHAPTERS, ids=NAMES)
def test_predictions_are_kept_and_revisited(source):
    text = source.read_text(encoding="utf-8")
    asked = {
        target.id
        for s in statements(source)
        if isinstance(s, ast.Assign) and isinstance(s.value, ast.Call) and ast.unparse(s.value.func) == "Question"
        for target in s.targets
        if isinstance(target, ast.Name)
    }
    assert asked, "the chapter asks for no prediction"
    for name in asked:
        assert f"{name}.guess(None)" in text and f"{name}.revisit(" in text, name
