"""Diagrams of chapters 14 and 15: a claim beside its control, what a point leaves behind, rings, ratios of gates."""

from __future__ import annotations

import math

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Diagram


def claim_and_control() -> Diagram:
    """One measurement, taken twice: as it is, and with one thing changed that the claim is about."""
    diagram = Diagram(
        820,
        270,
        "A claim and its control. The picture passes the trained network; from its trace comes a map, and from the map "
        "one number. The control takes the same way with one thing changed: weights from before training, a ring for "
        "the learned points, or another picture. Only the difference of both numbers speaks for the claim.",
    )
    for row, (title, network, changed) in enumerate(
        (("as it is", "trained network", ""), ("control", "one thing changed", "weights, points\nor picture"))
    ):
        top = 40 + 120 * row
        colour = BLUE if row == 0 else ORANGE
        diagram.label(20, top - 12, title, "start", bold=True)
        picture = diagram.box(20, top, 100, 56, "picture", GREY)
        model = diagram.box(160, top, 160, 56, network, colour)
        traced = diagram.box(360, top, 90, 56, "trace", colour)
        heat = diagram.box(490, top, 80, 56, "map", colour)
        number = diagram.box(610, top, 80, 56, "number", colour)
        for a, b in ((picture, model), (model, traced), (traced, heat), (heat, number)):
            diagram.arrow(a.right, b.left)
        if changed:
            diagram.label(240, top + 76, changed)
        diagram.arrow(number.right, (720, top + 28), (720, 115 if row == 0 else 145))
    diagram.box(700, 115, 110, 30, "difference", GREEN)
    return diagram


def point_leaves_weight() -> Diagram:
    """A sampling point on a map, and what it leaves on the four cells around it."""
    diagram = Diagram(
        800,
        260,
        "A sampling point on a map of cells. It lies 0.3 of a cell right of and 0.4 below the centre of one cell. Its "
        "weight of 0.5 is left on the four cells around it by their bilinear shares: 0.21, 0.09, 0.14 and 0.06.",
    )
    left, top, cell = 40, 30, 50
    diagram.grid(left, top, 5, 4, cell, [(1, 1), (1, 2), (2, 1), (2, 2)], BLUE)
    centre_x, centre_y = left + 1.5 * cell, top + 1.5 * cell
    for row in range(2):
        for column in range(2):
            diagram.dot(centre_x + column * cell, centre_y + row * cell, 3, GREY)
    diagram.dot(centre_x + 0.3 * cell, centre_y + 0.4 * cell, 7, RED)
    lines = (
        ("this cell", "0.5 x 0.7 x 0.6", "0.21"),
        ("right of it", "0.5 x 0.3 x 0.6", "0.09"),
        ("below it", "0.5 x 0.7 x 0.4", "0.14"),
        ("right and below", "0.5 x 0.3 x 0.4", "0.06"),
    )
    diagram.label(360, 50, "a point of weight 0.5 leaves", "start", bold=True)
    for n, (name, product, number) in enumerate(lines):
        y = 84 + 28 * n
        diagram.label(360, y, name, "start")
        diagram.label(500, y, product, "start")
        diagram.label(690, y, number, "end")
    diagram.label(
        360, 212, "Together 0.5. It is bilinear sampling run backwards:\nwhat would be read is written to.", "start"
    )
    return diagram


def ring_of_points() -> Diagram:
    """The points of an untrained layer around a reference box, stretched to the box."""
    diagram = Diagram(
        800,
        270,
        "Where deformable attention reads before training: eight heads look in eight directions around the centre of "
        "the reference box, four points each. The directions are stretched so that the last points lie on the box's "
        "border: everything is inside before anything was learned.",
    )
    cx, cy, half_w, half_h = 200, 135, 150, 95
    x1, y1, x2, y2 = cx - half_w, cy - half_h, cx + half_w, cy + half_h
    diagram.arrow((x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1), colour=BLUE, head=False)
    for m in range(8):
        x, y = math.cos(2 * math.pi * m / 8), math.sin(2 * math.pi * m / 8)
        stretch = max(abs(x), abs(y))
        for k in range(1, 5):
            px, py = cx + x / stretch * k / 4 * half_w, cy + y / stretch * k / 4 * half_h
            diagram.dot(round(px, 1), round(py, 1), 5, GREY if m else RED)
    diagram.dot(cx, cy, 3, GREY)
    diagram.label(390, 70, "the reference: the box of the layer before", "start", bold=True)
    diagram.label(390, 110, "each row of dots is a head; in red head 0,\nwhich looks to the right", "start")
    diagram.label(390, 164, "point k of 4 lies k / 4 of the way to the border", "start")
    diagram.label(390, 200, "if the box fits the object, an untrained layer\nputs all of its points inside", "start")
    return diagram


def ratio_of_gates() -> Diagram:
    """The gates of the branches that meet at each level, and the ratio of the outermost two."""
    diagram = Diagram(
        820,
        330,
        "Scale ratios. At P3 its own branch and the coarser neighbour meet, at P4 three branches, at P5 its finer "
        "neighbour and its own. Every branch has a gate between 0.5 and 1. The scale ratio of a level is the gate of "
        "its finest branch over that of its coarsest.",
    )
    levels = (
        ("P3", (("own", GREEN), ("coarser", ORANGE))),
        ("P4", (("finer", BLUE), ("own", GREEN), ("coarser", ORANGE))),
        ("P5", (("finer", BLUE), ("own", GREEN))),
    )
    gates = {"P3": "0.98 / 0.50", "P4": "0.86 / 0.71", "P5": "0.60 / 0.80"}
    ratios = {"P3": "1.96", "P4": "1.21", "P5": "0.75"}
    diagram.label(60, 26, "level", bold=True)
    diagram.label(270, 26, "branches, fine to coarse, each with its gate", bold=True)
    diagram.label(560, 26, "finest over coarsest", bold=True)
    diagram.label(720, 26, "scale ratio", bold=True)
    for row, (level, branches) in enumerate(levels):
        top = 50 + 84 * row
        diagram.box(25, top, 70, 50, level, GREY)
        for name, colour in branches:
            place = ("finer", "own", "coarser").index(name)
            diagram.box(130 + 100 * place, top, 84, 50, name, colour)
        diagram.label(560, top + 30, gates[level])
        diagram.label(720, top + 30, ratios[level], bold=True)
        diagram.arrow((440, top + 25), (500, top + 25))
        diagram.arrow((625, top + 25), (680, top + 25))
    diagram.label(410, 312, "above 1: the level listens more to its finer side; below 1: more to its coarser side")
    return diagram


def paired_changes() -> Diagram:
    """Every picture is changed in several ways and is its own control."""
    diagram = Diagram(
        820,
        300,
        "Every picture is its own control. Its ratio is measured as it is, and again after a change: zoomed, darkened, "
        "or only mirrored, a change that should mean nothing. The differences of all pictures give a mean with an "
        "interval. A change counts as far as it exceeds that of the mirror image.",
    )
    picture = diagram.box(20, 120, 100, 60, "a picture", GREY)
    changes = (
        ("as it is", BLUE, ""),
        ("zoomed", ORANGE, "sizes change"),
        ("darkened", PURPLE, "light changes"),
        ("mirrored", GREEN, "nothing that matters"),
    )
    for row, (name, colour, what) in enumerate(changes):
        top = 20 + 68 * row
        box = diagram.box(180, top, 150, 50, f"{name}\n{what}" if what else name, colour)
        ratio = diagram.box(390, top, 110, 50, "log2 ratio", GREY)
        diagram.arrow(picture.right, (150, 150), (150, top + 25), box.left)
        diagram.arrow(box.right, ratio.left)
        if row:
            diagram.arrow(ratio.right, (540, top + 25), (600, top + 25))
            diagram.label(610, top + 22, "minus that of the picture", "start")
            diagram.label(610, top + 40, "as it is: one difference", "start")
    diagram.label(530, 48, "then mean and interval over pictures", "start", bold=True)
    return diagram
