import numpy as np
import torch

from dyhead_book.c14_attention_maps.token_maps_figure import token_maps_figure
from dyhead_lab.views.figures import Picture

IMAGE = torch.full((3, 32, 48), 0.5)


def test_brightness_is_each_maps_own_or_common():
    maps = {"weak": torch.tensor([[0.0, 1.0]]), "strong": torch.tensor([[0.0, 4.0]])}

    def largest(figure):
        return [float(np.max(axes.images[1].get_array())) for axes in figure.axes]

    assert largest(token_maps_figure(IMAGE, maps)) == [1, 1]
    assert largest(token_maps_figure(IMAGE, maps, brightest=2.0)) == [0.5, 1]  # beyond the brightest: cut


def test_a_map_lies_over_the_whole_image_with_query_and_boxes():
    maps = {"a": torch.rand(2, 3)}
    figure = token_maps_figure(IMAGE, maps, query=(5, 7), boxes=torch.tensor([[1.0, 2.0, 9.0, 12.0]]))
    (axes,) = figure.axes
    assert axes.images[1].get_extent() == [0, 48, 32, 0]
    assert axes.lines[0].get_xydata().tolist() == [[5, 7]]
    assert axes.lines[1].get_xdata().max() == 9 and axes.lines[1].get_ydata().max() == 12
    assert Picture(figure, "a test").png
