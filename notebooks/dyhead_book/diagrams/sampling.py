"""Diagrams of chapters 03, 04 and 10: one sample between pixels, the layer that moves its taps, threads and memory."""

from __future__ import annotations

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Diagram


def bilinear_sample() -> Diagram:
    """A sample between four pixels, and its weights."""
    diagram = Diagram(
        780,
        300,
        "A sample between pixels: it lies 0.3 below and 0.6 right of the first of four pixels. Each of the four "
        "weighs the area of the rectangle opposite to it: 0.28, 0.42, 0.12 and 0.18.",
    )
    x, y, side = 60, 50, 200
    diagram.grid(x, y, 1, 1, side)
    places = {"x(0, 0)": (x, y), "x(0, 1)": (x + side, y), "x(1, 0)": (x, y + side), "x(1, 1)": (x + side, y + side)}
    for name, (px, py) in places.items():
        diagram.dot(px, py, 6, BLUE)
        diagram.label(px + 10, py - 12, name, "start")
    sx, sy = x + 0.6 * side, y + 0.3 * side
    diagram.arrow((sx, y), (sx, y + side), dashed=True, head=False)
    diagram.arrow((x, sy), (x + side, sy), dashed=True, head=False)
    diagram.dot(sx, sy, 6, RED)
    diagram.label(sx + 10, sy + 20, "sample", "start", bold=True)
    diagram.label((x + sx) / 2, sy + 18, "dx = 0.6")
    diagram.label(sx + 8, (y + sy) / 2 + 5, "dy = 0.3", "start")
    lines = (
        ("x(0, 0)", "(1 - dy) (1 - dx)", "0.28"),
        ("x(0, 1)", "(1 - dy) dx", "0.42"),
        ("x(1, 0)", "dy (1 - dx)", "0.12"),
        ("x(1, 1)", "dy dx", "0.18"),
    )
    diagram.label(380, 70, "the value is a mean of four pixels", "start", bold=True)
    for n, (pixel, weight, number) in enumerate(lines):
        diagram.label(380, 105 + 28 * n, pixel, "start")
        diagram.label(470, 105 + 28 * n, weight, "start")
        diagram.label(660, 105 + 28 * n, number, "end")
    diagram.label(380, 230, "The weights sum to 1. A pixel outside the image counts as 0.\n"
                  "The weights change with dy and dx: the offset gets a gradient.", "start")  # fmt: skip
    return diagram


def deformable_layer() -> Diagram:
    """A deformable convolution as a layer: it predicts where its own taps look."""
    diagram = Diagram(
        800,
        280,
        "The layer. A branch of its own, a 3x3 convolution that starts at zero, predicts from the same input 18 "
        "offsets and 9 masks at each place. The deformable convolution reads the input at the moved taps, weighs "
        "each by its mask, and multiplies with its weights.",
    )
    source = diagram.box(20, 110, 130, 60, "input\nC x H x W", BLUE)
    branch = diagram.box(220, 30, 170, 60, "3x3 convolution\nstarts at zero", PURPLE)
    offsets = diagram.box(450, 10, 150, 44, "offsets, 18 x H x W", GREY)
    masks = diagram.box(450, 72, 150, 44, "masks, 9 x H x W", GREY)
    sample = diagram.box(450, 160, 150, 60, "read 9 taps\nbetween the pixels", ORANGE)
    product = diagram.box(650, 160, 130, 60, "times weights\nC' x C x 3 x 3", GREEN)
    diagram.arrow(source.right, (185, 140), (185, 60), branch.left)
    diagram.arrow(source.right, (185, 140), (185, 190), sample.left)
    diagram.arrow(branch.right, (420, 60), (420, 32), offsets.left)
    diagram.arrow(branch.right, (420, 60), (420, 94), masks.left)
    diagram.label(444, 112, "sigmoid", "end")
    diagram.arrow(offsets.right, (625, 32), (625, 145), (540, 145), (540, 160))
    diagram.arrow(masks.bottom, sample.top)
    diagram.arrow(sample.right, product.left)
    diagram.arrow(product.bottom, (715, 255), (620, 255))
    diagram.label(612, 259, "output, C' x H x W", "end")
    return diagram


def threads_and_memory() -> Diagram:
    """Grid, blocks, threads, and the three memories they see."""
    diagram = Diagram(
        860,
        330,
        "A kernel runs as a grid of blocks, a block as threads in warps of 32. Every thread has registers; the "
        "threads of a block share a small fast memory, and wait for each other at a barrier; all blocks see the "
        "large slow global memory, which moves in sectors of 32 bytes.",
    )
    diagram.frame(20, 20, 560, 200, "grid: one block for each tile of the output")
    for n in range(2):
        left = 40 + 270 * n
        diagram.frame(left, 56, 250, 148, f"block {n}")
        for t in range(4):
            diagram.box(left + 12 + 58 * t, 86, 52, 40, f"thread\n{t if t < 3 else '...'}", BLUE)
        shared = diagram.box(left + 12, 150, 226, 40, "shared memory, about 100 KB", GREEN)
        for t in range(4):
            diagram.arrow((left + 38 + 58 * t, 126), (left + 38 + 58 * t, 150))
        diagram.arrow(shared.bottom, (shared.bottom[0], 250))
    diagram.box(20, 250, 560, 50, "global memory, gigabytes: read and written in sectors of 32 bytes", ORANGE)
    diagram.label(600, 110, "registers: a few numbers\na thread, no waiting", "start")
    diagram.label(600, 166, "shared: visible to the block after\n__syncthreads(), tens of cycles", "start")
    diagram.label(600, 272, "global: visible to all,\nhundreds of cycles", "start")
    return diagram
