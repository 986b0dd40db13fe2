import pytest
from matplotlib.figure import Figure

from dyhead_lab.views.figures import Picture
from dyhead_lab.views.switchboard import SWITCHES, Switchboard


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
