"""The emulator itself: what a GPU promises about warps, barriers, shared memory, atomics and tensor cores."""

from __future__ import annotations

import ctypes
import importlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from dyhead_lab.ops import native

CSRC = Path(__file__).parents[2] / "csrc"
sys.path.insert(0, str(CSRC))
build = importlib.import_module("build")
sys.path.remove(str(CSRC))

Size = tuple[int, int, int]
Probe = Callable[..., Tensor]


def compile_probe(folder: Path, *flags: str) -> ctypes.CDLL:
    try:
        compiler = build.cxx()
    except build.CannotBuild as error:
        pytest.skip(str(error))
    library = folder / "probe.so"
    flags = (*build.CXX_FLAGS, "-fvisibility=default", *flags, f"-I{CSRC}")
    sources = {Path(__file__).parent / "emulator_probe.cpp": [build.ANNOUNCE], CSRC / "emulator" / "races.cpp": []}
    objects = [str(folder / f"{source.stem}.o") for source in sources]
    for (source, announce), compiled in zip(sources.items(), objects, strict=True):
        subprocess.run([compiler, *flags, *announce, "-c", str(source), "-o", compiled], check=True)
    subprocess.run([compiler, "-shared", *objects, "-o", str(library)], check=True)
    return ctypes.CDLL(str(library))


@pytest.fixture(scope="module")
def probe(tmp_path_factory: pytest.TempPathFactory) -> Probe:
    """Run a kernel of emulator_probe.cpp in the debug build on ``input``; returns its output."""
    library = compile_probe(tmp_path_factory.mktemp("probe"), "-DDYHEAD_EMULATOR_CHECK")

    def run(
        name: str,
        input: Tensor,
        output_size: int | None = None,
        blocks: Size = (1, 1, 1),
        threads: Size = (32, 1, 1),
        shared_bytes: int = 0,
    ) -> Tensor:
        output = torch.zeros(input.numel() if output_size is None else output_size)
        message = ctypes.create_string_buffer(500)
        failed = library.run_probe(
            name.encode(),
            (ctypes.c_uint * 3)(*blocks),
            (ctypes.c_uint * 3)(*threads),
            ctypes.c_size_t(shared_bytes),
            ctypes.c_void_p(input.data_ptr()),
            ctypes.c_int64(input.numel()),
            ctypes.c_void_p(output.data_ptr()),
            ctypes.c_int64(output.numel()),
            message,
            ctypes.c_size_t(len(message)),
        )
        if failed:
            raise RuntimeError(message.value.decode())
        return output

    run.library = library  # type: ignore[attr-defined]
    return run


def test_a_shuffle_reduction_sums_each_warp(probe: Probe) -> None:
    values = torch.arange(96.0)
    sums = probe("sum_warps", values, threads=(96, 1, 1))
    expected = values.view(3, 32).sum(1, keepdim=True).expand(3, 32).flatten()
    assert torch.equal(sums, expected)  # whole numbers: exact


def test_lanes_outside_the_mask_are_not_waited_for(probe: Probe) -> None:
    moved = probe("sum_eights", torch.arange(32.0)).view(4, 8)
    for group in range(4):
        steps = group + 1  # group g shifts g + 1 times; the last lane keeps its own value
        expected = [8 * group + min(lane + steps, 7) for lane in range(8)]
        assert moved[group].tolist() == expected


def test_a_barrier_makes_shared_memory_visible(probe: Probe) -> None:
    values = torch.randn(2 * 100)
    reverse = probe("reverse_block", values, blocks=(2, 1, 1), threads=(100, 1, 1), shared_bytes=400)
    assert torch.equal(reverse.view(2, 100), values.view(2, 100).flip(1))


def test_fresh_shared_memory_is_not_a_number(probe: Probe) -> None:
    values = torch.zeros(64)
    stale = probe("read_unwritten", values, blocks=(2, 1, 1), threads=(32, 1, 1), shared_bytes=128)
    assert stale.isnan().all()


def test_shared_memory_behind_the_end_is_refused(probe: Probe) -> None:
    with pytest.raises(RuntimeError, match=r"thread 31 reads bytes 124 to 127 of 'shared', which lie behind its end"):
        probe("read_unwritten", torch.zeros(32), shared_bytes=124)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_races_are_found_in_any_order(probe: Probe, seed: int) -> None:
    probe.library.dyhead_order(ctypes.c_uint64(seed))
    try:
        with pytest.raises(RuntimeError, match=r"race in hasty_reverse.* since the last barrier"):
            probe("hasty_reverse", torch.zeros(64), threads=(64, 1, 1), shared_bytes=256)
        with pytest.raises(RuntimeError, match="which an asynchronous copy of thread 0 is still writing"):
            probe("hasty_copy", torch.zeros(4), threads=(1, 1, 1), shared_bytes=16)
        with pytest.raises(RuntimeError, match="race in plain_after_atomic"):
            probe("plain_after_atomic", torch.zeros(64), threads=(64, 1, 1), shared_bytes=4)
        assert probe("pass_on_in_a_warp", torch.arange(32.0), shared_bytes=128).tolist() == [*range(1, 32), 0]
    finally:
        probe.library.dyhead_order(ctypes.c_uint64(0))


def test_atomics_add_up_and_ended_threads_are_not_waited_for(probe: Probe) -> None:
    total = probe("sum_blocks", torch.ones(192), 8, blocks=(3, 1, 1), threads=(64, 1, 1), shared_bytes=4)
    assert total.tolist() == [192, 0, 0, 0, 3, 6, 9, 12]


def test_every_thread_knows_its_place(probe: Probe) -> None:
    order = probe("place_threads", torch.zeros(1), 720, blocks=(2, 3, 4), threads=(5, 3, 2))
    assert torch.equal(order, torch.arange(720.0))


def test_a_read_outside_names_buffer_index_and_thread(probe: Probe) -> None:
    with pytest.raises(RuntimeError) as error:
        probe("read_outside", torch.zeros(64), blocks=(2, 1, 1))
    message = str(error.value)
    assert "block (1, 0, 0), thread (31, 0, 0)" in message
    assert "index 64 of 'input', which has 64" in message
    assert probe("sum_warps", torch.ones(32))[0] == 32  # the next launch finds a clean emulator


def test_threads_that_never_meet_are_reported(probe: Probe) -> None:
    with pytest.raises(RuntimeError, match="deadlock"):
        probe("never_meet", torch.zeros(32))


def test_a_shuffle_from_outside_its_mask_is_reported(probe: Probe) -> None:
    with pytest.raises(RuntimeError, match="a lane that its mask leaves out"):
        probe("shuffle_from_outside", torch.zeros(32))


@pytest.mark.parametrize(
    ("name", "dtype", "tolerance"),
    # 16-bit products are exact in float32; three TF32 products keep 21 of float32's 24 bits, one keeps 11.
    [
        ("float32", torch.float32, 2e-6),
        ("tf32", torch.float32, 5e-4),
        ("float16", torch.float16, 1e-6),
        ("bfloat16", torch.bfloat16, 1e-6),
    ],
)
@pytest.mark.parametrize("columns", [64, 128])
@pytest.mark.parametrize("kernel", ["multiply", "multiply_turned"])
def test_tensor_cores_multiply(
    probe: Probe, kernel: str, name: str, dtype: torch.dtype, tolerance: float, columns: int
) -> None:
    """Tiles whose rows run along the axis that is summed over, and tiles whose rows run across it."""
    step = 64 // dtype.itemsize
    tiles = torch.randn(256 + columns, step).to(dtype).float()
    threads, shared_bytes = (4 * columns, 1, 1), (256 + 8 + 128 + 8) * 64
    got = probe(f"{kernel}_{name}", tiles, 256 * columns, threads=threads, shared_bytes=shared_bytes)
    expected = tiles[:256].double() @ tiles[256:].double().T
    error = (got.view(256, columns).double() - expected).norm() / expected.norm()
    assert error < tolerance


def test_tf32_rounding_goes_to_the_nearest_float_with_10_bits_of_mantissa(probe: Probe) -> None:
    values = torch.randn(1000) * torch.logspace(-30, 30, 1000)
    ties = torch.tensor([1 + 2.0**-11, -1 - 2.0**-11, 1 + 3 * 2.0**-11])  # away from zero
    specials = torch.tensor([0.0, torch.inf, -torch.inf])
    no_numbers = torch.tensor([0x7FC00000, 0x7F800001], dtype=torch.int32).view(torch.float32)  # the last bit alone
    got = probe(
        "round_trip_tf32",
        torch.cat([values, ties, specials, no_numbers]),
        blocks=(1008, 1, 1),
        threads=(1, 1, 1),
    )
    mantissa, exponent = torch.frexp(torch.cat([values, ties]).double())
    nearest = (mantissa.abs() * 2**11 + 0.5).floor() * mantissa.sign()
    assert torch.equal(got[:1003].double(), torch.ldexp(nearest, exponent - 11))
    assert torch.equal(got[1003:1006], specials) and got[1006:].isnan().all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bit_rounding_is_torchs(probe: Probe, dtype: torch.dtype) -> None:
    every = torch.arange(-(2**15), 2**15, dtype=torch.int32).to(torch.int16).view(dtype).float()
    halfway = (every[:-1] + every[1:]) / 2  # ties, where rounding goes to even
    values = torch.cat([every, halfway, halfway * 1.0001, torch.tensor([1e-30, -1e30, 65520.0, 65519.9])])
    got = probe(f"round_trip_{str(dtype)[6:]}", values, blocks=(values.numel(), 1, 1), threads=(1, 1, 1))
    expected = values.to(dtype).float()
    assert torch.equal(got.isnan(), expected.isnan())
    assert torch.equal(got.nan_to_num(7), expected.nan_to_num(7))


# Recording, through the library that was built

needs_debug_build = pytest.mark.skipif(not native.built("emulated"), reason="the native code is not built")


def one_sample() -> tuple[Tensor, ...]:
    """One query, one head of two channels, one level of 2 x 3, one point between its first four pixels."""
    value = torch.arange(12.0).view(1, 6, 1, 2)
    location = torch.tensor([1.0 / 3, 0.5]).view(1, 1, 1, 1, 1, 2)  # pixel (x, y) = (0.5, 0.5)
    return value, torch.tensor([[2, 3]]), torch.tensor([0]), location, torch.ones(1, 1, 1, 1, 1)


@needs_debug_build
def test_recorded_reads_are_the_four_pixels() -> None:
    accesses = native.record("ms_deform_attn_forward", *one_sample(), threads=range(2))
    for channel in range(2):
        reads = [a for a in accesses if a.buffer == "value" and a.thread == channel]
        assert [a.index for a in reads] == [pixel * 2 + channel for pixel in (0, 1, 3, 4)]
        assert [a.value for a in reads] == [float(a.index) for a in reads]
    writes = [a for a in accesses if a.operation == "write"]
    assert [(a.thread, a.buffer, a.index, a.value) for a in writes] == [(0, "output", 0, 4.0), (1, "output", 1, 5.0)]


@needs_debug_build
def test_recorded_atomics_of_the_backward_pass() -> None:
    grad = torch.ones(1, 1, 2)
    accesses = native.record("ms_deform_attn_backward", grad, *one_sample(), False)
    atomics = [a for a in accesses if a.operation == "atomic_add"]
    assert [(a.buffer, a.index, a.value) for a in atomics] == [("grad_value", i, 0.25) for i in (0, 2, 6, 8)]
    assert {a.launch for a in accesses} == {0, 1}  # one kernel for the value, one for the samples


@needs_debug_build
def test_a_wrong_level_start_is_caught_by_name() -> None:
    value, shapes, _, location, weight = one_sample()
    with pytest.raises(IndexError, match="'value', which has 12"):
        native.record("ms_deform_attn_forward", value, shapes, torch.tensor([3]), location, weight)


@needs_debug_build
def test_record_refuses_what_it_cannot_watch() -> None:
    with pytest.raises(ValueError, match="threads must be a range"):
        native.record("ms_deform_attn_forward", *one_sample(), threads=range(0))
    with pytest.raises(ValueError, match="no operator 'attend'"):
        native.record("attend", *one_sample())
