"""The checks of chapter 05: right answers of several styles pass, and every mistake is named."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from dyhead_book.c05_spatial_aware import module_checks as modules
from dyhead_book.c05_spatial_aware import spatial_checks as spatial
from dyhead_book.practice.reader_checks import check
from dyhead_lab.attention import spatial as library
from dyhead_lab.ops import deform_conv2d

from .planted import assert_bugs_are_caught


def paper_spatial(F_BLCHW, offset, mask, weight):
    levels = zip(F_BLCHW.unbind(1), weight, strict=True)
    return sum(deform_conv2d(x, offset, w, padding=1, mask=mask) for x, w in levels) / len(weight)


def paper_spatial_at_once(F_BLCHW, offset, mask, weight):
    joined = weight.transpose(0, 1).flatten(1, 2) / len(weight)
    return deform_conv2d(F_BLCHW.flatten(1, 2), offset, joined, padding=1, mask=mask)


def neighbours(offset, mask):
    return 2 * offset + 0.5, F.avg_pool2d(offset, 2) / 2, F.avg_pool2d(mask, 2)


def neighbours_by_interpolation(offset, mask):
    size = [n // 2 for n in mask.shape[-2:]]
    smaller, mask = (F.interpolate(x, size=size, mode="bilinear", align_corners=False) for x in (offset, mask))
    return [offset + offset + 0.5, 0.5 * smaller, mask]


def flat_source(channel, row, column, h, w, H, W):
    channel, rest = divmod((channel * h + row) * w + column, H * W)
    return channel, *divmod(rest, W)


TABLES = {
    "paper": (spatial.check_paper_spatial, paper_spatial, spatial.PAPER_SPATIAL_MISTAKES),
    "neighbours": (spatial.check_neighbours, neighbours, spatial.NEIGHBOURS_MISTAKES),
    "flat": (spatial.check_flat_source, flat_source, spatial.FLAT_MISTAKES),
}
MODULES = {
    "offset and mask": (library.OffsetMaskConv, modules.offset_mask_cases, modules.OFFSET_MASK_MISTAKES),
    "branch": (library.DeformableConvNorm, modules.branch_cases, modules.BRANCH_MISTAKES),
    "whole": (library.SpatialAwareAttention, modules.spatial_cases, modules.SPATIAL_MISTAKES),
}


@pytest.mark.parametrize("name", TABLES)
def test_solutions_pass_and_planted_bugs_are_named(name):
    assert_bugs_are_caught(*TABLES[name])


@pytest.mark.parametrize("name", MODULES)
def test_planted_bugs_of_modules_are_named(name):
    build, cases, mistakes = MODULES[name]
    assert_bugs_are_caught(
        lambda run: check(run, modules.running(build), cases(), mistakes), modules.running(build), mistakes
    )


def test_other_styles_are_right():
    assert spatial.check_paper_spatial(paper_spatial_at_once)
    assert spatial.check_neighbours(neighbours_by_interpolation)
    assert modules.check_offset_mask(library.OffsetMaskConv)
    assert modules.check_branch(library.DeformableConvNorm)
    assert modules.check_spatial(library.SpatialAwareAttention)


def test_a_convolution_that_does_not_start_at_zero_is_told():
    class Fresh(nn.Conv2d):
        def __init__(self, channels):
            super().__init__(channels, 27, 3, padding=1)

    assert "weight does not start at zero" in modules.check_offset_mask(Fresh).message


def test_parameters_of_other_names_and_shapes_are_told():
    class OtherName(nn.Module):
        def __init__(self, channels, stride=1):
            super().__init__()
            self.convolution, self.norm = nn.Conv2d(channels, channels, 3), nn.GroupNorm(16, channels)

    class OneMore(library.DeformableConvNorm):
        def __init__(self, channels, stride=1):
            super().__init__(channels, stride)
            self.scale = nn.Parameter(torch.ones(1))

    class Narrow(library.DeformableConvNorm):
        def __init__(self, channels, stride=1):
            super().__init__(channels - 16, stride)

    assert "no place for conv.weight of shape (32, 32, 3, 3)" in modules.check_branch(OtherName).message
    assert "scale should not be there" in modules.check_branch(OneMore).message
    assert "conv.weight has shape (16, 16, 3, 3)" in modules.check_branch(Narrow).message
