"""Diagrams of chapter 16: what a deformable convolution moves and computes, and contenders that take turns."""

from __future__ import annotations

from .draw import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, Diagram


def conv_in_three_steps() -> Diagram:
    """The three steps of a deformable convolution, with numbers moved and operations."""
    diagram = Diagram(
        860,
        250,
        "A deformable convolution in three steps. Offsets, 18 S numbers, give the places. The input, C S numbers, is "
        "sampled there: 9 C S samples, each times one of 9 S masks. The samples are multiplied with the weight, "
        "9 C C numbers, which takes 2 times 9 S C C operations, and give the output, C S numbers.",
    )
    offsets = diagram.box(20, 20, 150, 44, "offsets, 18 S", GREY)
    source = diagram.box(20, 84, 150, 44, "input, C S", GREY)
    masks = diagram.box(20, 148, 150, 44, "masks, 9 S", GREY)
    places = diagram.box(230, 20, 130, 44, "places", BLUE)
    samples = diagram.box(420, 84, 150, 60, "9 C S samples\na few operations each", ORANGE)
    product = diagram.box(640, 84, 190, 60, "product\n2 * 9 S C C operations", PURPLE)
    weight = diagram.box(640, 10, 190, 44, "weight, 9 C C", GREY)
    out = diagram.box(640, 190, 190, 44, "output, C S", GREEN)
    diagram.arrow(offsets.right, places.left)
    diagram.arrow(places.right, (495, 42), samples.top)
    diagram.arrow(source.right, (395, 106), (420, 106))
    diagram.arrow(masks.right, (395, 170), (395, 128), (420, 128))
    diagram.arrow(samples.right, product.left)
    diagram.arrow(weight.bottom, product.top)
    diagram.arrow(product.bottom, out.top)
    diagram.label(20, 226, "grey and green: numbers that must be moved once, for one image of S pixels", "start")
    return diagram


def taking_turns() -> Diagram:
    """The same busy moment in two races."""
    diagram = Diagram(
        840,
        250,
        "The same busy moment in two races of three contenders with four rounds. One after the other: it slows three "
        "of the four runs of contender B, whose median is wrong. Taking turns: it slows one run of each, and the "
        "medians forget it.",
    )
    width, left = 46, 190
    colours = {"A": BLUE, "B": ORANGE, "C": GREEN}
    diagram.frame(left + 5 * width - 4, 8, 3 * width + 4, 190, "busy")
    for top, title, order in ((50, "one after the other", "AAAABBBBCCCC"), (130, "taking turns", "ABCABCABCABC")):
        diagram.label(20, top + 26, title, "start", bold=True)
        for n, who in enumerate(order):
            diagram.box(left + n * width, top, width - 6, 40, who, colours[who])
    diagram.arrow((left, 222), (left + 12 * width, 222), colour=RED)
    diagram.label(left + 12 * width + 8, 226, "time", "start")
    return diagram
