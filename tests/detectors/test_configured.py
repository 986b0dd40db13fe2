"""DETR's family as recipes build it."""

import pytest
import torch

from dyhead_lab.detectors.backbones.resnet import ResNetBackbone
from dyhead_lab.detectors.detr.configured import deformable_detr, detr, sparse_detr
from dyhead_lab.detectors.detr.efficient_detr import efficient_detr
from dyhead_lab.detectors.image_batch import resize_image

SMALL = {"encoder_layers": 2, "decoder_layers": 1, "channels": 32, "feedforward": 32, "queries": 4}
TARGET = {"boxes": torch.tensor([[10.0, 12, 50, 40]]), "labels": torch.tensor([2])}


def test_published_sizes():
    with torch.device("meta"):
        counts = {
            "detr": trained(detr(91, body={"dilation": True})),
            "single scale": trained(deformable_detr(91, levels=1)),
            "two stages": trained(deformable_detr(91, refine=True, two_stage=True)),
            "sparse": trained(sparse_detr(91)),
        }
    assert counts == {"detr": 41_302_368, "single scale": 33_844_193, "two stages": 40_959_129, "sparse": 41_714_805}


def trained(model):
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("build", "backbone"),
    [
        (detr, "resnet50"),
        (detr, "narrow"),
        (deformable_detr, "swin_t"),
        (sparse_detr, "swin_t"),
        (sparse_detr, "narrow"),
        (efficient_detr, "narrow"),
    ],
)
def test_trains_and_detects(build, backbone):
    torch.manual_seed(0)
    model = build(classes=3, backbone=backbone, **SMALL)
    images = [torch.rand(3, 64, 96), torch.rand(3, 61, 50)]
    losses = model.train()(images, [TARGET, {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0).long()}])
    sum(losses.values()).backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in model.backbone.parameters())
    with torch.no_grad():
        first, second = model.eval()(images)
    assert first["boxes"].isfinite().all() and second["labels"].max() < 3


def test_efficient_detr_has_a_name_and_weights_that_spell_it_out_still_fit():
    spelt_out = {"refine": True, "two_stage": True, "efficient_queries": True}
    with torch.device("meta"):
        named = efficient_detr(3, "narrow", **SMALL)
        old = efficient_detr(3, "narrow", **SMALL, **spelt_out)  # as weight files of earlier versions ask for it
        general = deformable_detr(3, "narrow", **SMALL, **spelt_out)
    assert named.config == old.config == general.config


@pytest.mark.parametrize("build", [detr, deformable_detr, sparse_detr])
def test_under_autocast_matching_and_losses_are_in_float32(build):
    torch.manual_seed(0)
    model = build(classes=3, backbone="narrow", dropout=0.0, **SMALL).train()
    image = torch.rand(3, 64, 96)
    with torch.autocast("cpu", torch.bfloat16):
        losses = model([image], [TARGET])
    assert {loss.dtype for loss in losses.values()} == {torch.float32}
    sum(losses.values()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.parametrize("build", [detr, deformable_detr, sparse_detr])
def test_boxes_are_in_the_pixels_of_the_image_whatever_size_is_detected_at(build):
    torch.manual_seed(0)
    model = build(classes=3, backbone="narrow", min_size=64, max_size=96, **SMALL).eval()
    image = torch.rand(3, 50, 100)  # becomes 48 x 96: the longer side decides
    with torch.no_grad():
        (resized,) = model([image])
        model.detection_size = None
        (by_hand,) = model([resize_image(image, 64, 96)])
    assert resize_image(image, 64, 96).shape == (3, 48, 96)
    scale = torch.tensor([100 / 96, 50 / 48]).repeat(2)
    torch.testing.assert_close(resized["boxes"], by_hand["boxes"] * scale, atol=1e-4, rtol=1e-5)  # float32 rounding
    torch.testing.assert_close(resized["scores"], by_hand["scores"])


def test_resizing_keeps_what_has_the_size_already():
    image = torch.rand(3, 40, 60)
    assert resize_image(image, 40, 100) is image
    assert resize_image(image, 80, 1000).shape == (3, 80, 120)


def test_refuses_what_a_backbone_cannot_give():
    with pytest.raises(ValueError, match="resnet9"):
        deformable_detr(3, "resnet9")
    with pytest.raises(ValueError, match="finest: expected 2, 3, 4 or 5, got 6"):
        ResNetBackbone(finest=6)
