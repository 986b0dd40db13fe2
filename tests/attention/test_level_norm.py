"""The norm of a pyramid's level: PyTorch's group normalisation, in whatever order the map lies."""

import pytest
import torch

from dyhead_lab.attention.pyramid import LevelNorm


@pytest.mark.parametrize("size", [(1, 1), (5, 7), (40, 30)])
@pytest.mark.parametrize("groups", [1, 4, 16])  # of 16, 4 and 1 channels
def test_channels_last_maps_give_what_others_give_and_stay_channels_last(groups, size):
    norm = LevelNorm(groups, 16)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    x, cotangent = torch.randn(2, 16, *size), torch.randn(2, 16, *size)

    def outcome(x):
        leaf = x.detach().requires_grad_()
        y = norm(leaf)
        return y, *torch.autograd.grad(y, (leaf, norm.weight, norm.bias), cotangent)

    expected = outcome(x)
    got = outcome(x.contiguous(memory_format=torch.channels_last))
    assert got[0].is_contiguous(memory_format=torch.channels_last)
    for of_last, of_first in zip(got, expected, strict=True):
        torch.testing.assert_close(of_last, of_first, rtol=1e-4, atol=1e-4)  # sums of 1,200 float32 in another order


def test_it_is_pytorchs_group_norm():
    x = torch.randn(2, 16, 5, 7)
    assert torch.equal(LevelNorm(4, 16)(x), torch.nn.GroupNorm(4, 16)(x))
