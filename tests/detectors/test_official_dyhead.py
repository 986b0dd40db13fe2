"""Whole official checkpoints: every layout loads strictly, means the same, and goes back unchanged."""

import re

import pytest
import torch
from safetensors.torch import save_file
from torch.nn import functional as F

from dyhead_lab.detectors.official import load_dynamic_head, save_official
from dyhead_lab.detectors.one_stage.atss import ATSS, atss
from dyhead_lab.detectors.one_stage.fcos import fcos
from dyhead_lab.detectors.one_stage.retinanet import RetinaNet, retinanet
from dyhead_lab.detectors.rcnn.faster_rcnn import FasterRCNN, faster_rcnn

FLAT = {"offset_fit": "flat"}
#: layout -> (builder, its options, class, entries with six blocks in the published file)
LAYOUTS = {
    "atss": (atss, {"backbone": "resnet50", "body": {"stride_in_1x1": True}}, ATSS, 412),
    "retinanet": (retinanet, {"backbone": "resnet50", "body": {"stride_in_1x1": True}}, RetinaNet, None),
    "faster_rcnn": (faster_rcnn, {"backbone": "resnet50", "body": {"stride_in_1x1": True}}, FasterRCNN, None),
    "swin": (atss, {"backbone": "swin_t"}, ATSS, 334),
}


@pytest.fixture(scope="module")
def models():
    """One small model per layout, with one block and three classes, away from its start."""
    torch.manual_seed(0)
    made = {}
    for layout, (builder, options, _, _) in LAYOUTS.items():
        made[layout] = builder(3, dyhead_blocks=1, dyhead=FLAT, **options).eval()
        for name, parameter in made[layout].named_parameters():
            if ".neck." in name:
                parameter.data += 0.02 * torch.randn_like(parameter)
    return made


@pytest.mark.parametrize("layout", LAYOUTS)
def test_there_and_back(layout, models, tmp_path):
    path = tmp_path / "official.pth"
    entries = save_official(models[layout], path)
    loaded = load_dynamic_head(path)
    assert type(loaded) is LAYOUTS[layout][2] and not loaded.training
    assert loaded.backbone.neck.blocks[0].spatial.offset_fit == "flat"
    back = save_official(loaded)
    assert back.keys() == entries.keys()
    for name in entries:
        assert torch.equal(back[name], entries[name]), name
    x = torch.randn(1, 3, 128, 128)
    with torch.no_grad():
        for level, expected in models[layout].backbone(x).items():
            assert torch.equal(loaded.backbone(x)[level], expected)


@pytest.mark.parametrize("layout", [name for name, spec in LAYOUTS.items() if spec[3]])
def test_published_number_of_entries(layout):
    builder, options, _, entries = LAYOUTS[layout]
    with torch.device("meta"):
        model = builder(80, **options)
    assert len(save_official(model)) == entries


@pytest.mark.parametrize(
    ("layout", "shapes"),
    [
        (
            "atss",
            {
                "backbone.backbone.bottom_up.stem.conv1.norm.running_var": (64,),
                "backbone.backbone.bottom_up.res2.0.shortcut.weight": (256, 64, 1, 1),
                "backbone.backbone.bottom_up.res5.2.conv3.norm.bias": (2048,),
                "backbone.backbone.fpn_lateral3.weight": (256, 512, 1, 1),
                "backbone.backbone.fpn_output5.bias": (256,),
                "backbone.backbone.top_block.p7.weight": (256, 256, 3, 3),
                "backbone.dyhead_tower.0.AttnConv.1.weight": (1, 256, 1, 1),
                "head.cls_logits.weight": (3, 256, 1, 1),
                "head.scales.4.scale": (1,),
            },
        ),
        (
            "retinanet",
            {"head.cls_subnet.6.weight": (256, 256, 3, 3), "head.cls_score.bias": (27,), "head.bbox_pred.bias": (36,)},
        ),
        (
            "faster_rcnn",
            {
                "backbone.backbone.fpn_lateral2.weight": (256, 256, 1, 1),
                "proposal_generator.rpn_head.anchor_deltas.bias": (12,),
                "roi_heads.box_head.fc1.weight": (1024, 12544),
                "roi_heads.box_predictor.cls_score.bias": (4,),
                "roi_heads.box_predictor.bbox_pred.bias": (12,),
            },
        ),
        (
            "swin",
            {
                "backbone.backbone.bottom_up.patch_embed.proj.weight": (96, 3, 4, 4),
                "backbone.backbone.bottom_up.layers.1.blocks.0.mlp.fc2.weight": (192, 768),
                "backbone.backbone.bottom_up.layers.3.blocks.1.attn.relative_position_index": (49, 49),
                "backbone.backbone.bottom_up.layers.2.downsample.reduction.weight": (768, 1536),
                "backbone.backbone.bottom_up.norm3.weight": (768,),
            },
        ),
    ],
)
def test_published_names_and_shapes(layout, shapes, models):
    entries = save_official(models[layout])
    assert {name: tuple(entries[name].shape) for name in shapes} == shapes


def test_a_resnet_reads_the_pixels_that_it_was_trained_on(models):
    entries = save_official(models["atss"])
    model = load_dynamic_head(entries, min_size=64)
    image = torch.rand(3, 64, 64)
    bgr = image.flip(0) * 255 - torch.tensor([103.53, 116.28, 123.675])[:, None, None]
    weight = entries["backbone.backbone.bottom_up.stem.conv1.weight"]
    batch, _ = model.transform([image])
    ours = F.conv2d(batch.tensors, model.backbone.body.stem.conv1.weight, stride=2, padding=3)[:, :, :28, :28]
    # Values reach hundreds; the same products in another order.
    torch.testing.assert_close(
        ours, F.conv2d(bgr[None], weight, stride=2, padding=3)[:, :, :28, :28], rtol=1e-4, atol=1e-3
    )
    assert batch.tensors.shape[-2:] == (128, 128)


def test_background_moves_from_last_to_first(models):
    entries = save_official(models["faster_rcnn"])
    entries["roi_heads.box_predictor.cls_score.bias"] = torch.tensor([1.0, 2.0, 3.0, 0.0])
    entries["roi_heads.box_predictor.bbox_pred.bias"] = torch.arange(12.0)
    predictor = load_dynamic_head(entries).roi_heads.box_predictor
    assert predictor.cls_score.bias.tolist() == [0, 1, 2, 3]
    assert predictor.bbox_pred.bias.tolist() == [0] * 4 + list(range(12))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: e.pop("head.centerness.bias"), "missing head.centerness.bias"),
        (lambda e: e.update({"head.extra.weight": torch.ones(1)}), "unexpected head.extra.weight"),
        (lambda e: e.pop("head.cls_logits.bias"), "expected a detector with a Dynamic Head"),
        (lambda e: e.clear(), "expected a detector with a Dynamic Head"),
    ],
)
def test_entries_that_do_not_fit_are_listed(change, message, models):
    entries = save_official(models["atss"])
    change(entries)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_dynamic_head(entries)


WRAPPERS = {
    "alone": lambda entries: entries,
    "Detectron2": lambda entries: {"model": entries, "optimizer": {}, "iteration": 90_000},
    "mmengine": lambda entries: {"meta": {"epoch": 12}, "state_dict": entries, "optimizer": {}},
    "parallel": lambda entries: {f"module.{name}": value for name, value in entries.items()},
    "averaged": lambda entries: {"ema_state_dict": {f"module.{name}": x for name, x in entries.items()}},
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("wrapper", WRAPPERS)
def test_every_wrapper_gives_the_same_detector(layout, wrapper, models):
    loaded = load_dynamic_head(WRAPPERS[wrapper](save_official(models[layout]))).state_dict()
    for name, value in models[layout].state_dict().items():
        if "box_predictor.bbox_pred" not in name:  # the background's box, which nothing reads, is not kept
            assert torch.equal(loaded[name], value), name


def test_safetensors_hold_the_official_layout_too(models, tmp_path):
    entries = save_official(models["atss"])
    save_file({name: value.contiguous() for name, value in entries.items()}, tmp_path / "official.safetensors")
    back = save_official(load_dynamic_head(tmp_path / "official.safetensors"))
    assert all(torch.equal(back[name], value) for name, value in entries.items())


def test_a_style_is_for_mmdetection_alone(models):
    with pytest.raises(ValueError, match="style: weights of DynamicHead have one style only, got 'caffe'"):
        load_dynamic_head(save_official(models["atss"]), style="caffe")


@pytest.mark.parametrize(
    ("channels", "third_stage", "name"),
    [
        (192, 18, r"a Swin Transformer \(swin_l\) with 2, 2, 18, 2 blocks and 192 channels"),
        (77, 6, "a Swin Transformer with"),
    ],
)
def test_a_backbone_that_is_not_built_here_is_called_by_its_name(channels, third_stage, name, models):
    entries = save_official(models["swin"])
    start = "backbone.backbone.bottom_up."
    entries[f"{start}patch_embed.proj.weight"] = torch.zeros(channels, 3, 4, 4)
    entries |= {f"{start}layers.2.blocks.{i}.norm1.weight": torch.zeros(1) for i in range(third_stage)}
    with pytest.raises(ValueError, match=rf"{name}.*; built here: resnet50, resnet101, swin_t"):
        load_dynamic_head(entries)


@pytest.mark.parametrize(
    ("builder", "options", "message"),
    [
        (fcos, {"dyhead_blocks": 1}, "expected ATSS, RetinaNet or Faster R-CNN, got FCOS"),
        (atss, {"dyhead_blocks": 0}, "needs a Dynamic Head"),
        (atss, {"dyhead_blocks": 1, "dyhead": {"scale": False}}, "all three attentions"),
    ],
)
def test_a_detector_without_an_official_layout_is_refused(builder, options, message):
    with pytest.raises(ValueError, match=message):
        save_official(builder(3, "resnet18", **options))
