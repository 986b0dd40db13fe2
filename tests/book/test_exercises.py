import pytest

from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_lab.ops.numba_reference import loops

HINTS = {"a < b": "swap & look", "Still wrong": "look again"}


def test_hints_and_solution_are_folded_and_escaped():
    card = Exercise("Write it", 2, 15, HINTS, loops.bilinear)._repr_html_()
    assert "Exercise, difficulty ●●○○○, about 15 minutes" in card
    assert "<details><summary>Hint: a &lt; b</summary>swap &amp; look</details>" in card
    assert card.index("a &lt; b") < card.index("Still wrong") < card.index("Solution"), "hints come in steps"
    assert "<summary>Solution</summary>" in card and "def bilinear(image_HW, p_y, p_x)" in card


def test_a_challenge_ends_in_an_answer():
    card = Challenge("Think", 1, 5, HINTS, "a < c")._repr_html_()
    assert "Challenge, difficulty ●○○○○, about 5 minutes" in card
    assert card.endswith("<details><summary>Answer</summary>a &lt; c</details>") and "Solution" not in card
    assert repr(Challenge("Think", 1, 5, HINTS, "a < c")) == "Think (difficulty ●○○○○, about 5 minutes)"


def test_difficulty_has_a_scale_and_hints_come_in_steps():
    with pytest.raises(ValueError, match="difficulty: got 6"):
        Exercise("Too hard", 6, 5, HINTS, loops.bilinear)
    with pytest.raises(ValueError, match="hints: got 1, expected at least 2"):
        Challenge("Think", 1, 5, {"Where to begin": "here"}, "so")


def test_backticks_become_code():
    card = Challenge("Let `f<T>` run", 1, 5, HINTS, "see `g`, or ` alone")._repr_html_()
    assert "<b>Let <code>f&lt;T&gt;</code> run</b>" in card and "see <code>g</code>, or ` alone" in card
