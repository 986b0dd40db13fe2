"""Diagrams of chapter 03: where an ordinary and a deformable convolution read, and where a gradient goes back to."""

from __future__ import annotations

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Diagram

#: Offsets (dx, dy) of the nine taps in cells, as they might lie on a slanted bar.
OFFSETS = (
    (2.2, -0.7), (2.0, -1.1), (1.6, -1.7), (1.2, -0.4), (0.3, 0.0), (0.3, -0.7), (-0.6, 1.6), (-0.8, 1.0), (-1.1, 0.2),
)  # fmt: skip
TAPS = [(column - 1, row - 1) for row in range(3) for column in range(3)]
#: Cells (row, column) of the bar.
BAR = [(6, 1), (6, 2), (5, 1), (5, 2), (5, 3), (4, 2), (4, 3), (4, 4), (3, 3), (3, 4), (2, 3), (2, 4), (2, 5), (1, 4),
       (1, 5), (1, 6), (0, 5), (0, 6)]  # fmt: skip


def regular_and_moved_taps() -> Diagram:
    """The nine taps of an ordinary convolution, and the same nine moved onto an object."""
    diagram = Diagram(
        800,
        326,
        "Left: the nine taps of a 3x3 convolution stand on a fixed square around the place; some of them miss a "
        "slanted bar. Right: each tap is moved by an offset of its own, a real number of pixels, and all nine lie on "
        "the bar. Dots of different size stand for the masks.",
    )
    cell, top = 34, 50
    for left, title, moved in ((60, "ordinary: the taps are fixed", False), (470, "deformable: each tap moves", True)):
        diagram.label(left + 4 * cell, 32, title, bold=True)
        diagram.grid(left, top, 8, 7, cell, BAR, BLUE)
        cx, cy = left + 3.5 * cell, top + 3.5 * cell
        for k, (column, row) in enumerate(TAPS):
            x, y = cx + column * cell, cy + row * cell
            if moved:
                dx, dy = OFFSETS[k]
                diagram.arrow((x, y), (x + dx * cell, y + dy * cell), head=False)
                x, y = x + dx * cell, y + dy * cell
            diagram.dot(x, y, 4 + (k % 3) if moved else 5, RED)
    diagram.label(400, 316, "one number out of nine samples, at every place; the offsets differ from place to place")
    return diagram


def gradient_of_a_sample() -> Diagram:
    """One tap forward, and where its gradient goes back to."""
    diagram = Diagram(
        860,
        230,
        "One tap forward and backward. Four pixels and an offset give a sample x; times the weight w, times the mask m "
        "it enters the output. Backward the gradient g of the output gives g x m to the weight, g w x to the mask, "
        "g w m times its share to each pixel, and g w m times the slope to the offset.",
    )
    pixels = diagram.box(20, 40, 150, 50, "four pixels\nof the input", BLUE)
    offset = diagram.box(20, 130, 150, 50, "offset\ndy, dx", PURPLE)
    sample = diagram.box(280, 80, 130, 56, "sample x\nbilinear", ORANGE)
    weight = diagram.box(500, 20, 110, 40, "weight w", GREEN)
    mask = diagram.box(500, 160, 110, 40, "mask m", PURPLE)
    product = diagram.box(500, 86, 110, 44, "w x m", GREY)
    out = diagram.box(710, 86, 120, 44, "output y", GREY)
    diagram.arrow(pixels.right, (225, 65), (225, 108), sample.left)
    diagram.arrow(offset.right, (225, 155), (225, 108), sample.left)
    diagram.arrow(sample.right, product.left)
    diagram.arrow(weight.bottom, product.top)
    diagram.arrow(mask.top, product.bottom)
    diagram.arrow(product.right, out.left)
    diagram.label(770, 152, "gradient g")
    diagram.label(620, 45, "gets g x m", "start", bold=True)
    diagram.label(620, 185, "gets g w x", "start", bold=True)
    diagram.label(345, 156, "gets g w m", bold=True)
    diagram.label(20, 30, "each gets g w m times its share G", "start", bold=True)
    diagram.label(20, 198, "gets g w m times the slope of x", "start", bold=True)
    diagram.label(
        430, 224, "each of the three factors gets the gradient times the other two; the sample hands on its own"
    )
    return diagram
