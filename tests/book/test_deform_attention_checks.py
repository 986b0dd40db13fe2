import numpy as np
import pytest

from dyhead_book.c09_self_attention_to_deformable.deform_attention_checks import (
    DEFORM_ATTENTION_MISTAKES,
    MACS_MISTAKES,
    check_deform_attention,
    check_macs,
    counted_macs,
    deform_attention_formula,
)

from .planted import assert_bugs_are_caught

SUITES = [
    (check_deform_attention, deform_attention_formula, DEFORM_ATTENTION_MISTAKES),
    (check_macs, counted_macs, MACS_MISTAKES),
]


@pytest.mark.parametrize(("check", "solution", "bugs"), SUITES, ids=["deform_attention", "macs"])
def test_the_formula_passes_and_each_bug_is_caught(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def without_loops(value, reference, offsets, weights):
    """Another style: all points at once, four corners of a padded map."""
    x, y = np.moveaxis(reference[:, None, None] + offsets, -1, 0)
    padded = np.pad(value, ((30, 30), (30, 30), (0, 0), (0, 0)))
    left, top = np.floor(x).astype(int), np.floor(y).astype(int)
    head = np.arange(value.shape[2])[None, :, None]
    out = 0
    for row, share_y in ((top, 1 - (y - top)), (top + 1, y - top)):
        for column, share_x in ((left, 1 - (x - left)), (left + 1, x - left)):
            out = out + (weights * share_y * share_x)[..., None] * padded[row + 30, column + 30, head]
    return out.sum(2)


def test_right_answers_in_other_styles_pass():
    verdict = check_deform_attention(without_loops)
    assert verdict, verdict.message


def test_the_dense_count_is_the_closed_form():
    assert counted_macs(30, 64, 4, 3) == (4 * 30 * 64**2 + 2 * 30**2 * 64, 2 * 30 * 64**2 + 30 * 64 * (3 * 4 * 3 + 15))
