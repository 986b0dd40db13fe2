"""Checks and planted bugs of what a one-stage detector answers: its head, boxes out of answers, suppression."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.fcos import FCOSRegressionHead
from torchvision.ops import batched_nms, box_iou, clip_boxes_to_image
from torchvision.ops import nms as torchvision_nms

from dyhead_lab.detectors.box_ops import cxcywh_to_xyxy
from dyhead_lab.detectors.one_stage.fcos_head import FCOSHead

from ..practice.reader_checks import Case, Mistake, Verdict, check

# The half of the head that predicts boxes

CHANNELS, CLASSES = 32, 3
ANSWERS = ("cls_logits", "bbox_regression", "bbox_ctrness")
Levels = list[Tensor]


def _library_head(convs: int) -> FCOSRegressionHead:
    torch.manual_seed(convs)
    head = FCOSHead(CHANNELS, 1, CLASSES, convs).regression_head.double()
    for parameter in head.parameters():  # a fresh one starts near zero, where many mistakes do not show
        nn.init.normal_(parameter, std=0.2)
    return head


def _head_cases(seed: int = 0) -> Iterator[Case]:
    """One level without a tower, then levels, then towers."""
    generator = torch.Generator().manual_seed(seed)
    for convs, sizes in ((0, [(4, 4)]), (0, [(4, 6), (2, 3)]), (1, [(4, 6), (2, 3)]), (2, [(5, 6), (3, 3), (2, 2)])):
        levels = [torch.randn(2, CHANNELS, *size, generator=generator, dtype=torch.float64) for size in sizes]
        maps = ", ".join(f"{h} x {w}" for h, w in sizes)
        words = f"{convs} convolution{'s' * (convs != 1)} in the tower, level{'s' * (len(sizes) > 1)} of {maps}"
        yield Case(words, (levels, convs))


@torch.no_grad()
def head_formula(levels: Levels, convs: int) -> list[Tensor]:
    return list(_library_head(convs)(levels))


def _head_variant(
    distance: Callable[[Tensor], Tensor] = torch.relu,
    central: Callable[[Tensor], Tensor] = lambda x: x,
    rows: Callable[[Tensor], Tensor] = lambda x: x.flatten(2).transpose(1, 2),
    order: Callable[[Levels], Levels] = lambda levels: levels,
    tower_for_centres: bool = True,
    answer: Callable[[list[Tensor]], list[Tensor]] = lambda answers: answers,
) -> Callable[[Levels, int], list[Tensor]]:
    @torch.no_grad()
    def imitate(levels: Levels, convs: int) -> list[Tensor]:
        head = _library_head(convs)
        distances, centres = [], []
        for x in order(levels):
            read = head.conv(x)
            distances.append(rows(distance(head.bbox_reg(read))))
            centres.append(rows(central(head.bbox_ctrness(read if tower_for_centres else x))))
        return answer([torch.cat(distances, 1), torch.cat(centres, 1)])

    return imitate


HEAD_MISTAKES = (
    Mistake(
        "the distances may be negative",
        "a side lies at a distance of at least 0: ReLU behind bbox_reg.",
        _head_variant(distance=lambda x: x),
    ),
    Mistake(
        "the distances are exponentials",
        "the paper's first version took exp; this one takes ReLU.",
        _head_variant(distance=torch.exp),
    ),
    Mistake(
        "the centredness is a probability already",
        "its loss takes a logit: no sigmoid in the head.",
        _head_variant(central=torch.sigmoid),
    ),
    Mistake(
        "the places run down the columns",
        "row by row, as as_rows gives them, and as the points are listed.",
        _head_variant(rows=lambda x: x.transpose(2, 3).flatten(2).transpose(1, 2)),
    ),
    Mistake(
        "the coarsest level comes first",
        "the answers follow the levels, fine to coarse.",
        _head_variant(order=lambda levels: levels[::-1]),
    ),
    Mistake(
        "the centredness does not read the tower",
        "bbox_ctrness stands on the tower, beside bbox_reg.",
        _head_variant(tower_for_centres=False),
    ),
    Mistake(
        "the centredness comes first",
        "return the distances, then the centredness.",
        _head_variant(answer=lambda answers: answers[::-1]),
    ),
)


def check_regression_head(head: Callable[[int, int], nn.Module]) -> Verdict:
    """Check the reader's ``FCOSRegressionHead(channels, convs)``, filled with the weights of the library's."""

    @torch.no_grad()
    def filled(levels: Levels, convs: int) -> list[Tensor]:
        own = head(CHANNELS, convs).double()
        own.load_state_dict(_library_head(convs).state_dict())
        return list(own(levels))

    return check(filled, head_formula, _head_cases(), HEAD_MISTAKES)


# Suppression


def nms_formula(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
    return torchvision_nms(boxes, scores, threshold)


def _nms_cases(seed: int = 0) -> Iterator[Case]:
    """Two boxes, a chain of three (the middle one falls, the last one stays), then crowds."""
    pair = torch.tensor([[0.0, 0, 10, 10], [2, 0, 12, 10]], dtype=torch.float64)
    yield Case("two boxes of IoU 0.67, scores 0.6 and 0.9", (pair, torch.tensor([0.6, 0.9]).double(), 0.5))
    yield Case("the same, threshold 0.7", (pair, torch.tensor([0.6, 0.9]).double(), 0.7))
    chain = torch.tensor([[0.0, 0, 10, 10], [3, 0, 13, 10], [6, 0, 16, 10]], dtype=torch.float64)
    yield Case("a chain of three, 3 pixels apart", (chain, torch.tensor([0.9, 0.8, 0.7]).double(), 0.5))
    generator = torch.Generator().manual_seed(seed)
    for n in (6, 30):
        corner = 40 * torch.rand(n, 2, generator=generator, dtype=torch.float64)
        boxes = torch.cat([corner, corner + 15 + 15 * torch.rand(n, 2, generator=generator).double()], 1)
        yield Case(f"{n} boxes", (boxes, torch.rand(n, generator=generator).double(), 0.4))


def _greedy(
    order: Callable[[Tensor], Tensor] = lambda scores: scores.argsort(descending=True),
    overlap: Callable[[Tensor], Tensor] = lambda boxes: box_iou(boxes, boxes),
    falls: Callable[[Tensor, float], Tensor] = lambda iou, threshold: iou > threshold,
    dead_suppress: bool = False,
    answer: Callable[[Tensor], Tensor] = lambda kept: kept,
) -> Callable[[Tensor, Tensor, float], Tensor]:
    def imitate(boxes: Tensor, scores: Tensor, threshold: float) -> Tensor:
        iou, alive, kept = overlap(boxes), torch.ones(len(boxes), dtype=torch.bool), []
        for i in order(scores).tolist():
            if alive[i]:
                kept.append(i)
            if alive[i] or dead_suppress:
                alive &= ~falls(iou[i], threshold)
        return answer(torch.tensor(kept, dtype=torch.int64))

    return imitate


def _share_of_smaller(boxes: Tensor) -> Tensor:
    area = (boxes[:, 2:] - boxes[:, :2]).prod(1)
    iou = box_iou(boxes, boxes)
    return iou * (area[:, None] + area) / (1 + iou) / torch.minimum(area[:, None], area)


NMS_MISTAKES = (
    Mistake(
        "the boxes are taken in the order in which they come",
        "the box of the highest score goes first.",
        _greedy(order=lambda scores: torch.arange(len(scores))),
    ),
    Mistake(
        "the lowest score goes first",
        "sort in descending order.",
        _greedy(order=lambda scores: scores.argsort()),
    ),
    Mistake(
        "a box that has fallen still takes others with it",
        "only a box that is kept suppresses.",
        _greedy(dead_suppress=True),
    ),
    Mistake(
        "boxes that hardly overlap fall",
        "a box falls where its IoU with a kept one is above the threshold.",
        _greedy(falls=lambda iou, threshold: (iou < threshold) | (iou == 1)),
    ),
    Mistake(
        "the overlap is measured in the smaller box",
        "IoU divides by the union of both.",
        _greedy(overlap=_share_of_smaller),
    ),
    Mistake(
        "the boxes are read as centre and size",
        "they are corners, x1, y1, x2, y2.",
        _greedy(overlap=lambda boxes: box_iou(cxcywh_to_xyxy(boxes), cxcywh_to_xyxy(boxes))),
    ),
    Mistake(
        "the kept boxes are returned in their old order",
        "the best one first.",
        _greedy(answer=lambda kept: kept.sort().values),
    ),
)  # fmt: skip


def check_nms(function: Callable[[Tensor, Tensor, float], Tensor]) -> Verdict:
    """Check the reader's ``nms(boxes, scores, threshold)``: the numbers of the kept boxes, best first."""
    return check(function, nms_formula, _nms_cases(), NMS_MISTAKES)


# From answers to boxes

LEAST, MOST, OVERLAP = 0.05, 20, 0.6


def detections_formula(points: Tensor, units: Tensor, answers: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
    return _detections_variant()(points, units, answers, size)


def _detections_cases(seed: int = 0) -> Iterator[Case]:
    """One class and no overlap, then several classes, then crowds at the border of the image."""
    generator = torch.Generator().manual_seed(seed)
    for places, classes, reach in ((4, 1, 0.4), (6, 3, 0.4), (25, 1, 1.5), (40, 3, 1.5)):
        points = 64 * torch.rand(places, 2, generator=generator, dtype=torch.float64)
        units = 4.0 * 2 ** torch.randint(3, (places,), generator=generator).double()
        answers = [
            torch.randn(places, classes, generator=generator, dtype=torch.float64),
            reach * (1 + 2 * torch.rand(places, 4, generator=generator, dtype=torch.float64)),
            torch.randn(places, 1, generator=generator, dtype=torch.float64),
        ]
        yield Case(f"{places} places, {classes} class{'es' * (classes > 1)}", (points, units, answers, (64, 64)))


def _detections_variant(
    score: Callable[[Tensor, Tensor], Tensor] = lambda classes, centre: (classes * centre).sqrt(),
    box: Callable[[Tensor, Tensor], Tensor] = lambda p, d: torch.cat([p - d[:, :2], p + d[:, 2:]], 1),
    unit: Callable[[Tensor], Tensor] = lambda units: units,
    suppress: Callable[..., Tensor] = batched_nms,
    clip: bool = True,
    best_class_only: bool = False,
) -> Callable[..., list[Tensor]]:
    def imitate(points: Tensor, units: Tensor, answers: list[Tensor], size: tuple[int, int]) -> list[Tensor]:
        scores = score(answers[0].sigmoid(), answers[2].sigmoid())
        wanted = scores > LEAST
        if best_class_only:
            wanted &= scores == scores.amax(1, keepdim=True)
        place, label = wanted.nonzero(as_tuple=True)
        boxes = box(points[place], answers[1][place] * unit(units)[place, None])
        boxes = clip_boxes_to_image(boxes, size) if clip else boxes
        kept = suppress(boxes, scores[place, label], label, OVERLAP)[:MOST]
        return [boxes[kept], scores[place, label][kept], label[kept]]

    return imitate


DETECTIONS_MISTAKES = (
    Mistake(
        "suppression runs over classes",
        "a cup may stand before a table: boxes of different classes do not suppress each other; batched_nms.",
        _detections_variant(suppress=lambda boxes, scores, labels, iou: torchvision_nms(boxes, scores, iou)),
    ),
    Mistake(
        "the centredness is left out of the score",
        "the root of probability times centredness.",
        _detections_variant(score=lambda classes, centre: classes),
    ),
    Mistake(
        "the score is the product, not its root",
        "the root of probability times centredness, which lies on the scale of a probability.",
        _detections_variant(score=lambda classes, centre: classes * centre),
    ),
    Mistake(
        "the distances are taken in pixels",
        "they count in units of the place's level.",
        _detections_variant(unit=torch.ones_like),
    ),
    Mistake(
        "a place and four distances are read as centre and size",
        "x1 = x - left and x2 = x + right.",
        _detections_variant(box=lambda p, d: cxcywh_to_xyxy(torch.cat([p, d[:, :2] + d[:, 2:]], 1))),
    ),
    Mistake(
        "every place gives its best class alone",
        "each class of a place whose score is above the threshold gives a box.",
        _detections_variant(best_class_only=True),
    ),
    Mistake(
        "the boxes reach beyond the image",
        "clip them to (height, width), before suppression.",
        _detections_variant(clip=False),
    ),
)


def check_detections(function: Callable[..., dict[str, Tensor]]) -> Verdict:
    """Check the reader's ``detections(points, units, answers, size, least, most)`` for one image."""

    def in_order(points: Tensor, units: Tensor, answers: list[Tensor], size: tuple[int, int]) -> Any:
        found = function(points, units, dict(zip(ANSWERS, answers, strict=True)), size, LEAST, MOST)
        return found if found is None else [found[name] for name in ("boxes", "scores", "labels")]

    return check(in_order, detections_formula, _detections_cases(), DETECTIONS_MISTAKES)
