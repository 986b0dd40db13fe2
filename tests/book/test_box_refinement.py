import numpy as np
import torch

from dyhead_book.c11_deformable_detr.box_refinement import query_places_figure, refinement_figure
from dyhead_lab.views.figures import Picture


def test_a_query_keeps_its_colour_from_point_to_box():
    points, boxes = torch.tensor([[0.5, 0.25], [0.1, 0.9]]), torch.tensor([[0.5, 0.5, 0.2, 0.4], [0.3, 0.3, 0.1, 0.1]])
    image = torch.rand(3, 50, 100)
    figure = refinement_figure(image, [points, boxes], {1: "one", 0: "zero"}, ["points", "boxes"])
    first, second = figure.axes
    assert [line.get_xydata().round(4).tolist() for line in first.lines] == [[[10, 45]], [[50, 12.5]]]
    assert not first.patches and len(second.patches) == 4  # an outline and its dark border for each box
    np.testing.assert_allclose(second.patches[3].get_bbox().extents, [40, 15, 60, 35], rtol=1e-5)
    assert [line.get_color() for line in first.lines] == [line.get_color() for line in second.lines]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["one", "zero"]
    assert Picture(figure, "a test").png


def test_dots_are_sorted_by_the_sizes_of_coco():
    boxes = torch.tensor([[[0.1, 0.2, 0.19, 0.2]], [[0.3, 0.4, 0.3, 0.3]], [[0.5, 0.6, 0.7, 0.7]]])  # 160 pixels
    figure = query_places_figure(boxes, [0], side=160)
    small, medium, large = figure.axes[0].lines
    for line, centre in ((small, [0.1, 0.2]), (medium, [0.3, 0.4]), (large, [0.5, 0.6])):
        np.testing.assert_allclose(line.get_xydata(), [centre], rtol=1e-6)
