import numpy as np
import pytest
import torch

from dyhead_book.c05_spatial_aware.receptive_field import (
    Field,
    LevelTaps,
    in_pixels,
    radii_figure,
    radius,
    receptive_field_figure,
    share_inside,
    stacked_field,
    taps_of,
)
from dyhead_lab.attention import DyHead
from dyhead_lab.trace import trace

STRIDES = (8, 16, 32)


def still_block(sizes, mask=1.0):
    """A block on the regular grid: no offsets, equal masks, gates of one."""
    branches = [1 + (l > 0) + (l < len(sizes) - 1) for l in range(len(sizes))]
    return [
        LevelTaps(np.zeros((18, n, n)), np.full((9, n, n), mask), np.ones(count))
        for n, count in zip(sizes, branches, strict=True)
    ]


def test_one_block_on_one_level_reads_its_nine_neighbours():
    field = stacked_field([still_block([7])], 0, (3, 3))
    assert sorted(zip(field.y, field.x, strict=True)) == [(y, x) for y in (2, 3, 4) for x in (2, 3, 4)]
    assert np.allclose(field.weight, 1) and radius(field, (1,)) == pytest.approx((4 / 3) ** 0.5)


def test_blocks_stack():
    one, two = still_block([9], 0.5), still_block([9], 0.2)
    field = stacked_field([one, two], 0, (4, 4))
    assert len(field.weight) == 81 and np.allclose(field.weight, 0.1)
    assert (field.y.min(), field.y.max()) == (2, 6)
    # A sum of two independent steps: their mean squares add up.
    assert radius(field, (1,)) == pytest.approx((8 / 3) ** 0.5)


def test_offsets_of_the_upper_block_decide_where_the_lower_one_is_asked():
    lower, upper = still_block([9]), still_block([9])
    upper[0].offset[0::2] = 2.0  # dy of every tap
    lower[0].offset[1::2, 7] = 1.0  # dx, only in row 7, which no tap of the upper block reaches without its offsets
    field = stacked_field([lower, upper], 0, (4, 4))
    assert (field.y.min(), field.y.max()) == (4, 8)
    shifted = field.x[field.x == 7]
    assert len(shifted), "points of row 7 moved one column to the right"


def test_neighbours_are_read_on_their_own_grids():
    field = stacked_field([still_block([8, 4, 2])], 1, (2, 2))
    assert [int((field.level == l).sum()) for l in range(3)] == [9, 9, 9]
    finer = in_pixels(field, STRIDES)[field.level == 0]
    assert finer.mean(0).tolist() == [36, 36], (
        "a stride of 2 reads cell 2i: a quarter of a cell before the centre at 40"
    )
    assert np.allclose(field.weight, 1 / 3)


def test_with_aligned_offsets_all_branches_read_where_the_level_points():
    block = still_block([8, 4, 2])
    block[1].offset[0::2] = 1.0  # dy of every tap, one cell of 16 pixels
    centres = {}
    for offset_fit in ("centres", "aligned"):
        points = in_pixels(field := stacked_field([block], 1, (1, 1), offset_fit), STRIDES)
        centres[offset_fit] = [points[field.level == l].mean(0).tolist() for l in range(3)]
    assert centres["aligned"] == [[40, 24]] * 3, "cell (1, 1) has its centre at pixel 24, and points 16 pixels down"
    assert centres["centres"] == [[28, 20], [40, 24], [40, 24]], "the finer branch: a quarter cell up, half as far"
    with pytest.raises(ValueError, match="offset_fit: expected one of resize, upsample, centres, aligned, got 'flat'"):
        stacked_field([block], 1, (1, 1), "flat")


def test_the_share_inside_a_box_counts_weight():
    field = Field(np.zeros(3, int), np.array([0.0, 1, 2]), np.zeros(3), np.array([1.0, 1, 2]))
    assert share_inside(field, (0, 0, 8, 16), (8,)) == 0.5


def test_the_field_of_a_real_head_adds_up_to_its_masks_and_gates():
    torch.manual_seed(0)
    head = DyHead(16, blocks=1)
    torch.nn.init.normal_(head.blocks[0].spatial.offset_mask.weight, std=0.05)
    pyramid = [torch.randn(2, 16, n, n) for n in (16, 8, 4)]
    with torch.no_grad(), trace(head) as seen:
        head(pyramid)
    (block,) = taps_of(seen, image=1)
    assert [taps.mask.shape for taps in block] == [(9, 16, 16), (9, 8, 8), (9, 4, 4)]
    field = stacked_field([block], 1, (4, 4))  # in the middle: nothing falls outside
    assert field.weight.sum() == pytest.approx(
        block[1].mask[:, 4, 4].sum() * block[1].gates.mean(), rel=1e-5
    )  # float32


def test_a_trace_without_offsets_is_refused():
    head = DyHead(16, blocks=1, spatial=False)
    with torch.no_grad(), trace(head) as seen:
        head([torch.randn(1, 16, 4, 4)])
    with pytest.raises(ValueError, match="expected offsets, masks and scale_weights"):
        taps_of(seen)


def test_figures_show_every_point():
    field = stacked_field([still_block([8, 4, 2])], 1, (2, 2))
    boxes = torch.tensor([[10.0, 10, 50, 40]])
    kinds = {"first": [field], "second": [field]}
    figure = receptive_field_figure(torch.rand(3, 64, 64), kinds, boxes, [1], ["cup"], STRIDES)
    assert [axes.get_ylabel() for axes in figure.axes] == ["cup", ""]
    share = share_inside(field, boxes[0].tolist(), STRIDES)
    for axes, kind in zip(figure.axes, kinds, strict=True):
        assert len(axes.collections[0].get_offsets()) == len(field.weight)
        assert axes.get_title() == f"{kind}: {share:.0%} inside"
    with pytest.raises(ValueError, match="boxes: got none"):
        receptive_field_figure(torch.rand(3, 64, 64), {"none": []}, boxes[:0], [], [], STRIDES)
    longest, assigned = np.array([10.0, 70, 90]), np.array([0, 1, 1])
    (axes,) = radii_figure(longest, np.ones((3, 2)), assigned, ["P3", "P4"]).axes
    assert [len(dots.get_offsets()) for dots in axes.collections] == [2, 1, 1, 2]  # open and filled, level by level


def test_points_outside_are_left_out():
    field = stacked_field([still_block([3])], 0, (0, 0))
    assert isinstance(field, Field) and len(field.weight) == 4
