"""Diagrams of chapters 11 and 12: who answers for which object, a padded batch, and the two halves of Sparse DETR."""

from __future__ import annotations

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Diagram


def set_matching() -> Diagram:
    """Hungarian matching: queries, objects, and what each of them learns."""
    diagram = Diagram(
        840,
        330,
        "Matching. Five queries predict classes and boxes, the image has two objects. A cost of class, L1 and GIoU is "
        "computed for all ten pairs. The cheapest assignment gives query 2 to object A and query 4 to object B. These "
        "two learn class and box of their object, the other three learn that nothing is there.",
    )
    matched = {1: 0, 3: 1}
    queries = [diagram.box(20, 40 + 54 * q, 130, 42, f"query {q + 1}", PURPLE) for q in range(5)]
    for column in range(2):
        diagram.label(238 + 60 * column, 36, "AB"[column], bold=True)
    diagram.label(268, 18, "objects", bold=True)
    costs = ((4.1, 3.8), (0.6, 3.9), (0.9, 4.4), (3.7, 1.2), (4.0, 2.9))
    for q, row in enumerate(costs):
        y = 40 + 54 * q
        for column, cost in enumerate(row):
            chosen = matched.get(q) == column
            diagram.box(212 + 60 * column, y, 52, 42, f"{cost}", GREEN if chosen else GREY)
        diagram.arrow(queries[q].right, (206, y + 21), head=False)
        text, colour = ("class and box\nof its object", GREEN) if q in matched else ("nothing here", GREY)
        goal = diagram.box(440, y, 160, 42, text, colour)
        diagram.arrow((330, y + 21), goal.left)
    diagram.label(265, 322, "cost of each pair")
    diagram.label(520, 322, "what the query is to learn")
    why = ("Query 3 found object A too,", "but query 2 is cheaper.", "So query 3 learns to be silent:",
           "this is what keeps a detector", "of sets from giving doubles.")  # fmt: skip
    diagram.label(630, 60, "\n".join(why), "start")
    return diagram


def padded_batch() -> Diagram:
    """Where the middle of an image lies on the padded maps of a batch."""
    diagram = Diagram(
        840,
        250,
        "A batch of two photographs of different sizes. The narrow one is padded on the right. The reference point "
        "0.5, 0.5 means the middle of the photograph. On a map of 8 x 4 cells, of which 4 columns are image, it is "
        "multiplied by the valid ratio 4/8 and 4/4: 0.25, 0.5 of the padded map.",
    )
    image = [(row, column) for row in range(4) for column in range(4)]
    diagram.label(130, 30, "the photograph alone", bold=True)
    diagram.grid(70, 50, 4, 4, 30, image, BLUE)
    diagram.dot(130, 110, 6, RED)
    diagram.label(130, 195, "reference (0.5, 0.5): its middle")
    factor = diagram.box(310, 80, 170, 60, "times valid ratio\n(4/8, 4/4)", ORANGE)
    diagram.arrow((200, 110), factor.left)
    diagram.label(670, 30, "its level in the batch, as the operator sees it", bold=True)
    diagram.grid(550, 50, 8, 4, 30, image, BLUE)
    diagram.dot(610, 110, 6, RED)
    diagram.arrow(factor.right, (542, 110))
    diagram.label(610, 192, "valid part")
    diagram.label(730, 192, "padding")
    diagram.label(670, 218, "(0.25, 0.5) in [0, 1] of the padded map")
    return diagram


def sparse_layer() -> Diagram:
    """One encoder layer of Sparse DETR: who asks, who is read, who is replaced."""
    diagram = Diagram(
        840,
        300,
        "One encoder layer of Sparse DETR. Of twelve tokens three are kept. Only these are taken out as queries. They "
        "read all twelve tokens by deformable attention, pass LayerNorm and a small network, and are put back in their "
        "places. The nine others go on unchanged.",
    )
    kept = [(0, 1), (1, 2), (2, 2)]
    diagram.label(85, 30, "all N tokens", bold=True)
    diagram.grid(25, 50, 4, 3, 30, kept, GREEN)
    take = diagram.box(200, 50, 120, 56, "take out\nT kept tokens", GREEN)
    diagram.arrow((149, 78), take.left)
    attention = diagram.box(370, 50, 160, 56, "deformable attention\nqueries T, values N", PURPLE)
    diagram.arrow(take.right, attention.left)
    network = diagram.box(575, 50, 110, 56, "network\nT tokens", ORANGE)
    diagram.arrow(attention.right, network.left)
    values = diagram.box(200, 190, 120, 56, "values\nof all N tokens", BLUE)
    diagram.arrow((87, 144), (87, 218), values.left)
    diagram.arrow(values.right, (450, 218), attention.bottom)
    diagram.label(765, 130, "put back", bold=True)
    diagram.grid(705, 150, 4, 3, 30, kept, GREEN)
    diagram.arrow(network.right, (765, 78), (765, 112))
    diagram.arrow((87, 218), (87, 275), (765, 275), (765, 244))
    diagram.label(430, 267, "the others go on unchanged")
    return diagram


def token_scorer() -> Diagram:
    """The scoring network: half of its channels become their mean over the image."""
    diagram = Diagram(
        840,
        230,
        "The scoring network. A token of 256 channels passes LayerNorm, a linear map and GELU. 128 channels stay its "
        "own. The other 128 are replaced by their mean over all tokens of the image. Both halves together pass three "
        "linear maps, 256 to 128 to 64 to 1, and give one logit.",
    )
    token = diagram.box(20, 85, 110, 56, "token\n256 channels", BLUE)
    first = diagram.box(160, 85, 140, 56, "LayerNorm, linear\nGELU, 256", ORANGE)
    own = diagram.box(345, 30, 150, 52, "128 of its own", GREEN)
    mean = diagram.box(345, 145, 150, 52, "128 of the image\nmean over tokens", PURPLE)
    second = diagram.box(550, 85, 150, 56, "linear and GELU\n128, 64, 1", ORANGE)
    score = diagram.box(735, 85, 85, 56, "logit", RED)
    diagram.arrow(token.right, first.left)
    diagram.arrow(first.right, (320, 113), (320, 56), own.left)
    diagram.arrow(first.right, (320, 113), (320, 171), mean.left)
    diagram.arrow(own.right, (522, 56), (522, 113), second.left)
    diagram.arrow(mean.right, (522, 171), (522, 113), second.left)
    diagram.arrow(second.right, score.left)
    return diagram
