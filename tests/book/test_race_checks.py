import pytest
import torch

from dyhead_book.c16_kernel_race.race_checks import (
    CONTENDER_MISTAKES,
    FLOOR_MISTAKES,
    WORK_MISTAKES,
    check_contender,
    check_conv_work,
    check_floor_seconds,
    conv_work,
    floor_seconds,
    sampled_deform_conv2d,
)
from dyhead_lab.ops.bench.problems import convolution

from .planted import assert_bugs_are_caught


@pytest.mark.parametrize(
    ("check", "solution", "bugs"),
    [
        (check_conv_work, conv_work, WORK_MISTAKES),
        (check_floor_seconds, floor_seconds, FLOOR_MISTAKES),
        (check_contender, sampled_deform_conv2d, CONTENDER_MISTAKES),
    ],
)
def test_bugs(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def test_the_counts_of_the_lesson_are_those_of_the_benchmark():
    problem = convolution("small", 2, 16, 5, 7, "cpu")
    output = torch.empty(2, 16, 5, 7)
    assert conv_work(2, 16, 5, 7) == (problem.bytes_moved(output, False), problem.operations)
