"""Chapter 07: the block and the head of its cells, inside the shipped detector and against the library's."""

import pytest
import torch

from dyhead_book.practice.module_checks import drawn, filled
from dyhead_book.practice.rebuilt import check_same_ap
from dyhead_lab import attention
from dyhead_lab.detectors.one_stage.frozen_atss import frozen_atss

from .definitions import definitions

SIZES = ((8, 12), (4, 6), (2, 3))
#: float64: the same sums in another order differ by about 1e-15 of what is summed.
CLOSE = {"rtol": 1e-9, "atol": 1e-9}


@pytest.fixture(scope="module")
def cells():
    return definitions("07_dynamic_head")


def levels(channels=16):
    generator = torch.Generator().manual_seed(3)
    return [torch.randn(2, channels, *size, generator=generator, dtype=torch.float64) for size in SIZES]


def test_the_whole_tower_of_the_shipped_detector_has_the_same_ap_on_the_classes_of_the_chapter(cells):
    assert check_same_ap("quickstart", DyHeadBlock=cells["DyHeadBlock"], DyHead=cells["DyHead"])


@pytest.mark.parametrize(
    "options",
    [
        {"blocks": 2},
        {"blocks": 1, "offset_fit": "upsample", "scale": False},
        {"blocks": 2, "form": "paper", "num_levels": 3},
        {"blocks": 2, "form": "paper", "num_levels": 3, "levels": "collapse", "depthwise": True},
        {"blocks": 1, "form": "paper", "num_levels": 3, "spatial": False, "task": False},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_the_head_of_the_chapter_takes_the_librarys_weights_and_gives_its_numbers(cells, options):
    library = drawn(attention.DyHead, {"channels": 16, **options})
    own = filled(cells["DyHead"](16, **options), library.state_dict())
    pyramid = dict(zip(("p3", "p4", "p5"), levels(), strict=True))
    with torch.no_grad():
        mine, theirs = own(pyramid), library(pyramid)
    assert list(mine) == list(pyramid)
    for name in pyramid:
        torch.testing.assert_close(mine[name], theirs[name], **CLOSE)


def test_join_levels_and_the_way_back_are_the_librarys(cells):
    from dyhead_lab.attention.paper import join_levels

    mine, theirs = cells["join_levels"](levels()), join_levels(levels())
    assert mine[1] == theirs[1]
    torch.testing.assert_close(mine[0], theirs[0], **CLOSE)
    for x, y in zip(levels(), cells["through_one_tensor"]([], levels()), strict=True):
        assert x.shape == y.shape


def test_the_training_loop_of_the_chapter_learns_in_a_few_steps(cells):
    cells["train_set"] = cells["DrawnShapes"](8, seed=1)
    torch.manual_seed(0)
    model = frozen_atss(6, dyhead_blocks=0, tower_convs=0, min_size=160, max_size=320)
    model.backbone.neck = cells["DyHead"](64, 1)
    before = model.backbone.neck.blocks[0].spatial.own.conv.weight.clone()
    frozen = model.backbone.fpn.state_dict()["layer_blocks.0.0.weight"].clone()
    losses = cells["train"](model, seed=0, steps=8, batch=4)
    assert len(losses) == 8 and losses[-1] < 0.95 * losses[0]
    assert not torch.equal(before, model.backbone.neck.blocks[0].spatial.own.conv.weight)
    assert torch.equal(frozen, model.backbone.fpn.state_dict()["layer_blocks.0.0.weight"])


def test_the_count_of_the_chapter_is_21_15_gmac_at_the_published_size(cells):
    from dyhead_lab.evaluation.dyhead_cost import depth_macs, level_sizes

    counted = cells["block_macs"](level_sizes(), 256)
    assert counted / 1e9 == pytest.approx(21.15, abs=0.005)
    # The library also counts the two linear layers of theta and the gates: under 0.01 % of a block.
    assert depth_macs([1])[1] == pytest.approx(counted, rel=1e-4)


def test_the_recorded_ablation_over_all_its_pairs(cells):
    from dyhead_lab.experiments.ablation import factorial_table
    from dyhead_lab.experiments.catalogue import recorded

    ap = factorial_table(recorded("ablation"))
    effects = {letter: cells["paired_differences"](ap, letter) for letter in "LSC"}
    assert [len(differences) for differences in effects.values()] == [12, 12, 12]
    means = {letter: sum(differences) / 12 for letter, differences in effects.items()}
    assert means == pytest.approx({"L": -0.007, "S": 0.070, "C": 0.017}, abs=0.0006)  # as the chapter tells them
    assert [sum(d < 0 for d in effects[letter]) for letter in "LSC"] == [10, 0, 0]
