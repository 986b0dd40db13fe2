import pytest
import torch

from dyhead_lab.views.token_maps import levels_of


def test_levels_are_cut_in_order():
    fine, coarse = levels_of(torch.arange(8), [(2, 3), (1, 2)])
    assert fine.tolist() == [[0, 1, 2], [3, 4, 5]] and coarse.tolist() == [[6, 7]]


def test_levels_that_do_not_add_up_are_refused():
    with pytest.raises(ValueError, match="have 6 tokens, expected 8"):
        list(levels_of(torch.arange(8), [(2, 3)]))
