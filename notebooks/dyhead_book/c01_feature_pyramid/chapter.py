# %% [markdown]
# # The feature pyramid
#
# | | |
# | --- | --- |
# | Time | 2 hours with the exercises, about 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | what a convolution does; PyTorch and NumPy |
# | You will build | the feature pyramid as a module, its points and what they learn, IoU, and AP |
#
# The same motorcycle may fill a photograph or thirty pixels of it. A convolution sees a window of fixed size, and a
# detector has to find both. This chapter builds the usual way out, the feature pyramid, and two things that every
# detector on a pyramid needs: a rule that tells each of its cells which object to learn, and a measure of whether the
# boxes that come out are right. The attentions of the next chapters stand on it: they read and rewrite the levels of
# a feature pyramid.

# %%
import math

# %% tags=["hide"]
import os

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from dyhead_book.c01_feature_pyramid.assignment_checks import check_assign, check_points
from dyhead_book.c01_feature_pyramid.box_checks import (
    IOU_MISTAKES,
    check_average_precision,
    check_iou,
)
from dyhead_book.c01_feature_pyramid.precision_recall import precision_recall_figure
from dyhead_book.c01_feature_pyramid.pyramid_checks import (
    check_feature_pyramid,
    check_receptive_field,
    check_top,
)
from dyhead_book.c01_feature_pyramid.pyramid_figures import (
    assignment_figure,
    features_figure,
    levels_figure,
    normalised,
)

# %% tags=["hide"]
from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.rebuilt import check_same_ap, rebuilt
from dyhead_book.practice.so_far import so_far
from dyhead_lab.data.photographs import photograph
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate
from dyhead_lab.evaluation.efficiency import macs
from dyhead_lab.views.figures import Picture
from dyhead_lab.zoo import get, load_trained

FAST = bool(os.environ.get("DYHEAD_FAST"))  # tests take fewer pictures
PICTURES = 12 if FAST else 60

# %% [markdown]
# ## Two predictions

# %%
shifted_box = Question(
    "01 shifted box",
    "An object is 40 x 40 pixels. The box that was found has the right size but lies 8 pixels too "
    "far to the right. What is the area that both share, divided by the area that they cover?",
    a="0.80",
    b="0.67",
    c="0.50",
)
shifted_box.ask()

# %%
twice_as_large = Question(
    "01 twice as large",
    "A detector was trained on images of 160 pixels. Without any training we show it the same "
    "images enlarged to 320. Which objects does it find better than before?",
    a="small ones",
    b="large ones",
    c="all",
    d="none",
)
twice_as_large.ask()

# %% [markdown]
# ## First answer: an image pyramid
#
# If objects come in many sizes, show the detector the image in many sizes. That was the standard for decades. Let us
# try it with *quickstart*, a small detector that this project ships. It has learned **Shapes**, drawn pictures of 160
# pixels with discs, stars and other shapes in them: the laboratory of this book, where an experiment takes seconds
# and every box is exact. Its score is **average precision** (AP), built further down: 1 if every object is found and
# nothing else, 0 if nothing is found. `AP_small` counts only objects below $32^2$ pixels, `AP_large` only those above
# $96^2$.

# %%
data = DrawnShapes(PICTURES)
trained = load_trained("quickstart")
model = trained.model
results, records = {}, {}
for side in (160, 320):
    model.transform.min_size, model.transform.max_size = (side,), 2 * side
    records[side] = detect_dataset(model, data)
    results[side] = evaluate(data, records[side])
model.transform.min_size, model.transform.max_size = (160,), 320
with torch.no_grad():
    cost = macs(model, lambda: model([data[0][0]]))[""]

sizes = ("AP_small", "AP_medium", "AP_large")
for side, result in results.items():
    values = ", ".join(f"{name} {result[name]:.3f}" for name in sizes)
    print(f"{side} px, {cost * (side / 160) ** 2 / 1e9:.2f} billion multiply-adds: {values}")

# %% [markdown]
# Every size of image favours another size of object: the detector finds best what appears as large as in its
# training. An image pyramid would run both sizes, or more, and keep the best of each. Its price is the sum of the
# costs, and twice the side is four times the work.
#
# ## Second answer: see more with the same weights
#
# Instead of shrinking the image, one can widen the window. A network makes *maps*, tensors of shape (C, H, W); one
# place of a map, with its C numbers, is a **cell**. The **receptive field** of a cell is the square of pixels that it
# depends on. Three things make it grow: kernels, strides, and **dilation**, which puts the taps of a kernel (the places
# that it reads, 9 for a 3x3 kernel) $d$ cells apart. Dilation itself is free: as many weights, as many products. The
# next function tells how far a stack of convolutions sees, as the side of that square in pixels.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 15 minutes.
#
# <details><summary>Where to begin</summary>Keep two numbers while you walk from the image to the last layer: the side
# so far, and how many pixels lie between neighbouring cells.</details>
# <details><summary>Too small where there are strides</summary>A layer adds (kernel - 1) * dilation steps to the side.
# How many pixels is a step? The product of all strides before.</details>

# %% exercise="receptive"
def receptive_field(layers):
    """layers: (kernel, stride, dilation) per convolution, the first one first. Returns pixels."""
    # >>> the side grows by (kernel - 1) * dilation steps of a layer
    side, step = 1, 1
    for kernel, stride, dilation in layers:
        side += (kernel - 1) * dilation * step
        step *= stride
    return side
    # <<<


# %% check="receptive"
check_receptive_field(receptive_field)

# %%
stacks = {
    "8 layers, plain": [(3, 1, 1)] * 8,
    "8 layers, dilation 1, 2, 4, 8 twice": [(3, 1, d) for d in (1, 2, 4, 8)] * 2,
    "8 layers, stride 2 in every second": [(3, 1, 1), (3, 2, 1)] * 4,
}
for name, layers in stacks.items():
    cells = 160 // math.prod(stride for _, stride, _ in layers)
    print(f"{name:36} sees {receptive_field(layers):3} pixels, on a map of {cells} x {cells}")

# %% [markdown]
# Strides reach far and make the map small: cheap, but small objects fall between the cells. Dilation reaches as far
# and keeps the map large: the last layer works on 256 times as many cells, and all eight layers together on nearly
# five times as many. Could one have a small map for large objects and a large map for small objects? A backbone has
# both already.
#
# ## Third answer: the backbone is a pyramid
#
# A **backbone** is a network that has learned to classify images, used for its maps. It halves them five times: after
# the third time, in `c3`, a cell stands for a square of 8 x 8 pixels, in `c4` of 16, in `c5` of 32. Each of these maps
# is a **level**, and these numbers are the **strides** of the levels. A level with large cells is called *coarse*, one
# with small cells *fine*. Here is the photograph that this book follows, and what the EfficientNet-Lite0 that comes
# with this project makes of it. It was trained on [ImageNet](https://www.image-net.org/) and has seen no box in its
# life. Shown is the **energy** of each cell, the sum of squares over channels.

# %%
from dyhead_lab.detectors.backbones.timm_body import TimmBody
from dyhead_lab.detectors.image_batch import IMAGE_MEAN, IMAGE_STD

workshop = photograph("workshop")
body = TimmBody("tf_efficientnet_lite0", weights="package").eval()
with torch.no_grad():
    maps = body(normalised(workshop, IMAGE_MEAN, IMAGE_STD))
for name, x in maps.items():
    print(name, tuple(x.shape))

# %% tags=["hide"]
Picture(
    levels_figure(workshop, maps),
    alt="A motorcycle in a workshop, and the energy of three levels with ever larger cells.",
)

# %% [markdown]
# So look for small objects on `c3` and for large ones on `c5`? There is a catch: `c3` has passed fewer layers. It
# answers to edges, wherever they are; `c5` answers to the motorcycle. This is the **semantic gap**, and a feature
# pyramid is to close it: it gives the fine levels what the coarse ones know. Does it? Shapes tells, where every
# object has one of six classes. Take the cell in the middle of each object, on one level of quickstart. How well can
# a linear classifier name the class from its features? We compare the backbone's levels with the levels of the
# trained pyramid that have the same cells.

# %%
found = {}
parts = [(name, getattr(model.backbone, name)) for name in ("body", "fpn")]
handles = [
    part.register_forward_hook(lambda _, x, out, n=name: found.update({n: list(out.values())}))
    for name, part in parts
]
detect_dataset(model, data, batch_size=len(data))  # all images in one batch
for handle in handles:
    handle.remove()
backbone, pyramid = found["body"][-3:], found["fpn"]  # c3, c4, c5; p3, p4, ...
targets = [data[i][1] for i in range(len(data))]
labels = torch.cat([target["labels"] for target in targets])


def at_centres(maps, stride):
    """Features (n, C) of the cells in the middle of all objects."""
    rows = []
    for x, target in zip(maps, targets, strict=True):
        column, row = ((target["boxes"][:, :2] + target["boxes"][:, 2:]) / 2 // stride).long().T
        rows.append(x[:, row, column].T)
    return torch.cat(rows)


# %%
def readable(features_nC):
    """Share of objects whose class a linear classifier, fitted to the other half, names."""
    x = (features_nC - features_nC.mean(0)) / features_nC.std(0).clamp(min=1e-6)
    wanted = F.one_hot(labels, 6) - 1 / 6
    right = 0
    for fold in (0, 1):
        fitted = torch.arange(len(x)) % 2 == fold
        a = x[fitted]
        weights = torch.linalg.solve(a.T @ a + 30 * torch.eye(a.shape[1]), a.T @ wanted[fitted])
        right += int(((x @ weights).argmax(1) == labels)[~fitted].sum())
    return right / len(x)


for name, chosen in {"c": backbone, "p": pyramid}.items():
    shares = {3: 8, 4: 16, 5: 32}
    for level, stride in shares.items():
        share = readable(at_centres(chosen[level - 3], stride))
        print(f"{name}{level}: {share:.2f} of the classes named (a guess gives 0.17)")

# %% [markdown]
# Compare levels with the same cells: `p3` and `p4` tell more than `c3` and `c4`; `p5` does not tell more than `c5`,
# as it is the coarsest of the three and nothing is handed down to it. That is what the pyramid promises. It is also
# a rough instrument: with 307 objects such a share is known to about 0.03 only, and `p3` has passed two more
# convolutions than `c3`, which may help by themselves. For one picture the maps look like this; the percentages
# tell how much of a map's energy lies in its strongest tenth.

# %% tags=["hide"]
chosen = 3
steps = {"C": backbone, "P": pyramid[:3]}
steps = {name: [x[[chosen]] for x in levels] for name, levels in steps.items()}
figure = features_figure(data[chosen][0], steps, ["3", "4", "5"])
Picture(
    figure,
    alt="A picture of Shapes, and over it the energy of the backbone's maps C3, C4, C5 and of the "
    "pyramid's P3, P4, P5.",
)

# %% [markdown]
# ## Build: the feature pyramid
#
# <img src="diagrams/feature_pyramid.svg" alt="A feature pyramid. The backbone makes maps C3, C4 and C5 of
# strides 8, 16 and 32. A 1x1 convolution brings each to 256 channels. From the top down each map is doubled in
# size and added to the next finer one, a 3x3 convolution smooths the sum: P5, P4, P3. Two convolutions of
# stride 2 make P6 from P5, and P7 from P6.">
#
# The feature pyramid network ([FPN; Lin et al., 2017](https://arxiv.org/abs/1612.03144)) hands down what the coarse
# levels know. With $C_l$ for the backbone's map of level $l$ and $P_l$ for what the pyramid makes of it,
#
# $$M_l = \mathrm{conv}_{1 \times 1}(C_l) + \mathrm{enlarge}(M_{l+1}), \qquad P_l = \mathrm{conv}_{3 \times 3}(M_l)$$
#
# The 1x1 convolution, called **lateral**, gives all levels the same number of channels, so that they can be added.
# `enlarge` doubles a map by repeating its cells. On the coarsest level nothing is added. What is handed down is the
# sum $M$, not the finished $P$.
#
# Names matter from here on, because trained weights find their places by them. The module is called as in
# torchvision, which the library uses, and so are its parts: `inner_blocks[l][0]` is the lateral convolution of level
# l, fine to coarse, and `layer_blocks[l][0]` its 3x3 convolution. (The `[0]` is there because torchvision can put a
# norm behind each.) All have a bias. `forward` gets a dict, name of a level -> (B, C_l, H_l, W_l), fine to coarse, and
# returns the $P_l$ in a dict with the same names. Where `extra_blocks` is given, it is called at the end as
# `extra_blocks(P, C, names)`, with three lists, and returns the longer list of P and the longer list of names: then
# the dict has these levels too.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 25 minutes.
#
# <details><summary>Where to begin</summary>In __init__ two nn.ModuleList, with one nn.Sequential(nn.Conv2d(...)) for
# each level. In forward all 1x1 convolutions first, into a list; then walk from coarse to fine.</details>
# <details><summary>How to enlarge</summary>F.interpolate(m, size=finer.shape[-2:], mode="nearest"). A size, not a
# factor: an odd map of 25 rows lies below one of 13.</details>
# <details><summary>The coarsest level is right, the others are not</summary>Add M of the level above, before its own
# 3x3 convolution, and after it has been added to.</details>
# <details><summary>extra_blocks</summary>If it is given, it is called with the list of P, the list of C and the list
# of names, and returns the longer list of P and the longer list of names.</details>

# %% exercise="pyramid"
class FeaturePyramidNetwork(nn.Module):
    """A dict of maps, fine to coarse -> a dict of maps of out_channels each.

    in_channels_list: channels of each map. extra_blocks: a module that appends levels, or None.
    """

    def __init__(self, in_channels_list, out_channels, extra_blocks=None):
        super().__init__()
        # >>> two lists of convolutions, 1x1 and 3x3
        inner = [nn.Conv2d(C, out_channels, 1) for C in in_channels_list]
        layer = [nn.Conv2d(out_channels, out_channels, 3, padding=1) for _ in in_channels_list]
        self.inner_blocks = nn.ModuleList(nn.Sequential(conv) for conv in inner)
        self.layer_blocks = nn.ModuleList(nn.Sequential(conv) for conv in layer)
        # <<<
        self.extra_blocks = extra_blocks

    def forward(self, x):
        # >>> all lateral convolutions, the sums from coarse to fine, the outputs, extra levels
        names, C = list(x), list(x.values())
        M = [conv(c) for conv, c in zip(self.inner_blocks, C, strict=True)]
        for l in reversed(range(len(M) - 1)):
            M[l] = M[l] + F.interpolate(M[l + 1], size=M[l].shape[-2:], mode="nearest")
        P = [conv(m) for conv, m in zip(self.layer_blocks, M, strict=True)]
        if self.extra_blocks is not None:
            P, names = self.extra_blocks(P, C, names)
        return dict(zip(names, P, strict=True))
        # <<<


# %% check="pyramid"
check_feature_pyramid(FeaturePyramidNetwork)

# %% [markdown]
# ## Build: levels above the top
#
# An object of 500 pixels is large even for `p5`, whose cells are 32 pixels apart. So one goes on halving. The cheap
# way takes every second cell (R-CNN and quickstart do that for P6). [FCOS](https://arxiv.org/abs/1904.01355) and
# [ATSS](https://arxiv.org/abs/1912.02424) use two convolutions of stride 2 with a ReLU between them, from P5 on
# ([RetinaNet](https://arxiv.org/abs/1708.02002), which began this, took C5):
#
# $$P_6 = \mathrm{conv}_{3 \times 3,\, 2}(P_5), \qquad P_7 = \mathrm{conv}_{3 \times 3,\, 2}(\mathrm{relu}(P_6))$$


# %%
class LastLevelMaxPool(nn.Module):
    """P6 is every second cell of P5."""

    def forward(self, p, c, names):
        return [*p, p[-1][..., ::2, ::2]], [*names, "pool"]


# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 10 minutes.
#
# <details><summary>Where to begin</summary>self.p6 and self.p7 are nn.Conv2d with kernel 3, stride 2 and padding 1.
# p[-1] is P5.</details>
# <details><summary>P7 is wrong</summary>Its input is F.relu(p6). P6 itself is handed on without the ReLU.</details>

# %% exercise="top"
class LastLevelP6P7(nn.Module):
    """Two more levels by convolutions, named p6 and p7."""

    def __init__(self, in_channels, out_channels):
        super().__init__()
        # >>> two convolutions that halve
        self.p6 = nn.Conv2d(in_channels, out_channels, 3, stride=2, padding=1)
        self.p7 = nn.Conv2d(out_channels, out_channels, 3, stride=2, padding=1)
        # <<<

    def forward(self, p, c, names):
        # >>> P6 from P5, P7 from relu(P6); both lists grow by two
        p6 = self.p6(p[-1])
        return [*p, p6, self.p7(F.relu(p6))], [*names, "p6", "p7"]
        # <<<


# %% check="top"
check_top(LastLevelP6P7)

# %% [markdown]
# Now the photograph's pyramid, level by level. *everyday*, the detector of photographs from
# [chapter 00](00_start_here.ipynb), stands on the same EfficientNet and has levels P3 to P7. `rebuilt` makes it anew
# around your two classes and loads its trained weights into them *strictly*: every parameter must be there, under its
# name and with its shape. The detector brings photographs to a size of its own, so the maps are smaller than above.

# %%
names = {"FeaturePyramidNetwork": FeaturePyramidNetwork, "LastLevelP6P7": LastLevelP6P7}
seen = {}
with rebuilt("everyday", **names) as everyday, torch.no_grad():
    everyday.backbone.fpn.register_forward_hook(lambda _, x, out: seen.update(C=x[0], P=out))
    everyday([workshop])
levels = {f"P{level}": x for level, x in enumerate(seen["P"].values(), 3)}
for name, x in levels.items():
    side = workshop.shape[2] / x.shape[3]
    print(f"{name}: {tuple(x.shape)!s:16} one cell for {side:3.0f} pixels")

# %% tags=["hide"]
Picture(
    levels_figure(workshop, levels),
    alt="The photograph and the energy of the levels P3 to P7 over it: ever larger cells.",
)

# %% [markdown]
# P3 no longer answers to every edge alike: the motorcycle's edges stand out a little from those of the shelf. How
# much is that? Compare the energy inside of the motorcycle's box with that outside, before and after the pyramid.

# %%
def contrast(features):
    """Mean energy of a map's cells inside of the motorcycle's box, over the mean outside."""
    energy = features[0].square().sum(0)
    height, width = energy.shape
    y, x = (torch.arange(height) + 0.5) / height * 500, (torch.arange(width) + 0.5) / width * 741
    inside = ((y > 75) & (y < 458))[:, None] & ((x > 45) & (x < 622))
    return energy[inside].mean() / energy[~inside].mean()


for level, before, after in zip((3, 4, 5), seen["C"].values(), seen["P"].values(), strict=False):
    print(f"C{level}: {contrast(before):.2f}   P{level}: {contrast(after):.2f}")

# %% [markdown]
# On every level the motorcycle stands out more in P than in C, most of all on the coarse one, which knows best where
# it is. P3 gains some of that and keeps its small cells.
#
# ## The proof: a trained detector runs on it
#
# quickstart was trained with torchvision's pyramid. Below it is built anew around *your* classes, and its AP on
# pictures that it has not seen is compared with that of the detector as it was trained.

# %%
check_same_ap(
    "quickstart",
    images=PICTURES,
    FeaturePyramidNetwork=FeaturePyramidNetwork,
    LastLevelMaxPool=LastLevelMaxPool,
)

# %%
with rebuilt("quickstart", FeaturePyramidNetwork=FeaturePyramidNetwork) as mine, torch.no_grad():
    features = mine.backbone.body(data[0][0][None])
    own, theirs = mine.backbone.fpn(features), model.backbone.fpn(features)
for level, x, y in zip((3, 4, 5, 6), own.values(), theirs.values(), strict=True):
    print(f"P{level} {tuple(x.shape)}: equal to torchvision's {torch.allclose(x, y)}")

# %% [markdown]
# ## One stage, two stages
#
# What happens on the pyramid then? Detectors come in two families.
#
# - **One stage**: every cell of every level predicts class and box at once.
#   [YOLO](https://arxiv.org/abs/1506.02640) began this on a single coarse map; RetinaNet, FCOS and ATSS do it on a
#   pyramid; quickstart is an FCOS. The cost is the same for every image.
# - **Two stages**: a small network marks regions that may hold an object. Each region is cut out of the pyramid,
#   brought to one size, and classified by a second network. Faster, Mask and Cascade R-CNN do so. The cost grows with
#   the regions.
#
# The project's collection of recipes, its *zoo*, has both kinds on the same backbone. Here is where their
# **multiply-adds** go, a product and a sum each. Papers on detection often count these and call them FLOPs, though
# each is two operations. (FLOPS with a capital S are operations *per second*, the speed of a machine, not the work of
# a model.)


# %%
def multiply_adds(name):
    """Of every part of a detector of the zoo, for one image."""
    detector = get(name).build(len(trained.categories)).eval()
    with torch.no_grad():
        return macs(detector, lambda: detector([data[0][0]]))


families = {
    "fcos_shapes": ("backbone", "head"),
    "faster_rcnn_shapes": ("backbone", "rpn", "roi_heads"),
}
for name, parts in families.items():
    counted = multiply_adds(name)
    shares = ", ".join(f"{part} {counted.get(part, 0) / 1e6:.0f}" for part in parts)
    print(f"{name:19} {counted[''] / 1e6:5.0f} million: {shares}")

# %% [markdown]
# `backbone` counts the ResNet, the pyramid and one block of Dynamic Head
# ([chapter 07](07_dynamic_head.ipynb)). In this FCOS that block does the work of the head, so little is left for
# `head`. The pyramid of Faster R-CNN begins one level finer, on maps with four times the cells, so its `backbone`
# costs more too: the two rows show where the work goes, not which family is cheaper at the same AP.
#
# ## Build: the points of a pyramid
#
# A one-stage detector predicts something at *every* cell of every level: on this photograph, at its own size, nearly
# eight thousand times. Seen from the image a cell is a **point**, the centre of the square that it stands for. Cell
# (row, column) of a level with stride $s$ lies at
#
# $$x = (\mathrm{column} + 0.5)\,s, \qquad y = (\mathrm{row} + 0.5)\,s$$

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 1 of 5, about 10 minutes.
#
# <details><summary>Where to begin</summary>np.mgrid[:height, :width] gives all rows and all columns; ravel makes them
# flat.</details>
# <details><summary>x and y change places</summary>A point is (x, y), so the column comes first:
# np.stack([column, row], 1).</details>

# %% exercise="points"
def points(height, width, stride):
    """(height * width, 2): the centre (x, y) of every cell in pixels, row by row."""
    # >>> half a cell further than its corner, times the stride
    row, column = np.mgrid[:height, :width]
    return (np.stack([column.ravel(), row.ravel()], 1) + 0.5) * stride
    # <<<


# %% check="points"
check_points(points)

# %% [markdown]
# ## Build: who learns what
#
# In training each of these thousands of points must be told what to predict: an object, or nothing. This is **label
# assignment**. How much hangs on it was found late: [ATSS](https://arxiv.org/abs/1912.02424) showed that RetinaNet
# and FCOS, trained in the same way, are equally good once they assign alike. The rule of FCOS has four parts:
#
# <img src="diagrams/point_and_box.svg" alt="A point inside of a box measures its distances to the left, upper,
# right and lower side: 5, 3, 3 and 3 cells. It learns this box if all four are positive, if it lies near the
# centre, and if the farthest distance, 5 cells, suits the level. A point in several boxes takes the smallest.">
#
# The **reach** of a level is where the pyramid comes in: a point learns an object whose *farthest* side lies at a
# distance between `low` and `high`, and each level has its own pair. FCOS gives P3 up to 64 pixels, P4 64 to 128, P5
# 128 to 256, P6 256 to 512, P7 the rest. The radius, 1.5 strides, is measured in x and in y separately, so that "near
# the centre" is a square. (It came with the second version of FCOS; the first took all points of the box.)

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 30 minutes.
#
# <details><summary>Where to begin</summary>All pairs at once: x of the points as (N, 1), the boxes' x1, y1, x2, y2 as
# (M,). The four distances are x - x1, y - y1, x2 - x, y2 - y, stacked to (4, N, M).</details>
# <details><summary>What are the three conditions?</summary>sides.min(0) &gt; 0. The larger of the distances to the
# centre in x and in y is below the radius. sides.max(0) lies between low and high.</details>
# <details><summary>The smallest of several</summary>np.where(fits, area, np.inf), then argmin over the boxes; a point
# without any box gets -1.</details>

# %% exercise="assign"
def assign(points_N2, reach_N2, radius_N, boxes_M4):
    """(N,): number of the box, 0 to M - 1, that each point learns, or -1.

    All in pixels. points: (x, y); reach: (low, high) and radius of each point's level; boxes: xyxy.
    """
    # >>> inside, near the centre, within reach; of several the smallest
    x, y = points_N2[:, :1], points_N2[:, 1:]
    x1, y1, x2, y2 = boxes_M4.T
    sides = np.stack([x - x1, y - y1, x2 - x, y2 - y])
    far = sides.max(0)
    off_centre = np.maximum(abs(x - (x1 + x2) / 2), abs(y - (y1 + y2) / 2))
    fits = (sides.min(0) > 0) & (off_centre < radius_N[:, None])
    fits &= (reach_N2[:, :1] < far) & (far < reach_N2[:, 1:])
    area = np.where(fits, (x2 - x1) * (y2 - y1), np.inf)
    return np.where(fits.any(1), area.argmin(1), -1)
    # <<<


# %% check="assign"
check_assign(assign)

# %% [markdown]
# Here is the rule on the photograph, with three boxes drawn by hand: the motorcycle, the bench behind it, a carton on
# the shelf. Large dots learn an object, small ones learn that there is nothing.

# %%
objects = ["motorcycle", "bench", "carton"]
boxes = np.array([[45.0, 75, 622, 458], [8, 105, 285, 245], [486, 182, 556, 282]])
limits = (0, 64, 128, 256, 512, np.inf)
grids, chosen = {}, {}
for level in range(3, 8):
    stride, reach = 2**level, limits[level - 3 : level - 1]
    height, width = (-(-side // stride) for side in workshop.shape[1:])
    grids[f"P{level}"] = grid = points(height, width, stride)
    reaches, radii = np.tile(reach, (len(grid), 1)), np.full(len(grid), 1.5 * stride)
    chosen[f"P{level}"] = assign(grid, reaches, radii, boxes)
    learned = [objects[m] for m in np.unique(chosen[f"P{level}"]) if m >= 0]
    print(f"P{level}: {len(grid):4} points, reach {reach}: {', '.join(learned) or 'nothing'}")

# %% tags=["hide"]
figure = assignment_figure(workshop, boxes, objects, grids, chosen)
Picture(
    figure,
    alt="The photograph five times with the points of P3 to P7; the carton is learned on P3 and "
    "P4, the bench on P5, the motorcycle on P6, each by the few points near its centre.",
)

# %% [markdown]
# A handful of points learn an object, thousands learn nothing: that imbalance is why RetinaNet needed its focal loss
# ([chapter 08](08_dynamic_head_on_detectors.ipynb) builds it). And the rule is rigid. Of two objects whose farthest
# sides lie at 60 and at 70 pixels, one is learned on P3 and the other on P4, though they look alike; nobody asked which
# level sees them best. Dynamic Head's scale-aware attention ([chapter 02](02_scale_aware.ipynb)) softens that by
# mixing levels, and DETR ([chapter 09](09_self_attention_to_deformable.ipynb)) drops the rule: there a matching
# between predictions and objects is computed anew in every step.
#
# ## Build: intersection over union
#
# When is a box right? Compare the area that it shares with the object's box to the area that both cover together:
#
# $$\mathrm{IoU}(a, b) = \frac{|a \cap b|}{|a \cup b|}$$
#
# <img src="diagrams/intersection_over_union.svg" alt="Two boxes of 40 by 40 pixels, the second 8 pixels further
# right. They share 32 by 40 pixels, together they cover 48 by 40. Intersection over union is 1280 / 1920, which
# is 0.67.">

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 15 minutes.
#
# <details><summary>How to get all pairs</summary>a_n4[:, None] against b_m4[None]: NumPy repeats what has size
# 1.</details>
# <details><summary>A pair that lies apart gets a positive value</summary>Its intersection has a negative width and a
# negative height. Clip both at 0 before you multiply.</details>

# %% exercise="iou"
def iou(a_n4, b_m4):
    """a_n4: (n, 4), b_m4: (m, 4), both xyxy. Returns (n, m): all pairs."""
    # >>> the larger of the left and upper sides, the smaller of the right and lower ones
    low = np.maximum(a_n4[:, None, :2], b_m4[None, :, :2])
    high = np.minimum(a_n4[:, None, 2:], b_m4[None, :, 2:])
    intersection = (high - low).clip(min=0).prod(-1)
    area_a, area_b = ((x[:, 2:] - x[:, :2]).prod(-1) for x in (a_n4, b_m4))
    return intersection / (area_a[:, None] + area_b - intersection)
    # <<<


# %% check="iou"
check_iou(iou)

# %%
box = np.array([[0.0, 0.0, 40.0, 40.0]])
right, right_and_down = np.array([8.0, 0, 8, 0]), np.array([8.0, 8, 8, 8])
print(f"8 px to the right: IoU {iou(box, box + right)[0, 0]:.3f}")
print(f"and 8 px down:     IoU {iou(box, box + right_and_down)[0, 0]:.3f}")
print(f"an object of 10 px, 8 px to the right: IoU {iou(box / 4, box / 4 + right)[0, 0]:.3f}")

# %% [markdown]
# The same eight pixels ruin a small box and hardly touch a large one. Small objects are hard twice: few pixels to
# see, and no slack to place them. (As a loss IoU has a flaw: boxes that lie apart all get 0, whatever their distance.
# Generalised IoU mends that, and [chapter 08](08_dynamic_head_on_detectors.ipynb) trains with it. The metric stays
# IoU.)
#
# ## Build: average precision
#
# A detector gives many boxes, each with a score, and a threshold on the score would trade missed objects for false
# ones. AP looks at all thresholds at once. Take the detections of one class in all images, the most certain first. For
# each one look, among the objects of its image that no earlier detection has taken, for the object with the highest
# IoU. If this IoU reaches a limit, the detection is *correct* and takes the object. If not, it is wrong and takes
# nothing. After $n$ detections,
#
# $$\mathrm{precision} = \frac{\text{correct}}{n}, \qquad \mathrm{recall} = \frac{\text{correct}}{\text{objects}}$$
#
# COCO's average precision reads, at 101 recalls 0, 0.01, …, 1, the best precision at that recall *or a higher one*,
# and takes the mean. A recall that is never reached counts as 0. Other definitions are around, and give other
# numbers: Pascal VOC of 2007 read 11 recalls, VOC since 2010 takes the exact area, scikit-learn knows no "or a higher
# one". First, from the scores of one class and from which of its detections are correct, its AP:

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 25 minutes.
#
# <details><summary>Where to begin</summary>order = np.argsort(-scores); found = np.cumsum(correct[order]). Precision
# and recall after each detection follow.</details>
# <details><summary>Nearly right, a little too low</summary>Make the precision monotonic from the right before you
# read it: np.maximum.accumulate on the reversed array.</details>
# <details><summary>How to read at 101 recalls</summary>np.searchsorted(recall, np.linspace(0, 1, 101)) is the first
# detection that reaches each. Where there is none, it is len(recall): append a 0 to the precisions.</details>

# %% exercise="ap"
def average_precision(scores, correct, objects):
    """scores (n,), correct (n,) bool, both in any order; objects: their number. Returns AP."""
    # >>> the best precision from each recall on, read at 101 recalls
    found = np.cumsum(correct[np.argsort(-scores, kind="stable")])
    recall, precision = found / objects, found / np.arange(1, len(found) + 1)
    best_from_here = np.maximum.accumulate(precision[::-1])[::-1]
    position = np.searchsorted(recall, np.linspace(0, 1, 101))
    return float(np.append(best_from_here, 0)[position].mean())
    # <<<


# %% check="ap"
check_average_precision(average_precision)

# %% [markdown]
# Two steps are left between boxes and AP. The first decides which detections are correct, as said above:


# %%
def matched(iou_nm, threshold):
    """(n,) bool: which detections of one image, best first, find an object of their own."""
    free = np.ones(iou_nm.shape[1], bool)
    correct = np.zeros(len(iou_nm), bool)
    for i, row in enumerate(iou_nm):
        candidates = np.where(free, row, -1)
        if candidates.size and candidates.max() >= threshold:
            correct[i] = True
            free[candidates.argmax()] = False
    return correct


def scored(detections, truths, label, threshold):
    """Of a class in all images: scores (n,), which are correct (n,), and the number of objects."""
    scores, correct, objects = [np.zeros(0)], [np.zeros(0, bool)], 0
    for found, truth in zip(detections, truths, strict=True):
        kept = np.flatnonzero(found["labels"] == label)
        kept = kept[np.argsort(-found["scores"][kept], kind="stable")]
        wanted = truth["boxes"][truth["labels"] == label]
        scores.append(found["scores"][kept])
        correct.append(matched(iou(found["boxes"][kept], wanted), threshold))
        objects += len(wanted)
    return np.concatenate(scores), np.concatenate(correct), objects


# %% [markdown]
# And the AP of a data set is the mean over classes that have objects and over ten thresholds, 0.50 to 0.95:


# %%
def mean_average_precision(detections, truths, classes):
    """COCO's AP without crowds and limits of area. Dicts of NumPy arrays, one for each image."""
    values = []
    for label in range(classes):
        for threshold in np.linspace(0.5, 0.95, 10):
            scores, correct, objects = scored(detections, truths, label, threshold)
            if objects:
                values.append(average_precision(scores, correct, objects))
    return float(np.mean(values))


# %%
def as_arrays(record):
    return {name: np.asarray(record[name], dtype=float) for name in record if name != "image_id"}


truths = [as_arrays({name: t[name] for name in ("boxes", "labels")}) for t in targets]
with torch.no_grad():
    detections = [as_arrays(model([data[i][0]])[0]) for i in range(len(data))]
ours = mean_average_precision(detections, truths, len(trained.categories))
print(f"yours {ours:.4f}, pycocotools {results[160]['AP']:.4f}")

# %% [markdown]
# Papers report what [pycocotools](https://github.com/cocodataset/cocoapi) computes, and yours agrees with it. Here
# are the discs that quickstart found: with a stricter limit on IoU fewer detections are correct, and the area below
# the curve shrinks.

# %% tags=["hide"]
curves = {}
for threshold in (0.5, 0.75, 0.9):
    scores, correct, discs = scored(detections, truths, 0, threshold)
    value = average_precision(scores, correct, discs)
    curves[f"IoU {threshold}: AP {value:.3f}"] = (scores, correct)
figure = precision_recall_figure(curves, discs)
Picture(figure, alt=f"Precision against recall for discs. {', '.join(curves)}.")

# %% [markdown]
# ## Small, medium, large
#
# COCO sorts objects by area: **small** is below $32^2$ pixels, **large** above $96^2$, **medium** between. The area
# is that of the object's *pixels* in the annotated image, not of its box, and not of the size that the network sees.
# (Shapes drawn in memory come without masks, so here it is the box.) Each of the three numbers is an AP over the
# objects of its size alone. Where these are few, a single missed object changes it much, so read it together with
# their number:

# %%
areas = torch.cat([target["area"] for target in targets]).numpy()
counts, _ = np.histogram(areas, [0, 32**2, 96**2, np.inf])
for name, count in zip(sizes, counts, strict=True):
    print(f"{name:9} {results[160][name]:.3f} on {count} objects")

# %% [markdown]
# ## Break it
#
# One bug is planted in `suspect`, an `iou`. Find it with pairs of which you know the answer.

# %%
suspect = drill(IOU_MISTAKES, 5)

pairs = {
    "the same box": ([0, 0, 10, 10], [0, 0, 10, 10]),
    "half of it": ([0, 0, 10, 10], [0, 0, 5, 10]),
    "far apart": ([0, 0, 10, 10], [100, 100, 110, 110]),
}
for name, pair in pairs.items():
    a, b = (np.array([box], float) for box in pair)
    print(f"{name:13} expected {iou(a, b)[0, 0]:.3f}, got {suspect(a, b)[0, 0]:.3f}")

# %% [markdown]
# All three agree, and the function is wrong all the same. What do these pairs have in common? Find one that shows it;
# `check_iou(suspect)` then names the bug. Another number in place of 5, from 0 to 7, plants another.
#
# ## A challenge

# %%
Challenge(
    "Build an image pyramid: merge the detections at 160 and 320, and beat the better of both",
    difficulty=4,
    minutes=45,
    hints={
        "Where to begin": "evaluate() takes records[160] + records[320]. Why is it no better?",
        "Every object is found twice": "Suppress doubles: torchvision.ops.batched_nms per image.",
        "Still no better": "Keep small boxes from 320 pixels only and large ones from 160 only.",
    },
    answer="Merged lists alone find every object twice, and the second box is a false positive: "
    "AP falls. After NMS each size gives what it is better at. Evaluate AP_small and AP_large "
    "apart, on pictures that you did not use to choose the limit between small and large.",
)

# %% [markdown]
# ## Recap
#
# - An image pyramid runs the network on several sizes. A feature pyramid takes the levels that a backbone has
#   anyway, and hands meaning down to the fine ones.
# - The receptive field grows with kernels, strides and dilations; strides pay with resolution.
# - Every cell is a point, and label assignment tells each what to learn. In FCOS the level follows from the farthest
#   side.
# - IoU measures a box, AP a detector: the area below the precision-recall curve, averaged over classes and over ten
#   limits of IoU.
#
# Your predictions:

# %%
value = float(iou(box, box + right)[0, 0])
nearest = min({"a": 0.8, "b": 0.67, "c": 0.5}.items(), key=lambda item: abs(item[1] - value))[0]
shifted_box.revisit(nearest, f"IoU {value:.3f}: 32 x 40 pixels are shared, 48 x 40 are covered.")

# %%
gain = {name: results[320][name] - results[160][name] for name in sizes}
better = [name for name in sizes if gain[name] > 0.01]
answer = "d" if not better else "c" if len(better) == 3 else "a" if "AP_small" in better else "b"
shown = ", ".join(f"{name} {change:+.3f}" for name, change in gain.items())
twice_as_large.revisit(answer, f"From 160 to 320 pixels: {shown}.")

# %% [markdown]
# **Check yourself.**
#
# <details><summary>Why does a pyramid hand information down and not up?</summary>
# The coarse maps have passed more layers and know what is there; the fine ones know where. Going down, meaning
# reaches the places. (Later pyramids, PAN and BiFPN, add a way up.)</details>
#
# <details><summary>A detector finds every object twice, with equal boxes and equal scores. What happens to its
# AP?</summary>
# The second box finds no free object and is wrong. So precision is about a half at every recall, and AP falls to about
# a half of what it was; recall stays. (If every second box had a lower score than all first ones, the second boxes
# would stand at the end of the ranking, and AP would not change.)</details>
#
# <details><summary>Detector B needs twice as many FLOPs for an image as detector A. How many FLOPS must a machine give
# to run B on thirty images per second?</summary> Twice as many as for A: the work for one image, times thirty images
# per second, is the work per second.</details>
#
# <details><summary>An object of 100 pixels is enlarged with its image to 200. Which level learns it now?</summary>
# The next coarser one, if the farthest side was 50 and is 100 now: P4 in place of P3. The level depends on pixels,
# not on the object.</details>
#
# Of the detector whose parts you collect through this book, this chapter adds the pyramid:

# %%
so_far("quickstart", images=PICTURES, FeaturePyramidNetwork=FeaturePyramidNetwork)
