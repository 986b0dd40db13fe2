# %% [markdown]
# # Task-aware attention
#
# | | |
# | --- | --- |
# | Time | 60 to 90 minutes with the exercises, about 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | what ReLU and a linear layer do; [chapter 02](02_scale_aware.ipynb) helps |
# | You will build | the activation that chooses its own shape for every channel and image, in both forms |
#
# A detector answers several questions with the same features: which class is here, where are the edges of the box, how
# well is the place centred on the object. A channel that helps one question may disturb another. Wheels speak for a
# vehicle but say little about where it ends; an edge says exactly that, whatever it is the edge of. And what is worth
# passing on depends on the picture.
#
# Between two layers of a network stands an activation, usually ReLU: keep what is positive, drop what is negative, for
# every channel of every image alike. Task-aware attention, $\pi_C$ in the
# [Dynamic Head paper](https://arxiv.org/abs/2106.08322), replaces it by an activation that each channel chooses for
# itself, image by image: switched off, halved, doubled, even with its negative part kept. It is
# [Dynamic ReLU](https://arxiv.org/abs/2003.10027) (Chen et al., 2020) in the place of the last step of a block. This
# chapter builds both published forms, proves one in a trained detector, trains it where a single ReLU must fail, and
# measures on which levels a real detector makes use of it.

# %% tags=["hide"]
import os

import numpy as np
import torch
from torch import nn
from torch.nn.functional import hardsigmoid

from dyhead_book.c06_task_aware.task_checks import (
    TASK_AWARE_MISTAKES,
    check_leaky_biases,
    check_paper_task,
    check_task_aware,
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
#
# The quickstart detector that comes with the book has learned such activations for its 64 channels, on four levels. A
# coarse level has few cells, a fine level has many.

# %% tags=["hide"]
follows = Question(
    "06 where the activation follows the image",
    "On which level does the learned activation change most from one image to the next?",
    a="the finest, P3: it has the most cells",
    b="the coarsest, P6: it has the fewest cells",
    c="on all levels about the same",
)
follows.ask()

# %% [markdown]
# ## The formula
#
# The activation is the larger of two lines (equation 5 of the paper, for channel $c$):
#
# $$\pi_C(F) \cdot F = \max\big(\alpha^1(F)\, F_c + \beta^1(F),\; \alpha^2(F)\, F_c + \beta^2(F)\big)$$
#
# $F_c$ is one channel of the features $F$. The two slopes $\alpha$ and the two shifts $\beta$ belong to that channel.
# Two lines are enough for several activations that you know:
#
# <img src="diagrams/what_two_lines_make.svg" alt="Five activations as the larger of two lines: ReLU takes
# slopes 1 and 0, leaky ReLU 1 and 0.1, the absolute value 1 and -1, the identity 1 and 1, and a channel is off
# with slopes 0 and 0.">


# %%
def larger_line(x, a1, b1, a2, b2):
    """max(a1 x + b1, a2 x + b2), with coefficients that broadcast against x."""
    return torch.maximum(a1 * x + b1, a2 * x + b2)


points = torch.tensor([-2.0, -1.0, 0.0, 1.0, 2.0])
known = {
    "ReLU": (1, 0, 0, 0),
    "leaky ReLU": (1, 0, 0.1, 0),
    "absolute value": (1, 0, -1, 0),
    "identity": (1, 0, 1, 0),
    "channel off": (0, 0, 0, 0),
}
for name, coefficients in known.items():
    values = larger_line(points, *coefficients).tolist()
    print(f"{name:15}", [round(value, 1) for value in values])

# %% [markdown]
# "Off" is what the paper means when it says that channels are switched on and off for a task.
#
# The coefficients are computed from the features themselves by a small network $\theta$. In the code that the authors
# published it runs like this:
#
# <img src="diagrams/task_activation.svg" alt="Task-aware attention. The mean over all places of a level goes
# through two linear maps, which give four numbers a channel: slopes and intercepts of two lines. Each feature
# becomes the larger of the two lines at it.">
#
# 1. Average each channel over all positions of the level: $C$ numbers.
# 2. A linear layer to $C / 4$ numbers, then ReLU.
# 3. A linear layer to $4C$ numbers, then the hard sigmoid $\sigma(x) = \mathrm{ReLU6}(x + 3) / 6$, which gives $y$ in
#    $[0, 1]$.
# 4. Shift and scale: $\alpha^1 = 2y$, $\alpha^2 = 2y - 1$, $\beta^1 = \beta^2 = y - \tfrac12$, each with a $y$ of its
#    own.
#
# Posts call $\theta$ a "hyper-parameter"; the paper calls it a hyper-*function*. It is not set by hand: these are two
# layers with weights that training finds.
#
# ## Build: step by step
#
# *everyday*, the detector of photographs that comes with this project, has two Dynamic Head blocks of 96 channels. A
# trace keeps what came into the task-aware attention of its first block on level P4 of the motorcycle workshop. Steps
# 1 to 3 with the trained $\theta$:

# %%
from dyhead_lab.data.photographs import photograph
from dyhead_lab.trace import trace
from dyhead_lab.zoo import load_trained

everyday = load_trained("everyday")
detector = everyday.model
workshop = photograph("workshop")
with torch.no_grad(), trace(detector) as seen:
    detector([workshop])
path = "backbone.neck.blocks.0"
x = seen[path, "after_scale"][1]
theta = detector.get_submodule(f"{path}.task")

with torch.no_grad():
    means = x.mean((2, 3))
    print("x", tuple(x.shape), "-> means", tuple(means.shape))
    hidden = theta.fc1(means).relu()
    print("first layer", tuple(hidden.shape), f"{int((hidden > 0).sum())} of them positive")
    y = hardsigmoid(theta.fc2(hidden))
    print("second layer", tuple(y.shape), f"between {float(y.min()):.2f} and {float(y.max()):.2f}")

# %% [markdown]
# For step 4 one thing has to be known: where in the $4C$ numbers is which coefficient? The published code keeps four
# groups of $C$, in the order $\alpha^1, \beta^1, \alpha^2, \beta^2$. A network could learn any order. But weights that
# were trained with one order mean nothing in another, and no shape will tell you.

# %%
with torch.no_grad():
    y_a1, y_b1, y_a2, y_b2 = y[:, :, None, None].chunk(4, dim=1)
    print("one group", tuple(y_a1.shape))
    out = larger_line(x, 2 * y_a1, y_b1 - 0.5, 2 * y_a2 - 1, y_b2 - 0.5)
error = float((out - seen[path, "after_task"][1]).abs().max())
print("out", tuple(out.shape), f"largest difference from the detector's {error:.0e}")

# %% [markdown]
# ## Build: the published form as a module
#
# The module owns the two layers of $\theta$, `fc1` and `fc2`. Trained weights are stored under these names.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 20 minutes.
#
# <details><summary>Hint: where to begin</summary>
#
# The steps above, with `self.fc1` and `self.fc2`.
#
# </details>
# <details><summary>Hint: half of the numbers are wrong</summary>
#
# Look at the order of the four groups, and at which slope may be negative.
#
# </details>
# <details><summary>Hint: only batches of two or more fail</summary>
#
# Each image has coefficients of its own: give them the shape (B, C, 1, 1).
#
# </details>


# %% exercise="module"
class TaskAwareAttention(nn.Module):
    """The published form: every channel takes the larger of two lines that the image chose."""

    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 4)
        self.fc2 = nn.Linear(channels // 4, 4 * channels)

    def forward(self, x):
        """(B, C, H, W) in and out."""
        # >>> means of the channels, theta, four groups, the larger line
        y = hardsigmoid(self.fc2(self.fc1(x.mean((2, 3))).relu()))[:, :, None, None]
        a1, b1, a2, b2 = y.chunk(4, dim=1)
        return larger_line(x, 2 * a1, b1 - 0.5, 2 * a2 - 1, b2 - 0.5)
        # <<<


# %% check="module"
check_task_aware(TaskAwareAttention)

# %% [markdown]
# The check knows common mistakes by name. Here is one: the order in which most people would have put the groups.


# %%
class InAnotherOrder(TaskAwareAttention):
    def forward(self, x):
        y = hardsigmoid(self.fc2(self.fc1(x.mean((2, 3))).relu()))[:, :, None, None]
        a1, a2, b1, b2 = y.chunk(4, dim=1)
        return larger_line(x, 2 * a1, b1 - 0.5, 2 * a2 - 1, b2 - 0.5)


check_task_aware(InAnotherOrder)

# %% [markdown]
# ### The proof: a trained detector on your class
#
# The shipped quickstart detector, built anew with your class in the place of the library's, filled *strictly* with its
# trained weights, and measured on 60 pictures:

# %%
check_same_ap("quickstart", TaskAwareAttention=TaskAwareAttention)

# %% [markdown]
# ## What it starts as
#
# When the last layer gives zeros, every $y$ is $\tfrac12$. Then $\alpha^1 = 1$, the other three are 0, and $\max(F_c,
# 0)$ is left: ReLU, exactly. It is often said that the module *starts* as ReLU. A fresh module of the published form
# is only near it: its last layer starts with small random weights, not with zeros, so its lines are a little off. The
# wider the layer, the smaller these weights, and the nearer to ReLU.

# %%
torch.manual_seed(0)
for channels in (8, 64, 256):
    fresh = TaskAwareAttention(channels)
    noise = torch.randn(2, channels, 16, 16)
    with torch.no_grad():
        off = float((fresh(noise) - noise.relu()).norm() / noise.relu().norm())
        for parameter in fresh.parameters():
            parameter.zero_()
        same = torch.equal(fresh(noise), noise.relu())
    print(f"{channels:3} channels: fresh, off ReLU by {off:.3f}; with zeros it is ReLU: {same}")

# %% [markdown]
# Why start near ReLU at all? Because the layers around are initialised for it. If $\alpha^1$ started at 0, every
# channel would start switched off, and no gradient would reach the layers in front.
#
# Other starts are possible. Let all weights be zero, and only the biases of the second layer differ from it: which
# biases make a leaky ReLU of a given slope between 0 and 1?

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 2 of 5, about 10 minutes.
#
# <details><summary>Hint: where to begin</summary>
#
# Only one of the four groups has to differ from zero. Which one is the slope of the second line?
#
# </details>
# <details><summary>Hint: the slope comes out too small</summary>
#
# Work backwards: $\alpha^2 = 2y - 1$ and $y = (\mathrm{bias} + 3) / 6$.
#
# </details>


# %% exercise="leaky"
def leaky_biases(C, slope):
    """Biases of the second layer, (4 C,), with which zero weights make leaky ReLU of this slope."""
    # >>> one group of four; what bias makes a2 the slope?
    biases = np.zeros(4 * C)
    biases[2 * C : 3 * C] = 3 * slope  # a2 = 2 (bias + 3) / 6 - 1 = bias / 3
    return biases
    # <<<


# %% check="leaky"
check_leaky_biases(leaky_biases)

# %% [markdown]
# ## Build: the paper's form
#
# The paper and the published code differ. Call $d$ what $\theta$ gives, brought to $[-1, 1]$. In both forms $d$ has
# $4C$ numbers, four groups in the order $\alpha^1, \beta^1, \alpha^2, \beta^2$, and each coefficient is computed from
# the $d$ of its own group. (With the $y$ of the steps above, $d = 2y - 1$.)
#
# | | paper | published code |
# | --- | --- | --- |
# | the mean runs over | all levels and positions, $L \times S$ | the positions of one level |
# | coefficients | one set for the whole pyramid | one set per level |
# | $d$ from the second layer's $x$ | a normalisation, then $2\,\mathrm{sigmoid}(x) - 1$ | $2\,\sigma(x) - 1$ |
# | coefficients from $d$ | left open; here as in the code | $\alpha^1 = 1 + d$, $\alpha^2 = d$, $\beta = d / 2$ |
#
# The paper does not say which normalisation either. The library takes layer normalisation over the $4C$ numbers and
# starts its weight at zero, so that this form does start as ReLU, exactly. Zeroing `fc2` instead would leave the
# normalisation a vector without variance, and its gradient would explode.

# %% [markdown] tags=["workbook"]
# **Your turn.** Difficulty 3 of 5, about 15 minutes.
#
# <details><summary>Hint: which axes does the mean run over?</summary>
#
# L and S: `F_BLSC.mean((1, 2))` has shape (B, C).
#
# </details>
# <details><summary>Hint: the shapes do not fit</summary>
#
# The coefficients are (B, C), the features (B, L, S, C): `a1[:, None, None, :]`.
#
# </details>


# %% exercise="paper"
class PaperTaskAwareAttention(nn.Module):
    """The paper's form: one set of lines for the whole pyramid."""

    def __init__(self, channels):
        super().__init__()
        self.fc1 = nn.Linear(channels, channels // 4)
        self.fc2 = nn.Linear(channels // 4, 4 * channels)
        self.norm = nn.LayerNorm(4 * channels)
        nn.init.zeros_(self.norm.weight)

    def forward(self, F_BLSC):
        """(B, L, S, C) in and out; a1 = 1 + d, a2 = d, b = d / 2."""
        # >>> one mean for all levels, theta, norm, 2 sigmoid - 1, ranges, the larger line
        hidden = self.fc1(F_BLSC.mean((1, 2))).relu()
        d = 2 * self.norm(self.fc2(hidden)).sigmoid() - 1
        d1, d2, d3, d4 = d[:, None, None, :].chunk(4, dim=-1)
        return larger_line(F_BLSC, 1 + d1, 0.5 * d2, d3, 0.5 * d4)
        # <<<


# %% check="paper"
check_paper_task(PaperTaskAwareAttention)

# %%
pyramid = torch.randn(2, 4, 25, 64)
fresh = PaperTaskAwareAttention(64)
print("a fresh module of the paper's form is ReLU:", torch.equal(fresh(pyramid), pyramid.relu()))

# %% [markdown]
# ## It learns: two tasks, one activation
#
# Now the promise in the name, on a toy with two tasks. In half of the images everything is an edge, and what is wanted
# is its strength, $|x|$, whatever its direction. In the others objects have parts: the last four channels are noise
# that should be switched off, and the rest should pass ReLU. The first channel tells the task. No fixed activation can
# do both.


# %%
def two_tasks(count, generator):
    """Features (B, 8, 6, 6), what is wanted of them, and which images ask for edges (B,)."""
    x = torch.randn(count, 8, 6, 6, generator=generator)
    edges = torch.rand(count, generator=generator) < 0.5
    x[:, 0] = torch.where(edges, 1.0, -1.0)[:, None, None]
    wanted = torch.where(edges[:, None, None, None], x.abs(), x.relu())
    wanted[~edges, 4:] = 0
    return x, wanted, edges


# %% [markdown]
# The rival is as free as it can be without looking at the image: two lines per channel, learned as parameters.


# %%
class FixedLines(nn.Module):
    """The larger of two learned lines per channel, the same for all images. It starts as ReLU."""

    def __init__(self, channels):
        super().__init__()
        self.lines = nn.Parameter(torch.tensor([1.0, 0, 0, 0])[:, None].repeat(1, channels))

    def forward(self, x):
        return larger_line(x, *self.lines[:, None, :, None, None].unbind(0))


# %%
STEPS = 5 if "DYHEAD_FAST" in os.environ else 300


def learn_two_tasks(activation, seed=0):
    """Train an activation on images of both tasks; the loss of every step."""
    images = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(activation.parameters(), lr=0.02)
    losses = []
    for _step in range(STEPS):
        x, wanted, _ = two_tasks(16, images)
        loss = (activation(x) - wanted)[:, 1:].square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


# %%
torch.manual_seed(0)
activations = {"task-aware": TaskAwareAttention(8), "fixed lines": FixedLines(8)}
losses = {name: learn_two_tasks(activation) for name, activation in activations.items()}
for name, values in losses.items():
    print(f"{name:12} loss {np.mean(values[:10]):.3f} -> {np.mean(values[-10:]):.3f}")

# %% tags=["hide"]
from dyhead_book.c06_task_aware.two_tasks import lines_of, two_tasks_figure

x, _, edges = two_tasks(64, torch.Generator().manual_seed(1))
curves = lines_of(activations, x, edges, channels=(2, 6))
Picture(
    two_tasks_figure(losses, curves),
    alt="The loss of task-aware attention falls to nearly zero, that of fixed lines stays. Its "
    "activation is the absolute value for edge images; for the others it is ReLU in channel 2 and "
    "off in channel 6.",
)

# %% [markdown]
# The loss of the fixed lines stops at about 0.2, and that is no failure of training: the best fixed activation is a
# compromise between two tasks. Task-aware attention reads the task from the mean of the first channel and draws other
# lines for each. Its activation becomes $|x|$ in one kind of image; in the other it becomes ReLU, or switches the
# channel off. $\alpha^2 = -1$ and $\alpha^1 = 0$ both lie at the end of what the hard sigmoid allows, and it gets
# there.
#
# In a detector nobody hands the task over in a channel. What the lines follow there, if anything, has to be looked at.
#
# ## What it costs
#
# $\theta$ sees one number per channel: it costs $C \cdot C/4 + C/4 \cdot 4C$ multiply-adds for a level, whatever its
# size. The two lines cost two multiplications per feature.

# %%
C, S = 256, 100 * 167  # level P3 of an image of 800 x 1333 pixels
print(f"theta                {C * C // 4 + C // 4 * 4 * C:>14,}")
print(f"the two lines        {2 * C * S:>14,}")
print(f"one 3x3 convolution  {9 * C * C * S:>14,}")

# %% [markdown]
# ## Look: photographs
#
# What has the detector of photographs made of its channels? First the features of the workshop before and after the
# task-aware attention of its second block, on P3. We take the channel that has moved farthest from ReLU, and set plain
# ReLU beside it. All three maps share one scale.

# %%
from dyhead_lab.views.task_lines import coefficients_of, lines_figure, strangest_channels

blocks = coefficients_of(seen)  # [block][level], (images, 4, channels)
second = "backbone.neck.blocks.1"
strange = strangest_channels(blocks[1][0], 1)[0]
before = seen[second, "after_scale"][0][0, strange]
after = seen[second, "after_task"][0][0, strange]
a1, b1, a2, b2 = blocks[1][0][0, :, strange].tolist()
print(f"P3, channel {strange}: max({a1:.2f} x {b1:+.2f}, {a2:.2f} x {b2:+.2f})")
print(f"{float((before < 0).float().mean()):.0%} of its places are negative before")

# %% tags=["hide"]
from dyhead_book.c06_task_aware.channel_maps import channel_maps_figure

maps = {"before": before, "ReLU": before.relu(), "task-aware": after}
Picture(
    channel_maps_figure(workshop, maps),
    alt=f"Channel {strange} of level P3 over the workshop: before, after ReLU, and after the "
    "activation that the detector chose, on one scale.",
)

# %% [markdown]
# ReLU would cut away all places where this channel is negative. Here they are passed on with a slope of their own, and
# what is positive is made larger. Now all six photographs. For each level of both blocks: how far do channels differ
# from each other, and how far does the activation of one channel follow the photograph? Both as standard deviations of
# the slopes.

# %%
from dyhead_lab.data.photographs import PHOTOGRAPHS

with torch.no_grad(), trace(detector, lambda path, name: name == "task_coefficients") as kept:
    for name in PHOTOGRAPHS:
        detector([photograph(name)])


def spreads(coefficients):
    """Standard deviation of slopes between channels, and of a channel's between images."""
    slopes = coefficients[:, [0, 2]]  # (images, a1 and a2, channels)
    return float(slopes.mean(0).std(1).mean()), float(slopes.std(0).mean())


for b in range(2):
    calls = kept[f"backbone.neck.blocks.{b}.task", "task_coefficients"]  # five levels of each photo
    for l in range(5):
        channels, images = spreads(torch.cat(calls[l::5]))
        print(f"block {b + 1}, P{l + 3}: channels {channels:.3f}, photographs {images:.3f}")

# %% [markdown]
# In every row the channels differ more from each other than one channel does from photograph to photograph: most of
# what this attention does is to give each channel an activation of its own, and a smaller part follows the image. Six
# photographs are few. Shapes has as many pictures as we like.
#
# ## Look: quickstart on pictures of Shapes
#
# quickstart looks at 24 pictures that it has not seen in training.

# %%
from dyhead_book.practice.drawn_shapes import DrawnShapes

quickstart = load_trained("quickstart").model
shapes = DrawnShapes(images=24)
with torch.no_grad(), trace(quickstart) as seen:
    quickstart([shapes.image(index) for index in range(len(shapes))])
[per_level] = coefficients_of(seen)  # the detector has one block
for level, coefficients in zip(LEVELS, per_level, strict=True):
    print(level, tuple(coefficients.shape), "images, coefficients, channels")

# %% tags=["hide"]
P6 = per_level[3]
ranked = strangest_channels(P6, P6.shape[2])
figure = lines_figure(P6, [*ranked[:4], *ranked[-4:]])
Picture(figure, alt="Two lines and their maximum for eight channels of P6, with ReLU beside them.")

# %% [markdown]
# Four of the 64 channels on the coarsest level that have moved farthest from ReLU, and four that stayed close to it.
# The strangest channels keep their negative part or steepen their positive one. Thin curves are single images. Now all
# coefficients of all levels:

# %% tags=["hide"]
from dyhead_book.c06_task_aware.coefficients import coefficients_figure

Picture(
    coefficients_figure(per_level, LEVELS),
    alt="All coefficients per level and channel: bars over images are short on P3 and long on P6.",
)

# %% [markdown]
# The same for any channel you like, with the values that it has before and after, and the weight that the layers
# behind it give it for classes and for boxes. Sort the channels by what you want to know.

# %%
from dyhead_lab.views.task_pieces import TaskPieces

TaskPieces(seen, LEVELS)

# %% [markdown]
# Two questions hide in the figure of all coefficients. Do channels differ from each other? That is the height of the
# cloud. Does a channel follow the image? That is the length of the orange bars.

# %%
follow_image = {}
for level, coefficients in zip(LEVELS, per_level, strict=True):
    channels, follow_image[level] = spreads(coefficients)
    print(f"{level}  between channels {channels:.3f}   between images {follow_image[level]:.3f}")

# %% [markdown]
# On fine levels the activation is nearly the same for every image: it has become a learned activation per channel, no
# more. On P6 it follows the image. A reason lies in step 1 of $\theta$: the mean over the 400 cells of P3 changes less
# from image to image than the mean over the 9 cells of P6.
#
# ### Does it matter?
#
# [Chapter 02](02_scale_aware.ipynb) asked this of gates, and the same experiment can be made here, without any
# training: replace the lines of every level by their own mean over images, or by ReLU, and measure AP. The layers
# behind were trained with the lines, so the number for ReLU says what this detector relies on, not what the attention
# is worth.


# %%
class LinesOfLevels(nn.Module):
    """Lines that no image changes: coefficients (4, C) of each level, fine to coarse."""

    def __init__(self, per_level):
        super().__init__()
        self.per_level, self.calls = per_level, 0

    def forward(self, x):
        lines = self.per_level[self.calls % len(self.per_level)]  # a block calls level after level
        self.calls += 1
        return larger_line(x, *lines[:, None, :, None, None].unbind(0))


def ap_with(per_level):
    """AP of quickstart with these lines."""
    neck = quickstart.get_submodule("backbone.neck.blocks.0")
    own, neck.task = neck.task, LinesOfLevels(per_level)
    try:
        return shapes_ap(quickstart, COUNT)
    finally:
        neck.task = own


# %%
from dyhead_book.practice.drawn_shapes import shapes_ap
from dyhead_lab.views.task_lines import RELU

COUNT = 20 if "DYHEAD_FAST" in os.environ else 100
means = [coefficients.mean(0) for coefficients in per_level]
relu = torch.tensor(RELU)[:, None].expand_as(means[0])
ap = {
    "learned lines": shapes_ap(quickstart, COUNT),
    "their means, fixed": ap_with(means),
    "fixed means, P6 as ReLU": ap_with([*means[:3], relu]),
    "one mean for all levels": ap_with([sum(means) / 4] * 4),
    "ReLU everywhere": ap_with([relu] * 4),
}
for name, value in ap.items():
    print(f"{name:24} AP {value:.3f}")

# %% [markdown]
# The first two numbers differ by three thousandths: that the lines follow the image adds next to nothing, even on P6,
# where they do follow it; there plain ReLU serves as well as the mean. What the detector relies on is that channels
# have lines of their own: with ReLU everywhere it loses four hundredths. And a part of that is that *levels* have them:
# with one set of lines for all levels it loses two hundredths, although all levels share the same $\theta$. As in
# chapter 02, a quantity that is computed anew for every image turns out to be used as a learned constant of each
# level. That is a finding about one small detector on simple images. A larger one may behave otherwise, and you can
# trace it the same way.
#
# ## Break it
#
# Here is a `task_aware` with one planted bug; it takes features and the weights of both layers. Find it by experiment.
# Inputs for which you know the answer help: zero weights must give ReLU; an image must not care what else is in its
# batch.

# %%
suspect = drill(TASK_AWARE_MISTAKES, 6)

rng = np.random.default_rng(0)
C = 8
zero = (np.zeros((2, C)), np.zeros(2), np.zeros((4 * C, 2)), np.zeros(4 * C))
x = rng.normal(size=(2, C, 3, 3))
print("zero weights give ReLU:", np.allclose(suspect(x, *zero), np.maximum(x, 0)))
some = tuple(rng.normal(size=weights.shape) for weights in zero)
together, alone = suspect(x, *some), suspect(x[1:], *some)
print("an image does not care about its batch:", np.allclose(together[1:], alone))

# %% [markdown]
# `drill(TASK_AWARE_MISTAKES, n)` gives another bug for each `n` from 0 to 10; their names are in
# `TASK_AWARE_MISTAKES`.
#
# ## Challenges

# %% tags=["hide"]
Challenge(
    "Name an activation that two lines and a maximum cannot make, and say why",
    difficulty=2,
    minutes=5,
    hints={
        "Draw it": "The maximum of two lines bends upwards only: it is convex.",
        "Where would it fail?": "Look for an activation whose slope falls somewhere.",
    },
    answer="ReLU6 bends downwards at 6, a sigmoid above 0. The maximum of lines is convex: its "
    "slope only grows.",
)

# %% tags=["hide"]
Challenge(
    "Give theta the mean and the maximum of each channel. What changes, and does it start as ReLU?",
    difficulty=4,
    minutes=45,
    hints={
        "What has to change": "The first layer takes 2 C numbers. Nothing else.",
        "Does it still start as ReLU?": "Which layer decides what comes out at the start?",
    },
    answer="With zeros in the last layer it does: zero weights and biases give y = 1/2 whatever "
    "comes in. The first layer doubles its weights, which is nothing beside the convolutions.",
)

# %% [markdown]
# ## Recap
#
# - $\pi_C$ replaces ReLU by the larger of two lines per channel. A small network computes slopes and shifts from the
#   mean of the features.
# - With zeros in its last layer it is ReLU, exactly. A fresh module of the published form is only near it.
# - The published code orders the groups $\alpha^1, \beta^1, \alpha^2, \beta^2$, and looks at one level at a time. The
#   paper looks at the whole pyramid.
# - It can serve two tasks that no fixed activation serves. In quickstart it follows the image on coarse levels and
#   hardly on fine ones, and constants per channel and level do as well.

# %% tags=["hide"]
most = max(follow_image, key=follow_image.get)
answer = {"P3": "a", "P6": "b"}.get(most, "c")
numbers = ", ".join(f"{level} {value:.3f}" for level, value in follow_image.items())
follows.revisit(answer, f"Standard deviation of the slopes over 24 images: {numbers}.")

# %% [markdown]
# ## Your detector so far
#
# With the scale-aware attention of [chapter 02](02_scale_aware.ipynb) and the spatial-aware attention of
# [chapter 05](05_spatial_aware.ipynb) the three parts of a Dynamic Head block are there, yours where the workbook has
# kept them, else the library's. [Chapter 07](07_dynamic_head.ipynb) puts them together.

# %%
from dyhead_book.practice.earlier import earlier

so_far(
    "quickstart",
    ScaleAwareAttention=earlier("02_scale_aware", "ScaleAwareAttention"),
    SpatialAwareAttention=earlier("05_spatial_aware", "SpatialAwareAttention"),
    TaskAwareAttention=TaskAwareAttention,
)

# %% [markdown]
# ## Check yourself
#
# <details><summary>Why does the order of the groups matter, although a network could learn any order?</summary>
#
# It could, from scratch. Weights that exist were trained with one order, and in another each number would be taken for
# a coefficient that it is not.
#
# </details>
# <details><summary>What would happen at the start of training if the first slope started at 0?</summary>
#
# Every channel would be off: both lines flat, the output zero, and no gradient for the layers in front.
#
# </details>
# <details><summary>Why does the cost of the small network not depend on the size of the image?</summary>
#
# It sees one number per channel, the mean over all positions.
#
# </details>
