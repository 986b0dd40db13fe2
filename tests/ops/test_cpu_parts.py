"""The parts of the CPU path one by one: lanes, the block cache, threads, and the way to leave each out."""

import subprocess
import sys
import threading

import numpy as np
import pytest
import torch
from numba import njit, prange

from dyhead_lab.ops.cpu import block_cache as memory
from dyhead_lab.ops.cpu import lanes, parts
from dyhead_lab.ops.cpu.threads import FEW, part, run


def test_parts_come_back_even_after_an_error():
    with pytest.raises(ZeroDivisionError), parts.without("lanes"):
        with parts.without("lanes", "block cache"):
            assert not any(map(parts.has, parts.PARTS))
        assert not parts.has("lanes") and parts.has("block cache")
        raise ZeroDivisionError
    assert all(map(parts.has, parts.PARTS))
    with pytest.raises(ValueError, match=r"called laces; expected lanes, block cache$"), parts.without("laces"):
        pass


# Threads


@njit(nogil=True)
def mark(first, last, bounds, done):
    bounds[first] = last
    done[first:last] += 1


@njit(nogil=True, parallel=True)
def mark_in_threads(threads, items, bounds, done):
    for n in prange(threads):
        mark(part(n, threads, items), part(n + 1, threads, items), bounds, done)


def ranges_of(count):
    """Where the ranges of ``count`` items begin and end; refuses items that are not done exactly once."""
    bounds, done = np.zeros(8, int), np.zeros(8, int)
    run(mark, mark_in_threads, count, count, bounds, done)
    assert done.tolist() == [1] * count + [0] * (8 - count)
    return [(int(first), int(bounds[first])) for first in np.flatnonzero(bounds)]


def test_every_item_is_done_by_exactly_one_thread(threads):
    for count in (0, 1, 2, 7):
        assert len(ranges_of(count)) == min(threads, count)
    assert ranges_of(7) == {1: [(0, 7)], 2: [(0, 3), (3, 7)], 3: [(0, 2), (2, 4), (4, 7)]}[threads]


def test_the_caller_does_what_is_few_by_itself(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    launched, alone = [], []
    for work in (FEW, FEW + 1):
        run(lambda *range_: alone.append(range_), lambda *team: launched.append(team), 5, work)
    assert (alone, launched) == ([(0, 5)], [(2, 5)])


def test_a_launch_leaves_pytorchs_number_of_threads_alone(threads):
    ranges_of(7)
    assert torch.get_num_threads() == threads


WITHOUT_FORK = """
import os, torch
del os.register_at_fork
from dyhead_lab.ops import deform_conv2d
from dyhead_lab.ops.cpu import threads
threads.FEW = 0
torch.set_num_threads(2)
x = torch.arange(50.0).view(1, 2, 5, 5).requires_grad_()
out = deform_conv2d(x, torch.full((1, 2, 5, 5), 0.5), torch.ones(1, 2, 1, 1))
out.sum().backward()
print(out[0, 0, 0, 0].item(), x.grad[0, 0, 2, 2].item())
"""


def test_the_operators_run_where_there_is_no_fork():
    """As on Windows. Half a pixel down and right of the first: the mean of 0, 1, 5, 6, and 25 more in channel 1."""
    command = [sys.executable, "-c", WITHOUT_FORK]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "31.0 1.0\n"


def test_threads_that_launch_at_once_wait_for_each_other(monkeypatch):
    """Numba's simplest pool aborts the process when two threads launch at once."""
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    inside, most = [], []

    def launch(threads, items):
        inside.append(1)
        most.append(len(inside))
        inside.pop()

    workers = [threading.Thread(target=lambda: run(launch, launch, 5, FEW + 1)) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert most == [1] * 8


# Memory


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_memory_in_large_pages_is_ordinary_memory(dtype, monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 1)
    image = torch.rand(2, 3, 4, 5, dtype=dtype)
    rows = memory.contiguous(image.permute(0, 2, 3, 1))
    assert rows.dtype == dtype and rows.is_contiguous() and torch.equal(rows.permute(0, 3, 1, 2), image)
    assert memory.contiguous(image) is image
    assert rows.data_ptr() % memory.LINE == 0


@pytest.fixture
def idle(monkeypatch):
    """An empty pool that takes tensors and arrays of any size."""
    monkeypatch.setattr(memory, "LARGE", 1)
    monkeypatch.setattr(memory, "TINY", 1)
    monkeypatch.setattr(memory, "_idle", {})
    return memory._idle


def test_memory_is_used_again_once_no_tensor_uses_it(idle):
    like = torch.zeros(1)
    first = memory.empty(100, 10, like=like)
    view, address = first[5:].numpy(), first.data_ptr()
    del first
    other = memory.empty(100, 10, like=like)
    assert other.data_ptr() != address  # the view still reads the first block
    del view
    small, large, fitting = (memory.empty(rows, 10, like=like) for rows in (1, 1000, 60))
    assert fitting.data_ptr() == address and address not in (small.data_ptr(), large.data_ptr())


def test_large_arrays_keep_their_memory_as_long_as_a_view_lives(idle):
    like = np.zeros(1, np.float32)
    first = memory.array(100, 10, like=like)
    assert first.dtype == np.float32 and first.ctypes.data % memory.LINE == 0
    view, address = torch.from_numpy(first[5:].reshape(-1, 5)), first.ctypes.data
    del first
    other = memory.array(100, 10, like=like)
    assert other.ctypes.data != address  # the view still reads the first block
    del view
    assert memory.array(100, 10, like=like).ctypes.data == address


def test_idle_memory_never_exceeds_its_limit_and_the_oldest_goes_first(idle, monkeypatch):
    monkeypatch.setattr(memory, "KEPT", 100_000)
    tensors = [memory.empty(10_000, like=torch.zeros(1)) for _ in range(4)]
    addresses = [tensor.data_ptr() for tensor in tensors]
    while tensors:
        tensors.pop(0)
        assert sum(block.nbytes for block in idle.values()) <= 100_000
    kept = [-block.ctypes.data % memory.LINE + block.ctypes.data for block in idle.values()]
    assert kept == addresses[2:]  # two blocks of 40 kB fit
    memory.empty(100_000, like=torch.zeros(1))  # too large to keep
    assert len(idle) == 2


# Lanes


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 31, 32, 33, 64, 100])
def test_lanes_touch_the_channels_of_their_row_alone(channels, dtype):
    rows = np.arange(3 * channels, dtype=dtype).reshape(3, channels)
    sums, dots = np.full((3, channels), -1, dtype), np.zeros(4, dtype)
    add_to_row_1(lanes.lanes_of(channels), rows, sums, dots)
    assert np.array_equal(sums, np.stack((np.full(channels, -1), 2 * rows[0] + rows[2], np.full(channels, -1))))
    # Whole numbers, exact in float32 up to 2^24: any order of the sums gives the same.
    assert dots.tolist() == [rows[0] @ rows[2], rows[0].sum(), rows[1].sum(), rows[2].sum()]


def test_rows_that_lanes_fill_are_known_before_a_kernel_is_compiled():
    ends = [lanes.lanes_of(channels) for channels in (32, 64, 1, 33)]
    assert ends == [lanes.WHOLE, lanes.WHOLE, lanes.RAGGED, lanes.RAGGED]
    assert type(lanes.WHOLE) is not type(lanes.RAGGED)  # Numba compiles a kernel for each type
    with parts.without("lanes"):
        assert lanes.lanes_of(32) is None


@njit
def add_to_row_1(ends, rows, sums, dots):
    for c in range(0, rows.shape[1], lanes.LANES):
        first, middle, last = lanes.load(ends, rows, 0, c), lanes.load(ends, rows, 1, c), lanes.load(ends, rows, 2, c)
        lanes.store(ends, sums, 1, c, rows.dtype.type(2) * first + last)
        for i, total in enumerate(lanes.totals(first * last, first, middle, last)):
            dots[i] += total
