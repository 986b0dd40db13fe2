# %% [markdown]
# # Spatial-aware attention
#
# | | |
# | --- | --- |
# | Time | 90 minutes with the exercises, 1 to 2 minutes to run on 2 CPU cores (a GPU changes little) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | [chapter 03](03_deformable_convolution.ipynb): deformable convolution; what a pyramid level is |
# | You will build | the spatial attention of Dynamic Head as a module, in both forms, and offsets that fit |
#
# A detector asks the same question at every place of every level of its pyramid: is there an object here, and where
# are its edges? A 3x3 convolution answers with what it sees in a fixed window of nine cells. The motorcycle in our
# photograph is nearly fifty cells wide on one level and six on another, and much of its box shows floor and shelf. It
# would be better to let every place choose the nine points that it reads. That is the deformable convolution of
# [chapter 03](03_deformable_convolution.ipynb).
#
# [Dynamic Head](https://arxiv.org/abs/2106.08322) takes one step more. The edge of a wheel is sharp on the fine level
# and its meaning is clear on the coarse one, so a place should read its nine points on *several levels* at once. One
# map of offsets serves all of them: having found out where to look, look there on each. This chapter builds that
# module, loads trained weights into it, and finds a flaw in the geometry of the published code.

# %% tags=["hide"]
import os
from math import log

import numpy as np
import torch
from torch import nn
from torch.nn.functional import interpolate

from dyhead_book.c05_spatial_aware.module_checks import (
    check_branch,
    check_offset_mask,
    check_spatial,
)
from dyhead_book.c05_spatial_aware.spatial_checks import (
    NEIGHBOURS_MISTAKES,
    check_flat_source,
    check_neighbours,
    check_paper_spatial,
)
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.rebuilt import check_same_ap
from dyhead_book.practice.so_far import so_far
from dyhead_lab.views.figures import Picture

# %% [markdown]
# ## Predict

# %% tags=["hide"]
wrong_offsets = Question(
    "05 wrong offsets",
    "In a Dynamic Head the offsets of a level also steer the convolution of its coarser "
    "neighbour. The shipped quickstart was trained with offsets that fit there. We now feed this "
    "branch with wrong ones: numbers of other channels and places, as the published kernel reads "
    "them. How much AP is lost?",
    a="nearly all of it",
    b="some: between 0.01 and 0.1",
    c="nothing worth mentioning: less than 0.01",
)
wrong_offsets.ask()

# %% tags=["hide"]
field_grows = Question(
    "05 field grows",
    "On level P3 a cell in the middle of an object reads 18 points, nine on P3 and nine on P4. "
    "The objects of this level have 8 to 64 pixels, and the grid is the same for all. Do the "
    "points spread further on larger objects?",
    a="yes, clearly: a correlation above 0.5",
    b="a little: between 0.2 and 0.5",
    c="no",
)
field_grows.ask()

# %% [markdown]
# ## The formula
#
# An ordinary 3x3 convolution reads its input $x$ around each place $p$ on a fixed grid of $K = 9$ taps $p_k$, from
# $(-1, -1)$ to $(1, 1)$:
#
# $$y(p) = \sum_{k=1}^{K} w_k \cdot x(p + p_k)$$
#
# The deformable convolution lets every place move each tap by an offset $\Delta p_k$ and weigh it by a mask $\Delta
# m_k$ between 0 and 1. Dynamic Head (its equation 4) sums this over the $L$ levels of the pyramid, which have been
# resized to one size before:
#
# $$\pi_S(F) \cdot F = \frac{1}{L} \sum_{l=1}^{L} \sum_{k=1}^{K} w_{l,k} \cdot F(l;\, p_k + \Delta p_k;\, c)
# \cdot \Delta m_k$$
#
# $F(l; p; c)$ is channel $c$ of level $l$ at place $p$. The paper does not write the place of the output. Read its
# $p_k$ as $p + p_k$ in the notation of the first equation: the tap's place around output $p$. Offsets and masks come
# from the median level and are shared by all levels; each level has weights $w_{l,k}$ of its own. The equation writes
# a number for $w_{l,k}$. The published code and this book take a matrix from $C$ to $C$ channels, as every convolution
# has.
#
# Posts about this paper often call $\pi_S$ "deformable attention". It is a deformable *convolution*: each tap and level
# has weights $w_{l,k}$ of its own. [Chapter 07](07_dynamic_head.ipynb) shows the difference in numbers.
#
# ## Build: the paper's sum
#
# Begin with the equation itself. All levels have one size already and stand in one tensor `F_BLCHW`, so level `l` is
# `F_BLCHW[:, l]`. The operator `deform_conv2d` is the library's; it equals the one that you built in chapter 03.

# %%
from dyhead_lab.ops import deform_conv2d

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 10 minutes.
#
# <details><summary>Hint: where to begin</summary>
#
# One level first: `deform_conv2d(F_BLCHW[:, l], offset, weight[l], padding=1, mask=mask)`.
#
# </details>
# <details><summary>Hint: all elements are too large by the same factor</summary>
#
# The formula begins with $1 / L$.
#
# </details>


# %% exercise="paper"
def paper_spatial(F_BLCHW, offset, mask, weight):
    """offset (B, 18, H, W), mask (B, 9, H, W), weight (L, Co, C, 3, 3). Returns (B, Co, H, W)."""
    # >>> the deformable convolution of each level with its own weight, and their mean
    L = len(weight)
    total = 0
    for l in range(L):
        total = total + deform_conv2d(F_BLCHW[:, l], offset, weight[l], padding=1, mask=mask)
    return total / L
    # <<<


# %% check="paper"
check_paper_spatial(paper_spatial)

# %% [markdown]
# A convolution sums over its input channels, and a sum over levels is the same kind of sum. So the levels can stand
# side by side as channels, and one call does it all:


# %%
def paper_spatial_at_once(F_BLCHW, offset, mask, weight):
    L, Co = weight.shape[:2]
    joined = weight.transpose(0, 1).reshape(Co, -1, 3, 3) / L  # (Co, L * C, 3, 3)
    return deform_conv2d(F_BLCHW.flatten(1, 2), offset, joined, padding=1, mask=mask)


check_paper_spatial(paper_spatial_at_once)

# %% [markdown]
# ## Build: where to look
#
# Offsets and masks are predicted by a layer, from the features of the level: a 3x3 convolution with 27 output channels.
# The first 18 are offsets, $dy$ and $dx$ of each tap in turn, and may be any number of cells. The last nine become
# masks through a sigmoid. It is the layer that chapter 03 built. As there it **starts at zero**: all offsets are zero,
# all masks a half, and training begins from an ordinary convolution at half strength. (The released code leaves it at
# PyTorch's random start.) It may also be given a learning rate of its own; the training loop finds it by
# `sampling_parameters`, which names its parameters.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 1 of 5, about 5 minutes.
#
# <details><summary>Hint: where to begin</summary>
#
# The class *is* a convolution: `y = super().forward(x)` gives 27 channels.
#
# </details>
# <details><summary>Hint: and then?</summary>
#
# `y[:, :18]` are the offsets, as they are; `y[:, 18:].sigmoid()` the masks.
#
# </details>


# %% exercise="where"
class OffsetMaskConv(nn.Conv2d):
    """Predicts where to look: 18 offsets and 9 masks for each place."""

    sampling_parameters = ("weight", "bias")

    def __init__(self, channels):
        super().__init__(channels, 27, kernel_size=3, padding=1)
        nn.init.zeros_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x):
        """(B, C, H, W) -> offsets (B, 18, H, W) in cells, masks (B, 9, H, W) between 0 and 1."""
        # >>> split the 27 channels; only the masks pass a sigmoid
        y = super().forward(x)
        return y[:, :18], y[:, 18:].sigmoid()
        # <<<


# %% check="where"
check_offset_mask(OffsetMaskConv)

# %% [markdown]
# ## Build: one branch
#
# The published code does not resize the pyramid to one size. It keeps every level as it is, and a level reads itself
# and its two neighbours, each through a convolution of its own, a *branch*:
#
# <img src="diagrams/released_block.svg" alt="One level of a released block. A 3x3 convolution on the level
# itself predicts 18 offsets and 9 masks, which steer three deformable convolutions: of the finer neighbour with
# stride 2, of the level itself, and of the coarser neighbour, whose result is enlarged. Each result is
# normalised, a gate between 0.5 and 1 weighs it, and their mean passes the task-aware activation.">
#
# Every branch is a deformable convolution with a bias, followed by
# [group normalisation](https://arxiv.org/abs/1803.08494): the channels are cut into 16 groups, and each group of each
# image gets mean 0 and variance 1 before a learned scale and shift. That matters here: the features of different
# levels may differ much in size. Normalised, they can be averaged, and the gates of
# [chapter 02](02_scale_aware.ipynb) compare like with like.
#
# A branch that is handed no offsets is an ordinary convolution. The *ablation* of [chapter 07](07_dynamic_head.ipynb),
# which trains the head without one of its parts to see what the part is worth, switches this attention off that way.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 10 minutes.
#
# <details><summary>Hint: where to begin</summary>
#
# The weights are those of `self.conv`: hand `conv.weight` and `conv.bias` to `deform_conv2d`, and its stride.
#
# </details>
# <details><summary>Hint: the case without offsets</summary>
#
# `self.norm(self.conv(x))`.
#
# </details>


# %% exercise="branch"
class DeformableConvNorm(nn.Module):
    """3x3 convolution with bias, then GroupNorm; deformable when it is given offsets."""

    def __init__(self, channels, stride=1):
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride, padding=1)
        self.norm = nn.GroupNorm(16, channels)

    def forward(self, x, offset=None, mask=None):
        """x (B, C, H, W); offset (B, 18, h, w) and mask (B, 9, h, w): the output's size."""
        # >>> deform_conv2d with the weight, bias and stride of self.conv, then the norm
        conv = self.conv
        if offset is None:
            return self.norm(conv(x))
        y = deform_conv2d(
            x, offset, conv.weight, conv.bias, stride=conv.stride, padding=1, mask=mask
        )
        return self.norm(y)
        # <<<


# %% check="branch"
check_branch(DeformableConvNorm)

# %% [markdown]
# ## Step by step on a photograph
#
# Now with real features. *everyday* is the detector of photographs that this project ships: an
# [ATSS](https://arxiv.org/abs/1912.02424) detector with two Dynamic Head blocks of 96 channels on five levels. A hook
# keeps the pyramid that it makes of the motorcycle workshop.

# %%
from dyhead_lab.data.photographs import photograph
from dyhead_lab.trace import trace
from dyhead_lab.zoo import load_trained

workshop = photograph("workshop")
everyday = load_trained("everyday")
detector = everyday.model
pyramids = []
hook = detector.backbone.fpn.register_forward_hook(lambda fpn, given, out: pyramids.append(out))
with torch.no_grad(), trace(detector) as seen:
    detector([workshop])
hook.remove()
P3, P4, P5, P6, P7 = pyramids[0].values()
for name, level in zip(("P3", "P4", "P5", "P6", "P7"), pyramids[0].values(), strict=True):
    print(name, tuple(level.shape))

# %% [markdown]
# We follow level P4. Its finer neighbour is P3, its coarser one P5. First the layer that says where to look, filled
# with what the detector's first block has learned:

# %%
trained = detector.get_submodule("backbone.neck.blocks.0.spatial")
where = OffsetMaskConv(96)
where.load_state_dict(trained.offset_mask.state_dict())
with torch.no_grad():
    offset, mask = where(P4)
print("P4", tuple(P4.shape), "-> offsets", tuple(offset.shape), "and masks", tuple(mask.shape))
print(f"masks between {float(mask.min()):.2f} and {float(mask.max()):.2f}")

# %% [markdown]
# The branch of the level itself, and the branch of the finer neighbour. A stride of 2 brings a map of 40 x 60 to 20 x
# 30, so the offsets of P4 have the size that this convolution asks for:


# %%
def branch(name, *arguments, stride=1):
    """One branch with its trained weights."""
    module = DeformableConvNorm(96, stride)
    module.load_state_dict(trained.get_submodule(name).state_dict())
    with torch.no_grad():
        return module(*arguments)


own = branch("own", P4, offset, mask)
finer = branch("finer", P3, offset, mask, stride=2)
print("own branch  ", tuple(P4.shape), "->", tuple(own.shape))
print("finer branch", tuple(P3.shape), "->", tuple(finer.shape))

# %% [markdown]
# Now the coarser neighbour:

# %%
try:
    branch("coarser", P5, offset, mask)
except ValueError as error:
    print(error)

# %% [markdown]
# P5 has 10 x 15 cells, and so has the output of its convolution. Offsets for 20 x 30 cells do not fit.
#
# ## What the published code does here
#
# torchvision refuses such a call as our library does. The CUDA kernel of the
# [published code](https://github.com/microsoft/DynamicHead) does not compare the sizes. It computes addresses for the
# small size and reads what is there: a *flat* reading. In memory the offsets lie one channel after the other, each of
# them row by row. Number 0 is channel 0, row 0, column 0. What does the flat reading take for the offset of a given
# channel, row and column?

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 15 minutes.
#
# <details><summary>Hint: where to begin</summary>
#
# Which number is it, counted with the small size? `(channel * h + row) * w + column`.
#
# </details>
# <details><summary>Hint: and then?</summary>
#
# Take that number apart with the large size, by `//` and `%`. The channel is `number // (H * W)`.
#
# </details>


# %% exercise="flat"
def flat_source(channel, row, column, h, w, H, W):
    """Which (channel, row, column) of the fine map (18, H, W) is read for one of (18, h, w)."""
    # >>> count with the small size, take apart with the large one
    number = (channel * h + row) * w + column
    return number // (H * W), number // W % H, number % W
    # <<<


# %% check="flat"
check_flat_source(flat_source)

# %%
for channel, meaning in ((8, "dy of the centre tap"), (9, "dx of the centre tap")):
    c, row, column = flat_source(channel, 5, 7, h=10, w=15, H=20, W=30)
    wrong = f"{'dx' if c % 2 else 'dy'} of tap {c // 2} at row {row}, column {column}"
    print(f"{meaning} at row 5, column 7 of 10 x 15 is read from {wrong} of 20 x 30")

# %% [markdown]
# Other taps, other places, sometimes $dy$ for $dx$; and three quarters of the numbers are never read by this branch. A
# network that was trained like this has learned with it all the same. The weights that the authors trained need
# exactly this mistake, so the library must be able to make it: `offset_fit="flat"`.
#
# ## What would be right?
#
# Decide first where a cell *is*. As in [chapter 01](01_feature_pyramid.ipynb), a cell of a level of stride $s$ is a
# square of $s \times s$ pixels, so cell $i$ has its centre at $(i + \tfrac12)\, s$ pixels. ([Chapter
# 03](03_deformable_convolution.ipynb) works on one map and counts in its cells, where cell $i$ lies at $i$. Here three
# maps have to agree, so we count in pixels of the image.) So the centre of a coarser cell lies in the middle of the
# two cells that it covers along each axis, and cell $i$ of the level lies between the finer cells $2i$ and $2i + 1$:
#
# <img src="diagrams/offset_on_three_grids.svg" alt="Three rows of cells, P3 of 8, P4 of 16 and P5 of 32 pixels.
# On P4 an offset of 1 leads from a cell to its right neighbour, 16 pixels on. The published code uses the same
# number on P3, where it leads 8 pixels on and starts a quarter of a P4 cell too far left; 2 times the offset
# plus 1/2 would reach the same place. On P5 the mean of the offsets of two cells is halved, and leads 16 pixels
# on.">
#
# An offset counts cells, and cells are not equally wide on the three maps. Hence two corrections.
#
# - **Coarser.** A cell takes the mean of the offsets of the four cells that it covers, *halved*, because one of its
#   steps is as long as two of theirs. Masks, which are shares and not lengths, take the mean alone.
# - **Finer.** An offset of $d$ cells of the level is $2d$ cells of the finer one. The convolution with stride 2 stands
#   on finer cell $2i$, half a finer cell before the centre of cell $i$. So the right offset is $2d + \tfrac12$.
#
# The published code does neither. The finer branch, whose sizes agree, silently reads half as far as the others: an
# offset of 1 on P4 means 16 pixels there and 8 pixels on P3.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 20 minutes.
#
# <details><summary>Hint: the coarser cells</summary>
#
# A mean of two by two cells is `avg_pool2d(x, 2)`, or `interpolate` with `align_corners=False`.
#
# </details>
# <details><summary>Hint: what is multiplied by what?</summary>
#
# Offsets count cells: twice as many narrow ones, half as many wide ones. Only the finer ones get the half cell.
#
# </details>


# %% exercise="neighbours"
def offsets_for_neighbours(offset, mask):
    """offset (B, 18, 2h, 2w), mask (B, 9, 2h, 2w) of a level whose sides are even.

    Returns offsets for the finer convolution (B, 18, 2h, 2w), and offsets (B, 18, h, w) and masks
    (B, 9, h, w) for the coarser one, that read where the level points.
    """
    # >>> finer: twice as many cells, and half a cell; coarser: means of 2 x 2, offsets halved
    h, w = mask.shape[-2] // 2, mask.shape[-1] // 2
    coarser = interpolate(offset, size=(h, w), mode="bilinear", align_corners=False) / 2
    mask = interpolate(mask, size=(h, w), mode="bilinear", align_corners=False)
    return 2 * offset + 0.5, coarser, mask
    # <<<


# %% check="neighbours"
check_neighbours(offsets_for_neighbours)

# %% [markdown]
# The library has six answers, named `offset_fit`. Sides may be odd there; otherwise they are what you just wrote.
#
# | `offset_fit` | coarser branch | finer branch |
# | --- | --- | --- |
# | `"aligned"` | means, halved: exact | $2d + \tfrac12$: exact |
# | `"centres"`, the default | means, halved: exact | as they are |
# | `"upsample"` | the coarser map is enlarged first, so that sizes agree: four times the work | as they are |
# | `"resize"` | resized corner cell on corner cell, halved: moves cells by up to half a cell | as they are |
# | `"crop"` | the top-left corner of the maps | as they are |
# | `"flat"` | the first numbers, whatever they are: the published code | as they are |
#
# How far off are they? Let every cell of a P4 of 10 x 10 cells point at one common place, and measure by how many
# pixels the neighbours' centre taps miss it. `"resize"` sounds right, too, and was the default of this library's first
# edition: it resizes the offsets, as one resizes maps, and halves them. Weights from that time need it, and files that
# say nothing load with it. All that is newer is trained with `"centres"`.

# %%
from dyhead_book.c05_spatial_aware.offset_fits import (
    coarser_miss,
    finer_miss,
    offset_fits_figure,
    pointing_offsets,
)

place = (4.0, 6.0)  # row and column on P4, whose cells have 16 pixels
offset_to_place = pointing_offsets((10, 10), place, share=1.0)
for fit in ("aligned", "centres", "resize", "crop", "flat"):
    miss = coarser_miss(offset_to_place, place, 16, fit)
    print(f"coarser, {fit:11} misses by {float(miss.mean()):6.2f} px, at most {miss.max():6.2f}")
for words, fit in (("as they are", "centres"), ("2 d + 1/2", "aligned")):
    miss = finer_miss(offset_to_place, place, 16, fit)
    print(f"finer,   {words:11} misses by {float(miss.mean()):6.2f} px, at most {miss.max():6.2f}")

# %% tags=["hide"]
from dyhead_lab.data.shapes import draw_image

picture, objects = draw_image(2026, 1)
image = torch.from_numpy(picture).permute(2, 0, 1) / 255
target = tuple((n + 0.5) * 16 for n in place)
figure = offset_fits_figure(image, pointing_offsets((10, 10), place), (5, 5), 16, target)
Picture(
    figure,
    alt="Arrows from coarser cells: with centres all point at the star, with resize most pass "
    "it by a little, with crop and flat they belong to other places.",
)

# %% [markdown]
# Arrows start at the centres of coarser cells and end where their centre taps read. (The level points only half of the
# way to the star here, and at most 24 pixels, so that the arrows can be told apart.) `resize` misses by 7.5 pixels on
# average, half a P4 cell: it lays corner cells on corner cells, whose centres do not lie at the same place. With `crop`
# the arrows belong to other places, and they are twice too long. With `flat` they belong to other places *and* other
# channels.
#
# ### What a miss costs
#
# That sounds as if `flat` must ruin a detector. `dyhead-lab experiment offset_fits` has trained the same head with each
# answer, for 900 steps on Shapes, with three seeds. Runs with one seed see the same pictures; square brackets hold the
# 95 % interval of the difference to `flat`.

# %%
from dyhead_lab.experiments.catalogue import recorded

fits = recorded("offset_fits")
for fit in fits.rows:
    ap, more = fits.spread(fit, "AP"), ""
    if fit != fits.baseline:
        low, high = (difference := fits.difference(fit, "AP")).interval()
        more = f"   minus flat: {difference.mean:+.3f} [{low:+.3f}, {high:+.3f}]"
    print(f"{fit:9} AP {ap.text()}{more}")

# %% [markdown]
# `aligned`, the one that is exact on both sides, has the highest mean. But all six lie within a hundredth, and every
# interval holds zero. Only one branch of two or three is hurt, and the layer that predicts offsets learns *with* the
# fit that it is given: it can find numbers that serve where they land. So an exact fit costs nothing and makes the
# figures of this book mean what they say; that it raises AP cannot be shown with this budget.
#
# ## Build: the module
#
# All parts are there. The module owns three branches and one layer that steers them, and returns the branches from
# fine to coarse. It does not average them: that is the work of the gates of [chapter 02](02_scale_aware.ipynb). At the
# ends of the pyramid a neighbour is missing, and there are two branches.
#
# Names and shapes of its parameters are those of the library's class, so that trained weights find their place. The
# library's `fit_offsets` does what the table says for the coarser branch. The coarser result is enlarged to the
# level's size by bilinear interpolation: between cell centres under `"centres"` and `"aligned"` (`to_finer`), corner
# on corner otherwise (`resize_corners`).

# %%
from dyhead_lab.attention.pyramid import resize_corners, to_finer
from dyhead_lab.attention.spatial import fit_offsets

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 25 minutes. It has to work for every `offset_fit` of the table except
# "upsample". You may ignore the argument `deformable`: the library's class has it, for the ablation of chapter 07.
#
# <details><summary>Hint: where to begin</summary>
#
# `offset, mask = self.offset_mask(own)`, then the level's own branch: `self.own(own, offset, mask)`.
#
# </details>
# <details><summary>Hint: the finer branch</summary>
#
# Under "aligned" hand it `2 * offset + 0.5`, otherwise `offset`. It goes in front of the list.
#
# </details>
# <details><summary>Hint: the coarser branch</summary>
#
# `fit_offsets(offset, mask, coarser.shape[-2:], self.offset_fit)` gives a pair for `self.coarser`. Then enlarge what
# comes out to `own.shape[-2:]`.
#
# </details>


# %% exercise="spatial"
class SpatialAwareAttention(nn.Module):
    """A level and its two neighbours, each through its own branch; one layer steers all."""

    def __init__(self, channels, offset_fit="centres", deformable=True):
        super().__init__()
        self.offset_fit = offset_fit
        self.finer = DeformableConvNorm(channels, stride=2)
        self.own, self.coarser = DeformableConvNorm(channels), DeformableConvNorm(channels)
        self.offset_mask = OffsetMaskConv(channels)

    def forward(self, own, finer=None, coarser=None):
        """A level (B, C, H, W) and its neighbours -> branches (B, C, H, W), fine to coarse."""
        # >>> its own branch, the finer one in front, the coarser one, enlarged, behind
        offset, mask = self.offset_mask(own)
        branches = [self.own(own, offset, mask)]
        if finer is not None:
            d = 2 * offset + 0.5 if self.offset_fit == "aligned" else offset
            branches.insert(0, self.finer(finer, d, mask))
        if coarser is not None:
            fitted = fit_offsets(offset, mask, coarser.shape[-2:], self.offset_fit)
            enlarge = to_finer if self.offset_fit in ("centres", "aligned") else resize_corners
            branches.append(enlarge(self.coarser(coarser, *fitted), own.shape[-2:]))
        return branches
        # <<<


# %% check="spatial"
check_spatial(SpatialAwareAttention)

# %% [markdown]
# ### The proof: trained weights
#
# Your class takes the weights of the detector of photographs, *strictly*: every parameter must be there, under its name
# and with its shape. Then it must give what a trace of that detector saw on the workshop, level by level:

# %%
mine = SpatialAwareAttention(96, offset_fit="centres")
mine.load_state_dict(trained.state_dict(), strict=True)
levels = [None, P3, P4, P5, P6, P7, None]
path = "backbone.neck.blocks.0.spatial"
with torch.no_grad():
    for l, theirs in enumerate(seen[path, "branches"]):
        finer, own, coarser = levels[l : l + 3]
        branches = torch.stack(mine(own, finer, coarser), dim=1)
        error = float((branches - theirs).abs().max())
        print(f"P{l + 3}: branches {tuple(branches.shape)}, largest difference {error:.0e}")

# %% [markdown]
# And a whole detector on it. The next cell builds quickstart anew with your three classes in the place of the
# library's, fills it with its trained weights, and measures AP on 60 pictures:

# %%
check_same_ap(
    "quickstart",
    SpatialAwareAttention=SpatialAwareAttention,
    DeformableConvNorm=DeformableConvNorm,
    OffsetMaskConv=OffsetMaskConv,
)

# %% [markdown]
# ### The paper's form as a module
#
# The same parts give the paper's form. It takes the levels in one tensor $F$ of shape (B, L, S, C) with $S = H \cdot
# W$ places, as the paper writes it, and leaves one level. The input channels stand in another order than in
# `paper_spatial_at_once`: channel $c$ of level $l$ is number $c L + l$ here, and was number $l C + c$ there. It has to
# be the library's order, because the library's weight, one tensor of $C \times C L \times 3 \times 3$ numbers, is
# loaded below.


# %%
class PaperSpatialAwareAttention(nn.Module):
    """The paper's equation 4: one deformable convolution that sums over taps and levels."""

    def __init__(self, channels, num_levels):
        super().__init__()
        bound = (9 * channels) ** -0.5
        start = torch.empty(channels, channels * num_levels, 3, 3).uniform_(-bound, bound)
        self.weight = nn.Parameter(start)
        self.offset_mask = OffsetMaskConv(channels)

    def forward(self, F_BLSC, size):
        """(B, L, S, C) with H * W = S -> (B, 1, S, C)."""
        B, L, _, C = F_BLSC.shape
        median = F_BLSC[:, L // 2].transpose(1, 2).reshape(B, C, *size)
        offset, mask = self.offset_mask(median)
        x = F_BLSC.permute(0, 3, 1, 2).reshape(B, C * L, *size)
        y = deform_conv2d(x, offset, self.weight / L, padding=1, mask=mask)
        return y.flatten(2).transpose(1, 2).unsqueeze(1)


# %%
from dyhead_lab.attention import PaperSpatialAwareAttention as LibraryForm
from dyhead_lab.attention.paper import join_levels

F_BLSC, size = join_levels([P3, P4, P5, P6, P7])
print("all levels at the size of the median one:", tuple(F_BLSC.shape), "with S =", *size)
theirs = LibraryForm(96, num_levels=5)
nn.init.normal_(theirs.offset_mask.weight, std=0.01)
paper_form = PaperSpatialAwareAttention(96, num_levels=5)
paper_form.load_state_dict(theirs.state_dict(), strict=True)
with torch.no_grad():
    summed = paper_form(F_BLSC, size)
    error = float((summed - theirs(F_BLSC, size)).abs().max())
print("their sum:", tuple(summed.shape), f"largest difference from the library's {error:.0e}")

# %% [markdown]
# ## What does the right geometry buy?
#
# Switch the fit of the trained quickstart without training it again:

# %%
from dyhead_book.practice.drawn_shapes import shapes_ap

quickstart = load_trained("quickstart").model
attention = quickstart.get_submodule("backbone.neck.blocks.0.spatial")
images, ap, trained_with = 20 if "DYHEAD_FAST" in os.environ else 100, {}, attention.offset_fit
for offset_fit in ("centres", "resize", "aligned", "upsample", "crop", "flat"):
    attention.offset_fit = offset_fit
    ap[offset_fit] = shapes_ap(quickstart, images)
    said = ", trained with it" if offset_fit == trained_with else ""
    print(f"{offset_fit:9} AP {ap[offset_fit]:.3f}{said}")
attention.offset_fit = trained_with

# %% [markdown]
# Compare each row with the fit that the network was trained with. Five of the six differ in the coarser branch alone,
# one of three, and a gate or a mask can turn it down. `"aligned"` changes the finer branch as well, with which this
# network has learned as it is: what is right in geometry is new to the weights. So is all this geometry idle? A trained
# network tells what it has got used to, not what it could have learned. To ask that, train.
#
# ### A toy in which offsets must be shared
#
# Each scene has a target and a decoy. On all three maps, finer, own and coarser, there is a bump at the target and one
# of the opposite sign at the decoy, each one cell wide; which of the two is positive is drawn anew for each map. The
# level itself also holds, in two channels, how far each of its cells lies from the target. Every cell near the target
# must say three things: is the bump at the target positive on the finer map, on the level, on the coarser map? To
# answer, all three branches have to look at the target, up to five cells away, with *one* set of offsets.

# %%
from dyhead_book.c05_spatial_aware.blob_scenes import blob_losses_figure, blob_scenes

STEPS = 4 if "DYHEAD_FAST" in os.environ else 160
maps, positive, near = blob_scenes(8, torch.Generator().manual_seed(0))
print("finer, own, coarser:", *(tuple(level.shape) for level in maps))
print("answers", tuple(positive.shape), "for the cells", tuple(near.shape))


# %%
def learn_to_look(offset_fit, seed=0):
    """Train the chapter's attention on scenes; the losses of the three answers at each step."""
    torch.manual_seed(seed)
    scenes = torch.Generator().manual_seed(seed)
    attention, answer = SpatialAwareAttention(16, offset_fit), nn.Conv2d(16, 3, 1)
    optimizer = torch.optim.Adam([*attention.parameters(), *answer.parameters()], lr=0.01)
    losses = []
    for _step in range(STEPS):
        (finer, own, coarser), positive, near = blob_scenes(8, scenes)
        logits = answer(sum(attention(own, finer, coarser)))
        wanted = positive[:, :, None, None].expand_as(logits)
        loss = nn.functional.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
        per_map = (loss * near[:, None]).sum((0, 2, 3)) / near.sum()
        optimizer.zero_grad()
        per_map.sum().backward()
        optimizer.step()
        losses.append(per_map.tolist())
    return losses


losses = {fit: learn_to_look(fit) for fit in ("flat", "centres", "aligned")}
for fit, rows in losses.items():
    finer, own, coarser = np.mean(rows[-20:], axis=0)
    print(f"{fit:8} loss at the end: finer {finer:.3f}, own {own:.3f}, coarser {coarser:.3f}")

# %% tags=["hide"]
Picture(
    blob_losses_figure(losses),
    alt="Losses while training. On the finer map only aligned offsets bring the loss down; on "
    "the coarser map flat lags behind the two others; on the level itself all three learn.",
)

# %% [markdown]
# Here geometry decides. About the level itself all three ways learn nearly alike. About the coarser map `flat` stays
# behind: the offsets that it gets belong to other cells. And about the *finer* map both ways that leave its offsets as
# they are stay far behind: an offset cannot be right for the level and for a map on which it reaches half as far. With
# `aligned` all three losses go towards zero. Two seeds each gave the same picture when this chapter was written.
#
# How do published weights live with it, then? Nothing here tells, but there are ways: nine taps have offsets of their
# own, so some can serve the finer map and others the level; masks can close the taps that disagree; and where offsets
# are short, half of them is a small error. Whether `aligned` raises AP on COCO we have not measured. It costs nothing:

# %%
from dyhead_lab.evaluation.efficiency import offset_fit_macs

sizes = [(100, 167), (50, 84), (25, 42), (13, 21), (7, 11)]  # P3 to P7 of 800 x 1333 pixels
for name, macs in offset_fit_macs(256, sizes).items():
    print(f"{name:9} {macs / 1e9:6.2f} billion multiply-adds for one block of 256 channels")

# %% [markdown]
# ## Look: where each object's taps go
#
# Back to photographs: where does a place look? For each object that the detector finds we take the cell in the middle
# of its box, on the level whose anchors have about its size. The first column shows the 27 points that this cell would
# read in the last block if all offsets were zero, the second those that it does read. In the last column these points
# are followed on: each is a cell of the first block, which read 27 points itself, so up to 729 points lie there. That
# is the *stacked* field.

# %%
from dyhead_book.c05_spatial_aware.receptive_field import (
    radii_figure,
    radius,
    receptive_field_figure,
    share_inside,
    stacked_field,
    taps_of,
)

# %%
STRIDES = (8, 16, 32, 64, 128)


def level_of(box):
    """The level whose anchors, four cells wide, come nearest to the size of a box."""
    side = float((box[2:] - box[:2]).prod().sqrt())
    return min(range(len(STRIDES)), key=lambda l: abs(log(side / (4 * STRIDES[l]))))


def fields_of(blocks, boxes):
    """The field of the cell in the middle of each box (n, 4), in pixels of the network's input."""
    fields = []
    for box in boxes:
        l = level_of(box)
        size = blocks[0][l].mask.shape[1:]
        column, row = ((box[:2] + box[2:]) / 2 // STRIDES[l]).int().tolist()
        cell = (min(row, size[0] - 1), min(column, size[1] - 1))
        fields.append(stacked_field(blocks, l, cell, offset_fit="centres"))
    return fields


# %%
from torchvision.ops import nms


def look(photo, objects):
    """Boxes with their names, in pixels of the network's input, and what each block's taps did."""
    with torch.no_grad(), trace(detector) as seen:
        [found] = detector([photo])
    scale = min(320 / min(photo.shape[1:]), 512 / max(photo.shape[1:]))
    small = interpolate(photo[None], scale_factor=scale, mode="bilinear", antialias=True)[0]
    best = nms(found["boxes"], found["scores"], 0.3)[:objects]  # none that overlap much
    names = [f"{everyday.categories[label]}" for label in found["labels"][best].tolist()]
    return small.clamp(0, 1), found["boxes"][best] * scale, names, taps_of(seen)


# %%
def without_offsets(blocks):
    """The same blocks on their regular grids."""
    return [[taps._replace(offset=0 * taps.offset) for taps in block] for block in blocks]


def show_taps(photo, objects, alt):
    small, boxes, names, blocks = look(photo, objects)
    kinds = {
        "no offsets": fields_of(without_offsets(blocks[-1:]), boxes),
        "last block": fields_of(blocks[-1:], boxes),
        "both blocks": fields_of(blocks, boxes),
    }
    at = [level_of(box) for box in boxes]
    return Picture(receptive_field_figure(small, kinds, boxes, at, names, STRIDES), alt=alt)


show_taps(workshop, 2, alt="Sampling points of the best detections in the workshop.")

# %%
show_taps(photograph("cat"), 1, alt="Sampling points of the best detection on the face of a cat.")

# %% [markdown]
# Such pictures prove little: a regular grid in the middle of a box lies inside it, too. So here is the control. Over
# all detections on all photographs, which share of the points, each counted with its weight, lies in the object's
# box, with the learned offsets and with all offsets set to zero?

# %%
from dyhead_lab.data.photographs import PHOTOGRAPHS

shares = []
for name in PHOTOGRAPHS:
    small, boxes, names, blocks = look(photograph(name), objects=10)
    regular = fields_of(without_offsets(blocks), boxes)
    pairs = zip(fields_of(blocks, boxes), regular, strict=True)
    for box, pair in zip(boxes.tolist(), pairs, strict=True):
        shares.append([share_inside(field, box, STRIDES) for field in pair])
learned, regular = np.reshape(shares, (-1, 2)).mean(0) if shares else (0, 0)
print(f"{len(shares)} detections: {learned:.0%} inside with learned offsets, {regular:.0%} without")

# %% [markdown]
# The two numbers hardly differ. (In the last block alone the learned points even lead out of the boxes, as the titles
# of the panels say.) The points lie on the object because the cell lies in its middle and the level fits its size, not
# because offsets have gathered them there. A picture of points on an animal is no evidence of anything until the grid
# has been drawn beside it.
#
# ## Does the field grow with the object?
#
# Larger objects are found on coarser levels, where cells are wider, so from level to level the field must grow. The
# interesting question is whether it grows on *one* level. Shapes is the laboratory for it: thirty pictures, whose
# sizes we know. The radius of a field is the weighted root mean square distance of its points from their centre.

# %%
SHAPES_STRIDES = (8, 16, 32, 64)
longest, radii = [], []
for index in range(30):
    picture, items = draw_image(2026, index)
    with torch.no_grad(), trace(quickstart) as seen:
        quickstart([torch.from_numpy(picture).permute(2, 0, 1) / 255])
    blocks = taps_of(seen)
    for item in items:
        x, y, width, height = item.box
        longest.append(max(width, height))
        middle = (y + height / 2, x + width / 2)
        cells = [tuple(int(p // stride) for p in middle) for stride in SHAPES_STRIDES[:3]]
        fields = [stacked_field(blocks, l, cell, trained_with) for l, cell in enumerate(cells)]
        radii.append([radius(field, SHAPES_STRIDES) for field in fields])
longest, radii = np.array(longest), np.array(radii)
assigned = np.digitize(longest, (64, 128))  # P3 below 64 pixels, P4 below 128, then P5

# %%
own_growth = {}
for l, name in enumerate(("P3", "P4")):
    kept = assigned == l
    own_growth[name] = float(np.corrcoef(longest[kept], radii[kept, l])[0, 1])
    others = float(np.corrcoef(longest[~kept], radii[~kept, l])[0, 1])
    print(f"{name}: correlation {own_growth[name]:.2f} on {kept.sum()} own objects,", end=" ")
    print(f"{others:.2f} on the others")

# %% tags=["hide"]
Picture(
    radii_figure(longest, radii, assigned, ("P3", "P4", "P5")),
    alt="Field radius against object size, per level; filled dots are the level's own objects.",
)

# %% [markdown]
# Look at the filled dots: a level learns only from the objects that are assigned to it. So a field that has learned to
# fit grows there, and on the open dots, where nothing rewarded growth, it need not. P3 looks like that. On P4 the field
# grows a little with every object, its own or not, which may need no learning: a larger object fills more cells with
# features of its own. Most of the growth over all sizes is the pyramid's, since its cells double from level to level.
#
# ## "Spatial is the largest axis"
#
# A post about this paper says so, to explain why $\pi_S$ gains most when the paper adds each attention alone: of the
# three axes of $F$, places are more than channels and channels more than levels. Count:

# %%
for name, (height, width) in zip(("P3", "P4", "P5", "P6", "P7"), sizes, strict=True):
    print(f"{name}: {height * width:6,} places, 256 channels, 5 levels")
print(f"an output reads 27 points of {sum(h * w for h, w in sizes):,}")

# %% [markdown]
# On the fine levels the sentence is true; on P7 there are fewer places than channels. And the attention does not
# spread over that axis: each output reads 27 points of 22,300. What each attention is worth is a question for an
# experiment. The project's recorded ablation trained all eight combinations of the three on Shapes, with three seeds
# each. Pooled over all pairs of rows that differ in one switch:

# %%
runs = recorded("ablation").runs
combinations = ("all off", "L", "S", "C", "L+S", "L+C", "S+C", "L+S+C")
on = {row: set(row.split("+")) & set("LSC") for row in combinations}
for letter, name in (("L", "scale"), ("S", "spatial"), ("C", "task")):
    pairs = [(a, b) for a in on for b in on if on[b] == on[a] | {letter} and letter not in on[a]]
    gains = [runs[b][seed]["AP"] - runs[a][seed]["AP"] for a, b in pairs for seed in runs[a]]
    print(f"{name:8} {np.mean(gains):+.3f} AP over {len(gains)} paired differences")

# %% [markdown]
# Spatial-aware attention gains most here, too, then the one over channels, and the order happens to be that of the
# axes: 400 places on P3, 64 channels, 4 levels. Three gains can stand in six orders, so a wrong reason would foretell
# the right one in one of six tries. A test would change the length of an axis and see whether the gain follows: on P6
# there are nine places, and the attention is the same. [Chapter 07](07_dynamic_head.ipynb) reads this table in full.
#
# ## Break it
#
# One bug is planted in an `offsets_for_neighbours`. Use inputs for which you know the answer: constant offsets and
# masks, and rows that count.

# %%
suspect = drill(NEIGHBOURS_MISTAKES, 1)

constant = suspect(torch.full((1, 18, 6, 6), 4.0), torch.full((1, 9, 6, 6), 0.8))
finer, coarser, masks = (x.unique().round(decimals=3).tolist() for x in constant)
print("offsets of 4 become", finer, "and", coarser, "; masks of 0.8 become", masks)
rows = torch.arange(6.0)[:, None].expand(6, 6).expand(1, 18, 6, 6)
print("rows 0 to 5 become", suspect(rows, torch.ones(1, 9, 6, 6))[1][0, 0, :, 0].tolist())

# %% [markdown]
# A coarser cell lies in the middle of two rows, so the rows should become 0.25, 1.25 and 2.25: means of 0 and 1, 2 and
# 3, 4 and 5, halved. Which line gives the bug away? Then run `check_neighbours(suspect)`. Numbers 0 to 10 plant eleven
# bugs.
#
# ## Challenges

# %% tags=["hide"]
Challenge(
    "Train quickstart with offset_fit='flat', and with 'centres'. Does 'flat' end behind?",
    difficulty=3,
    minutes=30,
    hints={
        "Where to change it": "In the command: dyhead-lab train quickstart --set "
        "model.dyhead.offset_fit=flat",
        "How would I know that a difference is real?": "Train each twice with other seeds: "
        "--set seed=1. Compare the difference with the spread.",
    },
    answer="Nothing of the kind was seen. With seeds 0 and 1 we measured 0.433 and 0.434 with "
    "'flat', and 0.420 and 0.436 with 'resize', the default of that time: the difference is "
    "smaller than the spread. A network that is trained with the flat reading learns to live "
    "with it, as the published weights did.",
)

# %% [markdown]
# ## Recap
#
# - Spatial-aware attention is a deformable convolution over levels that share one map of offsets and masks. The paper
#   sums over all levels at one size; the published code reads a level and its two neighbours at their own sizes.
# - An offset counts cells. On the coarser neighbour it must be halved, on the finer one doubled and moved by half a
#   cell. The published code does neither, its weights have learned to live with that, and the library can do both.
# - A claim about where a network looks needs a control, and a trained network shows what it has got used to, not what
#   it could have learned.

# %% tags=["hide"]
lost = ap[trained_with] - ap["flat"]
answer = "c" if lost < 0.01 else "b" if lost < 0.1 else "a"
measured = f"AP {ap[trained_with]:.3f} becomes {ap['flat']:.3f}, read flat."
wrong_offsets.revisit(answer, measured)

# %% tags=["hide"]
answer = "a" if own_growth["P3"] > 0.5 else "b" if own_growth["P3"] > 0.2 else "c"
field_grows.revisit(answer, f"P3 {own_growth['P3']:.2f}, P4 {own_growth['P4']:.2f}.")

# %% [markdown]
# ## Your detector so far
#
# The scale-aware attention of [chapter 02](02_scale_aware.ipynb) is yours if the workbook has kept it, else the
# library's.

# %%
from dyhead_book.practice.earlier import earlier

so_far(
    "quickstart",
    ScaleAwareAttention=earlier("02_scale_aware", "ScaleAwareAttention"),
    SpatialAwareAttention=SpatialAwareAttention,
    DeformableConvNorm=DeformableConvNorm,
    OffsetMaskConv=OffsetMaskConv,
)

# %% [markdown]
# ## Check yourself
#
# <details><summary>Why must offsets be halved when they move to a coarser grid, and masks not?</summary>
#
# An offset is a length counted in cells, and the cells have become twice as wide. A mask is a share of a sample: it
# has no unit that could change.
#
# </details>
# <details><summary>All offsets are zero. Which branch of the published code reads where the level is?</summary>
#
# Its own branch. The finer one stands on finer cell $2i$, a quarter of a cell of the level up and to the left. The
# coarser one is convolved around its own cells and enlarged corner on corner, which moves it by up to half a cell of
# the level.
#
# </details>
# <details><summary>What is the difference between a sum over levels and a sum over channels?</summary>
#
# None, once all levels have one size: levels side by side are more channels. This is why one call computes the paper's
# form.
#
# </details>
# <details><summary>Why does the layer that predicts offsets start at zero, and not like other layers?</summary>
#
# So that training starts from an ordinary convolution, whose samples mean something. Offsets move as soon as a
# gradient says that another place would have been better.
#
# </details>
#
# [Chapter 06](06_task_aware.ipynb) turns to the channels.
