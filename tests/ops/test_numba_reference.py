"""The literal loops against the formula, the fast path against the loops, and the way kernels run in threads."""

import multiprocessing
import shutil
import subprocess
import sys
import threading
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from numba import njit

from dyhead_lab.ops.checks import Geometry
from dyhead_lab.ops.cpu import block_cache as memory
from dyhead_lab.ops.cpu import fast_deform_conv, fast_ms_deform_attn, lanes
from dyhead_lab.ops.cpu import threads as shared_threads
from dyhead_lab.ops.cpu.threads import in_threads, team
from dyhead_lab.ops.numba_reference import loops

from .cases import Attention, Conv, answers, assert_same, distance, levels_of

CONV = Conv(C=12, Co=9, size=(6, 5), kernel=(3, 2), stride=(2, 1), dilation=(1, 2), groups=3, G=2)
ATTENTION = Attention(Q=9, M=2, P=3, D=5)


@pytest.fixture(params=[1, 2, 3])
def threads(request):
    """Run with this many threads, whatever the machine has."""
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def conv_arguments(case):
    tensors = case.tensors(torch.float64)
    tensors.pop("bias")
    geometry = Geometry(case.stride, case.padding, case.dilation, case.groups, case.G)
    cotangent = torch.randn(case.B, case.Co, *case.output_size(), dtype=torch.float64)
    return list(tensors.values()), geometry, cotangent


@pytest.mark.parametrize("places", ["between", "integer", "far"])
def test_convolution_loops_agree_with_the_formula(places):
    case = Conv(**{**vars(CONV), "places": places})
    tensors, geometry, _ = conv_arguments(case)
    expected = answers(case, case.tensors(torch.float64), "formula")
    cotangent = torch.randn(expected["out"].shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    arrays = [t.numpy() for t in tensors]
    out = torch.from_numpy(loops.deform_conv2d(*arrays, *geometry[:3]))
    bias = case.tensors(torch.float64)["bias"].view(-1, 1, 1)
    grads = loops.deform_conv2d_backward(cotangent.numpy(), *arrays, *geometry[:3])
    # Float64 sums in another order: 1e-12.
    assert distance(out + bias, expected["out"]) < 1e-12
    for name, got in zip(("input", "offset", "weight", "mask"), grads, strict=True):
        assert distance(torch.from_numpy(got), expected[f"grad_{name}"]) < 1e-12, name


def test_fast_convolution_agrees_with_the_loops(threads):
    tensors, geometry, cotangent = conv_arguments(CONV)
    arrays = [t.numpy() for t in tensors]
    out = fast_deform_conv.deform_conv2d(geometry, torch.float64, *tensors)
    grads = fast_deform_conv.deform_conv2d_backward(geometry, torch.float64, cotangent, *tensors)
    expected = loops.deform_conv2d_backward(cotangent.numpy(), *arrays, *geometry[:3])
    assert distance(out, torch.from_numpy(loops.deform_conv2d(*arrays, *geometry[:3]))) < 1e-12
    for got, reference in zip(grads, expected, strict=True):
        assert distance(got, torch.from_numpy(reference)) < 1e-12


@pytest.mark.parametrize("size", [1, 10_000], ids=["row by row", "strips across images"])
def test_strips_of_any_size_give_the_same_answers(size, monkeypatch):
    case = Conv(B=3)
    tensors = case.tensors(torch.float64)
    whole = answers(case, tensors, "numba")
    monkeypatch.setattr(fast_deform_conv, "STRIP_BYTES", size)
    # Strip by strip, weights gather their gradient in another order: 1e-12.
    assert_same(answers(case, tensors, "numba"), whole, 1e-12)


@pytest.mark.parametrize("places", ["between", "border", "far"])
@pytest.mark.parametrize("reads", [0, 10**9], ids=["heads apart", "heads together"])
def test_attention_loops_formula_and_fast_path_agree(places, reads, threads, monkeypatch):
    monkeypatch.setattr(fast_ms_deform_attn, "READS_TO_LAY_APART", reads)
    case = Attention(**{**vars(ATTENTION), "places": places})
    shapes, starts = levels_of(case.levels)
    value, locations, weights = case.tensors(torch.float64).values()
    grad = torch.randn(case.B, case.Q, case.M * case.D, dtype=torch.float64)
    arrays = [t.numpy() for t in (value, shapes, starts, locations, weights)]
    reference = torch.from_numpy(loops.ms_deform_attn(*arrays)).flatten(2)
    assert distance(case.run(case.tensors(torch.float64), "formula"), reference) < 1e-12
    out = fast_ms_deform_attn.ms_deform_attn(value, shapes, starts, locations, weights)
    assert distance(out, reference) < 1e-12
    grads = fast_ms_deform_attn.ms_deform_attn_backward(grad, value, shapes, starts, locations, weights)
    expected = loops.ms_deform_attn_backward(grad.view(case.B, case.Q, case.M, case.D).numpy(), *arrays)
    for got, reference_grad in zip(grads, expected, strict=True):
        assert distance(got, torch.from_numpy(reference_grad)) < 1e-12


@pytest.mark.parametrize("position", [float("nan"), float("inf"), -float("inf"), 1e30, -1e30])
def test_positions_that_are_no_numbers_read_nothing(position):
    case = Conv(B=1)
    tensors = case.tensors(torch.float32)
    tensors["offset"].fill_(position)
    assert torch.equal(case.run(tensors, "numba"), tensors["bias"].view(1, -1, 1, 1).expand(1, 6, 7, 6))
    attention = Attention(B=1)
    tensors = attention.tensors(torch.float32)
    tensors["sampling_locations"].fill_(position)
    assert attention.run(tensors, "numba").count_nonzero() == 0


@njit(nogil=True)
def mark(first, last, bounds, done):
    bounds[first] = last
    done[first:last] += 1


@njit(nogil=True)
def mark_in_threads(team, bounds, done):
    in_threads(mark, team, (bounds, done))


@njit(nogil=True)
def fail(first, last, where):
    if first <= where < last:
        raise ValueError("here")


@njit(nogil=True)
def fail_in_threads(team, where):
    in_threads(fail, team, (where,))


def ranges_of(count):
    """Where the ranges of ``count`` items begin and end; refuses items that are not done exactly once."""
    bounds, done = np.zeros(8, int), np.zeros(8, int)
    mark_in_threads(team(count), bounds, done)
    assert done.tolist() == [1] * count + [0] * (8 - count)
    return [(int(first), int(bounds[first])) for first in np.flatnonzero(bounds)]


def test_every_item_is_done_by_exactly_one_thread(threads):
    for count in (0, 1, 2, 7):
        assert len(ranges_of(count)) == min(threads, count)
    assert ranges_of(7) == {1: [(0, 7)], 2: [(0, 3), (3, 7)], 3: [(0, 2), (2, 4), (4, 7)]}[threads]


@pytest.mark.parametrize("where", [0, 6])
def test_an_error_in_any_thread_is_raised(threads, where):
    with pytest.raises(RuntimeError, match="CPU kernel failed"):
        fail_in_threads(team(7), where)
    fail_in_threads(team(7), 7)  # nobody reaches it


def test_functions_without_a_module_still_compile():
    scope = {}
    exec("def one_more(x): return x + 1", {"__builtins__": {}}, scope)
    assert njit(scope["one_more"])(1) == 2


def test_without_openmp_the_kernels_run_on_one_thread_and_say_so_once(threads, monkeypatch, capsys):
    monkeypatch.setattr(shared_threads.ctypes, "CDLL", lambda path: object())
    monkeypatch.setattr(shared_threads, "_openmp", cache(shared_threads._openmp.__wrapped__))
    assert ranges_of(7) == ranges_of(7) == [(0, 7)]
    assert capsys.readouterr().err.count("no OpenMP threads") == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_memory_in_large_pages_is_ordinary_memory(dtype, monkeypatch):
    monkeypatch.setattr(memory, "LARGE", 1)
    image = torch.rand(2, 3, 4, 5, dtype=dtype)
    rows = memory.contiguous(image.permute(0, 2, 3, 1))
    assert rows.dtype == dtype and rows.is_contiguous() and torch.equal(rows.permute(0, 3, 1, 2), image)
    assert memory.contiguous(image) is image
    assert memory.zeros(2, 3, like=image).count_nonzero() == 0
    assert rows.data_ptr() % memory.LINE == 0


@pytest.fixture
def pool(monkeypatch):
    """An empty pool that takes tensors of any size."""
    monkeypatch.setattr(memory, "LARGE", 1)
    monkeypatch.setattr(memory, "_idle", {})
    return memory._idle


def test_memory_is_used_again_once_no_tensor_uses_it(pool):
    like = torch.zeros(1)
    first = memory.empty(100, 10, like=like)
    view, address = first[5:].numpy(), first.data_ptr()
    del first
    other = memory.empty(100, 10, like=like)
    assert other.data_ptr() != address  # the view still reads the first block
    del view
    small, large, fitting = (memory.empty(rows, 10, like=like) for rows in (1, 1000, 60))
    assert fitting.data_ptr() == address and address not in (small.data_ptr(), large.data_ptr())


def test_idle_memory_never_exceeds_its_limit_and_the_oldest_goes_first(pool, monkeypatch):
    monkeypatch.setattr(memory, "KEPT", 100_000)
    tensors = [memory.empty(10_000, like=torch.zeros(1)) for _ in range(4)]
    addresses = [tensor.data_ptr() for tensor in tensors]
    while tensors:
        tensors.pop(0)
        assert sum(block.nbytes for block in pool.values()) <= 100_000
    kept = [-block.ctypes.data % memory.LINE + block.ctypes.data for block in pool.values()]
    assert kept == addresses[2:]  # two blocks of 40 kB fit
    memory.empty(100_000, like=torch.zeros(1))  # too large to keep
    assert len(pool) == 2


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 31, 32, 33, 100])
def test_lanes_touch_the_channels_of_their_row_alone(channels, dtype):
    rows = np.arange(3 * channels, dtype=dtype).reshape(3, channels)
    sums, dots = np.full((3, channels), -1, dtype), np.zeros(3, dtype)
    add_to_row_1(rows, sums, dots)
    assert np.array_equal(sums, np.stack((np.full(channels, -1), 2 * rows[0] + rows[2], np.full(channels, -1))))
    # Whole numbers, exact in float32 up to 2^24: any order of the sum gives the same.
    assert dots.tolist() == [0, rows[0] @ rows[2], 0]


@njit
def add_to_row_1(rows, sums, dots):
    for c in range(0, rows.shape[1], lanes.LANES):
        first, last = lanes.load(rows, 0, c), lanes.load(rows, 2, c)
        lanes.store(sums, 1, c, rows.dtype.type(2) * first + last)
        dots[1] += lanes.total(first * last)


def test_operators_run_from_several_threads_at_once():
    case = Attention(Q=50)
    tensors = case.tensors(torch.float32)
    expected = case.run(tensors, "numba")
    results = []
    workers = [threading.Thread(target=lambda: results.append(case.run(tensors, "numba"))) for _ in range(8)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert len(results) == 8 and all(torch.equal(result, expected) for result in results)


def _answer_in_child(queue):
    queue.put(ATTENTION.run(ATTENTION.tensors(torch.float32), "numba").sum().item())


def test_operators_run_in_a_forked_process():
    torch_threads = torch.get_num_threads()
    expected = ATTENTION.run(ATTENTION.tensors(torch.float32), "numba").sum().item()
    context = multiprocessing.get_context("fork")
    queue = context.Queue()
    torch.set_num_threads(2)  # the parent's threads exist, and the child must make its own
    try:
        ATTENTION.run(ATTENTION.tensors(torch.float32), "numba")
        child = context.Process(target=_answer_in_child, args=(queue,))
        child.start()
        assert queue.get(timeout=60) == pytest.approx(expected, rel=1e-6)
        child.join(timeout=60)
        assert child.exitcode == 0
    finally:
        torch.set_num_threads(torch_threads)


PROGRAM = """
import torch
from dyhead_lab.ops import ms_deform_attn
for _ in range(2):
    ms_deform_attn(torch.ones(1, 1, 1, 1), torch.tensor([[1, 1]]), torch.tensor([0]),
                   torch.ones(1, 1, 1, 1, 1, 2), torch.ones(1, 1, 1, 1, 1))
"""

HALF = "torch.full((1, 1, 1, 1, 1, 2), 0.5)"


@pytest.mark.slow
def test_kernels_run_where_nothing_can_be_kept_and_say_so():
    unwritable = "import numba.core.caching as c; c.CacheImpl._locator_classes = []\n"
    command = [sys.executable, "-c", unwritable + PROGRAM]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stderr
    assert told.count("compiling CPU kernels; they cannot be kept") == 1 and "NUMBA_CACHE_DIR" in told


@pytest.mark.slow
def test_compiling_is_told_once_and_only_when_it_happens(tmp_path, monkeypatch):
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    run = lambda: subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)  # noqa: E731
    assert run().stderr.count("compiling CPU kernels") == 1
    assert "compiling" not in run().stderr


@pytest.mark.slow
def test_kernels_are_compiled_again_when_a_file_changes_that_they_inline(tmp_path):
    """Weights of two pixels that add up to 2 instead of 1 on each axis make 4 of 1."""
    copy = tmp_path / "dyhead_lab"
    shutil.copytree(Path(memory.__file__).parents[2], copy, ignore=shutil.ignore_patterns("__pycache__", "lib"))
    program = PROGRAM.replace("    ms_deform_attn", "    out = ms_deform_attn").replace(
        "torch.ones(1, 1, 1, 1, 1, 2)", HALF
    )
    command = [sys.executable, "-c", f"{program}\nprint(out.item())"]
    run = lambda: subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True).stdout  # noqa: E731
    assert [run(), run()] == ["1.0\n"] * 2
    pixels = copy / "ops" / "numba_reference" / "pixels.py"
    pixels.write_text(
        pixels.read_text(encoding="utf-8").replace("weights = one - part if", "weights = one + one - part if"),
        encoding="utf-8",
    )
    assert [run(), run()] == ["4.0\n"] * 2
