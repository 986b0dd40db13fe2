import numpy as np
import pytest
from scipy import stats

from dyhead_book.c15_learned_scale_ratios.ratio_checks import (
    HOLM_MISTAKES,
    P_MISTAKES,
    PART_MISTAKES,
    RANK_MISTAKES,
    check_gate_parts,
    check_holm,
    check_permutation_p,
    check_rank_correlation,
    gate_parts,
    holm,
    permutation_p,
    rank_correlation,
    ranks,
    shuffled,
)

from .planted import assert_bugs_are_caught


@pytest.mark.parametrize(
    ("check", "solution", "bugs"),
    [
        (check_rank_correlation, rank_correlation, RANK_MISTAKES),
        (check_permutation_p, permutation_p, P_MISTAKES),
        (check_holm, holm, HOLM_MISTAKES),
        (check_gate_parts, gate_parts, PART_MISTAKES),
    ],
)
def test_bugs(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


@pytest.mark.parametrize("seed", range(5))
def test_ranks_and_their_correlation_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 8, 30).astype(float), rng.normal(size=30)
    np.testing.assert_array_equal(ranks(x), stats.rankdata(x))
    assert rank_correlation(x, y) == pytest.approx(stats.spearmanr(x, y).statistic, abs=1e-12)  # float64


def test_unrelated_numbers_have_even_p_values_and_related_ones_small_ones():
    rng = np.random.default_rng(0)
    p_unrelated = []
    for _ in range(100):
        x, y = rng.normal(size=(2, 15))
        p_unrelated.append(permutation_p(rank_correlation(x, y), shuffled(rank_correlation, x, y, 60)))
    assert 0.4 < np.mean(p_unrelated) < 0.6  # even p-values have mean 0.5; 0.1 is over three standard deviations
    x = rng.normal(size=40)
    y = x + 0.3 * rng.normal(size=40)
    assert permutation_p(rank_correlation(x, y), shuffled(rank_correlation, x, y, 99)) == 1 / 100


def test_holm_by_hand():
    # 4 x 0.01, 3 x 0.02, 2 x 0.03 and 1 x 0.5, each at least as large as the one before it.
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.5, 0.02])), [0.06, 0.04, 0.5, 0.06])


def test_the_parts_of_the_gates_sum_to_the_change_of_the_ratio():
    before, after = np.random.default_rng(0).uniform(0.5, 1, size=(2, 20, 3))
    change = np.log2(after[:, 0] / after[:, -1]) - np.log2(before[:, 0] / before[:, -1])
    assert gate_parts(before, after).sum() == pytest.approx(change.mean(), abs=1e-12)  # float64
