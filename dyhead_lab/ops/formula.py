"""Both operators exactly as the papers write them, in plain PyTorch: the oracle of every other backend.

Sources: deformable convolution v1 (arXiv 1703.06211, equations 1-4) and v2 (1811.11168, equation 1);
multi-scale deformable attention (2010.04159, equation 3). Letters are those of CONTRIBUTING.md.

At an exactly integer position bilinear interpolation has a kink. Here the gradient follows the floor side, as
torchvision's does. Float16 and bfloat16 arguments are computed in float32 and the result is cast back.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def bilinear(image: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Read images between their pixels: x(p) = sum over the four pixels q around p of G(q, p) x(q).

    G(q, p) = (1 - |q_y - p_y|) (1 - |q_x - p_x|). A pixel outside the image counts as zero. A position that is NaN
    or infinite lies nowhere: it reads NaN.

    Args:
        image: (..., C, H, W).
        y, x: (..., N), positions in pixels; the centre of the first pixel is (0, 0).
    Returns:
        (..., C, N).
    """
    C, H, W = image.shape[-3:]
    pixels = image.flatten(-2)
    y_floor, x_floor = y.detach().floor(), x.detach().floor()
    y_part, x_part = y - y_floor, x - x_floor
    nothing = ((y - y) + (x - x)).detach().unsqueeze(-2)  # 0, or NaN where a position is not finite
    total = torch.zeros((), dtype=image.dtype, device=image.device)
    for row, weight_y in ((y_floor, 1 - y_part), (y_floor + 1, y_part)):
        for column, weight_x in ((x_floor, 1 - x_part), (x_floor + 1, x_part)):
            inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
            q = torch.where(inside, row, 0).long() * W + torch.where(inside, column, 0).long()
            corner = pixels.gather(-1, q.unsqueeze(-2).expand(*q.shape[:-1], C, q.shape[-1]))
            corner = torch.where(inside.unsqueeze(-2), corner, nothing)
            total = total + (weight_y * weight_x).unsqueeze(-2) * corner
    return total


def tap_positions(
    offset: Tensor,
    kernel: Sequence[int],
    stride: Sequence[int],
    padding: Sequence[int],
    dilation: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Where each tap of a deformable convolution reads: p_0 + p_k + dp_k.

    Args:
        offset: (B, 2*G*K, Ho, Wo), (dy, dx) per tap, in pixels.
        kernel, stride, padding, dilation: (vertical, horizontal) each; K = kernel[0] * kernel[1].
    Returns:
        y and x, (B, G, K, Ho, Wo) each, in pixels of the input.
    """
    Ho, Wo = offset.shape[-2:]
    K = kernel[0] * kernel[1]
    offset_y, offset_x = offset.unflatten(1, (-1, K, 2)).unbind(3)

    def steps(count: int, scale: int, start: int) -> Tensor:
        return torch.arange(count, dtype=offset.dtype, device=offset.device) * scale - start

    k_y = steps(kernel[0], dilation[0], 0).repeat_interleave(kernel[1]).view(K, 1, 1)
    k_x = steps(kernel[1], dilation[1], 0).repeat(kernel[0]).view(K, 1, 1)
    p_y = steps(Ho, stride[0], padding[0]).view(Ho, 1)
    p_x = steps(Wo, stride[1], padding[1])
    return p_y + k_y + offset_y, p_x + k_x + offset_x


def deform_conv2d(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Sequence[int] = (1, 1),
    padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1),
    mask: Tensor | None = None,
) -> Tensor:
    """Deformable convolution: y(p) = sum over taps k of w_k x(p + p_k + dp_k) dm_k.

    Args:
        input: (B, C, H, W).
        offset: (B, 2*G*K, Ho, Wo), (dy, dx) per tap, in pixels; dp in the formula.
        weight: (Co, C / groups, Kh, Kw); K = Kh * Kw.
        bias: (Co,) or None.
        stride, padding, dilation: (vertical, horizontal).
        mask: (B, G*K, Ho, Wo), dm in the formula (v2), or None for ones (v1).
    Returns:
        (B, Co, Ho, Wo), of the dtype of ``input``. Arguments are not checked here.
    """
    exact = torch.promote_types(input.dtype, torch.float32)
    B, C = input.shape[:2]
    Co, C_group, *kernel = weight.shape
    Ho, Wo = offset.shape[-2:]
    K = kernel[0] * kernel[1]
    y, x = tap_positions(offset.to(exact), kernel, stride, padding, dilation)
    G = y.shape[1]
    samples = bilinear(input.to(exact).unflatten(1, (G, -1)), y.flatten(2), x.flatten(2))
    samples = samples.view(B, G, C // G, K, Ho * Wo)
    if mask is not None:
        samples = samples * mask.to(exact).reshape(B, G, 1, K, Ho * Wo)
    groups = C // C_group
    x_k = samples.reshape(B, groups, C_group, K, Ho * Wo)
    w_k = weight.to(exact).reshape(groups, Co // groups, C_group, K)
    out = torch.einsum("bgckn,gock->bgon", x_k, w_k).reshape(B, Co, Ho, Wo)
    if bias is not None:
        out = out + bias.to(exact).view(Co, 1, 1)
    return out.to(input.dtype)


def ms_deform_attn(
    value: Tensor,
    spatial_shapes: Tensor,
    level_start_index: Tensor,
    sampling_locations: Tensor,
    attention_weights: Tensor,
) -> Tensor:
    """Multi-scale deformable attention: out_q = sum over levels l and points p of A_qlp x_l(phi_l(r_qlp)).

    Every head does so by itself. r is the sampling location; phi_l stretches [0, 1] over the level's outer
    edges, so that the centre of its first pixel is (0.5 / W_l, 0.5 / H_l).

    Args:
        value: (B, N, M, D), the levels one after another.
        spatial_shapes: (L, 2) int64, (H_l, W_l).
        level_start_index: (L,) int64, where each level starts in N.
        sampling_locations: (B, Q, M, L, P, 2), (x, y) in [0, 1]; elsewhere reads zeros.
        attention_weights: (B, Q, M, L, P).
    Returns:
        (B, Q, M * D), of the dtype of ``value``. Arguments are not checked here.
    """
    exact = torch.promote_types(value.dtype, torch.float32)
    B, Q, M, _, P, _ = sampling_locations.shape
    D = value.shape[3]
    x_BNMD, r, A = value.to(exact), sampling_locations.to(exact), attention_weights.to(exact)
    levels = zip(spatial_shapes.tolist(), level_start_index.tolist(), strict=True)
    out = torch.zeros(B, M, D, Q, dtype=exact, device=value.device)
    for l, ((H, W), start) in enumerate(levels):
        x_l = x_BNMD[:, start : start + H * W].permute(0, 2, 3, 1).unflatten(-1, (H, W))
        x, y = r[:, :, :, l].movedim(2, 1).unbind(-1)
        samples = bilinear(x_l, (y * H - 0.5).flatten(2), (x * W - 0.5).flatten(2))
        A_l = A[:, :, :, l].permute(0, 2, 1, 3).unsqueeze(2)
        out = out + (A_l * samples.view(B, M, D, Q, P)).sum(-1)
    return out.permute(0, 3, 1, 2).reshape(B, Q, M * D).to(value.dtype)
