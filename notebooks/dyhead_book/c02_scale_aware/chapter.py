# %% [markdown]
# # Scale-aware attention
#
# | | |
# | --- | --- |
# | Time | 45 to 60 minutes with the exercises, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | what a feature pyramid is (chapter 01); matrix products and means |
# | You will build | the scale-aware attention of Dynamic Head, as the paper writes it and as its code computes it |
#
# One image holds objects of 8 pixels and objects of 150. A detector looks for small ones on a fine level of
# its feature pyramid and for large ones on a coarse level. Which level should speak louder? Scale-aware
# attention answers with one number for each level and image.

# %%
import torch

from dyhead_book.c02_scale_aware.scale_checks import (
    RELEASED_MISTAKES,
    check_gate_slope,
    check_mean_ratio,
    check_paper_scale,
    check_released_fusion,
    gate_slope,
    mean_ratio,
    released_fusion,
)
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.rebuilt import check_rebuilt, rebuilt
from dyhead_lab.views.figures import Picture

LEVELS = ["P3", "P4", "P5", "P6"]

# %% [markdown]
# ## Predict
#
# Put your guess in place of `None`. It is kept in your home folder and comes back at the end of the chapter.

# %%
finer_or_coarser = Question(
    "02 finer or coarser",
    "A small detector was trained on shapes of all sizes. Each of its levels mixes up to three branches: the finer "
    "neighbour, itself, the coarser neighbour. Which neighbour gets the larger gates?",
    a="the finer one, on every level",
    b="the coarser one, on every level",
    c="fine levels look at the coarser one, coarse levels at the finer one",
    d="it is about even",
)
finer_or_coarser.guess(None)

# %%
do_gates_react = Question(
    "02 do gates react",
    "The gates are computed anew for every image. We replace each of them by its mean over 100 images, the same for "
    "all. How much AP does the detector lose?",
    a="more than 0.03",
    b="between 0.005 and 0.03",
    c="less than 0.005",
)
do_gates_react.guess(None)

# %% [markdown]
# ## The formula in the paper
#
# Resize all $L$ levels of the pyramid to one size with $S = H \cdot W$ positions. With $C$ channels this is a
# tensor $F$ of shape (L, S, C). Dynamic Head (Dai et al., 2021, equation 3) weighs its levels:
#
# $$\pi_L(F) \cdot F = \sigma\Big(f\Big(\frac{1}{SC} \sum_{S,C} F\Big)\Big) \cdot F,
# \qquad \sigma(x) = \max\big(0, \min(1, \tfrac{x + 1}{2})\big)$$
#
# The sum runs over positions and channels, so one number per level is left. The function $f$ is linear and
# takes $L$ numbers to $L$ numbers. $\sigma$ is a *hard sigmoid*: three straight lines.
#
# ## Build: the paper's form
#
# Three lines. `F_BLSC` holds a batch of $B$ images, `f_LL` and `b_L` are the weight and bias of $f$.


# %%
def my_paper_scale(F_BLSC, f_LL, b_L):
    mean_BL = F_BLSC.mean((2, 3))
    weight_BL = ((mean_BL @ f_LL.T + b_L + 1) / 2).clamp(0, 1)
    return weight_BL[:, :, None, None] * F_BLSC


check_paper_scale(my_paper_scale)

# %% [markdown]
# The check holds the function against the library on random cases. Spoil it to see what it says: swap `f_LL.T`
# for `f_LL`, or leave out the `clamp`.
#
# Now with real numbers. We take the pyramid of the trained quickstart detector for one picture, resize its
# levels, and let $f$ be the identity.

# %%
from dyhead_lab.attention.paper import join_levels
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.zoo import load_trained

trained = load_trained("quickstart")
model = trained.model
image = torch.from_numpy(draw_image(2026, 1)[0]).permute(2, 0, 1) / 255
pyramids = []  # a hook keeps what the pyramid hands to the Dynamic Head
handle = model.backbone.fpn.register_forward_hook(lambda module, inputs, output: pyramids.append(output))
with torch.no_grad():
    model([image])
handle.remove()
F_BLSC, size = join_levels(list(pyramids[0].values()))
print("F has shape", tuple(F_BLSC.shape), "with S =", size[0], "x", size[1])

# %%
identity = torch.eye(len(LEVELS))
weighed = my_paper_scale(F_BLSC, identity, torch.zeros(len(LEVELS)))
for l, name in enumerate(LEVELS):
    mean = float(F_BLSC[0, l].mean())
    weight = float(weighed[0, l].norm() / F_BLSC[0, l].norm())
    print(f"{name}: mean {mean:+.4f} -> weight {weight:.4f} = ({mean:+.4f} + 1) / 2")

# %% [markdown]
# ## The formula in the released code
#
# <img src="diagrams/scale_gate.svg" alt="The gate of one branch: the mean over all places gives C numbers, a
# linear map makes one of them, ReLU and a hard sigmoid bring it between 0.5 and 1, and the branch is multiplied
# by it.">
#
# The code that the authors released keeps the pyramid as it is. At each level up to $n = 3$ branches meet: the
# finer neighbour, the level itself, the coarser neighbour, all brought to the level's size. Each branch
# $X_i$ computes a gate from its own mean over positions, and the level becomes the mean of the gated branches:
#
# $$g(X) = \frac{1}{6}\,\mathrm{ReLU6}\big(\mathrm{ReLU}(w \cdot \mathrm{mean}_{HW}(X) + b) + 3\big),
# \qquad Y = \frac{1}{n} \sum_{i=1}^{n} g(X_i)\, X_i$$
#
# $w$ has one weight per channel; $w$ and $b$ are the same for all branches and levels. Four things differ
# from the paper: the channels are not averaged but weighted, a gate sees only its own branch, the sigmoid is
# another one, and there is a ReLU inside. What the inner ReLU does is easy to see:

# %%
z = torch.tensor([-8.0, -1.0, 0.0, 1.5, 3.0, 8.0])
paper_weight = ((z + 1) / 2).clamp(0, 1)
released_gate = (z.relu() + 3).clamp(0, 6) / 6
print("z       ", *(f"{x:6.2f}" for x in z))
print("paper   ", *(f"{x:6.2f}" for x in paper_weight))
print("released", *(f"{x:6.2f}" for x in released_gate))

# %% [markdown]
# A released gate lies between 0.5 and 1. It can turn a branch down to a half, never off. The ratio of two
# gates therefore lies between 0.5 and 2.
#
# ## Build: the released form

# %%
Exercise(
    "Write the fusion of the released code",
    difficulty=2,
    minutes=15,
    hints={
        "I do not know where to begin": "One branch first: X.mean((2, 3)) is (B, C). Its product with w_C is (B,).",
        "The shapes do not fit": "gate_B[:, None, None, None] gives every image of (B, C, H, W) its own number.",
        "Only cases with two branches fail": "Divide by len(branches), not by 3.",
    },
    solution=released_fusion,
)


# %%
def my_released_fusion(branches, w_C, b):
    """branches: a list of (B, C, H, W), fine to coarse; w_C: (C,); b: a number. Returns (B, C, H, W)."""
    raise NotImplementedError


check_released_fusion(my_released_fusion)

# %% [markdown]
# The rest of the chapter runs with your function if it is right, and with the library's solution until then.
#
# ## Check: the trained detector
#
# A trace of the quickstart detector holds the branches that met at each level, and what came out. Your function
# must give the same, with the weights that the detector has learned.

# %%
from dyhead_lab.trace import trace

fusion = my_released_fusion if check_released_fusion(my_released_fusion) else released_fusion
with torch.no_grad(), trace(model) as seen:
    model([image])

block = "backbone.neck.blocks.0"
gate = model.get_submodule(f"{block}.scale").gate
for l, name in enumerate(LEVELS):
    branches_BnCHW = seen[f"{block}.spatial", "branches"][l]
    ours = fusion(list(branches_BnCHW.unbind(1)), gate.weight[0].detach(), gate.bias[0].detach())
    error = float((ours - seen[block, "after_scale"][l]).abs().max())
    gates = [f"{g:.3f}" for g in seen[f"{block}.scale", "scale_weights"][l][0].tolist()]
    print(f"{name}: gates {', '.join(gates)}; difference from the detector", "below 1e-5" if error < 1e-5 else error)

# %% [markdown]
# One of these numbers appears again and again. Keep it in mind.
#
# ## Build: the attention as a module
#
# A function explains a formula. A detector is made of modules: they own their weights, and a training finds the
# weights through them. So write the same once more as an `nn.Module`. It has one layer, `gate`, a linear map from $C$
# numbers to one; its weight is $w$ and its bias is $b$. Names matter here: trained weights are stored under the names
# of the modules that own them, so a module with the same names and shapes can take them over.

# %%
from torch import nn


# %% exercise="module"
class ScaleAwareAttention(nn.Module):
    """The released scale-aware attention: every branch gates itself, and the level is the mean of its branches."""

    def __init__(self, channels):
        super().__init__()
        self.gate = nn.Linear(channels, 1)

    def forward(self, branches):
        """branches: a list of n maps (B, C, H, W). Returns one map (B, C, H, W)."""
        # >>> the gate of each branch, then the mean of the gated branches
        means_BnC = torch.stack([X.mean((2, 3)) for X in branches], dim=1)
        gates_Bn = (self.gate(means_BnC).squeeze(-1).relu() + 3).clamp(0, 6) / 6
        return sum(gates_Bn[:, i, None, None, None] * X for i, X in enumerate(branches)) / len(branches)
        # <<<


# %% check="module"
check_rebuilt("quickstart", [image], ScaleAwareAttention=ScaleAwareAttention)

# %% [markdown]
# This check is stricter than random cases. It builds the shipped detector anew with *your* class in the place of the
# library's, loads the trained weights into it (strictly: every parameter must be there under its name), and compares
# what the two detectors find. Below, the same detector is evaluated on 100 images.
#
# ## Fast
#
# Is there anything to make fast? Count. For a level of $S$ positions the gates of a branch cost one pass over the
# features and $C$ products. A 3x3 convolution costs $9\,C^2\,S$ products.

# %%
C, S = 256, 100 * 168
print(f"products per branch at 100 x 168: gate {C:,}, applying it {C * S:,}, one 3x3 convolution {9 * C * C * S:,}")

# %% [markdown]
# The convolution does 2,304 times the work of applying a gate. Scale-aware attention is nearly free. That is the
# first reason to try it.
#
# ## Look: one image

# %%
from dyhead_lab.data.shapes import draw_set
from dyhead_lab.views.scale_weights import ScaleWeights, gates_of

pictures = [torch.from_numpy(picture).permute(2, 0, 1) / 255 for picture, _ in draw_set(12, 2026, 160)]
with torch.no_grad(), trace(model, lambda path, name: name == "scale_weights") as seen:
    model(pictures)
ScaleWeights(gates_of(seen), levels=LEVELS, images=pictures)

# %% [markdown]
# ## Look: a data set
#
# A dozen images may deceive. Here are 100 that were not used in training.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate

folder = TemporaryDirectory()
write_shapes(Path(folder.name) / "val", images=100, seed=2026)
data = coco_folder(Path(folder.name), "val")
with trace(model, lambda path, name: name == "scale_weights") as seen:
    learned = evaluate(data, detect_dataset(model, data))

with rebuilt("quickstart", ScaleAwareAttention=ScaleAwareAttention) as on_my_class:
    built = evaluate(data, detect_dataset(on_my_class, data))
print(f"AP of the shipped detector {learned['AP']:.6f}, on the class of this chapter {built['AP']:.6f}")

calls = seen[f"{block}.scale", "scale_weights"]  # batch after batch, the levels of each fine to coarse
gates = [torch.cat(calls[l :: len(LEVELS)]) for l in range(len(LEVELS))]
print(f"AP {learned['AP']:.3f} on {len(gates[0])} images")

# %%
from dyhead_book.c02_scale_aware.scale_distribution import gate_distribution_figure, ratio_distribution_figure

figure = gate_distribution_figure([gates], LEVELS)
Picture(figure, alt="Gates over 100 images: finer branches above 0.65 everywhere, coarser ones mostly exactly 0.5.")

# %% [markdown]
# The **scale ratio** of a level is the gate of its finest branch over the gate of its coarsest one.

# %%
for name, gates_Bn in zip(LEVELS, gates, strict=True):
    print(f"{name}: mean ratio {mean_ratio(gates_Bn):.3f}")

figure = ratio_distribution_figure([gates], LEVELS)
Picture(figure, alt="Scale ratios over 100 images, per level: nearly all above 1, on every level.")

# %% [markdown]
# ## A gate that has closed
#
# How often is a gate exactly 0.5?

# %%
for name, gates_Bn in zip(LEVELS, gates, strict=True):
    shares = (gates_Bn == 0.5).float().mean(0)
    print(f"{name}: share of images at 0.5 per branch, fine to coarse:", *(f"{share:.2f}" for share in shares))

# %% [markdown]
# A gate of exactly 0.5 means that the inner ReLU is closed: $w \cdot \mathrm{mean}(X) + b$ is negative. There the
# slope is zero, so this gate tells $w$ and $b$ nothing during training. On most levels the gate of the coarser branch
# is closed for every image. It is a constant now.
#
# Is a constant gate of any use? Before the gate each branch passes a convolution and a GroupNorm, which could scale it
# as well. But all levels share these layers. A constant that differs from level to level is something that they cannot
# express, so even a gate that never reacts may help. That leaves three questions, and each is an experiment without any
# training: replace the gates by constants and measure AP.
#
# 1. Does the reaction to the image matter? Replace each gate by its own mean over the images.
# 2. Does the difference between levels matter? Take one constant for each kind of branch (finer, own, coarser), the
#    same on all levels. This much the convolutions could have learned themselves.
# 3. Do gates matter at all? Set all of them to one.

# %%
from statistics import fmean

from dyhead_lab.attention.scale import mean_of_branches


def ap_with(fixed_gates):
    """AP when the gates are constants: one list of numbers per level, fine to coarse."""
    level = 0

    def refuse(module, arguments, output):
        nonlocal level
        numbers = fixed_gates[level % len(fixed_gates)]
        level += 1
        return mean_of_branches([g * X for g, X in zip(numbers, arguments[0], strict=True)])

    handle = model.get_submodule(f"{block}.scale").register_forward_hook(refuse)
    try:
        return evaluate(data, detect_dataset(model, data))["AP"]
    finally:
        handle.remove()


# %%
means = [gates_Bn.mean(0).tolist() for gates_Bn in gates]
kinds = [["own", "coarser"], *[["finer", "own", "coarser"]] * (len(LEVELS) - 2), ["finer", "own"]]
pairs = [
    (kind, mean) for row, numbers in zip(kinds, means, strict=True) for kind, mean in zip(row, numbers, strict=True)
]
of_kind = {kind: fmean(mean for other, mean in pairs if other == kind) for kind, _ in pairs}
ap = {
    "learned gates": learned["AP"],
    "1. means of every level": ap_with(means),
    "2. one mean a kind of branch": ap_with([[of_kind[kind] for kind in row] for row in kinds]),
    "3. all gates one": ap_with([[1.0] * len(row) for row in kinds]),
}
for name, value in ap.items():
    print(f"{name:28} AP {value:.4f}")

# %% [markdown]
# The first two lines agree within half a thousandth: in this detector the gates' reaction to the image adds nothing.
# The third line lies about halfway between them and the last one. So about half of what the gates are worth is that
# they differ from level to level, and the other half is their size alone, which the layers behind them were trained
# with.
#
# This is one block in a small detector on synthetic pictures. It says nothing about six blocks on COCO. It shows
# how to ask: a weight that varies is not yet a weight that matters.

# %% [markdown]
# ## Look: what GroupNorm leaves to see
#
# Why does the released gate weigh the channels, where the paper averages them? GroupNorm makes the mean of every
# group of channels zero, before its own scale and shift. The mean over *all* channels and positions is then the
# same for every image.

# %%
seeded = torch.Generator().manual_seed(0)
x = torch.randn(3, 64, 20, 20, generator=seeded) + torch.randn(3, 64, 1, 1, generator=seeded)
with torch.no_grad():
    normalised = torch.nn.GroupNorm(16, 64)(x)
print("mean over C, H, W per image:", *(f"{abs(float(m)):.4f}" for m in normalised.mean((1, 2, 3))))
print("mean over H, W of channel 0:", *(f"{float(m):+.4f}" for m in normalised.mean((2, 3))[:, 0]))

# %% [markdown]
# The paper's mean would see nothing here. The weighted one still does. An equation and the layers around it must
# fit together.

# %% [markdown]
# ## Break it
#
# One bug is planted in a fusion. Find it with inputs for which you know the answer, before you ask the check.

# %%
suspect = drill(RELEASED_MISTAKES, 4)

one = torch.ones(1, 2, 3, 3, dtype=torch.float64)
w, b = torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor(-1.0, dtype=torch.float64)
for name, branches in {"z = 0": [one, one], "z = 1": [2 * one, 2 * one], "z = -1, 3": [0 * one, 4 * one]}.items():
    print(f"{name:10} expected {released_fusion(branches, w, b).mean():.4f}, got {suspect(branches, w, b).mean():.4f}")

# %% [markdown]
# Which of these three inputs tells most? When you have a guess, run `check_released_fusion(suspect)`. The numbers 0 to
# 10 give eleven different bugs.

# %% [markdown]
# ## Exercises

# %%
Exercise(
    "Write the mean scale ratio of a level",
    difficulty=1,
    minutes=5,
    hints={
        "Only cases with three branches fail": "The coarsest branch is gates_Bn[:, -1].",
        "The numbers are nearly right": "A ratio for each image first, the mean last.",
    },
    solution=mean_ratio,
)


# %%
def my_mean_ratio(gates_Bn):
    """gates_Bn: (images, branches), fine to coarse. Returns a number."""
    raise NotImplementedError


check_mean_ratio(my_mean_ratio)

# %%
Exercise(
    "Write the slope of the released gate, dg/dz, for numbers z_B",
    difficulty=2,
    minutes=10,
    hints={
        "Half of the elements differ": "Which of the two functions is flat below 0, and which above 3?",
        "What has this to do with closed gates?": "Where the slope is zero, the loss says nothing to w and b.",
    },
    solution=gate_slope,
)


# %%
def my_gate_slope(z_B):
    """z_B: any numbers. Returns the slope at each of them, same shape."""
    raise NotImplementedError


check_gate_slope(my_gate_slope)

# %%
Challenge(
    "Change the released gate so that it can close a branch. What is the range of the scale ratio then?",
    difficulty=2,
    minutes=10,
    hints={
        "What keeps the gate above 0.5?": "The inner ReLU: relu6(0 + 3) / 6 is a half.",
        "And the ratio?": "Let the finer gate go to 0, then the coarser one.",
    },
    answer="Without the inner ReLU a gate lies in [0, 1]. A ratio may be 0, or grow without bound. A figure should "
    "then show the share of the finer side, g / (g + g'), which stays in [0, 1].",
)

# %%
Challenge(
    "Start the bias of the gates at 1 instead of 0. Why might that help against closed gates? Train it and see",
    difficulty=3,
    minutes=30,
    hints={
        "What does the slope depend on?": "It is 1/6 where 0 < z < 3 and zero elsewhere. The weights start near zero.",
        "Where to begin": "Change the bias in dyhead_lab/attention/scale.py, run dyhead-lab train quickstart, and open "
        "the last figures of this chapter with load_trained on the folder of the run.",
    },
    answer="At the start z is close to the bias. At 0 half of the gates are closed from the first step on. At 1 all "
    "are open, and each can learn which way to go. Whether it matters for AP was not measured for this book: "
    "train two seeds each way and compare the difference with their spread.",
)

# %% [markdown]
# ## Recap
#
# - Scale-aware attention multiplies a whole level by one number that depends on the image.
# - The paper: one weight per level in $[0, 1]$, from the means of all levels. The released code: one gate per branch
#   in $[0.5, 1]$, from its own weighted channels.
# - It costs next to nothing. Whether it reacts to the image must be measured.
#
# Your predictions:

# %%
ratios = [float(mean_ratio(gates_Bn)) for gates_Bn in gates]
shown = ", ".join(f"{name} {ratio:.2f}" for name, ratio in zip(LEVELS, ratios, strict=True))
if max(ratios) < 1.05 and min(ratios) > 1 / 1.05:
    answer = "d"
elif min(ratios) > 1:
    answer = "a"
else:
    answer = "b" if max(ratios) < 1 else "c"
finer_or_coarser.revisit(answer, f"Mean ratio per level: {shown}.")

# %%
constant = ap["1. means of every level"]
lost = ap["learned gates"] - constant
answer = "a" if lost > 0.03 else "b" if lost > 0.005 else "c"
do_gates_react.revisit(answer, f"AP {ap['learned gates']:.3f} becomes {constant:.3f}.")

# %% [markdown]
# **Check yourself.** Why can the released form never switch a branch off? Two gates are 0.5 and 1: what are the two
# possible scale ratios? A gate is 0.9 for every image: what could replace it?
#
# Chapter 05 shows where the branches come from.
