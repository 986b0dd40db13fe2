"""Random square views: boxes stay on their objects, whichever way round, and cut objects leave with their labels."""

import pytest
import torch
from torchvision import tv_tensors

from dyhead_lab.data.microscope import LEAST_VISIBLE, SquareView, microscope

HEIGHT, WIDTH = 48, 64
BOX = [20, 12, 30, 18]  # wider than high


def scene():
    """A dark image with one bright rectangle, and its target."""
    image = torch.zeros(3, HEIGHT, WIDTH)
    x1, y1, x2, y2 = BOX
    image[:, y1:y2, x1:x2] = 1
    boxes = tv_tensors.BoundingBoxes([BOX], format="XYXY", canvas_size=(HEIGHT, WIDTH), dtype=torch.float32)
    return tv_tensors.Image(image), {"boxes": boxes, "labels": torch.tensor([7]), "image_id": 1, "size": (48, 64)}


def test_boxes_stay_on_their_objects_in_all_eight_ways():
    corners = set()
    torch.manual_seed(0)
    for _ in range(60):
        image, target = SquareView(size=96, least=0.9)(*scene())
        assert image.shape == (3, 96, 96)
        if len(target["boxes"]) == 0:
            continue
        x1, y1, x2, y2 = (float(value) for value in target["boxes"][0])
        # Resizing blurs the border by about a pixel, so the bright area is known to about half the border's length.
        assert image[0].sum() == pytest.approx((x2 - x1) * (y2 - y1), rel=0.05)
        assert image[0, round(y1) + 2 : round(y2) - 2, round(x1) + 2 : round(x2) - 2].min() > 0.99
        assert target["labels"].tolist() == [7] and target["image_id"] == 1 and target["size"] == (48, 64)
        corners.add((x2 - x1 > y2 - y1, x1 < image.shape[-1] - x2, y1 < image.shape[-1] - y2))
    assert len(corners) == 8


def test_objects_that_a_crop_cuts_off_leave_with_their_labels():
    image, target = scene()
    boxes = torch.tensor([[0.0, 0, 64, 48], [-1.0, 0, 0.1, 48], BOX])  # the second lies almost outside
    target = {**target, "boxes": tv_tensors.wrap(boxes, like=target["boxes"]), "labels": torch.tensor([1, 2, 3])}
    torch.manual_seed(0)
    for _ in range(20):
        _, seen = SquareView(size=HEIGHT, least=1.0)(image, target)
        assert 2 not in seen["labels"] and 1 in seen["labels"]  # 48 of 64 columns are left of the first: 0.75
        assert len(seen["labels"]) == len(seen["boxes"])
        sizes = seen["boxes"].as_subclass(torch.Tensor)
        areas = (sizes[:, 2] - sizes[:, 0]) * (sizes[:, 3] - sizes[:, 1])
        whole = torch.tensor([{1: 64.0 * 48, 3: 60.0}[int(label)] for label in seen["labels"]])
        assert (areas >= LEAST_VISIBLE * whole).all()


def test_the_light_varies_and_the_seed_decides():
    views = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        views.append(microscope()(*scene())[0])
    assert torch.equal(views[0], views[1])
    assert not torch.equal(views[0], views[2])


def test_images_without_objects_pass():
    image, target = scene()
    empty = {**target, "boxes": tv_tensors.wrap(torch.zeros(0, 4), like=target["boxes"]), "labels": torch.zeros(0)}
    _, seen = microscope()(image, empty)
    assert seen["boxes"].shape == (0, 4) and len(seen["labels"]) == 0


def test_masks_are_refused():
    image, target = scene()
    with pytest.raises(ValueError, match="no masks"):
        microscope()(image, {**target, "masks": torch.zeros(1, HEIGHT, WIDTH)})


@pytest.mark.parametrize("least", [0, 1.5])
def test_impossible_shares_are_refused(least):
    with pytest.raises(ValueError, match="least"):
        SquareView(least=least)
