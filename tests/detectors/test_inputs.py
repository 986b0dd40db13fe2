"""Images and targets that no detector can use: every detector refuses them in the same words, before any work."""

import math

import pytest
import torch

from dyhead_lab.detectors.inputs import check_images, check_targets

from .every import CLASSES, EVERY, detector, target

IMAGE = torch.rand(3, 40, 50, generator=torch.Generator().manual_seed(0))
GOOD = target([[10.0, 10, 40, 30]], [0], 40, 50)
CORNERS = "boxes must be x1, y1, x2, y2 with x1 < x2 and y1 < y2, got boxes"


def second(boxes, labels):
    """A batch of two images, of which the second has these objects."""
    return [IMAGE, IMAGE], [GOOD, target(boxes, labels, 40, 50)]


BOX = [5.0, 5, 20, 20]
BAD = {
    "label -1": (*second([BOX, BOX], [1, -1]), "targets[1]: labels must lie in 0..2, got labels[1] = -1"),
    "label = classes": (*second([BOX], [3]), "targets[1]: labels must lie in 0..2, got labels[0] = 3"),
    "xywh given as xyxy": (
        *second([BOX, [40.0, 30, 10, 10]], [0, 1]),
        f"targets[1]: {CORNERS}[1] = [40.0, 30.0, 10.0, 10.0]; is that x, y, width, height?",
    ),
    "no width": (
        *second([[10.0, 10, 10, 30]], [0]),
        f"targets[1]: {CORNERS}[0] = [10.0, 10.0, 10.0, 30.0]; is that x, y, width, height?",
    ),
    "NaN in a box": (
        *second([[10.0, 10, math.nan, 30]], [0]),
        "targets[1]: boxes must be finite, got boxes[0] = [10.0, 10.0, nan, 30.0]",
    ),
    "infinite box": (
        *second([[10.0, 10, math.inf, 30]], [0]),
        "targets[1]: boxes must be finite, got boxes[0] = [10.0, 10.0, inf, 30.0]",
    ),
    "boxes of five": (
        [IMAGE],
        [{**GOOD, "boxes": torch.zeros(1, 5)}],
        "targets[0]: boxes must be (n, 4) and labels (n,), got (1, 5) and (1,)",
    ),
    "a label too many": (
        [IMAGE],
        [{**GOOD, "labels": torch.tensor([0, 1])}],
        "targets[0]: boxes must be (n, 4) and labels (n,), got (1, 4) and (2,)",
    ),
    "labels as floats": (
        [IMAGE],
        [{**GOOD, "labels": torch.tensor([0.0])}],
        "targets[0]: boxes must be floats and labels int64, got torch.float32 and torch.float32",
    ),
    "no labels": (
        [IMAGE],
        [{"boxes": GOOD["boxes"]}],
        "targets[0]: expected a dict with a tensor 'labels', got {'boxes': Tensor}",
    ),
    "no dict": ([IMAGE], [GOOD["boxes"]], "targets[0]: expected a dict with a tensor 'boxes', got Tensor"),
    "too few targets": ([IMAGE, IMAGE], [GOOD], "targets: expected one dict per image, got 2 images, 1 targets"),
    "no targets": ([IMAGE], None, "targets: expected one dict per image in training mode, got None"),
}
IMAGES = {
    "no images": ([], "images: expected at least one, got an empty list"),
    "one channel": (
        [IMAGE, IMAGE[:1]],
        "images[1]: expected a float tensor (3, H, W) in [0, 1], got torch.float32 (1, 40, 50)",
    ),
    "a batch": (
        [IMAGE[None]],
        "images[0]: expected a float tensor (3, H, W) in [0, 1], got torch.float32 (1, 3, 40, 50)",
    ),
    "bytes": ([IMAGE.byte()], "images[0]: expected a float tensor (3, H, W) in [0, 1], got torch.uint8 (3, 40, 50)"),
    "height 0": (
        [IMAGE[:, :0]],
        "images[0]: expected a float tensor (3, H, W) in [0, 1], got torch.float32 (3, 0, 50)",
    ),
    "no tensor": ([IMAGE.numpy()], "images[0]: expected a float tensor (3, H, W) in [0, 1], got ndarray"),
}

every_detector = pytest.mark.parametrize("name", EVERY)


def refusal(model, *inputs):
    """What the detector says; nothing may have been computed by then."""

    def worked(*_):
        raise AssertionError("the backbone ran before the check")

    hook = model.backbone.register_forward_pre_hook(worked)
    try:
        with pytest.raises(ValueError) as refused:
            model(*inputs)
    finally:
        hook.remove()
    return str(refused.value)


@every_detector
@pytest.mark.parametrize("case", BAD)
def test_targets_that_cannot_be_learned_from_are_refused(name, case):
    images, targets, message = BAD[case]
    assert refusal(detector(name).train(), images, targets) == message


@every_detector
@pytest.mark.parametrize("case", IMAGES)
def test_what_is_no_image_is_refused_in_training_and_in_evaluation(name, case):
    images, message = IMAGES[case]
    assert refusal(detector(name).train(), images, [GOOD] * len(images)) == message
    assert refusal(detector(name).eval(), images) == message


def test_masks_are_asked_for_where_they_are_learned():
    model = detector("mask_rcnn_shapes").train()
    without = {name: GOOD[name] for name in ("boxes", "labels")}
    assert "expected a dict with a tensor 'masks'" in refusal(model, [IMAGE], [without])
    turned = {**GOOD, "masks": GOOD["masks"].mT}
    assert refusal(model, [IMAGE], [turned]) == "targets[0]: masks must be (1, 40, 50), got (1, 50, 40)"


def test_images_without_objects_and_images_that_are_not_finite_pass():
    """The second are for the engine, which can leave them out by their losses."""
    check_images([torch.full_like(IMAGE, math.nan)])
    check_targets([target([], [], 40, 50)], [IMAGE], CLASSES, masks=True)


@every_detector
def test_evaluation_does_not_look_at_targets(name):
    model = detector(name).eval()
    with torch.no_grad():
        (plain,), (given,) = model([IMAGE]), model([IMAGE], [{"boxes": "none"}])
    assert torch.equal(plain["boxes"], given["boxes"])
