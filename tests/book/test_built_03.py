"""Chapter 03: what its cells build runs inside the shipped detector, fits the library's layer, and learns."""

import pytest
import torch
from torch import nn

from dyhead_book.practice.rebuilt import check_same_ap, rebuilt
from dyhead_lab.detectors.backbones.deformable_conv import DeformableConv2d
from dyhead_lab.ops import deform_conv2d

from .definitions import definitions


@pytest.fixture(scope="module")
def cells():
    return definitions("03_deformable_convolution")


def test_the_shipped_detector_has_the_same_ap_on_branch_and_kernel_of_the_chapter(cells):
    names = ("OffsetMaskConv", "traced_deform_conv2d")
    assert check_same_ap("quickstart", 12, **{name: cells[name] for name in names})


def test_the_detector_really_runs_on_the_kernel_of_the_chapter(cells):
    def nothing(module, x, offset, weight, bias, **_):
        return x.new_zeros(len(x), len(weight), *offset.shape[2:])

    verdict = check_same_ap("quickstart", 4, traced_deform_conv2d=nothing)
    assert not verdict and "The weights fit, but" in verdict.message


def test_trained_weights_of_the_detector_run_in_the_layer_of_the_chapter(cells):
    """The quickstart's convolution and branch, taken together, are a layer."""
    with rebuilt("quickstart") as model:
        spatial = next(part for part in model.modules() if hasattr(part, "offset_mask"))
    conv = spatial.own.conv
    layer = cells["DeformableConv2d"](conv.in_channels, conv.out_channels)
    branch = spatial.offset_mask.state_dict(prefix="offset_mask.")
    layer.load_state_dict({**conv.state_dict(), **branch}, strict=True)
    x = torch.randn(1, conv.in_channels, 9, 11, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        offset, mask = spatial.offset_mask(x)
        wanted = deform_conv2d(x, offset, conv.weight, conv.bias, padding=1, mask=mask)
        torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-5)  # float32 sums in another order
    assert float(offset.abs().max()) > 0.1, "the branch has learned"


@pytest.mark.parametrize("stride", [1, 2])
def test_weights_of_the_librarys_layer_load_strictly_and_learn_alike(cells, stride):
    torch.manual_seed(0)
    library = DeformableConv2d.like(nn.Conv2d(6, 4, 3, stride, 1)).double()
    nn.init.normal_(library.offset_mask.weight, std=0.2)
    own = cells["DeformableConv2d"](6, 4, stride).double()
    own.load_state_dict(library.state_dict(), strict=True)
    x = torch.randn(2, 6, 7, 8, dtype=torch.float64)
    gradients = []
    for layer in (library, own):
        loss = layer(x).square().sum()
        gradients.append(torch.autograd.grad(loss, [layer.get_parameter(name) for name in library.state_dict()]))
    for wanted, found in zip(*gradients, strict=True):
        torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-9)  # float64


def test_a_new_layer_is_its_convolution_halved(cells):
    torch.manual_seed(0)
    layer = cells["DeformableConv2d"](5, 3, bias=False)
    x = torch.randn(1, 5, 6, 7)
    wanted = nn.functional.conv2d(x, layer.weight, padding=1) / 2
    torch.testing.assert_close(layer(x), wanted, rtol=1e-4, atol=1e-6)  # float32


def test_offsets_travel_to_where_the_target_has_moved(cells, monkeypatch):
    from dyhead_book.c03_deformable_convolution.travel_figures import Travel

    cells["INNER"], cells["BLUR"], cells["FAST"] = (..., slice(5, -5), slice(5, -5)), torch.tensor([1, 2, 1]) / 4, False
    travel = Travel(cells["SHIFT"])
    losses = cells["train"](cells["beginner"](cells["FirstVersion"]), steps=70, watch=travel)
    assert sum(losses[-5:]) < 0.02 * sum(losses[:5])
    # After 70 steps the means are within a quarter of a pixel of the shift, (1, 3) and (-1, -3).
    torch.testing.assert_close(travel.last, torch.tensor([[1.0, 3.0], [-1.0, -3.0]]), rtol=0, atol=0.25)
    still = cells["train"](nn.Conv2d(2, 1, 3, padding=1, bias=False), steps=70)
    assert sum(still[-5:]) > 20 * sum(losses[-5:]), "an ordinary convolution cannot reach so far"
