"""Sparse DETR against the numbers of the official code, and what it does better without ``compat``."""

from dataclasses import replace

import pytest
import torch

from dyhead_lab.detectors.backbones.resnet import ResNetBackbone
from dyhead_lab.detectors.detr.deformable_detr import DeformableDETR
from dyhead_lab.detectors.detr.sparse_detr import SparseDETR, SparseDETRConfig
from dyhead_lab.detectors.detr.token_scorers import dam_loss
from dyhead_lab.detectors.official import load_sparse_detr
from dyhead_lab.trace import trace

from .detr_cases import OracleCase, assert_losses_and_gradients, padding_mask
from .test_deformable_detr import TwoMaps, tiny

ORACLES = {"sparse_detr_rho01": 0.1, "sparse_detr_rho03": 0.3}


#: The fields of the small test configuration that say how large the model is.
SIZES = "classes feature_channels channels heads feedforward dropout levels encoder_layers decoder_layers queries"


def tiny_sparse(**changes):
    shared = {name: getattr(tiny(), name) for name in SIZES.split()}
    return SparseDETRConfig(**{**shared, **changes})


def detect(model, images, rho=None):
    """Outputs for images of (H, W), random but fixed by their place and size."""
    batch = torch.zeros(len(images), 3, *(max(size[axis] for size in images) for axis in (0, 1)))
    padding = torch.ones(len(images), *batch.shape[-2:], dtype=torch.bool)
    for i, (H, W) in enumerate(images):
        batch[i, :, :H, :W] = torch.rand(3, H, W, generator=torch.Generator().manual_seed(H * W))
        padding[i, :H, :W] = False
    return model.forward_features(model.backbone(batch), padding, rho=rho)


@pytest.mark.parametrize("name", ORACLES)
def test_outputs_losses_and_gradients_are_those_of_the_official_code(name):
    case = OracleCase(name)
    model = load_sparse_detr(case.state_dict(), rho=ORACLES[name], compat="sparse-detr", queries=20, dropout=0.0)
    outputs = model.forward_features(case.features(), padding_mask())
    for ours, official in (
        (outputs["pred_logits"], "pred_logits"),
        (outputs["pred_boxes"], "pred_boxes"),
        (outputs["enc_outputs"]["pred_logits"], "enc_logits"),
        (outputs["enc_outputs"]["pred_boxes"], "enc_boxes"),
        (outputs["aux_outputs_enc"][0]["pred_logits"], "enc_aux_logits_0"),
        (outputs["aux_outputs_enc"][1]["pred_logits"], "enc_aux_logits_1"),
        (outputs["token_scores"], "backbone_mask_prediction"),
        (outputs["dam"], "dam"),
    ):
        torch.testing.assert_close(ours, case.array(official), atol=1e-4, rtol=0)
    assert torch.equal(outputs["kept_tokens"], case.array("backbone_topk_proposals"))
    assert outputs["selection"].budget_B.tolist() == case.arrays["sparse_token_nums"].tolist()
    assert_losses_and_gradients(case, model, outputs)


def test_trace_shows_kept_tokens_dam_and_sampling_points():
    case = OracleCase("sparse_detr_rho01")
    model = load_sparse_detr(case.state_dict(), rho=0.1, queries=20)
    with trace(model) as t, torch.no_grad():
        outputs = model.forward_features(case.features(), padding_mask())
    assert torch.equal(t["", "dam"][0], outputs["dam"])
    (kept,) = t["", "kept_tokens"]
    assert (kept >= 0).sum(1).tolist() == [70, 48] and (kept[1, 48:] == -1).all()
    shares = [float(dam[k[k >= 0]].sum() / dam.sum()) for dam, k in zip(outputs["dam"], kept, strict=True)]
    assert t["", "dam_kept"][0].tolist() == pytest.approx(shares)
    assert t["transformer.encoder.layers.0.self_attn", "sampling_locations"][0].shape[1] == 70
    assert t["transformer.decoder.layers.1.cross_attn", "sampling_locations"][0].shape[1] == 20


def test_by_default_padding_tells_the_scorer_and_its_loss_nothing():
    torch.manual_seed(0)
    model = SparseDETR(tiny_sparse(), TwoMaps()).eval()
    scorer = model.transformer.enc_mask_predictor
    tokens = torch.randn(2, 10, 32)
    ignored = torch.zeros(2, 10, dtype=torch.bool)
    ignored[1, 6:] = True
    longer = scorer(tokens, ignored)[1, :6]
    torch.testing.assert_close(longer, scorer(tokens[1:, :6], ignored[1:, :6])[0])

    outputs = detect(model, [(64, 96), (32, 64)])
    scores = outputs["token_scores"].detach().requires_grad_()
    selection = replace(outputs["selection"], scores_BN=scores)
    dam_loss({**outputs, "selection": selection})["loss_mask_prediction"].backward()
    gradient, padding = scores.grad, selection.padding_BN
    assert (gradient[padding] == 0).all() and (gradient[~padding] != 0).all()


@pytest.mark.parametrize("compat", [None, "sparse-detr"])
def test_how_many_tokens_enter_the_losses_depends_on_the_batch_only_in_compat(compat):
    torch.manual_seed(0)
    model = SparseDETR(tiny_sparse(compat=compat), TwoMaps()).eval()
    outputs = detect(model, [(64, 96), (32, 64)], rho=0.3)
    first = outputs["aux_outputs_enc"][0]
    counted = (~first["padding"]).sum(1)
    # 8*12 + 4*6 + 2*3 = 126 tokens and 4*8 + 2*4 + 1*2 = 42: floor(0.3 * n) + 1 of them.
    assert counted.tolist() == ([38, 13] if compat is None else [38, 38])
    assert (outputs["kept_tokens"] >= 0).sum(1).tolist() == counted.tolist()
    assert outputs["selection"].budget_B.tolist() == [38, 13]


def test_rho_is_a_plain_argument_at_inference():
    torch.manual_seed(0)
    model = SparseDETR(tiny_sparse(rho=0.1), TwoMaps()).eval()
    kept = {rho: detect(model, [(64, 96)], rho)["kept_tokens"].shape[1] for rho in (None, 0.1, 0.5, 1.0)}
    assert kept == {None: 13, 0.1: 13, 0.5: 64, 1.0: 126}
    model.rho = 0.5
    assert detect(model, [(64, 96)])["kept_tokens"].shape[1] == 64
    with torch.no_grad():
        (result,) = model([torch.rand(3, 64, 96)], rho=0.2)
    assert result["boxes"].shape == (15, 4)
    with pytest.raises(ValueError, match="rho"):
        detect(model, [(64, 96)], rho=0.0)


def test_refining_all_tokens_is_deformable_detr():
    torch.manual_seed(0)
    sparse = SparseDETR(tiny_sparse(rho=1.0), TwoMaps()).eval()
    dense = DeformableDETR(
        tiny(refine=True, two_stage=True, efficient_queries=True, encoder_aux_loss=True), TwoMaps()
    ).eval()
    missing, unexpected = dense.load_state_dict(sparse.state_dict(), strict=False)
    assert not missing and all("enc_mask_predictor" in name for name in unexpected)
    image = torch.rand(3, 64, 96)
    with torch.no_grad():
        (ours,), (theirs,) = sparse([image]), dense([image])
    # Tokens are computed in another order; boxes are in pixels.
    torch.testing.assert_close(ours["boxes"], theirs["boxes"], atol=1e-3, rtol=0)
    torch.testing.assert_close(ours["scores"], theirs["scores"], atol=1e-5, rtol=0)


def test_tokens_that_are_not_kept_pass_the_encoder_unchanged():
    torch.manual_seed(0)
    model = SparseDETR(tiny_sparse(), TwoMaps()).eval()
    seen = []
    model.transformer.encoder.register_forward_hook(lambda _, given, out: seen.extend([*given, out[0]]))
    detect(model, [(64, 96)], rho=0.3)
    pyramid, kept, memory = seen
    same = (memory == pyramid.tokens_BNC).all(-1)
    assert torch.equal(same, ~kept.mask(126)) and same.sum() == 126 - 38


@pytest.mark.parametrize("selection", ["dam", "objectness", "random"])
def test_every_selection_trains_and_detects(selection):
    torch.manual_seed(0)
    model = SparseDETR(tiny_sparse(selection=selection), TwoMaps()).train()
    images = [torch.rand(3, 64, 96), torch.rand(3, 32, 64)]
    targets = [
        {"boxes": torch.tensor([[10.0, 10, 40, 50]]), "labels": torch.tensor([2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.long)},
    ]
    losses = model(images, targets)
    sum(losses.values()).backward()
    scorer = {"dam": "enc_mask_predictor", "objectness": "enc_objectness"}.get(selection)
    if scorer:
        parameters = model.transformer.get_submodule(scorer).parameters()
        assert all(parameter.grad is not None for parameter in parameters)
    assert ("loss_mask_prediction" in losses) == (selection == "dam")
    assert ("loss_ce_backbone" in losses) == (selection == "objectness")
    with torch.no_grad():
        assert len(model.eval()(images)) == 2


def test_objectness_keeps_the_tokens_with_the_best_class_score():
    torch.manual_seed(0)
    model = SparseDETR(tiny_sparse(selection="objectness"), TwoMaps()).eval()
    outputs = detect(model, [(64, 96)], rho=0.1)
    best = outputs["backbone_outputs"]["pred_logits"].amax(-1).topk(13, 1).indices
    assert torch.equal(outputs["kept_tokens"], best)


def test_tokens_may_be_ranked_from_outside():
    torch.manual_seed(0)
    model, other = (SparseDETR(tiny_sparse(), TwoMaps()).eval() for _ in range(2))
    features, padding = other.backbone(torch.rand(1, 3, 64, 96)), torch.zeros(1, 64, 96, dtype=torch.bool)
    dam = other.forward_features(features, padding)["dam"]
    outputs = model.forward_features(features, padding, rho=0.2, token_scores=dam)
    assert torch.equal(outputs["kept_tokens"], dam.topk(26, 1).indices)
    with pytest.raises(ValueError, match=r"token_scores must be \(1, 126\), got \(1, 5\)"):
        model.forward_features(features, padding, token_scores=torch.rand(1, 5))


def test_no_gradient_flows_from_the_dam_into_the_decoder():
    torch.manual_seed(0)
    model = SparseDETR(tiny_sparse(), TwoMaps())
    outputs = detect(model, [(64, 96)])
    assert not outputs["dam"].requires_grad
    assert 0 < outputs["dam"].sum() <= 2 * 5 * 4 + 1e-3  # layers * queries * heads, less what lies outside


def test_parameter_count_in_training_is_that_of_the_official_model():
    with torch.device("meta"):
        model = SparseDETR(SparseDETRConfig(), ResNetBackbone())
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == 41_714_805


def test_refuses_what_does_not_fit():
    for changes, message in (
        ({"two_stage": False, "efficient_queries": False}, "Sparse DETR needs two_stage=True"),
        ({"rho": 0.0}, r"must lie in \(0, 1\], got 0.0"),
        ({"selection": "best"}, "selection must be one of dam, objectness, random"),
    ):
        with pytest.raises(ValueError, match=message):
            tiny_sparse(**changes)
