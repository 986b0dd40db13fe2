# %% [markdown]
# # The feature pyramid
#
# | | |
# | --- | --- |
# | Time | 60 to 90 minutes with the exercises, about 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | what a convolution does; PyTorch and NumPy |
# | You will build | a feature pyramid, intersection over union, and the AP that every detector is evaluated by |
#
# The same disc may fill the image or eight pixels of it. A convolution sees a window of fixed size. This chapter is
# about the ways around that, and about how one measures whether they work. The attentions of the next chapters all
# stand on what is built here.

# %%
import numpy as np
import torch

from dyhead_book.c01_feature_pyramid.box_checks import (
    IOU_MISTAKES,
    average_precision,
    check_average_precision,
    check_iou,
    iou,
    matched,
    mean_average_precision,
)
from dyhead_book.c01_feature_pyramid.pyramid_checks import (
    check_feature_pyramid,
    check_receptive_field,
    feature_pyramid,
    receptive_field,
)
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_lab.views.figures import Picture

# %% [markdown]
# ## Predict

# %%
shifted_box = Question(
    "01 shifted box",
    "An object is 40 x 40 pixels. The box that was found has the right size but lies 8 pixels too far to the right. "
    "What is their intersection over union?",
    a="0.80",
    b="0.67",
    c="0.50",
)
shifted_box.guess(None)

# %%
twice_as_large = Question(
    "01 twice as large",
    "A detector was trained on images of 160 pixels. Without any training we show it the same images enlarged to 320. "
    "Which objects does it find better than before?",
    a="small ones",
    b="large ones",
    c="all",
    d="none",
)
twice_as_large.guess(None)

# %% [markdown]
# ## First answer: an image pyramid
#
# If objects come in many sizes, show the detector the image in many sizes. That was the standard for decades. Let
# us try it with the quickstart detector, which knows images of 160 pixels. First its 60 test images:

# %%
from pathlib import Path
from tempfile import TemporaryDirectory

from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate
from dyhead_lab.evaluation.efficiency import macs
from dyhead_lab.zoo import load_trained

folder = TemporaryDirectory()
write_shapes(Path(folder.name) / "val", images=60, seed=2026)
data = coco_folder(Path(folder.name), "val")
trained = load_trained("quickstart")
model = trained.model

results, records = {}, {}
for side in (160, 320):
    model.transform.min_size, model.transform.max_size = (side,), 2 * side
    records[side] = detect_dataset(model, data)
    results[side] = evaluate(data, records[side])
model.transform.min_size, model.transform.max_size = (160,), 320
with torch.no_grad():
    cost = macs(model, lambda: model([data[0][0]]))[""]

# %%
names = ("AP_small", "AP_medium", "AP_large")
for side, result in results.items():
    values = ", ".join(f"{name} {result[name]:.3f}" for name in names)
    print(f"{side} px, about {cost * (side / 160) ** 2 / 1e9:.2f} billion multiply-adds: {values}")

# %% [markdown]
# Every size of image favours another size of object. An image pyramid would run both, or more, and keep the best of
# each. Its price is the sum of the costs: twice the side, four times the work.
#
# ## Second answer: see more with the same weights
#
# Instead of shrinking the image, one can widen the window. The **receptive field** of a cell is the square of pixels
# that it depends on. Three things make it grow: kernels, strides, and **dilation**, which puts the taps of a kernel
# $d$ cells apart. Dilation is free: as many weights, as many products.

# %%
Exercise(
    "Write receptive_field(layers): the side of the square that one output cell can see",
    difficulty=2,
    minutes=15,
    hints={
        "Where to begin": "Keep two numbers: the side so far, and how many pixels lie between neighbouring cells.",
        "Too small when there are strides": "A layer adds (kernel - 1) * dilation steps. How many pixels is a step?",
    },
    solution=receptive_field,
)


# %%
def my_receptive_field(layers):
    """layers: (kernel, stride, dilation) per convolution, the first one first. Returns pixels."""
    raise NotImplementedError


check_receptive_field(my_receptive_field)

# %%
stacks = {
    "8 layers, plain": [(3, 1, 1)] * 8,
    "8 layers, dilation 1, 2, 4, 8 twice": [(3, 1, d) for d in (1, 2, 4, 8)] * 2,
    "8 layers, stride 2 in every second": [(3, 1, 1), (3, 2, 1)] * 4,
}
for name, layers in stacks.items():
    cells = 160 // int(np.prod([stride for _, stride, _ in layers]))
    print(f"{name:36} sees {receptive_field(layers):3} pixels, on a map of {cells} x {cells}")

# %% [markdown]
# Strides reach far and make the map small: cheap, but small objects fall between the cells. Dilation reaches far
# and keeps the map large: every layer then works on every cell. Could one have a small map for large objects and a
# large map for small objects? A backbone has both already.
#
# ## Third answer: the backbone is a pyramid
#
# A ResNet halves its map five times. `c3` has a cell for every 8 pixels, `c5` one for every 32. So look for small
# objects on `c3` and for large ones on `c5`. There is a catch: `c3` has passed fewer layers. It knows edges and
# textures, not yet objects. This is the **semantic gap**. Can we measure it?
#
# Take the cell in the middle of each object, on one level. How well can a linear classifier tell the class
# from its features? We compare the backbone's levels with those of the trained feature pyramid, of the same size.

# %%
found = {"body": [], "fpn": []}
handles = [
    getattr(model.backbone, part).register_forward_hook(
        lambda module, inputs, output, part=part: found[part].append(list(output.values()))
    )
    for part in found
]
detect_dataset(model, data, batch_size=len(data))  # all images in one batch
for handle in handles:
    handle.remove()
(backbone,), (pyramid,) = found["body"], found["fpn"]
backbone = backbone[-3:]  # c3, c4, c5
targets = [data[i][1] for i in range(len(data))]
labels = torch.cat([target["labels"] for target in targets])


def at_centres(maps, stride):
    """Features (n, C) of the cells in the middle of all objects."""
    rows = []
    for x, target in zip(maps, targets, strict=True):
        column, row = ((target["boxes"][:, :2] + target["boxes"][:, 2:]) / 2 // stride).long().T
        rows.append(x[:, row, column].T)
    return torch.cat(rows)


# %%
def readable(features_nC):
    """Share of the objects whose class a linear classifier names; fitted to one half, asked about the other."""
    x = (features_nC - features_nC.mean(0)) / features_nC.std(0).clamp(min=1e-6)
    wanted = torch.nn.functional.one_hot(labels, 6) - 1 / 6
    right = 0
    for fold in (0, 1):
        fitted = torch.arange(len(x)) % 2 == fold
        a = x[fitted]
        weights = torch.linalg.solve(a.T @ a + 30 * torch.eye(a.shape[1]), a.T @ wanted[fitted])
        right += int(((x @ weights).argmax(1) == labels)[~fitted].sum())
    return right / len(x)


gap = {}
for name, maps in {"c": backbone, "p": pyramid}.items():
    for level, stride in ((3, 8), (4, 16), (5, 32)):
        gap[f"{name}{level}"] = readable(at_centres(maps[level - 3], stride))
print("class named correctly (a guess gives 0.17):", {name: round(share, 2) for name, share in gap.items()})

# %% [markdown]
# The backbone's levels come out about alike: the coarse ones know more, but a small object has no cell of its own
# there. Now compare levels with the same cells. `p3` and `p4` of the pyramid tell more than `c3` and `c4`. `p5`
# does not tell more than `c5`: it is the coarsest of the three, and nothing is handed down to it. A classifier on
# 300 objects is a rough instrument, so mind only clear differences.
#
# ## Build: the feature pyramid
#
# <img src="diagrams/feature_pyramid.svg" alt="A feature pyramid. The backbone makes maps C3, C4 and C5 of
# strides 8, 16 and 32. A 1x1 convolution brings each to 256 channels. From the top down each map is doubled in
# size and added to the next finer one, a 3x3 convolution smooths the sum: P5, P4, P3. Two convolutions of
# stride 2 make P6 from P5, and P7 from P6.">
#
# The feature pyramid network (FPN; Lin et al., 2017) hands down what the coarse levels know:
#
# $$M_l = \mathrm{conv}_{1 \times 1}(C_l) + \mathrm{enlarge}(M_{l+1}), \qquad P_l = \mathrm{conv}_{3 \times 3}(M_l)$$
#
# The 1x1 convolution gives all levels the same number of channels. `enlarge` repeats pixels. On the coarsest level
# nothing is added.

# %%
Exercise(
    "Write the feature pyramid",
    difficulty=3,
    minutes=20,
    hints={
        "Where to begin": "All 1x1 convolutions first: torch.nn.functional.conv2d(x, w). Then from coarse to fine.",
        "How to enlarge": "torch.nn.functional.interpolate(m, size=..., mode='nearest').",
        "The coarsest level is right, the others are not": "Add M of the level above, before its 3x3 convolution.",
    },
    solution=feature_pyramid,
)


# %%
def my_feature_pyramid(features, lateral, output):
    """Lists, fine to coarse: features (B, C_l, H, W), lateral (C, C_l, 1, 1), output (C, C, 3, 3)."""
    raise NotImplementedError


check_feature_pyramid(my_feature_pyramid)

# %% [markdown]
# Where is the energy of the maps, the sum of squares over channels? Left the backbone, right the pyramid:

# %%
from dyhead_lab.views.features import features_figure

chosen = 3
steps = {
    "backbone, C3 to C5": [x[[chosen]] for x in backbone],
    "pyramid, P3 to P5": [x[[chosen]] for x in pyramid[:3]],
}
figure = features_figure(data[chosen][0], steps, ["3", "4", "5"])
Picture(figure, alt="Energy of the backbone's and the pyramid's maps on three levels, for one image.")

# %% [markdown]
# ## One stage, two stages
#
# What happens on the pyramid then? There are two families.
#
# - **One stage**: every cell of every level predicts class and box at once. RetinaNet, FCOS and ATSS do so;
#   quickstart is an FCOS. The cost is the same for every image.
# - **Two stages**: a small network marks regions that may hold an object. Each region is cut out of the pyramid,
#   brought to one size, and classified by a second network. Faster, Mask and Cascade R-CNN do so. The cost grows with
#   the regions.
#
# Both kinds are in the zoo, on the same backbone. Here is where their multiply-adds go:

# %%
from dyhead_lab.zoo import get


def multiply_adds(name):
    """Of every part of a detector of the zoo, for one image."""
    detector = get(name).build(len(trained.categories)).eval()
    with torch.no_grad():
        return macs(detector, lambda: detector([data[0][0]]))


for name, parts in (("fcos_shapes", ("backbone", "head")), ("faster_rcnn_shapes", ("backbone", "rpn", "roi_heads"))):
    counted = multiply_adds(name)
    shares = ", ".join(f"{part} {counted.get(part, 0) / 1e6:.0f}" for part in parts)
    print(f"{name:19} {counted[''] / 1e6:5.0f} million: {shares}")

# %% [markdown]
# `backbone` counts the ResNet, the pyramid and one block of Dynamic Head. In this FCOS that block does the work of the
# head, so little is left for `head`. The pyramid of Faster R-CNN begins one level finer, with four times the cells, so
# its `backbone` costs more too.
#
# ## FLOPs and FLOPS
#
# Two words that differ in one letter. **FLOPs** are operations: how much work an image is. **FLOPS** are operations
# *per second*: how fast a machine works. To confuse matters, papers on detection say FLOPs when they count
# multiply-adds, which are two operations each. This book says multiply-adds, or MAC.

# %%
import time


def fastest(run, repeats=5):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


a = torch.randn(1024, 1024)
image = data[0][0]
with torch.no_grad():
    product = 2 * 1024**3 / fastest(lambda: a @ a)
    detector = 2 * cost / fastest(lambda: model([image]))
print("a matrix product reaches", "more" if product > detector else "fewer", "FLOPS than the detector")
print("FLOPs of one image:", f"{2 * cost:,}")

# %% [markdown]
# Print `product` and `detector` to see the numbers of your machine. A detector does not reach the speed of a matrix
# product: small maps, memory, and many short steps stand between. That is why equal FLOPs do not mean equal
# time.
#
# ## Build: intersection over union
#
# When is a box right? Compare areas:
#
# $$\mathrm{IoU}(a, b) = \frac{|a \cap b|}{|a \cup b|}$$

# %%
Exercise(
    "Write iou(a_n4, b_m4) for all pairs of boxes",
    difficulty=2,
    minutes=15,
    hints={
        "How to get all pairs": "a_n4[:, None] against b_m4[None]: NumPy repeats what has size 1.",
        "A pair that lies apart gets a positive value": "Its intersection has negative sides. Clip them.",
    },
    solution=iou,
)


# %%
def my_iou(a_n4, b_m4):
    """a_n4: (n, 4) xyxy, b_m4: (m, 4). Returns (n, m)."""
    raise NotImplementedError


check_iou(my_iou)

# %%
box = np.array([[0.0, 0.0, 40.0, 40.0]])
right, right_and_down = np.array([8.0, 0, 8, 0]), np.array([8.0, 8, 8, 8])
print(f"8 px to the right: IoU {iou(box, box + right)[0, 0]:.3f}")
print(f"and 8 px down:     IoU {iou(box, box + right_and_down)[0, 0]:.3f}")
print(f"an object of 10 px, 8 px to the right: IoU {iou(box / 4, box / 4 + right)[0, 0]:.3f}")

# %% [markdown]
# The same eight pixels ruin a small box and hardly touch a large one. Small objects are hard twice: few pixels to
# see, and no slack to place them.
#
# ## Build: average precision
#
# Take the detections of one class in all images, the most certain first. Each one takes the free object that it
# overlaps most; it is *correct* if their IoU reaches a threshold. After $n$ detections,
#
# $$\mathrm{precision} = \frac{\text{correct}}{n}, \qquad \mathrm{recall} = \frac{\text{correct}}{\text{objects}}$$
#
# COCO's average precision reads, at 101 recalls 0, 0.01, …, 1, the best precision at that recall *or a higher one*,
# and takes the mean. A recall that is never reached counts as 0.

# %%
Exercise(
    "Write average_precision(scores, correct, objects)",
    difficulty=3,
    minutes=25,
    hints={
        "Where to begin": "order = np.argsort(-scores); found = np.cumsum(correct[order]).",
        "Nearly right, a little too low": "Make the precision monotonic from the right before you read it.",
        "How to read at 101 recalls": "np.searchsorted(recall, recalls) is the first detection that reaches each.",
    },
    solution=average_precision,
)


# %%
def my_average_precision(scores, correct, objects):
    """scores (n,), correct (n,) bool, both in any order; objects: how many there are. Returns a number."""
    raise NotImplementedError


check_average_precision(my_average_precision)

# %% [markdown]
# ## Look: one class
#
# The discs that quickstart found. With a stricter threshold fewer detections are correct.

# %%
truths = [{name: target[name].double().numpy() for name in ("boxes", "labels")} for target in targets]
detections = []
for target in targets:
    own = [r for r in records[160] if r["image_id"] == target["image_id"]]
    xywh = np.array([r["bbox"] for r in own], float).reshape(-1, 4)
    boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], 1)
    label = np.array([data.category_ids.index(r["category_id"]) for r in own], int)
    detections.append({"boxes": boxes, "labels": label, "scores": np.array([r["score"] for r in own])})


# %%
def scored(label, threshold):
    """Scores of a class in all images, and which detections are correct."""
    scores, correct = [], []
    for found, truth in zip(detections, truths, strict=True):
        kept = np.flatnonzero(found["labels"] == label)
        kept = kept[np.argsort(-found["scores"][kept])]
        overlap = iou(found["boxes"][kept], truth["boxes"][truth["labels"] == label])
        scores.append(found["scores"][kept])
        correct.append(matched(overlap, threshold))
    return np.concatenate(scores), np.concatenate(correct)


discs = sum(int((truth["labels"] == 0).sum()) for truth in truths)
curves = {}
for threshold in (0.5, 0.75, 0.9):
    scores, correct = scored(0, threshold)
    curves[f"IoU {threshold}: AP {average_precision(scores, correct, discs):.3f}"] = (scores, correct)

# %%
from dyhead_book.c01_feature_pyramid.precision_recall import precision_recall_figure

figure = precision_recall_figure(curves, discs)
Picture(figure, alt="Precision against recall for discs, at three IoU thresholds; stricter ones give less area.")

# %% [markdown]
# ## Check: against pycocotools
#
# The AP of a data set is the mean over classes and over ten thresholds, 0.50 to 0.95. The library's solution is
# twenty lines on top of what you have written. All papers evaluate with pycocotools.

# %%
ours = mean_average_precision(detections, truths, len(trained.categories))
theirs = results[160]["AP"]
print(
    f"ours {ours:.4f}, pycocotools {theirs:.4f}, difference {'below 1e-6' if abs(ours - theirs) < 1e-6 else 'larger'}"
)

# %% [markdown]
# ## Small, medium, large
#
# COCO sorts objects by area: **small** is below $32^2$ pixels, **large** above $96^2$, **medium** between. The area
# is that of the object's pixels in the *annotated* image, not of its box, and not of the size that the network sees.

# %%
areas = torch.cat([target["area"] for target in targets]).numpy()
counts, _ = np.histogram(areas, [0, 32**2, 96**2, np.inf])
for name, count in zip(names, counts, strict=True):
    print(f"{name:9} {results[160][name]:.3f} on {count} objects")

# %% [markdown]
# ## Break it
#
# One bug is planted in an `iou`. Find it with pairs of which you know the answer.

# %%
suspect = drill(IOU_MISTAKES, 1)

pairs = {
    "the same box": ([0, 0, 10, 10], [0, 0, 10, 10]),
    "half of it": ([0, 0, 10, 10], [0, 0, 5, 10]),
    "far apart": ([0, 0, 10, 10], [100, 100, 110, 110]),
}
for name, pair in pairs.items():
    a, b = (np.array([box], float) for box in pair)
    print(f"{name:13} expected {iou(a, b)[0, 0]:.3f}, got {suspect(a, b)[0, 0]:.3f}")

# %% [markdown]
# All three agree, and the function is wrong all the same. What do these pairs have in common? Find one that shows it.
#
# Numbers 0 to 5 give six bugs. `check_iou(suspect)` names the one. `AVERAGE_PRECISION_MISTAKES` in
# `dyhead_book.c01_feature_pyramid.box_checks`, and `FEATURE_PYRAMID_MISTAKES` and `RECEPTIVE_FIELD_MISTAKES` in
# `dyhead_book.c01_feature_pyramid.pyramid_checks`, hold eighteen more.
#
# ## Exercises
#
# You have done four on the way. What is left is a challenge:

# %%
Challenge(
    "Build an image pyramid: merge the detections at 160 and 320 pixels, and beat the better of the two",
    difficulty=4,
    minutes=45,
    hints={
        "Where to begin": "records[160] + records[320] is a list that evaluate() takes. Why is it no better?",
        "Every object is found twice": "Suppress doubles: torchvision.ops.batched_nms per image.",
        "Still no better": "Keep small boxes from 320 pixels only and large ones from 160 only, by their area.",
    },
    answer="Merged lists alone find every object twice, and the second box is a false positive: AP falls. After NMS "
    "each size gives what it is better at. Evaluate AP_small and AP_large apart, on pictures that you did not "
    "use to choose the limit between small and large.",
)

# %% [markdown]
# ## Recap
#
# - An image pyramid runs the network on several sizes. A feature pyramid takes the levels that a backbone has
#   anyway, and hands meaning down to the fine ones.
# - The receptive field grows with kernels, strides and dilations; strides pay with resolution.
# - IoU measures a box, AP a detector: the area below the precision-recall curve, over classes and ten thresholds.
#
# Your predictions:

# %%
value = float(iou(box, box + right)[0, 0])
nearest = min({"a": 0.8, "b": 0.67, "c": 0.5}.items(), key=lambda item: abs(item[1] - value))[0]
shifted_box.revisit(nearest, f"IoU {value:.3f}: 32 x 40 pixels are shared, 48 x 40 are covered.")

# %%
gain = {name: results[320][name] - results[160][name] for name in names}
better = [name for name in names if gain[name] > 0.01]
answer = "d" if not better else "c" if len(better) == 3 else "a" if "AP_small" in better else "b"
shown = ", ".join(f"{name} {change:+.3f}" for name, change in gain.items())
twice_as_large.revisit(answer, f"From 160 to 320 pixels: {shown}.")

# %% [markdown]
# **Check yourself.** Why does a pyramid hand information down and not up? A detector finds every object twice, with
# equal boxes: what happens to its AP? What is the FLOPs of a detector that needs twice the FLOPS for thirty images
# per second?
