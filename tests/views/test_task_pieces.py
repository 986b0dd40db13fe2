"""The task explorer: lines, values and readers of a channel are those of the forward pass."""

import io

import pytest
import torch
import traitlets
from PIL import Image
from torch import nn

from dyhead_lab.attention import DyHead
from dyhead_lab.trace import trace
from dyhead_lab.views.task_pieces import BINS, TaskPieces
from dyhead_lab.zoo import load_trained

IMAGES = list(torch.rand(3, 3, 96, 96, generator=torch.Generator().manual_seed(0)))
LEVELS = ["P3", "P4", "P5", "P6"]


@pytest.fixture(scope="module")
def model():
    return load_trained("quickstart").model


@pytest.fixture(scope="module")
def seen(model):
    with torch.no_grad(), trace(model) as seen:
        model(IMAGES)
    return seen


@pytest.fixture
def explorer(seen):
    return TaskPieces(seen, LEVELS)


def test_the_lines_are_those_that_acted_on_the_features(explorer, seen):
    explorer.level = 1
    c = explorer.channel
    coefficients = [t for _, t in seen.find("task_coefficients")][1][:, :, c]
    assert explorer.piece["lines"] == pytest.approx(coefficients.mean(0).tolist())
    before, after = ([t for _, t in seen.find(name)][1][:, c] for name in ("after_scale", "after_task"))
    a1, b1, a2, b2 = (k[:, None, None] for k in coefficients.unbind(1))
    torch.testing.assert_close(torch.maximum(a1 * before + b1, a2 * before + b2), after)
    assert explorer.piece["second"] == pytest.approx(float((a2 * before + b2 > a1 * before + b1).float().mean()))
    assert sum(explorer.piece["before"]) == pytest.approx(1) and len(explorer.piece["after"]) == BINS


def test_strengths_are_norms_of_the_layers_that_read_the_features(explorer, model):
    weight = model.head.classification_head.conv[0].weight
    by_channel = {int(row[0]): row[1:] for row in explorer.channels}
    assert len(by_channel) == weight.shape[1]
    assert by_channel[5][0] == pytest.approx(weight[:, 5].norm().item(), abs=1e-3)  # four digits are kept
    box = model.head.regression_head.conv[0].weight
    assert by_channel[5][1] == by_channel[5][2] == pytest.approx(box[:, 5].norm().item(), abs=1e-3)


def test_the_order_is_the_readers_choice(explorer):
    explorer.order = explorer.orders.index("class")
    strengths = [row[1] for row in explorer.channels]
    assert strengths == sorted(strengths, reverse=True)
    explorer.order = explorer.orders.index("number")
    explorer.rank = 7
    assert explorer.channel == 7
    assert explorer.answer == {"block": 0, "level": 0, "order": explorer.order, "rank": 7}


def test_a_head_alone_has_no_readers():
    torch.manual_seed(0)
    head = DyHead(16, blocks=2).eval()
    with torch.no_grad(), trace(head) as seen:
        head([torch.randn(1, 16, size, size) for size in (8, 4)])
    explorer = TaskPieces(seen, ["P3", "P4"])
    assert explorer.orders == ["distance from ReLU", "number"] and explorer.blocks == 2
    explorer.block = 1
    assert all(row[1:] == [0, 0, 0] for row in explorer.channels)


def test_what_is_not_there_is_refused(explorer, seen):
    for name, value in (("block", 1), ("level", 4), ("order", 5), ("rank", 64)):
        with pytest.raises(traitlets.TraitError, match=f"{name}: got {value}"):
            setattr(explorer, name, value)
    with pytest.raises(ValueError, match="levels: got 3 names, block 1 has 4 levels"):
        TaskPieces(seen, LEVELS[:3])
    with trace(nn.Identity()) as nothing:
        pass
    with pytest.raises(ValueError, match="holds no task_coefficients"):
        TaskPieces(nothing, LEVELS)


def test_the_state_is_small_and_a_picture_stands_beside_the_widget(explorer):
    own = {name: value for name, value in explorer.get_state().items() if name not in ("_esm", "_css")}
    assert len(str(own)) < 10_000
    data, metadata = explorer._repr_mimebundle_()
    assert "application/vnd.jupyter.widget-view+json" in data
    assert "in block 1, P3" in metadata["image/png"]["alt"]
    assert Image.open(io.BytesIO(explorer.picture().png)).format == "PNG"
