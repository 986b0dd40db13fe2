# %% [markdown]
# # Write your own attention
#
# | | |
# | --- | --- |
# | Time | 60 minutes with the exercises, about 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | the Dynamic Head block (chapter 07); dot-product attention (chapter 09) helps |
# | You will build | a fourth attention, joint over levels and positions, inside a Dynamic Head |
#
# Dynamic Head looks along levels, then positions, then channels, one axis at a time. Its authors leave open
# whether several axes should be attended **jointly**. This chapter writes such an attention, plugs it into a block,
# traces it, and asks with an ablation what it can do that the three cannot.

# %%
from functools import partial

import torch
from torch import nn

from dyhead_book.c17_write_your_own_attention.own_attention_checks import (
    JOINT_MISTAKES,
    check_joint_attention,
    check_joint_macs,
    check_tokens,
    joint_attention,
    joint_macs,
    tokens_solution,
)

# %% [markdown]
# ## A problem that is not along one axis
#
# A pyramid has three levels. On each lie four *marks* at random places. A mark is a random code, new in every image.
# One of the four marks on the finest level lies on the coarsest level too, at some other place. Which one?
# %%
from dyhead_book.c17_write_your_own_attention.pairs import CHANNELS, MARKS, SIZES, draw_pairs, learn_pairs
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_lab.attention import DyHead, JointAttention
from dyhead_lab.views.figures import Picture

problem = draw_pairs(256, torch.Generator().manual_seed(1))
for level in problem.levels:
    print("level", tuple(level.shape))
print("first answers:", problem.answer_B[:8].tolist(), f"(guessing is right in {1 / MARKS:.0%})")

# %% [markdown]
# Think of the same kind of object, once near and once far. To find it one must compare places that lie anywhere, on
# levels that are no neighbours.
#
# ## Predict

# %%
who_solves_it = Question(
    "17 who finds the twin",
    "We train four heads on the problem. Which of them solve more than half of the images?",
    a="all, the Dynamic Head alone too",
    b="those that compare places, whether on one level or on all",
    c="only those that compare places of all levels at once",
    d="none in so few steps",
)
who_solves_it.guess(None)  # put a letter here

# %% [markdown]
# ## The formula
#
# Take all levels of the pyramid as they are, and all their places as one list of $N = \sum_l H_l W_l$ tokens of $C$
# channels. Every token asks every token (Vaswani et al., 2017):
#
# $$Y = F + \gamma \cdot \mathrm{softmax}\Big(\frac{Q K^\top}{\sqrt C}\Big) V, \qquad Q = F W_Q^\top, \quad
# K = F W_K^\top, \quad V = F W_V^\top$$
#
# One softmax runs over levels *and* positions, so they compete. $\gamma$ is one learned number. It starts at zero:
# then $Y = F$, and the attention may be put into a trained detector without harm.
#
# ## Build: tokens

# %%
Exercise(
    "Write tokens(levels): maps (C, H, W), fine to coarse, to one array (N, C)",
    difficulty=1,
    minutes=5,
    hints={
        "The numbers are mixed up": "Reshape a map to (C, H * W) first, then transpose.",
        "How do levels come together?": "np.concatenate along the tokens.",
    },
    solution=tokens_solution,
)


# %%
def tokens(levels):
    raise NotImplementedError


check_tokens(tokens)

# %% [markdown]
# ## Build: the attention

# %%
Exercise(
    "Write my_joint_attention(F_NC, q_CC, k_CC, v_CC, gamma)",
    difficulty=2,
    minutes=10,
    hints={
        "What is a row of q_CC?": "One channel of Q, as in nn.Linear: Q = F @ q_CC.T.",
        "Softmax over what?": "Row i of Q K^T belongs to token i. What token i reads sums to 1.",
    },
    solution=joint_attention,
)


# %%
def my_joint_attention(F_NC, q_CC, k_CC, v_CC, gamma):
    raise NotImplementedError


check_joint_attention(my_joint_attention)

# %% [markdown]
# ## Plug it in
#
# `DyHead(..., extra=...)` takes one more attention. It is anything that makes a module from the number of channels.
# The module gets all levels of a block and returns maps of the same shapes. Here is a complete one, which does
# nothing but show itself:

# %%
from dyhead_lab.trace import emit, trace


class Nothing(nn.Module):
    def __init__(self, channels):
        super().__init__()

    def forward(self, levels):
        B, _, H, W = levels[0].shape
        emit(self, attention_maps=torch.eye(H * W).expand(B, 1, -1, -1))  # dyhead_lab.trace.NAMES says what is what
        return levels


head = DyHead(CHANNELS, blocks=1, extra=Nothing)
with torch.no_grad(), trace(head) as seen:
    head(problem.levels)
print([(path, tuple(x.shape)) for path, x in seen.find("attention_maps")])

# %% [markdown]
# The library's `JointAttention` is your formula with a LayerNorm before the projections:

# %%
import inspect

print(inspect.getsource(JointAttention.forward), inspect.getsource(JointAttention._attend), sep="\n")

# %% [markdown]
# ## Check
#
# With $\gamma = 0$ it must change nothing, not even the last bit. And what a trace shows must give the output:

# %%
from dyhead_lab.attention.joint import to_tokens

torch.manual_seed(0)
head = DyHead(CHANNELS, blocks=1, extra=JointAttention)
joint = head.blocks[0].extra
with torch.no_grad():
    same = all(torch.equal(x, y) for x, y in zip(problem.levels, joint(problem.levels), strict=True))
    joint.gamma.fill_(0.7)
    with trace(joint) as seen:
        output = to_tokens(joint(problem.levels))
    F_BNC = to_tokens(problem.levels)
    V_BNC = joint.query_key_value(joint.norm(F_BNC)).chunk(3, -1)[2]
    [(_, maps_B1NN)] = seen.find("attention_maps")
    error = float((F_BNC + 0.7 * maps_B1NN[:, 0] @ V_BNC - output).abs().max())
print("gamma 0 changes nothing:", same)
print("the traced map gives the output:", error < 1e-5)

# %% [markdown]
# ## Look: an ablation
#
# The four heads, and a fifth row; the same images in the same order, one seed. The fifth differs from the third in one
# thing only. `JointAttention` starts with equal weights for queries and keys, so that a place reads what resembles it.
# `alike=False` draws them independently, as transformers usually do.

# %%
off = {"scale": False, "spatial": False, "task": False}
own_level = partial(JointAttention, across_levels=False)
rows = {
    "L + S + C": partial(DyHead, CHANNELS, 1),
    "L + S + C + joint, own level": partial(DyHead, CHANNELS, 1, extra=own_level),
    "L + S + C + joint, all levels": partial(DyHead, CHANNELS, 1, extra=JointAttention),
    "joint, all levels; the three off": partial(DyHead, CHANNELS, 1, extra=JointAttention, **off),
    "L + S + C + joint, not alike": partial(DyHead, CHANNELS, 1, extra=partial(JointAttention, alike=False)),
}
learned = {name: learn_pairs(make_head) for name, make_head in rows.items()}
for name, row in learned.items():
    print(f"{name:34} solved {row.shares[-1]:4.0%}")

# %%
from dyhead_book.c17_write_your_own_attention.joint_attention_figures import joint_map_figure, learning_figure

shares = {name: row.shares for name, row in learned.items()}
figure = learning_figure(next(iter(learned.values())).steps, shares, chance=1 / MARKS)
Picture(figure, alt="Only the heads with a joint attention over all levels that starts alike rise to nearly 1.")

# %% [markdown]
# The rows teach four things. The three attentions alone cannot do it: with one block, the finest level never sees the
# coarsest. Comparing places of one level does not help, since the twin is elsewhere. Joint attention over all levels
# solves it, with the three or without them. And the same module with another start has learned nothing yet: a
# *module that can* is not yet a *module that learns*. An ablation that had used only the last row would have called
# the idea useless.
#
# This problem was made for joint attention. It shows what the three cannot do, not that detectors need it.
#
# ## Look: what does it read?

# %%
finder = learned["L + S + C + joint, all levels"].finder
with torch.no_grad(), trace(finder) as seen:
    scores_BM = finder(problem)
solved = (scores_BM.argmax(1) == problem.answer_B).nonzero().flatten().tolist()
image = solved[0]
asked = int(problem.places_BM[image, problem.answer_B[image]])
twin = int(problem.twins_BM[image, problem.answer_B[image]])
[(_, maps_B1NN)] = seen.find("attention_maps")
others = [(0, int(cell)) for cell in problem.places_BM[image] if int(cell) != asked]
marks = {"the place that reads": [(0, asked)], "its twin": [(2, twin)], "other marks": others}
figure = joint_map_figure(maps_B1NN[image, 0, asked], SIZES, ["finest", "middle", "coarsest"], marks)
Picture(figure, alt="Weights of one mark of the finest level on all levels; its twin on the coarsest is marked.")

# %%
N_fine, N = SIZES[0][0] * SIZES[0][1], sum(H * W for H, W in SIZES)
images = torch.arange(len(problem.answer_B))
readers = problem.places_BM[images, problem.answer_B]
twins = N - SIZES[2][0] * SIZES[2][1] + problem.twins_BM[images, problem.answer_B]
on_twin = maps_B1NN[images, 0, readers, twins]
on_itself = maps_B1NN[images, 0, readers, readers]
print(f"mean weight on the twin {float(on_twin.mean()):.2f}, on itself {float(on_itself.mean()):.2f}, even {1 / N:.3f}")

# %% [markdown]
# ## Into a trained detector
#
# The same plug fits the quickstart detector. At first nothing changes. Then only the new attention is trained, for a
# few steps: all other weights are frozen.

# %%
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.zoo import load_trained

trained = load_trained("quickstart")
model, block = trained.model, trained.model.backbone.neck.blocks[0]
picture = torch.from_numpy(draw_image(2026, 8)[0]).permute(2, 0, 1) / 255
with torch.no_grad():
    [before] = model([picture])
    torch.manual_seed(0)
    block.extra = JointAttention(64)
    [after] = model([picture])
print("same boxes:", torch.equal(before["boxes"], after["boxes"]), "| parameters:", end=" ")
print(sum(p.numel() for p in block.extra.parameters()), "of", sum(p.numel() for p in model.parameters()))

# %%
from pathlib import Path
from tempfile import mkdtemp

from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate

folder = Path(mkdtemp())
write_shapes(folder / "train", images=80, seed=7)
write_shapes(folder / "val", images=40, seed=2026)
train_set, val_set = coco_folder(folder, "train"), coco_folder(folder, "val")
AP = {"before": evaluate(val_set, detect_dataset(model, val_set))["AP"]}


# %%
def fine_tune(model, attention, steps=30, batch=4):
    """Train the new attention only. BatchNorm keeps what it has learned."""
    model.requires_grad_(False)
    attention.requires_grad_(True)
    optimizer = torch.optim.AdamW(attention.parameters(), lr=1e-2)
    model.train()
    model.backbone.body.eval()
    for step in range(steps):
        images, targets = zip(*(train_set[(step * batch + i) % len(train_set)] for i in range(batch)), strict=True)
        optimizer.zero_grad()
        sum(model(list(images), list(targets)).values()).backward()
        optimizer.step()
    model.eval()


fine_tune(model, block.extra)
AP["after"] = evaluate(val_set, detect_dataset(model, val_set))["AP"]
print(f"AP {AP['before']:.4f} -> {AP['after']:.4f} on 40 pictures, gamma is now {block.extra.gamma.item():+.3f}")

# %% [markdown]
# Do not conclude anything from this line. There are 40 pictures and one seed, the rest of the detector was trained
# without the new part, and a small gamma moves scores in the third digit only. It shows that the plug holds and that
# gradients arrive. Whether a fourth attention is worth its cost shows when heads are *trained* with and without it,
# from several seeds; an exercise below does that.
#
# What does a place on an object read? The cross is the place that asks, in the middle of the best detection. Queries
# and keys started alike: then a place reads itself most, and what resembles it. The thirty steps were large ones and
# have moved both, so do not expect too much resemblance.

# %%
from dyhead_lab.views.token_maps import levels_of, token_maps_figure

with torch.no_grad(), trace(model) as seen:
    [found] = model([picture])
[(_, maps_B1NN)] = seen.find("attention_maps")
sizes = [tuple(x.shape[-2:]) for x in seen["backbone.neck.blocks.0", "block_output"]]
x1, y1, x2, y2 = found["boxes"][0].tolist()
H, W = sizes[0]
column, row = int((x1 + x2) / 2 * W / 160), int((y1 + y2) / 2 * H / 160)
levels = list(levels_of(maps_B1NN[0, 0, row * W + column], sizes))
titles = {f"P{l + 3}: {float(level.sum()):.0%}": level for l, level in enumerate(levels)}
brightest = max(float(level.max()) for level in levels)
asked = ((column + 0.5) * 160 / W, (row + 0.5) * 160 / H)
figure = token_maps_figure(picture, titles, query=asked, boxes=found["boxes"][:1], brightest=brightest)
Picture(figure, alt="What a place in the middle of the best detection reads on the four levels of the pyramid.")

# %% [markdown]
# ## Fast: what it costs
#
# Jointly means that every token meets every token. Count it.

# %%
Exercise(
    "Write my_joint_macs(sizes, C): multiply-adds of one joint attention",
    difficulty=2,
    minutes=10,
    hints={
        "What is counted?": "Three projections of N tokens, N x N scores of C channels, N x N weights times C values.",
        "The number is too small": "N is the sum over all levels, and the square is taken of the sum.",
    },
    solution=joint_macs,
)


# %%
def my_joint_macs(sizes, C):
    """sizes: (H, W) of the levels."""
    raise NotImplementedError


check_joint_macs(my_joint_macs)

# %%
from dyhead_lab.evaluation.dyhead_cost import depth_macs, level_sizes

print("image        |  tokens | joint attention | one Dynamic Head block | one map in float32")
for size in ((160, 160), (320, 320), (640, 640), (800, 1333)):
    N = sum(H * W for H, W in level_sizes(size))
    joint_cost, block_cost = joint_macs(level_sizes(size), 256), depth_macs([1], size)[1]
    shown = f"{joint_cost / 1e9:10.2f} GMAC | {block_cost / 1e9:17.2f} GMAC | {4 * N * N / 1e6:15,.1f} MB"
    print(f"{size[0]:4} x {size[1]:4}  | {N:7,} | {shown}")

# %% [markdown]
# On small images the joint attention is cheaper than the block that it joins. Its cost grows with the square of the
# pixels, and at the published size it is many times that of a block. This is why attentions are taken apart, why
# deformable attention reads a few points only (chapter 10), and why the joint question is still open.
#
# ## Break it
#
# One bug is planted in an attention. Feed it tokens for which you know the answer: $W_V = 1$ and equal tokens must give
# $F + \gamma F$; with $\gamma = 0$ nothing may change; one strong token must be read by all.

# %%
import numpy as np

suspect = drill(JOINT_MISTAKES, 3)
one, equal = np.eye(2), np.ones((4, 2))
strong = np.array([[1.0, 0.0], [0.0, 1.0], [6.0, 6.0]])
print(
    "equal tokens, gamma 1:",
    suspect(equal, one, one, one, 1.0)[0],
    "expected",
    joint_attention(equal, one, one, one, 1)[0],
)
print("gamma 0:", suspect(strong, one, one, one, 0.0)[0], "expected", strong[0])
print("strong token:", suspect(strong, one, one, one, 1.0)[0].round(2), end=" ")
print("expected", joint_attention(strong, one, one, one, 1.0)[0].round(2))

# %% [markdown]
# When you have a guess, run `check_joint_attention(suspect)`. The numbers 0 to 7 give eight bugs.
# Three of them hide behind these tokens, since $W_Q = W_K = W_V = 1$: for them draw matrices at random.
#
# ## Exercises

# %%
Challenge(
    "Let tokens read only the coarsest two levels. How much cheaper is it at 800 x 1333, and is the problem solved?",
    difficulty=3,
    minutes=30,
    hints={
        "Where to begin": "Subclass JointAttention and override forward: queries from all levels, keys and values from "
        "levels[-2:]. F.scaled_dot_product_attention takes different numbers of queries and keys.",
        "The cost": "2 N T C instead of 2 N N C, with T tokens on the two levels.",
    },
    answer="64 times: 350 of 22,300 tokens lie on the two coarsest levels, and 255 GMAC become 4. The problem of this "
    "chapter is solved in most images, since the twin lies on the coarsest level: 88 % in one run. What is lost is "
    "the fine detail: no token reads P3 or P4 any more, so two small objects cannot be compared.",
)

# %%
Challenge(
    "Train heads with and without the fourth attention on Shapes, three seeds each. Is the difference larger than "
    "the spread?",
    difficulty=4,
    minutes=60,
    hints={
        "Which detector?": 'frozen_atss(6, dyhead={"extra": JointAttention}) from '
        "dyhead_lab.detectors.one_stage.frozen_atss: backbone and pyramid are frozen, so a run takes minutes.",
        "How many numbers do I need?": "At least three seeds per row. dyhead_lab/experiments/ablation.py shows "
        "an experiment.",
    },
    answer="Not measured for this book. In the ablation of chapter 07 the spread over three seeds is about 0.01 AP: a "
    "difference has to be larger than that to count.",
)

# %%
Challenge(
    "Joint over channels too: what would an attention over levels, positions and channels at once cost?",
    difficulty=4,
    minutes=30,
    hints={
        "Where to begin": "The undecoupled form of chapter 07: every number of F is a token of one channel.",
        "A smaller step": "Give each token the gates of its channels: sigmoid of a linear map of what it has read, "
        "instead of adding. Then one attention decides level, place and channel. Plug it in and try it on the pairs.",
    },
    answer="Nobody has answered it. Counted literally, L S C numbers that all meet cost (L S C)^2 weights, as in "
    "chapter 07. The smaller step costs one linear map per token; whether it is worth that is for you to "
    "measure.",
)

# %% [markdown]
# ## Recap
#
# - A fourth attention is a module that takes all levels and returns them. `extra=` plugs it into every block; `emit`
#   shows it to every view.
# - Starting at zero keeps a trained detector intact. How the rest starts decides whether it learns in time.
# - Joint attention compares any two places of any two levels. Its price grows with the square of their number.

# %%
ends = [row.shares[-1] for row in learned.values()]
who = tuple(share > 0.5 for share in ends[:4])
answer = {(True,) * 4: "a", (False, True, True, True): "b", (False, False, True, True): "c"}.get(who, "d")
who_solves_it.revisit(
    answer, "Solved: " + ", ".join(f"{name} {share:.0%}" for name, share in zip(rows, ends, strict=True))
)

# %% [markdown]
# **Check yourself.** Why must $\gamma$ start at zero and the values not? Two levels hold the same token twice: which of
# them is read more? Which of the three attentions of Dynamic Head could be written as a special case of this one?
