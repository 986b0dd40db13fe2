# %% [markdown]
# # Sparse DETR
#
# | | |
# | --- | --- |
# | Time | 60 to 90 minutes with the exercises, under 1 minute to run on 2 CPU cores (a GPU changes nothing) |
# | Memory | under 2 GB, none on a GPU |
# | Needs | multi-scale deformable attention (chapter 10); what an object query is (chapter 11); no GPU |
# | You will build | the decoder attention map, the choice of tokens, and an encoder that refines only those |
#
# The encoder of Deformable DETR refines every token of the image: 17,821 of them for 800 x 1066 pixels. Most
# lie on sky, road or grass. Sparse DETR (Roh et al., 2022) refines only the share $\rho$ that the decoder will
# look at. To know which, it learns to predict where the decoder looks.

# %%
import numpy as np
import torch

from dyhead_book.c12_sparse_detr import sparse_checks as sparse_detr
from dyhead_book.c12_sparse_detr import sparse_cost_checks as sparse_cost
from dyhead_book.practice.drills import drill
from dyhead_book.practice.exercises import Challenge, Exercise
from dyhead_book.practice.predictions import Question
from dyhead_lab.views.figures import Picture

# %% [markdown]
# ## Predict

# %%
attention_kept = Question(
    "12 attention kept",
    "The scorer keeps one token of ten. What share of the decoder's attention falls on them?",
    a="less than a fifth",
    b="between a fifth and a half",
    c="more than half",
)
attention_kept.guess(None)  # write "a", "b" or "c" here

# %% [markdown]
# ## The formula
#
# <img src="diagrams/sparse_encoder.svg" alt="Sparse DETR. A scoring network ranks the backbone&#x27;s tokens.
# The best share rho of them is refined by the encoder; the others stay as they are and are still read. The
# decoder&#x27;s attention, added up over layers, heads and queries at the tokens it reads, is the decoder
# attention map. Its largest entries are the scorer&#x27;s target.">
#
# The decoder reads sampling points with weights. The **decoder attention map** (DAM) gives every token $n$ all
# of the weight that it receives, over decoder layers $i$, queries $q$, heads $m$, levels $l$ and points $p$:
#
# $$\mathrm{DAM}_n = \sum_{i, q, m, l, p} A_{imlqp}\; G(n, r_{imlqp})$$
#
# $G$ is the share of a token in bilinear sampling, as in chapter 03, and $r$ is the sampling point. A small network
# $g$, the **scorer**, sees the backbone's tokens and predicts which ones will be among the best of this map. It is
# trained with binary cross-entropy: 1 for the $T$ tokens with the largest DAM, 0 for the others.
#
# Then only those are refined. With $\Omega$ the set of the $T = \lfloor \rho N \rfloor + 1$ tokens of highest score,
# encoder layer $i$ computes
#
# $$x_n^{i+1} = \begin{cases} \mathrm{layer}(x_n^i;\; x^i) & n \in \Omega \\ x_n^i & \text{else} \end{cases}$$
#
# All tokens are still read: $x^i$ behind the semicolon is the whole map.
#
# ## Build: the decoder attention map
#
# | | shape | |
# | --- | --- | --- |
# | `locations_QMLP2` | (Q, M, L, P, 2) | (x, y) in [0, 1] |
# | `weights_QMLP` | (Q, M, L, P) | |
# | `shapes_L2`, `starts_L` | (L, 2), (L,) | (H, W) and first token of each level |
# | result | (N,) | |

# %%
Exercise(
    "Write decoder_attention_map: the weight of every point goes to the four tokens that it reads",
    difficulty=3,
    minutes=20,
    hints={
        "I do not know where to begin": "It is ms_deform_attn backwards: loops over q, m, l, p, and then four tokens.",
        "Where is a point?": "x = r_x * W - 0.5, y = r_y * H - 0.5, as in the operator.",
        "Which token is row, column of level l?": "starts_L[l] + row * W + column. Outside the level: nobody.",
    },
    solution=sparse_detr.decoder_attention_map,
)


# %%
def decoder_attention_map(locations_QMLP2, weights_QMLP, shapes_L2, starts_L):
    """Returns (N,)."""
    raise NotImplementedError  # your loops go here


sparse_detr.check_map(decoder_attention_map)

# %% [markdown]
# ## Build: which tokens are kept

# %%
Exercise(
    "Write keep: indices of the floor(rho * valid) + 1 tokens with the highest scores, best first",
    difficulty=1,
    minutes=5,
    hints={
        "What is valid?": "Tokens that are not padding. Padding is never kept, and does not count.",
        "How to sort": "np.argsort goes from low to high. Give padding minus infinity first.",
    },
    solution=sparse_detr.keep,
)


# %%
def keep(scores_N, padding_N, rho):
    """Returns the indices of the kept tokens, (T,)."""
    raise NotImplementedError


sparse_detr.check_keep(keep)

# %% [markdown]
# ## Build: refine only those

# %%
Exercise(
    "Write refine_kept: run layer(queries, values) for the kept tokens and put them back",
    difficulty=2,
    minutes=10,
    hints={
        "What are the values?": "All tokens. Only the queries are few.",
        "What about the others?": "They go on unchanged. The decoder still reads them.",
    },
    solution=sparse_detr.refine_kept,
)


# %%
def refine_kept(tokens_NC, kept_T, layer):
    """Returns (N, C)."""
    raise NotImplementedError


sparse_detr.check_refine_kept(refine_kept)

# %% [markdown]
# ## Look: a map of where the decoder looks
#
# `sparse_detr_tiny` was trained on Shapes with $\rho = 0.3$. Below: its decoder attention map on each level, and
# what the scorer predicted before the encoder had run.

# %%
from dyhead_book.c12_sparse_detr.kept_tokens import kept_figure
from dyhead_book.figures.object_queries import look
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.views.token_maps import levels_of, token_maps_figure
from dyhead_lab.zoo import load_trained

trained = load_trained("sparse_detr_tiny")
model = trained.model
picture, objects = draw_image(2026, 1)
image = torch.from_numpy(picture).permute(2, 0, 1) / 255
view = look(model, image)
truth = torch.tensor([[x, y, x + w, y + h] for x, y, w, h in (o.box for o in objects)], dtype=torch.float32)

# %%
dam = {f"DAM, level {level}": m for level, m in enumerate(levels_of(view.outputs["dam"][0], view.sizes))}
scores = view.outputs["token_scores"][0].sigmoid()
predicted = {f"scorer, level {level}": m for level, m in enumerate(levels_of(scores, view.sizes))}
figure = token_maps_figure(view.image, {**dam, **predicted}, boxes=truth, columns=len(view.sizes))
Picture(figure, alt="Decoder attention map and predicted scores on three levels, with the true boxes.")

# %% [markdown]
# The scorer's map is broader. It says how likely a token is to be among the best, not how much attention it gets.
#
# ## Fast: your map against the library's
#
# The library adds up all points at once with `scatter_add_`. Your loops, or the chapter's if yours are not right
# yet, must give the same map from the points of all decoder layers.

# %%
mine = decoder_attention_map if sparse_detr.check_map(decoder_attention_map) else sparse_detr.decoder_attention_map
shapes = np.array(view.sizes)
starts = np.concatenate([[0], shapes.prod(1).cumsum()[:-1]])
total = np.zeros(shapes.prod(1).sum())
for path, locations in view.seen.find("sampling_locations"):
    if "decoder" in path:
        weights = view.seen[path, "attention_weights"][0]
        total += mine(locations[0].double().numpy(), weights[0].double().numpy(), shapes, starts)
difference = np.abs(total - view.outputs["dam"][0].numpy()).max() / total.max()
print("largest difference from the library, relative:", "below 1e-5" if difference < 1e-5 else difference)

# %% [markdown]
# ## Look: which tokens are kept
#
# $\rho$ is a plain argument: the same model can keep more or fewer tokens. Where the image shows through, a token
# is kept. The boxes are the true objects. A title ends with the share of its tokens that is kept.

# %%
kept = {}
for rho in (0.1, 0.3, 0.5):
    chosen = look(model, image, rho=rho)
    mask_N = chosen.outputs["selection"].kept.mask(len(scores))[0]
    kept[f"rho {rho}"] = list(levels_of(mask_N, view.sizes))
figure = kept_figure(view.image, kept, boxes=truth)
Picture(figure, alt="Kept tokens on each level for three values of rho; they gather on the objects.")

# %% [markdown]
# What do the detections say?

# %%
from dyhead_lab.views.figures import detections_figure

shares = (0.02, 0.1, 0.3, 1.0)
model.eval()
with torch.no_grad():
    found = [model([image], rho=rho)[0] for rho in shares]
figure = detections_figure([image] * 4, found, trained.categories, threshold=0.4, height=260)
Picture(figure, alt="Detections of the same model with 2, 10, 30 and 100 percent of the tokens refined.")

# %% [markdown]
# From left to right: $\rho$ = 0.02, 0.1, 0.3, 1. Little changes. On COCO, models that were trained with the $\rho$ they
# serve go from AP 45.3 at $\rho = 0.1$ to 46.3 at 0.5 (published). Here the backbone had learned Shapes before.
#
# ## How good is the choice?
#
# **Corr** is the share of the decoder's attention that falls on kept tokens (Sparse DETR, equation 6). Chance would
# give $\rho$. Here is the scorer, over 48 pictures.

# %%
from dyhead_lab.evaluation.token_use import mean_corr, referred_tokens

pictures = [(torch.from_numpy(draw_image(2029, i)[0]).permute(2, 0, 1) / 255, None) for i in range(48)]
corrs = {rho: mean_corr(model, pictures, rho) for rho in (0.05, 0.1, 0.2, 0.3, 0.5)}
for rho, value in corrs.items():
    print(f"rho {rho:4}: Corr {value:.2f}, {value / rho:3.1f} times chance")

# %%
answer = "a" if corrs[0.1] < 0.2 else "b" if corrs[0.1] < 0.5 else "c"
attention_kept.revisit(answer, f"Corr at rho 0.1 is {corrs[0.1]:.2f}, mean over {len(pictures)} pictures.")

# %% [markdown]
# How many tokens does the decoder use at all? The paper found that a converged Deformable DETR refers to about 45 %
# of the tokens, on COCO. Our images have few tokens, so the share is another.

# %%
use = referred_tokens(model, pictures)
print(f"the decoder reads {use['referred']:.0%} of the tokens; {use['carry']:.0%} carry 90 % of its attention")

# %% [markdown]
# ## What it costs
#
# Queries, samples and feed-forward networks cost $T$. The value projection of every layer costs $N$, because all
# tokens are read. So the cost is a straight line in $\rho$ that does not start at zero.

# %%
from dyhead_book.figures.cost_curves import share_figure
from dyhead_lab.evaluation.sparse_efficiency import PUBLISHED, sparse_detr_macs

rhos = (0.1, 0.3, 0.5, 1.0)
costs = {rho: sparse_detr_macs(rho) for rho in rhos}
slope = (costs[0.5].encoder - costs[0.1].encoder) / 0.4 / 1e9
start = costs[0.1].encoder / 1e9 - 0.1 * slope
print(f"encoder: {start:.1f} + {slope:.1f} rho GMAC for an image of 800 x 1066 pixels")
for rho, cost in costs.items():
    print(f"rho {rho}: whole {cost.whole / 1e9:6.2f} GMAC, published {PUBLISHED.get(rho, 'nothing')}")

# %%
published = {rho: gflops for rho, gflops in PUBLISHED.items() if rho is not None}
dense = {"dense, published with top-k queries and refinement": PUBLISHED[None]}
figure = share_figure(rhos, [costs[rho].whole / 1e9 for rho in rhos], published, dense)
Picture(figure, alt="Cost against rho: the published figures lie on the counted line.")

# %% [markdown]
# `dyhead-lab efficiency sparse_detr` prints this by part, and the encoder's time on your machine.
#
# ## Look: all of it at once
#
# Move the slider, by mouse or with the arrow keys. The model runs again with this $\rho$. Kept tokens, the decoder's
# attention, cost, Corr and detections follow.

# %%
from dyhead_book.c12_sparse_detr.sparse_cost_checks import encoder_macs as library_macs
from dyhead_lab.trace import trace
from dyhead_lab.views.sparse_tokens import SparseTokens

config, N = model.config, len(scores)
sizes = {"C": config.channels, "F": config.feedforward, "M": config.heads, "L": config.levels}


def run(rho):
    with torch.no_grad(), trace(model) as seen:
        [detection] = model([image], rho=rho)
    return seen, detection


def cost(rho):
    return config.encoder_layers * library_macs(N, int(rho * N) + 1, P=config.encoder_points, **sizes)


SparseTokens(run, image, (0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 1.0), trained.categories, cost, start=0.3)

# %% [markdown]
# ## Training: two more losses
#
# The scorer has its own loss, `loss_mask_prediction`. It does not send gradients into the decoder: the map is a
# target, not an output. And since few tokens are refined, the encoder can afford a head after every layer: the
# **auxiliary loss of the encoder** matches the kept tokens to the objects, as if they were queries. The paper finds
# that it lets encoders be deeper.

# %%
from dyhead_lab.detectors.image_batch import normalise_targets

labels = torch.tensor([o.label for o in objects])
goals = normalise_targets([{"boxes": truth, "labels": labels}], [image], len(trained.categories))
terms = model.criterion(look(model, image, encoder_heads=True).outputs, goals)
for name, value in terms.items():
    if name.startswith("loss_ce") or "mask" in name or name.startswith("corr"):
        print(f"{name:28} {float(value):.3f}")

# %% [markdown]
# Without a suffix: the last decoder layer. `_0`, `_1`: earlier layers. `_enc`: the proposals that start the queries.
# `_enc_0`: the auxiliary heads of the encoder.
#
# ## Paper and released code
#
# | | paper | released code | here |
# | --- | --- | --- | --- |
# | DAM | weight goes to the tokens that are read | shifted by half a cell | as the paper |
# | tokens per image | share of the image | the batch's largest number enters Corr and auxiliary losses | per image |
# | padding | not a token | enters the scorer's mean and loss | left out |
# | refinement without two stages | each layer refines | silently none | each layer refines |
#
# `compat="sparse-detr"` brings the released behaviour back, for the official weights. What does the half cell do?
# One point of weight 1 at the centre of a cell reads that cell alone:

# %%
from dyhead_lab.detectors.detr.dam import decoder_attention_map as library_map

centre = torch.tensor([2.5 / 5, 1.5 / 4]).view(1, 1, 1, 1, 1, 2)
for half_pixel in (True, False):
    level = torch.tensor([[4, 5]]), torch.tensor([0])
    one = library_map(centre, torch.ones(1, 1, 1, 1, 1), *level, tokens=20, half_pixel=half_pixel)
    print("as the paper" if half_pixel else "released", one.view(4, 5).tolist(), sep="\n")

# %% [markdown]
# ## Recorded experiments
#
# Training takes longer than a chapter, so these were recorded. `dyhead-lab experiment NAME` measures them again.

# %%
print(sparse_cost.recorded_table("token_selection"))

# %% [markdown]
# `Corr` answers what the scorer is trained for. Chance keeps the share rho of the decoder's attention. Objectness
# keeps more, and the scorer that learns the DAM keeps most.
#
# AP answers less: after 400 steps a detector is a beginner. The last column compares with chance at 0.1. Compared with
# chance at the same rho, seed by seed, only rho 0.5 tells something clear: there objectness has 0.043 ± 0.034 more, the
# DAM 0.055 ± 0.026. Between the two there is no difference that is larger than its spread.

# %%
print(sparse_cost.recorded_table("dynamic_rho"))

# %% [markdown]
# One model serves at every rho. It was trained with 0.3; from 0.2 to 1.0 its AP moves by less than one point, and with
# 0.1 it loses two. Models trained with 0.1 or 0.5 serve their own rho no better than that, as far as three seeds can
# tell. With 0.1 the encoder takes 0.7 ms an image, with all tokens 4.7.

# %%
print(sparse_cost.recorded_table("referred_tokens"))

# %% [markdown]
# ## Break it
#
# A `decoder_attention_map` with one planted bug. Good experiments: a point at a cell centre, a point between two
# cells, a point outside. The sum over all tokens must be the sum of the weights inside.

# %%
suspect = drill(sparse_detr.MAP_MISTAKES, 3)
between = np.array([3.0 / 5, 1.5 / 4]).reshape(1, 1, 1, 1, 2)  # between columns 2 and 3 of row 1
suspect(between, np.ones((1, 1, 1, 1)), np.array([(4, 5)]), np.array([0])).reshape(4, 5)

# %% [markdown]
# When you have a guess, run `sparse_detr.check_map(suspect)`. `drill(sparse_detr.MAP_MISTAKES, 0)` to
# `drill(sparse_detr.MAP_MISTAKES, 7)` are all different. `sparse_detr.KEEP_MISTAKES` and
# `sparse_detr.REFINE_KEPT_MISTAKES` have five each.
#
# ## Exercises

# %%
Exercise(
    "Write corr(dam_N, kept_T): the share of the attention that falls on kept tokens",
    difficulty=1,
    minutes=5,
    hints={
        "Which tokens are kept?": "Those of the scorer, before the decoder ran. Not the best of the map.",
        "A share of what?": "Of the sum of the whole map.",
    },
    solution=sparse_cost.corr,
)


# %%
def corr(dam_N, kept_T):
    raise NotImplementedError


sparse_cost.check_corr(corr)

# %%
Exercise(
    "Write encoder_macs(N, T, C, F, M, L, P): the multiply-adds of one layer that refines T of N tokens",
    difficulty=3,
    minutes=15,
    hints={
        "Which part costs N?": "The value projection alone: N * C * C.",
        "What else is there?": "Offsets and weights (3MLP outputs), samples (5 per channel), output, and C to F to C.",
    },
    solution=sparse_cost.encoder_macs,
)


# %%
def encoder_macs(N, T, C, F, M, L, P):
    raise NotImplementedError


sparse_cost.check_encoder_macs(encoder_macs)

# %%
Challenge(
    "Keep random tokens instead: pass token_scores=torch.rand(1, N) to look. What happens to Corr and detections?",
    difficulty=2,
    minutes=10,
    hints={
        "Corr": "It should come out near rho. Average over a few pictures.",
        "Detections": "The model was trained with its own choice. Does it miss objects, or find worse boxes?",
    },
    answer="Corr falls from 0.76 to 0.31, close to rho = 0.3, over 20 pictures. Queries above 0.4 fall from 54 to 32: "
    "it misses objects.",
)

# %%
Challenge(
    "Let another model choose: rank the tokens by the DAM of deformable_detr_tiny on the same picture",
    difficulty=3,
    minutes=20,
    hints={
        "Where is its DAM?": "decoder_attention_map of its traced points; both models have the same levels.",
        "How to compare": "Corr and the detections, both with the scorer's own choice at the same rho.",
    },
    answer="The scorer's own choice is better. Over draw_image(2026, 0) to draw_image(2026, 59) Corr is 0.76 with it, "
    "0.59 with the other model's map and 0.30 by chance; 164, 150 and 114 queries are above 0.4. Both choices share "
    "60 % of their tokens. A decoder has places of its own to look at, and its scorer has learned those.",
)

# %% [markdown]
# ## Recap
#
# - The decoder attention map adds up who is looked at; the scorer learns to predict its best tokens.
# - Kept tokens are queries, all tokens are values. The others go on unchanged.
# - Cost is affine in $\rho$: the value projection of all tokens remains.
# - $\rho$ may change after training. Corr says how much of the attention the choice catches.
#
# **Check yourself.** Why is the target of the scorer binary, and not the map itself? Why may a token that is not
# kept still matter? What happens at $\rho = 1$?
#
# Chapter 13 trains detectors on COCO.
