"""Numbers that prove the formulas of losses, matching and references, and of this book's own attention.

Each function gives a pair: what the library computes on a small random case in float64, and what the formula says,
written as loops over its own letters.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.attention.joint import JointAttention, to_tokens
from dyhead_lab.detectors.box_ops import generalized_iou
from dyhead_lab.detectors.detr.deformable_transformer import FlatPyramid
from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher, Predictions, pad_targets
from dyhead_lab.detectors.losses import centerness, classification_loss, find_positives
from dyhead_lab.ops.formula import bilinear

from .proofs_dynamic_head import Pair, draw, moved, numbers


def slope_of_a_sample() -> Pair:
    """By autograd, and as the slope of G summed over all pixels."""
    x, p = draw(1, 4, 5), draw(6, 2) + 2
    y = p[:, 0].clone().requires_grad_()
    [slope] = torch.autograd.grad(bilinear(x, y, p[:, 1]).sum(), y)
    expected = []
    for p_y, p_x in p.tolist():
        near = [(r, c) for r in range(4) for c in range(5) if abs(r - p_y) < 1 and abs(c - p_x) < 1]
        expected.append(sum((1 if r > p_y else -1) * (1 - abs(c - p_x)) * float(x[0, r, c]) for r, c in near))
    return slope, numbers(expected)


def corners(count: int, seed: int = 0) -> Tensor:
    """Boxes xyxy with an area."""
    centre, size = draw(count, 2, seed=seed), draw(count, 2, seed=seed + 1).exp()
    return torch.cat([centre - size, centre + size], 1)


def giou(a: list[float], b: list[float]) -> float:
    def area(box: list[float]) -> float:
        return max(box[2] - box[0], 0.0) * max(box[3] - box[1], 0.0)

    overlap = area([max(a[0], b[0]), max(a[1], b[1]), min(a[2], b[2]), min(a[3], b[3])])
    hull = area([min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])])
    union = area(a) + area(b) - overlap
    return overlap / union - (hull - union) / hull


def generalised_overlap() -> Pair:
    a, b = corners(5), corners(5, seed=7)
    return generalized_iou(a, b), numbers([giou(*pair) for pair in zip(a.tolist(), b.tolist(), strict=True)])


def focal_loss() -> Pair:
    """Seven places and three classes; two places belong to objects."""
    logits, matched = draw(1, 7, 3), torch.tensor([[-1, 0, -1, -1, 1, -1, -1]])
    targets = [{"boxes": corners(2), "labels": torch.tensor([2, 0])}]
    total = 0.0
    for place in range(7):
        for label in range(3):
            is_object = (place, label) in ((1, 2), (4, 0))
            p = 1 / (1 + math.exp(-float(logits[0, place, label])))
            p_t, alpha_t = (p, 0.25) if is_object else (1 - p, 0.75)
            total -= alpha_t * (1 - p_t) ** 2 * math.log(p_t)
    found = classification_loss(logits, matched, find_positives(matched, targets))
    return found, numbers([total / 2])[0]


def centredness() -> Pair:
    boxes = corners(5)
    points = boxes[:, :2] + (boxes[:, 2:] - boxes[:, :2]) * draw(5, 2, seed=3).sigmoid()
    expected = []
    for (x, y), (left, top, right, bottom) in zip(points.tolist(), boxes.tolist(), strict=True):
        across, down = sorted((x - left, right - x)), sorted((y - top, bottom - y))
        expected.append(math.sqrt(across[0] / across[1] * down[0] / down[1]))
    return centerness(points, boxes), numbers(expected)


def cost_of_a_pair() -> Pair:
    logits, boxes = draw(1, 4, 3), draw(1, 4, 4, seed=1).sigmoid()
    labels, objects = torch.tensor([2, 0]), draw(2, 4, seed=2).sigmoid()
    found = HungarianMatcher().cost(Predictions(logits, boxes), pad_targets([{"labels": labels, "boxes": objects}]))
    expected = torch.zeros(4, 2, dtype=torch.float64)
    for q in range(4):
        for g in range(2):
            p = 1 / (1 + math.exp(-float(logits[0, q, labels[g]])))
            price = -0.25 * (1 - p) ** 2 * math.log(p) + 0.75 * p**2 * math.log(1 - p)
            b, o = boxes[0, q].tolist(), objects[g].tolist()
            l1 = sum(abs(i - j) for i, j in zip(b, o, strict=True))
            expected[q, g] = 2 * price + 5 * l1 - 2 * giou(*([x - w / 2, y - h / 2, x + w / 2, y + h / 2]
                                                             for x, y, w, h in (b, o)))  # fmt: skip
    return found[0], expected


def points_around_a_box() -> Pair:
    Q, M, P, C = 3, 2, 4, 8
    attention = moved(MultiScaleDeformableAttention(C, 1, M, P))
    z, x, box = draw(1, Q, C), draw(1, 20, C, seed=1), draw(1, Q, 1, 4, seed=2).sigmoid()
    _, found, _ = attention(z, box, x, torch.tensor([(4, 5)]), torch.tensor([0]))
    offset = attention.sampling_offsets(z).view(Q, M, P, 2)
    expected = torch.zeros(Q, M, P, 2, dtype=torch.float64)
    for q, m, k, axis in torch.cartesian_prod(*(torch.arange(n) for n in (Q, M, P, 2))).tolist():
        centre, size = float(box[0, q, 0, axis]), float(box[0, q, 0, 2 + axis])
        expected[q, m, k, axis] = centre + float(offset[q, m, k, axis]) * size / (2 * P)
    return found[0, :, :, 0], expected


def ring_of_points() -> Pair:
    L, M, P = 2, 8, 4
    bias = MultiScaleDeformableAttention(32, L, M, P).sampling_offsets.bias.view(M, L, P, 2)
    expected = torch.zeros(M, L, P, 2)
    for m, l, k in torch.cartesian_prod(torch.arange(M), torch.arange(L), torch.arange(P)).tolist():
        direction = math.cos(2 * math.pi * m / M), math.sin(2 * math.pi * m / M)
        for axis in (0, 1):
            expected[m, l, k, axis] = (k + 1) * direction[axis] / max(abs(d) for d in direction)
    return bias, expected


def references_on_levels() -> Pair:
    padding = torch.zeros(1, 8, 10, dtype=torch.bool)
    padding[:, 6:], padding[:, :, 5:] = True, True  # 6 of 8 rows and 5 of 10 columns are image
    pyramid = FlatPyramid.flatten([torch.zeros(1, 4, 8, 10)], [padding], torch.zeros(1, 4))
    reference = draw(1, 3, 2).sigmoid()
    expected = [[x * 5 / 10, y * 6 / 8] for x, y in reference[0].tolist()]
    return pyramid.on_levels(reference)[0, :, 0], torch.tensor(expected)


def attention_of_the_pyramid() -> Pair:
    C = 4
    attention = moved(JointAttention(C))
    levels = [draw(1, C, 2, 3), draw(1, C, 1, 2, seed=1)]
    tokens = to_tokens(levels)[0]
    normed = [(t - t.mean()) / (t.var(correction=0) + 1e-5).sqrt() for t in tokens]
    q, k, v = torch.stack([attention.query_key_value(n * attention.norm.weight + attention.norm.bias)
                           for n in normed]).chunk(3, 1)  # fmt: skip
    expected = []
    for n, token in enumerate(tokens):
        exps = [math.exp(float(q[n] @ key) / math.sqrt(C)) for key in k]
        read = sum(e / sum(exps) * value for e, value in zip(exps, v, strict=True))
        expected.append(token + attention.gamma * read)
    return to_tokens(attention(levels))[0], torch.stack(expected)
