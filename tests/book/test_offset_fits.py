import pytest
import torch

from dyhead_book.c05_spatial_aware.offset_fits import (
    SHOWN,
    coarser_miss,
    finer_miss,
    fitted,
    offset_fits_figure,
    pointing_offsets,
)


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


def test_exact_ways_meet_the_place_and_the_published_ones_miss_it_by_what_the_chapter_says():
    place = (4.0, 6.0)
    offset = pointing_offsets((10, 10), place, share=1)
    for offset_fit in ("centres", "aligned"):
        assert coarser_miss(offset, place, 16, offset_fit).max() < 1e-4  # pixels; float32
    miss = coarser_miss(offset, place, 16, "resize")
    assert float(miss.mean()) == pytest.approx(7.5, abs=0.01) and float(miss.max()) == pytest.approx(11.31, abs=0.01)
    assert finer_miss(offset, place, 16, "aligned").max() < 1e-4
    as_it_is = finer_miss(offset, place, 16, "centres")
    assert as_it_is.shape == (10, 10)
    assert float(as_it_is[4, 6]) == pytest.approx(32**0.5), "4 pixels up and 4 to the left, where no offset is needed"
    assert float(as_it_is[4, 0]) == pytest.approx((52**2 + 4**2) ** 0.5), "6 cells away: 48 pixels short, and 4"


def test_one_panel_for_each_way():
    offset = pointing_offsets((4, 4), (1.0, 1.0))
    figure = offset_fits_figure(torch.rand(3, 64, 64), offset, (2, 2), 16, (24, 24))
    assert [axes.get_title() for axes in figure.axes] == list(SHOWN)
