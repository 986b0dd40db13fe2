"""Tokens that a decoder refers to and tokens that an encoder refines, counted by hand on models of known behaviour."""

import pytest
import torch

from dyhead_lab.detectors.detr.configured import deformable_detr, sparse_detr
from dyhead_lab.detectors.image_batch import pad_images
from dyhead_lab.evaluation.token_use import encoder_milliseconds, mean_corr, referred_tokens

SMALL = {
    "backbone": "narrow", "levels": 3, "channels": 32, "heads": 4, "feedforward": 32,
    "encoder_layers": 2, "decoder_layers": 2, "queries": 6, "dropout": 0.0,
}  # fmt: skip


@pytest.fixture(scope="module")
def images():
    generator = torch.Generator().manual_seed(0)
    return [(torch.rand(3, 64, 64, generator=generator), {}) for _ in range(18)]  # more than a batch


@pytest.fixture(scope="module")
def sparse():
    torch.manual_seed(0)
    return sparse_detr(classes=3, **SMALL)


def test_corr_is_the_mean_over_images_and_grows_to_one(sparse, images):
    half, all_kept = mean_corr(sparse, images, 0.5), mean_corr(sparse, images, 1.0)
    by_hand = []
    with torch.no_grad():
        for image, _ in images:
            batch, padding = pad_images([image])
            outputs = sparse.eval().forward_features(sparse.backbone(batch), padding, rho=0.5)
            kept = outputs["kept_tokens"][0]
            by_hand.append((outputs["dam"][0, kept].sum() / outputs["dam"].sum()).item())
    # 1e-3: in a batch a score may round differently and swap two tokens of equal rank.
    assert half == pytest.approx(sum(by_hand) / len(by_hand), abs=1e-3)
    assert all_kept == pytest.approx(1.0, abs=1e-5)  # float32 sums


def test_measuring_keeps_the_mode_of_the_model(sparse, images):
    sparse.train()
    mean_corr(sparse, images[:2], 0.3)
    assert sparse.training


def test_a_decoder_that_looks_at_one_point_refers_to_its_four_neighbours_on_each_level(images):
    torch.manual_seed(0)
    model = deformable_detr(classes=3, **SMALL)
    for layer in model.transformer.decoder.layers:
        torch.nn.init.zeros_(layer.cross_attn.sampling_offsets.bias)
    torch.nn.init.zeros_(model.transformer.reference_points.weight)  # every query looks at the middle
    # 64 pixels: 8 x 8, 4 x 4 and 2 x 2 cells. The middle lies on a corner of four cells on every level.
    tokens = 64 + 16 + 4
    found = referred_tokens(model, images)
    assert found["referred"] == pytest.approx(12 / tokens)
    # Weights are equal at the start, so each of the 12 tokens carries a twelfth: 11 of them carry 0.9 of it all.
    assert found["carry"] == pytest.approx(11 / tokens)


def test_padding_is_no_token(images):
    torch.manual_seed(0)
    model = deformable_detr(classes=3, **SMALL)
    alone = referred_tokens(model, [images[0]])
    beside_a_larger_one = referred_tokens(model, [images[0], (torch.rand(3, 128, 128), {})])
    large = referred_tokens(model, [(torch.rand(3, 128, 128), {})])
    # At the start the points depend on nothing but the size, so the batch's mean is the mean of both images.
    assert beside_a_larger_one["referred"] == pytest.approx((alone["referred"] + large["referred"]) / 2, abs=1e-6)


def test_encoder_time_is_that_of_an_image(sparse, images):
    assert encoder_milliseconds(sparse, images, 0.5, runs=1) > 0
