import pytest
import torch

from dyhead_book.c17_write_your_own_attention.joint_attention_figures import joint_map_figure, learning_figure
from dyhead_lab.views.figures import Picture


def test_a_thin_line_per_seed_a_thick_one_per_row_and_one_for_guessing():
    shares = {"without": [[0.2, 0.3, 0.3]], "with": [[0.2, 0.9, 1.0], [0.4, 0.7, 1.0]]}
    figure = learning_figure([0, 50, 100], shares, chance=0.25)
    guessing, *lines = figure.axes[0].lines
    assert set(guessing.get_ydata()) == {0.25}
    assert [line.get_label() for line in lines if not line.get_label().startswith("_")] == ["without", "with"]
    assert [list(line.get_ydata()) for line in lines[2:4]] == shares["with"]
    assert list(lines[4].get_ydata()) == pytest.approx([0.3, 0.8, 1.0])
    assert Picture(figure, alt="two lines").png


def test_every_level_says_how_much_of_the_weight_it_gets():
    weights = torch.tensor([0.1, 0.2, 0.3, 0.2, 0.1, 0.1])
    figure = joint_map_figure(weights, [(1, 4), (1, 2)], ["fine", "coarse"], {"asked": [(0, 1)], "twin": [(1, 0)]})
    fine, coarse = figure.axes[:2]
    assert [axes.get_title() for axes in (fine, coarse)] == ["fine: 80%", "coarse: 20%"]
    assert torch.equal(torch.from_numpy(fine.images[0].get_array().data), weights[:4].view(1, 4))
    assert fine.collections[0].get_offsets().tolist() == [[1, 0]]
    assert Picture(figure, alt="two maps").png


def test_a_map_of_other_levels_is_refused():
    with pytest.raises(ValueError, match="have 6 tokens, expected 5"):
        joint_map_figure(torch.ones(5) / 5, [(1, 4), (1, 2)], ["fine", "coarse"], {})
