"""The decoder attention map, Corr, and the tokens that are kept."""

import pytest
import torch

from dyhead_lab.detectors.detr.dam import correlation, decoder_attention_map
from dyhead_lab.detectors.detr.token_selection import KeptTokens, keep_best, token_budget
from dyhead_lab.ops import ms_deform_attn

SHAPES = torch.tensor([[3, 4], [2, 2]])
STARTS = torch.tensor([0, 12])


def one_point(x, y, level=0):
    """Locations and weights of one query whose whole attention lies on one point."""
    locations = torch.full((1, 1, 1, 2, 1, 2), -9.0)
    locations[0, 0, 0, level, 0] = torch.tensor([x, y])
    weights = torch.zeros(1, 1, 1, 2, 1)
    weights[0, 0, 0, level] = 1.0
    return locations, weights


def test_a_point_in_the_centre_of_a_cell_counts_for_that_cell_alone():
    dam = decoder_attention_map(*one_point(2.5 / 4, 1.5 / 3), SHAPES, STARTS, 16)
    assert dam.argmax() == 1 * 4 + 2
    torch.testing.assert_close(dam.max(), torch.tensor(1.0))
    last = decoder_attention_map(*one_point(0.75, 0.75, level=1), SHAPES, STARTS, 16)
    assert last[0, 15] == 1 and last.sum() == 1


def test_the_official_map_is_shifted_by_half_a_cell():
    shifted = decoder_attention_map(*one_point(2.5 / 4, 1.5 / 3), SHAPES, STARTS, 16, half_pixel=False)
    assert shifted.nonzero()[:, 1].tolist() == [6, 7, 10, 11] and shifted.max() == 0.25
    corner = decoder_attention_map(*one_point(3.5 / 4, 2.5 / 3), SHAPES, STARTS, 16, half_pixel=False)
    assert corner.sum() == 0.25  # three quarters fall off the map


def test_the_map_is_the_weight_with_which_each_token_is_read():
    torch.manual_seed(0)
    locations = torch.rand(2, 5, 3, 2, 4, 2) * 1.4 - 0.2  # some outside
    weights = torch.rand(2, 5, 3, 2, 4)
    dam = decoder_attention_map(locations, weights, SHAPES, STARTS, 16)
    # The gradient of the attention's output to a value of 1 channel per head is the weight it was read with.
    value = torch.zeros(2, 16, 3, 1, requires_grad=True)
    ms_deform_attn(value, SHAPES, STARTS, locations, weights).sum().backward()
    torch.testing.assert_close(dam, value.grad.sum((2, 3)), atol=1e-5, rtol=0)


def test_the_map_is_summed_in_float32_where_autocast_gives_bfloat16_weights():
    torch.manual_seed(0)
    locations, weights = torch.rand(1, 400, 3, 2, 4, 2), torch.rand(1, 400, 3, 2, 4).bfloat16()
    dam = decoder_attention_map(locations, weights, SHAPES, STARTS, 16)
    exact = decoder_attention_map(locations.double(), weights.double(), SHAPES, STARTS, 16)
    # 1e-5: float32 sums of some thousand shares; sums in bfloat16 would be off by 1e-2.
    torch.testing.assert_close(dam, exact.float(), rtol=1e-5, atol=0)


def test_corr_is_the_share_of_attention_on_kept_tokens():
    dam = torch.tensor([[4.0, 0, 0, 1] + [0] * 8 + [5, 0, 0, 0], [0.0, 2, 0, 2] + [0] * 8 + [0, 2, 2, 0]])
    kept = torch.zeros(2, 16, dtype=torch.bool)
    kept[:, [0, 1, 12]] = True
    total, fine, coarse = correlation(dam, kept, [(3, 4), (2, 2)]).tolist()
    assert total == pytest.approx((9 / 10 + 2 / 8) / 2)
    assert fine == pytest.approx((4 / 5 + 2 / 4) / 2)
    assert coarse == pytest.approx((1 + 0) / 2)


def test_budget_counts_valid_tokens_of_each_image():
    padding = torch.zeros(3, 20, dtype=torch.bool)
    padding[1, 10:] = True
    padding[2, 1:] = True
    assert token_budget(padding, 0.3).tolist() == [7, 4, 1]
    assert token_budget(padding, 1.0).tolist() == [20, 10, 1]
    for rho in (0.0, 1.1, -1):
        with pytest.raises(ValueError, match=r"rho, .*must lie in \(0, 1\]"):
            token_budget(padding, rho)


def test_keep_best_takes_the_highest_scores_and_no_padding():
    scores = torch.tensor([[3.0, 9, 1, 5], [7.0, 8, 99, 6]])
    padding = torch.tensor([[False] * 4, [False, False, True, False]])
    kept = keep_best(scores, padding, torch.tensor([3, 1]))
    assert kept.labelled().tolist() == [[1, 3, 0], [1, -1, -1]]
    assert kept.mask(4).tolist() == [[True, True, False, True], [False, True, False, False]]


def test_scatter_is_the_loop_over_images_and_carries_gradients():
    torch.manual_seed(0)
    tokens = torch.randn(2, 6, 3, dtype=torch.float64, requires_grad=True)
    refined = torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True)
    index = torch.stack([torch.randperm(6)[:4] for _ in range(2)])
    kept = KeptTokens(index, torch.arange(4) >= torch.tensor([[4], [2]]))
    by_hand = tokens.detach().clone()
    for image, count in enumerate((4, 2)):
        for place in range(count):
            by_hand[image, index[image, place]] = refined[image, place]
    assert torch.equal(kept.scatter(tokens, refined), by_hand)
    assert torch.equal(kept.gather(tokens)[1, 3], tokens[1, index[1, 3]])
    assert torch.autograd.gradcheck(kept.scatter, (tokens, refined))
