"""Costs at published sizes, counted on the meta device, against the published counts and against real passes."""

from functools import partial

import pytest
import torch

from dyhead_lab.attention import DyHead
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.detectors.one_stage.retinanet import retinanet
from dyhead_lab.detectors.rcnn.faster_rcnn import faster_rcnn
from dyhead_lab.evaluation.dyhead_cost import depth_macs, level_sizes, part_costs, tower_macs
from dyhead_lab.evaluation.efficiency import efficiency, macs

GIGA = 1e9


def test_levels_have_22300_positions_at_the_published_size():
    assert sum(h * w for h, w in level_sizes()) == 22_300


def test_depth_against_the_towers_as_published():
    costs, towers = depth_macs((1, 2, 4, 6, 8, 10), offset_fit="flat"), tower_macs()
    more = {depth: (cost - towers) / GIGA for depth, cost in costs.items()}
    # Differences of rounded arithmetic: one block 21.15, the towers 105.2.
    expected = {1: -84.1, 2: -62.9, 4: -20.6, 6: 21.7, 8: 63.9, 10: 106.2}
    assert more == pytest.approx(expected, abs=0.06)
    assert more[6] == pytest.approx(21.5, abs=0.25), "the paper's figure"


def test_blocks_of_a_head_cost_the_same():
    with torch.device("meta"):
        head = DyHead(32, 3)
        levels = [torch.zeros(1, 32, *level) for level in level_sizes((128, 160))]
    assert macs(head, partial(head, levels))[""] == depth_macs([3], (128, 160), channels=32)[3]


@pytest.mark.parametrize(
    ("build", "total"), [(atss, 38_849_090), (retinanet, 45_290_460), (faster_rcnn, 53_203_592 + 4 * 1025)]
)
def test_parameters_are_those_of_the_released_configurations(build, total):
    """Faster R-CNN: torchvision's predictor also regresses a box for the background, 4 x (1024 + 1) parameters."""
    parts = part_costs(partial(build, 80))
    assert sum(part.parameters for part in parts) == total
    assert {part.name: part.parameters for part in parts}["Dynamic Head"] == 11_503_656


def test_parts_are_what_a_real_pass_costs():
    build = partial(atss, 3, "resnet18", dyhead_blocks=2, min_size=64, max_size=96)
    real = {part.name: part.macs for part in efficiency(build(), (64, 96), runs=1).parts}
    counted = {part.name: part.macs for part in part_costs(build, (64, 96))}
    assert counted == {"backbone": real["body"], "FPN": real["fpn"], "Dynamic Head": real["neck"], "head": real["head"]}


def test_without_a_dynamic_head_its_part_is_empty():
    [neck] = [
        part
        for part in part_costs(partial(faster_rcnn, 3, "resnet18", dyhead_blocks=0), (64, 64))
        if part.name == "Dynamic Head"
    ]
    assert (neck.parameters, neck.macs) == (0, 0)


def test_something_else_is_refused():
    def build():
        model = atss(3, "resnet18", dyhead_blocks=0)
        del model.head
        return model

    with pytest.raises(TypeError, match="build: ATSS has neither a head nor roi_heads"):
        part_costs(build, (64, 64))
