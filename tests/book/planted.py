"""What every table of planted bugs has to prove."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dyhead_book.practice.reader_checks import Mistake, Verdict

FEWEST = 5


def assert_bugs_are_caught(
    check: Callable[[Callable[..., Any]], Verdict],
    solution: Callable[..., Any],
    bugs: Sequence[Mistake],
    fewest: int = FEWEST,
) -> None:
    """The solution passes the reader's check; each bug fails it, and the message names that bug and no other.

    Args:
        check: the check that the chapter gives to the reader's function.
        solution: the right function, as the chapter shows or keeps it.
        bugs: the chapter's table.
        fewest: how many bugs the table must have.
    """
    verdict = check(solution)
    assert verdict, f"the solution fails: {verdict.message}"
    assert len({bug.name for bug in bugs}) >= fewest, f"{len(bugs)} bugs, expected at least {fewest} different ones"
    for bug in bugs:
        verdict = check(bug.imitate)
        assert not verdict, f"nobody notices that {bug.name}"
        assert f"when {bug.name}." in verdict.message, f"{bug.name}: the message is {verdict.message}"
        assert bug.hint in verdict.message


def assert_module_bugs_are_caught(
    check: Callable[[Any], Verdict], right: type, bugs: Sequence[Mistake], fewest: int = FEWEST
) -> None:
    """The same for a check of classes: ``imitate`` takes a module and the inputs of ``forward``.

    Args:
        right: the library's class.
    """

    class Untouched:
        """The module as the mistake expects it: called, it does what the library's class does."""

        def __init__(self, module: Any):
            self.__dict__["_module"] = module

        def __getattr__(self, name: str) -> Any:
            return getattr(self._module, name)

        def __call__(self, *inputs: Any) -> Any:
            return right.forward(self._module, *inputs)  # type: ignore[attr-defined]

    verdict = check(right)
    assert verdict, f"the library's class fails: {verdict.message}"
    assert len({bug.name for bug in bugs}) >= fewest, f"{len(bugs)} bugs, expected at least {fewest} different ones"
    for bug in bugs:
        wrong = type("Wrong", (right,), {"forward": lambda self, *x, bug=bug: bug.imitate(Untouched(self), *x)})
        verdict = check(wrong)
        assert not verdict, f"nobody notices that {bug.name}"
        assert f"when {bug.name}." in verdict.message, f"{bug.name}: the message is {verdict.message}"
        assert bug.hint in verdict.message
