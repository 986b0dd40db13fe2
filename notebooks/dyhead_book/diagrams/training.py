"""Diagrams of chapter 13: which parts of a detector learn at which share of the rate."""

from __future__ import annotations

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, Diagram


def parameter_groups() -> Diagram:
    """Backbone and sampling offsets learn at a tenth."""
    diagram = Diagram(
        860,
        262,
        "The parts of a detector by how fast they learn. The body of the backbone learns at a tenth of the rate, the "
        "pyramid on it and the head at the full rate, layers that predict sampling offsets at a tenth, and those "
        "inside the backbone at a hundredth. Frozen layers stand in no group.",
    )
    body = diagram.box(20, 60, 170, 62, "body of the backbone\nlr x 0.1", BLUE)
    pyramid = diagram.box(240, 60, 150, 62, "pyramid\nlr", GREEN)
    head = diagram.box(440, 60, 190, 62, "attention and head\nlr", GREEN)
    out = diagram.box(690, 60, 150, 62, "classes, boxes\nlr", GREEN)
    for a, b in ((body, pyramid), (pyramid, head), (head, out)):
        diagram.arrow(a.right, b.left)
    inside = diagram.box(20, 180, 170, 62, "offsets in the body\nlr x 0.1 x 0.1", PURPLE)
    offsets = diagram.box(440, 180, 190, 62, "layers that predict\noffsets: lr x 0.1", ORANGE)
    diagram.box(240, 180, 150, 62, "frozen layers\nin no group", GREY)
    diagram.arrow(inside.top, body.bottom)
    diagram.arrow(offsets.top, head.bottom)
    diagram.label(105, 34, "has learned ImageNet", bold=True)
    diagram.label(535, 34, "starts from random weights", bold=True)
    diagram.label(650, 206, "decide where the\nattention looks", "start")
    return diagram
