"""Numbers that prove the formulas of DETR, Deformable DETR and Sparse DETR.

Each function gives a pair: what the library computes on a small random case in float64, and what the formula says,
written as loops over its own letters.
"""

from __future__ import annotations

import math
from itertools import permutations

import torch
from torch import Tensor, nn

from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.detectors.detr.dam import correlation, decoder_attention_map
from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher, Predictions, pad_targets
from dyhead_lab.detectors.detr.positions import sine_positions
from dyhead_lab.detectors.detr.prediction_heads import refine_boxes
from dyhead_lab.detectors.detr.token_scorers import dam_loss
from dyhead_lab.detectors.detr.token_selection import Selection, keep_best, token_budget

from .proofs_dynamic_head import Pair, draw, moved, numbers, read

SIZES = ((4, 5), (2, 3))  # (H, W) of the levels
STARTS = (0, 20)
N = 26
Q, M, P, C = 3, 2, 2, 8
D = C // M


def multi_head_attention() -> Pair:
    attention = moved(nn.MultiheadAttention(C, M, batch_first=True))
    z, x = draw(1, Q, C), draw(1, N, C, seed=1)
    U, V, W_value = attention.in_proj_weight.split(C)
    u_bias, v_bias, value_bias = attention.in_proj_bias.split(C)
    out = torch.zeros(Q, C, dtype=torch.float64)
    for m in range(M):
        head = slice(m * D, (m + 1) * D)
        keys, values = x[0] @ V[head].T + v_bias[head], x[0] @ W_value[head].T + value_bias[head]
        for q in range(Q):
            query = U[head] @ z[0, q] + u_bias[head]
            exps = numbers([math.exp(float(query @ keys[n]) / math.sqrt(D)) for n in range(N)])
            out[q] += attention.out_proj.weight[:, head] @ ((exps / exps.sum()) @ values)
    return attention(z, x, x)[0][0], out + attention.out_proj.bias


def _deformable(levels: int) -> Pair:
    sizes = SIZES[:levels]
    tokens = sum(h * w for h, w in sizes)
    attention = moved(MultiScaleDeformableAttention(C, levels, M, P))
    z, x, p = draw(1, Q, C), draw(1, tokens, C, seed=1), draw(1, Q, 1, 2, seed=2).sigmoid().expand(-1, -1, levels, -1)
    found, _, _ = attention(z, p, x, torch.tensor(sizes), torch.tensor(STARTS[:levels]))
    values = attention.value_proj(x)[0]
    offsets = attention.sampling_offsets(z).view(Q, M, levels, P, 2)
    logits = attention.attention_weights(z).view(Q, M, levels * P)
    A = (logits.exp() / logits.exp().sum(-1, keepdim=True)).view(Q, M, levels, P)
    out = torch.zeros(Q, C, dtype=torch.float64)
    for q, m, l, k in torch.cartesian_prod(*(torch.arange(n) for n in (Q, M, levels, P))).tolist():
        h, w = sizes[l]
        phi_x, phi_y = float(p[0, q, l, 0]) * w - 0.5, float(p[0, q, l, 1]) * h - 0.5
        at_y, at_x = phi_y + float(offsets[q, m, l, k, 1]), phi_x + float(offsets[q, m, l, k, 0])
        for d in range(D):
            x_l = values[STARTS[l] : STARTS[l] + h * w, m * D + d].view(h, w)
            out[q, m * D + d] += A[q, m, l, k] * read(x_l, at_y, at_x)
    return found[0], out @ attention.output_proj.weight.T + attention.output_proj.bias


def deformable_attention() -> Pair:
    return _deformable(levels=1)


def multi_scale_deformable_attention() -> Pair:
    return _deformable(levels=2)


def sine_encoding() -> Pair:
    h, w = SIZES[0]
    found = sine_positions(torch.zeros(1, h, w, dtype=torch.bool), C, centred=True)[0]
    expected = torch.zeros(C, h, w)
    half = C // 2
    for y, x, i in torch.cartesian_prod(*(torch.arange(n) for n in (h, w, half))).tolist():
        for start, place in ((0, 2 * math.pi * (y + 0.5) / h), (half, 2 * math.pi * (x + 0.5) / w)):
            angle = place / 10000 ** (2 * (i // 2) / half)
            expected[start + i, y, x] = math.cos(angle) if i % 2 else math.sin(angle)
    return found, expected


def box_refinement() -> Pair:
    correction, box = draw(5, 4), draw(5, 4, seed=1).sigmoid()
    logit = (box / (1 - box)).log()
    return refine_boxes(correction, box), 1 / (1 + torch.exp(-(correction + logit)))


def bipartite_matching() -> Pair:
    """The cheapest of all ways to give three objects three of five predictions, found by trying them all."""
    predictions = Predictions(draw(1, 5, 4), draw(1, 5, 4, seed=1).sigmoid())
    targets = pad_targets([{"labels": torch.tensor([2, 0, 3]), "boxes": draw(3, 4, seed=2).sigmoid()}])
    matcher = HungarianMatcher()
    cost = matcher.cost(predictions, targets)[0]
    [found] = matcher([predictions], [targets])
    best = min(sum(float(cost[q, g]) for g, q in enumerate(queries)) for queries in permutations(range(5), 3))
    return cost[found.query, found.object].sum(), numbers([best])[0]


def _attention_of_two_queries() -> tuple[Tensor, Tensor]:
    return draw(1, Q, M, 2, P, 2).sigmoid(), draw(1, Q, M, 2 * P, seed=1).softmax(-1).view(1, Q, M, 2, P)


def decoder_attention() -> Pair:
    locations, A = _attention_of_two_queries()
    found = decoder_attention_map(locations, A, torch.tensor(SIZES), torch.tensor(STARTS), N)
    expected = torch.zeros(N, dtype=torch.float64)
    for q, m, l, k in torch.cartesian_prod(*(torch.arange(n) for n in (Q, M, 2, P))).tolist():
        h, w = SIZES[l]
        p_x, p_y = float(locations[0, q, m, l, k, 0]) * w - 0.5, float(locations[0, q, m, l, k, 1]) * h - 0.5
        for y in range(h):
            for x in range(w):
                G = max(0.0, 1 - abs(y - p_y)) * max(0.0, 1 - abs(x - p_x))
                expected[STARTS[l] + y * w + x] += A[0, q, m, l, k] * G
    return found[0], expected


def kept_tokens() -> Pair:
    scores, padding = draw(1, N), torch.zeros(1, N, dtype=torch.bool)
    kept = keep_best(scores, padding, token_budget(padding, 0.3)).mask(N)[0]
    ranked = sorted(range(N), key=lambda n: -float(scores[0, n]))[: math.floor(0.3 * N) + 1]
    return kept, torch.tensor([n in ranked for n in range(N)])


def refined_tokens() -> Pair:
    """Tokens that are not kept stay as they are."""
    x, refined, padding = draw(1, N, C), draw(1, N, C, seed=1), torch.zeros(1, N, dtype=torch.bool)
    kept = keep_best(draw(1, N, seed=2), padding, token_budget(padding, 0.3))
    found = kept.scatter(x, kept.gather(refined))
    return found, torch.stack([(refined if kept.mask(N)[0, n] else x)[0, n] for n in range(N)])[None]


def scoring_loss() -> Pair:
    scores, dam, none = draw(1, N), draw(1, N, seed=1).exp(), torch.zeros(1, N, dtype=torch.bool)
    budget = token_budget(none, 0.3)
    selection = Selection(keep_best(scores, none, budget), budget, scores, none, none, SIZES)
    wanted = keep_best(dam, none, budget).mask(N)[0]
    p = 1 / (1 + torch.exp(-scores[0]))
    terms = [float(p[n].log() if wanted[n] else (1 - p[n]).log()) for n in range(N)]
    return dam_loss({"dam": dam, "selection": selection})["loss_mask_prediction"], numbers([-sum(terms) / N])[0]


def share_of_attention() -> Pair:
    dam, kept = draw(1, N).exp(), draw(1, N, seed=1) > 0.5
    hit = sum(float(dam[0, n]) for n in range(N) if kept[0, n])
    return correlation(dam, kept)[0], numbers([hit / sum(dam[0].tolist())])[0]
