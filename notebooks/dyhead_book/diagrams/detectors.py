"""Diagrams of chapters 08, 09, 11, 12 and 13: families of detectors, DETR and what was built on it, a training step."""

from __future__ import annotations

from itertools import pairwise

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Box, Diagram


def _row(diagram: Diagram, y: float, title: str, parts: list[tuple[str, str]], left: float = 112) -> list[Box]:
    """Boxes from left to right, joined by arrows, with a title before them."""
    diagram.label(20, y + 34, title, "start", bold=True)
    width, gap = 128, 20
    boxes: list[Box] = []
    for n, (text, colour) in enumerate(parts):
        box = diagram.box(left + n * (width + gap), y, width, 58, text, colour)
        if boxes:
            diagram.arrow(boxes[-1].right, box.left)
        boxes.append(box)
    return boxes


def detector_families() -> Diagram:
    """One-stage, two-stage and set prediction, part by part."""
    diagram = Diagram(
        850,
        330,
        "Three families. One-stage detectors predict class and box at every place of every level and remove "
        "doubles by non-maximum suppression. Two-stage detectors propose regions, pool features in them, and "
        "classify those. DETR's family lets a fixed number of queries read the features and matches them with the "
        "objects one to one.",
    )
    below = [("backbone", BLUE), ("feature pyramid", BLUE)]
    neck = ("Dynamic Head", GREEN)
    _row(
        diagram,
        30,
        "one stage",
        [*below, neck, ("class and box\nat every place", ORANGE), ("suppression\nof doubles", GREY)],
    )
    _row(
        diagram,
        120,
        "two stages",
        [*below, neck, ("regions, pooled,\nclassified", ORANGE), ("suppression\nof doubles", GREY)],
    )
    _row(
        diagram,
        210,
        "sets",
        [
            ("backbone", BLUE),
            ("encoder", PURPLE),
            ("decoder\nN queries", PURPLE),
            ("class and box\nof each query", ORANGE),
        ],
    )
    diagram.label(
        20,
        310,
        "RetinaNet, FCOS, ATSS, RepPoints  ·  Faster, Mask, Cascade R-CNN  ·  DETR, Deformable DETR, Sparse DETR",
        "start",
    )
    return diagram


def detr() -> Diagram:
    """DETR from picture to boxes, and how it learns."""
    diagram = Diagram(
        820,
        250,
        "DETR. The backbone's last map, 25 x 34 cells, plus sine positions, goes through six encoder layers of "
        "self-attention. 100 learned queries read it through six decoder layers. Each gives a class or no object, "
        "and a box. To learn, the Hungarian algorithm pairs predictions and objects one to one.",
    )
    boxes = [
        diagram.box(20, 60, 110, 58, "backbone\nC5, 25 x 34", BLUE),
        diagram.box(160, 60, 110, 58, "+ positions\n850 tokens", GREY),
        diagram.box(300, 60, 110, 58, "encoder\n6 layers", PURPLE),
        diagram.box(440, 60, 110, 58, "decoder\n6 layers", PURPLE),
        diagram.box(580, 60, 110, 58, "class, box\n100 of each", ORANGE),
        diagram.box(710, 60, 95, 58, "matching\none to one", GREEN),
    ]
    for a, b in pairwise(boxes):
        diagram.arrow(a.right, b.left)
    queries = diagram.box(440, 160, 110, 50, "100 queries\nlearned", PURPLE)
    diagram.arrow(queries.top, boxes[3].bottom)
    objects = diagram.box(710, 160, 95, 50, "objects", GREY)
    diagram.arrow(objects.top, boxes[5].bottom)
    diagram.label(220, 40, "sine positions are added in every layer")
    return diagram


def decoder_layer() -> Diagram:
    """One decoder layer of Deformable DETR with box refinement."""
    diagram = Diagram(
        820,
        300,
        "One decoder layer. Queries attend to each other, then read the levels at points around their reference "
        "boxes, then pass a small network; each step is added and normalised. A head corrects the reference box, "
        "and the next layer starts from the corrected one, without a gradient through it.",
    )
    content = diagram.box(20, 50, 110, 56, "content\nof 300 queries", PURPLE)
    own = diagram.box(175, 50, 130, 56, "self-attention\namong queries", BLUE)
    cross = diagram.box(345, 50, 156, 56, "deformable attention\nto all levels", GREEN)
    network = diagram.box(535, 50, 116, 56, "network of\ntwo linear maps", ORANGE)
    out = diagram.box(690, 50, 110, 56, "content\nof the next layer", PURPLE)
    for a, b in ((content, own), (own, cross), (cross, network), (network, out)):
        diagram.arrow(a.right, b.left)
    position = diagram.box(175, 150, 130, 46, "query positions", GREY)
    diagram.arrow(position.top, own.bottom)
    diagram.arrow(position.right, (380, 173), (380, 106))
    reference = diagram.box(20, 220, 120, 56, "reference boxes", GREY)
    diagram.arrow(reference.right, (440, 248), (440, 106))
    head = diagram.box(535, 220, 110, 56, "box head\ncorrection", ORANGE)
    diagram.arrow((590, 106), head.top)
    diagram.arrow((440, 248), head.left)
    after = diagram.box(690, 220, 120, 56, "reference boxes\ndetached", GREY)
    diagram.arrow(head.right, after.left)
    diagram.label(410, 30, "after each of the three: add, then LayerNorm", bold=True)
    return diagram


def two_stages() -> Diagram:
    """Where the queries of a two-stage Deformable DETR come from."""
    diagram = Diagram(
        820,
        230,
        "Two stages. Every token of the encoder predicts a score and a correction of a box that stands at its "
        "place, as large as its level. The 300 best become the decoder's reference boxes, and their sine embedding "
        "its queries.",
    )
    tokens = diagram.box(20, 80, 130, 58, "encoder's tokens\nabout 22,000", BLUE)
    grid = diagram.box(200, 20, 140, 50, "box at its place\n0.05 x 2^level", GREY)
    score = diagram.box(200, 88, 140, 50, "score", ORANGE)
    correct = diagram.box(200, 156, 140, 50, "correction", ORANGE)
    for box in (grid, score, correct):
        diagram.arrow(tokens.right, (175, 109), (175, box.left[1]), box.left)
    best = diagram.box(400, 80, 120, 58, "the best 300", GREEN)
    for box in (grid, score, correct):
        diagram.arrow(box.right, (370, box.right[1]), (370, 109), best.left)
    reference = diagram.box(580, 40, 220, 50, "reference boxes, detached", GREY)
    query = diagram.box(580, 130, 220, 50, "content and position\nsines, linear map, LayerNorm", PURPLE)
    diagram.arrow(best.right, (550, 109), (550, 65), reference.left)
    diagram.arrow(best.right, (550, 109), (550, 155), query.left)
    return diagram


def sparse_encoder() -> Diagram:
    """Sparse DETR: a scorer chooses the tokens that the encoder refines, and learns from the decoder's attention."""
    diagram = Diagram(
        840,
        330,
        "Sparse DETR. A scoring network ranks the backbone's tokens. The best share rho of them is refined by the "
        "encoder; the others stay as they are and are still read. The decoder's attention, added up over layers, "
        "heads and queries at the tokens it reads, is the decoder attention map. Its largest entries are the "
        "scorer's target.",
    )
    tokens = diagram.box(20, 120, 120, 58, "N tokens\nof the backbone", BLUE)
    scorer = diagram.box(190, 30, 130, 58, "scoring network\none number each", ORANGE)
    best = diagram.box(190, 120, 130, 58, "the best rho N", GREEN)
    encoder = diagram.box(370, 120, 130, 58, "encoder refines\nthese alone", PURPLE)
    all_ = diagram.box(370, 220, 130, 50, "all N tokens", BLUE)
    decoder = diagram.box(560, 120, 110, 58, "decoder", PURPLE)
    dam = diagram.box(560, 30, 110, 58, "attention map\nof the decoder", RED)
    target = diagram.box(380, 30, 120, 58, "its largest rho N\nare 1, others 0", GREY)
    boxes = diagram.box(720, 120, 100, 58, "class, box", ORANGE)
    diagram.arrow(tokens.top, (80, 59), scorer.left)
    diagram.arrow(scorer.bottom, best.top)
    diagram.arrow(tokens.right, best.left)
    diagram.arrow(best.right, encoder.left)
    diagram.arrow(tokens.bottom, (80, 245), all_.left)
    diagram.arrow(all_.top, encoder.bottom)
    diagram.arrow(encoder.right, decoder.left)
    diagram.arrow(all_.right, (615, 245), decoder.bottom)
    diagram.arrow(decoder.top, dam.bottom)
    diagram.arrow(dam.left, target.right, dashed=True)
    diagram.arrow(target.left, scorer.right, dashed=True)
    diagram.arrow(decoder.right, boxes.left)
    diagram.label(350, 20, "loss", "middle", bold=True)
    diagram.label(420, 305, "dashed: only while it learns, and without a gradient into the attention")
    return diagram


def training_step() -> Diagram:
    """One step of the optimiser, and what a checkpoint needs to remember."""
    diagram = Diagram(
        840,
        250,
        "One step of training: a batch is drawn, the detector gives its losses, their gradient flows back, is "
        "clipped, and the optimiser moves the weights. An average of the weights follows them and is what is "
        "evaluated. Weights, moments, average and the number of the step are what a checkpoint holds.",
    )
    parts = [
        ("batch", GREY),
        ("detector", BLUE),
        ("losses", ORANGE),
        ("gradient,\nclipped", RED),
        ("optimiser\nmoves weights", GREEN),
        ("average\nof weights", PURPLE),
    ]
    boxes: list[Box] = []
    for n, (text, colour) in enumerate(parts):
        box = diagram.box(20 + 136 * n, 60, 112, 58, text, colour)
        if boxes:
            diagram.arrow(boxes[-1].right, box.left)
        boxes.append(box)
    diagram.arrow(boxes[4].top, (620, 34), (212, 34), boxes[1].top)
    diagram.label(416, 26, "the next step")
    diagram.box(430, 170, 320, 50, "checkpoint\nweights, moments, average, step", GREY)
    diagram.arrow(boxes[4].bottom, (620, 170))
    diagram.arrow(boxes[5].bottom, (756, 140), (700, 140), (700, 170))
    diagram.label(20, 200, "learning rate, order of images and all chance\nfollow from the step's number", "start")
    return diagram
