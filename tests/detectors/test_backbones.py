"""Backbones and pyramids: sizes, what is frozen, and the details that official weights depend on."""

import pytest
import torch
from torch import nn
from torchvision.models import get_model
from torchvision.models.feature_extraction import create_feature_extractor
from torchvision.ops import FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import LastLevelMaxPool

from dyhead_lab.attention import DyHead
from dyhead_lab.detectors.backbones.deformable_conv import DeformableConv2d
from dyhead_lab.detectors.backbones.feature_pyramid import PyramidBackbone, pyramid
from dyhead_lab.detectors.backbones.named import named_body
from dyhead_lab.detectors.backbones.resnet import ResNetBackbone, ResNetBody
from dyhead_lab.errors import UserError


@pytest.mark.parametrize(
    ("name", "channels"),
    [
        ("resnet18", (128, 256, 512)),
        ("resnet50", (512, 1024, 2048)),
        ("resnet101", (512, 1024, 2048)),
        ("resnext101_64x4d", (512, 1024, 2048)),
        ("swin_t", (192, 384, 768)),
        ("narrow", (64, 96, 128)),
    ],
)
def test_every_backbone_carries_a_pyramid(name, channels):
    with torch.device("meta"):
        backbone = PyramidBackbone(named_body(name))
        levels = backbone.eval()(torch.zeros(1, 3, 128, 160))
    assert backbone.body.channels == channels
    assert {k: tuple(x.shape) for k, x in levels.items()} == {
        f"p{i}": (1, 256, -(-128 // 2**i), -(-160 // 2**i)) for i in range(3, 8)
    }


def test_r_cnn_takes_levels_two_to_six_and_odd_sizes_are_rounded_up():
    levels = pyramid("resnet18", finest=2).eval()(torch.zeros(1, 3, 100, 130))
    assert [tuple(x.shape[2:]) for x in levels.values()] == [(25, 33), (13, 17), (7, 9), (4, 5), (2, 3)]
    assert list(levels) == ["p2", "p3", "p4", "p5", "p6"]


def test_the_narrow_backbone_starts_from_the_shipped_weights_or_from_nothing():
    started, fresh = (pyramid("narrow", channels=16, body={"pretrained": yes}).body for yes in (True, False))
    assert not torch.equal(started.stages[0][0].conv1.weight, fresh.stages[0][0].conv1.weight)
    with pytest.raises(ValueError, match='weights: "narrow" has none of torchvision'):
        pyramid("narrow", weights="IMAGENET1K_V1")


def test_levels_above_p5_can_be_made_otherwise():
    made = PyramidBackbone(named_body("narrow"), 16, top=LastLevelMaxPool())
    assert list(made(torch.zeros(1, 3, 64, 64))) == ["p3", "p4", "p5", "p6"]


def test_the_dynamic_head_is_the_neck():
    backbone = pyramid("resnet18", channels=64, dyhead_blocks=1, dyhead={"offset_fit": "flat"})
    assert isinstance(backbone.neck, DyHead)
    assert backbone.neck.blocks[0].spatial.offset_fit == "flat"
    assert list(backbone(torch.zeros(1, 3, 64, 64))) == ["p3", "p4", "p5", "p6", "p7"]


@pytest.mark.parametrize("dilation", [False, True], ids=["strided", "dilated"])
def test_a_resnet_below_a_transformer_keeps_torchvisions_names_and_numbers(dilation):
    torch.manual_seed(0)
    ours = ResNetBackbone("resnet50", dilation=dilation).eval()
    dilated = [False, False, dilation]
    theirs = get_model("resnet50", norm_layer=FrozenBatchNorm2d, replace_stride_with_dilation=dilated).eval()
    named = {f"body.{name}": value for name, value in theirs.state_dict().items() if not name.startswith("fc.")}
    ours.load_state_dict(named, strict=True)
    image = torch.rand(1, 3, 64, 90)
    with torch.no_grad():
        expected = create_feature_extractor(theirs, {"layer2": "c3", "layer3": "c4", "layer4": "c5"})(image)
        found = ours(image)
    assert list(found) == list(expected) and all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_two_layouts_of_a_resnet_differ_in_names_only():
    torch.manual_seed(0)
    body, backbone = ResNetBody("resnet18").eval(), ResNetBackbone("resnet18").eval()
    renamed = {}
    for name, value in body.state_dict().items():
        part, rest = name.split(".", 1)
        stage, inside = rest.split(".", 1)
        renamed[f"body.{rest}" if part == "stem" else f"body.layer{int(stage) + 1}.{inside}"] = value
    backbone.load_state_dict(renamed, strict=True)
    assert list(renamed) == list(backbone.state_dict())  # official files hold the entries in this order
    image = torch.rand(1, 3, 61, 64)
    with torch.no_grad():
        a, b = body(image), backbone(image)
    assert list(a) == list(b) == ["c3", "c4", "c5"] and all(torch.equal(a[name], b[name]) for name in a)
    assert list(ResNetBackbone("resnet18", finest=5)(image)) == ["c5"]


def test_below_a_transformer_stem_and_first_stage_are_frozen():
    backbone = ResNetBackbone("resnet18")
    frozen = {name.split(".")[1] for name, p in backbone.named_parameters() if not p.requires_grad}
    learning = {name.split(".")[1] for name, p in backbone.named_parameters() if p.requires_grad}
    assert frozen == {"conv1", "layer1"} and learning == {"layer2", "layer3", "layer4"}
    with pytest.raises(ValueError, match="dilation: expected False for resnet18, which has no bottleneck blocks"):
        ResNetBackbone("resnet18", dilation=True)


def test_a_swin_transformer_takes_a_strip_thinner_than_its_patches():
    torch.manual_seed(0)
    body = named_body("swin_t").eval()
    strip = torch.rand(1, 3, 2, 64)
    with torch.no_grad():
        found, padded = body(strip), body(nn.functional.pad(strip, (0, 0, 0, 2)))
    assert [tuple(x.shape[2:]) for x in found.values()] == [(1, 8), (1, 4), (1, 2)]
    assert all(torch.equal(found[name], padded[name]) for name in padded)


def test_norms_are_frozen_or_trainable():
    frozen, trainable = ResNetBody("resnet18"), ResNetBody("resnet18", norm="batch")
    assert any(isinstance(m, FrozenBatchNorm2d) for m in frozen.modules())
    assert any(isinstance(m, nn.BatchNorm2d) for m in trainable.modules())
    with pytest.raises(ValueError, match="norm: expected one of frozen, batch, got 'group'"):
        ResNetBody("resnet18", norm="group")


@pytest.mark.parametrize(("freeze_at", "frozen"), [(0, set()), (1, {"stem"}), (2, {"stem", "stages.0"})])
def test_freeze_at_counts_parts(freeze_at, frozen):
    resnet = ResNetBody("resnet18", freeze_at=freeze_at)
    names = {name for name, p in resnet.named_parameters() if not p.requires_grad}
    assert {name.split(".")[0] if name.startswith("stem") else name[:8] for name in names} == frozen


def test_stride_moves_to_the_first_convolution_of_a_bottleneck():
    torch.manual_seed(0)
    usual, msra = ResNetBody("resnet50").eval(), ResNetBody("resnet50", stride_in_1x1=True).eval()
    msra.load_state_dict(usual.state_dict())
    first = msra.stages[1][0]
    assert first.conv1.stride == (2, 2) and first.conv2.stride == (1, 1)
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        a, b = usual(x)["c3"], msra(x)["c3"]
    assert a.shape == b.shape and not torch.allclose(a, b)


@pytest.mark.parametrize("groups", [1, 2])
def test_a_deformable_convolution_starts_as_half_the_ordinary_one(groups):
    torch.manual_seed(0)
    conv = nn.Conv2d(8, 8, 3, 2, 1, groups=groups, bias=False)
    x = torch.randn(2, 8, 9, 7)
    # Offsets start at zero and masks at one half. Sums in another order: float32 rounding.
    torch.testing.assert_close(DeformableConv2d.like(conv)(x), conv(x) / 2, rtol=1e-5, atol=1e-5)


def test_deformable_stages_train():
    backbone = ResNetBody("resnet18", deformable_stages=(5,))
    assert sum(isinstance(m, DeformableConv2d) for m in backbone.modules()) == 2
    backbone(torch.randn(1, 3, 64, 64))["c5"].sum().backward()
    assert backbone.stages[3][1].conv2.offset_mask.weight.grad.any()


def test_an_unknown_name_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"expected one of resnet18, .*swin_t, narrow or timm/NAME, got 'vgg16'"):
        named_body("vgg16")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"finest": 4}, "finest: expected one of 3, 2, got 4"),
        ({"body": {"deformable_stages": (1,)}}, "deformable_stages: expected some of 3, 4, 5"),
    ],
)
def test_wrong_stages_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        pyramid("resnet18", **options)


def test_weights_without_a_network_say_what_to_do(monkeypatch):
    def no_network(*args, **kwargs):
        raise OSError("Network is unreachable")

    monkeypatch.setattr(torch.hub, "download_url_to_file", no_network)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: "nowhere")
    monkeypatch.setattr("os.makedirs", lambda *args, **kwargs: None)
    with pytest.raises(UserError, match=r"cannot download the weights IMAGENET1K_V1 of resnet18.*weights=None"):
        named_body("resnet18", "IMAGENET1K_V1")
