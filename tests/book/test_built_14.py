"""Chapter 14: what its cells measure, held against the library and against what can be known without measuring."""

import numpy as np
import pytest
import torch

from dyhead_book.practice.drawn_shapes import DrawnShapes
from dyhead_lab.attention.deformable import MultiScaleDeformableAttention
from dyhead_lab.detectors.detr.dam import decoder_attention_map
from dyhead_lab.evaluation.token_use import referred_tokens
from dyhead_lab.trace import trace
from dyhead_lab.views.sampling_layers import sampling_layers
from dyhead_lab.zoo import load_trained

from .definitions import definitions


@pytest.fixture(scope="module")
def cells():
    return definitions("14_attention_maps")


@pytest.fixture(scope="module")
def picture():
    return DrawnShapes(1).image(0)


def seen_by(model, image):
    with torch.no_grad(), trace(model) as seen:
        model([image])
    return seen


def test_taps_lie_where_the_library_reads(cells, picture):
    seen = seen_by(load_trained("quickstart").model, picture)
    own = [layer for layer in sampling_layers(seen) if "same level" in layer.name]
    offsets = seen["backbone.neck.blocks.0.spatial.own", "tap_offsets"]
    for layer, offset in zip(own, offsets, strict=True):
        mine = cells["tap_places"](offset[0].double().numpy()).reshape(-1, 9, 2)
        np.testing.assert_allclose(mine, layer.positions[:, 0].numpy(), atol=1e-6)  # float32 there


@pytest.mark.parametrize("name", ["heat_map", "heat_at_once"])
def test_a_heat_map_is_a_decoder_attention_map_of_one_level(cells, name):
    rng = np.random.default_rng(0)
    positions, weights = rng.uniform(-0.2, 1.2, (12, 2)), rng.uniform(size=12)
    locations = torch.from_numpy(positions).view(1, 3, 2, 1, 2, 2)
    attention = torch.from_numpy(weights).view(1, 3, 2, 1, 2)
    dam = decoder_attention_map(locations, attention, torch.tensor([[4, 7]]), torch.tensor([0]), 28)
    np.testing.assert_allclose(cells[name](positions, weights, 4, 7), dam.view(4, 7).numpy(), atol=1e-12)


@pytest.mark.parametrize("numbers", [2, 4])
def test_the_ring_is_where_a_fresh_layer_reads(cells, numbers):
    """Around a reference box, and around a point, on two levels."""
    layer = MultiScaleDeformableAttention(channels=16, heads=8, levels=2, points=4)
    shapes = torch.tensor([[6, 9], [3, 5]])
    reference = torch.tensor([0.4, 0.6, 0.2, 0.3])[:numbers]
    with torch.no_grad():
        _, locations, weights = layer(
            torch.randn(1, 1, 16), reference.expand(1, 1, 2, numbers), torch.randn(1, 69, 16), shapes,
            torch.tensor([0, 54]),
        )  # fmt: skip
    ring = cells["ring_of"](reference.double().numpy(), 8, 2, 4, shapes.tolist())
    np.testing.assert_allclose(ring, locations[0, 0].numpy(), atol=1e-6)  # float32 there
    np.testing.assert_allclose(weights.numpy(), 1 / 8, atol=1e-6)


@pytest.mark.parametrize("weights", ["deformable_detr_tiny", "sparse_detr_tiny"])
def test_tokens_that_are_read_and_that_carry_are_the_librarys(cells, weights, picture):
    model = load_trained(weights).model
    heat = cells["received"](seen_by(model, picture))
    expected = referred_tokens(model, [(picture, None)])
    assert (heat > 0).mean() == pytest.approx(expected["referred"], abs=0.01)  # a float32 share of 1e-8 or nothing
    assert cells["tokens_that_carry"](heat, 0.9) == pytest.approx(expected["carry"], abs=0.003)  # one token of 525


def test_what_a_query_receives_adds_up_to_what_all_do(cells, picture):
    seen = seen_by(load_trained("deformable_detr_tiny").model, picture)
    paths = [path for path, _ in seen.find("reference_boxes")]
    queries = seen[paths[0], "reference_boxes"][0].shape[1]
    total = sum(cells["query_heat"](seen, path, q) for path in paths for q in range(queries))
    np.testing.assert_allclose(total, cells["received"](seen), atol=1e-9)


def test_uniform_attention_puts_the_boxs_share_inside_and_reads_all_tokens(cells):
    heat = torch.full((4, 8), 1 / 32)
    inside, area = cells["share_of_map"](heat, (0.0, 0.0, 0.5, 0.5))
    assert inside == area == 0.25
    assert cells["tokens_read"](heat) == pytest.approx(32)
    assert cells["tokens_read"](torch.eye(3)[:1]) == pytest.approx(1)


def test_before_training_every_inner_cell_is_read_alike(cells):
    trained = load_trained("everyday")
    cells["layer"] = "backbone.neck.blocks.1.spatial.own"
    heat = cells["reading_map"](cells["untrained"](trained), torch.rand(3, 200, 300))[2:-2, 2:-2]
    torch.testing.assert_close(heat, torch.ones_like(heat), rtol=1e-4, atol=0)  # float32 offsets of about 1e-7
