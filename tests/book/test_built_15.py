"""Chapter 15: what its cells measure, held against the library, SciPy, and what can be worked out by hand."""

import numpy as np
import pytest
import torch
from scipy import stats

from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_lab.views.scale_explorer import RATIO, scale_numbers
from dyhead_lab.zoo import load_trained

from .definitions import definitions


@pytest.fixture(scope="module")
def cells():
    return definitions("15_learned_scale_ratios")


@pytest.fixture(scope="module")
def images():
    data = DrawnShapes(3)
    return [data.image(i) for i in range(3)]


@pytest.mark.parametrize("batch", [1, 2])
def test_ratios_of_a_detector_are_the_librarys(cells, images, batch):
    model = load_trained("quickstart").model
    expected = torch.stack(scale_numbers(model, images, 4)[RATIO][0]).double().log2().numpy()
    [found] = cells["ratios_of"](model, images, batch)
    np.testing.assert_allclose(found, expected, atol=1e-5)  # float32 gates


def test_two_blocks_are_told_apart(cells):
    everyday = load_trained("everyday").model
    blocks = cells["gates_of"](everyday, [torch.rand(3, 96, 128)])
    assert [[level.shape for level in block] for block in blocks] == 2 * [[(1, 2), (1, 3), (1, 3), (1, 3), (1, 2)]]


def test_before_training_every_ratio_is_near_one(cells, images):
    [ratios] = cells["ratios_of"](cells["untrained"](load_trained("quickstart")), images)
    assert np.abs(ratios).max() < 0.2  # gates start with a deviation of 0.01 for each of 64 channels


@pytest.mark.parametrize("seed", range(5))
def test_ranks_and_their_correlation_are_those_of_scipy(cells, seed):
    rng = np.random.default_rng(seed)
    x, y = rng.integers(0, 8, 30).astype(float), rng.normal(size=30)
    np.testing.assert_array_equal(cells["ranks"](x), stats.rankdata(x))
    expected = stats.spearmanr(x, y).statistic
    assert cells["rank_correlation"](x, y) == pytest.approx(expected, abs=1e-12)  # float64


def test_unrelated_numbers_have_even_p_values_and_related_ones_small_ones(cells):
    rng, relation = np.random.default_rng(0), cells["rank_correlation"]

    def p_of(x, y, times):
        return cells["permutation_p"](relation(x, y), cells["shuffled"](relation, x, y, times))

    unrelated = [p_of(*rng.normal(size=(2, 15)), 60) for _ in range(100)]
    assert 0.4 < np.mean(unrelated) < 0.6  # even p-values have mean 0.5; 0.1 is over three standard deviations
    x = rng.normal(size=40)
    assert p_of(x, x + 0.3 * rng.normal(size=40), 99) == 1 / 100


def test_holm_by_hand(cells):
    # 4 x 0.01, 3 x 0.02, 2 x 0.03 and 1 x 0.5, each at least as large as the one before it.
    np.testing.assert_allclose(cells["holm"](np.array([0.03, 0.01, 0.5, 0.02])), [0.06, 0.04, 0.5, 0.06])


def test_the_paired_interval_holds_the_mean_as_often_as_it_says(cells):
    rng = np.random.default_rng(0)
    held = []
    for _ in range(400):
        before = 5 * rng.normal(size=30)
        low, _, high = cells["paired_interval"](before, before + 0.2 + 0.5 * rng.normal(size=30))
        held.append(low <= 0.2 <= high)
    assert 0.91 < np.mean(held) < 0.98  # 95 % with a standard error of 1.1 %


def test_the_parts_of_the_gates_sum_to_the_change_of_the_ratio(cells):
    before, after = np.random.default_rng(0).uniform(0.5, 1, size=(2, 20, 3))
    change = cells["scale_ratios"]([after])[0] - cells["scale_ratios"]([before])[0]
    assert cells["gate_parts"](before, after).sum() == pytest.approx(change.mean(), abs=1e-12)  # float64


def test_zooming_twice_shows_the_middle_at_twice_the_size(cells):
    image = torch.zeros(3, 40, 60)
    image[:, 15:25, 25:35] = 1
    assert float(cells["zoomed"](image, 2).mean()) == pytest.approx(4 * float(image.mean()), rel=0.1)  # soft edges
    assert float(cells["zoomed"](image, 2)[:, :8].max()) == 0


def test_levels_that_are_alike_have_no_spread(cells):
    assert cells["spread_of_levels"](np.ones((4, 5))) == 0
    assert cells["spread_of_levels"](np.array([[0.0, 0.0], [2.0, 2.0]])) == 1
