"""DETR and Deformable DETR against Hugging Face's independent implementation, on random weights."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher
from dyhead_lab.detectors.detr.set_criterion import SetCriterion
from dyhead_lab.detectors.image_batch import pad_images
from dyhead_lab.detectors.official import load_deformable_detr, load_detr
from dyhead_lab.detectors.official.hugging_face_files import config_beside
from dyhead_lab.errors import UserError

transformers = pytest.importorskip("transformers", minversion="5", reason="needs transformers (a test dependency)")

SIZES = {
    "encoder_layers": 2,
    "decoder_layers": 2,
    "encoder_ffn_dim": 48,
    "decoder_ffn_dim": 48,
    "d_model": 64,
    "num_queries": 12,
    "num_labels": 5,
    "encoder_attention_heads": 8,
    "decoder_attention_heads": 8,
}
OBJECTS = [
    {"labels": torch.tensor([1, 3]), "boxes": torch.tensor([[0.3, 0.4, 0.2, 0.3], [0.6, 0.5, 0.4, 0.2]])},
    {"labels": torch.tensor([4]), "boxes": torch.tensor([[0.25, 0.6, 0.3, 0.3]])},
]


def resnet(*stages):
    return transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16, 24, 32], depths=[1, 1, 1, 1], out_features=list(stages)
    )


def shaken(model):
    """Random weights everywhere, also where the initialisation has zeros."""
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


def run(theirs):
    """Their outputs and losses for two images, the second one padded; their features; and the padding mask."""
    torch.manual_seed(2)
    pixels, valid = torch.randn(2, 3, 96, 128), torch.ones(2, 96, 128, dtype=torch.long)
    valid[1, 64:] = 0
    valid[1, :, 96:] = 0
    labels = [{"class_labels": target["labels"], "boxes": target["boxes"]} for target in OBJECTS]
    with torch.no_grad():
        features = [feature for feature, _ in theirs.model.backbone(pixels, valid)]
        return theirs(pixels, valid, labels=labels), features, valid == 0


def without_backbone(theirs):
    return {name: value for name, value in theirs.state_dict().items() if ".backbone." not in name}


def assert_same_losses(ours, theirs, names):
    for name in names:
        torch.testing.assert_close(ours[name], theirs[name], rtol=1e-4, atol=1e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("kind", ["plain", "refine", "two_stage"])
def test_deformable_detr(kind):
    config = transformers.DeformableDetrConfig(
        backbone_config=resnet("stage2", "stage3", "stage4"),
        with_box_refine=kind != "plain",
        two_stage=kind == "two_stage",
        two_stage_num_proposals=SIZES["num_queries"],
        auxiliary_loss=True,
        class_cost=2,
        **SIZES,
    )
    theirs = shaken(transformers.DeformableDetrForObjectDetection(config))
    expected, features, padding = run(theirs)
    ours = load_deformable_detr(without_backbone(theirs), queries=SIZES["num_queries"])
    assert ours.config.refine == (kind != "plain") and ours.config.two_stage == (kind == "two_stage")
    with torch.no_grad():
        outputs = ours.forward_features(features, padding)
        losses = ours.criterion(outputs, OBJECTS)
    torch.testing.assert_close(outputs["pred_logits"], expected.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs["pred_boxes"], expected.pred_boxes, atol=1e-4, rtol=0)
    names = [f"loss_{term}{layer}" for term in ("ce", "bbox", "giou") for layer in ("", "_0")]
    assert_same_losses(losses, expected.loss_dict, names)


def test_detr():
    # Their auxiliary losses would normalise features between decoder layers, which the official code does not.
    config = transformers.DetrConfig(backbone_config=resnet("stage4"), auxiliary_loss=False, **SIZES)
    theirs = shaken(transformers.DetrForObjectDetection(config))
    expected, features, padding = run(theirs)
    ours = load_detr(without_backbone(theirs))
    with torch.no_grad():
        outputs = ours.forward_features(features, padding)
        losses = ours.criterion(outputs, OBJECTS)
    torch.testing.assert_close(outputs["pred_logits"], expected.logits, atol=1e-4, rtol=0)
    torch.testing.assert_close(outputs["pred_boxes"], expected.pred_boxes, atol=1e-4, rtol=0)
    assert_same_losses(losses, expected.loss_dict, ["loss_ce", "loss_bbox", "loss_giou", "cardinality_error"])


def test_layout_of_stored_files_is_understood_too():
    """Files on the hub name a few layers differently from transformers 5."""
    config = transformers.DetrConfig(backbone_config=resnet("stage4"), **SIZES)
    current = without_backbone(shaken(transformers.DetrForObjectDetection(config)))
    stored = {
        name.replace(".o_proj.", ".out_proj.").replace(".mlp.fc", ".fc"): value for name, value in current.items()
    }
    assert stored.keys() != current.keys()
    a, b = (load_detr(state).state_dict() for state in (current, stored))
    assert all(torch.equal(a[name], b[name]) for name in a)


def test_empty_batches_give_the_same_losses_as_theirs():
    from transformers.loss.loss_deformable_detr import DeformableDetrHungarianMatcher, DeformableDetrImageLoss

    torch.manual_seed(0)
    logits, boxes = torch.randn(2, 6, 5), torch.rand(2, 6, 4) * 0.4 + 0.2
    none = {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)}
    theirs = DeformableDetrImageLoss(
        DeformableDetrHungarianMatcher(class_cost=2, bbox_cost=5, giou_cost=2), 5, 0.25, ["labels", "boxes"]
    )({"logits": logits, "pred_boxes": boxes}, [{**none, "class_labels": none["labels"]}] * 2)
    ours = SetCriterion(5, HungarianMatcher(), {})({"pred_logits": logits, "pred_boxes": boxes}, [none] * 2)
    assert_same_losses(ours, theirs, ["loss_ce", "loss_bbox", "loss_giou"])


KINDS = ["detr", "detr_resnet18", "plain", "refine", "two_stage"]
BASIC = {"layer_type": "basic", "depths": [2, 2, 2, 2], "hidden_sizes": [64, 128, 256, 512]}


def whole_detector(kind):
    """Their detector on a ResNet-50 or -18, with random weights and statistics that keep numbers moderate."""
    small = {**SIZES, "num_queries": 7}
    if kind.startswith("detr"):
        body = transformers.ResNetConfig(out_features=["stage4"], **(BASIC if kind == "detr_resnet18" else {}))
        config = transformers.DetrConfig(backbone_config=body, dropout=0.0, **small)
        theirs = transformers.DetrForObjectDetection(config)
    else:
        config = transformers.DeformableDetrConfig(
            backbone_config=transformers.ResNetConfig(out_features=["stage2", "stage3", "stage4"]),
            with_box_refine=kind != "plain",
            two_stage=kind == "two_stage",
            two_stage_num_proposals=7,
            dropout=0.0,
            **small,
        )
        theirs = transformers.DeformableDetrForObjectDetection(config)
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in theirs.named_parameters():
            if ".backbone." not in name:
                parameter.add_(0.1 * torch.randn_like(parameter))
        for name, buffer in theirs.named_buffers():
            if name.endswith(("normalization.weight", "running_var")):
                buffer.uniform_(0.5, 1)
            elif name.endswith(("normalization.bias", "running_mean")):
                buffer.normal_(0, 0.1)
    return theirs.eval()


@pytest.fixture(scope="module", params=KINDS)
def saved(request, tmp_path_factory):
    """What loads it, their detector, and the folder that ``save_pretrained`` wrote."""
    folder = tmp_path_factory.mktemp(request.param)
    theirs = whole_detector(request.param)
    theirs.save_pretrained(folder)
    yield (load_detr if request.param.startswith("detr") else load_deformable_detr), theirs, folder
    shutil.rmtree(folder)  # 100 MB


def test_folders_of_save_pretrained_detect_what_theirs_detects(saved):
    load, theirs, folder = saved
    ours = load(folder)
    assert ours.config.queries == 7 and ours.config.dropout == 0.0  # from config.json
    image = torch.rand(3, 96, 128)
    batch, padding = pad_images([image])
    with torch.no_grad():
        expected = theirs(batch, (~padding).long())
        outputs = ours.forward_features(ours.backbone(batch), padding)
    # Scores and pixels of the same network in another order of summation.
    scores = (outputs["pred_logits"].sigmoid() - expected.logits.sigmoid()).abs().max()
    pixels = (outputs["pred_boxes"] - expected.pred_boxes).abs().max() * 128
    assert scores < 1e-6 and pixels < 1e-4
    assert expected.logits.std() > 0.1  # nothing of this is so because all is the same


def as_stored(theirs, folder, out):
    """Their names of files on the hub, in a file of torch.save, with every tied head under all its names."""
    stored = load_file(folder / "model.safetensors")
    live = theirs.state_dict()
    tied = {name: value for name, value in live.items() if "_embed." in name}
    torch.save({**stored, **tied}, out / "stored.bin")
    return out / "stored.bin"


def as_live(theirs, folder, out):
    """Their names in memory."""
    return dict(theirs.state_dict())


def with_timm(load, folder, out):
    """A backbone under timm's names, which are torchvision's, as most files on the hub have it."""
    stored = load_file(folder / "model.safetensors")
    ours = load(folder).backbone[0].body.state_dict()
    kept = {name: value for name, value in stored.items() if ".backbone." not in name}
    prefix = "model.backbone.conv_encoder.model."
    save_file({**kept, **{prefix + name: value.clone() for name, value in ours.items()}}, out / "timm.safetensors")
    return out / "timm.safetensors"


def alone(theirs, folder, out):
    """One file without its config, under a name of one's own."""
    shutil.copy(folder / "model.safetensors", out / "weights.safetensors")
    return out / "weights.safetensors"


def sharded(theirs, folder, out):
    theirs.save_pretrained(out, max_shard_size="20MB")
    assert len(list(out.glob("*.safetensors"))) > 1
    return out


def as_bin(theirs, folder, out):
    """A folder as it was before safetensors."""
    torch.save(load_file(folder / "model.safetensors"), out / "pytorch_model.bin")
    shutil.copy(folder / "config.json", out)
    return out


def in_parallel(theirs, folder, out):
    return {f"module.{name}": value for name, value in theirs.state_dict().items()}


def in_mmengine(theirs, folder, out):
    return {"meta": {"epoch": 3}, "state_dict": load_file(folder / "model.safetensors"), "optimizer": {}}


LAYOUTS = [as_stored, as_live, with_timm, alone, sharded, as_bin, in_parallel, in_mmengine]


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout.__name__)
def test_every_layout_gives_the_same_detector(saved, layout, tmp_path):
    load, theirs, folder = saved
    expected = load(folder)
    ours = load(layout(load if layout is with_timm else theirs, folder, tmp_path), queries=7, dropout=0.0)
    assert ours.config == expected.config
    state = ours.state_dict()
    for name, value in expected.state_dict().items():
        assert torch.equal(state[name], value), name
    shutil.rmtree(tmp_path)


def write_config(folder, **config):
    save_file({"w": torch.zeros(1)}, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config), encoding="utf-8")


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "conditional_detr"},
            r"model_type: built here is 'detr' or 'deformable_detr', got 'conditional",
        ),
        ({"position_embedding_type": "learned"}, "position_embedding_type: built here is 'sine', got 'learned'"),
        ({"encoder_attention_heads": 8, "decoder_attention_heads": 4}, "decoder_attention_heads: expected as many"),
        (
            {"backbone_config": {"model_type": "swin"}},
            "model_type: built here is 'resnet' or 'timm_backbone', got 'swin'",
        ),
        ({"backbone_config": {"downsample_in_bottleneck": True}}, "downsample_in_bottleneck: built here is False"),
    ],
)
def test_a_config_of_what_is_not_built_here_is_refused(config, message, tmp_path):
    write_config(tmp_path, **config)
    with pytest.raises(UserError, match=message):
        load_detr(tmp_path)


@pytest.mark.parametrize(
    ("config", "args"),
    [
        ({"dilation": True}, {"dilation": True}),
        ({"dilation": False, "backbone_kwargs": {"output_stride": 16}}, {"dilation": True}),
        ({"backbone_config": {"model_type": "timm_backbone", "output_stride": 16}}, {"dilation": True}),
        ({"two_stage": True, "two_stage_num_proposals": 5, "num_queries": 9}, {"num_queries": 5}),
        ({"encoder_attention_heads": 4, "decoder_attention_heads": 4, "dropout": 0}, {"nheads": 4, "dropout": 0}),
    ],
)
def test_a_config_tells_what_weights_do_not(config, args, tmp_path):
    write_config(tmp_path, **config)
    assert config_beside(tmp_path / "model.safetensors") == args
    assert config_beside(tmp_path / "other.safetensors") == {}


def test_folders_that_lack_something_say_what(tmp_path):
    with pytest.raises(UserError, match=r"holds no weights: expected model\.safetensors, "):
        load_detr(tmp_path)
    write_config(tmp_path)
    (tmp_path / "config.json").write_text("{", encoding="utf-8")
    with pytest.raises(UserError, match=r"config\.json is no JSON"):
        load_detr(tmp_path)
    (tmp_path / "config.json").unlink()
    (tmp_path / "model.safetensors").unlink()
    index, shard = tmp_path / "model.safetensors.index.json", "model-00001-of-00002.safetensors"
    index.write_text(json.dumps({"weight_map": {"w": shard, "v": shard}}), encoding="utf-8")
    with pytest.raises(UserError, match=rf"{shard}: no such file"):
        load_detr(tmp_path)
    save_file({"w": torch.zeros(1)}, tmp_path / shard)
    with pytest.raises(UserError, match=r"its files lack v \(1 entries\)"):
        load_detr(index)
    with pytest.raises(UserError, match=rf"{shard} is one of 2 files that belong together: name their folder"):
        load_detr(tmp_path / shard)
    index.write_text(json.dumps({"weight_map": {"w": "../elsewhere.safetensors"}}), encoding="utf-8")
    with pytest.raises(UserError, match=r"expected names of files beside it, got '\.\./elsewhere"):
        load_detr(tmp_path)


def test_a_head_that_lacks_its_weights_is_still_missed():
    """Only a head that is there once is one that all layers share."""
    config = transformers.DeformableDetrConfig(backbone_config=resnet("stage2", "stage3", "stage4"), **SIZES)
    state = without_backbone(shaken(transformers.DeformableDetrForObjectDetection(config)))
    state = {name: value for name, value in state.items() if name != "class_embed.1.bias"}
    with pytest.raises(ValueError, match=r"missing class_embed\.1\.bias"):
        load_deformable_detr(state)
