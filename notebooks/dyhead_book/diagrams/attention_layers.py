"""Diagrams of chapters 09 and 10: attention with heads and its layers, levels as one sequence, cells and shares."""

from __future__ import annotations

from itertools import pairwise

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Box, Diagram


def multihead_attention() -> Diagram:
    """Multi-head attention with the shape of every tensor."""
    diagram = Diagram(
        860,
        310,
        "Multi-head attention. Queries, keys and values go through a linear map each and are cut into M heads of D "
        "channels. Query times key over the square root of D gives a score for every pair, a softmax over the N "
        "tokens makes weights of them, and the weights sum up the values. The heads are joined by a last linear map.",
    )
    rows = [("query\nB x Q x C", PURPLE), ("key\nB x N x C", BLUE), ("value\nB x N x C", BLUE)]
    heads = []
    for n, (text, colour) in enumerate(rows):
        y = 30 + 88 * n
        source = diagram.box(16, y, 100, 52, text, colour)
        cut = diagram.box(146, y, 150, 52, f"linear, cut in heads\nB x M x {'Q' if n == 0 else 'N'} x D", ORANGE)
        diagram.arrow(source.right, cut.left)
        heads.append(cut)
    scores = diagram.box(336, 74, 150, 52, "q . k / sqrt(D)\nB x M x Q x N", GREY)
    diagram.arrow(heads[0].right, (316, 56), (316, 92), (336, 92))
    diagram.arrow(heads[1].right, (316, 144), (316, 110), (336, 110))
    weights = diagram.box(526, 74, 150, 52, "softmax over N\nB x M x Q x N", RED)
    diagram.arrow(scores.right, weights.left)
    read = diagram.box(526, 206, 150, 52, "weights x values\nB x M x Q x D", GREEN)
    diagram.arrow(weights.bottom, read.top)
    diagram.arrow(heads[2].right, read.left)
    out = diagram.box(716, 206, 130, 52, "join, linear\nB x Q x C", ORANGE)
    diagram.arrow(read.right, out.left)
    diagram.label(430, 294, "the two boxes in the middle hold a number for every pair: that is what grows with N x N")
    return diagram


def encoder_and_decoder_layer() -> Diagram:
    """The two layers of DETR, and where positions enter."""
    diagram = Diagram(
        860,
        384,
        "Two layers of DETR. An encoder layer lets tokens read tokens, then passes each through two linear maps. A "
        "decoder layer lets queries read queries, then tokens, then passes each through two linear maps. Every part "
        "is added to what came in and normalised. Positions are added to queries and keys, never to values.",
    )
    diagram.frame(10, 10, 840, 170, "encoder layer, tokens of the image")
    tokens = diagram.box(24, 64, 96, 52, "tokens\nB x N x C", BLUE)
    own = diagram.box(190, 64, 150, 52, "attention\ntokens read tokens", GREEN)
    first = _add_norm(diagram, 358, 64, "norm1")
    network = diagram.box(454, 64, 142, 52, "linear, ReLU, linear", ORANGE)
    second = _add_norm(diagram, 616, 64, "norm2")
    memory = diagram.box(732, 64, 106, 52, "memory\nB x N x C", BLUE)
    for a, b in ((tokens, own), (own, first), (first, network), (network, second), (second, memory)):
        diagram.arrow(a.right, b.left)
    diagram.arrow((140, 90), (140, 44), (387, 44), first.top)
    diagram.arrow((436, 90), (436, 44), (645, 44), second.top)
    diagram.label(265, 152, "queries and keys: tokens + positions\nvalues: tokens alone")

    diagram.frame(10, 200, 840, 174, "decoder layer, object queries")
    parts = [
        ("queries\nB x Q x C", PURPLE, 90),
        ("attention\nqueries read\nqueries", GREEN, 108),
        ("add\nnorm1", GREY, 56),
        ("attention\nqueries read\nmemory", GREEN, 108),
        ("add\nnorm2", GREY, 56),
        ("linear, ReLU,\nlinear", ORANGE, 104),
        ("add\nnorm3", GREY, 56),
        ("queries\nB x Q x C", PURPLE, 90),
    ]
    x, boxes = 24.0, []
    for text, colour, width in parts:
        boxes.append(diagram.box(x, 254, width, 62, text, colour))
        x += width + 19
    for a, b in pairwise(boxes):
        diagram.arrow(a.right, b.left)
    for source, norm in ((0, 2), (2, 4), (4, 6)):
        start, end = boxes[source], boxes[norm]
        diagram.arrow((start.right[0] + 8, 285), (start.right[0] + 8, 234), (end.top[0], 234), end.top)
    diagram.label(187, 342, "queries and keys:\nqueries + learned positions")
    diagram.label(389, 342, "keys: memory + positions\nvalues: memory alone")
    return diagram


def _add_norm(diagram: Diagram, x: float, y: float, name: str) -> Box:
    return diagram.box(x, y, 58, 52, f"add\n{name}", GREY)


def levels_as_tokens() -> Diagram:
    """Three levels written one after another, and how a cell is found again."""
    diagram = Diagram(
        860,
        300,
        "Three levels of 4 x 6, 2 x 3 and 1 x 2 cells are written as one row of 32 tokens: 24, then 6, then 2. They "
        "start at tokens 0, 24 and 30. Row 1, column 2 of level 1 is token 24 + 1 x 3 + 2 = 29.",
    )
    places = [(40, 50, 6, 4, 26, BLUE), (300, 102, 3, 2, 26, GREEN), (460, 128, 2, 1, 26, ORANGE)]
    for level, (x, y, columns, rows, cell, colour) in enumerate(places):
        filled = [(r, c) for r in range(rows) for c in range(columns)]
        diagram.grid(x, y, columns, rows, cell, filled, colour)
        diagram.label(x + columns * cell / 2, 30, f"level {level}\n{rows} x {columns}" if level else "level 0: 4 x 6")
    x, y, cell = 40, 215, 24
    for start, count, colour in ((0, 24, BLUE), (24, 6, GREEN), (30, 2, ORANGE)):
        diagram.grid(x + start * cell, y, count, 1, cell, [(0, c) for c in range(count)], colour)
        diagram.label(x + start * cell + 4, y + 44, f"{start}", "start", bold=True)
    diagram.arrow((118, 160), (118, 210))
    diagram.arrow((339, 160), (x + 27 * cell, 210))
    diagram.arrow((486, 160), (x + 31 * cell, 210))
    diagram.dot(300 + 2.5 * 26, 102 + 1.5 * 26, 6, RED)
    diagram.dot(x + 29.5 * cell, y + cell / 2, 6, RED)
    diagram.label(580, 100, "row 1, column 2 of level 1\nis token 24 + 1 * 3 + 2 = 29", "start")
    diagram.label(40, 292, "level_start_index = (0, 24, 30): the token at which each level begins", "start")
    return diagram


def shares_and_cells() -> Diagram:
    """phi: from [0, 1] of a map to its cells, and the way of one offset on two levels."""
    diagram = Diagram(
        860,
        340,
        "One reference point at 0.5 on two levels of 8 and 4 cells. The share 0 is the outer edge of the first cell "
        "and 1 that of the last, so a share r lies at r W - 0.5 in cells: 3.5 on the fine level, 1.5 on the coarse "
        "one. An offset of one cell is twice as far on the coarse level.",
    )
    centre = 150 + 280
    for y, W, cell in ((60, 8, 70), (185, 4, 140)):
        middle = y + cell / 2
        diagram.grid(150, y, W, 1, cell)
        diagram.label(136, middle + 4, f"{W} cells", "end", bold=True)
        for n in range(W):
            diagram.dot(150 + (n + 0.5) * cell, middle, 3, GREY)
            diagram.label(150 + (n + 0.5) * cell, middle + 22, f"{n}")
        diagram.dot(centre, middle, 6, PURPLE)
        diagram.arrow((centre, middle), (centre + cell, middle), colour=RED)
        diagram.label(centre + cell / 2, middle - 12, "offset 1")
    diagram.label(150, 44, "share 0")
    diagram.label(710, 44, "share 1")
    diagram.label(430, 44, "reference 0.5: 0.5 * 8 - 0.5 = 3.5 in cells")
    diagram.label(430, 172, "0.5 * 4 - 0.5 = 1.5 in cells")
    return diagram
