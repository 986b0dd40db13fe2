"""Deformable convolution: the public function and its ``torch.library`` operator, for every backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from . import autocast, checks, formula
from .backends import choose, implementation
from .checks import Geometry
from .outputs import owned
from .registration import define, is_exported


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: int | Sequence[int] = 1,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    mask: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """Deformable convolution, v1 without ``mask`` (arXiv 1703.06211) and v2 with it (1811.11168).

    y(p) = sum over taps k of w_k x(p + p_k + dp_k) dm_k + bias. x is read by bilinear interpolation, with
    zeros outside the image. ``torchvision.ops.deform_conv2d`` means the same by its arguments. Groups and
    offset groups are inferred from the shapes.

    An offset that is NaN or infinite is a mistake, and it shows in every backend alike: the outputs of its position
    are NaN, and so are the gradients to that offset (dy and dx), to its mask and to the weight of its tap. The
    gradient to ``input`` is what the other samples give. An offset that is finite, however large, reads zeros outside
    the image. (torchvision 0.26 reads zeros at an infinite offset; at NaN its CPU kernel ends the process.)

    Args:
        input: (B, C, H, W), float64, float32, bfloat16 or float16. All tensors share its device.
        offset: (B, 2*G*K, Ho, Wo), (dy, dx) per tap, in pixels of the input; in the dtype of ``input``, or
            float32 beside a half.
        weight: (Co, C / groups, Kh, Kw), in the dtype of ``input``; K = Kh * Kw.
        bias: (Co,), in the dtype of ``input``.
        stride, padding, dilation: one number, or (vertical, horizontal).
        mask: (B, G*K, Ho, Wo), what each sample is multiplied by; in the dtype of ``offset``.
        backend: ``cuda``, ``numba``, ``formula`` or ``emulated``; None picks the fastest for the device. In a program
            that ``torch.export`` makes, None writes the formula in plain operators, which ONNX has as well.
    Returns:
        (B, Co, Ho, Wo), of the dtype of ``input``, channels-last where ``input`` is. Under autocast ``input``,
        ``weight`` and ``bias`` are cast to its dtype, and ``offset`` and ``mask`` to float32: with offsets in
        bfloat16 their own gradient would be off by 12 % (0.3 % as it is). float16 and bfloat16 are summed in
        float32. On a GPU float32 factors are rounded to TF32 after
        ``torch.set_float32_matmul_precision("high")``, as in PyTorch's own matrix products.
    Raises:
        TypeError: a dtype or Python type that is not supported.
        ValueError: a shape, device or number that does not fit the others.
        RuntimeError: the named backend is not built on this machine.
    """
    dtype = autocast.target(input)
    if dtype is not None:
        input, weight, offset = autocast.cast(input, dtype), autocast.cast(weight, dtype), autocast.cast(offset)
        bias = None if bias is None else autocast.cast(bias, dtype)
        mask = None if mask is None else autocast.cast(mask)
    geometry = checks.deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)
    if backend is None and is_exported():
        return formula.deform_conv2d(input, offset, weight, bias, *geometry[:3], mask)
    return _operator(input, offset, weight, mask, bias, *geometry, choose(backend, input.device))


def _like_input(out: Tensor, input: Tensor) -> Tensor:
    """``out`` with the memory format of ``input``: the compiler must know strides before it has numbers."""
    return out.contiguous(memory_format=_memory_format(input))


def _memory_format(input: Tensor) -> torch.memory_format:
    last = not input.is_contiguous() and input.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if last else torch.contiguous_format


def _compute(
    input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, bias: Tensor | None, *rest: Any
) -> Tensor:
    *steps, backend = rest
    if input.shape[0] == 0:
        return input.new_empty(0, weight.shape[0], *offset.shape[2:])
    with autocast.off(input.device):
        out = implementation(backend).deform_conv2d(input, offset, weight, mask, _geometry(*steps))
    out = owned(_like_input(out, input))
    return out if bias is None else out.add_(bias.view(-1, 1, 1))


def _compute_gradients(
    grad: Tensor, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, *rest: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients to input, offset, weight and mask; the last is empty where there is no mask."""
    *steps, backend = rest
    if input.shape[0] == 0:
        return (
            _zeros(input),
            _zeros(offset),
            _zeros(weight),
            _zeros(grad.new_empty(0) if mask is None else mask),
        )
    with autocast.off(input.device):
        grads = implementation(backend).deform_conv2d_backward(grad, input, offset, weight, mask, _geometry(*steps))
    grad_offset, grad_weight, grad_mask = (owned(g.contiguous()) for g in grads[1:])
    return owned(_like_input(grads[0], input)), grad_offset, grad_weight, grad_mask


def _geometry(stride: Any, padding: Any, dilation: Any, groups: int, offset_groups: int) -> Geometry:
    """Out of the lists that PyTorch hands on."""
    return Geometry(tuple(stride), tuple(padding), tuple(dilation), groups, offset_groups)


def _zeros(tensor: Tensor) -> Tensor:
    return tensor.new_zeros(tensor.shape)


def _fake(input: Tensor, offset: Tensor, weight: Tensor, *_: Any) -> Tensor:
    out = input.new_empty(input.shape[0], weight.shape[0], *offset.shape[2:])
    return _like_input(out, input)


def _fake_gradients(grad: Tensor, input: Tensor, offset: Tensor, weight: Tensor, mask: Tensor | None, *_: Any) -> Any:
    grads = (t.new_empty(t.shape) for t in (offset, weight, grad.new_empty(0) if mask is None else mask))
    return _like_input(input.new_empty(input.shape), input), *grads


def _gradients(
    grad: Tensor,
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor | None,
    bias: Tensor | None,
    *rest: Any,
) -> tuple[Tensor | None, ...]:
    grads = _backward(grad, input, offset, weight, mask, *rest)
    of_bias = None if bias is None else grad.sum((0, 2, 3))
    return *grads[:3], None if mask is None else grads[3], of_bias, *(None for _ in rest)


_TENSORS = "Tensor input, Tensor offset, Tensor weight, Tensor? mask"
_STEPS = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups, SymInt offset_groups, str backend"
_backward = define(
    f"deform_conv2d_backward(Tensor grad, {_TENSORS}, {_STEPS}) -> (Tensor, Tensor, Tensor, Tensor)",
    _compute_gradients,
    _fake_gradients,
)
_operator = define(f"deform_conv2d({_TENSORS}, Tensor? bias, {_STEPS}) -> Tensor", _compute, _fake, _gradients)
