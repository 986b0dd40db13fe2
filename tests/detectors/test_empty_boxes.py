"""Boxes that clipping has left without width or height are no detections."""

import math

import pytest
import torch

from dyhead_lab.detectors.box_ops import drop_empty
from dyhead_lab.zoo import get

from .every import CLASSES, CONVOLUTIONAL, EVERY

#: How each kind of detector is asked for many detections, however low their scores are.
OPTIONS = {
    "score_thresh": {"score_thresh": 0.0, "detections_per_img": 1000, "nms_thresh": 0.9},
    "box_score_thresh": {"box_score_thresh": 0.0, "box_detections_per_img": 1000, "box_nms_thresh": 0.9},
    "cascade": {"cascade": {"score_threshold": 0.0, "nms_threshold": 0.9, "most": 1000}},
    "inference": {"inference": {"score_threshold": 0.0, "nms_threshold": 0.9, "most": 1000}},
}
KINDS = {
    "retinanet_shapes": "score_thresh",
    "fcos_shapes": "score_thresh",
    "faster_rcnn_shapes": "box_score_thresh",
    "mask_rcnn_shapes": "box_score_thresh",
    "cascade_rcnn_shapes": "cascade",
}


def many(name):
    """The detector of a recipe with random weights that finds much everywhere."""
    torch.manual_seed(0)
    recipe = get(name)
    if name not in CONVOLUTIONAL:
        model = recipe.build(CLASSES)
        model.detections = 1000
        return model.eval()
    if name == "quickstart":  # its builder takes no thresholds
        model = recipe.build(CLASSES)
        model.score_thresh, model.nms_thresh, model.detections_per_img = 0.0, 0.9, 1000
    else:
        model = recipe.with_model({**recipe.model, **OPTIONS[KINDS.get(name, "inference")]}).build(CLASSES)
    for module in model.modules():  # boxes of all sizes and places
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear) and module.weight.shape[0] in (4, 12, 18, 36):
            torch.nn.init.normal_(module.weight, std=0.3)
    return model.eval()


@pytest.mark.parametrize("name", EVERY)
def test_every_box_of_a_padded_picture_has_a_width_and_a_height(name):
    model = many(name)
    generator = torch.Generator().manual_seed(0)
    small, large = torch.rand(3, 40, 90, generator=generator), torch.rand(3, 160, 160, generator=generator)
    with torch.no_grad():
        results = model([small, large])
    for found in results:
        assert len(found["boxes"]) > 20
        assert (found["boxes"][:, 2:] > found["boxes"][:, :2]).all()
        assert len({len(value) for value in found.values()}) == 1  # scores, labels and masks went with their boxes


def test_rows_go_with_their_boxes_and_boxes_that_are_not_a_number_stay():
    boxes = torch.tensor([[0.0, 0, 5, 5], [5.0, 0, 5, 9], [1.0, 3, 9, 3], [math.nan] * 4, [2.0, 2, 3, 3]])
    found = drop_empty({"boxes": boxes, "scores": torch.arange(5), "masks": torch.arange(5).view(5, 1, 1)})
    assert found["scores"].tolist() == [0, 3, 4] and found["masks"].flatten().tolist() == [0, 3, 4]
    assert torch.equal(found["boxes"].isnan().all(1), torch.tensor([False, True, False]))
