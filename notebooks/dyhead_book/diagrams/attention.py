"""Diagrams of chapters 02, 06, 09 and 10: gates, activations that an image chooses, dense and deformable attention."""

from __future__ import annotations

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Diagram


def scale_gate() -> Diagram:
    """The released scale-aware attention: from a branch to its gate."""
    diagram = Diagram(
        800,
        190,
        "The gate of one branch: the mean over all places gives C numbers, a linear map makes one of them, ReLU "
        "and a hard sigmoid bring it between 0.5 and 1, and the branch is multiplied by it.",
    )
    branch = diagram.box(20, 60, 120, 56, "branch\nC x H x W", BLUE)
    steps = (
        ("mean over H, W", "C numbers", GREY),
        ("linear map", "C to 1", ORANGE),
        ("ReLU, then", "relu6(x + 3) / 6", GREEN),
    )
    x, before = 175, branch
    for title, words, colour in steps:
        box = diagram.box(x, 60, 140, 56, f"{title}\n{words}", colour)
        diagram.arrow(before.right, box.left)
        before, x = box, x + 165
    times = diagram.box(690, 60, 90, 56, "multiply", GREY)
    diagram.arrow(before.right, times.left)
    diagram.arrow(branch.bottom, (80, 155), (735, 155), times.bottom)
    diagram.label(400, 174, "the branch itself")
    diagram.label(400, 34, "one number for a branch and an image, between 0.5 and 1", bold=True)
    return diagram


def task_activation() -> Diagram:
    """Task-aware attention: a small network chooses two lines for every channel."""
    diagram = Diagram(
        800,
        260,
        "Task-aware attention. The mean over all places of a level goes through two linear maps, which give four "
        "numbers a channel: slopes and intercepts of two lines. Each feature becomes the larger of the two lines "
        "at it.",
    )
    level = diagram.box(20, 100, 120, 56, "level\nC x H x W", BLUE)
    mean = diagram.box(180, 30, 130, 56, "mean over H, W\nC numbers", GREY)
    hidden = diagram.box(345, 30, 130, 56, "linear, ReLU\nC to C/4", ORANGE)
    lines = diagram.box(510, 30, 130, 56, "linear\nC/4 to 4C", ORANGE)
    both = diagram.box(510, 130, 130, 56, "a1, b1, a2, b2\nfor each channel", PURPLE)
    out = diagram.box(345, 130, 130, 56, "max(a1 x + b1,\na2 x + b2)", GREEN)
    diagram.arrow(level.top, (80, 58), mean.left)
    diagram.arrow(mean.right, hidden.left)
    diagram.arrow(hidden.right, lines.left)
    diagram.arrow(lines.bottom, both.top)
    diagram.arrow(both.left, out.right)
    diagram.arrow(level.right, (240, 128), (240, 158), out.left)
    diagram.arrow(out.bottom, (410, 225), (330, 225))
    diagram.label(322, 229, "C x H x W", "end")
    diagram.label(660, 60, "a1 = 1, all others 0:\nthat is ReLU; a fresh\nmodule starts near", "start")
    return diagram


def dense_and_deformable() -> Diagram:
    """What one query reads: every token, or a few points that it chooses."""
    diagram = Diagram(
        800,
        330,
        "Two ways to read a map of 8 x 8 cells. On the left a query compares itself with all 64 tokens and takes a "
        "weighted mean of them. On the right it predicts four places near its reference point and the weight of "
        "each, and reads between the cells there.",
    )
    cell = 26
    diagram.label(60 + 4 * cell, 40, "multi-head attention", bold=True)
    diagram.grid(60, 56, 8, 8, cell, [(r, c) for r in range(8) for c in range(8)])
    diagram.label(60 + 4 * cell, 290, "weights: query . key of all N tokens\ncost N for a query, N x N for a map")
    diagram.label(480 + 4 * cell, 40, "deformable attention", bold=True)
    diagram.grid(480, 56, 8, 8, cell)
    centre = (480 + 3.5 * cell, 56 + 4.5 * cell)
    diagram.dot(*centre, 5, GREY)
    for dx, dy in ((-1.6, -1.2), (1.9, -2.3), (2.6, 0.8), (-0.9, 1.7)):
        place = (centre[0] + dx * cell, centre[1] + dy * cell)
        diagram.arrow(centre, place, colour=RED, head=False)
        diagram.dot(*place, 5, RED)
    diagram.label(
        480 + 4 * cell, 290, "places and weights: linear maps of the query alone\ncost K for a query, N x K for a map"
    )
    query = diagram.box(330, 130, 90, 50, "query", PURPLE)
    diagram.arrow(query.left, (60 + 8 * cell + 4, 155))
    diagram.arrow(query.right, (476, 155))
    return diagram


def deformable_module() -> Diagram:
    """Multi-scale deformable attention as a module."""
    diagram = Diagram(
        800,
        330,
        "The module. Two linear maps of the query give, for each head, level and point, an offset and a weight; "
        "softmax runs over levels and points together. A linear map of the tokens gives values, cut into heads. "
        "The operator reads each level at reference point plus offset, takes the weighted sum, and a last linear "
        "map joins the heads.",
    )
    query = diagram.box(20, 40, 120, 56, "queries\nQ x C", PURPLE)
    tokens = diagram.box(20, 210, 120, 56, "all tokens\nN x C", BLUE)
    offset = diagram.box(190, 20, 170, 46, "linear: M L P offsets", ORANGE)
    weight = diagram.box(190, 84, 170, 46, "linear: M L P weights", ORANGE)
    value = diagram.box(190, 207, 170, 62, "linear, cut\ninto M heads", ORANGE)
    place = diagram.box(420, 20, 150, 46, "reference + offset", GREY)
    soft = diagram.box(420, 84, 150, 46, "softmax over L P", GREY)
    read = diagram.box(420, 203, 150, 70, "read, weigh, sum\nL P points a head", GREEN)
    out = diagram.box(630, 203, 150, 70, "linear\njoins M heads", ORANGE)
    diagram.arrow(query.right, (165, 68), (165, 43), offset.left)
    diagram.arrow(query.right, (165, 68), (165, 107), weight.left)
    diagram.arrow(tokens.right, value.left)
    diagram.arrow(offset.right, place.left)
    diagram.arrow(weight.right, soft.left)
    diagram.arrow(value.right, read.left)
    diagram.arrow(place.right, (595, 43), (595, 160), (520, 160), (520, 203))
    diagram.arrow(soft.bottom, (495, 160), (470, 160), (470, 203))
    diagram.arrow(read.right, out.left)
    diagram.label(705, 296, "Q x C", bold=True)
    diagram.label(20, 310, "M = 8 heads, L = 4 levels, P = 4 points: 16 points a head, whatever N is", "start")
    return diagram
