"""Numbers that prove the formulas of deformable convolution and Dynamic Head.

Each function gives a pair: what the library computes on a small random case in float64, and what the formula says,
written as loops over its own letters.
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from torch import Tensor

from dyhead_lab.attention import undecoupled_attention
from dyhead_lab.attention.paper import PaperDyHeadBlock
from dyhead_lab.attention.scale import PaperScaleAwareAttention, ScaleAwareAttention, paper_sigmoid, scale_ratio
from dyhead_lab.attention.spatial import PaperSpatialAwareAttention
from dyhead_lab.attention.task import PaperTaskAwareAttention, TaskAwareAttention, larger_line
from dyhead_lab.ops import deform_conv2d
from dyhead_lab.ops.formula import bilinear

B, L, H, W, C, K = 2, 3, 4, 5, 8, 9
S = H * W
Pair = tuple[Tensor, Tensor]
Module = TypeVar("Module", bound=torch.nn.Module)
GRID = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Standard normal numbers in float64."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def numbers(values: list[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def moved(module: Module) -> Module:
    """``module`` in float64 with all its parameters drawn anew, so that nothing starts at zero."""
    torch.manual_seed(0)
    module = module.double().eval().requires_grad_(False)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return module


def G(q_y: int, q_x: int, p_y: float, p_x: float) -> float:
    """The bilinear kernel of the formula."""
    return max(0.0, 1 - abs(q_y - p_y)) * max(0.0, 1 - abs(q_x - p_x))


def read(x_HW: Tensor, p_y: float, p_x: float) -> float:
    """x(p): a sum over *all* pixels, as the formula is written."""
    rows, columns = x_HW.shape
    return sum(G(y, x, p_y, p_x) * float(x_HW[y, x]) for y in range(rows) for x in range(columns))


def bilinear_interpolation() -> Pair:
    x, p = draw(1, H, W), draw(7, 2) * 2 + 2
    return bilinear(x, p[:, 0], p[:, 1])[0], numbers([read(x[0], *position.tolist()) for position in p])


def _convolution(masks: bool) -> Pair:
    x, w, dp = draw(1, 2, H, W), draw(3, 2, 3, 3, seed=1), draw(1, 2 * K, H, W, seed=2)
    dm = draw(1, K, H, W, seed=3).sigmoid() if masks else torch.ones(1, K, H, W, dtype=torch.float64)
    y = torch.zeros(1, 3, H, W, dtype=torch.float64)
    for o, i, j, k, c in _indices(3, H, W, K, 2):
        p_y, p_x = i + GRID[k][0] + float(dp[0, 2 * k, i, j]), j + GRID[k][1] + float(dp[0, 2 * k + 1, i, j])
        y[0, o, i, j] += w[o, c].flatten()[k] * read(x[0, c], p_y, p_x) * dm[0, k, i, j]
    return deform_conv2d(x, dp, w, padding=1, mask=dm if masks else None), y


def deformable_convolution() -> Pair:
    return _convolution(masks=False)


def modulated_deformable_convolution() -> Pair:
    return _convolution(masks=True)


def whole_attention() -> Pair:
    F, weight = draw(1, 2, 3, 2), draw(12, 12, seed=1) / 4
    flat = F.flatten()
    logits = [torch.stack([weight[n, m] * flat[m] for m in range(12)]).sum() for n in range(12)]
    pi = torch.stack([1 / (1 + torch.exp(-x)) for x in logits])
    return undecoupled_attention(F, weight), (pi * flat).view(1, 2, 3, 2)


def decoupled_attention() -> Pair:
    block = moved(PaperDyHeadBlock(C, L, levels="collapse"))
    assert block.scale and block.task
    F = draw(B, L, S, C)
    return block(F, (H, W)), block.task(block.spatial(block.scale(F), (H, W)))


def scale_aware() -> Pair:
    attention, F = moved(PaperScaleAwareAttention(L)), draw(B, L, S, C)
    expected = torch.zeros_like(F)
    for b in range(B):
        means = [sum(float(F[b, l, s, c]) for s in range(S) for c in range(C)) / (S * C) for l in range(L)]
        for l in range(L):
            x = sum(float(attention.f.weight[l, m]) * means[m] for m in range(L)) + float(attention.f.bias[l])
            expected[b, l] = max(0.0, min(1.0, (x + 1) / 2)) * F[b, l]
    return attention(F), expected


def hard_sigmoid() -> Pair:
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)
    return paper_sigmoid(x), numbers([max(0.0, min(1.0, (v + 1) / 2)) for v in x.tolist()])


def spatial_aware() -> Pair:
    attention, F = moved(PaperSpatialAwareAttention(C, L)), draw(1, L, S, C)
    assert attention.offset_mask
    median = F[:, L // 2].transpose(1, 2).reshape(1, C, H, W)
    dp, dm = attention.offset_mask(median)
    expected = torch.zeros(1, 1, S, C, dtype=torch.float64)
    for i, j, l, k in _indices(H, W, L, K):
        p_y, p_x = i + GRID[k][0] + float(dp[0, 2 * k, i, j]), j + GRID[k][1] + float(dp[0, 2 * k + 1, i, j])
        values = torch.tensor([read(F[0, l, :, c].view(H, W), p_y, p_x) for c in range(C)], dtype=torch.float64)
        w_lk = attention.weight.view(C, C, L, K)[:, :, l, k]
        expected[0, 0, i * W + j] += w_lk @ values * dm[0, k, i, j] / L
    return attention(F, (H, W)), expected


def task_aware() -> Pair:
    x, a1, b1, a2, b2 = (draw(6, seed=n) for n in range(5))
    expected = [max(float(a1[c] * x[c] + b1[c]), float(a2[c] * x[c] + b2[c])) for c in range(6)]
    return larger_line(x, a1, b1, a2, b2), numbers(expected)


def theta_of_the_paper() -> Pair:
    attention, F = moved(PaperTaskAwareAttention(C)), draw(B, L, S, C)
    mean = F.mean((1, 2))
    hidden = (mean @ attention.fc1.weight.T + attention.fc1.bias).clamp(min=0)
    out = hidden @ attention.fc2.weight.T + attention.fc2.bias
    spread = (out - out.mean(1, keepdim=True)) / (out.var(1, correction=0, keepdim=True) + attention.norm.eps).sqrt()
    d = 2 / (1 + torch.exp(-(spread * attention.norm.weight + attention.norm.bias))) - 1
    a1, b1, a2, b2 = (d[:, n * C : (n + 1) * C][:, None, None] for n in range(4))
    return attention(F), torch.maximum((1 + a1) * F + b1 / 2, a2 * F + b2 / 2)


def released_scale_gate() -> Pair:
    attention, branches = moved(ScaleAwareAttention(C)), [draw(B, C, H, W, seed=n) for n in range(3)]
    expected = torch.zeros(B, C, H, W, dtype=torch.float64)
    w, bias = attention.gate.weight[0], float(attention.gate.bias[0])
    for b, x in _indices_of(B, branches):
        logit = max(0.0, sum(float(w[c]) * float(x[b, c].mean()) for c in range(C)) + bias)
        expected[b] += min(6.0, max(0.0, logit + 3)) / 6 * x[b] / 3
    return attention(branches), expected


def released_task_coefficients() -> Pair:
    attention, x = moved(TaskAwareAttention(C)), draw(B, C, H, W)
    expected = torch.zeros_like(x)
    for b in range(B):
        hidden = (attention.fc1.weight @ x[b].mean((1, 2)) + attention.fc1.bias).clamp(min=0)
        y = ((attention.fc2.weight @ hidden + attention.fc2.bias + 3).clamp(0, 6) / 6).view(4, C)
        for c in range(C):
            a1, b1, a2, b2 = 2 * y[0, c], y[1, c] - 0.5, 2 * y[2, c] - 1, y[3, c] - 0.5
            expected[b, c] = torch.maximum(a1 * x[b, c] + b1, a2 * x[b, c] + b2)
    return attention(x), expected


def ratio_of_scales() -> Pair:
    gates = draw(6, 3).sigmoid() / 2 + 0.5
    return scale_ratio(gates), numbers([float(g[0]) / float(g[2]) for g in gates])


def growth_of_the_whole_attention() -> Pair:
    """(L S C)^2 weights: counted on the weight that the toy takes."""
    from dyhead_lab.attention import undecoupled_cost

    return torch.tensor(undecoupled_cost(2, 3, 2)), torch.tensor(math.prod((2, 3, 2)) ** 2)


def _indices(*sizes: int):
    return torch.cartesian_prod(*(torch.arange(size) for size in sizes)).tolist()


def _indices_of(count: int, items: list[Tensor]):
    return [(b, item) for b in range(count) for item in items]
