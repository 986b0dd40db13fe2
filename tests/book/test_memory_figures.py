"""A warp's addresses, the lines of memory that they need, and additions that meet."""

import numpy as np
import pytest

from dyhead_book.c04_the_cuda_kernel.memory_figures import atomics_figure, instructions, lines_touched, warp_figure
from dyhead_lab.ops.native import Access


def access(thread, operation, buffer, index, count=1):
    return Access(thread, operation, buffer, index, count, value=0.5, launch=0)


WARP = [access(lane, "read", "input", 64 * n + lane) for lane in range(32) for n in range(2)]


def test_instructions_are_what_all_threads_do_at_once():
    assert instructions(WARP, "input").tolist() == [list(range(32)), list(range(64, 96))]


def test_threads_that_do_not_run_together_have_no_instructions():
    with pytest.raises(ValueError, match=r"threads make \[1, 2\] accesses \(read\) to 'input'"):
        instructions(WARP[1:], "input")
    with pytest.raises(ValueError, match="threads make no accesses"):
        instructions(WARP, "weight")


@pytest.mark.parametrize(
    ("addresses", "element_bytes", "lines"),
    [
        (np.arange(32), 4, 1),
        (np.arange(32) + 16, 4, 2),
        (np.arange(32), 8, 2),
        (np.arange(32) * 32, 4, 32),
        (np.zeros(32, int), 4, 1),
    ],
)
def test_lines_of_128_bytes_are_counted(addresses, element_bytes, lines):
    assert lines_touched(addresses[None], element_bytes).tolist() == [lines]


def test_the_figures_are_drawn_and_say_their_numbers():
    figure = warp_figure({"a warp": instructions(WARP, "input")}, instruction=1)
    assert figure.axes[0].get_title() == "a warp: 1 lines of 128 bytes"
    additions = [access(thread, "atomic_add", "grad_input", index) for thread, index in ((0, 0), (1, 0), (2, 5))]
    figure = atomics_figure([*additions, access(0, "read", "grad_input", 1)], "grad_input", (2, 3))
    assert [text.get_text() for text in figure.axes[0].texts] == ["2", "0", "0", "0", "0", "1"]
