"""Chapter 03: the checks of kernel, autograd function and layer name each mistake, and tell apart what is right."""

import numpy as np
import pytest
import torch
from numba import njit
from torch import nn

from dyhead_book.c03_deformable_convolution.bilinear_checks import check_bilinear
from dyhead_book.c03_deformable_convolution.conv_checks import MORE_DEFORM_CONV2D_MISTAKES, check_deform_conv2d
from dyhead_book.c03_deformable_convolution.layer_checks import (
    FUNCTION_MISTAKES,
    LAYER_MISTAKES,
    check_conv_backward,
    check_function,
    check_kernel,
    check_layer,
)

from .definitions import definitions
from .planted import assert_bugs_are_caught


@pytest.fixture(scope="module")
def cells():
    return definitions("03_deformable_convolution")


def test_the_kernels_mistakes_are_those_of_the_loops(cells):
    assert_bugs_are_caught(check_kernel, cells["deform_conv2d_compiled"], MORE_DEFORM_CONV2D_MISTAKES)


def test_right_numbers_that_numba_cannot_compile_are_told_apart(cells):
    plain = cells["deform_conv2d"]

    @njit
    def calls_python(input, offset, weight, mask, stride, padding, dilation):
        return plain(input, offset, weight, mask, stride, padding, dilation)

    verdict = check_kernel(calls_python)
    assert not verdict and "numbers are right, but Numba cannot compile" in verdict.message

    @njit
    def wrong(input, offset, weight, mask, stride, padding, dilation):
        return plain(input, offset, weight, np.ones_like(mask), stride, padding, dilation)

    assert "when the mask is missing." in check_kernel(wrong).message


def test_a_kernel_without_numba_is_right_with_a_remark(cells):
    verdict = check_kernel(cells["deform_conv2d"])
    assert verdict and "not compiled" in verdict.message
    assert "not compiled" not in check_kernel(cells["deform_conv2d_compiled"]).message
    assert check_conv_backward(cells["deform_conv2d_backward"])


def counting_from_the_end(image_HW, p_y, p_x):
    """As a reader writes it who forgets row -1: NumPy takes the last one."""
    H, W = image_HW.shape
    top, left = int(np.floor(p_y)), int(np.floor(p_x))
    total = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if row < H and column < W:
                total += (1 - abs(row - p_y)) * (1 - abs(column - p_x)) * image_HW[row, column]
    return total


def test_a_wrapped_index_is_named_as_readers_write_it(cells):
    assert "counted from the other end" in check_bilinear(counting_from_the_end).message

    def wrapped(input, offset, weight, mask, stride, padding, dilation):
        cells["bilinear"], kept = counting_from_the_end, cells["bilinear"]
        try:
            return cells["deform_conv2d"](input, offset, weight, mask, stride, padding, dilation)
        finally:
            cells["bilinear"] = kept

    assert "counted from the other end" in check_deform_conv2d(wrapped).message


@pytest.mark.parametrize("taps", [[[k] for k in range(9)], [list(range(9))]], ids=["tap by tap", "all taps"])
def test_adding_on_arrays_of_indices_is_named_as_readers_write_it(cells, taps):
    """``d[rows, columns] += g`` in NumPy, where a pixel is read more than once."""

    def backward(grad, input, offset, weight, mask, stride, padding, dilation):
        right = cells["deform_conv2d_backward"](grad, input, offset, weight, mask, stride, padding, dilation)
        B, C, H, W = input.shape
        Co, C_group = weight.shape[:2]
        G, Ho, Wo = mask.shape[1] // 9, *mask.shape[2:]
        d_input = np.zeros_like(input)
        i, j = np.mgrid[:Ho, :Wo]
        for b, c, (down, across) in [(b, c, q) for b in range(B) for c in range(C) for q in np.ndindex(2, 2)]:
            g, outputs = c // (C // G), Co * C_group // C
            first = c // C_group * outputs
            for some in taps:
                k = np.array(some)[:, None, None]
                p_y = i * stride[0] - padding[0] + k // 3 * dilation[0] + offset[b, 18 * g : 18 * g + 18 : 2][some]
                p_x = j * stride[1] - padding[1] + k % 3 * dilation[1] + offset[b, 18 * g + 1 : 18 * g + 18 : 2][some]
                row, column = np.floor(p_y).astype(int) + down, np.floor(p_x).astype(int) + across
                share = (1 - abs(row - p_y)) * (1 - abs(column - p_x))
                w = weight[first : first + outputs, c % C_group].reshape(outputs, 9)[:, some]
                pull = np.einsum("oij,ok->kij", grad[b, first : first + outputs], w)
                value = pull * mask[b, 9 * g : 9 * g + 9][some] * share
                inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
                d_input[b, c][row[inside], column[inside]] += value[inside]
        return d_input, *right[1:]

    assert "gets the gradient of one of them" in check_conv_backward(backward).message


class Function:
    """Something with ``apply``, which is all that a check asks of an autograd function."""

    def __init__(self, apply):
        self.apply = apply


def test_mistakes_of_the_function_are_named(cells):
    right = cells["DeformConv2d"]

    def without(place):
        class Lost(right):
            @staticmethod
            def backward(ctx, grad):
                found = list(right.backward(ctx, grad))
                found[place] = None
                return tuple(found)

        return Lost

    class Ones(right):
        @staticmethod
        def backward(ctx, grad):
            return right.backward(ctx, torch.ones_like(grad))

    class Uphill(right):
        @staticmethod
        def backward(ctx, grad):
            return right.backward(ctx, -grad)

    wrong = [Ones, *map(without, range(4)), Uphill]
    for function, mistake in zip(wrong, FUNCTION_MISTAKES, strict=True):
        assert f"when {mistake.name}." in check_function(function).message
    assert check_function(right)


def test_a_function_off_the_graph_is_noticed(cells):
    right = cells["DeformConv2d"]
    assert "hangs on no graph" in check_function(Function(lambda *a: right.apply(*a).detach())).message


def layer_that(cells, decide, bias=True):
    """The chapter's layer with another way from the 27 maps to offsets and masks."""

    class Wrong(cells["DeformableConv2d"]):
        def forward(self, x):
            maps = nn.Conv2d.forward(self.offset_mask, x)
            offset, mask = decide(maps)
            out = cells["DeformConv2d"].apply(x, offset, self.weight, mask, self.stride, (1, 1), (1, 1))
            return out if self.bias is None or not bias else out + self.bias[:, None, None]

    return Wrong


def test_mistakes_of_the_layer_are_named(cells):
    def planes(maps):
        return maps[:, :18].unflatten(1, (2, 9)).transpose(1, 2).flatten(1, 2)

    ways = [
        lambda m: (m[:, :18], m[:, 18:]),
        lambda m: (m[:, :18], 2 * m[:, 18:].sigmoid()),
        lambda m: (m[:, :18], m[:, 18:].softmax(1)),
        lambda m: (m[:, :18], torch.ones_like(m[:, 18:])),
        lambda m: (m[:, 9:], m[:, :9].sigmoid()),
        lambda m: (planes(m), m[:, 18:].sigmoid()),
        lambda m: (m[:, :18].sigmoid(), m[:, 18:].sigmoid()),
    ]
    wrong = [layer_that(cells, way) for way in ways]
    wrong.append(layer_that(cells, lambda m: (m[:, :18], m[:, 18:].sigmoid()), bias=False))
    for layer, mistake in zip(wrong, LAYER_MISTAKES, strict=True):
        assert f"when {mistake.name}." in check_layer(cells["OffsetMaskConv"], layer).message
    assert check_layer(cells["OffsetMaskConv"], cells["DeformableConv2d"])


def test_a_random_start_and_other_names_are_noticed(cells):
    class Random(cells["OffsetMaskConv"]):
        def __init__(self, channels, stride=1):
            nn.Conv2d.__init__(self, channels, 27, 3, stride, padding=1)

    assert "does not start at zero" in check_layer(Random, cells["DeformableConv2d"]).message

    class Renamed(cells["DeformableConv2d"]):
        def __init__(self, *arguments, **named):
            super().__init__(*arguments, **named)
            self.branch = self.offset_mask
            del self.offset_mask

    message = check_layer(cells["OffsetMaskConv"], Renamed).message
    assert "branch.weight" in message and "offset_mask.weight" in message
