# %% [markdown]
# # From self-attention to deformable attention
#
# | | |
# | --- | --- |
# | Time | 60 to 75 minutes with the exercises, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | bilinear sampling (chapter 03); matrix products in NumPy; no GPU |
# | You will build | multi-head attention, deformable attention on one map, and a count of what both cost |
#
# DETR (Carion et al., 2020) finds objects with a transformer. Every token of the image reads every other
# token. That is simple, and it is expensive. Deformable DETR (Zhu et al., 2021) lets every token read a few
# points that it chooses itself. This chapter goes from the one to the other.

# %%
import math
import time

import numpy as np
import torch
from torch import nn

from dyhead_book.c09_self_attention_to_deformable import self_attention_checks as library
from dyhead_book.c09_self_attention_to_deformable.self_attention_checks import (
    ATTENTION_MISTAKES,
    attention_macs,
    check_attention,
    check_deform_attention,
    check_macs,
)
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_book.practice.softmax import softmax
from dyhead_lab.ops.numba_reference.loops import bilinear
from dyhead_lab.views.figures import Picture

rng = np.random.default_rng(0)

# %% [markdown]
# ## Predict
#
# An image gets twice as high and twice as wide. What happens to the cost of attention among its tokens?

# %%
growth = Question(
    "09 growth",
    "Height and width are doubled. By how much does the time of dense attention grow, when N is large?",
    a="about 2 times",
    b="about 4 times",
    c="16 times or more",
)
growth.guess(None)  # write "a", "b" or "c" here

# %% [markdown]
# ## The formula: everyone reads everything
#
# There are $N$ tokens $x_n$ and $Q$ queries $z_q$. In the encoder the queries are the tokens themselves, so
# $Q = N$. Head $m$ of $M$ heads computes a weight for every token and sums up the values (Vaswani et al., 2017,
# written as in Deformable DETR, equation 1):
#
# $$\mathrm{out}_q = \sum_{m=1}^{M} W_m \sum_{n=1}^{N} A_{mqn}\, W'_m x_n, \qquad
# A_{mqn} = \mathrm{softmax}_n \frac{(U_m z_q)^\top (V_m x_n)}{\sqrt{D}}$$
#
# $U_m z_q$ is called the query, $V_m x_n$ the key, $W'_m x_n$ the value. Each has $D = C / M$ channels.
#
# ## Build: attention
#
# The matrices $U$, $V$, $W$ and $W'$ are ordinary linear layers. What is new stands between them:
#
# | | shape | |
# | --- | --- | --- |
# | `query_QMD` | (Q, M, D) | $U_m z_q$ |
# | `key_NMD` | (N, M, D) | $V_m x_n$ |
# | `value_NMD` | (N, M, D) | $W'_m x_n$ |
# | result | (Q, M, D) | the sum over $n$ |

# %%
Exercise(
    "Write attention: scores, softmax over the tokens, weighted sum of the values",
    difficulty=2,
    minutes=10,
    hints={
        "I do not know where to begin": "np.einsum('qmd,nmd->mqn', query, key) gives all products of one head.",
        "exp overflows": "Take the largest score off before exp. The library's softmax(x, axis) does that.",
        "Only cases with several heads fail": "The head m must stay in the scores: (M, Q, N), one map for each.",
    },
    solution=library.attention,
)


# %%
def attention(query_QMD, key_NMD, value_NMD):
    """Returns (Q, M, D)."""
    raise NotImplementedError  # your three lines go here


check_attention(attention)

# %% [markdown]
# The rest of the chapter runs with your function if it is right, and with the library's if it is not yet.

# %%
mine = attention if check_attention(attention) else library.attention
query, key, value = (rng.normal(size=(n, 2, 4)) for n in (3, 6, 6))
theirs = nn.functional.scaled_dot_product_attention(
    *(torch.from_numpy(x).transpose(0, 1) for x in (query, key, value))
).transpose(0, 1)
difference = np.abs(mine(query, key, value) - theirs.numpy()).max()
print("largest difference from PyTorch:", "below 1e-12" if difference < 1e-12 else difference)

# %% [markdown]
# ## Look: attention that has learned nothing yet
#
# <img src="diagrams/detr.svg" alt="DETR. The backbone&#x27;s last map, 25 x 34 cells, plus sine positions, goes
# through six encoder layers of self-attention. 100 learned queries read it through six decoder layers. Each
# gives a class or no object, and a box. To learn, the Hungarian algorithm pairs predictions and objects one to
# one.">
#
# A DETR of the published size, with random weights, looks at a picture of 640 x 640 pixels. Its map has one
# token for every 32 x 32 pixels: $20 \times 20 = 400$ tokens. How even are the weights? If all were equal, each
# would be $1/N$. The **entropy** $-\sum_n A_n \ln A_n$ measures it: $\ln N$ when all are equal, 0 when one token
# gets everything.

# %%
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.detectors.backbones.narrow_resnet import NarrowResNet
from dyhead_lab.detectors.detr.detr import DETR, DETRConfig
from dyhead_lab.detectors.image_batch import pad_images
from dyhead_lab.trace import trace

torch.manual_seed(0)
backbone = NarrowResNet(pretrained=True).eval()
detr = DETR(DETRConfig(classes=6, feature_channels=128)).eval()
picture, _ = draw_image(2026, 1, size=640)
image = torch.from_numpy(picture).permute(2, 0, 1) / 255
batch, padding_mask = pad_images([image])
with torch.no_grad(), trace(detr) as seen:
    detr.forward_features([backbone(batch)["c5"]], padding_mask)

# %%
for path, A_BMQN in seen.find("attention_maps"):
    if "encoder" in path:
        N = A_BMQN.shape[-1]
        entropy = -(A_BMQN * A_BMQN.log()).sum(-1).mean() / math.log(N)
        largest = A_BMQN.amax(-1).mean() * N
        layer = path.split(".")[3]
        print(f"encoder layer {layer}: entropy {entropy:.3f} of the most possible, largest weight {largest:.1f} / N")

# %% [markdown]
# Nearly uniform, in every layer. Here is what one query reads. The cross marks it. Brightest is a weight of
# $10/N$; a map that had found something would have a few tokens far above that.

# %%
from dyhead_lab.views.token_maps import token_maps_figure

row, column = 6, 11
A_MQN = seen["transformer.encoder.layers.0.self_attn", "attention_maps"][0][0]
maps = {f"head {m}": A_MQN[m, row * 20 + column].view(20, 20) for m in range(4)}
figure = token_maps_figure(image, maps, query=(column * 32 + 16, row * 32 + 16), brightest=10 / 400)
Picture(figure, alt="Attention of one query at initialisation: faint and spread over the whole image, in four heads.")

# %% [markdown]
# Training sharpens the maps. `detr_tiny` is a small DETR that was trained on Shapes for a few minutes; beside it
# stands the same detector without training. Where does the decoder look for its surest query?

# %%
from dyhead_lab.zoo import get, load_trained

trained = load_trained("detr_tiny")
torch.manual_seed(0)
untrained = get("detr_tiny").build(len(trained.categories)).eval()
small_picture, _ = draw_image(2026, 1)
small_image = torch.from_numpy(small_picture).permute(2, 0, 1) / 255
batch, padding_mask = pad_images([small_image])
maps = {}
for name, model in {"untrained": untrained, "trained": trained.model}.items():
    with torch.no_grad(), trace(model) as seen:
        outputs = model.forward_features(model.backbone(batch), padding_mask)
    surest = outputs["pred_logits"][0].softmax(-1)[:, :-1].amax(-1).argmax()
    A_MQN = [A for path, (A, *_) in seen.find("attention_maps") if "multihead_attn" in path][-1]
    entropy = -(A_MQN * A_MQN.clamp(min=1e-12).log()).sum(-1).mean() / math.log(A_MQN.shape[-1])
    print(f"{name:9} last decoder layer: entropy {entropy:.3f} of the most possible")
    side = math.isqrt(A_MQN.shape[-1])
    maps |= {f"{name}, head {m}": A_MQN[m, surest].view(side, side) for m in range(4)}

# %%
figure = token_maps_figure(small_image, maps, brightest=10 / side**2)
Picture(
    figure, alt="Decoder attention of one query in four heads: even before training, patches of the image after it."
)

# %% [markdown]
# The maps have begun to gather, but not yet on one object. In the same number of steps, from the same backbone, a
# Deformable DETR gets much further:

# %%
from dyhead_lab.experiments.catalogue import recorded

convergence = recorded("convergence")
for row in convergence.rows:
    ap = [convergence.spread(row, name).mean for name in ("AP at 25 %", "AP at 50 %", "AP at 75 %", "AP")]
    print(f"{row:16} AP after each quarter of the training:", "  ".join(f"{value:.3f}" for value in ap))

# %% [markdown]
# Why are even maps bad? The gradient that reaches a score is $A_n$ times a difference of values. With $N = 400$ each
# score gets about $1/400$ of the signal, and with 13,400 tokens far less. It takes many epochs until the maps are
# sharp. DETR trains for 500 epochs, Deformable DETR for 50. The runs above had 6.

# %% [markdown]
# ## Why small objects suffer
#
# DETR reads the coarsest map only, with one token per 32 x 32 pixels. COCO calls an object small below
# $32^2$ pixels. Such an object fills less than one token. A finer map would help, but look at the price.

# %%
H, W, M = 800, 1066, 8
print("stride    tokens N   tokens per object of 24 x 24   weights of one layer")
for stride in (32, 16, 8):
    N = math.ceil(H / stride) * math.ceil(W / stride)
    gigabytes = 4 * M * N * N / 1e9
    print(f"{stride:6} {N:11,} {(24 / stride) ** 2:20.2f} {gigabytes:26.2f} GB")

# %% [markdown]
# Half the stride means 4 times the tokens and 16 times the weights. Training keeps the weights of all six layers
# for the backward pass: at stride 8 that is 34 GB for one image. What a finer map is worth is known from the
# published table of Deformable DETR (ResNet-50, 50 epochs, COCO val2017):
#
# | reads | AP | AP small |
# | --- | --- | --- |
# | one map of stride 32 | 39.4 | 20.6 |
# | one map of stride 16 (DC5) | 41.5 | 24.1 |
# | four maps, strides 8 to 64 | 44.5 | 27.1 |
#
# ## The formula: a few points
#
# <img src="diagrams/dense_and_deformable.svg" alt="Two ways to read a map of 8 x 8 cells. On the left a query
# compares itself with all 64 tokens and takes a weighted mean of them. On the right it predicts four places
# near its reference point and the weight of each, and reads between the cells there.">
#
# **Deformable attention** (Deformable DETR, equation 2) asks every query for $P$ points instead of $N$ weights:
#
# $$\mathrm{out}_q = \sum_{m=1}^{M} W_m \sum_{p=1}^{P} A_{mqp}\, W'_m\, x(p_q + \Delta p_{mqp})$$
#
# - $p_q$ is the **reference point** of the query: in the encoder its own place.
# - $\Delta p_{mqp}$ is an **offset**. A linear layer computes it from the query's feature.
# - $A_{mqp}$ is a weight, the softmax over $p$ of another linear layer. There are no keys.
# - $x(\cdot)$ is bilinear sampling, as in deformable convolution.
#
# With $P = 4$ a weight starts at $1/4$ instead of $1/N$.
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
# `bilinear(image_HW, p_y, p_x)` is ready: it is the function of chapter 03.

# %%
two_rows = np.arange(6.0).reshape(2, 3)
bilinear(two_rows, 0.5, 1.0)  # column 1, halfway between 1 in row 0 and 4 in row 1

# %%
Exercise(
    "Write deform_attention in plain loops",
    difficulty=3,
    minutes=20,
    hints={
        "I do not know where to begin": "Four loops: q, m, p, d, and the sum into out[q, m, d].",
        "The numbers differ everywhere": "A point is (x, y), but bilinear takes the row first: p_y, then p_x.",
        "What comes from outside the map?": "Zero. bilinear takes care of it.",
    },
    solution=library.deform_attention,
)


# %%
def deform_attention(value_HWMD, reference_Q2, offsets_QMP2, weights_QMP):
    """Returns (Q, M, D)."""
    raise NotImplementedError  # your loops go here


check_deform_attention(deform_attention)

# %% [markdown]
# ## Fast
#
# The library's `ms_deform_attn` is this sum with compiled loops, for several maps at once. One map is the case
# of one level. It counts positions in $[0, 1]$ over the whole map, so a cell centre $i$ becomes $(i + 0.5) / W$.
# Chapter 10 says why.

# %%
from dyhead_lab.ops import ms_deform_attn

mine = deform_attention if check_deform_attention(deform_attention) else library.deform_attention
H, W, Q, M, P, D = 6, 9, 20, 2, 4, 8
value = rng.normal(size=(H, W, M, D))
reference, offsets = rng.uniform(size=(Q, 2)) * (W - 1, H - 1), rng.normal(size=(Q, M, P, 2))
weights = softmax(rng.normal(size=(Q, M, P)))
locations = (reference[:, None, None] + offsets + 0.5) / (W, H)
fast = ms_deform_attn(
    torch.from_numpy(value).view(1, H * W, M, D),
    spatial_shapes=torch.tensor([[H, W]]),
    level_start_index=torch.tensor([0]),
    sampling_locations=torch.from_numpy(locations)[None, :, :, None],
    attention_weights=torch.from_numpy(weights)[None, :, :, None],
)
difference = np.abs(mine(value, reference, offsets, weights).reshape(1, Q, M * D) - fast.numpy()).max()
print("largest difference from the operator:", "below 1e-12" if difference < 1e-12 else difference)

# %% [markdown]
# ## Look: $N^2$ against $N P$ against $T P$
#
# Now with a clock. It counts the CPU time of one thread, so that other programs disturb it little. Three layers of 64
# channels and 4 heads read maps of growing size: dense attention, deformable attention with $P = 4$ points, and
# deformable attention for a tenth of the queries only. The last one is what Sparse DETR does with its $T$ **kept
# tokens** (chapter 12).

# %%
from dyhead_lab.attention.deformable import MultiScaleDeformableAttention

C, M, P = 64, 4, 4
dense = nn.MultiheadAttention(C, M, batch_first=True).eval()
deformable = MultiScaleDeformableAttention(C, levels=1, heads=M, points=P).eval()


def milliseconds(run, repeats=5):
    """CPU time of the best of a few runs, after one that does not count."""
    times = []
    for _ in range(repeats + 1):
        start = time.process_time()
        run()
        times.append(time.process_time() - start)
    return 1e3 * min(times[1:])


# %%
def three_times(side):
    """Milliseconds on a map of side x side tokens: dense, deformable, deformable for a tenth of the queries."""
    N = side * side
    T = N // 10
    x, reference = torch.randn(1, N, C), torch.rand(1, N, 1, 2)
    level = x, torch.tensor([[side, side]]), torch.tensor([0])
    return (
        milliseconds(lambda: dense(x, x, x, need_weights=False)),
        milliseconds(lambda: deformable(x, reference, *level)),
        milliseconds(lambda: deformable(x[:, :T], reference[:, :T], *level)),
    )


sides = (8, 12, 16, 24, 32, 48, 64)
threads = torch.get_num_threads()
torch.set_num_threads(1)  # threads that wait for each other would count as well
with torch.no_grad():
    measured = list(zip(*map(three_times, sides), strict=True))
torch.set_num_threads(threads)

# %%
from dyhead_book.figures.cost_curves import growth_figure

names = ("dense, N x N", "deformable, N x P", "kept tokens, T x P")
tokens = [side * side for side in sides]
reads = ([n * n for n in tokens], [n * P for n in tokens], [n // 10 * P for n in tokens])
panels = {
    "tokens or points that one head reads": dict(zip(names, reads, strict=True)),
    "CPU milliseconds on this machine": dict(zip(names, measured, strict=True)),
}
figure = growth_figure(tokens, panels, marks={"stride 32": 850, "stride 16": 3350})
Picture(figure, alt="Cost against tokens, logarithmic: dense attention rises twice as steeply as deformable attention.")

# %% [markdown]
# A straight line of slope 2 is $N^2$, slope 1 is $N$. The dotted lines are the maps of an 800 x 1066 image. The
# time of the deformable layers is flat at first: what costs there is the call itself. `T x P` is less
# than ten times cheaper, because the value projection still covers all $N$ tokens. Dense attention gets steeper than
# slope 2 where its weights no longer fit into the caches of the processor.

# %%
ratio = measured[0][-1] / measured[0][-3]
growth.revisit("c", f"From 32 x 32 to 64 x 64 tokens dense attention took {ratio:.0f} times as long.")

# %% [markdown]
# ## Break it
#
# Here is an `attention` with one planted bug. Find it by experiment, before you ask the check. Good experiments
# have an answer that you know: values that are all 1 must give 1. A query alone must get the same answer as
# together with others.

# %%
suspect = drill(ATTENTION_MISTAKES, 3)
query, key = rng.normal(size=(4, 2, 3)), rng.normal(size=(6, 2, 3))
print("values of 1 give", suspect(query, key, np.ones((6, 2, 3))).mean().round(3))
alone, together = suspect(query[:1], key, key)[0], suspect(query, key, key)[0]
print("a query alone differs by", np.abs(alone - together).max().round(3))

# %% [markdown]
# When you have a guess, run `check_attention(suspect)`. `drill(ATTENTION_MISTAKES, 0)` to
# `drill(ATTENTION_MISTAKES, 7)` are all different. `DEFORM_ATTENTION_MISTAKES` of
# `dyhead_book.c09_self_attention_to_deformable.self_attention_checks` has ten more for `check_deform_attention`.

# %% [markdown]
# ## Exercises

# %%
Exercise(
    "Write attention_macs(N, C, M, P): the multiply-adds of one layer, dense and deformable, projections included",
    difficulty=3,
    minutes=15,
    hints={
        "What does dense attention consist of?": "Four C x C projections of N tokens, scores, and weighted sums.",
        "Do heads make it dearer?": "No. M heads of C / M channels cost what one head of C channels costs.",
        "What does a sample cost?": "Four corners and one weight, for each of its D channels.",
    },
    solution=attention_macs,
)


# %%
def my_macs(N, C, M, P):
    raise NotImplementedError  # return dense, deformable


check_macs(my_macs)

# %%
for N in (64, 256, 850, 3350, 13400):
    dense_macs, deformable_macs = attention_macs(N, C=256, M=8, P=4)
    print(f"N = {N:6,}: dense {dense_macs / 1e9:7.2f} GMAC, deformable {deformable_macs / 1e9:5.2f} GMAC")

# %%
Challenge(
    "Show by an experiment that attention without positions does not know where its tokens are",
    difficulty=2,
    minutes=10,
    hints={
        "What to change": "Permute keys and values in the same way. What happens to the output?",
        "What does DETR do about it?": "It adds a sine position to queries and keys, but not to values.",
    },
    answer="The output does not change, to rounding: a sum does not know the order of its terms. With positions added "
    "to queries and keys it does.",
)

# %%
Challenge(
    "Derive the gradient of the output to the score s_n, and say what it is when all weights are 1 / N",
    difficulty=4,
    minutes=20,
    hints={
        "Where to begin": "The softmax has the derivative dA_k / ds_n = A_k (1[k = n] - A_n).",
        "How do I know that it is right?": "Compare with torch.autograd on five tokens.",
    },
    answer="A_n times (value n minus the output). With all weights at 1 / N every score gets 1 / N of the difference "
    "between its value and the mean value: the more tokens, the slower they learn.",
)

# %% [markdown]
# ## Recap
#
# - Dense attention has $N$ weights per query and head. Cost and memory grow with $N^2$.
# - At the start its weights are nearly $1/N$, and so is the learning signal of each score.
# - Deformable attention has $P$ points per query and head. The query chooses offsets and weights; there are no keys.
# - Cost grows with $N P$, so fine maps become affordable. Small objects need them.
#
# **Check yourself.** Why does deformable attention need no keys? What moves a point towards an object during
# training, when nobody tells it where the object is? What would happen if offsets were rounded to whole cells?
#
# Chapter 10 reads several maps at once.
