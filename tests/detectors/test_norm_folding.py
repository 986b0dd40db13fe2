"""Frozen norms folded in every call: the same losses, gradients and state for fewer passes over memory."""

from copy import deepcopy

import pytest
import torch
from torchvision.ops import FrozenBatchNorm2d

from dyhead_lab.detectors.backbones.deformable_conv import DeformableConv2d
from dyhead_lab.detectors.backbones.named import named_body
from dyhead_lab.detectors.inference import prepared
from dyhead_lab.detectors.norm_folding import fold_in_calls, unfold_in_calls

from .test_inference import norms, shaken

PICTURES = torch.randn(2, 3, 64, 96, generator=torch.Generator().manual_seed(1))
BODIES = {
    "resnet18": {},
    "resnet50": {"deformable_stages": (5,)},
    "timm/tf_efficientnet_lite0": {"freeze_stride": 4},
    "timm/resnet26d": {},
}


def body(name):
    if name.startswith("timm"):
        pytest.importorskip("timm")
    torch.manual_seed(0)
    return shaken(named_body(name, **BODIES[name])).to(torch.float64).train()


def outcome(model):
    maps = model(PICTURES.double()).values()
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(sum((x / x.abs().mean()).square().sum() for x in maps), list(learned.values()))
    return [*maps, *grads]


@pytest.mark.parametrize("name", BODIES)
def test_maps_and_gradients_are_the_same(name):
    plain, folded = body(name), body(name)
    fold_in_calls(folded)
    passing = [norm for norm in norms(plain) if not isinstance(norm, torch.nn.BatchNorm2d)]
    assert sum(hasattr(m, "folded_norm") for m in folded.modules()) > len(passing) - 4  # three behind deformable ones
    for ours, theirs in zip(outcome(folded), outcome(plain), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-8, atol=1e-8)  # float64 in another order, dozens of layers


@pytest.mark.parametrize("name", BODIES)
def test_the_state_is_the_same_and_detecting_folds_for_good(name):
    plain, folded = body(name), body(name)
    fold_in_calls(folded)
    assert list(folded.state_dict()) == list(plain.state_dict())
    assert [n for n, _ in folded.named_parameters()] == [n for n, _ in plain.named_parameters()]
    ready = prepared(folded.float().eval())
    assert not norms(ready) and not any(hasattr(m, "unfolded") for m in ready.modules())
    with torch.no_grad():
        maps = zip(ready(PICTURES).values(), plain.float().eval()(PICTURES).values(), strict=True)
        for ours, theirs in maps:
            assert (ours - theirs).abs().max() < 1e-4 * theirs.abs().max()  # float32 in another order, dozens of layers


def test_nothing_is_left_of_a_norm_but_what_follows_it():
    model = body("resnet18")
    fold_in_calls(model)
    x = torch.randn(1, 64, 4, 4)
    assert norms(model)[0](x) is x


def test_a_copy_folds_norms_of_its_own():
    model = body("resnet18")
    fold_in_calls(model)
    copy = deepcopy(model)
    expected = [x.clone() for x in model(PICTURES.double()).values()]
    for norm in norms(copy):
        norm.weight.mul_(2)
    assert all(torch.equal(x, y) for x, y in zip(model(PICTURES.double()).values(), expected, strict=True))
    assert not torch.equal(next(iter(copy(PICTURES.double()).values())), expected[0])


def test_unfolding_gives_the_norms_back():
    model = body("resnet50")
    kinds = [type(m) for m in model.modules()]
    fold_in_calls(model)
    unfold_in_calls(model)
    assert [type(m) for m in model.modules()] == kinds
    assert FrozenBatchNorm2d in kinds and DeformableConv2d in kinds
    assert not any("folded_norm" in vars(m) for m in model.modules())


def test_norms_that_learn_are_left_alone():
    torch.manual_seed(0)
    model = named_body("resnet18", norm="batch").train()
    kinds = [type(m) for m in model.modules()]
    fold_in_calls(model)
    assert [type(m) for m in model.modules()] == kinds
