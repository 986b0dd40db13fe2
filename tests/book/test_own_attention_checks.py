import numpy as np
import pytest
import torch

from dyhead_book.c17_write_your_own_attention.own_attention_checks import (
    JOINT_MACS_MISTAKES,
    JOINT_MISTAKES,
    TOKENS_MISTAKES,
    check_joint_attention,
    check_joint_macs,
    check_tokens,
    joint_attention,
    joint_macs,
    tokens_solution,
)
from dyhead_lab.attention import JointAttention
from dyhead_lab.evaluation.efficiency import macs

from .planted import assert_bugs_are_caught


@pytest.mark.parametrize(
    ("check", "solution", "bugs"),
    [
        (check_tokens, tokens_solution, TOKENS_MISTAKES),
        (check_joint_attention, joint_attention, JOINT_MISTAKES),
        (check_joint_macs, joint_macs, JOINT_MACS_MISTAKES),
    ],
)
def test_bugs(check, solution, bugs):
    assert_bugs_are_caught(check, solution, bugs)


def test_the_attention_of_the_lesson_is_that_of_the_library():
    torch.manual_seed(0)
    library = JointAttention(4).double()
    library.norm = torch.nn.Identity()
    torch.nn.init.zeros_(library.query_key_value.bias)
    torch.nn.init.constant_(library.gamma, 0.7)
    levels = [torch.randn(1, 4, 4, 6).double(), torch.randn(1, 4, 2, 3).double()]
    with torch.no_grad():
        expected = tokens_solution([level[0].numpy() for level in library(levels)])
        matrices = [matrix.numpy() for matrix in library.query_key_value.weight.chunk(3)]
    lesson = joint_attention(tokens_solution([level[0].numpy() for level in levels]), *matrices, 0.7)
    np.testing.assert_allclose(lesson, expected, atol=1e-12)  # float64: the same sums in another order


def test_the_count_of_the_lesson_is_that_of_the_library():
    sizes, C = ((8, 8), (4, 4)), 16
    with torch.device("meta"):
        attention = JointAttention(C)
        levels = [torch.zeros(1, C, *size) for size in sizes]
    assert macs(attention, lambda: attention(levels))[""] == joint_macs(sizes, C)
