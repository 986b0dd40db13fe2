"""The chapter on attention maps: solutions pass, planted bugs are caught by name."""

import numpy as np
import pytest
import torch

from dyhead_book.c14_attention_maps.map_checks import (
    HEAT_MISTAKES,
    SHARE_MISTAKES,
    SPREAD_MISTAKES,
    check_heat_map,
    check_share_inside,
    check_spread,
    heat_map,
    share_inside,
    spread,
)
from dyhead_lab.detectors.detr.dam import decoder_attention_map

from .planted import assert_bugs_are_caught


def test_bugs_of_the_heat_map_are_caught():
    assert_bugs_are_caught(check_heat_map, heat_map, HEAT_MISTAKES)


def test_bugs_of_the_spread_are_caught():
    assert_bugs_are_caught(check_spread, spread, SPREAD_MISTAKES)


def test_bugs_of_the_share_inside_a_box_are_caught():
    assert_bugs_are_caught(check_share_inside, share_inside, SHARE_MISTAKES)


def test_the_heat_map_is_a_decoder_attention_map_of_one_level():
    rng = np.random.default_rng(0)
    positions, weights = rng.uniform(-0.2, 1.2, (12, 2)), rng.uniform(size=12)
    locations = torch.from_numpy(positions).view(1, 3, 2, 1, 2, 2)
    attention = torch.from_numpy(weights).view(1, 3, 2, 1, 2)
    dam = decoder_attention_map(locations, attention, torch.tensor([[4, 7]]), torch.tensor([0]), 28)
    np.testing.assert_allclose(heat_map(positions, weights, 4, 7), dam.view(4, 7).numpy(), atol=1e-12)


def test_the_spread_of_a_cross_is_its_arm():
    cross = np.array([[0.5, 0.4], [0.5, 0.6], [0.4, 0.5], [0.6, 0.5]])
    assert spread(cross, np.full(4, 3.0)) == pytest.approx(0.1)
