"""ATSS against the numbers of the published code, and the rules of its assignment."""

import numpy as np
import pytest
import torch
from torchvision.models.detection._utils import BoxCoder
from torchvision.ops import box_iou

from dyhead_lab.detectors.anchors import BOX_WEIGHTS, centres, sides, square_anchors
from dyhead_lab.detectors.one_stage.atss import ATSSMatcher, Predictions, atss_losses, detect
from tests.oracles import draw, load

ARRAYS, FACTS = load("atss")
SEED = FACTS["seed"]
ANCHORS = square_anchors([tuple(s) for s in FACTS["shapes"]], FACTS["strides"], scale=8)


def ground_truth(image):
    return {
        "boxes": torch.from_numpy(ARRAYS[f"gt_boxes{image}"]),
        "labels": torch.from_numpy(ARRAYS[f"gt_classes{image}"]),
    }


def predictions():
    def maps(name, channels):
        shapes = [(2, channels, *size) for size in FACTS["shapes"]]
        drawn = (torch.from_numpy(draw(f"{name}{i}", shape, SEED)) for i, shape in enumerate(shapes))
        return [x.flatten(2).transpose(1, 2) for x in drawn]

    return Predictions(
        logits=[x - 2 for x in maps("cls", 5)],
        deltas=[x * 0.3 for x in maps("box", 4)],
        centerness=[x.squeeze(-1) for x in maps("ctr", 1)],
    )


@pytest.mark.parametrize("image", [0, 1])
def test_assignment_is_exactly_the_published_one(image):
    target = ground_truth(image)
    matched = ATSSMatcher(topk=9)(ANCHORS, target["boxes"])
    labels = torch.where(matched >= 0, target["labels"][matched] + 1, 0)
    assert torch.equal(labels, torch.from_numpy(ARRAYS[f"labels{image}"]))
    positive = matched >= 0
    deltas = BoxCoder(BOX_WEIGHTS).encode_single(target["boxes"][matched[positive]], torch.cat(ANCHORS)[positive])
    # Objects of one class are told apart by their boxes; float32 logarithms may differ in the last bit.
    np.testing.assert_allclose(deltas, ARRAYS[f"deltas{image}"][positive], rtol=1e-5, atol=1e-5)


def test_losses_are_the_published_ones():
    losses = atss_losses(predictions(), ANCHORS, [ground_truth(0), ground_truth(1)], ATSSMatcher())
    ours = [losses[name].item() for name in ("classification", "bbox_ctrness", "bbox_regression")]
    theirs = [FACTS["losses"][name] for name in ("loss_cls", "loss_ctr", "loss_box_reg")]
    assert ours == pytest.approx(theirs, rel=1e-4)  # sums over 17,000 float32 numbers in another order


@pytest.mark.parametrize("image", [0, 1])
def test_detections_are_the_published_ones(image):
    result = detect(predictions(), ANCHORS)[image]
    np.testing.assert_allclose(result["scores"], ARRAYS[f"det_scores{image}"], rtol=0, atol=1e-4)
    np.testing.assert_allclose(result["boxes"], ARRAYS[f"det_boxes{image}"], rtol=0, atol=1e-4)
    assert result["labels"].tolist() == ARRAYS[f"det_classes{image}"].tolist()


def test_matched_anchors_lie_inside_and_belong_to_the_object_they_overlap_most():
    boxes = torch.tensor([[20.0, 20.0, 120.0, 140.0], [60.0, 30.0, 160.0, 150.0], [200.0, 180.0, 216.0, 200.0]])
    matched = ATSSMatcher()(ANCHORS, boxes)
    assert set(matched.tolist()) == {-1, 0, 1, 2}
    positive = matched >= 0
    assert sides(centres(torch.cat(ANCHORS))[positive], boxes[matched[positive]]).min() > 0.01
    alone = [ATSSMatcher()(ANCHORS, boxes[i : i + 1]) >= 0 for i in range(3)]
    assert torch.equal(positive, alone[0] | alone[1] | alone[2])
    shared = (alone[0] & alone[1]).nonzero().flatten()
    assert len(shared)
    best = box_iou(torch.cat(ANCHORS)[shared], boxes[:2]).argmax(1)
    assert torch.equal(matched[shared], best)


def test_matching_nothing_and_a_single_anchor():
    assert ATSSMatcher()(ANCHORS, torch.zeros(0, 4)).unique().tolist() == [-1]
    anchor = [torch.tensor([[0.0, 0.0, 8.0, 8.0]])]
    assert ATSSMatcher()(anchor, torch.tensor([[1.0, 1.0, 8.0, 8.0]])).tolist() == [0]


def test_images_without_objects_give_a_loss_and_gradients():
    made = predictions()
    for level in made.logits + made.deltas + made.centerness:
        level.requires_grad_()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    losses = atss_losses(made, ANCHORS, [empty, empty], ATSSMatcher())
    sum(losses.values()).backward()
    assert losses["bbox_regression"] == 0 and losses["bbox_ctrness"] == 0
    assert losses["classification"] > 0
    assert made.logits[0].grad.any()
    assert all(level.grad is not None and not level.grad.any() for level in made.deltas + made.centerness)


def test_an_empty_image_adds_only_classification_to_its_neighbour():
    made = predictions()
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    both = atss_losses(made, ANCHORS, [ground_truth(0), empty], ATSSMatcher())
    first = Predictions(*([level[:1] for level in part] for part in made))
    alone = atss_losses(first, ANCHORS, [ground_truth(0)], ATSSMatcher())
    torch.testing.assert_close(both["bbox_regression"], alone["bbox_regression"])
    assert both["classification"] > alone["classification"]


def test_nothing_above_the_threshold_is_an_empty_result():
    [result] = detect(
        Predictions(*([level[:1] for level in part] for part in predictions())), ANCHORS, score_threshold=1
    )
    assert [tuple(result[name].shape) for name in ("boxes", "scores", "labels")] == [(0, 4), (0,), (0,)]
