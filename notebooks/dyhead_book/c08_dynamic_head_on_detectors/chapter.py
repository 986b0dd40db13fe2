# %% [markdown]
# # Dynamic Head on detectors
#
# | | |
# | --- | --- |
# | Time | 45 to 60 minutes with the exercises, about 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 3 GB, none on a GPU |
# | Needs | what a block of the Dynamic Head does (chapter 07); what one- and two-stage detectors are (chapter 01) |
# | You will build | the three ways in which detectors write a box |
#
# The paper promises a head for every detector. This chapter puts it on seven: where it goes, what it costs there,
# and what it brings, published and measured here. It ends with the released weights.

# %%
from functools import partial

import numpy as np
import torch
from IPython.display import Markdown

from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_lab.views.figures import Picture

# %% [markdown]
# ## Predict
#
# On ATSS, six blocks cost about 22 GMAC more than the towers that they replace, a tenth of the detector. Faster
# R-CNN has no such towers, and its pyramid begins one level finer, at P2. What do six blocks do to its cost?

# %%
price = Question(
    "08 what six blocks cost on Faster R-CNN",
    "Faster R-CNN costs 215 GMAC at 800 x 1333 pixels. What does it cost with six blocks?",
    a="about a tenth more, as on ATSS",
    b="about half as much again",
    c="more than three times as much",
)
price.guess(None)  # put "a", "b" or "c" here

# %% [markdown]
# ## The formula
#
# <img src="diagrams/detector_families.svg" alt="Three families. One-stage detectors predict class and box at
# every place of every level and remove doubles by non-maximum suppression. Two-stage detectors propose regions,
# pool features in them, and classify those. DETR&#x27;s family lets a fixed number of queries read the features
# and matches them with the objects one to one.">
#
# A detector is a backbone, a pyramid and a head. The Dynamic Head $W$ takes the pyramid and gives a pyramid of the
# same shapes back, so it fits between any two of them:
#
# $$\text{predictions} = \text{head}\big(W(\text{FPN}(\text{backbone}(\text{image})))\big)$$
#
# | detector | stages | how it writes a box | where the Dynamic Head goes |
# | --- | --- | --- | --- |
# | RetinaNet | one | relative to 9 anchors a place | before the two towers, which stay (released recipe) |
# | ATSS | one | relative to 1 anchor a place | in place of the towers (released recipe) |
# | FCOS | one | four distances from a centre | in place of the towers |
# | BorderDet | one | as FCOS, then refined at its borders | in place of the towers |
# | RepPoints | one | nine points | in place of the towers |
# | Faster R-CNN | two | relative to a proposal | before the RPN and RoI pooling (released recipe) |
# | Cascade R-CNN | four | relative to the box of the stage before | before the RPN and RoI pooling |
#
# The paper has one more wish for two-stage detectors: scale- and spatial-aware attention before RoI pooling,
# task-aware attention *after* it, in place of the fully connected layers. The released code does not do that. In
# the library it is `faster_rcnn(..., task_after_pooling=True)`.
#
# ## Build: three ways to write a box
#
# Why "task-aware"? The same features have to serve boxes, centres or key points, depending on who reads them. All
# three describe the same object:

# %%
from dyhead_book.c08_dynamic_head_on_detectors.representations import representations_figure
from dyhead_lab.data.shapes import draw_image

picture, objects = draw_image(2026, 1)
image = torch.from_numpy(picture).permute(2, 0, 1) / 255
x, y, w, h = objects[2].box
box = np.array([x, y, x + w, y + h], float)

rows, columns = np.nonzero(objects[2].mask)
inside = np.stack([columns, rows], 1) + 0.5
angles = np.arange(9) * 2 * np.pi / 9
directions = np.stack([np.cos(angles), np.sin(angles)], 1)
points = inside[(inside @ directions.T).argmax(0)]  # the object's farthest pixel in nine directions

anchor = np.array([0.0, 24, 64, 88])
place = np.array([36.0, 68])  # the middle of a cell of P3
figure = representations_figure(image, box, anchor, place, points)
Picture(figure, alt="The same object relative to an anchor, as distances from a place, and spanned by nine points.")

# %% [markdown]
# Now write the way back, from each representation to the box. First relative to an anchor: with the anchor's
# centre $(x_a, y_a)$ and size $(w_a, h_a)$,
#
# $$x = x_a + \tfrac{d_x}{10} w_a, \quad y = y_a + \tfrac{d_y}{10} h_a, \quad
# w = w_a\, e^{d_w / 5}, \quad h = h_a\, e^{d_h / 5}.$$
#
# The constants 10 and 5 bring the four targets to a similar spread.

# %%
from dyhead_book.c08_dynamic_head_on_detectors.representation_checks import (
    DELTAS_MISTAKES,
    box_from_deltas,
    box_from_points,
    box_from_sides,
    check_box_from_deltas,
    check_box_from_points,
    check_box_from_sides,
)

Exercise(
    "Write from_deltas(anchor, deltas): the box x1, y1, x2, y2",
    difficulty=2,
    minutes=10,
    hints={
        "Where to begin": "The anchor comes as two corners. Compute its centre and size first.",
        "The size is right, the position is not": "dx counts in widths of the anchor and moves its centre.",
    },
    solution=box_from_deltas,
)


# %%
def from_deltas(anchor, deltas):
    raise NotImplementedError


check_box_from_deltas(from_deltas)

# %% [markdown]
# Then from a place, by four distances that count in cells (one cell is `stride` pixels):

# %%
Exercise(
    "Write from_sides(place, distances, stride)",
    difficulty=1,
    minutes=5,
    hints={
        "Which order?": "Left, top, right, bottom. All four are positive inside the box.",
        "The box is too small": "Distances count in strides: multiply before you add.",
    },
    solution=box_from_sides,
)


# %%
def from_sides(place, distances, stride):
    raise NotImplementedError


check_box_from_sides(from_sides)

# %% [markdown]
# Last, the smallest box around nine points. They come as (dy, dx) in cells, because the same numbers also steer a
# deformable convolution that reads the features at the points:

# %%
Exercise(
    "Write from_points(place, offsets, stride), offsets (9, 2)",
    difficulty=1,
    minutes=5,
    hints={
        "x and y are mixed up": "The place is (x, y), an offset is (dy, dx).",
        "Which box do nine points make?": "The smallest one around them: their minimum and maximum.",
    },
    solution=box_from_points,
)


# %%
def from_points(place, offsets, stride):
    raise NotImplementedError


check_box_from_points(from_points)

# %% [markdown]
# ## Check
#
# The object of the picture in all three ways, and back. Your functions are used where they are right.

# %%
decode = {
    "anchor": from_deltas if check_box_from_deltas(from_deltas) else box_from_deltas,
    "centre": from_sides if check_box_from_sides(from_sides) else box_from_sides,
    "points": from_points if check_box_from_points(from_points) else box_from_points,
}
size, anchor_size = box[2:] - box[:2], anchor[2:] - anchor[:2]
shift = (box[:2] + box[2:] - anchor[:2] - anchor[2:]) / 2 / anchor_size
deltas = np.concatenate([10 * shift, 5 * np.log(size / anchor_size)])
distances = np.concatenate([place - box[:2], box[2:] - place]) / 8
print("box      ", box)
print("anchor   ", decode["anchor"](anchor, deltas).round(1))
print("centre   ", decode["centre"](place, distances, 8).round(1))
print("points   ", decode["points"](place, (points - place)[:, ::-1] / 8, 8).round(1))

# %% [markdown]
# The points span a box that is half a pixel smaller on each side: they are the middles of pixels.
#
# ## Fast: where the multiply-adds go
#
# All seven with ResNet-50 at 800 x 1333 pixels and 80 classes, without and with six blocks. Nothing is computed:
# the counts come from shapes alone. Two-stage detectors classify 1000 regions.

# %%
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.detectors.one_stage.borderdet import borderdet
from dyhead_lab.detectors.one_stage.fcos import fcos
from dyhead_lab.detectors.one_stage.reppoints import reppoints
from dyhead_lab.detectors.one_stage.retinanet import retinanet
from dyhead_lab.detectors.rcnn.cascade_rcnn import cascade_rcnn
from dyhead_lab.detectors.rcnn.faster_rcnn import faster_rcnn
from dyhead_lab.evaluation.dyhead_cost import part_costs

builders = {
    "RetinaNet": retinanet,
    "FCOS": fcos,
    "ATSS": atss,
    "RepPoints": reppoints,
    "BorderDet": borderdet,
    "Faster R-CNN": faster_rcnn,
    "Cascade R-CNN": cascade_rcnn,
}
costs = {
    name: [part_costs(partial(build, 80, dyhead_blocks=blocks)) for blocks in (0, 6)]
    for name, build in builders.items()
}

# %%
lines = ["| detector | parameters | with | GMAC | with |", "| --- | --- | --- | --- | --- |"]
for name, variants in costs.items():
    millions = (f"{sum(part.parameters for part in parts) / 1e6:.1f} M" for parts in variants)
    giga = (f"{sum(part.macs for part in parts) / 1e9:.0f}" for parts in variants)
    lines.append(f"| {name} | {' | '.join(millions)} | {' | '.join(giga)} |")
Markdown("\n".join(lines))

# %%
from dyhead_book.figures.head_cost import parts_figure

figure = parts_figure(costs, ["without", "with"])
Picture(figure, alt="Stacked costs of seven detectors; the head triples the two-stage ones, which begin at P2.")

# %% [markdown]
# Three stories in one figure.
#
# - Where the head **replaces** towers, it costs a tenth more in all (ATSS, FCOS, BorderDet), or a fifth (RepPoints,
#   whose towers are lower). This is the case that the paper reports.
# - Where it comes **before** towers that stay (RetinaNet), it costs half the detector again.
# - In **two-stage** detectors nothing is replaced, and the pyramid begins at P2, which has four times the positions
#   of P3. There six blocks cost more than twice what the whole detector did.
#
# "Without any computational overhead", says the abstract. For ATSS nearly so. The counts of ATSS, RetinaNet and Faster
# R-CNN are those of the released configurations, to the last parameter (Faster R-CNN here has 4,100 more: torchvision
# also regresses a box for the background).
#
# ## Look: published and ours
#
# What does it bring? These are published numbers on COCO, each with the place where it stands:

# %%
from dyhead_book.c08_dynamic_head_on_detectors.published import ATSS_R50, PAPER_GAINS, table

Markdown(table())

# %% [markdown]
# Baseline and improved number come from different code, so a difference of a point is not sure.
# How much code bases differ shows in one model, ATSS with ResNet-50 and six blocks:

# %%
for source, AP in ATSS_R50.items():
    print(f"{AP:.1f}  {source}")
low, high = PAPER_GAINS
print(f"\nThe paper states gains from +{low} to +{high} for the detectors that it tried.")

# %% [markdown]
# Now our own. `dyhead-lab experiment detectors` trains every detector on Shapes with one budget, without and with one
# block, on a narrow backbone. This is the recorded result:

# %%
from dyhead_lab.experiments.catalogue import recorded

detectors = recorded("detectors")
print(detectors.table())

# %%
from dyhead_book.c08_dynamic_head_on_detectors.gains import Gain, gains_figure
from dyhead_book.c08_dynamic_head_on_detectors.published import DETECTORS


def on_shapes(name):
    """AP in percent without and with one block; None where a row was not measured."""
    spreads = (detectors.spread(row, "AP") for row in (f"{name} plain", name))
    return [None if spread is None else 100 * spread.mean for spread in spreads]


panels = {
    "COCO, ResNet-50, 6 blocks, published": [Gain(row.detector, row.without, row.with_) for row in DETECTORS],
    "Shapes, narrow backbone, 1 block, ours": [Gain(row.detector, *on_shapes(row.detector)) for row in DETECTORS],
}
figure = gains_figure(panels, "without Dynamic Head", "with")
Picture(figure, alt="AP without and with a Dynamic Head: published on COCO, and measured here on Shapes.")

# %% [markdown]
# The two panels do not compete: another data set, another backbone, another budget, one block instead of six. But
# the signs differ, and that is worth a thought. With 600 steps most of our detectors are *better without* the block.
# The backbone of every row has learned Shapes before. What stands between it and the losses starts from random
# weights, and the block puts more there: three deformable convolutions that mix levels, and their gates. In the
# longer training of `quickstart` (3,100 steps, ATSS) the block brings 0.032. That a longer budget would turn the other
# signs too is a guess: nobody has measured it here. A single seed says nothing about spread, so read differences of
# a point or two as nothing.
#
# RepPoints is far behind in both rows: it learns *what* an object is later than *where*. After 600 steps the surest
# box on an object has the right class no more often than chance would. With three times the steps it reaches AP 0.297
# (`dyhead-lab train reppoints_shapes --set iterations=1800 --set warmup=50 --set evaluate_every=1800`).
#
# ## Look: released weights
#
# `load_dynamic_head` reads the checkpoints of the released code, in all four of its layouts, and mmdetection's. It
# finds out the detector, its depth and its classes from the entries, and it is strict: every entry is used, or it
# says which one is left. The official files are not part of the book, so we make one with random weights and the
# official names, and read it back.

# %%
from dyhead_lab.detectors.official import load_dynamic_head, save_official

torch.manual_seed(0)
source = atss(80, dyhead_blocks=2, dyhead={"offset_fit": "flat"}, body={"stride_in_1x1": True})
checkpoint = save_official(source)
print(len(checkpoint), "entries, among them")
for name in list(checkpoint)[:2] + [name for name in checkpoint if "dyhead_tower.1.offset" in name]:
    print("  ", name, tuple(checkpoint[name].shape))

# %%
loaded = load_dynamic_head(checkpoint, min_size=320, max_size=320)
print(type(loaded).__name__, "with", len(loaded.backbone.neck.blocks), "blocks and", loaded.classes, "classes")
equal = all(torch.equal(value, source.state_dict()[name]) for name, value in loaded.state_dict().items())
print("every value is the same:", equal)

del checkpoint["head.centerness.bias"]
try:
    load_dynamic_head(checkpoint)
except ValueError as error:
    print("one entry less:", error)

# %% [markdown]
# Imported weights are traced like any others: the figures of chapters 02 and 05 to 07 work on them.

# %%
from dyhead_lab.trace import trace

with torch.no_grad(), trace(loaded) as seen:
    loaded([image])
print("traced:", ", ".join(seen.names()))

# %% [markdown]
# ## Break it
#
# A `box_from_deltas` with one planted bug. Deltas of zero must give the anchor back. Then change one of the four at a
# time and see whether the right sides move.

# %%
suspect = drill(DELTAS_MISTAKES, 3)

square, wide = np.array([0.0, 0, 10, 10]), np.array([0.0, 0, 40, 10])
for anchor in (square, wide):
    for deltas in ([0, 0, 0, 0], [10, 0, 0, 0], [0, 0, 5 * np.log(2), 0]):
        print(anchor, np.round(deltas, 1), "->", np.round(suspect(anchor, np.array(deltas, float)), 1))

# %% [markdown]
# By hand: deltas of (10, 0, 0, 0) move the anchor to the right by exactly its width. When you have a guess, run
# `check_box_from_deltas(suspect)`.
#
# ## Exercises

# %%
Challenge(
    "How many blocks can Faster R-CNN have before the head costs more than the rest of the detector?",
    difficulty=2,
    minutes=10,
    hints={
        "Where to begin": 'part_costs(partial(faster_rcnn, 80, dyhead_blocks=1)): "Dynamic Head" and the rest.',
        "Parameters or multiply-adds?": "Multiply-adds. Every block costs the same.",
    },
    answer="Two. A block costs 84 GMAC at 800 x 1333, all the rest 215: two blocks are 168, three would be 253.",
)

# %%
Challenge(
    "Move task-aware attention behind RoI pooling, as in the paper. What does it save?",
    difficulty=2,
    minutes=10,
    hints={
        "Where to begin": "part_costs(partial(faster_rcnn, 80, task_after_pooling=True)).",
        "Parameters or multiply-adds?": "Look at both: the two fully connected layers are most of the head's weights.",
    },
    answer="14 GMAC of 721, and 14.6 million parameters of 53: the two fully connected layers go. Cheap to keep in "
    "multiply-adds, they were a quarter of the weights.",
)

# %%
Challenge(
    "Train one detector of your choice on Shapes with and without the head, with a second seed",
    difficulty=2,
    minutes=30,
    hints={
        "How": "dyhead-lab experiment detectors --seeds 0 1 trains what is missing; finished runs are kept.",
        "Is the difference real?": "Compare it with what the second seed changes.",
    },
    answer="The rows are recorded with one seed: dyhead-lab experiment detectors --show. A difference that is smaller "
    "than the one between two seeds says nothing.",
)

# %% [markdown]
# ## Recap
#
# - The Dynamic Head maps a pyramid to a pyramid, so it fits every detector that has one.
# - What it costs depends on what it replaces: a tenth more on ATSS, several times as much on Faster R-CNN.
# - Published gains lie between 1 and 3.5 points; code bases alone differ by half a point and more.
# - Boxes, centres and key points are three readings of the same features.

# %%
before, after = (sum(part.macs for part in parts) for parts in costs["Faster R-CNN"])
answer = "c" if after > 3 * before else "b" if after > 1.3 * before else "a"
price.revisit(answer, f"{before / 1e9:.0f} GMAC become {after / 1e9:.0f}, a factor of {after / before:.1f}.")

# %% [markdown]
# **Check yourself.** Why does the finest level dominate the cost? Which detector reads its features at places that
# depend on the object, even without the Dynamic Head? Why must a loader refuse an entry that it cannot use?
