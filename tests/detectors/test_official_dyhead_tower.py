"""The released form and its official names, against numbers that the published code computed."""

import numpy as np
import pytest
import torch

from dyhead_lab.attention import DyHead
from dyhead_lab.detectors.official import dyhead_tower, official_tower
from tests.oracles import draw, load, weight

ORACLES = ["dyhead_1b", "dyhead_3b"]
# Sums over thousands of products in float32, in another order than the published code's.
TOLERANCE = 1e-4


def official_state_dict(facts, prefix=""):
    seed = facts["seed"]
    return {prefix + k: torch.from_numpy(weight(k, shape, seed)) for k, shape in facts["keys"].items()}


def level_names(facts):
    return [f"p{3 + i}" for i in range(len(facts["shapes"]))]


def run_tower(facts):
    """The tower, its inputs and its outputs, after the backward pass of the oracle's loss."""
    seed = facts["seed"]
    head = dyhead_tower(official_state_dict(facts))
    shapes = [(2, facts["channels"], *size) for size in facts["shapes"]]
    pyramid = {
        name: torch.from_numpy(draw(f"feat{i}", shape, seed)).requires_grad_()
        for i, (name, shape) in enumerate(zip(level_names(facts), shapes, strict=True))
    }
    outputs = head(pyramid)
    cotangents = {name: torch.from_numpy(draw("cot" + name, out.shape, seed)) for name, out in outputs.items()}
    sum((outputs[name] * cotangents[name]).sum() for name in outputs).backward()
    return head, pyramid, outputs


@pytest.mark.parametrize("name", ORACLES)
def test_outputs_and_input_gradients(name):
    arrays, facts = load(name)
    _, pyramid, outputs = run_tower(facts)
    assert list(outputs) == level_names(facts)
    for level, out in outputs.items():
        np.testing.assert_allclose(out.detach().numpy(), arrays[f"out_{level}"], rtol=0, atol=TOLERANCE)
        expected = arrays[f"grad_in_{level}"]
        scale = np.abs(expected).max()
        np.testing.assert_allclose(pyramid[level].grad.numpy() / scale, expected / scale, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("name", ORACLES)
def test_every_parameter_gradient_norm(name):
    _, facts = load(name)
    head, _, _ = run_tower(facts)
    values = dict(head.named_parameters())
    for parameter in values.values():
        parameter.data = parameter.grad
    norms = {k: v.norm().item() for k, v in official_tower(head).items()}
    assert norms == pytest.approx(facts["grad_norms"], rel=TOLERANCE)


def test_prefix_is_ignored_and_the_way_back_is_exact():
    _, facts = load("dyhead_3b")
    prefixed = official_state_dict(facts, prefix="backbone.") | {"head.cls_logits.bias": torch.zeros(80)}
    back = official_tower(dyhead_tower(prefixed))
    expected = official_state_dict(facts)
    assert back.keys() == expected.keys()
    for name, value in expected.items():
        assert back[name].shape == value.shape
        assert torch.equal(back[name], value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda sd: sd.pop("dyhead_tower.0.relu.fc.2.bias"), r"missing dyhead_tower\.0\.relu\.fc\.2\.bias"),
        (
            lambda sd: sd.update({"dyhead_tower.0.extra.weight": torch.ones(1)}),
            r"unexpected dyhead_tower\.0\.extra",
        ),
        (
            lambda sd: sd.update({"dyhead_tower.0.offset.bias": torch.ones(3)}),
            r"offset\.bias has shape \(3,\)",
        ),
        (lambda sd: sd.clear(), r"expected entries named dyhead_tower"),
    ],
)
def test_a_state_dict_that_does_not_fit_is_refused(change, message):
    _, facts = load("dyhead_1b")
    state_dict = official_state_dict(facts)
    change(state_dict)
    with pytest.raises(ValueError, match=message):
        dyhead_tower(state_dict)


def test_full_size_tower_has_the_published_number_of_parameters():
    with torch.device("meta"):
        head = DyHead(256, blocks=6)
    assert sum(p.numel() for p in head.parameters()) == 11_503_656  # microsoft/DynamicHead, every config


@pytest.mark.parametrize("options", [{"task": False}, {"form": "paper", "num_levels": 2}])
def test_heads_that_the_official_layout_cannot_hold_are_refused(options):
    with pytest.raises(ValueError, match="official layout"):
        official_tower(DyHead(16, blocks=1, **options))
