# %% [markdown]
# # Task-aware attention
#
# | | |
# | --- | --- |
# | Time | 45 to 60 minutes with the exercises, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | NumPy; what ReLU does |
# | You will build | the activation that chooses its own shape, in plain loops, in both published forms |
#
# A detector answers several questions with the same features: which class, which box, how well centred. A
# channel that helps one question may disturb another. Task-aware attention, $\pi_C$, lets the network choose
# for each channel how to pass it on: switched off, halved, doubled, even with its negative part kept. The
# choice depends on the image.

# %%
import numpy as np
import torch

from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.rebuilt import check_rebuilt
from dyhead_lab.views.figures import Picture

rng = np.random.default_rng(0)

# %% [markdown]
# ## Predict
#
# The detector that comes with the book has learned such activations for its 64 channels, on four levels. A
# coarse level has few cells, a fine level has many. On which level does the activation change most from one
# image to the next?

# %%
follows = Question(
    "06 where the activation follows the image",
    "On which level does the learned activation change most from image to image?",
    a="the finest, P3: it has the most cells",
    b="the coarsest, P6: it has the fewest cells",
    c="on all levels about the same",
)
follows.guess(None)  # put "a", "b" or "c" here

# %% [markdown]
# ## The formula
#
# <img src="diagrams/task_activation.svg" alt="Task-aware attention. The mean over all places of a level goes
# through two linear maps, which give four numbers a channel: slopes and intercepts of two lines. Each feature
# becomes the larger of the two lines at it.">
#
# The activation is the larger of two lines (equation 5 of the paper; the idea is Dynamic ReLU, Chen et al.,
# 2020):
#
# $$\pi_C(F) \cdot F = \max\big(\alpha^1(F)\, F_c + \beta^1(F),\; \alpha^2(F)\, F_c + \beta^2(F)\big)$$
#
# $F_c$ is one channel. The two slopes $\alpha$ and the two shifts $\beta$ belong to that channel, and they are
# computed from the features themselves by a small network $\theta$:
#
# 1. average each channel over all positions: $C$ numbers;
# 2. a linear layer to $C / 4$ numbers, then ReLU;
# 3. a linear layer to $4C$ numbers, then a squashing function that gives $y$ in $[0, 1]$;
# 4. shift and scale: $\alpha^1 = 2y$, $\alpha^2 = 2y - 1$, $\beta^1 = \beta^2 = y - \tfrac12$, each with a $y$ of
#    its own.
#
# These are the numbers of the released code. Its squashing function is the hard sigmoid
# $\sigma(x) = \mathrm{ReLU6}(x + 3) / 6$.
#
# **Where it starts.** When the last layer gives zeros, every $y$ is $\tfrac12$. Then $\alpha^1 = 1$, the other three
# are 0, and $\max(F_c, 0)$ is left: ReLU. A fresh module is only near that. Its last layer starts with small random
# weights, not with zeros, so its lines are a little off. The wider the layer, the smaller these weights, and the
# nearer to ReLU:

# %%
from dyhead_lab import attention

torch.manual_seed(0)
for channels in (8, 64, 256):
    fresh = attention.TaskAwareAttention(channels)
    x = torch.randn(2, channels, 16, 16)
    with torch.no_grad():
        off = float((fresh(x) - x.relu()).norm() / x.relu().norm())
        for parameter in fresh.parameters():
            parameter.zero_()
        same = torch.equal(fresh(x), x.relu())
    print(f"{channels:3} channels: a fresh module is off ReLU by {off:.3f}; with zeros it is ReLU, bit for bit: {same}")

# %% [markdown]
# ## Build: one channel by hand
#
# Two lines are enough for several well-known activations. The first number of each pair is a slope, the second
# a shift.

# %%
from dyhead_lab.attention.task import larger_line

points = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
known = {
    "ReLU": (1, 0, 0, 0),
    "leaky ReLU": (1, 0, 0.1, 0),
    "absolute value": (1, 0, -1, 0),
    "identity": (1, 0, 1, 0),
    "channel off": (0, 0, 0, 0),
}
for name, coefficients in known.items():
    print(f"{name:15}", [round(value, 1) for value in larger_line(points, *map(torch.tensor, coefficients)).tolist()])

# %% [markdown]
# "Off" is what the paper means when it says that channels are switched on and off for a task.
#
# ## Build: all of it in loops
#
# One thing in the formula is not written down: where in the $4C$ numbers is which coefficient? The released code
# keeps four groups of $C$, in the order $\alpha^1, \beta^1, \alpha^2, \beta^2$. Weights that were trained with one
# order mean nothing in another, and no shape will tell you.

# %%
from dyhead_book.c06_task_aware.task_checks import (
    TASK_AWARE_MISTAKES,
    check_leaky_biases,
    check_paper_coefficients,
    check_task_aware,
    leaky_biases_formula,
    paper_coefficients_solution,
    task_aware_loops,
)

Exercise(
    "Write task_aware in plain loops",
    difficulty=2,
    minutes=15,
    hints={
        "I do not know where to begin": "Loop over images. Average each channel: C numbers. Then two matrix "
        "products with a ReLU between. Then loop over channels.",
        "The shapes do not fit": "w1 is (C / 4, C), w2 is (4 C, C / 4): w1 @ means + b1.",
        "Half of the numbers are wrong": "Look at the order of the four groups.",
        "Only batches of two or more fail": "Each image has coefficients of its own.",
    },
    solution=task_aware_loops,
)


# %%
def task_aware(x, w1, b1, w2, b2):
    """x (B, C, H, W), w1 (C/4, C), b1 (C/4,), w2 (4C, C/4), b2 (4C,) -> (B, C, H, W)."""
    raise NotImplementedError  # your loops go here


# %% [markdown]
# ## Check

# %%
check_task_aware(task_aware)

# %% [markdown]
# The check draws cases at random and compares with the library. It knows the common mistakes by name. Here is
# one of them: the order in which most people would have put the groups.


# %%
def task_aware_with_another_order(x, w1, b1, w2, b2):
    y = np.clip(np.maximum(x.mean((2, 3)) @ w1.T + b1, 0) @ w2.T + b2 + 3, 0, 6) / 6
    a1, a2, b1, b2 = (group[:, :, None, None] for group in np.split(y, 4, axis=1))
    return np.maximum(2 * a1 * x + b1 - 0.5, (2 * a2 - 1) * x + b2 - 0.5)


check_task_aware(task_aware_with_another_order)

# %% [markdown]
# ## Build: the attention as a module
#
# A detector is made of modules, which own their weights. The released attention has two layers, `fc1` from $C$ to $C
# / 4$ numbers and `fc2` from these to $4 C$. Trained weights are stored under these names, so a module that has them
# can take over what the shipped detector has learned. That is the check: the detector, rebuilt on your class, must
# find the same.

# %%
from torch import nn
from torch.nn.functional import hardsigmoid

from dyhead_lab.data.shapes import draw_image

picture = torch.from_numpy(draw_image(2026, 0)[0]).permute(2, 0, 1) / 255


# %% exercise="module"
class TaskAwareAttention(nn.Module):
    """The released task-aware attention: every channel takes the larger of two lines that the image chose."""

    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 4)
        self.fc2 = nn.Linear(channels // 4, 4 * channels)

    def forward(self, x):
        """(B, C, H, W) in and out."""
        # >>> means of the channels, two layers with a ReLU between, hard sigmoid, four groups, the larger line
        y = hardsigmoid(self.fc2(self.fc1(x.mean((2, 3))).relu()))[:, :, None, None]
        a1, b1, a2, b2 = y.chunk(4, dim=1)
        return torch.maximum(2 * a1 * x + b1 - 0.5, (2 * a2 - 1) * x + b2 - 0.5)
        # <<<


# %% check="module"
check_rebuilt("quickstart", [picture], TaskAwareAttention=TaskAwareAttention)

# %% [markdown]
# ## The paper's form
#
# The paper and the code that its authors released differ. For $\pi_C$ these are the differences:
#
# | | paper | released code |
# | --- | --- | --- |
# | the mean runs over | all levels and positions, $L \times S$ | the positions of one level |
# | coefficients | one set for the whole pyramid | one set per level |
# | after the second layer | a normalisation, then $2\,\mathrm{sigmoid}(x) - 1$ | hard sigmoid |
# | ranges | $\alpha^1 = 1 + d$, $\alpha^2 = d$ with $d$ in $[-1, 1]$; $\beta$ is left open, here $d / 2$ | the same |
#
# The paper does not say which normalisation. The library takes layer normalisation over the $4C$ numbers and
# starts it with weight zero, so that this form starts as ReLU as well.

# %%
Exercise(
    "Write paper_coefficients: a1, b1, a2, b2 from F (B, L, S, C)",
    difficulty=2,
    minutes=15,
    hints={
        "Which axes does the mean run over?": "L and S: F.mean((1, 2)) has shape (B, C).",
        "The normalisation": "Subtract the mean of the 4 C numbers, divide by the square root of their variance "
        "plus 1e-5, multiply by gain, add shift.",
    },
    solution=paper_coefficients_solution,
)


# %%
def paper_coefficients(F_BLSC, w1, b1, w2, b2, gain, shift):
    """Returns (B, 4, C): a1, b1, a2, b2."""
    raise NotImplementedError


check_paper_coefficients(paper_coefficients)

# %% [markdown]
# ## Fast
#
# There is nothing to make fast. The network $\theta$ sees one number per channel: it costs $C \cdot C/4 + C/4 \cdot 4C$
# multiply-adds for a level, whatever its size. The two lines cost two multiplications per feature. Compare:

# %%
C, S = 256, 100 * 167  # level P3 of an image of 800 x 1333 pixels
theta = C * C // 4 + C // 4 * 4 * C
print(f"theta                {theta:>14,}")
print(f"the two lines        {2 * C * S:>14,}")
print(f"one 3x3 convolution  {9 * C * C * S:>14,}")

# %% [markdown]
# ## Look: what a trained detector has learned
#
# The quickstart detector looks at 24 pictures that it has not seen in training. A trace hands over the
# coefficients of each level.

# %%
from dyhead_book.c06_task_aware.coefficients import coefficients_figure
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.trace import trace
from dyhead_lab.views.task_lines import coefficients_of, lines_figure, strangest_channels
from dyhead_lab.zoo import load_trained

LEVELS = ["P3", "P4", "P5", "P6"]
model = load_trained("quickstart").model
images = [torch.from_numpy(draw_image(2026, index)[0]).permute(2, 0, 1) / 255 for index in range(24)]
with torch.no_grad(), trace(model) as seen:
    model(images)

[per_level] = coefficients_of(seen)  # the detector has one block
for level, coefficients in zip(LEVELS, per_level, strict=True):
    print(level, tuple(coefficients.shape), "images, coefficients, channels")

# %% [markdown]
# Four of the 64 channels on the coarsest level, those that have moved farthest from ReLU, and four that stayed
# close to it:

# %%
P6 = per_level[3]
ranked = strangest_channels(P6, P6.shape[2])
figure = lines_figure(P6, [*ranked[:4], *ranked[-4:]])
Picture(figure, alt="Two lines and their maximum for eight channels of level P6, with ReLU for comparison.")

# %% [markdown]
# The strangest channels keep their negative part or steepen their positive one. The last row is still nearly
# ReLU. Now all coefficients of all levels:

# %%
figure = coefficients_figure(per_level, LEVELS)
Picture(figure, alt="All coefficients per level and channel: bars over images are short on P3 and long on P6.")

# %% [markdown]
# The same for any channel you like, with the values that it has before and after, and the weight that the layers
# behind it give it for classes and for boxes. Sort the channels by what you want to know.

# %%
from dyhead_lab.views.task_pieces import TaskPieces

TaskPieces(seen, LEVELS)

# %% [markdown]
# Two questions hide in the figure of all coefficients. Do channels differ from each other? That is the height of
# the cloud. Does a channel follow the image? That is the length of the orange bars. Measure both as standard
# deviations:

# %%
follow_image = {}
for level, coefficients in zip(LEVELS, per_level, strict=True):
    slopes = coefficients[:, [0, 2]]  # a1 and a2
    between_channels = float(slopes.mean(0).std(1).mean())
    follow_image[level] = float(slopes.std(0).mean())
    print(f"{level}  between channels {between_channels:.3f}   between images {follow_image[level]:.3f}")

# %% [markdown]
# On fine levels the activation is nearly the same for every image: it has become a learned activation per
# channel, no more. On P6 it follows the image. The reason lies in step 1 of the network: the mean over 400 cells
# hardly changes from image to image, the mean over 9 cells does.
#
# So "attention" is a big word for what happens on P3 here. That is a finding about one small detector on simple
# images. A larger one may behave otherwise, and you can trace it the same way.
#
# ### Does it matter?
#
# Replace the learned activation by ReLU and by its own mean over the images, and compare the features that come
# out. All three see the same features before. A difference is given as a share of the features' norm.

# %%
before = [seen["backbone.neck.blocks.0", "after_scale"][level] for level in range(4)]
for level, x, coefficients in zip(LEVELS, before, per_level, strict=True):
    learned = larger_line(x, *coefficients[..., None, None].unbind(1))
    fixed = larger_line(x, *coefficients.mean(0)[..., None, None].unbind(0))
    size = learned.norm()
    relu, mean = (float((learned - other).norm() / size) for other in (x.relu(), fixed))
    print(f"{level}  changed by {relu:.0%} with ReLU, by {mean:.1%} with fixed lines")

# %% [markdown]
# Learned lines matter everywhere. That they follow the image matters on P6 and hardly on P3. Chapter 07 switches
# the attention off in the whole detector and counts boxes.
#
# ## Break it
#
# Here is a `task_aware` with one planted bug. Find it by experiment before you ask the check. Inputs for which
# you know the answer help: zero weights must give ReLU; two equal images must give equal results; an image must
# not care what else is in its batch.

# %%
suspect = drill(TASK_AWARE_MISTAKES, 6)

C = 8
zero = (np.zeros((2, C)), np.zeros(2), np.zeros((4 * C, 2)), np.zeros(4 * C))
x = rng.normal(size=(2, C, 3, 3))
print("zero weights give ReLU:", np.allclose(suspect(x, *zero), np.maximum(x, 0)))
some = tuple(rng.normal(size=weights.shape) for weights in zero)
together, alone = suspect(x, *some), suspect(x[1:], *some)
print("an image does not care about its batch:", np.allclose(together[1:], alone))

# %% [markdown]
# When you have a guess, run `check_task_aware(suspect)`. `drill(TASK_AWARE_MISTAKES, n)` gives another bug for
# each `n` from 0 to 10.
#
# ## Exercises

# %%
Exercise(
    "Which biases of the second layer make leaky ReLU of a given slope, when all weights are zero?",
    difficulty=3,
    minutes=15,
    hints={
        "Where to begin": "Only one of the four groups has to differ from zero. Which one?",
        "The slope comes out too small": "Work backwards: a2 = 2 y - 1 and y = (bias + 3) / 6.",
    },
    solution=leaky_biases_formula,
)


# %%
def leaky_biases(C, slope):
    """Returns an array (4 C,)."""
    raise NotImplementedError


check_leaky_biases(leaky_biases)

# %%
Challenge(
    "Name an activation that two lines and a maximum cannot make, and say why",
    difficulty=2,
    minutes=5,
    hints={
        "Draw it": "The maximum of two lines bends upwards only: it is convex.",
        "Where would it fail?": "Look for an activation whose slope falls somewhere.",
    },
    answer="ReLU6 bends downwards at 6, a sigmoid above 0. The maximum of lines is convex: its slope only grows.",
)

# %%
Challenge(
    "Measure on P6 which of the four coefficients follows the image most, and find the most unusual picture",
    difficulty=2,
    minutes=15,
    hints={
        "Which axis?": "per_level[3] is (images, 4, channels): the standard deviation over axis 0.",
        "The most unusual picture": "The distance of its coefficients from the mean over images, then argmax.",
    },
    answer="per_level[3].std(0).mean(1) has four numbers, one for each coefficient: the largest follows the image "
    "most. Draw the picture that you find beside one in the middle of the list before you explain it.",
)

# %%
Challenge(
    "Give theta the mean and the maximum of each channel. What has to change, and does it still start as ReLU?",
    difficulty=4,
    minutes=45,
    hints={
        "What has to change": "The first layer takes 2 C numbers. Nothing else.",
        "Does it still start as ReLU?": "Which layer decides what comes out at the start?",
    },
    answer="It does. Only the last layer decides that: zero weights and biases give y = 1/2 whatever comes in. The "
    "first layer doubles its weights, which is nothing beside the convolutions.",
)

# %% [markdown]
# ## Recap
#
# - $\pi_C$ replaces ReLU by the larger of two lines per channel. A small network computes slopes and shifts from
#   the mean of the features.
# - With zeros in its last layer it is ReLU, exactly; a fresh module starts near it.
# - The released code orders the groups $\alpha^1, \beta^1, \alpha^2, \beta^2$, and looks at one level at a time. The
#   paper looks at the whole pyramid.
# - In the shipped detector the activation follows the image on coarse levels and hardly on fine ones.

# %%
most = max(follow_image, key=follow_image.get)
answer = {"P3": "a", "P6": "b"}.get(most, "c")
numbers = ", ".join(f"{level} {value:.3f}" for level, value in follow_image.items())
follows.revisit(answer, f"Standard deviation of the slopes over 24 images: {numbers}.")

# %% [markdown]
# **Check yourself.** Why does the order of the groups matter although the network could learn any order? What
# would happen at the start of training if $\alpha^1$ started at 0? Why does the cost of $\theta$ not depend on the
# size of the image?
