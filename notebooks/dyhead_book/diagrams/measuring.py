"""Diagrams of chapter 01: how two boxes are compared, and what a point of the pyramid learns of a box."""

from __future__ import annotations

from .draw import BLUE, GREEN, ORANGE, RED, Diagram


def intersection_over_union() -> Diagram:
    """Two boxes, their intersection and their union."""
    diagram = Diagram(
        780,
        250,
        "Two boxes of 40 by 40 pixels, the second 8 pixels further right. They share 32 by 40 pixels, together they "
        "cover 48 by 40. Intersection over union is 1280 / 1920, which is 0.67.",
    )
    scale, left, top = 4, 60, 40
    wide, high = 40 * scale, 40 * scale
    diagram.grid(left, top, 1, 1, wide, [(0, 0)], BLUE)
    diagram.grid(left + 8 * scale, top, 1, 1, high, [(0, 0)], ORANGE)
    diagram.label(left, top - 12, "object", "start", bold=True)
    diagram.label(left + wide + 32, top - 12, "found", "end", bold=True)
    diagram.arrow((left, top + high + 16), (left + 8 * scale, top + high + 16))
    diagram.label(left + 4 * scale, top + high + 34, "8 px")
    lines = (("intersection", "32 x 40 = 1280"), ("union", "48 x 40 = 1920"), ("IoU", "1280 / 1920 = 0.67"))
    for n, (name, number) in enumerate(lines):
        diagram.label(360, 90 + 34 * n, name, "start", bold=True)
        diagram.label(480, 90 + 34 * n, number, "start")
    diagram.label(360, 205, "union = area + area - intersection: what both share counts once", "start")
    return diagram


def point_and_box() -> Diagram:
    """The four distances of a point to the sides of a box, and the three rules of FCOS."""
    diagram = Diagram(
        820,
        280,
        "A point inside of a box measures its distances to the left, upper, right and lower side: 5, 3, 3 and 3 cells. "
        "It learns this box if all four are positive, if it lies near the centre, and if the farthest distance, 5 "
        "cells, suits the level. A point in several boxes takes the smallest.",
    )
    cell, left, top = 28, 40, 30
    diagram.grid(left, top, 11, 8, cell)
    x1, y1, x2, y2 = left + 1.5 * cell, top + 0.5 * cell, left + 9.5 * cell, top + 6.5 * cell
    diagram.arrow((x1, y1), (x2, y1), (x2, y2), (x1, y2), (x1, y1), colour=BLUE, head=False)
    px, py = left + 6.5 * cell, top + 3.5 * cell
    for end in ((x1, py), (px, y1), (x2, py), (px, y2)):
        diagram.arrow((px, py), end, colour=RED)
    diagram.dot(px, py, 6, RED)
    diagram.dot((x1 + x2) / 2, (y1 + y2) / 2, 5, GREEN)
    diagram.label((x1 + px) / 2 - 6, py + 20, "left", bold=True)
    diagram.label((x2 + px) / 2, py + 20, "right", bold=True)
    diagram.label(px + 8, (y1 + py) / 2, "up", "start", bold=True)
    diagram.label(px + 8, (y2 + py) / 2 + 10, "down", "start", bold=True)
    rules = (
        "1. all four distances are positive: the point is inside",
        "2. the point lies within the radius of the box's centre (green)",
        "3. the farthest distance lies within the reach of the level",
        "4. where several boxes are left, the smallest wins",
    )
    diagram.label(390, 70, "a point learns a box if", "start", bold=True)
    for n, rule in enumerate(rules):
        diagram.label(390, 104 + 30 * n, rule, "start")
    diagram.label(390, 240, "all other points learn: there is nothing", "start")
    return diagram
