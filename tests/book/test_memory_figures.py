"""A warp's addresses, the sectors of memory that they need, and additions that meet."""

import numpy as np
import pytest

from dyhead_book.c04_the_cuda_kernel.memory_figures import (
    atomics_figure,
    instructions,
    sectors_touched,
    traffic_figure,
    warp_figure,
)
from dyhead_lab.ops.cuda_text import Launch, Traffic
from dyhead_lab.ops.native import Access


def access(thread, operation, buffer, index, count=1):
    return Access(thread, operation, buffer, index, count, value=0.5, launch=0)


WARP = [access(lane, "read", "input", 64 * n + lane) for lane in range(32) for n in range(2)]


def test_instructions_are_what_all_threads_do_at_once():
    assert instructions(WARP, "input").tolist() == [list(range(32)), list(range(64, 96))]


def test_threads_that_do_less_leave_a_gap_that_takes_no_sector():
    assert instructions(WARP[2:-1], "input")[1].tolist() == [*range(65, 95), -1]
    assert sectors_touched(np.array([[-1, 3, -1]])).tolist() == [1]
    with pytest.raises(ValueError, match="no thread makes an access"):
        instructions(WARP, "weight")


@pytest.mark.parametrize(
    ("addresses", "element_bytes", "sectors"),
    [
        (np.arange(32), 4, 4),
        (np.arange(32) + 3, 4, 5),
        (np.arange(32), 8, 8),
        (np.arange(32) * 32, 4, 32),
        (np.zeros(32, int), 4, 1),
    ],
)
def test_sectors_of_32_bytes_are_counted(addresses, element_bytes, sectors):
    assert sectors_touched(addresses[None], element_bytes).tolist() == [sectors]


def test_bars_tell_what_was_used_and_what_moved():
    launch = Launch("k", "emulator", (1, 1, 1), (32, 1, 1), (Traffic(1, "read", "x", 1000, 32000, 128000, 32000),))
    figure = traffic_figure({"scattered": launch}, "x")
    assert [text.get_text().strip() for text in figure.axes[0].texts] == ["128", "1,024"]


def test_the_figures_are_drawn_and_say_their_numbers():
    figure = warp_figure({"a warp": instructions(WARP, "input")}, instruction=1)
    assert figure.axes[0].get_title() == "a warp: 4 sectors of 32 bytes"
    additions = [access(thread, "atomic_add", "grad_input", index) for thread, index in ((0, 0), (1, 0), (2, 5))]
    figure = atomics_figure([*additions, access(0, "read", "grad_input", 1)], "grad_input", (2, 3))
    assert [text.get_text() for text in figure.axes[0].texts] == ["2", "0", "0", "0", "0", "1"]
