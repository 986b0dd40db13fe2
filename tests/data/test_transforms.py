"""Random transforms: boxes and masks stay on their pixels, what vanishes leaves with its label, sizes keep bounds."""

import pytest
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from dyhead_lab.data.draws import RandomDraws
from dyhead_lab.data.transforms import (
    AUGMENTATIONS,
    RandomWindow,
    augmentation,
    detr,
    large_scale_jitter,
    multi_scale,
    resizes,
)
from dyhead_lab.errors import UserError

HEIGHT, WIDTH = 60, 90
BOXES = [[10.0, 20, 30, 50], [70, 5, 85, 15], [0, 0, 90, 60]]
LABELS = [4, 7, 9]


def scene():
    """Every pixel knows its place: channel 0 holds x + 1/2, channel 1 y + 1/2; masks fill the boxes."""
    y, x = torch.meshgrid(torch.arange(HEIGHT) + 0.5, torch.arange(WIDTH) + 0.5, indexing="ij")
    masks = torch.zeros(3, HEIGHT, WIDTH, dtype=torch.uint8)
    for mask, (x1, y1, x2, y2) in zip(masks, BOXES, strict=True):
        mask[int(y1) : int(y2), int(x1) : int(x2)] = 1
    target = {"boxes": torch.tensor(BOXES), "labels": torch.tensor(LABELS), "masks": masks, "image_id": 5}
    return torch.stack([x, y, torch.zeros_like(x)]), target


def drawn(transform, seed):
    """The scene under one draw of a transform, as training sees it."""
    return RandomDraws([scene()], transform)[0, seed]


@pytest.mark.parametrize("window", [(10, 40), (30, 30), (200, 300)])
def test_a_window_keeps_exactly_what_lies_in_it(window):
    image, given = scene()
    for seed in range(20):
        seen, target = drawn(v2.Compose([RandomWindow(*window), v2.SanitizeBoundingBoxes()]), seed)
        height, width = seen.shape[-2:]
        assert all(min(window[0], s) <= side <= min(window[1], s) for side, s in ((height, HEIGHT), (width, WIDTH)))
        left, top = (int(seen[channel, 0, 0]) for channel in (0, 1))
        assert torch.equal(seen, image[:, top : top + height, left : left + width])
        edges = torch.tensor([left, top, left, top])
        sizes = torch.tensor([width, height, width, height])
        cut = (given["boxes"] - edges).clamp(min=0).minimum(sizes)
        kept = (cut[:, 2:] - cut[:, :2]).min(1).values >= 1
        assert torch.equal(target["boxes"], cut[kept])
        assert target["labels"].tolist() == [label for label, k in zip(LABELS, kept, strict=True) if k]
        assert torch.equal(target["masks"], given["masks"][kept][:, top : top + height, left : left + width])


def test_windows_reach_every_border():
    seen = [drawn(RandomWindow(59, 59), seed)[0] for seed in range(200)]
    assert {int(image[1, 0, 0]) for image in seen} == {0, 1}
    assert {int(image[0, 0, 0]) for image in seen} == set(range(WIDTH - 59 + 1))


def test_multi_scale_scales_boxes_as_it_scales_the_image():
    """Exact to float32 rounding: a box is multiplied by the ratio of the sizes."""
    sides, shapes = (40, 50, 120), set()
    for seed in range(40):
        image, target = drawn(multi_scale(sides, longest=150), seed)
        height, width = image.shape[-2:]
        shapes.add((height, width))
        boxes = torch.tensor(BOXES) * torch.tensor([width / WIDTH, height / HEIGHT] * 2)
        if image[0, 0, 0] > image[0, 0, -1]:  # mirrored
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
        torch.testing.assert_close(target["boxes"], boxes)
        assert target["labels"].tolist() == LABELS and target["masks"].shape == (3, height, width)
    assert shapes == {(40, 60), (50, 75), (100, 150)}  # 120 would make the longer side 180


def assert_boxes_lie_on_their_masks(target, within):
    """A resize rounds the borders of a mask to whole pixels; ``within`` is what that may amount to."""
    for box, mask in zip(target["boxes"], target["masks"], strict=True):
        ys, xs = mask.nonzero(as_tuple=True)
        tight = torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()
        torch.testing.assert_close(box, tight, atol=within, rtol=0)


def test_detr_resizes_or_crops_between():
    transform = detr((45, 60), longest=100, before_crop=(50, 70), window=(30, 40))
    crops = 0
    for seed in range(60):
        image, target = drawn(transform, seed)
        assert min(image.shape[-2:]) <= 60 and max(image.shape[-2:]) <= 100
        assert_boxes_lie_on_their_masks(target, within=3)  # a pixel, and one that the second resize doubles
        span = (image[0].max() - image[0].min()).item()
        crops += span < WIDTH - 10  # a window shows at most 40 columns of at least 75
    assert 15 < crops < 45  # half of 60


def test_large_scale_jitter_shrinks_with_all_objects_or_grows_and_cuts():
    sides = []
    for seed in range(60):
        image, target = drawn(large_scale_jitter(80, (0.2, 2.0)), seed)
        sides.append(max(image.shape[-2:]))
        assert 0.2 * 80 - 1 <= sides[-1] <= 80
        assert_boxes_lie_on_their_masks(target, within=1)
        if sides[-1] < 80 * 0.95:
            assert len(target["boxes"]) == 3 or min(image.shape[-2:]) < 20  # nothing is cut, but little may vanish
    assert 15 < sum(side == 80 for side in sides) < 55  # scales from 1 on: five of nine


@pytest.mark.parametrize("name", sorted(AUGMENTATIONS))
def test_every_augmentation_takes_images_without_objects(name):
    empty = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long), "image_id": 1}
    image, target = RandomDraws([(torch.rand(3, 480, 640), empty)], augmentation(name))[0, 3]
    assert target["boxes"].shape == (0, 4) and target["labels"].shape == (0,) and image.shape[0] == 3
    assert set(target) == {"boxes", "labels", "image_id"}


def test_published_sizes():
    """COCO's commonest image, 640 x 480, as Detectron2, DETR and large-scale jitter train on it."""
    given = {"boxes": torch.tensor([[0.0, 0, 640, 480]]), "labels": torch.tensor([1]), "image_id": 1}
    draws = {name: RandomDraws([(torch.rand(3, 480, 640), given)], augmentation(name)) for name in AUGMENTATIONS}
    shorter = {min(draws["multi_scale"][0, seed][0].shape[-2:]) for seed in range(30)}
    assert shorter <= set(range(480, 801, 32)) and {min(shorter), max(shorter)} == {480, 800}
    assert max(max(draws["detr"][0, seed][0].shape[-2:]) for seed in range(20)) <= 1333
    assert max(max(draws["large_scale_jitter"][0, seed][0].shape[-2:]) for seed in range(20)) == 1024


@pytest.mark.parametrize("height, width", [(3, 600), (600, 3)])
@pytest.mark.parametrize(
    "transform", [multi_scale((120,), 160), detr((120,), 160, (1,), (1, 4)), large_scale_jitter(160, (0.1, 0.5))]
)
def test_a_very_long_image_keeps_a_pixel_of_its_shorter_side(transform, height, width):
    given = {"boxes": torch.tensor([[0.0, 0, width, height]]), "labels": torch.tensor([1]), "image_id": 1}
    sides = set()
    for seed in range(8):
        image, target = RandomDraws([(torch.rand(3, height, width), given)], transform)[0, seed]
        sides.add(min(image.shape[-2:]))
        assert len(target["boxes"]) == len(target["labels"])
    assert min(sides) == 1


def test_who_decides_the_size():
    assert resizes("multi_scale") and resizes("detr") and resizes("large_scale_jitter")
    assert not resizes("flip") and not resizes("none")
    with pytest.raises(UserError, match="expected one of none, flip"):
        resizes("rotate")


def test_impossible_windows_are_refused():
    with pytest.raises(ValueError, match="least"):
        RandomWindow(40, 30)


def test_targets_keep_only_what_stays_true():
    image, target = scene()
    draws = RandomDraws([(image, {**target, "area": torch.ones(3), "size": (HEIGHT, WIDTH)})], RandomWindow(30, 40))
    _, seen = draws[0, 1]
    assert set(seen) == {"boxes", "labels", "masks", "image_id"} and seen["image_id"] == 5
    assert not any(isinstance(value, tv_tensors.TVTensor) for value in seen.values())
