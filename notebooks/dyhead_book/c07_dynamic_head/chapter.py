# %% [markdown]
# # Dynamic Head
#
# | | |
# | --- | --- |
# | Time | 60 to 90 minutes with the exercises, about 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | what scale-, spatial- and task-aware attention do (chapters 02, 05 and 06) |
# | You will build | one block of the Dynamic Head, a count of its cost, and a number for "sparser" |
#
# Scale-, spatial- and task-aware attention make one block together, and blocks make a head. This chapter puts
# them together in both published forms, shows what shape the tensor has after each step, counts what the head
# costs, and switches its parts off.

# %%
import time

import torch

from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_lab.views.figures import Picture

# %% [markdown]
# ## Predict
#
# Later you will switch the three attentions off, one at a time, in a trained detector. It was trained with all
# three. Which one will it miss most?

# %%
missed = Question(
    "07 which attention is missed most",
    "Switched off in the trained quickstart detector, which attention costs most AP?",
    L="scale-aware",
    S="spatial-aware",
    C="task-aware",
)
missed.guess(None)  # put "L", "S" or "C" here

# %% [markdown]
# ## The formula
#
# Resize all levels of a pyramid to one size and stack them: a tensor $F$ with $L$ levels, $S = H \times W$ positions
# and $C$ channels. Attention in its plainest form gives every number of $F$ a gate that sees every other number
# (equation 1):
#
# $$W(F) = \pi(F) \cdot F$$
#
# With a fully connected $\pi$ that is a matrix of $(LSC)^2$ weights. The Dynamic Head takes it apart into three
# attentions, each over one axis (equation 2):
#
# $$W(F) = \pi_C\big(\pi_S(\pi_L(F) \cdot F) \cdot F\big) \cdot F$$
#
# ### What taking apart saves
#
# Build the undecoupled form first. It is short.

# %%
from dyhead_book.c07_dynamic_head.block_checks import (
    BLOCK_MACS_MISTAKES,
    block_macs,
    check_block,
    check_block_macs,
    check_energy_share,
    check_undecoupled,
    dyhead_block,
    energy_share_solution,
    undecoupled_solution,
)

Exercise(
    "Write undecoupled(F_LSC, weight): sigmoid(weight . F) . F",
    difficulty=1,
    minutes=5,
    hints={
        "The shapes do not fit": "Flatten F to one vector of L * S * C numbers, and bring the gates back to (L, S, C).",
        "The numbers are too small": "F is multiplied once, by the gates. The weights act inside the sigmoid.",
    },
    solution=undecoupled_solution,
)


# %%
def undecoupled(F_LSC, weight):
    """weight is (N, N) with N = L * S * C. Returns (L, S, C)."""
    raise NotImplementedError


check_undecoupled(undecoupled)

# %% [markdown]
# Now measure. A block of the Dynamic Head and the undecoupled attention work on the same $F$: three levels, 16
# channels, and more and more positions.


# %%
def milliseconds(function, *arguments, repeats=10):
    """CPU time of the best of a few runs: other programs disturb it little."""
    times = []
    for _ in range(repeats):
        start = time.process_time()
        function(*arguments)
        times.append(time.process_time() - start)
    return 1000 * min(times)


# %%
from dyhead_lab.attention import PaperDyHeadBlock, undecoupled_attention, undecoupled_cost

L, C = 3, 16
block = PaperDyHeadBlock(C, L)
own = sum(p.numel() for p in block.parameters())
threads = torch.get_num_threads()
torch.set_num_threads(1)  # threads that wait for each other would count as well
print("positions | weights: undecoupled        block | CPU ms: undecoupled   block")
for side in (4, 6, 8, 10):
    F_BLSC = torch.randn(1, L, side * side, C)
    weight = torch.randn(L * side * side * C, L * side * side * C)
    with torch.no_grad():
        slow = milliseconds(undecoupled_attention, F_BLSC, weight)
        fast = milliseconds(block, F_BLSC, (side, side))
    print(f"{side * side:9} | {weight.numel():20,} {own:12,} | {slow:19.1f} {fast:7.1f}")
torch.set_num_threads(threads)

# %% [markdown]
# Twice the positions cost four times the weights, and the time goes with them as soon as they no longer fit into the
# cache of the processor. The block keeps its weights. (Its time hardly moves here, because maps this small cost
# mostly overhead.) At the size of a real pyramid the undecoupled form cannot even be stored:

# %%
S = 25 * 42  # the median level of an image of 800 x 1333 pixels
weights = undecoupled_cost(levels=5, positions=S, channels=256)
print(f"undecoupled: {weights:.1e} weights, {4 * weights / 1e12:.1f} TB in float32")

# %% [markdown]
# ## Build: one block
#
# <img src="diagrams/released_block.svg" alt="One level of a released block. A 3x3 convolution on the level
# itself predicts 18 offsets and 9 masks, which steer three deformable convolutions: of the finer neighbour with
# stride 2, of the level itself, and of the coarser neighbour, whose result is enlarged. Each result is
# normalised, a gate between 0.5 and 1 weighs it, and their mean passes the task-aware activation.">
#
# The released code goes through the levels. Each level takes part with its finer and its coarser neighbour.
# Write the loop. `spatial(own, finer, coarser)` gives the list of branches (a missing neighbour is `None`),
# `scale(branches)` fuses them, `task(x)` activates.

# %%
Exercise(
    "Write block(levels, spatial, scale, task)",
    difficulty=2,
    minutes=10,
    hints={
        "The first level is wrong": "levels[-1] is the last level in Python. The finest level has no finer neighbour.",
        "All levels but the first are wrong": "Every level reads the input of the block, not what its neighbour "
        "has just become. Collect the outputs in a new list.",
    },
    solution=dyhead_block,
)


# %%
def block(levels, spatial, scale, task):
    """levels: fine to coarse. Returns a list of the same length."""
    raise NotImplementedError


# %% [markdown]
# ## Check

# %%
check_block(block)

# %% [markdown]
# The check uses small vectors in place of maps. With real attentions the same loop is the library's block:

# %%
from dyhead_lab.attention import DyHead, DyHeadBlock

torch.manual_seed(0)
library = DyHeadBlock(channels=16)
pyramid = [torch.randn(1, 16, size, size) for size in (20, 10, 5, 3)]
loop = block if check_block(block) else dyhead_block  # yours, if it is right
results = loop(pyramid, library.spatial, library.scale, library.task)
print("equal:", all(torch.equal(a, b) for a, b in zip(results, library(pyramid), strict=True)))

# %% [markdown]
# ## Paper and released code
#
# <img src="diagrams/paper_block.svg" alt="The paper&#x27;s block. All levels are resized to the median one and
# stacked to a tensor of shape L x S x C. Scale-aware attention weighs levels and keeps the shape. Spatial-aware
# attention samples at K places and sums over the levels. Task-aware attention applies an activation per
# channel.">
#
# People have asked since 2021 why the code does not look like the paper. It is another form. Both are in the
# library: `DyHead(form="paper")` and `DyHead(form="released")`.
#
# | | paper | released code |
# | --- | --- | --- |
# | features | one tensor (B, L, S, C), all levels resized to the median one | the pyramid, each level at its own size |
# | order | scale, spatial, task | spatial, scale, task |
# | levels that meet | all | a level and its two neighbours |
# | scale weights | one per level, from all level means | one per branch, each from its own mean |
# | range of the scale weights | 0 to 1 | 0.5 to 1: a ReLU stands before the hard sigmoid |
# | convolution weights | one matrix per level and tap | three sets: finer, own, coarser; shared by all levels |
# | offsets and masks | from the median level, for all levels | from each level, for itself and its neighbours |
# | sum over levels | removes the level axis | mean over the branches that are present |
# | after the convolution | nothing | GroupNorm with 16 groups |
# | means of task-aware attention | over levels and positions | over the positions of one level |
# | offsets at the start | not said | small random numbers; zero in the library |
# | offsets for the coarser neighbour | always fit | have the wrong size: four ways to mend it, chapter 05 |
# | two-stage detectors | task-aware attention after RoI pooling | all three before it |
#
# What the paper leaves open is fixed in the library's docstrings, and marked there as our choice.
#
# ### What shape does the tensor have after each attention?
#
# Here is the answer for the released form, drawn from a trace, with levels of the sizes that the quickstart detector
# has. Colours are levels, sheets are channels.

# %%
from dyhead_book.c07_dynamic_head.tensor_shapes import paper_steps, released_steps, shapes_figure
from dyhead_lab.trace import trace

LEVELS = ["P3", "P4", "P5", "P6"]


def run(**form):
    """A trace of one block of that form on the pyramid."""
    with torch.no_grad(), trace(head := DyHead(16, blocks=1, **form)) as seen:
        head(pyramid)
    return seen


figure = shapes_figure(released_steps(pyramid, run()), LEVELS)
Picture(figure, alt="Released form: every level keeps its size; between spatial and scale there are 2 or 3 branches.")

# %% [markdown]
# Every level keeps its size. Between spatial- and scale-aware attention a level exists two or three times, once
# for each branch. In the paper's form there is one tensor:

# %%
figure = shapes_figure(paper_steps(pyramid, run(form="paper", num_levels=4, levels="collapse")), LEVELS)
Picture(figure, alt="Paper's form: all levels at the median size; the spatial step sums over levels and leaves one.")

# %% [markdown]
# Equation 4 sums over $l$. Read literally, the level axis is gone after the spatial step: (B, 1, S, C). Then a second
# block would have nothing to be scale-aware of. The library calls this reading `levels="collapse"`. With
# `levels="residual"`, which is our choice, the sum is added back to every level, so that blocks can be stacked:

# %%
figure = shapes_figure(paper_steps(pyramid, run(form="paper", num_levels=4)), LEVELS)
Picture(figure, alt="Paper's form, residual: the sum over levels is added to every level, (B, L, S, C) throughout.")

# %% [markdown]
# ## Fast: what a block costs
#
# The deformable convolutions are nearly everything. A 3x3 convolution from $C$ to $C$ channels takes $9 C^2$
# multiply-adds per output position. One more convolution, from $C$ to 27 channels, predicts the offsets and masks of
# each level.

# %%
Exercise(
    "Write block_macs(sizes, C): the multiply-adds of the convolutions of one released block",
    difficulty=2,
    minutes=15,
    hints={
        "How many convolutions has a level?": "One on itself, one from the finer neighbour with stride 2, one from the "
        "coarser neighbour on the coarser grid, and the one that predicts 27 channels.",
        "The number is too large": "The finest level has no finer neighbour, the coarsest no coarser one.",
    },
    solution=block_macs,
)


# %%
def your_block_macs(sizes, C):
    """sizes: (H, W) of the levels, fine to coarse."""
    raise NotImplementedError


check_block_macs(your_block_macs)

# %% [markdown]
# Papers report the cost at 800 x 1333 pixels, on P3 to P7, with 256 channels. In ATSS the head takes the place of two
# towers of four convolutions each. So the question is how many blocks cost as much as the towers:

# %%
from dyhead_book.figures.head_cost import depth_figure
from dyhead_lab.evaluation.dyhead_cost import depth_macs, level_sizes, tower_macs

print(f"one block: {block_macs(level_sizes(), 256) / 1e9:.2f} GMAC, the towers: {tower_macs() / 1e9:.1f} GMAC")
figure = depth_figure(depth_macs((1, 2, 4, 6, 8, 10), offset_fit="flat"), tower_macs(), published={6: 21.5})
Picture(figure, alt="Depth against cost: 1 to 4 blocks cost less than the towers, 6 blocks 21.7 GMAC more.")

# %% [markdown]
# Up to four blocks the head is cheaper than what it replaces. Six blocks, which the paper takes, cost 21.7 GMAC
# more; the paper says 21.5. (Papers on detection write GFLOPs and mean multiply-adds.) Chapter 08 shows that this
# sum looks quite different for other detectors.
#
# ## Look: features after each attention
#
# The paper shows feature maps that become sparser with each attention. Let us put a number on that: the share of
# the energy (the sum of squares over channels) that lies in the strongest tenth of the positions. Equal energy
# everywhere gives 10 %, one bright place gives 100 %.

# %%
from dyhead_book.c07_dynamic_head.block_features import STEPS, sparsity_figure, traced_features
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.views.features import energy_share, features_figure
from dyhead_lab.zoo import load_trained

trained = load_trained("quickstart")
images = [torch.from_numpy(draw_image(2026, index)[0]).permute(2, 0, 1) / 255 for index in range(24)]
with torch.no_grad(), trace(trained.model) as seen:
    trained.model(images)
steps = {name.replace("_", " "): traced_features(seen, name)[0] for name in STEPS}

figure = features_figure(images[1], steps, LEVELS, index=1)
Picture(figure, alt="Energy of the features after spatial, scale and task attention on four levels of one picture.")

# %% [markdown]
# One picture proves nothing. Here are 24, none of them seen in training:

# %%
shares = {name: [energy_share(maps) for maps in levels] for name, levels in steps.items()}
figure = sparsity_figure(shares, LEVELS)
Picture(figure, alt="Share of energy in the strongest tenth, per level and step, over 24 pictures.")

# %%
for l, level in enumerate(LEVELS):
    print(level, "  ".join(f"{name} {float(values[l].mean()):.0%}" for name, values in shares.items()))

# %% [markdown]
# In this detector scale-aware attention makes P3 to P5 a little sparser, and task-aware attention makes all levels but
# P3 sparser still. (P6 has 9 cells. A tenth of them is rounded to one cell, so equal energy would give 11 % there.)
# The shipped head has one block. For a deeper one take `"block_output"`: `traced_features` gives one row per block.
#
# ## Look: the ablation switchboard
#
# Switch attentions off while the detector runs. "Off" means: gates of one; an ordinary convolution in place of the
# deformable one; ReLU. Press a button with the mouse, or with Tab and Space.

# %%
from dyhead_book.c07_dynamic_head.boxes_and_features import boxes_and_features_figure
from dyhead_lab.attention.switches import switched
from dyhead_lab.views.switchboard import Switchboard

image = images[8]


def show(**on):
    """Boxes and features of the detector with these attentions on."""
    with torch.no_grad(), switched(trained.model, **on), trace(trained.model) as seen:
        [found] = trained.model([image])
    features = traced_features(seen, "block_output")[0]
    figure = boxes_and_features_figure(image, found, features, LEVELS, trained.categories)
    off = ", ".join(name for name, is_on in on.items() if not is_on) or "nothing"
    boxes = int((found["scores"] >= 0.5).sum())
    return Picture(figure, alt=f"{boxes} boxes and the features of four levels; switched off: {off}.")


Switchboard(show)

# %% [markdown]
# The same on 40 pictures, as AP. All settings see the same pictures.

# %%
from pathlib import Path
from tempfile import mkdtemp

from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate

folder = Path(mkdtemp())
write_shapes(folder / "val", images=40, seed=2026)
pictures = coco_folder(folder, "val")

everything = {"scale": True, "spatial": True, "task": True}
AP = {}
for off in (None, "scale", "spatial", "task"):
    on = {name: name != off for name in everything}
    with switched(trained.model, **on):
        AP[off] = evaluate(pictures, detect_dataset(trained.model, pictures))["AP"]
    print(f"{off or 'nothing':8} off: AP {AP[off]:.3f}")

# %% [markdown]
# Do not read this as what an attention is worth. The detector was trained with all three, and its other weights
# count on them: it is as if you took a wheel off a running car. What an attention is worth shows when you *train*
# without it.
#
# ## The ablation, trained
#
# `dyhead-lab experiment ablation` trains every combination on Shapes, from the same start. To keep it affordable only
# the head learns: backbone and pyramid are those of quickstart, frozen. (They were trained together with a head of
# all three attentions. That may favour the rows that have them.) Runs with the same seed see the same pictures in the
# same order, so their differences are paired. This is the recorded result:

# %%
from dyhead_lab.experiments.catalogue import recorded

ablation = recorded("ablation")
print(ablation.table())

# %% [markdown]
# Read the last two columns. A difference that is smaller than its spread says nothing, and a handful of seeds tells
# the spread only roughly. Which rows are left?

# %%
rows = {"larger than its spread": [], "smaller than its spread": [], "spread unknown": []}
for row in ablation.rows:
    difference = ablation.difference(row, "AP")
    if row == ablation.baseline or difference is None:
        continue
    mean, deviation = difference
    kind = 2 if deviation is None else int(abs(mean) < deviation)
    rows[list(rows)[kind]].append(row)
for kind, names in rows.items():
    print(f"{kind:24}", ", ".join(names) or "none")

# %% [markdown]
# The paper's table was made with ATSS and ResNet-50 on COCO, with a far larger budget. These are its figures as they
# are usually recalled; we could not check them against the paper itself.
#
# | | plain towers | L | S | C | L+S | L+S+C |
# | --- | --- | --- | --- | --- | --- | --- |
# | AP on COCO | 39.0 | 39.9 | 41.4 | 40.3 | 41.6 | 42.6 |
#
# The paper does not say which baseline its first row is: the head with everything off, or the plain towers.
# We report both, because they differ.
#
# ## Break it
#
# Somebody counted the cost of a block and made one mistake. Find it by feeding sizes for which you know the
# answer: one level has no neighbours; with one channel the offsets weigh a lot.

# %%
suspect = drill(BLOCK_MACS_MISTAKES, 2)

for sizes, C in [(((4, 4),), 1), (((4, 4), (2, 2)), 1), (((4, 4), (2, 2), (1, 1)), 16)]:
    print(f"{len(sizes)} level(s), {C} channel(s): {suspect(sizes, C):,}")

# %% [markdown]
# By hand, for one level of 4 x 4 and one channel: 9 taps and 16 positions are 144 for the convolution, and 27 times
# that for offsets and masks, 4,032 together. When you have a guess, run `check_block_macs(suspect)`.
#
# ## Exercises

# %%
Exercise(
    "Write energy_share(features_CHW, top), the number for sparser",
    difficulty=2,
    minutes=10,
    hints={
        "Which comes first?": "Square, sum over channels, then sort the positions.",
        "Off by a little": "Take max(1, round(top * positions)) of them.",
    },
    solution=energy_share_solution,
)


# %%
def your_energy_share(features_CHW, top):
    raise NotImplementedError


check_energy_share(your_energy_share)

# %%
Challenge(
    "Train a head with three blocks and draw the features after each: does every block make them sparser?",
    difficulty=3,
    minutes=40,
    hints={
        "How to train it": "dyhead-lab train quickstart --set model.dyhead_blocks=3, then load_trained(run folder).",
        "How to read it": 'traced_features(seen, "block_output") is [block][level].',
    },
    answer="No. We trained one such head (AP 0.427) and took energy_share over the 24 pictures above, P3 to P6. First: "
    "29, 24, 17, 24 %. Second: 30, 29, 25, 19 %. Third: 23, 25, 20, 20 %. So the second block is sparser than the "
    "first on three levels, and the third less sparse than the second on three. Before training all blocks lie between "
    "13 and 22 %: training makes features sparser, the number of a block does not. One seed only.",
)

# %%
Challenge(
    "Switch two attentions off at once. Do their losses of AP add up?",
    difficulty=2,
    minutes=15,
    hints={
        "Where to begin": "switched(trained.model, scale=False, task=False), then detect_dataset and evaluate.",
        "What to compare": "The loss of a pair with the sum of its two single losses.",
    },
    answer="Nearly, on these 40 pictures. One at a time, scale costs 0.023 AP, spatial 0.158, task 0.041. In pairs, "
    "scale and spatial cost 0.182, scale and task 0.069, spatial and task 0.188.",
)

# %% [markdown]
# ## Recap
#
# - The undecoupled attention has $(LSC)^2$ weights. Taking it apart makes it possible at all.
# - Paper and released code differ in almost every line. The tensor keeps (B, L, S, C) in one and the pyramid in the
#   other; read literally, the paper's spatial step removes the level axis.
# - Five blocks cost as much as the towers of ATSS; the usual six cost 21.7 GMAC more.
# - Switching off shows what a trained head relies on. Training without shows what a part is worth, and only where the
#   difference is larger than its spread.

# %%
loss = {letter: AP[None] - AP[name] for letter, name in zip("LSC", everything, strict=True)}
numbers = ", ".join(f"{letter} {value:+.3f}" for letter, value in loss.items())
missed.revisit(max(loss, key=loss.get), f"AP lost on 40 pictures: {numbers}.")

# %% [markdown]
# **Check yourself.** Why does a level of the released form see only its neighbours after one block, and how many blocks
# does it take until P3 has seen P7? Why can the sum over levels not be undone? Which switches leave the number of
# multiply-adds almost unchanged, and which saves a convolution?
