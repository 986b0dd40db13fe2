import pytest

from dyhead_lab.lessons.exercises import Exercise
from dyhead_lab.ops.numba_reference import loops


def test_hints_and_solution_are_folded_and_escaped():
    card = Exercise("Write it", 2, 15, {"a < b": "swap & look"}, loops.bilinear)._repr_html_()
    assert "●●○○○" in card and "15 minutes" in card
    assert "<details><summary>Hint: a &lt; b</summary>swap &amp; look</details>" in card
    assert "<summary>Solution</summary>" in card and "def bilinear(image_HW, p_y, p_x)" in card


def test_without_a_solution_none_is_promised():
    assert "Solution" not in Exercise("Think", 1, 5)._repr_html_()


def test_difficulty_has_a_scale():
    with pytest.raises(ValueError, match="difficulty: got 6"):
        Exercise("Too hard", 6, 5)
