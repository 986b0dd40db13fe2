"""Small maps have fewer tiles than a GPU has multiprocessors: their taps are split, and the shares added in order."""

from __future__ import annotations

import pytest
import torch

from dyhead_lab.ops import emulator, native

from .native_operators import NativeOperators
from .test_native_kernels import Convolution, assert_close

pytestmark = pytest.mark.skipif(
    not native.built("emulated"), reason=f"emulated kernels: {native.why_missing('emulated')}"
)

FORWARD, SHARE, SUM = "implicit_product<T, Factors, 64>", "product_of_some_taps<T, Factors, 64>", "add_forward_parts<T>"


def forward(case: Convolution, multiprocessors: int, kernel: str = "fast") -> tuple[torch.Tensor, dict[str, int]]:
    """The output, and what was launched."""
    operators = NativeOperators("emulated")
    before = native.launches()
    with emulator.multiprocessors(multiprocessors):
        output = operators.deform_conv2d_forward(*case.tensors, *case.numbers, kernel)
    after = native.launches()
    return output, {name: n - before.get(name, 0) for name, n in after.items() if n != before.get(name, 0)}


@pytest.mark.parametrize("multiprocessors", [4, 5, 16, 132])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["3x3", "offset groups", "one pixel"])
def test_shares_of_taps_add_up(name: str, dtype: torch.dtype, multiprocessors: int) -> None:
    case = Convolution(name, dtype)
    output, launched = forward(case, multiprocessors)
    assert_close((output,), (case.by_formula()[0],), dtype)
    assert launched == {SHARE: 1, SUM: 1}


def test_shares_are_the_same_from_run_to_run_and_in_any_order() -> None:
    case = Convolution("3x3", torch.float32)
    once, _ = forward(case, 132)
    with emulator.shuffled(7):
        assert torch.equal(forward(case, 132)[0], once)
    assert not torch.equal(forward(case, 1)[0], once)  # one chain adds in another order


@pytest.mark.parametrize("multiprocessors", [1, 2])
def test_as_many_tiles_as_multiprocessors_are_not_split(multiprocessors: int) -> None:
    case = Convolution("3x3", torch.float32)  # 126 pixels: two tiles
    assert forward(case, multiprocessors)[1] == {FORWARD: 1}


def test_channels_last_shares_go_to_channels_last_results() -> None:
    case = Convolution("offset groups", torch.float32).channels_last()
    output, _ = forward(case, 132)
    assert output.is_contiguous(memory_format=torch.channels_last)
    assert_close((output,), (case.by_formula()[0],), torch.float32)


def test_no_images_and_no_such_gpu() -> None:
    output, launched = forward(Convolution("no images", torch.float32), 132)
    assert output.shape == (0, 8, 5, 6) and launched == {}
    with pytest.raises(ValueError, match="at least one multiprocessor, got 0"), emulator.multiprocessors(0):
        pass
