"""Chapter 07's checks: right answers pass in any style, every mistake is named."""

import pytest
import torch

from dyhead_book.c07_dynamic_head.block_checks import BLOCK_MISTAKES, HEAD_MISTAKES, check_block, check_head
from dyhead_book.c07_dynamic_head.cost_checks import BLOCK_MACS_MISTAKES, block_macs, check_block_macs
from dyhead_book.c07_dynamic_head.factorial_checks import (
    FACTORIAL_MISTAKES,
    check_paired_differences,
    paired_differences,
)
from dyhead_book.c07_dynamic_head.paper_checks import (
    JOIN_MISTAKES,
    PAPER_BLOCK_MISTAKES,
    SKIP_MISTAKES,
    check_join,
    check_paper_block,
    check_skip,
)
from dyhead_lab.attention import DyHead, DyHeadBlock, PaperDyHeadBlock, SpatialAwareAttention
from dyhead_lab.attention.paper import join_levels, split_levels
from dyhead_lab.attention.pyramid import resize_area

from .planted import assert_bugs_are_caught, assert_module_bugs_are_caught


def test_bugs_of_functions():
    assert_bugs_are_caught(check_block_macs, block_macs, BLOCK_MACS_MISTAKES)
    assert_bugs_are_caught(check_paired_differences, paired_differences, FACTORIAL_MISTAKES)


@pytest.mark.parametrize(
    ("check", "right", "bugs"),
    [
        (check_block, DyHeadBlock, BLOCK_MISTAKES),
        (check_paper_block, PaperDyHeadBlock, PAPER_BLOCK_MISTAKES),
        (check_head, DyHead, HEAD_MISTAKES),
    ],
)
def test_bugs_of_modules(check, right, bugs):
    assert_module_bugs_are_caught(check, right, bugs)


def there_and_back(blocks, levels):
    F_BLSC, size = join_levels(levels)
    for block in blocks:
        F_BLSC = block(F_BLSC, size)
    maps = split_levels(F_BLSC, size, len(levels))
    return [x + resize_area(y, x.shape[-2:]) for x, y in zip(levels, maps, strict=True)]


def test_bugs_of_the_way_through_one_tensor():
    def of_blocks(imitate):
        return lambda blocks, levels: imitate(type("Head", (), {"blocks": blocks})(), levels)

    assert check_skip(there_and_back) and check_join(join_levels)
    for bug in SKIP_MISTAKES:
        assert f"when {bug.name}." in check_skip(of_blocks(bug.imitate)).message
    for bug in JOIN_MISTAKES:
        assert f"when {bug.name}." in check_join(lambda levels, bug=bug: (bug.imitate(levels), None)).message


class InFloat32(DyHeadBlock):
    """Right, in the precision in which detectors run."""

    def forward(self, levels):
        own = DyHeadBlock.forward
        return [x.double() for x in own(self.float(), [level.float() for level in levels])]


class OneLevelAtATime(DyHeadBlock):
    """Right, in another style."""

    def forward(self, levels):
        levels = list(self.extra(levels)) if self.extra else list(levels)

        def of(l):
            near = (levels[l], levels[l - 1] if l else None, levels[l + 1] if l + 1 < len(levels) else None)
            branches = torch.stack(self.spatial(*near))
            fused = self.scale(list(branches)) if self.scale else branches.mean(0)
            return self.task(fused) if self.task else torch.relu(fused)

        return tuple(map(of, range(len(levels))))


@pytest.mark.parametrize("block", [DyHeadBlock, InFloat32, OneLevelAtATime])
def test_right_blocks_in_other_styles_pass(block):
    assert check_block(block)


def test_the_papers_order_is_named_even_where_its_shapes_do_not_fit():
    class PapersOrder(DyHeadBlock):
        def forward(self, levels):
            return self.task(self.spatial(self.scale(levels)))

    class ReleasedOrder(PaperDyHeadBlock):
        def forward(self, F_BLSC, size):
            return self.scale(self.spatial(F_BLSC))

    verdict = check_block(PapersOrder)
    assert not verdict and "raises" in verdict.message and "the paper's order" in verdict.message
    verdict = check_paper_block(ReleasedOrder)
    assert not verdict and "that is the released order" in verdict.message


def test_other_mistakes_that_raise_are_told_without_a_name():
    class Broken(DyHeadBlock):
        def forward(self, levels):
            return self.spatial(levels[0]) @ levels

    verdict = check_block(Broken)
    assert not verdict and "Your code raises TypeError" in verdict.message and "comes out when" not in verdict.message


def test_missing_and_surplus_weights_are_named():
    class Bare(torch.nn.Module):
        def __init__(self, channels, **options):
            super().__init__()
            self.where = SpatialAwareAttention(channels, deformable=options.get("spatial", True))

    verdict = check_block(Bare)
    assert not verdict and "no place for spatial.finer.conv.weight" in verdict.message


def test_a_blank_is_not_written_yet():
    class Blank(DyHeadBlock):
        def forward(self, levels):
            raise NotImplementedError

    assert "not written yet" in check_block(Blank).message


def test_a_head_that_forgets_the_names_of_levels_is_told():
    class ListOnly(DyHead):
        def forward(self, pyramid):
            return list(super().forward(list(pyramid.values() if isinstance(pyramid, dict) else pyramid)))

    verdict = check_head(ListOnly)
    assert not verdict and "comes as a dict" in verdict.message
