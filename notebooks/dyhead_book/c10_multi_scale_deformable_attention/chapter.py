# %% [markdown]
# # Multi-scale deformable attention
#
# | | |
# | --- | --- |
# | Time | 2 to 3 hours with the exercises, about 1 minute to run on 2 CPU cores (a GPU changes little) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | chapters [03](03_deformable_convolution.ipynb) and [09](09_self_attention_to_deformable.ipynb); no GPU |
# | You will build | the operator in loops, with its gradients, then on `grid_sample`; the module with its start |
#
# A screwdriver in the workshop is 20 pixels long, the motorcycle 600. The first is seen best on a fine map, the second
# on a coarse one, where a few cells cover it. Detectors before DETR sent each object to one level of a [feature
# pyramid](01_feature_pyramid.ipynb) by a rule about its size. Multi-scale deformable attention has no such rule: every
# query reads a few points on *all* levels, and learns which of them to trust.
#
# That is also why [Deformable DETR](https://arxiv.org/abs/2010.04159) (Zhu et al., 2021;
# [code](https://github.com/fundamentalvision/Deformable-DETR)) needs no feature pyramid network. Its encoder's
# queries are the cells of all levels, and a cell of one level reads the others, so the attention itself carries
# information from level to level.

# %%
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

_ = torch.manual_seed(0)

# %% tags=["hide"]
import os

from dyhead_book.c10_multi_scale_deformable_attention.attention_backward_checks import (
    check_attention_backward,
)
from dyhead_book.c10_multi_scale_deformable_attention.module_checks import check_module, check_ring
from dyhead_book.c10_multi_scale_deformable_attention.multi_scale_checks import (
    MS_DEFORM_ATTN_MISTAKES,
    check_locations,
    check_ms_deform_attn,
    check_on_tensors,
)
from dyhead_book.c10_multi_scale_deformable_attention.point_figures import (
    journey_figure,
    learning_figure,
    pyramid_points_figure,
)
from dyhead_book.figures.deformable_points import (
    level_shares_figure,
    offsets_figure,
    points_figure,
)

# %% tags=["hide"]
from dyhead_book.figures.object_queries import look
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.rebuilt import check_same_ap
from dyhead_book.practice.so_far import so_far
from dyhead_lab.views.figures import Picture

rng = np.random.default_rng(0)

# %% [markdown]
# ## Predict
#
# A detector was trained with such attention. The queries of its decoder may read any level.

# %%
levels_read = Question(
    "10 levels read",
    "From which levels does a query for a large object read more than a query for a small one?",
    a="from the coarse levels",
    b="from the fine levels",
    c="both read all levels alike",
)
levels_read.ask()

# %% [markdown]
# ## The formula
#
# Deformable DETR, equation 3. Query $q$ has a feature $z_q$ and a reference point $\hat p_q \in [0, 1]^2$. Level
# $l$ of $L$ levels is a map $x^l$ of $H_l \times W_l$ cells:
#
# $$\mathrm{out}_q = \sum_{m=1}^{M} W_m \sum_{l=1}^{L} \sum_{p=1}^{P} A_{mlqp}\, W'_m\,
# x^l\big(\phi_l(\hat p_q) + \Delta p_{mlqp}\big), \qquad \sum_{l=1}^{L} \sum_{p=1}^{P} A_{mlqp} = 1$$
#
# - $\Delta p_{mlqp}$, the **offset**, counts in *cells of level l*. It is linear in $z_q$.
# - $A_{mlqp}$, the **weight**, is a softmax over all points of all levels together.
# - $\phi_l$ stretches $[0, 1]$ over the outer edges of the map: $\phi_l(x, y) = (x W_l - 0.5,\; y H_l - 0.5)$ in
#   cells whose centres are integers.
#
# <img src="diagrams/shares_and_cells.svg" alt="One reference point at 0.5 on two levels of 8 and 4 cells. The
# share 0 is the outer edge of the first cell and 1 that of the last, so a share r lies at r W - 0.5 in cells:
# 3.5 on the fine level, 1.5 on the coarse one. An offset of one cell is twice as far on the coarse level.">
#
# **It is the reference point that is normalised, not the offset.** The same $\hat p_q$ means the same place on every
# level, whatever its size. An offset of one means one cell: 8 pixels on a level of stride 8, and 64 pixels on a level
# of stride 64. So a layer reaches near and far from its first step on, and every level learns at its own scale.
#
# ## Build: one query, one level
#
# Start with the smallest case: one query, one head, one level. A location is a place (x, y) in $[0, 1]$; the four
# cells around it share out the reading (bilinear sampling, [chapter 03](03_deformable_convolution.ipynb)). A cell
# outside the level counts as zero, so it is left out. Take care to leave it out: in Python index $-1$ is not an
# error, it is the last one.


# %%
def four_cells(p_y, p_x, H, W):
    """Cells around a position: (row, column, share, its slope along y, its slope along x)."""
    top, left = math.floor(p_y), math.floor(p_x)
    y, x = p_y - top, p_x - left
    for row, share_y, slope_y in ((top, 1 - y, -1), (top + 1, y, 1)):
        for column, share_x, slope_x in ((left, 1 - x, -1), (left + 1, x, 1)):
            if 0 <= row < H and 0 <= column < W:
                yield row, column, share_y * share_x, slope_y * share_x, share_y * slope_x


level = np.arange(12.0).reshape(3, 4)  # 3 rows, 4 columns
H, W = level.shape
locations, weights = [(0.5, 0.5), (0.0, 0.0), (1.0, 0.5)], [0.5, 0.3, 0.2]
out = 0.0
for (x, y), weight in zip(locations, weights, strict=True):
    p_x, p_y = x * W - 0.5, y * H - 0.5
    cells = four_cells(p_y, p_x, H, W)
    sample = sum(share * level[row, column] for row, column, share, _, _ in cells)
    print(f"({x}, {y}) is ({p_x}, {p_y}) in cells; read {sample:.2f}, weight {weight}")
    out += weight * sample
print(f"the query reads {out:.3f}")

# %% [markdown]
# The middle lies between two cells, of 5 and 6. The corner $(0, 0)$ is the outer corner of the first cell: only a
# quarter of what is read there lies inside, and that quarter is the cell of value 0. The right edge reads half of a
# cell, for the same reason.
#
# ## Build: all levels in one sequence
#
# <img src="diagrams/levels_as_tokens.svg" alt="Three levels of 4 x 6, 2 x 3 and 1 x 2 cells are written as one
# row of 32 tokens: 24, then 6, then 2. They start at tokens 0, 24 and 30. Row 1, column 2 of level 1 is token
# 24 + 1 x 3 + 2 = 29.">
#
# All levels come as one sequence of $N$ **tokens**, the finest level first, row by row. `level_start_index` says
# where each level begins.

# %%
shapes = np.array([(4, 6), (2, 3), (1, 2)])
counts = shapes.prod(1)
starts = np.concatenate([[0], counts.cumsum()[:-1]])
print("tokens per level", counts, "of", counts.sum(), "- levels start at", starts)
l, row, column = 1, 1, 2
print(f"row {row}, column {column} of level {l} is token", starts[l] + row * shapes[l][1] + column)

# %% [markdown]
# Now the whole sum, for a batch, in loops that read like the formula.
#
# | | shape | |
# | --- | --- | --- |
# | `value` | (B, N, M, D) | $W'_m x$, all levels one after another |
# | `spatial_shapes` | (L, 2) | (H, W) of each level |
# | `level_start_index` | (L,) | first token of each level |
# | `sampling_locations` | (B, Q, M, L, P, 2) | (x, y) in [0, 1] |
# | `attention_weights` | (B, Q, M, L, P) | |
# | result | (B, Q, M, D) | |

# %% [markdown] tags=["workbook"]
# **Exercise 1** (difficulty 3, 25 minutes): `ms_deform_attn_loops`, with the arrays of the table in NumPy. Return (B,
# Q, M, D).
#
# <details><summary>Hint: where to begin</summary>
#
# `np.ndindex(attention_weights.shape)` gives all (b, q, m, l, p) in one loop. Inside: the position in cells of level
# l, then the loop over `four_cells`.
#
# </details>
# <details><summary>Hint: which token is a cell?</summary>
#
# `level_start_index[l] + row * W + column`. Its D channels of head m are `value[b, token, m]`.
#
# </details>
# <details><summary>Hint: the first cases pass, later ones fail</summary>
#
# They have several levels and heads. Is the start of the level added? Is it `+=`, so that levels and points add up?
#
# </details>


# %% exercise="loops"
def ms_deform_attn_loops(
    value, spatial_shapes, level_start_index, sampling_locations, attention_weights
):
    """out_q = sum over levels l and points p of A_qlp x_l(phi_l(r_qlp)), (B, Q, M, D)."""
    B, Q, M, L, P = attention_weights.shape
    out = np.zeros((B, Q, M, value.shape[3]))
    # >>> for every query, head, level and point: its position, and the cells that share it
    for b, q, m, l, p in np.ndindex(B, Q, M, L, P):
        H, W = spatial_shapes[l]
        x, y = sampling_locations[b, q, m, l, p]
        for row, column, share, _, _ in four_cells(y * H - 0.5, x * W - 0.5, H, W):
            token = level_start_index[l] + row * W + column
            out[b, q, m] += attention_weights[b, q, m, l, p] * share * value[b, token, m]
    # <<<
    return out


# %% check="loops"
check_ms_deform_attn(ms_deform_attn_loops)

# %% [markdown]
# ## Build: its gradients
#
# A layer that learns needs the way back. Let $g$ be the gradient of the loss at the output of a head, and $s$ the
# sample that a point read, both of $D$ channels. In $\mathrm{out} = \sum A\, s$ there are three things that learn:
#
# - the **weight** $A$ gets $g \cdot s$: how much the sample changes the loss;
# - each **cell** gets $A$ times its share times $g$. Many queries read the same cell, so their gradients *add up*
#   there;
# - the **location** gets, along x and along y, $A$ times $g \cdot s'$, where $s'$ is the slope of the sample: how fast
#   its $D$ channels change along that axis. `four_cells` gives the slope of each cell's share for a step of one cell.
#   A location counts in $[0, 1]$, and the whole way from 0 to 1 is $W$ cells along x and $H$ along y, so the slope per
#   location is $W$ or $H$ times the slope per cell.
#
# The last line is the only thing that ever moves a point. It compares the four cells around the point, and no others:
# a point cannot feel what is three cells away. Keep that in mind for the start of the layer below.

# %% [markdown] tags=["workbook"]
# **Exercise 2** (difficulty 4, 30 minutes): `ms_deform_attn_backward`. `grad` is (B, Q, M, D), the gradient of the
# loss at the output. Return the gradients of `value`, `sampling_locations` and `attention_weights`, each in the shape
# of its array.
#
# <details><summary>Hint: where to begin</summary>
#
# The same loop as forward. Inside, for each cell: `x = value[b, token, m]`, and `grad[b, q, m] @ x` is how much this
# cell matters to the output.
#
# </details>
# <details><summary>Hint: the gradient of the locations is too small</summary>
#
# A location of 1 is W cells: multiply the slope along x by W and that along y by H.
#
# </details>
# <details><summary>Hint: the values are nearly right</summary>
#
# `+=`: several samples may read one cell.
#
# </details>


# %% exercise="backward"
def ms_deform_attn_backward(
    grad, value, spatial_shapes, level_start_index, sampling_locations, attention_weights
):
    """Gradients of value, locations and weights, from that of the output, grad (B, Q, M, D)."""
    grads = grad_value, grad_locations, grad_weights = tuple(
        np.zeros_like(x) for x in (value, sampling_locations, attention_weights)
    )
    # >>> the loop of the forward pass; what each cell gives to the three gradients
    for b, q, m, l, p in np.ndindex(attention_weights.shape):
        H, W = spatial_shapes[l]
        A, (x, y) = attention_weights[b, q, m, l, p], sampling_locations[b, q, m, l, p]
        cells = four_cells(y * H - 0.5, x * W - 0.5, H, W)
        for row, column, share, slope_y, slope_x in cells:
            token = level_start_index[l] + row * W + column
            matters = grad[b, q, m] @ value[b, token, m]
            grad_value[b, token, m] += A * share * grad[b, q, m]
            grad_locations[b, q, m, l, p] += A * matters * np.array([slope_x * W, slope_y * H])
            grad_weights[b, q, m, l, p] += share * matters
    # <<<
    return grads


# %% check="backward"
check_attention_backward(ms_deform_attn_backward)

# %% [markdown]
# ## Build: the same on `grid_sample`
#
# Loops in Python are for understanding. PyTorch has bilinear sampling with a gradient, `F.grid_sample`, and with it
# the operator is a dozen lines that can train. Level by level: cut its tokens out, make them maps again, sample,
# weigh, add. Two conventions must meet: `grid_sample` counts from $-1$ to $1$ where locations count from $0$ to $1$,
# and its `align_corners=False` puts $\pm 1$ on the outer edges, which is our $\phi$. Outside the map it reads zeros.

# %% [markdown] tags=["workbook"]
# **Exercise 3** (difficulty 3, 25 minutes): `ms_deform_attn` on tensors of the same shapes, with `F.grid_sample` and
# no loop but that over levels. Return (B, Q, M * D): what the heads read, side by side.
#
# <details><summary>Hint: one level as maps</summary>
#
# `value[:, start : start + H * W]` is (B, H*W, M, D). Heads are read independently, so fold them into the batch:
# `.permute(0, 2, 3, 1).reshape(B * M, D, H, W)`.
#
# </details>
# <details><summary>Hint: the grid</summary>
#
# (B * M, Q, P, 2): `sampling_locations[:, :, :, l].transpose(1, 2).flatten(0, 1)`, then `2 * grid - 1`.
#
# </details>
# <details><summary>Hint: the way back</summary>
#
# What is sampled is (B * M, D, Q, P). Multiply by the weights as (B * M, 1, Q, P), sum over P, add over levels; at
# the end (B * M, D, Q) becomes (B, Q, M * D).
#
# </details>


# %% exercise="operator"
def ms_deform_attn(
    value, spatial_shapes, level_start_index, sampling_locations, attention_weights
):
    """The same sum on tensors, with gradients: (B, Q, M * D)."""
    # >>> level by level: its maps, sampled with zeros outside, weighed, summed over points
    B, _, M, D = value.shape
    out = 0.0
    levels = zip(spatial_shapes.tolist(), level_start_index.tolist(), strict=True)
    for l, ((H, W), start) in enumerate(levels):
        maps = value[:, start : start + H * W].permute(0, 2, 3, 1).reshape(B * M, D, H, W)
        grid = 2 * sampling_locations[:, :, :, l].transpose(1, 2).flatten(0, 1) - 1
        sampled = F.grid_sample(maps, grid, align_corners=False)  # (B * M, D, Q, P)
        A = attention_weights[:, :, :, l].transpose(1, 2).flatten(0, 1)[:, None]
        out = out + (A * sampled).sum(-1)
    return out.unflatten(0, (B, M)).permute(0, 3, 1, 2).flatten(2)
    # <<<


# %% check="operator"
check_on_tensors(ms_deform_attn)

# %% [markdown]
# Autograd computes the gradients of yours. The library has kernels of its own: compiled for the CPU, and written in
# CUDA, which an emulator runs where there is no GPU ([chapter 04](04_the_cuda_kernel.ipynb)). Here are all that this
# machine has on one random case, output and gradients against yours:

# %%
from dyhead_lab import ops

sizes = torch.tensor([(5, 8), (3, 4)])
begin = torch.tensor([0, 40])
value = torch.randn(2, 52, 2, 3, dtype=torch.float64)
where = torch.rand(2, 6, 2, 2, 4, 2, dtype=torch.float64) * 1.2 - 0.1  # some lie outside
A = torch.rand(2, 6, 2, 2, 4, dtype=torch.float64)


def with_gradients(operator):
    """The output, and the gradients of value, locations and weights."""
    leaves = [x.clone().requires_grad_() for x in (value, where, A)]
    out = operator(leaves[0], sizes, begin, *leaves[1:])
    return [out.detach(), *torch.autograd.grad(out.square().sum(), leaves)]


mine = with_gradients(ms_deform_attn)
for backend in ["formula", "numba"] + ["emulated"] * ops.native.built("emulated"):
    theirs = with_gradients(lambda *x, name=backend: ops.ms_deform_attn(*x, backend=name))
    apart = max(float((a - b).abs().max()) for a, b in zip(mine, theirs, strict=True))
    print(f"{backend:9} differs by", "less than 1e-9" if apart < 1e-9 else apart)

# %% [markdown]
# ## Build: where the points lie
#
# The operator wants locations in $[0, 1]$; the layer predicts offsets. Around a reference *point* an offset counts in
# cells of each level: divide it by $(W_l, H_l)$. A decoder that refines boxes ([chapter 11](11_deformable_detr.ipynb))
# gives reference *boxes* $(c_x, c_y, w, h)$ instead. Then the unit of an offset $(\Delta x, \Delta y)$ is a share of
# the box: the location is $\big(c_x + \frac{\Delta x}{P} \frac{w}{2},\; c_y + \frac{\Delta y}{P} \frac{h}{2}\big)$. An
# offset of $P$ reaches from the centre to the edge, on every level alike. The scale of the search follows the object.
#
# The reference has an axis for levels: images of a batch are padded and each level rounds its size, so the same place
# may be a slightly different share of each padded map.

# %% [markdown] tags=["workbook"]
# **Exercise 4** (difficulty 2, 15 minutes): `sampling_locations(reference_BQL, offsets_BQMLP2, spatial_shapes_L2)`.
# References are points (x, y) or boxes (cx, cy, w, h), all in [0, 1]; offsets are (x, y). Return (B, Q, M, L, P, 2).
#
# <details><summary>Hint: what are the shapes?</summary>
#
# The reference is (B, Q, L, 2 or 4), the offsets are (B, Q, M, L, P, 2): `reference_BQL[:, :, None, :, None]` fits.
#
# </details>
# <details><summary>Hint: only maps that are not square fail</summary>
#
# `spatial_shapes_L2` holds (H, W), but a point is (x, y): `spatial_shapes_L2.flip(-1)`.
#
# </details>
# <details><summary>Hint: boxes</summary>
#
# `reference[..., :2] + offsets / P * reference[..., 2:] / 2`.
#
# </details>


# %% exercise="locations"
def sampling_locations(reference_BQL, offsets_BQMLP2, spatial_shapes_L2):
    """Where to read, (B, Q, M, L, P, 2) as (x, y) in [0, 1] of each level.

    reference_BQL: (B, Q, L, 2) points or (B, Q, L, 4) boxes, in [0, 1].
    """
    # >>> around a point in cells of each level, around a box in half box sizes over P
    reference = reference_BQL[:, :, None, :, None]
    if reference.shape[-1] == 2:
        width_height_L2 = spatial_shapes_L2.flip(-1)
        return reference + offsets_BQMLP2 / width_height_L2[:, None]
    P = offsets_BQMLP2.shape[-2]
    return reference[..., :2] + offsets_BQMLP2 / P * reference[..., 2:] / 2
    # <<<


# %% check="locations"
check_locations(sampling_locations)

# %% [markdown]
# ## Build: the start is a ring
#
# Where should the points lie before anything is learned? All on the reference point would be a poor choice. The $P$
# points of a head on one level would read the same and get the same gradient, so they would stay together for ever:
# four points that are one. And that one feels only the cells next to it. So the paper (appendix A.4) spreads them
# out. The layer that computes offsets starts with weights of zero, and its bias sends head $m$ in direction $m$ of
# $M$, point $k$ out to $k$ cells:
#
# $$\Delta p_{mlk} = k\, \frac{(\cos\theta_m, \sin\theta_m)}{\max(|\cos\theta_m|, |\sin\theta_m|)}, \qquad
# \theta_m = \frac{2 \pi m}{M}, \qquad k = 1 \dots P$$
#
# The division makes the ring a square, so that with eight heads all offsets are whole cells.

# %% [markdown] tags=["workbook"]
# **Exercise 5** (difficulty 2, 10 minutes): `ring(heads, levels, points)`. Return a tensor (M, L, P, 2) of offsets
# (x, y) in cells, the same on every level.
#
# <details><summary>Hint: directions</summary>
#
# `angle = torch.arange(heads) * 2 * math.pi / heads`; stack cosine and sine on the last axis: (M, 2).
#
# </details>
# <details><summary>Hint: shapes</summary>
#
# (M, 2) -> (M, 1, 1, 2), times steps (P, 1), expanded to L levels: `.expand(heads, levels, points, 2)`.
#
# </details>


# %% exercise="ring"
def ring(heads, levels, points):
    """Offsets (M, L, P, 2), (x, y) in cells: point k of head m is k cells away in direction m."""
    # >>> directions of the heads, divided by their largest component; steps 1 to P
    angle = torch.arange(heads) * 2 * math.pi / heads
    direction = torch.stack([angle.cos(), angle.sin()], -1)
    direction = direction / direction.abs().amax(-1, keepdim=True)
    steps = torch.arange(1, points + 1)[:, None]
    return (direction[:, None, None] * steps).expand(heads, levels, points, 2)
    # <<<


# %% check="ring"
check_ring(ring)

# %% tags=["hide"]
figure = offsets_figure(ring(8, 3, 4), [f"level {level}" for level in range(3)])
Picture(figure, alt="Eight rays of four points around a point, alike on three levels.")

# %% [markdown]
# A colour and a marker stand for a head. In cells all levels look alike; on the photograph they do not. This is one
# query on the motorcycle, with levels of strides 8, 16 and 32, each drawn in its own cells:

# %% tags=["hide"]
from dyhead_lab.data.photographs import photograph

photo = photograph("workshop")[:, :480, :736]  # divisible by 32
strides = (8, 16, 32)
shapes = torch.tensor([(480 // s, 736 // s) for s in strides])
here = torch.tensor([0.42, 0.52])
locations = sampling_locations(here.expand(1, 1, 3, 2), ring(8, 3, 4)[None, None], shapes)[0, 0]
figure = pyramid_points_figure(photo, locations, here, strides)
Picture(figure, alt="The ring on the workshop: small on stride 8, large on stride 32.")

# %% [markdown]
# At stride 8 the ring covers the spot where seat, tank and engine meet, at stride 32 most of the motorcycle.
# Whatever a query has to find out, some of its points are near from the first step on.
#
# ## Build: the module
#
# <img src="diagrams/deformable_module.svg" alt="The module. Two linear maps of the query give, for each head,
# level and point, an offset and a weight; softmax runs over levels and points together. A linear map of the
# tokens gives values, cut into heads. The operator reads each level at reference point plus offset, takes the
# weighted sum, and a last linear map joins the heads.">
#
# Four linear layers hold the weights:
#
# | layer | from | to |
# | --- | --- | --- |
# | `sampling_offsets` | the query | $2 M L P$ numbers, in the order head, level, point, (x, y) |
# | `attention_weights` | the query | $M L P$ numbers, then a softmax over the $L P$ of each head |
# | `value_proj` | the tokens | $C$ channels, cut into $M$ heads |
# | `output_proj` | what the heads read | $C$ channels |
#
# Two details are easily missed. The softmax runs over levels *and* points, so that levels compete: that is how a
# query decides for one. And padding is set to zero *after* `value_proj`, whose bias would otherwise fill it again.

# %% [markdown] tags=["workbook"]
# **Exercise 6** (difficulty 3, 20 minutes): `forward` of `MultiScaleDeformableAttention`. `padding_BN` is True where
# a token is padding. Return three tensors: the output (B, Q, C), the locations and the attention weights.
#
# <details><summary>Hint: where to begin</summary>
#
# `self.sampling_offsets(query_BQC).view(B, Q, M, L, P, 2)` are the offsets. `sampling_locations` and `ms_deform_attn`
# are the functions above.
#
# </details>
# <details><summary>Hint: the weights</summary>
#
# View as (B, Q, M, L * P), softmax over the last axis, view as (B, Q, M, L, P).
#
# </details>
# <details><summary>Hint: values</summary>
#
# `self.value_proj(value_BNC)`, then `masked_fill(padding_BN[..., None], 0.0)` if there is padding, then
# `unflatten(-1, (M, -1))`.
#
# </details>


# %%
class Projections(nn.Module):
    """The four linear layers of the module, started as the paper starts them."""

    sampling_parameters = ("sampling_offsets",)  # these learn at a tenth of the rate

    def __init__(self, channels=256, levels=4, heads=8, points=4):
        super().__init__()
        self.channels, self.levels, self.heads, self.points = channels, levels, heads, points
        self.sampling_offsets = nn.Linear(channels, heads * levels * points * 2)
        self.attention_weights = nn.Linear(channels, heads * levels * points)
        self.value_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self.reset_parameters()

    def reset_parameters(self):
        offsets = ring(self.heads, self.levels, self.points)
        self.sampling_offsets.bias.data.copy_(offsets.flatten())
        nn.init.zeros_(self.sampling_offsets.weight)
        nn.init.zeros_(self.attention_weights.weight)
        nn.init.zeros_(self.attention_weights.bias)
        for projection in (self.value_proj, self.output_proj):
            nn.init.xavier_uniform_(projection.weight)
            nn.init.zeros_(projection.bias)


# %% exercise="module"
class MultiScaleDeformableAttention(Projections):
    """Every query reads P points per head on each of L levels."""

    def forward(self, query_BQC, reference_BQL, value_BNC, shapes_L2, starts_L, padding_BN=None):
        """Output (B, Q, C), locations (B, Q, M, L, P, 2), attention weights (B, Q, M, L, P)."""
        B, Q, _ = query_BQC.shape
        M, L, P = self.heads, self.levels, self.points
        # >>> values without padding, locations, softmax over L * P, the operator, output_proj
        value = self.value_proj(value_BNC)
        if padding_BN is not None:
            value = value.masked_fill(padding_BN[..., None], 0.0)
        offsets = self.sampling_offsets(query_BQC).view(B, Q, M, L, P, 2)
        locations = sampling_locations(reference_BQL, offsets, shapes_L2)
        logits = self.attention_weights(query_BQC).view(B, Q, M, L * P)
        weights = logits.softmax(-1).view(B, Q, M, L, P)
        read = ms_deform_attn(value.unflatten(-1, (M, -1)), shapes_L2, starts_L, locations, weights)
        return self.output_proj(read), locations, weights
        # <<<


# %% check="module"
check_module(MultiScaleDeformableAttention)

# %% [markdown]
# Where do reference points come from? In the encoder a token's reference is its own place: the centre of its cell, as
# a share of the map. With padding, it is counted in the part of the map that is image, and then brought to every
# level by the share of that level that is image, the **valid ratio**. Below, the second image fills 5 of 6 columns of
# the fine level. On the coarse level that would be 2.5 columns; it rounds up to all 3, so the same place is another
# share there.


# %%
def encoder_references(sizes, valid_BL2):
    """Place of every token on every level, (B, N, L, 2); valid_BL2: columns and rows of image."""
    centres = []
    for l, (H, W) in enumerate(sizes):
        y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
        centres.append(torch.stack([x, y], -1).flatten(0, 1) / valid_BL2[:, None, l])
    ratios = valid_BL2 / torch.tensor(sizes).flip(-1)
    return torch.cat(centres, 1)[:, :, None] * ratios[:, None]


sizes = [(4, 6), (2, 3)]
whole, narrow = [[6.0, 4.0], [3.0, 2.0]], [[5.0, 4.0], [3.0, 2.0]]  # 5 columns, then 2.5: 3
valid = torch.tensor([whole, narrow])
references = encoder_references(sizes, valid)
print("references", tuple(references.shape))
for name, image_LC in {"whole": references[0, 0], "narrow": references[1, 0]}.items():
    fine, coarse = ([round(share, 3) for share in one] for one in image_LC.tolist())
    print(f"first token of the {name} image: {fine} on the fine level, {coarse} on the coarse one")

# %% [markdown]
# ## The proof
#
# `deformable_detr_tiny` is a small Deformable DETR that was trained on Shapes. It has five of these modules, two in its
# encoder and three in its decoder. Build it anew on *yours*, load the trained weights strictly, and measure its AP
# ([chapter 01](01_feature_pyramid.ipynb)) on sixty pictures that it has never seen:

# %%
check_same_ap("deformable_detr_tiny", MultiScaleDeformableAttention=MultiScaleDeformableAttention)

# %% [markdown]
# ## It learns
#
# Can points really travel to where they should be, pushed by nothing but the slope of what they read? A toy shows it.
# The tokens are the colours of the photograph, averaged over cells of 8, 16 and 32 pixels. There are four kinds of
# queries. A query of kind 0 stands anywhere and must name the colour 72 pixels to its right; kind 1 to its left;
# kinds 2 and 3 the colour 56 pixels below and above. The layer is never told these distances: its loss compares the
# colour that it read with the one that was asked for, and it learns offsets and weights. The projections are the
# identity, so the only way to be right is to look in the right place.

# %%
levels = [F.avg_pool2d(photo[None], stride) for stride in strides]
starts = shapes.prod(1).cumsum(0) - shapes.prod(1)
colours_BNC = torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)
M, P = 4, 4
tokens_BNC = colours_BNC.repeat(1, 1, M)  # each head gets the three colours
ways = torch.tensor([[72.0, 0.0], [-72.0, 0.0], [0.0, 56.0], [0.0, -56.0]])  # pixels
size = torch.tensor([736.0, 480.0])
print("tokens", tuple(tokens_BNC.shape), "on levels", shapes.tolist())


def colour_at(places_Q2):
    """Colours of the finest level at places in [0, 1], (Q, 3)."""
    return F.grid_sample(levels[0], 2 * places_Q2[None, None] - 1, align_corners=False)[0, :, 0].T


# %%
def new_layer():
    layer = MultiScaleDeformableAttention(3 * M, len(strides), M, P)
    for projection in (layer.value_proj, layer.output_proj):
        nn.init.eye_(projection.weight).requires_grad_(False)
    return layer, nn.Embedding(len(ways), 3 * M)  # the query of each kind


def read(layer, kinds, kind, place):
    """Colours (Q, 3) that queries name, with where they looked and how much each point counted."""
    references = place[None, :, None].expand(-1, -1, len(strides), -1)
    out, where, weights = layer(kinds(kind)[None], references, tokens_BNC, shapes, starts)
    return out[0].unflatten(-1, (M, 3)).mean(-2), where[0], weights[0]


# %%
STEPS = 20 if "DYHEAD_FAST" in os.environ else 400  # tests of the book take a handful


def train(layer, kinds):
    """Losses (share of the colours' variance that is missed), and the points of every 20th step."""
    learns = [p for module in (layer, kinds) for p in module.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(learns, 2e-2)
    draw = torch.Generator().manual_seed(0)
    losses, journey = [], []
    middle = torch.full((len(ways), 2), 0.5)
    for step in range(STEPS + 1):
        kind = torch.randint(len(ways), (256,), generator=draw)
        place = 0.15 + 0.7 * torch.rand(256, 2, generator=draw)
        wanted = colour_at(place + ways[kind] / size)
        loss = (read(layer, kinds, kind, place)[0] - wanted).square().mean() / wanted.var(0).mean()
        optimiser.zero_grad()
        loss.backward()
        losses.append(loss.item())
        if step % 20 == 0:
            with torch.no_grad():
                journey.append(read(layer, kinds, torch.arange(len(ways)), middle)[1:])
        optimiser.step()
    return losses, journey


# %%
torch.manual_seed(0)
layer, kinds = new_layer()
losses, journey = train(layer, kinds)


def distance(where_QMLP2, weights_QMLP):
    """Mean way in pixels from the points to the place that was asked for, as they count."""
    aims = (0.5 * size + ways)[:, None, None, None]
    pixels = (where_QMLP2 * size - aims).norm(dim=-1)
    return float((pixels * weights_QMLP).sum() / weights_QMLP.sum())


for number in (0, len(journey) // 4, len(journey) // 2, -1):
    step = 20 * (number % len(journey))
    print(f"step {step:3}: missed {losses[step]:.2f} of the variance,",
          f"points {distance(*journey[number]):4.1f} pixels from their aim")  # fmt: skip

# %% tags=["hide"]
figure = journey_figure(photo, journey[0], journey[-1], 0.5 * size, 0.5 * size + ways, 8)
Picture(figure, alt="Before: rings of points around the query. After: gathered on four aims.")

# %% [markdown]
# Before training all four kinds had the same ring, so one colour hides the others. Afterwards the points that count
# have gathered on what they were asked for, to within a few pixels; a cell of the finest level has 8. Now the same
# layer with all points on the reference point at the start:

# %%
torch.manual_seed(0)
together, its_kinds = new_layer()
nn.init.zeros_(together.sampling_offsets.bias)
zero_losses, zero_journey = train(together, its_kinds)
for name, (where, weights) in {"ring": journey[-1], "zero": zero_journey[-1]}.items():
    shares = (weights.sum((1, 3)) / M).mean(0)
    spread = where[:, :, 0].flatten(1, 2).mul(size).std(1).mean()
    print(f"start {name}: missed {np.mean((losses if name == 'ring' else zero_losses)[-50:]):.2f},",
          f"levels {[round(share, 2) for share in shares.tolist()]},",
          f"points of the finest level {spread:.2f} pixels apart")  # fmt: skip

# %% tags=["hide"]
figure = learning_figure({"ring": losses, "all on the reference point": zero_losses})
Picture(figure, alt="Missed variance against steps: the ring falls lower than the start at zero.")

# %% [markdown]
# The start at zero finds the way too, and then stops improving. All points of a level have read the same at every
# step, have had the same gradient, and still lie on one spot. (Here that holds even across heads, since all four see
# the same three colours.) So it has one point per level where the other has sixteen. And its weight has left the
# finest level, whose narrow cells did not show the way at the start, and did not come back. Breaking such ties is
# what the ring is for.
#
# ## Look: after training
#
# Now the real one, `deformable_detr_tiny`. `look` runs it on an image and keeps a trace. Where does the last decoder
# layer read for the three best queries?

# %%
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.zoo import load_trained

trained = load_trained("deformable_detr_tiny")
model = trained.model
image = torch.from_numpy(draw_image(2026, 1)[0]).permute(2, 0, 1) / 255
view = look(model, image)
chosen = {view.title(q, trained.categories): view.points(q) for q in view.best(3)}
figure = points_figure(view.image, chosen, view.sizes)
Picture(figure, alt="Points of the three best queries, coloured by level.")

# %% [markdown]
# A disc's area is the weight of the point, its colour the level. The cross is the centre of the reference box that
# the layer started from. The title gives the number of the query, its class and its score. Many heavy points lie near
# the edges of the box, where one can tell how large the object is.
#
# Now all layers, places and heads. Run the cell, choose a layer, then click a place in the image or move with the arrow
# keys. A point can be dragged, and the bars show what the layer would have read there. In the layers of the decoder a
# place is an object query, and the line below the picture says what it found.

# %%
from dyhead_lab.views.sampling_points import SamplingPoints

with torch.no_grad():
    [found] = model([image])
SamplingPoints(view.seen, view.image, found=found, categories=trained.categories)

# %% [markdown]
# What did training do to the ring? It is the bias of a linear layer, to which the query's feature adds its own part.
# Here are the offsets on the finest level, in the unit that they have around a box: four of them reach from its
# centre to its edge. (The small detector has four heads, so four rays.)

# %%
attention = model.transformer.decoder.layers[-1].cross_attn
M, L, P = attention.heads, attention.levels, attention.points
trained_ring = attention.sampling_offsets.bias.detach().view(M, L, P, 2)
moved = (trained_ring - ring(M, L, P)).abs().mean()
print(f"training moved the bias by {moved:.2f} on average")
offsets = {"bias": trained_ring[:, 0]}
for name, points in chosen.items():
    centre, box = points.reference[:2], points.reference[2:]
    offsets[name] = (points.locations_MLP2[:, 0] - centre) / box * 2 * P
figure = offsets_figure(torch.stack(list(offsets.values()), 1), list(offsets), "half box sizes / P")
Picture(figure, alt="Offsets on the finest level: the ring, and what three queries make of it.")

# %% [markdown]
# The ring itself has hardly moved (offsets learn at a tenth of the rate). It is a common start, and each query bends
# it to the object that it has found.
#
# ## Look: who reads which level?
#
# On 40 pictures, take all queries with a score above 0.4. How much of their weight goes to each level, by the size of
# the object that they found? Small, medium and large are COCO's classes: below $32^2$ pixels, below $96^2$, and
# above.

# %%
shares = {"small": [], "medium": [], "large": []}
for index in range(40):
    view = look(model, torch.from_numpy(draw_image(2027, index)[0]).permute(2, 0, 1) / 255)
    boxes = view.boxes_in_pixels()
    for q in view.best(threshold=0.4):
        area = float((boxes[q, 2:] - boxes[q, :2]).prod())
        name = "small" if area < 32**2 else "medium" if area < 96**2 else "large"
        shares[name].append(view.points(q).weights_MLP.sum(2).mean(0))

counted = {f"{name} ({len(found)})": found for name, found in shares.items() if found}
mean_share = {name: torch.stack(found).mean(0) for name, found in counted.items()}
pixels = [round(view.image.shape[-1] / W) for _, W in view.sizes]
figure = level_shares_figure(mean_share, [f"stride {stride}" for stride in pixels])
Picture(figure, alt="Share of the weight on each level, for small, medium and large objects.")

# %%
along = torch.tensor(pixels)
stride_read = {name: float((share * along).sum()) for name, share in mean_share.items()}
smallest, *_, largest = stride_read.values()
answer = "a" if largest > 1.1 * smallest else "b" if smallest > 1.1 * largest else "c"
sizes_read = ", ".join(f"{name} {stride:.1f}" for name, stride in stride_read.items())
levels_read.revisit(answer, f"Mean stride that is read: {sizes_read} pixels.")

# %% [markdown]
# In brackets stands how many queries there were: only five for small objects, so read that row with care. This is one
# small detector on simple pictures. It has no rule about sizes and levels; the preference is what it found useful.
#
# ## Break it
#
# Here is an operator with one planted bug. A good experiment has an answer that you know: one level, one head, one
# point of weight 1 at the centre of a known cell must read that cell.

# %%
suspect = drill(MS_DEFORM_ATTN_MISTAKES, 2)
H, W, row, column = 3, 5, 1, 3
value = np.arange(H * W, dtype=float).reshape(1, H * W, 1, 1)
centre = np.array([(column + 0.5) / W, (row + 0.5) / H]).reshape(1, 1, 1, 1, 1, 2)
one_level = np.array([(H, W)]), np.array([0])
found = suspect(value, *one_level, centre, np.ones((1, 1, 1, 1, 1))).item()
print("cell", row * W + column, "reads", found)

# %% [markdown]
# If the cell is right, go on: two levels, two heads, a point between cells, a point outside. When you have a
# guess, run `check_ms_deform_attn(suspect)`. `drill(MS_DEFORM_ATTN_MISTAKES, 0)` to
# `drill(MS_DEFORM_ATTN_MISTAKES, 13)` are all different.

# %%
Challenge(
    "How many numbers does a query predict with M = 8, L = 4, P = 4? How many cells does it read?",
    difficulty=1,
    minutes=5,
    hints={
        "Predicted": "M * L * P points with two offsets and one weight each.",
        "Read": "At most four cells for each point, of the 17,821 tokens of 800 x 1066 pixels.",
    },
    answer="384 numbers for 128 points, and at most 512 cells, 64 for each head: less than three "
    "in a hundred of 17,821.",
)

# %%
Challenge(
    "Set the offsets of a trained layer back to the ring and compare the detections",
    difficulty=3,
    minutes=20,
    hints={
        "How": "Zero layer.sampling_offsets.weight, copy the ring into its bias, on a deepcopy.",
        "What to compare": "Boxes of the best queries, and their scores. Then the encoder only.",
    },
    answer="On the 500 validation pictures deformable_detr_tiny has AP 0.357. With the ring in the "
    "encoder it has 0.328, in the decoder 0.334, in both 0.306. Large objects lose most: 0.400 "
    "becomes 0.299. This tells how much the rest of the network relies on learned offsets, not "
    "what they are worth: for that, train with frozen offsets.",
)

# %% [markdown]
# ## Your detector so far

# %%
so_far("deformable_detr_tiny", MultiScaleDeformableAttention=MultiScaleDeformableAttention)

# %% [markdown]
# ## Recap
#
# - Reference points are normalised: the same place on every level. Offsets count in cells of each level; around a
#   reference box, the unit is half the box divided by $P$.
# - One softmax over all $L P$ points of a head: levels compete.
# - Half a cell: $[0, 1]$ ends at the outer edges, and the centre of the first cell is at $0.5 / W$.
# - A point feels the four cells around it, and no others. The ring spreads the points out, so that some are near and
#   none are alike.
# - Padding is zero after the projection, not before.

# %% [markdown]
# **Check yourself.**
#
# <details><summary>Why is there no feature pyramid network in Deformable DETR?</summary>
#
# A pyramid network carries information between levels. Here every token reads all levels in every encoder layer,
# which does the same; the paper finds that a pyramid network below adds nothing.
#
# </details>
# <details><summary>Why would normalised offsets make coarse levels learn more slowly than fine ones?</summary>
#
# An offset in [0, 1] of the map is one number for 100 cells of a fine level and for 13 of a coarse one. To move by
# one cell, a coarse level would need an output 8 times as large. In cells, one step of the optimiser moves all
# levels by as many cells.
#
# </details>
# <details><summary>What does a query read that has its reference point in padding?</summary>
#
# Zeros where its points lie in padding, since the values there are zero, and image where an offset leads out of it.
# Its output is computed like any other; nothing reads it, because it is masked in its turn.
#
# </details>
# <details><summary>Two queries with the same feature and different reference points: what differs?</summary>
#
# Only what they read. Offsets and weights are computed from the feature alone, so both have the same pattern of
# points, at different places.
#
# </details>
#
# [Chapter 11](11_deformable_detr.ipynb) builds a detector from this.
