# %% [markdown]
# # Deformable convolution
#
# | | |
# | --- | --- |
# | Time | 2 to 3 hours with the exercises, about 2 minutes to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | NumPy loops; what a 3x3 convolution does; `nn.Module` and `loss.backward()` |
# | You will build | bilinear sampling, the convolution in loops and in Numba, its backward pass, and the layer |
#
# A convolution reads its input on a fixed grid, whatever lies there. Objects do not come on a grid: they are slanted,
# long, near, far. A **deformable convolution** looks at its input first, decides where each of its nine taps should
# read, and then reads there. It is the first of the tools that let a network choose where to look. Dynamic Head uses
# it as its spatial-aware attention ([chapter 05](05_spatial_aware.ipynb)), and deformable attention
# ([chapter 10](10_multi_scale_deformable_attention.ipynb)) grew out of it.
#
# You will build all of it here: the sampling, the operator, its gradients, the layer that trains. At the end a
# trained detector runs on your layer and finds what it found before.

# %%
import math
import os
import time

import numpy as np
import torch
import torch.nn.functional as F
from numba import njit
from torch import nn

# %% tags=["hide"]
from dyhead_book.c03_deformable_convolution.bilinear_checks import check_bilinear
from dyhead_book.c03_deformable_convolution.conv_backward_checks import check_slope
from dyhead_book.c03_deformable_convolution.conv_checks import check_deform_conv2d, planted_bug
from dyhead_book.c03_deformable_convolution.layer_checks import (
    apart,
    check_conv_backward,
    check_function,
    check_kernel,
    check_layer,
)
from dyhead_book.c03_deformable_convolution.sampling_figures import four_pixels_figure, taps_figure
from dyhead_book.c03_deformable_convolution.travel_figures import (
    Travel,
    losses_figure,
    rebuilt_view_figure,
)
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.rebuilt import check_same_ap
from dyhead_book.practice.so_far import so_far
from dyhead_lab.trace import trace
from dyhead_lab.views.figures import Picture
from dyhead_lab.zoo import load_trained

FAST = bool(os.environ.get("DYHEAD_FAST"))  # tests take a few steps of every training
rng = np.random.default_rng(0)

# %% [markdown]
# ## Two predictions
#
# How far each tap is moved, its **offset**, is a pair of real numbers, not of integers. Why not round them? The code
# would be simpler. And where should offsets be when training starts: all at zero, or at random, as weights are?

# %%
why_not_round = Question(
    "03 rounded offsets",
    "What is lost first if every offset is rounded to whole pixels?",
    a="sharpness: the samples become coarse",
    b="learning: the offsets get no gradient",
    c="speed: rounding costs more than interpolation",
)
why_not_round.ask()

# %%
where_to_start = Question(
    "03 zero or random start",
    "A trained 3x3 convolution becomes deformable. Its offsets start at zero, or at random as "
    "PyTorch would have it. How far is its output from what it was, before any training? (A factor "
    "of one half, which the layer brings along, does not count.)",
    a="the same in both cases",
    b="exact with zeros, off by less than a tenth at random",
    c="exact with zeros, off by more than a tenth at random",
)
where_to_start.ask()

# %% [markdown]
# ## The formula
#
# Start from what you know. A 3x3 kernel has $K = 9$ **taps**. Output pixel $p_0$ of an ordinary convolution is a
# weighted sum of the input $x$ at nine places:
#
# $$y(p_0) = \sum_{k=1}^{K} w_k \; x(p_0 + p_k), \qquad p_k \in \{(-1, -1), (-1, 0), \dots, (1, 1)\}$$
#
# The weights $w_k$ are learned. The places $p_0 + p_k$ are not: they are the same square for a wheel and for a fork,
# in every picture. Stacking layers widens the square, but it stays a square.
#
# <img src="diagrams/regular_and_moved_taps.svg" alt="Left: the nine taps of a 3x3 convolution stand on a fixed
# square around the place; some of them miss a slanted bar. Right: each tap is moved by an offset of its own, a
# real number of pixels, and all nine lie on the bar. Dots of different size stand for the masks.">
#
# [Dai et al. (2017)](https://arxiv.org/abs/1703.06211) add an offset $\Delta p_k$ to each tap, a pair (dy, dx) in
# pixels. [Zhu et al. (2019)](https://arxiv.org/abs/1811.11168) also multiply each sample by a **mask** $\Delta m_k$
# between 0 and 1 (*modulation* in their paper), so that a tap that finds nothing useful can be turned down:
#
# $$y(p_0) = \sum_{k=1}^{K} w_k \; x(p_0 + p_k + \Delta p_k) \; \Delta m_k$$
#
# Without masks this is called version 1 (v1), with them version 2 (v2). Offsets and masks are *not* parameters. A
# small convolution computes them from the input, anew at every place of every picture. Only that convolution's
# weights are learned. With all offsets 0 and all masks 1 the ordinary convolution is back.
#
# The position $p_0 + p_k + \Delta p_k$ falls between pixels. So $x(p)$ is defined there as a weighted sum over pixels
# $q$, **bilinear interpolation**:
#
# $$x(p) = \sum_q G(q, p)\, x(q), \qquad G(q, p) = \max(0, 1 - |q_y - p_y|)\,\max(0, 1 - |q_x - p_x|)$$
#
# $G$ is zero unless $q$ is one of the four pixels around $p$. A pixel outside the image counts as zero. Keep your
# first guess in mind: $x(p)$ changes a little when $p$ moves a little.

# %% [markdown]
# ## Build: bilinear sampling
#
# <img src="diagrams/bilinear_sample.svg" alt="A sample between pixels: it lies 0.3 below and 0.6 right of the
# first of four pixels. Each of the four weighs the area of the rectangle opposite to it: 0.28, 0.42, 0.12 and
# 0.18.">
#
# Here is a small picture with a position between its pixels. Each weight is an area: the rectangle between the cross
# and the *opposite* pixel. The nearest pixel gets the largest one, and the four areas sum to 1.

# %% tags=["hide"]
small = rng.uniform(size=(4, 6))
figure = four_pixels_figure(small, p_y=1.3, p_x=2.7)
Picture(figure, alt="A position between four pixels, and the areas that are their weights.")

# %% [markdown]
# By hand: position $(1.3, 2.7)$ lies between rows 1 and 2 and between columns 2 and 3.

# %%
upper = 0.7 * 0.3 * small[1, 2] + 0.7 * 0.7 * small[1, 3]
lower = 0.3 * 0.3 * small[2, 2] + 0.3 * 0.7 * small[2, 3]
print(f"{upper + lower:.4f}")

# %% [markdown]
# Now for any position. Rows come first: `image_HW[row, column]`, and $y$ goes with the row.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 15 minutes.
#
# <details><summary>Where to begin</summary>The pixel above and to the left of p has row math.floor(p_y) and column
# math.floor(p_x). The other three are one further down, to the right, or both.</details>
# <details><summary>Positions outside give wrong numbers</summary>Test each of the four pixels by itself: it is inside
# if 0 &lt;= row &lt; H and 0 &lt;= column &lt; W. A pixel outside adds nothing. NumPy does not complain about row -1:
# it takes the last one.</details>
# <details><summary>Nearly the answer</summary>Two short loops, over (top, top + 1) and (left, left + 1). Inside, if
# the pixel is there, add (1 - abs(row - p_y)) * (1 - abs(column - p_x)) times it.</details>


# %% exercise="bilinear"
def bilinear(image_HW, p_y, p_x):
    """x(p) = sum over q of G(q, p) x(q). Returns a number."""
    # >>> the sum over the four pixels around the position
    H, W = image_HW.shape
    top, left = math.floor(p_y), math.floor(p_x)
    total = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < H and 0 <= column < W:
                G = (1 - abs(row - p_y)) * (1 - abs(column - p_x))
                total += G * image_HW[row, column]
    return total
    # <<<


# %% check="bilinear"
check_bilinear(bilinear)

# %% [markdown]
# The check tries positions inside, on the border, outside and exactly on a pixel, and says in which common way a
# function is wrong. Here is such a way: `int` where `math.floor` should be.


# %%
def bilinear_with_int(image_HW, p_y, p_x):
    H, W = image_HW.shape
    top, left = int(p_y), int(p_x)
    total = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < H and 0 <= column < W:
                total += (1 - abs(row - p_y)) * (1 - abs(column - p_x)) * image_HW[row, column]
    return total


check_bilinear(bilinear_with_int)

# %% [markdown]
# ## Build: the convolution in loops
#
# Now the formula with offsets and masks, for arrays with batch and channels. The letters are those of the rest of the
# book: B images, C channels in and Co out, H x W places in and Ho x Wo out.
#
# | | shape | |
# | --- | --- | --- |
# | `input` | (B, C, H, W) | |
# | `offset` | (B, 2·G·9, Ho, Wo) | dy of tap 0, dx of tap 0, dy of tap 1, … in pixels |
# | `weight` | (Co, C / groups, 3, 3) | |
# | `mask` | (B, G·9, Ho, Wo) | |
#
# Two kinds of groups split the channels. `groups` are those of any grouped convolution: an output channel reads only
# the input channels of its own group. The `G` **offset groups** split the *input* channels: each of them has offsets
# and masks of its own, so different channels may look at different places. (The letter $G$ has two meanings in this
# chapter: $G(q, p)$, or `G` in `bilinear`, is the share of a pixel; the number `G` in shapes counts offset groups.)
# Stride, padding and dilation are pairs, as in `nn.Conv2d`.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 30 minutes. The first cases of the check have one group of each kind.
#
# <details><summary>Where to begin</summary>An array of zeros (B, Co, Ho, Wo), with Ho and Wo from the offsets. Loops
# over b, o, i, j; inside them over the nine taps k and the channels c. All that happens is one += into
# out[b, o, i, j].</details>
# <details><summary>What is p_0 + p_k?</summary>Vertically i * stride[0] - padding[0] + k // 3 * dilation[0];
# horizontally the same with j, index 1 and k % 3. Then add offset[b, 2 * k, i, j] and offset[b, 2 * k + 1, i,
# j].</details>
# <details><summary>Only cases with groups fail</summary>Output channel o reads C // groups channels that start at
# o // (Co // groups) * (C // groups). Channel c of the input belongs to offset group c // (C // G), whose offsets
# start at channel 18 g and whose masks at 9 g.</details>
# <details><summary>May I vectorise?</summary>Yes: the check only looks at numbers. What is compiled further down is
# another function.</details>


# %% exercise="loops"
def deform_conv2d(input, offset, weight, mask, stride, padding, dilation):
    """Returns an array (B, Co, Ho, Wo). Ho and Wo are those of the offsets."""
    # >>> the sum over taps and channels, for every place of the output
    C, (Co, C_group) = input.shape[1], weight.shape[:2]
    G = mask.shape[1] // 9
    out = np.zeros((len(input), Co, *offset.shape[2:]))
    for b, o, i, j in np.ndindex(out.shape):
        first = o // (Co * C_group // C) * C_group
        p0_y, p0_x = i * stride[0] - padding[0], j * stride[1] - padding[1]
        for c in range(first, first + C_group):
            g = c // (C // G)
            for k in range(9):
                p_y = p0_y + k // 3 * dilation[0] + offset[b, 18 * g + 2 * k, i, j]
                p_x = p0_x + k % 3 * dilation[1] + offset[b, 18 * g + 2 * k + 1, i, j]
                sample = bilinear(input[b, c], p_y, p_x) * mask[b, 9 * g + k, i, j]
                out[b, o, i, j] += weight[o, c - first, k // 3, k % 3] * sample
    return out
    # <<<


# %% check="loops"
check_deform_conv2d(deform_conv2d)

# %% [markdown]
# ## Build: a kernel with Numba
#
# The loops are right and hopelessly slow: Python handles each addition as an event. Two things help.
#
# **Compile.** [Numba](https://numba.readthedocs.io) translates loops over plain numbers and arrays to machine code
# when the function is first called. It cannot translate everything (dictionaries, most of NumPy's tricks with
# shapes), and compiled code can call only compiled code. So what follows is written for it.
#
# **Do not read twice.** In the loops above the sample $x(p)$ is computed again for each of the `Co` output channels,
# although it does not depend on them. Turn the order around: take a place and a tap, find the position once, sample
# each channel once, and only then spread the sample over the outputs.
#
# Two helpers first. `position` is $p_0 + p_k + \Delta p_k$. `around` gives the four pixels of a position, each with
# its share $G$ and the slopes of $G$ along y and x, which the gradient will need.


# %%
@njit
def position(offset, b, g, k, i, j, stride, padding, dilation):
    y = i * stride[0] - padding[0] + k // 3 * dilation[0] + offset[b, 18 * g + 2 * k, i, j]
    x = j * stride[1] - padding[1] + k % 3 * dilation[1] + offset[b, 18 * g + 2 * k + 1, i, j]
    return y, x


@njit
def around(p_y, p_x):
    """The four pixels around p: (row, column, G, dG/dp_y, dG/dp_x) of each."""
    top, left = math.floor(p_y), math.floor(p_x)
    y, x = p_y - top, p_x - left
    return (
        (top, left, (1 - y) * (1 - x), x - 1, y - 1),
        (top, left + 1, (1 - y) * x, -x, 1 - y),
        (top + 1, left, y * (1 - x), 1 - x, -y),
        (top + 1, left + 1, y * x, x, y),
    )


for pixel in around(1.3, 2.7):
    print("row {}, column {}, share {:.2f}, slopes {:+.1f} and {:+.1f}".format(*pixel))

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 20 minutes.
#
# <details><summary>Where to begin</summary>np.zeros((B, Co, Ho, Wo), input.dtype), then one loop over
# np.ndindex(B, G, 9, Ho, Wo). Inside: the position, the four pixels around it, and a loop over the channels of offset
# group g, from g * C // G to (g + 1) * C // G.</details>
# <details><summary>Which outputs does channel c feed?</summary>Those of its convolution group: Co * C_group // C
# channels, the first of which is c // C_group times that number. Its weight is [o, c % C_group, k // 3, k %
# 3].</details>
# <details><summary>Numba complains</summary>Keep to numbers, loops, indexing and range. np.zeros, np.ndindex and
# tuples are fine. A variable must not change its type: begin a sum with 0.0, not with 0.</details>


# %% exercise="kernel"
@njit
def deform_conv2d_compiled(input, offset, weight, mask, stride, padding, dilation):
    """What deform_conv2d computes; each sample is read once."""
    # >>> for each place and tap: a sample of each channel, and what it adds to the outputs
    B, C, H, W = input.shape
    Co, C_group = weight.shape[:2]
    G, Ho, Wo = mask.shape[1] // 9, mask.shape[2], mask.shape[3]
    Co_group = Co * C_group // C
    out = np.zeros((B, Co, Ho, Wo), input.dtype)
    for b, g, k, i, j in np.ndindex(B, G, 9, Ho, Wo):
        p_y, p_x = position(offset, b, g, k, i, j, stride, padding, dilation)
        pixels = around(p_y, p_x)
        for c in range(g * C // G, (g + 1) * C // G):
            sample = 0.0
            for row, column, share, _, _ in pixels:
                if 0 <= row < H and 0 <= column < W:
                    sample += share * input[b, c, row, column]
            sample *= mask[b, 9 * g + k, i, j]
            first = c // C_group * Co_group
            for o in range(first, first + Co_group):
                out[b, o, i, j] += weight[o, c % C_group, k // 3, k % 3] * sample
    return out
    # <<<


# %% check="kernel"
check_kernel(deform_conv2d_compiled)

# %% [markdown]
# Beside the loops, on a small input. The first call compiles and does not count.


# %%
def seconds(function, *arguments, repeats=3):
    """Best of a few runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


x = rng.normal(size=(1, 8, 12, 12))
dp = rng.normal(size=(1, 18, 12, 12))
w, dm = rng.normal(size=(8, 8, 3, 3)), rng.uniform(size=(1, 9, 12, 12))
arguments = (x, dp, w, dm, (1, 1), (1, 1), (1, 1))
deform_conv2d_compiled(*arguments)
ratio = seconds(deform_conv2d, *arguments, repeats=1) / seconds(deform_conv2d_compiled, *arguments)
factor = "more than 100" if ratio > 100 else f"{ratio:.0f}"
print("the kernel is faster than the loops by a factor of", factor)
samples = 9 * 8 * 12 * 12
print(f"samples read: {8 * samples:,} by the loops, {samples:,} by the kernel")

# %% [markdown]
# The library's own path for CPUs goes one step further: it gathers all samples into one large matrix, and the product
# with the weights becomes a matrix product, which processors do best. [Chapter 04](04_the_cuda_kernel.ipynb) takes
# the same loops to the GPU, one thread an output. All of them must agree:

# %%
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

from dyhead_lab.ops import deform_conv2d as library_deform_conv2d

tensors = [torch.from_numpy(array) for array in (x, dp, w)]
yours = torch.from_numpy(deform_conv2d_compiled(*arguments))
library = library_deform_conv2d(*tensors, padding=1, mask=torch.from_numpy(dm))
torchvision = torchvision_deform_conv2d(*tensors, padding=1, mask=torch.from_numpy(dm))
print("kernel and library:    ", apart(yours, library))
print("kernel and torchvision:", apart(yours, torchvision))

# %% [markdown]
# ## Where the gradient goes
#
# To train, the layer needs the derivative of the loss by everything that was multiplied. Look at one tap:
# $y = w \, x \, m$ with $x = x(p)$, and let $g$ be the gradient that arrives at $y$.
#
# <img src="diagrams/gradient_of_a_sample.svg" alt="One tap forward and backward. Four pixels and an offset give
# a sample x; times the weight w, times the mask m it enters the output. Backward the gradient g of the output
# gives g x m to the weight, g w x to the mask, g w m times its share to each pixel, and g w m times the slope
# to the offset.">
#
# Each of the three factors gets $g$ times the other two. The sample hands its own gradient, $g\,w\,m$, on in two
# directions. Each of its four pixels gets its share $G$ of it. And the offset gets it times the **slope** of $x(p)$,
#
# $$\frac{\partial x(p)}{\partial p_y} = \sum_q \frac{\partial G(q, p)}{\partial p_y}\, x(q)$$
#
# which compares the pixels below with those above. If the pixels below are larger and $x$ should grow, the tap moves
# down. The slope does *not* see anything beyond the four pixels. An offset finds its way step by step along a smooth
# picture, as a walker in fog follows the ground under the feet.

# %% [markdown] tags=["workbook"]
# **Your turn.** Derive the slope along y. Difficulty 3 of 5, about 20 minutes.
#
# <details><summary>Where to begin</summary>Write x(p) as (1 - part_y) * above + part_y * below, where above and below
# are means of two pixels each. Only part_y depends on p_y.</details>
# <details><summary>The sign is wrong</summary>The pixels above have weight 1 - part_y: their slope is
# negative.</details>
# <details><summary>The check at an integer position fails</summary>There is a kink: the slopes on both sides differ.
# The field follows the floor side, so p_y = 2 has the slope between rows 2 and 3.</details>


# %% exercise="slope"
def bilinear_slope(image_HW, p_y, p_x):
    """dx(p)/dp_y, a number. Pixels outside count as zero."""
    # >>> what lies below minus what lies above, each a mean of two columns
    H, W = image_HW.shape
    top, left = math.floor(p_y), math.floor(p_x)

    def pixel(row, column):
        return image_HW[row, column] if 0 <= row < H and 0 <= column < W else 0.0

    part_x = p_x - left
    left_slope = pixel(top + 1, left) - pixel(top, left)
    right_slope = pixel(top + 1, left + 1) - pixel(top, left + 1)
    return (1 - part_x) * left_slope + part_x * right_slope
    # <<<


# %% check="slope"
check_slope(bilinear_slope)

# %% [markdown]
# `around` says the same in its last two numbers, pixel by pixel: the slope is the sum of dG/dp_y times the pixel.
# With them the whole backward pass is one more set of loops. It gets `grad`, the gradient of the output, of shape
# (B, Co, Ho, Wo), and returns four arrays: the gradients of `input`, `offset`, `weight` and `mask`, each of the shape
# of what it belongs to.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 4 of 5, about 60 minutes.
#
# <details><summary>Where to begin</summary>Four arrays of zeros, np.zeros_like of input, offset, weight and mask, and
# the loops of the kernel.</details>
# <details><summary>What is the gradient of a sample?</summary>A sample times its mask enters Co_group outputs, each
# with a weight. So first sum grad[b, o, i, j] * weight[o, ...] over them; call it pull. The sample gets pull times
# the mask, the mask gets pull times the sample.</details>
# <details><summary>Where does the gradient of a sample go?</summary>In the loop over the four pixels: to
# d_input by its share, to both offsets by slope times pixel, always added with +=.</details>
# <details><summary>A vectorised answer loses something</summary>d[rows, columns] += g adds only once where an index
# comes twice. np.add.at adds all of them.</details>


# %% exercise="backward"
@njit
def deform_conv2d_backward(grad, input, offset, weight, mask, stride, padding, dilation):
    # >>> each factor gets the gradient times the others; a sample hands its own on
    d_input, d_offset = np.zeros_like(input), np.zeros_like(offset)
    d_weight, d_mask = np.zeros_like(weight), np.zeros_like(mask)
    (B, C, H, W), (Co, C_group), G = input.shape, weight.shape[:2], mask.shape[1] // 9
    for b, g, k, i, j in np.ndindex(B, G, 9, mask.shape[2], mask.shape[3]):
        pixels = around(*position(offset, b, g, k, i, j, stride, padding, dilation))
        m, dy = mask[b, 9 * g + k, i, j], 18 * g + 2 * k
        for c in range(g * C // G, (g + 1) * C // G):
            sample, pull, Co_group = 0.0, 0.0, Co * C_group // C
            for o in range(c // C_group * Co_group, (c // C_group + 1) * Co_group):
                pull += grad[b, o, i, j] * weight[o, c % C_group, k // 3, k % 3]
            for row, column, share, slope_y, slope_x in pixels:
                if 0 <= row < H and 0 <= column < W:
                    x = input[b, c, row, column]
                    sample += share * x
                    d_input[b, c, row, column] += pull * m * share
                    d_offset[b, dy, i, j] += pull * m * slope_y * x
                    d_offset[b, dy + 1, i, j] += pull * m * slope_x * x
            d_mask[b, 9 * g + k, i, j] += pull * sample
            for o in range(c // C_group * Co_group, (c // C_group + 1) * Co_group):
                d_weight[o, c % C_group, k // 3, k % 3] += grad[b, o, i, j] * sample * m
    return d_input, d_offset, d_weight, d_mask
    # <<<


# %% check="backward"
check_conv_backward(deform_conv2d_backward)

# %% [markdown]
# ## Build: an operator that PyTorch can differentiate
#
# PyTorch does not look inside a compiled function. It must be told which function goes backward: that is an
# [`autograd.Function`](https://pytorch.org/docs/stable/notes/extending.html). `forward` computes and keeps in `ctx`
# what the way back needs; `backward` gets the gradient of the output and returns one value for *each* argument of
# `forward`, None for those that have no gradient.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 20 minutes.
#
# <details><summary>Where to begin</summary>In forward: ctx.save_for_backward(input, offset, weight, mask) for
# tensors, and a plain attribute such as ctx.geometry for the three pairs. x.detach().contiguous().numpy() is a tensor
# as an array.</details>
# <details><summary>In backward</summary>ctx.saved_tensors are the four tensors. Seven arguments came in, so seven
# values go out: four gradients and three times None.</details>


# %% exercise="function"
def arrays(*tensors):
    return [x.detach().contiguous().numpy() for x in tensors]


class DeformConv2d(torch.autograd.Function):
    """The two compiled functions as one operator: DeformConv2d.apply(input, ..., dilation)."""

    @staticmethod
    def forward(ctx, input, offset, weight, mask, stride, padding, dilation):
        # >>> keep what backward needs, and give the output as a tensor
        ctx.save_for_backward(input, offset, weight, mask)
        ctx.geometry = stride, padding, dilation
        inputs = arrays(input, offset, weight, mask)
        return torch.from_numpy(deform_conv2d_compiled(*inputs, *ctx.geometry))
        # <<<

    @staticmethod
    def backward(ctx, grad):
        # >>> the four gradients as tensors, and None for each pair
        gradients = deform_conv2d_backward(*arrays(grad, *ctx.saved_tensors), *ctx.geometry)
        return *map(torch.from_numpy, gradients), None, None, None
        # <<<


# %% check="function"
check_function(DeformConv2d)

# %% [markdown]
# The check compared output and gradients with the library, and asked `torch.autograd.gradcheck`, which moves every
# input by a tiny step and looks at what the output does. Here is the comparison in the open:

# %%
leaves = [torch.from_numpy(a).requires_grad_() for a in (x, dp, w, dm)]
wanted = library_deform_conv2d(*leaves[:3], padding=1, mask=leaves[3]).sin().sum()
found = DeformConv2d.apply(*leaves, (1, 1), (1, 1), (1, 1)).sin().sum()
pairs = zip(torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves), strict=True)
for name, (mine, theirs) in zip(("input", "offset", "weight", "mask"), pairs, strict=True):
    print(f"gradient of {name:6} {tuple(mine.shape)!s:17} differs by", apart(mine, theirs))

# %% [markdown]
# ## Build: the layer
#
# <img src="diagrams/deformable_layer.svg" alt="The layer. A branch of its own, a 3x3 convolution that starts at
# zero, predicts from the same input 18 offsets and 9 masks at each place. The deformable convolution reads the
# input at the moved taps, weighs each by its mask, and multiplies with its weights.">
#
# The operator takes offsets and masks from outside. The **layer** computes them itself, with an ordinary 3x3
# convolution of the same input that gives 27 maps: 18 for (dy, dx) of nine taps, 9 for the masks. An offset may be
# any number. A mask passes a sigmoid, which brings it between 0 and 1. The branch starts at **zero**: all offsets 0,
# all masks sigmoid(0) = 0.5, so that a new layer is an ordinary convolution, halved.
#
# `OffsetMaskConv` and `DeformableConv2d`, and their parameters `weight`, `bias`, `offset_mask.weight` and
# `offset_mask.bias`, are called as in the library, so that trained weights fit. The branch is short:


# %%
class OffsetMaskConv(nn.Conv2d):
    """Decides where to look: (B, C, H, W) -> offsets (B, 18, h, w), masks (B, 9, h, w)."""

    def __init__(self, channels, stride=1):
        super().__init__(channels, 27, 3, stride, padding=1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x):
        maps = super().forward(x)
        return maps[:, :18], maps[:, 18:].sigmoid()


offset, mask = OffsetMaskConv(64)(torch.randn(2, 64, 20, 30))
print("offsets", tuple(offset.shape), "masks", tuple(mask.shape), "all", mask.unique().item())

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 20 minutes.
#
# <details><summary>Where to begin</summary>The layer is an nn.Conv2d with a kernel of 3 and padding of 1: so it has
# weight, bias, stride, padding and dilation already. Add self.offset_mask = OffsetMaskConv(...). Mind the stride:
# offsets are needed where outputs stand.</details>
# <details><summary>In forward</summary>offset, mask = self.offset_mask(x), then DeformConv2d.apply(x, offset,
# self.weight, mask, self.stride, self.padding, self.dilation).</details>
# <details><summary>Only cases with a bias fail</summary>out + self.bias[:, None, None], where self.bias is not
# None.</details>


# %% exercise="layer"
class DeformableConv2d(nn.Conv2d):
    """A 3x3 convolution that decides where its taps look."""

    def __init__(self, in_channels, out_channels, stride=1, bias=True):
        # >>> an nn.Conv2d of 3x3 taps that keeps its size, and its branch
        super().__init__(in_channels, out_channels, 3, stride, padding=1, bias=bias)
        self.offset_mask = OffsetMaskConv(in_channels, stride)
        # <<<

    def forward(self, x):
        # >>> offsets and masks of x, the operator, and the bias if there is one
        offset, mask = self.offset_mask(x)
        geometry = self.stride, self.padding, self.dilation
        out = DeformConv2d.apply(x, offset, self.weight, mask, *geometry)
        return out if self.bias is None else out + self.bias[:, None, None]
        # <<<


# %% check="layer"
check_layer(OffsetMaskConv, DeformableConv2d)

# %%
layer = DeformableConv2d(64, 64)
for name, parameter in layer.named_parameters():
    print(f"{name:19} {tuple(parameter.shape)!s:15} {parameter.numel():6,} parameters")
print("output", tuple(layer(torch.randn(2, 64, 20, 30)).shape))

# %% [markdown]
# ## It learns: offsets travel
#
# Does the gradient really lead a tap to where it should look? Here is a problem that an ordinary 3x3 convolution
# cannot solve. The pictures are smooth textures. The target is the same texture, blurred, seen through a window that
# has moved three pixels to the right and one down, or as far the other way; a second channel says which, with +1 or
# -1. So the taps must go to two different places, and three pixels are more than a 3x3 kernel reaches.

# %%
SHIFT = (1, 3)  # down and to the right, in pixels
BLUR = torch.tensor([1.0, 2.0, 1.0]) / 4


def smooth(noise, sigma=2.0):
    """A Gaussian filter over the last two axes, then a variance of one."""
    taps = torch.exp(-(torch.arange(-6, 7) ** 2) / (2 * sigma**2))
    taps = taps / taps.square().sum().sqrt()
    return F.conv2d(F.conv2d(noise, taps.view(1, 1, -1, 1)), taps.view(1, 1, 1, -1))


def pictures(directions, generator, size=24):
    """(B, 2, size, size): texture and direction; and the target (B, 1, size, size)."""
    texture = smooth(torch.randn(len(directions), 1, size + 12, size + 12, generator=generator))
    down, right = SHIFT
    shifts = [(-down * d, -right * d) for d in directions]
    both = zip(texture, shifts, strict=True)
    moved = torch.stack([t.roll(s, (1, 2)) * (s != (0, 0)) for t, s in both])
    target = F.conv2d(moved, (BLUR[:, None] * BLUR).view(1, 1, 3, 3), padding=1)
    channel = torch.tensor(directions, dtype=torch.float32).view(-1, 1, 1, 1).expand_as(texture)
    return torch.cat([texture, channel], 1), target


# %%
x, target = pictures((1, -1), torch.Generator().manual_seed(0))
print("input", tuple(x.shape), "target", tuple(target.shape))

# %% [markdown]
# Target pixel $p$ is the texture at $p + (1, 3)$, so that is where the offsets should end: dy at +1 and dx at +3, and
# at the opposite for direction -1. The training loop is the ordinary one. Its optimiser has two groups: what *decides
# where to look* may have a rate of its own. The border of five pixels, where taps look outside, does not count.

# %%
INNER = (..., slice(5, -5), slice(5, -5))


def train(layer, directions=(1, 1, -1, -1), steps=150, lr=0.02, offset_lr=1.0, watch=None, seed=0):
    """Losses of all steps. offset_lr: factor on the rate of what predicts offsets and masks."""
    generator = torch.Generator().manual_seed(seed)
    named = dict(layer.named_parameters())
    looking = [p for name, p in named.items() if name.startswith("offset_mask")]
    others = [p for name, p in named.items() if not name.startswith("offset_mask")]
    groups = [{"params": others, "lr": lr}, {"params": looking, "lr": lr * offset_lr}]
    optimiser = torch.optim.Adam([group for group in groups if group["params"]])
    losses = []
    for step in range(8 if FAST else steps):
        x, target = pictures(directions, generator)
        loss = F.mse_loss(layer(x)[INNER], target[INNER])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if watch:
            watch(step, layer.offset_mask(x)[0], torch.tensor(directions))
    return losses


# %% [markdown]
# First v1, without masks: the same layer with all masks at one. Its nine weights start equal. The figure is drawn
# anew while it trains: thin lines are single taps, thick ones their mean, dashes the truth.


# %%
class FirstVersion(DeformableConv2d):
    """v1: offsets only."""

    def forward(self, x):
        offset, mask = self.offset_mask(x)
        ones = torch.ones_like(mask)
        return DeformConv2d.apply(x, offset, self.weight, ones, (1, 1), (1, 1), (1, 1))


def beginner(kind=FirstVersion):
    """A layer for these pictures whose nine weights for the texture start at 1/9."""
    torch.manual_seed(0)
    layer = kind(2, 1, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([1 / 9, 0.0]).view(1, 2, 1, 1).expand(1, 2, 3, 3))
    return layer


first = beginner()
travel = Travel(SHIFT, every=25)
curves = {"v1": train(first, watch=travel)}

# %%
torch.manual_seed(0)
curves["ordinary"] = train(nn.Conv2d(2, 1, 3, padding=1, bias=False))
for name, losses in curves.items():
    print(f"{name:9} first loss {losses[0]:.3f}, mean of the last ten {np.mean(losses[-10:]):.5f}")
print("offsets (dy, dx):", [[round(v, 2) for v in row] for row in travel.last.tolist()])

# %% [markdown]
# The taps left the square together and stopped around the place that the target shows, for each direction its own.
# No one told them: the loss only said how wrong the output was, and each slope said which way is downhill. The
# ordinary convolution cannot do better than a blurred guess. (Its guess is better than nothing, because a smooth
# texture tells a little about what lies three pixels on.)
#
# ## Version 1 against version 2
#
# What are masks for? Change the problem: in half of the pictures direction 0 means that there is nothing to be read,
# and the target is zero. A layer without masks must still read nine samples there. It can only send its taps to
# places whose values cancel.

# %%
appear = (1, 1, 0, 0)
masked = beginner(DeformableConv2d)
versions = {
    "v1, offsets only": train(beginner(), appear),
    "v2, with masks": train(masked, appear),
}
x, _ = pictures(appear, torch.Generator().manual_seed(1))
weights = masked.weight[0, 0].detach().flatten()  # of the texture, tap 0 to 8
masks = masked.offset_mask(x)[1].detach()[INNER].mean((2, 3))  # (4 pictures, 9 taps)
print("weights            ", *(f"{w:+.2f}" for w in weights))
for name, mean in {"something": masks[:2].mean(0), "nothing": masks[2:].mean(0)}.items():
    total = (weights * mean).sum()
    print(f"masks, {name:9}   ", *(f"{m:5.2f}" for m in mean), f"  sum of w x m {total:+.2f}")

# %% tags=["hide"]
figure = losses_figure(versions)
ends = ", ".join(f"{name} {np.mean(losses[-10:]):.5f}" for name, losses in versions.items())
print("mean loss of the last ten steps:", ends)
Picture(figure, alt=f"Loss of both versions against steps. Mean of the last ten: {ends}.")

# %% [markdown]
# The masks did it, though not by turning nine taps off where there is nothing. Training has given some taps positive
# weights and others negative ones. Where there is something to read, the masks shut the negative taps out and open
# the others; where there is nothing, all stay half open, close together, and cancel. So a mask lets one kernel be
# another kernel at every place. Version 1 can only move its taps, and its loss stays hundreds of times larger.
#
# ## Why it starts at zero
#
# In a detector the layer usually takes the place of a convolution that is trained already, in a backbone or a head.
# What does that convolution lose when it becomes deformable, before any training? Take one, copy its weights, and
# start the branch at zero or as PyTorch starts any convolution.

# %%
torch.manual_seed(1)
ordinary = nn.Conv2d(16, 16, 3, padding=1)
x = smooth(torch.randn(4 * 16, 1, 44, 44)).view(4, 16, 32, 32)
starts = {}
for start in ("zero", "random"):
    layer = DeformableConv2d(16, 16)
    layer.load_state_dict(ordinary.state_dict(), strict=False)  # all but the branch
    if start == "random":
        nn.Conv2d.reset_parameters(layer.offset_mask)
    with torch.no_grad():
        half = (ordinary(x) + ordinary.bias[:, None, None]) / 2  # masks do not halve the bias
        starts[start] = float((layer(x) - half).norm() / half.norm())
        length = layer.offset_mask(x)[0].abs().mean()
    print(f"{start:6}: mean offset {length:.2f} px, output off by {starts[start]:.1%}")

# %% [markdown]
# With zeros the layer *is* the old convolution, halved by its masks, and training can begin to move taps where that
# helps. At random it reads beside what its weights have learned to expect. Both papers start at zero. The
# [released code of Dynamic Head](https://github.com/microsoft/DynamicHead) does not: its initialisation misses the
# branch, which keeps PyTorch's random start, while [MMDetection](https://github.com/open-mmlab/mmdetection)'s version
# sets it to zero. Trained from scratch together with everything else, the difference may wash out. On the problem
# above, both starts arrive:

# %%
for start in ("zero", "random"):
    layer = beginner()
    if start == "random":
        nn.Conv2d.reset_parameters(layer.offset_mask)
    losses = train(layer, steps=100)
    print(f"{start:6} start: mean loss of steps 90 to 100: {np.mean(losses[-10:]):.5f}")

# %% [markdown]
# ## Why offsets learn at a lower rate
#
# The recipes of [DCNv2](https://arxiv.org/abs/1811.11168) and of
# [Deformable DETR](https://github.com/fundamentalvision/Deformable-DETR) give whatever predicts offsets a tenth of
# the rate. Above we did not need that: the input had two channels. Now think of a head with 256. Each offset is a sum
# over $9 \cdot 256$ products. Adam moves every weight by about its rate, whatever the gradient, so the first step can
# move an offset by up to rate × 9 × 256 × the mean size of a feature. And a slope holds for a pixel, no further. How
# far does one step reach?


# %%
def widened(channels, offset_lr, steps):
    """The same problem, channels mixed at random. Losses, and the mean offset after one step."""
    torch.manual_seed(0)
    mixture = torch.randn(channels, 2) / 2**0.5
    layer = FirstVersion(channels, 1, bias=False)
    layer.weight.data[:] = torch.linalg.pinv(mixture)[0].view(1, channels, 1, 1) / 9
    branch = layer.offset_mask
    optimiser = torch.optim.Adam(branch.parameters(), lr=0.02 * offset_lr)
    optimiser.add_param_group({"params": [layer.weight], "lr": 0.02 / channels})
    generator, losses, reaches = torch.Generator().manual_seed(0), [], []
    for _ in range(steps):
        x, target = pictures((1, -1), generator)
        mixed = torch.einsum("cd,ndhw->nchw", mixture, x)
        loss = F.mse_loss(layer(mixed)[INNER], target[INNER])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        reaches.append(branch(mixed)[0].abs().mean().item())
    return losses, reaches[0]


for channels in (2, 16, 64, 256):
    reach = widened(channels, offset_lr=1.0, steps=1)[1]
    print(f"{channels:3} channels: the first step moves the taps by {reach:5.2f} pixels")

# %%
rates = {}
for factor in (1.0, 0.1, 0.01):
    rates[f"offset rate x {factor}"], _ = widened(16, factor, steps=8 if FAST else 80)

# %% tags=["hide"]
figure = losses_figure(rates)
ends = ", ".join(f"{name} {np.mean(losses[-8:]):.4f}" for name, losses in rates.items())
print("mean loss of the last eight steps:", ends)
Picture(figure, alt=f"Loss for three rates of the offsets. Mean of the last eight: {ends}.")

# %% [markdown]
# A step of several pixels is a jump: the slope that suggested it says nothing about the place where the tap lands.
# With 16 channels a tenth of the rate ends at a loss seven times lower than the full rate, and a hundredth is too
# slow to arrive in time. The factor is a hyper-parameter, and its right value depends on the width of the layer, on
# the optimiser and on how smooth the features are. This library's recipes for DETR use a tenth; those for Dynamic
# Head on COCO follow the released code, which uses plain SGD and one rate for all.
#
# ## The proof: a trained detector runs on it
#
# The quickstart detector of [chapter 01](01_feature_pyramid.ipynb) has learned its offsets on drawn shapes. Its Dynamic
# Head block steers three deformable convolutions a level with one `OffsetMaskConv`. Below, the detector is built anew:
# your branch in place of the library's, filled strictly with its trained weights, and your autograd function in place
# of the library's operator.


# %%
def traced_deform_conv2d(module, x, offset, weight, bias, *, stride, padding, dilation=1, mask):
    """The operator under the name by which the library's modules call it."""
    geometry = ((n, n) for n in (stride, padding, dilation))
    return DeformConv2d.apply(x, offset, weight, mask, *geometry) + bias[:, None, None]


# %% tags=["hide"]
check_same_ap(
    "quickstart",
    images=4 if FAST else 40,
    OffsetMaskConv=OffsetMaskConv,
    traced_deform_conv2d=traced_deform_conv2d,
)

# %% [markdown]
# The same AP, on a kernel that you can read in one screen.
#
# ## Look: offsets on a photograph
#
# The photograph that this book follows, a motorcycle in a workshop, was taken for research on
# [stereo vision](https://vision.middlebury.edu/stereo/data/2014/). So there are two of it, from two cameras side by
# side, and somebody measured how far every pixel lies apart in the two. That is a map of offsets: near things move
# much between the cameras, far things little. A kernel that only has its centre tap, reading the right picture at
# these offsets, must give the left one.

# %%
import skimage.data

left, right, disparity = skimage.data.stereo_motorcycle()
left, right = (torch.from_numpy(p / 255).permute(2, 0, 1)[None] for p in (left, right))
disparity = torch.from_numpy(disparity)
known = disparity.isfinite()
offset = torch.zeros(1, 18, *disparity.shape, dtype=torch.float64)
offset[0, 2 * 4 + 1] = -disparity.nan_to_num(0, 0, 0)  # dx of tap 4, the centre
centre = torch.zeros(3, 1, 3, 3, dtype=torch.float64)  # three groups: each colour by itself
centre[:, :, 1, 1] = 1
mask = torch.ones_like(offset[:, :9])
rebuilt = DeformConv2d.apply(right, offset, centre, mask, (1, 1), (1, 1), (1, 1))
for name, view in {"as it is": right, "read at the offsets": rebuilt}.items():
    error = (view - left)[..., known].abs().mean()
    print(f"right picture {name:20}: mean difference from the left one {255 * error:.1f} of 255")

# %% tags=["hide"]
shown = (-disparity).masked_fill(~known, math.nan)
figure = rebuilt_view_figure(right[0], left[0], rebuilt[0], shown)
Picture(
    figure,
    alt="A motorcycle in a workshop from the right and from the left camera, the left view read "
    "out of the right photograph at measured offsets, and these offsets: up to 60 pixels.",
)

# %% [markdown]
# Mind the sign. The output stands where the left picture has its pixel, and reads the right picture *there plus the
# offset*. Offsets say where an output reads from, not where an input goes to. Where the motorcycle hides the wall
# from one camera, the same pixel is read twice, and a ghost of its edge remains.
#
# Nobody measures offsets for a detector: it learns them from boxes alone. Below are the taps of the first Dynamic
# Head block of *everyday*, the detector of photographs that this project ships. White squares are the regular grid
# around a cell of P4, orange discs are where the taps read. A disc's area is its mask.

# %% tags=["hide"]
from dyhead_lab.data.photographs import photograph

workshop = photograph("workshop")
detector = load_trained("everyday").model
with torch.no_grad(), trace(detector) as seen:
    detector([workshop])
path, _ = next(seen.find("offsets"))
LEVEL = 1  # levels are traced fine to coarse: P3, P4, ...
offset, mask = seen[path, "offsets"][LEVEL][0], seen[path, "masks"][LEVEL][0]
stride = workshop.shape[2] / offset.shape[2]
print("offsets", tuple(offset.shape), "masks", tuple(mask.shape), f"a cell is {stride:.0f} pixels")

# %%
places = {"front wheel": (375, 620), "tank": (185, 400), "wall": (60, 120)}  # (y, x) in pixels
cells = [(int(y / stride), int(x / stride)) for y, x in places.values()]
figure = taps_figure(workshop, offset, mask, stride, cells, names=list(places))
Picture(figure, alt=f"Regular grid and learned sampling points: {', '.join(places)}.")

# %%
length = offset.unflatten(0, (9, 2)).norm(dim=1)
print(f"offsets are {length.mean():.2f} cells long on average, the longest {length.max():.1f}")
total = mask.sum(0)
print(f"sum of nine masks: mean {total.mean():.2f}, from {total.min():.2f} to {total.max():.2f}")

# %% [markdown]
# The masks are nine separate sigmoids, and their sum is free, as you see. That tells a deformable *convolution* from
# deformable *attention*, for which it is often taken: there the weights of the points pass a softmax, so they sum to
# 1, and one matrix serves all points of a head, where here every tap has a matrix $w_k$ of its own.
# [Chapter 10](10_multi_scale_deformable_attention.ipynb) builds it.
#
# ## Break it
#
# Here is a `deform_conv2d` with one planted bug. Before you ask the check, feed it inputs for which you know the
# answer: a single bright pixel, offsets of exactly one pixel, a mask of zeros.

# %%
suspect = planted_bug(8)

dot = np.zeros((1, 1, 5, 5))
dot[0, 0, 2, 2] = 1
centre_only = np.zeros((1, 1, 3, 3))
centre_only[0, 0, 1, 1] = 1
one_down = np.zeros((1, 18, 5, 5))
one_down[:, 8] = 1  # dy of tap 4, the centre
suspect(dot, one_down, centre_only, np.ones((1, 9, 5, 5)), (1, 1), (1, 1), (1, 1))[0, 0]

# %% [markdown]
# Every output pixel reads one row further down, so the bright pixel should move up, to row 1. Does it? When you have
# a guess, run `check_deform_conv2d(suspect)`. `planted_bug(0)` to `planted_bug(16)` are all different.
#
# ## Recap
#
# - An ordinary convolution sums $w_k\,x(p_0 + p_k)$ over a fixed square. A deformable one reads at
#   $p_0 + p_k + \Delta p_k$ and weighs each sample by $\Delta m_k$; a convolution of the same input predicts both.
# - Bilinear interpolation makes the offset learnable: $x(p)$ has a slope. It sees four pixels, so offsets travel in
#   small steps over smooth features, and wide layers need a lower rate for them.
# - Offsets come as (dy, dx) per tap; pixels outside count as zero; pixel centres are integers.
# - Zero offsets and masks of one half make a new layer the old convolution, halved.
#
# Your predictions. An offset moves by a thousandth of a pixel, with interpolation and with rounding:

# %%
at, step = np.array([1.3, 2.7]), np.array([1e-3, 0])
differences = []
for place in (np.array, np.round):  # as it is; rounded
    differences.append(bilinear(small, *place(at + step)) - bilinear(small, *place(at)))
between, rounded = (difference / 1e-3 for difference in differences)
answer = "b" if rounded == 0 != between else "a"
measured = f"Slope with interpolation {between:+.3f}, with rounding {rounded:+.3f}."
why_not_round.revisit(answer, measured)

# %%
answer = "a" if starts["random"] < 1e-6 else "b" if starts["random"] < 0.1 else "c"
shares = ", ".join(f"{start} {share:.0%}" for start, share in starts.items())
where_to_start.revisit(answer, f"Off by: {shares}.")

# %% [markdown]
# **Check yourself.**
#
# <details><summary>How many numbers does the branch predict for one place with one offset group, and with
# four?</summary> 18 offsets and 9 masks, 27 together; with four groups 4 x 27 = 108.</details>
#
# <details><summary>A tap reads far outside the image. What gradient does its offset get?</summary>
# None: all four pixels count as zero, so the slope is zero. The tap is lost until the branch moves it for another
# reason.</details>
#
# <details><summary>Why do offsets travel well over smooth features and badly over noise?</summary>
# The slope compares four neighbouring pixels. In noise it changes its sign from pixel to pixel and says nothing about
# what lies three pixels on.</details>
#
# <details><summary>Could the masks do without the offsets?</summary>
# They could turn taps of the square off, but never look outside of it.</details>
#
# Of the detector whose parts you collect through this book, this chapter adds the branch that decides where to look.
# The pyramid of [chapter 01](01_feature_pyramid.ipynb) is torchvision's here, which yours equals; the attention of
# [chapter 02](02_scale_aware.ipynb) is yours if you kept it.

# %%
from torchvision.ops import FeaturePyramidNetwork

from dyhead_book.practice.earlier import earlier

ScaleAwareAttention = earlier("02_scale_aware", "ScaleAwareAttention")
so_far(
    "quickstart",
    images=4 if FAST else 60,
    FeaturePyramidNetwork=FeaturePyramidNetwork,
    ScaleAwareAttention=ScaleAwareAttention,
    OffsetMaskConv=OffsetMaskConv,
)
