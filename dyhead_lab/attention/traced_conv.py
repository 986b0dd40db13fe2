"""Deformable convolution inside a module, with everything that a picture of its sampling points needs."""

from __future__ import annotations

from torch import Tensor, nn

from ..ops.deform_conv import deform_conv2d
from ..trace import emit, is_traced


def traced_deform_conv2d(
    module: nn.Module,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    *,
    stride: int = 1,
    padding: int = 0,
    dilation: int = 1,
    mask: Tensor | None = None,
) -> Tensor:
    """:func:`dyhead_lab.ops.deform_conv2d` in the name of ``module``.

    A trace of ``module`` receives all that the operator saw and gave, so that each output can be computed again from
    its taps: ``tap_input``, ``tap_offsets``, ``tap_masks`` (ones where there is no mask), ``tap_weight``, ``tap_bias``
    (zeros where there is none), ``tap_geometry`` (stride, padding, dilation) and ``tap_output``.

    Shapes and errors are those of the operator.
    """
    output = deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)
    if is_traced():
        emit(
            module,
            tap_input=input,
            tap_offsets=offset,
            tap_masks=offset.new_ones(offset[:, ::2].shape) if mask is None else mask,
            tap_weight=weight,
            tap_bias=weight.new_zeros(len(weight)) if bias is None else bias,
            tap_geometry=offset.new_tensor([stride, padding, dilation]),
            tap_output=output,
        )
    return output
