"""Chapter 08: the detector of its cells is the shipped one, as large as a detector is, and it learns."""

import inspect

import pytest
import torch
from torch import nn

from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_book.practice.rebuilt import check_same_ap, rebuilt
from dyhead_lab.detectors.rcnn.faster_rcnn import TaskAwareBoxHead
from dyhead_lab.zoo import load_trained

from .definitions import definitions

#: What the chapter builds of a one-stage detector; nothing of it comes from the library.
DETECTOR = (
    "places", "sides", "bounds", "assign", "positives", "from_point", "focal_loss", "giou_loss", "centredness",
    "losses", "tower", "as_rows", "FCOSClassificationHead", "FCOSRegressionHead", "FCOSHead", "nms", "detections",
    "all_detections", "FCOS",
)  # fmt: skip


@pytest.fixture(scope="module")
def cells():
    return definitions("08_dynamic_head_on_detectors")


def test_the_detector_has_at_least_120_lines_of_code(cells):
    lines = [line for name in DETECTOR for line in inspect.getsource(cells[name]).splitlines()]
    assert sum(bool(line.strip()) and not line.strip().startswith(("#", '"""')) for line in lines) >= 120


def test_the_shipped_detector_has_the_same_ap_on_the_classes_of_the_chapter(cells):
    assert check_same_ap("quickstart", FCOS=cells["FCOS"], FCOSHead=cells["FCOSHead"])


def test_a_score_without_centredness_is_noticed(cells, monkeypatch):
    right = cells["detections"]

    def wrong(points, units, answers, *rest):
        return right(points, units, {**answers, "bbox_ctrness": 9 + 0 * answers["bbox_ctrness"]}, *rest)

    monkeypatch.setitem(cells, "detections", wrong)
    verdict = check_same_ap("quickstart", 20, FCOS=cells["FCOS"], FCOSHead=cells["FCOSHead"])
    assert not verdict and "The weights fit, but" in verdict.message


def test_its_losses_and_their_gradients_are_those_of_the_library(cells):
    data = DrawnShapes(4)
    images, targets = map(list, zip(*(data[i] for i in range(4)), strict=True))
    targets[2] = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)}  # a picture without objects
    parts, gradients = [], []
    with rebuilt("quickstart", FCOS=cells["FCOS"], FCOSHead=cells["FCOSHead"]) as own:
        for model in (own, load_trained("quickstart").model):
            model.train()
            model.backbone.eval()
            losses = model(images, targets)
            sum(losses.values()).backward()
            parts.append(losses)
            gradients.append({name: p.grad for name, p in model.named_parameters()})
    torch.testing.assert_close(parts[0], parts[1], rtol=1e-5, atol=1e-6)  # float32 sums in another order
    for name, gradient in gradients[1].items():
        torch.testing.assert_close(gradients[0][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_both_detectors_of_the_chapter_learn_in_its_loop(cells, monkeypatch):
    monkeypatch.setitem(cells, "names", DrawnShapes.categories)  # which a cell computes
    data = DrawnShapes(8, seed=1)
    for blocks, tower_convs in ((0, 2), (1, 0)):
        model = cells["build"](blocks, tower_convs)
        curve = [sum(parts.values()) for parts in cells["train"](model, data, steps=12, batch_size=4)]
        assert sum(curve[-3:]) < 0.97 * sum(curve[:3]), "the loss does not fall"
        frozen = [p for name, p in model.named_parameters() if name.startswith(("backbone.body", "backbone.fpn"))]
        assert all(p.grad is None for p in frozen)


def test_the_fresh_head_begins_at_the_prior(cells):
    bias = cells["FCOSHead"](64, 1, 5).classification_head.cls_logits.bias
    assert torch.allclose(bias.sigmoid(), torch.tensor(0.01), atol=1e-5)


def test_suppression_of_the_chapter_serves_any_detector(cells):
    data = DrawnShapes(6)
    images = [data[i][0] for i in range(6)]
    with rebuilt("quickstart") as model, torch.no_grad():
        expected = model(images)
    with rebuilt("quickstart", FCOS=cells["FCOS"]) as model, torch.no_grad():
        cells["batched_nms"], kept = cells["batched"], cells["batched_nms"]
        found = model(images)
        cells["batched_nms"] = kept
    for own, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(own["boxes"], theirs["boxes"])
        assert torch.equal(own["labels"], theirs["labels"])


def test_task_aware_attention_behind_pooling_is_the_librarys(cells):
    own, theirs = cells["TaskAwareBoxHead"](64), TaskAwareBoxHead(64)
    own.load_state_dict(theirs.state_dict())
    regions = torch.randn(5, 64, 7, 7)
    assert torch.equal(own(regions), theirs(regions))
    stage = cells["SecondStage"](64, 5, stride=8)
    scores, boxes = stage(torch.randn(1, 64, 20, 20), torch.tensor([[0.0, 0, 40, 40], [8, 8, 100, 60]]))
    assert scores.shape == (2, 6) and boxes.shape == (2, 24)
    assert isinstance(stage, nn.Module)
