"""What runs in place of the fast kernels is said once for each GPU."""

import pytest
import torch

from dyhead_lab.ops import native
from dyhead_lab.ops.backends import by_native

from .cases import Conv

pytestmark = pytest.mark.skipif(not native.built("emulated"), reason="the native code is not built")


@pytest.fixture
def tell(monkeypatch, capsys):
    """Look at a layer as on a GPU; what is said about it."""
    native.load("emulated")
    monkeypatch.setattr(by_native, "_seen", set())
    by_native._say_columns.cache_clear()

    def look(case, dtype=torch.float32):
        tensors = case.tensors(dtype)
        arguments = tensors["input"], tensors["offset"], tensors["weight"], tensors.get("mask")
        steps = (*case.stride, *case.padding, *case.dilation, case.groups, case.G)
        by_native.tell_if_not_fast(arguments, steps)
        return capsys.readouterr().err

    yield look
    by_native._say_columns.cache_clear()


def test_a_layer_that_is_fast_is_not_worth_a_word(tell):
    assert tell(Conv(C=32, Co=8)) == ""


def test_another_one_is_told_with_what_the_fast_kernels_need_and_once(tell):
    said = tell(Conv(C=12, Co=9, groups=3, G=2))
    assert "on cpu keeps its samples in memory for PyTorch's matrix product; the fast kernels need" in said
    assert tell(Conv(C=12, Co=9, groups=3, G=2)) == tell(Conv(C=32, Co=8), torch.float64) == ""
