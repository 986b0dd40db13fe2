"""Deformable DETR and Efficient DETR against the numbers of the official code, and at the edges."""

import pytest
import torch

from dyhead_lab.detectors.backbones.resnet import ResNetBackbone
from dyhead_lab.detectors.detr.deformable_detr import DeformableDETR, DeformableDETRConfig
from dyhead_lab.detectors.official import load_deformable_detr
from dyhead_lab.trace import trace

from .detr_cases import OracleCase, assert_losses_and_gradients, padding_mask, targets

#: Oracle -> compat. The official code behind the refined oracle is that of Sparse DETR, which does not refine.
ORACLES = {
    "deformable_detr": None,
    "deformable_detr_refine": "sparse-detr",
    "deformable_detr_two_stage": None,
    "efficient_detr": None,
}


def tiny(**changes):
    settings = {
        "classes": 3,
        "feature_channels": (8, 16),
        "channels": 32,
        "heads": 4,
        "feedforward": 32,
        "dropout": 0.0,
        "levels": 3,
        "encoder_layers": 2,
        "decoder_layers": 2,
        "queries": 5,
    }
    return DeformableDETRConfig(**{**settings, **changes})


def tiny_features(batch=2):
    torch.manual_seed(0)
    return [torch.randn(batch, 8, 8, 12), torch.randn(batch, 16, 4, 6)]


class TwoMaps(torch.nn.Module):
    """The smallest backbone that gives the features of :func:`tiny`."""

    def __init__(self):
        super().__init__()
        self.stem = torch.nn.Conv2d(3, 8, 8, stride=8)
        self.down = torch.nn.Conv2d(8, 16, 2, stride=2)

    def forward(self, images):
        fine = self.stem(images)
        return [fine, self.down(fine)]


@pytest.mark.parametrize("name", ORACLES)
def test_outputs_losses_and_gradients_are_those_of_the_official_code(name):
    case = OracleCase(name)
    model = load_deformable_detr(case.state_dict(), compat=ORACLES[name], queries=20, dropout=0.0)
    outputs = model.forward_features(case.features(), padding_mask())
    for key in ("pred_logits", "pred_boxes"):
        torch.testing.assert_close(outputs[key], case.array(key), atol=1e-4, rtol=0)
    if "enc_logits" in case.arrays:
        encoder = outputs["enc_outputs"]
        torch.testing.assert_close(encoder["pred_logits"], case.array("enc_logits"), atol=1e-4, rtol=0)
        torch.testing.assert_close(encoder["pred_boxes"], case.array("enc_boxes"), atol=1e-4, rtol=0)
    assert_losses_and_gradients(case, model, outputs)


@pytest.mark.parametrize("name", ORACLES)
def test_trace_shows_the_official_sampling_points(name):
    case = OracleCase(name)
    model = load_deformable_detr(case.state_dict(), compat=ORACLES[name], queries=20)
    with trace(model) as t, torch.no_grad():
        model.forward_features(case.features(), padding_mask())
    for layer in range(2):
        path = f"transformer.decoder.layers.{layer}"
        (locations,) = t[f"{path}.cross_attn", "sampling_locations"]
        (weights,) = t[f"{path}.cross_attn", "attention_weights"]
        torch.testing.assert_close(locations, case.array("sampling_locations_dec")[:, layer], atol=1e-4, rtol=0)
        torch.testing.assert_close(weights, case.array("attn_weights_dec")[:, layer], atol=1e-4, rtol=0)
        assert t[path, "reference_boxes"][0].shape[:2] == (2, 20)
    assert len(list(t.find("sampling_locations"))) == 5  # three encoder layers, two decoder layers


def test_without_compat_every_layer_starts_from_the_boxes_of_the_layer_before():
    case = OracleCase("deformable_detr_refine")
    model = load_deformable_detr(case.state_dict())
    assert model.config.refine
    with trace(model) as t, torch.no_grad():
        outputs = model.forward_features(case.features(), padding_mask())
    (reference,) = t["transformer.decoder.layers.1", "reference_boxes"]
    assert torch.equal(reference, outputs["aux_outputs"][0]["pred_boxes"])
    assert (outputs["pred_boxes"] - case.array("pred_boxes")).abs().max() > 0.01  # the official ones are not refined


@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (9, 2)], ids=["no objects", "one object", "more than queries"])
@pytest.mark.parametrize("kind", [{}, {"refine": True, "two_stage": True}], ids=["plain", "two stages"])
def test_trains_a_step_with_any_number_of_objects(counts, kind):
    torch.manual_seed(0)
    model = DeformableDETR(tiny(**kind), TwoMaps()).train()
    images = [torch.rand(3, 64, 96), torch.rand(3, 48, 80)]
    boxes = [torch.rand(n, 2).repeat(1, 2) * 20 + torch.tensor([0.0, 0.0, 10.0, 12.0]) for n in counts]
    losses = model(images, [{"boxes": b, "labels": torch.arange(len(b)) % 3} for b in boxes])
    assert all(value.isfinite() and value.dim() == 0 for value in losses.values())
    sum(losses.values()).backward()
    assert model.backbone[0].stem.weight.grad.abs().sum() > 0
    if not any(counts):
        assert losses["loss_bbox"] == 0 and losses["loss_giou"] == 0 and losses["loss_ce"] > 0


def test_trains_under_autocast_with_losses_in_float32():
    torch.manual_seed(0)
    model = DeformableDETR(tiny(refine=True, two_stage=True), TwoMaps()).train()
    target = {"boxes": torch.tensor([[10.0, 10, 50, 40]]), "labels": torch.tensor([1])}
    image = torch.rand(3, 64, 96)
    exact = model([image], [target])
    with torch.autocast("cpu", torch.bfloat16):
        losses = model([image], [target])
    sum(losses.values()).backward()
    assert all(value.dtype == torch.float32 for value in losses.values())
    for name, value in losses.items():
        # bfloat16 keeps 8 bits, and a dozen layers add up their errors.
        torch.testing.assert_close(value, exact[name], rtol=0.1, atol=0.05)


def test_detections_are_boxes_in_pixels_of_each_image():
    torch.manual_seed(0)
    model = DeformableDETR(tiny(), TwoMaps()).eval()
    sizes = [(64, 96), (48, 80)]
    with torch.no_grad():
        results = model([torch.rand(3, *size) for size in sizes])
    for result, (height, width) in zip(results, sizes, strict=True):
        assert result["boxes"].shape == (15, 4) and result["labels"].max() < 3  # 5 queries times 3 classes
        assert (result["scores"].diff() <= 0).all()
        centre = (result["boxes"][:, :2] + result["boxes"][:, 2:]) / 2
        assert (centre > 0).all() and (centre < torch.tensor([width, height])).all()


def test_an_image_is_detected_alike_alone_and_in_a_batch():
    torch.manual_seed(0)
    model = DeformableDETR(tiny(refine=True, two_stage=True), TwoMaps()).eval()
    small, large = torch.rand(3, 48, 64), torch.rand(3, 64, 96)
    with torch.no_grad():
        (alone,) = model([small])
        together = model([small, large])[0]
    # Padding changes the normalisation of the projected maps (GroupNorm sees it), hence not equal but close.
    assert alone["boxes"].shape == together["boxes"].shape
    torch.testing.assert_close(alone["scores"], together["scores"], atol=0.02, rtol=0)


def test_switches_change_the_architecture():
    without = DeformableDETR(tiny(decoder_self_attention=False))
    assert not any("decoder" in name and "self_attn" in name for name, _ in without.named_parameters())
    model = DeformableDETR(tiny(encoder_layers=4, encoder_aux_loss=True))
    outputs = model.forward_features(tiny_features(), torch.zeros(2, 64, 96, dtype=torch.bool))
    assert len(outputs["aux_outputs_enc"]) == 3
    assert {"loss_ce_enc_0", "loss_giou_enc_2"} <= set(model.criterion(outputs, targets_below(3)))
    few = DeformableDETR(tiny(queries=2)).forward_features(tiny_features(), torch.zeros(2, 64, 96, dtype=torch.bool))
    assert few["pred_boxes"].shape == (2, 2, 4)


def targets_below(classes):
    return [{"labels": target["labels"] % classes, "boxes": target["boxes"]} for target in targets()]


def test_two_stages_with_more_queries_than_tokens_use_every_token():
    model = DeformableDETR(tiny(refine=True, two_stage=True, queries=500))
    outputs = model.forward_features(tiny_features(1), torch.zeros(1, 64, 96, dtype=torch.bool))
    assert outputs["pred_boxes"].shape == (1, 8 * 12 + 4 * 6 + 2 * 3, 4)


def test_state_dict_round_trip():
    torch.manual_seed(0)
    first, second = DeformableDETR(tiny(refine=True)).eval(), DeformableDETR(tiny(refine=True)).eval()
    second.load_state_dict(first.state_dict())
    mask = torch.zeros(2, 64, 96, dtype=torch.bool)
    with torch.no_grad():
        a, b = (model.forward_features(tiny_features(), mask)["pred_boxes"] for model in (first, second))
    assert torch.equal(a, b)


PUBLISHED_PARAMETERS = {
    "plain": (39_847_265, {}),
    "refine": (40_627_260, {"refine": True}),
    "two_stage": (40_959_129, {"refine": True, "two_stage": True}),
    "single_scale": (33_844_193, {"levels": 1, "feature_channels": (2048,)}),
}


@pytest.mark.parametrize("name", PUBLISHED_PARAMETERS)
def test_parameter_counts_are_those_of_the_official_models(name):
    expected, kind = PUBLISHED_PARAMETERS[name]
    config = DeformableDETRConfig(**kind)
    finest = 5 if config.levels == 1 else 3
    with torch.device("meta"):
        model = DeformableDETR(config, ResNetBackbone(finest=finest))
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == expected
    assert sum(p.numel() for p in model.parameters() if not p.requires_grad) == 222_400


def test_refuses_what_does_not_fit():
    for changes, message in (
        ({"two_stage": True}, "two_stage needs refine=True"),
        ({"efficient_queries": True}, "efficient_queries needs two_stage=True"),
        ({"levels": 1}, "levels must be at least the number of features"),
        ({"channels": 40}, "channels must be a multiple of 32"),
        ({"compat": "detrex"}, "compat must be None or 'sparse-detr'"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny(**changes)
    model = DeformableDETR(tiny())
    with pytest.raises(ValueError, match=r"features must have channels \(8, 16\), got \(8, 8\)"):
        model.forward_features([torch.zeros(1, 8, 4, 4)] * 2, torch.zeros(1, 32, 32, dtype=torch.bool))
    with pytest.raises(ValueError, match="this detector has no backbone"):
        model([torch.rand(3, 32, 32)])
    with pytest.raises(ValueError, match="targets: expected one dict per image in training mode, got None"):
        DeformableDETR(tiny(), TwoMaps()).train()([torch.rand(3, 64, 64)])
