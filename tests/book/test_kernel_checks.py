"""The checks of chapter 04: right kernels in several styles pass, and each mistake gets its name.

The right kernels are the chapter's own; a mistake is planted by changing their text.
"""

from __future__ import annotations

import re

import pytest

from dyhead_book import build
from dyhead_book.c04_the_cuda_kernel.convolution_checks import check_deform_conv, check_gather
from dyhead_book.c04_the_cuda_kernel.kernel_source import kernel_source
from dyhead_book.c04_the_cuda_kernel.memory_checks import (
    SECTOR_MISTAKES,
    check_blur,
    check_sectors,
    sectors_formula,
)
from dyhead_book.c04_the_cuda_kernel.picture_checks import check_grey, check_sample
from dyhead_book.editions import exercises
from dyhead_lab.ops.cuda_text import cuda_kernel, why_no_emulator

from .planted import assert_bugs_are_caught

needs_compiler = pytest.mark.skipif(why_no_emulator() is not None, reason=str(why_no_emulator()))


@pytest.fixture(scope="module")
def texts() -> dict[str, str]:
    """Exercise -> the text of the chapter's kernel."""
    [source] = build.chapters(["04"])
    scope = {"cuda_kernel": cuda_kernel}
    for exercise in exercises(build.read_source(source)):
        exec(exercise.answer, scope)
    kernels = ("grey", "sample", "deform_conv", "gather_last", "blur")
    return {name: scope[name].text for name in kernels}


CHECKS = {
    "grey": check_grey,
    "sample": check_sample,
    "deform_conv": check_deform_conv,
    "gather_last": check_gather,
    "blur": check_blur,
}
INDEX_X, INDEX_Y = "blockIdx.x * blockDim.x + threadIdx.x", "blockIdx.y * blockDim.y + threadIdx.y"
MISTAKES = [
    ("grey", "if (x >= W || y >= H) return;", "", "there is no guard at the border"),
    ("grey", "y * W + x", "x * W + y", "x and y are exchanged"),
    ("grey", INDEX_X, "threadIdx.x", "the block's place is forgotten"),
    ("grey", "blockDim.", "16 + 0 * blockDim.", "blocks of 16 x 16 are taken for granted"),
    ("grey", "image[H * W + p] + image[2 * H * W + p]", "image[p + 1] + image[p + 2]",
     "the three colours are taken for"),
    ("grey", "image[H * W + p] + image[2 * H * W + p]", "image[p + W] + image[p + 2 * W]",
     "a plane is taken for a row"),
    ("grey", " / 3", "", "the sum is not divided"),
    ("grey", "(image[p] + image[H * W + p] + image[2 * H * W + p]) / 3", "image[p]", "one colour is read"),
    ("sample", "y[i], x[i]", "x[i], y[i]", "y and x are exchanged"),
    ("sample", "float sum = 0;", "float sum = 0; y += 0; if (1) { y = roundf(y); x = roundf(x); top = y; left = x; }",
     "the nearest pixel is read"),
    ("sample", "int top", "y = floorf(y); x = floorf(x); int top", "only the pixel above and to the left is read"),
    ("sample", "(1 - fabsf(y - row)) * (1 - fabsf(x - column))", "fabsf(y - row) * fabsf(x - column)",
     "each corner gets the weight of the one opposite"),
    ("sample", "column < 0 || column >= W", "row * W + column >= H * W || row * W + column < 0",
     "the column is not held against the width"),
    ("sample", "if (row < 0 || row >= H || column < 0 || column >= W) continue;", "",
     "a pixel outside of the plane is read"),
    ("sample", "floorf(y), left = floorf(x)", "y, left = x", "positions are cut, not rounded down"),
    ("sample", "if (i < n) ", "", "there is no guard at the border"),
    ("deform_conv", "if (i >= n) return;", "", "there is no guard at the border"),
    ("deform_conv", "H, W, y, x);", "H, W, p / W + k / 3 - 1 + dx, p % W + k % 3 - 1 + dy);",
     "dy and dx are exchanged"),
    ("deform_conv", "2 * k) * S + p];\n    float dx = offset[(b * 18 + 2 * k + 1)",
     "k) * S + p];\n    float dx = offset[(b * 18 + k + 9)", "all dy are taken to stand before all dx"),
    ("deform_conv", "k / 3 - 1 + dy, x = p % W + k % 3 - 1", "k % 3 - 1 + dy, x = p % W + k / 3 - 1",
     "rows and columns of the taps are exchanged"),
    ("deform_conv", "* mask[(b * 9 + k) * S + p]", "", "the mask is left out"),
    ("deform_conv", "k / 3 - 1 + dy, x = p % W + k % 3 - 1", "k / 3 + dy, x = p % W + k % 3",
     "the padding is forgotten"),
    ("deform_conv", "p = i % S, o = i / S % Co, b = i / S / Co", "o = i % Co, p = i / Co % S, b = i / S / Co",
     "neighbouring threads compute neighbouring channels"),
    ("deform_conv", "(b * 18", "(0 * 18", "all images take the offsets of the first"),
    ("deform_conv", "(b * 9", "(0 * 9", "all images take the mask of the first"),
    ("deform_conv", " + dy", "", None),
    ("gather_last", "int c = i % C, point = i / C", "int point = i % (n / C), c = i / (n / C)", None),
    ("gather_last", "in + c, C, H", "in + c * H * W, 1, H", "the input is read with channels first"),
    ("gather_last", "in + c", "in", "all channels read the first"),
    ("gather_last", "out[i]", "out[c * (n / C) + point]", "the result is written with channels first"),
    ("blur", "__syncthreads();", "", "a __syncthreads() is missing"),
    ("blur", "tile[t + 1] =", "if (i >= n) return; tile[t + 1] =", "a thread leaves before __syncthreads()"),
    ("blur", "if (t == 0) tile[0] = i > 0 ? x[i - 1] : 0;", "", "the tile has no neighbours at its ends"),
    ("blur", "i > 0 ? x[i - 1] : 0;\n  if (t == blockDim.x - 1) tile[t + 2] = i + 1 < n ? x[i + 1] : 0",
     "0;\n  if (t == blockDim.x - 1) tile[t + 2] = 0", "the neighbours of the next block count as zero"),
    ("blur", "tile[t + 1] = i < n ? x[i] : 0;", "tile[t + 1] = x[i];", "there is no guard at the border"),
    ("blur", " / 3", "", "the sum is not divided"),
]  # fmt: skip


@needs_compiler
@pytest.mark.parametrize("name", list(CHECKS))
def test_the_chapters_kernels_pass(texts, name):
    assert CHECKS[name](cuda_kernel(texts[name]))


@needs_compiler
@pytest.mark.parametrize(("exercise", "right", "wrong", "named"), MISTAKES)
def test_each_mistake_has_its_name(texts, exercise, right, wrong, named):
    assert right in texts[exercise]
    verdict = CHECKS[exercise](cuda_kernel(texts[exercise].replace(right, wrong)))
    assert not verdict
    assert named is None or f"when {named}" in verdict.message, verdict.message


@needs_compiler
def test_right_numbers_by_scattered_reads_are_no_right_answer(texts):
    """The threads are numbered as before, only the places in memory are the new ones."""
    scattered = texts["gather_last"].replace(
        "int c = i % C, point = i / C;", "int point = i % (n / C), c = i / (n / C); i = point * C + c;"
    )
    message = check_gather(cuda_kernel(scattered)).message
    assert "numbers are right" in message and "neighbouring threads take neighbouring points" in message


@needs_compiler
def test_right_numbers_without_the_tile_are_no_right_answer():
    message = check_blur(
        cuda_kernel("""
        __global__ void blur(const float* x, float* out, int n) {
          int i = blockIdx.x * blockDim.x + threadIdx.x;
          if (i < n) out[i] = ((i ? x[i - 1] : 0) + x[i] + (i + 1 < n ? x[i + 1] : 0)) / 3;
        }""")
    ).message
    assert "numbers are right" in message and "the tile is left aside" in message


@needs_compiler
def test_other_styles_are_right(texts):
    """A guard around the work, double arithmetic, dynamic shared memory of another name, int64 indices."""
    guarded = re.sub(
        r"if \(x >= W \|\| y >= H\) return;(.*)\n}", r"if (x < W && y < H) {\1}\n}", texts["grey"], flags=re.S
    )
    assert "return" not in guarded and check_grey(cuda_kernel(guarded.replace("void grey", "void other_name")))
    assert check_deform_conv(cuda_kernel(texts["deform_conv"].replace("float sum = 0;\n  ", "double sum = 0;\n  ")))
    assert check_gather(cuda_kernel(texts["gather_last"].replace("int i = ", "int64_t i = ")))
    strided = texts["sample"].replace("if (i < n)", "for (; i < n; i += gridDim.x * blockDim.x)")
    assert check_sample(cuda_kernel(strided))


def test_what_is_no_kernel_is_told_so():
    assert "expected what cuda_kernel" in check_grey("__global__").message
    with pytest.raises(NotImplementedError, match="one thread, one pixel"):
        check_grey(cuda_kernel('__global__ void grey(const float* image) {\n  #error "one thread, one pixel"\n}'))


def test_bugs_of_the_count_of_sectors():
    assert_bugs_are_caught(check_sectors, sectors_formula, SECTOR_MISTAKES)


def test_scattered_floats_cost_eight_times_as_much_as_neighbours():
    assert sectors_formula(range(0, 32 * 100, 100), 4) == 8 * sectors_formula(range(32), 4) == 32


def test_a_kernel_is_shown_whole_with_the_sentence_that_explains_it():
    code = kernel_source("forward_simple").code
    assert code.startswith("/// A thread computes one output") and code.endswith("}")
    assert code.count("{") == code.count("}") and "__global__" in code
    with pytest.raises(ValueError, match="no kernel 'nothing'"):
        kernel_source("nothing")
