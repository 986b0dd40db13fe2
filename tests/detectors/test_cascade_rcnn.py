"""Cascade R-CNN: its three stages as a loop, its published thresholds, and the shared form."""

import pytest
import torch
from torchvision.ops import box_iou

from dyhead_lab.detectors.losses import share_gradient
from dyhead_lab.detectors.rcnn.cascade_rcnn import CascadeRoIHeads, CascadeStage, cascade_rcnn

IMAGES = [torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(i)) for i in range(2)]
EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
TARGETS = [
    {"boxes": torch.tensor([[10.0, 10.0, 60.0, 60.0], [40.0, 20.0, 88.0, 60.0]]), "labels": torch.tensor([0, 2])}
]
SIZES = [(64, 80), (50, 60)]


def pyramid():
    generator = torch.Generator().manual_seed(0)
    return {f"p{l}": torch.randn(2, 16, 64 // 2**l, 80 // 2**l + 1, generator=generator) for l in range(2, 7)}


def proposals():
    corners = torch.rand(2, 12, 2, 2, generator=torch.Generator().manual_seed(1)).sort(dim=2).values
    return [(c.flatten(1) * 40 + 4 * torch.tensor([0.0, 0.0, 1.0, 1.0])) for c in corners]


def heads():
    torch.manual_seed(0)
    made = CascadeRoIHeads(16, classes=3, score_threshold=0.0, nms_threshold=1.0, most=1000)
    for stage in made.stages:
        torch.nn.init.normal_(stage.bbox_pred.weight, std=0.3)
    return made.eval()


def decoded(box, delta, weights):
    """One box moved by one delta, as R-CNN writes it."""
    (x1, y1, x2, y2), (dx, dy, dw, dh) = box.tolist(), (delta / torch.tensor(weights)).tolist()
    x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
    w, h = (x2 - x1) * torch.tensor(dw).exp(), (y2 - y1) * torch.tensor(dh).exp()
    return torch.tensor([x - w / 2, y - h / 2, x + w / 2, y + h / 2])


def test_detection_is_three_rounds_of_pool_classify_refine():
    made, features = heads(), pyramid()
    weights = ((10.0, 10.0, 5.0, 5.0), (20.0, 20.0, 10.0, 10.0), (30.0, 30.0, 15.0, 15.0))
    with torch.no_grad():
        results, _ = made(features, proposals(), SIZES)
        for image, (height, width) in enumerate(SIZES):
            boxes, probability = proposals()[image], 0
            for stage, weight in zip(made.stages, weights, strict=True):
                one = {name: x[image : image + 1] for name, x in features.items()}
                logits, deltas = stage(made.pool(one, [boxes], None))
                probability = probability + logits.softmax(-1) / 3
                boxes = torch.stack([decoded(b, d, weight) for b, d in zip(boxes, deltas, strict=True)])
                boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
                boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
            for label in (1, 2, 3):
                mine = results[image]["labels"] == label
                order = probability[:, label].argsort(descending=True)
                # Differences of float32 coordinates up to 80, over three rounds.
                torch.testing.assert_close(results[image]["scores"][mine], probability[order, label], rtol=0, atol=1e-5)
                torch.testing.assert_close(results[image]["boxes"][mine], boxes[order], rtol=0, atol=1e-3)


@pytest.mark.parametrize(("stage", "iou"), [(0, 0.5), (1, 0.6), (2, 0.7)])
def test_each_stage_asks_for_more_overlap(stage, iou):
    target = {"boxes": torch.tensor([[0.0, 0.0, 100.0, 100.0]]), "labels": torch.tensor([2])}
    boxes = torch.tensor([[0.0, 0.0, 100.0, height] for height in (45.0, 55.0, 65.0, 75.0)])
    labels, matched = heads().stages[stage].match(boxes, target)
    assert labels.tolist() == [2 if overlap >= iou else 0 for overlap in box_iou(boxes, target["boxes"])[:, 0]]
    assert torch.equal(matched, target["boxes"].expand(4, 4))


def test_losses_of_a_stage_by_hand():
    stage = CascadeStage(16, 2, 0.5, (10.0, 10.0, 5.0, 5.0))
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    matched = torch.tensor([[1.0, 0.0, 11.0, 10.0], [50.0, 50.0, 60.0, 60.0]])
    logits = torch.tensor([[0.0, 1.0, 0.0], [2.0, 0.0, 0.0]])
    classification, regression = stage.losses(logits, torch.zeros(2, 4), boxes, torch.tensor([1, 0]), matched)
    expected = -(logits.softmax(-1)[0, 1].log() + logits.softmax(-1)[1, 0].log()) / 2
    torch.testing.assert_close(classification, expected)
    # The object lies a tenth of its width to the right: weighted by 10, one; linear there; over two boxes.
    assert regression.item() == pytest.approx((1 - 1 / 18) / 2)


def test_features_keep_their_value_and_a_share_of_their_gradient():
    x = torch.randn(3, 4, requires_grad=True)
    y = share_gradient(x, 1 / 3)
    torch.testing.assert_close(y, x)
    y.sum().backward()
    torch.testing.assert_close(x.grad, torch.full((3, 4), 1 / 3))


@pytest.mark.parametrize("dyhead_blocks", [0, 1])
def test_the_detector_keeps_the_shared_form(dyhead_blocks):
    torch.manual_seed(0)
    model = cascade_rcnn(
        3,
        "resnet18",
        dyhead_blocks=dyhead_blocks,
        cascade={"score_threshold": 0.0},
        min_size=64,
        max_size=96,
        rpn_post_nms_top_n_train=20,
        rpn_post_nms_top_n_test=20,
    )
    for targets in ([*TARGETS, EMPTY], [EMPTY, EMPTY]):
        losses = model.train()(IMAGES, targets)
        total = sum(losses.values())
        assert total.isfinite() and total > 0
        model.zero_grad()
        total.backward()
        assert all(stage.cls_score.weight.grad.any() for stage in model.roi_heads.stages)
    with torch.no_grad():
        results = model.eval()([IMAGES[0], torch.rand(3, 60, 40)])
    for result, (height, width) in zip(results, [(70, 90), (60, 40)], strict=True):
        assert 0 < len(result["boxes"]) <= 100
        assert result["boxes"][:, 2].max() <= width + 1e-3 and result["boxes"][:, 3].max() <= height + 1e-3
        assert result["labels"].min() >= 0 and result["labels"].max() <= 2
