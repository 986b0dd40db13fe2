"""Chapter 04: the kernels of its cells; the shipped detector finds the same on what they sample."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from dyhead_book import build
from dyhead_book.editions import exercises
from dyhead_book.practice.rebuilt import check_rebuilt
from dyhead_lab.data.shapes import draw_image
from dyhead_lab.ops import emulator, formula, native
from dyhead_lab.ops.cuda_text import cuda_kernel, nvrtc, why_no_emulator

from .definitions import definitions

needs_compiler = pytest.mark.skipif(why_no_emulator() is not None, reason=str(why_no_emulator()))


@pytest.fixture(scope="module")
def cells() -> dict[str, Any]:
    """The chapter's functions, and the kernels of its exercises."""
    [source] = build.chapters(["04"])
    namespace = definitions(build.title(source))
    for exercise in exercises(build.read_source(source)):
        exec(exercise.answer, namespace)
    return namespace


@needs_compiler
def test_the_shipped_detector_finds_the_same_on_the_kernel_of_the_chapter(cells):
    image = torch.from_numpy(draw_image(2026, 3)[0]).permute(2, 0, 1) / 255
    assert check_rebuilt("quickstart", [image], traced_deform_conv2d=cells["kernel_conv"])


@needs_compiler
def test_a_kernel_that_reads_one_pixel_off_is_noticed(cells):
    right = cells["gather_last"]
    try:
        cells["gather_last"] = cuda_kernel(right.text.replace("x[point])", "x[point] + 1)"))
        image = torch.from_numpy(draw_image(2026, 3)[0]).permute(2, 0, 1) / 255
        assert not check_rebuilt("quickstart", [image], traced_deform_conv2d=cells["kernel_conv"])
    finally:
        cells["gather_last"] = right


@needs_compiler
def test_the_convolution_of_the_chapter_is_the_formula_on_a_larger_case(cells):
    """float32 sums of 72 products in another order: 1e-5."""
    generator = torch.Generator().manual_seed(5)
    shapes = (2, 8, 9, 11), (2, 18, 9, 11), (2, 9, 9, 11), (4, 8, 3, 3)
    x, offset, mask, weight = (torch.rand(*shape, generator=generator) for shape in shapes)
    out = torch.zeros(2, 4, 9, 11)
    cells["deform_conv"](7, 128, x, 6 * offset - 3, mask, weight, out, 8, 4, 9, 11, out.numel())
    expected = formula.deform_conv2d(x, 6 * offset - 3, weight, None, (1, 1), (1, 1), (1, 1), mask)
    torch.testing.assert_close(out, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.skipif(nvrtc.why_missing() is not None, reason=str(nvrtc.why_missing()))
def test_nvidias_compiler_takes_every_kernel_of_the_exercises(cells):
    for name in ("grey", "sample", "deform_conv", "gather_last", "blur"):
        assert f".visible .entry _Z{len(name)}{name}" in cells[name].ptx("compute_80")


@pytest.mark.skipif(not native.built("emulated"), reason="the emulator was not built")
def test_the_chapter_shows_what_the_race_detector_says_of_a_barrier_that_is_left_out(cells):
    """With all barriers it is right: float32 sums of 288 products, 1e-5 of their size."""
    generator = torch.Generator().manual_seed(5)
    shapes = (1, 32, 6, 6), (1, 18, 6, 6), (1, 9, 6, 6), (32, 32, 3, 3)
    x, offset, mask, weight = (torch.rand(*shape, generator=generator) for shape in shapes)
    expected = formula.deform_conv2d(x, offset, weight, None, (1, 1), (1, 1), (1, 1), mask)
    torch.testing.assert_close(cells["fast_conv"](x, offset, weight, mask), expected, atol=0, rtol=1e-5)
    [line] = emulator.barriers(cells["FAST_KERNEL"])
    threads = r"thread \d+ writes bytes \d+ to \d+ of 'shared', which thread \d+ read since the last barrier"
    told = r"race in implicit_product<.*>, block \(0, 0, 0\): " + threads
    with emulator.left_out(cells["FAST_KERNEL"], line), pytest.raises(RuntimeError, match=told):
        cells["fast_conv"](x, offset, weight, mask)
