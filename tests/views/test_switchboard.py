import pytest
import torch
from matplotlib.figure import Figure

from dyhead_lab.views.figures import Picture
from dyhead_lab.views.switchboard import SWITCHES, Switchboard, boxes_and_features_figure


@pytest.fixture
def asked():
    return []


@pytest.fixture
def board(asked):
    def picture(**on):
        asked.append(on)
        return Picture(Figure(), "off: " + (", ".join(name for name in SWITCHES if not on[name]) or "nothing"))

    return Switchboard(picture)


def test_a_button_changes_the_picture_and_says_its_state(board, asked):
    assert asked == [{"scale": True, "spatial": True, "task": True}]
    assert board.picture().alt == "off: nothing"
    board.buttons["spatial"].value = False
    assert asked[-1] == {"scale": True, "spatial": False, "task": True} == board.setting
    assert board.buttons["spatial"].description == "spatial: off"
    assert 'alt="off: spatial"' in board.children[1].value


def test_a_setting_is_computed_once(board, asked):
    for value in (False, True, False):
        board.buttons["task"].value = value
    assert len(asked) == 2


def test_the_picture_stands_beside_the_widget(board):
    board.buttons["scale"].value = False
    data, metadata = board._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data and data["image/png"]
    assert metadata["image/png"] == {"alt": "off: scale"}


def test_every_level_is_drawn_beside_the_boxes():
    found = {"boxes": torch.tensor([[2.0, 2, 20, 20]]), "labels": torch.tensor([0]), "scores": torch.tensor([0.9])}
    features = [torch.rand(1, 4, size, size) for size in (8, 4, 2)]
    figure = boxes_and_features_figure(torch.rand(3, 40, 40), found, features, ["P3", "P4", "P5"], ["disc"])
    titles = [axes.get_title() for axes in figure.axes]
    assert titles[0] == "" and [title[:3] for title in titles[1:]] == ["P3:", "P4:", "P5:"]
    assert any(text.get_text() == "disc 0.90" for text in figure.axes[0].texts)
