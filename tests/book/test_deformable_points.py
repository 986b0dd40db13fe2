import numpy as np
import torch

from dyhead_book.figures.deformable_points import Points, offsets_figure, points_figure
from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.views.figures import Picture

M, L, P = 4, 3, 2


def test_the_ring_of_the_first_offsets_is_drawn_as_it_is():
    attention = MultiScaleDeformableAttention(32, L, M, P)
    offsets = attention.sampling_offsets.bias.detach().view(M, L, P, 2)
    figure = offsets_figure(offsets, [f"level {level}" for level in range(L)])
    assert len(figure.axes) == L
    for level, axes in enumerate(figure.axes):
        drawn = np.concatenate([line.get_xydata() for line in axes.lines[:M]])
        np.testing.assert_allclose(drawn, offsets[:, level].flatten(0, 1))
        assert axes.yaxis_inverted(), "y points down, as in images"


def test_points_lie_where_they_read_and_weigh_what_they_say():
    image = torch.rand(3, 40, 80)
    locations, weights = torch.rand(M, L, P, 2), torch.rand(M, L, P)
    queries = {"box": Points(locations, weights, torch.tensor([0.5, 0.5, 0.2, 0.4]))}
    figure = points_figure(image, queries, sizes=[(10, 20), (5, 10), (3, 5)])
    axes = figure.axes[0]
    for level, discs in enumerate(axes.collections):
        expected = locations[:, level].flatten(0, 1) * torch.tensor([80, 40])
        np.testing.assert_allclose(discs.get_offsets(), expected, rtol=1e-6)
        sizes = torch.from_numpy(np.asarray(discs.get_sizes()))
        np.testing.assert_allclose(sizes / sizes.sum(), (w := weights[:, level].flatten()) / w.sum(), rtol=1e-5)
    np.testing.assert_allclose(axes.patches[0].get_bbox().extents, [32, 12, 48, 28], rtol=1e-6)
    texts = [text.get_text() for text in figure.legends[0].get_texts()]
    assert texts == ["level 0, stride 4", "level 1, stride 8", "level 2, stride 16"]
    assert Picture(figure, "a test").png


def test_a_reference_point_has_no_box_and_empty_places_stay_empty():
    points = Points(torch.rand(M, L, P, 2), torch.rand(M, L, P), torch.tensor([0.5, 0.5]))
    figure = points_figure(torch.rand(3, 8, 8), {"a": points, "b": points, "c": points}, [(4, 4)] * L, columns=2)
    assert len(figure.axes) == 4 and not figure.axes[0].patches and not figure.axes[3].has_data()
