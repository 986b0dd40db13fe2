"""The COCO recipes of DETR's family: they build the published models and say the published settings."""

import re
from dataclasses import replace

import pytest
import torch

from dyhead_lab.data.coco import coco_folder
from dyhead_lab.data.shapes import write_shapes
from dyhead_lab.training.engine import Engine
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


def test_published_settings_train_a_step(tmp_path):
    """Rates, decay and augmentation as published, on a narrow detector and two small pictures."""
    for split, seed in (("train", 1), ("val", 2)):
        write_shapes(tmp_path / split, images=2, seed=seed, size=64)
    recipe = RECIPES["deformable_detr_r50"].with_model(
        {"backbone": "narrow", "channels": 32, "feedforward": 32, "encoder_layers": 1, "decoder_layers": 1}
    )
    train_set, val_set = (coco_folder(tmp_path, split) for split in ("train", "val"))
    engine = Engine(replace(recipe, batch_size=2), train_set, val_set, tmp_path / "run")
    engine.model.train()
    losses = engine.step(*next(iter(engine.batches())))
    assert losses["loss"] > 0
    names = {id(p): name for name, p in engine.model.named_parameters()}
    groups = engine.optimizer.param_groups
    rates = {names[id(p)]: group["lr"] for group in groups for p in group["params"]}
    slow = re.compile(r"^backbone|reference_points|sampling_offsets")
    assert rates == {name: pytest.approx(2e-5 if slow.search(name) else 2e-4) for name in rates}
    assert {group["weight_decay"] for group in groups} == {1e-4}
