"""The three switches on a head that is built already, and perhaps trained: off for a while, then on again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

from .dyhead import DyHeadBlock


@contextmanager
def switched(model: nn.Module, *, scale: bool = True, spatial: bool = True, task: bool = True) -> Iterator[None]:
    """Switch attentions of every released Dynamic Head block of ``model`` off inside the ``with`` block.

    "Off" means what it means in :class:`~dyhead_lab.attention.DyHeadBlock`: gates of one; offsets of zero and masks
    of one; ReLU. The weights that remain were trained with the others at work. So this shows what a trained head
    relies on; what an attention is worth is seen by training without it.

    Args:
        model: any module that holds blocks of the released form.
        scale, spatial, task: False switches that attention off. An attention that the block was built without stays
            off.

    Raises:
        ValueError: ``model`` holds no block of the released form.
    """
    blocks = [module for module in model.modules() if isinstance(module, DyHeadBlock)]
    if not blocks:
        raise ValueError(f"model: {type(model).__name__} holds no DyHeadBlock whose attentions could be switched")
    before = [(block.scale, block.spatial.offset_mask, block.task) for block in blocks]
    try:
        for block in blocks:
            block.scale = block.scale if scale else None
            block.spatial.offset_mask = block.spatial.offset_mask if spatial else None
            block.task = block.task if task else None
        yield
    finally:
        for block, (gates, offsets, activation) in zip(blocks, before, strict=True):
            block.scale, block.spatial.offset_mask, block.task = gates, offsets, activation
