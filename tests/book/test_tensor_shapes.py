import pytest
import torch

from dyhead_book.c07_dynamic_head.tensor_shapes import paper_steps, released_steps, shapes_figure
from dyhead_lab.attention import DyHead
from dyhead_lab.trace import trace
from dyhead_lab.views.figures import Picture

LEVELS = ["P3", "P4", "P5"]
SIZES = [(12, 16), (6, 8), (3, 4)]
PYRAMID = [torch.zeros(2, 16, *size) for size in SIZES]


def traced(**options):
    with torch.no_grad(), trace(head := DyHead(16, blocks=1, **options)) as seen:
        head(PYRAMID)
    return seen


def sizes(step):
    return [[tuple(shape[2:]) for shape in row] for row in step.maps]


def test_released_form_keeps_the_pyramid():
    steps = released_steps(PYRAMID, traced())
    assert [step.name for step in steps] == ["the pyramid", "after spatial", "after scale", "after task"]
    assert [len(row) for row in steps[1].maps] == [2, 3, 2], "the ends of the pyramid have one neighbour"
    for step in steps:
        assert [set(row) for row in sizes(step)] == [{size} for size in SIZES]


@pytest.mark.parametrize(("levels", "rows"), [("residual", 3), ("collapse", 1)])
def test_paper_form_works_at_the_median_size_and_sums_over_levels(levels, rows):
    steps = paper_steps(PYRAMID, traced(form="paper", num_levels=3, levels=levels))
    assert [len(step.maps) for step in steps] == [3, 3, 3, rows, rows]
    assert all(row == [(6, 8)] for step in steps[1:] for row in sizes(step))


@pytest.mark.parametrize("levels", ["residual", "collapse"])
def test_the_figure_names_every_step_and_size(levels):
    figure = shapes_figure(paper_steps(PYRAMID, traced(form="paper", num_levels=3, levels=levels)), LEVELS)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert {"the pyramid", "after spatial", "12 × 16", "6 × 8", *LEVELS} <= set(texts)
    assert Picture(figure, "a test").png
