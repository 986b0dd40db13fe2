"""Diagrams of chapter 08: a one-stage detector part by part, and where attention stands in two-stage ones."""

from __future__ import annotations

from itertools import pairwise

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Diagram


def one_stage_detector() -> Diagram:
    """FCOS: what the chapter builds, in training and in use."""
    diagram = Diagram(
        860,
        400,
        "FCOS. Towers, or a Dynamic Head, read every level of the pyramid. Three convolutions answer for each place: "
        "classes, four distances, centredness. While it learns, an assignment says which place belongs to which "
        "object, and three losses compare. In use, scores are chosen, boxes decoded, and doubles suppressed.",
    )
    pyramid = diagram.box(20, 150, 120, 58, "pyramid\nP3 to P6", BLUE)
    tower = diagram.box(168, 150, 140, 58, "two towers, or\na Dynamic Head", GREEN)
    answers = [
        diagram.box(345, 70 + 80 * n, 150, 58, text, ORANGE)
        for n, text in enumerate(("classes\nB x N x K", "distances\nB x N x 4", "centredness\nB x N x 1"))
    ]
    diagram.arrow(pyramid.right, tower.left)
    for answer in answers:
        diagram.arrow(tower.right, (326, 179), (326, answer.left[1]), answer.left)
    diagram.frame(526, 14, 320, 174, "while it learns")
    losses = diagram.box(550, 50, 120, 58, "three losses\nfocal, GIoU, BCE", RED)
    assign = diagram.box(706, 50, 120, 58, "assignment\nobject of a place", PURPLE)
    objects = diagram.box(706, 128, 120, 46, "objects", GREY)
    diagram.arrow(objects.top, assign.bottom)
    diagram.arrow(assign.left, losses.right)
    diagram.frame(526, 206, 320, 174, "in use")
    chosen = diagram.box(550, 242, 120, 58, "score > 0.05\nroot of p x c", GREY)
    boxes = diagram.box(706, 242, 120, 58, "boxes\nfrom distances", GREY)
    suppress = diagram.box(706, 318, 120, 50, "suppression\nin each class", GREY)
    diagram.arrow(chosen.right, boxes.left)
    diagram.arrow(boxes.bottom, suppress.top)
    for answer in answers:
        diagram.arrow(answer.right, (511, answer.right[1]), (511, 79), losses.left, head=answer is answers[0])
        diagram.arrow(answer.right, (511, answer.right[1]), (511, 271), chosen.left, head=answer is answers[-1])
    diagram.label(20, 330, "N places on all levels, K classes;\nthe same weights read every level", "start")
    return diagram


def two_stage_attention() -> Diagram:
    """The paper's wish for two-stage detectors against the released code."""
    diagram = Diagram(
        860,
        265,
        "Two-stage detectors. In the paper, scale- and spatial-aware attention read the pyramid, proposals are pooled "
        "to regions of 7 x 7, and task-aware attention works on each region in place of two fully connected layers. In "
        "the released code all three attentions stand before the pooling, and the layers stay.",
    )
    rows = {
        "paper": (
            ("pyramid\nP2 to P6", BLUE),
            ("scale, spatial", GREEN),
            ("RPN, RoI pooling\nn x C x 7 x 7", GREY),
            ("task\nof each region", GREEN),
            ("class and box", ORANGE),
        ),
        "released": (
            ("pyramid\nP2 to P6", BLUE),
            ("spatial, scale,\ntask of each level", GREEN),
            ("RPN, RoI pooling\nn x C x 7 x 7", GREY),
            ("two linear layers\n13.9 M weights", PURPLE),
            ("class and box", ORANGE),
        ),
    }
    for n, (title, parts) in enumerate(rows.items()):
        y = 50 + 140 * n
        diagram.label(20, y + 34, title, "start", bold=True)
        boxes = [diagram.box(104 + 152 * i, y, 132, 62, text, colour) for i, (text, colour) in enumerate(parts)]
        for a, b in pairwise(boxes):
            diagram.arrow(a.right, b.left)
    diagram.label(430, 30, "C channels, n proposals; 13.9 million weights with C = 256")
    return diagram
