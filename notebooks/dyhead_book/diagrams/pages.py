"""Diagrams of the pages: the map of the book, which part later work changed, and who reads whom in denoising."""

from __future__ import annotations

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Box, Diagram


def later_changes() -> Diagram:
    """Deformable DETR from left to right, and under each part the work that changed it."""
    diagram = Diagram(
        840,
        240,
        "Deformable DETR from left to right, and below each part the later work that changed it. Operator: DCNv3, "
        "DCNv4. Encoder: Focus-DETR, Lite DETR, RT-DETR, LW-DETR. Queries: Conditional DETR, DAB-DETR, DINO. Decoder: "
        "DINO, D-FINE. Matching: DN-DETR, H-DETR, Group DETR, DETA, Co-DETR. Classes: GLIP, Grounding DINO.",
    )
    parts = (
        ("sampling", "how a point is read", BLUE, ("DCNv3", "DCNv4")),
        ("encoder", "which tokens", GREEN, ("Focus-DETR", "Lite DETR", "RT-DETR", "LW-DETR")),
        ("queries", "what they are", PURPLE, ("Conditional DETR", "DAB-DETR", "DINO")),
        ("decoder", "how boxes move", ORANGE, ("DINO", "D-FINE")),
        ("matching", "who teaches whom", RED, ("DN-DETR", "H-DETR", "Group DETR", "DETA", "Co-DETR")),
        ("classes", "what is asked for", GREY, ("GLIP", "Grounding DINO")),
    )
    before = None
    for n, (name, question, colour, works) in enumerate(parts):
        x = 8 + 139 * n
        box = diagram.box(x, 24, 127, 58, f"{name}\n{question}", colour)
        if before:
            diagram.arrow(before.right, box.left)
        before = box
        diagram.arrow(box.bottom, (x + 63.5, 112), head=False, dashed=True)
        diagram.label(x + 63.5, 132, "\n".join(works))
    return diagram


def denoising_groups() -> Diagram:
    """Queries that start from noised truths, in groups; and the mask of the self-attention."""
    groups, objects, queries, cell = 2, 3, 5, 22
    noised = groups * objects
    total = noised + queries
    diagram = Diagram(
        840,
        330,
        "Denoising. On the left two groups of three queries start from noised boxes of the three objects and are told "
        "which object each has to restore; five ordinary queries are matched. On the right the self-attention: each "
        "group reads itself and the ordinary queries, and these read only each other, so no truth leaks.",
    )
    for group in range(groups):
        y = 30 + 100 * group
        diagram.box(20, y, 170, 66, f"group {group + 1}: 3 objects\ntrue boxes plus noise", GREEN)
        diagram.box(240, y, 180, 66, "told whom to restore\nno matching", GREEN)
        diagram.arrow((190, y + 33), (240, y + 33))
    diagram.box(20, 230, 170, 66, "5 ordinary queries\nlearned", PURPLE)
    diagram.box(240, 230, 180, 66, "matched\nas in chapter 11", PURPLE)
    diagram.arrow((190, 263), (240, 263))
    left, top = 540, 46
    owner = [n // objects if n < noised else groups for n in range(total)]
    for group in range(groups + 1):
        may = [(r, c) for r in range(total) for c in range(total)
               if owner[r] == group and owner[c] in (group, groups)]  # fmt: skip
        if group == groups:
            may = [(r, c) for r, c in may if owner[c] == groups]
        colour = PURPLE if group == groups else GREEN
        rows = [(r - min(a for a, _ in may), c) for r, c in may]
        first, count = owner.index(group), owner.count(group)
        diagram.grid(left, top + first * cell, total, count, cell, rows, colour)
    diagram.label(left + total * cell / 2, 30, "may be read", bold=True)
    for group, name in enumerate(("group 1", "group 2", "ordinary")):
        first, count = owner.index(group), owner.count(group)
        diagram.label(left - 8, top + (first + count / 2) * cell + 5, name, "end")
        diagram.label(left + (first + count / 2) * cell, top + total * cell + 20, name)
    return diagram


def map_of_the_book() -> Diagram:
    """The chapters and what each stands on."""
    diagram = Diagram(
        840,
        330,
        "The chapters and what they stand on. 01, the pyramid, and 03, deformable convolution, lead to 02, 05 and "
        "06, the three attentions, which 07 joins to the Dynamic Head; 08 puts it on detectors, 15 looks inside and "
        "17 adds a fourth. 03 also leads to 04 and 16, the kernels, and by 09 and 10 to Deformable DETR in 11 and "
        "Sparse DETR in 12.",
    )
    columns, width, height = [8 + 166 * n for n in range(5)], 140, 44

    def chapter(column: int, y: float, text: str, colour: str) -> Box:
        return diagram.box(columns[column], y, width, height, text, colour)

    pyramid = chapter(0, 72, "01\nfeature pyramid", GREY)
    convolution = chapter(0, 176, "03\ndeformable conv.", BLUE)
    scale = chapter(1, 10, "02\nscale-aware", ORANGE)
    spatial = chapter(1, 72, "05\nspatial-aware", ORANGE)
    task = chapter(1, 124, "06\ntask-aware", ORANGE)
    attention = chapter(1, 176, "09\nself-attention", PURPLE)
    cuda = chapter(1, 270, "04\nCUDA kernel", GREEN)
    head = chapter(2, 72, "07\nDynamic Head", ORANGE)
    scales = chapter(2, 176, "10\nmulti-scale att.", PURPLE)
    race = chapter(2, 270, "16\nkernel race", GREEN)
    detectors = chapter(3, 72, "08\non detectors", ORANGE)
    own = chapter(3, 124, "17\nyour own attention", ORANGE)
    ratios = chapter(3, 10, "15\nscale ratios", ORANGE)
    deformable = chapter(3, 176, "11\nDeformable DETR", PURPLE)
    maps = chapter(3, 228, "14\nattention maps", PURPLE)
    coco = chapter(4, 72, "13\ntraining on COCO", GREY)
    sparse = chapter(4, 176, "12\nSparse DETR", PURPLE)
    later = chapter(4, 270, "22\nlater work", GREY)
    turn = columns[0] + width + 13
    for start, end in ((pyramid, scale), (convolution, spatial), (convolution, cuda)):
        diagram.arrow(start.right, (turn, start.right[1]), (turn, end.left[1]), end.left)
    for start in (scale, task):
        diagram.arrow(start.right, (turn + 166, start.right[1]), (turn + 166, head.left[1]), head.left)
    for end in (own, ratios):
        diagram.arrow(head.right, (turn + 332, head.right[1]), (turn + 332, end.left[1]), end.left)
    diagram.arrow(scales.right, (turn + 332, scales.right[1]), (turn + 332, maps.left[1]), maps.left)
    diagram.arrow(sparse.bottom, later.top)
    for start, end in ((spatial, head), (head, detectors), (detectors, coco), (convolution, attention),
                       (attention, scales), (scales, deformable), (deformable, sparse), (cuda, race)):  # fmt: skip
        diagram.arrow(start.right, end.left)
    return diagram
