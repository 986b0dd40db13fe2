"""Chapter 10: the operator and the module of its cells, against the library and inside the shipped detector."""

import pytest
import torch

from dyhead_book.c10_multi_scale_deformable_attention.attention_backward_checks import check_attention_backward
from dyhead_book.c10_multi_scale_deformable_attention.module_checks import check_module, check_ring
from dyhead_book.c10_multi_scale_deformable_attention.multi_scale_checks import (
    check_locations,
    check_ms_deform_attn,
    check_on_tensors,
)
from dyhead_book.practice.rebuilt import check_same_ap
from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.detectors.detr.deformable_transformer import FlatPyramid

from .definitions import definitions


@pytest.fixture(scope="module")
def cells():
    return definitions("10_multi_scale_deformable_attention")


@pytest.mark.parametrize(
    ("check", "name"),
    [
        (check_ms_deform_attn, "ms_deform_attn_loops"),
        (check_attention_backward, "ms_deform_attn_backward"),
        (check_on_tensors, "ms_deform_attn"),
        (check_locations, "sampling_locations"),
        (check_ring, "ring"),
        (check_module, "MultiScaleDeformableAttention"),
    ],
)
def test_what_the_cells_build_is_right(cells, check, name):
    verdict = check(cells[name])
    assert verdict, verdict.message


def test_the_shipped_detector_has_the_same_ap_on_the_module_of_the_chapter(cells):
    own = {name: cells[name] for name in ("MultiScaleDeformableAttention",)}
    assert check_same_ap("deformable_detr_tiny", **own)


def test_a_softmax_over_points_alone_changes_the_ap(cells):
    class Wrong(cells["MultiScaleDeformableAttention"]):
        def forward(self, query, reference, value, shapes, starts, padding=None):
            _, locations, weights = super().forward(query, reference, value, shapes, starts, padding)
            weights = weights / weights.sum(-1, keepdim=True)  # each level by itself
            values = self.value_proj(value).masked_fill(padding[..., None], 0.0).unflatten(-1, (self.heads, -1))
            read = cells["ms_deform_attn"](values, shapes, starts, locations, weights)
            return self.output_proj(read), locations, weights

    assert not check_same_ap("deformable_detr_tiny", 10, MultiScaleDeformableAttention=Wrong)


def test_the_module_learns_as_the_library_s(cells):
    """The same loss gives the same gradient to every parameter, to the queries and to the values."""
    torch.manual_seed(0)
    theirs = MultiScaleDeformableAttention(16, 2, 4, 3).double()
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    mine = cells["MultiScaleDeformableAttention"](16, 2, 4, 3).double()
    mine.load_state_dict(theirs.state_dict())
    shapes, starts = torch.tensor([(4, 6), (2, 3)]), torch.tensor([0, 24])
    query, value = torch.randn(2, 5, 16).double(), torch.randn(2, 30, 16).double()
    reference = torch.rand(2, 5, 2, 2).double()
    padding = torch.arange(30).expand(2, -1) > 27
    gradients = []
    for module in (mine, theirs):
        inputs = query.clone().requires_grad_(), value.clone().requires_grad_()
        out, _, _ = module(inputs[0], reference, inputs[1], shapes, starts, padding)
        gradients.append(torch.autograd.grad(out.square().sum(), [*module.parameters(), *inputs]))
    for ours, wanted in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-9, atol=1e-9)  # float64, other orders of sums


def test_the_start_is_the_library_s(cells):
    mine, theirs = cells["MultiScaleDeformableAttention"](16, 2, 4, 3), MultiScaleDeformableAttention(16, 2, 4, 3)
    torch.testing.assert_close(mine.sampling_offsets.bias, theirs.sampling_offsets.bias)  # float32, one rounding
    for name in ("sampling_offsets.weight", "attention_weights.weight", "attention_weights.bias", "value_proj.bias"):
        assert not mine.get_parameter(name).any() and not theirs.get_parameter(name).any()
    assert mine.sampling_parameters == theirs.sampling_parameters


def test_reference_points_are_the_encoder_s(cells):
    paddings = [torch.zeros(2, 4, 6, dtype=torch.bool), torch.zeros(2, 2, 4, dtype=torch.bool)]
    paddings[0][1, :, 4:], paddings[1][1, 1:] = True, True
    features = [torch.zeros(2, 8, *padding.shape[1:]) for padding in paddings]
    pyramid = FlatPyramid.flatten(features, paddings, torch.zeros(2, 8))
    ours = cells["encoder_references"](pyramid.sizes, pyramid.valid_cells_BL2)
    torch.testing.assert_close(ours, pyramid.on_levels(pyramid.cell_references()))  # float32, another order
