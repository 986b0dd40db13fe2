"""Border alignment against a loop over boxes, borders, channels and points."""

import math

import pytest
import torch

from dyhead_lab.detectors.one_stage.border_align import BorderAlignment, border_align, border_points
from dyhead_lab.trace import trace

STRIDE = 8
BOXES = torch.tensor(
    [
        [[10.0, 12.0, 50.0, 40.0], [3.0, 5.0, 3.0, 5.0]],  # an ordinary box, and one without area
        [[-20.0, -9.0, 200.0, 90.0], [30.0, 8.0, 44.0, 60.0]],  # one that reaches beyond the image
    ]
)


def drawn(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def bilinear(map_HW, x, y):
    """The map at (x, y) in cells, measured from the middle of the first; its edge continues outwards."""
    H, W = map_HW.shape
    x, y = min(max(x, 0.0), W - 1.0), min(max(y, 0.0), H - 1.0)
    left, top = math.floor(x), math.floor(y)
    value = 0.0
    for row, column in ((top, left), (top, left + 1), (top + 1, left), (top + 1, left + 1)):
        share = (1 - abs(x - column)) * (1 - abs(y - row))
        if share > 0:
            value += share * map_HW[row, column].item()
    return value


def border_align_loop(x, boxes, stride, intervals):
    B, channels, _, _ = x.shape
    C = channels // 4
    y = torch.zeros(B, boxes.shape[1], 4 * C, dtype=x.dtype)
    for b in range(B):
        for n, (x1, y1, x2, y2) in enumerate(boxes[b].tolist()):
            for k in range(intervals + 1):
                t = k / intervals
                on_border = [
                    (x1, y1 + t * (y2 - y1)),
                    (x1 + t * (x2 - x1), y1),
                    (x2, y1 + t * (y2 - y1)),
                    (x1 + t * (x2 - x1), y2),
                ]
                for side, (px, py) in enumerate(on_border):
                    for c in range(side * C, (side + 1) * C):
                        value = bilinear(x[b, c], px / stride - 0.5, py / stride - 0.5)
                        y[b, n, c] = value if k == 0 else max(y[b, n, c].item(), value)
    return y


@pytest.mark.parametrize("intervals", [1, 10])
def test_it_is_the_loop(intervals):
    x = drawn(2, 12, 7, 9)
    expected = border_align_loop(x, BOXES.double(), STRIDE, intervals)
    # float64, a dozen operations apiece
    torch.testing.assert_close(border_align(x, BOXES, STRIDE, intervals), expected, rtol=0, atol=1e-12)


def test_points_run_along_the_borders_with_both_corners():
    points = border_points(torch.tensor([0.0, 10.0, 20.0, 50.0]), intervals=2)
    assert points.tolist() == [
        [[0, 10], [0, 30], [0, 50]],
        [[0, 10], [10, 10], [20, 10]],
        [[20, 10], [20, 30], [20, 50]],
        [[0, 50], [10, 50], [20, 50]],
    ]


def test_gradients_reach_the_map_and_not_the_boxes():
    x, boxes = drawn(1, 4, 5, 6).requires_grad_(), BOXES[:1].double().requires_grad_()
    border_align(x, boxes, STRIDE).sum().backward()
    assert boxes.grad is None
    # Each of four borders of two boxes hands a gradient of 1 to the cells around its largest value.
    assert x.grad.sum().item() == pytest.approx(8)
    assert torch.autograd.gradcheck(lambda x: border_align(x, boxes.detach(), STRIDE), x)


def test_points_are_exact_for_maps_in_bfloat16():
    # A map that holds its own column: the right border of a box is read where it lies, not 4 pixels beside it.
    columns = torch.arange(128.0, dtype=torch.bfloat16).expand(1, 4, 2, 128)
    right = border_align(columns, torch.tensor([[[0.0, 0.0, 1001.0, 16.0]]]), STRIDE)[0, 0, 2]
    assert right.item() == pytest.approx(1001 / STRIDE - 0.5, abs=1e-4)  # float32 around 125


def test_no_boxes_give_nothing():
    assert border_align(drawn(2, 8, 4, 4), torch.zeros(2, 0, 4), STRIDE).shape == (2, 0, 8)


@pytest.mark.parametrize(
    ("x", "boxes", "intervals", "message"),
    [
        (torch.zeros(1, 6, 4, 4), torch.zeros(1, 2, 4), 10, r"x: expected \(B, 4 C, H, W\), got \(1, 6, 4, 4\)"),
        (torch.zeros(2, 8, 4, 4), torch.zeros(1, 2, 4), 10, r"boxes: expected \(2, N, 4\), got \(1, 2, 4\)"),
        (torch.zeros(1, 8, 4, 4), torch.zeros(1, 2, 4), 0, "intervals: expected at least 1, got 0"),
    ],
)
def test_wrong_shapes_are_named(x, boxes, intervals, message):
    with pytest.raises(ValueError, match=message):
        border_align(x, boxes, STRIDE, intervals)


def test_the_module_keeps_the_shape_and_shows_its_points():
    torch.manual_seed(0)
    module = BorderAlignment(8, 4)
    boxes = torch.tensor([[4.0, 4.0, 30.0, 20.0]]).expand(2, 12, 4)
    with trace(module) as t:
        y = module(torch.randn(2, 8, 3, 4), boxes, STRIDE)
    assert y.shape == (2, 8, 3, 4)
    assert torch.equal(t["", "border_points"][0], border_points(boxes))


def test_the_border_decides():
    """A feature on a border, far from the place, reaches the place whose box has that border."""
    torch.manual_seed(0)
    module = BorderAlignment(8, 4)
    x = torch.randn(1, 8, 8, 8)
    boxes = torch.tensor([[4.0, 4.0, 60.0, 60.0]]).repeat(1, 64, 1)
    x.requires_grad_()
    module.borders(x)  # a forward of its own leaves no gradient
    module(x, boxes, STRIDE)[0, :, 4, 4].sum().backward()
    assert x.grad[0, :, :, 7].any() and x.grad[0, :, 7].any()


def test_a_map_of_a_single_place_trains():
    module = BorderAlignment(8, 4)
    module(torch.randn(1, 8, 1, 1), torch.tensor([[[0.0, 0.0, 100.0, 100.0]]]), 128).sum().backward()
    assert module.join[0].bias.grad.isfinite().all()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_a_box_that_is_not_finite_reads_nan_and_leaves_the_others_alone(value):
    """grid_sample's own backward pass ends the process there."""
    torch.manual_seed(0)
    x = torch.randn(1, 8, 5, 6, requires_grad=True)
    boxes = torch.tensor([[[1.0, 2, 30, 20], [3, value, 20, 30], [8, 9, 40, 39]]])
    y = border_align(x, boxes, 8)
    assert y[0, 1].isnan().all()
    others = border_align(x, boxes[:, [0, 2]], 8)
    assert torch.equal(y[:, [0, 2]], others)
    expected = torch.autograd.grad(others.sum(), x)[0]
    assert torch.equal(torch.autograd.grad(y[:, [0, 2]].sum(), x)[0], expected)
