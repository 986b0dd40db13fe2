"""The benchmark compares like with like, and its table says what it measured. No time is asserted."""

import argparse
import json
import sys
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from dyhead_lab.commands import bench
from dyhead_lab.errors import UserError
from dyhead_lab.ops import deform_conv2d, ms_deform_attn, native
from dyhead_lab.ops.bench import cpu_parts, measure, problems, table
from dyhead_lab.ops.cpu import parts

from .cases import distance

CEILINGS = {"copy_bytes_per_second": 1e9, "float32_operations_per_second": 1e12, "bfloat16_operations_per_second": 2e12}
TINY = [
    lambda device: problems.convolution("conv", 1, 4, 5, 6, device),
    lambda device: problems.attention("attention", 1, (64, 64), None, device),
]


@pytest.mark.parametrize("Q", [None, 7])
def test_peers_compute_the_same_attention(Q):
    problem = problems.attention("attention", 2, (70, 130), Q, "cpu", torch.float64)
    ours, peer = (contender.function(*problem.floats) for contender in problem.contenders.values())
    assert distance(ours, peer) < 1e-12  # float64 sums in another order


def test_peers_compute_the_same_convolution():
    problem = problems.convolution("conv", 2, 4, 5, 6, "cpu", torch.float64)
    run = {name: contender.function for name, contender in problem.contenders.items()}
    assert distance(run["dyhead_lab"](*problem.floats), run["torchvision"](*problem.floats)) < 1e-12
    still = [problem.floats[0], *(t * 0 for t in problem.floats[1:2]), problem.floats[2], problem.floats[3] * 0 + 1]
    # Without offsets and with a mask of ones it is the plain convolution.
    assert distance(run["dyhead_lab"](*still), run["plain conv2d"](*still)) < 1e-12


@pytest.mark.parametrize(
    ("problem", "peer"),
    [
        (problems.convolution("conv", 1, 16, 5, 6, "cpu", torch.bfloat16), "torchvision fp32"),
        (problems.attention("attention", 1, (64, 64), 7, "cpu", torch.bfloat16), "grid_sample fp32"),
    ],
    ids=["conv", "attention"],
)
def test_a_peer_without_halves_computes_in_float32_and_says_so(problem, peer):
    ours, other = problem.contenders["dyhead_lab"], problem.contenders[peer]
    out, expected = (c.function(*problem.floats_of(c)) for c in (ours, other))
    assert (out.dtype, expected.dtype) == (torch.bfloat16, torch.float32)
    assert distance(out.float(), expected) < 2e-2  # bfloat16 has 8 bits
    assert peer in {row["peer"] for row in table.rows_of(problem, CEILINGS, rounds=1, device="cpu")}


def test_the_simple_kernels_take_part_on_a_gpu(monkeypatch):
    ran = []
    monkeypatch.setattr(native, "use_kernels", lambda name: ran.append(name) or nullcontext())
    [(name, contender)] = problems._simple_kernels(torch.add, "cuda").items()
    assert name == "simple kernels" and not problems._simple_kernels(torch.add, "cpu")
    problem = problems.Problem("sum", [torch.ones(2), torch.ones(2)], {"dyhead_lab": contender, name: contender}, 0)
    table.rows_of(problem, CEILINGS, rounds=1, device="cpu")
    assert set(ran) == {"simple"}


def test_a_contender_that_cannot_take_part_is_left_out_and_named():
    def broken(a, b):
        raise MemoryError("no room\nfor this")

    ours, told = problems.Contender(torch.add), []
    contenders = {"ours": ours, "broken": problems.Contender(broken), "peer": ours}
    problem = problems.Problem("sum", [torch.ones(2)] * 2, contenders, 0)
    rows = table.rows_of(problem, CEILINGS, 1, "cpu", told.append)
    assert [(row["who"], row["peer"]) for row in rows] == [("ours", "peer"), ("peer", "peer")] * 2
    passes = ("forward", "forward + backward")
    assert told == [f"broken, sum, {name}: MemoryError: no room" for name in passes]
    with pytest.raises(MemoryError):  # a benchmark without its subject says nothing
        table.rows_of(replace(problem, contenders={"ours": problems.Contender(broken)}), CEILINGS, 1, "cpu")


def test_what_a_graph_replays_is_what_is_timed(monkeypatch):
    monkeypatch.setattr(measure, "in_graph", lambda run: lambda: ("replayed", run()))
    contender = problems.Contender(torch.add, graph=True)
    problem = problems.Problem("sum", [torch.ones(2)] * 2, {"a": contender}, 0)
    replayed, out = table._run_of(problem, contender, measure.forward)()
    assert replayed == "replayed" and out.tolist() == [2, 2]


@pytest.fixture
def deformops(monkeypatch):
    """A stand-in for the package: its signatures, our operators."""

    def msda(value, spatial_shapes, level_start_index, locations, weights):
        B, Q, M, L, P, _ = locations.shape
        assert weights.shape == (B, Q, M, L * P)
        return ms_deform_attn(value, spatial_shapes, level_start_index, locations, weights.view(B, Q, M, L, P))

    def convolution(input, offset, weight, bias=None, stride=(1, 1), padding=(0, 0), dilation=(1, 1), mask=None):
        return deform_conv2d(input, offset, weight, bias, stride, padding, dilation, mask)

    monkeypatch.setitem(sys.modules, "deformops", SimpleNamespace(__spec__=ModuleSpec("deformops", None)))
    monkeypatch.setitem(sys.modules, "deformops.registry", SimpleNamespace(msda=msda))
    monkeypatch.setitem(sys.modules, "deformops.integrations.torchvision", SimpleNamespace(deform_conv2d=convolution))


def test_deformops_takes_part_on_a_gpu_where_it_is_installed(deformops):
    [(name, contender)] = problems._deformops(torch.add, "cuda", torch.bfloat16).items()
    assert (name, contender.dtype) == ("deformops", torch.bfloat16)
    assert not problems._deformops(torch.add, "cpu")
    conv, attention = (make("cpu") for make in TINY)
    ours = conv.contenders["dyhead_lab"].function(*conv.floats)
    assert torch.equal(problems.peers.deformops_conv2d(*conv.floats), ours)
    shapes = torch.tensor([[8, 8], [4, 4], [2, 2], [1, 1]])
    arguments = attention.floats[0], shapes, torch.tensor([0, 64, 80, 84]), *attention.floats[1:]
    assert torch.equal(problems.peers.deformops_attention(*arguments), ms_deform_attn(*arguments))


def test_deformops_is_no_contender_where_it_is_not_installed(monkeypatch):
    monkeypatch.setattr(problems.peers, "find_spec", lambda name: None)
    assert not problems._deformops(torch.add, "cuda")


@pytest.mark.skipif(not native.built("emulated"), reason=f"emulated kernels: {native.why_missing('emulated')}")
def test_the_kernels_that_measure_the_cache_touch_all_of_it_as_often_as_they_say():
    operators, memory = native.debug_operators(), torch.arange(40.0)
    # Whole numbers below 2^24: sums are exact in any order.
    assert operators.l2_read(memory, 3).sum() == 3 * memory.sum()
    assert operators.l2_add(memory, 5).tolist() == [5] * 40
    for wrong in (torch.zeros(6), torch.zeros(2, 4), torch.zeros(8, dtype=torch.float64)):
        with pytest.raises(RuntimeError, match="memory"):
            operators.l2_read(wrong, 1)


def test_the_rates_of_the_cache_are_bytes_by_seconds(monkeypatch):
    counted = []
    operators = SimpleNamespace(l2_read=lambda m, n: counted.append(n), l2_add=lambda m, n: counted.append(n))
    monkeypatch.setattr(native, "load", lambda kind: None)
    monkeypatch.setattr(measure.torch, "ops", SimpleNamespace(dyhead_native=operators))
    zeros = torch.zeros
    monkeypatch.setattr(measure.torch, "zeros", lambda n, device: zeros(n))
    monkeypatch.setattr(measure, "_seconds", lambda run, device: run() or 0.5)
    rates = measure.l2_rates(megabytes=1, repeats=8)
    assert rates == dict.fromkeys(table.L2.values(), 2**20 * 8 / 0.5) and set(counted) == {8}


def test_the_floor_counts_with_the_rate_of_the_factors():
    """A product so large that arithmetic decides, in bfloat16 beside a peer in float32 of half the rate."""
    problem = problems.convolution("conv", 1, 64, 8, 8, "cpu", torch.bfloat16)
    slow = {**CEILINGS, "float32_operations_per_second": 1e6, "bfloat16_operations_per_second": 2e6}
    ours, peer, *_ = table.rows_of(problem, slow, rounds=1, device="cpu")
    floors = [row["fraction_of_floor"] * row["median_ms"] / 1e3 for row in (ours, peer)]
    assert floors == pytest.approx([problem.operations / 2e6, problem.operations / 1e6])


def test_tf32_is_allowed_to_whoever_says_so_and_to_nobody_else():
    seen = []

    def function(a, b):
        seen.append((torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32))
        return a + b

    before = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    exact = problems.Contender(function)
    problem = problems.Problem("sum", [torch.ones(2)] * 2, {"a": exact, "a tf32": replace(exact, tf32=True)}, 0)
    for contender in problem.contenders.values():
        table._run_of(problem, contender, measure.forward)()
    assert seen == [("highest", False), ("high", True)]
    assert (torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32) == before


def test_uniform_samples_lie_anywhere_and_others_near_their_query():
    near, anywhere = (problems.attention("a", 1, (64, 64), None, "cpu", uniform=u).floats[1] for u in (False, True))
    centre = problems._centres(8, 8)[:, None, None, None]  # of level 0, whose pixels are the first queries
    far = [(x[0, :64, :, :1] - centre).abs().mean() for x in (near, anywhere)]
    assert far[0] < 0.25 < far[1] < 0.5 and 0 <= anywhere.min() and anywhere.max() <= 1


def test_a_row_follows_from_its_time():
    rows = table.rows_of(TINY[0]("cpu"), CEILINGS, rounds=1, device="cpu")
    assert [(row["pass"], row["who"]) for row in rows] == [
        (name, who)
        for name in ("forward", "forward + backward")
        for who in ("dyhead_lab", "torchvision", "plain conv2d")
    ]
    peer = rows[1]
    assert peer["times_faster_than_peer"] == 1
    # input 120 + offset 540 + weight 144 + mask 270 + output 120 numbers of 4 bytes
    moved = 4 * (120 + 540 + 144 + 270 + 120)
    assert rows[0]["gigabytes_per_second"] == pytest.approx(moved / (rows[0]["median_ms"] / 1e3) / 1e9)
    assert rows[0]["fraction_of_floor"] == pytest.approx(moved / 1e9 / (rows[0]["median_ms"] / 1e3))
    assert rows[0]["times_faster_than_peer"] == pytest.approx(peer["median_ms"] / rows[0]["median_ms"])


def test_a_file_keeps_what_it_holds_about_another_device(tmp_path):
    file = tmp_path / "results" / "bench.json"
    table.store({"cpu": {"rows": [1]}}, file)
    assert json.loads(file.read_text(encoding="utf-8")) == {"cpu": {"rows": [1]}, "cuda": "not measured"}
    table.store({"cuda": {"rows": [2]}}, file)
    assert json.loads(file.read_text(encoding="utf-8")) == {"cpu": {"rows": [1]}, "cuda": {"rows": [2]}}


def test_a_recorded_table_is_read_and_a_missing_one_is_none(tmp_path):
    file = tmp_path / "bench.json"
    table.store({"cpu": {"rows": [1]}}, file)
    assert table.recorded("cpu", file) == {"rows": [1]}
    assert table.recorded("cuda", file) is None
    assert table.recorded("cpu")["rows"], "the project ships measurements of a CPU"


def test_the_command_prints_and_stores(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(table, "QUICK", TINY)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    file = tmp_path / "bench.json"
    assert bench.run(_arguments("--quick", "--out", str(file))) == 0
    printed = capsys.readouterr().out
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert "cuda: not measured" in printed and stored["cuda"] == "not measured"
    assert len(stored["cpu"]["rows"]) == 10
    assert stored["cpu"]["quick"] is True
    assert stored["cpu"]["machine"].keys() >= {"device", "threads", "date", "torch", "torchvision", "numba"}
    assert all(row["problem"] in printed and row["median_ms"] > 0 for row in stored["cpu"]["rows"])


def test_the_parts_of_the_cpu_path_are_measured_one_by_one(tmp_path, capsys, monkeypatch):
    left_out = []

    def medians(runs, rounds, device):
        for run in runs.values():
            run()
        return {name: 0.002 if name == cpu_parts.WHOLE else 0.003 for name in runs}

    def conv(*floats):
        left_out.append([part for part in parts.PARTS if not parts.has(part)])
        return floats[0] * 2

    problem = problems.Problem("conv", [torch.ones(2)], {"dyhead_lab": problems.Contender(conv)}, 0)
    monkeypatch.setattr(cpu_parts.measure, "medians", medians)
    monkeypatch.setattr(cpu_parts, "QUICK", [lambda device: problem])
    file = tmp_path / "bench.json"
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    assert bench.run(parser.parse_args(["cpu", "--quick", "--out", str(file)])) == 0
    stored = json.loads(file.read_text(encoding="utf-8"))
    assert stored.keys() == {"cpu"} and stored["cpu"]["parts"] == parts.PARTS
    assert [(row["pass"], row["without"]) for row in stored["cpu"]["rows"]] == [
        (name, part) for name in ("forward", "forward + backward") for part in parts.PARTS
    ]
    assert left_out == [[], *([part] for part in parts.PARTS)] * 2
    row = stored["cpu"]["rows"][0]
    assert (row["milliseconds"], row["whole_milliseconds"], row["times_faster_with_it"]) == (3.0, 2.0, 1.5)
    assert "without" in capsys.readouterr().out


def test_the_attention_of_the_book_has_the_sizes_of_its_tiny_models():
    tiny = cpu_parts.FULL[4]("cpu").floats
    # deformable_detr_tiny: 4 heads of 16 channels, maps of 20, 10 and 5 cells, 50 queries, 4 points.
    assert [tuple(t.shape) for t in tiny] == [(1, 525, 4, 16), (1, 50, 4, 3, 4, 2), (1, 50, 4, 3, 4)]


def test_a_folder_is_no_file(tmp_path):
    with pytest.raises(UserError, match="is a folder"):
        bench.run(_arguments("--out", str(tmp_path)))


def test_contenders_take_turns_and_a_short_run_is_repeated_in_its_turn(monkeypatch):
    clock, order = SimpleNamespace(now=0.0), []

    def run(name, seconds):
        order.append(name)
        clock.now += seconds

    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: clock.now))
    runs = {"long": partial(run, "long", 2.0), "short": partial(run, "short", measure.TURN_SECONDS / 4)}
    assert measure.medians(runs, 2, "cpu") == pytest.approx({"long": 2.0, "short": measure.TURN_SECONDS / 4})
    assert order == ["long"] * 2 + ["short"] * 2 + (["long"] + ["short"] * 4) * 2  # warm up, then two turns each


def _arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    bench.add_arguments(parser)
    args = parser.parse_args(["ops", *words])
    assert isinstance(args.out, Path)
    return args
