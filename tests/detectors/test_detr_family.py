"""DETR's family as recipes build it."""

import pytest
import torch

from dyhead_lab.detectors.detr_family import deformable_detr, detr, sparse_detr
from dyhead_lab.detectors.resnet_backbone import ResNetBackbone

SMALL = {"encoder_layers": 2, "decoder_layers": 1, "channels": 32, "feedforward": 32, "queries": 4}
TARGET = {"boxes": torch.tensor([[10.0, 12, 50, 40]]), "labels": torch.tensor([2])}


def test_published_sizes():
    with torch.device("meta"):
        counts = {
            "detr": trained(detr(91, dilation=True)),
            "single scale": trained(deformable_detr(91, levels=1)),
            "two stages": trained(deformable_detr(91, refine=True, two_stage=True)),
            "sparse": trained(sparse_detr(91)),
        }
    assert counts == {"detr": 41_302_368, "single scale": 33_844_193, "two stages": 40_959_129, "sparse": 41_714_805}


def trained(model):
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@pytest.mark.parametrize(
    ("build", "backbone"), [(detr, "resnet50"), (deformable_detr, "swin_t"), (sparse_detr, "swin_t")]
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


def test_refuses_what_a_backbone_cannot_give():
    with pytest.raises(ValueError, match="gives three levels without dilation; got levels=1"):
        deformable_detr(3, "swin_t", levels=1)
    with pytest.raises(ValueError, match="stages must be some of layer1, layer2"):
        ResNetBackbone(stages=("layer5",))
