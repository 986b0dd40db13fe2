# %% [markdown]
# # Write your own attention
#
# | | |
# | --- | --- |
# | Time | 75 minutes with the exercises, about 3 minutes to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | chapter [07](07_dynamic_head.ipynb); [09](09_self_attention_to_deformable.ipynb) helps |
# | You will build | a fourth attention: designed, plugged into a Dynamic Head, trained, saved, loaded and ablated |
#
# Dynamic Head looks along levels, then positions, then channels, one axis at a time. That is how [chapter
# 07](07_dynamic_head.ipynb) made an attention over all of them affordable, and it has a price: a relation between two
# places that differ in level *and* position is not compared by any of the three. Its
# [authors](https://arxiv.org/abs/2106.08322) leave open whether several axes should be attended *jointly*.
#
# So far this book has rebuilt what others designed. Here you design. A new module is an idea plus a handful of plain
# decisions: what it reads, how its result comes back, what it computes before it has learned anything, what it costs.
# So the chapter goes all the way: a problem that the three cannot solve, a module, a check, a training, weights that
# come back from a file, and an ablation that can tell you that your idea was not worth it.

# %% tags=["hide"]
import os

import torch
import torch.nn.functional as F
from torch import nn

import dyhead_lab
from dyhead_book.c17_write_your_own_attention.own_attention_checks import (
    JOINT_MISTAKES,
    check_coarse_reader,
    check_joint_attention,
    check_joint_macs,
    check_tokens,
)
from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.predictions import Question
from dyhead_lab.attention import DyHead
from dyhead_lab.trace import emit, trace
from dyhead_lab.views.figures import Picture
from dyhead_lab.zoo import load_trained

FAST = "DYHEAD_FAST" in os.environ  # the tests of this book train for a handful of steps

# %% [markdown]
# ## A problem that is not along one axis
#
# <img src="diagrams/pairs_problem.svg" alt="Three levels of 8 x 8, 4 x 4 and 3 x 3 cells with four marks each.
# One mark of the finest level, in red, has the same code as a mark of the coarsest level, at an unrelated
# place. Between the two lies a level without any trace of it.">
#
# A pyramid has three levels. On each lie four *marks* at random places. A mark is a random code, new in every
# image, so no code can be learned by heart. One of the four marks on the finest level lies on the coarsest level
# too, at some other place. Which one?

# %%
from dyhead_book.c17_write_your_own_attention.pairs import (
    CHANNELS,
    MARKS,
    SIZES,
    draw_pairs,
    solved,
)

problem = draw_pairs(256, torch.Generator().manual_seed(1))
for level in problem.levels:
    print("level", tuple(level.shape))
print("first answers:", problem.answer_B[:8].tolist(), f"(guessing is right in {1 / MARKS:.0%})")

# %% [markdown]
# Think of the same kind of object, once near and once far: large here and small there. To find it one must compare
# places that lie anywhere, on levels that are no neighbours. Scale-aware attention weighs whole levels, spatial-aware
# attention moves nine taps by a few cells, task-aware attention knows means. None compares.
#
# ## Predict
#
# Four heads will be trained on it: one block of the Dynamic Head; the same with an attention in which every place of
# a level is compared with every place of its own level; the same with one in which every place is compared with every
# place of *all* levels; and this last attention alone, with the three switched off.

# %%
who_solves_it = Question(
    "17 who finds the twin",
    "We train four heads on the problem, with three seeds each. Which of them solve more than half "
    "of the images with at least one of the seeds?",
    a="all, the Dynamic Head alone too",
    b="those that compare places, whether on one level or on all",
    c="only those that compare places of all levels at once",
    d="none in so few steps",
)
who_solves_it.ask()

# %% [markdown]
# ## Design
#
# <img src="diagrams/fourth_attention.svg" alt="A fourth attention. The places of all levels become one list of
# N tokens. Each token makes a query, a key and a value. One softmax over all levels and places weighs the
# values, the result is multiplied by gamma, which starts at zero, and added to the token. Cut into levels
# again, it enters the block: spatial, scale, task.">
#
# **What meets what?** Take all levels of the pyramid as they are, and all their places as one list of
# $N = \sum_l H_l W_l$ *tokens* of $C$ channels. Every token asks every token
# ([Vaswani et al., 2017](https://arxiv.org/abs/1706.03762)):
#
# $$Y = F + \gamma \cdot \mathrm{softmax}\Big(\frac{Q K^\top}{\sqrt C}\Big) V, \qquad Q, K, V \text{ linear in }
# \mathrm{LayerNorm}(F)$$
#
# One softmax runs over levels *and* positions, so they compete. That is what "jointly" means.
#
# **How does it come back?** It is added to what was there. An attention that replaced the features would have to
# learn to copy them first.
#
# **What does it compute before it has learned?** $\gamma$ is one learned number that starts at zero: then $Y = F$,
# and the attention may be put into a trained detector without harm. The other weights do not start at zero, or
# $\gamma$ would never get a gradient. And queries start with the same weights as keys, so that a place reads what
# resembles it. You will see whether that matters.
#
# **What does it cost?** $N^2$ comparisons, which are counted below.
#
# ## Build: tokens
#
# From maps to one list of tokens, and back.

# %% [markdown] tags=["workbook"]
# **Exercise 1** (difficulty 1, 10 minutes): `to_tokens(levels)`. Return one tensor (B, N, C).
#
# <details><summary>The numbers are mixed up</summary>flatten(2) makes (B, C, S) of a map (B, C, H, W); transpose(1,
# 2) makes (B, S, C) of that.</details>
#
# <details><summary>How do levels come together?</summary>torch.cat along axis 1, the tokens.</details>


# %% exercise="tokens"
def to_tokens(levels):
    """Maps (B, C, H, W), fine to coarse, as tokens (B, N, C): level after level, row after row."""
    # >>> flatten each map, move the channels behind, join the levels
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], dim=1)
    # <<<


# %% check="tokens"
check_tokens(to_tokens)


# %%
def to_levels(tokens_BNC, like):
    """The tokens as maps of the sizes of `like` again."""
    parts = tokens_BNC.split([x[0, 0].numel() for x in like], dim=1)
    return [part.transpose(1, 2).reshape(x.shape) for part, x in zip(parts, like, strict=True)]


tokens = to_tokens(problem.levels)
back = to_levels(tokens, problem.levels)
print("tokens:", tuple(tokens.shape))
print("there and back:", all(torch.equal(x, y) for x, y in zip(problem.levels, back, strict=True)))

# %% [markdown]
# ## Build: the attention
#
# A module that plugs into a block is made from the number of channels, takes all levels and returns maps of the same
# shapes; no more is asked of it. What it `emit`s can be traced and drawn: emit the map of weights, (B, 1, N, N),
# under the name that every view of this library knows, `attention_maps`.

# %% [markdown] tags=["workbook"]
# **Exercise 2** (difficulty 3, 20 minutes): `forward` of `JointAttention`, the formula above. Emit the weights as (B,
# 1, N, N), and return a list of maps in the shapes of `levels`.
#
# <details><summary>Where to begin</summary>tokens = to_tokens(levels), then
# self.query_key_value(self.norm(tokens)).chunk(3, dim=-1).</details>
#
# <details><summary>Softmax over what?</summary>Row i of Q K^T belongs to token i. What token i reads sums to 1:
# softmax(-1).</details>
#
# <details><summary>The last line</summary>tokens + self.gamma * weights @ v, and to_levels of that.</details>


# %% exercise="joint"
class JointAttention(nn.Module):
    """Every place of every level reads every other one, in a single softmax."""

    def __init__(self, channels, alike=True):
        super().__init__()
        self.norm = nn.LayerNorm(channels)
        self.query_key_value = nn.Linear(channels, 3 * channels)
        if alike:  # a token scores 9 with itself: e^9 against 1 for one without resemblance
            query, key, _ = self.query_key_value.weight.data.chunk(3)
            key.copy_(nn.init.orthogonal_(query, gain=(9 / channels**0.5) ** 0.5))
        self.gamma = nn.Parameter(torch.zeros(()))

    def forward(self, levels):
        """Maps (B, C, H, W), fine to coarse, in and out."""
        # >>> tokens; q, k, v of the normalised ones; weights, emitted; add gamma times what is read
        tokens_BNC = to_tokens(levels)
        q, k, v = self.query_key_value(self.norm(tokens_BNC)).chunk(3, dim=-1)
        weights_BNN = (q @ k.transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
        emit(self, attention_maps=weights_BNN[:, None])
        return to_levels(tokens_BNC + self.gamma * weights_BNN @ v, levels)
        # <<<


# %% check="joint"
check_joint_attention(JointAttention)

# %% [markdown]
# ## Check what you designed
#
# The check compares with the library's `JointAttention`. But for a module of your own there is nothing to compare
# with. Then test what the design promises. With $\gamma = 0$ it must change nothing, not even the last bit. What a
# trace shows must give the output. And $\gamma$ must get a gradient, although it is zero:

# %%
torch.manual_seed(0)
head = DyHead(CHANNELS, blocks=1, extra=JointAttention)
joint = head.blocks[0].extra
with torch.no_grad():
    unchanged = joint(problem.levels)
same = all(torch.equal(x, y) for x, y in zip(problem.levels, unchanged, strict=True))
print("gamma 0 changes nothing:", same)

sum(level.square().sum() for level in joint(problem.levels)).backward()
print(f"gradient of gamma {joint.gamma.grad:+.0f}", end=", ")
print(f"of the projections {joint.query_key_value.weight.grad.norm():.0f}")

with torch.no_grad(), trace(joint) as seen:
    joint.gamma.fill_(0.7)
    output = to_tokens(joint(problem.levels))
    v = joint.query_key_value(joint.norm(tokens)).chunk(3, -1)[2]
    [(_, maps)] = seen.find("attention_maps")
    expected = tokens + 0.7 * maps[:, 0] @ v
    print("the traced map gives the output:", torch.allclose(expected, output, atol=1e-5))

# %% [markdown]
# In the first step only $\gamma$ moves. What the attention has read is multiplied by $\gamma = 0$ before it reaches the
# output, so the projections and the LayerNorm that computed it get a gradient of zero. From the second step on all of
# it learns.
#
# ## Train: a toy with a right answer
#
# A `Finder` is a head and one linear predictor on its finest level. The loop trains it with new images in every step.


# %%
class Finder(nn.Module):
    """A score for each mark of the finest level, (B, M)."""

    def __init__(self, head):
        super().__init__()
        self.head, self.predictor = head, nn.Linear(CHANNELS, 1)

    def forward(self, pairs):
        tokens_BSC = self.head(pairs.levels)[0].flatten(2).transpose(1, 2)
        chosen = pairs.places_BM[:, :, None].expand(-1, -1, CHANNELS)
        return self.predictor(tokens_BSC.gather(1, chosen)).squeeze(-1)


# %%
def learn(make_head, seed, steps=20 if FAST else 250, batch=16, lr=1e-2):
    """Train a finder; returns it, and the share of test images solved after each 50 steps."""
    torch.manual_seed(seed)
    finder, generator = Finder(make_head()), torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(finder.parameters(), lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, steps)
    shares = [solved(finder, problem)]
    for step in range(1, steps + 1):
        pairs = draw_pairs(batch, generator)
        loss = F.cross_entropy(finder(pairs), pairs.answer_B)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step % 50 == 0 or step == steps:
            shares.append(solved(finder, problem))
    return finder, shares


# %% [markdown]
# To the four heads comes a fifth, which differs from the third in one thing only: its queries and keys start
# independently, as they usually do in transformers.


# %%
class OwnLevel(JointAttention):
    """A place reads its own level only."""

    def forward(self, levels):
        return [super(OwnLevel, self).forward([level])[0] for level in levels]


class NotAlike(JointAttention):
    def __init__(self, channels):
        super().__init__(channels, alike=False)


off = {"scale": False, "spatial": False, "task": False}
rows = {
    "L + S + C": {},
    "L + S + C + joint, own level": {"extra": OwnLevel},
    "L + S + C + joint, all levels": {"extra": JointAttention},
    "joint, all levels; the three off": {"extra": JointAttention, **off},
    "L + S + C + joint, not alike": {"extra": NotAlike},
}

# %%
from functools import partial

seeds, learned = (0,) if FAST else (0, 1, 2), {}
for name, options in rows.items():
    make_head = partial(DyHead, CHANNELS, 1, **options)
    learned[name] = [learn(make_head, seed) for seed in seeds]
    print(f"{name:34} solved", *(f"{shares[-1]:4.0%}" for _, shares in learned[name]))

# %% tags=["hide"]
from dyhead_book.c17_write_your_own_attention.joint_attention_figures import (
    joint_map_figure,
    learning_figure,
)

curves = {name: [shares for _, shares in trained] for name, trained in learned.items()}
steps = [0, 20] if FAST else [0, 50, 100, 150, 200, 250]
Picture(
    learning_figure(steps, curves, chance=1 / MARKS),
    alt="Only joint attention over all levels that starts alike rises to 1, not with every seed.",
)

# %% [markdown]
# (Thin lines are seeds, thick ones their means.) The three attentions alone cannot do it: with one block, the finest
# level never sees the coarsest. Comparing places of one level does not help, since the twin is elsewhere. Joint
# attention over all levels *can* solve it, with the three or without them: nearly every image, or none but by chance.
# Some seeds have not begun after 250 steps, and which ones changes with the least rounding: on another machine two of
# three succeeded in both rows. So with one seed you would have reported either triumph or failure. And the same module
# with another start has learned nothing in any seed: a *module that can* is not yet a *module that learns*. An ablation
# that had used only the last row would have called the idea useless.
#
# This problem was made for joint attention. It shows what the three cannot do, not that detectors need it.
#
# ### What does it read?

# %%
finder = learned["L + S + C + joint, all levels"][0][0]
with torch.no_grad(), trace(finder) as seen:
    right = (finder(problem).argmax(1) == problem.answer_B).nonzero().flatten().tolist()
[(_, maps)] = seen.find("attention_maps")
image = right[0] if right else 0
asked = int(problem.places_BM[image, problem.answer_B[image]])
twin = int(problem.twins_BM[image, problem.answer_B[image]])

# %% tags=["hide"]
others = [(0, int(cell)) for cell in problem.places_BM[image] if int(cell) != asked]
marks = {"the place that reads": [(0, asked)], "its twin": [(2, twin)], "other marks": others}
figure = joint_map_figure(maps[image, 0, asked], SIZES, ["finest", "middle", "coarsest"], marks)
Picture(figure, alt="Weights of one mark of the finest level on all levels; its twin is marked.")

# %%
N_fine, N = SIZES[0][0] * SIZES[0][1], sum(H * W for H, W in SIZES)
every = torch.arange(len(problem.answer_B))
readers = problem.places_BM[every, problem.answer_B]
twins = N - SIZES[2][0] * SIZES[2][1] + problem.twins_BM[every, problem.answer_B]
on_twin, on_itself = (maps[every, 0, readers, to].mean() for to in (twins, readers))
print(f"mean weight on the twin {on_twin:.2f}, on itself {on_itself:.2f}, even {1 / N:.3f}")

# %% [markdown]
# ## Into a detector, without touching the library
#
# The recipe of a training names the attention in its options, and that is all: `dyhead={"extra": JointAttention}`.
# The data set is a function of your own too, with pictures of Shapes drawn in memory. The detector is the one of
# [chapter 07](07_dynamic_head.ipynb), ATSS on a frozen backbone and pyramid, so that only what you plugged in, the
# three attentions and the predictors learn.

# %%
from dyhead_lab.detectors.one_stage.frozen_atss import frozen_atss
from dyhead_lab.training import Recipe


def shapes(split):
    images, seed = {"train": (32 if FAST else 240, 1), "val": (10 if FAST else 60, 2026)}[split]
    return DrawnShapes(images, seed)


STEPS = 2 if FAST else 80
RECIPE = Recipe(
    name="joint",
    summary="ATSS with a joint attention in its Dynamic Head block",
    detector=frozen_atss,
    dataset=shapes,
    model={"dyhead": {"extra": JointAttention}, "min_size": 160, "max_size": 320},
    iterations=STEPS,
    evaluate_every=STEPS,
    batch_size=8,
    lr=2e-3,
    warmup=STEPS // 10,
    precision="fp32",
)

# %% tags=["hide"]
import io
from contextlib import redirect_stderr
from pathlib import Path
from tempfile import mkdtemp

runs = Path(mkdtemp())


def train(name, **changes):
    """Train the recipe with these changes in a folder of that name; returns its AP."""
    with redirect_stderr(io.StringIO()):  # its progress bar
        result = dyhead_lab.train(RECIPE, out=runs / name, changes=changes, progress=False)
    return result["AP"]


# %%
AP = {("with", 0): train("with 0", seed=0)}
print(f"AP {AP['with', 0]:.3f} after {STEPS} steps")

# %% [markdown]
# ### Do the weights come back?
#
# The run and its weights name every class among the options by *import path*: the module it was defined in, a colon,
# its name. Here the module is the notebook itself, `__main__`.

# %%
import json

written = json.loads((runs / "with 0" / "run.json").read_text(encoding="utf-8"))
print(written["detector"])
print(written["settings"]["model"]["dyhead"], written["dataset"])

# %% [markdown]
# Loading looks the path up, builds the detector and fills it, strictly. So this is the proof: the loaded detector is
# made of *your* class, your class holds what was learned, and it finds something with it that it would not find with
# $\gamma = 0$.

# %%
loaded = load_trained(runs / "with 0").model
extra = loaded.backbone.neck.blocks[0].extra
print("the class of this notebook:", type(extra) is JointAttention)
print(f"gamma was 0, is {extra.gamma.item():+.4f}")

picture = shapes("val").image(3)
with torch.no_grad():
    [found] = loaded([picture])
    extra.gamma.zero_()
    [without] = loaded([picture])
    reloaded = load_trained(runs / "with 0").model([picture])[0]
print("loaded again, the same scores:", torch.equal(found["scores"], reloaded["scores"]))
print("with gamma 0, the same scores:", torch.equal(found["scores"], without["scores"]))

# %% [markdown]
# Nothing that a file says is ever run. So another notebook, or `dyhead-lab eval`, would refuse these weights with the
# name of the class that it lacks. To share them, put the class into a file of your own, `fourth.py`, and name that:
#
# ```
# dyhead-lab train mine.py                        # a file that defines RECIPE
# dyhead-lab eval runs/joint --import mine.py     # detect and errors likewise
# ```
#
# ```python
# load_trained("runs/joint", imports=["mine.py"])
# ```
#
# A lambda or a class inside a function has no such path, and is refused before training starts.
#
# ## The ablation, in pairs
#
# Is the fourth attention worth something? Train the same recipe with it and without it, with three seeds at least,
# and in *pairs*: a seed decides how the weights start and in which order pictures come, so the two runs of one seed
# share their luck, and much of it falls out of the difference.

# %%
for seed in (0,) if FAST else (0, 1, 2):
    AP["without", seed] = train(f"without {seed}", seed=seed, **{"model.dyhead": {}})
    if seed:
        AP["with", seed] = train(f"with {seed}", seed=seed)

# %%
from statistics import fmean, stdev

pairs = sorted(seed for row, seed in AP if row == "without")
differences = [AP["with", seed] - AP["without", seed] for seed in pairs]
for seed, difference in zip(pairs, differences, strict=True):
    both = f"without {AP['without', seed]:.3f}, with {AP['with', seed]:.3f}"
    print(f"seed {seed}: {both}, difference {difference:+.3f}")
if len(differences) > 1:
    spread = stdev(differences)
    needed = (2.8 * spread / 0.01) ** 2
    print(f"mean {fmean(differences):+.3f}, spread of the differences {spread:.3f}")
    print(f"pairs to see a gain of 0.01 four times in five: about {max(2, round(needed))}")

# %% [markdown]
# Two pairs are in favour and one is even: +0.007 on average, and the differences have a standard deviation of 0.006.
# Divided by the root of three that is 0.003, the *standard error* of the mean. The mean is about two standard errors
# away from zero. With many pairs two would be enough for the usual level of 5 %; with three pairs the t distribution
# asks for 4.3, because a standard deviation of three numbers is itself a rough guess. What to write down: a hint, no
# effect shown; and an effect of 0.01 is not excluded. Gamma has had only 80 steps to leave zero, and the next section
# shows what the attention has to learn first.
#
# The last line is worth a habit. An ablation can only see what is larger than its noise. To notice a difference
# $\delta$ in four of five experiments, at the usual level of one false alarm in twenty, takes about $(2.8\, s /
# \delta)^2$ pairs whose differences have spread $s$ (a rule for many pairs; with few it takes more). Compute it
# *before* you spend a week.
#
# `dyhead-lab experiment ablation.py` does the same from a file, with the table of chapter 07, and goes on where it
# was stopped; `CONTRIBUTING.md` shows such a file.
#
# ## Look: what resembles what
#
# Because queries and keys start alike, the attention says something before any training: which places of a pyramid
# resemble a place. Put a fresh one on the pyramid of a detector that has learned photographs, and ask for a place in
# the workshop, the rim of the motorcycle's front wheel.

# %%
from dyhead_lab.data.photographs import photograph

photo = photograph("workshop")
everyday, pyramid = load_trained("everyday").model, {}
hook = everyday.backbone.fpn.register_forward_hook(lambda *seen: pyramid.update(seen[2]))
with torch.no_grad(), trace(everyday) as watched:
    everyday([photo])
hook.remove()
levels = list(pyramid.values())

torch.manual_seed(0)
fresh = JointAttention(levels[0].shape[1])
with torch.no_grad(), trace(fresh) as seen:
    fresh(levels)
[(_, maps)] = seen.find("attention_maps")
print("one map over", maps.shape[-1], "places:", f"{4 * maps.numel() / 1e6:.0f} MB")

# %% tags=["hide"]
from dyhead_book.c17_write_your_own_attention.joint_attention_figures import photo_map_figure

[(_, entered)] = watched.find("network_input")
mean = torch.tensor(everyday.transform.image_mean)[:, None, None]
deviation = torch.tensor(everyday.transform.image_std)[:, None, None]
shown = (entered[0] * deviation + mean).clamp(0, 1)  # as the network saw it, padding and all
asked = (410, 250)  # (x, y) in its pixels
sizes = [tuple(level.shape[2:]) for level in levels]
row, column = asked[1] * sizes[0][0] // shown.shape[1], asked[0] * sizes[0][1] // shown.shape[2]
figure = photo_map_figure(
    shown, maps[0, 0, row * sizes[0][1] + column], sizes, "P3 P4 P5 P6".split(), asked
)
Picture(
    figure,
    alt="What the rim of the front wheel reads: the rims of both wheels on P3, little on P4.",
)

# %% [markdown]
# The rim of the front wheel reads the rim of the rear wheel, most of a picture away, with up to thirty times the even
# weight, and with it some shadows and the dark edges of the shelves. No tap of a convolution reaches so far. But look
# at the titles: nearly all of the weight stays on P3. Levels are made by different convolutions, so a place and its
# own picture two levels up point in different directions, and do not resemble each other. In the toy twins carried
# the same code on both levels, by construction. An attention that is to compare *across* levels in a detector has to
# learn to translate first, and there queries and keys that start alike do not help.
#
# ## What it costs
#
# Every token meets every token. Count it.

# %% [markdown] tags=["workbook"]
# **Exercise 3** (difficulty 1, 10 minutes): `joint_macs(sizes, C)`. Return a whole number; softmax, LayerNorm and the
# product with gamma do not count.
#
# <details><summary>What is counted?</summary>Three projections of N tokens, N x N scores of C channels, N x N weights
# times C values.</details>
#
# <details><summary>The number is too small</summary>N is the sum over all levels, and the square is taken of the
# sum.</details>


# %% exercise="macs"
def joint_macs(sizes, C):
    """Multiply-adds of one joint attention; sizes: (H, W) of the levels."""
    # >>> three projections, the scores, the weighted sum
    N = sum(H * W for H, W in sizes)
    return 3 * N * C * C + 2 * N * N * C
    # <<<


# %% check="macs"
check_joint_macs(joint_macs)

# %%
from dyhead_lab.evaluation.dyhead_cost import depth_macs, level_sizes

print("image        |  tokens | joint attention | one Dynamic Head block | one map in float32")
for size in ((160, 160), (320, 320), (640, 640), (800, 1333)):
    N = sum(H * W for H, W in level_sizes(size))
    joint_cost, block_cost = joint_macs(level_sizes(size), 256), depth_macs([1], size)[1]
    gmac = f"{joint_cost / 1e9:10.2f} GMAC | {block_cost / 1e9:17.2f} GMAC"
    print(f"{size[0]:4} x {size[1]:4}  | {N:7,} | {gmac} | {4 * N * N / 1e6:12,.1f} MB")

# %% [markdown]
# On small images the joint attention is cheaper than the block that it joins. Its cost grows with the square of the
# pixels, and at the published size it is many times that of a block. This is why attentions are taken apart, why
# [deformable attention](10_multi_scale_deformable_attention.ipynb) reads a few points only, and why the joint
# question is still open.
#
# ## Design again: cheaper
#
# Most of the $N$ tokens lie on the finest level, and most of what is worth comparing with is summed up on the coarse
# ones. So let all tokens ask, and only those of the two coarsest levels answer: $2\, N T\, C$ in place of $2\, N^2
# C$, with $T$ tokens on them.

# %% [markdown] tags=["workbook"]
# **Exercise 4** (difficulty 2, 15 minutes): `forward` of `CoarseReader`. Return maps in the shapes of `levels`;
# nothing need be emitted.
#
# <details><summary>Where to begin</summary>Copy forward of JointAttention. Split k and v: the last T = number of
# places of levels[-2:] tokens answer.</details>
#
# <details><summary>How do I take the last T?</summary>k[:, -T:], v[:, -T:]. The weights are then (B, N, T).</details>


# %% exercise="coarse"
class CoarseReader(JointAttention):
    """Every place reads the places of the two coarsest levels."""

    def forward(self, levels):
        # >>> as before, but keys and values of the last two levels only
        tokens_BNC = to_tokens(levels)
        q, k, v = self.query_key_value(self.norm(tokens_BNC)).chunk(3, dim=-1)
        T = sum(level[0, 0].numel() for level in levels[-2:])
        weights_BNT = (q @ k[:, -T:].transpose(1, 2) / q.shape[-1] ** 0.5).softmax(-1)
        return to_levels(tokens_BNC + self.gamma * weights_BNT @ v[:, -T:], levels)
        # <<<


# %% check="coarse"
check_coarse_reader(CoarseReader)

# %%
published = [H * W for H, W in level_sizes()]
N, T = sum(published), sum(published[-2:])
before, after = 2 * N * N * 256 / 1e9, 2 * N * T * 256 / 1e9
print(f"{T} of {N:,} tokens answer: {before:.0f} GMAC become {after:.1f}")
make_head = partial(DyHead, CHANNELS, 1, extra=CoarseReader)
cheap = [learn(make_head, seed)[1][-1] for seed in seeds]
print("solved", *(f"{share:.0%}" for share in cheap))

# %% [markdown]
# At the published size that is a sixty-fourth of the cost of scores and sums. The toy is solved in nine of ten
# images, and in every seed, perhaps because fewer keys compete. What is lost is the fine detail: no token reads P3 to
# P5 any more, so two small objects cannot be compared. The toy cannot notice, because its twin always lies on the
# coarsest level. Choose your toys so that they can say no.
#
# ## Break it
#
# One bug is planted in an attention. Feed it levels for which you know the answer: with $\gamma = 0$ nothing may
# change; doubling a level's features must not change what is read of it, because of the LayerNorm; whatever is added
# to all values must come out of every place.

# %%
suspect = drill(JOINT_MISTAKES, 10)
torch.manual_seed(0)
attention, levels = JointAttention(8), [torch.randn(1, 8, 4, 4), torch.randn(1, 8, 2, 2)]
with torch.no_grad():
    still = suspect(attention, levels)
    print("gamma 0 changes nothing:", all(map(torch.allclose, still, levels)))
    attention.gamma.fill_(1.0)
    attention.query_key_value.weight[16:] = 0  # values of one, whatever the token
    attention.query_key_value.bias[16:] = 1
    change = to_tokens(suspect(attention, levels)) - to_tokens(levels)
    print(f"equal values: every place gains {change.min():.2f} to {change.max():.2f}, expected 1")

# %% [markdown]
# <details><summary>Answer</summary>What a place reads sums to one, so equal values must come out whole everywhere.
# Here some places gain more and others less: the softmax runs over the readers. Ask the check:
# `check_joint_attention(type("Suspect", (JointAttention,), {"forward": suspect}))`. The numbers 0 to 9 give ten bugs;
# some need other experiments.</details>

# %%
Challenge(
    "Joint over channels too: what would an attention over levels, positions and channels at "
    "once cost?",
    difficulty=4,
    minutes=30,
    hints={
        "Where to begin": "The undecoupled form of chapter 07: every number of F is a token of "
        "its own.",
        "A smaller step": "Give each token the gates of its channels: sigmoid of a linear map of "
        "what it "
        "has read, instead of adding. Then one attention decides level, place and channel.",
    },
    answer="Nobody has answered it. Counted literally, L S C numbers that all meet cost (L S "
    "C)^2 weights, "
    "as in chapter 07. The smaller step costs one linear map per token; whether it is worth that "
    "is for you to "
    "measure, with the pairs first and then with an ablation in pairs.",
)

# %%
Challenge(
    "Tokens of this chapter do not know where they lie. Give them positions: does the toy suffer?",
    difficulty=3,
    minutes=30,
    hints={
        "What positions?": "The sines of chapter 09, or a learned vector for each level as in "
        "Deformable DETR.",
        "Where to add them": "To queries and keys, not to values: to the normalised tokens "
        "before two of three "
        "projections.",
    },
    answer="Not measured for this book. Expect it to suffer: in the toy the place of a twin says "
    "nothing, so "
    "positions are noise in the scores. In pictures things near each other belong together, and "
    "every "
    "detector with dense attention has positions. Measure both before you believe either.",
)

# %% [markdown]
# ## Recap
#
# - A fourth attention is a module that takes all levels and returns them. `extra=` plugs it into every block, `emit`
#   shows it to every view, and its import path brings its weights back.
# - Starting at zero keeps a trained detector intact. How the rest starts decides whether it learns in time.
# - Joint attention compares any two places of any two levels. Its price grows with the square of their number.
# - A toy shows what a module can do. What it is worth takes pairs of trainings, and more of them than one would like.

# %%
ends = [max(shares[-1] for _, shares in trained) for trained in learned.values()]
who = tuple(share > 0.5 for share in ends[:4])
answer = {(True,) * 4: "a", (False, True, True, True): "b", (False, False, True, True): "c"}
numbers = ", ".join(f"{name} {share:.0%}" for name, share in zip(rows, ends, strict=True))
who_solves_it.revisit(answer.get(who, "d"), f"Solved by the best seed: {numbers}.")

# %% [markdown]
# **Check yourself.**
#
# <details><summary>Why must gamma start at zero and the values not?</summary>
#
# The output is gamma times what is read. If both were zero, neither would have a gradient, and nothing would ever
# move.
#
# </details>
# <details><summary>Two levels hold the same token. Which of them is read more?</summary>
#
# Neither. Without positions equal tokens have equal scores, so each gets half of their weight.
#
# </details>
# <details><summary>Which of the three attentions of Dynamic Head is nearly a special case of this one?</summary>
#
# The spatial one, of one level and a single tap: reading one other place with a weight. But the tap is found by a
# prediction from the place itself, without looking at what lies there; joint attention looks at everything first.
#
# </details>
# <details><summary>An ablation with three seeds shows +0.004 with a spread of 0.010. What do you write?</summary>
#
# That no effect was seen, and how large one could have hidden. With three pairs the 95 % interval is 4.3 standard
# errors to each side, 4.3 x 0.010 / root of three = 0.025: from -0.021 to +0.029.
#
# </details>
