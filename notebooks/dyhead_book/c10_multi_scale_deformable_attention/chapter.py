# %% [markdown]
# # Multi-scale deformable attention
#
# | | |
# | --- | --- |
# | Time | 60 to 90 minutes with the exercises, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | bilinear sampling (chapter 03); what deformable attention is (chapter 09); no GPU |
# | You will build | sampling locations, attention weights, and the operator in plain loops |
#
# An object of 20 pixels and one of 500 pixels are seen best at different scales. Multi-scale deformable
# attention lets every query read points on all levels of a pyramid at once. It needs no feature pyramid
# network: the attention itself carries information from level to level.

# %%
import time

import numpy as np
import torch

from dyhead_book.c10_multi_scale_deformable_attention.attention_backward_checks import check_attention_backward
from dyhead_book.c10_multi_scale_deformable_attention.multi_scale_checks import (
    MS_DEFORM_ATTN_MISTAKES,
    check_box_locations,
    check_locations,
    check_ms_deform_attn,
    check_weights,
)
from dyhead_book.c10_multi_scale_deformable_attention.multi_scale_checks import attention_weights as library_weights
from dyhead_book.c10_multi_scale_deformable_attention.multi_scale_checks import box_locations as library_box_locations
from dyhead_book.c10_multi_scale_deformable_attention.multi_scale_checks import sampling_locations as library_locations
from dyhead_book.figures.deformable_points import Points, offsets_figure, points_figure
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_lab.ops.numba_reference import loops
from dyhead_lab.views.figures import Picture

rng = np.random.default_rng(0)

# %% [markdown]
# ## Predict
#
# A trained detector looks at small and at large objects. Its queries may read any level.

# %%
levels_read = Question(
    "10 levels read",
    "From which levels does a query for a large object read more than a query for a small one?",
    a="from the coarse levels",
    b="from the fine levels",
    c="both read all levels alike",
)
levels_read.guess(None)  # write "a", "b" or "c" here

# %% [markdown]
# ## The formula
#
# <img src="diagrams/deformable_module.svg" alt="The module. Two linear maps of the query give, for each head,
# level and point, an offset and a weight; softmax runs over levels and points together. A linear map of the
# tokens gives values, cut into heads. The operator reads each level at reference point plus offset, takes the
# weighted sum, and a last linear map joins the heads.">
#
# Deformable DETR, equation 3 (Zhu et al., 2021). Query $q$ has a feature $z_q$ and a reference point
# $\hat p_q \in [0, 1]^2$. Level $l$ of $L$ levels is a map $x^l$ of $H_l \times W_l$ cells:
#
# $$\mathrm{out}_q = \sum_{m=1}^{M} W_m \sum_{l=1}^{L} \sum_{p=1}^{P} A_{mlqp}\, W'_m\,
# x^l\big(\phi_l(\hat p_q) + \Delta p_{mlqp}\big), \qquad \sum_{l=1}^{L} \sum_{p=1}^{P} A_{mlqp} = 1$$
#
# - $\Delta p_{mlqp}$, the **offset**, counts in *cells of level l*. It is linear in $z_q$.
# - $A_{mlqp}$, the **weight**, is a softmax over all points of all levels together.
# - $\phi_l$ stretches $[0, 1]$ over the outer edges of the map: $\phi_l(x, y) = (x W_l - 0.5,\; y H_l - 0.5)$ in
#   cells whose centres are integers.
#
# **It is the reference point that is normalised, not the offset.** The same $\hat p_q$ means the same place on
# every level, whatever its size. An offset of one means one cell: 8 pixels on a level of stride 8, and 64 pixels
# on a level of stride 64. So a layer reaches near and far from its first step on, and every level learns at its
# own scale.
#
# ## Build: where the points lie
#
# The operator wants locations in $[0, 1]$. Bring the offsets to that unit.

# %%
Exercise(
    "Write sampling_locations: reference points plus offsets, in [0, 1] of each level",
    difficulty=2,
    minutes=10,
    hints={
        "What are the shapes?": "(Q, 2) -> (Q, 1, 1, 1, 2) for the reference, (L, 2) -> (L, 1, 2) for the sizes.",
        "Only maps that are not square fail": "shapes_L2 holds (H, W), but a point is (x, y).",
    },
    solution=library_locations,
)


# %%
def sampling_locations(reference_Q2, offsets_QMLP2, shapes_L2):
    """Returns (Q, M, L, P, 2), as (x, y) in [0, 1]."""
    raise NotImplementedError  # one line is enough


check_locations(sampling_locations)

# %% [markdown]
# ## Build: how much each point counts

# %%
Exercise(
    "Write attention_weights: the softmax of one head over all its points",
    difficulty=1,
    minutes=5,
    hints={
        "Which axes?": "(Q, M, L, P): levels and points together, for every query and head.",
        "In PyTorch": "flatten the last two axes, softmax(-1), and bring the shape back.",
    },
    solution=library_weights,
)


# %%
def attention_weights(logits_QMLP):
    """Returns (Q, M, L, P)."""
    raise NotImplementedError


check_weights(attention_weights)

# %% [markdown]
# ## Build: the sum
#
# All levels come as one sequence of $N$ **tokens**, the finest level first, row by row. `level_start_index` says
# where each level begins.

# %%
shapes = np.array([(4, 6), (2, 3), (1, 2)])
counts = shapes.prod(1)
starts = np.concatenate([[0], counts.cumsum()[:-1]])
print("tokens per level", counts, "of", counts.sum(), "- levels start at", starts)
l, row, column = 1, 1, 2
print(f"row {row}, column {column} of level {l} is token", starts[l] + row * shapes[l][1] + column)

# %% [markdown]
# | | shape | |
# | --- | --- | --- |
# | `value` | (B, N, M, D) | $W'_m x$, all levels one after another |
# | `spatial_shapes` | (L, 2) | (H, W) of each level |
# | `level_start_index` | (L,) | first token of each level |
# | `sampling_locations` | (B, Q, M, L, P, 2) | (x, y) in [0, 1] |
# | `attention_weights` | (B, Q, M, L, P) | |
# | result | (B, Q, M, D) | |

# %%
Exercise(
    "Write ms_deform_attn in plain loops",
    difficulty=3,
    minutes=30,
    hints={
        "I do not know where to begin": "Loops over b, q, m, l, p, and d. Inside: a position, four cells, a weight.",
        "How do I get one level?": "value[b, start : start + H * W] has H * W rows; reshape them to (H, W, M, D).",
        "The first cases pass, later ones fail": "They have several levels and heads. Look at start and at m.",
    },
    solution=loops.ms_deform_attn,
)


# %%
def my_ms_deform_attn(value, spatial_shapes, level_start_index, sampling_locations, attention_weights):
    """Returns (B, Q, M, D)."""
    raise NotImplementedError  # loops.bilinear(image_HW, p_y, p_x) is there for you


check_ms_deform_attn(my_ms_deform_attn)

# %% [markdown]
# ## Fast: the same check for every backend
#
# The library has the operator several times: as a formula in PyTorch, as compiled loops, as CUDA kernels, and
# those kernels under the emulator. Each of them has to pass the check that yours has passed.

# %%
from dyhead_lab.ops import ms_deform_attn, native


def with_backend(name):
    def function(*arrays):
        out = ms_deform_attn(*map(torch.from_numpy, arrays), backend=name)
        return out.unflatten(-1, arrays[0].shape[2:]).numpy()

    return function


backends = ["formula", "numba"] + ["emulated"] * native.built("emulated")
for name in backends:
    print(f"{name:9}", check_ms_deform_attn(with_backend(name)))

# %% [markdown]
# How fast are they? A pyramid of a 320 x 320 image, 8 heads of 32 channels, 4 points: the encoder asks for every
# token.

# %%
sizes = torch.tensor([(40, 40), (20, 20), (10, 10), (5, 5)])
N, M, P, D = 2125, 8, 4, 32
arguments = (
    torch.randn(1, N, M, D),
    sizes,
    torch.tensor([0, 1600, 2000, 2100]),
    torch.rand(1, N, M, 4, P, 2),
    torch.rand(1, N, M, 4, P).flatten(3).softmax(-1).view(1, N, M, 4, P),
)


def milliseconds(backend, repeats=3):
    """Best of a few runs, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.perf_counter()
        ms_deform_attn(*arguments, backend=backend)
        times.append(time.perf_counter() - start)
    return 1e3 * min(times[1:])


ratio = milliseconds("formula") / milliseconds("numba")
print("The compiled loops are faster than the formula by a factor of", "more than 5" if ratio > 5 else f"{ratio:.1f}")

# %% [markdown]
# ## Look: the start is a ring
#
# Before training, the layer that computes the offsets has weights of zero. Its bias sends head $m$ in direction
# $m$ and point $k$ out to $k$ cells (appendix A.4 of the paper). All weights are $1/(LP)$.

# %%
from dyhead_lab.attention.deformable import MultiScaleDeformableAttention

M, L, P = 8, 3, 4
layer = MultiScaleDeformableAttention(channels=64, levels=L, heads=M, points=P)
ring_MLP2 = layer.sampling_offsets.bias.detach().view(M, L, P, 2)
figure = offsets_figure(ring_MLP2, [f"level {level}" for level in range(L)])
Picture(figure, alt="Eight rays of four points around the reference point, the same on all three levels, in cells.")

# %% [markdown]
# A colour and a marker stand for a head. In cells all levels look alike. In pixels they do not:

# %%
from dyhead_lab.data.shapes import draw_image

picture, objects = draw_image(2026, 1)
image = torch.from_numpy(picture).permute(2, 0, 1) / 255
pyramid = [(20, 20), (10, 10), (5, 5)]
middle = np.array([[0.5, 0.5]])
locate = sampling_locations if check_locations(sampling_locations) else library_locations  # yours, if it is right
locations = locate(middle, ring_MLP2[None].numpy(), np.array(pyramid))[0]
ring = Points(torch.from_numpy(locations), torch.full((M, L, P), 1 / (L * P)), torch.from_numpy(middle[0]))
figure = points_figure(image, {"before training": ring}, pyramid)
Picture(figure, alt="The ring on an image: small on the fine level; on the coarse one half of it lies outside.")

# %% [markdown]
# Points outside the image are not drawn: on level 2 that is half of them. They read zero. The layer learns to bring
# them back, or to give them no weight.
#
# ## Look: after training
#
# `deformable_detr_tiny` is a small Deformable DETR that was trained on Shapes. Its decoder has **object queries**;
# each has found a box or nothing. `look` runs the detector on an image and keeps a trace. Where does the last
# decoder layer read for the three best queries?

# %%
from dyhead_book.figures.object_queries import look
from dyhead_lab.zoo import load_trained

trained = load_trained("deformable_detr_tiny")
model = trained.model
view = look(model, image)
chosen = {view.title(q, trained.categories): view.points(q) for q in view.best(3)}
figure = points_figure(view.image, chosen, view.sizes)
Picture(figure, alt="Sampling points of the last decoder layer for the three best queries, coloured by level.")

# %% [markdown]
# A disc's area is the weight of the point, its colour the level. The cross is the centre of the reference box that
# the layer started from. The title tells the number of the query, its class and its score. Around a box, offsets
# count in half box sizes over $P$, not in cells: the points of a query for a large object reach far. See where the
# heavy points lie: near the edges of the box, where one can tell how large the object is.
#
# Now all layers, all places, all heads. Choose a layer. Click a place in the image, or move with the arrow keys. A
# point can be dragged, and the bars show what the layer would have read there.

# %%
from dyhead_lab.views.sampling_points import SamplingPoints

SamplingPoints(view.seen, view.image)

# %% [markdown]
# What did training do to the ring? It is the bias of a linear layer; the query's feature adds its own part. Here are
# the offsets on the finest level, in the unit that they have around a box: four of them reach from its centre to its
# edge.

# %%
attention = model.transformer.decoder.layers[-1].cross_attn
M, L, P = attention.heads, attention.levels, attention.points
fresh = MultiScaleDeformableAttention(attention.channels, L, M, P)
first_ring, trained_ring = (a.sampling_offsets.bias.detach().view(M, L, P, 2) for a in (fresh, attention))
print(f"training moved the bias by {(trained_ring - first_ring).abs().mean():.2f} on average")
offsets = {"bias": trained_ring[:, 0]}
for name, points in chosen.items():
    centre, size = points.reference[:2], points.reference[2:]
    offsets[name] = (points.locations_MLP2[:, 0] - centre) / size * 2 * P
figure = offsets_figure(torch.stack(list(offsets.values()), 1), list(offsets), unit="half box sizes / P")
Picture(figure, alt="Offsets on the finest level: the ring of the bias, and what three queries make of it.")

# %% [markdown]
# The ring itself has hardly moved. It is a common start, and each query bends it to the object that it has found.
#
# ## Look: who reads which level?
#
# 40 pictures, all queries that are sure of an object. How much of their weight goes to each level, by the size
# of the object that they found?

# %%
shares = {"small": [], "medium": [], "large": []}
for index in range(40):
    picture, _ = draw_image(2027, index)
    view = look(model, torch.from_numpy(picture).permute(2, 0, 1) / 255)
    boxes = view.boxes_in_pixels()
    for q in view.best(threshold=0.4):
        area = float((boxes[q, 2:] - boxes[q, :2]).prod())
        size = "small" if area < 32**2 else "medium" if area < 96**2 else "large"
        shares[size].append(view.points(q).weights_MLP.sum(2).mean(0))

mean_share = {f"{size} ({len(found)})": torch.stack(found).mean(0) for size, found in shares.items() if found}

# %%
from dyhead_book.figures.deformable_points import level_shares_figure

strides = [round(view.image.shape[-1] / W) for _, W in view.sizes]
figure = level_shares_figure(mean_share, [f"stride {stride}" for stride in strides])
Picture(figure, alt="Share of the attention weight on each level, for small, medium and large objects.")

# %% [markdown]
# Small, medium and large are the classes of COCO: below $32^2$ pixels, below $96^2$, and above. In brackets: how
# many queries.

# %%
stride_read = {size: float((share * torch.tensor(strides)).sum()) for size, share in mean_share.items()}
smallest, *_, largest = stride_read.values()
answer = "a" if largest > 1.1 * smallest else "b" if smallest > 1.1 * largest else "c"
sizes_read = ", ".join(f"{size} {stride:.1f}" for size, stride in stride_read.items())
levels_read.revisit(answer, f"Mean stride that is read: {sizes_read} pixels.")

# %% [markdown]
# ## Break it
#
# Here is a `ms_deform_attn` with one planted bug. A good experiment: one level, one head, one point of weight 1
# at the centre of a known cell. The answer must be that cell.

# %%
suspect = drill(MS_DEFORM_ATTN_MISTAKES, 2)
H, W, row, column = 3, 5, 1, 3
value = np.arange(H * W, dtype=float).reshape(1, H * W, 1, 1)
centre = np.array([(column + 0.5) / W, (row + 0.5) / H]).reshape(1, 1, 1, 1, 1, 2)
one_level = np.array([(H, W)]), np.array([0])
print("cell", row * W + column, "reads", suspect(value, *one_level, centre, np.ones((1, 1, 1, 1, 1))).item())

# %% [markdown]
# If the cell is right, go on: two levels, two heads, a point between cells, a point outside. When you have a
# guess, run `check_ms_deform_attn(suspect)`. `drill(MS_DEFORM_ATTN_MISTAKES, 0)` to
# `drill(MS_DEFORM_ATTN_MISTAKES, 9)` are all different.
#
# ## Exercises

# %%
Exercise(
    "Write box_locations: points around reference boxes (cx, cy, w, h) instead of reference points",
    difficulty=2,
    minutes=10,
    hints={
        "How far does an offset reach?": "An offset of P reaches from the centre to the edge: divide by P.",
        "Why half?": "From the centre of a box to its edge it is half a width.",
        "Where is the size of the level?": "Nowhere. A box is the same share of every level.",
    },
    solution=library_box_locations,
)


# %%
def box_locations(reference_Q4, offsets_QMLP2):
    """Returns (Q, M, L, P, 2), as (x, y) in [0, 1]."""
    raise NotImplementedError


check_box_locations(box_locations)

# %%
Exercise(
    "Write the backward pass to value, sampling locations and attention weights in loops",
    difficulty=4,
    minutes=60,
    hints={
        "Where does the gradient of a sample go?": "To the four cells that it read, times A and the share of each.",
        "The gradient to the locations is too small": "A location of 1 is W cells: multiply by W for x, by H for y.",
        "How do I know that it is right?": "torch.autograd.gradcheck on backend='formula' tells you the numbers.",
    },
    solution=loops.ms_deform_attn_backward,
)


# %%
def my_backward(grad, value, spatial_shapes, level_start_index, sampling_locations, attention_weights):
    """Returns the gradients of value, locations and weights, with their shapes. grad: (B, Q, M, D)."""
    raise NotImplementedError


check_attention_backward(my_backward)

# %%
Challenge(
    "How many numbers does one query predict with M = 8, L = 4, P = 4, and how many values does it read of 17,821?",
    difficulty=1,
    minutes=5,
    hints={
        "Predicted": "M * L * P points with two offsets and one weight each.",
        "Read": "At most four cells for each point.",
    },
    answer="384 numbers for 128 points, and at most 512 cells, 64 for each head: less than three in a hundred.",
)

# %%
Challenge(
    "Set the offsets of a trained layer back to the ring and compare the detections",
    difficulty=3,
    minutes=20,
    hints={
        "How": "Zero layer.sampling_offsets.weight, copy the ring into its bias, on a deepcopy of the model.",
        "What to compare": "Boxes of the best queries, and their scores. Then do it for the encoder only.",
    },
    answer="On the 500 validation pictures deformable_detr_tiny has AP 0.357. With the ring in the encoder it has "
    "0.328, in the decoder 0.334, in both 0.306. Large objects lose most: 0.400 becomes 0.299. This tells how much "
    "the rest of the network relies on learned offsets, not what they are worth: for that, train with frozen "
    "offsets.",
)

# %% [markdown]
# ## Recap
#
# - Reference points are normalised: the same place on every level. Offsets count in cells of each level.
# - One softmax over all $L P$ points of a head: levels compete.
# - Half a cell: $[0, 1]$ ends at the outer edges, and the centre of the first cell is at $0.5 / W$.
# - The start is a ring of directions; zero weights make it the same for all queries.
# - Around a reference box, offsets count in half box sizes over $P$: an offset of $P$ reaches the edge.
#
# **Check yourself.** Why is there no feature pyramid network in Deformable DETR? Why would normalised offsets make
# coarse levels learn more slowly than fine ones? What does a query read that has its reference point in padding?
#
# Chapter 11 builds a detector from this.
