"""Points to boxes and features at points, each against a loop."""

import math

import pytest
import torch

from dyhead_lab.detectors.one_stage.point_sets import POINTS, MomentBox, PointConv, min_max_box


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def moment_box_loop(points, factors):
    """mean -+ exp(factor) * sample standard deviation, coordinate by coordinate."""
    box = [0.0] * 4
    for axis in (0, 1):
        values = [p[axis] for p in points]
        mean = sum(values) / len(values)
        deviation = math.sqrt(sum((v - mean) ** 2 for v in values) / (len(values) - 1))
        half = math.exp(factors[axis]) * deviation
        box[axis], box[axis + 2] = mean - half, mean + half
    return box


def test_moments_are_the_loop():
    to_box, points = MomentBox(), 20 * drawn(2, 5, POINTS, 2)
    with torch.no_grad():
        to_box.factors.copy_(torch.tensor([0.3, -0.2]))
    expected = [[moment_box_loop(p.tolist(), [0.3, -0.2]) for p in image] for image in points]
    # Coordinates up to 60 in float32.
    torch.testing.assert_close(to_box(points), torch.tensor(expected), rtol=0, atol=1e-4)


def test_the_smallest_box_holds_every_point():
    points = drawn(4, POINTS, 2)
    for box, around in zip(min_max_box(points).tolist(), points.tolist(), strict=True):
        xs, ys = zip(*around, strict=True)
        assert box == [min(xs), min(ys), max(xs), max(ys)]


def test_every_point_moves_the_moment_box_and_the_factors_learn_slowly():
    to_box, points = MomentBox(), drawn(1, POINTS, 2).requires_grad_()
    to_box(points)[:, 2].sum().backward()
    assert (points.grad[0, :, 0] != 0).all()
    # d(half) / d(factor) is the deviation times exp(0), of which one hundredth passes.
    assert to_box.factors.grad[0].item() == pytest.approx(0.01 * points[0, :, 0].std().item(), rel=1e-5)


def test_points_on_one_spot_give_a_box_without_area_and_finite_gradients():
    points = torch.zeros(1, POINTS, 2, requires_grad=True)
    box = MomentBox()(points)
    assert box.tolist() == [[0, 0, 0, 0]]
    box.sum().backward()
    assert points.grad.isfinite().all()


def bilinear(map_CHW, y, x):
    """The map's channels at (y, x) in cells; zero outside."""
    _, H, W = map_CHW.shape
    value = torch.zeros(len(map_CHW))
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < H and 0 <= column < W:
                value += (1 - abs(y - row)) * (1 - abs(x - column)) * map_CHW[:, row, column]
    return value


def test_features_are_read_at_the_points():
    conv, x, points = PointConv(4), drawn(2, 4, 5, 6), 1.5 * drawn(2, 2 * POINTS, 5, 6, seed=1)
    expected = torch.zeros(2, 4, 5, 6)
    for b in range(2):
        for row in range(5):
            for column in range(6):
                for k in range(POINTS):
                    dy, dx = points[b, 2 * k : 2 * k + 2, row, column].tolist()
                    read = bilinear(x[b], row + dy, column + dx)
                    expected[b, :, row, column] += conv.weight[:, :, k // 3, k % 3].detach() @ read
    # float32 sums of 36 products of numbers around 0.01 and 1
    torch.testing.assert_close(conv(x, points), expected, rtol=1e-4, atol=1e-5)


def test_points_on_the_regular_grid_make_an_ordinary_convolution():
    conv, x = PointConv(4), drawn(1, 4, 5, 6)
    regular = conv.grid.expand(1, -1, 5, 6)
    expected = torch.nn.functional.conv2d(x, conv.weight, padding=1)
    torch.testing.assert_close(conv(x, regular), expected, rtol=1e-4, atol=1e-6)  # another order of sums
