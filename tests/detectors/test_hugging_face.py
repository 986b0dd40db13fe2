"""DETR and Deformable DETR against Hugging Face's independent implementation, on random weights."""

import pytest
import torch

from dyhead_lab.detectors.detr.hungarian_matcher import HungarianMatcher
from dyhead_lab.detectors.detr.set_criterion import SetCriterion
from dyhead_lab.detectors.official import load_deformable_detr, load_detr

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
