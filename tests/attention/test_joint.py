"""Joint attention: its formula, what it may see, and how it plugs into a Dynamic Head."""

from functools import partial

import pytest
import torch

from dyhead_lab.attention import DyHead, JointAttention
from dyhead_lab.attention.joint import to_levels, to_tokens
from dyhead_lab.trace import trace

SIZES = ((6, 8), (3, 4), (2, 2))


def pyramid(channels=16, batch=2):
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(batch, channels, *size, generator=generator) for size in SIZES]


def attention(**options):
    torch.manual_seed(0)
    made = JointAttention(16, **options)
    torch.nn.init.constant_(made.gamma, 0.5)
    return made


def test_levels_become_tokens_and_come_back():
    levels = pyramid()
    tokens = to_tokens(levels)
    assert torch.equal(tokens[1, 8 + 3], levels[0][1, :, 1, 3])  # second row, fourth column
    for level, again in zip(levels, to_levels(tokens, SIZES), strict=True):
        assert torch.equal(level, again) and again.is_contiguous()
    with pytest.raises(ValueError, match=r"have 60 places, expected 64"):
        to_levels(tokens, SIZES[:2])


@pytest.mark.parametrize("across", [True, False])
def test_the_traced_maps_give_the_output(across):
    joint, levels = attention(across_levels=across), pyramid()
    with torch.no_grad(), trace(joint) as seen:
        outputs = joint(levels)
    groups = [levels] if across else [[level] for level in levels]
    tokens = []
    for group, (_, maps) in zip(groups, seen.find("attention_maps"), strict=True):
        F_BNC = to_tokens(group)
        values = joint.query_key_value(joint.norm(F_BNC)).chunk(3, -1)[2]
        torch.testing.assert_close(maps.sum(-1), torch.ones_like(maps[..., 0]))
        tokens.append(F_BNC + 0.5 * maps[:, 0] @ values)
    torch.testing.assert_close(to_tokens(outputs), torch.cat(tokens, 1))


@pytest.mark.parametrize("across", [True, False])
def test_who_sees_whom(across):
    joint, levels = attention(across_levels=across), pyramid()
    before = joint(levels)[0]
    levels[2][0, :, 1, 1] += 1
    changed = (joint(levels)[0] - before).abs().amax((1, 2, 3))
    assert (changed[0] > 0) == across  # the coarsest level reaches the finest only across levels
    assert changed[1] == 0  # and never another image


def test_at_the_start_every_place_scores_highest_with_itself():
    joint, x = attention(), to_tokens(pyramid())
    q, k, _ = joint.query_key_value(joint.norm(x)).chunk(3, -1)
    bias = joint.query_key_value.bias.detach()
    scores = (q - bias[:16]) @ (k - bias[16:32]).transpose(1, 2) / 4
    assert torch.equal(scores.argmax(-1), torch.arange(64).expand(2, -1))
    # LayerNorm leaves C - 1e-5 as the squared length, so the scores stay a little below 9.
    torch.testing.assert_close(scores.diagonal(dim1=1, dim2=2), torch.full((2, 64), 9.0), atol=1e-3, rtol=0)


def test_a_new_one_changes_nothing_in_a_head():
    torch.manual_seed(0)
    with_one = DyHead(16, blocks=2, extra=JointAttention)
    without = DyHead(16, blocks=2)
    missing, unexpected = without.load_state_dict(with_one.state_dict(), strict=False)
    assert not missing and all(".extra." in name for name in unexpected)
    for a, b in zip(with_one(pyramid()), without(pyramid()), strict=True):
        assert torch.equal(a, b)


def test_it_learns_inside_a_head_and_shows_itself():
    torch.manual_seed(0)
    head = DyHead(16, blocks=1, extra=partial(JointAttention, across_levels=True))
    with trace(head) as seen:
        outputs = head(pyramid())
    assert [path for path, _ in seen.find("attention_maps")] == ["blocks.0.extra"]
    sum(y.square().sum() for y in outputs).backward()
    assert head.blocks[0].extra.gamma.grad != 0


def test_the_paper_form_takes_none():
    with pytest.raises(ValueError, match="extra: one more attention goes with form='released'"):
        DyHead(16, form="paper", num_levels=3, extra=JointAttention)
