"""What the cells of chapter 05 build: the shipped detectors run on it, and the paper's form is the library's."""

import pytest
import torch

from dyhead_book.practice.rebuilt import check_same_ap
from dyhead_lab.attention import DyHead
from dyhead_lab.attention import PaperSpatialAwareAttention as PaperForm
from dyhead_lab.attention import SpatialAwareAttention as Library

from .definitions import definitions

PARTS = ("SpatialAwareAttention", "DeformableConvNorm", "OffsetMaskConv")


@pytest.fixture(scope="module")
def cells():
    return definitions("05_spatial_aware")


@pytest.fixture
def pyramid():
    generator = torch.Generator().manual_seed(0)
    return [torch.randn(2, 32, *size, generator=generator) for size in ((12, 20), (6, 10), (3, 5))]


def steered(module):
    """Offsets and masks that are not those of a fresh module."""
    torch.nn.init.normal_(module.offset_mask.weight, std=0.05)
    return module


def test_the_shipped_detector_has_the_same_ap_on_the_classes_of_the_cells(cells):
    verdict = check_same_ap("quickstart", 20, **{name: cells[name] for name in PARTS})
    assert verdict, verdict.message


@pytest.mark.parametrize("offset_fit", ["resize", "centres", "aligned", "flat", "crop"])
def test_branches_are_the_librarys_with_its_weights(cells, pyramid, offset_fit):
    library = steered(Library(32, offset_fit))
    mine = cells["SpatialAwareAttention"](32, offset_fit)
    mine.load_state_dict(library.state_dict(), strict=True)
    finer, own, coarser = pyramid
    for levels in ((own, finer, coarser), (finer, None, own), (coarser, own, None)):
        with torch.no_grad():
            for got, wanted in zip(mine(*levels), library(*levels), strict=True):
                torch.testing.assert_close(got, wanted, rtol=1e-5, atol=1e-5)  # float32, sums in another order


def test_the_papers_form_is_the_librarys_with_its_weights(cells, pyramid):
    library = steered(PaperForm(32, num_levels=3))
    mine = cells["PaperSpatialAwareAttention"](32, num_levels=3)
    mine.load_state_dict(library.state_dict(), strict=True)
    F_BLSC = torch.stack([torch.nn.functional.interpolate(x, (6, 10)).flatten(2).mT for x in pyramid], 1)
    torch.testing.assert_close(mine(F_BLSC, (6, 10)), library(F_BLSC, (6, 10)), rtol=1e-5, atol=1e-5)  # float32


def test_a_training_step_reaches_every_parameter_and_moves_the_offsets(cells):
    torch.manual_seed(0)
    module = cells["SpatialAwareAttention"](32, "aligned")
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    finer, own, coarser = (torch.randn(2, 32, n, n) for n in (16, 8, 4))
    loss = sum((branch * torch.randn_like(branch)).mean() for branch in module(own, finer, coarser))
    loss.backward()
    assert all(p.grad is not None and bool(p.grad.any()) for p in module.parameters())
    optimizer.step()
    assert bool(module.offset_mask(own)[0].any()), "offsets start at zero and leave it"


def test_the_names_of_the_parts_are_what_the_optimiser_looks_for(cells):
    library = DyHead(32, blocks=1).blocks[0].spatial.offset_mask
    assert cells["OffsetMaskConv"].sampling_parameters == library.sampling_parameters
