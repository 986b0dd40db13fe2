"""What a detector gives back: each way to miss the form of CONTRIBUTING.md is refused by its name."""

import pytest
import torch

from dyhead_lab.detectors.result_checks import check_detections, check_losses
from dyhead_lab.errors import UserError

ONE = torch.tensor(1.0)
BOXES, SCORES, LABELS = torch.tensor([[0.0, 0, 5, 5]]), torch.tensor([0.5]), torch.tensor([1])
FOUND = {"boxes": BOXES, "scores": SCORES, "labels": LABELS}


def test_the_form_passes():
    check_losses({"class": ONE, "box": ONE})
    check_losses({"loss": ONE})
    nothing = {"boxes": torch.zeros(0, 4), "scores": torch.zeros(0), "labels": torch.zeros(0, dtype=torch.int64)}
    check_detections([FOUND, nothing], images=2, classes=2)
    check_detections((FOUND | {"masks": torch.zeros(1, 1, 8, 8)},), images=1, classes=2)


@pytest.mark.parametrize(
    ("losses", "words"),
    [
        (ONE, "expected a dict of tensors without axes.*got Tensor"),
        ({}, "got dict without entries"),
        ({"class": 0.5}, "got a float for 'class'"),
        ({"class": ONE[None]}, r"got a tensor \(1,\) for 'class'"),
        ({"class": None}, "got nothing for 'class'"),
        ({"iteration": ONE}, "'iteration' is a name that the log needs"),
        ({"AP": ONE}, "'AP' is a name that the log needs"),
    ],
)
def test_losses_of_another_form_are_named(losses, words):
    with pytest.raises(UserError, match=f"^the detector's losses: .*{words}"):
        check_losses(losses)


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (FOUND, "one dict for each of 1 images, got a dict"),
        ([FOUND, FOUND], "one dict for each of 1 images, got 2 of them"),
        (None, "got nothing"),
        ([BOXES], r"expected a dict with boxes, scores, labels, got a tensor \(1, 4\)"),
        ([{"boxes": BOXES, "labels": LABELS}], r"expected a tensor \(1,\) for 'scores', got nothing"),
        ([FOUND | {"boxes": BOXES.numpy()}], r"expected a tensor \(n, 4\) for 'boxes', got a ndarray"),
        ([FOUND | {"boxes": BOXES[0]}], r"expected a tensor \(n, 4\) for 'boxes', got a tensor \(4,\)"),
        ([FOUND | {"scores": SCORES[:0]}], r"expected a tensor \(1,\) for 'scores', got a tensor \(0,\)"),
        ([FOUND | {"labels": LABELS[None]}], r"for 'labels', got a tensor \(1, 1\)"),
        ([FOUND | {"labels": LABELS + 1}], r"labels must lie in 0\.\.1, got \[2\]"),
    ],
)
def test_detections_of_another_form_are_named(found, words):
    with pytest.raises(UserError, match=f"^the detector's results.*: .*{words}"):
        check_detections(found, images=1, classes=2)
