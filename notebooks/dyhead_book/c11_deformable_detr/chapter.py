# %% [markdown]
# # Deformable DETR
#
# | | |
# | --- | --- |
# | Time | 2 to 3 hours with the exercises, about 2 minutes to run on 2 CPU cores (a GPU changes little) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | chapters [09](09_self_attention_to_deformable.ipynb), [10](10_multi_scale_deformable_attention.ipynb) |
# | You will build | Deformable DETR from maps to boxes, matching, losses; trained, and on shipped weights |
#
# Most detectors predict many boxes for each object and throw all but one away. DETR ([Carion et al.,
# 2020](https://arxiv.org/abs/2005.12872)) predicts a **set**: a fixed number of *object queries*, each of which answers
# for one object or for none. There are no boxes of fixed size to start from (*anchors*), and nothing is suppressed
# afterwards. But it learns slowly: DETR needed 500 epochs of COCO where a Faster R-CNN of the same AP had 109, because
# attention over the whole map starts out spread evenly and takes long to become sharp. And it found small objects
# badly, because dense attention could only afford one map of stride 32.
#
# Deformable DETR ([Zhu et al., 2021](https://arxiv.org/abs/2010.04159),
# [code](https://github.com/fundamentalvision/Deformable-DETR)) replaces the attention by the one of [chapter
# 10](10_multi_scale_deformable_attention.ipynb). A query reads a few points around a **reference point** instead of
# everything. That concentrates attention from the first step, and is cheap enough for all levels of a pyramid: AP 44.5
# after 50 epochs, where DETR (with a map of stride 16) had 35.3 after 50 and 43.3 after 500.
#
# In this chapter you build all of it: the sequence of tokens, encoder, decoder, box refinement, matching, losses, and
# the two-stage detector. The attention inside is yours, where the workbook of chapter 10 has kept it. The names are
# those of the library and of the official code, so trained weights load into what you write.

# %% tags=["hide"]
import os
from copy import deepcopy
from dataclasses import dataclass, replace
from itertools import permutations

from dyhead_book.c11_deformable_detr.decoder_checks import check_decoder, check_decoder_layer
from dyhead_book.c11_deformable_detr.matching_checks import (
    COST_MISTAKES,
    check_assign,
    check_cost,
)
from dyhead_book.c11_deformable_detr.reference_checks import check_on_levels, check_refine
from dyhead_book.c11_deformable_detr.set_loss_checks import check_set_loss
from dyhead_book.practice.drills import drill
from dyhead_book.practice.earlier import earlier
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.rebuilt import check_same_ap, rebuilt
from dyhead_book.practice.so_far import so_far
from dyhead_lab.views.figures import Picture, detections_figure

FAST = bool(os.environ.get("DYHEAD_FAST"))  # tests of the book take a handful of steps

# %%
import torch
from torch import Tensor, nn

from dyhead_lab.data.photographs import photograph
from dyhead_lab.detectors.image_batch import normalise_targets, pad_images, resize_image, to_pixels
from dyhead_lab.zoo import load_trained

CHAPTER_10 = "10_multi_scale_deformable_attention"
MultiScaleDeformableAttention = earlier(CHAPTER_10, "MultiScaleDeformableAttention")

# %% [markdown]
# ## Predict

# %% tags=["hide"]
where_from = Question(
    "11 first look",
    "Before a query has seen the image it looks around a learned point. Where do these lie?",
    a="all near the middle of the image",
    b="spread over the image",
    c="on the objects of the image",
)
where_from.ask()

# %% tags=["hide"]
without_talk = Question(
    "11 without self-attention",
    "In each decoder layer the queries first attend to each other. "
    "We switch that off in a trained detector. How much AP is left?",
    a="nearly all: each query reads the image by itself anyway",
    b="about two thirds to nine tenths",
    c="less than half",
)
without_talk.ask()

# %% [markdown]
# ## From a pyramid to one sequence
#
# The backbone gives maps of strides 8, 16 and 32. Encoder and decoder see them as one sequence of $N$ tokens, finest
# level first. Let us follow two photographs. They differ in size, so the batch is padded: the smaller one ends
# somewhere in the middle, and a **padding mask** says where.

# %%
photographs = [resize_image(photograph(name), 240, 320) for name in ("workshop", "grace_hopper")]
batch, padding_mask = pad_images(photographs)
print([tuple(image.shape[1:]) for image in photographs], "-> batch", tuple(batch.shape))

shipped = load_trained("deformable_detr_tiny")
config, model = shipped.model.config, shipped.model
with torch.no_grad():
    maps = list(model.backbone(batch).values())
for level, x_BCHW in enumerate(maps):
    H, W = x_BCHW.shape[2:]
    print(f"level {level}: {tuple(x_BCHW.shape)}, {H * W} tokens an image")

# %% tags=["hide"]
from dyhead_book.c11_deformable_detr.batch_figure import batch_figure

alt = "A workshop and Grace Hopper, padded to one size; a cross marks the middle of each."
Picture(batch_figure(photographs), alt)

# %% [markdown]
# Three things are lost when maps become a sequence, and each comes back in its own way.
#
# **Where in the image** a token lies is told by the sine positions of chapter 09, counted inside the part that is not
# padding. **On which level** it lies is told by a learned vector per level, the **level embedding**: the centre of
# the image has the same sine position on all levels, and only this vector tells them apart. **Where the image ends**
# is told by the valid part of each level.
#
# <img src="diagrams/padded_batch.svg" alt="A batch of two photographs of different sizes. The narrow one is
# padded on the right. The reference point 0.5, 0.5 means the middle of the photograph. On a map of 8 x 4 cells,
# of which 4 columns are image, it is multiplied by the valid ratio 4/8 and 4/4: 0.25, 0.5 of the padded map.">
#
# Reference points are kept in $[0, 1]$ of the *image*, because a box is something of the image. The operator of chapter
# 10 samples in $[0, 1]$ of the *padded map*. Between them stands the **valid ratio**, the share of a level's columns
# and rows that are image:
#
# $$r_{\text{level}} = r \cdot \Big(\frac{\text{valid columns}}{W}, \frac{\text{valid rows}}{H}\Big)$$
#
# It is a small factor that is easily forgotten: a detector without it works on single images and looks in the wrong
# places in padded ones. First, the references of the encoder: every token looks around its own cell.


# %%
def cell_references(sizes, valid_cells_BL2):
    """Centre (x, y) of every token in [0, 1] of the image; beyond 1 in padding. (B, N, 2)"""
    centres = []
    for level, (H, W) in enumerate(sizes):
        y, x = torch.meshgrid(torch.arange(H) + 0.5, torch.arange(W) + 0.5, indexing="ij")
        cells_S2 = torch.stack([x.flatten(), y.flatten()], -1)
        centres.append(cells_S2 / valid_cells_BL2[:, None, level])
    return torch.cat(centres, 1)


# %% [markdown] tags=["workbook"]
# **Exercise: references on levels** (difficulty 2 of 5, about 15 minutes). `reference_BQ` holds points (B, Q, 2) or
# boxes (B, Q, 4). The result has one more axis, for the levels: (B, Q, L, 2) or (B, Q, L, 4).
#
# <details><summary>Where do I begin?</summary>
#
# The ratio is a tensor (B, L, 2): `valid_cells_BL2` over the size of each level, in the order x, y.
#
# </details>
# <details><summary>The numbers are right only for square levels</summary>
#
# `spatial_shapes_L2` holds (H, W). x belongs to W: `spatial_shapes_L2.flip(-1)`.
#
# </details>
# <details><summary>Boxes fail</summary>
#
# All four numbers of a box are scaled: (x, y, x, y) is `torch.cat([ratio, ratio], -1)`.
#
# </details>


# %% exercise="references"
def on_levels(reference_BQ, valid_cells_BL2, spatial_shapes_L2):
    """Points or boxes of the image -> the same in [0, 1] of every padded level."""
    # >>> multiply by the share of each level that is image
    ratio_BL2 = valid_cells_BL2 / spatial_shapes_L2.flip(-1)
    if reference_BQ.shape[-1] == 4:
        ratio_BL2 = torch.cat([ratio_BL2, ratio_BL2], -1)
    return reference_BQ[:, :, None] * ratio_BL2[:, None]
    # <<<


# %% check="references"
check_on_levels(on_levels)

# %% [markdown]
# The sequence, with everything that belongs to it, in one place:


# %%
@dataclass(frozen=True)
class FlatPyramid:
    """All levels of a pyramid as one sequence of N tokens, fine to coarse."""

    tokens_BNC: Tensor
    positions_BNC: Tensor  # sine position plus level embedding
    padding_BN: Tensor  # True where a token is padding
    valid_cells_BL2: Tensor  # columns and rows of each level that are image
    sizes: list[tuple[int, int]]  # (H, W) of each level

    @property
    def spatial_shapes_L2(self):
        return torch.tensor(self.sizes)

    @property
    def level_start_index_L(self):
        return torch.tensor([0, *(H * W for H, W in self.sizes[:-1])]).cumsum(0)

    def cell_references(self):
        return cell_references(self.sizes, self.valid_cells_BL2)

    def on_levels(self, reference_BQ):
        return on_levels(reference_BQ, self.valid_cells_BL2, self.spatial_shapes_L2)


# %%
from dyhead_lab.detectors.detr.positions import resize_padding, sine_positions


def flatten(levels, padding_mask, level_embed_LC):
    """Join levels (B, C, H, W) to a FlatPyramid."""
    tokens, positions, paddings, valid = [], [], [], []
    for x_BCHW, embed_C in zip(levels, level_embed_LC, strict=True):
        padding_BHW = resize_padding(padding_mask, x_BCHW.shape[-2:])
        sines_BCHW = sine_positions(padding_BHW, len(embed_C), centred=True)
        tokens.append(x_BCHW.flatten(2).mT)
        positions.append((sines_BCHW + embed_C[:, None, None]).flatten(2).mT)
        paddings.append(padding_BHW.flatten(1))
        columns_B, rows_B = (~padding_BHW[:, 0]).sum(1), (~padding_BHW[:, :, 0]).sum(1)
        valid.append(torch.stack([columns_B, rows_B], -1).float())
    joined = (torch.cat(parts, 1) for parts in (tokens, positions, paddings))
    return FlatPyramid(*joined, torch.stack(valid, 1), [tuple(x.shape[-2:]) for x in levels])


# %%
with torch.no_grad():
    levels = [project(x) for project, x in zip(model.input_proj, maps, strict=True)]
    pyramid = flatten(levels, padding_mask, model.transformer.level_embed)
print(
    "tokens",
    tuple(pyramid.tokens_BNC.shape),
    "padding of each image",
    pyramid.padding_BN.sum(1).tolist(),
)
for image, cells_L2 in zip(("workshop", "grace hopper"), pyramid.valid_cells_BL2, strict=True):
    middle = pyramid.on_levels(torch.full((2, 1, 2), 0.5))
    print(f"{image:13} valid (columns, rows)", cells_L2.int().tolist())
print("middle of both, finest level:", [[round(v, 3) for v in p] for p in middle[:, 0, 0].tolist()])

# %% [markdown]
# ## The encoder
#
# An encoder layer lets every token read four points per head on each level, and then passes each token through a
# small network. Around both stand a residual connection and a LayerNorm, as in chapter 09. The query is *content plus
# position*; what is read, the value, is content alone: a position decides where to look, it is not what is seen.


# %%
class DeformableEncoderLayer(nn.Module):
    def __init__(self, channels, feedforward, dropout, levels, heads, points):
        super().__init__()
        self.self_attn = MultiScaleDeformableAttention(channels, levels, heads, points)
        self.norm1 = nn.LayerNorm(channels)
        self.linear1 = nn.Linear(channels, feedforward)
        self.linear2 = nn.Linear(feedforward, channels)
        self.norm2 = nn.LayerNorm(channels)
        self.dropout = nn.Dropout(dropout)

    def forward(self, query_BQC, position_BQC, reference_BQL2, memory_BNC, pyramid):
        where = pyramid.spatial_shapes_L2, pyramid.level_start_index_L, pyramid.padding_BN
        q = query_BQC + position_BQC
        read, _, _ = self.self_attn(q, reference_BQL2, memory_BNC, *where)
        x = self.norm1(query_BQC + self.dropout(read))
        hidden = self.dropout(self.linear1(x).relu())
        return self.norm2(x + self.dropout(self.linear2(hidden)))


# %%
class DeformableEncoder(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, pyramid):
        """The memory (B, N, C), and the tokens after each layer."""
        reference = pyramid.on_levels(pyramid.cell_references())
        memory, states = pyramid.tokens_BNC, []
        for layer in self.layers:
            memory = layer(memory, pyramid.positions_BNC, reference, memory, pyramid)
            states.append(memory)
        return memory, states


# %%
torch.manual_seed(0)
width = config.channels, config.feedforward, config.dropout, config.levels, config.heads
encoder = DeformableEncoder(DeformableEncoderLayer(*width, config.encoder_points) for _ in range(2))
with torch.no_grad():
    memory, states = encoder(pyramid)
print("memory", tuple(memory.shape), "after", len(states), "layers")
points = config.heads * config.levels * config.encoder_points
print(f"each of {memory.shape[1]} tokens read {points} points")

# %% [markdown]
# In DETR this layer would compare all tokens with all tokens. With 4 levels of an image of 800 x 1066 pixels there
# are 17,821 of them, about 20 times as many as DETR's single map has, and the cost of dense attention grows with the
# square. Here it grows in proportion. [Chapter 12](12_sparse_detr.ipynb) asks whether all of these tokens are worth
# refining.
#
# ## A query is content plus position
#
# <img src="diagrams/decoder_layer.svg" alt="One decoder layer. Queries attend to each other, then read the
# levels at points around their reference boxes, then pass a small network; each step is added and normalised. A
# head corrects the reference box, and the next layer starts from the corrected one, without a gradient through
# it.">
#
# An object query has two halves. Its **position** stays the same through all layers: a learned vector, which a linear
# layer and a sigmoid turn into the reference point, the place where this query begins to look. Its **content** is
# what it has gathered so far, and every layer rewrites it. A decoder layer has three steps, each with residual and
# LayerNorm:
#
# 1. **Self-attention** among the queries, dense as in chapter 09: there are few of them. Here a query learns that
#    another one already has "its" object.
# 2. **Cross-attention**: deformable, from the query into the encoder's memory, around the reference.
# 3. **A network** of two linear layers.
#
# Positions are added to query and key of the self-attention and to the query of the cross-attention (which has no
# keys), in every layer anew, and never to a value.

# %% [markdown] tags=["workbook"]
# **Exercise: a decoder layer** (difficulty 3, about 25 minutes). Write `forward`. Query and position are (B, Q, C),
# the reference (B, Q, L, 2 or 4), the memory (B, N, C). `nn.MultiheadAttention` takes query, key, value and gives a
# pair; `need_weights=False` makes it fast. The cross-attention is called as in the encoder. Return three tensors: the
# new content, and the sampling locations and weights that the cross-attention gave.
#
# <details><summary>Where do I begin?</summary>
#
# With the encoder layer above: the second and third steps are nearly the same. Self-attention comes before them.
#
# </details>
# <details><summary>Which norm stands where?</summary>
#
# The official names are out of order: `norm2` behind self-attention, `norm1` behind cross-attention, `norm3` last.
#
# </details>
# <details><summary>The padded case fails</summary>
#
# The cross-attention needs `pyramid.padding_BN`, or queries read what lies beyond the image.
#
# </details>


# %% exercise="decoder_layer"
class DeformableDecoderLayer(nn.Module):
    # self_attention: the library's class can switch it off; yours is built as if it were on
    def __init__(self, channels, feedforward, dropout, levels, heads, points, self_attention=True):
        super().__init__()
        self.self_attn = nn.MultiheadAttention(channels, heads, dropout, batch_first=True)
        self.cross_attn = MultiScaleDeformableAttention(channels, levels, heads, points)
        self.linear1 = nn.Linear(channels, feedforward)
        self.linear2 = nn.Linear(feedforward, channels)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(channels) for _ in range(3))
        self.dropout = nn.Dropout(dropout)

    def forward(self, query_BQC, position_BQC, reference_BQL, memory_BNC, pyramid):
        """Returns content (B, Q, C), sampling locations and weights of the cross-attention."""
        # >>> self-attention, cross-attention, network
        q = query_BQC + position_BQC
        talked = self.self_attn(q, q, query_BQC, need_weights=False)[0]
        x = self.norm2(query_BQC + self.dropout(talked))
        where = pyramid.spatial_shapes_L2, pyramid.level_start_index_L, pyramid.padding_BN
        read = self.cross_attn(x + position_BQC, reference_BQL, memory_BNC, *where)
        x = self.norm1(x + self.dropout(read[0]))
        hidden = self.dropout(self.linear1(x).relu())
        return self.norm3(x + self.dropout(self.linear2(hidden))), *read[1:]
        # <<<


# %% check="decoder_layer"
check_decoder_layer(DeformableDecoderLayer)

# %% [markdown]
# ## Refine a box
#
# A layer does not predict a box from nothing. It corrects the box $\hat b$ of the layer before (Deformable DETR,
# appendix A.4):
#
# $$b = \sigma\big(\Delta b + \sigma^{-1}(\hat b)\big), \qquad \sigma^{-1}(x) = \log\frac{x}{1 - x}$$
#
# $\sigma$ is the sigmoid and $\Delta b$ the output of the box head. The detour through $\sigma^{-1}$ keeps all four
# numbers between 0 and 1 and makes steps relative: the same correction changes a width of 0.01 by little and one of
# 0.5 by much. At exactly 0 and 1 the inverse sigmoid is infinite, and boxes do touch the border, so $x$ is kept at
# least $\varepsilon = 10^{-5}$ away from both ends. A reference *point* has no size yet: its width and height come
# from the correction alone, as if their logit were 0.

# %% [markdown] tags=["workbook"]
# **Exercise: refine** (difficulty 2, about 10 minutes). `correction` is (..., 4) in logits; `reference` is (..., 4),
# or (..., 2) for points, in [0, 1]. Return boxes (..., 4) in [0, 1].
#
# <details><summary>The case with cx = 0 fails</summary>
#
# Clamp before the logarithm: `x.clamp(eps, 1 - eps)`.
#
# </details>
# <details><summary>Points fail</summary>
#
# Take the two logits and join two zeros: `torch.cat([logit, torch.zeros_like(logit)], -1)`.
#
# </details>


# %% exercise="refine"
def inverse_sigmoid(x, eps=1e-5):
    # >>> log(x / (1 - x)), finite at 0 and 1
    x = x.clamp(eps, 1 - eps)
    return (x / (1 - x)).log()
    # <<<


def refine_boxes(correction, reference):
    """Boxes (cx, cy, w, h) in [0, 1], (..., 4)."""
    # >>> sigmoid(correction + inverse sigmoid of the reference)
    logit = inverse_sigmoid(reference)
    if reference.shape[-1] == 2:
        logit = torch.cat([logit, torch.zeros_like(logit)], -1)
    return (correction + logit).sigmoid()
    # <<<


# %% check="refine"
check_refine(refine_boxes)

# %%
reference = torch.tensor([[0.01, 0.5, 0.99, 1.0]])
for step in (-1.0, 1.0):
    moved = refine_boxes(torch.full((1, 4), step), reference)
    numbers = [round(x, 4) for x in moved[0].tolist()]
    print(f"a step of {step:+} moves 0.01, 0.5, 0.99, 1 to", numbers)

# %% [markdown]
# ## The decoder: layer by layer, and detached
#
# The decoder runs the layers in turn. Behind each one a class head and a box head read the content. With **iterative
# refinement** the refined box becomes the reference of the next layer: it looks around a better place, and its points
# are spread over the size of the box.
#
# One more word: the new reference is **detached**. The loss of layer 3 may tell layer 3 to correct its box. If it
# could also reach back through the reference into the box heads of layers 1 and 2, each head would be told by all
# later layers what would have suited *them*, on top of its own loss. Detached, every box head has one task: take the
# reference as it comes and make it better. (The content is not detached, so later losses still teach earlier layers
# what to read.)

# %% [markdown] tags=["workbook"]
# **Exercise: the decoder** (difficulty 3, about 20 minutes). Write the loop over `self.layers`; layer i has
# `class_heads[i]` and `box_heads[i]`. `queries` has `features_BQC` (content), `positions_BQC` and `references_BQ`.
# `DecoderOutput` is a record with four lists, to each of which every layer appends one tensor: `logits_BQ`,
# `boxes_BQ`, `sampling_locations`, `attention_weights`.
#
# <details><summary>Where do I begin?</summary>
#
# Inside the loop: `layer(x, positions, pyramid.on_levels(reference), memory_BNC, pyramid)` gives the new x.
#
# </details>
# <details><summary>A gradient is wrong, all predictions are right</summary>
#
# `reference = boxes.detach()`. The boxes themselves keep their gradient: their own loss needs it.
#
# </details>
# <details><summary>The case refine=False fails</summary>
#
# There the reference stays the first one for all layers; boxes are still computed from it.
#
# </details>

# %%
from dyhead_lab.detectors.detr.deformable_transformer import DecoderOutput, Queries


# %% exercise="decoder"
class DeformableDecoder(nn.Module):
    def __init__(self, layers, refine):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.refine = refine

    def forward(self, queries, memory_BNC, pyramid, class_heads, box_heads):
        """What every layer predicts, and where it looked."""
        output = DecoderOutput([], [], [], [])
        x, reference = queries.features_BQC, queries.references_BQ
        # >>> layer by layer: read, predict, refine, fill the lists
        for layer, class_head, box_head in zip(self.layers, class_heads, box_heads, strict=False):
            around = pyramid.on_levels(reference)
            x, *looked = layer(x, queries.positions_BQC, around, memory_BNC, pyramid)
            boxes = refine_boxes(box_head(x), reference)
            if self.refine:
                reference = boxes.detach()
            output.logits_BQ.append(class_head(x))
            output.boxes_BQ.append(boxes)
            output.sampling_locations.append(looked[0])
            output.attention_weights.append(looked[1])
        # <<<
        return output


# %% check="decoder"
check_decoder(DeformableDecoder)

# %% [markdown]
# ## The detector
#
# Now the parts are joined. The **box head** has three linear layers; its last one starts at zero, so that at first
# every box is its reference. The **class head** is one linear layer. Its bias starts at $-\log 99$, so that every class
# starts with a probability of 1 %: nearly all of queries × classes are background, and a loss that starts at 50 % would
# first spend a long time learning that (the same trick as in [chapter 08](08_dynamic_head_on_detectors.ipynb)).
#
# In front, `projections` brings each of the backbone's maps to $C$ channels by a 1x1 convolution. A level beyond the
# last map comes from that map by a 3x3 convolution of stride 2, and one more level from the level before it. Behind
# each stands `LevelNorm(32, C)`: group normalisation with 32 groups, in the library's version, which also accepts a
# level of a single cell. Behind the decoder, `best` makes detections of what the last layer says: the 100 pairs of
# query and class with the highest probabilities. Nothing is suppressed. What the layers before it say goes along as
# `aux_outputs`, because they have losses, too.


# %%
class BoxHead(nn.Module):
    def __init__(self, channels, size_bias=0.0):
        super().__init__()
        C = channels
        self.layers = nn.ModuleList([nn.Linear(C, C), nn.Linear(C, C), nn.Linear(C, 4)])
        nn.init.zeros_(self.layers[-1].weight)
        nn.init.zeros_(self.layers[-1].bias)
        nn.init.constant_(self.layers[-1].bias[2:], size_bias)

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


def heads(config):
    """A class head and a box head for every set of predictions; without refinement one for all."""
    C, count = config.channels, config.decoder_layers + config.two_stage
    start = 0.0 if config.two_stage else -2.0  # a point becomes a small box: 12 % of the image
    class_head, box_head = nn.Linear(C, config.classes), BoxHead(C, start)
    nn.init.constant_(class_head.bias, -torch.tensor(99.0).log())
    if not config.refine:
        return nn.ModuleList([class_head] * count), nn.ModuleList([box_head] * count)
    classes = nn.ModuleList(deepcopy(class_head) for _ in range(count))
    return classes, nn.ModuleList([box_head, *(BoxHead(C) for _ in range(count - 1))])


# %%
class DeformableTransformer(nn.Module):
    """Encoder and decoder, level embedding, and the layer that turns positions into references."""

    def __init__(self, config):
        super().__init__()
        C = config.channels
        width = C, config.feedforward, config.dropout, config.levels, config.heads
        encode, decode = config.encoder_points, config.decoder_points
        reads = (DeformableEncoderLayer(*width, encode) for _ in range(config.encoder_layers))
        asks = (DeformableDecoderLayer(*width, decode) for _ in range(config.decoder_layers))
        self.encoder = DeformableEncoder(reads)
        self.decoder = DeformableDecoder(asks, config.refine)
        self.level_embed = nn.Parameter(torch.randn(config.levels, C))
        if not config.two_stage:
            self.reference_points = nn.Linear(C, 2)
        own_start = ("sampling_offsets.weight", "attention_weights.weight", "level_embed")
        for name, parameter in self.named_parameters():
            if parameter.dim() > 1 and not name.endswith(own_start):
                nn.init.xavier_uniform_(parameter)

    def learned_queries(self, embedding_Q2C, batch):
        """Queries that are the same for every image: half position, half content."""
        positions, features = embedding_Q2C.expand(batch, -1, -1).chunk(2, -1)
        return Queries(features, positions, self.reference_points(positions).sigmoid())


# %%
from dyhead_lab.attention.pyramid import LevelNorm


def projections(config):
    """Convolutions onto C channels; levels beyond the backbone's come from its last map."""
    C, channels = config.channels, config.feature_channels
    for level in range(config.levels):
        if level < len(channels):
            convolution = nn.Conv2d(channels[level], C, 1)
        else:
            source = channels[-1] if level == len(channels) else C
            convolution = nn.Conv2d(source, C, 3, stride=2, padding=1)
        yield nn.Sequential(convolution, LevelNorm(32, C))


def best(logits_QK, boxes_Q4, height, width, count=100):
    """The detections of one image: the best pairs of query and class. Nothing is suppressed."""
    scores, index = logits_QK.sigmoid().flatten().topk(min(count, logits_QK.numel()))
    query, label = index // logits_QK.shape[1], index % logits_QK.shape[1]
    return {"boxes": to_pixels(boxes_Q4[query], height, width), "scores": scores, "labels": label}


# %%
class DeformableDETR(nn.Module):
    def __init__(self, config, backbone=None):
        super().__init__()
        self.config, self.backbone = config, backbone and nn.Sequential(backbone)
        self.input_proj = nn.ModuleList(projections(config))
        self.transformer = DeformableTransformer(config)
        if not config.two_stage:
            self.query_embed = nn.Embedding(config.queries, 2 * config.channels)
        self.class_embed, self.bbox_embed = heads(config)

    def flatten(self, maps, padding_mask):
        levels, maps = [], list(maps.values() if isinstance(maps, dict) else maps)
        for level, project in enumerate(self.input_proj):
            source = maps[min(level, len(maps) - 1)] if level <= len(maps) else levels[-1]
            levels.append(project(source))
        return flatten(levels, padding_mask, self.transformer.level_embed)

    def forward_features(self, maps, padding_mask):
        return detect(self, self.flatten(maps, padding_mask))

    def forward(self, images):
        batch, padding_mask = pad_images(images)
        out = self.forward_features(self.backbone(batch), padding_mask)
        found = zip(out["pred_logits"], out["pred_boxes"], images, strict=True)
        return [best(logits, boxes, *image.shape[1:]) for logits, boxes, image in found]


# %%
def as_sets(decoded):
    """What the decoder's layers predict, in the form that the losses take."""
    *earlier, last = (
        {"pred_logits": logits, "pred_boxes": boxes}
        for logits, boxes in zip(decoded.logits_BQ, decoded.boxes_BQ, strict=True)
    )
    return {**last, "aux_outputs": earlier}


def detect(detector, pyramid):
    """Encoder, learned queries, decoder: all predictions of a batch."""
    transformer = detector.transformer
    memory, _ = transformer.encoder(pyramid)
    queries = transformer.learned_queries(detector.query_embed.weight, len(memory))
    heads = detector.class_embed, detector.bbox_embed
    return as_sets(transformer.decoder(queries, memory, pyramid, *heads))


# %% [markdown]
# Is this Deformable DETR? The project ships one, `deformable_detr_tiny`: 3 levels, 64 channels, 2 encoder and 3
# decoder layers, 50 queries, trained on Shapes. Its weights are loaded strictly into *your* classes, every parameter
# under its name, and the detector that comes out is evaluated on pictures that it has not seen.

# %%
built = {
    "DeformableEncoderLayer": DeformableEncoderLayer,
    "DeformableEncoder": DeformableEncoder,
    "DeformableDecoderLayer": DeformableDecoderLayer,
    "DeformableDecoder": DeformableDecoder,
    "BoxHead": BoxHead,
    "DeformableTransformer": DeformableTransformer,
}
images = 10 if FAST else 60
check_same_ap("deformable_detr_tiny", images, DeformableDETR=DeformableDETR, **built)

# %% [markdown]
# ## Look: from a point to a box
#
# Here are the best queries after every layer. The first picture shows the learned reference points. They have no
# size, and they are the same for every image.

# %% tags=["hide"]
from dyhead_book.c11_deformable_detr.box_refinement import query_places_figure, refinement_figure
from dyhead_book.figures.object_queries import look
from dyhead_book.practice.drawn_shapes import DrawnShapes, shapes_ap
from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy, generalized_iou

unseen = DrawnShapes(10 if FAST else 60)  # pictures that no shipped detector has learned from
image, objects = unseen.image(1), unseen.objects(1)
view = look(model, image)
best_queries = {q: view.title(q, shipped.categories) for q in view.best(6, threshold=0.3)}
after = [f"after layer {layer + 1}" for layer in range(len(view.boxes_IQ4))]
figure = refinement_figure(
    view.image, [view.references[0], *view.boxes_IQ4], best_queries, ["reference points", *after]
)
Picture(
    figure,
    alt="Six queries: their reference points, and their boxes after each of three decoder layers.",
)

# %% [markdown]
# The first layer makes a box of the point, the others adjust it. Here two pairs of queries hold on to one object
# each. Training works against that, because only one of a pair is matched; the few minutes that this detector trained
# were not enough to end it. How far do boxes move in each layer? The GIoU between the box before and after tells: 1
# means that nothing moved.

# %%
chosen = view.best(threshold=0.3)
for layer in range(1, len(view.boxes_IQ4)):
    before, now = (cxcywh_to_xyxy(view.boxes_IQ4[i][chosen]) for i in (layer - 1, layer))
    same = generalized_iou(before, now).mean()
    print(f"layer {layer} -> {layer + 1}: GIoU of the same query {same:.3f}")

# %%
points_Q2 = view.references[0]
spread = points_Q2.std(0).mean().item()
answer = "b" if spread > 0.15 else "a"
measured = f"The points have a spread of {spread:.2f} of the image; evenly spread ones have 0.29."
where_from.revisit(answer, measured)

# %% [markdown]
# Does every query have a place of its own? Below, a panel is the picture plane of one query, and a dot the centre of
# the box that it gave for one of 60 images, whether it was sure or not; the colour is the size of that box.

# %% tags=["hide"]
unseen_batch, unseen_padding = pad_images([unseen.image(i) for i in range(len(unseen))])
with torch.no_grad():
    outputs = model.forward_features(model.backbone(unseen_batch), unseen_padding)
busiest = outputs["pred_logits"].sigmoid().amax(-1).mean(0).argsort(descending=True)
side = unseen_batch.shape[-1]
figure = query_places_figure(outputs["pred_boxes"], busiest[:8].tolist(), side)
alt = "Where eight queries find their boxes over 60 images: each has a region and sizes of its own."
Picture(figure, alt)

# %% [markdown]
# ## Set prediction: what does a match cost?
#
# To learn, the detector must be told which query answers for which object.
#
# <img src="diagrams/set_matching.svg" alt="Matching. Five queries predict classes and boxes, the image has two
# objects. A cost of class, L1 and GIoU is computed for all ten pairs. The cheapest assignment gives query 2 to
# object A and query 4 to object B. These two learn class and box of their object, the other three learn that
# nothing is there.">
#
# For every pair of query $q$ and object $g$ the cost is (DETR, equation 1; the class part is Deformable DETR's)
#
# $$\mathrm{cost}_{qg} = 2\,\mathrm{class}_{qg} + 5\, \lVert b_q - b_g \rVert_1 - 2\,\mathrm{GIoU}(b_q, b_g)$$
#
# $$\mathrm{class}_{qg} = -\alpha (1 - p)^2 \log p + (1 - \alpha)\, p^2 \log(1 - p), \qquad
# p = \sigma(\mathrm{logit}_{q, \mathrm{class}(g)}), \quad \alpha = 0.25$$
#
# The class part is the focal loss of saying "yes" minus that of saying "no". Inside the logarithms stand $p +
# 10^{-8}$ and $1 - p + 10^{-8}$, so that nothing gets infinite. Boxes are compared twice. L1 compares $(c_x, c_y, w,
# h)$ as the box head predicts them, and punishes large boxes more than small ones for the same relative error.
# **GIoU** ([Rezatofighi et al., 2019](https://arxiv.org/abs/1902.09630); built in [chapter
# 08](08_dynamic_head_on_detectors.ipynb)) is IoU minus the share of the common hull that belongs to neither box. It
# does not depend on the scale, and still tells near from far where boxes do not touch and IoU is 0.

# %%
a, near, far = (torch.tensor([x, 0.1, x + 0.2, 0.3]) for x in (0.1, 0.4, 0.7))  # corners
for name, other in {"itself": a, "a near box": near, "a far one": far}.items():
    print(f"GIoU with {name:10} {generalized_iou(a, other):+.2f}")

# %% [markdown] tags=["workbook"]
# **Exercise: the cost of every pair** (difficulty 3, about 20 minutes). One image: logits (Q, K) and boxes (Q, 4) of
# the queries, labels (G,) and boxes (G, 4) of the objects. Return a tensor (Q, G). `generalized_iou` takes corners,
# and `cxcywh_to_xyxy` makes them.
#
# <details><summary>How do I get the class of every object?</summary>
#
# `logits_QK.sigmoid()[:, labels_G]` is (Q, G).
#
# </details>
# <details><summary>How do I get all pairs of boxes?</summary>
#
# `boxes_Q4[:, None]` against `objects_G4`: broadcasting gives (Q, G, 4). `generalized_iou` broadcasts too.
#
# </details>


# %% exercise="cost"
def matching_cost(logits_QK, boxes_Q4, labels_G, objects_G4):
    """(Q, G). Boxes are (cx, cy, w, h) in [0, 1]."""
    # >>> 2 class + 5 L1 - 2 GIoU
    p_QG = logits_QK.sigmoid()[:, labels_G]
    yes_QG = 0.25 * (1 - p_QG) ** 2 * -(p_QG + 1e-8).log()
    no_QG = 0.75 * p_QG**2 * -(1 - p_QG + 1e-8).log()
    l1_QG = (boxes_Q4[:, None] - objects_G4).abs().sum(-1)
    giou_QG = generalized_iou(cxcywh_to_xyxy(boxes_Q4)[:, None], cxcywh_to_xyxy(objects_G4))
    return 2 * (yes_QG - no_QG) + 5 * l1_QG - 2 * giou_QG
    # <<<


# %% check="cost"
check_cost(matching_cost)

# %% [markdown]
# ## Who answers for whom
#
# Now choose one query for every object, each query at most once, so that the total cost is least. For three objects
# one can try all ways:

# %%
cost = torch.tensor([[1.0, 2.0, 9.0], [2.0, 9.0, 3.0], [9.0, 6.0, 4.0]])  # (queries, objects)
for queries in permutations(range(3)):
    total = sum(cost[q, g].item() for g, q in enumerate(queries))
    print("objects 0, 1, 2 <- queries", queries, "total", total)

# %% [markdown]
# Object 0 would like query 0, but then object 1 has to pay 6 or more instead of 2, so the best total gives query 0 to
# object 1. With 300 queries nobody can try all ways; the Hungarian algorithm finds the best one in cubic time, and
# `scipy.optimize.linear_sum_assignment(cost)` does the same. It returns two arrays, rows and columns of the chosen
# pairs, **sorted by row**, that is by query. What is wanted here is the query of object 0, then of object 1, and so
# on.

# %% [markdown] tags=["workbook"]
# **Exercise: assign** (difficulty 2, about 10 minutes), with SciPy. There are at least as many queries as objects.
# Return a tensor of integers (G,): the query of object 0, of object 1, and so on.
#
# <details><summary>All queries are right, their order is not</summary>
#
# `object.argsort()` says where object 0, 1, 2 stand among the pairs.
#
# </details>
# <details><summary>SciPy complains about a gradient</summary>
#
# `cost_QG.detach().numpy()`: matching decides what is trained, and is not differentiated itself.
#
# </details>

# %%
from scipy.optimize import linear_sum_assignment


# %% exercise="assign"
def assign(cost_QG):
    """The query of every object at the least total cost, (G,)."""
    # >>> linear_sum_assignment, then the order of the objects
    query, object = linear_sum_assignment(cost_QG.detach().numpy())
    return torch.from_numpy(query[object.argsort()])
    # <<<


# %% check="assign"
check_assign(assign)


# %%
class HungarianMatcher:
    """For every image of a batch: the query of every object."""

    @torch.no_grad()
    def __call__(self, predictions, targets):
        pairs = zip(predictions["pred_logits"], predictions["pred_boxes"], targets, strict=True)
        costs = (matching_cost(*query, t["labels"], t["boxes"]) for *query, t in pairs)
        return [assign(cost_QG) for cost_QG in costs]


target = normalise_targets([objects], [image], config.classes)
names = shipped.categories
for g, q in enumerate(HungarianMatcher()(view.outputs, target)[0].tolist()):
    print(f"object {g}, {names[objects['labels'][g]]:9} <- query {view.title(q, names)}")

# %% [markdown]
# Every object has a query, even where that query is not sure at all: that is how it learns. All other queries learn
# to say "nothing here", also those that found the object but were a little worse.
#
# ## The loss
#
# - **Classes**: the focal loss of all queries and classes. A matched query wants 1 for the class of its object,
#   everything else wants 0.
# - **L1** and **1 - GIoU** of the matched boxes.
#
# All three are sums over an image, divided by the number of objects in the whole *batch* (or by 1 if there are none).
# Divided by the objects of its own image, an object in a crowd would count less than one that is alone.

# %% [markdown] tags=["workbook"]
# **Exercise: the loss of one image** (difficulty 3, about 20 minutes). `query_G` (G,) comes from `assign`, `divisor`
# is the number of objects of the batch. Return three numbers, each a sum over the image divided by it: focal loss,
# L1, 1 - GIoU. An image may have no objects.
#
# <details><summary>What is the focal loss?</summary>
#
# `sigmoid_focal_loss(logits, wanted, alpha=0.25, gamma=2, reduction="sum")`, where `wanted` is 1 at
# `[query_G, labels_G]` and 0 elsewhere.
#
# </details>
# <details><summary>L1 is wrong with two objects</summary>
#
# `boxes_Q4[query_G]` brings the predictions into the order of the objects.
#
# </details>

# %%
from torchvision.ops import sigmoid_focal_loss


# %% exercise="loss"
def set_loss(logits_QK, boxes_Q4, labels_G, objects_G4, query_G, divisor):
    """Three numbers: class loss, L1, 1 - GIoU; not weighted."""
    # >>> focal loss of all queries, two box losses of the matched ones
    wanted_QK = torch.zeros_like(logits_QK)
    wanted_QK[query_G, labels_G] = 1
    focal = sigmoid_focal_loss(logits_QK, wanted_QK, alpha=0.25, gamma=2, reduction="sum")
    matched_G4 = boxes_Q4[query_G]
    l1 = (matched_G4 - objects_G4).abs().sum()
    giou_G = generalized_iou(cxcywh_to_xyxy(matched_G4), cxcywh_to_xyxy(objects_G4))
    return focal / divisor, l1 / divisor, (1 - giou_G).sum() / divisor
    # <<<


# %% check="loss"
check_set_loss(set_loss)

# %% [markdown]
# Every decoder layer is matched and judged by itself, with the same loss. The terms are weighted as in the cost: 2, 5
# and 2. (Weights of cost and loss need not agree, but here they do: what is cheap to match is what the loss calls
# good.)


# %%
class SetCriterion(nn.Module):
    """loss_ce, loss_bbox, loss_giou of the last layer; with _0, _1 of the earlier ones."""

    def __init__(self, classes, matcher, weights):
        super().__init__()
        self.classes, self.matcher, self.weights = classes, matcher, weights

    def one_set(self, predictions, targets):
        divisor = max(sum(len(t["labels"]) for t in targets), 1)
        matches = self.matcher(predictions, targets)
        found = zip(predictions["pred_logits"], predictions["pred_boxes"], strict=True)
        losses = [
            torch.stack(set_loss(logits, boxes, t["labels"], t["boxes"], query_G, divisor))
            for (logits, boxes), t, query_G in zip(found, targets, matches, strict=True)
        ]
        return dict(zip(("loss_ce", "loss_bbox", "loss_giou"), sum(losses), strict=True))

    def forward(self, outputs, targets):
        sets = {"": outputs} | {f"_{i}": layer for i, layer in enumerate(outputs["aux_outputs"])}
        sets |= {"_enc": outputs["enc_outputs"]} if "enc_outputs" in outputs else {}
        return {k + end: v for end, p in sets.items() for k, v in self.one_set(p, targets).items()}

    def total(self, terms):
        bare = {name: "_".join(name.split("_")[:2]) for name in terms}  # loss_ce_0 -> loss_ce
        return sum(self.weights[bare[name]] * value for name, value in terms.items())


# %% [markdown]
# The same weights, your detector and your losses on one side, the library's on the other:

# %%
WEIGHTS = {"loss_ce": 2.0, "loss_bbox": 5.0, "loss_giou": 2.0}
criterion = SetCriterion(config.classes, HungarianMatcher(), WEIGHTS)
four = [unseen.image(i) for i in range(4)]
four_targets = normalise_targets([unseen.objects(i) for i in range(4)], four, config.classes)
four_batch, four_padding = pad_images(four)


def losses_of(detector, criterion):
    outputs = detector.forward_features(detector.backbone(four_batch), four_padding)
    return criterion(outputs, four_targets)


with torch.no_grad(), rebuilt("deformable_detr_tiny", DeformableDETR=DeformableDETR) as mine:
    ours, theirs = losses_of(mine, criterion), losses_of(model, model.criterion)
for name, value in ours.items():
    same = "the same" if abs(value - theirs[name]) < 1e-5 else f"but {theirs[name]:.6f}"
    print(f"{name:12} {value:.4f}, the library's is {same}")

# %% [markdown]
# ## It learns
#
# As in chapter 09, the smallest test is to **overfit**: 16 pictures, again and again, until the detector knows them
# by heart. If matching, losses, or the flow of gradients are wrong anywhere, it can hardly do that. The backbone is
# the narrow one of this book, which has learned Shapes already; it is frozen, so its maps are computed once.
# Everything behind it starts from random weights.
#
# Three settings follow the official code: AdamW, clipped gradients (here at 0.5, there at 0.1), and a tenth of the
# rate for the layers that decide *where* to look, `sampling_offsets` and `reference_points`. A large step there would
# move all points away from where the values have been learned.

# %%
from dyhead_lab.detectors.detr.configured import pyramid_features

torch.manual_seed(0)
pictures = DrawnShapes(16, seed=11)
images = [pictures.image(i) for i in range(len(pictures))]
objects = [pictures.objects(i) for i in range(len(pictures))]
goals = normalise_targets(objects, images, config.classes)
backbone, channels = pyramid_features("narrow", levels=3, body={"pretrained": True})
learner = DeformableDETR(config, backbone)

learner.backbone.requires_grad_(False).eval()
learning_batch, learning_padding = pad_images(images)
with torch.no_grad():
    learning_maps = learner.backbone(learning_batch)
print(f"{sum(len(t['labels']) for t in goals)} objects in {len(images)} pictures")

# %%
SLOW = ("sampling_offsets", "reference_points")
STEPS, RATE = 4 if FAST else 150, 2e-3
trained = {name: p for name, p in learner.named_parameters() if p.requires_grad}
where = [p for name, p in trained.items() if any(part in name for part in SLOW)]
what = [p for name, p in trained.items() if not any(part in name for part in SLOW)]
groups = [{"params": what, "lr": RATE}, {"params": where, "lr": RATE / 10}]
optimiser = torch.optim.AdamW(groups, weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.MultiStepLR(optimiser, [int(0.8 * STEPS)])

history, jumps, before = [], [], None
for _ in range(STEPS):
    outputs = learner.forward_features(learning_maps, learning_padding)
    terms = criterion(outputs, goals)
    loss = criterion.total(terms)
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(trained.values(), 0.5)
    optimiser.step()
    schedule.step()
    history.append({"loss": loss.item(), **{name: value.item() for name, value in terms.items()}})
    matched = torch.cat(criterion.matcher(outputs, goals))  # the query of every object
    jumps.append(1.0 if before is None else (matched != before).float().mean().item())
    before = matched
print(f"loss of the first step {history[0]['loss']:.2f}, of the last {history[-1]['loss']:.2f}")

# %%
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate

learned = evaluate(pictures, detect_dataset(learner.eval(), pictures))
print(f"AP on the 16 pictures {learned['AP']:.3f}, AP50 {learned['AP50']:.3f}")
others = shapes_ap(learner, len(unseen))
print(f"AP on 60 others {others:.3f}: it knows these pictures, not the world")

# %% tags=["hide"]
from dyhead_book.figures.learning_curves import losses_figure

curves = {
    "classes": [h["loss_ce"] for h in history],
    "L1": [h["loss_bbox"] for h in history],
    "1 - GIoU": [h["loss_giou"] for h in history],
}
Picture(
    losses_figure(curves),
    alt="Three losses of the last decoder layer over the steps of training; all fall.",
)

# %% tags=["hide"]
few = sorted(range(len(images)), key=lambda i: len(objects[i]["labels"]))[:3]
with torch.no_grad():
    seen = learner([images[i] for i in few])
figure = detections_figure([images[i] for i in few], seen, names, threshold=0.5, height=300)
alt = "Three of the 16 pictures with the boxes that the trained detector finds in them."
Picture(figure, alt)

# %% [markdown]
# The class loss falls furthest. The boxes take longer, and which query should answer for which object is itself
# decided anew in every step. How often does that change?

# %%
for start in range(0, STEPS, max(STEPS // 5, 1)):
    some = jumps[start : start + max(STEPS // 5, 1)]
    share = sum(some) / len(some)
    print(f"from step {start + 1:3}: {share:.0%} of the objects changed their query")

# %% [markdown]
# In the beginning the matching jumps: a query is sent after one object now and after another one in the next step.
# (The very first step counts as a change.) Here it settles soon, because the same 16 pictures come back in every
# step. In a real training a picture comes back once an epoch, and meanwhile everything has moved. DN-DETR found this
# to be one of the reasons why DETRs learn slowly: see [chapter 22](22_later_work.ipynb).
#
# ## Two stages
#
# <img src="diagrams/two_stages.svg" alt="Two stages. Every token of the encoder predicts a score and a
# correction of a box that stands at its place, as large as its level. The 300 best become the decoder&#x27;s
# reference boxes, and their sine embedding its queries.">
#
# A learned reference point is the same for every image. The two-stage detector asks the encoder instead: every token
# proposes a box around its own cell, of side $0.05 \cdot 2^l$ on level $l$, and a class head scores it. The best 300
# become the queries of the decoder: the box is the reference, and its sine embedding, through a linear layer, gives
# position and content. (It is one training: the proposals have the same loss as everything else, in the same step,
# except that all objects are called class 0 there, since only "object or not" is asked.)


# %%
def grid_boxes(pyramid):
    """Logits of a box per token, (B, N, 4), +inf where it is not usable; which are, (B, N)."""
    centre_BN2 = pyramid.cell_references()
    sizes = enumerate(pyramid.sizes)
    side_N = torch.cat([torch.full((H * W,), 0.05 * 2**level) for level, (H, W) in sizes])
    boxes_BN4 = torch.cat([centre_BN2, side_N[:, None].expand_as(centre_BN2)], -1)
    usable_BN = ((boxes_BN4 > 0.01) & (boxes_BN4 < 0.99)).all(-1) & ~pyramid.padding_BN
    return boxes_BN4.logit().masked_fill(~usable_BN[..., None], torch.inf), usable_BN


def take(x_BNC, index_BQ):
    """Rows of every image by their index, (B, Q, C)."""
    return x_BNC.gather(1, index_BQ[..., None].expand(-1, -1, x_BNC.shape[-1]))


# %%
from dyhead_lab.detectors.detr.positions import box_sines


class TwoStageDETR(DeformableDETR):
    def __init__(self, config, backbone=None):
        super().__init__(config, backbone)
        C, transformer = config.channels, self.transformer
        transformer.enc_output = nn.Linear(C, C)
        transformer.enc_output_norm = nn.LayerNorm(C)
        transformer.pos_trans = nn.Linear(2 * C, 2 * C)
        transformer.pos_trans_norm = nn.LayerNorm(2 * C)

    def forward_features(self, maps, padding_mask):
        pyramid = self.flatten(maps, padding_mask)
        memory, _ = self.transformer.encoder(pyramid)
        queries, proposals = propose(self, memory, pyramid)
        heads = self.class_embed, self.bbox_embed
        decoded = self.transformer.decoder(queries, memory, pyramid, *heads)
        return as_sets(decoded) | {"enc_outputs": proposals}


# %%
def propose(detector, memory_BNC, pyramid):
    """Queries made of the best tokens of the encoder, and what is predicted for all tokens."""
    transformer = detector.transformer
    grid_BN4, usable_BN = grid_boxes(pyramid)
    projected = transformer.enc_output(memory_BNC * usable_BN[..., None])
    tokens_BNC = transformer.enc_output_norm(projected)
    logits_BNK = detector.class_embed[-1](tokens_BNC)
    boxes_BN4 = grid_BN4 + detector.bbox_embed[-1](tokens_BNC)
    best_BQ = logits_BNK[..., 0].topk(detector.config.queries, 1).indices
    reference = take(boxes_BN4, best_BQ).detach().sigmoid()
    sines = box_sines(reference, detector.config.channels)
    position, content = transformer.pos_trans_norm(transformer.pos_trans(sines)).chunk(2, -1)
    proposals = {"pred_logits": logits_BNK, "pred_boxes": boxes_BN4.sigmoid()}
    return Queries(content, position, reference), proposals


# %% [markdown]
# No small two-stage detector ships with the book, so here both get the same random weights, loaded strictly from the
# library's into yours.

# %%
from dyhead_lab.detectors.detr import deformable_detr as library

torch.manual_seed(1)
two_stage = replace(config, two_stage=True)
theirs, ours = library.DeformableDETR(two_stage).eval(), TwoStageDETR(two_stage).eval()
for parameter in theirs.parameters():  # away from zeros, which would hide mistakes
    nn.init.normal_(parameter, std=0.1)
ours.load_state_dict(theirs.state_dict())
with torch.no_grad():
    a, b = (detector.forward_features(maps, padding_mask) for detector in (ours, theirs))
apart = max(float((a[k] - b[k]).abs().max()) for k in ("pred_logits", "pred_boxes"))
print(f"{a['pred_boxes'].shape[1]} proposals of {a['enc_outputs']['pred_boxes'].shape[1]} tokens;",
      "differences from the library", "below 1e-4" if apart < 1e-4 else apart)  # fmt: skip

# %% [markdown]
# ## What you may have read
#
# Four sentences about this detector are often repeated.
#
# **"It converges ten times faster than DETR."** On COCO the paper says 50 epochs where DETR takes 500. Here both were
# trained on Shapes from the same backbone: DETR once for as many steps as its rival, and once for ten times as many.

# %%
from dyhead_lab.experiments.catalogue import recorded
from dyhead_lab.experiments.curves import curve, iterations_to

convergence = recorded("convergence")
EPOCH = 3000 / 8  # steps of 8 pictures until all 3,000 have been seen
LONG = "DETR, ten times as long"
for row in convergence.rows:
    steps, last = curve(convergence, row)[-1]
    sizes = (convergence.spread(row, f"AP_{size}").mean for size in ("small", "medium", "large"))
    small, medium, large = (f"{ap:.3f}" for ap in sizes)
    print(f"{row:23} {steps / EPOCH:4.1f} epochs: AP {last.text():13}", end="  ")
    print(f"small {small}, medium {medium}, large {large}")
rivals = LONG, "Deformable DETR"
epochs = {row: iterations_to(curve(convergence, row), 0.2) / EPOCH for row in rivals}
print("AP 0.2 after", " and ".join(f"{n:.1f} epochs ({row})" for row, n in epochs.items()))

# %% tags=["hide"]
from dyhead_book.figures.ap_curves import ap_curves_figure

panels = {"AP": "AP", "AP of objects below 32 x 32 pixels": "AP_small"}
curves = {
    title: {row: curve(convergence, row, metric) for row in convergence.rows}
    for title, metric in panels.items()
}
alt = (
    "AP and AP of small objects over epochs. Deformable DETR has 0.2 before its second epoch; "
    "DETR needs nearly fifty, and ends at half of its rival's AP for small objects."
)
Picture(ap_curves_figure(curves, EPOCH), alt)

# %% [markdown]
# Ten is what the paper's schedules say, not what a curve says. For an AP of 0.2 DETR needs about thirty times as many
# epochs here, and with ten times as many it ends well below its rival. For small objects it has half of its rival's AP,
# as the paper leads one to expect: it can afford one map of 10 x 10 cells, where the rival has three, the finest of 20
# x 20. For large objects it has less than half of its rival's AP too (0.200 against 0.448). We do not know why: in the
# paper large objects are those for which DETR is the better one. Two things to keep in mind. The long training of DETR
# was made once, with one seed. And a rate that falls only toward the end keeps a curve low on its way: a training that
# was planned for 24 epochs would be higher at 24 than this one was.
#
# **"Refinement and two stages bring 2 to 3 points each."** The official table, with ResNet-50 on COCO val2017 after 50
# epochs, says 1.7 and 0.7. Parameters and multiply-adds are counted here, on PyTorch's meta device, where nothing is
# computed. (What the papers call GFLOPs are multiply-adds, and theirs are means over COCO's image sizes.)

# %% tags=["hide"]
from dyhead_book.c11_deformable_detr.published import published_table

print(published_table())

# %% [markdown]
# The large step is the one before: four levels instead of one bring 5.1 points, 6.5 for small objects and 4.1 for large
# ones, and cost twice the multiply-adds.
#
# **"Most of the 300 queries are wasted."** A query that finds nothing in this picture may be the one that is needed in
# the next. Keep only the busiest queries of the trained detector and measure:

# %%
few_queries = {}
for keep in (10, 25, 50):
    cut = deepcopy(model)
    embedding = model.query_embed.weight.detach()[busiest[:keep]]
    cut.query_embed = nn.Embedding.from_pretrained(embedding)
    few_queries[keep] = shapes_ap(cut, len(unseen))
counts = [len(unseen.objects(i)["labels"]) for i in range(len(unseen))]
print(f"objects in a picture: {sum(counts) / len(counts):.1f} on average, {max(counts)} at most")
print(", ".join(f"{keep} queries: AP {ap:.3f}" for keep, ap in few_queries.items()))

# %% [markdown]
# Ten queries are more than any of these pictures has objects, and with the ten busiest ones little more than half of
# AP is left. The reason stands in the figure of places above: a query has a region and a size of its own. So 50
# queries are not 50 chances for the same object but 50 places to look. In one picture two or three of them have a
# score above 0.4; over forty pictures 36 of the 50 have it at least once ([chapter
# 20](20_what_you_may_have_read.ipynb) counts them). Learned queries have fixed places, so a detector with fewer of them
# leaves some places of the image unwatched. (Two limits: the queries that are kept were trained together with those
# that are cut, so a detector trained with ten queries might do better than this one. And a two-stage detector, which
# chooses its queries in the image, has less reason to keep 300.)
#
# **"Self-attention among the queries can go."** Each query reads the image by itself, so what is it for? Switch it
# off in the trained detector:

# %%
silent = deepcopy(model)
for layer in silent.transformer.decoder.layers:
    layer.self_attention = False
ap_talking, ap_silent = few_queries[50], shapes_ap(silent, len(unseen))
share = ap_silent / ap_talking
answer = "a" if share > 0.9 else "b" if share > 0.5 else "c"
without_talk.revisit(answer, f"AP {ap_talking:.3f} becomes {ap_silent:.3f}, {share:.0%} of it.")

# %% [markdown]
# A third of AP goes, and what goes wrong can be counted; chapter 20 does so on forty pictures. Among queries with a
# score above 0.4, pairs of the same class whose boxes overlap by more than 0.6 rise from 19 to 44, while the number of
# such queries hardly changes (98 and 101). Without self-attention a query is not told that another one already has the
# object, and both report it: doubles, the very thing that a detector of sets is to avoid.
#
# Both cuts, of queries and of self-attention, were made in a detector that had learned *with* them. What does one reach
# that never had them? `dyhead-lab experiment decoder` trains such detectors, 2,400 steps a row. *doubles* counts
# detections of score 0.3 and more of an object that a better one has found already, for each object of the validation
# pictures.

# %% tags=["hide"]
from dyhead_book.figures.record_table import recorded_table

recorded_table("decoder")

# %% [markdown]
# Trained without self-attention, the detector reaches 0.354 in place of 0.364, where switching it off took a third.
# Doubles rise from 0.20 to 0.24 an object. So the sentence is more right than the cut suggests: a detector that learns
# without self-attention finds another way, and loses little. How its queries avoid each other we have not looked at;
# each has a place and a size of its own, and that alone keeps many apart. Trained with half of the queries, it loses
# 0.034 (the cut above took 0.072): queries are missed more than self-attention is. It is one seed, on pictures of five
# objects or so. COCO has crowds, in which one place holds many objects, and there two queries may have more to tell
# each other.
#
# The lesson is the one of [chapter 07](07_dynamic_head.ipynb): switching a part off shows what a trained detector
# relies on, training without it shows what the part is worth.
#
# ## Break it
#
# Here is a `matching_cost` with one planted bug. Good experiments: the cost of a perfect query must be the lowest,
# and a better box must never cost more.

# %%
suspect = drill(COST_MISTAKES, 0)
objects_G4, labels_G = torch.tensor([[0.5, 0.5, 0.2, 0.4]]).double(), torch.tensor([1])
perfect, near, far = [0.5, 0.5, 0.2, 0.4], [0.52, 0.5, 0.2, 0.4], [0.2, 0.2, 0.2, 0.4]
for name, box in {"perfect": perfect, "near": near, "far": far}.items():
    for sure_of in (0, 1):
        logits = torch.full((1, 2), -3.0).double()
        logits[0, sure_of] = 3
        price = suspect(logits, torch.tensor([box]).double(), labels_G, objects_G4).item()
        print(f"{name:8} box, sure of class {sure_of}: {price:6.2f}")

# %% [markdown]
# When you have a guess, run `check_cost(suspect)`. The numbers 0 to 10 give eleven different bugs. There are tables for
# the other exercises too, in the modules of `dyhead_book.c11_deformable_detr` that the second cell of this chapter
# imports from.

# %% tags=["hide"]
Challenge(
    "Take the detach() out of your decoder and train again. What happens to the first layer?",
    difficulty=3,
    minutes=30,
    hints={
        "What to compare": "loss_bbox_0 and loss_bbox of both runs, for three seeds each.",
        "Where does the gradient go?": "Through the reference of layer 2 into the first box head.",
    },
    answer="This was not measured for the book. The gradient of a later layer asks the first box "
    "head for a reference from which the later layer does well, which need not be a good "
    "box. Compare the difference over three seeds with its spread before you believe it.",
)

# %% tags=["hide"]
Challenge(
    "Let every object take its cheapest query, in place of the Hungarian algorithm, and train",
    difficulty=4,
    minutes=45,
    hints={
        "Where to change it": "In assign: cost_QG.argmin(0). Two objects may then share a query.",
        "How to see it": "Compare recall on pictures with many objects that were not trained on.",
    },
    answer="Two objects that lie close may share one query, and then only one of them can be "
    "learned. Trained for 300 steps on Shapes that does no harm yet. We measured AP 0.065 "
    "with the cheapest query, 0.060 with the Hungarian algorithm. On 200 new pictures "
    "recall at IoU 0.5 was 0.16 against 0.15 where more than four objects are, 0.27 "
    "against 0.26 where fewer are. One seed: call it no difference. What would you expect "
    "once boxes are sharp?",
)

# %% [markdown]
# ## Official weights, and what came next
#
# The parameter names are the official ones, so the authors' checkpoints can be read: `load_trained(path)`, or
# `load_deformable_detr` of `dyhead_lab.detectors.official`, which finds the configuration from names and shapes. The
# library's tests hold outputs, losses and gradients against the official code, to four digits and better. The files
# are linked in the [README of the authors](https://github.com/fundamentalvision/Deformable-DETR).
#
# Deformable DETR became the ground that most later DETRs stand on. Work that changed the parts built here:
#
# - [Conditional DETR](https://arxiv.org/abs/2108.06152) (2021): cross-attention gets position and content apart, so
#   that the position alone can point at an edge of the object. It needs 7 to 10 times fewer epochs than DETR.
# - [Efficient DETR](https://arxiv.org/abs/2104.01318) (2021): queries start as the encoder's best tokens, position
#   *and* content, so that few decoder layers suffice. You build its queries in chapter 12.
# - [Sparse DETR](https://arxiv.org/abs/2111.14330) (2022): the encoder refines only tokens that the decoder will look
#   at. That is chapter 12.
# - [Group DETR](https://arxiv.org/abs/2207.13085) and [H-DETR](https://arxiv.org/abs/2207.13080) (2022): while
#   training, further groups of queries are matched too, so that an object teaches several queries at once. At
#   inference only one group is left, and there are no doubles.
# - [DETA](https://arxiv.org/abs/2212.06137) (2022): matches by IoU as older detectors do, and brings suppression
#   back. It asks how much of a DETR's success is the matching, and answers: less than thought.
# - [Mask2Former](https://arxiv.org/abs/2112.01527) (2022): uses this encoder for segmentation, with masks for boxes.
#
# [Chapter 22](22_later_work.ipynb) goes through later work part by part, and runs some of it: what changed the queries
# themselves (DAB, DN, DINO), and what made DETRs fast.
#
# ## Your detector so far

# %%
so_far("deformable_detr_tiny", MultiScaleDeformableAttention=MultiScaleDeformableAttention, **built)

# %% [markdown]
# What is left to the library are the narrow backbone and the projections.
#
# ## Recap
#
# - All levels become one sequence. Sine positions say where, the level embedding says on which level, and valid ratios
#   bring references of the image onto padded maps.
# - A query is content plus position. Each decoder layer lets queries talk, read around the reference, and correct it.
# - Corrections count in logits; the reference is detached, so each layer learns its own step.
# - Matching finds the cheapest assignment of queries to objects. It decides what is trained, and is not differentiated.
# - All queries enter the class loss, only matched ones the box losses; all sums are divided by the batch's objects.
#
# **Check yourself.**
#
# <details><summary>Why does Deformable DETR need no non-maximum suppression?</summary>
#
# Because of the matching: of several queries that find one object only the cheapest is told to say so, the others learn
# silence. Self-attention lets them know of each other, so that they can.
#
# </details>
# <details><summary>Which gradient would be missing if also the boxes of the loss were detached?</summary>
#
# All of L1 and GIoU: the box heads would never learn. Only the reference that goes to the next layer is detached.
#
# </details>
# <details><summary>What happens to a query that is never matched?</summary>
#
# It enters the class loss in every step, always as background, and learns to be silent everywhere.
#
# </details>
# <details><summary>A batch of one image needs no padding. Which lines of this chapter then do nothing?</summary>
#
# The valid ratios are one, so `on_levels` only repeats the references, and the padding mask is empty.
#
# </details>
#
# [Chapter 12](12_sparse_detr.ipynb) makes the encoder cheaper.
