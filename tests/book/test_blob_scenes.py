"""Scenes for shared offsets: the target is where the level says, on all three maps, and figures show every branch."""

import torch

from dyhead_book.c05_spatial_aware.blob_scenes import BRANCHES, REACH, STRIDES, blob_losses_figure, blob_scenes


def test_every_map_has_its_bump_where_the_near_cells_say():
    maps, positive, near = blob_scenes(6, torch.Generator().manual_seed(0))
    assert [tuple(level.shape[1:]) for level in maps] == [(16, 32, 32), (16, 16, 16), (16, 8, 8)]
    dy, dx = (REACH * maps[1][:, channel] for channel in (1, 2))
    for image in range(6):
        row, column = near[image].nonzero()[0].tolist()
        y, x = ((n + 0.5 + float(d[image, row, column])) * 16 for n, d in ((row, dy), (column, dx)))
        for level, stride, answer in zip(maps, STRIDES, positive[image].tolist(), strict=True):
            cell = level[image, 0, int(y // stride), int(x // stride)]
            assert (float(cell) > 0) == bool(answer), "the bump has the sign that is asked for"
    assert not maps[1][:, 1:3][:, :, ~near.any(0)].any(), "far cells know nothing"


def test_signs_of_the_maps_are_drawn_one_by_one():
    _, positive, _ = blob_scenes(64, torch.Generator().manual_seed(0))
    assert len(positive.unique(dim=0)) == 8


def test_every_branch_has_a_panel_with_a_line_for_each_way():
    figure = blob_losses_figure({"flat": [[0.7, 0.6, 0.5]] * 20, "aligned": [[0.7, 0.2, 0.1]] * 20})
    assert [axes.get_title() for axes in figure.axes] == [f"{name} map" for name in BRANCHES]
    assert all(len(axes.lines) == 3 for axes in figure.axes), "two ways, and the line of guessing"
