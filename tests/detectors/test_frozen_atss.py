"""ATSS on frozen features: those that were kept for experiments stay as they are, and all above them learns."""

import torch
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from dyhead_lab.attention import DyHead
from dyhead_lab.detectors.backbones.feature_pyramid import PyramidBackbone
from dyhead_lab.detectors.backbones.narrow_resnet import NarrowResNet, pretrained_part
from dyhead_lab.detectors.one_stage.frozen_atss import CHANNELS, frozen_atss


def one_step(model):
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, 64, 64, generator=generator) for _ in range(2)]
    target = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    losses = model.train()(images, [target, target])
    torch.stack(list(losses.values())).sum().backward()


def test_features_are_those_that_were_kept_for_experiments():
    torch.manual_seed(0)
    model = frozen_atss(3, dyhead_blocks=0, min_size=64).eval()
    shipped = PyramidBackbone(NarrowResNet(pretrained=True, finest=3), CHANNELS, None, LastLevelMaxPool()).eval()
    shipped.fpn.load_state_dict(pretrained_part("fpn"))
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected = shipped.fpn(shipped.body(image))
        levels = model.backbone(image)
    assert list(levels) == ["p3", "p4", "p5", "p6"]
    for found, wanted in zip(levels.values(), expected.values(), strict=True):
        assert torch.equal(found, wanted)


def test_only_what_stands_on_them_learns():
    torch.manual_seed(0)
    model = frozen_atss(3, min_size=64)
    before = {name: value.clone() for name, value in model.backbone.body.state_dict().items()}
    one_step(model)
    learning = {name for name, parameter in model.named_parameters() if parameter.grad is not None}
    assert learning == {n for n, _ in model.named_parameters() if n.startswith(("backbone.neck.", "head."))}
    # Batch norms would otherwise follow the training images.
    assert all(torch.equal(before[name], value) for name, value in model.backbone.body.state_dict().items())


def test_towers_stand_where_there_is_no_dynamic_head():
    plain, dynamic = frozen_atss(3, dyhead_blocks=0), frozen_atss(3, dyhead={"spatial": False})
    assert len(plain.head.cls_tower) == 3 * 4 and len(dynamic.head.cls_tower) == 0
    assert isinstance(dynamic.backbone.neck, DyHead) and not isinstance(plain.backbone.neck, DyHead)
