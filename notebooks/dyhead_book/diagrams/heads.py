"""Diagrams of chapters 07 and 17: blocks in a stack, the way through one tensor and back, and a fourth attention."""

from __future__ import annotations

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Diagram


def level_reach() -> Diagram:
    """How far a level sees through a stack of released blocks: one neighbour a block."""
    diagram = Diagram(
        800,
        380,
        "Five levels, P3 to P7, from top to bottom, and five columns: the pyramid and the outputs of blocks 1 to 4. "
        "In every block a level reads itself and its two neighbours. Followed back from P3 after block 4, the red "
        "lines reach P4 one block earlier, P5 two blocks earlier, and all levels of the pyramid.",
    )
    columns, rows = 5, 5
    x_of, y_of = [110 + 150 * n for n in range(columns)], [70 + 56 * l for l in range(rows)]
    titles = ["pyramid", *(f"block {n}" for n in range(1, columns))]
    for n, title in enumerate(titles):
        diagram.label(x_of[n] + 32, 40, title, bold=True)
    for n in range(columns - 1):
        for l in range(rows):
            for k in (l - 1, l, l + 1):
                if 0 <= k < rows:
                    seen = l <= columns - 2 - n
                    diagram.arrow(
                        (x_of[n] + 64, y_of[k] + 16),
                        (x_of[n + 1], y_of[l] + 16),
                        colour=RED if seen else GREY,
                        dashed=not seen,
                        head=False,
                    )
    for n in range(columns):
        for l in range(rows):
            inside = l <= columns - 1 - n
            diagram.box(x_of[n], y_of[l], 64, 32, f"P{l + 3}", RED if inside else GREY)
    diagram.label(400, 362, "what P3 has seen after four blocks: every level of the pyramid")
    return diagram


def paper_head() -> Diagram:
    """The paper's form as a head: through one tensor of the median size, and back with a skip."""
    diagram = Diagram(
        860,
        250,
        "The paper's form as a head. Each level of the pyramid, 20 x 20 to 3 x 3 cells, is resized to the median "
        "level's 5 x 5 and stacked. Blocks work on that one tensor. Each slice is resized back to its level, and the "
        "level that came in is added to it: the skip.",
    )
    pyramid = diagram.box(20, 90, 120, 62, "pyramid\nlevel l, H x W", BLUE)
    join = diagram.box(180, 90, 130, 62, "resize, stack\nL x S x C", GREY)
    blocks = diagram.box(350, 90, 150, 62, "blocks\nscale, space, task", PURPLE)
    split = diagram.box(540, 90, 130, 62, "split, resize\nback to H x W", GREY)
    total = diagram.box(710, 90, 50, 62, "+", GREEN)
    for a, b in ((pyramid, join), (join, blocks), (blocks, split), (split, total)):
        diagram.arrow(a.right, b.left)
    diagram.arrow(pyramid.top, (80, 50), (735, 50), total.top, colour=GREEN)
    diagram.label(408, 38, "the skip: x + resize(y)", bold=True)
    diagram.arrow(total.right, (800, 121))
    diagram.label(850, 125, "level l", "end")
    diagram.label(425, 190, "S = 5 x 5 places of the median level, whatever the level's own size:\n"
                  "what is finer than that comes to the output through the skip alone")  # fmt: skip
    return diagram


def fourth_attention() -> Diagram:
    """Joint attention as the first step of a block."""
    diagram = Diagram(
        860,
        330,
        "A fourth attention. The places of all levels become one list of N tokens. Each token makes a query, a key "
        "and a value. One softmax over all levels and places weighs the values, the result is multiplied by gamma, "
        "which starts at zero, and added to the token. Cut into levels again, it enters the block: spatial, scale, "
        "task.",
    )
    levels = [diagram.box(20, 60 + 52 * l, 90, 40, f"P{l + 3}", BLUE) for l in range(4)]
    tokens = diagram.box(150, 100, 110, 62, "tokens\nN x C", BLUE)
    for level in levels:
        diagram.arrow(level.right, (130, level.right[1]), (130, 131), tokens.left)
    norm = diagram.box(295, 100, 110, 62, "LayerNorm\nQ, K, V", ORANGE)
    softmax = diagram.box(440, 100, 140, 62, "softmax(Q . K)\nN x N, times V", PURPLE)
    gamma = diagram.box(615, 100, 80, 62, "x gamma\n0 at first", GREY)
    total = diagram.box(730, 100, 44, 62, "+", GREEN)
    for a, b in ((tokens, norm), (norm, softmax), (softmax, gamma), (gamma, total)):
        diagram.arrow(a.right, b.left)
    diagram.arrow(tokens.top, (205, 60), (752, 60), total.top, colour=GREEN)
    steps = [
        diagram.box(x, 230, 110, 46, text, colour)
        for x, text, colour in ((440, "spatial", ORANGE), (585, "scale", GREEN), (730, "task", PURPLE))
    ]
    diagram.arrow(total.bottom, (752, 195), (420, 195), (420, 253), steps[0].left)
    for a, b in ((steps[0], steps[1]), (steps[1], steps[2])):
        diagram.arrow(a.right, b.left)
    diagram.label(586, 188, "levels again, of their own sizes")
    diagram.label(640, 304, "the three attentions of the block")
    diagram.label(478, 48, "what was there before")
    return diagram


def pairs_problem() -> Diagram:
    """The toy problem of chapter 17: which mark of the finest level stands on the coarsest too?"""
    diagram = Diagram(
        800,
        270,
        "Three levels of 8 x 8, 4 x 4 and 3 x 3 cells with four marks each. One mark of the finest level, in red, has "
        "the same code as a mark of the coarsest level, at an unrelated place. Between the two lies a level without "
        "any trace of it.",
    )
    places = (
        (60, 8, 24, [(1, 2), (3, 6), (5, 1), (6, 5)], (5, 1)),
        (370, 4, 34, [(0, 3), (1, 1), (2, 2), (3, 0)], None),
        (620, 3, 40, [(0, 0), (0, 2), (1, 1), (2, 2)], (0, 2)),
    )
    for (x, count, cell, marks, twin), name in zip(places, ("finest", "middle", "coarsest"), strict=True):
        top = 140 - count * cell / 2
        diagram.label(x + count * cell / 2, top - 12, f"{name}, {count} x {count}", bold=True)
        diagram.grid(x, top, count, count, cell, [mark for mark in marks if mark != twin])
        if twin:
            diagram.grid(x + twin[1] * cell, top + twin[0] * cell, 1, 1, cell, [(0, 0)], RED)
    diagram.label(400, 260, "blue: marks with a random code each; red: the two that carry the same code")
    return diagram
