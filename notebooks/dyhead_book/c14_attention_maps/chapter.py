# %% [markdown]
# # Attention maps
#
# | | |
# | --- | --- |
# | Time | 90 minutes with the exercises, 1 to 2 minutes to run on 2 CPU cores (a GPU changes little) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | chapters [03](03_deformable_convolution.ipynb) and [10](10_multi_scale_deformable_attention.ipynb) |
# | You will build | maps of what a detector reads, and a control for every claim that is made with them |
#
# Papers on detection end with pictures: red spots on a zebra, and a sentence that says that the network *attends to the
# object*. Such a picture convinces at once, and that is what is wrong with it: a network that has learned nothing can
# give the same picture. [Adebayo et al., 2018](https://arxiv.org/abs/1810.03292) replaced the weights of trained
# classifiers by random numbers, and some well-known kinds of maps hardly changed: they had shown the edges of the image
# all along. [Jain and Wallace, 2019](https://arxiv.org/abs/1902.10186) found it easy to change the attention of a
# network without changing its answer.
#
# The detectors of this book make one thing easier. A deformable layer *computes* the places that it reads, so the map
# is part of the computation. Whether it means what one sees in it is still to be shown, as in every experiment: say
# what the map would look like if the claim were false, make that map, compare two numbers.
#
# <img src="diagrams/claim_and_control.svg" alt="A claim and its control. The picture passes the trained
# network; from its trace comes a map, and from the map one number. The control takes the same way with one
# thing changed: weights from before training, a ring for the learned points, or another picture. Only the
# difference of both numbers speaks for the claim.">
#
# This chapter puts eight claims to that test: about the taps of Dynamic Head, object queries, an encoder, dense
# attention, and the tokens that a decoder reads. Not all of them survive.

# %% tags=["hide"]
import os

# %% tags=["hide"]
from dyhead_book.c14_attention_maps.control_checks import (
    check_carry,
    check_ring_points,
    check_tap_places,
)
from dyhead_book.c14_attention_maps.map_checks import (
    HEAT_MISTAKES,
    check_heat_map,
    check_share_inside,
    check_spread,
)
from dyhead_book.c14_attention_maps.map_figures import (
    carry_figure,
    maps_figure,
    mean_and_interval,
    shares_figure,
    silenced_figure,
)
from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.predictions import Question
from dyhead_lab.views.figures import Picture

FAST = bool(os.environ.get("DYHEAD_FAST"))  # tests of the book take a few pictures

# %%
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from torchvision.ops import nms

from dyhead_lab.data.photographs import PHOTOGRAPHS, photograph
from dyhead_lab.trace import NAMES, trace
from dyhead_lab.views.look import look, opened
from dyhead_lab.zoo import load_trained

WEIGHTS = "everyday"  # a Dynamic Head: ours, a run folder, or a name of `dyhead-lab weights`
QUERIES = "deformable_detr_tiny"  # a Deformable DETR or Sparse DETR, trained on Shapes
ENCODER = "deformable_detr_tiny"  # a Deformable DETR, whose encoder refines all tokens
DENSE = "detr_tiny"  # a DETR, trained on Shapes
PHOTO = "workshop"  # one of PHOTOGRAPHS, or a file of your own, such as "holiday.jpg"

# %% [markdown]
# ## Predict

# %% tags=["hide"]
farther = Question(
    "14 spread",
    "At every place a deformable convolution reads nine points. Before training they lie on a 3x3 "
    "grid; the root of their mean squared distance from the middle is 1.15 cells. How far apart "
    "do they lie after training, in the middle of the objects that the detector of photographs "
    "finds?",
    a="closer together than the grid",
    b="up to twice as far apart",
    c="more than twice as far apart",
)
farther.ask()

# %% tags=["hide"]
without_learning = Question(
    "14 inside without learning",
    "In its last decoder layer a query of Deformable DETR puts 99 % of its attention into the box "
    "that it found. We replace its points by those of an untrained layer, a ring around the same "
    "query, all with equal weights. How much of that lies inside?",
    a="about the box's share of the picture, a fifth",
    b="about half",
    c="more than four fifths",
)
without_learning.ask()

# %% [markdown]
# ## Look first
#
# Before measuring, look. `look` runs a detector on a photograph and draws what it attended to. Run the cell, **click**
# an object and go through the layers. (On the command line: `dyhead-lab look photo.jpg --out page.html`.)

# %%
trained = load_trained(WEIGHTS)
photo, _ = opened(PHOTO, trained.model)
look(PHOTO, trained)

# %% [markdown]
# With a picture of your own: choose a file. Cells below go on with `PHOTO`, whether you choose one or not; write the
# name of your file there, or other weights into `WEIGHTS`, and what follows about Dynamic Head is about them.

# %% tags=["hide"]
from dyhead_lab.views.look_upload import look_upload

look_upload(trained)

# %% [markdown]
# Click the motorcycle: its points lie on it, and so do their weights, every one of them. Is that an achievement? The
# answer comes when there is something to compare with.
#
# ## What a model tells
#
# Modules of this library hand out what they compute while somebody listens. `trace` listens during one forward pass,
# and keeps tensors by module and name.

# %%
with torch.no_grad(), trace(trained.model) as seen:
    [found] = trained.model([photo])
for name in seen.names():
    if name.startswith("tap_"):
        print(f"{name:13} {NAMES[name]}")

own_branches = [path for path, _ in seen.find("tap_offsets") if path.endswith("spatial.own")]
layer = own_branches[-1]  # the last block, a level that reads itself: here the second block
LEVELS = range(len(seen[layer, "tap_offsets"]))
for l, offsets in enumerate(seen[layer, "tap_offsets"]):
    print(f"P{l + 3}: offsets", tuple(offsets.shape))

# %% [markdown]
# The layer is a deformable convolution. At the place $p_0$ it gives
#
# $$y(p_0) = b + \sum_{k=1}^{9} w_k \; x(p_0 + p_k + \Delta p_k) \; \Delta m_k$$
#
# What we want to draw are the places $p_0 + p_k + \Delta p_k$, with the masks $\Delta m_k$ as their weights. Offsets
# count in cells, and cells differ from level to level, so the places are given as $(x, y)$ in $[0, 1]$ of the map. The
# centre of column $j$ lies at $(j + 0.5) / W$.

# %% [markdown] tags=["workbook"]
# **Exercise: places from offsets** (difficulty 2 of 5, about 15 minutes). `offset_18HW` holds dy and dx of the first
# tap, then of the second, and so on; taps run row by row from (-1, -1) to (1, 1). The answer has shape (H, W, 9, 2).
#
# <details><summary>Where do I begin?</summary>
#
# `offset_18HW[0::2]` are the nine dy, `[1::2]` the nine dx. `np.mgrid[:H, :W]` gives the rows and columns of all
# places, `np.mgrid[-1:2, -1:2].reshape(2, 9, 1, 1)` those of the taps.
#
# </details>
# <details><summary>How do I get the axes in order?</summary>
#
# y and x come out as (9, H, W). `np.stack([x, y], -1)` is (9, H, W, 2); `transpose(1, 2, 0, 3)` does the rest.
#
# </details>


# %% exercise="taps"
def tap_places(offset_18HW):
    """Where the nine taps of every place read, (H, W, 9, 2), as (x, y) in [0, 1] of the map."""
    H, W = offset_18HW.shape[1:]
    # >>> place plus tap plus offset, in cells; then divide
    row, column = np.mgrid[:H, :W]
    tap_y, tap_x = np.mgrid[-1:2, -1:2].reshape(2, 9, 1, 1)
    y = (row + tap_y + offset_18HW[0::2] + 0.5) / H
    x = (column + tap_x + offset_18HW[1::2] + 0.5) / W
    return np.stack([x, y], -1).transpose(1, 2, 0, 3)
    # <<<


# %% check="taps"
check_tap_places(tap_places)

# %% [markdown]
# Are these the places that the layer read? There is a proof: read there, put what comes out into the formula, and
# compare with what the forward pass computed.

# %%
read = {name: seen[layer, name][0] for name in seen.names() if name.startswith("tap_")}
places = tap_places(read["tap_offsets"][0].double().numpy())
print("places", places.shape)

points = 2 * torch.from_numpy(places).float().flatten(0, 1) - 1  # grid_sample counts from -1 to 1
samples = F.grid_sample(read["tap_input"], points[None], align_corners=False)[0]
print("samples", tuple(samples.shape), "channels, places, taps")

weighed = samples * read["tap_masks"][0].flatten(1).T
y = read["tap_bias"][:, None] + torch.einsum("ock,csk->os", read["tap_weight"].flatten(2), weighed)
computed = read["tap_output"][0].flatten(1)
apart = float((y - computed).norm() / computed.norm())
print("difference from the forward pass:", "below 1e-5" if apart < 1e-5 else apart)

# %% [markdown]
# So what we are going to draw is what was computed. That is more than most maps of attention can say, and it is all:
# *where* was read, not what for.
#
# The explorer does the same by hand. Run the cell, **click** a place, choose one of its points with the slider,
# **drag** it, and see how the output of the layer would change.

# %% tags=["hide"]
from dyhead_lab.views.sampling_points import SamplingPoints

explorer = SamplingPoints(seen, photo)
same_level = [i for i, one in enumerate(explorer.layers) if "same level" in one["name"]]
explorer.layer = same_level[-len(LEVELS) :][1]  # P4 of the last block
explorer

# %% [markdown]
# ## How far does it look?
#
# A first number. The **spread** of a set of points is the root of the weighted mean squared distance from their
# weighted centre. For the regular grid with equal weights it is $\sqrt{4/3} \approx 1.15$ cells.

# %% [markdown] tags=["workbook"]
# **Exercise: the spread** (difficulty 1, about 10 minutes).
#
# <details><summary>What are the weights?</summary>
#
# Masks or attention weights. Masks do not sum to 1: divide by their sum first.
#
# </details>
# <details><summary>Which centre?</summary>
#
# The weighted mean of the positions, `(share_n[:, None] * positions_n2).sum(0)`.
#
# </details>


# %% exercise="spread"
def spread(positions_n2, weights_n):
    """Root of the weighted mean squared distance of n points from their weighted centre."""
    # >>> weights that sum to 1, the centre, the mean square
    share_n = weights_n / weights_n.sum()
    centre = (share_n[:, None] * positions_n2).sum(0)
    return np.sqrt((share_n * ((positions_n2 - centre) ** 2).sum(1)).sum())
    # <<<


# %% check="spread"
check_spread(spread)

# %% [markdown]
# Two things were learned, offsets and masks, and both change the number. So four numbers are measured at every object:
# with both, with the learned offsets and equal masks, with the learned masks on the regular grid, and with neither. The
# last is the control: the detector before its first step.


# %%
def four_ways(seen, path, l, x, y, measure):
    """A measure of the nine points at (x, y), with offsets and masks as learned or as at start."""
    offset = seen[path, "tap_offsets"][l][0].double().numpy()
    H, W = offset.shape[1:]
    row, column = int(y * H), int(x * W)
    mask = seen[path, "tap_masks"][l][0, :, row, column].double().numpy()
    ways = {}
    for name, moved in (("learned", offset), ("regular", np.zeros_like(offset))):
        points = tap_places(moved)[row, column]
        ways[f"{name} offsets, learned masks"] = measure(points, mask, H, W)
        ways[f"{name} offsets, equal masks"] = measure(points, np.ones(9), H, W)
    return ways


def spread_in_cells(points, weights, H, W):
    return spread(points * (W, H), weights)


# %% [markdown]
# First the detector of photographs, in the middle of every box that it finds with a score of at least 0.3 (a photograph
# in which nothing is so sure gives none). The network saw the photograph resized and padded; `valid_part` tells which
# share of its input is picture.

# %%
from dyhead_lab.views.sampling_layers import valid_part

LEAST = 0.3  # score; lower it for weights that are seldom sure
in_photos = []  # (trace, share of the input that is picture, box in shares of the picture)
for name in PHOTOGRAPHS:
    shot = photograph(name)
    with torch.no_grad(), trace(trained.model) as pass_of_one:
        [things] = trained.model([shot])
    size = torch.tensor([shot.shape[2], shot.shape[1]] * 2)
    for box, score in zip(things["boxes"] / size, things["scores"], strict=True):
        if score >= LEAST:
            valid = valid_part(pass_of_one, 0).double().numpy()
            in_photos.append((pass_of_one, valid, box.double().numpy()))
assert in_photos, "these weights are sure of nothing in the photographs: lower LEAST"
print(f"{len(in_photos)} objects in {len(PHOTOGRAPHS)} photographs")


# %%
def table_of(rows):
    """Mean of each measurement over objects, and its interval."""
    for name in rows[0]:
        mean, half = mean_and_interval([row[name] for row in rows])
        print(f"  {name:32} {mean:.2f} ± {half:.2f}")


for l in (1, 2):
    middles = [(s, valid * (box[:2] + box[2:]) / 2) for s, valid, box in in_photos]
    rows = [four_ways(s, layer, l, x, y, spread_in_cells) for s, (x, y) in middles]
    print(f"P{l + 3}, spread in cells")
    table_of(rows)
    far = np.mean([row["learned offsets, learned masks"] for row in rows])

# %%
answer = "a" if far < 1.15 else "b" if far < 2.31 else "c"
farther.revisit(answer, f"{far:.2f} cells on P5, mean of {len(in_photos)} objects; the grid 1.15.")

# %% [markdown]
# Trained on photographs, the points move apart, on P5 to one and a half times the grid and more. Nearly all of that is
# done by the offsets: with equal masks the number hardly changes.
#
# *Trained points lie closer together than the grid*, an earlier edition of this chapter said. It had measured another
# detector: quickstart, on Shapes. Here it is again.

# %%
unseen = DrawnShapes(4 if FAST else 40)
quickstart = load_trained("quickstart").model
own = "backbone.neck.blocks.0.spatial.own"
on_shapes = [[] for _ in range(4)]
for i in range(len(unseen)):
    with torch.no_grad(), trace(quickstart) as s:
        quickstart([unseen.image(i)])
    for box in unseen.objects(i)["boxes"].double().numpy() / 160:
        x, y = (box[:2] + box[2:]) / 2
        for l in range(4):
            on_shapes[l].append(four_ways(s, own, l, x, y, spread_in_cells))
for l in (0, 2):
    print(f"P{l + 3}, {len(on_shapes[l])} objects, spread in cells")
    table_of(on_shapes[l])

# %% [markdown]
# On P3 the points are closer than the grid indeed, and the split tells why: the offsets do a part of it, and the masks
# another, as they favour the middle. On the coarser level they have moved apart, as in the detector of photographs. So
# the sentence was true of one level of one detector: **spread is a property of weights and level, not of deformable
# convolution**.
#
# ## Inside the box?
#
# The next number is the one that pictures of attention are about: how much of the weight falls onto the object.

# %% [markdown] tags=["workbook"]
# **Exercise: the share inside a box** (difficulty 1, about 5 minutes).
#
# <details><summary>Which points are inside?</summary>
#
# x1 <= x <= x2 and y1 <= y <= y2, as one array of True and False.
#
# </details>
# <details><summary>A share of what?</summary>
#
# Of the sum of all weights. Masks do not sum to 1.
#
# </details>


# %% exercise="inside"
def share_inside(positions_n2, weights_n, box_4):
    """Share of the weight whose points lie in the box (x1, y1, x2, y2), from 0 to 1."""
    # >>> the weight of the points inside, over all weight
    x1, y1, x2, y2 = box_4
    x, y = positions_n2.T
    inside_n = (x1 <= x) & (x <= x2) & (y1 <= y) & (y <= y2)
    return weights_n[inside_n].sum() / weights_n.sum()
    # <<<


# %% check="inside"
check_share_inside(share_inside)

# %%
for l in LEVELS:
    rows = []
    for s, valid, box in in_photos:
        where = np.concatenate([valid, valid]) * box
        x, y = (where[:2] + where[2:]) / 2

        def inside_where(points, weights, H, W, where=where):
            return share_inside(points, weights, where)

        rows.append(four_ways(s, layer, l, x, y, inside_where))
    means = {name: np.mean([row[name] for row in rows]) for name in rows[0]}
    learned = means["learned offsets, learned masks"]
    grid = means["regular offsets, equal masks"]
    print(f"P{l + 3}: {learned:.0%} inside, with the regular grid {grid:.0%}")

# %% [markdown]
# There is the answer. On P3 to P5 the whole weight lies on the object, and so does that of nine points that never
# learned anything: an object that covers half of the photograph is larger than any grid around its middle. Where the
# two differ, on the coarsest level, learning moved points *out* of the box. A picture of points on the motorcycle
# shows that the motorcycle is large.
#
# ## A heat map
#
# Points of one place are few. To see all places at once, add up: every point leaves its weight on the four cells that
# it reads, by their bilinear shares.
#
# <img src="diagrams/point_leaves_weight.svg" alt="A sampling point on a map of cells. It lies 0.3 of a cell
# right of and 0.4 below the centre of one cell. Its weight of 0.5 is left on the four cells around it by their
# bilinear shares: 0.21, 0.09, 0.14 and 0.06.">

# %% [markdown] tags=["workbook"]
# **Exercise: a heat map** (difficulty 2, about 15 minutes), in loops.
#
# <details><summary>From [0, 1] to cells</summary>
#
# The centre of cell j lies at (j + 0.5) / W. So p_x = x W - 0.5.
#
# </details>
# <details><summary>Which four cells?</summary>
#
# floor(p) and floor(p) + 1, in both directions. Skip what lies outside.
#
# </details>
# <details><summary>A few cells differ</summary>
#
# Points may share cells. Add, do not assign.
#
# </details>


# %% exercise="heat"
def heat_map(positions_n2, weights_n, H, W):
    """Sampling points as a map (H, W): each leaves its weight on the four cells that it reads."""
    heat_HW = np.zeros((H, W))
    # >>> by its bilinear shares; what lies outside is lost
    for (x, y), weight in zip(positions_n2, weights_n, strict=True):
        p_x, p_y = x * W - 0.5, y * H - 0.5
        for row in (int(np.floor(p_y)), int(np.floor(p_y)) + 1):
            for column in (int(np.floor(p_x)), int(np.floor(p_x)) + 1):
                if 0 <= row < H and 0 <= column < W:
                    share = (1 - abs(row - p_y)) * (1 - abs(column - p_x))
                    heat_HW[row, column] += weight * share
    # <<<
    return heat_HW


# %% check="heat"
check_heat_map(heat_map)

# %% [markdown]
# The same for all points at once. `np.add.at` adds up where an index stands more than once.


# %%
def heat_at_once(positions_n2, weights_n, H, W):
    p_n2 = positions_n2 * (W, H) - 0.5
    corner_n2 = np.floor(p_n2).astype(int)
    part_n2 = p_n2 - corner_n2
    heat_HW = np.zeros((H, W))
    for right in (0, 1):
        for below in (0, 1):
            column, row = corner_n2.T + np.array([[right], [below]])
            share_x, share_y = np.where((right, below), part_n2, 1 - part_n2).T
            inside = (row >= 0) & (row < H) & (column >= 0) & (column < W)
            weight = weights_n * share_x * share_y
            np.add.at(heat_HW, (row[inside], column[inside]), weight[inside])
    return heat_HW


check_heat_map(heat_at_once)

# %% [markdown]
# Which cells of P3 does the second block read most, from all places together? With equal masks and no offsets every
# cell would be read as often as any other. What would the map look like if it did *not* depend on the photograph? Three
# controls:
#
# - the same detector **before training** (its backbone as training found it, the rest random);
# - the **mirror image**, with the map turned back: it should be nearly the same map, if the map follows the content;
# - **another photograph**: it should be another map. If it is not, the map shows places of the frame, not content.


# %%
def untrained(weights, seed=0):
    """The same detector before its first step of training."""
    torch.manual_seed(seed)
    return weights.recipe.architecture(len(weights.categories)).eval()


def reading_map(model, image, l=0):
    """How much every cell of a level is read by all places of that level."""
    with torch.no_grad(), trace(model) as s:
        model([image])
    offset, mask = (s[layer, name][l][0].double().numpy() for name in ("tap_offsets", "tap_masks"))
    points = tap_places(offset).reshape(-1, 2)
    heat = heat_at_once(points, mask.reshape(9, -1).T.ravel(), *offset.shape[1:])
    return torch.from_numpy(heat / 4.5)  # nine taps with a mask of 0.5, as before training, give 1


other = F.interpolate(photograph("coffee")[None], size=photo.shape[1:], mode="bilinear")[0]
panels = {
    "trained": (photo, reading_map(trained.model, photo)),
    "mirror image, turned back": (photo, reading_map(trained.model, photo.flip(-1)).flip(-1)),
    "another photograph": (other, reading_map(trained.model, other)),
    "before training": (photo, reading_map(untrained(trained), photo)),
}

# %% tags=["hide"]
alt = (
    "How often cells of P3 are read: maps of the photograph and of its mirror image look alike, "
    "that of a coffee cup differs, and before training the map is flat."
)
label = "weight that a cell gets, over that of the regular grid"
figure = maps_figure(panels, label, columns=2, spans=(0.5, 1.25))
Picture(figure, alt, colours=256)

# %%
inner = slice(2, -2)  # the border is read less often, by any weights
first = panels["trained"][1][inner, inner].flatten()
for name, (_, heat) in panels.items():
    rest = heat[inner, inner].flatten()
    alike = float(torch.corrcoef(torch.stack([first, rest]))[0, 1]) if rest.std() > 1e-3 else 0.0
    print(f"{name:26} from {rest.min():.2f} to {rest.max():.2f}, correlation {alike:+.2f}")

# %% [markdown]
# And what does it follow? Edges, one would say, or the motorcycle. Both can be asked: the contrast of each cell's
# pixels, and whether the cell lies in the box.

# %%
_, network_input = next(seen.find("network_input"))
shares = valid_part(seen, 0) * torch.tensor(network_input.shape[:-3:-1])  # columns, rows
width, height = shares.round().int().tolist()
resized = F.interpolate(photo.mean(0)[None, None], size=(height, width), mode="area")  # as seen
side = network_input.shape[-1] // panels["trained"][1].shape[1]  # of a cell of P3, in pixels
rows, columns = height // side, width // side
cells = F.unfold(resized[..., : rows * side, : columns * side], side, stride=side)[0]
box = found["boxes"][0] * height / photo.shape[1] / side
x1, y1, x2, y2 = box.round().long().tolist()
in_box = torch.zeros(rows, columns)
in_box[y1:y2, x1:x2] = 1
heat = panels["trained"][1][:rows, :columns][inner, inner].flatten()
for name, wanted in {"contrast": cells.std(0).view(rows, columns), "best box": in_box}.items():
    both = torch.stack([heat, wanted[inner, inner].flatten()])
    print(f"correlation with the {name}: {float(torch.corrcoef(both)[0, 1]):+.2f}")

# %% [markdown]
# The map belongs to the photograph: mirrored it comes out nearly the same, another photograph gives another map, and
# before training there is none. But neither caption fits. It has little in common with the contrast, and with the
# motorcycle's box less: a correlation of 0.24 explains six hundredths of the variance, one of 0.16 three. The map is
# real, and what it means we do not know. That is where many maps of attention end, if one asks.
#
# ## What an object query reads
#
# In a detector of the DETR family an object has a query, whose points can be asked for themselves. Which query? Not the
# one whose reference lies nearest to the middle of the box, as one is tempted to take; detections of this library say
# which query they come from.


# %%
detr = load_trained(QUERIES)


def objects_of(model, data, threshold=0.4, most=5):
    """The best detections: (number of the image, trace, query, box (4,) in shares of the image)."""
    for i in range(len(data)):
        image = data.image(i)
        with torch.no_grad(), trace(model) as s:
            [found] = model([image])
        best = nms(found["boxes"], found["scores"], 0.5)[:most]  # each object once
        for k in best[found["scores"][best] >= threshold]:
            size = np.array([image.shape[2], image.shape[1]] * 2)
            yield i, s, int(found["queries"][k]), found["boxes"][k].double().numpy() / size


asked = list(objects_of(detr.model, unseen, threshold=0.2 if FAST else 0.4))
layers = [path for path, _ in asked[0][1].find("reference_boxes")]
wrong = 0
for _, s, q, box in asked:
    references = s[layers[-1], "reference_boxes"][0][0, :, :2].double().numpy()
    nearest = ((references - (box[:2] + box[2:]) / 2) ** 2).sum(1).argmin()
    wrong += int(nearest != q)
print(f"{len(asked)} objects; the query nearest to the middle is another one in {wrong} cases")

# %% [markdown]
# `look` knows the queries too. Run the cell, click an object, and go through the layers of encoder and decoder:

# %% tags=["hide"]
look(unseen.image(1), detr)

# %% [markdown]
# A query has $M$ heads with $P$ points on each of $L$ levels. Their weights sum to 1 in every head.


# %%
def points_of(s, path, q):
    """What query q reads in one layer: points (M, L, P, 2), weights (M, L, P), its reference."""
    names = "sampling_locations", "attention_weights"
    points, weights = (s[f"{path}.cross_attn", n][0][0, q].double().numpy() for n in names)
    return points, weights, s[path, "reference_boxes"][0][0, q].double().numpy()


_, s, q, box = asked[0]
for path in layers:
    points, weights, reference = points_of(s, path, q)
    inside = share_inside(points.reshape(-1, 2), weights.ravel(), box)
    print(path, points.shape, f"reference of {len(reference)} numbers: {inside:.0%} inside the box")

# %% [markdown]
# Impressive, again. What would a layer read that has not learned to look? Deformable attention starts with a *ring*:
# head $m$ looks at the angle $2 \pi m / M$, its point $k$ lies $k$ steps away, and all weights are equal. Around a
# reference *box* of $w \times h$ a step is $1/P$ of the way to the border, and the last points lie on the border:
#
# $$r_{mk} = (c_x, c_y) + \frac{k}{P} \cdot \frac{d_m}{\max(|d_{m,x}|, |d_{m,y}|)} \cdot \frac{(w, h)}{2},
# \qquad d_m = (\cos \tfrac{2 \pi m}{M}, \sin \tfrac{2 \pi m}{M})$$
#
# <img src="diagrams/ring_of_points.svg" alt="Where deformable attention reads before training: eight heads look
# in eight directions around the centre of the reference box, four points each. The directions are stretched so
# that the last points lie on the box&#x27;s border: everything is inside before anything was learned.">

# %% [markdown] tags=["workbook"]
# **Exercise: the ring** (difficulty 2, about 15 minutes). The answer has shape (M, P, 2); $k$ counts from 1 to $P$.
#
# <details><summary>Where do I begin?</summary>
#
# `angle_M = 2 * np.pi * np.arange(M) / M`, and the directions as (M, 2): `np.stack([cos, sin], -1)`.
#
# </details>
# <details><summary>How do I stretch them?</summary>
#
# Divide by `np.abs(direction_M2).max(1, keepdims=True)`.
#
# </details>
# <details><summary>And the points?</summary>
#
# `direction_M2[:, None] * steps_P[:, None]` is (M, P, 2), with `steps_P = np.arange(1, P + 1) / P`.
#
# </details>


# %% exercise="ring"
def ring_points(box_4, M, P):
    """Where an untrained layer reads around a reference box (cx, cy, w, h), (M, P, 2)."""
    # >>> directions of the heads, stretched to a square, times steps of half the box
    cx, cy, w, h = box_4
    angle_M = 2 * np.pi * np.arange(M) / M
    direction_M2 = np.stack([np.cos(angle_M), np.sin(angle_M)], -1)
    direction_M2 = direction_M2 / np.abs(direction_M2).max(1, keepdims=True)
    steps_P = np.arange(1, P + 1) / P
    return (cx, cy) + direction_M2[:, None] * steps_P[:, None] * (w / 2, h / 2)
    # <<<


# %% check="ring"
check_ring_points(ring_points)

# %% [markdown]
# Around a reference *point*, as in the first layer of this detector, a step is one cell of the level. That is the same
# ring around a box of $2P$ by $2P$ cells.
#
# Four measurements for every object and layer, each of which changes one thing: as learned; the learned points with
# equal weights; the ring with equal weights; and the learned points against *another object's* box, which tells what
# "inside a box" is worth for any box.


# %%
def ring_of(reference, M, L, P, sizes):
    """The ring around the reference of a query on every level, (M, L, P, 2)."""
    boxes = [
        reference if len(reference) == 4 else [*reference, 2 * P / W, 2 * P / H] for H, W in sizes
    ]
    return np.stack([ring_points(box, M, P) for box in boxes], 1)


def compare(s, path, q, box, other_box):
    """Shares inside: as learned, equal weights, ring, and of another object's box."""
    points, weights, reference = points_of(s, path, q)
    sizes = s[f"{path}.cross_attn", "attention_shapes"][0].tolist()
    ring = ring_of(reference, *weights.shape, sizes).reshape(-1, 2)
    points, weights, equal = points.reshape(-1, 2), weights.ravel(), np.ones(weights.size)
    return (
        share_inside(points, weights, box),
        share_inside(points, equal, box),
        share_inside(ring, equal, box),
        share_inside(points, weights, other_box),
    )


# %% [markdown]
# First with the eye. One of these two rows is what a trained detector reads for one object, layer by layer. The other
# has learned nothing.

# %% tags=["hide"]
i, s, q, box = asked[2]
panels = {}
for name in ("A", "B"):
    for number, path in enumerate(layers):
        points, weights, reference = points_of(s, path, q)
        if name == "A":
            sizes = s[f"{path}.cross_attn", "attention_shapes"][0].tolist()
            points = ring_of(reference, *weights.shape, sizes)
            weights = np.full(weights.shape, 1 / weights[0].size)
        heat = heat_at_once(points.reshape(-1, 2), weights.ravel(), 20, 20)
        panels[f"{name}, decoder layer {number + 1}"] = (unseen.image(i), torch.from_numpy(heat))
outline = dict.fromkeys(panels, torch.tensor(box) * unseen.image(i).shape[-1])
alt = (
    "What a query reads in three decoder layers, in two rows: from the second layer on they look "
    "alike."
)
Picture(maps_figure(panels, "attention weight", columns=3, boxes=outline), alt, colours=256)

# %% [markdown]
# <details><summary>Which row has learned?</summary>
#
# B. The first layer tells: A reads around a point, in all directions alike. From the second layer on one would have to
# know where to look.
#
# </details>
#
# Now in numbers, over all objects.

# %%
KINDS = ("as learned", "points, equal weights", "ring, equal weights", "another object's box")
measured = []  # (layers, 4) of each object
for (i, s, q, box), (j, _, _, next_box) in pairwise(asked):
    if i == j:  # another object of the same picture
        measured.append([compare(s, path, q, box, next_box) for path in layers])
measured = np.array(measured)

# %% tags=["hide"]
shares = {kind: list(measured[:, :, k].T) for k, kind in enumerate(KINDS)}
names = [f"decoder layer {i + 1}" for i in range(len(layers))]
alt = (
    "Share of the weight inside the box for three decoder layers, as learned and under three "
    "controls: in the first layer learning matters, in later ones the ring is nearly as good."
)
Picture(shares_figure(shares, names, "share of the weight inside"), alt)

# %%
print("decoder layer")
for i in range(len(layers)):
    means = ", ".join(f"{kind} {measured[:, i, k].mean():.1%}" for k, kind in enumerate(KINDS))
    print(f"{i + 1}: {means}")
area = np.mean([(box[2] - box[0]) * (box[3] - box[1]) for *_, box in asked])
print(f"a box covers {area:.0%} of its picture; {len(measured)} pairs of objects")

# %%
ring = measured[:, -1, 2].mean()
answer = "a" if ring < 0.35 else "b" if ring < 0.65 else "c"
learned = measured[:, -1, 0].mean()
without_learning.revisit(answer, f"{ring:.1%} inside, {learned:.1%} as learned.")

# %% [markdown]
# The 99 % of the last layer are mostly a matter of form. From the second layer on the reference is the box that the
# layer before found, and offsets count in halves of it: whatever a query does, it starts inside. What learning moved in
# there is little; the outermost ring points lie *on* the border, and a pixel decides about them. The number that says
# something is that of the **first layer**. There the reference is a point, the same for every picture, the ring puts
# less than half inside, and learning nearly nine tenths.
#
# (If the decoder itself runs with rings in all of its layers, it finds next to nothing: over these 40 pictures six
# detections above 0.4. But that changes the boxes as well as the points, which is one thing too many.)
#
# And it is the weights that do it: with equal weights the first layer's points are hardly better than the ring's. Among
# the many places that it could read, a query chooses those on its object.
#
# ## The encoder
#
# In the encoder every token is a query. Does a token in the middle of an object read its own object? Control: the ring
# around the same token. The boxes are true ones here, since an encoder finds none.


# %%
def encoder_shares(s, boxes, depth):
    """Per level and box: shares inside of the token in the middle, as learned and with the ring."""
    path = f"transformer.encoder.layers.{depth}.self_attn"
    sizes = s[path, "attention_shapes"][0].tolist()
    locations, weights = (s[path, n][0][0] for n in ("sampling_locations", "attention_weights"))
    rows, start = [], 0
    for H, W in sizes:
        of_level = []
        for box in boxes:
            row, column = int(box[1::2].mean() * H), int(box[::2].mean() * W)
            token = start + row * W + column
            points, weight = locations[token].double().numpy(), weights[token].double().numpy()
            place = np.array([(column + 0.5) / W, (row + 0.5) / H])
            ring = ring_of(place, *weight.shape, sizes).reshape(-1, 2)
            mine = share_inside(points.reshape(-1, 2), weight.ravel(), box)
            of_level.append((mine, share_inside(ring, np.ones(len(ring)), box)))
        rows.append(of_level)
        start += H * W
    return rows


# %%
with_encoder = load_trained(ENCODER)
encoder = []  # (levels, 2) of each object
for i in range(len(unseen)):
    with torch.no_grad(), trace(with_encoder.model) as s:
        with_encoder.model([unseen.image(i)])
    boxes = unseen.objects(i)["boxes"].double().numpy() / 160
    encoder += [np.array(rows) for rows in zip(*encoder_shares(s, boxes, 0), strict=True)]
encoder = np.array(encoder)

# %% tags=["hide"]
shares = {
    "as learned": list(encoder[:, :, 0].T),
    "ring, equal weights": list(encoder[:, :, 1].T),
}
names = [f"token of level {i}" for i in range(encoder.shape[1])]
learned, ring = encoder[:, 0].mean(0)
alt = (
    f"Share of an encoder token's weight inside its own object: on the finest level {learned:.0%} "
    f"against {ring:.0%} with the ring; on the coarsest level no difference worth the name."
)
Picture(shares_figure(shares, names, "share of the weight inside"), alt)

# %%
for l in range(encoder.shape[1]):
    learned, ring = encoder[:, l].T
    better, half = mean_and_interval(learned - ring)
    print(f"level {l}: {learned.mean():.0%}, ring {ring.mean():.0%},", end=" ")
    print(f"difference {better:+.2f} ± {half:.2f}")

# %% [markdown]
# This claim stands where tokens are fine and fades where they are coarse. A token of the finest level has learned to
# stay on its own object, by far. One of the coarsest covers 32 pixels, more than many objects; its points read around
# it as an untrained layer would. Note that the interval belongs to the *difference*, taken object by object: both
# shares vary with the size of the objects, and together.
#
# ## Dense attention
#
# DETR has no sampling points: every query has a weight for every token, which is easily drawn and stands in so many
# slides. One head of one layer is a row of numbers, in the order of the tokens; we take the mean over the heads.


# %%
def dense_map(s, path, q):
    """Attention of query q over the tokens, (h, w), mean over heads."""
    maps = s[path, "attention_maps"][0][0].mean(0)
    height, width = next(x for _, x in s.find("network_input")).shape[-2:]
    stride = round((height * width / maps.shape[1]) ** 0.5)
    return maps[q].view(-(-height // stride), -(-width // stride))


def share_of_map(heat_HW, box):
    """Share of a map that falls into a box, by cell centres; and the share of the cells there."""
    h, w = heat_HW.shape
    rows, columns = (torch.arange(h) + 0.5) / h, (torch.arange(w) + 0.5) / w
    x1, y1, x2, y2 = box
    inside = ((y1 <= rows) & (rows <= y2))[:, None] & ((x1 <= columns) & (columns <= x2))
    return float(heat_HW[inside].sum() / heat_HW.sum()), float(inside.float().mean())


def tokens_read(heat_HW):
    """How many tokens share the attention: the exponential of its entropy, N if it is uniform."""
    return float(torch.special.entr(heat_HW / heat_HW.sum()).sum().exp())


# %% [markdown]
# In the view of this detector every layer is such a map, all of them on one scale:

# %% tags=["hide"]
dense = load_trained(DENSE)
look(unseen.image(1), dense)

# %% [markdown]
# The control is attention that does not choose: uniform weights put into a box exactly its share of the cells. And
# the same query of the same detector before training, held against the same box.

# %%
blank = untrained(dense)
last = [n for n, _ in dense.model.named_modules() if n.endswith("multihead_attn")][-1]
rows, examples = [], []
for i, s, q, box in objects_of(dense.model, unseen, threshold=0.2 if FAST else 0.4):
    with torch.no_grad(), trace(blank) as s_blank:
        blank([unseen.image(i)])
    heats = dense_map(s, last, q), dense_map(s_blank, last, q)
    rows.append([(*share_of_map(heat, box), tokens_read(heat)) for heat in heats])
    examples.append((i, heats, torch.tensor(box)))
by_state = np.array(rows).transpose(1, 2, 0)  # states, three numbers, objects
states = "trained", "before training"
for state, (inside, area, tokens) in zip(states, by_state, strict=True):
    more, half = mean_and_interval(inside - area)
    print(f"{state:16} inside {inside.mean():.0%}, uniform {area.mean():.0%}:", end=" ")
    print(f"{more:+.3f} ± {half:.3f}; as if {tokens.mean():.0f} tokens were read")

# %% tags=["hide"]
i, heats, box = examples[-1]
image = unseen.image(i)
panels = {n: (image, heat) for n, heat in zip(states, heats, strict=True)}
marked = dict.fromkeys(panels, box * image.shape[-1])
alt = "Dense attention of a query, trained and before training, on one scale, with its box."
Picture(maps_figure(panels, "attention weight", boxes=marked), alt, colours=256)

# %% [markdown]
# **It looks into the box**, and far more than uniform weights would. Of a hundred tokens some ten share a query's
# attention, where before training nearly all do. Drawn each on a colour scale of its own, both maps would show bright
# spots: the largest of a hundred nearly equal numbers is drawn white too. On one scale the map before training is what
# it is, flat.
#
# What the maps do not say is how little of it comes by itself. An earlier edition of this book shipped the same DETR
# trained for a tenth of the time, with AP 0.003, and by this same cell its attention was one part in a hundred above
# uniform. Attention that finds the object is what DETR has to learn from nothing, where deformable attention starts
# with a ring around its reference ([chapter 11](11_deformable_detr.ipynb) draws both curves).
#
# The paper's figures of a DETR that has learned from COCO show more: heads that look at the ends of animals. Whether
# those pass such controls is for `DENSE = "facebook/detr-resnet-50"` and photographs in the place of `unseen` to say.
#
# ## Which tokens are read?
#
# Sparse DETR starts ([chapter 12](12_sparse_detr.ipynb)) from the observation that a decoder refers to about 45 % of
# the encoder's tokens: *some* point reads them, however small its weight. A second number says more: how few tokens
# carry 90 % of the attention?

# %% [markdown] tags=["workbook"]
# **Exercise: tokens that carry** (difficulty 2, about 10 minutes): the least share of all tokens that together
# receive at least `share` of the attention.
#
# <details><summary>Where do I begin?</summary>
#
# Sort from the largest to the smallest: `np.sort(heat_N)[::-1]`.
#
# </details>
# <details><summary>I am off by one token</summary>
#
# The token that reaches the share is needed. Count those *before* which less has been collected: `cumsum - itself`.
#
# </details>


# %% exercise="carry"
def tokens_that_carry(heat_N, share):
    """The least share of the tokens that together receive at least ``share`` of the attention."""
    # >>> the largest first; how many until the share is reached?
    falling_N = np.sort(heat_N)[::-1]
    before_N = np.cumsum(falling_N) - falling_N
    return (before_N < share * heat_N.sum()).mean()
    # <<<


# %% check="carry"
check_carry(tokens_that_carry)


# %%
def received(s):
    """Attention that each token receives from all queries of all decoder layers, (N,)."""
    total = 0
    for path, locations in s.find("sampling_locations"):
        if ".decoder." in path:
            points, weights = locations[0].double(), s[path, "attention_weights"][0][0].double()
            levels = []
            for l, (H, W) in enumerate(s[path, "attention_shapes"][0].tolist()):
                flat = points[:, :, l].reshape(-1, 2).numpy(), weights[:, :, l].flatten().numpy()
                levels.append(heat_at_once(*flat, H, W).ravel())
            total = total + np.concatenate(levels)
    return total


# %% [markdown]
# Two controls. The same detector before training: its queries read rings around points that chance has put somewhere.
# And another size of picture: 50 queries with 48 points in each of three layers are a fixed number, and 525 tokens
# cannot hide from them. With twice the side there are 2,100.

# %%
large, small = (DrawnShapes(2 if FAST else 6, size=side) for side in (320, 160))
curves = {}
for state, model in {"trained": detr.model, "before training": untrained(detr)}.items():
    for pixels, data in ((160, small), (320, large)):
        heats = []
        for i in range(len(data)):
            with torch.no_grad(), trace(model) as s:
                model([data.image(i)])
            heats.append(received(s))
        read = np.mean([(heat > 0).mean() for heat in heats])
        carry = np.mean([tokens_that_carry(heat, 0.9) for heat in heats])
        curves[f"{pixels} px, {state}"] = np.mean([np.sort(heat) for heat in heats], 0)
        print(f"{pixels} px, {state:15}: {read:.0%} of {len(heats[0]):,} tokens read,", end=" ")
        print(f"{carry:.0%} carry 90 %")

# %% tags=["hide"]
alt = "Share of the attention that the best tokens carry: an untrained decoder is more selective."
Picture(carry_figure(curves), alt, colours=64)

# %% [markdown]
# Here the control turns the claim around. Before training a decoder leaves *more* tokens alone, since all its queries
# look at few places; training spreads the queries over the objects. So "few tokens are read" is here no sign of
# learning; it follows from the number of points, which is 14 for each token at 160 pixels and 3 at 320. For COCO that
# does not follow. There the paper's decoder has 13 points for each token (300 queries, six layers, 128 points, 17,821
# tokens), enough to touch nearly all of them, and refers to 45 %: its points crowd. Whether an untrained decoder would
# crowd as much on COCO we have not measured. The authors use the 45 % as room for savings, and what makes their method
# work is another number: a scorer can *predict* which tokens these are.
#
# ## Does it matter what is read?
#
# A heat map shows where a layer reads. Whether the answer depends on it is a question for an experiment: take away what
# is read. We silence the 26 tokens (5 %) that an object's query reads most, by setting their values to zero in all
# decoder layers. Two controls, again 26 tokens each: any tokens by chance, and by chance among those that the query
# reads.

# %%
cross = [m for n, m in detr.model.named_modules() if n.endswith("cross_attn")]


def silenced(image, tokens, q, label):
    """The score that query q gives to a class when the decoder reads zero at some tokens."""

    def silence(module, given, value_BNC):
        return value_BNC.index_fill(1, tokens, 0.0)

    hooks = [attention.value_proj.register_forward_hook(silence) for attention in cross]
    try:
        with torch.no_grad():
            [found] = detr.model([image])
    finally:
        for hook in hooks:
            hook.remove()
    same = (found["queries"] == q) & (found["labels"] == label)
    return float(found["scores"][same].max()) if same.any() else 0.0


# %%
def query_heat(s, path, q):
    """Attention that each token receives from one query in one decoder layer, (N,)."""
    points, weights, _ = points_of(s, path, q)
    sizes = s[f"{path}.cross_attn", "attention_shapes"][0].tolist()
    levels = (
        heat_at_once(points[:, l].reshape(-1, 2), weights[:, l].ravel(), H, W).ravel()
        for l, (H, W) in enumerate(sizes)
    )
    return np.concatenate(list(levels))


# %%
random, TAKEN = torch.Generator().manual_seed(0), 26
scores = {"nothing": [], "read most": [], "any": [], "any that is read": []}
for i in range(2 if FAST else 12):
    image = unseen.image(i)
    with torch.no_grad(), trace(detr.model) as s:
        [found] = detr.model([image])
    for k in found["scores"].argsort(descending=True)[:2]:
        q, label = int(found["queries"][k]), int(found["labels"][k])
        heat = torch.from_numpy(sum(query_heat(s, path, q) for path in layers))
        falling = heat.argsort(descending=True)
        known = falling[: int((heat > 0).sum())]
        by_chance = torch.randperm(len(heat), generator=random)[:TAKEN]
        among = known[torch.randperm(len(known), generator=random)[:TAKEN]]
        scores["nothing"].append(float(found["scores"][k]))
        for name, tokens in zip(list(scores)[1:], (falling[:TAKEN], by_chance, among), strict=True):
            scores[name].append(silenced(image, tokens, q, label))

# %% tags=["hide"]
scores = {name: np.array(values) for name, values in scores.items()}
alt = "Scores before and after silencing 26 tokens: only those read most make objects vanish."
Picture(silenced_figure(scores), alt)

# %%
for name in list(scores)[1:]:
    change, half = mean_and_interval(scores[name] - scores["nothing"])
    print(f"{name:17} changes the score by {change:+.2f} ± {half:.2f}; {len(scores[name])} objects")

# %% [markdown]
# This claim stands, and well. Without the tokens that it reads most a query loses its object, while tokens taken by
# chance hardly matter, and even those that it does read, taken by chance, matter little. Silencing is the stronger
# argument: it changes one thing and looks at the answer; a map only looks.
#
# It has limits. Zero is a value the decoder has never met, so part of the loss may be surprise. And a token's value
# comes from an encoder that has gathered it from elsewhere: the map says which *tokens* matter, not which pixels.
#
# ## What the controls said
#
# | claim | control | verdict here |
# | --- | --- | --- |
# | trained taps draw together | regular grid; equal masks; another detector | true of one level of one detector |
# | taps lie on the object | regular grid | as much without learning: objects are large |
# | the map follows the picture | mirror image, another photograph, before training | stands |
# | a query's attention lies in its box | ring; equal weights; another box | last layers: form. First layer: learned |
# | an encoder token stays on its object | ring | stands on the fine level, not on the coarse |
# | dense attention finds the object | uniform; before training | yes, once DETR has learned; not after a tenth of it |
# | a decoder reads few tokens | before training; larger pictures | true, and no sign of learning |
# | what is read most matters | as many tokens by chance | stands |
#
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

# %% tags=["hide"]
Challenge(
    "How much does one point count? Move one tap by one cell: where does the output of the layer "
    "change by more than half of its norm?",
    difficulty=2,
    minutes=20,
    hints={
        "By hand": "In the explorer above, choose a point with a large mask next to an edge and "
        "use the arrow keys.",
        "By program": "The proof above gives the samples at all places. Sample again with one tap "
        "moved, and multiply the difference by the mask and by weight[:, :, k].",
    },
    answer="In the first block on P3 of the workshop at 18 % of the places, and by 1.4 times its "
    "norm at most; the median place changes by a third. In the second block hardly anywhere (0.1 % "
    "of the places of P3, none of P4): its taps read smoother features.",
)

# %% [markdown]
# ## Recap
#
# - The sampling points of a deformable layer are part of the computation: put into its formula they give its output.
# - A heat map adds up what is read. Drawn beside its control on one scale it is an argument; alone it is a decoration.
# - The form of a layer may do what one takes for learning: rings inside reference boxes, grids inside large objects.
# - "Before training" is the cheapest control there is. Change one thing at a time, and compare object by object.
# - That something is read does not yet mean that it matters. Take it away and see.
#
# **Check yourself.**
#
# <details><summary>Why does the heat map of one level not sum to 1 in deformable attention?</summary>
#
# The weights of a head sum to 1 over all levels and points together; a level gets its part. What points read outside
# of the map is lost besides.
#
# </details>
# <details><summary>A query's points lie 99 % inside its box. Which single number would you ask for next?</summary>
#
# The same share for points that have learned nothing around the same reference. If that is 90 %, nine points are left
# to talk about.
#
# </details>
# <details><summary>Why is uniform attention a better control for a dense map than zero?</summary>
#
# Weights sum to 1, so something falls into every box. Uniform weights say how much falls there without any choice: the
# box's share of the tokens.
#
# </details>
# <details><summary>The mirrored map agrees, correlation 0.74. Why not 1?</summary>
#
# Offsets are predicted by convolutions with learned, lopsided kernels, and padding lies on the right and lower side
# only. The network is not the same for a mirrored picture, just nearly.
#
# </details>
# <details><summary>Silencing tokens by chance among those that are read lowers the score a little. Why?</summary>
#
# Some of the best are among them: a quarter of the tokens that are read carry a quarter of the weight, on average.
#
# </details>
#
# [Chapter 15](15_learned_scale_ratios.ipynb) asks the same kind of questions of scale-aware attention, and adds
# statistics: intervals, permutations, and the strength of a change.
