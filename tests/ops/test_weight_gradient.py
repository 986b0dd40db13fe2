"""The weight's gradient is summed over pixels in parts; in a part, corners are found for 128 pixels at a time."""

from __future__ import annotations

import pytest
import torch

from dyhead_lab.ops import emulator, native

from . import test_native_kernels
from .native_operators import NativeOperators
from .test_native_kernels import Convolution, assert_close

pytestmark = pytest.mark.skipif(
    not native.built("emulated"), reason=f"emulated kernels: {native.why_missing('emulated')}"
)

#: 646 pixels: two parts of 323, which is more than two times 128 and no multiple of a step.
SHAPES = {
    "one group": (2, 32, (17, 19), 24, (1, 2), (1, 1), (0, 1), (1, 2), 1, 1, True),
    "groups of less than a chunk": (2, 96, (17, 19), 24, (1, 1), (1, 1), (0, 0), (1, 1), 1, 3, True),
    "groups of more than a chunk": (2, 192, (17, 19), 8, (1, 1), (1, 1), (0, 0), (1, 1), 1, 2, False),
}


@pytest.fixture(params=SHAPES)
def shape(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(test_native_kernels.CONVOLUTION_SHAPES, request.param, SHAPES[request.param])
    return str(request.param)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_parts_and_chunks_add_up(shape: str, dtype: torch.dtype) -> None:
    case = Convolution(shape, dtype, torch.float32)
    for multiprocessors in (1, 132):  # one part, two parts
        with emulator.multiprocessors(multiprocessors):
            assert_close(case.native(NativeOperators("emulated"), "fast"), case.by_formula(), dtype)


def test_the_sum_is_the_same_from_run_to_run_and_in_any_order(shape: str) -> None:
    case = Convolution(shape, torch.bfloat16)
    with emulator.multiprocessors(132):
        once = case.native(NativeOperators("emulated"), "fast", deterministic=True)[3]
        with emulator.shuffled(11):
            again = case.native(NativeOperators("emulated"), "fast", deterministic=True)[3]
    assert torch.equal(once, again)
