"""Spatial-aware attention: how offsets fit a coarser grid, and the paper's equation as loops."""

import math

import pytest
import torch
from torch import nn

from dyhead_lab.attention import OFFSET_FITS, PaperSpatialAwareAttention, SpatialAwareAttention
from dyhead_lab.attention.spatial import fit_offsets


def numbered(channels, height, width):
    """A map for two images in which every number tells where it stood."""
    return torch.arange(2.0 * channels * height * width).view(2, channels, height, width)


def test_flat_reads_a_prefix_of_each_image():
    offset, mask = numbered(18, 6, 8), numbered(9, 6, 8)
    flat_offset, flat_mask = fit_offsets(offset, mask, torch.Size((3, 4)), "flat")
    for b in range(2):
        for channel in range(18):
            for y in range(3):
                for x in range(4):
                    assert flat_offset[b, channel, y, x] == offset[b].flatten()[(channel * 3 + y) * 4 + x]
        assert flat_mask[b].flatten().tolist() == mask[b].flatten()[: 9 * 12].tolist()


def test_crop_takes_the_top_left_corner():
    offset, mask = fit_offsets(numbered(18, 6, 8), numbered(9, 6, 8), torch.Size((3, 4)), "crop")
    assert torch.equal(offset, numbered(18, 6, 8)[:, :, :3, :4])
    assert torch.equal(mask, numbered(9, 6, 8)[:, :, :3, :4])


def centres(cells, stride):
    return (torch.arange(cells) + 0.5) * stride


def offsets_to(place, H, W, stride):
    """Offsets (1, 18, H, W) that point from the centre of every cell at one place (y, x) of the image."""
    offset = torch.zeros(1, 18, H, W)
    offset[:, 0::2] = ((place[0] - centres(H, stride)) / stride)[:, None]
    offset[:, 1::2] = (place[1] - centres(W, stride)) / stride
    return offset


def distances(offset, place, stride):
    """How far the cells' offsets (1, 18, h, w) miss the place, in pixels of the image, (h, w)."""
    h, w = offset.shape[-2:]
    y, x = centres(h, stride)[:, None] + stride * offset[0, 0], centres(w, stride) + stride * offset[0, 1]
    return ((y - place[0]) ** 2 + (x - place[1]) ** 2).sqrt()


@pytest.mark.parametrize("size", [(6, 8), (7, 9), (5, 5), (1, 3)])
@pytest.mark.parametrize("offset_fit", ["centres", "aligned"])
def test_offsets_that_point_at_one_place_still_do_so_from_the_coarser_level(size, offset_fit):
    place, half = (20.0, 31.0), torch.Size((n + 1) // 2 for n in size)
    offset, _ = fit_offsets(offsets_to(place, *size, stride=8), torch.zeros(1, 9, *size), half, offset_fit)
    assert distances(offset, place, stride=16).max() < 1e-5  # float32 at numbers below 64


def test_aligned_offsets_point_at_the_same_place_of_the_finer_level_too():
    # The finer branch reads a ramp that tells x; it is asked, at every cell, for what lies at x = 31.
    attention = SpatialAwareAttention(16, "aligned")
    seen = []
    attention.finer.forward = lambda x, offset, mask: seen.append(offset) or torch.zeros(1, 16, *offset.shape[-2:])
    attention._from_finer(
        torch.zeros(1, 16, 12, 16), offsets_to((20.0, 31.0), 6, 8, 8), torch.zeros(1, 9, 6, 8), (6, 8)
    )
    rows, columns = (4 * (2 * torch.arange(n) + 0.5) for n in (6, 8))  # where a stride of 2 stands, in pixels
    y, x = rows[:, None] + 4 * seen[0][0, 0], columns + 4 * seen[0][0, 1]
    torch.testing.assert_close(y, torch.full((6, 8), 20.0))
    torch.testing.assert_close(x, torch.full((6, 8), 31.0))


def test_resized_corners_miss_the_place_by_half_a_pixel_of_the_level():
    offset, _ = fit_offsets(offsets_to((20.0, 31.0), 6, 8, 8), torch.zeros(1, 9, 6, 8), torch.Size((3, 4)), "resize")
    assert 4 < distances(offset, (20.0, 31.0), stride=16).mean() < 6


def test_resized_corners_keep_the_corners_and_halve_the_offsets():
    offset, mask = fit_offsets(numbered(18, 6, 8), numbered(9, 6, 8), torch.Size((3, 4)), "resize")
    assert offset.shape == (2, 18, 3, 4) and mask.shape == (2, 9, 3, 4)
    for theirs, ours in ((0, 0), (-1, -1)):
        torch.testing.assert_close(offset[:, :, ours, ours], numbered(18, 6, 8)[:, :, theirs, theirs] / 2)
        torch.testing.assert_close(mask[:, :, ours, ours], numbered(9, 6, 8)[:, :, theirs, theirs])


def test_an_unknown_fit_is_refused():
    with pytest.raises(ValueError, match="expected flat, crop, resize, centres or aligned, got 'upsample'"):
        fit_offsets(numbered(18, 6, 8), numbered(9, 6, 8), torch.Size((3, 4)), "upsample")


def randomised(module):
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.3)
    return module


@pytest.mark.parametrize("offset_fit", OFFSET_FITS)
def test_the_coarser_branch_depends_on_how_offsets_fit_and_the_finer_one_if_aligned(offset_fit):
    torch.manual_seed(0)
    attention = randomised(SpatialAwareAttention(16, "flat"))
    own, finer, coarser = torch.randn(1, 16, 6, 8), torch.randn(1, 16, 12, 16), torch.randn(1, 16, 3, 4)
    flat = attention(own, finer, coarser)
    attention.offset_fit = offset_fit
    other = attention(own, finer, coarser)
    assert [x.shape for x in other] == [own.shape] * 3
    assert torch.equal(flat[1], other[1])
    assert torch.equal(flat[0], other[0]) == (offset_fit != "aligned")
    assert torch.equal(flat[2], other[2]) == (offset_fit == "flat")


def test_without_offsets_it_is_three_ordinary_convolutions():
    torch.manual_seed(0)
    attention = SpatialAwareAttention(16, deformable=False)
    own, finer, coarser = torch.randn(1, 16, 6, 8), torch.randn(1, 16, 12, 16), torch.randn(1, 16, 6, 8)
    expected = [
        block.norm(nn.functional.conv2d(x, block.conv.weight, block.conv.bias, stride, 1))
        for block, x, stride in (
            (attention.finer, finer, 2),
            (attention.own, own, 1),
            (attention.coarser, coarser, 1),
        )
    ]
    for branch, same in zip(attention(own, finer, coarser), expected, strict=True):
        torch.testing.assert_close(branch, same)


@pytest.mark.parametrize(
    ("options", "message"), [({"channels": 24}, "multiple of 16"), ({"offset_fit": "pad"}, "offset_fit")]
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        SpatialAwareAttention(**{"channels": 16} | options)


def bilinear(x_HW, y, x):
    """x_HW at (y, x), zero outside."""
    height, width = x_HW.shape
    total = 0.0
    for i in (math.floor(y), math.floor(y) + 1):
        for j in (math.floor(x), math.floor(x) + 1):
            if 0 <= i < height and 0 <= j < width:
                total += (1 - abs(y - i)) * (1 - abs(x - j)) * x_HW[i, j].item()
    return total


@pytest.mark.parametrize("depthwise", [False, True])
def test_paper_form_is_equation_4(depthwise):
    torch.manual_seed(0)
    L, C, H, W = 3, 2, 3, 4
    attention = PaperSpatialAwareAttention(C, L, depthwise).double()
    randomised(attention.offset_mask)
    F_BLSC = torch.randn(1, L, H * W, C, dtype=torch.float64)
    maps = F_BLSC[0].transpose(1, 2).view(L, C, H, W)
    offset, mask = attention.offset_mask(maps[1][None])
    expected = torch.zeros(C, H, W, dtype=torch.float64)
    for c in range(C):
        for i in range(H):
            for j in range(W):
                for l in range(L):
                    for k in range(9):
                        y = i - 1 + k // 3 + offset[0, 2 * k, i, j].item()
                        x = j - 1 + k % 3 + offset[0, 2 * k + 1, i, j].item()
                        tap = k // 3, k % 3
                        for c_in in [c] if depthwise else range(C):
                            w = attention.weight[(0, l, *tap) if depthwise else (c, c_in * L + l, *tap)]
                            expected[c, i, j] += w * bilinear(maps[l, c_in], y, x) * mask[0, k, i, j] / L
    # Double precision: only the order of the sums differs.
    torch.testing.assert_close(attention(F_BLSC, (H, W)), expected.flatten(1).T[None, None], rtol=0, atol=1e-12)


@pytest.mark.parametrize("depthwise", [False, True])
def test_paper_form_without_offsets_is_an_ordinary_convolution(depthwise):
    torch.manual_seed(0)
    attention = PaperSpatialAwareAttention(4, 2, depthwise, deformable=False)
    deformable = PaperSpatialAwareAttention(4, 2, depthwise)
    deformable.weight = attention.weight
    F_BLSC = torch.randn(2, 2, 15, 4)
    # Offsets start at zero and masks at one half.
    torch.testing.assert_close(attention(F_BLSC, (3, 5)) / 2, deformable(F_BLSC, (3, 5)))


def test_one_image_whose_level_is_a_single_place():
    torch.manual_seed(0)
    attention = SpatialAwareAttention(32)
    [alone] = attention(torch.randn(1, 32, 1, 1))
    assert alone.shape == (1, 32, 1, 1) and alone.isfinite().all() and alone.any()
