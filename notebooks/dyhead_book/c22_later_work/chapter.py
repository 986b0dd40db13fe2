# %% [markdown]
# # Later work
#
# | | |
# | --- | --- |
# | Time | 75 minutes with the exercises, about 2 minutes to run on 2 CPU cores (a GPU changes little) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | Deformable DETR ([chapter 11](11_deformable_detr.ipynb)); the rest of the book helps |
# | You will build | denoising queries and DINO's gradient between layers; four other changes are shown in code |
#
# The three papers of this book appeared in 2021 and 2022. What came after them is easier to read than it looks. Most of
# it keeps the picture (sample few places, refine what matters, let a fixed number of queries answer) and changes *one
# part* of it, and the parts are those that you have built. So this page goes through the parts, not through the years:
# what was the open question, who answered it how, and what would you have to change in your code. Where a few lines
# show it better than words, they run here, on the small detectors of the book.
#
# <img src="diagrams/later_changes.svg" alt="Deformable DETR from left to right, and below each part the later
# work that changed it. Operator: DCNv3, DCNv4. Encoder: Focus-DETR, Lite DETR, RT-DETR, LW-DETR. Queries:
# Conditional DETR, DAB-DETR, DINO. Decoder: DINO, D-FINE. Matching: DN-DETR, H-DETR, Group DETR, DETA, Co-DETR.
# Classes: GLIP, Grounding DINO.">
#
# Numbers on this page are either measured by its cells or taken from the abstract of the paper that is linked: AP on
# COCO, of different backbones and training times, which is why they are no ranking.

# %% tags=["hide"]
import os

from dyhead_book.c22_later_work.denoising_checks import MASK_MISTAKES, check_mask, check_shaken
from dyhead_book.c22_later_work.look_forward_checks import check_twice
from dyhead_book.figures.learning_curves import losses_figure
from dyhead_book.practice.drawn_shapes import DrawnShapes, shapes_ap
from dyhead_book.practice.drills import drill
from dyhead_book.practice.predictions import Question
from dyhead_lab.views.figures import Picture

FAST = bool(os.environ.get("DYHEAD_FAST"))  # tests of the book take a handful of steps

# %%
import torch
from torch import nn

from dyhead_lab.detectors.detr.deformable_detr import DeformableDETR  # built in chapter 11
from dyhead_lab.ops import deform_conv2d, ms_deform_attn  # built in chapters 03 and 10
from dyhead_lab.zoo import load_trained

shipped = load_trained("deformable_detr_tiny")
config = shipped.model.config

# %% [markdown]
# ## Predict

# %%
denoised = Question(
    "22 queries that are told the answer",
    "While it trains, a DETR gets additional queries that start at the true boxes, shaken a "
    "little, and must restore them. Its ordinary queries learn as before, and cannot see the "
    "others. "
    "After 120 steps, how large is the loss of the ordinary queries?",
    lower="lower by at least 0.2: the additional queries teach the decoder that all share",
    even="about the same: nothing about the ordinary queries has changed",
    higher="higher by at least 0.2: the decoder has to serve two masters",
)
denoised.ask()

# %% [markdown]
# ## What is a query?
#
# In chapter 11 the position of a query is a learned vector. A linear layer makes a reference point of it, but the
# vector itself, which is added to the content in every layer, means nothing that one could read or set.
# [Conditional DETR](https://arxiv.org/abs/2108.06152) (2021) began to take it apart: cross-attention compares content
# with content and position with position, so that a position alone can point at an edge of the object.
#
# [DAB-DETR](https://arxiv.org/abs/2201.12329) (2022, *dynamic anchor boxes*) ends the riddle: the position **is a
# box**. Four numbers are learned for each query. Their sine embedding, through a small network, is what is added to
# the content, and because the box is refined layer by layer, so is the position. Width and height are part of it, so a
# query can know how large its object is while it looks. Anchors, which DETR had abolished, come back as queries.
#
# Compared with your decoder two lines change: `position` is computed in the loop, from the box of the moment. The
# self-attention gets a mask, for which the next section has a use.


# %%
from dyhead_lab.detectors.detr.positions import box_sines
from dyhead_lab.detectors.detr.prediction_heads import refine_boxes


class BoxQueryDecoder(nn.Module):
    def __init__(self, layers, channels):
        super().__init__()
        C, self.layers = channels, layers
        self.position = nn.Sequential(nn.Linear(2 * C, C), nn.ReLU(), nn.Linear(C, C))

    def forward(self, x, boxes, memory, pyramid, class_heads, box_heads, hidden=None):
        """x (B, Q, C), boxes (B, Q, 4) -> predictions by layer. hidden: who must not be read."""
        where = pyramid.spatial_shapes_L2, pyramid.level_start_index_L, pyramid.padding_BN
        for layer, class_head, box_head in zip(self.layers, class_heads, box_heads, strict=True):
            position = self.position(box_sines(boxes, x.shape[-1]))  # a box, not a learned vector
            q = x + position
            x = layer.norm2(x + layer.self_attn(q, q, x, attn_mask=hidden, need_weights=False)[0])
            read = layer.cross_attn(x + position, pyramid.on_levels(boxes), memory, *where)[0]
            x = layer.norm1(x + read)
            x = layer.norm3(x + layer.linear2(layer.linear1(x).relu()))
            refined = refine_boxes(box_head(x), boxes)
            yield {"pred_logits": class_head(x), "pred_boxes": refined}
            boxes = refined.detach()


# %%
def starting_queries(detector, batch, noised):
    """Contents and boxes to start from, who is hidden from whom, and how many are noised."""
    x, boxes = detector.content.weight, detector.anchors.sigmoid()
    x, boxes = x.expand(batch, -1, -1), boxes.expand(batch, -1, -1)
    if noised is None:
        return x, boxes, None, 0
    labels_BD, boxes_BD4, hidden = noised
    both = detector.label_content(labels_BD), x
    return torch.cat(both, 1), torch.cat([boxes_BD4, boxes], 1), hidden, labels_BD.shape[1]


class BoxQueryDETR(DeformableDETR):
    def __init__(self, config, backbone=None):
        super().__init__(config, backbone)
        del self.query_embed, self.transformer.reference_points
        Q, C = config.queries, config.channels
        places, sides = torch.rand(Q, 2).logit(), torch.full((Q, 2), 0.12).logit()
        self.anchors = nn.Parameter(torch.cat([places.clamp(-3, 3), sides], 1))  # logits of boxes
        self.content = nn.Embedding(Q, C)
        self.label_content = nn.Embedding(config.classes, C)  # for the next section
        self.transformer.decoder = BoxQueryDecoder(self.transformer.decoder.layers, C)

    def forward_features(self, maps, padding_mask, noised=None, encoder_heads=True):
        return detect(self, self.flatten(maps, padding_mask), noised)


# %%
def detect(detector, pyramid, noised):
    """Encoder, queries, decoder: predictions of the ordinary queries, and of the noised ones."""
    memory, _ = detector.transformer.encoder(pyramid)
    x, boxes, hidden, extra = starting_queries(detector, len(memory), noised)
    heads = detector.class_embed, detector.bbox_embed
    sets = list(detector.transformer.decoder(x, boxes, memory, pyramid, *heads, hidden))
    denoised = [{k: v[:, :extra] for k, v in found.items()} for found in sets]
    *earlier, last = ({k: v[:, extra:] for k, v in found.items()} for found in sets)
    return {**last, "aux_outputs": earlier, "denoised": denoised}


# %% [markdown]
# What is won first of all is that queries can be read. They are boxes in the image, before any training. (It is not
# speed that is won: by heart, on the 16 pictures of chapter 11 and in its 150 steps, these box queries reached AP 0.82
# where the learned points of that chapter reach 0.91. One seed each.)

# %%
from dyhead_lab.detectors.detr.configured import pyramid_features

backbone, _ = pyramid_features("narrow", levels=3, body={"pretrained": True})
backbone.requires_grad_(False).eval()  # it has learned Shapes already
torch.manual_seed(0)
model = BoxQueryDETR(config, backbone)
for query, box in enumerate(model.anchors.sigmoid()[:3].tolist()):
    print(f"query {query} begins at (cx, cy, w, h) =", [round(number, 2) for number in box])

# %% [markdown]
# ## Who teaches whom?
#
# A query learns from the object that it is matched with. What if the match changes from step to step, and why should an
# object teach one query only?
#
# ### Denoising
#
# In chapter 11 you counted how often the matching changes its mind. [DN-DETR](https://arxiv.org/abs/2203.01305) (2022)
# takes this for the reason why DETRs learn slowly: early in training a query is sent after one object now and after
# another one next time. Its remedy gives the decoder work whose answer is known without any matching. Take the true
# boxes, shake them, flip some labels, and hand them in as *additional queries*, several groups of them. Each must
# restore the object that it was made of. At inference they are left out, so nothing becomes slower.
#
# This only works because a query *is a box*: a noised truth can be handed in as what a query is anyway. And it needs
# care, because queries talk to each other. An ordinary query that may read a noised one is told the truth.
#
# <img src="diagrams/denoising_groups.svg" alt="Denoising. On the left two groups of three queries start from
# noised boxes of the three objects and are told which object each has to restore; five ordinary queries are
# matched. On the right the self-attention: each group reads itself and the ordinary queries, and these read
# only each other, so no truth leaks.">


# %% [markdown]
# The self-attention takes a mask with a row for each query that reads and a column for each that is read. It holds
# True where a row must *not* read a column, as PyTorch's `attn_mask` has it.

# %% [markdown] tags=["workbook"]
# **Exercise: who is hidden** (difficulty 2 of 5, about 15 minutes): `who_is_hidden(groups, objects, queries)`. First
# come `groups` groups of `objects` noised queries each, group after group, then `queries` ordinary ones. A noised query
# may read its own group and the ordinary queries, but no other group, which holds the same objects. An ordinary query
# may read the ordinary ones only. Return (D + Q, D + Q) booleans, True where a row must not read a column, with D =
# groups * objects and Q = queries.
#
# <details><summary>Where do I begin?</summary>
#
# Give every query the number of its group, and -1 to the ordinary ones:
# `torch.arange(groups).repeat_interleave(objects)`, then `torch.full((queries,), -1)`.
#
# </details>
# <details><summary>How does a pair decide?</summary>
#
# `group[:, None]` is the row's number, `group[None]` the column's. Only columns of noised queries are ever hidden, and
# they are so from every row of another number.
#
# </details>


# %% exercise="mask"
def who_is_hidden(groups, objects, queries):
    """(D + Q, D + Q), True where a row must not read a column; the D noised queries come first."""
    # >>> number the groups, compare every row with every column
    ordinary = torch.full((queries,), -1)
    group = torch.cat([torch.arange(groups).repeat_interleave(objects), ordinary])
    return (group[None] >= 0) & (group[None] != group[:, None])
    # <<<


# %% check="mask"
check_mask(who_is_hidden)

# %%
print(who_is_hidden(groups=2, objects=2, queries=3).int())

# %% [markdown]
# How far is a true box shaken? In DN-DETR its centre moves by at most `noise` times half of its side, so that it stays
# inside the object, and each side grows or shrinks by at most the share `noise`. What comes out must be a box that a
# query can have: numbers between 0 and 1, of which a logit exists.

# %% [markdown] tags=["workbook"]
# **Exercise: shaken boxes** (difficulty 1 of 5, about 10 minutes): `shaken_boxes(boxes, random, noise)`. `boxes` is
# (..., 4) as (cx, cy, w, h) in [0, 1]; `random` has the same shape and holds numbers from -1 to 1: two for the centre
# (x, y), two for the sides (w, h). Return boxes (..., 4), each number clamped to between 0.001 and 0.999.
#
# <details><summary>Where do I begin?</summary>
#
# Centre and size: `centre, size = boxes.chunk(2, -1)`; the same for the random numbers.
#
# </details>
# <details><summary>Nearly the answer</summary>
#
# The centre becomes `centre + shift * size / 2` and the size `size * (1 + stretch)`; both are joined by `torch.cat` and
# clamped to 0.001 and 0.999.
#
# </details>


# %% exercise="shake"
def shaken_boxes(boxes, random, noise):
    """Boxes (..., 4) as cx, cy, w, h from 0 to 1, and as many numbers from -1 to 1 -> boxes."""
    # >>> the centre by up to noise times half a side, the sides by up to noise of themselves; clamp
    centre, size = boxes.chunk(2, -1)
    shift, stretch = (noise * random).chunk(2, -1)
    moved = torch.cat([centre + shift * size / 2, size * (1 + stretch)], -1)
    return moved.clamp(0.001, 0.999)
    # <<<


# %% check="shake"
check_shaken(shaken_boxes)

# %% [markdown]
# Now all queries of a batch: every group holds each image's objects once, and some of the labels that a query is told
# are wrong. Images with fewer objects are filled up; `real` tells what counts.


# %%
def noised_queries(goals, groups, classes, queries, box_noise=0.4, label_noise=0.2):
    """Noised truths (labels, boxes, mask), and what they are to restore (labels, boxes, real)."""
    B, most = len(goals), max(len(goal["labels"]) for goal in goals)
    labels, boxes = torch.zeros(B, most, dtype=torch.long), torch.full((B, most, 4), 0.5)
    real = torch.zeros(B, most, dtype=torch.bool)
    for image, goal in enumerate(goals):
        count = len(goal["labels"])
        labels[image, :count], boxes[image, :count] = goal["labels"], goal["boxes"]
        real[image, :count] = True
    truth = labels.repeat(1, groups), boxes.repeat(1, groups, 1), real.repeat(1, groups)
    shaken = shaken_boxes(truth[1], 2 * torch.rand_like(truth[1]) - 1, box_noise)
    flip = torch.rand(truth[0].shape) < label_noise
    told = torch.where(flip, torch.randint(classes, flip.shape), truth[0])
    return (told, shaken, who_is_hidden(groups, most, queries)), truth


# %% [markdown]
# Is nothing leaked? A mask can be tested without any training: what the ordinary queries predict must not depend on
# whether the noised ones are there.

# %%
from dyhead_lab.detectors.image_batch import normalise_targets, pad_images

pictures = DrawnShapes(8 if FAST else 64, seed=12)
images = [pictures.image(i) for i in range(len(pictures))]
objects = [pictures.objects(i) for i in range(len(pictures))]
goals = normalise_targets(objects, images, config.classes)
batch, padding = pad_images(images)
with torch.no_grad():
    maps = [x.detach() for x in model.backbone(batch).values()]
    some, part = [x[:4] for x in maps], padding[:4]
    alone = model.forward_features(some, part)["pred_logits"]
    (told, shaken, hidden), _ = noised_queries(goals[:4], 3, config.classes, config.queries)
    for name, mask in {"masked": hidden, "without a mask": torch.zeros_like(hidden)}.items():
        beside = model.forward_features(some, part, (told, shaken, mask))["pred_logits"]
        apart = float((beside - alone).abs().max())
        moved = "less than 1e-5" if apart < 1e-5 else f"{apart:.3f}"
        print(f"{name}: the logits of the ordinary queries move by {moved}")

# %% [markdown]
# Now the loss of the noised queries: focal loss, L1 and GIoU as in chapter 11, but nobody is matched. And two trainings
# of the same detector on the same pictures in the same order, with and without them. Watch the loss of the *ordinary*
# queries: the noised ones are only there to help.

# %%
from torchvision.ops import sigmoid_focal_loss

from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy, generalized_iou

STEPS, RATE, BATCH = 3 if FAST else 120, 2e-3, 8


def denoising_loss(sets, truth):
    labels_BD, boxes_BD4, real_BD = truth
    labels, wanted, total = labels_BD[real_BD], boxes_BD4[real_BD], 0
    for found in sets:
        logits, boxes = found["pred_logits"][real_BD], found["pred_boxes"][real_BD]
        onehot = nn.functional.one_hot(labels, logits.shape[-1]).to(logits)
        focal = sigmoid_focal_loss(logits, onehot, alpha=0.25, gamma=2, reduction="sum")
        l1 = (boxes - wanted).abs().sum()
        giou = generalized_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(wanted))
        total = total + (2 * focal + 5 * l1 + 2 * (1 - giou).sum()) / len(labels)
    return total


# %%
def train(model, groups, seed=0):
    """Losses of the ordinary queries, step by step."""
    torch.manual_seed(seed)
    order = [torch.randperm(len(images))[:BATCH] for _ in range(STEPS)]
    history, loss_of = [], model.criterion
    slow = [p for name, p in model.named_parameters() if "sampling_offsets" in name]
    fast = [p for p in model.parameters() if p.requires_grad and not any(p is s for s in slow)]
    parts = [{"params": fast, "lr": RATE}, {"params": slow, "lr": RATE / 10}]
    optimiser = torch.optim.AdamW(parts, weight_decay=1e-4)
    for chosen in order:
        targets, noised = [goals[i] for i in chosen], None
        if groups:
            noised, truth = noised_queries(targets, groups, config.classes, config.queries)
        outputs = model.forward_features([x[chosen] for x in maps], padding[chosen], noised)
        loss = sum(loss_of.weigh(loss_of(outputs, targets)).values())
        history.append(loss.item())
        if groups:
            loss = loss + denoising_loss(outputs["denoised"], truth)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(fast + slow, 0.5)
        optimiser.step()
    return history


# %%
curves = {"without": train(model, groups=0)}

# %%
torch.manual_seed(0)
helped = BoxQueryDETR(config, backbone)
curves["with three noised groups"] = train(helped, groups=3)

# %% tags=["hide"]
alt = "Loss of the ordinary queries over 120 steps, without and with noised groups."
Picture(losses_figure(curves, "loss of the ordinary queries"), alt)

# %%
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate

for name, trained in {"without": model, "with noised groups": helped}.items():
    ap = evaluate(pictures, detect_dataset(trained.eval(), pictures))["AP"]
    last = list(curves.values())[trained is helped][-20:]
    mean = sum(last) / len(last)
    print(f"{name:18} loss of the last 20 steps {mean:.2f}, AP on these pictures {ap:.3f}")

# %% [markdown]
# With the noised groups the loss of the *ordinary* queries falls faster, although nothing about them has changed: the
# decoder that they share has learned from the others how one gets from a box to an object. Three more trainings of each
# kind, when this page was written, ended at 8.65, 9.08 and 8.52 without and at 7.84, 7.75 and 7.56 with noised groups
# (means over the last 20 steps). How far does that carry? On pictures that they had not seen all six were at AP 0.03 or
# below, which is nothing: 120 steps tell how fast something begins. And one control is missing. The noised groups bring
# *more* loss to the decoder in each step, so part of the gain may be the amount and not the kind. To tell, one would
# compare with several groups of ordinary queries, each matched by itself. That is the next idea.
#
# On COCO, DN-DETR reports 43.4 AP after 12 epochs and 48.6 after 50, and as much as its baseline after half of the
# epochs.
#
# ### More than one query for an object
#
# Denoising is one way to let an object teach more than one query in a step. Others do it by changing the matching while
# training, and by leaving the additional part out at inference.
#
# - [H-DETR](https://arxiv.org/abs/2207.13080) (2022) has a second set of queries, matched to several *copies* of each
#   object; [Group DETR](https://arxiv.org/abs/2207.13085) (2022) has several sets, each matched one to one by itself.
# - [Co-DETR](https://arxiv.org/abs/2211.12860) (2022) hangs heads of older detectors, ATSS and Faster R-CNN, at the
#   encoder. Their assignments of [chapter 01](01_feature_pyramid.ipynb) and
#   [chapter 08](08_dynamic_head_on_detectors.ipynb), many places an object, teach it what one matched query cannot:
#   5.8 AP more for Deformable DETR after 12 epochs.
# - [DETA](https://arxiv.org/abs/2212.06137) (2022) asks whether the matching is needed at all. It trains Deformable
#   DETR with the assignment by IoU of older detectors, brings non-maximum suppression back, and has 50.2 AP after 12
#   epochs.
#
# ### DINO
#
# [DINO](https://arxiv.org/abs/2203.03605) (2022) joins what stands above, and is what most later work starts from: 49.4
# AP with ResNet-50 after 12 epochs, and with a large backbone the first DETR at the top of COCO's table. Three things
# are its own.
#
# - *Contrastive denoising*: each object gives two noised queries, one shaken little, which must restore it, and one
#   shaken more, which must say "nothing here". So a query learns not to claim an object that a better one has.
# - *Mixed query selection*: of the two stages of chapter 11 it takes only the boxes; the content of a query is learned.
#   A token that has seen half of its object is a good place to look from and a bad answer.
# - *Look forward twice*: chapter 11 detaches every box before the next layer takes it, so that the *correction* of a
#   box learns from its own layer's prediction alone. (What a layer has read, its content, is not detached and learns
#   from all later layers.) DINO lets the correction learn from the next layer's prediction as well, and from no other.
#
# The last takes four lines, which are easily written wrong. Layer $l$ gets a box $b_{l-1}$ and finds a change
# $\Delta_l$ of its logits. Let $\mathrm{move}(b, \Delta) = \sigma(\sigma^{-1}(b) + \Delta)$, and let $\bar b$ be $b$
# detached. Two boxes of equal value come out: one to be judged and one to be handed on,
#
# $$\hat b_l = \mathrm{move}(b_{l-1}, \Delta_l), \qquad b_l = \mathrm{move}(\bar b_{l-1}, \Delta_l).$$
#
# The prediction $\hat b_l$ depends on $\Delta_l$, and through $b_{l-1}$ on $\Delta_{l-1}$. There the chain ends:
# $b_{l-1}$ was made of a detached box.

# %% [markdown] tags=["workbook"]
# **Exercise: look forward twice** (difficulty 3 of 5, about 15 minutes). Boxes and changes have the shape (Q, 4).
#
# <details><summary>Where do I begin?</summary>
#
# With chapter 11: `given = (given.detach().logit() + change).sigmoid()` in a loop is both, the prediction and what is
# handed on.
#
# </details>
# <details><summary>Only the gradients are wrong</summary>
#
# Predict from `given` as it came, hand on what is made of `given.detach()`. If the prediction itself is handed on, a
# layer learns from all that follow.
#
# </details>


# %% exercise="twice"
def look_forward_twice(changes, boxes):
    """Changes of logits, one tensor a layer, and boxes to start from -> each layer's prediction."""
    # >>> predict from what was given; hand on what starts from it detached
    predictions, given = [], boxes
    for change in changes:
        predictions.append((given.logit() + change).sigmoid())
        given = (given.detach().logit() + change).sigmoid()
    return predictions
    # <<<


# %% check="twice"
check_twice(look_forward_twice)

# %% [markdown]
# Who learns from whom is seen in the gradients. Beside it stands what chapter 11 does:


# %%
def detached(changes, boxes):
    """Every box is detached before the next layer takes it."""
    predictions = []
    for change in changes:
        predictions.append((boxes.logit() + change).sigmoid())
        boxes = predictions[-1].detach()
    return predictions


for rule in (detached, look_forward_twice):
    changes = [torch.zeros(1, 4, requires_grad=True) for _ in range(4)]
    for layer, box in enumerate(rule(changes, torch.full((1, 4), 0.3)), 1):
        found = torch.autograd.grad(box.sum(), changes, retain_graph=True, allow_unused=True)
        learn = [str(l) for l, gradient in enumerate(found, 1) if gradient is not None]
        print(f"{rule.__name__}: from the prediction of layer {layer} learn", *learn)

# %% [markdown]
# ## How cheap can it be?
#
# Sparse DETR left two questions: is the decoder's attention a good teacher of what to keep, and must all levels be
# treated alike? Count the tokens of an image of 800 x 1066 pixels before you answer.

# %%
tokens = {s: -(-800 // s) * -(-1066 // s) for s in (8, 16, 32, 64)}
for stride, count in tokens.items():
    share = count / sum(tokens.values())
    print(f"stride {stride:2}: {count:6,} tokens, {share:.0%}")

# %% [markdown]
# Three quarters of the encoder's work goes into the finest level.
#
# - [Lite DETR](https://arxiv.org/abs/2303.07335) (2023) therefore updates that level rarely: several layers refine the
#   three coarse ones, which may read everything, then one layer brings the fine one up to date. It reports 60 % less
#   cost of the detection head at 99 % of the performance.
# - [Focus-DETR](https://arxiv.org/abs/2307.12612) (2023) keeps tokens as Sparse DETR does, but learns which from the
#   annotated *boxes*, level by level, and not from a decoder that is still learning; and it lets the best of them
#   attend to each other densely, as in [chapter 09](09_self_attention_to_deformable.ipynb). Built on DINO it has 50.4
#   AP, 2.2 more than other sparse encoders at like cost.
# - [RT-DETR](https://arxiv.org/abs/2304.08069) (2023) has dense attention on the coarsest level alone, and convolutions
#   between the levels, as in a feature pyramid with a way up. Its queries are the tokens on which class score and IoU
#   agree. 53.1 AP with ResNet-50 at 108 images a second on a T4 GPU, by its own account the first DETR in real time.
# - [LW-DETR](https://arxiv.org/abs/2406.03459) (2024) has no encoder of its own at all: a plain vision transformer is
#   the backbone, and three deformable decoder layers, those of chapter 11, read it.
#
# RT-DETR also uses something that you have had since chapter 11: every decoder layer has heads of its own, so one can
# stop after any of them, without training again. Try it on the shipped detector:

# %%
from copy import deepcopy

count = 10 if FAST else 60
for layers in (1, 2, 3):
    cut = deepcopy(shipped.model)
    cut.transformer.decoder.layers = cut.transformer.decoder.layers[:layers]
    print(f"{layers} of 3 decoder layers: AP {shapes_ap(cut, count):.3f}")

# %% [markdown]
# The first layer alone has 70 % of the AP, and the third adds less than two hundredths. A decoder is a dial, as $\rho$
# is in [chapter 12](12_sparse_detr.ipynb): one training, several speeds. What makes it one is that a loss of its own
# tells each layer to be as good as it can be.
#
# ## How does a box move?
#
# A box head answers four numbers, as if it were sure. [D-FINE](https://arxiv.org/abs/2410.13842) (2024) lets it answer
# four *distributions*: for each side, how likely each of a few steps is. The side moves by the mean, and the next layer
# corrects the distribution in place of the number. A blurred edge gives a wide distribution, and the last layer's can
# teach the first one's: 54.0 AP at 124 images a second (T4). In code it is a softmax and a weighted sum:

# %%
steps = torch.linspace(-2, 2, 9)  # in parts of the box; D-FINE places them closer around zero
for name, sharpness in {"a sharp edge": 4.0, "a blurred edge": 1.0}.items():
    likely = (-sharpness * (steps - 0.5) ** 2).softmax(0)
    mean = (likely * steps).sum()
    spread = (likely * (steps - mean) ** 2).sum().sqrt()
    print(f"{name:14} moves by {mean:.2f}, unsure by {spread:.2f}")

# %% [markdown]
# ## The two operators meet
#
# Chapters [03](03_deformable_convolution.ipynb) and [10](10_multi_scale_deformable_attention.ipynb) built two
# operators, and [chapter 20](20_what_you_may_have_read.ipynb) insists on the difference: a matrix for each tap and free
# masks there, one matrix and a softmax here. DCNv3, the operator of
# [InternImage](https://arxiv.org/abs/2211.05778) (2022), takes the difference away. It has no matrix per tap any more
# (one linear layer before, one behind), its channels form groups with offsets of their own, as heads have, and its nine
# masks pass a softmax. What is left of the convolution is the grid that the nine points start from. Is it deformable
# attention, then, with one level, nine points, and as many heads as groups? Compute it with both:

# %%
torch.manual_seed(0)
B, C, H, W, G = 2, 8, 6, 7, 2
x = torch.randn(B, C, H, W).double()
offset = torch.randn(B, G, 9, 2, H, W).double()  # (dy, dx)
mask = torch.randn(B, G, 9, H, W).double().softmax(2)
ones = torch.ones(C, 1, 3, 3).double()  # a tap adds its sample, and no more
convolution = deform_conv2d(x, offset.flatten(1, 3), ones, padding=1, mask=mask.flatten(1, 2))

rows, columns = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
centre_N2 = torch.stack([columns, rows], -1).flatten(0, 1)
grid_P2 = torch.tensor([(dx, dy) for dy in (-1, 0, 1) for dx in (-1, 0, 1)])
moved = offset.flip(3).flatten(4).permute(0, 4, 1, 2, 3)  # (B, N, G, 9, 2) as (x, y)
places = (centre_N2[:, None, None] + grid_P2 + moved) / torch.tensor([W, H])
values = x.flatten(2).mT.unflatten(-1, (G, C // G)).contiguous()
weights = mask.flatten(3).permute(0, 3, 1, 2).unsqueeze(3)
level = torch.tensor([(H, W)]), torch.tensor([0])
attention = ms_deform_attn(values, *level, places.unsqueeze(3), weights).mT.view_as(convolution)
apart = float((attention - convolution).abs().max())
print("the two differ by", "less than 1e-12" if apart < 1e-12 else apart)

# %% [markdown]
# It is. [DCNv4](https://arxiv.org/abs/2401.06197) (2024) then drops the softmax again, because a convolution's weights
# are not bounded either, and rewrites the kernel: neighbouring channels share their offsets, so one thread can serve
# several of them and read them together, the lesson of [chapter 04](04_the_cuda_kernel.ipynb). It reports more than
# three times the forward speed. Dynamic Head itself has kept version 2.
#
# ## Classes in words
#
# A class head compares each feature with one learned vector per class: `logits = features @ weight.T`.
# [GLIP](https://arxiv.org/abs/2112.03857) (2022) replaces these vectors by those of *words*, which a language model
# computes from a prompt such as "person. bicycle. car." Then classes need not be known before training. Its image side
# is Dynamic Head in the released form: before each block, image and text read each other by cross-attention, and
# [its code](https://github.com/microsoft/GLIP) holds the switches for the three attentions that the original lacks.
# Without having seen one image of COCO it has 49.8 AP there; the released Dynamic Head with Swin-T, trained on COCO,
# has 49.8 too.
#
# [Grounding DINO](https://arxiv.org/abs/2303.05499) (2023) does the same on the other side of the family: the encoder
# layers of chapter 11 alternate with text, words choose the queries, and a query answers with the words that it
# matches.
#
# ## Break it
#
# A detector trains with the mask that `suspect` makes: two groups of two noised queries, three ordinary ones. It either
# lets somebody read what gives the answer away, or closes what may stay open. Read the rows (who reads) and the columns
# (who is read): which is it?

# %%
suspect = drill(MASK_MISTAKES, 1)
print(suspect(2, 2, 3).int())

# %% [markdown]
# When you have a guess, run `check_mask(suspect)`. Numbers 0 to 7 plant eight bugs.
#
# ## Recap
#
# | part | in this book | what changed | by |
# | --- | --- | --- | --- |
# | query position | a learned vector | a box, embedded anew in each layer | DAB-DETR |
# | query content | learned, or the token | learned, with the token's box | DINO |
# | teaching | one matched query an object | noised truths beside it | DN-DETR, DINO |
# | | | several queries an object | H-DETR, Group DETR, Co-DETR |
# | matching | Hungarian, no suppression | by IoU, with suppression | DETA |
# | between layers | detached | open by one layer | DINO |
# | encoder | all tokens, or those the decoder looks at | the fine level rarely | Lite DETR |
# | | | those that boxes point out | Focus-DETR |
# | | | the coarsest level alone; none | RT-DETR; LW-DETR |
# | box | four numbers | four distributions | D-FINE |
# | deformable convolution | a matrix a tap, sigmoid masks | no matrix, softmax; then no softmax | DCNv3; DCNv4 |
# | class | a learned vector | a word | GLIP, Grounding DINO |

# %%
means = {name: sum(curve[-20:]) / len(curve[-20:]) for name, curve in curves.items()}
without, with_them = means.values()
gap = without - with_them
answer = "lower" if gap >= 0.2 else "higher" if gap <= -0.2 else "even"
denoised.revisit(answer, f"{without:.2f} without and {with_them:.2f} with noised groups.")

# %% [markdown]
# **Check yourself.**
#
# <details><summary>Why could DN-DETR not have been built on the queries of chapter 11?</summary>
#
# There a query is a vector that a layer turns into a point. A noised box cannot be handed in: one would have to find
# the vector whose point it is, and width and height have no place in it.
#
# </details>
# <details><summary>May a noised query read an ordinary one?</summary>
#
# Yes. The ordinary ones do not know the truth, so there is nothing to be told. Only the other direction, and from group
# to group, has to be closed.
#
# </details>
# <details><summary>Which of these changes make a detector slower at inference?</summary>
#
# None of those in "Who teaches whom" but DETA's suppression. They change what is learned; the additional queries and
# heads are left out.
#
# </details>
# <details><summary>Which would you try first on Sparse DETR?</summary>
#
# A defensible answer: denoising. It needs boxes as queries, which Sparse DETR's top-k queries are already, it costs
# nothing at inference, and a decoder that looks at the right places earlier is a better teacher for the scorer.
# Nobody has measured it in this book; `BoxQueryDecoder` is a place to begin.
#
# </details>
