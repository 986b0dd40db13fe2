"""Chapter 09: the attention, the layers and the DETR of its cells, against PyTorch and inside the shipped detector."""

import pytest
import torch
from torch import nn

from dyhead_book.c09_self_attention_to_deformable.deform_attention_checks import check_deform_attention, check_macs
from dyhead_book.c09_self_attention_to_deformable.detr_checks import check_decoder_layer
from dyhead_book.c09_self_attention_to_deformable.self_attention_checks import (
    check_attention,
    check_multihead,
    check_sine_positions,
)
from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_book.practice.rebuilt import check_rebuilt, check_same_ap
from dyhead_lab.detectors.detr.detr import DETRConfig

from .definitions import definitions


@pytest.fixture(scope="module")
def cells():
    return definitions("09_self_attention_to_deformable")


@pytest.mark.parametrize(
    ("check", "name"),
    [
        (check_attention, "attention"),
        (check_multihead, "MultiheadAttention"),
        (check_sine_positions, "sine_positions"),
        (check_decoder_layer, "DecoderLayer"),
        (check_macs, "attention_macs"),
        (check_deform_attention, "deform_attention"),
    ],
)
def test_what_the_cells_build_is_right(cells, check, name):
    verdict = check(cells[name])
    assert verdict, verdict.message


def test_the_shipped_detr_has_the_same_ap_on_the_detector_of_the_chapter(cells):
    """Scores too: an AP this low says little by itself."""
    images = [DrawnShapes(1).image(0), DrawnShapes(2).image(1)[:, :100]]
    assert check_rebuilt("detr_tiny", images, **{name: cells[name] for name in ("DETR",)})
    assert check_same_ap("detr_tiny", DETR=cells["DETR"])


def test_a_transformer_that_adds_positions_to_values_is_noticed(cells):
    class Wrong(cells["EncoderLayer"]):
        def forward(self, memory, tokens):
            return super().forward(memory + tokens.positions_BNC, tokens)

    cells = definitions("09_self_attention_to_deformable")
    cells["EncoderLayer"] = Wrong
    assert not check_rebuilt("detr_tiny", [DrawnShapes(1).image(0)], DETR=cells["DETR"])


def test_the_detector_of_the_chapter_learns(cells):
    """A few steps on two pictures: every parameter of the transformer gets a gradient, and the loss falls."""
    torch.manual_seed(0)
    data = DrawnShapes(2, seed=9)
    images, targets = zip(*((data.image(i), data.objects(i)) for i in range(2)), strict=True)
    config = DETRConfig(classes=6, feature_channels=8, channels=32, heads=4, feedforward=32, encoder_layers=1,
                        decoder_layers=2, queries=12)  # fmt: skip

    class Strided(nn.Conv2d):
        def forward(self, images):
            return [super().forward(images)]

    detr = cells["DETR"](config, Strided(3, 8, 16, 16)).train()
    optimiser = torch.optim.AdamW(detr.parameters(), 2e-3)
    losses = []
    for _ in range(30):
        loss = sum(detr(images, targets).values())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in detr.parameters())
    assert losses[-1] < 0.6 * losses[0]
    [found, _] = detr.eval()(images)
    assert found["boxes"].shape == (12, 4) and found["scores"].diff().max() <= 0  # best first
