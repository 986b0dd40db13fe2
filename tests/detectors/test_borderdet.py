"""BorderDet: the losses and the scores of its two stages, by hand."""

import math

import pytest
import torch

from dyhead_lab.detectors.one_stage.borderdet import BorderHead, Predictions, border_unit, borderdet, detect

SIZES = [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
PLACES = 86


def small():
    torch.manual_seed(0)
    return borderdet(3, "narrow", dyhead_blocks=0, channels=32, tower_convs=1, min_size=64, max_size=96)


def test_losses_of_one_object_by_hand():
    model = small()
    # Every place has found the same box; on P3 the object of 40 pixels has its middle around (20, 20).
    found, box = torch.tensor([0.0, 0.0, 40.0, 32.0]), torch.tensor([[0.0, 0.0, 40.0, 40.0]])
    predictions = Predictions(
        logits=[torch.zeros(1, h * w, 3) for h, w in SIZES],
        centerness=[torch.zeros(1, h * w) for h, w in SIZES],
        boxes=[found.expand(1, h * w, 4) for h, w in SIZES],
        border_logits=[torch.zeros(1, h * w, 3) for h, w in SIZES],
        border_deltas=[torch.zeros(1, h * w, 4) for h, w in SIZES],
    )
    model.head.forward = lambda levels: predictions
    target = {"boxes": box, "labels": torch.tensor([1])}
    losses = model.losses([torch.zeros(1, 32, h, w) for h, w in SIZES], [target])

    # The middle of the object holds the cells with centres 12, 20 and 28 in x and in y: nine places, all on P3.
    assert losses["bbox_regression"].item() == pytest.approx(1 - 0.8, rel=1e-5)  # GIoU = IoU: one lies in the other
    assert losses["bbox_ctrness"].item() >= math.log(2) - 1e-6  # logits of 0, whatever the target
    assert losses["classification"].item() == pytest.approx(focal(positives=9), rel=1e-5)
    # All boxes overlap the object by 0.8: every place of every level is positive in the second stage. The lower border
    # is 8 pixels off, in units of half the height.
    assert losses["border_regression"].item() == pytest.approx(8 / (0.5 * 32))
    assert losses["border_classification"].item() == pytest.approx(focal(positives=PLACES), rel=1e-5)


def focal(positives):
    """Probability 1/2 everywhere: alpha 0.25 at the positives, 0.75 elsewhere, (1/2)^2 log 2 each, per positive."""
    return (0.25 * positives + 0.75 * (3 * PLACES - positives)) * 0.25 * math.log(2) / positives


def test_boxes_below_the_overlap_teach_no_border():
    model = small()
    boxes = [torch.tensor([0.0, 0.0, 40.0, 23.0]).expand(1, h * w, 4) for h, w in SIZES]
    zeros = [torch.zeros(1, h * w, 4) for h, w in SIZES]
    logits = [torch.zeros(1, h * w, 3) for h, w in SIZES]
    model.head.forward = lambda levels: Predictions(logits, [x[..., 0] for x in logits], boxes, logits, zeros)
    target = {"boxes": torch.tensor([[0.0, 0.0, 40.0, 40.0]]), "labels": torch.tensor([0])}
    losses = model.losses([torch.zeros(1, 32, h, w) for h, w in SIZES], [target])
    assert losses["border_regression"] == 0  # an IoU of 0.575 is less than 0.6


def test_detections_by_hand():
    boxes = torch.tensor([[[0.0, 0, 40, 20], [100, 100, 120, 120]]])
    deltas = torch.tensor([[[0.1, 0.0, 0.0, -0.2], [0, 0, 0, 0]]])
    predictions = Predictions(
        logits=[torch.tensor([[[1.0, -20.0], [-20.0, -4.0]]])],
        centerness=[torch.tensor([[0.5, -4.0]])],  # the second place: sqrt(0.018^2) < 0.05
        boxes=[boxes],
        border_logits=[torch.tensor([[[2.0, 9.0], [9.0, 9.0]]])],
        border_deltas=[deltas],
    )
    [found] = detect(predictions)
    assert found["labels"].tolist() == [0]
    torch.testing.assert_close(found["boxes"], torch.tensor([[2.0, 0.0, 40.0, 18.0]]))
    sigmoid = [1 / (1 + math.exp(-x)) for x in (1.0, 0.5, 2.0)]
    assert found["scores"].item() == pytest.approx(math.sqrt(math.sqrt(sigmoid[0] * sigmoid[1]) * sigmoid[2]))


def test_a_correction_is_half_a_width_or_height():
    assert border_unit(torch.tensor([[10.0, 20.0, 50.0, 30.0]])).tolist() == [[20, 5, 20, 5]]


def test_the_second_stage_leaves_the_boxes_of_the_first_alone():
    torch.manual_seed(0)
    head = BorderHead(32, classes=3, strides=(8, 16), tower_convs=0)
    predictions = head([torch.randn(1, 32, 6, 6), torch.randn(1, 32, 3, 3)])
    sum(x.sum() for x in (*predictions.border_logits, *predictions.border_deltas)).backward()
    assert head.bbox_pred.weight.grad is None and head.border_bbox.join[0].weight.grad.any()


def test_boxes_reach_from_the_places_to_their_four_sides():
    head = BorderHead(32, classes=3, strides=(8, 16), tower_convs=0)
    torch.nn.init.zeros_(head.bbox_pred.weight)
    with torch.no_grad():
        head.bbox_pred.bias.copy_(torch.tensor([1.0, 2.0, 3.0, 4.0]).log())
        boxes = head([torch.randn(1, 32, 6, 6), torch.randn(1, 32, 3, 3)]).boxes
    # The place (row 1, column 2) of P3 lies at (20, 12); sides are in strides.
    torch.testing.assert_close(boxes[0][0, 8], torch.tensor([20.0 - 8, 12.0 - 16, 20.0 + 24, 12.0 + 32]))
    torch.testing.assert_close(boxes[1][0, 0], torch.tensor([8.0 - 16, 8.0 - 32, 8.0 + 48, 8.0 + 64]))
