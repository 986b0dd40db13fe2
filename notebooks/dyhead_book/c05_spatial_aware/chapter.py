# %% [markdown]
# # Spatial-aware attention
#
# | | |
# | --- | --- |
# | Time | 45 to 60 minutes with the exercises, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | deformable convolution (chapter 03), what a pyramid level is |
# | You will build | a deformable convolution over several levels, and the answer to a puzzle in the released code |
#
# Chapter 03 let a convolution look where it wants on *one* map. Dynamic Head lets it look on several levels of a
# pyramid at the same place. One map of offsets and masks serves all of them. That is simple on paper, where all
# levels have one size. In a real pyramid they have not, and the released code does something curious there.

# %%
import numpy as np
import torch

from dyhead_book.c05_spatial_aware.spatial_checks import (
    OFFSET_MISTAKES,
    check_flat_source,
    check_paper_spatial,
    check_resized_offsets,
    flat_source,
    paper_spatial,
    resized_offsets,
)
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_lab.ops import deform_conv2d
from dyhead_lab.views.figures import Picture

LEVELS, STRIDES = ["P3", "P4", "P5", "P6"], (8, 16, 32, 64)

# %% [markdown]
# ## Predict

# %%
wrong_offsets = Question(
    "05 wrong offsets",
    "The shipped detector was trained with offsets that fit every level. We now feed its coarser branches with wrong "
    "ones: numbers of other channels and places, as the released kernel would. How much AP does it lose?",
    a="nearly all of it",
    b="some: between 0.01 and 0.1",
    c="nothing worth mentioning: less than 0.01",
)
wrong_offsets.guess(None)

# %%
field_grows = Question(
    "05 field grows",
    "On level P3 a cell in the middle of an object reads 18 points, nine on P3 and nine on P4. The objects of this "
    "level have 8 to 64 pixels, and the grid is the same for all. Do the points spread further on larger objects?",
    a="yes, clearly: a correlation above 0.5",
    b="a little: between 0.2 and 0.5",
    c="no",
)
field_grows.guess(None)

# %% [markdown]
# ## The formula
#
# With all levels resized to one size, Dynamic Head (Dai et al., 2021, equation 4) writes
#
# $$\pi_S(F) \cdot F = \frac{1}{L} \sum_{l=1}^{L} \sum_{k=1}^{K} w_{l,k} \cdot F(l;\, p_k + \Delta p_k;\, c)
# \cdot \Delta m_k$$
#
# It is the deformable convolution of chapter 03, summed over levels. Offsets $\Delta p_k$ and masks $\Delta m_k$
# come from the median level and are shared by all levels. Each level has weights $w_{l,k}$ of its own. In this book
# a weight is a matrix from $C$ to $C$ channels.
#
# ## Build: the paper's form

# %%
Exercise(
    "Write the spatial attention of the paper with deform_conv2d",
    difficulty=2,
    minutes=10,
    hints={
        "I do not know where to begin": "One level first: deform_conv2d(F_BLCHW[:, l], offset, weight[l], padding=1, "
        "mask=mask).",
        "All elements are too large by the same factor": "The formula begins with 1 / L.",
    },
    solution=paper_spatial,
)


# %%
def my_paper_spatial(F_BLCHW, offset, mask, weight):
    """offset (B, 18, H, W), mask (B, 9, H, W), weight (L, Co, C, 3, 3). Returns (B, Co, H, W)."""
    raise NotImplementedError


check_paper_spatial(my_paper_spatial)

# %% [markdown]
# ## Fast
#
# A convolution sums over its input channels. A sum over levels is the same kind of sum. So put the levels side by
# side as channels, and one call does it all. This is how `dyhead_lab.attention` computes it.


# %%
def paper_spatial_at_once(F_BLCHW, offset, mask, weight):
    L, Co = weight.shape[:2]
    joined = weight.transpose(0, 1).reshape(Co, -1, 3, 3) / L
    return deform_conv2d(F_BLCHW.flatten(1, 2), offset, joined, padding=1, mask=mask)


check_paper_spatial(paper_spatial_at_once)

# %% [markdown]
# ## The released code, and its puzzle
#
# <img src="diagrams/released_block.svg" alt="One level of a released block. A 3x3 convolution on the level
# itself predicts 18 offsets and 9 masks, which steer three deformable convolutions: of the finer neighbour with
# stride 2, of the level itself, and of the coarser neighbour, whose result is enlarged. Each result is
# normalised, a gate between 0.5 and 1 weighs it, and their mean passes the task-aware activation.">
#
# The released code keeps the pyramid. A level of $H \times W$ cells reads three maps through three convolutions:
# itself, its finer neighbour with a stride of 2, and its coarser neighbour, whose result is enlarged afterwards. One
# small convolution on the level predicts 18 offsets and 9 masks per cell. All three use them.
#
# | branch | its map | its output | fits the offsets |
# | --- | --- | --- | --- |
# | finer, stride 2 | 2H x 2W | H x W | yes |
# | own | H x W | H x W | yes |
# | coarser | H/2 x W/2 | H/2 x W/2 | **no** |
#
# The coarser branch needs offsets for $H/2 \times W/2$ cells and is given $H \times W$. torchvision refuses that. The
# CUDA kernel of the released code did not compare the sizes. It computed an address for the small size and read what
# was there: a *flat* reading. What would be right? A cell of the coarser level covers two by two cells of this one, so
# its centre lies in the middle of four cells, and one of its steps is as long as two of theirs. The right offset is
# therefore the mean of the four cells' offsets, halved. The library has six answers, named `offset_fit`.
#
# - `"upsample"`: enlarge the coarser map first, so that the sizes agree. The most expensive.
# - `"centres"`: read offsets and masks at the centres of the coarser cells, and halve the offsets. Exact.
# - `"aligned"`: the same, and the *finer* branch gets offsets that point at the same places, too. The released code
#   gives it the offsets as they are, although an offset of 1 means 8 pixels on its map and 16 on the level's own.
# - `"resize"`: resize both maps so that corner cells lie on corner cells, and halve. It looks right and is not: every
#   cell is moved, by up to half a cell of this level. The shipped quickstart detector was trained with it.
# - `"crop"`: take the top-left corner of the offset map.
# - `"flat"`: read the first numbers, whatever they are. The official weights were trained with it.
#
# ## Look: six ways to fit
#
# An invented example on level P4: every cell of the level points towards the star. Dots are the cells whose centre
# tap is drawn, arrows end where it reads.

# %%
from dyhead_book.c05_spatial_aware.offset_fits import offset_fits_figure, pointing_offsets
from dyhead_lab.data.shapes import draw_image

picture, objects = draw_image(2026, 1)
image = torch.from_numpy(picture).permute(2, 0, 1) / 255
star = (4.0, 6.0)  # row and column on P4
offset = pointing_offsets((10, 10), star)
figure = offset_fits_figure(image, offset, (5, 5), 16, target=[(n + 0.5) * 16 for n in star])
Picture(figure, alt="Arrows point at the star, nearly so with resize, and past it with crop and flat.")

# %% [markdown]
# With `crop` the arrows belong to other places, and they are twice too long: nobody told them that cells are wider
# here. With `flat` they belong to other places *and* other channels. Where the arrow should have a `dx`, it may
# find a `dy`.

# %% [markdown]
# ## Build: what does the flat reading read?
#
# In memory the offsets lie one channel after the other, each row by row. Number 0 is channel 0, row 0, column 0.

# %%
Exercise(
    "Find the number that the flat reading takes for a given channel, row and column",
    difficulty=2,
    minutes=10,
    hints={
        "Where to begin": "Count with the small size: (channel * h + row) * w + column.",
        "And then?": "Take that number apart with the large size: // and %.",
    },
    solution=flat_source,
)


# %%
def my_flat_source(channel, row, column, h, w, H, W):
    """Returns channel, row and column in the fine map (18, H, W)."""
    raise NotImplementedError


check_flat_source(my_flat_source)

# %%
for channel, meaning in ((8, "dy of the centre tap"), (9, "dx of the centre tap"), (17, "dx of the last tap")):
    c, row, column = flat_source(channel, 2, 2, h=5, w=5, H=10, W=10)
    wrong = f"{'dx' if c % 2 else 'dy'} of tap {c // 2} at row {row}, column {column}"
    print(f"{meaning} at row 2, column 2 of 5 x 5 is read from {wrong} of 10 x 10")

# %% [markdown]
# Three quarters of the numbers are never read by this branch. The network that was trained like this has learned with
# it all the same. That is why `"flat"` must stay available: official weights need exactly this mistake.
#
# ## Build: the right fit
#
# Take sizes that are even, so that every coarser cell covers four cells.

# %%
Exercise(
    "Bring a level's offsets and masks to the centres of its coarser neighbour's cells",
    difficulty=2,
    minutes=10,
    hints={
        "How to resize": "A bilinear sample in the middle of four cells is their mean: avg_pool2d, or interpolate with "
        "align_corners=False.",
        "Only the offsets are wrong": "They count cells. How wide is a cell of the coarser level?",
    },
    solution=resized_offsets,
)


# %%
def my_resized_offsets(offset, mask, h, w):
    """offset (B, 18, 2h, 2w), mask (B, 9, 2h, 2w). Returns offsets and masks of size (h, w)."""
    raise NotImplementedError


check_resized_offsets(my_resized_offsets)

# %% [markdown]
# ## What does each answer cost?
#
# Multiply-adds of one block at 256 channels, for an image of 800 x 1333 pixels with levels P3 to P7.

# %%
from dyhead_lab.evaluation.efficiency import offset_fit_macs

sizes = [(100, 167), (50, 84), (25, 42), (13, 21), (7, 11)]
for name, macs in offset_fit_macs(256, sizes).items():
    print(f"{name:9} {macs / 1e9:6.2f} billion")

# %% [markdown]
# ## Break it: a detector with the wrong offsets
#
# The quickstart detector was trained with `"resize"`. Switch the fit without training and count what is lost.

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate
from dyhead_lab.zoo import load_trained

folder = TemporaryDirectory()
write_shapes(Path(folder.name) / "val", images=100, seed=2026)
data = coco_folder(Path(folder.name), "val")
model = load_trained("quickstart").model
attention = model.get_submodule("backbone.neck.blocks.0.spatial")

ap = {}
for offset_fit in ("resize", "centres", "aligned", "upsample", "crop", "flat"):
    attention.offset_fit = offset_fit
    ap[offset_fit] = evaluate(data, detect_dataset(model, data))["AP"]
    print(f"{offset_fit:9} AP {ap[offset_fit]:.3f}")
attention.offset_fit = "resize"

# %% [markdown]
# Only the coarser of three branches is disturbed, and chapter 02 showed that its gate is the smallest one. A wrong
# offset also does less harm where offsets are short; their size is printed below. This is one block on small
# pictures: six blocks of official weights, all trained with `"flat"`, may react otherwise.

# %%
from dyhead_lab.trace import trace

KEEP = {"offsets", "masks", "scale_weights"}


def traced(image):
    """One pass over one image."""
    with torch.no_grad(), trace(model, lambda path, name: name in KEEP) as seen:
        model([image])
    return seen


seen = traced(image)
for name, (_, offset), (_, mask) in zip(LEVELS, seen.find("offsets"), seen.find("masks"), strict=True):
    length = offset.unflatten(1, (9, 2)).norm(dim=2)
    print(f"{name}: offsets {float(length.mean()):.2f} cells long on average, masks {float(mask.mean()):.2f}")

# %% [markdown]
# ## Look: all that one cell reads
#
# A cell reads nine points on its own level (green) and nine on each neighbour: finer ones in blue, coarser ones in
# orange. P3 has no finer neighbour. A disc's area is its weight, the mask times the gate. The white box is the object;
# the cell lies in its middle, on the level where the detector was trained to find an object of this size.

# %%
from dyhead_book.c05_spatial_aware.receptive_field import radius, receptive_field_figure, stacked_field, taps_of


def cell_of(item, level):
    """The cell in the middle of an object's box."""
    x, y, width, height = item.box
    return int((y + height / 2) // STRIDES[level]), int((x + width / 2) // STRIDES[level])


def level_of(item):
    """FCOS with the anchors of quickstart: P3 below 64 pixels, P4 below 128, then P5."""
    longest = max(item.box[2:])
    return 0 if longest < 64 else 1 if longest < 128 else 2


by_size = sorted(objects, key=lambda item: max(item.box[2:]))
chosen = [by_size[0], by_size[len(by_size) // 2], by_size[-1]]
levels = [level_of(item) for item in chosen]
blocks = taps_of(seen)
fields = [stacked_field(blocks, l, cell_of(item, l)) for item, l in zip(chosen, levels, strict=True)]
boxes = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (item.box for item in chosen)])
figure = receptive_field_figure(image, fields, levels, boxes, STRIDES)
Picture(figure, alt="Sampling points of three cells, on a small, a medium and a large object.")

# %% [markdown]
# With more blocks the field is *stacked*: each point of the last block is a cell that reads 27 points of the block
# before. `stacked_field` follows them all the way down. Quickstart has one block.
#
# ## Does the field grow with the object?
#
# The title of each panel gives the field's radius: the weighted root mean square distance of its points from their
# centre. Larger objects are found on coarser levels, where cells are wider, so from level to level it must grow. The
# interesting question is whether it grows on *one* level. Above, the second and the third object are both found on P4,
# and the field does not grow between them. Two objects say little, so take many:

# %%
longest, radii = [], []
for index in range(30):
    picture, items = draw_image(2026, index)
    blocks = taps_of(traced(torch.from_numpy(picture).permute(2, 0, 1) / 255))
    for item in items:
        longest.append(max(item.box[2:]))
        fields = [stacked_field(blocks, l, cell_of(item, l)) for l in range(3)]
        radii.append([radius(field, STRIDES) for field in fields])
longest, radii = np.array(longest), np.array(radii)
assigned = np.where(longest < 64, 0, np.where(longest < 128, 1, 2))


# %%
def correlation(kept, l):
    return float(np.corrcoef(longest[kept], radii[kept, l])[0, 1])


own = {name: correlation(assigned == l, l) for l, name in enumerate(LEVELS[:2])}
for l, name in enumerate(LEVELS[:2]):
    others = correlation(assigned != l, l)
    count = int((assigned == l).sum())
    print(f"{name}: correlation with the size {own[name]:.2f} on its own {count} objects, {others:.2f} on the others")

# %%
from dyhead_book.c05_spatial_aware.receptive_field import radii_figure

figure = radii_figure(longest, radii, assigned, LEVELS[:3])
Picture(figure, alt="Field radius against object size, per level; on P3's own objects it clearly grows with the size.")

# %% [markdown]
# Look at the filled dots. A level learns only from the objects that are assigned to it. On P3 the field clearly grows
# with these objects. On larger ones, open dots, it shrinks again: nobody ever rewarded growth there. On P4 the growth
# is weak. Most of the growth over all sizes is still the pyramid's, since its cells double from level to level.
#
# Papers often show one picture of sampling points on a large animal. A correlation over many objects says more.

# %% [markdown]
# ## Break it
#
# One bug is planted in a `resized_offsets`. Use inputs for which you know the answer: constant offsets and masks.

# %%
suspect = drill(OFFSET_MISTAKES, 1)

constant = suspect(torch.full((1, 18, 6, 6), 4.0), torch.full((1, 9, 6, 6), 0.8), 3, 3)
offsets, masks = (sorted({round(value, 4) for value in x.flatten().tolist()}) for x in constant)
print("offsets of 4 become", offsets, "and masks of 0.8 become", masks)
rows = torch.arange(6.0)[:, None].expand(6, 6).expand(1, 18, 6, 6)
print("rows 0 to 5 become", suspect(rows, torch.ones(1, 9, 6, 6), 3, 3)[0][0, 0, :, 0].tolist())

# %% [markdown]
# A coarser cell lies in the middle of two rows, so the rows should become 0.25, 1.25 and 2.25: means of 0 and 1, 2
# and 3, 4 and 5, halved. Which of the two lines gives the bug away? Then run `check_resized_offsets(suspect)`.
# Numbers 0 to 6 give seven bugs, and in `dyhead_book.c05_spatial_aware.spatial_checks` `PAPER_SPATIAL_MISTAKES` and
# `FLAT_MISTAKES` hold thirteen more.

# %% [markdown]
# ## Exercises
#
# You have done three on the way. Two challenges are left:

# %%
Challenge(
    "Offsets are zero and masks one. At which pixel does the finer branch of cell (0, 0) of P4 read its centre tap?",
    difficulty=2,
    minutes=10,
    hints={
        "Where does the stride begin?": "With stride 2 and padding 1, output i has its centre tap on cell 2i "
        "of the finer map.",
        "Where is that in the image?": "A cell of stride s has its centre at (i + 0.5) s pixels.",
    },
    answer="Cell 0 of P3 has its centre at pixel 4, cell 0 of P4 at pixel 8. The branch reads a quarter of a cell up "
    "and to the left. A pyramid is full of such shifts, and offsets can learn to undo them.",
)

# %%
Challenge(
    "Train quickstart with offset_fit='flat'. Does it end below AP 0.42?",
    difficulty=3,
    minutes=30,
    hints={
        "Where to change it": "dyhead_lab/detectors/one_stage/quickstart.py builds its Dynamic Head with "
        "offset_fit='resize'.",
        "How would I know that a difference is real?": "Train each twice with other seeds: --set seed=1. Compare the "
        "difference with the spread.",
    },
    answer="No. With seeds 0 and 1 we measured 0.433 and 0.434 with 'flat', 0.420 and 0.436 with 'resize': the "
    "difference is smaller than the spread. A network that is trained with the flat reading learns to live with it, as "
    "the official weights did.",
)

# %% [markdown]
# ## Recap
#
# - Spatial-aware attention is a deformable convolution over levels that share one map of offsets and masks.
# - In a real pyramid the offsets do not fit the coarser neighbour. `"centres"` is right and cheap; `"flat"` is what the
#   official weights know; `"resize"` misses by half a cell, and a network that was trained with it makes up for that.
# - One cell reads 27 points in one block, or 18 on the first and last level. The pyramid sets the scale of that field.
#   On P3 the offsets widen it for the larger objects of the level.
#
# Your predictions:

# %%
lost = ap["resize"] - ap["flat"]
answer = "c" if lost < 0.01 else "b" if lost < 0.1 else "a"
wrong_offsets.revisit(answer, f"AP {ap['resize']:.3f} becomes {ap['flat']:.3f} with the flat reading.")

# %%
answer = "a" if own["P3"] > 0.5 else "b" if own["P3"] > 0.2 else "c"
field_grows.revisit(answer, f"Correlation on P3 {own['P3']:.2f}, on P4 {own['P4']:.2f}, each over its own objects.")

# %% [markdown]
# **Check yourself.** Why must offsets be halved when they move to a coarser grid, and masks not? Which of the three
# branches would still be right if the offsets of the level were all zero? What is the difference between a sum over
# levels and a sum over channels?
#
# Chapter 06 turns to the channels.
