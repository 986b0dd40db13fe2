"""Optimisers and parameter groups: which parameter learns at which rate and decays."""

import pytest
import torch
from torch import nn

from dyhead_lab.attention.spatial import OffsetMaskConv
from dyhead_lab.errors import UserError
from dyhead_lab.training.optimizers import build_optimizer, parameter_groups, warm_average

from .tiny import frozen_recipe, quick_recipe


class Named(nn.Module):
    """One parameter of every kind, and one whose name alone would mean something."""

    sampling_parameters = ("sampling_offsets", "reference_points")

    def __init__(self):
        super().__init__()
        self.backbone = nn.ModuleDict(
            {
                "body": nn.ModuleDict({"conv": nn.Conv2d(3, 4, 1), "offset_mask": OffsetMaskConv(2)}),
                "fpn": nn.Linear(4, 4),
            }
        )
        self.norm = nn.LayerNorm(4)
        self.sampling_offsets = nn.Linear(4, 2)
        self.reference_points = nn.Linear(4, 2)
        self.offset_of_rows = nn.Linear(4, 2)
        self.frozen = nn.Parameter(torch.zeros(2, 2), requires_grad=False)


class Detr(nn.Module):
    def __init__(self):
        super().__init__()
        self.backbone = nn.Sequential(nn.Linear(2, 2))
        self.head = nn.Linear(2, 2)


def rates(model, recipe):
    """Name -> (rate relative to lr, decay), read back from the groups."""
    found = {id(p): group for group in parameter_groups(model, recipe) for p in group["params"]}
    return {
        name: (found[id(p)]["lr"] / recipe.lr, found[id(p)]["weight_decay"])
        for name, p in model.named_parameters()
        if id(p) in found
    }


def test_matrices_decay_and_offsets_learn_slowly():
    got = rates(Named(), quick_recipe(weight_decay=0.05, backbone_lr=0.5, offset_lr=0.1))
    assert got["backbone.body.conv.weight"] == pytest.approx((0.5, 0.05))
    assert got["backbone.body.conv.bias"] == pytest.approx((0.5, 0))
    assert got["backbone.body.offset_mask.weight"] == pytest.approx((0.05, 0))
    assert got["backbone.fpn.weight"] == pytest.approx((1, 0.05))
    assert got["norm.weight"] == pytest.approx((1, 0))
    assert got["sampling_offsets.weight"] == got["reference_points.bias"] == pytest.approx((0.1, 0))
    assert got["offset_of_rows.weight"] == pytest.approx((1, 0.05))  # nothing is guessed from a name
    assert "frozen" not in got


def test_decay_norms_decays_everything():
    assert {decay for _, decay in rates(Named(), quick_recipe(decay_norms=True)).values()} == {0.05}


def test_the_backbone_of_detrs_family_is_found():
    got = rates(Detr(), quick_recipe(backbone_lr=0.1))
    assert got["backbone.0.weight"][0] == pytest.approx(0.1) and got["head.weight"][0] == 1


def test_a_factor_that_reaches_nothing_is_refused():
    with pytest.raises(UserError, match=r"backbone_lr: expected 1 .* got 0\.1"):
        parameter_groups(nn.Linear(2, 2), quick_recipe(backbone_lr=0.1))


def test_real_detectors_have_a_backbone_and_every_parameter_once():
    model = frozen_recipe().build(3)
    groups = parameter_groups(model, frozen_recipe(backbone_lr=0.1))
    parameters = [p for group in groups for p in group["params"]]
    assert len(parameters) == len(set(map(id, parameters)))
    assert {id(p) for p in parameters} == {id(p) for p in model.parameters() if p.requires_grad}


def test_optimisers_have_the_recipes_numbers():
    model = nn.Linear(2, 2)
    sgd = build_optimizer(model, quick_recipe(optimizer="sgd", momentum=0.8))
    assert isinstance(sgd, torch.optim.SGD) and sgd.param_groups[0]["momentum"] == 0.8
    adamw = build_optimizer(model, quick_recipe(weight_decay=0.03, lr=0.2))
    assert isinstance(adamw, torch.optim.AdamW)
    assert [(g["lr"], g["weight_decay"]) for g in adamw.param_groups] == [(0.2, 0.03), (0.2, 0.0)]


def averaged(decay, old, new, seen):
    """One value after one update of the average."""
    values = [torch.tensor(old)]
    warm_average(decay, lambda: seen)(values, [torch.tensor(new)], seen)
    return values[0].item()


def test_the_average_forgets_its_start_and_then_follows_its_decay():
    assert averaged(0.9, 0.0, 1.0, seen=0) == pytest.approx(1 - 1 / 10)
    assert averaged(0.9, 0.0, 1.0, seen=1000) == pytest.approx(0.1)
    assert averaged(0.0, 5.0, 1.0, seen=3) == 1.0  # the weights themselves
    assert averaged(0.9, 3, 4, seen=1000) == 4  # counters are not averaged
