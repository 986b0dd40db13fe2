"""Published weights through the door of our own: class names, COCO's labels, size of the pictures, clear refusals."""

import json

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from dyhead_lab import zoo
from dyhead_lab.cli import main
from dyhead_lab.detectors.backbones.resnet import ResNetBackbone
from dyhead_lab.detectors.detr.deformable_detr import DeformableDETR, DeformableDETRConfig
from dyhead_lab.detectors.detr.detr import DETR, DETRConfig
from dyhead_lab.detectors.official import load_any, save_official
from dyhead_lab.detectors.one_stage.atss import atss
from dyhead_lab.errors import UserError
from dyhead_lab.zoo.foreign import COCO_80, COCO_91

SMALL = {"encoder_layers": 1, "decoder_layers": 1, "feedforward": 16}


def deformable(classes, backbone=True):
    torch.manual_seed(0)
    config = DeformableDETRConfig(classes=classes, queries=20, levels=3, **SMALL)
    model = DeformableDETR(config, ResNetBackbone() if backbone else None).eval()
    torch.nn.init.normal_(model.class_embed[0].weight, std=2)  # so that all classes are found somewhere
    return model


def detections(model):
    model.detection_size = None
    with torch.no_grad():
        return model([torch.rand(3, 64, 96, generator=torch.Generator().manual_seed(1))])[0]


def test_official_weights_count_the_classes_that_have_names(tmp_path):
    torch.save({"model": deformable(91).state_dict()}, tmp_path / "r50_deformable_detr.pth")
    trained = zoo.load_trained(tmp_path / "r50_deformable_detr.pth")
    assert trained.categories == COCO_80 and len(COCO_80) == 80 and trained.categories[0] == "person"
    assert trained.model.detection_size == (800, 1333)
    assert trained.path == tmp_path / "r50_deformable_detr.pth" and trained.recipe.precision == "fp32"
    raw = detections(load_any(tmp_path / "r50_deformable_detr.pth"))
    ours = detections(trained.model)
    named = [COCO_91[label] in COCO_80 for label in raw["labels"].tolist()]
    assert 0 < sum(named) < len(named)  # some are of classes without a name
    assert [COCO_80[label] for label in ours["labels"].tolist()] == [
        COCO_91[label] for label, is_named in zip(raw["labels"].tolist(), named, strict=True) if is_named
    ]
    assert torch.equal(ours["boxes"], raw["boxes"][torch.tensor(named)])
    assert torch.equal(ours["scores"], raw["scores"][torch.tensor(named)])


def test_a_folder_tells_names_and_size(tmp_path):
    torch.manual_seed(0)
    model = DETR(DETRConfig(classes=3, queries=4, **SMALL), ResNetBackbone(finest=5))
    folder = tmp_path / "my-detr"
    folder.mkdir()
    save_file(model.state_dict(), folder / "model.safetensors")
    (folder / "config.json").write_text(
        json.dumps({"model_type": "detr", "id2label": {"0": "cat", "1": "N/A", "2": "dog"}}), encoding="utf-8"
    )
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"size": {"shortest_edge": 480, "longest_edge": 640}}), encoding="utf-8"
    )
    trained = zoo.load_trained(folder)
    assert trained.categories == ["cat", "dog"] and trained.recipe.name == "my-detr"
    assert trained.model.detection_size == (480, 640)
    assert set(detections(trained.model)["labels"].tolist()) <= {0, 1}
    with pytest.raises(UserError, match="do not say what data they were trained on; name it with --data"):
        trained.recipe.data("val")


def test_dynamic_heads_of_both_programs(tmp_path):
    torch.manual_seed(0)
    model = atss(80, dyhead_blocks=1, dyhead={"offset_fit": "flat"})
    save_official(model, tmp_path / "official.pth")
    assert zoo.load_trained(tmp_path / "official.pth").categories == COCO_80
    three = save_official(atss(3, dyhead_blocks=1, dyhead={"offset_fit": "flat"}))
    torch.save({"model": three}, tmp_path / "three.pth")
    with pytest.raises(UserError, match=r"three\.pth: 3 classes, whose names neither the file nor a config\.json"):
        zoo.load_trained(tmp_path / "three.pth")
    torch.save({"state_dict": three, "meta": {"dataset_meta": {"classes": ("a", "b", "c")}}}, tmp_path / "named.pth")
    assert zoo.load_trained(tmp_path / "named.pth").categories == ["a", "b", "c"]


def test_what_cannot_detect_is_refused_by_name(tmp_path):
    def refusal(content):
        torch.save(content, tmp_path / "w.pth")
        with pytest.raises(UserError, match=r"w\.pth") as refused:
            zoo.load_trained(tmp_path / "w.pth")
        return str(refused.value)

    assert "weights of no detector that is known here; they begin with fc.weight" in refusal(
        {"fc.weight": torch.ones(1)}
    )
    assert "weights without a backbone" in refusal(deformable(80, backbone=False).state_dict())
    state = deformable(80).state_dict()
    del state["transformer.level_embed"]
    assert "not the weights of a DETR: missing class_embed.bias" in refusal(state)
    assert "holds no state dict" in refusal({"epoch": 3})


def test_detect_draws_what_published_weights_find(tmp_path, capsys):
    torch.save({"model": deformable(91).state_dict()}, tmp_path / "r50.pth")
    Image.new("RGB", (32, 24), "red").save(tmp_path / "photo.png")
    command = [
        "detect",
        str(tmp_path / "photo.png"),
        "--weights",
        str(tmp_path / "r50.pth"),
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(command) == 0
    assert (tmp_path / "out" / "photo.png").is_file() and "photo.png" in capsys.readouterr().out
