# %% [markdown]
# # Attention maps
#
# | | |
# | --- | --- |
# | Time | 45 minutes with the exercises, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | bilinear sampling (chapter 03); deformable attention (chapter 10) for the second half |
# | You will build | a heat map from sampling points, and a number for how far a layer looks |
#
# A detector with deformable layers tells exactly where it looked: it computes the positions itself. Many people
# have asked how to draw them. This chapter does it for any pixel and any object query, and shows that what is
# drawn is what was computed.

# %%
import numpy as np
import torch

from dyhead_book.c14_attention_maps.map_checks import HEAT_MISTAKES, check_heat_map, check_share_inside, check_spread
from dyhead_book.c14_attention_maps.map_checks import heat_map as library_heat_map
from dyhead_book.c14_attention_maps.map_checks import share_inside as library_share_inside
from dyhead_book.c14_attention_maps.map_checks import spread as library_spread
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.trace import NAMES, trace
from dyhead_lab.views.figures import Picture
from dyhead_lab.views.sampling_points import SamplingPoints
from dyhead_lab.zoo import load_trained

# %% [markdown]
# ## Predict
#
# The quickstart detector has one Dynamic Head block. At each place its deformable convolution reads nine points.
# Before training they lie on a 3 x 3 grid, and their spread is $\sqrt{4/3} \approx 1.15$ cells.

# %%
farther = Question(
    "14 spread",
    "How far apart do the nine points lie after training, on objects?",
    a="closer together than the grid",
    b="up to twice as far apart",
    c="more than twice as far apart",
)
farther.guess(None)  # write "a", "b" or "c" here

# %% [markdown]
# ## See what a model saw
#
# Modules of this library tell what they compute when a trace asks. `trace` listens during one forward pass.
# When nobody listens, nothing is stored.

# %%
detector = load_trained("quickstart")
picture, truth = draw_image(2026, 5)
image = torch.from_numpy(picture).permute(2, 0, 1) / 255
with torch.no_grad(), trace(detector.model) as seen:
    [found] = detector.model([image])
for name in seen.names():
    print(f"{name:18} {NAMES[name]}")

# %% [markdown]
# ## The formula
#
# What the deformable convolution of Dynamic Head gives at the place $p_0$ is a sum over its taps (chapter 03):
#
# $$y(p_0) = b + \sum_{k=1}^{K} w_k \; x(p_0 + p_k + \Delta p_k) \; \Delta m_k$$
#
# The explorer below draws $p_0 + p_k + \Delta p_k$ as a dot, larger where the mask $\Delta m_k$ is larger.
# **Click** a place, or move it with the arrow keys. Choose a point with the slider and see its four pixels.
# **Drag** the point, or nudge it with the arrow keys: the bars show how the output of the layer changes.

# %%
explorer = SamplingPoints(seen, image)
explorer.layer = 3  # the 20 x 20 level, reading itself
explorer

# %% [markdown]
# Is this what the layer computed? The explorer puts the numbers that it shows into the formula and compares with
# the output of the forward pass.

# %%
shown, computed = explorer.output(), explorer.current.output[explorer.place]
difference = float((shown - computed).norm() / computed.norm())
print("difference from the forward pass:", "below 1e-5" if difference < 1e-5 else difference)

# %% [markdown]
# The numbers are yours: three buttons save them for the place that is shown. `to_csv`, `to_npz` and `to_svg` do the
# same from a cell.

# %%
for row in explorer.table()[:3]:
    print({name: round(value, 3) for name, value in row.items()})

# %% [markdown]
# ## Build: a number for how far a layer looks
#
# The **spread** of a set of points is the root of the weighted mean squared distance from their weighted centre.

# %%
Exercise(
    "Write spread(positions_n2, weights_n)",
    difficulty=1,
    minutes=5,
    hints={
        "What are the weights?": "Masks or attention weights. Masks do not sum to 1: divide by their sum first.",
        "Which centre?": "The weighted mean of the positions.",
    },
    solution=library_spread,
)


# %%
def spread(positions_n2, weights_n):
    raise NotImplementedError  # three lines


check_spread(spread)

# %% [markdown]
# Now measure it where the objects are: at the place next to the middle of every object, in cells.

# %%
mine = spread if check_spread(spread) else library_spread
layer = explorer.current
_, W = layer.grid[0]


def spread_at(x, y):
    points = layer.points(layer.nearest(x, y))
    return mine(points.positions.numpy().astype(float) * W, points.weights.numpy().astype(float))


size = picture.shape[0]
centres = [np.argwhere(shape.mask).mean(0) / size for shape in truth]  # (y, x) of what is visible
spreads = [spread_at(x, y) for y, x in centres]
print("spread on each object, in cells:", [round(value, 2) for value in spreads])

# %%
grid, measured = (4 / 3) ** 0.5, float(np.mean(spreads))
answer = "a" if measured < grid else "b" if measured < 2 * grid else "c"
farther.revisit(answer, f"Mean spread {measured:.2f} cells, the regular grid has {grid:.2f}.")

# %% [markdown]
# ## Build: a heat map
#
# Hundreds of points are hard to see. A **heat map** adds them up: every point leaves its weight on the four cells
# that it reads, by their bilinear shares. The decoder attention map of Sparse DETR (chapter 12) is such a map.

# %%
Exercise(
    "Write heat_map(positions_n2, weights_n, H, W)",
    difficulty=2,
    minutes=15,
    hints={
        "From [0, 1] to cells": "The centre of cell i lies at (i + 0.5) / W. So p_x = x * W - 0.5.",
        "Which four cells?": "floor(p) and floor(p) + 1, in both directions. Skip what lies outside.",
        "A few cells differ": "Points may share cells. Add, do not assign.",
    },
    solution=library_heat_map,
)


# %%
def heat_map(positions_n2, weights_n, H, W):
    """Returns (H, W)."""
    raise NotImplementedError  # your loops go here


check_heat_map(heat_map)

# %% [markdown]
# ## Look: what an object query reads
#
# A decoder's object query looks from its reference point with several heads, on several levels. Here is a small
# Deformable DETR, trained on the same pictures. The explorer is the same; its places are the object queries.

# %%
deformable = load_trained("deformable_detr_tiny")
with torch.no_grad(), trace(deformable.model) as decoder_seen:
    [boxes] = deformable.model([image])
queries = SamplingPoints(decoder_seen, image)
queries.layer = len(queries.layers) - 1
queries

# %% [markdown]
# And the sum of what all its queries read, per level: the heat map.

# %%
from dyhead_book.c14_attention_maps.token_maps_figure import token_maps_figure

mine = heat_map if check_heat_map(heat_map) else library_heat_map
layer = queries.current
maps = {}
for level, x in enumerate(layer.maps):
    H, W = x.shape[-2:]
    positions, weights = layer.locations[:, :, level].reshape(-1, 2), layer.attention[:, :, level].flatten()
    maps[f"level {level + 1}, {H} x {W}"] = torch.from_numpy(mine(positions.numpy(), weights.numpy(), H, W))
figure = token_maps_figure(image, maps)
Picture(figure, alt="Where the last decoder layer reads: fine levels at small objects, coarse ones in the large one.")

# %% [markdown]
# ## Break it
#
# Here is a `heat_map` with one planted bug. A single point on a cell's centre has an answer that you know.

# %%
suspect = drill(HEAT_MISTAKES, 2)
one_point = np.array([[2.5 / 6, 1.5 / 4]])  # column 2, row 1 of a 4 x 6 map
print(suspect(one_point, np.array([1.0]), 4, 6).round(2))

# %% [markdown]
# When you have a guess, run `check_heat_map(suspect)`. `drill(HEAT_MISTAKES, 0)` to `drill(HEAT_MISTAKES, 6)` are
# all different. Some need another question: a weight of 2, two points in one cell, a point outside the map.
# `SPREAD_MISTAKES` of `dyhead_book.c14_attention_maps.map_checks` has five more for `check_spread`.

# %% [markdown]
# ## Exercises

# %%
Exercise(
    "Write share_inside(positions_n2, weights_n, box_4): the share of the weight that falls into a box",
    difficulty=1,
    minutes=5,
    hints={
        "Which points are inside?": "x1 <= x <= x2 and y1 <= y <= y2, as one array of True and False.",
        "A share of what?": "Of the sum of all weights. Masks do not sum to 1.",
    },
    solution=library_share_inside,
)


# %%
def share_inside(positions_n2, weights_n, box_4):
    """box_4: (x1, y1, x2, y2), in the unit of the positions. Returns a number from 0 to 1."""
    raise NotImplementedError


check_share_inside(share_inside)

# %% [markdown]
# What is it good for? The last decoder layer looks around each query's box. How much of its weight falls inside?

# %%
share = share_inside if check_share_inside(share_inside) else library_share_inside
best = boxes["scores"].argsort(descending=True)[:5]
for box, score in zip(boxes["boxes"][best], boxes["scores"][best], strict=True):
    box_norm = (box / image.shape[-1]).numpy().astype(float)
    points = layer.points(layer.nearest(*box_norm.reshape(2, 2).mean(0)))
    inside = share(points.positions.numpy().astype(float), points.weights.numpy().astype(float), box_norm)
    print(f"score {score:.2f}: {inside:.0%} of the weight lies inside the box")

# %%
Challenge(
    "Find a place where moving one point by a cell changes the output by more than half of its norm",
    difficulty=1,
    minutes=5,
    hints={
        "Where to look": "Points with a large mask next to an edge of an object. Use the arrow keys.",
        "By program": "explorer.chosen and explorer.moved choose and move a point; explorer.bars tells the change.",
    },
    answer="There may be none: eight other taps share the output. The largest change that you find says how much a "
    "single sample counts.",
)

# %%
Challenge(
    "Compare the spread on small and on large objects, on every level, over 50 pictures",
    difficulty=3,
    minutes=20,
    hints={
        "Where are the layers?": "sampling_layers(seen) of dyhead_lab.views.sampling_layers gives all of them.",
        "Is it fair?": "Count in pixels of the image: a cell of a coarse level is larger.",
    },
    answer="Chapter 05 measures a relative of it: on P3 the field clearly grows with the objects that this level has "
    "learned, on P4 weakly. Give the correlation with the number of objects behind it, level by level; chapter 15 "
    "shows how to tell it from chance.",
)

# %%
Challenge(
    "A heat map shows where a layer reads. Does it show what the output depends on? Find a counterexample",
    difficulty=4,
    minutes=20,
    hints={
        "What else matters": "The value that is read there, and the matrix that multiplies it.",
        "An experiment": "Set the values under the brightest cell to zero and see how much the output changes.",
    },
    answer="It does not. A cell whose value is near zero may be read with a large weight and change nothing. A darker "
    "cell with a large value changes the output more.",
)

# %% [markdown]
# ## Recap
#
# - The sampling points of a deformable layer are part of the computation. Nothing has to be estimated.
# - Drawn with weight and position, they give the layer's output again.
# - A heat map adds them up; its sum is the total weight inside the map.
# - Where a layer reads is not yet why it answers: the values and the weights behind them count too.
#
# **Check yourself.** Why does the heat map of a level not sum to 1? Why can the points of a decoder lie outside the
# image, and what do they read there? What would a heat map of dense attention look like at the start of training?
