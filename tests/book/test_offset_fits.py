import pytest
import torch

from dyhead_book.c05_spatial_aware.offset_fits import fitted, offset_fits_figure, pointing_offsets
from dyhead_lab.attention.spatial import OFFSET_FITS


def test_example_offsets_point_at_the_target_and_are_not_too_long():
    offset = pointing_offsets((6, 8), (2.0, 5.0), longest=1.5).view(9, 2, 6, 8)
    assert torch.equal(offset[0], offset[8]), "all taps move alike"
    assert offset[0, :, 2, 5].tolist() == [0, 0]
    dy, dx = offset[0, :, 2, 0].tolist()
    assert dy == 0 and dx == pytest.approx(1.5), "five cells away: half the way is longer than the limit"
    assert offset[0, :, 1, 5].tolist() == [0.5, 0], "one cell away: half the way"


def test_arrows_of_resize_are_those_of_the_level_in_pixels():
    offset = torch.full((18, 6, 8), 2.0)
    resized, cells = fitted(offset, (3, 4), "resize")
    assert resized.shape == (18, 3, 4) and torch.allclose(resized * cells, torch.tensor(2.0))
    upsampled, cells = fitted(offset, (3, 4), "upsample")
    assert upsampled is offset and cells == 1
    cropped, cells = fitted(offset, (3, 4), "crop")
    assert torch.allclose(cropped * cells, torch.tensor(4.0)), "cut out, not halved: twice too long"


def test_one_panel_for_each_way():
    offset = pointing_offsets((4, 4), (1.0, 1.0))
    figure = offset_fits_figure(torch.rand(3, 64, 64), offset, (2, 2), 16, (24, 24))
    assert sorted(axes.get_title() for axes in figure.axes) == sorted(OFFSET_FITS)
