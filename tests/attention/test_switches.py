"""Switching attentions off in a head that stands: what "off" computes, and that everything comes back."""

import pytest
import torch
from torch import nn

from dyhead_lab.attention import DyHead
from dyhead_lab.attention.switches import switched


def head_away_from_its_start():
    torch.manual_seed(0)
    head = DyHead(16, blocks=2)
    for parameter in head.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return head, [torch.randn(2, 16, size, size) for size in (8, 4, 2)]


@pytest.mark.parametrize("off", ["scale", "spatial", "task"])
def test_off_is_the_head_that_was_built_without(off):
    head, levels = head_away_from_its_start()
    without = DyHead(16, blocks=2, **{off: False})
    without.load_state_dict({k: v for k, v in head.state_dict().items() if k in without.state_dict()})
    before = head(levels)
    with switched(head, **{off: False}):
        inside = head(levels)
    for x, expected in zip(inside, without(levels), strict=True):
        assert torch.equal(x, expected)
    for x, y, z in zip(before, inside, head(levels), strict=True):
        assert torch.equal(x, z) and not torch.allclose(x, y)


def test_everything_comes_back_after_an_error():
    head, _ = head_away_from_its_start()
    names = [name for name, _ in head.named_parameters()]
    with pytest.raises(RuntimeError, match="on purpose"), switched(head, scale=False, spatial=False, task=False):
        raise RuntimeError("on purpose")
    assert [name for name, _ in head.named_parameters()] == names


def test_a_model_without_blocks_is_refused():
    with pytest.raises(ValueError, match=r"^model: Linear holds no DyHeadBlock"), switched(nn.Linear(1, 1)):
        pass
