"""mmdetection's ATSS with Dynamic Head: both styles of its ResNet, given, read from the configuration, or asked for."""

import warnings

import pytest
import torch
from torch.nn import functional as F

from dyhead_lab.detectors.official import load_dynamic_head, save_official
from dyhead_lab.detectors.official.dynamic_head_layouts import mmdet_name
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.errors import UserError

MEAN = torch.tensor([123.675, 116.28, 103.53])[:, None, None]
STD = torch.tensor([58.395, 57.12, 57.375])[:, None, None]
IMAGE = torch.rand(3, 128, 160, generator=torch.Generator().manual_seed(3))

#: What mmengine writes beside the weights, cut down to what decides numbers.
CAFFE_3 = """
model = dict(
    type='ATSS',
    backbone=dict(type='ResNet', depth=50, style='caffe', init_cfg=dict(type='Pretrained')),
    bbox_head=dict(anchor_generator=dict(type='AnchorGenerator', strides=[8, 16], center_offset=0.5)),
    data_preprocessor=dict(
        bgr_to_rgb=False, mean=[103.53, 116.28, 123.675], pad_size_divisor=128, std=[1.0, 1.0, 1.0]))
optim_wrapper = dict(optimizer=dict(lr=0.01))
"""
PYTORCH_3 = """
model = dict(
    backbone=dict(depth=50, style='pytorch', type='ResNet'),
    bbox_head=dict(anchor_generator=dict(strides=[8, 16], type='AnchorGenerator')),
    data_preprocessor=dict(
        bgr_to_rgb=True, mean=[123.675, 116.28, 103.53], pad_size_divisor=32, std=[58.395, 57.12, 57.375]))
"""
PYTORCH_2 = """
model = dict(
    type='ATSS', backbone=dict(type='ResNet', style='pytorch'),
    bbox_head=dict(anchor_generator=dict(type='AnchorGenerator')))
img_norm_cfg = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
test_pipeline = [dict(type='Resize'), dict(type='Pad', size_divisor=64)]
"""


def entries_of(model):
    """The entries of our ATSS under mmdetection's names."""
    entries = {}
    for name, value in model.state_dict().items():
        if not (".neck." in name and name.endswith(".conv.bias")):  # its deformable convolutions have none
            entries[mmdet_name(name)] = value
    return {**entries, "backbone.bn1.num_batches_tracked": torch.tensor(7)}


@pytest.fixture(scope="module", params=[1, 3], ids=["1x1 predictors", "3x3 predictors"])
def source(request):
    """Our detector with random weights, and its entries."""
    torch.manual_seed(0)
    model = atss(3, dyhead_blocks=1, dyhead={"offset_fit": "flat"}, predictor_kernel=request.param).eval()
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith((".bn1.bias", ".bn2.bias", ".bn3.bias")):
                value.normal_(0, 0.1)
            elif name.startswith("head."):
                value.add_(0.1 * torch.randn_like(value))
    return model, entries_of(model)


def resnet(entries, x, stride_in_1x1):
    """mmdetection's ResNet-50, from its entries and torch's functions alone: the outputs of its last three stages."""

    def norm(x, name):
        mean, var, weight, bias = (
            entries[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, var, weight, bias)

    def conv(x, name, **options):
        return F.conv2d(x, entries[f"backbone.{name}.weight"], **options)

    x = F.max_pool2d(norm(conv(x, "conv1", stride=2, padding=3), "backbone.bn1").relu(), 3, 2, 1)
    outputs = []
    for stage, blocks in enumerate((3, 4, 6, 3), 1):
        for block in range(blocks):
            at = f"layer{stage}.{block}"
            stride = 2 if stage > 1 and block == 0 else 1
            first, second = (stride, 1) if stride_in_1x1 else (1, stride)
            y = norm(conv(x, f"{at}.conv1", stride=first), f"backbone.{at}.bn1").relu()
            y = norm(conv(y, f"{at}.conv2", stride=second, padding=1), f"backbone.{at}.bn2").relu()
            y = norm(conv(y, f"{at}.conv3"), f"backbone.{at}.bn3")
            if block == 0:
                x = norm(conv(x, f"{at}.downsample.0", stride=stride), f"backbone.{at}.downsample.1")
            x = (x + y).relu()
        outputs.append(x)
    return outputs[1:]


@pytest.mark.parametrize("style", ["caffe", "pytorch"])
def test_pixels_and_strides_are_those_of_the_style(source, style):
    """Values reach tens (caffe: thousands, its pixels are not scaled); the same sums in another order."""
    _, entries = source
    model = load_dynamic_head(entries, style=style, min_size=128)
    batch, _ = model.transform([IMAGE])
    pixels = IMAGE * 255
    network_input = (pixels - MEAN).flip(0) if style == "caffe" else (pixels - MEAN) / STD
    divisor = {"caffe": 128, "pytorch": 32}[style]
    height, width = (-(-side // divisor) * divisor for side in IMAGE.shape[1:])
    padded = F.pad(network_input, (0, width - IMAGE.shape[2], 0, height - IMAGE.shape[1]))
    with torch.no_grad():
        ours = model.backbone.body(batch.tensors).values()
        theirs = resnet(entries, padded[None], style == "caffe")
        other = resnet(entries, padded[None], style != "caffe")
    for a, b, wrong in zip(ours, theirs, other, strict=True):
        scale = b.abs().max()
        torch.testing.assert_close(a / scale, b / scale, atol=1e-5, rtol=0)
        assert (wrong - b).abs().max() > 1e-2 * scale


@pytest.mark.parametrize(("style", "middle"), [("caffe", 0.5), ("pytorch", 0.0)])
def test_heads_and_anchors_are_those_of_the_style(source, style, middle):
    _, entries = source
    model = load_dynamic_head(entries, style=style)
    levels = [torch.randn(1, 256, 4 >> i or 1, 6 >> i or 1) for i in range(5)]
    kernel = entries["bbox_head.atss_cls.weight"].shape[-1]
    with torch.no_grad():
        predictions = model.head(levels)
    for part, name in ((predictions.logits, "atss_cls"), (predictions.centerness, "atss_centerness")):
        for x, level in zip(levels, part, strict=True):
            weight, bias = entries[f"bbox_head.{name}.weight"], entries[f"bbox_head.{name}.bias"]
            expected = F.conv2d(x, weight, bias, padding=kernel // 2).flatten(2).transpose(1, 2)
            torch.testing.assert_close(level, expected.reshape(level.shape), atol=1e-5, rtol=1e-5)
    for level, boxes in enumerate(model._anchors(levels)):
        stride = 8 << level
        width = levels[level].shape[-1]
        for place in range(len(boxes)):
            x, y = (place % width + middle) * stride, (place // width + middle) * stride
            half = 4 * stride
            assert boxes[place].tolist() == [x - half, y - half, x + half, y + half]


@pytest.mark.parametrize("style", ["caffe", "pytorch"])
def test_every_entry_finds_its_place(source, style):
    """Deformable convolutions have no bias; a caffe model's first convolution reads BGR; P7 has no ReLU before it."""
    model, entries = source
    for name in (
        "backbone.layer1.0.downsample.1.running_mean",
        "neck.0.lateral_convs.0.conv.weight",
        "neck.0.fpn_convs.4.conv.bias",
        "neck.1.dyhead_blocks.0.spatial_conv_high.norm.weight",
        "neck.1.dyhead_blocks.0.task_attn_module.conv2.conv.weight",
        "bbox_head.atss_centerness.bias",
        "bbox_head.scales.0.scale",
    ):
        assert name in entries
    loaded = load_dynamic_head(entries, style=style)
    for name, value in loaded.state_dict().items():
        expected = model.state_dict()[name]
        if ".neck." in name and name.endswith(".conv.bias"):
            expected = torch.zeros_like(value)
        elif name.endswith("stem.conv1.weight") and style == "caffe":
            expected = expected.flip(1)
        assert torch.equal(value, expected), name
    p5 = torch.randn(1, 256, 4, 4)
    top = loaded.backbone.fpn.extra_blocks
    levels, names = top([p5], [p5], ["c5"])
    assert names == ["c5", "p6", "p7"]
    torch.testing.assert_close(levels[2], top.p7(top.p6(p5)))
    lost = {name: value for name, value in entries.items() if name != "bbox_head.atss_reg.weight"}
    with pytest.raises(ValueError, match=r"missing bbox_head\.atss_reg\.weight"):
        load_dynamic_head(lost, style=style)


#: What does not depend on the predictors is tried with one of them.
ONE = pytest.mark.parametrize("source", [3], indirect=True, ids=["3x3 predictors"])


def settings(model):
    transform = model.transform
    block = model.backbone.body.stages[1][0]
    return (
        "caffe" if block.conv1.stride == (2, 2) else "pytorch",
        transform.size_divisible,
        model.anchor_offset,
        [round(value * 255, 3) for value in transform.image_mean],
        [round(value * 255, 3) for value in transform.image_std],
    )


CAFFE = ("caffe", 128, 0.5, [123.675, 116.28, 103.53], [1, 1, 1])
PYTORCH = ("pytorch", 32, 0.0, [123.675, 116.28, 103.53], [58.395, 57.12, 57.375])


@ONE
def test_without_a_style_it_is_asked_for(source, tmp_path):
    _, entries = source
    for meta in ({}, {"cfg": "model = dict(backbone=dict(depth=50))"}, {"cfg": "model = dict("}, {"epoch": 1}):
        with pytest.raises(
            UserError, match=r"do not tell .*: give load_dynamic_head style='pytorch' .* or style='caffe'"
        ):
            load_dynamic_head({"state_dict": entries, "meta": meta})
    with pytest.raises(ValueError, match="style: expected one of caffe, pytorch, got 'torch'"):
        load_dynamic_head(entries, style="torch")
    assert settings(load_dynamic_head(entries, style="caffe")) == CAFFE
    assert settings(load_dynamic_head(entries, style="pytorch")) == PYTORCH


@ONE
@pytest.mark.parametrize(
    ("meta", "expected"),
    [
        ({"cfg": CAFFE_3}, CAFFE),
        ({"cfg": PYTORCH_3}, PYTORCH),
        ({"config": PYTORCH_2}, ("pytorch", 64, *PYTORCH[2:])),
        ({"cfg": PYTORCH_3.replace("strides=", "center_offset=0.5, strides=")}, (*PYTORCH[:2], 0.5, *PYTORCH[3:])),
        ({"cfg": CAFFE_3.replace(", center_offset=0.5", "")}, (*CAFFE[:2], 0.0, *CAFFE[3:])),
    ],
    ids=["caffe", "pytorch", "mmdetection 2", "pytorch with centred anchors", "caffe with anchors at corners"],
)
def test_the_configuration_in_a_file_is_followed_with_a_warning(source, meta, expected, tmp_path):
    _, entries = source
    torch.save({"meta": {"epoch": 12, **meta}, "state_dict": entries, "optimizer": {}}, tmp_path / "epoch_12.pth")
    with pytest.warns(UserWarning, match=rf"epoch_12.pth: style='{expected[0]}' is taken from the configuration"):
        assert settings(load_dynamic_head(tmp_path / "epoch_12.pth")) == expected
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert settings(load_dynamic_head(tmp_path / "epoch_12.pth", style=expected[0])) == expected
    other = {"caffe": "pytorch", "pytorch": "caffe"}[expected[0]]
    with pytest.raises(ValueError, match=f"style='{other}' does not fit: the configuration .* says '{expected[0]}'"):
        load_dynamic_head(tmp_path / "epoch_12.pth", style=other)


@ONE
def test_options_of_the_caller_come_first(source):
    _, entries = source
    model = load_dynamic_head(entries, style="pytorch", size_divisible=128, anchor_offset=0.5)
    assert settings(model) == ("pytorch", 128, 0.5, *PYTORCH[3:])


@ONE
def test_a_swin_transformer_is_called_by_its_name(source):
    _, entries = source
    swin = {name: value for name, value in entries.items() if not name.startswith("backbone.")}
    swin["backbone.patch_embed.projection.weight"] = torch.zeros(192, 3, 4, 4)
    for stage, blocks in enumerate((2, 2, 18, 2)):
        swin |= {f"backbone.stages.{stage}.blocks.{i}.attn.w_msa.qkv.bias": torch.zeros(1) for i in range(blocks)}
    with pytest.raises(
        ValueError, match=r"a Swin Transformer \(swin_l\) with 2, 2, 18, 2 blocks and 192 channels; built"
    ):
        load_dynamic_head(swin, style="pytorch")


@ONE
def test_what_the_official_layout_cannot_hold_is_not_saved_in_it(source):
    _, entries = source
    with pytest.raises(ValueError, match="model: the official layout has"):
        save_official(load_dynamic_head(entries, style="pytorch"))
