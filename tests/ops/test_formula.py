"""The formula is the oracle of every backend, so it is itself held against finite differences and published code."""

import pytest
import torch
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

from dyhead_lab.ops import formula
from tests.oracles import draw, load

from .cases import Attention, Conv, answers, assert_same, distance, levels_of

CONVS = {
    "plain": Conv(),
    "version 1": Conv(masked=False),
    "groups": Conv(C=12, groups=3, G=2),
    "strides": Conv(size=(9, 8), kernel=(3, 2), stride=(2, 1), padding=(0, 2), dilation=(2, 1)),
    "integer positions": Conv(places="integer", G=4),
    "far outside": Conv(places="far"),
}


class Torchvision(Conv):
    def run(self, tensors, backend):
        return torchvision_deform_conv2d(**tensors, stride=self.stride, padding=self.padding, dilation=self.dilation)


@pytest.mark.parametrize("name", CONVS)
def test_convolution_agrees_with_torchvision(name):
    case = CONVS[name]
    tensors = case.tensors(torch.float64)
    expected = answers(Torchvision(**vars(case)), tensors, None)
    # Both compute in float64; 1e-12 leaves room for sums of a few hundred terms in another order.
    assert_same(answers(case, tensors, "formula"), expected, 1e-12)


def test_convolution_gradients_are_finite_differences():
    case = Conv(B=1, C=4, Co=2, size=(4, 3), groups=2, G=2, seed=3)
    input, offset, weight, bias, mask = (t.requires_grad_() for t in case.tensors(torch.float64).values())
    run = lambda *args: formula.deform_conv2d(*args[:4], padding=(1, 1), mask=args[4])  # noqa: E731
    # No sample lies within 1e-6, the step of gradcheck, of a kink: the seed is chosen so.
    assert torch.autograd.gradcheck(run, (input, offset, weight, bias, mask))


def test_attention_gradients_are_finite_differences():
    case = Attention(B=1, levels=((3, 2), (1, 1)), Q=2, M=2, P=2, D=3)
    shapes, starts = levels_of(case.levels)
    leaves = [t.requires_grad_() for t in case.tensors(torch.float64).values()]
    assert torch.autograd.gradcheck(lambda v, r, A: formula.ms_deform_attn(v, shapes, starts, r, A), leaves)


def test_attention_agrees_with_the_published_operator():
    expected, _ = load("ms_deform_attn_op")
    shapes, starts = levels_of(tuple(map(tuple, expected["spatial_shapes"].tolist())))
    N = int(shapes.prod(1).sum())
    value = torch.from_numpy(draw("value", (2, N, 8, 32), 7)).requires_grad_()
    locations = torch.from_numpy(draw("loc", (2, 50, 8, 4, 4, 2), 7) * 0.35 + 0.5).requires_grad_()
    weights = torch.from_numpy(draw("att", (2, 50, 8, 16), 7)).softmax(-1).view(2, 50, 8, 4, 4).requires_grad_()
    out = formula.ms_deform_attn(value, shapes, starts, locations, weights)
    grads = torch.autograd.grad(out, (value, locations, weights), torch.from_numpy(draw("g", out.shape, 7)))
    names = "out", "grad_value", "grad_loc", "grad_att"
    for name, got in zip(names, (out.detach(), *grads), strict=True):
        # The oracle was computed in float32 too; its own rounding is about 1e-7.
        assert distance(got, torch.from_numpy(expected[name])) < 1e-6, name


def test_bilinear_reads_pixels_and_zeros():
    image = torch.arange(6, dtype=torch.float64).view(1, 2, 3)
    y = torch.tensor([0.0, 1.0, 0.5, -0.5, -1.0, 2.0, 1e30, torch.nan], dtype=torch.float64)
    x = torch.tensor([0.0, 2.0, 0.5, 0.0, 0.0, 0.0, 0.0, 0.0], dtype=torch.float64)
    read = formula.bilinear(image, y, x)[0]
    assert read[:7].tolist() == [0.0, 5.0, 2.0, 0.0, 0.0, 0.0, 0.0]


def test_the_gradient_at_an_integer_position_follows_the_floor_side():
    image = torch.tensor([[[1.0, 2.0, 4.0, 8.0]]])
    x = torch.tensor([0.0, 1.0, 3.0, -1.0], requires_grad=True)
    formula.bilinear(image, torch.zeros(4), x).sum().backward()
    # Towards the next pixel to the right: 2-1, 4-2, 0-8 at the last pixel, and 1-0 from one pixel outside.
    assert x.grad.tolist() == [1.0, 2.0, -8.0, 1.0]
