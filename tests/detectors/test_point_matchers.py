"""Which places belong to which object, against loops and by hand."""

import math

import pytest
import torch
from torchvision.ops import box_iou

from dyhead_lab.detectors.anchors import places
from dyhead_lab.detectors.losses import BACKGROUND, IGNORED
from dyhead_lab.detectors.one_stage.point_matchers import match_by_iou, match_by_size, match_nearest

STRIDES = (8, 16, 32)
POINTS = places([(16, 20), (8, 10), (4, 5)], STRIDES)
BOXES = torch.tensor([[10.0, 10.0, 40.0, 60.0], [30.0, 20.0, 150.0, 120.0], [60.0, 60.0, 74.0, 78.0]])
NONE = torch.zeros(0, 4)


def by_size_loop(boxes, finest_size, radius):
    matched = []
    for level, (points, stride) in enumerate(zip(POINTS, STRIDES, strict=True)):
        low = 0 if level == 0 else finest_size * 2 ** (level - 1)
        high = math.inf if level == len(STRIDES) - 1 else finest_size * 2**level
        for x, y in points.tolist():
            best, smallest = BACKGROUND, math.inf
            for i, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
                sides = (x - x1, y - y1, x2 - x, y2 - y)
                near = max(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2)) < radius * stride
                area = (x2 - x1) * (y2 - y1)
                if min(sides) > 0 and near and low <= max(sides) <= high and area < smallest:
                    best, smallest = i, area
            matched.append(best)
    return matched


@pytest.mark.parametrize(("finest_size", "radius"), [(64.0, 1.5), (32.0, 1.5), (20.0, 3.0)])
def test_fcos_assignment_is_the_loop(finest_size, radius):
    matched = match_by_size(POINTS, STRIDES, BOXES, finest_size, radius)
    assert matched.tolist() == by_size_loop(BOXES, finest_size, radius)
    assert {0, 1, 2, BACKGROUND} == set(matched.tolist())


@pytest.mark.parametrize(
    ("side", "stride"), [(5, 8), (31, 8), (33, 8), (63, 8), (65, 16), (127, 16), (130, 32), (300, 32)]
)
def test_an_object_takes_the_one_place_next_to_its_centre_on_the_level_of_its_size(side, stride):
    box = torch.tensor([[50.0 - side / 2, 40.0 - side / 2, 50.0 + side / 2, 40.0 + side / 2]])
    matched = match_nearest(POINTS, STRIDES, box)
    [place] = (matched == 0).nonzero().flatten().tolist()
    level = STRIDES.index(stride)
    place -= sum(len(p) for p in POINTS[:level])
    assert 0 <= place < len(POINTS[level])
    distance = (POINTS[level] - torch.tensor([50.0, 40.0])).norm(dim=1)
    assert place == distance.argmin()


def test_a_place_that_two_objects_want_goes_to_the_nearer_one():
    place = POINTS[0][25]  # two objects of one size, two pixels and one pixel beside it
    boxes = torch.stack([torch.cat([place + shift - 18, place + shift + 18]) for shift in (2.0, 1.0)])
    for order in ([0, 1], [1, 0]):
        matched = match_nearest(POINTS, STRIDES, boxes[order])
        assert matched[25] == order.index(1) and (matched >= 0).sum() == 1


def test_overlap_decides_and_every_object_keeps_its_best_place():
    found = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 5.5], [0, 0, 10, 4.5], [0, 0, 10, 3], [50, 50, 52, 52]])
    boxes = torch.tensor([[0.0, 0, 10, 10], [49.0, 49, 60, 60]])
    assert box_iou(found, boxes)[:, 0].tolist() == pytest.approx([1, 0.55, 0.45, 0.3, 0])
    assert match_by_iou(found, boxes).tolist() == [0, 0, IGNORED, BACKGROUND, 1]
    apart = torch.tensor([[80.0, 80, 90, 90]])  # no place overlaps it: it takes none
    assert match_by_iou(found, apart).unique().tolist() == [BACKGROUND]


def crowd(objects, seed):
    """Overlapping objects, some of them twice, so that many want one place."""
    generator = torch.Generator().manual_seed(seed)
    low = torch.rand(objects, 2, generator=generator) * 60
    boxes = torch.cat([low, low + 2 + torch.rand(objects, 2, generator=generator) * 60], 1)
    return torch.cat([boxes, boxes[::3]])


@pytest.mark.parametrize("seed", range(4))
def test_the_nearest_object_takes_a_place_as_in_a_loop(seed):
    boxes, scale = crowd(30, seed), 4.0
    wanted = {}  # place: (distance, object)
    for object, box in enumerate(boxes):
        size = box[2:] - box[:2]
        level = min(max(math.floor(float((size / scale).log2().mean())), 3), 5) - 3
        distance = ((POINTS[level] - (box[:2] + box[2:]) / 2) / size).norm(dim=1)
        place = sum(len(p) for p in POINTS[:level]) + int(distance.argmin())
        wanted.setdefault(place, []).append((float(distance.min()), object))
    matched = match_nearest(POINTS, STRIDES, boxes, scale)
    assert (matched >= 0).nonzero().flatten().tolist() == sorted(wanted)
    assert any(len(claims) > 1 for claims in wanted.values())
    for place, claims in wanted.items():
        nearest = min(distance for distance, _ in claims)
        assert int(matched[place]) in {object for distance, object in claims if distance <= nearest + 1e-6}


@pytest.mark.parametrize("seed", range(4))
def test_the_last_object_keeps_a_best_place_as_in_a_loop(seed):
    boxes, found = crowd(30, seed), torch.cat([crowd(12, seed + 100), torch.tensor([[200.0, 200, 201, 201]])])
    iou = box_iou(found, boxes)
    matched = [
        BACKGROUND if best < 0.4 else IGNORED if best < 0.5 else int(row.argmax())
        for row in iou
        for best in [float(row.max())]
    ]
    for object in range(len(boxes)):
        if iou[:, object].max() > 0:
            matched[int(iou[:, object].argmax())] = object
    assert match_by_iou(found, boxes).tolist() == matched


def test_without_objects_everything_is_background():
    assert match_by_size(POINTS, STRIDES, NONE).tolist() == [BACKGROUND] * sum(map(len, POINTS))
    assert match_nearest(POINTS, STRIDES, NONE).unique().tolist() == [BACKGROUND]
    assert match_by_iou(torch.rand(7, 4), NONE).tolist() == [BACKGROUND] * 7
