"""Every exercise of the book: hints, a check that knows mistakes by name, and an answer that passes.

An exercise is a cell with the mark of ``dyhead_book.editions``, or a card: a call of ``Exercise``, whose check is the
first ``check...`` that takes a stub behind it. Chapters are read as text, and only what they define is run; that the
check of a marked exercise tells the book's answer from a blank is seen in ``tests/notebooks``, where all of it runs.
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
from dyhead_book import editions
from dyhead_book.practice import rebuilt
from dyhead_book.practice.reader_checks import Mistake

from .definitions import definitions
from .planted import FEWEST as FEWEST_BUGS

#: Pages to read or to look things up: the first steps, formulas, glossary, misstatements, differences.
PAGES = ("00", "18", "19", "20", "21")
CHAPTERS = [source for source in builder.chapters() if not builder.title(source).startswith(PAGES)]
NAMES = [builder.title(source) for source in CHAPTERS]
FEWEST, MOST = 3, 7
FEWEST_NAMED = 3  # mistakes of a marked exercise; a module is proven by a shipped detector besides
FEWEST_HINTS = 2
WIDEST = 100  # characters of a code line: what a window of 1280 pixels shows


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
    """What a chapter imports and defines."""
    return definitions(builder.title(source))


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
    for start, end in zip(starts, [*starts, len(body)][1:], strict=True):
        yield Found(body[start].value, body[start + 1 : end])  # type: ignore[attr-defined]


def exercises(source: Path) -> list[Found]:
    return [card for card in cards(source) if card.kind == "Exercise"]


@cache
def marked(source: Path) -> list[editions.Exercise]:
    return editions.exercises(builder.read_source(source))


@pytest.mark.parametrize("source", CHAPTERS, ids=NAMES)
def test_a_chapter_has_three_to_seven_exercises(source):
    assert FEWEST <= len(exercises(source)) + len(marked(source)) <= MOST


def without_hints(source: Path) -> list[str]:
    """Marked exercises before which the workbook has no folded hints: a markdown cell between it and the one before."""
    found, folds = [], 0
    for cell in builder.read_source(source).cells:
        if cell.cell_type == "markdown" and "workbook" in cell.metadata.get("tags", ()):
            folds = max(folds, cell.source.count("<details>"))
        if "exercise" in cell.metadata:
            if folds < FEWEST_HINTS:
                found.append(cell.metadata["exercise"])
            folds = 0
    return found


def wide_lines(source: Path) -> list[str]:
    code = (cell.source for cell in builder.read_source(source).cells if cell.cell_type == "code")
    return [line for text in code for line in text.splitlines() if len(line) > WIDEST]


@pytest.mark.parametrize("source", builder.chapters(), ids=builder.title)
def test_marked_exercises_have_folded_hints_and_no_line_is_wider_than_the_window(source):
    assert [f"no hints before {name}" for name in without_hints(source)] + wide_lines(source) == []


def checks_of(exercise: editions.Exercise, source: Path) -> list[Callable[..., Any]]:
    """The functions ``check...`` that the check of a marked exercise calls."""
    calls = [node.func for node in ast.walk(ast.parse(exercise.check)) if isinstance(node, ast.Call)]
    return [meant(call, source) for call in calls if ast.unparse(call).startswith("check")]


@pytest.mark.parametrize("source", CHAPTERS, ids=NAMES)
def test_marked_exercises_are_checked_on_a_shipped_detector_or_against_named_mistakes(source):
    """Their mistakes are planted in a test of this folder; a class stands in the chapter's ``test_built``."""
    for exercise in marked(source):
        checks = checks_of(exercise, source)
        assert checks, f"{exercise.name}: its check calls no function check..."
        for check in checks:
            if inspect.getmodule(check) is rebuilt:
                built = Path(__file__).parent / f"test_built_{builder.title(source)[:2]}.py"
                assert built.is_file() and all(f'"{name}"' in built.read_text("utf-8") for name in exercise.names)
            else:
                named = {mistake.name for mistake in mistakes_of(check)}
                assert len(named) >= FEWEST_NAMED, f"{exercise.name}: {check.__name__} names {len(named)} mistakes"
                assert check.__name__ in proofs(), f"no test plants the mistakes of {check.__name__}"


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


@cache
def proofs() -> str:
    """The text of all tests of this folder but this one."""
    tests = Path(__file__).parent.glob("test_*.py")
    return "\n".join(path.read_text(encoding="utf-8") for path in tests if path != Path(__file__))


def mistakes_of(check: Callable[..., Any]) -> tuple[Mistake, ...]:
    """The table of mistakes that a check knows, found among the global names of its code."""
    code = inspect.unwrap(check)
    tables = [code.__globals__.get(name) for name in code.__code__.co_names]
    found = [t for t in tables if isinstance(t, tuple) and t and isinstance(t[0], Mistake)]
    assert found, f"{check.__name__} uses no table of mistakes"
    return found[0]


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
    for card in exercises(source):
        assert meant(card.check(), source).__name__ in proofs(), card.title


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
        assert f"{name}.ask()" in text, name
        assert f"{name}.revisit(" in text, name
