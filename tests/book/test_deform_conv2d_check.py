"""Bilinear sampling and deformable convolution: the library passes the readers' checks, each mistake is named."""

import pytest
import torch

from dyhead_book.c03_deformable_convolution.bilinear_checks import BILINEAR_MISTAKES, bilinear_cases, check_bilinear
from dyhead_book.c03_deformable_convolution.conv_checks import (
    DEFORM_CONV2D_MISTAKES,
    MORE_DEFORM_CONV2D_MISTAKES,
    check_deform_conv2d,
    planted_bug,
)
from dyhead_lab.ops import deform_conv2d, native
from dyhead_lab.ops.numba_reference import loops


def backend(name):
    """One of the library's backends, with the signature that the check asks for."""

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


@pytest.mark.parametrize("mistake", MORE_DEFORM_CONV2D_MISTAKES, ids=lambda mistake: mistake.name)
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
    first, again = (list(bilinear_cases(seed=3)) for _ in range(2))
    assert [case.description for case in first] == [case.description for case in again]
    positions = [(case.arguments[0].shape, *case.arguments[1:]) for case in first]
    assert any(y < -1 or x < -1 for _, y, x in positions), "far outside"
    assert any(-1 < y < 0 < x for _, y, x in positions), "between border and outside"
    assert any(y.is_integer() and x.is_integer() for _, y, x in positions), "exactly on a pixel"
