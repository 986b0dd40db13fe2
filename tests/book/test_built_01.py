"""Chapter 01: the pyramid of its cells inside the shipped detector, and its assignment beside torchvision's."""

import numpy as np
import pytest
import torch
from torchvision.models.detection import FCOS
from torchvision.ops.feature_pyramid_network import LastLevelP6P7

from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_book.practice.rebuilt import check_same_ap, rebuilt
from dyhead_lab.zoo import load_trained

from .definitions import definitions


@pytest.fixture(scope="module")
def cells():
    return definitions("01_feature_pyramid")


def test_the_shipped_detector_has_the_same_ap_on_the_pyramid_of_the_chapter(cells):
    names = ("FeaturePyramidNetwork", "LastLevelMaxPool")
    assert check_same_ap("quickstart", 30, **{name: cells[name] for name in names})


def test_its_levels_are_those_of_the_shipped_detector(cells):
    images = torch.rand(1, 3, 160, 128, generator=torch.Generator().manual_seed(0))
    backbone = load_trained("quickstart").model.backbone
    with torch.no_grad(), rebuilt("quickstart", FeaturePyramidNetwork=cells["FeaturePyramidNetwork"]) as model:
        maps = backbone.body(images)
        wanted, found = backbone.fpn(maps), model.backbone.fpn(maps)
    assert list(wanted) == list(found)
    for name in wanted:
        torch.testing.assert_close(found[name], wanted[name], rtol=1e-5, atol=1e-5)  # float32


def test_a_pyramid_in_which_nothing_flows_down_is_noticed(cells):
    class Flat(cells["FeaturePyramidNetwork"]):
        def forward(self, x):
            parts = zip(self.layer_blocks, self.inner_blocks, x.values(), strict=True)
            P = [layer(inner(c)) for layer, inner, c in parts]
            P, names = self.extra_blocks(P, list(x.values()), list(x))
            return dict(zip(names, P, strict=True))

    verdict = check_same_ap("quickstart", 10, FeaturePyramidNetwork=Flat)
    assert not verdict and "The weights fit, but" in verdict.message


def test_weights_of_the_levels_on_top_load_strictly(cells):
    """``"LastLevelP6P7"`` on odd sizes, as photographs give them."""
    torch.manual_seed(0)
    theirs, own = LastLevelP6P7(5, 5), cells["LastLevelP6P7"](5, 5)
    own.load_state_dict(theirs.state_dict(), strict=True)
    x = torch.randn(2, 5, 13, 9)
    wanted, names = theirs([x], [x], ["p5"])
    found, own_names = own([x], [x], ["p5"])
    assert list(own_names) == list(names)
    for a, b in zip(found, wanted, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)  # float32


def test_points_learn_what_they_learn_in_the_shipped_detector(cells, monkeypatch):
    """The quickstart is torchvision's FCOS: its sizes are half the strides, its reach 4 to 8 sizes."""
    given = {}

    def keep(self, targets, head_outputs, anchors, matched_idxs):
        given.update(anchors=anchors, chosen=matched_idxs)
        return {}

    model = load_trained("quickstart").model.train()
    monkeypatch.setattr(type(model.head), "compute_loss", keep)
    data = DrawnShapes(4)
    targets = [data[i][1] for i in range(4)]
    outputs = {"cls_logits": torch.zeros(1)}
    strides = (8, 16, 32, 64)
    grids = [cells["points"](-(-160 // s), -(-160 // s), s) for s in strides]
    points = np.concatenate(grids)
    sizes = np.concatenate([np.full(len(grid), s / 2) for grid, s in zip(grids, strides, strict=True)])
    reach = np.stack([4 * sizes, 8 * sizes], 1)
    reach[: len(grids[0]), 0], reach[-len(grids[-1]) :, 1] = 0, np.inf
    corners = np.concatenate([points - sizes[:, None] / 2, points + sizes[:, None] / 2], 1)
    anchors = [torch.from_numpy(corners).float()] * 4
    FCOS.compute_loss(model, targets, outputs, anchors, [len(grid) for grid in grids])
    learned = 0
    for target, chosen in zip(targets, given["chosen"], strict=True):
        found = cells["assign"](points, reach, 3 * sizes, target["boxes"].double().numpy())
        assert found.tolist() == chosen.tolist()
        learned += int((found >= 0).sum())
    assert learned > 20
