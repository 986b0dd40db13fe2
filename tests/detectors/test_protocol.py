"""What detectors say of themselves: how parameters learn, what may be computed again, compiled, or not resized."""

import re

import pytest
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, Bottleneck
from torchvision.models.swin_transformer import SwinTransformerBlock

from dyhead_lab import zoo
from dyhead_lab.attention.dyhead import DyHeadBlock
from dyhead_lab.attention.paper import PaperDyHeadBlock
from dyhead_lab.detectors.detr import deformable_transformer as deformable
from dyhead_lab.detectors.detr import detr
from dyhead_lab.detectors.protocol import (
    ParameterKind,
    blocks_to_recompute,
    keep_sizes_in_training,
    parameter_kinds,
    parts_to_compile,
)

BACKBONE, SAMPLING, REST = ParameterKind.BACKBONE, ParameterKind.SAMPLING, ParameterKind.REST
#: How the names of our own detectors' parameters tell their kind. A detector of somebody else's owes them nothing.
BACKBONE_NAMES = re.compile(r"(^|\.)backbone\.(\d+|body)\.")
SAMPLING_NAMES = re.compile(r"offset|reference_points")
BLOCKS = (
    BasicBlock,
    Bottleneck,
    SwinTransformerBlock,
    DyHeadBlock,
    PaperDyHeadBlock,
    detr.EncoderLayer,
    detr.DecoderLayer,
    deformable.DeformableEncoderLayer,
    deformable.DeformableDecoderLayer,
)


def build(name):
    recipe = zoo.get(name)
    if "weights" in recipe.model:  # of COCO's size
        with torch.device("meta"):
            return recipe.architecture(80)
    return recipe.architecture(3)


@pytest.mark.parametrize("name", zoo.names())
def test_every_recipe_learns_in_its_groups(name):
    """Published rates depend on them: the backbone at one, sampling offsets at another, the rest at the full rate."""
    model = build(name)
    kinds = parameter_kinds(model)
    for parameter, kind in kinds.items():
        expected = BACKBONE if BACKBONE_NAMES.search(parameter) else REST
        expected |= SAMPLING if SAMPLING_NAMES.search(parameter) else REST
        assert kind == expected, parameter
    assert list(kinds) == [name for name, _ in model.named_parameters()]
    assert BACKBONE in kinds.values()
    assert blocks_to_recompute(model) == [module for module in model.modules() if isinstance(module, BLOCKS)]
    assert parts_to_compile(model) == [model.backbone]


class Plain(nn.Module):
    """A detector that says nothing, with names that mean nothing."""

    def __init__(self):
        super().__init__()
        self.offset_scale = nn.Parameter(torch.zeros(1))
        self.reference_points = nn.Linear(2, 2)


def test_nothing_is_guessed_from_names():
    model = Plain()
    assert set(parameter_kinds(model).values()) == {REST}
    assert blocks_to_recompute(model) == [] and parts_to_compile(model) == []
    keep_sizes_in_training(model)  # nothing to tell it


class Sampler(nn.Module):
    sampling_parameters = ("where", "layer", "absent")
    recompute = True

    def __init__(self):
        super().__init__()
        self.where = nn.Parameter(torch.zeros(2))
        self.layer = nn.Linear(2, 2)
        self.value = nn.Linear(2, 2)
        self.absent = None


class Outspoken(nn.Module):
    """A detector that answers every question itself."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(2, 2), Sampler())
        self.head = nn.Linear(2, 2)
        self.keeps_sizes = False

    def backbone_body(self):
        return self.trunk

    def blocks_to_recompute(self):
        return [self.head]

    def parts_to_compile(self):
        return [self.trunk, self.head]

    def keep_sizes_in_training(self):
        self.keeps_sizes = True


def test_a_detector_and_its_modules_say_it_themselves():
    model = Outspoken()
    kinds = parameter_kinds(model)
    assert kinds["trunk.1.where"] == kinds["trunk.1.layer.bias"] == BACKBONE | SAMPLING
    assert kinds["trunk.1.value.weight"] == kinds["trunk.0.weight"] == BACKBONE and kinds["head.weight"] == REST
    assert blocks_to_recompute(model) == [model.head] and parts_to_compile(model) == [model.trunk, model.head]
    keep_sizes_in_training(model)
    assert model.keeps_sizes
    assert blocks_to_recompute(model.trunk) == [model.trunk[1]]  # the default asks the modules


def test_a_name_that_a_module_does_not_have_is_an_error():
    sampler = Sampler()
    sampler.sampling_parameters = ("wehre",)
    with pytest.raises(AttributeError, match="wehre"):
        parameter_kinds(sampler)


@pytest.mark.parametrize("name", ["fcos_shapes", "atss_shapes", "faster_rcnn_shapes"])
def test_images_keep_their_size_in_training_only(name):
    model = build(name)  # min_size is 160
    keep_sizes_in_training(model)
    seen = []
    model.backbone.register_forward_pre_hook(lambda module, given: seen.append(tuple(given[0].shape[-2:])))
    target = {"boxes": torch.tensor([[2.0, 2, 40, 40]]), "labels": torch.tensor([0])}
    model.train()([torch.rand(3, 96, 96)], [target])
    model.eval()([torch.rand(3, 96, 96)])
    assert seen == [(96, 96), (160, 160)]
