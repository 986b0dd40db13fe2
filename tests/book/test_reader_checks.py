"""The check of a reader's function: what it says of a right answer, a wrong one, a stub and an exception."""

import numpy as np
import pytest

from dyhead_book.practice.reader_checks import Case, Mistake, check


def double(x):
    return 2 * x


CASES = [Case("three numbers", (np.arange(3.0),))]


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda x: None, "returns None"),
        (lambda x: (2 * x)[:2], r"shape \(2,\), expected \(3,\)"),
        (lambda x: 2 * x + np.nan, "NaN"),
        (lambda x: np.multiply(x, 2, out=x), "changes its argument number 1"),
        (lambda x: x + 1, "adds instead"),
        (lambda x: 3 * x + 1, "3 of 3 elements differ. All of them"),
        (lambda x: np.array([0.0, 2.0, 5.0]), "1 of 3 elements differ. Many, not all"),
    ],
)
def test_wrong_answers_get_the_right_message(function, message):
    adds = Mistake("the function adds instead of multiplying", "use *.", lambda x: x + 1)
    verdict = check(function, double, CASES, [adds])
    with pytest.raises(AssertionError, match=message):
        assert verdict, verdict.message


@pytest.mark.parametrize(
    ("function", "message"),
    [
        (lambda n: n + 1, "expected 2237440, got 2237441."),
        (lambda n: n + 0.5, "expected 2237440.0000, got 2237440.5000."),
    ],
)
def test_counts_are_told_as_counts(function, message):
    case = Case("a count", (2237440,))
    assert message in check(function, lambda n: n, [case], [], tolerance=1e-9).message


def test_numbers_that_agree_in_four_figures_are_told_with_more():
    case = Case("a sixth", (1 / 6,))
    message = check(lambda x: float(np.float32(x)), lambda x: x, [case], [], tolerance=1e-9).message
    assert "expected 0.166666667, got 0.166666672." in message


def test_a_stub_is_not_yet_and_an_exception_is_the_readers():
    def stub(x):
        raise NotImplementedError

    assert repr(check(stub, double, CASES, [])) == "Not yet. The function is not written yet."
    with pytest.raises(ZeroDivisionError):
        check(lambda x: 1 / 0, double, CASES, [])
    assert repr(check(double, double, CASES, [])) == "Right. All 1 cases agree with the formula."
