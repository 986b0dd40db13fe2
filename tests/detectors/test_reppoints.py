"""RepPoints: its two stages and its losses, each by hand."""

import pytest
import torch
import torch.nn.functional as F

from dyhead_lab.detectors.anchors import places
from dyhead_lab.detectors.one_stage.point_sets import POINTS
from dyhead_lab.detectors.one_stage.reppoints import Predictions, RepPointsHead, detect, reppoints
from dyhead_lab.trace import trace

LEVELS = [torch.randn(2, 32, size, size + 1, generator=torch.Generator().manual_seed(size)) for size in (6, 3)]
STRIDES = (8, 16)
EMPTY = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}


def head(**options):
    torch.manual_seed(0)
    made = RepPointsHead(32, classes=3, strides=STRIDES, tower_convs=0, **options)
    for layer in (made.init_conv, made.init_points, made.refine_points):
        torch.nn.init.normal_(layer.weight, std=0.1)
    return made


def small(**options):
    torch.manual_seed(0)
    return reppoints(3, "narrow", dyhead_blocks=0, channels=32, tower_convs=1, min_size=64, max_size=96, **options)


def test_refined_points_start_from_the_first_ones_in_pixels():
    made = head()
    predictions = made(LEVELS)
    centres = places([(6, 7), (3, 4)], STRIDES)
    for level, stride in enumerate(STRIDES):
        x = LEVELS[level]
        first = made.init_points(F.relu(made.init_conv(x)))
        second = first + made.refine_points(F.relu(made.refine_conv(x, first)))
        for points, found in ((first, predictions.init[level]), (second, predictions.refined[level])):
            width = x.shape[3]
            for row, column, k in ((0, 0, 0), (2, 1, 5), (1, 3, 8)):
                dy, dx = points[1, 2 * k : 2 * k + 2, row, column]
                place = row * width + column
                expected = centres[level][place] + stride * torch.stack([dx, dy])
                # Coordinates up to 60 in float32.
                torch.testing.assert_close(found[1, place, k], expected, rtol=0, atol=1e-4)


def test_a_tenth_of_the_second_gradient_reaches_the_first_points():
    made = head()
    # The refined points stand on the first ones without their gradient: what arrives came through the sampling.
    made(LEVELS).refined[0].sum().backward()
    passed = made.init_points.bias.grad.clone()
    x = LEVELS[0]
    first = made.init_points(F.relu(made.init_conv(x))).detach().requires_grad_()
    moved = made.refine_points(F.relu(made.refine_conv(x, first)))
    (STRIDES[0] * moved.sum()).backward()
    # float32 sums over 84 places of terms that cancel
    torch.testing.assert_close(passed, 0.1 * first.grad.sum((0, 2, 3)), rtol=1e-3, atol=1e-3)


def square(centre, half, places):
    """Nine points at the middle, the sides and the corners of a square, for each of ``places``: (1, places, 9, 2)."""
    grid = torch.cartesian_prod(torch.tensor([-1.0, 0, 1]), torch.tensor([-1.0, 0, 1]))
    return (torch.tensor(centre) + half * grid).expand(1, places, POINTS, 2)


def test_losses_of_one_object_by_hand(monkeypatch):
    model = small(to_box="min_max")
    # An object of 32 to 64 pixels belongs to P3; its centre lies in the middle of cell (2, 2).
    box = [0.0, 0.0, 40.0, 40.0]
    sizes = [(8, 8), (4, 4), (2, 2), (1, 1), (1, 1)]
    first = [square((20.0, 20.0), 18.0, h * w) if h == 8 else square((500.0, 500.0), 1.0, h * w) for h, w in sizes]
    second = [square((21.0, 20.0), 20.0, h * w) for h, w in sizes]
    logits = [torch.zeros(1, h * w, 3) for h, w in sizes]
    model.head.forward = lambda levels: Predictions(logits, first, second)
    target = {"boxes": torch.tensor([box]), "labels": torch.tensor([1])}
    losses = model.losses([torch.zeros(1, 32, h, w) for h, w in sizes], [target])

    unit = 4 * 8
    # First stage: one place; every side is 2 pixels off, 1/16 of the unit: below 0.11, so square.
    assert losses["bbox_init"].item() == pytest.approx(0.5 * 4 * 0.5 * (2 / unit) ** 2 / 0.11)
    # Second stage: the first boxes of all 64 places of P3 overlap by 0.81; x is off by 1, y is exact.
    assert losses["bbox_refine"].item() == pytest.approx(2 * 0.5 * (1 / unit) ** 2 / 0.11)
    # Probability 1/2 everywhere: alpha 0.25 at the 64 positives, 0.75 elsewhere, (1/2)^2 log 2 each.
    places = 86
    wrong, right = 0.75 * (3 * places - 64), 0.25 * 64
    assert losses["classification"].item() == pytest.approx((wrong + right) * 0.25 * 0.6931472 / 64, rel=1e-5)


def test_scores_are_the_class_probabilities_and_equal_boxes_are_suppressed():
    boxes = [torch.tensor([[[0.0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]]])]
    logits = [torch.tensor([[[2.0, -9], [1, -9], [-9, 0]]])]
    [found] = detect(logits, boxes)
    assert found["labels"].tolist() == [0, 1]
    torch.testing.assert_close(found["scores"], torch.tensor([2.0, 0.0]).sigmoid())
    assert found["boxes"].tolist() == [[0, 0, 10, 10], [50, 50, 60, 60]]


def test_points_can_be_traced_on_every_level():
    model = small().eval()
    with torch.no_grad(), trace(model) as t:
        model([torch.rand(3, 64, 64)])
    for name in ("points_init", "points_refined"):
        assert [tuple(x.shape) for _, x in t.find(name)] == [(1, n, POINTS, 2) for n in (64, 16, 4, 1, 1)]


def test_an_unknown_way_to_make_boxes_is_refused():
    with pytest.raises(ValueError, match="to_box: expected one of moment, min_max, got 'mean'"):
        small(to_box="mean")
