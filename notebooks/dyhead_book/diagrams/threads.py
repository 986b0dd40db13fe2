"""Diagrams of chapter 04: which output a thread owns, who reads which channel, a tile with its neighbours."""

from __future__ import annotations

from .draw import BLUE, GREEN, ORANGE, PURPLE, RED, Diagram


def thread_to_output() -> Diagram:
    """The number of a thread, split into image, output channel and pixel."""
    diagram = Diagram(
        820,
        310,
        "From the number of a thread to its output. Block 1 of 64 threads, thread 11, is number 75. With 20 pixels and "
        "3 output channels: pixel 75 mod 20 = 15; 75 / 20 = 3 channels lie before it, so channel 3 mod 3 = 0 of image "
        "3 / 3 = 1.",
    )
    diagram.box(20, 40, 170, 60, "block 1, thread 11\nblocks of 64 threads", BLUE)
    number = diagram.box(250, 40, 170, 60, "i = 1 * 64 + 11 = 75\nnumber of the thread", BLUE)
    diagram.arrow((190, 70), number.left)
    parts = (
        (20, "p = i % S = 75 % 20 = 15", "pixel: runs fastest", GREEN),
        (90, "o = i / S % Co = 3 % 3 = 0", "output channel", ORANGE),
        (160, "b = i / S / Co = 3 / 3 = 1", "image: runs slowest", PURPLE),
    )
    for y, text, what, colour in parts:
        box = diagram.box(510, y, 270, 54, f"{text}\n{what}", colour)
        diagram.arrow(number.right, (465, 70), (465, box.left[1]), box.left)
    diagram.label(20, 150, "out is (B, Co, H, W) with B = 2, Co = 3,\nS = H * W = 20: elements 0 to 119", "start")
    side = 6.2
    for cell in range(2):
        diagram.grid(20 + cell * 60 * side, 250, 60, 1, side, [(0, 15)] if cell else (), PURPLE)
        diagram.label(20 + cell * 60 * side, 242, f"b = {cell}:  o = 0, 1, 2, each with 20 pixels", "start")
    diagram.arrow((20 + 75 * side + side / 2, 286), (20 + 75 * side + side / 2, 260), colour=RED)
    diagram.label(20 + 75 * side, 302, "element 75")
    return diagram


def who_reads_what() -> Diagram:
    """Neighbouring threads on neighbouring points, or on neighbouring channels."""
    diagram = Diagram(
        840,
        330,
        "Two ways to share samples among the threads of a warp. Above, channels first: neighbouring threads take "
        "neighbouring points, and read scattered places of one plane, a sector each. Below, channels last: "
        "neighbouring threads take neighbouring channels of one point, and read side by side, 8 of them from one "
        "sector.",
    )
    side, left, shown = 18, 180, 32
    for top, title, memory, places in (
        (40, "a thread a point", "(C, H, W): one plane", (2, 20, 11, 29)),
        (190, "a thread a channel", "(H, W, C): one pixel", (8, 9, 10, 11)),
    ):
        diagram.label(20, top + 20, title, "start", bold=True)
        diagram.label(20, top + 96, memory, "start")
        colour = RED if top == 40 else GREEN
        diagram.grid(left, top + 76, shown, 1, side, [(0, place) for place in places], colour)
        for sector in range(shown // 8):
            x = left + sector * 8 * side
            diagram.arrow((x + 3, top + 104), (x + 8 * side - 3, top + 104), head=False)
            diagram.label(x + 4 * side, top + 122, "32 bytes")
        for thread, place in enumerate(places):
            box = diagram.box(left + 130 * thread, top, 110, 30, f"thread {thread}", BLUE)
            diagram.arrow(box.bottom, (left + place * side + side / 2, top + 75), colour=colour)
    return diagram


def tile_with_halo() -> Diagram:
    """A block brings its elements and two neighbours to shared memory, waits, and computes."""
    diagram = Diagram(
        820,
        330,
        "A tile in shared memory. Each of the eight threads of a block brings its own element from global memory, the "
        "first and the last one also the neighbour beside the block. All wait at the barrier. Then each thread reads "
        "three elements of the tile and writes their mean.",
    )
    side, left = 40, 220
    diagram.label(20, 52, "global memory, x", "start", bold=True)
    diagram.grid(left - side, 30, 12, 1, side, [(0, n) for n in range(1, 11)], BLUE)
    diagram.label(20, 152, "shared memory, tile", "start", bold=True)
    diagram.grid(left, 130, 10, 1, side, [(0, 0), (0, 9)], ORANGE)
    diagram.grid(left + side, 130, 8, 1, side, [(0, n) for n in range(8)], GREEN)
    for n in range(10):
        x = left + side * n + side / 2
        diagram.arrow((x, 71), (x, 129), colour=ORANGE if n in (0, 9) else GREEN)
    diagram.label(left + side * 10 + 12, 110, "the first and the\nlast thread bring\ntwo elements", "start")
    diagram.box(left, 186, 10 * side, 30, "__syncthreads(): all wait for all", RED)
    diagram.label(20, 272, "global memory, out", "start", bold=True)
    diagram.grid(left + side, 250, 8, 1, side, [(0, 3)], PURPLE)
    for n in (3, 4, 5):
        diagram.arrow((left + side * n + side / 2, 217), (left + side * 4 + side / 2, 249), colour=PURPLE)
    diagram.label(left + 5 * side, 314, "each thread: the mean of three elements of the tile")
    return diagram
