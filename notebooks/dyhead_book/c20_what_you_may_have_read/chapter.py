# %% [markdown]
# # What you may have read elsewhere
#
# | | |
# | --- | --- |
# | Time | 30 minutes, about 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | nothing; each section links the chapter that builds what it speaks of |
#
# Texts about the papers of this book repeat each other, and with them some sentences that are not right. None of them
# is stupid. Most are a true sentence of a paper, shortened once too often. Each of them stands here once, with what is
# true in its place, and with a measurement that you can repeat: change a number in a cell and run it again. The last
# line of each section leads to the chapter that measures it at full length.
#
# How can one tell? Three habits help more than knowing the answers. Ask what a quantity is a *number of*: operations or
# seconds, cells or pixels, points or points of AP. Ask what would be different if the sentence were false, and look at
# that. And where a paper compares two numbers, read both, and where they come from.

# %%
import torch

from dyhead_lab.data.shapes import draw_image
from dyhead_lab.ops import deform_conv2d
from dyhead_lab.ops.formula import bilinear
from dyhead_lab.trace import trace
from dyhead_lab.zoo import load_trained

# %% [markdown]
# # About deformable convolution and deformable attention
#
# Where does an operator read, and what teaches it to?
#
# ## "Bilinear interpolation takes the nearest pixel"
#
# <img src="diagrams/bilinear_sample.svg" alt="A sample between pixels: it lies 0.3 below and 0.6 right of the
# first of four pixels. Each of the four weighs the area of the rectangle opposite to it: 0.28, 0.42, 0.12 and
# 0.18.">
#
# It takes four pixels, each with a share. The nearest pixel has the largest share, but only on a pixel's centre does
# it have all of it. The difference decides whether offsets can be learned at all: a rounded position does not change
# when the offset changes a little, so its gradient is zero.

# %%
row = torch.tensor([[[0.0, 10.0, 20.0, 30.0]]])
position = torch.tensor([1.0, 1.25, 1.5, 1.75, 2.0], requires_grad=True)
value = bilinear(row, torch.zeros(5), position)[0]
slope = torch.autograd.grad(value.sum(), position)[0]
print("position        ", position.tolist())
print("bilinear        ", value.tolist())
print("nearest         ", row[0, 0, position.round().long()].tolist())
print("bilinear's slope", slope.tolist())

# %% [markdown]
# [Chapter 03](03_deformable_convolution.ipynb) builds the sample and its slope.
#
# ## "Offsets are learned by comparing them with the ground truth"
#
# No data set says where a convolution should look. The loss has a part for classes, one for boxes and one for how
# near the middle of its object a place lies, and nothing else. Its gradient reaches the offsets through the values
# that were read. Here is the loss of the quickstart detector, part by part, and how strongly each part pulls at the
# layer that predicts offsets.

# %%
detector = load_trained("quickstart").model.train()
picture, objects = draw_image(2026, 5)
image = torch.from_numpy(picture).permute(2, 0, 1) / 255
masks = [torch.where(torch.from_numpy(shape.mask)) for shape in objects]
corners = [(x.min(), y.min(), x.max() + 1, y.max() + 1) for y, x in masks]
labels = torch.tensor([shape.label for shape in objects])
target = {"boxes": torch.tensor(corners).float(), "labels": labels}
losses = detector([image], [target])
parameters = dict(detector.named_parameters())
offsets = next(p for name, p in parameters.items() if "offset_mask.weight" in name)
for name, loss in losses.items():
    gradient = torch.autograd.grad(loss, offsets, retain_graph=True)[0]
    print(f"{name:18} {loss.item():.3f}, gradient at the offset layer {float(gradient.norm()):.4f}")

# %% [markdown]
# In [chapter 03](03_deformable_convolution.ipynb) you watch offsets travel to where a loss sends them.
#
# ## "The sampling offsets are normalised to [0, 1]"
#
# It is the **reference points** of deformable attention that are normalised. One reference point then names the same
# place on every level. Offsets count in cells of the level that is read, so the same offset is a longer way on a
# coarser level. (Around a reference *box* they count in parts of the box.)

# %%
image_width, offset = 768, 1.0  # pixels; cells
for stride in (8, 16, 32, 64):
    W = image_width // stride
    reference = 0.5
    location = reference + offset / W
    way = (location - reference) * image_width
    print(f"stride {stride:2}: location {location:.4f}, that is {way:2.0f} pixels further")

# %% [markdown]
# In a deformable convolution there is no normalisation at all: an offset of 1 is the next pixel of the map.

# %%
x = torch.arange(5.0).view(1, 1, 1, 5)
one_right = torch.zeros(1, 2, 1, 5)
one_right[:, 1] = 1  # (dy, dx) = (0, 1)
moved = deform_conv2d(x, one_right, torch.ones(1, 1, 1, 1))
print(x.flatten().tolist(), "->", moved.flatten().tolist())

# %% [markdown]
# [Chapter 10](10_multi_scale_deformable_attention.ipynb) builds both cases, point and box.
#
# ## "Dynamic Head uses deformable attention"
#
# <img src="diagrams/regular_and_moved_taps.svg" alt="Left: the nine taps of a 3x3 convolution stand on a fixed
# square around the place; some of them miss a slanted bar. Right: each tap is moved by an offset of its own, a
# real number of pixels, and all nine lie on the bar. Dots of different size stand for the masks.">
#
# It uses deformable *convolution*, version 2. Both operators read a few places that a layer has predicted, and there
# the likeness ends. In the convolution each of nine taps has a matrix of its own, learned once for all images, and a
# mask that is a sigmoid by itself. In deformable attention all points of a head share one matrix, and their weights
# are a softmax: they sum to one. Nine masks sum to whatever they like:

# %%
detector.eval()
detr = load_trained("deformable_detr_tiny").model
with torch.no_grad(), trace(detector) as convolution, trace(detr) as attention:
    detector([image])
    detr([image])
masks = torch.cat([m.sum(1).flatten() for _, m in convolution.find("masks")])
weights = torch.cat([w.sum((-1, -2)).flatten() for _, w in attention.find("attention_weights")])
print(f"nine masks of a place sum to {masks.min():.2f} ... {masks.max():.2f}")
print(f"the weights of a head sum to {weights.min():.4f} ... {weights.max():.4f}")
own = next(p for name, p in parameters.items() if name.endswith("own.conv.weight"))
print("matrices of the convolution:", tuple(own.shape), "for 9 taps, C x C each")
values = dict(detr.named_parameters())["transformer.encoder.layers.0.self_attn.value_proj.weight"]
print("matrix of the attention:    ", tuple(values.shape), "for all points")

# %% [markdown]
# Built in chapters [03](03_deformable_convolution.ipynb) and [10](10_multi_scale_deformable_attention.ipynb), compared
# in [07](07_dynamic_head.ipynb). (The two have come closer since: [chapter 22](22_later_work.ipynb) shows a later
# deformable convolution that *is* a deformable attention.)
#
# # About Dynamic Head
#
# What are its parts, what do they cost, and what do they bring?
#
# ## "$f$ and $\theta$ are hyper-parameters"
#
# A hyper-parameter is set by a person before training: the number of blocks, the learning rate. $f$, which weighs
# levels, and $\theta$, which computes activations, are layers. (The paper calls $\theta$ a hyper-*function*, a
# function that gives the parameters of another. That word has been shortened.) Layers have weights, and weights have
# gradients:

# %%
parts = {"gate of the scale-aware attention": "scale.gate", "theta of the task-aware": "task.fc"}
total = sum(losses.values())
for name, path in parts.items():
    layers = [p for full, p in parameters.items() if path in full]
    gradients = torch.autograd.grad(total, layers, retain_graph=True)
    norm = sum(float(g.norm()) ** 2 for g in gradients) ** 0.5
    print(f"{name}: {sum(p.numel() for p in layers):,} weights, norm of their gradient {norm:.3f}")

# %% [markdown]
# Built in chapters [02](02_scale_aware.ipynb) and [06](06_task_aware.ipynb).
#
# ## "Level 5 is the finest and sees the small objects"
#
# Level $l$ has cells of $2^l$ pixels. A larger number is a coarser map, for larger objects. Some texts number maps from
# the top of the network instead, and sentences about "high" and "low" levels then say their opposite. Count cells:

# %%
height, width = 800, 1333  # of the picture, in pixels: the size that COCO is trained at
cells = {l: -(-height // 2**l) * -(-width // 2**l) for l in range(3, 8)}
for level, count in cells.items():
    print(f"P{level}: a cell every {2**level:3} pixels, {count:6,} cells")

# %% [markdown]
# Which level sees which object of a photograph is the first figure of [chapter 02](02_scale_aware.ipynb).
#
# ## "Spatial attention helps most because space is the largest axis"
#
# $F$ has $L$ levels, $S$ positions and $C$ channels. On fine levels $S$ is by far the largest number, on the coarsest
# it is smaller than $C$. More to the point, the attention does not spread over that axis: each output reads $K = 9$
# taps on at most three levels, wherever they lie.

# %%
for level, count in cells.items():
    order = "more places than channels" if count > 256 else "fewer places than channels"
    print(f"P{level}: S = {count:6,}, C = 256: {order}")
print(f"read for one output: {3 * 9} of {sum(cells.values()):,} places")

# %% [markdown]
# What an attention is worth is a question for an experiment, not for a shape. The project's recorded ablation agrees
# that the spatial one brings most, .070 of AP, with .017 for the task-aware one and -.007 for the scale-aware one:
# chapters [05](05_spatial_aware.ipynb) and [07](07_dynamic_head.ipynb).
#
# ## "It costs so many FLOPs per second", "it costs nothing extra"
#
# FLOPs are operations, a property of the model and of the size of its input. FLOPS are operations per second, a
# property of a machine. Papers on detection also call a multiply-add one FLOP, though it is two operations. So the
# count of six blocks on that picture, and what it means on a machine of 10 TFLOPS that is never idle:

# %%
C, places = 256, list(cells.values())
finer = sum(9 * C * C * n for n in places[1:])  # convolutions of stride 2 on the finer neighbour
coarser = sum(9 * C * C * n for n in places[1:])  # on the coarser neighbour, in its own size
own_level = sum(9 * C * C * n + 9 * C * 27 * n for n in places)  # itself, and the offsets
block = finer + coarser + own_level
towers = sum(8 * 9 * C * C * n for n in places)  # two towers of four convolutions, as in ATSS
print(f"one block {block / 1e9:.2f} GMAC; the towers {towers / 1e9:.1f} GMAC")
for blocks in (2, 4, 6):
    print(f"{blocks} blocks in place of the towers: {(blocks * block - towers) / 1e9:+.1f} GMAC")
print(f"six blocks: {2 * 6 * block / 10e12 * 1000:.0f} ms at 10 TFLOPS, if nothing ever waits")

# %% [markdown]
# "Without any computational overhead", as the abstract has it, holds for two and four blocks on ATSS. The published
# results use six. And something always waits: a deformable convolution takes longer than an ordinary one of the same
# count, because it reads out of order. [Chapter 07](07_dynamic_head.ipynb) counts and times a block,
# [chapter 08](08_dynamic_head_on_detectors.ipynb) counts seven detectors.
#
# ## "It always improves the detector"
#
# The paper reports gains of 1.2 to 3.2 AP for the five detectors that it tried, after long trainings. "Always" is
# another claim, and one counterexample is enough. Here are four detectors, each as published, with one block in the
# place of its towers (Faster R-CNN has none: there it comes on top), with two, and with four, which multiply as often
# as the towers: 2,400 steps on Shapes, as `dyhead-lab experiment detectors` recorded.

# %%
from dyhead_lab.experiments.catalogue import recorded

record = recorded("detectors")
for row in record.rows:
    published = record.compared_with(row)
    if row == published:
        print(f"{row:34} AP {record.spread(row, 'AP').mean:.3f}")
    else:
        print(f"{row:34} {record.difference(row, 'AP').mean:+.3f}")

# %% [markdown]
# On ATSS the gain has the size of the paper's. RetinaNet's is mostly GroupNorm, which its published towers lack and
# every block has; FCOS loses; and four blocks, which cost what the towers cost, are behind two. That is one seed, a
# small backbone and drawn pictures, so it does not refute the paper; it refutes the word.
# [Chapter 08](08_dynamic_head_on_detectors.ipynb) sets published gains beside these. It also takes the tables of the
# state of the art apart: from AP 43 to 60 most of the way is larger backbones, larger pictures and more data.
#
# # About DETR and its descendants
#
# What is read, what is trained, and what could be left out?
#
# ## "Deformable DETR is fast because it has fewer tokens"
#
# It has about twenty times *more* tokens than DETR, four levels down to stride 8 in place of one of stride 32. What is
# small is the number of tokens that a query reads: $K = 4 \cdot 4$ points a head in place of all $N$.

# %%
height, width = 800, 1066
side = [(-(-height // s), -(-width // s)) for s in (8, 16, 32, 64)]
N = sum(h * w for h, w in side)
one_map = side[2][0] * side[2][1]
print(f"tokens: DETR {one_map}, Deformable DETR {N:,}, {N / one_map:.0f} times as many")
print(f"pairs of query and token in a layer, for each head: dense {N * N:,}, deformable {N * 16:,}")

# %% [markdown]
# $O(N K)$ in place of $O(N^2)$: [chapter 09](09_self_attention_to_deformable.ipynb) counts both.
#
# ## "In the two-stage detector the encoder is trained first, by itself"
#
# There is one training. The loss of the encoder's proposals (`_enc`) is one part of the sum, beside those of the
# decoder. Both reach the encoder's layers in the same backward pass.

# %%
from dyhead_lab.detectors.detr.configured import deformable_detr

torch.manual_seed(0)
small = {"channels": 32, "heads": 4, "feedforward": 64, "queries": 20}
small |= {"encoder_layers": 2, "decoder_layers": 2}
two_stage = deformable_detr(classes=6, backbone="narrow", refine=True, two_stage=True, **small)
losses = two_stage([image], [target])
weight = two_stage.transformer.encoder.layers[0].linear1.weight
for name in ("loss_ce", "loss_ce_enc"):  # of the last decoder layer, and of the proposals
    gradient = torch.autograd.grad(losses[name], weight, retain_graph=True)[0]
    print(f"{name:14} gradient at the first encoder layer {float(gradient.norm()):.5f}")

# %% [markdown]
# [Chapter 11](11_deformable_detr.ipynb) builds the two stages.
#
# ## "Refinement and two stages bring two to three points each"
#
# The two numbers that are compared must stand in one table. This is the official one: ResNet-50, 50 epochs, COCO
# val2017 ([README](https://github.com/fundamentalvision/Deformable-DETR) of the authors).

# %%
from itertools import pairwise

official = {"one level": 39.4, "four levels": 44.5, "+ refinement": 46.2, "+ two stages": 46.9}
rows = list(official.items())
for (_, before), (name, ap) in pairwise(rows):
    print(f"{name:13} AP {ap}: {ap - before:+.1f}")

# %% [markdown]
# The large step is the one that the sentence leaves out: more levels. [Chapter 11](11_deformable_detr.ipynb) has the
# table with parameters and cost.
#
# ## "Most of the 300 queries are wasted", "queries need not talk to each other"
#
# In one picture a few queries find something and all others are silent. In the next picture it is others. And they
# are silent *because* they talk: self-attention tells a query that its object is taken. Both can be counted on forty
# pictures, with a trained detector of 50 queries, as it is and with its self-attention switched off.

# %%
from torchvision.ops import box_iou

from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy
from dyhead_lab.detectors.image_batch import pad_images

pictures = DrawnShapes(40)  # no shipped detector has learned from them
batch, padding = pad_images([pictures.image(i) for i in range(len(pictures))])


def sure_and_doubles(model):
    """Queries surer than 0.4, (B, Q); and pairs of them with one class and IoU above 0.6."""
    with torch.no_grad():
        out = model.forward_features(model.backbone(batch), padding)
    scores_BQ, labels_BQ = out["pred_logits"].sigmoid().max(-1)
    sure_BQ, doubles = scores_BQ > 0.4, 0
    for sure, labels, boxes in zip(sure_BQ, labels_BQ, out["pred_boxes"], strict=True):
        overlap = box_iou(*[cxcywh_to_xyxy(boxes[sure])] * 2)
        same = labels[sure][:, None] == labels[sure]
        doubles += int(((overlap > 0.6) & same).triu(1).sum())
    return sure_BQ, doubles


# %%
sure_BQ, doubles = sure_and_doubles(detr)
print(f"sure queries in a picture: {sure_BQ.sum(1).float().mean():.1f} of {sure_BQ.shape[1]}")
print(f"sure in at least one of {len(pictures)} pictures: {int(sure_BQ.any(0).sum())}")
for layer in detr.transformer.decoder.layers:
    layer.self_attention = False
silent_BQ, silent_doubles = sure_and_doubles(detr)
print(f"with self-attention {int(sure_BQ.sum())} sure queries, {doubles} doubles among them;")
print(f"without it {int(silent_BQ.sum())}, and {silent_doubles} doubles")

# %% [markdown]
# [Chapter 11](11_deformable_detr.ipynb) measures what both cost in AP: with the ten busiest queries little more than
# half is left, without self-attention two thirds. But that is a detector which was *trained* with them. One that is
# trained without self-attention finds another way: it has 0.354 in place of 0.364, with a fifth more doubles (one
# seed). So in a trained detector self-attention does much, and how much a detector needs it is another question.
# Detectors that choose their queries in the image need fewer of them, too.
#
# ## "Sparse DETR throws the unimportant tokens away"
#
# It does not *refine* them. They stay what the backbone made of them, and everybody goes on reading them: as values in
# each encoder layer, as values in the decoder, even as queries. What if they really were thrown away? Keep a tenth of
# the tokens, and then let all values of the others be zero, in every attention of encoder and decoder:

# %%
sparse = load_trained("sparse_detr_tiny").model
maps = list(sparse.backbone(batch).values())
with torch.no_grad():
    as_it_is = sparse.forward_features(maps, padding, rho=0.1)
kept_BN = as_it_is["selection"].kept.mask(as_it_is["dam"].shape[1])


def keep_only(module, inputs, values_BNC):
    return values_BNC * kept_BN[..., None]


hooks = [m.register_forward_hook(keep_only)
         for name, m in sparse.named_modules() if name.endswith("value_proj")]  # fmt: skip
with torch.no_grad():
    thrown_away = sparse.forward_features(maps, padding, rho=0.1)
for hook in hooks:
    hook.remove()


# %%
def well_placed(out):
    """Objects on which a sure query of their class lies with an IoU above 0.75."""
    count = 0
    for i, (logits, boxes) in enumerate(zip(out["pred_logits"], out["pred_boxes"], strict=True)):
        objects = pictures.objects(i)
        overlap = box_iou(cxcywh_to_xyxy(boxes) * batch.shape[-1], objects["boxes"])
        scores = logits.sigmoid()[:, objects["labels"]]
        count += int(((overlap > 0.75) & (scores > 0.4)).any(0).sum())
    return count


every = sum(len(pictures.objects(i)["labels"]) for i in range(len(pictures)))
for name, out in {"not refined": as_it_is, "thrown away": thrown_away}.items():
    print(f"90 % of the tokens {name}: {well_placed(out)} of {every} objects well placed")

# %% [markdown]
# More than two fifths of what was well placed is lost. So tokens that are not refined are still needed as values. (Zero
# is also a number that no layer met in training; a part of the loss may come from that.) The paper's 45 % do not
# contradict this. They count the tokens that the *decoder* of a finished Deformable DETR refers to, and the paper takes
# them as those worth refining: a detector that refines only them loses 0.1 AP. That the others could be thrown away it
# does not say, since the encoder goes on reading them.
#
# [Chapter 12](12_sparse_detr.ipynb) builds the scorer, measures how much attention its choice catches, and lets $\rho$
# change after training, which the paper does too (its section on dynamic sparsification): on 200 pictures of Shapes AP
# is .371 with 2 % of the tokens, .435 with 10 %, .452 with the 30 % of its training and .444 with all.
#
# # About the data
#
# One word that every table of results uses.
#
# ## "Small objects are those below a tenth of the image"
#
# COCO counts pixels: below $32^2 = 1024$ an object is **small**, from $96^2 = 9216$ on it is **large**, whatever the
# size of the image. The area is that of the outline, not of the box. The evaluator holds these limits:

# %%
from pycocotools.cocoeval import Params

limits = Params(iouType="bbox")
for label, (low, high) in zip(limits.areaRngLbl, limits.areaRng, strict=True):
    low, high = low**0.5, high**0.5
    print(f"{label:6} from {low:3.0f} x {low:.0f} to {high:.0f} x {high:.0f} pixels")

# %% [markdown]
# [Chapter 01](01_feature_pyramid.ipynb) builds AP.
#
# ## Recap
#
# | you may have read | it is |
# | --- | --- |
# | the nearest pixel is taken | four pixels, by their shares; that is why offsets have a gradient |
# | offsets are compared with a truth | the loss of the task alone teaches them |
# | offsets are normalised | reference points are; offsets count cells |
# | Dynamic Head has deformable attention | deformable convolution: a matrix a tap, masks of any sum |
# | $f$ and $\theta$ are hyper-parameters | layers, with weights that are trained |
# | level 5 is the finest | P3 is; a larger number is a coarser level |
# | spatial attention gains most because its axis is largest | it reads 27 places; only experiments tell what it gains |
# | FLOPs per second; no overhead | operations; none for two and four blocks, 22 GMAC for six |
# | it always improves | 1.2 to 3.2 AP in the paper's five; here FCOS loses, and RetinaNet's gain is mostly its norm |
# | Deformable DETR has fewer tokens | twenty times more; fewer are *read* |
# | two stages are two trainings | one training with one more loss |
# | refinement and two stages: 2 to 3 points each | 1.7 and 0.7 |
# | queries are wasted, self-attention can go | each has places of its own; trained without talk, AP falls by 0.010 |
# | Sparse DETR drops tokens | it leaves them unrefined; all are still read |
# | small is a tenth of the image | below 1024 pixels of outline |
