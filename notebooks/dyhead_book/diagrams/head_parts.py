"""Diagrams of chapters 02, 05 and 06: the two forms of the gates, one offset on three grids, what two lines can do."""

from __future__ import annotations

from .draw import BLUE, GREEN, GREY, ORANGE, RED, Diagram


def two_scale_forms() -> Diagram:
    """Whose means a weight hears, and what it weighs: the paper's form and the released one."""
    diagram = Diagram(
        800,
        330,
        "Two forms of scale-aware attention. In the paper all levels are resized to one size, each gives one mean "
        "over places and channels, a linear map mixes the L means, and every level is multiplied by its weight "
        "between 0 and 1. In the published code up to three branches meet at a level; each gives C means, a linear "
        "map makes one gate between 0.5 and 1 of them, and the level is the mean of its gated branches.",
    )
    diagram.frame(10, 10, 380, 310, "the paper: weights of levels")
    diagram.box(150, 120, 100, 90, "f, linear\nL to L,\nhard sigmoid", ORANGE)
    for n, (name, y) in enumerate((("P3", 60), ("P4", 142), ("P5", 224))):
        level = diagram.box(25, y, 90, 46, f"{name}\nS x C", BLUE)
        out = diagram.box(285, y, 90, 46, f"weight {n + 1}\n0 to 1", GREEN)
        diagram.arrow(level.right, (150, 140 + 25 * n))
        diagram.arrow((250, 140 + 25 * n), out.left)
    diagram.label(200, 300, "one mean a level; every weight hears all levels")
    diagram.frame(410, 10, 380, 310, "the published code: gates of branches")
    mean = diagram.box(690, 142, 85, 46, "mean\nC x H x W", GREY)
    for name, y in (("finer", 60), ("own", 142), ("coarser", 224)):
        branch = diagram.box(425, y, 95, 46, f"{name}\nC x H x W", BLUE)
        gate = diagram.box(545, y, 112, 46, "w . mean + b\n0.5 to 1", GREEN)
        diagram.arrow(branch.right, gate.left)
        diagram.arrow(gate.right, (672, y + 23), (672, 165), mean.left)
    diagram.label(600, 300, "C means a branch; a gate hears its own branch only")
    return diagram


def what_two_lines_make() -> Diagram:
    """Five activations as the larger of two lines."""
    diagram = Diagram(
        800,
        230,
        "Five activations as the larger of two lines: ReLU takes slopes 1 and 0, leaky ReLU 1 and 0.1, the absolute "
        "value 1 and -1, the identity 1 and 1, and a channel is off with slopes 0 and 0.",
    )
    known = (("ReLU", 1, 0), ("leaky ReLU", 1, 0.1), ("absolute value", 1, -1), ("identity", 1, 1), ("off", 0, 0))
    for n, (name, first, second) in enumerate(known):
        x, y, reach = 85 + 157 * n, 120, 55
        diagram.label(x, 30, name, bold=True)
        diagram.arrow((x - reach - 8, y), (x + reach + 8, y), head=False)
        diagram.arrow((x, y + reach + 8), (x, y - reach - 8), head=False)
        for slope, colour in ((first, BLUE), (second, GREEN)):
            ends = ((x - reach, y + slope * reach), (x + reach, y - slope * reach))
            diagram.arrow(*ends, colour=colour, dashed=True, head=False)
        left, right = max(-first, -second), max(first, second)  # the larger line at -1 and at 1
        for way, rise in ((-1, left), (1, right)):
            diagram.arrow((x, y), (x + way * reach, y - rise * reach), colour=RED, head=False)
            diagram.arrow((x, y - 1), (x + way * reach, y - 1 - rise * reach), colour=RED, head=False)
        diagram.label(x, 205, f"slopes {first:g}, {second:g}")
    return diagram


def offset_on_three_grids() -> Diagram:
    """What an offset of one cell means on a level and on its two neighbours."""
    diagram = Diagram(
        800,
        385,
        "Three rows of cells, P3 of 8, P4 of 16 and P5 of 32 pixels. On P4 an offset of 1 leads from a cell to its "
        "right neighbour, 16 pixels on. The published code uses the same number on P3, where it leads 8 pixels on and "
        "starts a quarter of a P4 cell too far left; 2 times the offset plus 1/2 would reach the same place. On P5 the "
        "mean of the offsets of two cells is halved, and leads 16 pixels on.",
    )
    left, cell = 120, 60  # of P4
    goal = left + 4.5 * cell
    rows = (("P3", "8 pixels", 70, 0.5, 16), ("P4", "16 pixels", 140, 1.0, 8), ("P5", "32 pixels", 240, 2.0, 4))
    for name, words, y, size, count in rows:
        diagram.label(20, y + 12, name, "start", bold=True)
        diagram.label(20, y + 28, words, "start")
        diagram.grid(left, y, count, 1, size * cell)
        for n in range(count):
            diagram.dot(left + (n + 0.5) * size * cell, y + size * cell / 2, 2.5, GREY)
    diagram.arrow((goal, 40), (goal, 365), dashed=True, head=False)
    diagram.label(goal, 30, "where the level points")

    def offset(start: float, end: float, y: float, colour: str) -> None:
        diagram.dot(left + start * cell, y, 4.5, colour)
        diagram.arrow((left + start * cell, y), (left + end * cell, y), colour=colour)

    offset(3.5, 4.5, 170, BLUE)  # cell 3 of P4
    offset(3.25, 3.75, 78, RED)  # finer cell 6, as it is
    offset(3.25, 4.5, 92, GREEN)  # 2 d + 1/2
    offset(3.0, 4.0, 300, GREEN)  # coarser cell 1: the mean of cells 2 and 3 points to the middle of their goals
    diagram.label(625, 76, "d = 1 as it is: 8 pixels", "start")
    diagram.label(625, 96, "2 d + 1/2: right", "start")
    diagram.label(625, 174, "d = 1: 16 pixels", "start")
    diagram.label(625, 296, "mean of two cells' d,", "start")
    diagram.label(625, 314, "halved: 16 pixels", "start")
    return diagram
