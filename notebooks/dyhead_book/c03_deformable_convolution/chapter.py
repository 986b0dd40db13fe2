# %% [markdown]
# # Deformable convolution
#
# | | |
# | --- | --- |
# | Time | 60 to 90 minutes with the exercises, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | NumPy loops; what a 3x3 convolution does |
# | You will build | bilinear sampling, deformable convolution in plain loops, and the same in Numba |
#
# A convolution reads its input on a fixed grid. A deformable convolution moves every point of that grid by
# an offset that the network has computed from the image. Dynamic Head uses it to look where the object is.

# %%
import math
import time

import numpy as np
import torch
from numba import njit

from dyhead_book.c03_deformable_convolution.bilinear_checks import check_bilinear
from dyhead_book.c03_deformable_convolution.conv_backward_checks import bilinear_slope, check_conv_backward, check_slope
from dyhead_book.practice.deform_conv2d_check import check_deform_conv2d, planted_bug
from dyhead_book.practice.exercises import Exercise
from dyhead_book.practice.predictions import Question
from dyhead_lab.ops.numba_reference import loops
from dyhead_lab.views.figures import Picture

rng = np.random.default_rng(0)

# %% [markdown]
# ## Predict
#
# The offsets are real numbers, not integers. Why not round them? The code would be simpler.

# %%
why_not_round = Question(
    "03 rounded offsets",
    "What is lost first if every offset is rounded to whole pixels?",
    a="sharpness: the samples become coarse",
    b="learning: the offsets get no gradient",
    c="speed: rounding costs more than interpolation",
)
why_not_round.guess(None)  # write "a", "b" or "c" here

# %% [markdown]
# ## The formula
#
# A 3x3 kernel has $K = 9$ taps. Tap $k$ of output pixel $p_0$ reads the input $x$ at $p_0 + p_k$, where $p_k$
# runs over the grid $(-1, -1), (-1, 0), \dots, (1, 1)$. The deformable form (Dai et al., 2017; with masks Zhu
# et al., 2019) adds an offset $\Delta p_k$ and a mask $\Delta m_k$:
#
# $$y(p_0) = \sum_{k=1}^{K} w_k \; x(p_0 + p_k + \Delta p_k) \; \Delta m_k$$
#
# The position falls between pixels, so $x(p)$ is a weighted sum over the pixels $q$ around it:
#
# $$x(p) = \sum_q G(q, p)\, x(q), \qquad G(q, p) = \max(0, 1 - |q_y - p_y|)\,\max(0, 1 - |q_x - p_x|)$$
#
# $G$ is zero unless $q$ is one of four pixels. A pixel outside the image counts as zero.
#
# $x(p)$ changes a little when $p$ moves a little, and $G$ says how fast. Keep your guess in mind: the end of the
# chapter measures it.

# %%
from dyhead_book.c03_deformable_convolution.sampling_figures import four_pixels_figure

small = rng.uniform(size=(4, 6))
figure = four_pixels_figure(small, p_y=1.3, p_x=2.7)
Picture(figure, alt="A position between four pixels, and the areas that are their weights.")

# %% [markdown]
# Each weight is an area: the rectangle between the cross and the *opposite* pixel. The nearest pixel gets the
# largest one. The four areas sum to 1.

# %% [markdown]
# ## Build: bilinear sampling by hand
#
# <img src="diagrams/bilinear_sample.svg" alt="A sample between pixels: it lies 0.3 below and 0.6 right of the
# first of four pixels. Each of the four weighs the area of the rectangle opposite to it: 0.28, 0.42, 0.12 and
# 0.18.">
#
# Position $(1.3, 2.7)$ lies between rows 1 and 2 and between columns 2 and 3.

# %%
upper = 0.7 * 0.3 * small[1, 2] + 0.7 * 0.7 * small[1, 3]
lower = 0.3 * 0.3 * small[2, 2] + 0.3 * 0.7 * small[2, 3]
by_hand = upper + lower
print(f"{by_hand:.4f}")


# %% [markdown]
# The same for any position. Rows come first: `image_HW[row, column]`, and $y$ goes with the row.


# %%
def bilinear(image_HW, p_y, p_x):
    """x(p) = sum over q of G(q, p) x(q)."""
    H, W = image_HW.shape
    top, left = math.floor(p_y), math.floor(p_x)
    total = 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < H and 0 <= column < W:
                G = (1 - abs(row - p_y)) * (1 - abs(column - p_x))
                total += G * image_HW[row, column]
    return total


print(f"{bilinear(small, 1.3, 2.7):.4f}")
check_bilinear(bilinear)


# %% [markdown]
# The check takes *your* function. It tries positions inside, on the border, outside, and exactly on a pixel.
# If you are wrong in a common way, it says in which. Here is one:


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
# Now it is your turn. The letters are those of the formula and of the rest of the book.
#
# | | shape | |
# | --- | --- | --- |
# | `input` | (B, C, H, W) | |
# | `offset` | (B, 2·G·K, Ho, Wo) | dy of tap 0, dx of tap 0, dy of tap 1, … |
# | `weight` | (Co, C / groups, 3, 3) | |
# | `mask` | (B, G·K, Ho, Wo) | |
#
# The channels are split into `G` offset groups. Each group has offsets of its own. `groups` splits the
# channels of the convolution, as in an ordinary grouped convolution. The first cases of the check have one
# group of each kind, so begin with that.

# %%
Exercise(
    "Write deform_conv2d in plain loops",
    difficulty=3,
    minutes=25,
    hints={
        "I do not know where to begin": "Six loops: b, o, i, j, k, c. Inside, the sum into out[b, o, i, j].",
        "What is p_0 + p_k?": "Vertically i * stride[0] - padding[0] + k // 3 * dilation[0]. "
        "Horizontally the same with j and k % 3.",
        "Only cases with groups fail": "c runs over C // groups channels, "
        "which start at o // (Co // groups) * C_group. Its offset group is c // (C // G).",
    },
    solution=loops.deform_conv2d,
)


# %%
def deform_conv2d(input, offset, weight, mask, stride, padding, dilation):
    """Returns an array (B, Co, Ho, Wo). Ho and Wo are those of the offsets."""
    raise NotImplementedError  # your loops go here


check_deform_conv2d(deform_conv2d)

# %% [markdown]
# The rest of the chapter runs with your function if it is right, and with the library's if it is not yet.

# %%
yours = bool(check_deform_conv2d(deform_conv2d))
plain = deform_conv2d if yours else loops.deform_conv2d.py_func
print("from here on:", "your loops" if yours else "the library's loops")
check_deform_conv2d(plain)

# %% [markdown]
# ## Fast: Numba
#
# Numba compiles loops like these to machine code. It wants plain loops, plain numbers and arrays, which is
# what you have. Your function may call `bilinear`, and compiled code can only call compiled code. So both are compiled.
#
# The same check tests the compiled function. It is also the check that the library's own backends pass.

# %%
if yours:
    bilinear = njit(getattr(bilinear, "py_func", bilinear))  # py_func: the plain function, if the cell runs again
compiled = njit(deform_conv2d) if yours else loops.deform_conv2d
check_deform_conv2d(compiled)


# %%
def seconds(function, *arguments, repeats=3):
    """Best of a few runs."""
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(*arguments)
        times.append(time.perf_counter() - start)
    return min(times)


x = rng.normal(size=(1, 4, 12, 12))
dp = rng.normal(size=(1, 18, 12, 12))
w, dm = rng.normal(size=(4, 4, 3, 3)), rng.uniform(size=(1, 9, 12, 12))
arguments = (x, dp, w, dm, (1, 1), (1, 1), (1, 1))
ratio = seconds(plain, *arguments, repeats=1) / seconds(compiled, *arguments)
print("The compiled loops are faster by a factor of", "more than 20" if ratio > 20 else f"{ratio:.0f}")

# %% [markdown]
# The library goes further. Its fast path first gathers all samples into one large matrix. The product with
# the weights is then one matrix product, which CPUs do best. `dyhead-lab bench ops` measures it against
# torchvision on your machine. The loops stay in the library as the reference that the fast path is tested
# against.
#
# From Python you call all of them by one function:

# %%
from torchvision.ops import deform_conv2d as torchvision_deform_conv2d

from dyhead_lab.ops import deform_conv2d as library_deform_conv2d

tensors = [torch.from_numpy(array) for array in (x, dp, w)]
ours = library_deform_conv2d(*tensors, padding=1, mask=torch.from_numpy(dm), backend="numba")
theirs = torchvision_deform_conv2d(*tensors, padding=1, mask=torch.from_numpy(dm))
difference = float((ours - theirs).abs().max())
print("largest difference from torchvision:", "below 1e-12" if difference < 1e-12 else difference)

# %% [markdown]
# ## Look: where does a trained detector read?
#
# <img src="diagrams/deformable_layer.svg" alt="The layer. A branch of its own, a 3x3 convolution that starts at
# zero, predicts from the same input 18 offsets and 9 masks at each place. The deformable convolution reads the
# input at the moved taps, weighs each by its mask, and multiplies with its weights.">
#
# The quickstart detector has learned its offsets. A trace hands them over. Below, white squares are the
# regular grid around a cell of level P4 (one cell is 16 pixels). Orange discs are where the taps read after
# training. A disc's area is its mask.

# %%
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.trace import trace
from dyhead_lab.zoo import load_trained

model = load_trained("quickstart").model
image = torch.from_numpy(draw_image(2026, 1)[0]).permute(2, 0, 1) / 255
with torch.no_grad(), trace(model) as seen:
    model([image])

P4 = 1  # levels are traced fine to coarse: P3, P4, P5, P6
path, _ = next(seen.find("offsets"))
offset, mask = seen[path, "offsets"][P4][0], seen[path, "masks"][P4][0]
print("offsets", tuple(offset.shape), "masks", tuple(mask.shape))

# %%
from dyhead_book.c03_deformable_convolution.sampling_figures import taps_figure

figure = taps_figure(image, offset, mask, stride=16, cells=[(2, 2), (5, 5), (7, 3)])
Picture(figure, alt="Regular grid and learned sampling points of three cells of level P4.")

# %% [markdown]
# Choose other cells: rows and columns go from 0 to 9. Compare a cell on an object with one on empty ground.

# %% [markdown]
# ## Break it
#
# Here is a `deform_conv2d` with one planted bug. Before you ask the check, find out yourself. Feed it inputs
# for which you know the answer: a single bright pixel, offsets of exactly one pixel, a mask of zeros.

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
# Every output pixel reads one row further down, so the bright pixel should move up, to row 1. Does it?
# When you have a guess, run `check_deform_conv2d(suspect)`. `planted_bug(0)` to `planted_bug(12)` are all
# different.

# %% [markdown]
# ## Exercises

# %%
Exercise(
    "Derive the slope of x(p) along p_y from G, and write it as a function of the four pixels",
    difficulty=3,
    minutes=20,
    hints={
        "Where to begin": "x(p) is (1 - part_y) * above + part_y * below. Only part_y depends on p_y.",
        "The sign is wrong": "Pixels above have weight 1 - part_y: their slope is negative.",
        "The check at an integer position fails": "There is a kink. The field follows the floor side.",
    },
    solution=bilinear_slope,
)


# %%
def my_slope(image_HW, p_y, p_x):
    """dx(p)/dp_y, a number. Pixels outside count as zero."""
    raise NotImplementedError


check_slope(my_slope)

# %%
Exercise(
    "Write the backward pass to input, offset, weight and mask in loops",
    difficulty=4,
    minutes=60,
    hints={
        "Where to begin": "The six loops again. y = w x m: each of the three gets grad times the other two.",
        "Where does the gradient of a sample go?": "To the four pixels that it read, by the same weights G.",
        "grad_offset is too large": "It sums over the channels of its own offset group only.",
    },
    solution=loops.deform_conv2d_backward,
)


# %%
def my_backward(grad, input, offset, weight, mask, stride, padding, dilation):
    """Returns the gradients of input, offset, weight and mask, with their shapes. grad: (B, Co, Ho, Wo)."""
    raise NotImplementedError


check_conv_backward(my_backward)

# %% [markdown]
# ## Recap
#
# - A deformable convolution reads at $p_0 + p_k + \Delta p_k$ and weighs each sample by $\Delta m_k$.
# - Bilinear interpolation makes the offset learnable: $x(p)$ has a slope.
# - Offsets come as (dy, dx) per tap; pixels outside count as zero; pixel centres are integers.
#
# Your prediction. An offset moves by a thousandth of a pixel, with interpolation and with rounding:

# %%
at, step = np.array([1.3, 2.7]), np.array([1e-3, 0])
smooth, rounded = ((bilinear(small, *f(at + step)) - bilinear(small, *f(at))) / 1e-3 for f in (np.array, np.round))
answer = "b" if rounded == 0 != smooth else "a"
why_not_round.revisit(answer, f"Slope of x(p) with interpolation {smooth:+.3f}, with rounding {rounded:+.3f}.")

# %% [markdown]
# **Check yourself.** What does the layer compute when all offsets are zero and all masks are one? How many
# numbers per output pixel does the network predict for one offset group? Why does a tap that reads far
# outside the image get no gradient to its offset?
#
# The next chapter takes the same letters to the GPU.
