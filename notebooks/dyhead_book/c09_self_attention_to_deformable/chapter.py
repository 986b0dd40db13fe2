# %% [markdown]
# # From self-attention to deformable attention
#
# | | |
# | --- | --- |
# | Time | 2 to 3 hours with the exercises, about 2 minutes to run on 2 CPU cores (a GPU changes little) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | PyTorch's modules; bilinear sampling ([chapter 03](03_deformable_convolution.ipynb)); no GPU |
# | You will build | multi-head attention, sine positions, encoder and decoder layer, DETR; deformable attention |
#
# A 3x3 convolution reads nine cells. That is enough to see an edge, and too little to see that two edges belong to the
# same motorcycle. Detectors with convolutions stack many layers until distant places have met, propose thousands of
# boxes, and throw away afterwards those that repeat a better one.
#
# [DETR](https://arxiv.org/abs/2005.12872) (Carion et al., 2020; [code](https://github.com/facebookresearch/detr))
# does without: every place of the image reads every other place, a fixed number of *queries* read the image and each
# other, and each query says one box or nothing. In this chapter you build it, load trained weights into it, and train
# it until it knows sixteen pictures by heart. Then you count what it costs, and see why [Deformable
# DETR](https://arxiv.org/abs/2010.04159) (Zhu et al., 2021) lets every query read a few points that it chooses
# itself.

# %%
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

_ = torch.manual_seed(0)

# %% tags=["hide"]
import os
from copy import deepcopy

from dyhead_book.c09_self_attention_to_deformable.attention_figures import (
    dense_and_sampled_figure,
    found_figure,
    learning_figure,
    positions_figure,
    weights_figure,
)
from dyhead_book.c09_self_attention_to_deformable.deform_attention_checks import (
    check_deform_attention,
    check_macs,
)
from dyhead_book.c09_self_attention_to_deformable.detr_checks import check_decoder_layer
from dyhead_book.c09_self_attention_to_deformable.self_attention_checks import (
    ATTENTION_MISTAKES,
    check_attention,
    check_multihead,
    check_sine_positions,
)

# %% tags=["hide"]
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.rebuilt import check_rebuilt, check_same_ap
from dyhead_book.practice.so_far import so_far
from dyhead_lab.views.figures import Picture

# %% [markdown]
# ## Predict
#
# Attention, the subject of this chapter, gives a weight to every pair of places of a map. Now the image gets twice as
# high and twice as wide.

# %%
growth = Question(
    "09 growth",
    "Height and width are doubled. By how much does the number of attention weights grow?",
    a="2 times",
    b="4 times",
    c="16 times",
)
growth.ask()

# %% [markdown]
# ## The formula: everyone reads everything
#
# A detector begins with a **backbone**, a network that has learned to classify images and gives a map of features: at
# stride 32, one cell for 32 x 32 pixels. Cut this map into its $N = H \cdot W$ cells. Each cell is a **token**: a
# vector of $C$ channels. Attention is a soft look-up. A **query** says what is looked for, every token offers a **key**
# that says what it has and a **value** that is handed over. How well query and key fit is their scalar product; a
# softmax turns the $N$ products into $N$ weights that sum to 1; what is read is the weighted mean of the values.
#
# Nobody needs to look for one thing only, so $M$ **heads** look in parallel, each with $D = C / M$ channels of its
# own ([Vaswani et al., 2017](https://arxiv.org/abs/1706.03762), written as in Deformable DETR, equation 1). Let $x_n$
# be token $n$, and $z_q$ the vector of $C$ channels that query $q$ starts from:
#
# $$\mathrm{out}_q = \sum_{m=1}^{M} W_m \sum_{n=1}^{N} A_{mqn}\, W'_m x_n, \qquad
# A_{mqn} = \mathrm{softmax}_n \frac{(U_m z_q)^\top (V_m x_n)}{\sqrt{D}}$$
#
# $U_m z_q$ is the query of head $m$, $V_m x_n$ the key, $W'_m x_n$ the value, each of $D$ channels. $A_{mqn}$ is the
# weight that query $q$ gives to token $n$ in head $m$, and $W_m$ brings what a head has read back to $C$ channels. In
# **self-attention** the queries come from the tokens themselves, $z_q = x_q$, so their number $Q$ is $N$. In
# **cross-attention** they come from elsewhere. The square root is there because a sum of $D$ independent products with
# mean 0 and standard deviation 1 has the standard deviation $\sqrt D$: with large $D$ the softmax would start almost
# one-hot, and a one-hot softmax has almost no gradient.
#
# <img src="diagrams/multihead_attention.svg" alt="Multi-head attention. Queries, keys and values go through a
# linear map each and are cut into M heads of D channels. Query times key over the square root of D gives a
# score for every pair, a softmax over the N tokens makes weights of them, and the weights sum up the values.
# The heads are joined by a last linear map.">
#
# ## Build: attention
#
# First the middle of the diagram, for tensors that are cut into heads already. Images of a batch have different
# sizes and are padded; a token of padding must get no weight at all.

# %% [markdown] tags=["workbook"]
# **Exercise 1** (difficulty 1, 10 minutes): `attention(query, key, value, padding)`. Return two tensors: what is read
# (B, M, Q, D), and the weights (B, M, Q, N).
#
# <details><summary>Hint: where to begin</summary>
#
# `query @ key.transpose(-1, -2)` multiplies every query with every key, in every image and head: (B, M, Q, N).
#
# </details>
# <details><summary>Hint: how does padding get no weight?</summary>
#
# Fill its scores with `-torch.inf` before the softmax: `scores.masked_fill(padding, -torch.inf)`. exp of that is 0.
#
# </details>
# <details><summary>Hint: near the answer</summary>
#
# Scores, divided by `math.sqrt(query.shape[-1])`; mask; `softmax(-1)`; `weights @ value`. Return what is read, and
# the weights.
#
# </details>


# %% exercise="attention"
def attention(query, key, value, padding=None):
    """What each query reads, (B, M, Q, D), and its weights, (B, M, Q, N); each head by itself.

    query (B, M, Q, D); key, value (B, M, N, D).
    padding None or (B, 1, 1, N), True where there is nothing to read.
    """
    # >>> scores over the square root of D, no weight for padding, softmax, weighted sum
    scores = query @ key.transpose(-1, -2) / math.sqrt(query.shape[-1])
    if padding is not None:
        scores = scores.masked_fill(padding, -torch.inf)
    weights = scores.softmax(-1)
    return weights @ value, weights
    # <<<


# %% check="attention"
check_attention(attention)

# %% [markdown]
# Try it as a look-up. Three tokens have the keys "left", "right" and "top" and the values 10, 20 and 60. A query
# that asks for "right" reads about 20; one that asks for "left or top" reads the mean of 10 and 60; one that asks
# for nothing reads the mean of all.

# %%
keys = 8 * torch.eye(3)
values = torch.tensor([[10.0], [20.0], [60.0]])
asked = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 1.0], [0.0, 0.0, 0.0]])
read, weights = attention(asked[None, None], keys[None, None], values[None, None])
for n, name in enumerate(("right", "left or top", "nothing")):
    shares = [round(weight, 2) for weight in weights[0, 0, n].tolist()]
    print(f"asked for {name:12}: weights {shares}, read {read[0, 0, n].item():.1f}")

# %% [markdown]
# ## Build: the heads
#
# The linear maps belong to a module. PyTorch's `nn.MultiheadAttention` keeps $U$, $V$ and $W'$ of all heads in one
# matrix `in_proj_weight` of shape $(3C, C)$, query first, then key, then value, and $W$ as `out_proj`. Yours has the
# same names, so that weights can move from one to the other.
#
# The trap is the cut. Channels 0 to $D - 1$ are head 0, the next $D$ are head 1. `(B, N, C)` becomes `(B, N, M, D)`,
# and only then the two middle axes are exchanged. A `view` straight to `(B, M, N, D)` has the right shape and mixes
# tokens with heads.

# %% [markdown] tags=["workbook"]
# **Exercise 2** (difficulty 2, 20 minutes): `forward` of `MultiheadAttention`. Use your `attention`; keep its weights
# as `self.maps`, and return a tensor (B, Q, C).
#
# <details><summary>Hint: the three maps</summary>
#
# `self.in_proj_weight.chunk(3)` gives three matrices (C, C); `F.linear(x, weight, bias)` applies one.
#
# </details>
# <details><summary>Hint: cutting and joining</summary>
#
# `x.unflatten(-1, (self.heads, -1)).transpose(1, 2)` cuts. `read.transpose(1, 2).flatten(2)` joins.
#
# </details>
# <details><summary>Hint: padding does not fit</summary>
#
# Scores are (B, M, Q, N), so (B, N) needs two axes between: `padding_BN[:, None, None]`.
#
# </details>


# %% exercise="heads"
class MultiheadAttention(nn.Module):
    """Attention with M heads; names as in nn.MultiheadAttention with batch_first=True."""

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * channels, channels))
        self.in_proj_bias = nn.Parameter(torch.zeros(3 * channels))
        self.out_proj = nn.Linear(channels, channels)
        nn.init.xavier_uniform_(self.in_proj_weight)
        nn.init.zeros_(self.out_proj.bias)

    def forward(self, query_BQC, key_BNC, value_BNC, padding_BN=None):
        """What is read, (B, Q, C). Keeps its weights, (B, M, Q, N), as ``self.maps`` to look at."""
        # >>> three linear maps, cut into heads, attention, join, out_proj
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        projected = map(F.linear, (query_BQC, key_BNC, value_BNC), weights, biases)
        q, k, v = (x.unflatten(-1, (self.heads, -1)).transpose(1, 2) for x in projected)
        padding = None if padding_BN is None else padding_BN[:, None, None]
        read_BMQD, maps = attention(q, k, v, padding)
        self.maps = maps.detach()
        return self.out_proj(read_BMQD.transpose(1, 2).flatten(2))
        # <<<


# %% check="heads"
check_multihead(MultiheadAttention)

# %%
torch.manual_seed(0)
C, M = 64, 4
mine = MultiheadAttention(C, M)
tokens = torch.randn(2, 100, C)  # two images of 10 x 10 cells
print("tokens", tuple(tokens.shape), "-> read", tuple(mine(tokens, tokens, tokens).shape))
print("weights, one map of N x N per image and head:", tuple(mine.maps.shape))
theirs = nn.MultiheadAttention(C, M, batch_first=True)
mine.load_state_dict(theirs.state_dict())  # strict: every name and shape must fit
apart = (mine(tokens, tokens, tokens) - theirs(tokens, tokens, tokens)[0]).abs().max().item()
print("difference from nn.MultiheadAttention:", "below 1e-6" if apart < 1e-6 else apart)

# %% [markdown]
# ## Build: where a token lies
#
# A sum does not know the order of its terms. Shuffle the tokens, and every query reads the same:

# %%
order = torch.randperm(100)
shuffled = tokens[:, order]
apart = (mine(tokens, shuffled, shuffled) - mine(tokens, tokens, tokens)).abs().max().item()
print("keys and values shuffled: differs by", "less than 1e-6" if apart < 1e-6 else apart)

# %% [markdown]
# A detector cannot live with that: the place *is* the answer. So every token gets a position, a vector of $C$
# channels that is added to queries and keys. The first half of its channels tells $y$, the second $x$, each as sines
# and cosines of wavelengths that grow from the whole map to very long ones:
#
# $$y = 2\pi\,\frac{\text{cells from the top edge to the far edge of this cell}}{\text{cells of the map}}, \qquad
# \big(\sin\tfrac{y}{T^{2i/F}},\; \cos\tfrac{y}{T^{2i/F}}\big)_{i = 0 \dots F/2 - 1}$$
#
# with $T = 10000$ and $F = C/2$. Cells of padding do not count, so a position is a share of the *image*, not of the
# padded batch. Deformable DETR measures to the centre of the cell instead of its far edge; that is what `centred` says.

# %% [markdown] tags=["workbook"]
# **Exercise 3** (difficulty 3, 25 minutes): `sine_positions(padding_BHW, channels, centred)`. Return (B, C, H, W):
# the first half of the channels for $y$, the second for $x$; in each, sine and cosine alternate from the shortest
# wavelength to the longest. Add $10^{-6}$ to the number of cells before you divide.
#
# <details><summary>Hint: counting cells</summary>
#
# `valid = (~padding_BHW).float()`; `valid.cumsum(1)` counts rows from the top, `valid.cumsum(2)` columns. The
# last row, `y[:, -1:]`, holds how many there are.
#
# </details>
# <details><summary>Hint: sines</summary>
#
# `x[..., None] / 10000 ** (torch.arange(0, features, 2) / features)` are the angles. Stack sine and cosine on a new
# last axis and flatten it, so that they alternate.
#
# </details>
# <details><summary>Hint: shapes at the end</summary>
#
# `torch.cat([sines of y, sines of x], -1)` is (B, H, W, C); maps have the channels second: `permute(0, 3, 1, 2)`.
#
# </details>


# %% exercise="positions"
def sine_positions(padding_BHW, channels, centred=False):
    """Sine position of every cell, (B, C, H, W); padding_BHW is True where a cell is padding."""
    # >>> count rows and columns that are no padding, as a share of 2 pi; write both as sines
    valid = (~padding_BHW).float()
    half = 0.5 if centred else 0.0
    y, x = valid.cumsum(1), valid.cumsum(2)
    y = 2 * math.pi * (y - half) / (y[:, -1:] + 1e-6)
    x = 2 * math.pi * (x - half) / (x[:, :, -1:] + 1e-6)
    features = channels // 2
    wavelengths = 10_000 ** (torch.arange(0, features, 2) / features)
    angles = [number[..., None] / wavelengths for number in (y, x)]
    halves = [torch.stack([a.sin(), a.cos()], -1).flatten(-2) for a in angles]
    return torch.cat(halves, -1).permute(0, 3, 1, 2)
    # <<<


# %% check="positions"
check_sine_positions(sine_positions)

# %% [markdown]
# How alike are the positions of two cells? Attention compares vectors by their product, so this is what a head would
# see that compared positions alone:

# %% tags=["hide"]
positions = sine_positions(torch.zeros(1, 20, 20, dtype=torch.bool), 64)[0]
figure = positions_figure(positions, [(4, 4), (10, 14), (19, 0)])
Picture(figure, alt="Similarity of a cell to all others: highest at the cell itself.")

# %% [markdown]
# Highest at the cell itself, falling off smoothly with the distance. Since half of the channels belong to $y$ and
# half to $x$, a linear map can also keep one half alone: a head can ask for "near me", "in my row", "in my column",
# or "a little further up".
#
# ## Build: an encoder layer
#
# <img src="diagrams/encoder_and_decoder_layer.svg" alt="Two layers of DETR. An encoder layer lets tokens read
# tokens, then passes each through two linear maps. A decoder layer lets queries read queries, then tokens, then
# passes each through two linear maps. Every part is added to what came in and normalised. Positions are added
# to queries and keys, never to values.">
#
# Attention moves information between tokens; two linear maps with a ReLU between them, applied to every token alike,
# work on what has arrived. Each of the two is *added* to what came in, so that a layer has to learn only a change,
# and LayerNorm keeps the sum in scale. Positions go to queries and keys, not to values: they say where to look, and
# are no part of what is read.
#
# `FlatMap` is the map as the layers want it. The published layers also have dropout of 0.1 behind each part; it has
# no weights, and yours leave it out, as the small detectors here do.

# %%
from dataclasses import dataclass


@dataclass(frozen=True)
class FlatMap:
    """A feature map as a sequence of N = H * W tokens."""

    tokens_BNC: torch.Tensor
    positions_BNC: torch.Tensor
    padding_BN: torch.Tensor  # True where a token is padding


# %%
class EncoderLayer(nn.Module):
    """Attention over all tokens, then two linear layers; each added to its input and normalised."""

    def __init__(self, config):
        super().__init__()
        C = config.channels
        self.self_attn = MultiheadAttention(C, config.heads)
        self.linear1 = nn.Linear(C, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, C)
        self.norm1 = nn.LayerNorm(C)
        self.norm2 = nn.LayerNorm(C)

    def forward(self, memory_BNC, tokens):
        """(B, N, C) in and out; tokens is a FlatMap."""
        where = memory_BNC + tokens.positions_BNC
        read = self.self_attn(where, where, memory_BNC, tokens.padding_BN)
        x = self.norm1(memory_BNC + read)
        return self.norm2(x + self.linear2(self.linear1(x).relu()))


# %% [markdown]
# The sizes come from a configuration. This one is that of `detr_tiny`, a small DETR that the library ships: 64
# channels, 4 heads, 2 encoder layers, 3 decoder layers. One of its layers, with its weights, on a map of 10 x 10
# cells:

# %%
from dyhead_lab.zoo import load_trained

trained = load_trained("detr_tiny")
config = trained.model.config
layer = EncoderLayer(config)
layer.load_state_dict(trained.model.transformer.encoder.layers[0].state_dict())
padding = torch.zeros(2, 10, 10, dtype=torch.bool)
positions = sine_positions(padding, config.channels).flatten(2).transpose(1, 2)
tokens = FlatMap(torch.randn(2, 100, config.channels), positions, padding.flatten(1))
memory = layer(tokens.tokens_BNC, tokens)
theirs = trained.model.transformer.encoder.layers[0](tokens.tokens_BNC, tokens)
apart = (memory - theirs).abs().max().item()
print("memory", tuple(memory.shape))
print("difference from the library's layer:", "below 1e-5" if apart < 1e-5 else apart)

# %% [markdown]
# ## Build: a decoder layer
#
# The decoder does not work on tokens but on $Q$ **object queries**. Each of them will say one box or nothing. Mind the
# word: above, a query was the vector that an attention compares with the keys; an object query is a slot that passes
# through all layers of the decoder. It is two vectors: a content, which starts at zero and is what the layers change,
# and a learned position, which stays the same. Their sum is what an attention gets as query (in part 1 below also as
# key); the value is the content alone. A layer has three parts:
#
# 1. Object queries read object queries. This is how two of them agree who takes which object. It is the only step in
#    which one learns of another, and DETR has no *non-maximum suppression* (NMS) behind it, the step by which other
#    detectors drop a box that overlaps a better one ([chapter 08](08_dynamic_head_on_detectors.ipynb)).
# 2. Object queries read the memory, the encoder's output: *cross-attention*.
# 3. Two linear layers.

# %% [markdown] tags=["workbook"]
# **Exercise 4** (difficulty 2, 20 minutes): `forward` of `DecoderLayer`, the three parts above. `tokens` is a
# FlatMap; return the new content (B, Q, C).
#
# <details><summary>Hint: the first part</summary>
#
# Query and key are both `query_BQC + position_BQC`, the value is `query_BQC`. Add what is read, then `self.norm1`.
#
# </details>
# <details><summary>Hint: the second part</summary>
#
# The query is `x + position_BQC` with the new `x`; the key is the memory plus `tokens.positions_BNC`, the value the
# memory alone; padding is `tokens.padding_BN`.
#
# </details>
# <details><summary>Hint: the third part</summary>
#
# As in the encoder layer, with `self.norm3`.
#
# </details>


# %% exercise="decoder_layer"
class DecoderLayer(nn.Module):
    """Attention among queries, attention into the memory, two linear layers; add and norm each."""

    def __init__(self, config):
        super().__init__()
        C = config.channels
        self.self_attn = MultiheadAttention(C, config.heads)
        self.multihead_attn = MultiheadAttention(C, config.heads)
        self.linear1 = nn.Linear(C, config.feedforward)
        self.linear2 = nn.Linear(config.feedforward, C)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(C) for _ in range(3))

    def forward(self, query_BQC, position_BQC, memory_BNC, tokens):
        """Content of the queries, (B, Q, C)."""
        # >>> queries read queries, queries read the memory, two linear layers
        q = k = query_BQC + position_BQC
        x = self.norm1(query_BQC + self.self_attn(q, k, query_BQC))
        q, k = x + position_BQC, memory_BNC + tokens.positions_BNC
        x = self.norm2(x + self.multihead_attn(q, k, memory_BNC, tokens.padding_BN))
        return self.norm3(x + self.linear2(self.linear1(x).relu()))
        # <<<


# %% check="decoder_layer"
check_decoder_layer(DecoderLayer)

# %% [markdown]
# ## Build: the transformer
#
# A stack of each. The decoder keeps the content after *every* layer: each of them predicts boxes and gets a loss of its
# own while DETR learns (an *auxiliary* loss), and only the last one counts when it detects. Beside them stands the
# network that makes a box of a content, three linear layers.


# %%
class Encoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList(EncoderLayer(config) for _ in range(config.encoder_layers))

    def forward(self, tokens):
        memory = tokens.tokens_BNC
        for layer in self.layers:
            memory = layer(memory, tokens)
        return memory


class Decoder(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.decoder_layers))
        self.norm = nn.LayerNorm(config.channels)

    def forward(self, position_BQC, memory_BNC, tokens):
        x, states = torch.zeros_like(position_BQC), []
        for layer in self.layers:
            x = layer(x, position_BQC, memory_BNC, tokens)
            states.append(self.norm(x))
        return states


# %%
class Transformer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.encoder, self.decoder = Encoder(config), Decoder(config)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.xavier_uniform_(parameter)


class BoxHead(nn.Module):
    """Three linear layers: (B, Q, C) -> (B, Q, 4), the logits of a box."""

    def __init__(self, channels):
        super().__init__()
        widths = (channels, channels, 4)
        self.layers = nn.ModuleList(nn.Linear(channels, width) for width in widths)

    def forward(self, x):
        for layer in self.layers[:-1]:
            x = layer(x).relu()
        return self.layers[-1](x)


# %% [markdown]
# ## Build: DETR
#
# <img src="diagrams/detr.svg" alt="DETR. The backbone&#x27;s last map, 25 x 34 cells, plus sine positions, goes
# through six encoder layers of self-attention. 100 learned queries read it through six decoder layers. Each
# gives a class or no object, and a box. To learn, the Hungarian algorithm pairs predictions and objects one to
# one.">
#
# What is left is the frame: a backbone, a convolution that brings its map to $C$ channels, the queries, two heads.
# Every query gives logits for the $K$ classes and one more for **no object**, and a box $(c_x, c_y, w, h)$ as shares
# of the image, through a sigmoid.
#
# To learn from a *set* of boxes one must know which prediction answers for which object. DETR prices every pair, by
# class and by how far the boxes are apart, and takes the assignment of least total price (the *Hungarian algorithm*
# finds it); all other predictions shall say "no object". SciPy solves it:

# %%
from scipy.optimize import linear_sum_assignment

price = np.array([[0.9, 0.2], [0.1, 0.8], [0.3, 0.3]])  # three predictions, two objects
prediction, thing = linear_sum_assignment(price)
for p, o in zip(prediction, thing, strict=True):
    print(f"prediction {p} answers for object {o}")
print("the others say no object; together the pairs cost", price[prediction, thing].sum().round(2))

# %% [markdown]
# The matching and its losses come from the library here; [chapter 11](11_deformable_detr.ipynb) builds them. First
# what all detectors of this family share: images in, losses or boxes out.

# %%
from dyhead_lab.detectors.detr.detr import LOSS_WEIGHTS
from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher
from dyhead_lab.detectors.detr.set_criterion import SetCriterion
from dyhead_lab.detectors.image_batch import normalise_targets, pad_images, to_pixels


class SetDetector(nn.Module):
    """Losses while it trains, one dict of boxes, scores and labels per image when it detects."""

    def forward(self, images, targets=None):
        batch, padding_mask = pad_images(images)
        outputs = self.forward_features(self.backbone(batch), padding_mask)
        if self.training:
            goals = normalise_targets(targets, images, self.criterion.classes)
            return self.criterion.weigh(self.criterion(outputs, goals))
        pairs = zip(outputs["pred_logits"], outputs["pred_boxes"], images, strict=True)
        return [self.select(logits, boxes, *image.shape[1:]) for logits, boxes, image in pairs]

    def select(self, logits_QK, boxes_Q4, height, width):
        scores, labels = logits_QK.softmax(-1)[:, :-1].max(-1)  # the last column is "no object"
        best = scores.argsort(descending=True)
        boxes = to_pixels(boxes_Q4[best], height, width)
        return {"boxes": boxes, "scores": scores[best], "labels": labels[best]}


# %% tags=["hide"]
from dyhead_lab.data.shapes import draw_image

pictures = [torch.from_numpy(draw_image(2026, n)[0]).permute(2, 0, 1) / 255 for n in range(2)]
pictures[1] = pictures[1][:, :120]  # smaller, so that there is padding

# %% [markdown]
# Then the detector itself. `forward_features` goes from the backbone's map to predictions.

# %% [markdown] tags=["workbook"]
# **Exercise 5** (difficulty 3, 30 minutes): `forward_features` of `DETR`. `features` is a list with one map (B, C',
# h, w), `padding_mask` is (B, H, W) at the size of the images. Return a dict: `pred_logits` (B, Q, K + 1) and
# `pred_boxes` (B, Q, 4) of the last decoder layer, and `aux_outputs`, a list of such dicts of the layers before it.
#
# <details><summary>Hint: the map as tokens</summary>
#
# `x = self.input_proj(features[0])` is (B, C, H, W). The padding mask is at image resolution:
# `F.interpolate(padding_mask[:, None].float(), x.shape[-2:])[:, 0].bool()` brings it to the map. Tokens are
# `x.flatten(2).transpose(1, 2)`, and positions likewise.
#
# </details>
# <details><summary>Hint: the queries</summary>
#
# `self.query_embed.weight` is (Q, C) and the same for all images: `.expand(len(memory), -1, -1)`.
#
# </details>
# <details><summary>Hint: what to return</summary>
#
# A dict `pred_logits`, `pred_boxes` for every decoder layer; that of the last layer is what is returned, the earlier
# ones as a list under `aux_outputs`.
#
# </details>


# %% exercise="detr"
class DETR(SetDetector):
    def __init__(self, config, backbone):
        super().__init__()
        C = config.channels
        self.config, self.backbone = config, nn.Sequential(backbone)
        self.input_proj = nn.Conv2d(config.feature_channels, C, 1)
        self.transformer = Transformer(config)
        self.query_embed = nn.Embedding(config.queries, C)
        self.class_embed = nn.Linear(C, config.classes + 1)
        self.bbox_embed = BoxHead(C)
        matcher = HungarianMatcher(1.0, focal=False)
        self.criterion = SetCriterion(config.classes, matcher, LOSS_WEIGHTS)

    def forward_features(self, features, padding_mask):
        # >>> map to tokens with positions, encoder, decoder, heads on every layer's content
        x = self.input_proj(features[0])
        padding = F.interpolate(padding_mask[:, None].float(), x.shape[-2:])[:, 0].bool()
        maps = x, sine_positions(padding, self.config.channels)
        tokens = FlatMap(*(a.flatten(2).transpose(1, 2) for a in maps), padding.flatten(1))
        memory = self.transformer.encoder(tokens)
        queries = self.query_embed.weight.expand(len(memory), -1, -1)
        states = self.transformer.decoder(queries, memory, tokens)
        both = [(self.class_embed(x), self.bbox_embed(x).sigmoid()) for x in states]
        *earlier, last = ({"pred_logits": logits, "pred_boxes": boxes} for logits, boxes in both)
        return {**last, "aux_outputs": earlier}
        # <<<


# %% check="detr"
check_rebuilt("detr_tiny", pictures, DETR=DETR)

# %% [markdown]
# The check has built `detr_tiny` anew around *your* DETR, filled it strictly with the shipped weights, and compared the
# detections in two images of different sizes. The same for its AP on sixty pictures. (AP, average precision, is the
# measure of [chapter 01](01_feature_pyramid.ipynb): 0 for nothing right, 1 for all objects found before any mistake.)

# %%
check_same_ap("detr_tiny", DETR=DETR)

# %% [markdown]
# The same AP: every part of yours is in its place. It took patience. `detr_tiny` was trained for 24,000 steps, 64
# passes over its data. After six passes, when the Deformable DETR of [chapter 11](11_deformable_detr.ipynb) has all of
# its AP on the validation pictures, 0.36, this DETR had 0.003; at the end it has 0.223. The published DETR takes 500
# passes over COCO, the 118,000 photographs on which detectors are compared.
#
# ## It learns
#
# Can yours learn at all? The quickest test of any detector is whether it can learn a handful of pictures by heart. If
# it cannot, something is broken, and no amount of data will mend it. Sixteen pictures of Shapes, 95 objects. The last
# stage of the backbone is *dilated*: it has stride 1 in place of 2, and its taps stand further apart instead. So its
# map has stride 16, not 32, and 10 x 10 cells for 160 pixels. (Papers call a DETR on such a map DC5, for dilated C5.)

# %%
from dataclasses import replace

from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_lab.detectors.backbones.narrow_resnet import NarrowResNet
from dyhead_lab.detectors.detr.configured import Coarsest

data = DrawnShapes(16, seed=9)
images, targets = zip(*((data.image(i), data.objects(i)) for i in range(16)), strict=True)
# The backbone has learned Shapes, in another detector.
backbone = Coarsest(NarrowResNet(pretrained=True, dilation=True)).eval()
torch.manual_seed(0)
detr = DETR(replace(config, queries=20), backbone)
with torch.no_grad():  # the backbone is frozen, so its maps are computed once
    batch, padding_mask = pad_images(images)
    features = detr.backbone(batch)
goals = normalise_targets(targets, images, config.classes)
print("maps", tuple(features[0].shape), "-", sum(len(t["labels"]) for t in targets), "objects")

# %% tags=["hide"]
from dyhead_lab.evaluation.coco_metric import detect_dataset, evaluate


def ap_on_the_16(model):
    """AP, IoU 0.50:0.95, on the pictures that it learns."""
    with torch.no_grad():
        return float(evaluate(data, detect_dataset(model, data))["AP"])


STEPS = 20 if "DYHEAD_FAST" in os.environ else 600  # tests of the book take a handful

# %% [markdown]
# The learning rate warms up for a tenth of the steps and falls to nothing at the end; gradients are clipped, since
# the first steps of a transformer can be violent. Each step matches 20 predictions with the objects of 16 pictures
# for each of three decoder layers: 48 small assignments.

# %%
weights = [p for name, p in detr.named_parameters() if not name.startswith("backbone")]
optimiser = torch.optim.AdamW(weights, weight_decay=1e-4)
schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 1e-3, STEPS, pct_start=0.1)
before = deepcopy(detr).eval()
detr.eval()  # batch normalisation keeps its statistics; nothing else here has a training mode
losses, ap = [], {0: ap_on_the_16(detr)}
for step in range(1, STEPS + 1):
    outputs = detr.forward_features(features, padding_mask)
    terms = detr.criterion.weigh(detr.criterion(outputs, goals))
    loss = sum(terms.values())
    optimiser.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(weights, 0.5)
    optimiser.step()
    schedule.step()
    losses.append(loss.item())
    if step % (STEPS // 5) == 0:
        ap[step] = ap_on_the_16(detr)
        print(f"step {step:3}: loss {losses[-1]:6.2f}, AP on the 16 pictures {ap[step]:.3f}")

# %% tags=["hide"]
figure = learning_figure(losses, ap)
Picture(figure, alt="The loss falls from 25 to below 1 while AP rises from 0.")

# %% [markdown]
# Three of the sixteen, those with the fewest objects. Dashed in white stand the true boxes, in colours what was
# found:

# %% tags=["hide"]
shown = sorted(range(16), key=lambda i: len(targets[i]["labels"]))[:3]
three, truth = [images[i] for i in shown], [targets[i] for i in shown]
with torch.no_grad():
    figure = found_figure(three, truth, detr(three), data.categories)
Picture(figure, alt="Three pictures of shapes: true boxes, and those found; they agree.")

# %% [markdown]
# It knows these pictures by heart. To find objects in *any* picture it needs many pictures and many passes, which is
# the subject of [chapter 13](13_training_on_coco.ipynb).
#
# What has the training done to attention? Here are the maps of the last decoder layer, averaged over the heads, for
# the four surest queries of the first picture; above before training, below after it. All have one scale.


# %%
def where_it_looks(model, image, queries):
    """Cross-attention of the last decoder layer, mean over heads: (len(queries), h, w)."""
    with torch.no_grad():
        model([image])
    maps_QN = model.transformer.decoder.layers[-1].multihead_attn.maps[0].mean(0)
    side = math.isqrt(maps_QN.shape[1])
    return maps_QN[queries].unflatten(1, (side, side))


# %% tags=["hide"]
with torch.no_grad():
    predicted = detr.forward_features([features[0][:1]], padding_mask[:1])
surest = predicted["pred_logits"][0].softmax(-1)[:, :-1].amax(-1).argsort(descending=True)[:4]
boxes = to_pixels(predicted["pred_boxes"][0, surest], 160, 160).detach()
names = [data.categories[i] for i in predicted["pred_logits"][0, surest, :-1].argmax(-1)]
drawn, outlined = {}, {}
for when, model in {"before": before, "after": detr}.items():
    for n, one in enumerate(where_it_looks(model, images[0], surest)):
        title = f"{when}, query {surest[n]}" if when == "before" else f"{when}: {names[n]}"
        drawn[title], outlined[title] = one, boxes[n]
figure = weights_figure(images[0], drawn, "attention weight of a cell", boxes=outlined)
Picture(figure, alt="Attention of four queries: even before training, gathered in places after it.")

# %% tags=["hide"]
for when, model in {"before": before, "after": detr}.items():
    where_it_looks(model, images[0], surest)
    A_MQN = model.transformer.decoder.layers[-1].multihead_attn.maps[0].clamp(min=1e-12)
    entropy = -(A_MQN * A_MQN.log()).sum(-1).mean() / math.log(A_MQN.shape[-1])
    largest = A_MQN.amax(-1).mean()
    print(f"{when:6}: entropy {entropy:.2f} of the most possible, largest weight {largest:.3f}")

# %% [markdown]
# Some queries look at their object, others at a corner of it, and others at something else altogether: a detector
# that has only sixteen pictures to know can tell a picture by any part of it. (On COCO, DETR's published maps lie on
# the ends of objects: heads and legs.) The **entropy** $-\sum_n A_n \ln A_n$ of a map is $\ln N$ when all $N$ weights
# are equal and 0 when one token gets everything. Before training the maps are almost even; training has sharpened
# them.
#
# ## What it costs
#
# There are $N$ tokens, and each has a weight for each of $N$ tokens. Count one layer in multiply-adds, beside a layer
# in which each token reads $P$ points per head on one map (**deformable attention**, which comes below). Dense: four
# projections of $C \times C$ for every token, the scores, the weighted sum. Deformable, for every token: two
# projections (value, output), linear maps to $2 M P$ offsets and $M P$ weights, and for each of the $C$ channels $P$
# samples, of four corners and one weight each.

# %% [markdown] tags=["workbook"]
# **Exercise 6** (difficulty 2, 15 minutes): `attention_macs(N, C, M, P)`. Return two whole numbers, the multiply-adds
# of dense and of deformable attention. Biases and the softmax do not count.
#
# <details><summary>Hint: do heads make it dearer?</summary>
#
# No. $M$ heads of $C / M$ channels cost what one head of $C$ channels costs: $N \cdot N \cdot C$ for the scores,
# and as much for the sum.
#
# </details>
# <details><summary>Hint: what does a sample cost?</summary>
#
# Five multiply-adds for each of its $D$ channels. $M P$ samples of $D$ channels are $P \cdot C$ numbers.
#
# </details>


# %% exercise="macs"
def attention_macs(N, C, M, P):
    """Multiply-adds of one layer of attention among N tokens: dense, and deformable on one map."""
    # >>> projections, scores and sum; projections, offsets and weights, samples
    dense = 4 * N * C * C + 2 * N * N * C
    deformable = 2 * N * C * C + 3 * N * C * M * P + 5 * N * P * C
    return dense, deformable
    # <<<


# %% check="macs"
check_macs(attention_macs)

# %% [markdown]
# The check has counted them while PyTorch's and the library's layers ran. Now an image of 800 x 1066 pixels, at the
# strides of a backbone. COCO calls an object small below $32^2$ pixels; take one of 24 x 24.

# %%
H, W, C, M, P = 800, 1066, 256, 8, 4
print("stride  tokens N  tokens in 24 x 24  weights of a layer   dense  deformable")
tokens_at = {s: math.ceil(H / s) * math.ceil(W / s) for s in (64, 32, 16, 8)}
for stride, N in tokens_at.items():
    dense, deformable = (macs / 1e9 for macs in attention_macs(N, C, M, P))
    gigabytes = 4 * M * N * N / 1e9
    small, costs = (24 / stride) ** 2, f"{dense:7.2f} {deformable:8.2f} GMAC"
    print(f"{stride:6} {N:9,} {small:18.2f} {gigabytes:16.2f} GB {costs}")
several = sum(tokens_at.values())
print(f"all four: {several:,} tokens, {several / tokens_at[32]:.0f} times those of stride 32")

# %%
from dyhead_book.figures.cost_curves import growth_figure

sides = (8, 16, 32, 64, 128)
counts = [side * side for side in sides]
names = "dense, N x N", "deformable, N x P"
reads = [n * n for n in counts], [n * P for n in counts]
macs = zip(*(attention_macs(n, C, M, P) for n in counts), strict=True)
panels = {
    "weights of one head, all queries": dict(zip(names, reads, strict=True)),
    "multiply-adds of a layer": dict(zip(names, macs, strict=True)),
}
figure = growth_figure(counts, panels, marks={"stride 32": tokens_at[32], "stride 8": tokens_at[8]})
Picture(figure, alt="Cost against tokens, logarithmic: dense rises twice as steeply as deformable.")

# %%
times = counts[-1] ** 2 // counts[-2] ** 2
growth.revisit("c", f"4 times the tokens: at 128 x 128 {times} times the weights of 64 x 64.")

# %% [markdown]
# Three things follow.
#
# **Small objects suffer.** DETR reads the map of stride 32, where an object of 24 x 24 pixels fills half a token. A
# finer map would help, and it is out of reach: at stride 8 the weights of one layer fill gigabytes, and the backward
# pass needs those of all six. What a finer map is worth is known from the [published
# table](https://github.com/fundamentalvision/Deformable-DETR) of Deformable DETR (ResNet-50, 50 epochs, COCO
# val2017):
#
# | reads | AP | AP small |
# | --- | --- | --- |
# | one map of stride 32 | 39.4 | 20.6 |
# | one map of stride 16 (DC5) | 41.5 | 24.1 |
# | four maps, strides 8 to 64 | 44.5 | 27.1 |
#
# **Several maps are dearer than one.** The four maps have about 20 times the tokens of DETR's one map of stride 32.
# The encoder of Deformable DETR is linear in $N$, but $N$ has grown; that is why Sparse DETR exists ([chapter
# 12](12_sparse_detr.ipynb)).
#
# **Even maps learn slowly.** With $g$ the gradient at $\mathrm{out}$, the score $s_n$ receives $A_n\, g^\top (v_n -
# \mathrm{out})$: the weight, times what the token has to say beyond the mean. A fresh layer weighs all tokens about
# alike, so each score gets about $1/N$ of the signal:

# %%
torch.manual_seed(0)
for N in (100, 850, 3350, 13400):
    scores = torch.zeros(N, requires_grad=True)
    value = torch.randn(N, 32)
    (scores.softmax(0) @ value).sum().backward()
    size = scores.grad.square().mean().sqrt()
    print(f"N = {N:6,}: root mean square of the gradient at a score {size:.6f}")

# %% [markdown]
# This is the explanation that Deformable DETR's authors give for DETR's 500 epochs: it takes long until even maps have
# become sharp. DETR reaches AP 42.0 in 500 epochs; with a last stage of stride 16 (DC5) 43.3 in 500 and 35.3 in 50;
# Deformable DETR reaches 44.5 in 50 (same table).
#
# ## The formula: a few points
#
# **Deformable attention** (Deformable DETR, equation 2) asks every query for $P$ points in each head instead of $N$
# weights:
#
# $$\mathrm{out}_q = \sum_{m=1}^{M} W_m \sum_{p=1}^{P} A_{mqp}\, W'_m\, x(p_q + \Delta p_{mqp})$$
#
# - $p_q$ is the **reference point** of the query: in the encoder its own place.
# - $\Delta p_{mqp}$ is an **offset**. A linear layer computes it from the query's feature.
# - $A_{mqp}$ is a weight, the softmax over $p$ of another linear layer. There are no keys: nothing is compared.
# - $x(\cdot)$ is bilinear sampling, as in deformable convolution ([chapter 03](03_deformable_convolution.ipynb)).
#
# <img src="diagrams/dense_and_deformable.svg" alt="Two ways to read a map of 8 x 8 cells. On the left a query
# compares itself with all 64 tokens and takes a weighted mean of them. On the right it predicts four places
# near its reference point and the weight of each, and reads between the cells there.">
#
# Papers write it as a set. Let $\Omega_{qk}$ be the places that query $q$ reads. (The $k$ stands for *key*: papers call
# everything that is read a key, also here, where nothing is compared.) In dense attention the set is the whole map,
# $|\Omega_{qk}| = N$, and a map of $N$ queries costs $O(N^2)$. Deformable attention makes the set small,
# $|\Omega_{qk}| = K \ll N$, and costs $O(NK)$; this $K$ counts places and is not the $K$ classes of DETR above. [Sparse
# DETR](https://arxiv.org/abs/2111.14330) makes the other factor small: only $S$ salient tokens are queries, $O(SK)$.
# (This book writes $P$ for points per head and level, so $K = L P$ in each head, and $T$ for kept tokens.) And the
# first weight of a point is $1/K$ in place of $1/N$, so that its score gets a signal from the first step on.
#
# | | queries | each reads | cost | weights at N = 13,400, P = 4 |
# | --- | --- | --- | --- | --- |
# | DETR | $N$ | $N$ | $O(N^2)$ | 180 million a head |
# | Deformable DETR | $N$ | $K$ | $O(NK)$ | 54 thousand |
# | Sparse DETR, a tenth kept | $S = N / 10$ | $K$ | $O(SK)$ | 5 thousand |
#
# ## Build: deformable attention on one map
#
# | | shape | |
# | --- | --- | --- |
# | `value_HWMD` | (H, W, M, D) | $W'_m x$, still a map |
# | `reference_Q2` | (Q, 2) | $p_q$ as (x, y), in cells; the centre of the first cell is (0, 0) |
# | `offsets_QMP2` | (Q, M, P, 2) | $\Delta p$ as (x, y), in cells |
# | `weights_QMP` | (Q, M, P) | $A$, after the softmax |
#
# `bilinear(image_HW, p_y, p_x)` is ready: it is the function of chapter 03, and gives zero outside the map.

# %%
from dyhead_lab.ops.numba_reference.loops import bilinear

two_rows = np.arange(6.0).reshape(2, 3)
bilinear(two_rows, 0.5, 1.0)  # column 1, halfway between 1 in row 0 and 4 in row 1

# %% [markdown] tags=["workbook"]
# **Exercise 7** (difficulty 2, 20 minutes): `deform_attention(value_HWMD, reference_Q2, offsets_QMP2, weights_QMP)`
# in NumPy, with plain loops. Return (Q, M, D).
#
# <details><summary>Hint: where to begin</summary>
#
# Loops over q, m and p; inside, one position for all D channels: `reference_Q2[q] + offsets_QMP2[q, m, p]`.
#
# </details>
# <details><summary>Hint: the numbers differ everywhere</summary>
#
# A point is (x, y), but `bilinear` takes the row first: `p_y`, then `p_x`.
#
# </details>
# <details><summary>Hint: nearly right</summary>
#
# Every point *adds* to the output: `+=`, not `=`.
#
# </details>


# %% exercise="deform_attention"
def deform_attention(value_HWMD, reference_Q2, offsets_QMP2, weights_QMP):
    """out(q) = sum over points p of A_mqp x_m(p_q + dp_mqp), each head m by itself: (Q, M, D)."""
    Q, M, P = weights_QMP.shape
    D = value_HWMD.shape[-1]
    out_QMD = np.zeros((Q, M, D))
    # >>> for every query, head and point: its position, and its weighted sample of each channel
    for q in range(Q):
        for m in range(M):
            for p in range(P):
                p_x, p_y = reference_Q2[q] + offsets_QMP2[q, m, p]
                for d in range(D):
                    sample = bilinear(value_HWMD[:, :, m, d], p_y, p_x)
                    out_QMD[q, m, d] += weights_QMP[q, m, p] * sample
    # <<<
    return out_QMD


# %% check="deform_attention"
check_deform_attention(deform_attention)

# %% [markdown]
# ## Look: both on a photograph
#
# A motorcycle in its workshop. The backbone of `everyday`, a detector of photographs that [chapter
# 08](08_dynamic_head_on_detectors.ipynb) looks at, makes a map of stride 32 of it, as DETR reads it. One query
# stands on the front wheel. Dense attention, here with no projections at all, weighs every token by the cosine of
# its feature with the query's. Deformable attention, at the first step of its training, has a ring of points with
# equal weights: nothing about the image decides where they lie, not yet.

# %%
from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.data.photographs import photograph

photo = photograph("workshop")
everyday = load_trained("everyday").model
with torch.no_grad():
    x = everyday.backbone.body(pad_images([photo])[0])["c5"]  # (1, C, h, w)
C, h, w = x.shape[1:]
tokens = F.normalize(x.flatten(2).transpose(1, 2), dim=-1)[:, None]  # one head
row, column = round(0.74 * h), round(0.82 * w)
asked = 4 * math.sqrt(C) * tokens[:, :, [row * w + column]]  # the scores are 4 times a cosine
read, weights = attention(asked, tokens, tokens)
print(f"{h} x {w} = {h * w:,} tokens; the largest weight is {weights.max() * h * w:.0f} times 1/N")

# %%
M, P = 8, 4
ring = MultiScaleDeformableAttention(64, levels=1, heads=M, points=P).sampling_offsets.bias
offsets = ring.detach().view(M * P, 2)  # cells
place = torch.tensor([column + 0.5, row + 0.5])
size = torch.tensor([w, h])
locations = (place + offsets) / size
query = (place / size * torch.tensor([photo.shape[2], photo.shape[1]])).tolist()
dense = weights[0, 0, 0].view(h, w)
figure = dense_and_sampled_figure(photo, dense, locations, torch.full((M * P,), 1 / P), query)
Picture(figure, alt="The workshop twice: dense weights all over it; 32 points near a query.")

# %% [markdown]
# Neither is better in itself. Dense attention finds the other wheel at once: it looks alike, and the distance does
# not matter. Deformable attention has to learn an offset that leads there, or read a coarser level on which it is
# near. What it gains is a cost per query that does not grow with the image, and a start from which it learns.
# [Chapter 10](10_multi_scale_deformable_attention.ipynb) builds the layer.
#
# ## What is said about it
#
# **"Deformable attention replaces self-attention; self-attention can go."** In the *encoder* it is replaced, and so
# is the cross-attention of the decoder. Among the *queries* of the decoder it stays: Deformable DETR keeps
# `nn.MultiheadAttention` there, because 300 queries are few and do not form a map that could be sampled. What does it
# do? Take it out of the detector that you have trained, and count boxes with a score above one half:

# %%
alone = deepcopy(detr)
for layer in alone.transformer.decoder.layers:  # what is read becomes zero; the residual path stays
    nn.init.zeros_(layer.self_attn.out_proj.weight)
    nn.init.zeros_(layer.self_attn.out_proj.bias)
objects = sum(len(target["labels"]) for target in targets)
for name, model in {"as trained": detr, "queries do not see each other": alone}.items():
    with torch.no_grad():
        sure = sum(int((one["scores"] > 0.5).sum()) for one in model(list(images)))
    print(f"{name:30}: AP {ap_on_the_16(model):.3f}, {sure} sure boxes for {objects} objects")

# %% [markdown]
# This shows how much a trained detector leans on it, not what one would learn that never had it; the first challenge
# below trains that one. The DETR paper finds that NMS still helps the first decoder layer and no longer the later ones:
# the queries have sorted it out among themselves.
#
# **"300 queries are a waste: an image has seven objects."** Spare queries are how DETR survives crowded images: an
# image with more objects than queries cannot be solved. And what do they cost? Compare the queries of a decoder layer
# with the tokens of an encoder layer, linear layers of 1024 included:

# %%
C, M, P, wide = 256, 8, 4, 1024
queries, tokens = 300, several
among_queries = attention_macs(queries, C, M, P)[0]
into_memory = attention_macs(queries, C, M, 4 * P)[1]  # four levels: 4 P points a head
decoder_layer = among_queries + into_memory + 2 * queries * C * wide
encoder_layer = attention_macs(tokens, C, M, 4 * P)[1] + 2 * tokens * C * wide
for name, cost in {"300 queries": decoder_layer, f"{tokens:,} tokens": encoder_layer}.items():
    print(f"{name:13}: {cost / 1e9:5.2f} GMAC a layer")

# %% [markdown]
# (The values of the memory are projected once more for each decoder layer, which costs the same for one query as for
# 300.) Where queries come from matters more than how many there are: see top-k queries in
# [chapter 12](12_sparse_detr.ipynb).
#
# **"12 encoder layers do not train, because gradients vanish."** Sparse DETR's authors report that a deeper encoder
# fails without, and gains with, a loss on each encoder layer. Is it a vanishing gradient? Look at fresh detectors of
# yours with more and more encoder layers, and at the gradient that arrives at the first of them:

# %%
for depth in (2, 6, 12, 24):
    torch.manual_seed(0)
    deep = DETR(replace(config, encoder_layers=depth, queries=20), backbone).eval()
    outputs = deep.forward_features(features, padding_mask)
    sum(deep.criterion.weigh(deep.criterion(outputs, goals)).values()).backward()
    norms = [float(layer.linear1.weight.grad.norm()) for layer in deep.transformer.encoder.layers]
    first, last = norms[0], norms[-1]
    print(f"{depth:2} encoder layers: gradient at the last {last:.3f}, at the first {first:.3f}")

# %% [markdown]
# In the two deepest detectors the gradient loses about five per cent a layer: over twelve layers about a half is left,
# over 24 less than a third. A constant factor for each layer is what "vanishing" means, but this factor is near 1,
# since residual connections hand most of the gradient on, and AdamW, which divides by the size of a gradient, still
# trains a layer that gets half. So the paper's failure is real as an outcome of its trainings, but a gradient that
# has vanished is not seen at the start, at least not in a network this small. The loss on each encoder layer also
# says early on *what* a token should know. [Chapter 12](12_sparse_detr.ipynb) builds it.
#
# ## Break it
#
# Here is an `attention` with one planted bug. Find it by experiment, before you ask the check. Good experiments have
# an answer that you know: values that are all 1 must give 1, a query alone must get the same answer as together with
# others, and what stands in padding must not matter.

# %%
suspect = drill(ATTENTION_MISTAKES, 3)
torch.manual_seed(1)
query, key = torch.randn(1, 2, 4, 3), torch.randn(1, 2, 6, 3)
print("values of 1 give", round(suspect(query, key, torch.ones(1, 2, 6, 3))[0].mean().item(), 3))
alone, together = suspect(query[:, :, :1], key, key)[0], suspect(query, key, key)[0][:, :, :1]
print("a query alone differs by", round((alone - together).abs().max().item(), 3))

# %% [markdown]
# When you have a guess, run `check_attention(suspect)`. `drill(ATTENTION_MISTAKES, 0)` to
# `drill(ATTENTION_MISTAKES, 11)` are all different.

# %%
Challenge(
    "Train DETR on the sixteen pictures without attention among queries. Are there doubles?",
    difficulty=3,
    minutes=30,
    hints={
        "How to take it out": "A DecoderLayer whose forward skips the first part; the same loop.",
        "What to count": "AP on the sixteen pictures, and boxes above 0.5 beside the 95 objects.",
    },
    answer="With 600 steps: AP 0.993 and 104 sure boxes for 95 objects; the whole detector has "
    "1.000 and 97. So there are doubles, and few: what is learned by heart can be shared out among "
    "the learned positions once and for all. Objects in pictures that nobody has seen cannot.",
)

# %% [markdown]
# ## Your detector so far

# %%
so_far("detr_tiny", Transformer=Transformer, EncoderLayer=EncoderLayer, DecoderLayer=DecoderLayer)

# %% [markdown]
# ## Recap
#
# - Attention is a soft look-up: query times key over $\sqrt D$, softmax over the tokens, weighted mean of the values.
#   Heads do it in parallel with $D = C / M$ channels each.
# - Order means nothing to it. Positions are added to queries and keys, never to values.
# - DETR: an encoder of self-attention, a decoder whose queries read each other and the memory, one box or nothing per
#   query, matched one to one with the objects.
# - Dense attention has $N$ weights per query and head: $O(N^2)$ in cost and memory, and a signal of $1/N$ at the
#   start.
# - Deformable attention has $K \ll N$ points: $O(NK)$. Fine maps become affordable, and small objects need them.

# %% [markdown]
# **Check yourself.**
#
# <details><summary>Why does deformable attention need no keys?</summary>
#
# A key serves to compute the weight of a token by comparison. Here the weights come from the query alone, through a
# linear layer, so there is nothing to compare with.
#
# </details>
# <details><summary>What moves a point towards an object, when nobody tells it where the object is?</summary>
#
# The loss. What the point reads changes when it moves, because bilinear sampling has a slope; if a little more of the
# neighbouring cell would lower the loss, the gradient of the offset points there.
#
# </details>
# <details><summary>What would happen if offsets were rounded to whole cells?</summary>
#
# The position would no longer change when the offset changes a little. Its gradient would be zero everywhere, and the
# offsets would stay where they started.
#
# </details>
# <details><summary>Why is "no object" a class of its own, and not a low score of all classes?</summary>
#
# DETR's classes compete in a softmax, whose outputs sum to 1: without a class for nothing, every query would have to
# claim something. Deformable DETR takes a sigmoid per class instead, and needs none.
#
# </details>
