"""The CUDA kernel: its source, what the emulator sees of its threads, and the exercises about it."""

import pytest

from dyhead_book.c04_the_cuda_kernel.kernel_checks import (
    LINES_MISTAKES,
    OWNER_MISTAKES,
    READS_MISTAKES,
    check_lines,
    check_owner,
    check_reads,
    input_reads,
    lines_of,
    owner_formula,
)
from dyhead_book.c04_the_cuda_kernel.kernel_reading import Example, kernel_source
from dyhead_lab.ops import deform_conv2d, native

from .planted import assert_bugs_are_caught

needs_native = pytest.mark.skipif(not native.built("emulated"), reason="the native code is not built: make native")


def test_a_kernel_is_shown_whole_with_the_sentence_that_explains_it():
    code = kernel_source("forward_simple").code
    assert code.startswith("/// A thread computes one output") and code.endswith("}")
    assert code.count("{") == code.count("}") and "__global__" in code
    with pytest.raises(ValueError, match="no kernel 'nothing'"):
        kernel_source("nothing")


@pytest.mark.parametrize(
    ("check", "solution", "bugs"),
    [
        (check_owner, owner_formula, OWNER_MISTAKES),
        (check_lines, lines_of, LINES_MISTAKES),
        (check_reads, input_reads, READS_MISTAKES),
    ],
)
def test_bugs(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


@needs_native
def test_the_count_of_reads_is_what_the_emulator_sees():
    """One image, one channel, one output pixel far from the border."""
    accesses = Example(H=8, W=9, offset_scale=0.2).forward(threads=range(40, 41))
    assert sum(access.buffer == "input" for access in accesses) == input_reads(1, 1, 1, 1, 9)


@needs_native
def test_a_thread_reads_four_pixels_per_tap_and_writes_its_output():
    example = Example(H=8, W=9, offset_scale=0.2)
    accesses = example.forward(threads=range(40, 41))  # row 4, column 4: far from the border
    reads = [access for access in accesses if access.buffer == "input"]
    assert len(reads) == 4 * 9
    top_left, top_right, bottom_left, bottom_right = (access.index for access in reads[:4])
    assert (top_right, bottom_left, bottom_right) == (top_left + 1, top_left + 9, top_left + 10)
    image, offset, weight, mask = example.tensors()
    expected = deform_conv2d(image, offset, weight, padding=1, mask=mask, backend="formula")
    assert accesses[-1].operation == "write" and accesses[-1].index == 40
    assert accesses[-1].value == pytest.approx(float(expected.flatten()[40]), abs=1e-5)  # float32 sums of 9 terms


@needs_native
def test_the_backward_pass_adds_atomically_to_pixels_of_the_input():
    example = Example(H=6, W=7, offset_scale=0.5)
    additions = [a for a in example.backward() if a.operation == "atomic_add"]
    assert {a.buffer for a in additions} == {"grad_input"}
    assert all(0 <= a.index < 42 for a in additions)
