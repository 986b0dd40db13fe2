"""The COCO recipes of DETR's family: they build the published models and say the published settings."""

import pytest
import torch

from dyhead_lab.zoo.detr_coco import DETR_COCO, IMAGES

RECIPES = {recipe.name: recipe for recipe in DETR_COCO}
#: Trainable parameters with the 91 class columns of the official code; None: it states no such count.
PARAMETERS = {
    "detr_r50_dc5": None,
    "efficient_detr_r50": None,
    "sparse_detr_swin_t_rho30": None,
    "deformable_detr_r50_single_scale": 33_844_193,
    "deformable_detr_r50_single_scale_dc5": 33_844_193,
    "deformable_detr_r50": 39_847_265,
    "deformable_detr_r50_refine": 40_627_260,
    "deformable_detr_r50_two_stage": 40_959_129,
    "sparse_detr_r50_rho10": 41_714_805,
}


def build(recipe):
    """The recipe's detector on the meta device, so that nothing is downloaded or computed."""
    with torch.device("meta"):
        return recipe.with_model({**recipe.model, "weights": None}).build(classes=91)


@pytest.mark.parametrize("name", PARAMETERS)
def test_builds_the_published_detector(name):
    model = build(RECIPES[name])
    assert model.detection_size == (800, 1333)
    if PARAMETERS[name]:
        assert sum(p.numel() for p in model.parameters() if p.requires_grad) == PARAMETERS[name]


@pytest.mark.parametrize("name", sorted(RECIPES))
def test_says_where_it_comes_from_and_what_to_expect(name):
    recipe = RECIPES[name]
    assert recipe.source and f"AP {recipe.published_ap:.3f} as published" in recipe.expected
    assert "not trained here" in recipe.expected


@pytest.mark.parametrize(("name", "epochs", "drop"), [("detr_r50", 500, 400), ("deformable_detr_r50", 50, 40)])
def test_steps_make_whole_epochs(name, epochs, drop):
    recipe = RECIPES[name]
    per_epoch = IMAGES // recipe.batch_size
    assert recipe.iterations == epochs * per_epoch
    assert recipe.milestones == (drop * per_epoch,)


def test_rho_is_in_the_name():
    for name, recipe in RECIPES.items():
        if "_rho" in name:
            assert recipe.model["rho"] == int(name.split("_rho")[1]) / 100
    assert sum("_rho" in name for name in RECIPES) == 10
    assert build(RECIPES["sparse_detr_r50_rho40"]).rho == 0.4


def test_the_dense_row_of_sparse_detr_refines_every_token_and_starts_from_proposals():
    config = build(RECIPES["efficient_detr_r50"]).config
    assert config.refine and config.two_stage and config.efficient_queries and not config.encoder_aux_loss
