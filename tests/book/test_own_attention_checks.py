"""Chapter 17's checks: right answers pass in any style, every mistake is named."""

import torch
from torch.nn import functional as F

from dyhead_book.c17_write_your_own_attention.own_attention_checks import (
    COARSE_MISTAKES,
    JOINT_MACS_MISTAKES,
    JOINT_MISTAKES,
    TOKENS_MISTAKES,
    check_coarse_reader,
    check_joint_attention,
    check_joint_macs,
    check_tokens,
    joint_macs,
)
from dyhead_lab.attention import JointAttention
from dyhead_lab.attention.joint import to_levels, to_tokens
from dyhead_lab.evaluation.efficiency import macs

from .planted import assert_bugs_are_caught, assert_module_bugs_are_caught


def test_bugs():
    assert_bugs_are_caught(check_tokens, to_tokens, TOKENS_MISTAKES)
    assert_bugs_are_caught(check_joint_macs, joint_macs, JOINT_MACS_MISTAKES)
    assert_module_bugs_are_caught(check_joint_attention, JointAttention, JOINT_MISTAKES)


class Loops(JointAttention):
    """Right, token by token."""

    def forward(self, levels):
        tokens = to_tokens(levels)
        q, k, v = self.query_key_value(self.norm(tokens)).chunk(3, -1)
        read = torch.stack(
            [
                torch.stack([F.softmax(one @ keys.T / len(one) ** 0.5, 0) @ values for one in queries])
                for queries, keys, values in zip(q, k, v, strict=True)
            ]
        )
        return to_levels(tokens + self.gamma * read, [tuple(x.shape[-2:]) for x in levels])


class Reader(JointAttention):
    """Right: keys and values of the two coarsest levels, through PyTorch's own attention."""

    def forward(self, levels):
        tokens = to_tokens(levels)
        q, k, v = self.query_key_value(self.norm(tokens)).chunk(3, -1)
        T = to_tokens(levels[-2:]).shape[1]
        read = F.scaled_dot_product_attention(q, k[:, -T:], v[:, -T:])
        return to_levels(tokens + self.gamma * read, [tuple(x.shape[-2:]) for x in levels])


def test_right_answers_in_another_style_pass():
    assert check_joint_attention(Loops)
    assert check_coarse_reader(Reader)


def test_bugs_of_the_coarse_reader():
    for bug in COARSE_MISTAKES:
        wrong = type("Wrong", (Reader,), {"forward": lambda self, levels, bug=bug: bug.imitate(self, levels)})
        verdict = check_coarse_reader(wrong)
        assert not verdict and f"when {bug.name}." in verdict.message, bug.name


def test_the_count_of_the_lesson_is_that_of_the_library():
    sizes, C = ((8, 8), (4, 4)), 16
    with torch.device("meta"):
        attention = JointAttention(C)
        levels = [torch.zeros(1, C, *size) for size in sizes]
    assert macs(attention, lambda: attention(levels))[""] == joint_macs(sizes, C)
