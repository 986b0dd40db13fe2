"""Counts of multiply-adds: the published ones, one by hand, and parts that add up."""

import pytest
import torch
from torch import nn

from dyhead_lab import zoo
from dyhead_lab.attention import DyHead
from dyhead_lab.cli import main
from dyhead_lab.detectors.backbones.feature_pyramid import pyramid
from dyhead_lab.detectors.one_stage.atss import ATSSHead, atss
from dyhead_lab.evaluation.efficiency import dyhead_levels, efficiency, macs, offset_fit_macs

P3_TO_P7 = [(100, 167), (50, 84), (25, 42), (13, 21), (7, 11)]  # of an image of 800 x 1333


def on_meta(build):
    with torch.device("meta"):
        return build(), [torch.zeros(1, 256, *size) for size in P3_TO_P7]


def test_one_block_costs_what_arithmetic_says():
    # 3x3 at 256 channels: all 22,300 positions, twice the 5,600 of P4-P7, and 27 offsets and masks everywhere.
    assert offset_fit_macs(256, P3_TO_P7)["flat"] / 1e9 == pytest.approx(21.15, abs=0.005)


def test_each_offset_fit_has_its_cost():
    costs = {name: n / 1e9 for name, n in offset_fit_macs(256, P3_TO_P7).items()}
    assert costs["crop"] == costs["resize"] == costs["flat"]
    assert costs["upsample"] == pytest.approx(31, abs=0.5)


def test_six_blocks_cost_21_7_more_than_the_towers_they_replace():
    head, levels = on_meta(lambda: DyHead(256, blocks=6, offset_fit="flat"))
    plain, _ = on_meta(lambda: ATSSHead(256, 80, tower_convs=4))
    bare, _ = on_meta(lambda: ATSSHead(256, 80, tower_convs=0))
    blocks = macs(head, lambda: head(levels))[""]
    towers = macs(plain, lambda: plain(levels))[""] - macs(bare, lambda: bare(levels))[""]
    assert towers / 1e9 == pytest.approx(105.2, abs=0.05)
    assert (blocks - towers) / 1e9 == pytest.approx(21.7, abs=0.05)  # the paper says 21.5


def test_a_module_without_layers_costs_nothing():
    assert macs(nn.ReLU(), lambda: None) == {"": 0}


def test_parts_add_up_to_the_whole():
    torch.manual_seed(0)
    model = atss(3, "resnet18", dyhead_blocks=1, min_size=64, max_size=96).train()
    cost = efficiency(model, size=(64, 96), runs=1)
    assert model.training
    assert [part.name for part in cost.parts] == ["transform", "body", "fpn", "neck", "head", "rest"]
    assert sum(part.parameters for part in cost.parts) == cost.whole.parameters
    assert sum(part.macs for part in cost.parts) == cost.whole.macs > 0
    assert sum(part.seconds for part in cost.parts) == pytest.approx(cost.whole.seconds)  # one run: the median is it
    assert all(part.seconds > 0 for part in cost.parts)
    assert cost.parts[-1].parameters == cost.parts[-1].macs == 0
    assert "one image of 64 x 96 pixels on cpu" in cost.table()


class Refining(nn.Module):
    """A detector in the manner of DETR's family: a holder of parts, a list of heads, and a part that calls a head."""

    def __init__(self):
        super().__init__()
        self.heads = nn.ModuleList(nn.Linear(8, 8, bias=False) for _ in range(2))
        self.transformer = nn.Module()
        self.transformer.decoder = Decoder(self.heads)
        self.query = nn.Parameter(torch.ones(5, 8))

    def forward(self, images):
        return self.heads[1](self.transformer.decoder(self.query))


class Decoder(nn.Module):
    def __init__(self, heads):
        super().__init__()
        self.heads = heads

    def forward(self, queries):
        return self.heads[0](queries)


def test_parts_of_a_holder_are_named_and_calls_between_parts_count_once():
    model = Refining()
    cost = efficiency(model, size=(4, 4), runs=1)
    macs_of = {part.name: part.macs for part in cost.parts}
    assert macs_of == {"heads": 5 * 8 * 8, "transformer.decoder": 5 * 8 * 8, "rest": 0}
    assert cost.whole.macs == 2 * 5 * 8 * 8
    assert cost.parts[-1].parameters == 5 * 8  # the queries; the heads are shared and count once
    assert all(parameter.requires_grad for parameter in model.parameters())


RECIPES_OF_EVERY_KIND = (
    "quickstart",
    "frozen_atss_shapes",
    "retinanet_shapes",
    "fcos_shapes",
    "faster_rcnn_shapes",
    "mask_rcnn_shapes",
    "cascade_rcnn_shapes",
    "atss_shapes",
    "detr_tiny",
    "deformable_detr_tiny",
    "sparse_detr_tiny",
)


@pytest.mark.parametrize("name", RECIPES_OF_EVERY_KIND)
def test_every_kind_of_recipe_has_a_cost(name):
    cost = efficiency(zoo.get(name).architecture(3), size=(96, 96), runs=1)
    assert sum(part.macs for part in cost.parts) == cost.whole.macs > 0
    assert all(part.parameters >= 0 and part.macs >= 0 for part in cost.parts)
    assert sum(part.parameters for part in cost.parts[:-1]) > 0.9 * cost.whole.parameters


def test_the_first_convolution_by_hand():
    body = pyramid("resnet18").body
    counted = macs(body, lambda: body(torch.zeros(1, 3, 64, 96)))
    assert counted["stem.conv1"] == 32 * 48 * 64 * 3 * 7 * 7


def test_sizes_of_the_pyramid_include_the_padding():
    model = atss(3, "resnet18", dyhead_blocks=2, min_size=64, max_size=96, size_divisible=128)
    head, sizes = dyhead_levels(model, (64, 96))
    assert len(head.blocks) == 2
    assert sizes == [(16, 16), (8, 8), (4, 4), (2, 2), (1, 1)]
    assert dyhead_levels(atss(3, "resnet18", dyhead_blocks=0, min_size=64), (64, 96)) is None


def test_runs_must_be_positive():
    with pytest.raises(ValueError, match="runs"):
        efficiency(nn.Linear(1, 1), runs=0)


def test_the_command_prints_parts_and_each_offset_fit(capsys):
    assert main(["efficiency", "quickstart", "--size", "96x96", "--runs", "1"]) == 0
    printed = capsys.readouterr().out
    assert "whole" in printed and "images per second" in printed and "96 x 96" in printed
    assert all(fit in printed for fit in ("flat", "crop", "resize", "upsample"))
    assert main(["efficiency", "quickstart", "--size", "big"]) == 1
    assert "--size: expected HEIGHTxWIDTH, got 'big'" in capsys.readouterr().err
