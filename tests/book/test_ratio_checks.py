"""The checks of correlations and permutations in the chapter on scale ratios: planted bugs are caught by name."""

import pytest

from dyhead_book.c15_learned_scale_ratios.ratio_checks import (
    HOLM_MISTAKES,
    P_MISTAKES,
    RANK_MISTAKES,
    check_holm,
    check_permutation_p,
    check_rank_correlation,
)

from .definitions import definitions
from .planted import assert_bugs_are_caught

CELLS = definitions("15_learned_scale_ratios")


@pytest.mark.parametrize(
    ("check", "name", "bugs"),
    [
        (check_rank_correlation, "rank_correlation", RANK_MISTAKES),
        (check_permutation_p, "permutation_p", P_MISTAKES),
        (check_holm, "holm", HOLM_MISTAKES),
    ],
)
def test_bugs(check, name, bugs):
    assert_bugs_are_caught(check, CELLS[name], bugs)
