"""Turing's way through the fast kernels of the convolution: float16 alone, in products half as deep, without cp.async.

The emulated GPU claims compute capability 7.5. The kernels choose by it as nvcc chooses for ``sm_75``.
"""

from __future__ import annotations

import pytest
import torch

from dyhead_lab.ops import emulator, native

from .native_operators import NativeOperators
from .test_native_kernels import FAST_CONVOLUTIONS, Convolution, assert_close

pytestmark = pytest.mark.skipif(
    not native.built("emulated"), reason=f"emulated kernels: {native.why_missing('emulated')}"
)
WAITS = "common/tensor_core.cuh"  # where a thread waits for its asynchronous copies


@pytest.fixture
def emulated() -> NativeOperators:
    return NativeOperators("emulated")


def takes(emulated: NativeOperators, dtype: torch.dtype) -> bool:
    case = Convolution("3x3", dtype)
    return emulated.deform_conv2d_is_fast(*case.tensors, *case.numbers)


@pytest.mark.parametrize(
    ("name", "of_points", "multiprocessors"),
    [*((name, None, 1) for name in FAST_CONVOLUTIONS), ("offset groups", torch.float32, 1), ("3x3", None, 16)],
)
def test_turings_products_give_the_formula(
    emulated: NativeOperators, name: str, of_points: torch.dtype | None, multiprocessors: int
) -> None:
    """Forward and all gradients, to float16's tolerance in test_native_kernels.py. With 16 multiprocessors the taps of
    a small map are split."""
    case = Convolution(name, torch.float16, of_points)
    with emulator.compute_capability(7, 5), emulator.multiprocessors(multiprocessors):
        assert_close(case.native(emulated, "fast"), case.by_formula(), torch.float16)


@pytest.mark.parametrize("seed", [1, 2])
def test_turings_threads_may_run_in_any_order(emulated: NativeOperators, seed: int) -> None:
    case = Convolution("offset groups", torch.float16)
    with emulator.compute_capability(7, 5), emulator.shuffled(seed):
        assert_close(case.native(emulated, "fast"), case.by_formula(), torch.float16)


def test_turing_multiplies_float16_alone_and_volta_nothing(emulated: NativeOperators) -> None:
    floats = torch.float16, torch.bfloat16, torch.float32
    assert [takes(emulated, dtype) for dtype in floats] == [True, True, True]
    with emulator.compute_capability(7, 5):
        assert [takes(emulated, dtype) for dtype in floats] == [True, False, False]
        case = Convolution("3x3", torch.bfloat16)
        with pytest.raises(RuntimeError, match="kernel='fast'"):
            case.native(emulated, "fast")
    with emulator.compute_capability(7, 0):
        assert [takes(emulated, dtype) for dtype in floats] == [False, False, False]


def test_turing_has_no_asynchronous_copies_to_wait_for(emulated: NativeOperators) -> None:
    """The wait is missed on Ampere; on Turing nobody comes to it, for threads copy by themselves."""
    case = Convolution("3x3", torch.float16)
    [line] = emulator.barriers(WAITS)
    with emulator.left_out(WAITS, line):
        with pytest.raises(RuntimeError, match="is still writing"):
            case.native(emulated, "fast")
        with emulator.compute_capability(7, 5):
            assert_close(case.native(emulated, "fast"), case.by_formula(), torch.float16)


@pytest.mark.parametrize("file", ["fast_forward", "fast_backward", "fast_weight"])
def test_a_missing_barrier_is_told_on_turing_too(emulated: NativeOperators, file: str) -> None:
    lines = emulator.barriers(f"deform_conv/{file}.cuh")
    assert lines
    for line in lines:
        with (
            emulator.compute_capability(7, 5),
            emulator.left_out(f"deform_conv/{file}.cuh", line),
            pytest.raises(RuntimeError, match="race in"),
        ):
            for name in ("offset groups", "many channels"):  # several rounds, several chunks
                Convolution(name, torch.float16).native(emulated, "fast")


def test_on_a_turing_gpu_other_types_are_no_cases(emulated: NativeOperators, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests that ask a T4 for a fast convolution in float32 are skipped, not failed; those in float16 run."""
    emulated.backend = "cuda"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (7, 5))
    with emulator.compute_capability(7, 5):
        half = Convolution("3x3", torch.float16)
        assert_close(half.native(emulated, "fast"), half.by_formula(), torch.float16)
        for dtype in (torch.float32, torch.bfloat16):
            with pytest.raises(pytest.skip.Exception, match="do not multiply torch"):
                Convolution("3x3", dtype).native(emulated, "fast")
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 6))
    assert emulated.multiplies(torch.float32)


def test_what_is_no_compute_capability_is_refused() -> None:
    with pytest.raises(ValueError, match=r"like 7.5 or 8.0, got 0.5"):
        emulator.compute_capability(0, 5)
    with pytest.raises(ValueError, match=r"like 7.5 or 8.0, got 7.50"):
        emulator.compute_capability(7, 50)
