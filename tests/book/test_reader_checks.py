"""The check of a reader's function: what it says of right answers in any style, of wrong ones, of stubs and errors."""

import numpy as np
import pytest
import torch

from dyhead_book.practice.reader_checks import WIDEST, Case, Mistake, Verdict, check, raised


def double(x):
    return 2 * x


CASES = [Case("three numbers", (np.arange(3.0),)), Case("five numbers", (np.linspace(-1, 1, 5),))]
ADDS = Mistake("the function adds instead of multiplying", "use *.", lambda x: x + 2)
DIVIDES = Mistake("it is divided by x", "do not divide.", lambda x: 2 * x**2 / x)


def verdict_on(function, cases=CASES, formula=double, mistakes=(ADDS, DIVIDES)):
    with np.errstate(all="ignore"):
        return check(function, formula, cases, mistakes)


def buffered():
    """A function that returns the same array in every call."""
    buffer = np.zeros(3)

    def function(x):
        np.multiply(2, x[:3], out=buffer)
        return buffer

    return function


def in_a_loop(x):
    out = np.empty_like(x)
    for i in range(len(x)):
        out[i] = x[i] + x[i]
    return out


RIGHT = {
    "as it stands": (double, ""),
    "loops": (in_a_loop, ""),
    "a list": (lambda x: [2 * value for value in x], ""),
    "a tensor": (lambda x: torch.from_numpy(x) * 2, ""),
    "a tensor with a gradient": (lambda x: torch.from_numpy(x).requires_grad_() * 2, ""),
    "an array of another order": (lambda x: np.asarray(2 * x[::-1], order="F")[::-1], ""),
    "float32": (
        lambda x: (2 * x * np.float32(1 / 3) * 3).astype(np.float32) + np.float32(1e-7),
        "Your answer is float32",
    ),
    "float32 inside": (lambda x: (2 * x + 1e-8).astype(np.float64), "something inside is float32 or rounds otherwise"),
    "other numerics": (lambda x: np.log(np.exp(2 * x) + 1e-9), "they agree as far as float32 goes"),
}
WRONG = {
    "nothing": (lambda x: None, "three numbers: the function returns None. Is there a `return`?"),
    "a word": (lambda x: "six", "returns a str, expected numbers"),
    "complex numbers": (lambda x: 2j * x, "returns a ndarray, expected numbers"),
    "rows of different lengths": (lambda x: [[1.0], [2.0, 3.0]], "returns a list, expected numbers"),
    "too short": (lambda x: (2 * x)[:2], r"shape (2,), expected (3,)"),
    "one case only": (lambda x: np.array([0.0, 2, 4]), r"five numbers: the answer has shape (3,), expected (5,)"),
    "NaN": (lambda x: 2 * x + np.nan, "The answer holds NaN or infinity. Does every element start at zero?"),
    "infinity in one place": (lambda x: np.where(x == 1, np.inf, 2 * x), "got inf."),
    "a mistake that gives NaN": (lambda x: 2 * x * x / x, "when it is divided by x.\nHint: do not divide."),
    "a mistake": (lambda x: x + 2, "when the function adds instead of multiplying.\nHint: use *."),
    "a mistake in float32": (lambda x: x.astype(np.float32) + 2, "when the function adds instead of multiplying"),
    "a mistake with other numerics": (lambda x: x + 2 + 1e-8, "when the function adds instead of multiplying"),
    "something else": (lambda x: 3 * x + 1, "3 of 3 elements differ. All of them"),
    "one element": (lambda x: np.where(x == 1, 5, 2 * x), "1 of 3 elements differ. Many, not all"),
    "in place": (lambda x: np.multiply(x, 2, out=x), "changes its argument number 1 and returns it."),
    "in place beside": (lambda x: [2 * x, x.fill(0)][0], "changes its argument number 1. Write into a new array."),
    "an error": (lambda x: 1 / 0, "three numbers: Your code raises ZeroDivisionError: division by zero (line "),
    "an error in a library": (lambda x: np.linalg.inv(x), "Your code raises LinAlgError: "),
    "an error without words": (lambda x: [][0] if len(x) > 3 else 2 * x, "five numbers: Your code raises IndexError"),
}


@pytest.mark.parametrize(("function", "remark"), RIGHT.values(), ids=RIGHT)
def test_a_right_answer_is_right_in_any_style(function, remark):
    verdict = verdict_on(function)
    assert verdict, verdict.message
    assert verdict.message.startswith("All 2 cases agree with the formula.")
    assert remark in verdict.message.replace("They", "they")
    assert bool(remark) == (verdict.message != "All 2 cases agree with the formula.")


@pytest.mark.parametrize(("function", "message"), WRONG.values(), ids=WRONG)
def test_a_wrong_answer_gets_the_right_message(function, message):
    verdict = verdict_on(function)
    assert not verdict
    assert message in verdict.message


def test_a_stub_is_not_yet_with_what_is_to_do():
    def stub(x):
        raise NotImplementedError

    def blank(x):
        raise NotImplementedError("multiply by two")

    assert repr(verdict_on(stub)) == "Not yet. The function is not written yet."
    assert repr(verdict_on(blank)) == "Not yet. Still to do: multiply by two"


def test_an_error_is_told_with_the_readers_line_and_not_the_librarys():
    names = {"np": np}
    exec(compile("def inverse(x):\n    y = 2 * x\n    return np.linalg.inv(y)", "<a cell>", "exec"), names)
    message = verdict_on(names["inverse"]).message
    assert "(line 3: " in message, message
    try:
        names["inverse"](np.ones(2))
    except np.linalg.LinAlgError as error:
        assert raised(error).startswith("Your code raises LinAlgError: ")


def test_the_same_array_in_every_call_is_told():
    cases = [Case("ones", (np.ones(3),)), Case("twos", (2 * np.ones(3),))]
    verdict = verdict_on(buffered(), cases)
    assert not verdict and "the function returns the same array in every call" in verdict.message


def test_one_array_for_two_levels_is_told():
    def same(levels):
        out = np.zeros(2)
        for level in levels:
            out += level
        return [out, out]

    levels = [np.ones(2), np.array([1.0, 2.0])]
    verdict = verdict_on(same, [Case("two levels", (levels,))], lambda levels: [2 * x for x in levels], ())
    assert not verdict and "Entries 0 and 1 of the answer are one and the same array" in verdict.message


def test_an_answer_that_shares_memory_with_an_argument_is_right_with_a_remark():
    cases = [Case("a row", (np.eye(2), np.ones(2)))]
    verdict = check(lambda x, y: x.ravel(), lambda x, y: x.ravel().copy(), cases, [])
    assert verdict and "shares its memory with argument number 1" in verdict.message
    assert verdict_on(lambda x, y: y, cases, lambda x, y: y).message == "All 1 cases agree with the formula."


def test_small_cases_show_their_inputs_and_large_ones_do_not():
    def scaled(x, steps):
        return x * steps

    small = [Case("two", (np.array([[0.5, 1 / 3]]), (2, 1)))]
    verdict = verdict_on(lambda x, steps: x, small, scaled, ())
    assert "\nThe case: x = [[0.5, 0.3333]], steps = [2, 1]." in verdict.message
    large = [Case("many", (np.ones(17), 2))]
    assert "The case" not in verdict_on(lambda x, steps: x, large, scaled, ()).message
    one = [Case("one", (3.0, 2))]
    message = verdict_on(lambda *numbers: 5.0, one, scaled, ()).message
    assert "argument 1 = 3, argument 2 = 2." in message and "Work this case out by hand" in message


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda n: n + 1, "expected 2237440, got 2237441."),
        (lambda n: n + 0.5, "expected 2237440.0000, got 2237440.5000."),
    ],
)
def test_counts_are_equal_or_wrong_and_told_as_counts(function, message):
    verdict = verdict_on(function, [Case("a count", (2237440,))], lambda n: n, ())
    assert not verdict and message in verdict.message


def test_numbers_that_agree_in_four_figures_are_told_with_more():
    verdict = verdict_on(lambda x: x + 2e-5, [Case("a sixth", (1 / 6,))], lambda x: x, ())
    assert "expected 0.1667, got 0.1667" not in verdict.message
    assert "expected 0.166666667, got 0.166686667." in verdict.message


def test_infinity_where_the_formula_has_it_is_right():
    cases = [Case("a zero", (np.array([0.0, 1.0]),))]
    assert verdict_on(lambda x: -np.log(x), cases, lambda x: -np.log(x), ())
    assert not verdict_on(lambda x: np.log(x), cases, lambda x: -np.log(x), ())


def test_an_effect_that_float32_would_not_see_is_still_a_named_mistake():
    forgets = Mistake("the small constant is forgotten", "add it.", lambda x: 2 * x)
    verdict = verdict_on(double, formula=lambda x: 2 * x + 1e-7, mistakes=[forgets])
    assert not verdict and "when the small constant is forgotten" in verdict.message


def test_a_long_message_breaks_between_words_and_keeps_its_lines():
    text = repr(Verdict(False, "word " * 30 + "end\nHint: short\n    2 | indented = code"))
    assert max(map(len, text.splitlines())) <= WIDEST
    assert text.replace("\n", " ").split() == f"Not yet. {'word ' * 30}end Hint: short 2 | indented = code".split()
    assert text.endswith("\nHint: short\n    2 | indented = code")
