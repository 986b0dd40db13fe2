import numpy as np
import pytest

from dyhead_book.c03_deformable_convolution import sampling_checks as deformable
from dyhead_book.c03_deformable_convolution.sampling_checks import (
    BILINEAR_MISTAKES,
    DEFORM_CONV2D_MISTAKES,
    check_bilinear,
    check_deform_conv2d,
    planted_bug,
)
from dyhead_book.practice.checks import Case, Mistake, check
from dyhead_lab.ops import deform_conv2d, native
from dyhead_lab.ops.numba_reference import loops


def backend(name):
    """One of the library's backends, with the signature that the check asks for."""
    import torch

    def function(input, offset, weight, mask, stride, padding, dilation):
        x, dp, w, dm = (torch.from_numpy(array) for array in (input, offset, weight, mask))
        return deform_conv2d(x, dp, w, None, stride, padding, dilation, dm, backend=name).numpy()

    return function


def test_the_librarys_own_functions_pass_the_readers_checks():
    assert check_bilinear(loops.bilinear)
    assert check_deform_conv2d(loops.deform_conv2d)
    assert check_deform_conv2d(backend("numba"))


@pytest.mark.skipif(not native.built("emulated"), reason="the native code is not built: make native")
def test_the_kernels_pass_the_readers_check():
    assert check_deform_conv2d(backend("emulated"))


@pytest.mark.parametrize("mistake", BILINEAR_MISTAKES, ids=lambda mistake: mistake.name)
def test_each_bilinear_mistake_is_named(mistake):
    verdict = check_bilinear(mistake.imitate)
    assert not verdict and f"when {mistake.name}." in verdict.message and mistake.hint in verdict.message


@pytest.mark.parametrize("mistake", DEFORM_CONV2D_MISTAKES, ids=lambda mistake: mistake.name)
def test_each_convolution_mistake_is_named(mistake):
    verdict = check_deform_conv2d(mistake.imitate)
    assert not verdict and f"when {mistake.name}." in verdict.message and mistake.hint in verdict.message


@pytest.mark.parametrize("number", range(len(DEFORM_CONV2D_MISTAKES)))
def test_planted_bugs_are_all_different_and_all_found(number):
    verdict = check_deform_conv2d(planted_bug(number))
    assert not verdict and "This is what comes out when" in verdict.message
    others = {check_deform_conv2d(planted_bug(n)).message for n in range(number)}
    assert verdict.message not in others


def test_cases_are_drawn_from_the_seed_and_cover_border_and_outside():
    first, again = (list(deformable.bilinear_cases(seed=3)) for _ in range(2))
    assert [case.description for case in first] == [case.description for case in again]
    positions = [(case.arguments[0].shape, *case.arguments[1:]) for case in first]
    assert any(y < -1 or x < -1 for _, y, x in positions), "far outside"
    assert any(-1 < y < 0 < x for _, y, x in positions), "between border and outside"
    assert any(y.is_integer() and x.is_integer() for _, y, x in positions), "exactly on a pixel"


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
