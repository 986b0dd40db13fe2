"""Multi-scale deformable attention: the public function and its operator, for every backend."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from . import autocast, checks, formula
from .backends import choose, implementation
from .levels import Levels
from .outputs import owned
from .registration import define, is_exported


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    backend: str | None = None,
) -> Tensor:
    """The sampling step of multi-scale deformable attention (arXiv 2010.04159, equation 3, without W and W').

    out_q = sum over levels l and points p of A_qlp x_l(phi_l(r_qlp)), in every head by itself. x_l is read
    by bilinear interpolation, with zeros outside the level; phi_l stretches [0, 1] over the level's outer
    edges, as ``grid_sample(align_corners=False)`` does.

    A location that is NaN or infinite is a mistake, and it shows in every backend alike: its query's output in that
    head is NaN, and so are the gradients to that location (x and y) and to its attention weight. The gradient to
    ``value`` is what the other samples give. A location that is finite, however far outside, reads zeros.

    Args:
        value: (B, N, M, D), the levels one after another; float64, float32, bfloat16 or float16.
        spatial_shapes: (L, 2) int64, (H_l, W_l). N is the sum of H_l * W_l.
        level_start_index: (L,) int64, where each level starts in N. Both may stay on the CPU; that spares a
            GPU the wait for their check, and lets a CUDA graph be captured at once.
        sampling_locations: (B, Q, M, L, P, 2), (x, y), normalised; in the dtype of ``value``, or float32
            beside a half.
        attention_weights: (B, Q, M, L, P), in the dtype of ``sampling_locations``.
        backend: ``cuda``, ``numba``, ``formula`` or ``emulated``; None picks the fastest for the device.
    Returns:
        (B, Q, M * D), of the dtype of ``value``. Under autocast ``value`` is cast to its dtype, and locations
        and weights to float32: a bfloat16 location would be off by 0.2 pixels on a level of 100 pixels.
    Raises:
        TypeError: a dtype or Python type that is not supported.
        ValueError: a shape, device or number that does not fit the others, or levels that do not add up.
        RuntimeError: the named backend is not built on this machine.
    """
    dtype = autocast.target(value)
    if dtype is not None:
        value = autocast.cast(value, dtype)
        sampling_locations, attention_weights = autocast.cast(sampling_locations), autocast.cast(attention_weights)
    checks.ms_deform_attn(value, spatial_shapes, level_start_index, sampling_locations, attention_weights)
    if backend is None and is_exported():
        return formula.ms_deform_attn(value, spatial_shapes, level_start_index, sampling_locations, attention_weights)
    return _operator(
        value,
        spatial_shapes,
        level_start_index,
        sampling_locations,
        attention_weights,
        choose(backend, value.device),
    )


_levels = Levels()


def _compute(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    backend: str,
) -> Tensor:
    levels = _levels.read(spatial_shapes, level_start_index, value.shape[1])
    B, Q, M = sampling_locations.shape[:3]
    if B * Q == 0:
        return value.new_empty(B, Q, M * value.shape[3])
    with autocast.off(value.device):
        out = implementation(backend).ms_deform_attn(value, *levels, sampling_locations, attention_weights)
    return owned(out)


def _compute_gradients(
    grad: Tensor,
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients to value, sampling locations and attention weights."""
    if grad.numel() == 0:
        return _all_owned(*(torch.zeros_like(t) for t in (value, sampling_locations, attention_weights)))
    levels = _levels.read(spatial_shapes, level_start_index, value.shape[1])
    with autocast.off(value.device):
        grads = implementation(backend).ms_deform_attn_backward(
            grad, value, *levels, sampling_locations, attention_weights
        )
    return _all_owned(*grads)


def _all_owned(a: Tensor, b: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    return owned(a.contiguous()), owned(b.contiguous()), owned(c.contiguous())


def _fake(value: Tensor, _shapes: Tensor, _starts: Tensor, sampling_locations: Tensor, *_: Any) -> Tensor:
    B, Q, M = sampling_locations.shape[:3]
    return value.new_empty(B, Q, M * value.shape[3])


def _fake_gradients(
    grad: Tensor, value: Tensor, _shapes: Tensor, _starts: Tensor, location: Tensor, weight: Tensor, _: str
) -> Any:
    return tuple(t.new_empty(t.shape) for t in (value, location, weight))


def _gradients(grad: Tensor, *arguments: Any) -> tuple[Tensor | None, ...]:
    grad_value, grad_locations, grad_weights = _backward(grad, *arguments)
    return grad_value, None, None, grad_locations, grad_weights, None


_ARGUMENTS = (
    "Tensor value, Tensor spatial_shapes, Tensor level_start_index, Tensor sampling_locations, "
    "Tensor attention_weights, str backend"
)
_backward = define(
    f"ms_deform_attn_backward(Tensor grad, {_ARGUMENTS}) -> (Tensor, Tensor, Tensor)",
    _compute_gradients,
    _fake_gradients,
)
_operator = define(f"ms_deform_attn({_ARGUMENTS}) -> Tensor", _compute, _fake, _gradients)
