"""Chapter 08: right answers pass in any style, every planted bug is caught by name, the formulas are the library's."""

import pytest
import torch
from torch import nn
from torchvision.models.detection import fcos as tv
from torchvision.ops import batched_nms, box_convert, box_iou, generalized_box_iou_loss

from dyhead_book.c08_dynamic_head_on_detectors import answer_checks as answers
from dyhead_book.c08_dynamic_head_on_detectors import target_checks as targets
from dyhead_lab.detectors.one_stage.quickstart import quickstart

from .definitions import definitions
from .planted import FEWEST, assert_bugs_are_caught

CHAPTER = "08_dynamic_head_on_detectors"


@pytest.fixture(scope="module")
def book():
    """What the chapter's cells define."""
    return definitions(CHAPTER)


@pytest.mark.parametrize(
    ("check", "solution", "bugs"),
    [
        (targets.check_assign, "assign", targets.ASSIGN_MISTAKES),
        (targets.check_focal_loss, "focal_loss", targets.FOCAL_MISTAKES),
        (targets.check_giou_loss, "giou_loss", targets.GIOU_MISTAKES),
        (answers.check_nms, "nms", answers.NMS_MISTAKES),
    ],
)
def test_planted_bugs(check, solution, bugs, book):
    assert_bugs_are_caught(check, book[solution], bugs)


def test_planted_bugs_of_the_head(book):
    """The check builds the reader's class and fills it, so the bugs are classes that answer as the mistakes do."""
    assert answers.check_regression_head(book["FCOSRegressionHead"])
    assert len({bug.name for bug in answers.HEAD_MISTAKES}) >= FEWEST
    for bug in answers.HEAD_MISTAKES:
        verdict = answers.check_regression_head(wrong_head(bug))
        assert not verdict and f"when {bug.name}." in verdict.message and bug.hint in verdict.message, bug.name


def wrong_head(bug):
    class Wrong(nn.Module):
        def __init__(self, channels, convs):
            super().__init__()
            self.convs = convs

        def load_state_dict(self, state):
            pass

        def forward(self, levels):
            return tuple(bug.imitate(levels, self.convs))

    return Wrong


def test_a_head_with_other_names_is_told_so_and_what_it_raises_is_said(book):
    class OtherNames(book["FCOSRegressionHead"]):
        def __init__(self, *arguments):
            super().__init__(*arguments)
            self.sides = self.bbox_reg
            del self.bbox_reg

    class Raises(book["FCOSRegressionHead"]):
        def forward(self, levels):
            raise RuntimeError("the reader")

    assert "Error(s) in loading state_dict" in answers.check_regression_head(OtherNames).message
    assert "raises RuntimeError: the reader" in answers.check_regression_head(Raises).message


def test_planted_bugs_of_the_detections(book):
    assert answers.check_detections(book["detections"])
    assert len({bug.name for bug in answers.DETECTIONS_MISTAKES}) >= FEWEST
    for bug in answers.DETECTIONS_MISTAKES:

        def wrong(points, units, given, size, least, most, bug=bug):
            found = bug.imitate(points, units, [given[name] for name in answers.ANSWERS], size)
            return dict(zip(("boxes", "scores", "labels"), found, strict=True))

        verdict = answers.check_detections(wrong)
        assert not verdict and f"when {bug.name}." in verdict.message and bug.hint in verdict.message, bug.name


# Right answers in other styles


def assign_object_by_object(points, units, reach, boxes, radius):
    """From the largest object to the smallest: later ones overwrite."""
    found = torch.full((len(points),), -1)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    for number in area.argsort(descending=True).tolist():
        x1, y1, x2, y2 = boxes[number]
        x, y = points.T
        left, top, right, bottom = x - x1, y - y1, x2 - x, y2 - y
        farthest = torch.stack([left, top, right, bottom]).max(0).values
        here = (left > 0) & (top > 0) & (right > 0) & (bottom > 0)
        here &= ((x - (x1 + x2) / 2).abs() < radius * units) & ((y - (y1 + y2) / 2).abs() < radius * units)
        found[here & (farthest > reach[:, 0]) & (farthest < reach[:, 1])] = number
    return found


def focal_by_softplus(logits, targets, alpha, gamma):
    signed = torch.where(targets > 0, logits, -logits)
    weight = torch.where(targets > 0, alpha, 1 - alpha)
    return (weight * torch.sigmoid(-signed) ** gamma * nn.functional.softplus(-signed)).sum()


def focal_where_probabilities_are_clamped(logits, targets, alpha, gamma):
    p = logits.sigmoid().clamp(1e-12, 1 - 1e-12)
    there = -alpha * (1 - p) ** gamma * p.log()
    background = -(1 - alpha) * p**gamma * (1 - p).log()
    return torch.sum(targets * there + (1 - targets) * background)


def giou_in_columns(found, wanted):
    ax1, ay1, ax2, ay2 = found.unbind(1)
    bx1, by1, bx2, by2 = wanted.unbind(1)
    w = (torch.minimum(ax2, bx2) - torch.maximum(ax1, bx1)).relu()
    h = (torch.minimum(ay2, by2) - torch.maximum(ay1, by1)).relu()
    union = (ax2 - ax1) * (ay2 - ay1) + (bx2 - bx1) * (by2 - by1) - w * h
    hull = (torch.maximum(ax2, bx2) - torch.minimum(ax1, bx1)) * (torch.maximum(ay2, by2) - torch.minimum(ay1, by1))
    return sum(1 - w * h / union + (hull - union) / hull)


def nms_by_shrinking_list(boxes, scores, threshold):
    left = scores.argsort(descending=True)
    kept = []
    while len(left):
        kept.append(left[0])
        left = left[1:][box_iou(boxes[left[:1]], boxes[left[1:]])[0] <= threshold]
    return torch.stack(kept)


def nms_in_python(boxes, scores, threshold):
    iou, kept = box_iou(boxes, boxes).tolist(), []
    for i in sorted(range(len(boxes)), key=lambda i: -float(scores[i])):
        if all(iou[i][j] <= threshold for j in kept):
            kept.append(i)
    return torch.tensor(kept)


@pytest.mark.parametrize(
    ("check", "answer"),
    [
        (targets.check_assign, assign_object_by_object),
        (targets.check_focal_loss, focal_by_softplus),
        (targets.check_focal_loss, focal_where_probabilities_are_clamped),
        (targets.check_giou_loss, giou_in_columns),
        (targets.check_giou_loss, lambda a, b: generalized_box_iou_loss(a, b, reduction="sum")),
        (answers.check_nms, nms_by_shrinking_list),
        (answers.check_nms, nms_in_python),
    ],
)
def test_right_answers_in_other_styles_pass(check, answer):
    assert check(answer)


def test_detections_that_shift_classes_apart_pass(book):
    def shifted(points, units, given, size, least, most):
        scores = (given["cls_logits"].sigmoid() * given["bbox_ctrness"].sigmoid()) ** 0.5
        place, label = torch.where(scores > least)
        d = units[place, None] * given["bbox_regression"][place]
        middle, extent = points[place] + (d[:, 2:] - d[:, :2]) / 2, d[:, :2] + d[:, 2:]
        boxes = box_convert(torch.cat([middle, extent], 1), "cxcywh", "xyxy")
        boxes = boxes.clamp(min=0, max=size[0])  # the images of the cases are square
        kept = answers.nms_formula(boxes + 1000 * label[:, None], scores[place, label], 0.6)[:most]
        return {"boxes": boxes[kept], "scores": scores[place, label][kept], "labels": label[kept]}

    assert answers.check_detections(shifted)


# The formulas are torchvision's


class _Recorder(nn.Module):
    """Stands for a head and keeps what it is told."""

    def compute_loss(self, targets, head_outputs, anchors, matched_idxs):
        self.matched = matched_idxs


def test_the_assignment_is_that_of_torchvision():
    for case in targets._assign_cases():
        points, units, reach, boxes, radius = case.arguments
        detector = quickstart(5)
        detector.head, detector.center_sampling_radius = _Recorder(), radius
        anchors = torch.cat([points - units[:, None] / 2, points + units[:, None] / 2], 1)
        if reach[0, 1] == torch.inf:  # torchvision's levels always share the sizes
            continue
        counts = [int((units == unit).sum()) for unit in units.unique()]
        tv.FCOS.compute_loss(detector, [{"boxes": boxes}], {}, [anchors], counts)
        assert torch.equal(detector.head.matched[0], targets.assign_formula(*case.arguments)), case.description


def test_the_detections_are_those_of_torchvision():
    detector = quickstart(5)
    for case in answers._detections_cases():
        points, units, given, size = case.arguments
        anchors = torch.cat([points - units[:, None] / 2, points + units[:, None] / 2], 1)
        outputs = {name: [value[None]] for name, value in zip(answers.ANSWERS, given, strict=True)}
        [found] = tv.FCOS.postprocess_detections(detector, outputs, [[anchors]], [size])
        expected = answers.detections_formula(points, units, given, size)
        for name, value in zip(("boxes", "scores", "labels"), expected, strict=True):
            torch.testing.assert_close(found[name][: answers.MOST], value)


def test_suppression_of_several_classes_is_suppression_of_each():
    boxes, scores, threshold = list(answers._nms_cases())[-1].arguments
    labels = torch.arange(len(boxes)) % 3
    each = [torch.where(labels == k)[0] for k in range(3)]
    kept = [k[answers.nms_formula(boxes[k], scores[k], threshold)] for k in each]
    expected = torch.cat(kept)
    assert torch.equal(
        batched_nms(boxes, scores, labels, threshold), expected[scores[expected].argsort(descending=True)]
    )
