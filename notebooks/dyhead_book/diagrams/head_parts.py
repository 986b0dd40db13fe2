"""Diagrams of chapters 02, 05 and 06: the two forms of the gates, one offset on three grids, what two lines can do."""

from __future__ import annotations

from .draw import BLUE, GREEN, GREY, RED, Diagram


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
