"""The production CPU path: it computes what the loops compute, in strips, in threads, at once and after a fork."""

import multiprocessing
import threading

import pytest
import torch

from dyhead_lab.ops.checks import Geometry
from dyhead_lab.ops.cpu import fast_deform_conv, fast_ms_deform_attn, image_rows, parts

from .cases import Attention, Conv, answers, answers_of_loops, assert_same, cotangent, distance, levels_of

CONV = Conv(C=12, Co=9, size=(6, 5), kernel=(3, 2), stride=(2, 1), dilation=(1, 2), groups=3, G=2)
ATTENTION = Attention(Q=9, M=2, P=3, D=5)


def test_convolution_agrees_with_the_loops(threads):
    tensors = CONV.tensors(torch.float64)
    expected = answers_of_loops(CONV, tensors)
    bias = tensors.pop("bias").view(-1, 1, 1)
    geometry = Geometry(CONV.stride, CONV.padding, CONV.dilation, CONV.groups, CONV.G)
    out = fast_deform_conv.deform_conv2d(geometry, torch.float64, *tensors.values())
    grads = fast_deform_conv.deform_conv2d_backward(geometry, torch.float64, cotangent(out.shape), *tensors.values())
    # Float64 sums in another order: 1e-12.
    assert distance(out + bias, expected["out"]) < 1e-12
    for name, got in zip(tensors, grads, strict=True):
        assert distance(got, expected[f"grad_{name}"]) < 1e-12, name


@pytest.mark.parametrize("places", ["between", "border", "far"])
@pytest.mark.parametrize("reads", [0, 10**9], ids=["heads apart", "heads together"])
def test_attention_agrees_with_the_loops(places, reads, threads, monkeypatch):
    monkeypatch.setattr(fast_ms_deform_attn, "READS_TO_LAY_APART", reads)
    monkeypatch.setattr(fast_ms_deform_attn, "BYTES_TO_LAY_APART", 0)
    case = Attention(**{**vars(ATTENTION), "places": places})
    tensors = case.tensors(torch.float64)
    expected = answers_of_loops(case, tensors)
    value, *points = tensors.values()
    arguments = value, *levels_of(case.levels), *points
    out = fast_ms_deform_attn.ms_deform_attn(*arguments)
    grads = fast_ms_deform_attn.ms_deform_attn_backward(cotangent(out.shape), *arguments)
    assert distance(out, expected["out"]) < 1e-12
    for name, got in zip(tensors, grads, strict=True):
        assert distance(got, expected[f"grad_{name}"]) < 1e-12, name


@pytest.mark.parametrize("size", [1, 10_000], ids=["row by row", "strips across images"])
def test_strips_of_any_size_give_the_same_answers(size, monkeypatch):
    case = Conv(B=3)
    tensors = case.tensors(torch.float64)
    whole = answers(case, tensors, "numba")
    monkeypatch.setattr(fast_deform_conv, "STRIP_BYTES", size)
    # Strip by strip, weights gather their gradient in another order: 1e-12.
    assert_same(answers(case, tensors, "numba"), whole, 1e-12)


@pytest.mark.parametrize("groups", [1, 3])
@pytest.mark.parametrize("layout", ["contiguous", "channels_last"])
@pytest.mark.parametrize("size", [1, 10_000], ids=["row by row", "strips across images"])
def test_small_and_large_images_give_the_same_answers(size, layout, groups, monkeypatch):
    case = Conv(B=3, C=12, Co=9, groups=groups, layout=layout)
    tensors = case.tensors(torch.float64)
    small = answers(case, tensors, "numba")
    monkeypatch.setattr(image_rows, "FEW", 0)
    monkeypatch.setattr(fast_deform_conv, "STRIP_BYTES", size)
    # Sums in another order: 1e-12.
    assert_same(answers(case, tensors, "numba"), small, 1e-12)


EVERY_PART = [*([part] for part in parts.PARTS), list(parts.PARTS)]


@pytest.mark.parametrize("left_out", EVERY_PART, ids="+".join)
@pytest.mark.parametrize("case", [CONV, Conv(C=40, places="far"), ATTENTION, Attention(D=33, Q=70, places="border")])
def test_plain_code_in_place_of_a_part_gives_the_same_answers(case, left_out):
    tensors = case.tensors(torch.float64)
    whole = answers(case, tensors, "numba")
    with parts.without(*left_out):
        # Without lanes, channels are summed in another order: 1e-12. The other parts change no number.
        assert_same(answers(case, tensors, "numba"), whole, 1e-12 if "lanes" in left_out else 0.0)


def test_operators_run_from_several_threads_at_once(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 2)
    monkeypatch.setattr("dyhead_lab.ops.cpu.threads.FEW", 0)
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


def test_operators_run_in_a_forked_process(monkeypatch):
    monkeypatch.setattr("dyhead_lab.ops.cpu.threads.FEW", 0)
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
