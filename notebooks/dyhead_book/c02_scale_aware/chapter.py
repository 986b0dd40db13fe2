# %% [markdown]
# # Scale-aware attention
#
# | | |
# | --- | --- |
# | Time | 60 to 90 minutes with the exercises, about 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | what a feature pyramid is ([chapter 01](01_feature_pyramid.ipynb)); matrix products and means |
# | You will build | the scale-aware attention of Dynamic Head, in both forms, and a gate that learns to close |
#
# A street holds a bus that fills half of the photograph and a traffic light of ten pixels. A detector looks for the
# light on a fine level of its feature pyramid and for the bus on a coarse one. But no level should stand alone: the
# fine one knows where edges are, the coarse one knows what things are, and most objects lie between two sizes. So
# Dynamic Head lets each level also read its neighbours. How much should it listen to each? For a picture full of
# small things perhaps more to the finer one, for a portrait more to the coarser one.
#
# Scale-aware attention, $\pi_L$ in the [Dynamic Head paper](https://arxiv.org/abs/2106.08322), answers with one number
# for each level and image, a *gate*, which whole feature maps are multiplied by. It is the cheapest of the three
# attentions of Dynamic Head and the easiest to misjudge. This chapter builds both published forms, loads trained
# weights into one of them, watches a gate learn to close, and then asks the question that pictures of gates do not
# answer: does it matter that they react?

# %% tags=["hide"]
import os
from statistics import fmean

import numpy as np
import torch
from torch import nn

from dyhead_book.c02_scale_aware.scale_checks import (
    RELEASED_MISTAKES,
    check_gate_slope,
    check_paper_scale,
    check_released,
    released_formula,
)
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.rebuilt import check_same_ap
from dyhead_book.practice.so_far import so_far
from dyhead_lab.views.figures import Picture

LEVELS = ["P3", "P4", "P5", "P6"]

# %% [markdown]
# ## Predict

# %% tags=["hide"]
finer_or_coarser = Question(
    "02 finer or coarser",
    "quickstart was trained on drawn shapes of all sizes. Each of its levels mixes up to three "
    "branches: the finer neighbour, itself, the coarser neighbour. (P3, the finest, has no finer "
    "neighbour, and P6 no coarser one.) Each branch is multiplied by a gate, a number between "
    "0.5 and 1. On P4 and P5, which have both neighbours, which of them gets the larger gate?",
    a="the finer one, on both",
    b="the coarser one, on both",
    c="P4 listens to the coarser one, P5 to the finer one",
    d="it is about even",
)
finer_or_coarser.ask()

# %% tags=["hide"]
do_gates_react = Question(
    "02 do gates react",
    "The gates are computed anew for every image. We replace each of them by its mean over 300 "
    "images, the same for all. How much AP does the detector lose?",
    a="more than 0.03",
    b="between 0.005 and 0.03",
    c="less than 0.005",
)
do_gates_react.ask()

# %% [markdown]
# ## Look first: which level sees which object
#
# `everyday` is the detector of photographs that comes with this project: a pyramid of five levels, P3 to P7, and two
# Dynamic Head blocks on it. On each level its last layer gives every cell a score for each of twelve kinds of things.
# A hook keeps these scores for the motorcycle workshop that this book follows.

# %%
from dyhead_lab.data.photographs import photograph
from dyhead_lab.trace import trace
from dyhead_lab.zoo import load_trained

everyday = load_trained("everyday")
detector = everyday.model
workshop = photograph("workshop")
logits = []
hook = detector.head.cls_logits.register_forward_hook(lambda layer, given, out: logits.append(out))
with torch.no_grad(), trace(detector) as seen:
    [found] = detector([workshop])
hook.remove()
scores = {f"P{l + 3}": level[0].sigmoid().amax(0) for l, level in enumerate(logits)}
for name, level in scores.items():
    print(f"{name}: {tuple(level.shape)} cells, highest score {float(level.max()):.2f}")

# %% tags=["hide"]
from torch.nn.functional import interpolate
from torchvision.ops import nms

from dyhead_book.c02_scale_aware.level_maps import (
    best_levels,
    closing_figure,
    level_scores_figure,
)

scale = min(320 / min(workshop.shape[1:]), 512 / max(workshop.shape[1:]))
small = interpolate(workshop[None], scale_factor=scale, mode="bilinear", antialias=True)[0]
kept = nms(found["boxes"], found["scores"], 0.4)[:3]
boxes = found["boxes"][kept] * scale
best = best_levels(scores, boxes)
names = [everyday.categories[label] for label in found["labels"][kept]]
Picture(
    level_scores_figure(small.clamp(0, 1), scores, boxes, best, names),
    alt="The workshop with the highest class score of every cell, a panel for each level: "
    + ", ".join(f"{name} is seen best on P{l + 3}" for name, l in zip(names, best, strict=True))
    + ".",
)

# %% [markdown]
# All panels share one scale, and each box stands on the level with the highest score in it. (The words are what the
# detector says; a small detector errs, most of all where its scores are low.) Each level has a size of object that it
# was trained to find, around four of its cells: that is the side of the anchor boxes with which its training
# compares objects ([chapter 08](08_dynamic_head_on_detectors.ipynb)). So the large machine belongs to a level whose
# cells are large, and a thing of a few pixels could only be seen on P3. Between the levels lies a factor of two each.
# An object rarely fits one of them exactly, and the neighbours know something about it, too. That is what there is
# to mix.
#
# One caution about names, because posts about this paper stumble over it: **P3 is the finest level**. Level $l$ has
# cells of $2^l$ pixels, so a *larger* number is a *coarser* level, with fewer cells. A post that calls "level 5" the
# level of small objects has the pyramid upside down: count the cells above.
#
# ## The formula in the paper
#
# Resize all $L$ levels of the pyramid to one size with $S = H \cdot W$ positions. With $C$ channels this is a tensor
# $F$ of shape (L, S, C). Dynamic Head (its equation 3) weighs its levels:
#
# $$\pi_L(F) \cdot F = \sigma\Big(f\Big(\frac{1}{SC} \sum_{S,C} F\Big)\Big) \cdot F,
# \qquad \sigma(x) = \max\big(0, \min(1, \tfrac{x + 1}{2})\big)$$
#
# The sum runs over positions and channels, so one number per level is left. The function $f$ is linear, a 1x1
# convolution in the paper; we read it as taking $L$ numbers to $L$ numbers. $\sigma$ is a *hard sigmoid*: three
# straight lines.
#
# <img src="diagrams/two_scale_forms.svg" alt="Two forms of scale-aware attention. In the paper all levels are
# resized to one size, each gives one mean over places and channels, a linear map mixes the L means, and every
# level is multiplied by its weight between 0 and 1. In the published code up to three branches meet at a level;
# each gives C means, a linear map makes one gate between 0.5 and 1 of them, and the level is the mean of its
# gated branches.">
#
# ## Build: the paper's form
#
# This attention is an `nn.Module` with one layer, `f`. Names matter: trained weights are stored under the names of the
# modules that own them, and a module with the same names and shapes can take them over.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 10 minutes.
#
# <details><summary>Hint: where to begin</summary>
#
# `F_BLSC.mean((2, 3))` is (B, L): one number for each image and level. `self.f` takes it as it is.
#
# </details>
# <details><summary>Hint: the shapes do not fit</summary>
#
# `weights_BL[:, :, None, None] * F_BLSC` gives each level of each image its number.
#
# </details>


# %% exercise="paper"
class PaperScaleAwareAttention(nn.Module):
    """The paper's form: one weight per level, from the means of all levels."""

    def __init__(self, num_levels):
        super().__init__()
        self.f = nn.Linear(num_levels, num_levels)

    def forward(self, F_BLSC):
        """Weigh the levels of (B, L, S, C); same shape back."""
        # >>> mean over positions and channels, f, the hard sigmoid of the paper, times F
        means_BL = F_BLSC.mean((2, 3))
        weights_BL = ((self.f(means_BL) + 1) / 2).clamp(0, 1)
        return weights_BL[:, :, None, None] * F_BLSC
        # <<<


# %% check="paper"
check_paper_scale(PaperScaleAwareAttention)

# %% [markdown]
# Now with real numbers: the pyramid of the workshop, with its levels at one size, and an $f$ that passes its input on.

# %%
from dyhead_lab.attention.paper import join_levels

pyramids = []
hook = detector.backbone.fpn.register_forward_hook(lambda fpn, given, out: pyramids.append(out))
with torch.no_grad():
    detector([workshop])
hook.remove()
pyramid = list(pyramids[0].values())
F_BLSC, size = join_levels(pyramid)
print("F has shape", tuple(F_BLSC.shape), "with S =", size[0], "x", size[1])

attention = PaperScaleAwareAttention(5)
with torch.no_grad():
    attention.f.weight.copy_(torch.eye(5))
    attention.f.bias.zero_()
    weighed = attention(F_BLSC)
for l in range(5):
    mean, weight = float(F_BLSC[0, l].mean()), float(weighed[0, l].norm() / F_BLSC[0, l].norm())
    print(f"P{l + 3}: mean {mean:+.4f} -> weight {weight:.4f} = ({mean:+.4f} + 1) / 2")

# %% [markdown]
# With this $f$ the coarsest levels of the pyramid would be switched off: the means of P6 and P7 lie far below $-1$,
# where $\sigma$ is 0 and flat. So $f$ has to be learned, and what stands in front of the attention decides what it
# can see. We come back to that.
#
# ## The formula in the published code
#
# <img src="diagrams/scale_gate.svg" alt="The gate of one branch: the mean over all places gives C numbers, a
# linear map makes one of them, ReLU and a hard sigmoid bring it between 0.5 and 1, and the branch is multiplied
# by it.">
#
# The [code that the authors published](https://github.com/microsoft/DynamicHead) keeps the pyramid as it is. At each
# level up to $n = 3$ branches meet: the finer neighbour, the level itself, the coarser neighbour, all brought to the
# level's size by [chapter 05](05_spatial_aware.ipynb). Each branch $X_i$ computes a gate from its own mean over
# positions, and the level becomes the mean of the gated branches:
#
# $$g(X) = \frac{1}{6}\,\mathrm{ReLU6}\big(\mathrm{ReLU}(w \cdot \mathrm{mean}_{HW}(X) + b) + 3\big),
# \qquad Y = \frac{1}{n} \sum_{i=1}^{n} g(X_i)\, X_i$$
#
# $w$ has one weight per channel; $w$ and $b$ are the same for all branches and levels. Four things differ from the
# paper: the channels are not averaged but weighted, a gate hears only its own branch, the sigmoid is another one, and
# there is a ReLU inside. What the inner ReLU does is easy to see:

# %%
z = torch.tensor([-8.0, -1.0, 0.0, 1.5, 3.0, 8.0])
print("z        ", *(f"{x:6.2f}" for x in z))
print("paper    ", *(f"{x:6.2f}" for x in ((z + 1) / 2).clamp(0, 1)))
print("published", *(f"{x:6.2f}" for x in (z.relu() + 3).clamp(0, 6) / 6))

# %% [markdown]
# A published gate lies between 0.5 and 1. It can turn a branch down to a half, never off, and the ratio of two gates
# lies between 0.5 and 2. We call a gate *closed* where it is exactly 0.5.
#
# ### Step by step
#
# The trace above kept what met at level P4 of the workshop in the detector's first block. From the branches to the
# level, one step at a time:

# %%
block = detector.get_submodule("backbone.neck.blocks.0")
branches = list(seen["backbone.neck.blocks.0.spatial", "branches"][1].unbind(1))
gate = block.scale.gate  # the trained layer, from C numbers to 1
print("branches", *(tuple(X.shape) for X in branches))

with torch.no_grad():
    means_BnC = torch.stack([X.mean((2, 3)) for X in branches], dim=1)
    print("means over H and W", tuple(means_BnC.shape))
    z_Bn = gate(means_BnC).squeeze(-1)
    print("w . mean + b", tuple(z_Bn.shape), [round(z, 3) for z in z_Bn[0].tolist()])
    gates_Bn = (z_Bn.relu() + 3).clamp(0, 6) / 6
    print("gates", tuple(gates_Bn.shape), [round(g, 3) for g in gates_Bn[0].tolist()])
    level = sum(gates_Bn[:, i, None, None, None] * X for i, X in enumerate(branches)) / 3
error = float((level - seen["backbone.neck.blocks.0", "after_scale"][1]).abs().max())
print("level", tuple(level.shape), f"largest difference from the detector's {error:.0e}")

# %% [markdown]
# ## Build: the published form as a module

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 15 minutes.
#
# <details><summary>Hint: where to begin</summary>
#
# The four steps above, with `self.gate` for `gate`.
#
# </details>
# <details><summary>Hint: only cases with two branches fail</summary>
#
# Divide by `len(branches)`, not by 3: at the ends of the pyramid only two branches meet.
#
# </details>


# %% exercise="module"
class ScaleAwareAttention(nn.Module):
    """The published form: every branch gates itself, and the level is the mean of its branches."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Linear(channels, 1)

    def forward(self, branches):
        """branches: a list of n maps (B, C, H, W), fine to coarse. Returns one map (B, C, H, W)."""
        # >>> the gate of each branch, then the mean of the gated branches
        means_BnC = torch.stack([X.mean((2, 3)) for X in branches], dim=1)
        gates_Bn = (self.gate(means_BnC).squeeze(-1).relu() + 3).clamp(0, 6) / 6
        gated = [gates_Bn[:, i, None, None, None] * X for i, X in enumerate(branches)]
        return sum(gated) / len(branches)
        # <<<


# %% check="module"
check_released(ScaleAwareAttention)

# %% [markdown]
# ### The proof: a trained detector on your class
#
# The next cell builds the shipped quickstart detector anew with *your* class in the place of the library's, loads the
# trained weights into it (strictly: every parameter must be there, under its name and with its shape), and measures AP
# on 60 pictures of Shapes that no training has seen.

# %%
check_same_ap("quickstart", ScaleAwareAttention=ScaleAwareAttention)

# %% [markdown]
# What is learned here? Posts about the paper call $f$, and its relative $\theta$ of [chapter 06](06_task_aware.ipynb),
# "hyper-parameters". A hyper-parameter is a number that a person sets before training, such as the number of blocks.
# These are *layers*: their weights get gradients like all others. (The paper calls $\theta$ a hyper-*function*.) Their
# number, in quickstart with its one block and in the detector of photographs with its two:

# %%
quickstart = load_trained("quickstart").model
for name, model in (("quickstart", quickstart), ("everyday", detector)):
    gates = [p for path, p in model.named_parameters() if ".scale.gate" in path]
    everything = sum(p.numel() for p in model.parameters())
    learned_numbers = sum(p.numel() for p in gates)
    print(f"{name:10} {learned_numbers} learned numbers in its gates, of {everything:,}")

# %% [markdown]
# It is as cheap to run. The gates of a branch cost one pass over the features; a 3x3 convolution costs $9\,C^2\,S$
# products.

# %%
C, S = 256, 100 * 168
print(f"a branch of 100 x 168 cells: gate {C:,} products, applying it {C * S:,},")
print(f"one 3x3 convolution {9 * C * C * S:,}")

# %% [markdown]
# ## A gate that learns to close
#
# Does such a gate learn anything sensible? Here is a toy where we know what it should do. A level and its coarser
# neighbour both hold the same signal. The level's own copy is slightly noisy. The neighbour's copy is nearly clean in
# half of the images and covered by strong noise, clouds, in the others; one of its channels tells which. Who reads
# both should use the neighbour when it is clear and shut it out when it is cloudy.


# %%
def cloudy_images(count, generator):
    """Two branches (B, 8, 12, 12), the signal behind them, and which images are cloudy (B,)."""
    signal, noise, clouds = torch.randn(3, count, 8, 12, 12, generator=generator)
    cloudy = torch.rand(count, generator=generator) < 0.5
    strength = torch.where(cloudy, 3.0, 0.1)[:, None, None, None]
    own, coarser = signal + 0.5 * noise, signal + strength * clouds
    own[:, 0] = -1
    coarser[:, 0] = torch.where(cloudy, 1.0, -1.0)[:, None, None]  # the channel that tells
    return [own, coarser], signal, cloudy


# %% [markdown]
# The attention that learns is the one you built. Beside it runs a variant without the inner ReLU, whose gate can go
# down to zero. The loss is the mean square difference between the signal and the fused map, times one learned number
# `size`, because halved branches would otherwise lose for their size alone.


# %%
class OpenScaleAwareAttention(ScaleAwareAttention):
    """The published form without its inner ReLU: gates in [0, 1]."""

    def forward(self, branches):
        gates = [(self.gate(X.mean((2, 3))) + 3).clamp(0, 6) / 6 for X in branches]
        gated = [g[:, :, None, None] * X for g, X in zip(gates, branches, strict=True)]
        return sum(gated) / len(branches)


def gate_of(attention, X):
    """What an attention multiplies a branch by: hand it that branch alone."""
    return float(attention([X]).norm() / X.norm())


STEPS = 5 if "DYHEAD_FAST" in os.environ else 200


# %%
def learn_to_close(attention, seed=0):
    """Train one attention; its losses, and its gates on a clear and on a cloudy branch."""
    images = torch.Generator().manual_seed(seed)
    size = nn.Parameter(torch.ones(()))
    optimizer = torch.optim.Adam([*attention.parameters(), size], lr=0.02)
    losses, gates = [], []
    for _step in range(STEPS):
        branches, signal, cloudy = cloudy_images(16, images)
        fused = size * attention(branches)
        loss = (fused - signal)[:, 1:].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        with torch.no_grad():
            coarser = branches[1]
            pair = (coarser[~cloudy][:1], coarser[cloudy][:1])
            gates.append([gate_of(attention, X) if len(X) else float("nan") for X in pair])
    return losses, gates


# %%
torch.manual_seed(0)
forms = {"published": ScaleAwareAttention(8), "without inner ReLU": OpenScaleAwareAttention(8)}
curves = {name: learn_to_close(attention) for name, attention in forms.items()}
for name, (losses, gates) in curves.items():
    clear, cloudy = np.nanmean(gates[-20:], axis=0)
    print(f"{name:19} loss {np.mean(losses[:20]):.2f} -> {np.mean(losses[-20:]):.2f}; ", end="")
    print(f"gate {clear:.2f} on clear images, {cloudy:.2f} on cloudy ones")

# %% tags=["hide"]
Picture(
    closing_figure({n: c[0] for n, c in curves.items()}, {n: c[1] for n, c in curves.items()}),
    alt="While training, the published gate opens to 1 on clear images and closes to 0.5 on cloudy "
    "ones; without the inner ReLU it closes to nearly 0, and the loss falls further.",
)

# %% [markdown]
# Both learn what was asked. The published gate opens on clear images and closes on cloudy ones, as far as it can: to
# exactly one half, and the clouds that it lets through are the loss that remains. Without the inner ReLU the gate goes
# nearly to zero, and the loss is about half as large. So the published form cannot switch a neighbour off. It leans
# towards mixing.
#
# There is a second price. Ask how the gate moves with its input $z = w \cdot \mathrm{mean}(X) + b$, because that slope
# is all that training hears:

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 1 of 5, about 5 minutes.
#
# <details><summary>Hint: half of the elements differ</summary>
#
# Which of the two functions is flat below 0, and which is flat above 3?
#
# </details>
# <details><summary>Hint: and between?</summary>
#
# There $g(z) = (z + 3) / 6$.
#
# </details>


# %% exercise="slope"
def gate_slope(z_B):
    """dg/dz of the published gate at each of the numbers z_B; same shape."""
    # >>> a constant on one interval, zero elsewhere
    rising = (z_B > 0) & (z_B < 3)
    return rising.to(z_B) / 6
    # <<<


# %% check="slope"
check_gate_slope(gate_slope)

# %% [markdown]
# Below zero the slope is zero. A branch whose gate is closed for an image tells $w$ and $b$ nothing, and one that is
# closed for *all* images has no say of its own any more: it can only open again if the other branches, which share
# $w$ and $b$, or the layers before it happen to move it. Does that occur? Look at the trained detector.
#
# ## Look: a data set
#
# Twelve pictures of Shapes, the laboratory of this book, and the gates of quickstart on them. Run the cell,
# then choose a level and a branch with the mouse or with the arrow keys; each bar is a picture.

# %%
from dyhead_lab.data.shapes import draw_set
from dyhead_lab.views.scale_weights import ScaleWeights, gates_of

drawn = draw_set(12, 2026, 160)
pictures = [torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture, _ in drawn]


def gates_only(path, name):
    return name == "scale_weights"


with torch.no_grad(), trace(quickstart, gates_only) as seen:
    quickstart(pictures)
ScaleWeights(gates_of(seen), levels=LEVELS, images=pictures)

# %% [markdown]
# A dozen images may deceive. Here are 300 that were not used in training.

# %%
from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate

data = DrawnShapes(images=20 if "DYHEAD_FAST" in os.environ else 300)


def average_precision(model):
    return evaluate(data, detect_dataset(model, data))["AP"]


with trace(quickstart, gates_only) as seen:
    learned = average_precision(quickstart)
# batch after batch, the levels of each from fine to coarse
calls = seen["backbone.neck.blocks.0.scale", "scale_weights"]
gates = [torch.cat(calls[l :: len(LEVELS)]) for l in range(len(LEVELS))]
print(f"AP {learned:.3f} on {len(gates[0])} images; gates of P4: {tuple(gates[1].shape)}")

# %% tags=["hide"]
from dyhead_book.c02_scale_aware.scale_distribution import gate_distribution_figure

figure = gate_distribution_figure([gates], LEVELS)
Picture(
    figure,
    alt="Gates over 300 images: those of finer branches above 0.65 everywhere, those of coarser "
    "branches mostly exactly 0.5.",
)

# %% [markdown]
# The **scale ratio** of a level is the gate of its finest branch over the gate of its coarsest one, a ratio for each
# image and then their mean. Above 1 the level listens more to the finer side.


# %%
def mean_ratio(gates_Bn):
    return float((gates_Bn[:, 0] / gates_Bn[:, -1]).mean())


for name, gates_Bn in zip(LEVELS, gates, strict=True):
    closed = (gates_Bn == 0.5).float().mean(0)
    shares = ", ".join(f"{share:.2f}" for share in closed)
    print(f"{name}: ratio {mean_ratio(gates_Bn):.3f}; share of images with a closed gate: {shares}")

# %% tags=["hide"]
from dyhead_book.c02_scale_aware.scale_distribution import ratio_distribution_figure

figure = ratio_distribution_figure([gates], LEVELS)
Picture(figure, alt="Scale ratios over 300 images, per level: nearly all above 1, on every level.")

# %% [markdown]
# On every level that has both, the finer neighbour gets the larger gate. The paper found something else in its
# detector: ratios that pull fine levels towards coarser features and coarse levels towards finer ones, which is answer
# c of the first question. This detector contradicts it, and the next one may do otherwise again: a trained gate is a
# finding about one network. And wherever there is a coarser branch, its gate is closed for every image: a constant,
# which no gradient of its own will change.
#
# ## Does it matter that gates react?
#
# Is a constant gate of any use? Before the gate each branch passes a convolution and a GroupNorm, which could scale it
# as well. But all levels share these layers, so a constant that differs from level to level is something that they
# cannot express, and even a gate that never reacts may help. That leaves three questions, and each is an experiment
# without any training: replace the gates by constants and measure AP.
#
# 1. Does the reaction to the image matter? Replace each gate by its own mean over the images.
# 2. Does the difference between levels matter? Take one constant for each kind of branch (finer, own, coarser), the
#    same on all levels. This much the convolutions could have learned themselves.
# 3. Do gates matter at all? Set all of them to one.


# %%
class ConstantGates(nn.Module):
    """Gates that no image changes: one list of numbers per level, fine to coarse."""

    def __init__(self, per_level):
        super().__init__()
        self.per_level, self.calls = per_level, 0

    def forward(self, branches):
        gates = self.per_level[self.calls % len(self.per_level)]  # a block calls level after level
        self.calls += 1
        return sum(g * X for g, X in zip(gates, branches, strict=True)) / len(branches)


def ap_with(per_level):
    """AP of quickstart with these gates."""
    neck = quickstart.get_submodule("backbone.neck.blocks.0")
    own, neck.scale = neck.scale, ConstantGates(per_level)
    try:
        return average_precision(quickstart)
    finally:
        neck.scale = own


# %%
means = [gates_Bn.mean(0).tolist() for gates_Bn in gates]
three = ["finer", "own", "coarser"]
kinds = [three[1:], three, three, three[:2]]  # P3 has no finer neighbour, P6 no coarser one
by_kind = {kind: [] for kind in three}
for names, numbers in zip(kinds, means, strict=True):
    for kind, number in zip(names, numbers, strict=True):
        by_kind[kind].append(number)
ap = {
    "learned gates": learned,
    "1. means of every level": ap_with(means),
    "2. one mean a kind of branch": ap_with([[fmean(by_kind[k]) for k in row] for row in kinds]),
    "3. all gates one": ap_with([[1.0] * len(row) for row in kinds]),
}
for name, value in ap.items():
    print(f"{name:28} AP {value:.4f}")

# %% [markdown]
# The first two rows agree within two thousandths: in this detector the gates' reaction to the image adds next to
# nothing. From the first row to the last the detector loses 0.027 AP. Take that as what the gates are worth. A tenth
# of it, 0.003, is lost between "means of every level" and "one mean a kind of branch": that gates differ from level to
# level. Most of it is lost in the last row: that is the size of the gates, for which the layers behind them were
# trained.
#
# How well is that tenth known? Hardly. With fewer pictures (change `images` above) it is a quarter over the first
# hundred, and nothing over the first sixty. An earlier training of the same recipe gave a third over a hundred
# pictures, and nearly a half over the same pictures saved as JPEG files. So it is a finding that "all gates one" is
# far below the rest. Whether the third row is below the second is not known.
#
# This is one block in a small detector on synthetic pictures, trained once. It says nothing about six blocks on COCO.
# It shows how to ask: a weight that varies is not yet a weight that matters.
#
# ## What GroupNorm leaves to see
#
# Why does the published gate weigh the channels, where the paper averages them? The authors do not say, but the layer
# in front gives a reason. GroupNorm makes the mean of every group of channels zero before it applies its own scale and
# shift. As long as the scales are alike, as at the start of training, the mean over *all* channels and positions is
# then the same for every image:

# %%
seeded = torch.Generator().manual_seed(0)
x = torch.randn(3, 64, 20, 20, generator=seeded) + torch.randn(3, 64, 1, 1, generator=seeded)
with torch.no_grad():
    normalised = nn.GroupNorm(16, 64)(x)
means = normalised.mean((1, 2, 3)).abs()
print("mean over C, H, W per image:", *(f"{float(m):.4f}" for m in means))
print("mean over H, W of channel 0:", *(f"{float(m):+.4f}" for m in normalised.mean((2, 3))[:, 0]))

# %% [markdown]
# The paper's mean would see nothing here; the weighted one still does. (In the paper's own order the scale-aware
# attention comes first in a block and reads no normalised branch.) An equation and the layers around it must fit
# together.
#
# ## Break it
#
# One bug is planted in a fusion. Find it with inputs for which you know the answer, before you ask the check. It takes
# the branches, $w$ and $b$.

# %%
suspect = drill(RELEASED_MISTAKES, 4)

one = torch.ones(1, 2, 3, 3, dtype=torch.float64)
w, b = torch.full((2,), 0.5, dtype=torch.float64), torch.tensor(-1.0, dtype=torch.float64)
tries = {"z = 0": [one, one], "z = 1": [2 * one, 2 * one], "z = -1, 3": [0 * one, 4 * one]}
for name, given in tries.items():
    right, planted = (float(f(given, w, b).mean()) for f in (released_formula, suspect))
    print(f"{name:10} expected {right:.4f}, got {planted:.4f}")

# %% [markdown]
# Which of these three inputs tells most? `drill(RELEASED_MISTAKES, n)` plants another bug for each `n` from 0 to 15,
# and `RELEASED_MISTAKES` tells their names.
#
# ## Challenge

# %% tags=["hide"]
Challenge(
    "Start the bias of the gates at 1 instead of 0. Why might that help against closed gates?",
    difficulty=3,
    minutes=30,
    hints={
        "What does the slope depend on?": "It is 1/6 where 0 < z < 3 and zero elsewhere. The "
        "weights start near zero.",
        "Where to begin": "Change the bias in dyhead_lab/attention/scale.py, run dyhead-lab train "
        "quickstart, and draw this chapter's figures with load_trained on the folder of the run.",
    },
    answer="At the start z is close to the bias. At 0 half of the gates are closed from the first "
    "step on. At 1 nearly all are open, and can learn which way to go. Whether it matters for AP "
    "was not measured for this book: train two seeds each way and compare with their spread.",
)

# %% [markdown]
# ## Recap
#
# - Scale-aware attention multiplies whole feature maps by one number that depends on the image.
# - The paper: one weight per level in $[0, 1]$, from the means of all levels. The published code: one gate per branch
#   in $[0.5, 1]$, from its own weighted channels. It can learn to close, to a half, and a closed gate gives no
#   gradient.
# - It costs next to nothing. Of its worth a part, a tenth in the shipped detector and more in an earlier training, is
#   that gates differ between levels; that they react to the image adds next to nothing.

# %% tags=["hide"]
ratios = [mean_ratio(gates_Bn) for gates_Bn in gates[1:3]]
if max(ratios) < 1.05 and min(ratios) > 1 / 1.05:
    answer = "d"
elif min(ratios) > 1:
    answer = "a"
else:
    answer = "b" if max(ratios) < 1 else "c"
finer_or_coarser.revisit(answer, f"Mean ratio of P4 {ratios[0]:.2f}, of P5 {ratios[1]:.2f}.")

# %% tags=["hide"]
constant = ap["1. means of every level"]
lost = ap["learned gates"] - constant
answer = "a" if lost > 0.03 else "b" if lost > 0.005 else "c"
do_gates_react.revisit(answer, f"AP {ap['learned gates']:.3f} becomes {constant:.3f}.")

# %% [markdown]
# ## Your detector so far

# %%
so_far("quickstart", ScaleAwareAttention=ScaleAwareAttention)

# %% [markdown]
# ## Check yourself
#
# <details><summary>Why can the published form never switch a branch off?</summary>
#
# Its inner ReLU keeps the argument of the hard sigmoid at 0 or above, and $\mathrm{ReLU6}(0 + 3) / 6$ is a half.
#
# </details>
# <details><summary>Two gates are 0.5 and 1. What are the two possible scale ratios?</summary>
#
# 0.5 and 2: the ends of the range. Without the inner ReLU a ratio could be 0, or grow without bound.
#
# </details>
# <details><summary>A gate is 0.9 for every image, on one level only. What could replace it?</summary>
#
# A constant of that level, learned as one parameter. The convolution before the gate could not, because all levels
# share it.
#
# </details>
#
# [Chapter 05](05_spatial_aware.ipynb) shows where the branches come from.
