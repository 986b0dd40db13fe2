"""Exercises on gradients: solutions pass and are right, planted bugs are caught by name."""

import numpy as np
import pytest

from dyhead_book.c03_deformable_convolution.conv_backward_checks import (
    CONV_BACKWARD_MISTAKES,
    SLOPE_MISTAKES,
    bilinear_slope,
    check_slope,
    slope_cases,
)
from dyhead_book.c03_deformable_convolution.layer_checks import check_conv_backward
from dyhead_book.c10_multi_scale_deformable_attention.attention_backward_checks import (
    ATTENTION_BACKWARD_MISTAKES,
    check_attention_backward,
)
from dyhead_lab.ops.numba_reference import loops

from .planted import assert_bugs_are_caught

SUITES = [
    (check_slope, bilinear_slope, SLOPE_MISTAKES),
    (check_conv_backward, loops.deform_conv2d_backward, CONV_BACKWARD_MISTAKES),
    (check_attention_backward, loops.ms_deform_attn_backward, ATTENTION_BACKWARD_MISTAKES),
]


@pytest.mark.parametrize(("check", "solution", "bugs"), SUITES, ids=[suite[0].__name__ for suite in SUITES])
def test_the_solution_passes_and_each_bug_is_caught(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def test_the_slope_is_the_difference_just_below():
    step = 1e-6
    for case in slope_cases():
        image, p_y, p_x = case.arguments
        difference = (loops.bilinear(image, p_y + step, p_x) - loops.bilinear(image, p_y, p_x)) / step
        assert bilinear_slope(image, p_y, p_x) == pytest.approx(difference, abs=1e-8)  # of 1e-15 / 1e-6
    assert any(float(case.arguments[1]).is_integer() for case in slope_cases()), "kinks are asked for"


def test_the_slope_is_that_of_the_librarys_loops():
    rng = np.random.default_rng(0)
    image = rng.normal(size=(4, 5))
    for p_y, p_x in rng.uniform(0, 3, (20, 2)):
        slopes = (dy * image[row, column] for row, column, _, dy, _ in loops.around(p_y, p_x))
        assert bilinear_slope(image, p_y, p_x) == pytest.approx(sum(slopes), abs=1e-12)  # float64
