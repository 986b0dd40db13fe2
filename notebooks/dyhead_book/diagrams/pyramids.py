"""Diagrams of chapters 01, 05 and 07: the feature pyramid, and a block of the Dynamic Head in both its forms."""

from __future__ import annotations

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, Diagram


def feature_pyramid() -> Diagram:
    """Backbone, lateral convolutions and the way down of a feature pyramid network."""
    diagram = Diagram(
        780,
        400,
        "A feature pyramid. The backbone makes maps C3, C4 and C5 of strides 8, 16 and 32. A 1x1 convolution "
        "brings each to 256 channels. From the top down each map is doubled in size and added to the next finer "
        "one, a 3x3 convolution smooths the sum: P5, P4, P3. Two convolutions of stride 2 make P6 from P5, and P7 "
        "from P6.",
    )
    image = diagram.box(20, 340, 150, 44, "image\n3 x 800 x 1344", GREY)
    rows = {"3": (255, 512, "100 x 168"), "4": (175, 1024, "50 x 84"), "5": (95, 2048, "25 x 42")}
    below = image
    for level, (y, channels, size) in rows.items():
        body = diagram.box(20, y, 150, 50, f"C{level}\n{channels} x {size}", BLUE)
        diagram.arrow(below.top, body.bottom)
        below = body
        lateral = diagram.box(230, y, 90, 50, "1x1", ORANGE)
        diagram.arrow(body.right, lateral.left)
        total = diagram.box(380, y, 60, 50, "+", GREY)
        diagram.arrow(lateral.right, total.left)
        smooth = diagram.box(500, y, 70, 50, "3x3", ORANGE)
        diagram.arrow(total.right, smooth.left)
        out = diagram.box(620, y, 150, 50, f"P{level}\n256 x {size}", GREEN)
        diagram.arrow(smooth.right, out.left)
        if level != "5":
            diagram.arrow((410, y - 30), total.top)
            diagram.label(418, y - 10, "x 2", "start")
    sixth = diagram.box(380, 20, 190, 44, "3x3, stride 2, twice", ORANGE)
    diagram.arrow((600, 120), (600, 78), (475, 78), sixth.bottom)
    top = diagram.box(620, 20, 150, 44, "P6, P7\n13 x 21, 7 x 11", GREEN)
    diagram.arrow(sixth.right, top.left)
    diagram.label(200, 367, "channels x height x width; each level up halves height and width", "start")
    return diagram


def released_block() -> Diagram:
    """One level of a released Dynamic Head block."""
    diagram = Diagram(
        800,
        430,
        "One level of a released block. A 3x3 convolution on the level itself predicts 18 offsets and 9 masks, "
        "which steer three deformable convolutions: of the finer neighbour with stride 2, of the level itself, and "
        "of the coarser neighbour, whose result is enlarged. Each result is normalised, a gate between 0.5 and 1 "
        "weighs it, and their mean passes the task-aware activation.",
    )
    y_of = {"finer": 120, "own": 210, "coarser": 300}
    words = {"finer": ("level l-1", "2H x 2W"), "own": ("level l", "H x W"), "coarser": ("level l+1", "H/2 x W/2")}
    steer = diagram.box(200, 20, 190, 56, "3x3 convolution\n18 offsets, 9 masks", PURPLE)
    for name, y in y_of.items():
        level = diagram.box(20, y, 120, 54, "\n".join(words[name]), BLUE)
        text = {"finer": "deformable 3x3\nstride 2", "own": "deformable 3x3", "coarser": "deformable 3x3\nthen x 2"}[
            name
        ]
        conv = diagram.box(200, y, 140, 54, text, ORANGE)
        diagram.arrow(level.right, conv.left)
        norm = diagram.box(375, y, 100, 54, "GroupNorm", GREY)
        diagram.arrow(conv.right, norm.left)
        gate = diagram.box(510, y, 100, 54, "x gate\n0.5 to 1", GREEN)
        diagram.arrow(norm.right, gate.left)
        diagram.arrow(gate.right, (640, y + 27), (640, 237), (655, 237))
    diagram.arrow((80, 210), (80, 190), (165, 190), (165, 48), steer.left)
    for y in y_of.values():
        diagram.arrow((340, 76), (355, 76), (355, y + 40), (342, y + 40), colour=PURPLE, dashed=True)
    mean = diagram.box(655, 210, 60, 54, "mean", GREY)
    task = diagram.box(640, 330, 150, 54, "task-aware\nmax of two lines", PURPLE)
    diagram.arrow(mean.bottom, (685, 330))
    diagram.arrow(task.bottom, (715, 415), (640, 415))
    diagram.label(630, 419, "level l of the next block, 256 x H x W", "end")
    diagram.label(265, 106, "spatial-aware", "middle", bold=True)
    diagram.label(560, 106, "scale-aware", "middle", bold=True)
    return diagram


def paper_block() -> Diagram:
    """The three attentions of the paper with the shape of the tensor after each."""
    diagram = Diagram(
        800,
        250,
        "The paper's block. All levels are resized to the median one and stacked to a tensor of shape L x S x C. "
        "Scale-aware attention weighs levels and keeps the shape. Spatial-aware attention samples at K places and "
        "sums over the levels. Task-aware attention applies an activation per channel.",
    )
    x = 20
    steps = (
        ("resize, stack", "L levels", GREY, "L x S x C"),
        ("scale-aware", "one weight a level", GREEN, "L x S x C"),
        ("spatial-aware", "K places, sum over L", ORANGE, "S x C"),
        ("task-aware", "one activation a channel", PURPLE, "S x C"),
    )
    before = None
    for title, words, colour, shape in steps:
        box = diagram.box(x, 60, 165, 70, f"{title}\n{words}", colour)
        if before:
            diagram.arrow(before.right, box.left)
        diagram.label(x + 82, 160, shape, bold=True)
        before = box
        x += 198
    diagram.label(400, 30, "the order of the paper: pi_L, then pi_S, then pi_C", bold=True)
    diagram.label(400, 205, "S = H x W of the median level, C = 256 channels, L levels.\n"
                  "The released code does spatial before scale, and keeps every level's own size.")  # fmt: skip
    return diagram
